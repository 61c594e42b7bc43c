/* load.h: between storage and tiles. A tile points straight into memory where the layout and dtype allow it, else it is
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
    case XENT_F16 * 2 + 1:
    case XENT_BF16 * 2:
    case XENT_BF16 * 2 + 1:
        FN(widen_row)(p, cs, dtype, swapped, count, dst, dcs);
        break;
    case XENT_F32 * 2:
        PACK_LOOP(uint32_t, , bits_to_float);
    case XENT_F32 * 2 + 1:
        PACK_LOOP(uint32_t, __builtin_bswap32, bits_to_float);
    case XENT_F64 * 2:
        PACK_LOOP(uint64_t, , bits_to_double);
    case XENT_F64 * 2 + 1:
        PACK_LOOP(uint64_t, __builtin_bswap64, bits_to_double);
    default: /* check.c lets no other dtype through */
        break;
    }
#undef PACK_LOOP
}

static bool FN(is_real)(const operand *o) {
    return o->dtype == (XENT_REAL == 32 ? XENT_F32 : XENT_F64) && !o->swapped;
}

/* A float of 16 bits, where it is no label. */
static bool FN(is_half)(const operand *o) {
    return o->size == 2 && !o->swapped;
}

/* Rows of the group that a tile at row `at` holds. */
INLINE int FN(rows_at)(const xent_job *job, const row_group *g, int at) {
    return !job->across ? 1 : g->rows - at < VN ? g->rows - at : VN;
}

/* Whether vectors can be loaded and stored in place. */
static bool FN(in_place)(const xent_job *job, const row_group *g, int at, int which) {
    const operand *o = &job->at[which];
    if (!FN(is_real)(o))
        return false;
    if (!job->across)
        return o->cs == (ptrdiff_t)sizeof(R);
    return g->adjacent[which] && FN(rows_at)(job, g, at) == VN;
}

/* Classes [c0, c0 + count) of rows `at` and following, as stored, to a tile. */
static void FN(pack_tile)(const xent_job *job, const row_group *g, int at, int which, ptrdiff_t c0, ptrdiff_t count,
                          R fill, R *dst) {
    const operand *o = &job->at[which];
    const ptrdiff_t dcs = job->across ? VN : 1;
    const int rows = FN(rows_at)(job, g, at);
    const bool labels = which == OPERAND_T && job->has_labels;
    if (job->across && !labels && FN(is_real)(o) && o->cs == (ptrdiff_t)sizeof(R)) {
        FN(gather_rows)(o->data + c0 * o->cs, g->off[which] + at, rows, count, fill, dst);
        return;
    }
    if (job->across && !labels && FN(is_half)(o) && o->cs == 2) {
        FN(gather_halves)(o->data + c0 * o->cs, g->off[which] + at, o->dtype, rows, count, fill, dst);
        return;
    }
    if (job->across && rows < VN)
        for (ptrdiff_t j = 0; j < count * VN; j++)
            dst[j] = fill;
    if (job->across && !labels && FN(is_half)(o) && g->adjacent[which]) {
        FN(widen_across)(o->data + g->off[which][at] + c0 * o->cs, o->cs, o->dtype, rows, count, dst);
        return;
    }
    for (int l = at; l < at + rows; l++) {
        R *d = dst + (l - at);
        if (labels) {
            for (ptrdiff_t j = 0; j < count; j++)
                d[j * dcs] = (R)0;
            if (g->label[l] >= c0 && g->label[l] < c0 + count)
                d[(g->label[l] - c0) * dcs] = (R)1;
        } else {
            FN(pack_row)(o->data + g->off[which][l] + c0 * o->cs, o->cs, o->dtype, o->swapped, count, d, dcs);
        }
    }
}

/* Where a quotient and the reciprocal that it comes from keep all their bits, and the remainder its own. */
#define EASY_LOW ((R)(XENT_REAL == 32 ? 0x1p-40 : 0x1p-300))
#define EASY_HIGH ((R)(XENT_REAL == 32 ? 0x1p40 : 0x1p300))
INLINE M FN(easy)(V v) {
    return mand(mle(vset(EASY_LOW), v), mle(v, vset(EASY_HIGH)));
}

/* a / t, rounded once: with inv = 1 / t, a quotient and its exact remainder give it without a division, or with one where
 * they would not: the bits are the same. */
INLINE V FN(vquotient)(V a, V t, V inv, bool easy) {
#if VEC_FMA
    V q = vmul(a, inv);
    if (easy && mall(FN(easy)(vabs(q))))
        return vfma(vfnma(q, t, a), inv, q);
#else
    (void)inv, (void)easy;
#endif
    return vdiv(a, t);
}

