/* state.h: what a row is folded into: kernels/rowstate.h's states, one a lane. A lane folds tiles of its row's classes
 * into its own state, against its own references; then the lanes of the row join: all end with the row's state, from the
 * same tree of additions whatever the batch is.
 *
 * Classes past the end hold x = -inf and t = 0 (log t = -inf): they add nothing, as an excluded class does.
 */
#ifndef XENT_CUDA_STATE_H
#define XENT_CUDA_STATE_H

#include "../kernels/rowstate.h"
#include "group.h"
#include "terms.h"

namespace xent {

/* ops.def's REDUCE; see kernels/internal.h. */
enum reduce_kind {
    REDUCE_NONE,
    REDUCE_LSE,
    REDUCE_ENT,
    REDUCE_SENT,
    REDUCE_CE,
    REDUCE_LABEL,
    REDUCE_BCE,
    REDUCE_JS,
    REDUCE_KL,
    REDUCE_PAIR,
    REDUCE_KLPAIR
};

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

/* A tile's terms: fours are added as a tree (exact where they are equal), then with the error kept; Quick, in one tree. */
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

/* exp(e), exp(e) - 1 and exp(e) - 1 - e, each to full relative accuracy. */
template <class R> XENT_HD R exp_less(R e, R *m1, R *mx) {
    const R all = exp_any(e, R(0)), far = all - R(1);
    const bool near = R(-1) <= e && e <= R(2);
    *mx = near ? phi(e) : far - e;
    *m1 = near ? *mx + e : far;
    return all;
}

template <reduce_kind K, bool LOG, class M> struct state {
    using R = typename M::real;
    using W = wide<R, !M::quick>;
    static constexpr bool paired = !M::quick;
    static constexpr bool of_x =
        K == REDUCE_LSE || K == REDUCE_SENT || K == REDUCE_CE || K == REDUCE_PAIR || K == REDUCE_KLPAIR;
    static constexpr bool is_kl = K == REDUCE_KL || K == REDUCE_KLPAIR, is_pair = K == REDUCE_PAIR || K == REDUCE_KLPAIR;
    static constexpr bool of_y = LOG && is_pair;      /* log sum exp of the target */
    static constexpr bool leads_y = LOG && (is_kl || is_pair); /* ... or its maximum alone */
    static constexpr bool of_tb = K != REDUCE_LSE && K != REDUCE_KL && K != REDUCE_NONE && K != REDUCE_LABEL;
    /* KL holds target logits 2^32 larger, so that t u is normal wherever the result is; Quick E are large anyway. */
    static constexpr R lift = M::quick ? R(0) : R(XENT_KL_LIFT);

    top<M> x, y;
    W t, b;
    R c = -fp<R>::infinity, c_lo = R(0); /* of no class at all: below any other */
    W w, u, a;
    R weighed = R(0); /* w when c was last moved to the mean */

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
            sum(w);
            sum(u);
            sum(a);
        }
    }
    static constexpr int sum_of = paired ? 2 : 1;
    static constexpr int size = (of_x ? 2 + sum_of : 0) + (leads_y ? 1 : 0) + (of_y ? 1 + sum_of : 0) +
                                (of_tb ? 2 * sum_of : 0) + (is_kl ? 2 + 3 * sum_of : 0);

    /* ---- references ---- */
    XENT_HD void raise_x(R m) {
        if (!(x.m < m))
            return;
        const bool known = x.m > -fp<R>::infinity;
        const R d = known ? m - x.m : R(0), f = x.raise(m);
        if constexpr (K == REDUCE_SENT) {
            scale(b, f);
            if (known)
                add_to(b, d * x.r.value());
        } else if constexpr (K == REDUCE_CE || (is_pair && !LOG)) {
            const R sum = t.value();
            if (known && sum != R(0))
                add_to(b, d * sum);
        } else if constexpr (is_pair) {
            if (known && y.m > -fp<R>::infinity)
                add_to(b, d * fma(y.n, exp_of<M>(y.m, reference_of<M>(y.m)), y.r.value()));
        }
    }
    XENT_HD void raise_y(R m) {
        if (!(y.m < m))
            return;
        const bool known = y.m > -fp<R>::infinity;
        const reference<M> old = reference_of<M>(y.m), now = reference_of<M>(m);
        const R d = known ? y.m - m : R(0), f = y.raise(m);
        if constexpr (is_pair) {
            scale(b, f);
            if (known)
                add_to(b, d * y.r.value());
        }
        if constexpr (is_kl) {
            if (w.hi == R(0)) { /* no target yet, only exp(x - c): c moves instead, so that it cannot underflow */
                c += (old.c - now.c) + (old.k - now.k) * (fp<R>::ln2_hi + fp<R>::ln2_lo);
            } else {
                scale(w, f);
                scale(u, f);
                scale(a, f);
                weighed *= f;
            }
        }
    }

    /* ---- KL's sums ---- */
    XENT_HD bool blank() const {
        return w.hi == R(0) && a.hi == R(0);
    }
    /* The sums against c - e instead of c. A small e is added as a difference, a large one is a factor, which must not
     * cancel. */
    XENT_HD void shift(R e) {
        if (e == R(0) || blank())
            return;
        const R sum = w.value();
        R m1, mx;
        const R all = exp_less(e, &m1, &mx), more = sum != R(0) ? fma(m1, u.value(), mx * sum) : R(0);
        if (abs(e) < R(0.5))
            add_to(a, m1 * a.value());
        else
            scale(a, all);
        add_to(a, more);
        if (sum != R(0))
            add_to(u, e * sum);
    }
    XENT_HD void move_to(R to, R to_lo) {
        shift((c - to) + (c_lo - to_lo));
        c = to;
        c_lo = to_lo;
    }

    /* Around c, which is moved to the mean of u = x - log t - c under t as that becomes known, element by element to full
     * relative accuracy: differences are taken exactly (two-difference). With u, an element adds t (exp(u) - 1 - u): t
     * phi(u) where -1 <= u <= 2, else q - t (1 + u) with q = t exp(u) = exp(x - c), which is taken from x. */
    template <int N> XENT_HD void add_kl(const tile<R, N> &v) {
        const R none = -fp<R>::infinity;
        reference<M> fy = reference_of<M>(y.m);
        if constexpr (!LOG)
            fy = {R(0), R(0), -fp<R>::low};
        else
            fy.k -= lift;
        R t[N], d[N], anchor = R(0), anchor_x = none, anchor_lt = none, most = none;
XENT_UNROLL
        for (int i = 0; i < N; i++) {
            const R lt = LOG ? v.t[i] : log(v.t[i]);
            t[i] = LOG ? exp_of<M>(v.t[i], fy) : v.t[i];
            d[i] = lt;
            most = larger(most, v.x[i]);
            if (anchor < t[i]) {
                anchor = t[i];
                anchor_x = v.x[i];
                anchor_lt = lt;
            }
        }
        /* A tile that outweighs all before it is measured from its own most probable element: that is all that counts in
         * a confident row. */
        if (!(anchor < w.hi) || w.hi == R(0)) {
            R to_lo = R(0), to;
            if (anchor > R(0)) {
                to = two_sum(anchor_x, -anchor_lt, &to_lo);
                if (!finite(to))
                    to = to_lo = R(0);
            } else { /* no target: the largest exp(x - c) is about 1 */
                to = finite(most) ? most - (LOG && finite(y.m) ? y.m : R(0)) : R(0);
                if (!blank() && c > to)
                    to = c;
            }
            if (anchor > R(0) || w.hi == R(0))
                move_to(to, to_lo);
        }
        R tw[N];
        W sum_w, sum_d;
XENT_UNROLL
        for (int i = 0; i < N; i++) {
            R lo;
            const R hi = two_sum(v.x[i], -d[i], &lo);
            d[i] = (hi - c) + (lo - c_lo); /* NaN where t or q is 0 */
            tw[i] = t[i] != R(0) ? t[i] * d[i] : R(0);
        }
        add_tile<M>(sum_w, t);
        add_tile<M>(sum_d, tw);
        const R heavy = sum_w.value() + w.value(), mean = (sum_d.value() + u.value()) / heavy;
        R move = R(0);
        if (heavy > R(1.25) * weighed && finite(mean)) {
            move = mean;
            weighed = heavy;
            shift(-move);
            R e;
            c = two_sum(c, move, &e);
            c_lo += e;
        }
XENT_UNROLL
        for (int i = 0; i < N; i++) {
            const R e = d[i] - move, te = t[i] != R(0) ? t[i] * e : R(0);
            R lo;
            const R from = two_sum(v.x[i], -c, &lo);
            R q = exp_beyond(from, fy);
            lo -= c_lo;
            if (abs(lo) < R(1))
                q = fma(q, lo, q);
            tw[i] = R(-1) <= e && e <= R(2) ? t[i] * phi(e) : (q - t[i]) - te;
        }
        add_tile<M>(a, tw);
        add_to(u, sum_d);
        add_to(u, -(sum_w.value() * move));
        add_to(w, sum_w);
    }
    /* ---- a tile ---- */
    template <int N> XENT_HD void add(tile<R, N> &v) {
        const R none = -fp<R>::infinity, zero = R(0);
        if constexpr (of_x)
            raise_x(largest(v.x));
        if constexpr (leads_y)
            raise_y(largest(v.t));
        if constexpr (is_kl)
            add_kl(v);
        if constexpr (of_x)
            x.add(v.x, v.ex);
        if constexpr (of_y)
            y.add(v.t, v.ey);
        R each[N];
        if constexpr (K == REDUCE_SENT) {
XENT_UNROLL
            for (int i = 0; i < N; i++)
                each[i] = v.x[i] != none ? v.ex[i] * (x.m - v.x[i]) : zero;
            add_tile<M>(b, each);
        }
        if constexpr (K == REDUCE_CE || (is_pair && !LOG)) {
            const R m = x.m > none ? x.m : zero;
XENT_UNROLL
            for (int i = 0; i < N; i++) {
                R d = m - v.x[i];
                if constexpr (is_pair)
                    d = log(v.t[i]) + d;
                each[i] = v.t[i] != zero ? v.t[i] * d : zero;
            }
            add_tile<M>(b, each);
            add_tile<M>(t, v.t);
        }
        if constexpr (of_y) { /* sum E(y) ((y - m_y) - (x - m_x)) */
            const R mx = x.m > none ? x.m : zero, my = y.m > none ? y.m : zero;
XENT_UNROLL
            for (int i = 0; i < N; i++) { /* a target of 0 adds nothing; one above 0 where q = 0 is infinite */
                const R d = v.x[i] == none ? fp<R>::infinity : v.ey[i] * ((v.t[i] - my) - (v.x[i] - mx));
                each[i] = v.t[i] != none ? d : zero;
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

    /* ---- lanes ---- */
    template <int N, class G> XENT_HD void join_lanes(G &g) {
        const auto most = [](R p, R q) { return larger(p, q); };
        if constexpr (of_x)
            raise_x(across<N>(g, x.m, most));
        if constexpr (leads_y)
            raise_y(across<N>(g, y.m, most));
        if constexpr (is_kl) {
            /* about a common c: that of the heaviest lane, moved to the mean */
            R heavy = w.value(), to = c, to_lo = c_lo;
XENT_UNROLL
            for (int d = 1; d < N; d *= 2) {
                const R h = g.shfl_xor(heavy, d), o = g.shfl_xor(to, d), o_lo = g.shfl_xor(to_lo, d);
                const bool other = h > heavy || (h == heavy && (o > to || (o == to && o_lo > to_lo)));
                heavy = other ? h : heavy;
                to = other ? o : to;
                to_lo = other ? o_lo : to_lo;
            }
            const bool empty = blank();
            const R gap = empty ? R(0) : (c - to) + (c_lo - to_lo), sum = w.value();
            const auto plus = [](R p, R q) { return p + q; };
            const R all = across<N>(g, sum, plus);
            R mean = across<N>(g, sum != R(0) ? fma(sum, gap, u.value()) : R(0), plus) / all;
            mean = finite(mean) ? mean : R(0);
            shift(gap - mean);
            R e;
            c = two_sum(to, mean, &e);
            c_lo = to_lo + e;
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
        }
    }
};

} // namespace xent

#endif
