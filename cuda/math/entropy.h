/* entropy.h: the entropy of probabilities, and of the softmax of logits. Its other half is kernels/math/entropy.h; both differ only
 * in how a row is finished (lse.h). */
#ifndef XENT_CUDA_ENTROPY_H
#define XENT_CUDA_ENTROPY_H

#include "result.h"

namespace xent {

template <class S, class R, int N> XENT_HD R term_ENT(const S &, const tile<R, N> &v, int i) {
    return v.x[i] != R(0) ? v.x[i] * -log(v.x[i]) : R(0);
}
template <class E> XENT_HD typename E::W value_ENT(const E &e) {
    return e.b;
}

template <class S, class R, int N> XENT_HD R term_SENT(const S &s, const tile<R, N> &v, int i) {
    return v.ex[i] != R(0) ? v.ex[i] * (s.x.m - v.x[i]) : R(0);
}
template <class E> XENT_HD typename E::W value_SENT(const E &e) {
    using R = typename E::R;
    using W = typename E::W;
    return e.j.classes == 0 ? W(R(0)) : e.s.x.m == fp<R>::infinity ? W(fp<R>::nan) : e.x.log1 + e.b * e.x.inv;
}

} // namespace xent

#endif
