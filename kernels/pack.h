/* pack.h: between storage and tiles. A tile points straight into memory where the layout and dtype allow it, else it is
 * copied into L1 on the way: there, and nowhere else, dtypes are converted, strides and byte orders undone, temperature,
 * masks, class weights, label smoothing and one-hot labels applied, and rows of few classes transposed. Both ways give the
 * same bits. */

/* dst[j * dcs] = element j of the row at p. */
static void FN(pack_row)(const char *p, ptrdiff_t cs, int dtype, int swapped, ptrdiff_t count, R *dst, ptrdiff_t dcs) {
#define PACK_LOOP(BITS, SWAP, TO_REAL)                                                                                 \
    for (ptrdiff_t j = 0; j < count; j++) {                                                                            \
        BITS b;                                                                                                        \
        memcpy(&b, p + j * cs, sizeof b);                                                                              \
        b = SWAP(b);                                                                                                   \
        dst[j * dcs] = (R)TO_REAL(b);                                                                                  \
    }                                                                                                                  \
    break
    switch (dtype * 2 + (swapped != 0)) {
    case XENT_F16 * 2:
        PACK_LOOP(uint16_t, , half_to_float);
    case XENT_F16 * 2 + 1:
        PACK_LOOP(uint16_t, __builtin_bswap16, half_to_float);
    case XENT_F32 * 2:
        PACK_LOOP(uint32_t, , bits_to_float);
    case XENT_F32 * 2 + 1:
        PACK_LOOP(uint32_t, __builtin_bswap32, bits_to_float);
    case XENT_F64 * 2:
        PACK_LOOP(uint64_t, , bits_to_double);
    case XENT_F64 * 2 + 1:
        PACK_LOOP(uint64_t, __builtin_bswap64, bits_to_double);
    default: /* request.c lets no other dtype through */
        break;
    }
#undef PACK_LOOP
}

static bool FN(is_real)(const operand *o) {
    return o->dtype == (XENT_REAL == 32 ? XENT_F32 : XENT_F64) && !o->swapped;
}

/* Whether vectors can be loaded and stored in place. */
static bool FN(in_place)(const xent_job *job, const row_group *g, int which) {
    const operand *o = &job->at[which];
    if (!FN(is_real)(o))
        return false;
    if (!job->across)
        return o->cs == (ptrdiff_t)sizeof(R);
    if (g->rows < VN)
        return false;
    for (int l = 1; l < VN; l++)
        if (g->off[which][l] - g->off[which][0] != l * (ptrdiff_t)sizeof(R))
            return false;
    return true;
}

static void FN(pack_tile)(const xent_job *job, const row_group *g, int which, ptrdiff_t c0, ptrdiff_t count, R fill,
                          R *dst) {
    const operand *o = &job->at[which], *where = &job->at[OPERAND_WHERE];
    const bool is_target = which == OPERAND_T;
    const ptrdiff_t dcs = job->across ? VN : 1;
    const bool tempered = job->at[OPERAND_TEMPERATURE].data && (!is_target || job->op->target == XENT_TARGET_LOGITS);
    const bool shaped = is_target && job->op->target == XENT_TARGET_PROBS;
    if (job->across && g->rows < VN)
        for (ptrdiff_t j = 0; j < count * VN; j++)
            dst[j] = fill;
    for (int l = 0; l < g->rows; l++) {
        R *d = dst + (job->across ? l : 0);
        if (is_target && job->has_labels) {
            for (ptrdiff_t j = 0; j < count; j++)
                d[j * dcs] = (R)0;
            if (g->label[l] >= c0 && g->label[l] < c0 + count)
                d[(g->label[l] - c0) * dcs] = (R)1;
        } else {
            FN(pack_row)(o->data + g->off[which][l] + c0 * o->cs, o->cs, o->dtype, o->swapped, count, d, dcs);
        }
        if (tempered)
            for (ptrdiff_t j = 0; j < count; j++)
                d[j * dcs] = (R)((double)d[j * dcs] / g->temperature[l]);
        if (shaped && job->label_smoothing > 0.0)
            for (ptrdiff_t j = 0; j < count; j++)
                d[j * dcs] = (R)((1.0 - job->label_smoothing) * (double)d[j * dcs] + g->uniform[l]);
        if (shaped && job->class_weight.data)
            for (ptrdiff_t j = 0; j < count; j++)
                d[j * dcs] =
                    (R)((double)d[j * dcs] * xent_load_scalar(job->class_weight.data + (c0 + j) * job->class_weight.cs,
                                                              XENT_F64, job->class_weight.swapped));
        if (where->data) {
            const char *w = where->data + g->off[OPERAND_WHERE][l] + c0 * where->cs;
            for (ptrdiff_t j = 0; j < count; j++)
                if (!w[j * where->cs])
                    d[j * dcs] = fill;
        }
    }
}

