/* rows.h: what is done once a row or once a tile, for several rows at once: merging states, the centre of KL's sums, and
 * from finished states to values and to the factors of the emits. Included for double alone, which is what states are held
 * in; nothing here depends on how many rows there are or on a row's place among them. */
INLINE FN(sum) FN(load_sum)(const double *s, const double *e, int l) {
    FN(sum) v = {vload(s + l), vload(e + l)};
    return v;
}
INLINE void FN(store_sum)(FN(sum) v, double *s, double *e, int l) {
    vstore(s + l, v.s);
    vstore(e + l, v.e);
}
INLINE void FN(merge_sum)(FN(sum) * a, FN(sum) b) {
    FN(add_to)(a, b.s);
    a->e = vadd(a->e, b.e);
}
INLINE FN(top) FN(load_top)(const lane_top *a, int l) {
    FN(top)
    v = {vload(a->m + l),
         vload(a->n + l),
         {vload(a->c + l), vload(a->k + l), vset(0.0)},
         FN(load_sum)(a->r.s, a->r.e, l)};
    v.ref.low = vsub(vif(mle(vabs(v.m), vset(XENT_PLAIN)), v.m), vset(EXP_LOW));
    return v;
}
INLINE void FN(store_top)(const FN(top) * v, lane_top *a, int l) {
    vstore(a->m + l, v->m);
    vstore(a->n + l, v->n);
    vstore(a->c + l, v->ref.c);
    vstore(a->k + l, v->ref.k);
    FN(store_sum)(v->r, a->r.s, a->r.e, l);
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

INLINE FN(kl) FN(load_kl)(const group_state *s, int l) {
    FN(kl)
    v = {vload(s->c + l), vload(s->c_lo + l), FN(load_sum)(s->w.s, s->w.e, l), FN(load_sum)(s->u.s, s->u.e, l),
         FN(load_sum)(s->a.s, s->a.e, l)};
    return v;
}
INLINE void FN(store_kl)(const FN(kl) * v, group_state *s, int l) {
    vstore(s->c + l, v->c);
    vstore(s->c_lo + l, v->c_lo);
    FN(store_sum)(v->w, s->w.s, s->w.e, l);
    FN(store_sum)(v->u, s->u.s, s->u.e, l);
    FN(store_sum)(v->a, s->a.s, s->a.e, l);
}

/* The sums against c - (e + low) instead of c. A small e is added as a difference, so that thousands of small shifts round
 * no more than one; a large one is a factor, which must not cancel, and whose own rounding (low) counts. */
INLINE void FN(kl_shift)(FN(kl) * s, V e, V low) {
    const V zero = vset(0.0);
    V w = FN(value)(s->w), a = FN(value)(s->a), m1, mx;
    M some = mne(w, zero), small = mlt(vabs(e), vset(0.5)), none = mand(meq(e, zero), meq(low, zero));
    V all = FN(vexpm1s)(e, &m1, &mx);
    low = vif(mlt(vabs(low), vset(1.0)), low);
    V change = vmul(all, low);
    mx = vfma(m1, low, mx);
    m1 = vadd(m1, change);
    V more = vif(some, vadd(vmul(m1, FN(value)(s->u)), vmul(mx, w)));
    V f = vsel(small, vset(1.0), vadd(all, change));
    FN(scale)(&s->a, f);
    FN(add_to)(&s->a, vif(mand(small, mnot(none)), vmul(m1, a)));
    FN(add_to)(&s->a, vif(mnot(none), more));
    FN(add_to)(&s->u, vif(some, vfma(e, w, vmul(low, w))));
}

/* The sums of either, by lanes. */
INLINE FN(kl) FN(kl_select)(M m, const FN(kl) * a, const FN(kl) * b) {
    FN(kl) v;
#define EITHER(field) v.field = vsel(m, a->field, b->field)
    EITHER(c);
    EITHER(c_lo);
    EITHER(w.s);
    EITHER(w.e);
    EITHER(u.s);
    EITHER(u.e);
    EITHER(a.s);
    EITHER(a.e);
#undef EITHER
    return v;
}

/* No exp(x - c), and no word of a t above 0 where x is -inf, either: that makes U a NaN, and the direct sum says so. */
INLINE M FN(kl_nothing)(const FN(kl) * s) {
    return mand(meq(FN(value)(s->a), vset(0.0)), meq(FN(value)(s->u), vset(0.0)));
}

/* Both against the same reference of t, about their common mean: that of the one with any t to speak of where the other has
 * none, and the larger c where neither has, so that no exp(x - c) overflows, nor loses digits below the normal range. */
INLINE void FN(kl_merge)(FN(kl) * a, FN(kl) b) {
    const V zero = vset(0.0);
    V wa = FN(value)(a->w), wb = FN(value)(b.w);
    const V slight = vset(KL_SLIGHT);
    M no_b = mlt(wb, slight), empty = no_b;
    const bool some_have_none = many(mor(mlt(wa, slight), no_b));
    if (some_have_none) {
        const M none_a = FN(kl_nothing)(a), none_b = FN(kl_nothing)(&b);
        const M turn = mand(mlt(wa, slight), mor(mnot(no_b), mor(none_a, mand(mnot(none_b), mlt(a->c, b.c)))));
        const FN(kl) first = *a;
        *a = FN(kl_select)(turn, &b, a);
        b = FN(kl_select)(turn, &first, &b);
        wa = FN(value)(a->w);
        wb = FN(value)(b.w);
        no_b = mlt(wb, slight);
        empty = mand(meq(wb, zero), FN(kl_nothing)(&b));
    }
    FN(kl) merged = *a, other = b;
    V low, lost, gap = FN(two_sum)(b.c, vsub(zero, a->c), &low);
    low = vadd(low, vsub(b.c_lo, a->c_lo));
    V sum_u = vadd(vadd(FN(value)(a->u), vmul(wb, vadd(gap, low))), FN(value)(b.u));
    V move = vif(mnot(no_b), vdiv(sum_u, vadd(wa, wb)));
    FN(kl_shift)(&merged, vsub(zero, move), zero);
    V e = FN(two_sum)(gap, vsub(zero, move), &lost);
    e = FN(two_sum)(e, vadd(lost, low), &low); /* both may be tiny: low has to be what e rounds */
    FN(kl_shift)(&other, e, low);
    FN(merge_sum)(&merged.w, other.w);
    FN(merge_sum)(&merged.u, other.u);
    FN(merge_sum)(&merged.a, other.a);
    merged.c = FN(two_sum)(a->c, move, &lost);
    merged.c = FN(two_sum)(merged.c, vadd(a->c_lo, lost), &merged.c_lo);
    *a = some_have_none ? FN(kl_select)(empty, a, &merged) : merged;
}

/* y's reference rises: t is held against one exp(d) as large from now on. Where nothing is left of t beside what comes, or
 * nothing was there, the sums are exp(x - c) alone, and c falls by as much as the reference rises: they must not become 0 with
 * t, because x may still be anything there. */
static void FN(kl_follow)(int rows, int at, const kl_rise *r, group_state *s) {
    const V zero = vset(0.0), least = vset(-8000.0);
    for (int l = 0; l < rows; l += VN) {
        FN(kl) v = FN(load_kl)(s, at + l);
        V rise = vsub(vload(r->old_k + l), vload(r->new_k + l)), low, lower, lowest;
        V d = FN(two_sum)(vload(r->old_c + l), vsub(zero, vload(r->new_c + l)), &low);
        V f = FN(vexp2ref)(vmin(zero, vmax(least, d)), vsub(zero, rise));
        M no_t = meq(FN(value)(v.w), zero), moves = mor(no_t, mlt(f, vset(KL_FAINT)));
        FN(sum) e = v.a; /* sum t exp(u) */
        FN(merge_sum)(&e, v.u);
        FN(merge_sum)(&e, v.w);
        v.a.s = vsel(moves, e.s, vmul(v.a.s, f));
        v.a.e = vsel(moves, e.e, vmul(v.a.e, f));
        f = vif(mnot(moves), f);
        FN(scale)(&v.w, f);
        FN(scale)(&v.u, f);
        moves = mand(moves, mne(FN(value)(v.a), zero));
        V c = FN(two_sum)(FN(two_sum)(v.c, d, &lower), vmul(rise, vset(XENT_LN2_A)), &lowest);
        low = vadd(vadd(low, lower), vfma(rise, vset(XENT_LN2_B), lowest));
        v.c = vsel(moves, c, v.c);
        v.c_lo = vadd(v.c_lo, vif(moves, low));
        FN(store_kl)(&v, s, at + l);
    }
}

INLINE FN(kl_tile) FN(load_part)(const kl_part *p, int l) {
    FN(kl_tile)
    v = {.w = FN(load_sum)(p->w.s, p->w.e, l),
         .d = FN(load_sum)(p->d.s, p->d.e, l),
         .u = FN(load_sum)(p->u.s, p->u.e, l),
         .a = FN(load_sum)(p->a.s, p->a.e, l)};
#define LOAD(field) v.field = vload(p->field + l)
    LOAD(hi);
    LOAD(lo);
    LOAD(most);
    LOAD(top);
    LOAD(xc);
    LOAD(xk);
    LOAD(tc);
    LOAD(tk);
    LOAD(mean);
    LOAD(c);
    LOAD(c_lo);
#undef LOAD
    return v;
}

/* The centres of rows' tiles. */
static void FN(kl_centres)(int rows, bool is_f32, kl_part *p) {
    for (int l = 0; l < rows; l += VN) {
        FN(kl_tile) v = FN(load_part)(p, l);
        FN(kl_centre)(&v, is_f32);
        vstore(p->factor + l, v.factor);
        vstore(p->mean + l, v.mean);
        vstore(p->c + l, v.c);
        vstore(p->c_lo + l, v.c_lo);
    }
}

/* The tiles' sums, added to rows at and following. */
static void FN(kl_add)(int rows, int at, bool first, const kl_part *p, group_state *s) {
    for (int l = 0; l < rows; l += VN) {
        const FN(kl_tile) tile = FN(load_part)(p, l);
        FN(kl) v = FN(kl_of_tile)(&tile);
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
INLINE kl_rise FN(rise_of)(FN(vref) old, FN(vref) new) {
    kl_rise r;
    vstore(r.old_c, old.c);
    vstore(r.old_k, old.k);
    vstore(r.new_c, new.c);
    vstore(r.new_k, new.k);
    return r;
}

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
            p.t = FN(load_sum)(a->t.s, a->t.e, l);
            p.b = FN(load_sum)(a->b.s, a->b.e, l);
            q.t = FN(load_sum)(b->t.s, b->t.e, l);
            q.b = FN(load_sum)(b->b.s, b->b.e, l);
        }
        V m = vmax(p.x.m, q.x.m), my = vmax(p.y.m, q.y.m);
        FN(raise_x)(kind, log_target, &p, m);
        FN(raise_x)(kind, log_target, &q, m);
        if (xent_is_kl(kind)) {
            group_state other = *b;
            const FN(vref) pr = p.y.ref, qr = q.y.ref;
            FN(raise_y)(&p, my);
            FN(raise_y)(&q, my);
            const kl_rise up = FN(rise_of)(pr, p.y.ref), other_up = FN(rise_of)(qr, q.y.ref);
            FN(kl_follow)(VN, l, &up, a);
            FN(kl_follow)(VN, l, &other_up, &other);
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
            FN(store_sum)(p.t, a->t.s, a->t.e, l);
            FN(store_sum)(p.b, a->b.s, a->b.e, l);
        }
    }
}

