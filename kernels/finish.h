/* finish.h: from a row's state to its value and to the factors of its emit, rows a lane each. In double for whatever rows
 * a group holds (rows.h), in the tile's own real for rows of few classes (few.h). */

/* Rounded to 24 bits, as a float holds. */
INLINE V FN(vfirst24)(V v) {
    V g = vmul(v, vset((R)(0x1p29 + 1.0)));
    return XENT_REAL == 32 ? v : vsub(g, vsub(g, v));
}

/* KL's sums of a row (rowstate.h). */
typedef struct FN(kl) {
    V c, c_lo;
    FN(sum) w, u, a;
} FN(kl);

/* c - a b with the product exact. */
INLINE V FN(vresidual)(V a, V b, V c) {
#if VEC_FMA
    return vfnma(a, b, c);
#else /* Dekker's product, from halves of a significand */
    const V half = vset(XENT_REAL == 32 ? (R)4097 : (R)134217729);
    V ta = vmul(half, a), tb = vmul(half, b);
    V ah = vsub(ta, vsub(ta, a)), bh = vsub(tb, vsub(tb, b)), al = vsub(a, ah), bl = vsub(b, bh), p = vmul(a, b);
    V e = vadd(vsub(vmul(ah, bh), p), vadd(vmul(ah, bl), vadd(vmul(al, bh), vmul(al, bl))));
    return vsub(vsub(c, p), e);
#endif
}

/* What a tile adds to KL's sums, about an anchor at first: see kl.h. */
typedef struct FN(kl_tile) {
    FN(sum) w, d, u, a;      /* sum t, sum t (u + mean), U, A */
    V hi, lo, most, top;     /* the anchor's x - log t; the largest x and y */
    V xc, xk, tc, tk;        /* references of exp(x) and of t */
    V mean, factor, c, c_lo; /* c = hi + lo + mean; E(x) factor = t exp(u) */
} FN(kl_tile);

/* The sum of a and b, exactly, in two parts. */
INLINE V FN(two_sum)(V a, V b, V *low) {
    V sum = vadd(a, b), back = vsub(sum, a);
    *low = vadd(vsub(a, vsub(sum, back)), vsub(b, back));
    return sum;
}

/* A tile's mean, c and factor. The mean is rounded to what a float tile holds. */
INLINE void FN(kl_centre)(FN(kl_tile) * p, bool is_f32) {
    const V zero = vset((R)0), inf = vset(INF), most_d = vset((R)8000);
    /* With no target in this tile, or so little that t exp(u) leaves the range, its largest exp(x - c) becomes about 1. */
    const V faint = vset((R)(is_f32 ? 0x1p-100 : KL_SLIGHT));
    V mean = vdiv(FN(value)(p->d), FN(value)(p->w)), lost, low;
    V m = vsel(mlt(p->w.s, faint), vsub(vsub(p->most, p->top), p->hi), mean);
    if (is_f32)
        m = FN(vfirst24)(m);
    p->mean = m = vif(mlt(vabs(m), inf), m);
    V rest = FN(two_sum)(p->lo, m, &lost);
    p->c = FN(two_sum)(p->hi, rest, &low);
    p->c_lo = vadd(low, lost);
    /* x's reference less t's less c, each difference with what it rounds: references may be far from 0 and near c */
    V gap = FN(two_sum)(p->xc, vsub(zero, p->tc), &lost), near = FN(two_sum)(gap, vsub(zero, p->c), &low);
    V d = FN(two_sum)(near, vsub(vadd(lost, low), p->c_lo), &lost);
    V e = FN(vexp2ref)(vmin(most_d, vmax(vsub(zero, most_d), d)), vsub(p->tk, p->xk));
    p->factor = vif(mne(p->most, vset(-INF)), vfma(e, vif(mlt(vabs(lost), vset((R)1)), lost), e));
}

/* A tile's sums. D - W mean would be U, too, but for what its products rounded: of the mean's size, which may be hundreds
 * where the anchor lies far from the others, and KL next to nothing. Only what it says of infinite terms is kept. */
INLINE FN(kl) FN(kl_of_tile)(const FN(kl_tile) * p) {
    FN(kl) v = {p->c, p->c_lo, p->w, p->u, p->a};
    const V d = FN(value)(p->d);
    v.u.s = vadd(v.u.s, vsub(d, d));
    return v;
}

