/* ops.h: the operations of kernels/ops.def: from a row's state to its value and to the factors of its emit
 * (kernels/rows.h), and what an emit writes for a class (kernels/emit.h). */
#ifndef XENT_CUDA_OPS_H
#define XENT_CUDA_OPS_H

#include "job.h"
#include "state.h"

namespace xent {

constexpr op_entry ops[] = {
#define OP(name, R, T, V, E) {#name, REDUCE_##R, XENT_TARGET_##T, VALUE_##V, EMIT_##E},
#include "../kernels/ops.def"
#undef OP
};
template <int I> struct op_of {
    static constexpr int index = I;
    static constexpr reduce_kind reduce = ops[I].reduce;
    static constexpr xent_target target = ops[I].target;
    static constexpr value_kind value = ops[I].value;
    static constexpr emit_kind emit = ops[I].emit;
    static constexpr bool log_target = xent_is_log(target);
    static constexpr bool is_js = reduce == REDUCE_JS;
    static constexpr bool emits = emit != EMIT_NONE, labels = target == XENT_TARGET_LABELS;
    static constexpr bool point = target == XENT_TARGET_POINT;
    /* Which operands the reduction and the emit read, class by class. */
    static constexpr bool folds = xent_folds(reduce);
    static constexpr bool reads_x = folds || point;
    static constexpr bool reads_t = target == XENT_TARGET_PROBS || log_target || point;
    static constexpr bool weighs = reduce == REDUCE_BCE; /* class by class */
    /* Target probabilities on which class weights, smoothing and one-hot labels act. */
    static constexpr bool shapes = target == XENT_TARGET_PROBS && !weighs;
    /* What lies outside adds nothing: */
    static constexpr bool zero_x = reduce == REDUCE_ENT || point;
    /* What is emitted is a gradient. */
    static constexpr bool gradient = xent_emit_of(emit).is_gradient;
    /* The emit is E times a factor. */
    static constexpr bool of_exp = xent_emit_of(emit).of_exp;
};

template <class OP, class M> using state_of = state<OP::reduce, M>;

/* What the options make of one row. */
template <class M> struct row_facts {
    using R = typename M::real;
    int64_t label = -1;               /* -1: none, ignored, or its class is masked */
    bool dead = false;                /* does not count: value and outputs are 0 */
    bool bad = false;                 /* its label or temperature is none: value and outputs are NaN */
    R x_label = R(0), uniform = R(0); /* the logit at the label; label smoothing's share of each class */
    double weight = 1.0, temperature = 1.0;
};

/* What follows from a row's state. Of Jensen-Shannon, x_hi and y_hi are the maxima, x_lo and y_lo the difference of log
 * sum exp(x - x_hi) and log sum exp(y - y_hi), in two parts. */
template <class M> struct result {
    using R = typename M::real;
    wide<R, !M::quick> value; /* without the row's weight */
    R mx, my;                 /* what E's references are made of */
    R x_hi, x_lo, y_hi, y_lo; /* log sum exp of x and of y, in two parts */
    R px, px_lo, py, g;       /* factors of E(x) (two parts), E(y), t */
    R poison, patch, gain; /* NaN where all terms are NaN; what belongs at the label; Jensen-Shannon's sum p log(p/m) */
    R uniform;             /* label smoothing's share of each class */
    R after;               /* outputs are 2^after as large, which R may not hold */
    R again;               /* Jensen-Shannon: not 0 where the terms are to be added up, or once more */
    static constexpr int size = 18;
    struct packed {
        R v[size];
    };
    XENT_HD packed pack() const {
        return {{value.hi, value.lo, mx, my, x_hi, x_lo, y_hi, y_lo, px, px_lo, py, g, poison, patch, gain, uniform,
                 after, again}};
    }
    static XENT_HD result unpack(const packed &p) {
        return {{p.v[0], p.v[1]}, p.v[2],  p.v[3],  p.v[4],  p.v[5],  p.v[6],  p.v[7],  p.v[8], p.v[9],
                p.v[10],          p.v[11], p.v[12], p.v[13], p.v[14], p.v[15], p.v[16], p.v[17]};
    }
};

/* ---- log sum exp, 1 / sum, and what else follows from x's or y's sums ---- */
template <class M> struct lse_facts {
    using R = typename M::real;
    using W = wide<R, !M::quick>;
    W lse;  /* log sum exp x                                     */
    W log1; /* lse - m, accurate also where it is tiny           */
    W inv;  /* E(x) inv = softmax(x)                             */
    W sum;  /* of E(x)                                           */
    R rest; /* its share that is not the maximum: 1 - max p      */
};

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

/* ---- KL ---- */
/* log1p(z) - z for |z| < 0.4: log1p(z) = 2 atanh(s), z - 2 s = z s. */
template <class R> XENT_HD R log1p_less(R z) {
    const R s = ratio(z, z + R(2)), q = s * s;
    R p;
    if constexpr (sizeof(R) == 4)
        p = poly(q, R(2.0 / 11), R(2.0 / 9), R(2.0 / 7), R(2.0 / 5), R(2.0 / 3));
    else
        p = poly(q, R(2.0 / 23), R(2.0 / 21), R(2.0 / 19), R(2.0 / 17), R(2.0 / 15), R(2.0 / 13), R(2.0 / 11),
                 R(2.0 / 9), R(2.0 / 7), R(2.0 / 5), R(2.0 / 3));
    return s * (p * q - z);
}

/* Not finite: the direct sum decides. exp(u) left the range somewhere, or c came out so large that its own rounding
 * took it away from the mean, or the row holds NaN or a true infinity. */
template <class S> XENT_HD typename S::W kl_of(const S &s) {
    using R = typename S::R;
    using W = typename S::W;
    const W w = settled(s.w), u = settled(s.u), a = settled(s.a);
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

/* ---- from a row's state to its result ---- */
/* K: how the row was folded, for KL may leave its range (*again), and is then folded once more. */
template <class OP, class M, reduce_kind K>
XENT_HD result<M> finish(const job &j, const row_facts<M> &row, const state<K, M> &s, bool *again) {
    using R = typename M::real;
    using W = wide<R, !M::quick>;
    using S = state<K, M>;
    constexpr bool log_target = OP::log_target, needs_y = S::of_y;
    const R inf = fp<R>::infinity, nan = fp<R>::nan, none = -inf;
    result<M> r = {};
    lse_facts<M> x = {}, y = {};
    if constexpr (S::of_x)
        x = lse_of(s.x);
    if constexpr (needs_y)
        y = lse_of(s.y);
    const R mx = s.x.m, my = s.y.m;
    const W bsum = settled(s.b), tsum = settled(s.t);
    r.mx = mx;
    r.my = my;
    r.uniform = row.uniform;

    /* the sum of the target, and what E(y) is multiplied by to give it where the target is in log space */
    W total = R(1);
    R py = R(0);
    if constexpr (OP::target == XENT_TARGET_LOGITS) {
        py = y.inv.value();
    } else if constexpr (log_target) {
        const reference<M> f = reference_of<M>(my);
        py = exp_any(f.c, -f.k);
        if constexpr (needs_y)
            total = py * y.sum;
        else
            total = exp_any(f.c, S::lift - f.k) * settled(s.w);
        total = my != none ? total : W(R(0));
    } else if constexpr (OP::target == XENT_TARGET_PROBS) {
        total = S::is_kl ? settled(s.w) : tsum;
    }
    bool unit = true;
    W tlogt = R(0);
    if constexpr (OP::value == VALUE_KL && OP::target != XENT_TARGET_LOGITS) {
        /* whether a target is meant to sum to 1: what its own dtype may have rounded away */
        unit = abs((total - R(1)).value()) <= R(j.tau);
        tlogt = total.value() != R(0) ? total * log(total.value()) : W(R(0));
    }

    W v = R(0);
    if constexpr (OP::value == VALUE_LSE)
        v = x.lse;
    if constexpr (OP::value == VALUE_ENT || OP::value == VALUE_BCE)
        v = bsum;
    if constexpr (OP::value == VALUE_SENT)
        v = j.classes == 0 ? W(R(0)) : mx == inf ? W(nan) : x.log1 + bsum * x.inv;
    if constexpr (OP::value == VALUE_LABEL)
        v = row.label >= 0 ? x.log1 + difference<!M::quick>(mx, row.x_label) : W(R(0));
    if constexpr (OP::value == VALUE_NLL)
        v = row.label >= 0 ? -row.x_label : R(0);
    if constexpr (OP::value == VALUE_CE) {
        const bool no_t = tsum.value() == R(0);
        v = (no_t && x.log1.hi == x.log1.hi ? W(R(0)) : tsum * x.log1) + bsum * R(2);
        if (mx == none) /* no class has any weight: 0 only if the target has none either */
            v = no_t && bsum.value() == R(0) ? R(0) * s.x.r.hi : nan;
    }
    if constexpr (OP::value == VALUE_KL) {
        bool direct = !S::is_kl;
        if constexpr (S::is_kl) {
            v = kl_of(s) * total + (unit ? W(R(0)) : tlogt);
            if (OP::target == XENT_TARGET_LOGITS && j.classes > 0 && (my == inf || my == none))
                v = nan;
            direct = !finite(v.value());
        }
        /* Out of range, NaN, or truly infinite: the direct sum says which. */
        if constexpr (S::of_tb) {
            if (direct && log_target)
                v = total * ((bsum * y.inv * (R(2) / S::plain) - y.log1) + x.log1) + (unit ? W(R(0)) : tlogt);
            if (direct && OP::target == XENT_TARGET_LOG_PROBS && my == none) /* no target: 0, but for NaN in x */
                v = R(0) * s.x.r.hi;
            if (direct && !log_target)
                v = (total * x.log1 + bsum * R(2)) - (unit ? tlogt : W(R(0)));
        } else {
            *again = direct;
        }
    }
    r.value = v;
    if constexpr (!OP::emits && !OP::is_js)
        return r;

    /* ---- the factors of the emit ---- */
    double factor = row.weight;
    if constexpr (OP::gradient) {
        const double divisor = j.total_weight ? get_sum<R>(j.total_weight, 0).value() : j.divisor;
        factor = divisor != 0.0 ? ratio(factor, divisor) * j.grad_scale : fp<double>::nan;
        if (j.temperature.data)
            factor = divided<false>(factor, row.temperature, ratio(1.0, row.temperature));
    }
    if (sizeof(R) == 4 && !fits_float(factor)) {
        const int k = exponent_of(factor);
        r.after = R(k);
        factor *= pow2(-double(k));
    }
    const W scale = from_double<R, !M::quick>(factor);
    if constexpr (S::of_x)
        split_lse(x, mx, &r.x_hi, &r.x_lo);
    if constexpr (needs_y && OP::target != XENT_TARGET_LOG_PROBS) /* those are taken as they are */
        split_lse(y, my, &r.y_hi, &r.y_lo);
    r.px = x.inv.hi;
    r.px_lo = x.inv.lo;
    r.g = scale.value();
    if constexpr (OP::is_js) { /* the two log1, which are small, apart from the maxima, which may be anything */
        const W gap = x.log1 - y.log1;
        r.x_hi = mx;
        r.y_hi = my;
        r.x_lo = gap.hi;
        r.y_lo = gap.lo;
        r.px = x.inv.value();
        r.py = y.inv.value();
        r.again = OP::value == VALUE_JS || abs(r.x_lo) <= R(j.js_gap) ? R(1) : R(0);
        if constexpr (OP::emit == EMIT_JS_GRAD)
            r.g = R(0.5) * scale.value();
    } else if constexpr (OP::emit == EMIT_GRAD) {
        r.px = (scale * x.inv * total).value();
        r.py = OP::target == XENT_TARGET_LOGITS ? (scale * y.inv).value() : py * scale.value();
        if constexpr (OP::labels) {
            /* 1 - p without its cancellation */
            const R p = exp_of<M>(row.x_label, reference_of<M>(mx)) * x.inv.value();
            r.patch = scale.value() * (row.x_label == mx ? -x.rest : p - R(1));
            r.patch = row.x_label == inf ? nan : r.patch;
            r.px = row.label >= 0 ? r.px : R(0);
        }
    } else if constexpr (OP::emit == EMIT_CE_TERM || OP::emit == EMIT_KL_TERM) {
        /* a NaN in the row, or a target that is no distribution, shows in every term */
        R seen = tsum.value() + s.x.r.value();
        if constexpr (needs_y)
            seen += s.y.r.value();
        r.poison = seen != seen || (OP::target == XENT_TARGET_LOGITS && my == none) ? nan : R(0);
        r.py = py * r.g;
    } else if constexpr (OP::emit == EMIT_NLL_TERM) {
        r.patch = -weigh(row.x_label, r.g, row.x_label != row.x_label);
    } else if constexpr (OP::emit == EMIT_NLL_GRAD) {
        r.patch = -r.g;
    }
    return r;
}

template <class M> XENT_HD js_row<M> js_row_of(const result<M> &r) {
    return {reference_of<M>(r.mx), reference_of<M>(r.my), r.x_hi, r.y_hi, r.px, r.py, r.x_lo, r.y_lo};
}

/* Jensen-Shannon's value and what its gradient needs, from the second reduction; whether the rows are so near that what
 * the two log sum exp round shows. */
template <class M, class S> XENT_HD void finish_js(const job &j, const S &s, result<M> *r) {
    using R = typename M::real;
    const R ln2 = fp<R>::ln2_hi + fp<R>::ln2_lo, near = sizeof(R) == 4 ? R(0x1p-17) : R(0x1p-46); /* 64 eps */
    auto v = settled(s.b);
    if (v.value() > ln2) /* rounding alone gets there */
        v = ln2;
    r->value = v;
    r->gain = s.t.value();
    r->again = abs(r->x_lo) <= R(j.js_gap) && v.value() < near ? R(1) : R(0);
}

/* The difference of the two log sum exp of such rows, from those of the logits: with S = sum (P - Q) / 2 and C = sum (P +
 * Q) / 2 it is log((C + S) / (C - S)) = 2 atanh(S / C). */
template <class M, class S> XENT_HD void finish_js_gap(const S &s, result<M> *r) {
    using R = typename M::real;
    const R half = R(0.5) * r->x_lo, cosh = R(0.5) * (exp_any(half, R(0)) + exp_any(-half, R(0)));
    const auto v = settled(s.b) / cosh;
    const R q = v.value(), z = q * q;
    if (abs(q) < R(0.17)) { /* as log_poly wants it */
        r->x_lo = v.hi + v.hi;
        r->y_lo = (v.lo + v.lo) + z * q * log_poly(z);
    }
}

/* ---- the emits ---- */
/* held: the tile's E are known. */
template <class OP, class M, int N>
XENT_HD void emit(const result<M> &r, tile<typename M::real, N> &v, bool held, typename M::real (&out)[N]) {
    using R = typename M::real;
    const R zero = R(0), none = -fp<R>::infinity;
    const reference<M> fx = reference_of<M>(r.mx), fy = reference_of<M>(r.my);
    if constexpr (OP::of_exp) {
        if (!held) {
            XENT_UNROLL
            for (int i = 0; i < N; i++) {
                v.ex[i] = exp_of<M>(v.x[i], fx);
                if constexpr (OP::log_target)
                    v.ey[i] = exp_of<M>(v.t[i], fy);
            }
        }
    }
    const js_row<M> row = js_row_of(r);
    XENT_UNROLL
    for (int i = 0; i < N; i++) {
        const R x = v.x[i], t = v.t[i];
        if constexpr (OP::emit == EMIT_LOGP) {
            out[i] = (x - r.x_hi) - r.x_lo;
        } else if constexpr (OP::emit == EMIT_P) {
            out[i] = M::quick ? v.ex[i] * r.px : fma(v.ex[i], r.px, v.ex[i] * r.px_lo);
        } else if constexpr (OP::emit == EMIT_GRAD && OP::labels) {
            out[i] = v.ex[i] * r.px;
        } else if constexpr (OP::emit == EMIT_GRAD && OP::log_target) {
            out[i] = v.ex[i] * r.px - v.ey[i] * r.py;
        } else if constexpr (OP::emit == EMIT_GRAD) {
            out[i] = fma(-t, r.g, v.ex[i] * r.px);
        } else if constexpr (OP::emit == EMIT_CE_TERM) {
            const R w = t * r.g, term = w * (r.x_lo + (r.x_hi - x));
            out[i] = (w != zero ? term : zero) + r.poison;
        } else if constexpr (OP::emit == EMIT_KL_TERM && OP::log_target) {
            const R d = ((t - r.y_hi) - r.y_lo) - ((x - r.x_hi) - r.x_lo), p = exp_of<M>(t, fy) * r.py;
            R term = p != zero ? p * d : zero; /* d may be infinite where p is 0 */
            if (x == none)                     /* NaN where either row is */
                term = r.g != zero ? (p + r.x_lo) * zero + r.g * fp<R>::infinity : zero;
            out[i] = (t != none ? term : zero) + r.poison;
        } else if constexpr (OP::emit == EMIT_KL_TERM) {
            const R w = t * r.g, term = w * (log(t) + ((r.x_hi - x) + r.x_lo));
            out[i] = (w != zero ? term : zero) + r.poison;
        } else if constexpr (OP::emit == EMIT_NLL_TERM || OP::emit == EMIT_NLL_GRAD) {
            out[i] = zero;
        } else if constexpr (OP::emit == EMIT_BCE_TERM) {
            const R term = bce_term(x, t, v.w[i], v.p[i]);
            out[i] = weigh(term, r.g, term != term);
        } else if constexpr (OP::emit == EMIT_BCE_GRAD) {
            out[i] = r.g * bce_slope(x, t, v.w[i], v.p[i]);
        } else if constexpr (OP::emit == EMIT_JS_TERM || OP::emit == EMIT_JS_GRAD) {
            R p, gain;
            const R term = js_term(x, t, row, &p, &gain);
            out[i] = OP::emit == EMIT_JS_TERM ? r.g * term : (r.g * p) * (gain - r.gain);
        } else if constexpr (OP::emit == EMIT_KL_POINT) {
            out[i] = kl_pointwise(x, t);
        } else if constexpr (OP::emit == EMIT_REL_ENTR) {
            out[i] = rel_entr(x, t);
        }
    }
}

} // namespace xent

#endif
