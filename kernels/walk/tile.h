/* tile.h: a tile: a few KB of compute values in L1, a vector after another: along a row (lanes are classes of one row) or across
 * rows (lane l is row l). Everything steps through a tile the same way for both.
 *
 * Lanes past the end hold x = -inf and t = 0 (log t = -inf): they add nothing, as an excluded class does.
 */
typedef struct FN(tile) {
    const char *x;
    ptrdiff_t xs;     /* bytes from one vector to the next */
    ptrdiff_t x_next; /* ... and to what is reduced next */
    const char *t;
    ptrdiff_t ts, t_next;
    const char *w, *p; /* class weights of binary cross-entropy */
    ptrdiff_t ws, ps;
    ptrdiff_t full; /* whole vectors */
    int tail;       /* lanes of one more, partial vector (along only) */
    bool across;
} FN(tile);

/* A tile of a function's own, which its stores cannot change. Field by field: a load of several waits for the stores that made them
 * one by one just before. */
INLINE FN(tile) FN(own_tile)(const volatile FN(tile) * t) {
    return (FN(tile)){.x = t->x,
                      .t = t->t,
                      .w = t->w,
                      .p = t->p,
                      .xs = t->xs,
                      .ts = t->ts,
                      .ws = t->ws,
                      .ps = t->ps,
                      .x_next = t->x_next,
                      .t_next = t->t_next,
                      .full = t->full,
                      .tail = t->tail,
                      .across = t->across};
}

/* BODY for each vector of tile T, with `i` its index and `part` its number of valid lanes (0: all; a constant then), `j` its
 * place in a run of RUN vectors; FLUSH after every run, of `run` vectors from index `i0` on. What a BODY stores belongs into
 * the FLUSH, or the bodies of a run cannot be interleaved: the compiler has to think that the next one loads it. */
/* clang-format off */
#undef EACH
#undef RUNS
#define RUNS(T, BODY, FLUSH)                                                                                           \
    do {                                                                                                               \
        ptrdiff_t i0 = 0;                                                                                              \
        for (; i0 + RUN <= (T)->full; i0 += RUN) {                                                                     \
            enum { part = 0, run = RUN };                                                                              \
            _Pragma("GCC unroll 4") for (int j = 0; j < RUN; j++) {                                                    \
                const ptrdiff_t i = i0 + j;                                                                            \
                (void)i;                                                                                               \
                BODY                                                                                                   \
            }                                                                                                          \
            FLUSH                                                                                                      \
        }                                                                                                              \
        for (; i0 < (T)->full; i0++) {                                                                                 \
            enum { part = 0, j = 0, run = 1 };                                                                         \
            const ptrdiff_t i = i0;                                                                                    \
            (void)i;                                                                                                   \
            BODY                                                                                                       \
            FLUSH                                                                                                      \
        }                                                                                                              \
        if ((T)->tail) {                                                                                               \
            enum { j = 0, run = 1 };                                                                                   \
            const int part = (T)->tail;                                                                                \
            const ptrdiff_t i = i0;                                                                                    \
            (void)i;                                                                                                   \
            BODY                                                                                                       \
            FLUSH                                                                                                      \
        }                                                                                                              \
    } while (0)
/* clang-format on */
#define BLOCK(...) __VA_ARGS__
#define EACH(T, ...) RUNS(T, BLOCK(__VA_ARGS__), )
#undef GET
#define GET(p, part, fill) ((part) ? vloadn(p, part, vset(fill)) : vload(p))
/* The next tile's line at this place, which is not always the next in memory: a walk alternates bursts of loads with
 * arithmetic, which the hardware's own prefetching does not follow. */
#undef AHEAD
#define AHEAD(T, which)                                                                                                \
    __builtin_prefetch((const void *)((uintptr_t)(T)->which + (uintptr_t)((T)->which##_next + i * (T)->which##s)))
#undef GET_X
#define GET_X(T) GET((T)->x + i * (T)->xs, part, -INF)
#undef GET_T
#define GET_T(T, fill) GET((T)->t + i * (T)->ts, part, fill)

/* ---- between lanes and rows ---- */
INLINE V FN(plus)(V a, V b) {
    return vadd(a, b);
}
INLINE V FN(larger)(V a, V b) {
    return vmax(a, b);
}
/* All lanes added or compared in a fixed tree; the result is in every lane. */
INLINE V FN(across_lanes)(V v, V (*both)(V, V)) {
    UNROLL for (int n = 1; n < VN; n *= 2) v = both(vziplo(v, v), vziphi(v, v));
    return v;
}

/* The largest of each row's numbers with this tile: rows' own across, one for all lanes along. */
INLINE V FN(new_max)(V most, V now, const FN(tile) * T) {
    most = vmax(most, now);
    return T->across ? most : FN(across_lanes)(most, FN(larger));
}

INLINE V FN(tile_max)(const char *p, ptrdiff_t step, const FN(tile) * T) {
    V a = vset(-INF), b = a, c = a, d = a;
    ptrdiff_t i = 0;
    for (; i + 4 <= T->full; i += 4, p += 4 * step) {
        a = vmax(vload(p), a);
        b = vmax(vload(p + step), b);
        c = vmax(vload(p + 2 * step), c);
        d = vmax(vload(p + 3 * step), d);
    }
    for (; i < T->full; i++, p += step)
        a = vmax(vload(p), a);
    if (T->tail)
        b = vmax(vloadn(p, T->tail, vset(-INF)), b);
    a = vmax(vmax(a, b), vmax(c, d));
    return a;
}

/* A vector's lanes, as doubles, to rows `at` and following, or the first to row `at`. */
INLINE void FN(put)(V v, const FN(tile) * T, int at, double *out) {
    R a[VN];
    vstore(a, v);
    if (T->across)
        for (int l = 0; l < VN; l++)
            out[at + l] = (double)a[l];
    else
        out[at] = (double)a[0];
}

/* ... and back: rows' numbers a lane each, or row 0's in all. */
INLINE V FN(spread)(const double *a, bool across) {
    R v[VN];
    if (!across)
        return vset((R)a[0]);
    for (int l = 0; l < VN; l++)
        v[l] = (R)a[l];
    return vload(v);
}