/* ---- log sum exp, 1 / sum, and what else follows from x's or y's sums ---- */
typedef struct FN(lse) {
    V lse, lse_lo; /* log sum exp x                                            */
    V log1;        /* lse - m, accurate also where it is tiny                  */
    V inv, inv_lo; /* E(x) (inv + inv_lo) = softmax(x)                         */
    V rest;        /* the sum's share that is not the maximum: 1 - max p       */
    V low;         /* what log1 rounds away, for double results                */
} FN(lse);

/* log(1 + z) for finite z > -1. wide: the result is for float, its last bits do not matter. */
INLINE V FN(vlog1p_low)(V z, bool wide, V *low) {
    const V one = vset((R)1);
    V u = vadd(one, z); /* what u rounded away goes back in, relative to u */
    V lost = vsel(mlt(z, one), vsub(z, vsub(u, one)), vsub(one, vsub(u, z)));
    if (!wide)
        lost = vdiv(lost, u); /* else u is 1 where lost matters */
    return FN(vlog_normal)(u, lost, low);
}
INLINE V FN(vlog1p)(V z) {
    V low;
    return FN(vlog1p_low)(z, false, &low);
}

/* Infinite maxima, NaN and rows of nothing but -inf. */
INLINE FN(lse) FN(lse_special)(V m, V r, FN(lse) f) {
    M high = meq(m, vset(INF)), bad = mne(r, r), none = mor(meq(m, vset(-INF)), bad), special = mor(high, none);
    V nan = vset((R)NAN), gone = vif(none, nan);
    f.lse = vsel(special, vsel(bad, nan, m), f.lse);
    f.log1 = vsel(special, gone, f.log1);
    f.inv = vsel(special, gone, f.inv);
    f.inv_lo = vsel(special, gone, f.inv_lo);
    f.rest = vsel(special, gone, f.rest);
    return f;
}

/* E(m) is only divided by, and its reciprocal is an exponential, too: z = sum / E(m) - 1. wide: a float row's state in
 * double, whose last bits do not matter; elsewhere everything keeps what it rounds away. */
INLINE FN(lse) FN(lse_of)(const FN(top) * s, bool wide, bool with_inv) {
    const V zero = vset((R)0), one = vset((R)1);
    V m = s->m, low;
    V near = vif(mle(vabs(m), vset((R)XENT_PLAIN)), m); /* elsewhere the reference is m itself, and E(m) is 1 */
    V others = vmax(vsub(s->n, one), zero), up_lo, up = FN(vexp2ref_lo)(vsub(zero, near), vsub(zero, s->ref.k), &up_lo);
    V r = vadd(s->r.s, s->r.e);
    FN(lse) f = {zero, zero, zero, zero, zero, zero, zero};
    if (wide) {
        V z = vfma(r, up, others);
        f.log1 = FN(vlog1p_low)(z, true, &low);
        f.lse = vadd(m, f.log1);
        if (with_inv) {
            V part = vdiv(one, vadd(one, z));
            f.inv = vmul(up, part);
            f.rest = vmul(z, part);
        }
        return FN(lse_special)(m, r, f);
    }
    V r_lo = vadd(vsub(s->r.s, r), s->r.e), p = vmul(r, up), z = vadd(p, others), u = vadd(one, z), part = vdiv(one, u);
    V p_lo = vsub(vfma(r, up_lo, vmul(r_lo, up)), FN(vresidual)(r, up, p));
    V z_lo = vadd(p_lo, vsub(p, vsub(z, others)));
    V u_lo = vadd(z_lo, vsel(mlt(z, one), vsub(z, vsub(u, one)), vsub(one, vsub(u, z))));
    f.log1 = FN(vlog_normal)(u, vmul(u_lo, part), &f.low);
    V first = vadd(m, f.log1), back = vsub(first, m);
    V lost = vadd(vadd(vsub(m, vsub(first, back)), vsub(f.log1, back)), f.low);
    f.lse = vadd(first, lost);
    f.lse_lo = vadd(vsub(first, f.lse), lost);
    if (with_inv) {
        V inv = vmul(up, part);
        V more = vmul(vadd(up_lo, vfnma(inv, u_lo, FN(vresidual)(inv, u, up))), part);
        f.inv = vadd(inv, more);
        f.inv_lo = vsub(more, vsub(f.inv, inv));
        f.rest = vmul(z, part);
    }
    return FN(lse_special)(m, r, f);
}

