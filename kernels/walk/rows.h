/* rows.h: one loop over tiles, for the walk along a row, across rows, and over a piece of either (the split walk: run.c
 * hands pieces to threads and merges their states in order). Reduce first, then, with the finished rows, emit. */
/* Where the row or rows at `at` keep their exponentials from class c on, if they do: across, a vector of rows has one tile. */
INLINE R *FN(kept)(const xent_job *job, void *keep, int at, ptrdiff_t c) {
    const int tiles = xent_kept_tiles(job);
    const ptrdiff_t row = (job->classes + TILE_REALS - 1) / TILE_REALS * TILE_REALS;
    return keep ? (R *)keep + (job->across ? at / VN * TILE_REALS : at * row + c) * tiles : NULL;
}

/* Bytes from classes c and following to what is reduced next in their place: the next tile, or after a row's last, the first of
 * the row that follows the flight's n. */
INLINE ptrdiff_t FN(next_tile)(const xent_job *job, int which, int n, ptrdiff_t c, bool last, ptrdiff_t along) {
    const operand *o = &job->at[which];
    return job->across || !last || !o->data || !job->ndim ? along : n * o->rs[job->ndim - 1] - c * o->cs;
}

/* Whether an output along is stored past the caches: not where pairs of exponentials are kept, which start where a vector does. */
INLINE bool FN(streams)(const xent_job *job, bool keeps) {
    return job->streams && !(keeps && xent_is_log(job->op->target));
}

/* A row's part of the output is written as soon as it is reduced, in a burst that would wait for memory line by line: it is
 * asked for before. Not where stores stream. */
INLINE void FN(fetch_out)(const xent_job *job, const row_group *g, int at, ptrdiff_t c, ptrdiff_t count, bool keeps) {
    const operand *o = &job->at[OPERAND_OUT];
    if (job->across || !job->fetches || !o->data || FN(streams)(job, keeps) || !FN(in_place)(job, g, at, OPERAND_OUT))
        return;
    for (const char *p = o->data + g->off[OPERAND_OUT][at] + c * o->cs, *end = p + count * o->cs; p < end; p += LINE)
        __builtin_prefetch(p, 1);
}

/* Rows, or vectors of rows, that are in flight together: each step is done for all of them before the next, since only another
 * row's work fills the time that a row's maximum and sums take on their way across the lanes. Those that pass through a buffer
 * go alone, and so do KL's rows, whose centred sums are vectors of rows that are not there yet. */
enum { FN(FLIGHT) = 4 };

/* The state's maxima become those of this tile, too; whether to look for them in it. */
static bool FN(lead_tile)(reduce_kind kind, const FN(tile) * T, FN(state) * s, bool first, group_state *rows, int at) {
    const int parts = xent_parts(kind);
    const bool tops = parts & PART_X && FN(lead_x)(T, kind, first, s);
    if (!(parts & PART_Y))
        return tops;
    FN(lead_y)(T, kind, s, rows, at);
    return true;
}

/* The parts of a state that a fold is about. */
INLINE void FN(copy_parts)(const int parts, const FN(state) * from, FN(state) * to) {
    if (parts & PART_X)
        to->x = from->x;
    if (parts & PART_Y)
        to->y = from->y;
    if (parts & PART_TB) {
        to->t = from->t;
        to->b = from->b;
    }
    if (parts & PART_KL)
        to->kl = from->kl;
}

