/* point.h: operations of two numbers an element, without a row. Its other half is kernels/math/point.h, with the same formulas. */
#ifndef XENT_CUDA_POINT_H
#define XENT_CUDA_POINT_H

#include "result.h"

namespace xent {

template <class E> XENT_HD void factors_REL_ENTR(const E &, result<typename E::M> &) {
}
/* p log(p / q), SciPy's rel_entr: near p = q from the exact p - q. */
template <class W> XENT_HD typename W::R emit_REL_ENTR(const W &w, int i) {
    using R = typename W::R;
    const R p = w.v.x[i], q = w.v.t[i];
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

template <class E> XENT_HD void factors_KL_POINT(const E &, result<typename E::M> &) {
}
/* t (log t - x), PyTorch's term of kl_div */
template <class W> XENT_HD typename W::R emit_KL_POINT(const W &w, int i) {
    using R = typename W::R;
    const R x = w.v.x[i], t = w.v.t[i];
    return t != R(0) || x != x ? t * (log(t) - x) : R(0);
}

} // namespace xent

#endif
