/* state.h: the reductions. A tile is a few KB of compute values in L1, a vector after another: along a row (lanes are
 * classes of one row) or across rows (lane l is row l). Every function here steps through a tile the same way for both;
 * only how lanes are folded into row states differs.
 *
 * Lanes past the end hold x = -inf and t = 0 (log t = -inf): they add nothing, as an excluded class does.
 */
typedef struct FN(tile) {
    const char *x, *t;
    ptrdiff_t xs, ts; /* bytes from one vector to the next */
    ptrdiff_t full;   /* whole vectors */
    int tail;         /* lanes of one more, partial vector (along only) */
    int rows;         /* row states that this tile feeds */
    bool across;
} FN(tile);

/* BODY for each vector of tile T, with `i` its index and `part` its number of valid lanes (0: all; a constant then), `j` its
 * place in a run of RUN vectors; FLUSH after every run. */
/* clang-format off */
#undef EACH
#undef RUNS
#define RUNS(T, BODY, FLUSH)                                                                                           \
    do {                                                                                                               \
        ptrdiff_t i = 0;                                                                                               \
        while (i + RUN <= (T)->full) {                                                                                 \
            enum { part = 0 };                                                                                         \
            _Pragma("GCC unroll 4") for (int j = 0; j < RUN; j++, i++) {                                               \
                BODY                                                                                                   \
            }                                                                                                          \
            FLUSH                                                                                                      \
        }                                                                                                              \
        for (; i < (T)->full; i++) {                                                                                   \
            enum { part = 0, j = 0 };                                                                                  \
            BODY                                                                                                       \
            FLUSH                                                                                                      \
        }                                                                                                              \
        if ((T)->tail) {                                                                                               \
            enum { j = 0 };                                                                                            \
            const int part = (T)->tail;                                                                                \
            BODY                                                                                                       \
            FLUSH                                                                                                      \
        }                                                                                                              \
    } while (0)
/* clang-format on */
#define BLOCK(...) __VA_ARGS__
#define EACH(T, ...) RUNS(T, BLOCK(__VA_ARGS__), )
#undef GET
#define GET(p, part, fill) ((part) ? vloadn(p, part, vset(fill)) : vload(p))
/* The next tile's line at this place: a walk alternates bursts of loads with arithmetic, which the hardware's own
 * prefetching does not follow. */
#undef AHEAD
#define AHEAD(p, step) __builtin_prefetch((p) + (i + TILE_VECTORS) * (step))
#undef GET_X
#define GET_X(T) GET((T)->x + i * (T)->xs, part, -INF)
#undef GET_T
#define GET_T(T, fill) GET((T)->t + i * (T)->ts, part, fill)

static inline V FN(spread)(const R *a, bool across) {
    return across ? vload(a) : vset(a[0]);
}
/* A sum that stays right over thousands of equal terms: RUN vectors are added as a tree (exact for equal ones), runs with
 * the rounding error kept (two-sum). About two additions a vector. */
typedef struct FN(acc) {
    V run[RUN], sum, err;
} FN(acc);

static inline void FN(flush)(FN(acc) * a) {
    V run = vadd(vadd(a->run[0], a->run[1]), vadd(a->run[2], a->run[3]));
    V t = vadd(a->sum, run), back = vsub(t, a->sum);
    a->err = vadd(a->err, vadd(vsub(a->sum, vsub(t, back)), vsub(run, back)));
    a->sum = t;
    a->run[1] = a->run[2] = a->run[3] = vset((R)0); /* a run may be cut short after its first vector */
}

/* The lanes of an accumulator as one sum a row. */
static inline void FN(fold)(const FN(acc) * a, const FN(tile) * T, xent_sum *out) {
    R sum[VN], err[VN];
    xent_sum all = {0.0, 0.0}, rest = all;
    vstore(sum, a->sum);
    vstore(err, a->err);
    if (!T->across) {
        all = FN(vsum)(a->sum);
        rest = FN(vsum)(a->err);
    }
    for (int l = 0; l < T->rows; l++) {
        double e = T->across ? (double)err[l] : all.e + rest.s;
        out[l].s = T->across ? (double)sum[l] : all.s;
        out[l].e = e - e == 0.0 ? e : 0.0; /* an infinite sum has no error */
    }
}
/* ... added to a field of each row's state. */
#undef ADD_TO
#define ADD_TO(field, a)                                                                                               \
    do {                                                                                                               \
        xent_sum folded_[MAX_LANES];                                                                                   \
        FN(fold)(&(a), T, folded_);                                                                                    \
        for (int l = 0; l < T->rows; l++)                                                                              \
            xent_sum_merge(&s[l].field, folded_[l]);                                                                   \
    } while (0)

