/* bce.h: binary cross-entropy, class by class. Its other half is kernels/math/bce.h, with the same formulas. */
#ifndef XENT_CUDA_BCE_H
#define XENT_CUDA_BCE_H

#include "result.h"

namespace xent {

/* The weights of the two softplus: positive = w p t, negative = w (1 - t). With L = log1p(exp(-|x|)) the softplus on
 * x's own side is |x| + L, the other one L: sums of what does not cancel. */
template <class R> XENT_HD R bce_term(R x, R t, R w, R p) {
    const R positive = w * (p * t), negative = w * (R(1) - t);
    R far = R(0) < x ? negative : positive;
    far = far != R(0) ? abs(x) * far : R(0); /* certain and right: 0, at infinite logits too */
    return fma(positive + negative, log1p_unit(exp_minus_abs(x)), far);
}

template <class S, class R, int N> XENT_HD R term_BCE(const S &, const tile<R, N> &v, int i) {
    return bce_term(v.x[i], v.t[i], v.w[i], v.p[i]);
}
template <class E> XENT_HD typename E::W value_BCE(const E &e) {
    return e.b;
}

template <class E> XENT_HD void factors_BCE_TERM(const E &, result<typename E::M> &) {
}
template <class W> XENT_HD typename W::R emit_BCE_TERM(const W &w, int i) {
    const auto term = bce_term(w.v.x[i], w.v.t[i], w.v.w[i], w.v.p[i]);
    return weigh(term, w.r.g, term != term);
}
template <class E> XENT_HD void factors_BCE_GRAD(const E &, result<typename E::M> &) {
}
/* w ((1 - t) sigmoid(x) - p t sigmoid(-x)), where sigmoid(-|x|) is exp(-|x|) times sigmoid(|x|). */
template <class W> XENT_HD typename W::R emit_BCE_GRAD(const W &w, int i) {
    using R = typename W::R;
    const R x = w.v.x[i], t = w.v.t[i], positive = w.v.w[i] * (w.v.p[i] * t), negative = w.v.w[i] * (R(1) - t);
    const R e = exp_minus_abs(x), s = ratio(R(1), R(1) + e);
    const bool up = R(0) < x;
    const R v = s * (up ? negative : positive) - s * e * (up ? positive : negative);
    return w.r.g * (up ? v : R(0) - v);
}

} // namespace xent

#endif
