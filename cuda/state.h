/* state.h: what a row is folded into: kernels/state.h's states, one a lane. A lane folds tiles of its row's classes
 * into its own state, against its own references; then the lanes of the row join: all end with the row's state, from
 * the same tree of additions whatever the batch is. Which fields a state has follows from kernels/state.h's list; what
 * is folded into them, and what follows from them, is in math/, one file a family.
 *
 * Classes past the end hold x = -inf and t = 0 (log t = -inf): they add nothing, as an excluded class does.
 */
#ifndef XENT_CUDA_STATE_H
#define XENT_CUDA_STATE_H

#include "group.h"

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
/* What sums against reference a are multiplied by to be sums against b, with what its last addition rounded away. */
template <class M, class R = typename M::real>
XENT_HD wide<R, !M::quick> change(const reference<M> &a, const reference<M> &b) {
    if constexpr (M::quick)
        return exp2_quick((a.c - b.c) * fp<R>::log2e);
    R lo;
    const R hi = exp_any(at_least(R(-XENT_PLAIN) - fp<R>::low, a.c - b.c), b.k - a.k, &lo);
    return {hi, lo};
}

/* ---- sums ---- */
template <class R, bool P> XENT_HD void add_to(wide<R, P> &a, R v) {
    if constexpr (P) {
        R e;
        a.hi = two_sum(a.hi, v, &e);
        a.lo += e;
    } else {
        a.hi += v;
    }
}
/* ... the same whichever of the two is a. */
template <class R, bool P> XENT_HD void add_to(wide<R, P> &a, wide<R, P> v) {
    const R lo = a.lo + v.lo;
    a.lo = R(0);
    add_to(a, v.hi);
    a.lo += lo;
}
/* A number that counts. */
template <class R> XENT_HD void add_to(R &a, R v) {
    a += v;
}
/* The numbers that a field is made of. */
template <class R, class F> XENT_HD void each_real(R &v, F f) {
    f(v);
}
template <class R, bool P, class F> XENT_HD void each_real(wide<R, P> &v, F f) {
    f(v.hi);
    if constexpr (P)
        f(v.lo);
}
template <class R, bool P> XENT_HD void scale(wide<R, P> &a, R f) {
    a.hi *= f;
    a.lo *= f;
}
/* Ready for arithmetic: lo is what hi rounds away, and 0 where hi is not finite. */
template <class R, bool P> XENT_HD wide<R, P> settled(wide<R, P> a) {
    if (!finite(a.lo))
        return a.hi;
    R e;
    const R s = two_sum(a.hi, a.lo, &e);
    return {s, e};
}

/* A tile's terms: fours are added as a tree (exact where they are equal), then with the error kept; Quick, in one tree.
 * */
template <class M, int N> XENT_HD void add_tile(wide<typename M::real, !M::quick> &a, const typename M::real (&v)[N]) {
    using R = typename M::real;
    static_assert(N % 4 == 0, "fours");
    if constexpr (M::quick) {
        R s = R(0);
        XENT_UNROLL
        for (int i = 0; i < N; i += 4)
            s += (v[i] + v[i + 1]) + (v[i + 2] + v[i + 3]);
        a.hi += s;
    } else {
        XENT_UNROLL
        for (int i = 0; i < N; i += 4)
            add_to(a, (v[i] + v[i + 1]) + (v[i + 2] + v[i + 3]));
    }
}

/* ---- a lane's tile ---- */
template <class R, int N> struct tile {
    R x[N], t[N];
    R w[N], p[N];   /* binary cross-entropy's weights of a class, and of its positive part; KL's own while it folds */
    R ex[N], ey[N]; /* E(x), E(y): what may be kept for the emit */
};

/* f of the first `used` tiles. */
template <class R, int N, int T, class F> XENT_HD void each_of(tile<R, N> (&v)[T], int used, F f) {
    XENT_UNROLL
    for (int k = 0; k < T; k++)
        if (k < used)
            f(v[k]);
}