/* ---- from a finished state to its value and to the factors of its emit ---- */
/* log1p(z) - z for |z| < 0.4: log1p(z) = 2 atanh(s), z - 2 s = z s. */
INLINE V FN(vlog1pmx)(V z) {
    V s = vdiv(z, vadd(z, vset((R)2))), s2 = vmul(s, s), p = vset((R)(2.0 / 23));
    UNROLL for (int n = 21; n >= 3; n -= 2) p = vfma(p, s2, vset((R)(2.0 / n)));
    return vmul(s, vsub(vmul(p, s2), z));
}

/* Not finite: the direct sum decides. exp(u) left the range somewhere, or c came out so large that its own rounding took it
 * away from the mean (|c| > 2^50 or so), or the row holds NaN or a true infinity. */
INLINE V FN(kl_of)(const FN(kl) * s) {
    const V zero = vset((R)0), nan = vset((R)NAN);
    V w = FN(value)(s->w), u = FN(value)(s->u), a = FN(value)(s->a), inv = vdiv(vset((R)1), w);
    V z = vmul(vadd(a, u), inv);
    M near = mlt(vabs(z), vset((R)0.4));
    /* A/W, and what rounding that takes away, from the exact remainder */
    V mean = vmul(a, inv), rest = vmul(vadd(FN(vresidual)(mean, s->w.s, s->a.s), vfnma(mean, s->w.e, s->a.e)), inv);
    rest = vif(mlt(vabs(rest), vset(INF)), rest);
    V v = vadd(mean, vadd(FN(vlog1pmx)(z), rest));
    if (!mall(near)) {
        V log1 = FN(vlog1p)(z);
        V negative = vadd(mean, vadd(vsub(log1, z), rest)), large = vsub(log1, vmul(u, inv));
        v = vsel(near, v, vsel(mlt(z, zero), negative, large));
    }
    v = vsel(mlt(v, zero), zero, v); /* only the rounding of equal rows falls below zero */
    v = vsel(mand(mle(vabs(u), vmul(vset((R)0.5), w)), mlt(vabs(z), vset(INF))), v, nan);
    return vsel(meq(w, zero), vsel(mne(a, a), a, zero), v);
}

/* log p = (x - hi) - lo: where x is near the maximum m the first difference is exact. */
INLINE void FN(split_lse)(const FN(lse) * f, V m, bool wide, V *hi, V *lo) {
    M known = mlt(vabs(m), vset(INF));
    V h = wide ? FN(vfirst24)(f->lse) : f->lse;
    *hi = vsel(known, h, vsel(meq(m, vset(INF)), m, f->log1)); /* an all -inf row: NaN */
    *lo = vsel(known, wide ? vadd(vsub(m, h), f->log1) : f->lse_lo, f->log1);
}

/* xent_weigh */
INLINE V FN(weigh)(V v, V weight) {
    return vif(mor(mne(weight, vset((R)0)), mne(v, v)), vmul(v, weight));
}

/* What a row is finished with besides its state. */
typedef struct FN(row) {
    V weight, scale, known, x_label; /* as in row_group */
} FN(row);

/* ... and what comes of it: group_result's fields. */
typedef struct FN(finished) {
    V value;
    M again;
    V x_hi, x_lo, y_hi, y_lo, xc, xk, xd, yc, yk, yd, px, px_lo, py, g, poison, patch, gain;
} FN(finished);

/* kl: NULL where the reduction has no such sums. The operation is given apart from the job, so that a caller that knows it
 * has it compiled for that alone. */