/* The tile divided by its rows' temperatures, from src (dst itself, or storage) to dst. */
static void FN(temper_tile)(const xent_job *job, const row_group *g, int at, const char *src, ptrdiff_t ss,
                            ptrdiff_t count, R *dst) {
    const ptrdiff_t vectors = job->across ? count : count / VN;
    const int tail = job->across ? 0 : (int)(count % VN), rows = FN(rows_at)(job, g, at);
    const V one = vset((R)1);
    V t = FN(spread)(g->temperature + at, job->across), inv = vdiv(one, t);
    const bool easy = mall(FN(easy)(t));
    bool exact = true;
    for (int l = at; l < at + rows; l++)
        exact = exact && (double)(R)g->temperature[l] == g->temperature[l];
    for (ptrdiff_t i = 0; i < vectors; i++)
        vstore(dst + i * VN, exact ? FN(vquotient)(vload(src + i * ss), t, inv, easy) : vload(src + i * ss));
    if (tail) {
        V a = vloadn(src + vectors * ss, tail, one);
        vstoren(dst + vectors * VN, tail, exact ? FN(vquotient)(a, t, inv, easy) : a);
    }
    if (!exact) /* float logits and a temperature that is no float: divided in double */
        for (int l = 0; l < rows; l++)
            for (ptrdiff_t j = 0; j < count; j++) {
                R *d = dst + l + j * (job->across ? VN : 1);
                *d = (R)((double)*d / g->temperature[at + l]);
            }
}

/* Label smoothing, class weights and masked classes of a tile in L1. */
static void FN(shape_tile)(const xent_job *job, const row_group *g, int at, bool is_target, ptrdiff_t c0,
                           ptrdiff_t count, R fill, R *dst) {
    const operand *where = &job->at[OPERAND_WHERE], *cw = &job->class_weight;
    const ptrdiff_t dcs = job->across ? VN : 1;
    const bool shaped = is_target && xent_shapes_target(job);
    for (int l = at; l < at + FN(rows_at)(job, g, at); l++) {
        R *d = dst + (l - at);
        if (shaped && job->label_smoothing > 0.0)
            for (ptrdiff_t j = 0; j < count; j++)
                d[j * dcs] = (R)((1.0 - job->label_smoothing) * (double)d[j * dcs] + g->uniform[l]);
        if (shaped && cw->data)
            for (ptrdiff_t j = 0; j < count; j++)
                d[j * dcs] =
                    (R)((double)d[j * dcs] *
                        (xent_load_scalar(cw->data + (c0 + j) * cw->cs, XENT_F64, cw->swapped) / job->class_scale));
        if (where->data) {
            const char *w = where->data + g->off[OPERAND_WHERE][l] + c0 * where->cs;
            for (ptrdiff_t j = 0; j < count; j++)
                if (!w[j * where->cs])
                    d[j * dcs] = fill;
        }
    }
}

/* x or t of a tile: where its vectors are and how far apart. buf is used as needed. */
static const char *FN(load_operand)(const xent_job *job, const row_group *g, int at, int which, ptrdiff_t c0,
                                    ptrdiff_t count, R *buf, ptrdiff_t *step) {
    const operand *o = &job->at[which];
    const xent_target target = job->op->target;
    const bool is_target = which == OPERAND_T, labels = is_target && job->has_labels;
    const bool probabilities =
        is_target ? !xent_is_log(job->op->target) : job->op->reduce == REDUCE_ENT || target == XENT_TARGET_POINT;
    const bool tempered = job->at[OPERAND_TEMPERATURE].data && (!is_target || target == XENT_TARGET_LOGITS);
    const bool shaped = job->at[OPERAND_WHERE].data || (is_target && xent_shapes_target(job) &&
                                                        (job->label_smoothing > 0.0 || job->class_weight.data));
    const R fill = probabilities ? (R)0 : -INF;
    const char *src = (const char *)buf;
    *step = sizeof(V);
    if (!labels && FN(in_place)(job, g, at, which)) {
        src = o->data + g->off[which][at] + c0 * o->cs;
        *step = job->across ? o->cs : (ptrdiff_t)sizeof(V);
        /* A few classes far apart (NCHW) share a set of the cache, and no prefetcher follows them: read once, and ahead. */
        if (job->across && job->classes <= TILE_VECTORS && (*step >= FAR_BYTES || *step <= -FAR_BYTES)) {
            for (ptrdiff_t j = 0; j < count; j++) {
                vstore(buf + j * VN, vload(src + j * *step));
                __builtin_prefetch(src + j * *step + 2 * (ptrdiff_t)sizeof(V));
            }
            src = (const char *)buf;
            *step = sizeof(V);
        }
    } else {
        FN(pack_tile)(job, g, at, which, c0, count, fill, buf);
    }
    if (tempered || (shaped && src != (const char *)buf)) {
        if (tempered)
            FN(temper_tile)(job, g, at, src, *step, count, buf);
        else
            FN(pack_tile)(job, g, at, which, c0, count, fill, buf);
        src = (const char *)buf;
        *step = sizeof(V);
    }
    if (shaped)
        FN(shape_tile)(job, g, at, is_target, c0, count, fill, buf);
    return src;
}