template <class R, int N> XENT_HD R largest(const R (&v)[N]) {
    R m = v[0];
    XENT_UNROLL
    for (int i = 1; i < N; i++)
        m = larger(m, v[i]);
    return m;
}

/* ---- the state ---- */
/* Of logits: sums of exponentials. */
template <class M> struct top {
    using R = typename M::real;
    R m = -fp<R>::infinity, n = R(0); /* the largest, how many equal it */
    wide<R, !M::quick> r;             /* E of the others */

    /* The maximum becomes v where that is larger: the old ones join the sum. Returns what sums held against the old
     * reference are multiplied by. */
    XENT_HD R raise(R v) {
        if (!(m < v))
            return R(1);
        const reference<M> old = reference_of<M>(m), now = reference_of<M>(v);
        R f = R(1);
        if (m > -fp<R>::infinity) {
            add_to(r, n * exp_of<M>(m, old));
            f = change<M>(old, now).hi;
            scale(r, f);
        }
        m = v;
        n = R(0);
        return f;
    }
    /* The tile's E, against a maximum that none of it exceeds. */
    template <int N> XENT_HD void add(const R (&v)[N], R (&e)[N]) {
        const reference<M> f = reference_of<M>(m);
        R rest[N];
        XENT_UNROLL
        for (int i = 0; i < N; i++) {
            e[i] = exp_of<M>(v[i], f);
            rest[i] = v[i] == m ? R(0) : e[i];
            n += v[i] == m ? R(1) : R(0);
        }
        add_tile<M>(r, rest);
    }
};

/* The centred sums of KL: math/kl.h. */
template <class M> struct kl_sums {
    using R = typename M::real;
    R c = -fp<R>::infinity, c_lo = R(0); /* of no class at all: below any other */
    wide<R, !M::quick> w, u, a;
    R against = -fp<R>::infinity; /* the target's maximum that w, u and a are held against: y.m, or one before it */
    R w_at_move = R(0);           /* w when c was last moved to the mean */
};

/* Makes c the same in N lanes: math/kl.h. */
template <int N, class G, class S> XENT_HD void kl_meet(G &g, S &s);

