/* state.h: the reductions. A tile is a few KB of compute values in L1, a vector after another: along a row (lanes are
 * classes of one row) or across rows (lane l is row l). Every function here steps through a tile the same way for both; the
 * state stays in vectors from tile to tile, and only how lanes become rows at the end differs.
 *
 * Lanes past the end hold x = -inf and t = 0 (log t = -inf): they add nothing, as an excluded class does.
 */
typedef struct FN(tile) {
    const char *x, *t, *w, *p; /* w, p: class weights of binary cross-entropy */
    ptrdiff_t xs, ts, ws, ps;  /* bytes from one vector to the next */
    ptrdiff_t x_next, t_next;  /* ... and to what is reduced next */
    ptrdiff_t full;            /* whole vectors */
    int tail;                  /* lanes of one more, partial vector (along only) */
    bool across;
} FN(tile);

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

#undef INLINE
#define INLINE static inline __attribute__((always_inline))

/* A sum that stays right over thousands of equal terms: RUN vectors are added as a tree (exact for equal ones), runs with
 * the rounding error kept (two-sum). About two additions a vector. */
typedef struct FN(sum) {
    V s, e;
} FN(sum);

INLINE void FN(add_to)(FN(sum) * a, V v) {
    V t = vadd(a->s, v), back = vsub(t, a->s);
    a->e = vadd(a->e, vadd(vsub(a->s, vsub(t, back)), vsub(v, back)));
    a->s = t;
}
INLINE void FN(flush)(V *run, FN(sum) * a) {
    FN(add_to)(a, vadd(vadd(run[0], run[1]), vadd(run[2], run[3])));
    run[1] = run[2] = run[3] = vset((R)0); /* a run may be cut short after its first vector */
}
/* Every addition's error kept: for sums whose own rounding is most of a result's error. */
INLINE void FN(flush_all)(V *run, FN(sum) * a) {
    for (int j = 0; j < RUN; j++)
        FN(add_to)(a, run[j]);
    run[1] = run[2] = run[3] = vset((R)0);
}
INLINE void FN(scale)(FN(sum) * a, V f) {
    a->s = vmul(a->s, f);
    a->e = vmul(a->e, f);
}
INLINE V FN(value)(FN(sum) a) {
    return vadd(a.s, vif(mlt(vabs(a.e), vset(INF)), a.e)); /* an infinite sum has no error */
}

/* rowstate.h's states in vectors: partial sums of one row along (m the same in all lanes), one row a lane across. */
typedef struct FN(top) {
    V m, n;
    FN(vref) ref;
    FN(sum) r;
} FN(top);
typedef struct FN(state) {
    FN(top) x, y;
    FN(sum) t, b;
} FN(state);

INLINE FN(vref) FN(vref_of)(V m) {
    FN(vref) f;
    M plain = mle(vabs(m), vset((R)XENT_PLAIN)), known = mlt(vset(-INF), m);
    f.k = vif(plain, vround(vmul(m, vset((R)XENT_LOG2E))));
    f.c = vif(mand(mnot(plain), known), m);
    f.low = vsub(vif(plain, m), vset((R)EXP_LOW));
    return f;
}

INLINE FN(state) FN(start)(void) {
    const V zero = vset((R)0);
    FN(top) top = {vset(-INF), zero, FN(vref_of)(vset(-INF)), {zero, zero}};
    FN(state) s = {top, top, {zero, zero}, {zero, zero}};
    return s;
}

INLINE void FN(settle)(FN(top) * s, M up, V m, FN(vref) ref) {
    s->n = vif(mnot(up), s->n);
    s->m = vsel(up, m, s->m);
    s->ref.c = vsel(up, ref.c, s->ref.c);
    s->ref.k = vsel(up, ref.k, s->ref.k);
    s->ref.low = vsel(up, ref.low, s->ref.low);
}

/* The maxima become m where that is larger: the old ones join the sum. Returns what sums held against the old reference
 * are multiplied by: a power of two but where |m| > XENT_PLAIN. */
