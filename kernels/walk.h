/* walk.h: one loop over tiles, for the walk along a row, across rows, and over a piece of either (the split walk: reduce.c
 * hands pieces to threads and merges their states in order). Reduce first, then, with the finished rows, emit. */
/* Where the row or rows at `at` keep their tiles of exponentials, if they do. */
INLINE R *FN(kept)(const xent_job *job, void *keep, int at) {
    const int tiles = xent_kept_tiles(job);
    return keep ? (R *)keep + (job->across ? at / VN : at) * tiles * TILE_REALS : NULL;
}

static void FN(walk_reduce)(const xent_job *job, const row_group *g, ptrdiff_t c0, ptrdiff_t c1, reduce_kind kind,
                            group_state *rows, void *keep) {
    _Alignas(64) R xbuf[TILE_REALS], tbuf[TILE_REALS], wbuf[2 * TILE_REALS];
    const ptrdiff_t step = job->across ? TILE_VECTORS : TILE_REALS;
    for (int at = 0; at < g->rows; at += job->across ? VN : 1) {
        FN(tile) T = {.across = job->across};
        FN(state) s = FN(start)();
        for (ptrdiff_t c = c0; c < c1; c += step) {
            ptrdiff_t count = c1 - c < step ? c1 - c : step;
            T = FN(load_tile)(job, g, at, c, count, true, xbuf, tbuf, wbuf);
            FN(reduce_tile)(job, g, kind, &T, &s, c == c0, rows, at, FN(kept)(job, keep, at));
        }
        if (xent_is_kl(kind) && c0 == c1)
            FN64(kl_none)(job->across ? VN : 1, at, rows);
        FN(put_state)(job, kind, &T, &s, at, rows);
    }
}

/* Classes [c, c + count) of rows `at` and following. */
static void FN(emit_some)(const xent_job *job, const row_group *g, int at, ptrdiff_t c, ptrdiff_t count,
                          const group_result *r, const void *keep, bool straight, bool stream, xent_sum *acc) {
    _Alignas(64) R xbuf[TILE_REALS], tbuf[TILE_REALS], wbuf[2 * TILE_REALS], obuf[TILE_REALS];
    const operand *o = &job->at[OPERAND_OUT];
    const FN(tile) T = FN(load_tile)(job, g, at, c, count, !keep, xbuf, tbuf, wbuf);
    char *base = straight ? o->data + g->off[OPERAND_OUT][at] + c * o->cs : (char *)obuf;
    const ptrdiff_t os = straight && job->across ? o->cs : (ptrdiff_t)sizeof(V);
    const emit_kind emit = job->op->emit;
    const xent_target target = job->op->target;
    if (keep)
        FN(emit_tile)(emit, target, &T, r, at, NULL, base, os, false, true, FN(kept)(job, (void *)keep, at));
    else if (stream)
        FN(emit_tile)(emit, target, &T, r, at, NULL, base, os, true, false, NULL);
    else
        FN(emit_tile)(emit, target, &T, r, at, NULL, base, os, false, false, NULL);
    if (job->op->target == XENT_TARGET_LABELS) /* whose emits have something particular there */
        for (int l = at; l < at + FN(rows_at)(job, g, at); l++)
            if (g->label[l] >= c && g->label[l] < c + count) {
                const R patch = (R)r->patch[l];
                const ptrdiff_t j = g->label[l] - c;
                memcpy(base + (job->across ? j * os + (l - at) * (ptrdiff_t)sizeof(R) : j * (ptrdiff_t)sizeof(R)),
                       &patch, sizeof(R));
            }
    if (!straight)
        FN(unpack_tile)(job, g, at, c, count, obuf, acc);
}

static void FN(walk_emit)(const xent_job *job, const row_group *g, ptrdiff_t c0, ptrdiff_t c1, const group_result *r,
                          const void *keep, xent_sum *acc) {
    const operand *o = &job->at[OPERAND_OUT];
    const bool plain = !acc && !job->at[OPERAND_WHERE].data && !g->any_dead;
    if (job->across) { /* neighbouring rows share a line of the output: both are written while it is at hand */
        for (ptrdiff_t c = c0; c < c1; c += TILE_VECTORS)
            for (int at = 0; at < g->rows; at += VN)
                FN(emit_some)(job, g, at, c, c1 - c < TILE_VECTORS ? c1 - c : TILE_VECTORS, r, keep,
                              plain && FN(in_place)(job, g, at, OPERAND_OUT), false, acc);
        return;
    }
    for (int at = 0; at < g->rows; at++) {
        const bool straight = plain && FN(in_place)(job, g, at, OPERAND_OUT);
        /* Streaming stores want aligned vectors: the first tile ends where the output is. */
        const uintptr_t start = straight ? (uintptr_t)(o->data + g->off[OPERAND_OUT][at] + c0 * o->cs) : 0;
        const bool stream = job->streams && straight && !keep && start % sizeof(R) == 0;
        ptrdiff_t head = stream ? (ptrdiff_t)(-start % sizeof(V) / sizeof(R)) : 0;
        for (ptrdiff_t c = c0, count; c < c1; c += count, head = 0) {
            count = head > 0 ? head : TILE_REALS;
            count = c1 - c < count ? c1 - c : count;
            FN(emit_some)(job, g, at, c, count, r, keep, straight, stream, acc);
        }
        if (stream)
            vstream_end();
    }
}

static const isa_kernels FN(kernels) = {VN, FN(walk_reduce), FN(walk_emit), FN(walk_few)};
