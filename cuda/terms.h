/* terms.h: what one class adds or is given: kernels/math/'s formulas, one number at a time. */
#ifndef XENT_CUDA_TERMS_H
#define XENT_CUDA_TERMS_H

#include "../kernels/state.h"
#include "hd.h"

namespace xent {

/* ---- references: E(x) = exp(x - c) 2^-k ---- */
template <class M> struct reference {
    using R = typename M::real;
    R c, k, low; /* low bounds x - c where E(x) is certainly 0 */
};

/* Quick arithmetic holds E(x) 2^64 larger, so that what the special function unit makes 0 is 0 in 16 bits, too. */
template <class M> XENT_HD reference<M> reference_of(typename M::real m) {
    using R = typename M::real;
    const bool known = m > -fp<R>::infinity;
    if constexpr (M::quick)
        return {known ? m : R(0), R(-64), R(0)};
    const bool plain = abs(m) <= R(XENT_PLAIN);
    const R k = fma(plain ? m : R(0), fp<R>::log2e, fp<R>::magic) - fp<R>::magic;
    return {known && !plain ? m : R(0), k, (plain ? m : R(0)) - fp<R>::low};
}

/* E(x) for x no larger than what f was made of. */
template <class M> XENT_HD typename M::real exp_of(typename M::real x, const reference<M> &f) {
    using R = typename M::real;
    if constexpr (M::quick)
        return exp2_quick(fma(x - f.c, fp<R>::log2e, -f.k));
    return exp_near(at_least(f.low, x - f.c), f.k);
}
/* The same for any x = d + f.c; infinite where E(x) is above e^20, or overflows. */
template <class M> XENT_HD typename M::real exp_beyond_by(typename M::real d, const reference<M> &f) {
    using R = typename M::real;
    if constexpr (M::quick)
        return exp2_quick(fma(d, fp<R>::log2e, -f.k));
    return d > f.low + fp<R>::low + R(20) ? fp<R>::infinity : exp_near(at_least(f.low, d), f.k);
}
/* What sums against reference a are multiplied by to be sums against b; *lo: what its last addition rounded away. */
template <class M, class R = typename M::real> XENT_HD R change(const reference<M> &a, const reference<M> &b, R *lo) {
    if constexpr (M::quick) {
        *lo = R(0);
        return exp2_quick((a.c - b.c) * fp<R>::log2e);
    }
    return exp_any(at_least(R(-XENT_PLAIN) - fp<R>::low, a.c - b.c), b.k - a.k, lo);
}
template <class M> XENT_HD typename M::real change(const reference<M> &a, const reference<M> &b) {
    typename M::real lo;
    return change<M>(a, b, &lo);
}

/* ---- binary cross-entropy ---- */
/* The weights of the two softplus: positive = w p t, negative = w (1 - t). With L = log1p(exp(-|x|)) the softplus on
 * x's own side is |x| + L, the other one L: sums of what does not cancel. */
template <class R> XENT_HD R bce_term(R x, R t, R w, R p) {
    const R positive = w * (p * t), negative = w * (R(1) - t);
    R far = R(0) < x ? negative : positive;
    far = far != R(0) ? abs(x) * far : R(0); /* certain and right: 0, at infinite logits too */
    return fma(positive + negative, log1p_unit(exp_minus_abs(x)), far);
}
/* w ((1 - t) sigmoid(x) - p t sigmoid(-x)), where sigmoid(-|x|) is exp(-|x|) times sigmoid(|x|). */
template <class R> XENT_HD R bce_slope(R x, R t, R w, R p) {
    const R positive = w * (p * t), negative = w * (R(1) - t), e = exp_minus_abs(x), s = ratio(R(1), R(1) + e);
    const bool up = R(0) < x;
    const R v = s * (up ? negative : positive) - s * e * (up ? positive : negative);
    return up ? v : R(0) - v;
}

/* ---- Jensen-Shannon divergence ---- */
/* With d = log p - log q a class adds m h(d), m = (p + q)/2, h(d) = d/2 tanh(d/2) - log cosh(d/2) = d^2 H(d^2), and
 * log(p/m) is d/2 - d^2 G(d^2); farther out than 1.5 both follow from exp(-|d|). */
XENT_HD float js_h(float z) {
    return poly(z, -8.910815e-09f, 1.6713116e-07f, -1.9199856e-06f, 1.9157433e-05f, -0.00018442635f, 0.0017361013f,
                -0.015624999f, 0.125f);
}
XENT_HD double js_h(double z) {
    return poly(z, -5.2853984972465675e-15, 1.3522906171568847e-13, -1.91501554346218e-12, 2.1245340949213188e-11,
                -2.152292438385301e-10, 2.1239563351440035e-09, -2.082429337758197e-08, 2.035846680851217e-07,
                -1.983552449099133e-06, 1.922123004078878e-05, -0.0001844618055358506, 0.0017361111111093887,
                -0.015624999999999941, 0.125);
}
XENT_HD float js_g(float z) {
    return poly(z, 8.197371e-09f, -1.6022129e-07f, 2.106854e-06f, -2.6329799e-05f, 0.0003472142f, -0.005208332f,
                0.125f);
}
XENT_HD double js_g(double z) {
    return poly(z, 2.552540477112019e-15, -6.483376643718723e-14, 9.425217135638826e-13, -1.116062543575464e-11,
                1.2466610986032514e-10, -1.3879821443641443e-09, 1.5660127667846817e-08, -1.8032283256442648e-07,
                2.135692188918598e-06, -2.635168649799661e-05, 0.00034722222222121154, -0.005208333333333293, 0.125);
}

/* What a row's classes are compared with. */
template <class M> struct js_row {
    using R = typename M::real;
    reference<M> fx, fy;
    R mx, my, px, py;
    R gap, gap_lo; /* log sum exp(x - mx) less log sum exp(y - my), in two parts */
};

/* (x - mx) - (y - my), and in *lost what the first two differences rounded: what the two rows share cancels without a
 * trace. */
template <class M, class R = typename M::real> XENT_HD R js_apart(R x, R y, const js_row<M> &row, R *lost) {
    R x_lo, y_lo;
    const R dx = two_sum(x, -row.mx, &x_lo), dy = two_sum(y, -row.my, &y_lo), all = x_lo - y_lo;
    *lost = finite(all) ? all : R(0);
    return dx - dy;
}

/* What the difference of the two log sum exp, less that of the maxima, follows from, of rows near to each other. With s =
 * (x - mx) - (y - my) a class adds (P - Q) / 2 = (P + Q) / 2 tanh(s / 2), P = exp(x - mx) and Q = exp(y - my), both over
 * the geometric mean of their sums (up = exp(gap / 2), down = exp(-gap / 2)). Exactly odd in the order of the operands. */
template <class M, class R = typename M::real> XENT_HD R js_gap_term(R x, R y, const js_row<M> &row, R up, R down) {
    const R p = exp_of<M>(x, row.fx) * (row.px * up), q = exp_of<M>(y, row.fy) * (row.py * down);
    const R m = (p + q) * R(0.5);
    R lost;
    const R d = js_apart(x, y, row, &lost) + lost;
    const R u = at_most(R(1), abs(d)), grown = u + phi(u), near = m * ratio(grown, grown + R(2)); /* exp(u) - 1 */
    if (m == R(0))
        return R(0);
    return abs(d) <= R(1) ? (d < R(0) ? -near : near) : (p - q) * R(0.5);
}

/* A class's term, and p and log(p/m). */
template <class M, class R = typename M::real> XENT_HD R js_term(R x, R y, const js_row<M> &row, R *p, R *gain) {
    const R q = exp_of<M>(y, row.fy) * row.py;
    *p = exp_of<M>(x, row.fx) * row.px;
    const R m = (*p + q) * R(0.5);
    R lost;
    const R apart = js_apart(x, y, row, &lost), d = (apart - row.gap) + (lost - row.gap_lo);
    const R u = at_most(fp<R>::low, abs(d)), z = u * u, side = R(0.5) * d;
    const R e = exp_minus_abs(u), away = (fp<R>::ln2_hi + fp<R>::ln2_lo) - log1p_unit(e);
    const bool near = u <= R(1.5);
    const R h = near ? z * js_h(z) : away - ratio(u * e, R(1) + e);
    const R g = near ? side - z * js_g(z) : away - (d < R(0) ? u : R(0));
    *gain = *p != R(0) ? g : R(0); /* classes that neither row has leave NaN in d */
    return m != R(0) ? m * h : R(0);
}

/* ---- operations without a row ---- */
/* p log(p / q), SciPy's rel_entr: near p = q from the exact p - q. */
template <class R> XENT_HD R rel_entr(R p, R q) {
    const R quotient = p / q, s = (p - q) / (p + q), z = s * s;
    const R far = sizeof(R) == 4 ? R(0x1p100) : R(0x1p1000), close = sizeof(R) == 4 ? R(0x1p-100) : R(0x1p-1000);
    R v;
    if (R(0.7072) < quotient && quotient < R(1.414))
        v = p * fma(z * s, log_poly(z), s + s);
    else
        v = p * (close < quotient && quotient < far ? log(quotient) : log(p) - log(q));
    if (p != p || q != q)
        return p + q;
    if (R(0) < p && R(0) < q)
        return v;
    return p == R(0) && R(0) <= q ? R(0) : fp<R>::infinity;
}
template <class R> XENT_HD R kl_pointwise(R x, R t) {
    return t != R(0) || x != x ? t * (log(t) - x) : R(0);
}

} // namespace xent

#endif