/* The largest of each row so far, and the reference that follows from it. */
typedef struct FN(lead) {
    FN(vref) ref;
    V m; /* 0 where no finite or infinite maximum is known yet, for differences */
    V top;
    R left_out[MAX_LANES]; /* 1 where this tile holds the new maximum: it is the element that r leaves out */
} FN(lead);

static inline V FN(tile_max)(const char *p, ptrdiff_t step, const FN(tile) * T) {
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
    return vmax(vmax(a, b), vmax(c, d));
}

static inline FN(lead)
    FN(take_lead)(const xent_job *job, reduce_kind kind, bool of_y, const FN(tile) * T, row_state *s) {
    R most[MAX_LANES], c[MAX_LANES] = {0}, k[MAX_LANES] = {0}, low[MAX_LANES] = {0}, m[MAX_LANES] = {0},
                       top[MAX_LANES] = {0};
    FN(lead) lead;
    V v = of_y ? FN(tile_max)(T->t, T->ts, T) : FN(tile_max)(T->x, T->xs, T);
    if (T->across)
        vstore(most, v);
    else
        most[0] = FN(vlargest)(v);
    for (int l = 0; l < T->rows; l++) {
        const xent_lse *now = of_y ? &s[l].y : &s[l].x;
        lead.left_out[l] = most[l] > now->m;
        if (lead.left_out[l] != 0 && of_y)
            xent_raise_y(kind, &s[l], most[l]);
        else if (lead.left_out[l] != 0)
            xent_raise_x(job, kind, &s[l], most[l]);
        xent_ref f = xent_ref_of(now->m);
        c[l] = (R)f.c;
        k[l] = (R)f.k;
        low[l] = (R)((now->m - now->m == 0.0 ? now->m - f.c : 0.0) - EXP_LOW);
        top[l] = (R)now->m;
        m[l] = now->m == -INFINITY ? (R)0 : (R)now->m;
    }
    lead.ref.c = FN(spread)(c, T->across);
    lead.ref.k = FN(spread)(k, T->across);
    lead.ref.low = FN(spread)(low, T->across);
    lead.m = FN(spread)(m, T->across);
    lead.top = FN(spread)(top, T->across);
    return lead;
}

/* A tile's share of an xent_lse: the sum of E over all but the maxima, and the maxima counted. */
typedef struct FN(lse_acc) {
    FN(acc) r;
    V count;
} FN(lse_acc);

/* E(x), added. In double its own rounding is kept, which is most of the error of a row of few classes; float sums are
 * finished in double, and what a float rounds is left as it is. */
static inline V FN(lse_step)(FN(lse_acc) * a, const FN(lead) * lead, int j, V x) {
    V lo, e = FN(vexp_ref_lo)(x, lead->ref, &lo);
    M rest = mnot(meq(x, lead->top));
    a->r.run[j] = vif(rest, e);
#if XENT_REAL == 64
    a->r.err = vadd(a->r.err, vif(rest, lo));
#endif
    a->count = vadd(a->count, vif(mnot(rest), vset((R)1)));
    return e;
}

static inline void FN(lse_add)(const FN(tile) * T, const FN(lead) * lead, const FN(lse_acc) * a, row_state *s,
                               bool of_y) {
    xent_sum r[MAX_LANES];
    R counts[VN];
    double all = 0.0;
    FN(fold)(&a->r, T, r);
    vstore(counts, a->count);
    if (!T->across)
        all = FN(vsum)(a->count).s;
    for (int l = 0; l < T->rows; l++) {
        xent_lse *z = of_y ? &s[l].y : &s[l].x;
        double more = (T->across ? (double)counts[l] : all) - lead->left_out[l];
        if (more > 0.0 && z->m > -INFINITY)
            xent_sum_add(&z->r, more * xent_lse_top(*z));
        xent_sum_merge(&z->r, r[l]);
    }
}