/* After a tile: in a row of billions of classes the sums' errors would grow as the sums do. */
INLINE void FN(tidy_parts)(const int parts, FN(state) * s) {
#define NOT_(part, field)
#define SUM(part, field)                                                                                               \
    if (parts & PART_##part)                                                                                           \
        FN(tidy)(&s->field);
    XENT_STATE(NOT_, NOT_, SUM)
#undef NOT_
#undef SUM
}

/* Each fold and each emit is a function: one of all of them would take a compiler minutes. What it is given becomes its own, or every
 * store would have it loaded again. */
#define REDUCTION(name, PARTS, B_HOLDS, OPTIONS, COST, FEW, AGAIN, PIECES, QUICK)                                      \
    static NOINLINE void FN(tile_##name)(const FN(folding) * F) {                                                      \
        const FN(tile) T = FN(own_tile)(F->T);                                                                         \
        FN(state) s;                                                                                                   \
        FN(folding) own = *F;                                                                                          \
        own.T = &T;                                                                                                    \
        own.s = &s;                                                                                                    \
        FN(copy_parts)(xent_parts(REDUCE_##name), F->s, &s);                                                           \
        FN(fold_##name)(&own);                                                                                         \
        if (!F->first)                                                                                                 \
            FN(tidy_parts)(xent_parts(REDUCE_##name), &s);                                                             \
        FN(copy_parts)(xent_parts(REDUCE_##name), &s, F->s);                                                           \
    }
#include "../reductions.def"
#undef REDUCTION
static void (*const FN(tile_folds)[])(const FN(folding) *) = {
    NULL,
#define REDUCTION(name, PARTS, B_HOLDS, OPTIONS, COST, FEW, AGAIN, PIECES, QUICK) FN(tile_##name),
#include "../reductions.def"
#undef REDUCTION
};
#define ONE(name, order, of_exp)                                                                                       \
    static NOINLINE void FN(tile_emit_##name)(const FN(writing) * w) {                                                 \
        const FN(tile) T = FN(own_tile)(w->T);                                                                         \
        FN(writing) own = *w;                                                                                          \
        own.T = &T;                                                                                                    \
        own.kept = own.stream = false; /* constants, in loops of their own */                                          \
        if (of_exp && w->kept && w->stream) {                                                                          \
            own.kept = own.stream = true;                                                                              \
            FN(emit_##name)(&own);                                                                                     \
        } else if (of_exp && w->kept) {                                                                                \
            own.kept = true;                                                                                           \
            FN(emit_##name)(&own);                                                                                     \
        } else if (w->stream) {                                                                                        \
            own.stream = true;                                                                                         \
            FN(emit_##name)(&own);                                                                                     \
        } else {                                                                                                       \
            FN(emit_##name)(&own);                                                                                     \
        }                                                                                                              \
    }
XENT_EMITS(ONE)
#undef ONE
static void (*const FN(tile_emits)[])(const FN(writing) *) = {NULL,
#define ONE(name, order, of_exp) FN(tile_emit_##name),
                                                              XENT_EMITS(ONE)
#undef ONE
};

/* Folds in one walk: of rows whose first tile this is, with KL's centre if that is known, whether it may do; and a tile. */
static bool FN(quick_begin)(quick_kind how, const FN(tile) * T, const double *centre, FN(state) * s) {
    const bool log_target = xent_quick_is_log(how);
    bool may = FN(quick_start)(T, T->x, &s->x);
    if (log_target)
        may &= FN(quick_start)(T, T->t, &s->y);
    s->kl.c_lo = vset((R)NAN); /* nothing looks near yet */
    if (!may || how == QUICK_LSE)
        return may;
    if (centre) {
        s->kl.c = FN(spread)(centre, T->across);
        return true;
    }
    FN(direct_centre)(T, log_target, s->y.ref.k, &s->kl);
    return !mall(meq(s->kl.c_lo, s->kl.c));
}
static void FN(quick_fold)(quick_kind how, const FN(tile) * T, R *keep, FN(state) * s) {
    if (how == QUICK_LSE)
        FN(quick_tile)(T, keep, s);
    else
        FN(kl_one_walk)(T, xent_quick_is_log(how), xent_quick_is_near(how), keep, s);
}

/* E(x), and where both are logits E(y), of a row whose references are known, for its emit; the buffers are load_tile's. */
static NOINLINE void FN(keep_row)(const xent_job *job, const row_group *g, int at, const FN(state) * s, void *keep,
                                  R *xbuf, R *tbuf, R *wbuf) {
    const bool pairs = xent_is_log(job->op->target);
    for (ptrdiff_t c = 0; c < job->classes; c += TILE_REALS) {
        const ptrdiff_t count = job->classes - c < TILE_REALS ? job->classes - c : TILE_REALS;
        FN(tile) tile, *const T = &tile;
        FN(load_tile)(job, g, at, c, count, true, xbuf, tbuf, wbuf, T);
        R *const mine = FN(kept)(job, keep, at, c);
        EACH(T, {
            vstore(KEPT(mine, i, pairs, 0), FN(vexp_ref)(GET_X(T), s->x.ref));
            if (pairs)
                vstore(KEPT(mine, i, pairs, 1), FN(vexp_ref)(GET_T(T, -INF), s->y.ref));
        });
    }
}

/* n vectors of rows, tile by tile, the next tile of all before the one after it. Those that pass through a buffer go alone: returns
 * how many there are. how: in one walk, those that quick then says can be done so. The careful steps keep exponentials of rows of one
 * tile as they go: the references of others are known in the end. */
static __attribute__((noinline)) int FN(fold_flight)(const xent_job *job, const row_group *g, int at, int n,
                                                     ptrdiff_t c0, ptrdiff_t c1, reduce_kind kind, quick_kind how,
                                                     const double *centre, bool *quick, group_state *rows, void *keep,
                                                     FN(tile) * T, FN(state) * s) {
    _Alignas(64) R xbuf[TILE_REALS], tbuf[TILE_REALS], wbuf[2 * TILE_REALS];
    const ptrdiff_t step = job->across ? TILE_VECTORS : TILE_REALS;
    const int width = job->across ? VN : 1;
    const bool late = keep && how == QUICK_NONE && c1 - c0 > step;
    bool tops[FN(FLIGHT)];
    for (int q = 0; q < n; q++) {
        T[q].across = job->across;
        s[q] = FN(start)();
    }
    for (ptrdiff_t c = c0; c < c1; c += step) {
        const ptrdiff_t count = c1 - c < step ? c1 - c : step;
        const bool first = c == c0, last = c + count == job->classes;
        for (int q = 0; q < n; q++) {
            FN(load_tile)(job, g, at + q * width, c, count, true, xbuf, tbuf, wbuf, &T[q]);
            T[q].x_next = FN(next_tile)(job, OPERAND_X, n, c, last, TILE_VECTORS * T[q].xs);
            T[q].t_next = FN(next_tile)(job, OPERAND_T, n, c, last, TILE_VECTORS * T[q].ts);
            FN(fetch_out)(job, g, at + q * width, c, count, keep != NULL);
            if (q == 0 && (T[0].x == (const char *)xbuf || T[0].t == (const char *)tbuf))
                n = 1;
            if (how != QUICK_NONE && first)
                quick[q] = FN(quick_begin)(how, &T[q], centre, &s[q]);
        }
        for (int q = 0; how != QUICK_NONE && q < n; q++)
            if (quick[q])
                FN(quick_fold)(how, &T[q], FN(kept)(job, keep, at + q * width, c), &s[q]);
        if (how != QUICK_NONE)
            continue;
        for (int q = 0; q < n; q++)
            tops[q] = FN(lead_tile)(kind, &T[q], &s[q], first, rows, at + q * width);
        for (int q = 0; q < n; q++) {
            R *const mine = late ? NULL : FN(kept)(job, keep, at + q * width, c);
            const FN(folding) F = {.job = job,
                                   .T = &T[q],
                                   .s = &s[q],
                                   .first = first,
                                   .tops = tops[q],
                                   .keeps = mine != NULL,
                                   .keep = mine,
                                   .rows = rows,
                                   .at = at + q * width,
                                   .before = g->first};
            FN(tile_folds)[kind](&F);
        }
    }
    for (int q = 0; late && q < n; q++)
        FN(keep_row)(job, g, at + q, &s[q], keep, xbuf, tbuf, wbuf);
    return n;
}

/* KL's status (kl.h) of a vector of rows. Not in line: GCC 12 fails on that at -O1 (baseline; gimple-isel). */
static NOINLINE M FN(status_is)(const double *now, bool across, int status) {
    return meq(FN(spread)(now, across), vset((R)status));
}
INLINE void FN(set_status)(M which, int status, const FN(tile) * T, double *now) {
    FN(put)(vsel(which, vset((R)status), FN(spread)(now, T->across)), T, 0, now);
}

/* A vector of rows once more, by the careful steps or, KL's, about `centre`; those that are fine stay as they are, with what is kept
 * of them, which is one tile: along, a row is alone. */
static NOINLINE void FN(fold_again)(const xent_job *job, const row_group *g, int at, ptrdiff_t c0, ptrdiff_t c1,
                                    reduce_kind kind, quick_kind how, const double *centre, double *now, M fine,
                                    group_state *rows, void *keep) {
    const int parts = xent_parts(kind), width = job->across ? VN : 1;
    const bool log_target = xent_quick_is_log(how), near = xent_quick_is_near(how);
    const ptrdiff_t numbers = (c1 - c0) * xent_kept_tiles(job) * VN;
    R *const mine = FN(kept)(job, keep, at, 0);
    int fields[STATE_FIELDS];
    const int count = many(fine) ? xent_state_fields(parts, fields) : 0;
    double before[STATE_FIELDS][VN];
    R were[VN];
    _Alignas(64) R kept[2 * TILE_REALS];
    bool may;
    FN(tile) T;
    FN(state) s;
    for (int f = 0; f < count; f++)
        memcpy(before[f], *((per_row *)rows + fields[f]) + at, sizeof before[f]);
    if (count && mine)
        memcpy(kept, mine, (size_t)numbers * sizeof(R));
    FN(fold_flight)(job, g, at, 1, c0, c1, kind, how, centre, &may, rows, keep, &T, &s);
    if (how == QUICK_NONE) {
        FN(put_state)(parts & ~PART_KL, &T, &s, at, rows);
    } else {
        M bad = FN(kl_end)(&T, c1 - c0, log_target, near, keep != NULL, &s, at, rows);
        FN(set_status)(mand(bad, mnot(fine)), KL_CAREFUL, &T, now);
        if (near)
            FN64(kl_is_centred)(width, at, log_target ? 0.0 : XENT_REAL == 32 ? 0x1p-42 : 0x1p-100, rows, now);
        else
            FN64(kl_of_direct)(width, at, parts, log_target, rows, now);
    }
    vstore(were, vif(fine, vset((R)1)));
    for (int f = 0; f < count; f++)
        for (int l = 0; l < VN; l++)
            if (were[l] != (R)0)
                (*((per_row *)rows + fields[f]))[at + l] = before[f][l];
    for (ptrdiff_t i = 0; count && mine && i < numbers; i += VN)
        vstore(mine + i, vsel(fine, vload(kept + i), vload(mine + i)));
}

/* What follows from KL's direct sums of n vectors of rows, which are folded about another c, or as near rows, where that is better.
 * Rows that are right have the status KL_CENTRED then. */
static NOINLINE void FN(settle_direct)(const xent_job *job, const row_group *g, int at, int n, ptrdiff_t c0,
                                       ptrdiff_t c1, reduce_kind kind, const bool *quick, group_state *rows, void *keep,
                                       const FN(tile) * T, FN(state) * s, double *now) {
    const quick_kind how = xent_reduce_of(kind).quick;
    const bool log_target = xent_quick_is_log(how), across = job->across;
    const int width = across ? VN : 1, parts = xent_parts(kind);
    const M none = mne(vset((R)0), vset((R)0));
    double centre[VN];
    bool any = false;
    M looks_near[FN(FLIGHT)];
    for (int q = 0; q < n; q++) {
        M bad = mnot(none), near = looks_near[q] = meq(s[q].kl.c, s[q].kl.c_lo);
        if (quick[q])
            bad = FN(kl_end)(&T[q], c1 - c0, log_target, false, keep != NULL, &s[q], at + q * width, rows);
        FN(put)(vsel(near, vset((R)KL_NEAR), vif(bad, vset((R)KL_CAREFUL))), &T[q], q * width, now);
        any |= quick[q];
    }
    if (any)
        FN64(kl_of_direct)(n * width, at, parts, log_target, rows, now);
    for (int q = 0; q < n; q++) {
        double *const mine = now + q * width;
        const int row = at + q * width;
        M near, off = FN(status_is)(mine, across, KL_RECENTRE);
        V c = vsel(looks_near[q], s[q].kl.c, FN(spread)(rows->kl.c + row, across));
        FN(put)(c, &T[q], 0, centre);
        if (many(off)) {
            FN(set_status)(off, KL_DIRECT, &T[q], mine);
            FN(fold_again)(job, g, row, c0, c1, kind, how, centre, mine, mnot(off), rows, keep);
            off = mand(off, FN(status_is)(mine, across, KL_NEAR));
            FN(put)(vsel(off, FN(spread)(rows->kl.c + row, across), c), &T[q], 0, centre);
        }
        near = FN(status_is)(mine, across, KL_NEAR);
        if (many(near) && !(parts & PART_TB))
            FN(fold_again)(job, g, row, c0, c1, kind, log_target ? NEAR_KL_LOGS : NEAR_KL, centre, mine, mnot(near),
                           rows, keep);
    }
}

enum { FN(QUICK_FROM) = 16 * VN }; /* classes */
static void FN(fold_rows)(const xent_job *job, const row_group *g, ptrdiff_t c0, ptrdiff_t c1, reduce_kind kind,
                          group_state *rows, void *keep) {
    const int width = job->across ? VN : 1, parts = xent_parts(kind);
    /* Few classes have the bits of few.h, whichever way they go; along, lanes become a row at a price that short rows do not earn. */
    const bool many_classes = job->classes > ACROSS_CLASSES && (job->across ? c0 < c1 : c1 - c0 >= FN(QUICK_FROM));
    const quick_kind how = many_classes ? xent_reduce_of(kind).quick : QUICK_NONE;
    const M none = mne(vset((R)0), vset((R)0)), all = mnot(none);
    FN(tile) T[FN(FLIGHT)];
    FN(state) s[FN(FLIGHT)];
    bool quick[FN(FLIGHT)];
    double now[FN(FLIGHT) * VN];
    V scale;
    for (int at = 0, n; at < g->rows; at += n * width) {
        n = (g->rows - at + width - 1) / width;
        n = n < FN(FLIGHT) ? n : FN(FLIGHT);
        if ((parts & PART_KL) && !job->across && how == QUICK_NONE)
            n = 1;
        n = FN(fold_flight)(job, g, at, n, c0, c1, kind, how, NULL, quick, rows, keep, T, s);
        if (how != QUICK_NONE && how != QUICK_LSE)
            FN(settle_direct)(job, g, at, n, c0, c1, kind, quick, rows, keep, T, s, now);
        for (int q = 0; q < n; q++) {
            const int row = at + q * width;
            M fine = all;
            if (how == QUICK_LSE) {
                fine =
                    quick[q] ? mnot(FN(quick_end)(&T[q], c1 - c0, keep != NULL, keep != NULL, &s[q].x, &scale)) : none;
            } else if (how != QUICK_NONE) {
                fine = meq(FN(spread)(now + q * width, job->across), vset((R)KL_CENTRED));
            } else if ((parts & PART_KL) && c0 == c1) {
                FN64(kl_none)(width, row, rows);
            }
            if (how == QUICK_LSE || how == QUICK_NONE)
                FN(put_state)(parts & ~PART_KL, &T[q], &s[q], row, rows);
            if (!mall(fine))
                FN(fold_again)(job, g, row, c0, c1, kind, QUICK_NONE, NULL, NULL, fine, rows, keep);
        }
    }
}

/* Streaming stores of half a line want the other half soon. */
enum { FN(WIDE_CLASSES) = sizeof(V) == 64 ? 16 : 4 };

/* Classes [c, c + count) of rows `at` and following. */
static void FN(emit_some)(const xent_job *job, const row_group *g, int at, ptrdiff_t c, ptrdiff_t count,
                          const group_result *r, const void *keep, bool straight, bool stream, xent_sum *acc) {
    _Alignas(64) R xbuf[TILE_REALS], tbuf[TILE_REALS], wbuf[2 * TILE_REALS], obuf[TILE_REALS];
    const operand *o = &job->at[OPERAND_OUT];
    FN(tile) T;
    const emit_kind emit = job->op->emit;
    const xent_target target = job->op->target;
    int labels[MAX_VECTOR], patches = 0; /* rows whose label is here: the emits have something particular there */
    FN(load_tile)(job, g, at, c, count, !keep, xbuf, tbuf, wbuf, &T);
    if (target == XENT_TARGET_LABELS)
        for (int l = at; l < at + FN(rows_at)(job, g, at); l++)
            if (g->label[l] >= c && g->label[l] < c + count)
                labels[patches++] = l;
    /* What is patched streams afterwards: a store to a streamed line would read it back. */
    const bool later = stream && patches > 0 && job->across;
    char *const place = straight ? o->data + g->off[OPERAND_OUT][at] + c * o->cs : NULL;
    char *base = straight && !later ? place : (char *)obuf;
    const ptrdiff_t os = straight && !later && job->across ? o->cs : (ptrdiff_t)sizeof(V);
    FN(writing) w = {.job = job, .target = target, .T = &T, .r = r, .at = at, .out = base, .os = os};
    w.kept = keep != NULL;
    w.keep = FN(kept)(job, (void *)keep, at, c);
    w.stream = stream && !later;
    FN(tile_emits)[emit](&w);
    for (int i = 0; i < patches; i++) {
        const R patch = (R)r->patch[labels[i]];
        const ptrdiff_t j = g->label[labels[i]] - c, l = labels[i] - at;
        memcpy(base + (job->across ? j * os + l * (ptrdiff_t)sizeof(R) : j * (ptrdiff_t)sizeof(R)), &patch, sizeof(R));
    }
    for (ptrdiff_t j = 0; later && j < count; j++)
        vstream(place + j * o->cs, vload(obuf + j * VN));
    if (!straight)
        FN(unpack_tile)(job, g, at, c, count, obuf, acc);
}

static void FN(emit_rows)(const xent_job *job, const row_group *g, ptrdiff_t c0, ptrdiff_t c1, const group_result *r,
                          const void *keep, xent_sum *acc) {
    const operand *o = &job->at[OPERAND_OUT];
    const bool plain = !acc && !job->at[OPERAND_WHERE].data && !g->any_dead && !g->any_after;
    if (job->across) { /* neighbouring rows share a line, or several that follow each other: written while they are at hand */
        const ptrdiff_t most = g->rows > GROUP_ROWS ? FN(WIDE_CLASSES) : TILE_VECTORS;
        for (ptrdiff_t c = c0; c < c1; c += most)
            for (int at = 0; at < g->rows; at += VN) {
                const bool straight = plain && FN(in_place)(job, g, at, OPERAND_OUT);
                const bool stream = job->streams && straight && !keep && o->cs % (ptrdiff_t)sizeof(V) == 0 &&
                                    (uintptr_t)(o->data + g->off[OPERAND_OUT][at]) % sizeof(V) == 0;
                FN(emit_some)(job, g, at, c, c1 - c < most ? c1 - c : most, r, keep, straight, stream, acc);
            }
        if (job->streams)
            vstream_end();
        return;
    }
    for (int at = 0; at < g->rows; at++) {
        const bool straight = plain && FN(in_place)(job, g, at, OPERAND_OUT);
        /* Streaming stores want aligned vectors: the first tile ends where the output is. */
        const uintptr_t start = straight ? (uintptr_t)(o->data + g->off[OPERAND_OUT][at] + c0 * o->cs) : 0;
        const bool stream = FN(streams)(job, keep != NULL) && straight && start % sizeof(R) == 0;
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

static const isa_kernels FN(kernels) = {VN, FN(fold_rows), FN(emit_rows), FN(walk_few)};
