/* ce.h: cross-entropy, of target probabilities and of labels, and negative log-likelihoods; and the gradient of every loss that is
 * linear in log_softmax, which is T softmax(x) - t, and its Hessian's diagonal.
 *
 * Its other half is kernels/math/ce.h. Here b sums up half of what it does there, for the difference of two logits may leave the
 * range of what a row is computed in. */
#ifndef XENT_CUDA_CE_H
#define XENT_CUDA_CE_H

#include "result.h"

namespace xent {

/* ---- folding ---- */
/* With target probabilities: t (m - x) / 2 for cross-entropy, t (log t + m - x) / 2 for KL. */
template <bool WITH_LOG, class S, class R, int N> XENT_HD R term_of_probs(const S &s, const tile<R, N> &v, int i) {
    const R m = s.x.m > -fp<R>::infinity ? s.x.m : R(0);
    R d = fma(R(-0.5), v.x[i], R(0.5) * m);
    if constexpr (WITH_LOG)
        d = fma(R(0.5), S::is_kl ? v.ey[i] : log(v.t[i]), d); /* kl_fold has left it there */
    return v.t[i] != R(0) ? v.t[i] * d : R(0);
}
template <class S, class R, int N> XENT_HD R term_CE(const S &s, const tile<R, N> &v, int i) {
    return term_of_probs<false>(s, v, i);
}

/* ---- values ---- */
template <class E> XENT_HD typename E::W value_CE(const E &e) {
    using R = typename E::R;
    using W = typename E::W;
    const bool no_t = e.t.value() == R(0);
    if (e.s.x.m == -fp<R>::infinity) /* no class has any weight: 0 only if the target has none either */
        return no_t && e.b.value() == R(0) ? R(0) * e.s.x.r.hi : fp<R>::nan;
    return (no_t && e.x.log1.hi == e.x.log1.hi ? W(R(0)) : e.t * e.x.log1) + e.b * R(2);
}
template <class E> XENT_HD typename E::W value_LABEL(const E &e) {
    using R = typename E::R;
    using W = typename E::W;
    return e.row.label >= 0 ? e.x.log1 + difference<E::S::paired>(e.s.x.m, e.row.x_label) : W(R(0));
}
template <class E> XENT_HD typename E::W value_NLL(const E &e) {
    using R = typename E::R;
    return e.row.label >= 0 ? -e.row.x_label : R(0);
}

/* ---- the gradient ---- */
/* softmax(x) at the label. */
template <class E> XENT_HD typename E::R label_p(const E &e) {
    using M = typename E::M;
    return exp_of<M>(e.row.x_label, reference_of<M>(e.s.x.m)) * e.x.inv.value();
}
template <class E> XENT_HD void factors_GRAD(const E &e, result<typename E::M> &r) {
    using R = typename E::R;
    using OP = typename E::OP;
    r.px = (e.scale * e.x.inv * e.total).value();
    r.py = OP::target == XENT_TARGET_LOGITS ? (e.scale * e.y.inv).value() : e.py * e.scale.value();
    if constexpr (OP::labels) {
        const R at = e.row.x_label, p = label_p(e);
        r.patch = e.scale.value() * (at == e.s.x.m ? -e.x.rest : p - R(1)); /* 1 - p without its cancellation */
        r.patch = at == fp<R>::infinity ? fp<R>::nan : r.patch;
        r.px = e.row.label >= 0 ? r.px : R(0);
    }
}
template <class W> XENT_HD typename W::R emit_GRAD(const W &w, int i) {
    const auto e = w.v.ex[i] * w.r.px;
    if constexpr (W::OP::labels)
        return e;
    else if constexpr (W::OP::log_target)
        return e - w.v.ey[i] * w.r.py;
    else
        return fma(-w.v.t[i], w.r.g, e);
}

/* ---- the Hessian's diagonal, T p (1 - p) ---- */
/* p (1 - p) without cancellation: above 1/2 the rest is 1 - p, of the one class that can be. */
template <class R> XENT_HD R spread_of(R p, R rest) {
    return p * (p > R(0.5) ? rest : R(1) - p);
}
template <class E> XENT_HD void factors_HESS(const E &e, result<typename E::M> &r) {
    using R = typename E::R;
    r.px = e.x.inv.value();
    r.rest = e.x.rest;
    r.g = (e.scale * e.total).value();
    if constexpr (E::OP::labels) {
        r.g = e.row.label >= 0 ? r.g : R(0);
        r.patch = e.row.x_label == fp<R>::infinity ? fp<R>::nan : spread_of(label_p(e), r.rest) * r.g;
    }
}
template <class W> XENT_HD typename W::R emit_HESS(const W &w, int i) {
    return spread_of(w.v.ex[i] * w.r.px, w.r.rest) * w.r.g;
}

/* ---- terms ---- */
/* A NaN in the row, or a target that is no distribution, shows in every term. */
template <class E> XENT_HD void factors_CE_TERM(const E &e, result<typename E::M> &r) {
    using R = typename E::R;
    R seen = e.t.value() + e.s.x.r.value();
    if constexpr (E::S::of_y)
        seen += e.s.y.r.value();
    const bool none = E::OP::target == XENT_TARGET_LOGITS && e.s.y.m == -fp<R>::infinity;
    r.poison = seen != seen || none ? fp<R>::nan : R(0);
    r.py = e.py * r.g;
}
template <class W> XENT_HD typename W::R emit_CE_TERM(const W &w, int i) {
    using R = typename W::R;
    const R weight = w.v.t[i] * w.r.g, term = weight * (w.r.x_lo + (w.r.x_hi - w.v.x[i]));
    return (weight != R(0) ? term : R(0)) + w.r.poison;
}

/* 0 but at the label. */
template <class E> XENT_HD void factors_NLL_TERM(const E &e, result<typename E::M> &r) {
    r.patch = -weigh(e.row.x_label, r.g, e.row.x_label != e.row.x_label);
}
template <class W> XENT_HD typename W::R emit_NLL_TERM(const W &, int) {
    return typename W::R(0);
}
template <class E> XENT_HD void factors_NLL_GRAD(const E &, result<typename E::M> &r) {
    r.patch = -r.g;
}
template <class W> XENT_HD typename W::R emit_NLL_GRAD(const W &, int) {
    return typename W::R(0);
}

} // namespace xent

#endif
