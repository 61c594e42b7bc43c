/* rows.h: what is done once a row or once a tile, for several rows at once: merging states, the centre of KL's sums, and
 * from finished states to values and to the factors of the emits. Included for double alone, which is what states are held
 * in; nothing here depends on how many rows there are or on a row's place among them. */
INLINE FN(sum) FN(load_sum)(const lane_sums *a, int l) {
    FN(sum) v = {vload(a->s + l), vload(a->e + l)};
    return v;
}
INLINE void FN(store_sum)(FN(sum) v, lane_sums *a, int l) {
    vstore(a->s + l, v.s);
    vstore(a->e + l, v.e);
}
INLINE void FN(merge_sum)(FN(sum) * a, FN(sum) b) {
    FN(add_to)(a, b.s);
    a->e = vadd(a->e, b.e);
}
INLINE FN(top) FN(load_top)(const lane_top *a, int l) {
    FN(top)
    v = {vload(a->m + l), vload(a->n + l), {vload(a->c + l), vload(a->k + l), vset(0.0)}, FN(load_sum)(&a->r, l)};
    v.ref.low = vsub(vif(mle(vabs(v.m), vset(XENT_PLAIN)), v.m), vset(EXP_LOW));
    return v;
}
INLINE void FN(store_top)(const FN(top) * v, lane_top *a, int l) {
    vstore(a->m + l, v->m);
    vstore(a->n + l, v->n);
    vstore(a->c + l, v->ref.c);
    vstore(a->k + l, v->ref.k);
    FN(store_sum)(v->r, &a->r, l);
}

/* Rounded to 24 bits, as a float holds. */
INLINE V FN(vfirst24)(V v) {
    V g = vmul(v, vset(0x1p29 + 1.0));
    return vsub(g, vsub(g, v));
}

/* ---- KL's sums ---- */
/* exp(e), exp(e) - 1 and exp(e) - 1 - e, each to full relative accuracy. */
INLINE V FN(vexpm1s)(V e, V *m1, V *mx) {
    const V one = vset(1.0);
    M near = mand(mle(vset(-1.0), e), mle(e, vset(2.0)));
    V all = FN(vexp2ref)(vmin(vset(800.0), vmax(vset(-800.0), e)), vset(0.0)), far = vsub(all, one);
    *mx = vsel(near, FN(vphi)(e), vsub(far, e));
    *m1 = vsel(near, vadd(*mx, e), far);
    return all;
}

typedef struct FN(kl) {
    V c, c_lo;
    FN(sum) w, u, a;
} FN(kl);

INLINE FN(kl) FN(load_kl)(const group_state *s, int l) {
    FN(kl)
    v = {vload(s->c + l), vload(s->c_lo + l), FN(load_sum)(&s->w, l), FN(load_sum)(&s->u, l), FN(load_sum)(&s->a, l)};
    return v;
}
INLINE void FN(store_kl)(const FN(kl) * v, group_state *s, int l) {
    vstore(s->c + l, v->c);
    vstore(s->c_lo + l, v->c_lo);
    FN(store_sum)(v->w, &s->w, l);
    FN(store_sum)(v->u, &s->u, l);
    FN(store_sum)(v->a, &s->a, l);
}

/* The sums against c - e instead of c. A small e is added as a difference, so that thousands of small shifts round no more
 * than one; a large one is a factor, which must not cancel. */
INLINE void FN(kl_shift)(FN(kl) * s, V e) {
    const V zero = vset(0.0);
    V w = FN(value)(s->w), a = FN(value)(s->a), m1, mx;
    M some = mne(w, zero), small = mlt(vabs(e), vset(0.5)), none = meq(e, zero);
    V all = FN(vexpm1s)(e, &m1, &mx);
    V more = vif(some, vadd(vmul(m1, FN(value)(s->u)), vmul(mx, w)));
    V f = vsel(small, vset(1.0), all);
    FN(scale)(&s->a, f);
    FN(add_to)(&s->a, vif(mand(small, mnot(none)), vmul(m1, a)));
    FN(add_to)(&s->a, vif(mnot(none), more));
    FN(add_to)(&s->u, vif(some, vmul(e, w)));
}

