/* kl.h: Kullback-Leibler divergence of a target, in probabilities or in log space, from softmax(x).
 *
 * Its other half is kernels/math/kl.h, which says what the two ways to the value are: centred sums (KL) and the direct sum (PAIR).
 * There a tile's share is found about an anchor and merged into sums that a group's rows hold in double; here every lane has sums
 * of its own, in pairs of its own kind of number, which move with c. */
#ifndef XENT_CUDA_KL_H
#define XENT_CUDA_KL_H

#include "ce.h"
#include "lse.h"

namespace xent {

/* ---- the centred sums of a lane: w = sum t, u = sum t u, a = sum t (exp(u) - 1 - u) with u = x - log t - c ---- */
template <class S> XENT_HD bool kl_blank(const S &s) {
    using R = typename S::R;
    return s.kl.w.hi == R(0) && s.kl.a.hi == R(0);
}
/* What t is held against: 1 for probabilities. */
template <class S, class R> XENT_HD reference<typename S::M> kl_reference(R m) {
    if constexpr (!S::leads_y)
        return {R(0), R(0), -fp<R>::low};
    reference<typename S::M> f = reference_of<typename S::M>(m);
    f.k -= S::lift;
    return f;
}
/* What w, u and a are multiplied by to be held against y.m. */
template <class S> XENT_HD typename S::R kl_follow(const S &s) {
    using M = typename S::M;
    return S::leads_y && s.kl.against < s.y.m ? change<M>(reference_of<M>(s.kl.against), reference_of<M>(s.y.m)).hi
                                              : typename S::R(1);
}
/* The sums around another c and against y.m. Both at once: what is left of a weight that underflows there may be a
 * large part of the other row. */
template <class S, class R> XENT_HD void kl_move(S &s, R to, R to_lo) {
    using M = typename S::M;
    using W = typename S::W;
    auto &kl = s.kl;
    const W e = difference<S::paired>(kl.c, to) + difference<S::paired>(kl.c_lo, to_lo);
    const R by = e.value(), f = kl_follow(s);
    if (!kl_blank(s) && (by != R(0) || f != R(1))) {
        const R sw = kl.w.value(), su = kl.u.value(), sa = kl.a.value();
        if (R(-1) <= by && by <= R(2)) { /* a difference, so that many small moves round no more than one */
            const R mx = phi(by), m1 = mx + by;
            add_to(kl.a, fma(m1, sa, fma(m1, su, mx * sw)));
            scale(kl.a, f);
        } else { /* A + U + W is sum exp(x - c) */
            W all = e;
            if (S::leads_y && kl.against < s.y.m) {
                const reference<M> old = reference_of<M>(kl.against), now = reference_of<M>(s.y.m);
                all = all + difference<S::paired>(old.c, now.c) + W(old.k - now.k) * W(fp<R>::ln2, fp<R>::ln2_rest);
            }
            R q = exp_any(all.hi, R(0));
            q = fma(q, all.lo, q) * ((sa + su) + sw);
            kl.a = q - f * (sw != R(0) ? fma(by, sw, sw + su) : R(0));
        }
        if (sw != R(0))
            kl.u = kl.u + e * kl.w;
        scale(kl.u, f);
        scale(kl.w, f);
        kl.w_at_move *= f;
    }
    kl.c = to;
    kl.c_lo = to_lo;
    kl.against = s.y.m;
}

/* The tiles' share of the sums around c, the mean of x - log t under t, element by element to full relative accuracy: differences are taken
 * exactly (two-difference), and what they round is kept, for c may be far from the mean at first. With u = x - log
 * t - c, an element adds t (exp(u) - 1 - u): t phi(u) where -1 <= u <= 2, else q - t (1 + u) with q = t exp(u) =
 * exp(x - c), which is taken from x: nothing is rounded that exp would magnify, and log t is had to twice its
 * digits. Of a row's first tiles the lanes find c together; later each moves its own as what it has seen grows. */
template <class S, class G, class R, int N, int T>
XENT_HD void kl_fold(G &g, S &s, tile<R, N> (&v)[T], int used, bool first, int *turn) {
    using M = typename S::M;
    using W = typename S::W;
    auto &kl = s.kl;
    const R none = -fp<R>::infinity;
    const auto plus = [](R p, R q) { return p + q; };
    const auto most = [](R p, R q) { return larger(p, q); };
    const reference<M> f = kl_reference<S>(s.y.m);
    /* The most probable element, of which the others' differences are exact: all that counts in a confident row. */
    R best = S::leads_y ? none : R(0), beside = none, top_x = none;
    each_of(v, used, [&](auto &one) {
        XENT_UNROLL
        for (int i = 0; i < N; i++) {
            const bool more = best < one.t[i];
            best = more ? one.t[i] : best;
            beside = more ? one.x[i] : beside;
            top_x = larger(top_x, one.x[i]);
        }
    });
    if (first) {
        const R all = across_all(g, best, turn, most);
        beside = across_all(g, best == all ? beside : none, turn, most);
        top_x = across_all(g, top_x, turn, most);
        best = all;
    }
    const R weight = S::leads_y ? exp_of<M>(best, f) : best, sum = kl.w.value() * kl_follow(s);
    const bool some = weight >= fp<R>::faint;
    R to = kl.c, to_lo = kl.c_lo;
    if (some && !(weight < sum)) {
        R low = R(0);
        to = two_sum(beside, -(S::leads_y ? best : log(best, &low)), &to_lo);
        to_lo -= low;
        if (!finite(to))
            to = to_lo = R(0);
    } else if (!some && sum < fp<R>::faint) { /* next to no target yet: the largest exp(x - c) is about 1 */
        /* Only a class lifts c: where none follows, what a holds of those before stays as it is. */
        const R level = top_x - (S::leads_y && finite(s.y.m) ? s.y.m : R(0));
        const bool lifts = finite(level) && (kl.c < level || kl_blank(s));
        to = lifts ? level : kl.c > none ? kl.c : R(0);
        to_lo = lifts ? R(0) : kl.c_lo;
    }
    kl_move(s, to, to_lo);

    W sum_w, sum_d;
    each_of(v, used, [&](auto &one) {
        R each[N];
        XENT_UNROLL
        for (int i = 0; i < N; i++) {
            R lt_lo = R(0);
            const R lt = S::leads_y ? one.t[i] : log(one.t[i], &lt_lo);
            one.w[i] = S::leads_y ? exp_of<M>(one.t[i], f) : one.t[i];
            R lo, lost;
            const R hi = two_sum(one.x[i], -lt, &lo);
            one.p[i] = two_sum(hi, -kl.c, &lost); /* NaN where t or q is 0 */
            one.ex[i] = lost + ((lo - lt_lo) - kl.c_lo);
            if constexpr (!S::leads_y)
                one.ey[i] = lt; /* wanted once more */
            /* KL is infinite, also where t is too small for R: the direct sum says so */
            const bool live = one.w[i] != R(0) || (S::leads_y && hi == none);
            each[i] = live ? one.w[i] * (one.p[i] + one.ex[i]) : R(0);
        }
        add_tile<M>(sum_w, one.w);
        add_tile<M>(sum_d, each);
    });
    const R heavy = sum_w.value(), mean = sum_d.value();
    R move = R(0);
    if (first) {
        const R all = across_all(g, heavy, turn, plus), to_mean = ratio(across_all(g, mean, turn, plus), all);
        kl.w_at_move = heavy;
        move = finite(to_mean) && all >= fp<R>::faint ? to_mean : R(0);
    } else {
        const R seen = heavy + kl.w.value(), to_mean = ratio(mean + kl.u.value(), seen);
        /* Not where one class far from the rest is all that moves it: exp(x - c) of the rest would leave its range. */
        if (seen > R(1.25) * kl.w_at_move && seen >= fp<R>::faint && to_mean > R(-16) && finite(to_mean)) {
            move = to_mean;
            kl.w_at_move = seen;
        }
    }
    if (move != R(0)) {
        R e;
        to = two_sum(kl.c, move, &e);
        kl_move(s, to, kl.c_lo + e);
    }
    each_of(v, used, [&](auto &one) {
        R each[N], tu[N];
        XENT_UNROLL
        for (int i = 0; i < N; i++) {
            const R t = one.w[i], e = (one.p[i] - move) + one.ex[i];
            R lo;
            /* against the reference first: beside a far one low may be all that tells x from another */
            const R from = two_sum(one.x[i], -kl.c, &lo), low = finite(from) ? lo - kl.c_lo : R(0), base = from - f.c,
                    above = base + low;
            const R rest = low - (above - base), near = exp_beyond_by(above, f);
            const R q = finite(rest) ? fma(near, rest, near) : near;
            tu[i] = t != R(0) ? t * e : R(0);
            each[i] = R(-1) <= e && e <= R(2) ? t * phi(e) : (q - t) - tu[i];
        }
        add_tile<M>(kl.u, tu);
        add_tile<M>(kl.a, each);
    });
    /* D - W move would be what is added to u, too, but for what its products rounded: of the size of the move, and
     * KL may be next to nothing. Only what D says of infinite terms is kept. */
    kl.u.hi += mean - mean;
    add_to(kl.w, sum_w);
}

/* About a common c: the mean of the lanes' own, from that of the heaviest. */
template <int N, class G, class S> XENT_HD void kl_meet(G &g, S &s) {
    using R = typename S::R;
    const R weight = s.kl.w.value() * kl_follow(s);
    R heavy = weight, to = s.kl.c, to_lo = s.kl.c_lo;
    XENT_UNROLL
    for (int d = 1; d < N; d *= 2) {
        const R h = g.shfl_xor(heavy, d), o = g.shfl_xor(to, d), o_lo = g.shfl_xor(to_lo, d);
        const bool other = h > heavy || (h == heavy && (o > to || (o == to && o_lo > to_lo)));
        heavy = other ? h : heavy;
        to = other ? o : to;
        to_lo = other ? o_lo : to_lo;
    }
    const auto plus = [](R p, R q) { return p + q; };
    const R gap = weight != R(0) ? (s.kl.c - to) + (s.kl.c_lo - to_lo) : R(0);
    R mean = ratio(across<N>(g, weight * gap, plus), across<N>(g, weight, plus));
    mean = finite(mean) ? mean : R(0);
    R e;
    to = two_sum(to, mean, &e);
    kl_move(s, to, to_lo + e);
}

/* ---- the direct sum ---- */
template <class S, class R, int N> XENT_HD R term_PAIR(const S &s, const tile<R, N> &v, int i) {
    return term_of_probs<true>(s, v, i);
}
template <class S, class R, int N> XENT_HD R term_KL_PAIR(const S &s, const tile<R, N> &v, int i) {
    return term_of_probs<true>(s, v, i);
}
/* A target in log space: E(y) ((y - m_y) - (x - m_x)) / 2. A target of 0 adds nothing; one above 0 where q = 0 is infinite. */
template <class S, class R, int N> XENT_HD R term_PAIR_LOGS(const S &s, const tile<R, N> &v, int i) {
    const R none = -fp<R>::infinity, zero = R(0);
    const R mx = R(0.5) * (s.x.m > none ? s.x.m : zero), my = R(0.5) * (s.y.m > none ? s.y.m : zero);
    const R e = S::y_unit * v.ey[i], d = S::half_gap(v.t[i], my) - S::half_gap(v.x[i], mx);
    const R sure = v.x[i] == none && v.t[i] != none ? fp<R>::infinity : zero;
    return e != zero ? fma(e, d, sure) : sure;
}
template <class S, class R, int N> XENT_HD R term_KL_PAIR_LOGS(const S &s, const tile<R, N> &v, int i) {
    return term_PAIR_LOGS(s, v, i);
}

/* ---- the value ---- */
/* log1p(z) - z for |z| < 0.4: log1p(z) = 2 atanh(s), z - 2 s = z s. */
XENT_POLYNOMIAL(log1p_less_poly, XENT_LOG1PMX)
template <class R> XENT_HD R log1p_less(R z) {
    const R s = ratio(z, z + R(2)), q = s * s;
    return s * (log1p_less_poly(q) * q - z);
}

/* Not finite: the direct sum decides. exp(u) left the range somewhere, or c came out so large that its own rounding
 * took it away from the mean, or the row holds NaN or a true infinity. */
template <class S> XENT_HD typename S::W kl_of(const S &s) {
    using R = typename S::R;
    using W = typename S::W;
    const W w = settled(s.kl.w), u = settled(s.kl.u), a = settled(s.kl.a);
    if (w.hi == R(0))
        return a.hi != a.hi ? a : W(R(0));
    const W z = (a + u) / w, part = a / w;
    const R zv = z.value();
    if (!(abs(u.value()) <= R(0.5) * w.value() && R(-1) < zv && zv < fp<R>::infinity))
        return fp<R>::nan;
    W v;
    if (abs(zv) < R(0.4)) {
        v = part + log1p_less(zv);
    } else {
        const W log1 = log1p(z);
        v = zv < R(0) ? part + (log1 - z) : log1 - u / w;
    }
    return v.hi < R(0) ? W(R(0)) : v; /* only the rounding of equal rows falls below zero */
}

template <class E> XENT_HD typename E::W value_KL(E &e) {
    using OP = typename E::OP;
    using S = typename E::S;
    using R = typename E::R;
    using W = typename E::W;
    const R my = e.s.y.m, none = -fp<R>::infinity;
    /* Whether a target is meant to sum to 1: what its own dtype may have rounded away. Else W log W belongs to the value. */
    bool unit = true;
    W tlogt = R(0), v = R(0);
    if constexpr (OP::target != XENT_TARGET_LOGITS) {
        unit = abs((e.total - R(1)).value()) <= R(e.j.tau);
        tlogt = e.total.value() != R(0) ? e.total * log(e.total.value()) : W(R(0));
    }
    bool direct = !S::is_kl;
    if constexpr (S::is_kl) {
        v = kl_of(e.s) * e.total + (unit ? W(R(0)) : tlogt);
        if (OP::target == XENT_TARGET_LOGITS && e.j.classes > 0 && (my == fp<R>::infinity || my == none))
            v = fp<R>::nan;
        direct = !finite(v.value());
    }
    /* Out of range, NaN, or truly infinite: the direct sum says which. */
    if constexpr (S::of_x) {
        if (direct && OP::log_target)
            v = e.total * ((e.b * e.y.inv * (R(2) / S::y_unit) - e.y.log1) + e.x.log1) + (unit ? W(R(0)) : tlogt);
        if (direct && OP::target == XENT_TARGET_LOG_PROBS && my == none) /* no target: 0, but for NaN in x */
            v = R(0) * e.s.x.r.hi;
        if (direct && !OP::log_target)
            v = (e.total * e.x.log1 + e.b * R(2)) - (unit ? tlogt : W(R(0)));
    } else {
        e.again = direct;
    }
    return v;
}

/* ---- terms ---- */
template <class E> XENT_HD void factors_KL_TERM(const E &e, result<typename E::M> &r) {
    factors_CE_TERM(e, r);
}
template <class W> XENT_HD typename W::R emit_KL_TERM(const W &w, int i) {
    using M = typename W::M;
    using R = typename W::R;
    const R x = w.v.x[i], t = w.v.t[i], zero = R(0), none = -fp<R>::infinity;
    const auto &r = w.r;
    if constexpr (W::OP::log_target) {
        const R d = ((t - r.y_hi) - r.y_lo) - ((x - r.x_hi) - r.x_lo), p = exp_of<M>(t, reference_of<M>(r.my)) * r.py;
        R term = p != zero ? p * d : zero; /* d may be infinite where p is 0 */
        if (x == none)                     /* NaN where either row is */
            term = r.g != zero ? (p + r.x_lo) * zero + r.g * fp<R>::infinity : zero;
        return (t != none ? term : zero) + r.poison;
    } else {
        const R weight = t * r.g, term = weight * (log(t) + ((r.x_hi - x) + r.x_lo));
        return (weight != zero ? term : zero) + r.poison;
    }
}

/* ---- the gradient with respect to the target's logits y, t ((y - x) - mean), the mean of y - x under t ---- */
template <class E> XENT_HD void factors_TARGET_GRAD(const E &e, result<typename E::M> &r) {
    using R = typename E::R;
    const auto move = settled(e.s.kl.u) / settled(e.s.kl.w);
    const R v = r.value.value();
    R low;
    R c = two_sum(e.s.kl.c, move.hi, &low);
    const R c_lo = low + (e.s.kl.c_lo + move.lo);
    /* Where the centred sums left their range it follows from the divergence. Infinite with it; and without a number where logits
     * are so large that no difference is one. */
    c = finite(c) ? c : (e.x.lse - e.y.lse).value() - v;
    r.x_hi = v == fp<R>::infinity ? -fp<R>::infinity : finite(c) ? c : fp<R>::nan;
    r.x_lo = finite(c_lo) ? c_lo : R(0);
    r.py = e.y.inv.value();
    r.poison = v != v ? fp<R>::nan : R(0);
}
template <class W> XENT_HD typename W::R emit_TARGET_GRAD(const W &w, int i) {
    using M = typename W::M;
    using R = typename W::R;
    R lost;
    const R d = two_sum(w.v.t[i], -w.v.x[i], &lost), t = exp_of<M>(w.v.t[i], reference_of<M>(w.r.my)) * w.r.py;
    R u = (d + w.r.x_hi) + ((finite(lost) ? lost : R(0)) + w.r.x_lo);
    /* Of infinite ones those that make the divergence so rise, if there are others to fall; what has no difference has none. */
    if (u != u)
        u = w.r.x_hi == -fp<R>::infinity && t < R(1) - (sizeof(R) == 4 ? R(0x1p-20) : R(0x1p-49)) ? fp<R>::infinity
                                                                                                  : R(0);
    const R weight = t * w.r.g;
    return (weight != R(0) ? weight * u : R(0)) + w.r.poison;
}

} // namespace xent

#endif