INLINE FN(finished) FN(finish_state)(const xent_job *job, const reduce_kind kind, const xent_target target,
                                     const value_kind value, const emit_kind emit, const bool wide, const FN(state) * s,
                                     const FN(kl) * kl, const FN(row) * row) {
    const V zero = vset((R)0), one = vset((R)1), nan = vset((R)NAN), none = vset(-INF), inf = vset(INF);
    const bool log_target = target == XENT_TARGET_LOGITS || target == XENT_TARGET_LOG_PROBS;
    const bool is_js = value == VALUE_JS || emit == EMIT_JS_TERM, emits = emit != EMIT_NONE || is_js;
    const bool of_x = xent_sums_x(kind), of_y = log_target && (kind == REDUCE_PAIR || kind == REDUCE_KLPAIR);
    const bool soft = target == XENT_TARGET_PROBS || log_target;
    const V mx = s->x.m, my = s->y.m, bsum = FN(value)(s->b), tsum = FN(value)(s->t);
    V total = one, py = zero, v = zero, tlogt = zero;
    M unit = meq(zero, zero);
    FN(lse) x = {zero, zero, zero, zero, zero, zero, zero}, y = x;
    FN(finished) f;
    f.again = mne(zero, zero);
    f.x_hi = f.x_lo = f.y_hi = f.y_lo = f.px = f.px_lo = f.g = f.poison = f.patch = f.gain = zero;
    if (of_x)
        x = FN(lse_of)(&s->x, wide, emits || kind == REDUCE_SENT);
    if (of_y)
        y = FN(lse_of)(&s->y, wide, true);

    /* the sum of the target, and what E(y) is multiplied by to give it where the target is in log space */
    if (target == XENT_TARGET_LOGITS) {
        py = y.inv;
    } else if (log_target) { /* 2^k where c is 0, exactly */
        V w = xent_is_kl(kind) ? FN(value)(kl->w) : zero, low = vset((R)-8000), high = vset((R)8000);
        V c = vmin(high, vmax(low, s->y.ref.c)), k = s->y.ref.k;
        py = FN(vexp2ref)(c, vsub(zero, k));
        /* unlifted first: a float has no 2^-32 of the smallest targets */
        total = of_y ? vdiv(py, y.inv) : vmul(py, vmul(w, vset((R)XENT_KL_UNLIFT)));
        total = vif(mne(my, none), total);
    } else if (soft) {
        total = xent_is_kl(kind) ? FN(value)(kl->w) : tsum;
    }
    if (value == VALUE_KL && target != XENT_TARGET_LOGITS) {
        /* whether a target is meant to sum to 1: what its own dtype, or the one it is computed in, may have rounded away */
        double tau = xent_dtype_eps(job->at[OPERAND_T].dtype, job->is_f32) * (4.0 + sqrt((double)job->classes));
        unit = mle(vabs(vsub(total, one)), vset((R)tau));
        if (!mall(unit) || kind == REDUCE_PAIR)
            tlogt = vif(mne(total, zero), vmul(total, FN(vlog)(total)));
    }

    switch (value) {
    case VALUE_NONE:
        break;
    case VALUE_LSE:
        v = x.lse;
        break;
    case VALUE_ENT:
        v = bsum;
        break;
    case VALUE_SENT:
        v = job->classes == 0 ? zero : vsel(meq(mx, inf), nan, vadd(x.log1, vmul(bsum, x.inv)));
        break;
    case VALUE_LABEL: {
        V known = row->known;
        v = vif(mne(known, zero), vadd(x.log1, vsub(mx, row->x_label)));
        break;
    }
    case VALUE_CE: {
        M no_t = meq(tsum, zero), no_x = meq(mx, none);
        V r = FN(value)(s->x.r);
        v = vadd(vsel(mand(no_t, meq(x.log1, x.log1)), zero, vmul(tsum, x.log1)), bsum);
        /* no class has any weight: 0 only if the target has none either */
        v = vsel(no_x, vsel(mand(no_t, meq(bsum, zero)), vmul(zero, r), nan), v);
        break;
    }
    case VALUE_NLL:
        v = vif(mne(row->known, zero), vsub(zero, row->x_label));
        break;
    case VALUE_BCE:
        v = bsum;
        break;
    case VALUE_JS: /* REDUCE_JS finds it */
        break;
    case VALUE_KL:
        if (kind != REDUCE_PAIR) {
            v = vadd(vmul(FN(kl_of)(kl), total), vif(mnot(unit), tlogt));
            if (target == XENT_TARGET_LOGITS && job->classes > 0)
                v = vsel(mor(meq(my, inf), meq(my, none)), nan, v);
            f.again = mnot(mlt(vabs(v), inf));
        }
        /* Out of range, NaN, or truly infinite: the direct sum says which. */
        if (kind == REDUCE_PAIR || (kind == REDUCE_KLPAIR && many(f.again))) {
            V direct = vsub(vadd(vmul(total, x.log1), bsum), vif(unit, tlogt));
            if (log_target)
                direct = vadd(vmul(total, vadd(vsub(vmul(bsum, y.inv), y.log1), x.log1)), vif(mnot(unit), tlogt));
            if (target == XENT_TARGET_LOG_PROBS) /* no target at all: 0, but for NaN in x */
                direct = vsel(meq(my, none), vmul(zero, FN(value)(s->x.r)), direct);
            if (kind == REDUCE_KLPAIR && target == XENT_TARGET_PROBS)
                direct = vsub(vadd(vmul(total, x.log1), bsum),
                              vif(mand(unit, mne(total, zero)), vmul(total, FN(vlog)(total))));
            v = kind == REDUCE_PAIR ? direct : vsel(f.again, direct, v);
        }
        break;
    }
    f.value = FN(weigh)(v, row->weight);
    if (!emits)
        return f;

    const V scale = row->scale;
    FN(split_lse)(&x, mx, wide, &f.x_hi, &f.x_lo);
    if (of_y && target != XENT_TARGET_LOG_PROBS) /* those are taken as they are */
        FN(split_lse)(&y, my, wide, &f.y_hi, &f.y_lo);
    f.xc = s->x.ref.c;
    f.xk = s->x.ref.k;
    f.xd = vif(mle(vabs(mx), vset((R)XENT_PLAIN)), mx);
    f.yc = s->y.ref.c;
    f.yk = s->y.ref.k;
    f.yd = vif(mle(vabs(my), vset((R)XENT_PLAIN)), my);
    if (is_js) { /* the two log1, which are small, apart from the maxima, which may be anything */
        V gap = vsub(x.log1, y.log1), back = vsub(gap, x.log1);
        V first = wide ? FN(vfirst24)(gap) : gap;
        V rest = vadd(vsub(vsub(x.log1, vsub(gap, back)), vadd(y.log1, back)), vsub(x.low, y.low));
        f.x_hi = mx;
        f.y_hi = my;
        f.x_lo = first;
        f.y_lo = vadd(vsub(gap, first), rest);
    }
    switch (emit) {
    case EMIT_GRAD:
        f.g = scale;
        f.px = vmul(vmul(scale, x.inv), total);
        py = vmul(py, scale);
        if (target == XENT_TARGET_LABELS) {
            M known = mne(row->known, zero);
            V at = row->x_label, c = s->x.ref.c;
            V d = vmax(vset((R)-XENT_PLAIN - EXP_LOW), vif(mne(at, c), vsub(at, c)));
            V p = vmul(FN(vexp2ref)(d, s->x.ref.k), x.inv);
            f.px = vif(known, f.px);
            /* 1 - p without its cancellation */
            f.patch = vmul(scale, vsel(meq(at, mx), vsub(zero, x.rest), vsub(p, one)));
            f.patch = vsel(meq(at, inf), nan, f.patch);
        }
        break;
    case EMIT_CE_TERM:
    case EMIT_KL_TERM: { /* a NaN in the row, or a target that is no distribution, shows in every term */
        V seen = vadd(tsum, FN(value)(s->x.r));
        if (of_y)
            seen = vadd(seen, FN(value)(s->y.r));
        f.poison = vif(mne(seen, seen), nan);
        if (target == XENT_TARGET_LOGITS)
            f.poison = vsel(meq(my, none), nan, f.poison);
        f.g = scale;
        py = vmul(py, scale);
        break;
    }
    case EMIT_AT_LABEL: /* the slope of what has a value, else the term itself */
        f.patch = vsub(zero, value == VALUE_NLL ? scale : FN(weigh)(row->x_label, scale));
        break;
    case EMIT_BCE_TERM:
    case EMIT_BCE_GRAD:
        f.g = scale;
        break;
    case EMIT_NONE: /* Jensen-Shannon's second reduction wants the factors of its emits */
    case EMIT_JS_TERM:
    case EMIT_JS_GRAD:
        f.px = x.inv;
        f.g = emit == EMIT_JS_GRAD ? vmul(vset((R)0.5), scale) : scale;
        break;
    default:
        f.px = wide ? FN(vfirst24)(x.inv) : x.inv;
        f.px_lo = vadd(vsub(x.inv, f.px), x.inv_lo);
        break;
    }
    f.py = py;
    return f;
}