/* Both against the same reference of t, about their common mean. */
INLINE void FN(kl_merge)(FN(kl) * a, FN(kl) b) {
    const V zero = vset(0.0);
    V wa = FN(value)(a->w), wb = FN(value)(b.w), sa = FN(value)(a->a);
    M empty = mand(meq(wa, zero), meq(sa, zero)), no_a = meq(wa, zero), no_b = meq(wb, zero);
    FN(kl) merged = *a;
    V gap = vadd(vsub(b.c, a->c), vsub(b.c_lo, a->c_lo));
    V sum_u = vadd(vadd(FN(value)(a->u), vmul(wb, gap)), FN(value)(b.u));
    V move = vsel(no_b, zero, vsel(no_a, gap, vdiv(sum_u, vadd(wa, wb))));
    FN(kl) other = b;
    FN(kl_shift)(&merged, vsub(zero, move));
    FN(kl_shift)(&other, vsub(gap, move));
    FN(merge_sum)(&merged.w, other.w);
    FN(merge_sum)(&merged.u, other.u);
    FN(merge_sum)(&merged.a, other.a);
    move = vadd(move, a->c_lo);
    V c = vadd(a->c, move), back = vsub(c, a->c);
    merged.c_lo = vadd(vsub(a->c, vsub(c, back)), vsub(move, back));
    merged.c = c;
#define EITHER(field) a->field = vsel(empty, b.field, merged.field)
    EITHER(c);
    EITHER(c_lo);
    EITHER(w.s);
    EITHER(w.e);
    EITHER(u.s);
    EITHER(u.e);
    EITHER(a.s);
    EITHER(a.e);
#undef EITHER
}

/* y's reference changes: t is held against one 1/factor as large, which lies dc + dk ln 2 lower. */
static void FN(kl_follow)(int rows, int at, const double *factor, const double *dc, const double *dk, group_state *s) {
    const V zero = vset(0.0);
    for (int l = 0; l < rows; l += VN) {
        FN(kl) v = FN(load_kl)(s, at + l);
        V f = vload(factor + l), move = vadd(vload(dc + l), vmul(vload(dk + l), vset(XENT_LN2_A + XENT_LN2_B)));
        M no_t = meq(FN(value)(v.w), zero), empty = mand(no_t, meq(FN(value)(v.a), zero));
        f = vsel(no_t, vset(1.0), f);
        FN(scale)(&v.w, f);
        FN(scale)(&v.u, f);
        FN(scale)(&v.a, f);
        /* only exp(x - c) so far: move c, so that it cannot underflow */
        v.c = vadd(v.c, vif(mand(no_t, mnot(empty)), move));
        FN(store_kl)(&v, s, at + l);
    }
}

/* A tile's c = hi + lo + mean, and the factor from E(x) to t exp(u). */
static void FN(kl_centre)(int rows, bool is_f32, kl_part *p) {
    const V zero = vset(0.0), inf = vset(INF), most_d = vset(8000.0);
    for (int l = 0; l < rows; l += VN) {
        FN(sum) ws = FN(load_sum)(&p->w, l), ds = FN(load_sum)(&p->d, l);
        V hi = vload(p->hi + l), lo = vload(p->lo + l), most = vload(p->most + l);
        /* With no target in this tile its largest exp(x - c) becomes about 1. */
        V m = vsel(mne(ws.s, zero), vdiv(FN(value)(ds), FN(value)(ws)), vsub(vsub(most, vload(p->top + l)), hi));
        if (is_f32) /* as the tile will hold it: the first 24 bits */
            m = FN(vfirst24)(m);
        m = vif(mlt(vabs(m), inf), m);
        V rest = vadd(lo, m), c = vadd(hi, rest), back = vsub(c, hi);
        V c_lo = vadd(vsub(hi, vsub(c, back)), vsub(rest, back));
        V d0 = vsub(vsub(vload(p->xc + l), vload(p->tc + l)), c), d = vsub(d0, c_lo), lost = vsub(vsub(d0, d), c_lo);
        V e = FN(vexp2ref)(vmin(most_d, vmax(vsub(zero, most_d), d)), vsub(vload(p->tk + l), vload(p->xk + l)));
        vstore(p->factor + l, vif(mne(most, vset(-INF)), vfma(e, vif(mlt(vabs(lost), vset(1.0)), lost), e)));
        vstore(p->mean + l, m);
        vstore(p->c + l, c);
        vstore(p->c_lo + l, c_lo);
    }
}