static void FN(reduce_lse)(const FN(tile) * T, const FN(lead) * lx, row_state *s) {
    FN(lse_acc) z = {0};
    RUNS(T, BLOCK({
             V x = GET_X(T);
             AHEAD(T->x, T->xs);
             FN(lse_step)(&z, lx, j, x);
         }),
         BLOCK({ FN(flush)(&z.r); }));
    FN(lse_add)(T, lx, &z, s, false);
}

static void FN(reduce_sent)(const FN(tile) * T, const FN(lead) * lx, row_state *s) {
    FN(lse_acc) z = {0};
    FN(acc) b = {0};
    RUNS(T, BLOCK({
             V x = GET_X(T), e = FN(lse_step)(&z, lx, j, x);
             b.run[j] = vif(mne(x, vset(-INF)), vmul(e, vsub(lx->m, x)));
         }),
         BLOCK({
             FN(flush)(&z.r);
             FN(flush)(&b);
         }));
    FN(lse_add)(T, lx, &z, s, false);
    ADD_TO(b, b);
}

/* With target probabilities: sum t (m - x) for cross-entropy, sum t (log t + m - x) for KL. */
static inline void FN(reduce_probs)(const FN(tile) * T, const FN(lead) * lx, bool with_log, row_state *s) {
    FN(lse_acc) z = {0};
    FN(acc) b = {0}, w = {0};
    RUNS(T, BLOCK({
             V x = GET_X(T), t = GET_T(T, (R)0), d = vsub(lx->m, x);
             AHEAD(T->x, T->xs);
             AHEAD(T->t, T->ts);
             FN(lse_step)(&z, lx, j, x);
             if (with_log)
                 d = vadd(FN(vlog)(t), d);
             w.run[j] = t;
             b.run[j] = vif(mne(t, vset((R)0)), vmul(t, d));
         }),
         BLOCK({
             FN(flush)(&z.r);
             FN(flush)(&b);
             FN(flush)(&w);
         }));
    FN(lse_add)(T, lx, &z, s, false);
    ADD_TO(b, b);
    ADD_TO(t, w);
}

static void FN(reduce_ent)(const FN(tile) * T, row_state *s) {
    FN(acc) h = {0};
    RUNS(T, BLOCK({
             V p = GET((T)->x + i * (T)->xs, part, (R)0);
             h.run[j] = vif(mne(p, vset((R)0)), vmul(p, vsub(vset((R)0), FN(vlog)(p))));
         }),
         BLOCK({ FN(flush)(&h); }));
    ADD_TO(b, h);
}

/* sum E(y) ((y - m_y) - (x - m_x)) for targets in log space. */
static void FN(reduce_logs)(const FN(tile) * T, const FN(lead) * lx, const FN(lead) * ly, row_state *s) {
    const V none = vset(-INF);
    FN(lse_acc) z = {0}, zy = {0};
    FN(acc) b = {0};
    RUNS(T, BLOCK({
             V x = GET_X(T), y = GET_T(T, -INF), t = FN(lse_step)(&zy, ly, j, y);
             FN(lse_step)(&z, lx, j, x);
             V d = vmul(t, vsub(vsub(y, ly->m), vsub(x, lx->m)));
             M live = mne(y, none); /* a target of 0 adds nothing; one above 0 where q = 0 is infinite */
             d = vsel(mand(live, meq(x, none)), vset(INF), d);
             b.run[j] = vif(live, d);
         }),
         BLOCK({
             FN(flush)(&z.r);
             FN(flush)(&zy.r);
             FN(flush)(&b);
         }));
    FN(lse_add)(T, lx, &z, s, false);
    FN(lse_add)(T, ly, &zy, s, true);
    ADD_TO(b, b);
}

/* The largest of p (t, or y) and the x beside it, of each row: an element that the others are compared with. */
static void FN(tile_anchor)(const FN(tile) * T, R fill, R *xs, R *ts) {
    V best = vset(-INF), at = vset(-INF);
    R b[VN], a[VN];
    EACH(T, {
        V x = GET_X(T), t = GET_T(T, fill);
        M more = mlt(best, t);
        best = vsel(more, t, best);
        at = vsel(more, x, at);
    });
    vstore(b, best);
    vstore(a, at);
    if (!T->across)
        for (int l = 1; l < VN; l++)
            if (b[l] > b[0]) {
                b[0] = b[l];
                a[0] = a[l];
            }
    for (int l = 0; l < T->rows; l++) {
        ts[l] = b[l];
        xs[l] = a[l];
    }
}

