/* few.h: rows of few classes, a lane each, from storage to results without leaving the vectors: they are reduced as any tile
 * is, but finished in the tile's own real (rows of many classes: in double, together). One function an operation of the list,
 * so that nothing is asked that the list answers. Each step is done for all vectors of the group before the next: a row's
 * own chain of operations is long, and only other rows fill the time that it waits for itself. */
enum { FN(FEW) = GROUP_ROWS / VN };

INLINE void FN(few_store)(const xent_job *job, const row_group *g, int at, V value, const bool clear, double *values) {
    const operand *o = &job->at[OPERAND_VALUE];
    const int rows = FN(rows_at)(job, g, at);
    R v[VN];
    vstore(v, value);
    if (g->any_dead && clear)
        for (int l = 0; l < rows; l++)
            v[l] = g->dead[at + l] ? (R)0 : v[l];
    if (job->at[OPERAND_WEIGHT].data || job->class_weight.data) { /* in double: floats do not hold every weight */
        for (int l = 0; l < rows; l++) {
            const double weighed = xent_weigh((double)v[l], g->weight[at + l]);
            if (values)
                values[at + l] = weighed;
            if (o->data)
                xent_store_scalar(o->data + g->off[OPERAND_VALUE][at + l], o->dtype, o->swapped, weighed);
        }
        return;
    }
    for (int l = 0; values && l < rows; l++)
        values[at + l] = (double)v[l];
    if (!o->data)
        return;
    if (FN(in_place)(job, g, at, OPERAND_VALUE))
        vstore(o->data + g->off[OPERAND_VALUE][at], vload(v));
    else if (FN(is_real)(o))
        for (int l = 0; l < rows; l++)
            memcpy(o->data + g->off[OPERAND_VALUE][at + l], &v[l], sizeof(R));
    else
        for (int l = 0; l < rows; l++)
            xent_store_scalar(o->data + g->off[OPERAND_VALUE][at + l], o->dtype, o->swapped, (double)v[l]);
}

/* Whether stores streamed. */
INLINE bool FN(few_emit)(const xent_job *job, const row_group *g, int at, const FN(tile) * T, const FN(finished) * f,
                         const xent_target target, const emit_kind emit, const R *keep) {
    _Alignas(64) R buf[ACROSS_CLASSES * VN];
    const operand *o = &job->at[OPERAND_OUT];
    const bool straight = !g->any_dead && !g->any_after && FN(in_place)(job, g, at, OPERAND_OUT);
    char *base = straight ? o->data + g->off[OPERAND_OUT][at] : (char *)buf;
    const ptrdiff_t step = straight ? o->cs : (ptrdiff_t)sizeof(V);
    const bool stream = job->streams && straight && target != XENT_TARGET_LABELS && step % (ptrdiff_t)sizeof(V) == 0 &&
                        (uintptr_t)base % sizeof(V) == 0;
    FN(writing)
    w = {.job = job,
         .target = target,
         .T = T,
         .f = f,
         .at = at,
         .out = base,
         .os = step,
         .kept = xent_emit_of(emit).of_exp,
         .keep = keep};
    if (stream) { /* a constant in each */
        w.stream = true;
        FN(emit_tile)(emit, &w);
    } else {
        FN(emit_tile)(emit, &w);
    }
    if (target == XENT_TARGET_LABELS) {
        R patch[VN];
        vstore(patch, f->patch);
        for (int l = 0; l < FN(rows_at)(job, g, at); l++)
            if (g->label[at + l] >= 0)
                memcpy(base + g->label[at + l] * step + l * (ptrdiff_t)sizeof(R), &patch[l], sizeof(R));
    }
    if (!straight)
        FN(unpack_tile)(job, g, at, 0, job->classes, buf, NULL);
    return stream;
}

/* The lines that the next groups write, where rows follow each other in memory. */
INLINE void FN(few_fetch)(const xent_job *job, const row_group *g) {
    const operand *o = &job->at[OPERAND_OUT];
    const ptrdiff_t *off = g->off[OPERAND_OUT], span = off[g->rows - 1] - off[0];
    if (span >= 0 && span <= GROUP_ROWS * ACROSS_CLASSES * (ptrdiff_t)sizeof(R))
        for (ptrdiff_t b = 0; b <= span; b += LINE)
            __builtin_prefetch(o->data + off[0] + GATHER_AHEAD + b, 1);
}

/* The first of fold_rows' two steps (rows.h) for a tile that is all of its rows. */
INLINE FN(state) FN(few_lead)(const FN(tile) * T, const reduce_kind kind) {
    FN(state) s = FN(start)();
    if (xent_parts(kind) & PART_X)
        FN(lead_x)(T, kind, true, &s);
    if (xent_parts(kind) & PART_Y) {
        s.y.m = FN(tile_max)(T->t, T->ts, T);
        s.y.ref = FN(vref_of)(s.y.m);
    }
    return s;
}