/* The tile of classes [c0, c0 + count) of the group; buffers are used as needed. */
static FN(tile)
    FN(load_tile)(const xent_job *job, const row_group *g, ptrdiff_t c0, ptrdiff_t count, R *xbuf, R *tbuf) {
    const xent_target target = job->op->target;
    const bool plain_x = !job->at[OPERAND_TEMPERATURE].data && !job->at[OPERAND_WHERE].data;
    const bool plain_t = target == XENT_TARGET_PROBS       ? !job->at[OPERAND_WHERE].data && !job->has_labels &&
                                                                 job->label_smoothing == 0.0 && !job->class_weight.data
                         : target == XENT_TARGET_LOG_PROBS ? !job->at[OPERAND_WHERE].data
                                                           : plain_x;
    const bool probabilities = job->op->reduce == REDUCE_ENT || target == XENT_TARGET_POINT;
    FN(tile) T = {.rows = g->rows, .across = job->across};
    T.full = job->across ? count : count / VN;
    T.tail = job->across ? 0 : (int)(count % VN);
    if (plain_x && FN(in_place)(job, g, OPERAND_X)) {
        T.x = job->at[OPERAND_X].data + g->off[OPERAND_X][0] + c0 * job->at[OPERAND_X].cs;
        T.xs = job->across ? job->at[OPERAND_X].cs : (ptrdiff_t)sizeof(V);
    } else {
        FN(pack_tile)(job, g, OPERAND_X, c0, count, probabilities ? (R)0 : -INF, xbuf);
        T.x = (const char *)xbuf;
        T.xs = sizeof(V);
    }
    if (target == XENT_TARGET_NONE || target == XENT_TARGET_LABELS)
        return T;
    if (plain_t && FN(in_place)(job, g, OPERAND_T)) {
        T.t = job->at[OPERAND_T].data + g->off[OPERAND_T][0] + c0 * job->at[OPERAND_T].cs;
        T.ts = job->across ? job->at[OPERAND_T].cs : (ptrdiff_t)sizeof(V);
    } else {
        FN(pack_tile)(job, g, OPERAND_T, c0, count, xent_target_is_log(job) ? -INF : (R)0, tbuf);
        T.t = (const char *)tbuf;
        T.ts = sizeof(V);
    }
    return T;
}

/* An emitted tile on its way out: dead rows and masked classes, then storage or the sums over rows. */
static void FN(unpack_tile)(const xent_job *job, const row_group *g, const row_result *r, ptrdiff_t c0, ptrdiff_t count,
                            R *src, xent_sum *acc) {
    const operand *o = &job->at[OPERAND_OUT], *where = &job->at[OPERAND_WHERE];
    const ptrdiff_t scs = job->across ? VN : 1;
    const R none = job->op->emit == EMIT_LOGP ? -INF : (R)0;
    for (int l = 0; l < g->rows; l++) {
        R *s = src + (job->across ? l : 0);
        if (r[l].dead) {
            for (ptrdiff_t j = 0; j < count; j++)
                s[j * scs] = none;
        } else if (where->data) {
            const char *w = where->data + g->off[OPERAND_WHERE][l] + c0 * where->cs;
            for (ptrdiff_t j = 0; j < count; j++)
                if (!w[j * where->cs])
                    s[j * scs] = none;
        }
        if (acc) {
            for (ptrdiff_t j = 0; j < count; j++)
                xent_sum_add(&acc[c0 + j], (double)s[j * scs]);
            continue;
        }
        char *p = o->data + g->off[OPERAND_OUT][l] + c0 * o->cs;
        if (FN(is_real)(o))
            for (ptrdiff_t j = 0; j < count; j++)
                memcpy(p + j * o->cs, s + j * scs, sizeof(R));
        else
            for (ptrdiff_t j = 0; j < count; j++)
                xent_store_scalar(p + j * o->cs, o->dtype, o->swapped, (double)s[j * scs]);
    }
}