/* The centred sums of rowstate.h over a tile, around c, the tile's own mean of x - log t under t. To have c and each
 * u = x - log t - c to full relative accuracy, differences are taken exactly (two-difference) and from those of an anchor,
 * the tile's most probable element, which is all that counts in a confident row. With u, an element adds
 * t (exp(u) - 1 - u): t phi(u) where -1 <= u <= 2, else q - t (1 + u) with q = t exp(u) = exp(x - c), which is taken from x
 * alone, as E(x) against x's own largest times a factor a row: nothing is rounded that exp would magnify. */
static void FN(reduce_kl)(const FN(tile) * T, const FN(lead) * ly, row_state *s) {
    _Alignas(64) R ts[TILE_REALS], ds[TILE_REALS]; /* t, and x - log t less the anchor's */
    const V zero = vset((R)0), none = vset(-INF), inf = vset(INF);
    const double lift = ly ? ldexp(1.0, (int)XENT_KL_LIFT) : 1.0;
    FN(acc) w = {0}, d_sum = {0}, u_sum = {0}, a_sum = {0};
    FN(vref) fy = {0}, fx;
    V largest = none;
    xent_sum ws[MAX_LANES], means[MAX_LANES], us[MAX_LANES], as[MAX_LANES];
    R x_at[MAX_LANES] = {0}, t_at[MAX_LANES] = {0}, most[MAX_LANES] = {0}, xc[MAX_LANES] = {0}, xk[MAX_LANES] = {0};
    R mean[MAX_LANES] = {0}, factor[MAX_LANES] = {0}, hi_at[MAX_LANES], lo_at[MAX_LANES];

    FN(tile_anchor)(T, ly ? -INF : (R)0, x_at, t_at);
    V anchor_x = FN(spread)(x_at, T->across), anchor_lt = FN(spread)(t_at, T->across);
    if (ly) {
        fy = ly->ref;
        fy.k = vsub(fy.k, vset((R)XENT_KL_LIFT));
    } else {
        anchor_lt = FN(vlog)(anchor_lt);
    }
    /* No target in this tile, or an infinite difference: compare with nothing */
    M sound = mlt(vabs(vsub(anchor_x, anchor_lt)), inf);
    anchor_x = vif(sound, anchor_x);
    anchor_lt = vif(sound, anchor_lt);
    V hi_a = vsub(anchor_x, anchor_lt), back_a = vsub(hi_a, anchor_x);
    V lo_a = vsub(vsub(anchor_x, vsub(hi_a, back_a)), vadd(anchor_lt, back_a));

    RUNS(T, BLOCK({
             V x = GET_X(T), t, lt;
             if (ly) {
                 lt = GET_T(T, -INF);
                 t = FN(vexp_ref)(lt, fy);
             } else {
                 t = GET_T(T, (R)0);
                 lt = FN(vlog)(t);
             }
             V hi = vsub(x, lt), back = vsub(hi, x); /* x - log t, exactly hi + lo */
             V lo = vsub(vsub(x, vsub(hi, back)), vadd(lt, back));
             V d = vadd(vsub(hi, hi_a), vif(mlt(vabs(hi), inf), vsub(lo, lo_a)));
             w.run[j] = t;
             d_sum.run[j] = vif(mne(t, zero), vmul(t, d));
             largest = vmax(x, largest);
             /* t > 0 where q = 0 is told to the second pass by t = inf: the divergence is infinite */
             t = vsel(mand(meq(x, none), mlt(none, lt)), inf, t);
             vstore(ts + i * VN, t);
             vstore(ds + i * VN, d);
         }),
         BLOCK({
             FN(flush)(&w);
             FN(flush)(&d_sum);
         }));
    FN(fold)(&w, T, ws);
    FN(fold)(&d_sum, T, means);
    if (T->across)
        vstore(most, largest);
    else
        most[0] = FN(vlargest)(largest);
    if (T->across) {
        R h[VN], o[VN];
        vstore(h, hi_a);
        vstore(o, lo_a);
        for (int l = 0; l < T->rows; l++) {
            hi_at[l] = h[l];
            lo_at[l] = o[l];
        }
    } else {
        hi_at[0] = FN(vlargest)(hi_a);
        lo_at[0] = FN(vlargest)(lo_a);
    }
    xent_kl part[MAX_LANES];
    for (int l = 0; l < T->rows; l++) {
        const xent_ref x_ref = xent_ref_of(most[l]);
        xent_ref t_ref = {0.0, 0.0};
        double m, y_top = 0.0, hi = hi_at[l], rest, c;
        if (ly && s[l].y.m > -INFINITY) {
            t_ref = xent_ref_of(s[l].y.m);
            y_top = s[l].y.m;
        }
        /* With no target in this tile its largest exp(x - c) becomes about 1. */
        m = ws[l].s != 0.0 ? xent_sum_value(means[l]) / xent_sum_value(ws[l]) : most[l] - y_top - hi;
        mean[l] = m - m == 0.0 ? (R)m : (R)0;
        rest = (double)lo_at[l] + (double)mean[l];
        c = hi + rest;
        part[l].c = c;
        part[l].c_lo = fabs(hi) >= fabs(rest) ? rest - (c - hi) : hi - (c - rest);
        xc[l] = (R)x_ref.c;
        xk[l] = (R)x_ref.k;
        /* from x's reference to t's, times exp(-c) */
        factor[l] =
            most[l] == -INF ? (R)0 : (R)(lift * xent_exp_ln2(x_ref.c - t_ref.c - c, -part[l].c_lo, x_ref.k - t_ref.k));
    }
    fx.c = FN(spread)(xc, T->across);
    fx.k = FN(spread)(xk, T->across);
    fx.low = vset(-(R)XENT_PLAIN - EXP_LOW);
    const V vm = FN(spread)(mean, T->across), f = FN(spread)(factor, T->across);
    RUNS(T, BLOCK({
             V x = GET_X(T), t = vload(ts + i * VN), u = vsub(vload(ds + i * VN), vm);
             AHEAD(T->x, T->xs);
             AHEAD(T->t, T->ts);
             V tu = vif(mne(t, zero), vmul(t, u));
             V q = vmul(FN(vexp_ref)(x, fx), f);
             V far = vsub(vsub(q, t), tu);
             V a = vsel(mand(mle(vset((R)-1), u), mle(u, vset((R)2))), vmul(t, FN(vphi)(u)), far);
             a = vsel(meq(t, inf), inf, a);
             a_sum.run[j] = a;
             u_sum.run[j] = tu;
         }),
         BLOCK({
             FN(flush)(&a_sum);
             FN(flush)(&u_sum);
         }));
    FN(fold)(&u_sum, T, us);
    FN(fold)(&a_sum, T, as);
    for (int l = 0; l < T->rows; l++) {
        part[l].w = ws[l];
        part[l].u = us[l];
        part[l].a = as[l];
        xent_kl_merge(&s[l].kl, part[l]);
    }
}