/* A tile's sums, added to rows at and following. */
static void FN(kl_add)(int rows, int at, bool first, const kl_part *p, group_state *s) {
    for (int l = 0; l < rows; l += VN) {
        FN(kl)
        v = {vload(p->c + l), vload(p->c_lo + l), FN(load_sum)(&p->w, l), FN(load_sum)(&p->d, l),
             FN(load_sum)(&p->a, l)};
        /* U from the first pass: what its products rounded counts in KL only times KL itself */
        FN(add_to)(&v.u, vsub(vset(0.0), vmul(FN(value)(v.w), vload(p->mean + l))));
        if (!first) {
            FN(kl) sum = FN(load_kl)(s, at + l);
            FN(kl_merge)(&sum, v);
            v = sum;
        }
        FN(store_kl)(&v, s, at + l);
    }
}

/* No class at all. */
static void FN(kl_none)(int rows, int at, group_state *s) {
    const V zero = vset(0.0);
    const FN(kl) v = {zero, zero, {zero, zero}, {zero, zero}, {zero, zero}};
    for (int l = 0; l < rows; l += VN)
        FN(store_kl)(&v, s, at + l);
}

/* ---- merging pieces ---- */
static void FN(merge)(const xent_job *job, reduce_kind kind, int rows, group_state *a, const group_state *b) {
    const bool log_target = xent_target_is_log(job);
    for (int l = 0; l < rows; l += VN) {
        FN(state) p = FN(start)(), q = p;
        if (xent_sums_x(kind)) {
            p.x = FN(load_top)(&a->x, l);
            q.x = FN(load_top)(&b->x, l);
        }
        if (kind >= REDUCE_KL && log_target) {
            p.y = FN(load_top)(&a->y, l);
            q.y = FN(load_top)(&b->y, l);
        }
        if (kind != REDUCE_LSE && kind != REDUCE_KL) {
            p.t = FN(load_sum)(&a->t, l);
            p.b = FN(load_sum)(&a->b, l);
            q.t = FN(load_sum)(&b->t, l);
            q.b = FN(load_sum)(&b->b, l);
        }
        V m = vmax(p.x.m, q.x.m), my = vmax(p.y.m, q.y.m);
        FN(raise_x)(kind, log_target, &p, m);
        FN(raise_x)(kind, log_target, &q, m);
        if (xent_is_kl(kind)) {
            group_state other = *b;
            const FN(vref) pr = p.y.ref, qr = q.y.ref;
            V pf = FN(raise_y)(&p, my), qf = FN(raise_y)(&q, my);
            lanes f, dc, dk;
            vstore(f, pf);
            vstore(dc, vsub(pr.c, p.y.ref.c));
            vstore(dk, vsub(pr.k, p.y.ref.k));
            FN(kl_follow)(VN, l, f, dc, dk, a);
            vstore(f, qf);
            vstore(dc, vsub(qr.c, q.y.ref.c));
            vstore(dk, vsub(qr.k, q.y.ref.k));
            FN(kl_follow)(VN, l, f, dc, dk, &other);
            FN(kl) sum = FN(load_kl)(a, l);
            FN(kl_merge)(&sum, FN(load_kl)(&other, l));
            FN(store_kl)(&sum, a, l);
        } else {
            FN(raise_y)(&p, my);
            FN(raise_y)(&q, my);
        }
        p.x.n = vadd(p.x.n, q.x.n);
        p.y.n = vadd(p.y.n, q.y.n);
        FN(merge_sum)(&p.x.r, q.x.r);
        FN(merge_sum)(&p.y.r, q.y.r);
        FN(merge_sum)(&p.t, q.t);
        FN(merge_sum)(&p.b, q.b);
        if (xent_sums_x(kind))
            FN(store_top)(&p.x, &a->x, l);
        if (kind >= REDUCE_KL && log_target)
            FN(store_top)(&p.y, &a->y, l);
        if (kind != REDUCE_LSE && kind != REDUCE_KL) {
            FN(store_sum)(p.t, &a->t, l);
            FN(store_sum)(p.b, &a->b, l);
        }
    }
}

/* ---- log sum exp, 1 / sum, and what else follows from x's or y's sums ---- */
typedef struct FN(lse) {
    V lse;         /* log sum exp x                                            */
    V log1;        /* lse - m, accurate also where it is tiny                  */
    V inv, inv_lo; /* E(x) (inv + inv_lo) = softmax(x)                         */
    V rest;        /* the sum's share that is not the maximum: 1 - max p       */
    V low;         /* what log1 rounds away, for double results                */
} FN(lse);