/* ---- finishing ---- */
INLINE FN(state) FN(load_state)(const xent_job *job, reduce_kind kind, const group_state *s, int l) {
    FN(state) v = FN(start)();
    if (xent_sums_x(kind))
        v.x = FN(load_top)(&s->x, l);
    if (kind >= REDUCE_KL && xent_target_is_log(job))
        v.y = FN(load_top)(&s->y, l);
    if (kind != REDUCE_LSE && kind != REDUCE_KL) {
        v.t = FN(load_sum)(s->t.s, s->t.e, l);
        v.b = FN(load_sum)(s->b.s, s->b.e, l);
    }
    return v;
}

INLINE void FN(finish_rows)(const xent_job *job, const reduce_kind kind, const value_kind value, const emit_kind emit,
                            const row_group *g, const group_state *s, int l, const bool wide, group_result *r) {
    const FN(state) v = FN(load_state)(job, kind, s, l);
    const FN(row) row = {vload(g->weight + l), vload(g->scale + l), vload(g->known + l), vload(g->x_label + l)};
    FN(kl) kl;
    if (xent_is_kl(kind))
        kl = FN(load_kl)(s, l);
    const FN(finished) f =
        FN(finish_state)(job, kind, job->op->target, value, emit, wide, &v, xent_is_kl(kind) ? &kl : NULL, &row);
    vstore(r->value + l, f.value);
    if (kind == REDUCE_KL && many(f.again)) {
        double redo[VN];
        vstore(redo, vif(f.again, vset(1.0)));
        for (int i = 0; i < VN; i++)
            r->again[l + i] = redo[i] != 0.0;
        r->any_again = true;
    }
    if (emit == EMIT_NONE && !xent_is_js(job))
        return;
#define STORE(field) vstore(r->field + l, f.field)
    STORE(x_hi);
    STORE(x_lo);
    STORE(y_hi);
    STORE(y_lo);
    STORE(xc);
    STORE(xk);
    STORE(xd);
    STORE(yc);
    STORE(yk);
    STORE(yd);
    STORE(px);
    STORE(px_lo);
    STORE(py);
    STORE(g);
    STORE(poison);
    STORE(patch);
#undef STORE
}

static void FN(finish)(const xent_job *job, reduce_kind kind, const row_group *g, const group_state *s,
                       group_result *r) {
    r->any_again = false;
    memset(r->again, 0, sizeof r->again);
    const value_kind value = job->op->value;
    const emit_kind emit = job->op->emit;
    for (int l = 0; l < g->rows; l += VN)
        if (kind == REDUCE_KL) /* which is asked for values alone */
            FN(finish_rows)(job, REDUCE_KL, VALUE_KL, EMIT_NONE, g, s, l, job->is_f32, r);
        else if (job->is_f32)
            FN(finish_rows)(job, kind, value, emit, g, s, l, true, r);
        else
            FN(finish_rows)(job, kind, value, emit, g, s, l, false, r);
    if (g->any_dead && job->op->value != VALUE_LSE)
        for (int l = 0; l < g->rows; l++)
            r->value[l] = g->dead[l] ? 0.0 : r->value[l];
}