/* Rows whose state left its range, folded once more. */
static V FN(few_again)(const xent_job *job, const reduce_kind kind, const FN(tile) * T, const FN(row) * row) {
    FN(state) s = FN(few_lead)(T, kind);
    const FN(folding) F = {.job = job, .T = T, .s = &s, .first = true, .tops = true, .whole = true};
    /* only what the list folds again is compiled for this */
    if (kind == REDUCE_NONE)
        return vset((R)0);
#define REDUCTION(name, PARTS, B_HOLDS, OPTIONS, COST, FEW, AGAIN, PIECES, QUICK)                                      \
    else if (REDUCE_##AGAIN != REDUCE_NONE && kind == REDUCE_##AGAIN) FN(fold_tile)(REDUCE_##AGAIN, &F);
#include "../reductions.def"
#undef REDUCTION
    return FN(finish_state)(job, kind, job->op->target, job->op->value, EMIT_NONE, false, &s, row).value;
}

INLINE void FN(few_rows)(const xent_job *job, const row_group *g, double *values, void *room, const reduce_kind kind,
                         const xent_target target, const value_kind value, const emit_kind emit) {
    enum { ROOM = ACROSS_CLASSES * VN };
    _Alignas(64) R x[FN(FEW)][ROOM], t[FN(FEW)][ROOM];
    R(*const keep)[2 * ROOM] = room; /* at most KEEP_BYTES */
    const bool keeps = xent_emit_of(emit).of_exp, soft = xent_is_log(target) || target == XENT_TARGET_PROBS;
    const reduce_kind once_more = xent_reduce_of(kind).again;
    const int vectors = (g->rows + VN - 1) / VN;
    const bool optional = job->at[OPERAND_WEIGHT].data || job->class_weight.data || job->at[OPERAND_TEMPERATURE].data;
    const V zero = vset((R)0), one = vset((R)1);
    FN(tile) T[FN(FEW)];
    FN(state) s[FN(FEW)];
    FN(finished) f[FN(FEW)];
    if (emit != EMIT_NONE)
        FN(few_fetch)(job, g);
    for (int q = 0; q < vectors; q++)
        FN(load_tile)(job, g, q * VN, 0, job->classes, true, x[q], t[soft ? q : 0], NULL, &T[q]);
    for (int q = 0; q < vectors; q++) {
        FN(state) now = FN(few_lead)(&T[q], kind);
        const FN(folding) F = {.job = job,
                               .T = &T[q],
                               .s = &now,
                               .first = true,
                               .tops = true,
                               .whole = true,
                               .keeps = keeps,
                               .keep = keeps ? keep[q] : NULL};
        FN(fold_tile)(kind, &F);
        s[q] = now;
    }
    for (int q = 0; q < vectors; q++) {
        FN(row) row = {one, vset((R)g->scale[0]), zero, zero}; /* few_store weighs */
        if (emit != EMIT_NONE && optional)
            row.scale = FN(spread)(g->scale + q * VN, true);
        if (target == XENT_TARGET_LABELS) {
            row.known = FN(spread)(g->known + q * VN, true);
            row.x_label = FN(spread)(g->x_label + q * VN, true);
        }
        f[q] = FN(finish_state)(job, kind, target, value, emit, false, &s[q], &row);
        if (once_more != REDUCE_NONE && many(f[q].again))
            f[q].value = vsel(f[q].again, FN(few_again)(job, once_more, &T[q], &row), f[q].value);
    }
    for (int q = 0; q < vectors && value != VALUE_NONE; q++)
        FN(few_store)(job, g, q * VN, f[q].value, value != VALUE_LSE, values);
    bool streamed = false;
    for (int q = 0; q < vectors && emit != EMIT_NONE; q++)
        streamed |= FN(few_emit)(job, g, q * VN, &T[q], &f[q], target, emit, keeps ? keep[q] : NULL);
    if (streamed)
        vstream_end();
}

#define OP(name, REDUCE, TARGET, VALUE, EMIT)                                                                          \
    static void FN(few_##name)(const xent_job *job, const row_group *g, double *values, void *room) {                  \
        if (FEW_##REDUCE)                                                                                              \
            FN(few_rows)(job, g, values, room, REDUCE_##REDUCE, XENT_TARGET_##TARGET, VALUE_##VALUE, EMIT_##EMIT);     \
    }
#include "../ops.def"
#undef OP

static void FN(walk_few)(const xent_job *job, const row_group *g, double *values, void *room) {
    static void (*const few[])(const xent_job *, const row_group *, double *, void *) = {
#define OP(name, REDUCE, TARGET, VALUE, EMIT) FN(few_##name),
#include "../ops.def"
#undef OP
    };
    few[job->op_number](job, g, values, room);
}
