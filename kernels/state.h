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

/* BODY for each vector of tile T, with `i` its index and `part` its number of valid lanes (0: all; a constant then). */
#undef EACH
#define EACH(T, ...)                                                                                                   \
    do {                                                                                                               \
        ptrdiff_t i = 0;                                                                                               \
        for (; i < (T)->full; i++) {                                                                                   \
            enum { part = 0 };                                                                                         \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
        if ((T)->tail) {                                                                                               \
            const int part = (T)->tail;                                                                                \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    } while (0)
#undef GET
#define GET(p, part, fill) ((part) ? vloadn(p, part, vset(fill)) : vload(p))
#undef GET_X
#define GET_X(T) GET((T)->x + i * (T)->xs, part, -INF)
#undef GET_T
#define GET_T(T, fill) GET((T)->t + i * (T)->ts, part, fill)

static inline V FN(spread)(const R *a, bool across) {
    return across ? vload(a) : vset(a[0]);
}
/* The lanes of v as one double a row. */
static inline void FN(fold)(V v, const FN(tile) * T, double *out) {
    R a[VN];
    out[0] = 0.0;
    if (T->across)
        vstore(a, v);
    else
        out[0] = FN(vsum)(v);
    for (int l = 0; T->across && l < T->rows; l++)
        out[l] = (double)a[l];
}
/* ... added to a field of each row's state. */
#undef ADD_TO
#define ADD_TO(field, v)                                                                                               \
    do {                                                                                                               \
        double folded_[MAX_LANES];                                                                                     \
        FN(fold)(v, T, folded_);                                                                                       \
        for (int l = 0; l < T->rows; l++)                                                                              \
            s[l].field += folded_[l];                                                                                  \
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

static inline FN(lead) FN(take_lead)(const xent_job *job, reduce_kind kind, bool of_y, const FN(tile) * T, row_state *s) {
    R most[MAX_LANES], c[MAX_LANES] = {0}, k[MAX_LANES] = {0}, low[MAX_LANES] = {0}, m[MAX_LANES] = {0}, top[MAX_LANES] = {0};
    FN(lead) lead;
    V v = of_y ? FN(tile_max)(T->t, T->ts, T) : FN(tile_max)(T->x, T->xs, T);
    if (T->across)
        vstore(most, v);
    else
        most[0] = FN(vlargest)(v);
    for (int l = 0; l < T->rows; l++) {
        const xent_lse *now = of_y ? &s[l].y : &s[l].x;
        lead.left_out[l] = most[l] > now->m;
        if (lead.left_out[l] != 0)
            (of_y ? xent_raise_y : xent_raise_x)(job, kind, &s[l], most[l]);
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

/* Adds a tile's sum of E over all but the maxima, and its maxima counted, to r. */
static inline void FN(add_lse)(const FN(tile) * T, const FN(lead) * lead, V sum, V count, row_state *s, bool of_y) {
    double r[MAX_LANES], n[MAX_LANES];
    FN(fold)(sum, T, r);
    FN(fold)(count, T, n);
    for (int l = 0; l < T->rows; l++) {
        xent_lse *z = of_y ? &s[l].y : &s[l].x;
        double more = n[l] - lead->left_out[l];
        z->r += more > 0.0 && z->m > -INFINITY ? r[l] + more * xent_ref_exp(z->m, xent_ref_of(z->m)) : r[l];
    }
}

#undef ADD_LSE_STEP
#define ADD_LSE_STEP(x, e, lead, sum, count)                                                                           \
    do {                                                                                                               \
        M is_top = meq(x, (lead)->top);                                                                                \
        sum = vadd(sum, vif(mnot(is_top), e));                                                                         \
        count = vadd(count, vif(is_top, vset((R)1)));                                                                  \
    } while (0)

static void FN(reduce_lse)(const FN(tile) * T, const FN(lead) * lx, row_state *s) {
    V sum = vset((R)0), count = sum;
    EACH(T, {
        V x = GET_X(T), e = FN(vexp_ref)(x, lx->ref);
        ADD_LSE_STEP(x, e, lx, sum, count);
    });
    FN(add_lse)(T, lx, sum, count, s, false);
}

static void FN(reduce_sent)(const FN(tile) * T, const FN(lead) * lx, row_state *s) {
    V sum = vset((R)0), count = sum, b = sum;
    EACH(T, {
        V x = GET_X(T), e = FN(vexp_ref)(x, lx->ref);
        ADD_LSE_STEP(x, e, lx, sum, count);
        b = vadd(b, vif(mne(x, vset(-INF)), vmul(e, vsub(lx->m, x))));
    });
    FN(add_lse)(T, lx, sum, count, s, false);
    ADD_TO(b, b);
}

static void FN(reduce_ce)(const FN(tile) * T, const FN(lead) * lx, row_state *s) {
    V sum = vset((R)0), count = sum, b = sum, w = sum;
    EACH(T, {
        V x = GET_X(T), t = GET_T(T, (R)0), e = FN(vexp_ref)(x, lx->ref);
        ADD_LSE_STEP(x, e, lx, sum, count);
        w = vadd(w, t);
        b = vadd(b, vif(mne(t, vset((R)0)), vmul(t, vsub(lx->m, x))));
    });
    FN(add_lse)(T, lx, sum, count, s, false);
    ADD_TO(b, b);
    ADD_TO(t, w);
}

static void FN(reduce_ent)(const FN(tile) * T, row_state *s) {
    V h = vset((R)0);
    EACH(T, {
        V p = GET((T)->x + i * (T)->xs, part, (R)0);
        h = vsub(h, vif(mne(p, vset((R)0)), vmul(p, FN(vlog)(p))));
    });
    ADD_TO(b, h);
}

/* sum t (log t - (x - m)) for probabilities; sum E(y) ((y - m_y) - (x - m_x)) for targets in log space. */
static void FN(reduce_pair)(const FN(tile) * T, const FN(lead) * lx, const FN(lead) * ly, row_state *s) {
    V sum = vset((R)0), count = sum, sum_y = sum, count_y = sum, b = sum, w = sum;
    if (ly)
        EACH(T, {
            V x = GET_X(T), y = GET_T(T, -INF);
            V e = FN(vexp_ref)(x, lx->ref), t = FN(vexp_ref)(y, ly->ref);
            ADD_LSE_STEP(x, e, lx, sum, count);
            ADD_LSE_STEP(y, t, ly, sum_y, count_y);
            V d = vmul(t, vsub(vsub(y, ly->m), vsub(x, lx->m)));
            M live = mne(y, vset(-INF)); /* a target of 0 adds nothing; one above 0 where q = 0 is infinite */
            d = vsel(mand(live, meq(x, vset(-INF))), vset(INF), d);
            b = vadd(b, vif(live, d));
        });
    else
        EACH(T, {
            V x = GET_X(T), t = GET_T(T, (R)0), e = FN(vexp_ref)(x, lx->ref);
            ADD_LSE_STEP(x, e, lx, sum, count);
            w = vadd(w, t);
            b = vadd(b, vif(mne(t, vset((R)0)), vmul(t, vadd(FN(vlog)(t), vsub(lx->m, x)))));
        });
    FN(add_lse)(T, lx, sum, count, s, false);
    if (ly)
        FN(add_lse)(T, ly, sum_y, count_y, s, true);
    ADD_TO(b, b);
    ADD_TO(t, w);
}

/* The centred sums of rowstate.h over a tile, around the tile's own mean of x - log t under t. */
static void FN(reduce_kl)(const FN(tile) * T, const FN(lead) * ly, row_state *s) {
    _Alignas(64) R ts[TILE_REALS], ls[TILE_REALS]; /* t and log t */
    const V zero = vset((R)0);
    V w = zero, d = zero, largest = vset(-INF), cy = zero, k = zero;
    double ws[MAX_LANES] = {0}, ds[MAX_LANES] = {0}, us[MAX_LANES], as[MAX_LANES];
    R c[MAX_LANES] = {0}, most[MAX_LANES] = {0};
    if (ly) {
        cy = ly->ref.c;
        k = ly->ref.k;
    }
    EACH(T, {
        V x = GET_X(T), t, lt;
        if (ly) {
            lt = GET_T(T, -INF);
            t = FN(vexp_ref)(lt, ly->ref);
        } else {
            t = GET_T(T, (R)0);
            lt = FN(vlog)(t);
        }
        w = vadd(w, t);
        d = vadd(d, vif(mne(t, zero), vmul(t, vsub(x, lt))));
        largest = vmax(x, largest);
        vstore(ts + i * VN, t);
        vstore(ls + i * VN, lt);
    });
    FN(fold)(w, T, ws);
    FN(fold)(d, T, ds);
    if (T->across)
        vstore(most, largest);
    else
        most[0] = FN(vlargest)(largest);
    for (int l = 0; l < T->rows; l++) {
        /* With no target in this tile the largest exp(x - c) becomes about 1. */
        double mean = ws[l] != 0.0 ? ds[l] / ws[l] : most[l] - (ly && s[l].y.m > -INFINITY ? s[l].y.m : 0.0);
        c[l] = mean - mean == 0.0 ? (R)mean : (R)0;
    }
    const V vc = FN(spread)(c, T->across), inf = vset(INF), high = vset(EXP_HIGH);
    V u_sum = zero, a_sum = zero;
    EACH(T, {
        V x = GET_X(T), t = vload(ts + i * VN), lt = vload(ls + i * VN);
        V hi = vsub(x, lt), back = vsub(hi, x); /* x - log t, exactly hi + lo */
        V lo = vsub(vsub(x, vsub(hi, back)), vadd(lt, back));
        V u = vadd(vsub(hi, vc), vif(mlt(vabs(hi), inf), lo));
        /* t exp(u) on its own, since exp(u) may overflow where the product does not */
        V none = vset(-INF);
        V v = vsel(meq(lt, none), vsub(vsub(x, cy), vc), vadd(vsub(lt, cy), u));
        V q = FN(vexp2ref)(vmin(vadd(high, vmul(k, vset((R)0.693147180559945))), vmax(vset(-(R)XENT_PLAIN - EXP_LOW), v)), k);
        V far = vsub(q, vif(mne(t, zero), vmul(t, vadd(vset((R)1), u))));
        V a = vsel(mle(vabs(u), vset((R)1)), vmul(t, FN(vphi)(u)), far);
        a = vsel(mand(meq(x, none), mlt(none, lt)), inf, a);
        a_sum = vadd(a_sum, a);
        u_sum = vadd(u_sum, vif(mne(t, zero), vmul(t, u)));
    });
    FN(fold)(u_sum, T, us);
    FN(fold)(a_sum, T, as);
    for (int l = 0; l < T->rows; l++) {
        xent_kl part = {.c = c[l], .w = ws[l], .u = us[l], .a = as[l]};
        xent_kl_merge(&s[l].kl, part);
    }
}

static void FN(reduce_tile)(const xent_job *job, reduce_kind kind, const FN(tile) * T, row_state *s) {
    const bool log_target = job->op->target == XENT_TARGET_LOGITS || job->op->target == XENT_TARGET_LOG_PROBS;
    const bool of_x = kind != REDUCE_ENT && kind != REDUCE_KL;
    const bool of_y = log_target && (kind == REDUCE_KL || kind == REDUCE_PAIR || kind == REDUCE_KLPAIR);
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
        FN(reduce_ce)(T, &lx, s);
        break;
    case REDUCE_KL:
        FN(reduce_kl)(T, of_y ? &ly : NULL, s);
        break;
    case REDUCE_KLPAIR:
        FN(reduce_kl)(T, of_y ? &ly : NULL, s);
        FN(reduce_pair)(T, &lx, of_y ? &ly : NULL, s);
        break;
    case REDUCE_PAIR:
        FN(reduce_pair)(T, &lx, of_y ? &ly : NULL, s);
        break;
    }
}