/* log(1 + z (1 + e)) for finite z > -1, with more = z e / (1 + z). wide: the result is for float, its last bits do not matter. */
INLINE V FN(vlog1p_low)(V z, V more, bool wide, V *low) {
    const V one = vset(1.0);
    V u = vadd(one, z); /* what u rounded away goes back in, relative to u */
    V lost = vsel(mlt(z, one), vsub(z, vsub(u, one)), vsub(one, vsub(u, z)));
    if (!wide)
        lost = vdiv(lost, u); /* else u is 1 where lost matters */
    return FN(vlog_normal)(u, vadd(lost, more), low);
}
INLINE V FN(vlog1p)(V z) {
    V low;
    return FN(vlog1p_low)(z, vset(0.0), false, &low);
}

/* c - a b with the product exact. */
INLINE V FN(vresidual)(V a, V b, V c) {
#if VEC_FMA
    return vfnma(a, b, c);
#else /* Dekker's product, from halves of 26 bits */
    const V half = vset(134217729.0);
    V ta = vmul(half, a), tb = vmul(half, b);
    V ah = vsub(ta, vsub(ta, a)), bh = vsub(tb, vsub(tb, b)), al = vsub(a, ah), bl = vsub(b, bh), p = vmul(a, b);
    V e = vadd(vsub(vmul(ah, bh), p), vadd(vmul(ah, bl), vadd(vmul(al, bh), vmul(al, bl))));
    return vsub(vsub(c, p), e);
#endif
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

/* For double results, quotients, logarithm and the last addition keep what they round away. */
INLINE FN(lse) FN(lse_of)(const lane_top *s, int l, bool wide, bool with_inv) {
    const V zero = vset(0.0), one = vset(1.0);
    V m = vload(s->m + l), k = vload(s->k + l), top_lo, log1_lo;
    V near = vif(mle(vabs(m), vset(XENT_PLAIN)), m); /* elsewhere the reference is m itself, and top is 1 */
    V others = vmax(vsub(vload(s->n + l), one), zero);
    FN(sum) rs = FN(load_sum)(&s->r, l);
    FN(lse) f = {zero, zero, zero, zero, zero, zero};
    if (wide) { /* E(m) is only divided by: its reciprocal is an exponential, too */
        V r = vadd(rs.s, rs.e), up = FN(vexp2ref)(vsub(zero, near), vsub(zero, k)), z = vfma(r, up, others);
        f.log1 = FN(vlog1p_low)(z, zero, true, &log1_lo);
        f.lse = vadd(m, f.log1);
        if (with_inv) {
            V part = vdiv(one, vadd(one, z));
            f.inv = vmul(up, part);
            f.rest = vmul(z, part);
        }
        return FN(lse_special)(m, r, f);
    }
    V top = FN(vexp2ref_lo)(near, k, &top_lo);
    FN(add_to)(&rs, vmul(others, top));
    V r = vadd(rs.s, rs.e), r_lo = vadd(vsub(rs.s, r), rs.e);
    /* sum = top + r, z = r / top and inv = 1 / sum, and what each rounded away */
    V sum = vadd(top, r), z = vdiv(r, top);
    V lost = vsel(mle(r, top), vsub(r, vsub(sum, top)), vsub(top, vsub(sum, r)));
    V sum_lo = vadd(lost, vadd(top_lo, r_lo));
    V z_lo = vadd(FN(vresidual)(z, top, r), vfnma(z, top_lo, r_lo)); /* times top */
    f.log1 = FN(vlog1p_low)(z, vdiv(z_lo, sum), false, &log1_lo);
    f.low = log1_lo;
    f.lse = vadd(m, f.log1);
    V back = vsub(f.lse, m);
    f.lse = vadd(f.lse, vadd(vadd(vsub(m, vsub(f.lse, back)), vsub(f.log1, back)), log1_lo));
    if (with_inv) {
        f.inv = vdiv(one, sum);
        f.inv_lo = vmul(vfnma(f.inv, sum_lo, FN(vresidual)(f.inv, sum, one)), f.inv);
        f.rest = vmul(r, f.inv);
    }
    return FN(lse_special)(m, r, f);
}

/* ---- from a finished state to its value and to the factors of its emit ---- */
/* log1p(z) - z for |z| < 0.4: log1p(z) = 2 atanh(s), z - 2 s = z s. */
INLINE V FN(vlog1pmx)(V z) {
    V s = vdiv(z, vadd(z, vset(2.0))), s2 = vmul(s, s), p = vset(2.0 / 23);
    UNROLL for (int n = 21; n >= 3; n -= 2) p = vfma(p, s2, vset(2.0 / n));
    return vmul(s, vsub(vmul(p, s2), z));
}

/* Not finite: the direct sum decides. exp(u) left the range somewhere, or c came out so large that its own rounding took it
 * away from the mean (|c| > 2^50 or so), or the row holds NaN or a true infinity. */
INLINE V FN(kl_of)(const group_state *s, int l) {
    const V zero = vset(0.0), nan = vset((R)NAN);
    V w = FN(value)(FN(load_sum)(&s->w, l)), u = FN(value)(FN(load_sum)(&s->u, l));
    V a = FN(value)(FN(load_sum)(&s->a, l));
    V z = vdiv(vadd(a, u), w);
    M near = mlt(vabs(z), vset(0.4));
    V v = vadd(vdiv(a, w), FN(vlog1pmx)(z));
    if (!mall(near)) {
        V log1 = FN(vlog1p)(z);
        V negative = vadd(vdiv(a, w), vsub(log1, z)), large = vsub(log1, vdiv(u, w));
        v = vsel(near, v, vsel(mlt(z, zero), negative, large));
    }
    v = vsel(mlt(v, zero), zero, v); /* only the rounding of equal rows falls below zero */
    v = vsel(mand(mle(vabs(u), vmul(vset(0.5), w)), mlt(vabs(z), vset(INF))), v, nan);
    return vsel(meq(w, zero), vsel(mne(a, a), a, zero), v);
}

/* log p = (x - hi) - lo: where x is near the maximum m the first difference is exact. */
INLINE void FN(split_lse)(const FN(lse) * f, V m, bool is_f32, V *hi, V *lo) {
    M known = mlt(vabs(m), vset(INF));
    V h = is_f32 ? FN(vfirst24)(f->lse) : f->lse;
    *hi = vsel(known, h, vsel(meq(m, vset(INF)), m, f->log1)); /* an all -inf row: NaN */
    *lo = vsel(known, vadd(vsub(m, h), f->log1), f->log1);
}

INLINE void FN(finish_rows)(const xent_job *job, reduce_kind kind, const row_group *g, const group_state *s, int l,
                            bool wide, group_result *r) {
    const V zero = vset(0.0), one = vset(1.0), nan = vset((R)NAN), none = vset(-INF), inf = vset(INF);
    const bool log_target = xent_target_is_log(job), emits = job->op->emit != EMIT_NONE || xent_is_js(job);
    const bool of_x = xent_sums_x(kind), of_y = xent_sums_y(job, kind);
    const bool soft = job->op->target == XENT_TARGET_PROBS || log_target;
    double redo[VN];
    V mx = none, my = none, total = one, py = zero, v = zero, tsum = zero, bsum = zero, tlogt = zero, weight;
    M unit = meq(zero, zero), again = mne(zero, zero);
    FN(lse) x = {zero, zero, zero, zero, zero, zero}, y = x;
    if (of_x) {
        x = FN(lse_of)(&s->x, l, wide, emits || kind == REDUCE_SENT);
        mx = vload(s->x.m + l);
    }
    if (kind >= REDUCE_KL && log_target)
        my = vload(s->y.m + l);
    if (of_y)
        y = FN(lse_of)(&s->y, l, wide, true);
    if (kind != REDUCE_LSE && kind != REDUCE_KL) {
        bsum = FN(value)(FN(load_sum)(&s->b, l));
        tsum = FN(value)(FN(load_sum)(&s->t, l));
    }
    weight = vload(g->weight + l);

    /* the sum of the target, and what E(y) is multiplied by to give it where the target is in log space */
    if (job->op->target == XENT_TARGET_LOGITS) {
        py = y.inv;
    } else if (log_target) { /* 2^k where c is 0, exactly */
        V w = xent_is_kl(kind) ? FN(value)(FN(load_sum)(&s->w, l)) : zero, low = vset(-8000.0), high = vset(8000.0);
        V c = vmin(high, vmax(low, vload(s->y.c + l))), k = vload(s->y.k + l);
        py = FN(vexp2ref)(c, vsub(zero, k));
        total = of_y ? vdiv(py, y.inv) : FN(vexp2ref)(c, vsub(vset(XENT_KL_LIFT), k));
        if (!of_y)
            total = vmul(total, w);
        total = vif(mne(my, none), total);
    } else if (soft) {
        total = xent_is_kl(kind) ? FN(value)(FN(load_sum)(&s->w, l)) : tsum;
    }
    if (job->op->value == VALUE_KL && job->op->target != XENT_TARGET_LOGITS) {
        /* whether a target is meant to sum to 1: what its own dtype may have rounded away */
        double tau = xent_dtype_eps(job->at[OPERAND_T].dtype) * (4.0 + sqrt((double)job->classes));
        unit = mle(vabs(vsub(total, one)), vset(tau));
        if (!mall(unit) || kind == REDUCE_PAIR)
            tlogt = vif(mne(total, zero), vmul(total, FN(vlog)(total)));
    }

    switch (job->op->value) {
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
        V known = vload(g->known + l);
        v = vif(mne(known, zero), vadd(x.log1, vsub(mx, vload(g->x_label + l))));
        break;
    }
    case VALUE_CE: {
        M no_t = meq(tsum, zero), no_x = meq(mx, none);
        V r = FN(value)(FN(load_sum)(&s->x.r, l));
        v = vadd(vsel(mand(no_t, meq(x.log1, x.log1)), zero, vmul(tsum, x.log1)), bsum);
        /* no class has any weight: 0 only if the target has none either */
        v = vsel(no_x, vsel(mand(no_t, meq(bsum, zero)), vmul(zero, r), nan), v);
        break;
    }
    case VALUE_NLL:
        v = vif(mne(vload(g->known + l), zero), vsub(zero, vload(g->x_label + l)));
        break;
    case VALUE_BCE:
        v = bsum;
        break;
    case VALUE_JS: /* REDUCE_JS finds it */
        break;
    case VALUE_KL:
        if (kind != REDUCE_PAIR) {
            v = vadd(vmul(FN(kl_of)(s, l), total), vif(mnot(unit), tlogt));
            if (job->op->target == XENT_TARGET_LOGITS && job->classes > 0)
                v = vsel(mor(meq(my, inf), meq(my, none)), nan, v);
            again = mnot(mlt(vabs(v), inf));
        }
        /* Out of range, NaN, or truly infinite: the direct sum says which. */
        if (kind == REDUCE_PAIR || (kind == REDUCE_KLPAIR && many(again))) {
            V direct = vsub(vadd(vmul(total, x.log1), bsum), vif(unit, tlogt));
            if (log_target)
                direct = vadd(vmul(total, vadd(vsub(vmul(bsum, y.inv), y.log1), x.log1)), vif(mnot(unit), tlogt));
            else if (kind == REDUCE_KLPAIR && job->op->target == XENT_TARGET_PROBS)
                direct = vsub(vadd(vmul(total, x.log1), bsum),
                              vif(mand(unit, mne(total, zero)), vmul(total, FN(vlog)(total))));
            v = kind == REDUCE_PAIR ? direct : vsel(again, direct, v);
        }
        break;
    }
    if (kind == REDUCE_KL && many(again)) {
        vstore(redo, vif(again, one));
        for (int i = 0; i < VN; i++)
            r->again[l + i] = redo[i] != 0.0;
        r->any_again = true;
    }
    vstore(r->value + l, vmul(v, weight));
    if (!emits)
        return;

    const V scale = vdiv(vmul(weight, vset(job->grad_scale)), vmul(vload(g->temperature + l), vset(job->divisor)));
    V hi, lo, px = zero, px_lo = zero, gt = zero, poison = zero, patch = zero;
    FN(split_lse)(&x, mx, wide, &hi, &lo);
    vstore(r->x_hi + l, hi);
    vstore(r->x_lo + l, lo);
    hi = lo = zero;
    if (of_y && job->op->target != XENT_TARGET_LOG_PROBS) /* those are taken as they are */
        FN(split_lse)(&y, my, wide, &hi, &lo);
    vstore(r->y_hi + l, hi);
    vstore(r->y_lo + l, lo);
    if (of_x) {
        vstore(r->xc + l, vload(s->x.c + l));
        vstore(r->xk + l, vload(s->x.k + l));
        vstore(r->xd + l, vif(mle(vabs(mx), vset(XENT_PLAIN)), mx));
    }
    if (of_y) {
        vstore(r->yc + l, vload(s->y.c + l));
        vstore(r->yk + l, vload(s->y.k + l));
        vstore(r->yd + l, vif(mle(vabs(my), vset(XENT_PLAIN)), my));
    }
    if (xent_is_js(job)) { /* the two log1, which are small, apart from the maxima, which may be anything */
        V gap = vsub(x.log1, y.log1), back = vsub(gap, x.log1);
        V first = wide ? FN(vfirst24)(gap) : gap;
        V rest = vadd(vsub(vsub(x.log1, vsub(gap, back)), vadd(y.log1, back)), vsub(x.low, y.low));
        vstore(r->x_hi + l, mx);
        vstore(r->y_hi + l, my);
        vstore(r->x_lo + l, first);
        vstore(r->y_lo + l, vadd(vsub(gap, first), rest));
    }
    switch (job->op->emit) {
    case EMIT_GRAD:
        gt = scale;
        px = vmul(vmul(scale, x.inv), total);
        py = vmul(py, scale);
        if (job->op->target == XENT_TARGET_LABELS) {
            M known = mne(vload(g->known + l), zero);
            V at = vload(g->x_label + l), c = vload(s->x.c + l);
            V d = vmax(vset(-XENT_PLAIN - EXP_LOW), vif(mne(at, c), vsub(at, c)));
            V p = vmul(FN(vexp2ref)(d, vload(s->x.k + l)), x.inv);
            px = vif(known, px);
            /* 1 - p without its cancellation */
            patch = vmul(scale, vsel(meq(at, mx), vsub(zero, x.rest), vsub(p, one)));
            patch = vsel(meq(at, inf), nan, patch);
        }
        break;
    case EMIT_CE_TERM:
    case EMIT_KL_TERM: { /* a NaN in the row, or a target that is no distribution, shows in every term */
        V seen = vadd(tsum, FN(value)(FN(load_sum)(&s->x.r, l)));
        if (of_y)
            seen = vadd(seen, FN(value)(FN(load_sum)(&s->y.r, l)));
        poison = vif(mne(seen, seen), nan);
        if (job->op->target == XENT_TARGET_LOGITS)
            poison = vsel(meq(my, none), nan, poison);
        gt = weight;
        py = vmul(py, weight);
        break;
    }
    case EMIT_AT_LABEL: /* the slope of what has a value, else the term itself */
        patch = vsub(zero, job->op->value == VALUE_NLL ? scale : vmul(weight, vload(g->x_label + l)));
        break;
    case EMIT_BCE_TERM:
        gt = weight;
        break;
    case EMIT_BCE_GRAD:
        gt = scale;
        break;
    case EMIT_NONE: /* Jensen-Shannon's second reduction wants the factors of its emits */
    case EMIT_JS_TERM:
    case EMIT_JS_GRAD:
        px = x.inv;
        gt = job->op->emit == EMIT_JS_GRAD ? vmul(vset(0.5), scale) : weight;
        break;
    default:
        px = wide ? FN(vfirst24)(x.inv) : x.inv;
        px_lo = vadd(vsub(x.inv, px), x.inv_lo);
        break;
    }
    vstore(r->px + l, px);
    vstore(r->px_lo + l, px_lo);
    vstore(r->py + l, py);
    vstore(r->g + l, gt);
    vstore(r->poison + l, poison);
    vstore(r->patch + l, patch);
}

static void FN(finish)(const xent_job *job, reduce_kind kind, const row_group *g, const group_state *s,
                       group_result *r) {
    r->any_again = false;
    memset(r->again, 0, sizeof r->again);
    for (int l = 0; l < g->rows; l += VN)
        if (job->is_f32)
            FN(finish_rows)(job, kind, g, s, l, true, r);
        else
            FN(finish_rows)(job, kind, g, s, l, false, r);
    if (g->any_dead && job->op->value != VALUE_LSE)
        for (int l = 0; l < g->rows; l++)
            r->value[l] = g->dead[l] ? 0.0 : r->value[l];
}
