/* finish.h: the three steps by their names in the lists: a tile folded in, a state finished, a class's number emitted; and two
 * states merged. What each is, the families say. */

INLINE void FN(fold_tile)(const reduce_kind kind, const FN(folding) * F) {
    switch (kind) {
    case REDUCE_NONE:
        break;
#define REDUCTION(name, PARTS, B_HOLDS, OPTIONS, COST, FEW, AGAIN, PIECES, QUICK)                                      \
    case REDUCE_##name:                                                                                                \
        FN(fold_##name)(F);                                                                                            \
        break;
#include "../reductions.def"
#undef REDUCTION
    }
}

/* The operation is given apart from the job, so that a caller that knows it has it compiled for that alone. */
INLINE FN(finished)
    FN(finish_state)(const xent_job *job, const reduce_kind kind, const xent_target target, const value_kind value,
                     const emit_kind emit, const bool rough, const FN(state) * s, const FN(row) * row) {
    const V zero = vset((R)0), one = vset((R)1), none = vset(-INF);
    const int parts = xent_parts(kind);
    const bool emits = emit != EMIT_NONE || kind == REDUCE_JS, of_y = parts & PART_Y_SUM;
    FN(ending) e = {.job = job, .kind = kind, .target = target, .rough = rough, .s = s, .row = row};
    FN(finished) f;
    e.total = one;
    e.py = zero;
    e.again = mne(zero, zero);
    e.x = e.y = (FN(lse)){zero, zero, zero, zero, zero, zero, zero};
#define ONE(field) f.field = zero;
    XENT_FACTORS(ONE)
#undef ONE
    if (parts & PART_X)
        e.x = FN(lse_of)(&s->x, rough, emits || kind == REDUCE_SENT);
    if (of_y)
        e.y = FN(lse_of)(&s->y, rough, true);

    if (target == XENT_TARGET_LOGITS) {
        e.py = e.y.inv;
    } else if (target == XENT_TARGET_LOG_PROBS) { /* 2^k where c is 0, exactly */
        V low = vset((R)-8000), high = vset((R)8000), c = vmin(high, vmax(low, s->y.ref.c)), k = s->y.ref.k;
        e.py = FN(vexp2ref)(c, vsub(zero, k));
        if (of_y) { /* without what rounding 1 / sum takes away, which is known */
            V t = vdiv(e.py, e.y.inv), off = vmul(t, vdiv(e.y.inv_lo, e.y.inv));
            e.total = vsub(t, vif(mlt(vabs(off), vset(INF)), off));
        } else {
            e.total = FN(kl_total)(&e);
        }
        e.total = vif(mne(s->y.m, none), e.total);
    } else if (target == XENT_TARGET_PROBS) {
        e.total = FN(value)(parts & PART_KL ? s->kl.w : s->t);
    }

    V v = zero;
    switch (value) {
    case VALUE_NONE:
        break;
#define ONE(name)                                                                                                      \
    case VALUE_##name:                                                                                                 \
        v = FN(value_##name)(&e);                                                                                      \
        break;
        XENT_VALUES(ONE)
#undef ONE
    }
    e.value = v;
    f.value = FN(weigh)(v, row->weight);
    f.again = e.again;
    if (!emits)
        return f;

    f.g = row->scale;
    FN(split_lse)(&e.x, s->x.m, rough, &f.x_hi, &f.x_lo);
    if (of_y && target != XENT_TARGET_LOG_PROBS) /* those are taken as they are */
        FN(split_lse)(&e.y, s->y.m, rough, &f.y_hi, &f.y_lo);
    f.xc = s->x.ref.c;
    f.xk = s->x.ref.k;
    f.xd = vif(mle(vabs(s->x.m), vset((R)XENT_PLAIN)), s->x.m);
    f.yc = s->y.ref.c;
    f.yk = s->y.ref.k;
    f.yd = vif(mle(vabs(s->y.m), vset((R)XENT_PLAIN)), s->y.m);
    if (kind == REDUCE_JS)
        FN(factors_of_js)(&e, &f);
    switch (emit) {
    case EMIT_NONE:
        break;
#define ONE(name, order, of_exp)                                                                                       \
    case EMIT_##name:                                                                                                  \
        FN(factors_##name)(&e, &f);                                                                                    \
        break;
        XENT_EMITS(ONE)
#undef ONE
    }
    return f;
}

INLINE void FN(emit_tile)(const emit_kind emit, const FN(writing) * w) {
    switch (emit) {
    case EMIT_NONE:
        break;
#define ONE(name, order, of_exp)                                                                                       \
    case EMIT_##name:                                                                                                  \
        FN(emit_##name)(w);                                                                                            \
        break;
        XENT_EMITS(ONE)
#undef ONE
    }
}

#if XENT_REAL == 64
/* ---- rows of a group: nothing here depends on how many there are or on a row's place among them ---- */
static void FN(merge)(reduce_kind kind, int rows, group_state *a, const group_state *b) {
    const int parts = xent_parts(kind);
    for (int l = 0; l < rows; l += VN) {
        FN(state) p = FN(load_state)(parts, a, l), q = FN(load_state)(parts, b, l);
        const FN(vref) p_ref = p.y.ref, q_ref = q.y.ref;
        V m = vmax(p.x.m, q.x.m), my = vmax(p.y.m, q.y.m);
        FN(raise_x)(kind, &p, m);
        FN(raise_x)(kind, &q, m);
        FN(raise_y)(kind, &p, my);
        FN(raise_y)(kind, &q, my);
        if (parts & PART_KL) {
            FN(kl_follow)(p_ref, p.y.ref, &p.kl);
            FN(kl_follow)(q_ref, q.y.ref, &q.kl);
            FN(kl_merge)(&p.kl, q.kl);
        }
#define KEPT_(part, field)
#define ADDED(part, field)                                                                                             \
    if (parts & PART_##part)                                                                                           \
        p.field = vadd(p.field, q.field);
#define SUM(part, field)                                                                                               \
    if (parts & PART_##part & ~PART_KL)                                                                                \
        FN(merge_sum)(&p.field, q.field);
        XENT_STATE(KEPT_, ADDED, SUM)
#undef KEPT_
#undef ADDED
#undef SUM
        FN(store_state)(parts, &p, a, l, VN);
    }
}

INLINE void FN(finish_rows)(const xent_job *job, const reduce_kind kind, const value_kind value, const emit_kind emit,
                            const row_group *g, const group_state *s, int l, const bool rough, group_result *r) {
    const FN(state) v = FN(load_state)(xent_parts(kind), s, l);
    const FN(row) row = {vload(g->weight + l), vload(g->scale + l), vload(g->known + l), vload(g->x_label + l)};
    const FN(finished) f = FN(finish_state)(job, kind, job->op->target, value, emit, rough, &v, &row);
    vstore(r->value + l, f.value);
    if (xent_reduce_of(kind).again != REDUCE_NONE && many(f.again)) {
        double redo[VN];
        vstore(redo, vif(f.again, vset(1.0)));
        for (int i = 0; i < VN; i++)
            r->again[l + i] = redo[i] != 0.0;
        r->any_again = true;
    }
    if (emit == EMIT_NONE && kind != REDUCE_JS)
        return;
#define ONE(field) vstore(r->field + l, f.field);
    XENT_FACTORS(ONE)
#undef ONE
}

static void FN(finish)(const xent_job *job, reduce_kind kind, const row_group *g, const group_state *s,
                       group_result *r) {
    r->any_again = false;
    memset(r->again, 0, sizeof r->again);
    const value_kind value = job->op->value;
    const emit_kind emit = job->op->emit;
    for (int l = 0; l < g->rows; l += VN)
        if (job->is_f32)
            FN(finish_rows)(job, kind, value, emit, g, s, l, true, r);
        else
            FN(finish_rows)(job, kind, value, emit, g, s, l, false, r);
    if (g->any_dead && job->op->value != VALUE_LSE)
        for (int l = 0; l < g->rows; l++)
            r->value[l] = g->dead[l] ? 0.0 : r->value[l];
}
#endif
