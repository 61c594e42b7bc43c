/* js.h: Jensen-Shannon divergence of two rows of logits: first log sum exp of both (JS), then the terms (JS_SUM), and in rows that are
 * near to each other what their difference follows from (JS_GAP), and the terms once more.
 *
 * Its other half is kernels/math/js.h and js_again.h, with the same formulas and thresholds; a row is finished in pairs of its own
 * kind of number here, in double there (lse.h). */
#ifndef XENT_CUDA_JS_H
#define XENT_CUDA_JS_H

#include "kl.h"

namespace xent {

/* With d = log p - log q a class adds m h(d), m = (p + q)/2, h(d) = d/2 tanh(d/2) - log cosh(d/2) = d^2 H(d^2), and
 * log(p/m) is d/2 - d^2 G(d^2); farther out than 1.5 both follow from exp(-|d|). */
XENT_POLYNOMIAL(js_h, XENT_JS_H)
XENT_POLYNOMIAL(js_g, XENT_JS_G)

/* What a row's classes are compared with. */
template <class M> struct js_row {
    using R = typename M::real;
    reference<M> fx, fy;
    R mx, my, px, py;
    R gap, gap_lo; /* log sum exp(x - mx) less log sum exp(y - my), in two parts */
    const xent_mixture *mix;
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

/* h(d) and log(p/m): of beta = 1/2. */
template <class R> XENT_HD R js_even(R d, R *gain) {
    const R u = at_most(fp<R>::low, abs(d)), z = u * u, side = R(0.5) * d;
    const R e = exp_minus_abs(u), away = (fp<R>::ln2_hi + fp<R>::ln2_lo) - log1p_unit(e);
    const bool near = u <= R(1.5);
    *gain = near ? side - z * js_g(z) : away - (d < R(0) ? u : R(0));
    return near ? z * js_h(z) : away - ratio(u * e, R(1) + e);
}

/* log(1 + s) - 2 t with t = s / (2 + s), and log(1 + s), which is given where s is not small. */
template <class R> XENT_HD R js_log(R s, R *t, R *log) {
    *t = ratio(s, s + R(2));
    const R q = *t * *t, tail = *t * (q * log1p_less_poly(q));
    const bool small = abs(*t) <= R(0.25);
    const R rest = small ? tail : *log - (*t + *t);
    *log = small ? (*t + *t) + tail : *log;
    return rest;
}

/* m h(d) and log(p/m), of any beta, as kernels/math/js.h has them. */
XENT_HD const auto &series_of(const xent_mixture &mix, float) {
    return mix.f32;
}
XENT_HD const auto &series_of(const xent_mixture &mix, double) {
    return mix.f64;
}
template <class R, int N> XENT_HD R series(R z, const R (&c)[N]) {
    R v = c[0];
    XENT_UNROLL
    for (int i = 1; i < N; i++)
        v = fma(v, z, c[i]);
    return v;
}
template <class R> XENT_HD R js_mixed(R d, R low, R p, R q, const xent_mixture &mix, R *gain) {
    const R tiny = sizeof(R) == 4 ? R(0x1p-120) : R(0x1p-1000), u = at_most(fp<R>::low, abs(d));
    const R beta = larger(tiny, R(mix.beta)), rest = larger(tiny, R(mix.rest)), m = fma(beta, p, rest * q);
    if (u <= R(0.5)) {
        *gain = rest * d - d * d * series(d, series_of(mix, R()).g);
        return m * (d * d * series(d, series_of(mix, R()).h));
    }
    const bool down = d < R(0);
    const R b = down ? beta : rest, other = down ? rest : beta, e = exp_minus_abs(u);
    const R w = fma(e, down ? low : -low, e); /* what rounding d is to it may be a hundred ULP */
    const R inv = ratio(R(1), fma(b, w, other)), gap = R(1) - w, less = w * inv;
    const R s_more = b * gap * inv, s_less = -(other * gap * inv);
    R log_more = log(inv), log_less = less < tiny ? log_more - u : log(less), t_more, t_less;
    const R rest_more = js_log(s_more, &t_more, &log_more), rest_less = js_log(s_less, &t_less, &log_less);
    *gain = down ? log_less : log_more;
    const R far =
        fma(other * (down ? q : p), fma(b * gap, t_more, rest_more), b * m * fma(less, rest_less, s_less * t_less));
    return m != R(0) ? far : R(0);
}

/* A class's term, and p and log(p/m). */
template <class M, class R = typename M::real> XENT_HD R js_term(R x, R y, const js_row<M> &row, R *p, R *gain) {
    const xent_mixture &mix = *row.mix;
    const R q = exp_of<M>(y, row.fy) * row.py;
    *p = exp_of<M>(x, row.fx) * row.px;
    R lost, low, lower, g, value;
    const R apart = two_sum(js_apart(x, y, row, &lost), -row.gap, &low), d = two_sum(apart, lost - row.gap_lo, &lower);
    if (mix.even) {
        const R m = (*p + q) * R(0.5), h = js_even(d, &g);
        value = m != R(0) ? m * h : R(0);
    } else {
        value = js_mixed(d, finite(low + lower) ? low + lower : R(0), *p, q, mix, &g);
    }
    *gain = *p != R(0) ? g : R(0); /* classes that neither row has leave NaN in d */
    return value;
}

/* ---- folding ---- */
/* Log sum exp of both is known: the terms, and what gradients need. */
template <class S, class M, class R, int N> XENT_HD void fold_JS_SUM(S &s, const tile<R, N> &v, const js_row<M> &row) {
    R terms[N], gains[N];
    XENT_UNROLL
    for (int i = 0; i < N; i++) {
        R p, gain;
        terms[i] = js_term(v.x[i], v.t[i], row, &p, &gain);
        gains[i] = p * gain;
    }
    add_tile<M>(s.b, terms);
    add_tile<M>(s.t, gains);
}
/* What the difference of the two log sum exp follows from. */
template <class S, class M, class R, int N> XENT_HD void fold_JS_GAP(S &s, const tile<R, N> &v, const js_row<M> &row) {
    const R up = exp_any(R(0.5) * row.gap, R(0)), down = exp_any(R(-0.5) * row.gap, R(0));
    R each[N];
    XENT_UNROLL
    for (int i = 0; i < N; i++)
        each[i] = js_gap_term(v.x[i], v.t[i], row, up, down);
    add_tile<M>(s.b, each);
}

/* ---- finishing ---- */
/* The value is the sum of the terms. What JS leaves is how the rows compare. */
template <class E> XENT_HD typename E::W value_JS(const E &) {
    return typename E::R(0);
}
/* The two log1, which are small, apart from the maxima, which may be anything. */
template <class E> XENT_HD void factors_of_js(const E &e, result<typename E::M> &r) {
    using R = typename E::R;
    const auto gap = e.x.log1 - e.y.log1;
    r.x_hi = r.mx;
    r.y_hi = r.my;
    r.x_lo = gap.hi;
    r.y_lo = gap.lo;
    r.px = e.x.inv.value();
    r.py = e.y.inv.value();
    r.again = E::OP::value == VALUE_JS || abs(r.x_lo) <= R(e.j.js_gap) ? R(1) : R(0);
}
template <class M> XENT_HD js_row<M> js_row_of(const result<M> &r, const job &j) {
    return {reference_of<M>(r.mx), reference_of<M>(r.my), r.x_hi, r.y_hi, r.px, r.py, r.x_lo, r.y_lo, &j.mixture};
}

/* Jensen-Shannon's value and what its gradient needs, from the second reduction; whether the rows are so near that what
 * the two log sum exp round shows. */
template <class M, class S> XENT_HD void js_finish(const job &j, const S &s, result<M> *r) {
    using R = typename M::real;
    const xent_mixture &mix = j.mixture;
    const R most = R(mix.most), eps = sizeof(R) == 4 ? R(0x1p-23) : R(0x1p-52);
    const R near = R(256) * eps * R(mix.beta) * R(mix.rest); /* of a divergence beta (1 - beta) / 2 sum m d^2 */
    auto v = settled(s.b);
    if (v.value() > most) /* rounding alone gets there */
        v = most;
    r->value = v;
    r->gain = s.t.value();
    r->again = abs(r->x_lo) <= R(j.js_gap) && v.value() < near ? R(1) : R(0);
}

/* The difference of the two log sum exp of such rows, from those of the logits: with S = sum (P - Q) / 2 and C = sum (P +
 * Q) / 2 it is log((C + S) / (C - S)) = 2 atanh(S / C). */
template <class M, class S> XENT_HD void js_finish_gap(const S &s, result<M> *r) {
    using R = typename M::real;
    const R half = R(0.5) * r->x_lo, cosh = R(0.5) * (exp_any(half, R(0)) + exp_any(-half, R(0)));
    const auto v = settled(s.b) / cosh;
    const R q = v.value(), z = q * q;
    if (abs(q) < R(0.17)) { /* as log_poly wants it */
        r->x_lo = v.hi + v.hi;
        r->y_lo = (v.lo + v.lo) + z * q * log_poly(z);
    }
}

/* Jensen-Shannon's second reduction; fold(add) gives all tiles to add(state, tile). Rows that are near are folded twice
 * more: once for the difference of their log sum exp. */
template <class OP, class M, class G, class F> XENT_HD void js_fold_again(G &g, const job &j, result<M> *r, F fold) {
    using J = state<REDUCE_JS_SUM, M>;
    const auto terms = [&](bool again) {
        const js_row<M> row = js_row_of(*r, j);
        const J s = fold([&](J &p, auto &t) { fold_JS_SUM(p, t, row); });
        if (again)
            js_finish(j, s, r);
    };
    if (OP::value == VALUE_JS || any_beside(g, r->again != typename M::real(0)))
        terms(r->again != typename M::real(0));
    const bool again = r->again != typename M::real(0);
    if (any_beside(g, again)) {
        const js_row<M> row = js_row_of(*r, j);
        const J s = fold([&](J &p, auto &t) { fold_JS_GAP(p, t, row); });
        if (again)
            js_finish_gap(s, r);
        terms(again);
    }
}

/* ---- emits ---- */
template <class E> XENT_HD void factors_JS_TERM(const E &, result<typename E::M> &) {
}
template <class W> XENT_HD typename W::R emit_JS_TERM(const W &w, int i) {
    typename W::R p, gain;
    return w.r.g * js_term(w.v.x[i], w.v.t[i], js_row_of(w.r, w.j), &p, &gain);
}
template <class E> XENT_HD void factors_JS_GRAD(const E &e, result<typename E::M> &r) {
    r.g = typename E::R(e.j.mixture.beta) * e.scale.value();
}
template <class W> XENT_HD typename W::R emit_JS_GRAD(const W &w, int i) {
    typename W::R p, gain;
    js_term(w.v.x[i], w.v.t[i], js_row_of(w.r, w.j), &p, &gain);
    return (w.r.g * p) * (gain - w.r.gain);
}

} // namespace xent

#endif