static V FN(raise)(FN(top) * s, V m) {
    const V none = vset(-INF), one = vset((R)1);
    M up = mlt(s->m, m), known = mand(up, mlt(none, s->m));
    FN(vref) ref = FN(vref_of)(m);
    if (!many(known)) { /* nothing yet that would follow */
        FN(settle)(s, up, m, ref);
        return one;
    }
    V lo, e = FN(vexp_ref_lo)(s->m, s->ref, &lo);
    V d = vmax(vset((R)(-XENT_PLAIN - EXP_LOW)), vsub(s->ref.c, ref.c));
    V f = vsel(known, FN(vexp2ref)(d, vsub(ref.k, s->ref.k)), one);
    FN(add_to)(&s->r, vif(known, vmul(s->n, e)));
    if (XENT_REAL == 64)
        s->r.e = vadd(s->r.e, vif(known, vmul(s->n, lo)));
    FN(scale)(&s->r, f);
    FN(settle)(s, up, m, ref);
    return f;
}

/* d times what is there to be moved by it: a difference that overflows moves nothing where nothing is. */
INLINE V FN(moved)(M which, V d, V mass) {
    return vif(mand(which, mne(mass, vset((R)0))), vmul(d, mass));
}

/* ... and the sums that hold differences from a maximum follow. */
static void FN(raise_x)(reduce_kind kind, bool log_target, FN(state) * s, V m) {
    const V none = vset(-INF);
    M known = mand(mlt(s->x.m, m), mlt(none, s->x.m));
    V d = vif(known, vsub(m, s->x.m)), f = FN(raise)(&s->x, m);
    if (kind == REDUCE_LSE)
        return;
    if (kind == REDUCE_SENT) {
        FN(scale)(&s->b, f);
        FN(add_to)(&s->b, FN(moved)(known, d, FN(value)(s->x.r)));
    } else if (!log_target) {
        FN(add_to)(&s->b, FN(moved)(known, d, FN(value)(s->t)));
    } else {
        M any = mand(known, mlt(none, s->y.m));
        V w = vadd(FN(value)(s->y.r), vmul(s->y.n, FN(vexp_ref)(s->y.m, s->y.ref)));
        FN(add_to)(&s->b, FN(moved)(any, d, w));
    }
}
static void FN(raise_y)(FN(state) * s, V m) {
    M known = mand(mlt(s->y.m, m), mlt(vset(-INF), s->y.m));
    M infinite = meq(s->b.s, vset(INF)); /* it stays, where f is 0, too */
    V d = vif(known, vsub(s->y.m, m)), f = FN(raise)(&s->y, m);
    FN(scale)(&s->b, f);
    s->b.s = vsel(infinite, vset(INF), s->b.s);
    FN(add_to)(&s->b, FN(moved)(known, d, FN(value)(s->y.r)));
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

/* What the state's maxima become with this tile: rows' own across, one for all lanes along. */
INLINE V FN(new_max)(V most, V now, const FN(tile) * T) {
    most = vmax(most, now);
    return T->across ? most : FN(across_lanes)(most, FN(larger));
}

/* Makes the state's maxima those of this tile, too; whether the tile holds any of them. */
INLINE bool FN(lead_x)(const FN(tile) * T, reduce_kind kind, bool log_target, bool first, FN(state) * s) {
    V most = FN(tile_max)(T->x, T->xs, T);
    if (first) {
        s->x.m = FN(new_max)(most, vset(-INF), T);
        s->x.ref = FN(vref_of)(s->x.m);
        return true;
    }
    if (many(mlt(s->x.m, most)))
        FN(raise_x)(kind, log_target, s, FN(new_max)(most, s->x.m, T));
    return many(meq(most, s->x.m));
}

/* E(x), and its addition to everything but the maxima. fine: what it rounded itself is kept, which is most of the error of
 * a row of few classes. Sums of many floats are finished in double, and what a float rounds is left as it is. */
INLINE V FN(lse_step_lo)(const FN(top) * s, bool tops, const bool fine, V x, V *run, V *n, V *err, V *lo) {
    V e = FN(vexp_ref_lo)(x, s->ref, lo);
    M rest = mne(x, s->m);
    *run = tops ? vif(rest, e) : e;
    if (tops)
        *n = vadd(*n, vif(mnot(rest), vset((R)1)));
    if (fine)
        *err = vadd(*err, tops ? vif(rest, *lo) : *lo);
    return e;
}
INLINE V FN(lse_step)(const FN(top) * s, bool tops, V x, V *run, V *n, V *err) {
    V lo;
    return FN(lse_step_lo)(s, tops, XENT_REAL == 64, x, run, n, err, &lo);
}

/* The variants of a reduction's loop: most tiles hold no maximum, and need not look for one; a row that is one tile may keep
 * its E(x) for the emit, each vector followed by that of E(y), or by what E(x) rounded away, where there are such pairs
 * (xent_kept_tiles). */
#undef KEPT
#define KEPT(i, pairs, which) (keep + ((i) * ((pairs) ? 2 : 1) + (which)) * VN)
#undef KEEP
#define KEEP(pairs, both, first, second)                                                                               \
    for (int j_ = 0; keep && j_ < run; j_++) {                                                                         \
        vstore(KEPT(i0 + j_, pairs, 0), (first)[j_]);                                                                  \
        if (both)                                                                                                      \
            vstore(KEPT(i0 + j_, pairs, 1), (second)[j_]);                                                             \
    }
#undef SUMS
#undef VARIANT
#define VARIANT(function, tops, keep, ...)                                                                             \
    do {                                                                                                               \
        if (keep)                                                                                                      \
            FN(function)(T, true, __VA_ARGS__, keep);                                                                  \
        else if (tops)                                                                                                 \
            FN(function)(T, true, __VA_ARGS__, NULL);                                                                  \
        else                                                                                                           \
            FN(function)(T, false, __VA_ARGS__, NULL);                                                                 \
    } while (0)
#define SUMS(s)                                                                                                        \
    V sums[RUN] = {vset((R)0), vset((R)0), vset((R)0), vset((R)0)}, n = (s)->n;                                        \
    FN(sum) r = (s)->r

INLINE void FN(reduce_lse)(const FN(tile) * T, bool tops, const bool exact, FN(state) * s, R *keep) {
    SUMS(&s->x);
    V es[RUN], los[RUN];
    RUNS(T, BLOCK({
             V x = GET_X(T);
             AHEAD(T, x);
             es[j] = FN(lse_step_lo)(&s->x, tops, exact || XENT_REAL == 64, x, &sums[j], &n, &r.e, &los[j]);
         }),
         BLOCK({
             KEEP(XENT_REAL == 64, XENT_REAL == 64, es, los)
             if (exact)
                 FN(flush_all)(sums, &r);
             else
                 FN(flush)(sums, &r);
         }));
    s->x.n = n;
    s->x.r = r;
}

INLINE void FN(reduce_sent)(const FN(tile) * T, bool tops, FN(state) * s) {
    SUMS(&s->x);
    V m = vif(mlt(vset(-INF), s->x.m), s->x.m), d[RUN] = {sums[0], sums[0], sums[0], sums[0]};
    FN(sum) b = s->b;
    RUNS(T, BLOCK({
             V x = GET_X(T), e = FN(lse_step)(&s->x, tops, x, &sums[j], &n, &r.e);
             AHEAD(T, x);
             d[j] = vif(mne(e, vset((R)0)), vmul(e, vsub(m, x)));
         }),
         BLOCK({
             FN(flush)(sums, &r);
             FN(flush)(d, &b);
         }));
    s->x.n = n;
    s->x.r = r;
    s->b = b;
}

/* With target probabilities: sum t (m - x) for cross-entropy, sum t (log t + m - x) for KL. */
INLINE void FN(reduce_probs)(const FN(tile) * T, bool tops, bool with_log, FN(state) * s, R *keep) {
    SUMS(&s->x);
    V m = vif(mlt(vset(-INF), s->x.m), s->x.m);
    V td[RUN] = {sums[0], sums[0], sums[0], sums[0]}, ts[RUN] = {sums[0], sums[0], sums[0], sums[0]}, es[RUN];
    FN(sum) b = s->b, w = s->t;
    RUNS(T, BLOCK({
             V x = GET_X(T), t = GET_T(T, (R)0), d = vsub(m, x);
             AHEAD(T, x);
             AHEAD(T, t);
             es[j] = FN(lse_step)(&s->x, tops, x, &sums[j], &n, &r.e);
             if (with_log)
                 d = vadd(FN(vlog)(t), d);
             ts[j] = t;
             td[j] = vif(mne(t, vset((R)0)), vmul(t, d));
         }),
         BLOCK({
             KEEP(XENT_REAL == 64, false, es, es)
             FN(flush)(sums, &r);
             FN(flush)(td, &b);
             FN(flush)(ts, &w);
         }));
    s->x.n = n;
    s->x.r = r;
    s->b = b;
    s->t = w;
}

static void FN(reduce_ent)(const FN(tile) * T, FN(state) * s) {
    V h[RUN] = {vset((R)0), vset((R)0), vset((R)0), vset((R)0)};
    FN(sum) b = s->b;
    RUNS(T, BLOCK({
             V p = GET((T)->x + i * (T)->xs, part, (R)0);
             AHEAD(T, x);
             h[j] = vif(mne(p, vset((R)0)), vmul(p, vsub(vset((R)0), FN(vlog)(p))));
         }),
         BLOCK({ FN(flush)(h, &b); }));
    s->b = b;
}

/* sum E(y) ((y - m_y) - (x - m_x)) for targets in log space. */
INLINE void FN(reduce_logs)(const FN(tile) * T, bool tops, FN(state) * s, R *keep) {
    const V none = vset(-INF);
    SUMS(&s->x);
    V mx = vif(mlt(none, s->x.m), s->x.m), my = vif(mlt(none, s->y.m), s->y.m), ny = s->y.n;
    V ys[RUN] = {sums[0], sums[0], sums[0], sums[0]}, ds[RUN] = {sums[0], sums[0], sums[0], sums[0]}, es[RUN], ts[RUN];
    FN(sum) b = s->b, ry = s->y.r;
    RUNS(T, BLOCK({
             V x = GET_X(T), y = GET_T(T, -INF);
             AHEAD(T, x);
             AHEAD(T, t);
             V t = ts[j] = FN(lse_step)(&s->y, tops, y, &ys[j], &ny, &ry.e);
             es[j] = FN(lse_step)(&s->x, tops, x, &sums[j], &n, &r.e);
             V d = vmul(t, vsub(vsub(y, my), vsub(x, mx)));
             /* a target of 0 adds nothing, also one too small for the tile; but one above 0 where q = 0 is infinite */
             ds[j] = vsel(mand(mne(y, none), meq(x, none)), vset(INF), vif(mne(t, vset((R)0)), d));
         }),
         BLOCK({
             KEEP(true, true, es, ts)
             FN(flush)(sums, &r);
             FN(flush)(ys, &ry);
             FN(flush)(ds, &b);
         }));
    s->x.n = n;
    s->x.r = r;
    s->y.n = ny;
    s->y.r = ry;
    s->b = b;
}

/* ---- lanes to rows ---- */
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

/* The same of a sum, with what is rounded. */
INLINE FN(sum) FN(total)(FN(sum) a) {
    UNROLL for (int n = 1; n < VN; n *= 2) {
        FN(sum) half = {vziplo(a.s, a.s), vadd(vziplo(a.e, a.e), vziphi(a.e, a.e))};
        FN(add_to)(&half, vziphi(a.s, a.s));
        a = half;
    }
    return a;
}

/* The lanes of a sum as rows' sums. */
INLINE void FN(put_sum)(FN(sum) a, const FN(tile) * T, int at, double *s, double *e) {
    if (!T->across)
        a = FN(total)(a);
    a.e = vif(mlt(vabs(a.e), vset(INF)), a.e);
    FN(put)(a.s, T, at, s);
    FN(put)(a.e, T, at, e);
}

static void FN(put_top)(const FN(top) * s, const FN(tile) * T, int at, lane_top *out) {
    FN(put)(s->m, T, at, out->m);
    FN(put)(T->across ? s->n : FN(across_lanes)(s->n, FN(plus)), T, at, out->n);
    FN(put)(s->ref.c, T, at, out->c);
    FN(put)(s->ref.k, T, at, out->k);
    FN(put_sum)(s->r, T, at, out->r.s, out->r.e);
}
