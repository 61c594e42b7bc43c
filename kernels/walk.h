/* walk.h: one loop over tiles, for the walk along a row, across rows, and over a piece of either (the split walk: reduce.c
 * hands pieces to threads and merges their states in order). Reduce first, then, with the finished rows, emit. */
static void FN(walk_reduce)(const xent_job *job, const row_group *g, ptrdiff_t c0, ptrdiff_t c1, reduce_kind kind,
                            row_state *states) {
    _Alignas(64) R xbuf[TILE_REALS], tbuf[TILE_REALS];
    const ptrdiff_t step = job->across ? TILE_VECTORS : TILE_REALS;
    for (ptrdiff_t c = c0; c < c1; c += step) {
        ptrdiff_t count = c1 - c < step ? c1 - c : step;
        FN(tile) T = FN(load_tile)(job, g, c, count, xbuf, tbuf);
        FN(reduce_tile)(job, kind, &T, states);
    }
}

static void FN(walk_emit)(const xent_job *job, const row_group *g, ptrdiff_t c0, ptrdiff_t c1, const row_result *r,
                          xent_sum *acc) {
    _Alignas(64) R xbuf[TILE_REALS], tbuf[TILE_REALS], obuf[TILE_REALS];
    const operand *o = &job->at[OPERAND_OUT];
    const ptrdiff_t step = job->across ? TILE_VECTORS : TILE_REALS;
    const bool labels = job->op->target == XENT_TARGET_LABELS && job->op->emit == EMIT_GRAD;
    bool straight = !acc && !job->at[OPERAND_WHERE].data && FN(in_place)(job, g, OPERAND_OUT);
    for (int l = 0; l < g->rows; l++)
        straight = straight && !r[l].dead;
    for (ptrdiff_t c = c0; c < c1; c += step) {
        ptrdiff_t count = c1 - c < step ? c1 - c : step;
        FN(tile) T = FN(load_tile)(job, g, c, count, xbuf, tbuf);
        FN(factors) f = FN(take_factors)(&T, r);
        char *base = straight ? o->data + g->off[OPERAND_OUT][0] + c * o->cs : (char *)obuf;
        ptrdiff_t os = straight && job->across ? o->cs : (ptrdiff_t)sizeof(V);
        FN(emit_tile)(job, &T, &f, base, os);
        for (int l = 0; labels && l < g->rows; l++)
            if (r[l].label >= c && r[l].label < c + count) {
                R patch = (R)r[l].patch;
                ptrdiff_t j = r[l].label - c;
                memcpy(job->across ? base + j * os + l * (ptrdiff_t)sizeof(R) : base + j * (ptrdiff_t)sizeof(R), &patch,
                       sizeof(R));
            }
        if (!straight)
            FN(unpack_tile)(job, g, r, c, count, obuf, acc);
    }
}

static const isa_kernels FN(kernels) = {VN, FN(walk_reduce), FN(walk_emit)};