/* Weights of classes, as vectors beside those of a tile; 1 where there are none. */
static const char *FN(load_weights)(const operand *o, double over, bool across, ptrdiff_t c0, ptrdiff_t count, R *buf,
                                    ptrdiff_t *step) {
    const char *p = o->data ? o->data + c0 * o->cs : NULL;
    *step = o->data ? (ptrdiff_t)sizeof(V) : 0;
    if (!o->data) {
        vstore(buf, vset((R)1));
    } else if (across) {
        for (ptrdiff_t j = 0; j < count; j++)
            vstore(buf + j * VN, vset((R)(xent_load_scalar(p + j * o->cs, XENT_F64, o->swapped) / over)));
    } else {
        if (o->cs == sizeof(double) && !o->swapped && over == 1.0)
            for (ptrdiff_t j = 0; j < count; j++) { /* a stride that the compiler knows: whole vectors */
                double w;
                memcpy(&w, p + j * (ptrdiff_t)sizeof w, sizeof w);
                buf[j] = (R)w;
            }
        else
            for (ptrdiff_t j = 0; j < count; j++)
                buf[j] = (R)(xent_load_scalar(p + j * o->cs, XENT_F64, o->swapped) / over);
        for (ptrdiff_t j = count; j % VN; j++)
            buf[j] = (R)1;
    }
    return (const char *)buf;
}

/* The tile of classes [c0, c0 + count) of rows `at` and following; without logits, where their exponentials are known. It is made
 * where it will be: a copy would load several fields at a time, which waits for their stores. */
static void FN(load_tile)(const xent_job *job, const row_group *g, int at, ptrdiff_t c0, ptrdiff_t count, bool logits,
                          R *xbuf, R *tbuf, R *wbuf, FN(tile) * T) {
    const xent_target target = job->op->target;
    *T = (FN(tile)){.across = job->across};
    T->full = job->across ? count : count / VN;
    T->tail = job->across ? 0 : (int)(count % VN);
    if (logits)
        T->x = FN(load_operand)(job, g, at, OPERAND_X, c0, count, xbuf, &T->xs);
    if (target == XENT_TARGET_PROBS || target == XENT_TARGET_POINT || (logits && xent_is_log(job->op->target)))
        T->t = FN(load_operand)(job, g, at, OPERAND_T, c0, count, tbuf, &T->ts);
    if (job->op->reduce == REDUCE_BCE) {
        T->w = FN(load_weights)(&job->class_weight, job->class_scale, job->across, c0, count, wbuf, &T->ws);
        T->p = FN(load_weights)(&job->pos_weight, 1.0, job->across, c0, count, wbuf + TILE_REALS, &T->ps);
    }
}

/* An emitted tile on its way out: dead rows and masked classes, factors that the tile's real does not hold, then storage or the sums over rows. */
static void FN(unpack_tile)(const xent_job *job, const row_group *g, int at, ptrdiff_t c0, ptrdiff_t count, R *src,
                            xent_sum *acc) {
    const operand *o = &job->at[OPERAND_OUT], *where = &job->at[OPERAND_WHERE];
    const ptrdiff_t scs = job->across ? VN : 1;
    const R none = job->op->emit == EMIT_LOGP ? -INF : (R)0;
    const int rows = FN(rows_at)(job, g, at);
    /* Whether rows go out together: the classes of each are neighbours, or its rows are. */
    const bool half = !acc && FN(is_half)(o), contiguous = !acc && o->cs == o->size && (half || FN(is_real)(o));
    const bool together = job->across && (contiguous || (half && g->adjacent[OPERAND_OUT]));
    for (int l = at; l < (together && !g->any_dead && !g->any_after && !where->data ? at : at + rows); l++) {
        R *s = src + (l - at);
        const double after = g->any_after ? g->after[l] : 1.0;
        if (g->any_dead && g->dead[l]) {
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
                xent_sum_add(&acc[c0 + j], (double)s[j * scs] * after);
            continue;
        }
        for (ptrdiff_t j = 0; after != 1.0 && j < count; j++)
            s[j * scs] = (R)((double)s[j * scs] * after);
        if (together)
            continue;
        char *p = o->data + g->off[OPERAND_OUT][l] + c0 * o->cs;
        if (FN(is_real)(o))
            for (ptrdiff_t j = 0; j < count; j++)
                memcpy(p + j * o->cs, s + j * scs, sizeof(R));
        else if (o->size == 2)
            FN(narrow_row)(p, o->cs, o->dtype, o->swapped, count, s, scs);
        else
            for (ptrdiff_t j = 0; j < count; j++)
                xent_store_scalar(p + j * o->cs, o->dtype, o->swapped, (double)s[j * scs]);
    }
    if (!together)
        return;
    if (!half)
        FN(scatter_rows)(src, count, o->data + c0 * o->cs, g->off[OPERAND_OUT] + at, rows);
    else if (contiguous)
        FN(scatter_halves)(src, count, o->data + c0 * o->cs, g->off[OPERAND_OUT] + at, o->dtype, rows);
    else
        FN(narrow_across)(o->data + g->off[OPERAND_OUT][at] + c0 * o->cs, o->cs, o->dtype, rows, count, src);
}
