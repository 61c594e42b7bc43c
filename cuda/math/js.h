/* js.h: Jensen-Shannon divergence of two rows of logits: first log sum exp of both (JS), then the terms (JS_SUM), and in rows that are
 * near to each other what their difference follows from (JS_GAP), and the terms once more.
 *
 * Its other half is kernels/math/js.h and js_again.h, with the same formulas and thresholds; a row is finished in pairs of its own
 * kind of number here, in double there (lse.h). */
#ifndef XENT_CUDA_JS_H
#define XENT_CUDA_JS_H

#include "result.h"

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
template <class M> XENT_HD js_row<M> js_row_of(const result<M> &r) {
    return {reference_of<M>(r.mx), reference_of<M>(r.my), r.x_hi, r.y_hi, r.px, r.py, r.x_lo, r.y_lo};
}

/* Jensen-Shannon's value and what its gradient needs, from the second reduction; whether the rows are so near that what
 * the two log sum exp round shows. */
template <class M, class S> XENT_HD void js_finish(const job &j, const S &s, result<M> *r) {
    using R = typename M::real;
    const R ln2 = fp<R>::ln2_hi + fp<R>::ln2_lo, near = sizeof(R) == 4 ? R(0x1p-17) : R(0x1p-46); /* 64 eps */
    auto v = settled(s.b);
    if (v.value() > ln2) /* rounding alone gets there */
        v = ln2;
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
        const js_row<M> row = js_row_of(*r);
        const J s = fold([&](J &p, auto &t) { fold_JS_SUM(p, t, row); });
        if (again)
            js_finish(j, s, r);
    };
    if (OP::value == VALUE_JS || any_beside(g, r->again != typename M::real(0)))
        terms(r->again != typename M::real(0));
    const bool again = r->again != typename M::real(0);
    if (any_beside(g, again)) {
        const js_row<M> row = js_row_of(*r);
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
    return w.r.g * js_term(w.v.x[i], w.v.t[i], js_row_of(w.r), &p, &gain);
}
template <class E> XENT_HD void factors_JS_GRAD(const E &e, result<typename E::M> &r) {
    r.g = typename E::R(0.5) * e.scale.value();
}
template <class W> XENT_HD typename W::R emit_JS_GRAD(const W &w, int i) {
    typename W::R p, gain;
    js_term(w.v.x[i], w.v.t[i], js_row_of(w.r), &p, &gain);
    return (w.r.g * p) * (gain - w.r.gain);
}

} // namespace xent

#endif
