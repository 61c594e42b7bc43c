/* lse.h: log sum exp, and what is nothing but it: log_softmax and softmax.
 *
 * Its other half is kernels/math/lse.h. There a row of floats is finished in double, and of doubles every step's rounding is kept
 * by hand; here both are finished in pairs of their own kind (wide), for doubles are slow or many registers on a device. */
#ifndef XENT_CUDA_LSE_H
#define XENT_CUDA_LSE_H

#include "result.h"

namespace xent {

/* ---- finishing: what is folded are the sums of exponentials alone (state.h's top) ---- */
template <class M> XENT_HD lse_facts<M> lse_of(const top<M> &s) {
    using R = typename M::real;
    using W = wide<R, !M::quick>;
    const reference<M> f = reference_of<M>(s.m);
    W most; /* E(m) */
    if constexpr (M::quick) {
        most = exp2_quick(-f.k);
    } else {
        R lo;
        const R hi = exp_two(finite(s.m) ? s.m - f.c : R(0), f.k, &lo);
        most = W(hi, lo);
    }
    const R others = larger(s.n - R(1), R(0));
    const W r = settled(s.r) + most * W(others), sum = most + r, z = r / most;
    lse_facts<M> v;
    v.log1 = log1p(z);
    v.lse = W(s.m) + v.log1;
    v.inv = R(1) / sum;
    v.sum = sum;
    v.rest = (r * v.inv).value();
    if (r.hi != r.hi || s.m == -fp<R>::infinity) { /* NaN, or nothing but -inf */
        v.lse = r.hi != r.hi ? fp<R>::nan : s.m;
        v.log1 = v.inv = v.rest = fp<R>::nan;
    } else if (s.m == fp<R>::infinity) {
        v.lse = s.m;
        v.log1 = v.inv = v.rest = R(0);
    }
    return v;
}

/* log p = (x - hi) - lo: where x is near the maximum m the first difference is exact. */
template <class M, class R = typename M::real> XENT_HD void split_lse(const lse_facts<M> &f, R m, R *hi, R *lo) {
    using W = wide<R, !M::quick>;
    const R h = f.lse.value(), log1 = f.log1.value();
    const W rest = difference<!M::quick>(m, h) + f.log1;
    *hi = finite(m) ? h : m > R(0) ? m : log1; /* an all -inf row: NaN */
    *lo = finite(m) ? rest.value() : log1;
}

template <class E> XENT_HD typename E::W value_LSE(const E &e) {
    return e.x.lse;
}

/* ---- emits ---- */
template <class E> XENT_HD void factors_LOGP(const E &, result<typename E::M> &) {
}
template <class W> XENT_HD typename W::R emit_LOGP(const W &w, int i) {
    return (w.v.x[i] - w.r.x_hi) - w.r.x_lo;
}

template <class E> XENT_HD void factors_P(const E &e, result<typename E::M> &r) {
    r.px = e.x.inv.hi;
    r.px_lo = e.x.inv.lo;
}
template <class W> XENT_HD typename W::R emit_P(const W &w, int i) {
    const auto e = w.v.ex[i];
    return W::M::quick ? e * w.r.px : fma(e, w.r.px, e * w.r.px_lo);
}

} // namespace xent

#endif