static void FN(reduce_tile)(const xent_job *job, reduce_kind kind, const FN(tile) * T, row_state *s) {
    const bool of_x = xent_sums_x(kind), of_y = kind >= REDUCE_KL && xent_target_is_log(job);
    FN(lead) lx, ly;
    if (of_x)
        lx = FN(take_lead)(job, kind, false, T, s);
    if (of_y)
        ly = FN(take_lead)(job, kind, true, T, s);
    switch (kind) {
    case REDUCE_NONE:
        break;
    case REDUCE_LSE:
        FN(reduce_lse)(T, &lx, s);
        break;
    case REDUCE_ENT:
        FN(reduce_ent)(T, s);
        break;
    case REDUCE_SENT:
        FN(reduce_sent)(T, &lx, s);
        break;
    case REDUCE_CE:
        FN(reduce_probs)(T, &lx, false, s);
        break;
    case REDUCE_KL:
        FN(reduce_kl)(T, of_y ? &ly : NULL, s);
        break;
    case REDUCE_KLPAIR:
        FN(reduce_kl)(T, of_y ? &ly : NULL, s);
        /* fall through */
    case REDUCE_PAIR:
        if (of_y)
            FN(reduce_logs)(T, &lx, &ly, s);
        else
            FN(reduce_probs)(T, &lx, true, s);
        break;
    }
}
