/* state.h: what a row is folded into: kernels/state.h's states, one a lane. A lane folds tiles of its row's classes
 * into its own state, against its own references; then the lanes of the row join: all end with the row's state, from
 * the same tree of additions whatever the batch is.
 *
 * Classes past the end hold x = -inf and t = 0 (log t = -inf): they add nothing, as an excluded class does.
 */
#ifndef XENT_CUDA_STATE_H
#define XENT_CUDA_STATE_H

#include "../kernels/ops.h"
#include "group.h"
#include "terms.h"

namespace xent {

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

/* ---- a lane's tile, and what it may keep for the emit ---- */
template <class R, int N> struct tile {
    R x[N], t[N];
    R w[N], p[N];   /* binary cross-entropy's weights of a class, and of its positive part */
    R ex[N], ey[N]; /* E(x), E(y) */
};

template <class R, int N> XENT_HD R largest(const R (&v)[N]) {
    R m = v[0];
    XENT_UNROLL
    for (int i = 1; i < N; i++)
        m = larger(m, v[i]);
    return m;
}

/* ---- the state ---- */
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
            f = change<M>(old, now);
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

template <reduce_kind K, class M> struct state {
    using R = typename M::real;
    using W = wide<R, !M::quick>;
    static constexpr bool paired = !M::quick;
    static constexpr int parts = xent_parts(K);
    static constexpr mass_kind b_holds = xent_reduce_of(K).b_holds;
    static constexpr bool of_x = parts & PART_X, of_y = parts & PART_Y_SUM, of_tb = parts & PART_TB,
                          is_kl = parts & PART_KL;
    static constexpr bool leads_y = parts & PART_Y; /* a target in log space */
    /* KL holds target logits 2^32 larger, so that t u is normal wherever the result is; Quick E are large anyway. */
    static constexpr R lift = M::quick ? R(0) : R(XENT_KL_LIFT);
    /* ... and these would overflow beside large logits: b's are 2^32 smaller than 1. */
    static constexpr R plain = M::quick ? R(0x1p-96) : R(0x1p-32);

    top<M> x, y;
    W t, b;
    R c = -fp<R>::infinity, c_lo = R(0); /* of no class at all: below any other */
    W w, u, a;
    R held = -fp<R>::infinity; /* the target's maximum that w, u and a are held against: y.m, or one before it */
    R weighed = R(0);          /* w when c was last moved to the mean */

    /* Every number of the state, each one once; SUMS: those that add up. */
    template <bool SUMS, class F> XENT_HD void visit(F f) {
        const auto sum = [&](W &v) {
            f(v.hi);
            if constexpr (paired)
                f(v.lo);
        };
        if constexpr (of_x) {
            if constexpr (!SUMS)
                f(x.m);
            f(x.n);
            sum(x.r);
        }
        if constexpr (leads_y && !SUMS)
            f(y.m);
        if constexpr (of_y) {
            f(y.n);
            sum(y.r);
        }
        if constexpr (of_tb) {
            sum(t);
            sum(b);
        }
        if constexpr (is_kl) {
            if constexpr (!SUMS) {
                f(c);
                f(c_lo);
            }
            if constexpr (leads_y && !SUMS)
                f(held);
            sum(w);
            sum(u);
            sum(a);
        }
    }
    static constexpr int sum_of = paired ? 2 : 1;
    static constexpr int size = (of_x ? 2 + sum_of : 0) + (leads_y ? 1 : 0) + (of_y ? 1 + sum_of : 0) +
                                (of_tb ? 2 * sum_of : 0) + (is_kl ? 2 + (leads_y ? 1 : 0) + 3 * sum_of : 0);

    /* ---- references ---- */
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
                add_to(b, d * (plain * fma(y.n, exp_of<M>(y.m, reference_of<M>(y.m)), y.r.value())));
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
            const R sum = plain * y.r.value();
            if (known && sum != R(0))
                add_to(b, d * sum);
        }
    }

    /* ---- KL's sums ---- */
    XENT_HD bool blank() const {
        return w.hi == R(0) && a.hi == R(0);
    }
    static XENT_HD reference<M> reference_of_t(R m) {
        if constexpr (!leads_y)
            return {R(0), R(0), -fp<R>::low};
        reference<M> f = reference_of<M>(m);
        f.k -= lift;
        return f;
    }
    /* What w, u and a are multiplied by to be held against y.m. */
    XENT_HD R follow() const {
        return leads_y && held < y.m ? change<M>(reference_of<M>(held), reference_of<M>(y.m)) : R(1);
    }
    /* The sums around another c and against y.m. Both at once: what is left of a weight that underflows there may be a
     * large part of the other row. */
    XENT_HD void move_to(R to, R to_lo) {
        const W e = difference<paired>(c, to) + difference<paired>(c_lo, to_lo);
        const R by = e.value(), f = follow();
        if (!blank() && (by != R(0) || f != R(1))) {
            const R sw = w.value(), su = u.value(), sa = a.value();
            if (R(-1) <= by && by <= R(2)) { /* a difference, so that many small moves round no more than one */
                const R mx = phi(by), m1 = mx + by;
                add_to(a, fma(m1, sa, fma(m1, su, mx * sw)));
                scale(a, f);
            } else { /* A + U + W is sum exp(x - c) */
                W all = e;
                if (leads_y && held < y.m) {
                    const reference<M> old = reference_of<M>(held), now = reference_of<M>(y.m);
                    all = all + difference<paired>(old.c, now.c) + W(old.k - now.k) * W(fp<R>::ln2, fp<R>::ln2_rest);
                }
                R q = exp_any(all.hi, R(0));
                q = fma(q, all.lo, q) * ((sa + su) + sw);
                a = q - f * (sw != R(0) ? fma(by, sw, sw + su) : R(0));
            }
            if (sw != R(0))
                u = u + e * w;
            scale(u, f);
            scale(w, f);
            weighed *= f;
        }
        c = to;
        c_lo = to_lo;
        held = y.m;
    }

    /* Around c, the mean of x - log t under t, element by element to full relative accuracy: differences are taken
     * exactly (two-difference), and what they round is kept, for c may be far from the mean at first. With u = x - log
     * t - c, an element adds t (exp(u) - 1 - u): t phi(u) where -1 <= u <= 2, else q - t (1 + u) with q = t exp(u) =
     * exp(x - c), which is taken from x: nothing is rounded that exp would magnify, and log t is had to twice its
     * digits. Of a row's first tiles the lanes find c together; later each moves its own as what it has seen grows. */
    template <int T, int N, class G> XENT_HD void add_kl(G &g, tile<R, N> (&v)[T], int used, bool first, int *turn) {
        const R none = -fp<R>::infinity;
        const auto plus = [](R p, R q) { return p + q; };
        const auto most = [](R p, R q) { return larger(p, q); };
        const reference<M> f = reference_of_t(y.m);
        /* The most probable element, of which the others' differences are exact: all that counts in a confident row. */
        R best = leads_y ? none : R(0), beside = none, top_x = none;
        XENT_UNROLL
        for (int k = 0; k < T; k++)
            if (k < used) {
                XENT_UNROLL
                for (int i = 0; i < N; i++) {
                    const bool more = best < v[k].t[i];
                    best = more ? v[k].t[i] : best;
                    beside = more ? v[k].x[i] : beside;
                    top_x = larger(top_x, v[k].x[i]);
                }
            }
        if (first) {
            const R all = across_all(g, best, turn, most);
            beside = across_all(g, best == all ? beside : none, turn, most);
            top_x = across_all(g, top_x, turn, most);
            best = all;
        }
        const R weight = leads_y ? exp_of<M>(best, f) : best, sum = w.value() * follow();
        const bool some = weight >= fp<R>::faint;
        R to = c, to_lo = c_lo;
        if (some && !(weight < sum)) {
            R low = R(0);
            to = two_sum(beside, -(leads_y ? best : log(best, &low)), &to_lo);
            to_lo -= low;
            if (!finite(to))
                to = to_lo = R(0);
        } else if (!some && sum < fp<R>::faint) { /* next to no target yet: the largest exp(x - c) is about 1 */
            /* Only a class lifts c: where none follows, what a holds of those before stays as it is. */
            const R level = top_x - (leads_y && finite(y.m) ? y.m : R(0));
            const bool lifts = finite(level) && (c < level || blank());
            to = lifts ? level : c > none ? c : R(0);
            to_lo = lifts ? R(0) : c_lo;
        }
        move_to(to, to_lo);

        W sum_w, sum_d;
        XENT_UNROLL
        for (int k = 0; k < T; k++)
            if (k < used) {
                R each[N];
                XENT_UNROLL
                for (int i = 0; i < N; i++) {
                    R lt_lo = R(0);
                    const R lt = leads_y ? v[k].t[i] : log(v[k].t[i], &lt_lo);
                    v[k].w[i] = leads_y ? exp_of<M>(v[k].t[i], f) : v[k].t[i];
                    R lo, lost;
                    const R hi = two_sum(v[k].x[i], -lt, &lo);
                    v[k].p[i] = two_sum(hi, -c, &lost); /* NaN where t or q is 0 */
                    v[k].ex[i] = lost + ((lo - lt_lo) - c_lo);
                    if constexpr (!leads_y)
                        v[k].ey[i] = lt; /* wanted once more */
                    /* KL is infinite, also where t is too small for R: the direct sum says so */
                    const bool live = v[k].w[i] != R(0) || (leads_y && hi == none);
                    each[i] = live ? v[k].w[i] * (v[k].p[i] + v[k].ex[i]) : R(0);
                }
                add_tile<M>(sum_w, v[k].w);
                add_tile<M>(sum_d, each);
            }
        const R heavy = sum_w.value(), mean = sum_d.value();
        R move = R(0);
        if (first) {
            const R all = across_all(g, heavy, turn, plus), to_mean = ratio(across_all(g, mean, turn, plus), all);
            weighed = heavy;
            move = finite(to_mean) && all >= fp<R>::faint ? to_mean : R(0);
        } else {
            const R seen = heavy + w.value(), to_mean = ratio(mean + u.value(), seen);
            /* Not where one class far from the rest is all that moves it: exp(x - c) of the rest would leave its range. */
            if (seen > R(1.25) * weighed && seen >= fp<R>::faint && to_mean > R(-16) && finite(to_mean)) {
                move = to_mean;
                weighed = seen;
            }
        }
        if (move != R(0)) {
            R e;
            to = two_sum(c, move, &e);
            move_to(to, c_lo + e);
        }
        XENT_UNROLL
        for (int k = 0; k < T; k++)
            if (k < used) {
                R each[N], tu[N];
                XENT_UNROLL
                for (int i = 0; i < N; i++) {
                    const R t = v[k].w[i], e = (v[k].p[i] - move) + v[k].ex[i];
                    R lo;
                    /* against the reference first: beside a far one low may be all that tells x from another */
                    const R from = two_sum(v[k].x[i], -c, &lo), low = finite(from) ? lo - c_lo : R(0),
                            base = from - f.c, above = base + low;
                    const R rest = low - (above - base), near = exp_beyond_by(above, f);
                    const R q = finite(rest) ? fma(near, rest, near) : near;
                    tu[i] = t != R(0) ? t * e : R(0);
                    each[i] = R(-1) <= e && e <= R(2) ? t * phi(e) : (q - t) - tu[i];
                }
                add_tile<M>(u, tu);
                add_tile<M>(a, each);
            }
        /* D - W move would be what is added to u, too, but for what its products rounded: of the size of the move, and
         * KL may be next to nothing. Only what D says of infinite terms is kept. */
        u.hi += mean - mean;
        add_to(w, sum_w);
    }

    /* ---- a tile ---- */
    /* The first `used` of these tiles. */
    template <int T, int N, class G> XENT_HD void add(G &g, tile<R, N> (&v)[T], int used, bool first, int *turn) {
        if constexpr (leads_y) {
            R m = y.m;
            XENT_UNROLL
            for (int k = 0; k < T; k++)
                if (k < used)
                    m = larger(m, largest(v[k].t));
            raise_y(first && is_kl ? across_all(g, m, turn, [](R p, R q) { return larger(p, q); }) : m);
        }
        if constexpr (is_kl)
            add_kl(g, v, used, first, turn);
        XENT_UNROLL
        for (int k = 0; k < T; k++)
            if (k < used)
                add(v[k]);
    }
    template <int N> XENT_HD void add(tile<R, N> &v) {
        const R none = -fp<R>::infinity, zero = R(0);
        if constexpr (of_x)
            raise_x(largest(v.x));
        if constexpr (of_x)
            x.add(v.x, v.ex);
        if constexpr (of_y)
            y.add(v.t, v.ey);
        R each[N];
        if constexpr (K == REDUCE_SENT) {
            XENT_UNROLL
            for (int i = 0; i < N; i++)
                each[i] = v.ex[i] != zero ? v.ex[i] * (x.m - v.x[i]) : zero;
            add_tile<M>(b, each);
        }
        if constexpr (b_holds == MASS_T) {
            const R half = R(0.5) * (x.m > none ? x.m : zero);
            XENT_UNROLL
            for (int i = 0; i < N; i++) {
                R d = fma(R(-0.5), v.x[i], half);
                if constexpr (K != REDUCE_CE)
                    d = fma(R(0.5), is_kl ? v.ey[i] : log(v.t[i]), d);
                each[i] = v.t[i] != zero ? v.t[i] * d : zero;
            }
            add_tile<M>(b, each);
            add_tile<M>(t, v.t);
        }
        if constexpr (b_holds == MASS_Y) { /* sum E(y) ((y - m_y) - (x - m_x)) / 2 */
            const R mx = R(0.5) * (x.m > none ? x.m : zero), my = R(0.5) * (y.m > none ? y.m : zero);
            XENT_UNROLL
            for (int i = 0; i < N; i++) { /* a target of 0 adds nothing; one above 0 where q = 0 is infinite */
                const R e = plain * v.ey[i], d = half_gap(v.t[i], my) - half_gap(v.x[i], mx);
                const R sure = v.x[i] == none && v.t[i] != none ? fp<R>::infinity : zero;
                each[i] = e != zero ? fma(e, d, sure) : sure;
            }
            add_tile<M>(b, each);
        }
        if constexpr (K == REDUCE_BCE) {
            XENT_UNROLL
            for (int i = 0; i < N; i++)
                each[i] = bce_term(v.x[i], v.t[i], v.w[i], v.p[i]);
            add_tile<M>(b, each);
        }
        if constexpr (K == REDUCE_ENT) {
            XENT_UNROLL
            for (int i = 0; i < N; i++)
                each[i] = v.x[i] != zero ? v.x[i] * -log(v.x[i]) : zero;
            add_tile<M>(b, each);
        }
    }

    /* Jensen-Shannon's terms, of rows whose log sum exp is known. */
    template <int N> XENT_HD void add_js(const tile<R, N> &v, const js_row<M> &row) {
        R terms[N], gains[N];
        XENT_UNROLL
        for (int i = 0; i < N; i++) {
            R p, gain;
            terms[i] = js_term(v.x[i], v.t[i], row, &p, &gain);
            gains[i] = p * gain;
        }
        add_tile<M>(b, terms);
        add_tile<M>(t, gains);
    }

    /* ... and what the difference of the two log sum exp follows from. */
    template <int N> XENT_HD void add_js_gap(const tile<R, N> &v, const js_row<M> &row) {
        const R up = exp_any(R(0.5) * row.gap, R(0)), down = exp_any(R(-0.5) * row.gap, R(0));
        R each[N];
        XENT_UNROLL
        for (int i = 0; i < N; i++)
            each[i] = js_gap_term(v.x[i], v.t[i], row, up, down);
        add_tile<M>(b, each);
    }

    /* ---- lanes ---- */
    template <int N, class G> XENT_HD void join_lanes(G &g) {
        const auto most = [](R p, R q) { return larger(p, q); };
        if constexpr (of_x)
            raise_x(across<N>(g, x.m, most));
        if constexpr (leads_y)
            raise_y(across<N>(g, y.m, most));
        if constexpr (is_kl) {
            /* about a common c: the mean of the lanes' own, from that of the heaviest */
            const R weight = w.value() * follow();
            R heavy = weight, to = c, to_lo = c_lo;
            XENT_UNROLL
            for (int d = 1; d < N; d *= 2) {
                const R h = g.shfl_xor(heavy, d), o = g.shfl_xor(to, d), o_lo = g.shfl_xor(to_lo, d);
                const bool other = h > heavy || (h == heavy && (o > to || (o == to && o_lo > to_lo)));
                heavy = other ? h : heavy;
                to = other ? o : to;
                to_lo = other ? o_lo : to_lo;
            }
            const auto plus = [](R p, R q) { return p + q; };
            const R gap = weight != R(0) ? (c - to) + (c_lo - to_lo) : R(0);
            R mean = ratio(across<N>(g, weight * gap, plus), across<N>(g, weight, plus));
            mean = finite(mean) ? mean : R(0);
            R e;
            to = two_sum(to, mean, &e);
            move_to(to, to_lo + e);
        }
        XENT_UNROLL
        for (int d = 1; d < N; d *= 2) {
            state other = *this;
            other.template visit<true>([&](R &f) { f = g.shfl_xor(f, d); });
            x.n += other.x.n;
            y.n += other.y.n;
            add_to(x.r, other.x.r);
            add_to(y.r, other.y.r);
            add_to(t, other.t);
            add_to(b, other.b);
            add_to(w, other.w);
            add_to(u, other.u);
            add_to(a, other.a);
        }
    }

    struct packed {
        R v[size ? size : 1];
    };
    XENT_HD packed pack() {
        packed p = {};
        int i = 0;
        visit<false>([&](R &f) { p.v[i++] = f; });
        return p;
    }
    XENT_HD void unpack(const packed &p) {
        int i = 0;
        visit<false>([&](R &f) { f = p.v[i++]; });
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