template <reduce_kind K, class ARITHMETIC> struct state {
    using M = ARITHMETIC;
    using R = typename M::real;
    using W = wide<R, !M::quick>;
    static constexpr reduce_kind kind = K;
    static constexpr bool paired = !M::quick;
    static constexpr int parts = xent_parts(K);
    static constexpr mass_kind b_holds = xent_reduce_of(K).b_holds;
    static constexpr bool of_x = parts & PART_X, of_y = parts & PART_Y_SUM, of_tb = parts & PART_TB,
                          is_kl = parts & PART_KL;
    static constexpr bool leads_y = parts & PART_Y; /* a target in log space */
    static constexpr bool lags = is_kl && leads_y;  /* kl.against is not y.m while a row is folded */
    /* KL holds target logits 2^32 larger, so that t u is normal wherever the result is; Quick E are large anyway. */
    static constexpr R lift = M::quick ? R(0) : R(XENT_KL_LIFT);
    /* PAIR_LOGS: b sums up E(y) times this, which would overflow beside large logits. */
    static constexpr R y_unit = M::quick ? R(0x1p-96) : R(0x1p-32);

    top<M> x, y;
    W t, b;
    kl_sums<M> kl;

    /* ---- the list of fields ---- */
#define XENT_NONE(part, field)
#define XENT_KEPT(part, field)                                                                                         \
    if constexpr (!SUMS && (parts & PART_##part))                                                                      \
        f(field);
#define XENT_ONE(part, field)                                                                                          \
    if constexpr (parts & PART_##part)                                                                                 \
        f(field);
    /* Every field that the state has; SUMS: those that add up. */
    template <bool SUMS, class F> XENT_HD void visit(F f) {
        XENT_STATE_FIELDS(XENT_KEPT, XENT_NONE, XENT_ONE, XENT_ONE)
        if constexpr (lags && !SUMS)
            f(kl.against);
    }
#undef XENT_KEPT
#undef XENT_ONE
#define XENT_ONE(part, field) +(parts & PART_##part ? 1 : 0)
#define XENT_SUM(part, field) +(parts & PART_##part ? paired ? 2 : 1 : 0)
    static constexpr int size = XENT_STATE_FIELDS(XENT_ONE, XENT_NONE, XENT_ONE, XENT_SUM) + (lags ? 1 : 0);
#undef XENT_ONE
#undef XENT_SUM
#undef XENT_NONE

    struct packed {
        R v[size ? size : 1];
    };
    XENT_HD packed pack() {
        packed p = {};
        int i = 0;
        visit<false>([&](auto &field) { each_real(field, [&](R &f) { p.v[i++] = f; }); });
        return p;
    }
    XENT_HD void unpack(const packed &p) {
        int i = 0;
        visit<false>([&](auto &field) { each_real(field, [&](R &f) { f = p.v[i++]; }); });
    }

    /* ---- a maximum rises, and b follows (reductions.def) ---- */
    /* (v - 2 half) / 2: halves, for the difference of two logits may leave the range. */
    static XENT_HD R half_gap(R v, R half) {
        return fma(R(0.5), v, -half);
    }
    XENT_HD void raise_x(R m) {
        if (!(x.m < m))
            return;
        const bool known = x.m > -fp<R>::infinity;
        const R d = known ? half_gap(m, R(0.5) * x.m) : R(0), f = x.raise(m);
        if constexpr (b_holds == MASS_X) {
            const R sum = x.r.value();
            scale(b, f);
            if (known && sum != R(0)) /* where d is infinite all else is 0 */
                add_to(b, R(2) * d * sum);
        } else if constexpr (b_holds == MASS_T) {
            const R sum = t.value();
            if (known && sum != R(0))
                add_to(b, d * sum);
        } else if constexpr (b_holds == MASS_Y) {
            if (known && y.m > -fp<R>::infinity)
                add_to(b, d * (y_unit * fma(y.n, exp_of<M>(y.m, reference_of<M>(y.m)), y.r.value())));
        }
    }
    XENT_HD void raise_y(R m) {
        if (!(y.m < m))
            return;
        const bool known = y.m > -fp<R>::infinity;
        const R d = known ? half_gap(y.m, R(0.5) * m) : R(0), f = y.raise(m);
        if constexpr (b_holds == MASS_Y) {
            if (b.hi != fp<R>::infinity) /* it stays, where f is 0, too */
                scale(b, f);
            const R sum = y_unit * y.r.value();
            if (known && sum != R(0))
                add_to(b, d * sum);
        }
    }

    /* ---- lanes ---- */
    template <int N, class G> XENT_HD void join_lanes(G &g) {
        const auto most = [](R p, R q) { return larger(p, q); };
        if constexpr (of_x)
            raise_x(across<N>(g, x.m, most));
        if constexpr (leads_y)
            raise_y(across<N>(g, y.m, most));
        if constexpr (is_kl)
            kl_meet<N>(g, *this);
        XENT_UNROLL
        for (int d = 1; d < N; d *= 2)
            visit<true>([&](auto &field) { add_to(field, shfl_xor(g, field, d)); });
    }

    /* All lanes of the row end with its state. */
    template <class G> XENT_HD void join(G &g, int *turn) {
        if constexpr (size > 0) {
            join_lanes<G::width>(g);
            if constexpr (G::parts > 1) {
                unpack(exchange(g, pack(), turn));
                join_lanes<G::parts>(g);
            }
            if constexpr (G::ranks > 1) {
                unpack(exchange_ranks(g, pack(), state().pack(), turn));
                join_lanes<G::ranks>(g);
            }
        }
    }
};

} // namespace xent

#endif
