/* finish.h: the three steps by their names in the lists: a tile folded in, a state finished, a class's number emitted. What each is,
 * the families say (math/); a name without its function does not compile. Its other half is kernels/walk/finish.h. */
#ifndef XENT_CUDA_FINISH_H
#define XENT_CUDA_FINISH_H

#include "math/bce.h"
#include "math/ce.h"
#include "math/entropy.h"
#include "math/js.h"
#include "math/kl.h"
#include "math/lse.h"
#include "math/point.h"

namespace xent {

/* The first `used` of these tiles; first: of the row's. */
template <class S, class G, class R, int N, int T>
XENT_HD void fold_tiles(G &g, S &s, tile<R, N> (&v)[T], int used, bool first, int *turn) {
    if constexpr (S::leads_y) {
        R m = s.y.m;
        each_of(v, used, [&](auto &one) { m = larger(m, largest(one.t)); });
        s.raise_y(first && S::is_kl ? across_all(g, m, turn, [](R p, R q) { return larger(p, q); }) : m);
    }
    if constexpr (S::is_kl)
        kl_fold(g, s, v, used, first, turn);
    each_of(v, used, [&](auto &one) { fold_tile(s, one); });
}
template <class S, class R, int N> XENT_HD void fold_tile(S &s, tile<R, N> &v) {
    if constexpr (S::of_x) {
        s.raise_x(largest(v.x));
        s.x.add(v.x, v.ex);
    }
    if constexpr (S::of_y)
        s.y.add(v.t, v.ey);
    if constexpr (S::of_tb) {
        R terms[N];
        XENT_UNROLL
        for (int i = 0; i < N; i++) {
#define REDUCTION(name, PARTS, B_HOLDS, OPTIONS, COST, FEW, AGAIN, PIECES, QUICK)                                      \
    if constexpr (S::kind == REDUCE_##name)                                                                            \
        terms[i] = term_##name(s, v, i);
#include "../kernels/reductions.def"
#undef REDUCTION
        }
        add_tile<typename S::M>(s.b, terms);
        if constexpr (S::b_holds == MASS_T)
            add_tile<typename S::M>(s.t, v.t);
    }
}

/* *again: the state left its range (reductions.def). */
template <class OP, class M, reduce_kind K>
XENT_HD result<M> finish(const job &j, const row_facts<M> &row, const state<K, M> &s, bool *again) {
    using S = state<K, M>;
    using R = typename S::R;
    using W = typename S::W;
    result<M> r = {};
    ending<OP, S> e = {j, row, s, {}, {}, settled(s.t), settled(s.b), R(1), R(0), R(1), false};
    if constexpr (S::of_x)
        e.x = lse_of(s.x);
    if constexpr (S::of_y)
        e.y = lse_of(s.y);
    r.mx = s.x.m;
    r.my = s.y.m;
    r.uniform = row.uniform;

    if constexpr (OP::target == XENT_TARGET_LOGITS) {
        e.py = e.y.inv.value();
    } else if constexpr (OP::target == XENT_TARGET_LOG_PROBS) {
        const reference<M> f = reference_of<M>(r.my);
        e.py = exp_any(f.c, -f.k);
        if constexpr (S::of_y)
            e.total = e.py * e.y.sum;
        else
            e.total = exp_any(f.c, S::lift - f.k) * settled(s.kl.w);
        e.total = r.my != -fp<R>::infinity ? e.total : W(R(0));
    } else if constexpr (OP::target == XENT_TARGET_PROBS) {
        e.total = S::is_kl ? settled(s.kl.w) : e.t;
    }

    W v = R(0);
#define XENT_ONE(name)                                                                                                 \
    if constexpr (OP::value == VALUE_##name)                                                                           \
        v = value_##name(e);
    XENT_VALUES(XENT_ONE)
#undef XENT_ONE
    r.value = v;
    *again = e.again;
    if constexpr (!OP::emits && !OP::is_js)
        return r;

    double factor = row.weight;
    if constexpr (OP::order > 0) {
        const double divisor = j.total_weight ? get_sum<R>(j.total_weight, 0).value() : j.divisor;
        factor = divisor != 0.0 ? ratio(factor, divisor) * j.grad_scale : fp<double>::nan;
        for (int n = 0; n < OP::order && j.temperature.data; n++)
            factor = divided<false>(factor, row.temperature, ratio(1.0, row.temperature));
    }
    if (sizeof(R) == 4 && !fits_float(factor)) {
        const int k = exponent_of(factor);
        r.after = R(k);
        factor *= pow2(-double(k));
    }
    e.scale = from_double<R, S::paired>(factor);
    r.g = e.scale.value();
    if constexpr (S::of_x)
        split_lse(e.x, r.mx, &r.x_hi, &r.x_lo);
    if constexpr (S::of_y && OP::target != XENT_TARGET_LOG_PROBS) /* those are taken as they are */
        split_lse(e.y, r.my, &r.y_hi, &r.y_lo);
    if constexpr (OP::is_js)
        factors_of_js(e, r);
#define XENT_ONE(name, order, of_exp)                                                                                  \
    if constexpr (OP::emit == EMIT_##name)                                                                             \
        factors_##name(e, r);
    XENT_EMITS(XENT_ONE)
#undef XENT_ONE
    return r;
}

/* held: the tile's E are known. */
template <class OP, class M, int N>
XENT_HD void emit(const job &j, const result<M> &r, tile<typename M::real, N> &v, bool held,
                  typename M::real (&out)[N]) {
    if constexpr (OP::of_exp) {
        const reference<M> fx = reference_of<M>(r.mx), fy = reference_of<M>(r.my);
        if (!held) {
            XENT_UNROLL
            for (int i = 0; i < N; i++) {
                v.ex[i] = exp_of<M>(v.x[i], fx);
                if constexpr (OP::log_target)
                    v.ey[i] = exp_of<M>(v.t[i], fy);
            }
        }
    }
    const writing<OP, M, N> w = {j, r, v};
    XENT_UNROLL
    for (int i = 0; i < N; i++) {
#define XENT_ONE(name, order, of_exp)                                                                                  \
    if constexpr (OP::emit == EMIT_##name)                                                                             \
        out[i] = emit_##name(w, i);
        XENT_EMITS(XENT_ONE)
#undef XENT_ONE
    }
}

} // namespace xent

#endif
