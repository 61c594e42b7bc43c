/* kl.h: Kullback-Leibler divergence of a target, in probabilities or in log space, from softmax(x).
 *
 * Two ways to the value: the centred sums of state.h (KL), which keep their digits however near the rows are, and the direct
 * sum of t (log t - log q) with the maxima as references (PAIR), for rows whose exp(u) leaves the range, and for what needs both
 * log sum exp: gradients and terms. KL_PAIR has both. */

/* ---- a tile's share of the centred sums (state.h: w, u, a about c), about an anchor at first ---- */
/* SUM: w = sum t, d = sum t (u + mean), U, A. NUMBER: the anchor's x - log t (hi + lo); the largest x and y; references of
 * exp(x) and of t; c = hi + lo + mean; E(x) factor = t exp(u). */
#undef KL_TILE
/* clang-format off */
#define KL_TILE(SUM, NUMBER)                                                                                           \
    SUM(w) SUM(d) SUM(u) SUM(a)                                                                                        \
    NUMBER(hi) NUMBER(lo) NUMBER(most) NUMBER(top) NUMBER(xc) NUMBER(xk) NUMBER(tc) NUMBER(tk)                         \
    NUMBER(mean) NUMBER(factor) NUMBER(c) NUMBER(c_lo)
/* clang-format on */
typedef struct FN(kl_tile) {
#define SUM(field) FN(sum) field;
#define NUMBER(field) V field;
    KL_TILE(SUM, NUMBER)
#undef SUM
#undef NUMBER
} FN(kl_tile);

/* A tile's mean, c and factor. The mean is rounded to what a float tile holds. */
INLINE void FN(kl_centre)(FN(kl_tile) * p, bool is_f32) {
    const V zero = vset((R)0), inf = vset(INF), most_d = vset((R)8000);
    /* With no target in this tile, or so little that t exp(u) leaves the range, its largest exp(x - c) becomes about 1. */
    const V faint = vset((R)(is_f32 ? 0x1p-100 : KL_SLIGHT));
    V mean = vdiv(FN(value)(p->d), FN(value)(p->w)), lost, low;
    V m = vsel(mlt(p->w.s, faint), vsub(vsub(p->most, p->top), p->hi), mean);
    if (is_f32)
        m = FN(vfirst24)(m);
    p->mean = m = vif(mlt(vabs(m), inf), m);
    V rest = FN(two_sum)(p->lo, m, &lost);
    p->c = FN(two_sum)(p->hi, rest, &low);
    p->c_lo = vadd(low, lost);
    /* x's reference less t's less c, each difference with what it rounds: references may be far from 0 and near c */
    V gap = FN(two_sum)(p->xc, vsub(zero, p->tc), &lost), near = FN(two_sum)(gap, vsub(zero, p->c), &low);
    V d = FN(two_sum)(near, vsub(vadd(lost, low), p->c_lo), &lost);
    V e = FN(vexp2ref)(vmin(most_d, vmax(vsub(zero, most_d), d)), vsub(p->tk, p->xk));
    p->factor = vif(mne(p->most, vset(-INF)), vfma(e, vif(mlt(vabs(lost), vset((R)1)), lost), e));
}

/* A tile's sums. D - W mean would be U, too, but for what its products rounded: of the mean's size, which may be hundreds
 * where the anchor lies far from the others, and KL next to nothing. Only what it says of infinite terms is kept. */
INLINE FN(kl) FN(kl_of_tile)(const FN(kl_tile) * p) {
    FN(kl) v = {p->c, p->c_lo, p->w, p->u, p->a};
    const V d = FN(value)(p->d);
    v.u.s = vadd(v.u.s, vsub(d, d));
    return v;
}

#if XENT_REAL == 64
/* ---- in double, rows of the group: what is done once a tile, and when states merge ---- */
/* KL_TILE of rows. */
typedef double per_lane[MAX_VECTOR];
typedef struct kl_part {
#define SUM(field)                                                                                                     \
    struct {                                                                                                           \
        per_lane s, e;                                                                                                 \
    } field;
#define NUMBER(field) per_lane field;
    KL_TILE(SUM, NUMBER)
#undef SUM
#undef NUMBER
} kl_part;

/* y's reference, of rows. */
typedef struct kl_reference {
    per_lane c, k;
} kl_reference;

INLINE FN(sum) FN(sum_select)(M m, FN(sum) a, FN(sum) b) {
    FN(sum) v = {vsel(m, a.s, b.s), vsel(m, a.e, b.e)};
    return v;
}
INLINE void FN(store_kl)(const FN(kl) * v, group_state *s, int l) {
    FN(state) all = FN(start)();
    all.kl = *v;
    FN(store_state)(PART_KL, &all, s, l);
}

/* The sums against c - (e + low) instead of c. A small e is added as a difference, so that thousands of small shifts round
 * no more than one; a large one is a factor, which must not cancel, and whose own rounding (low) counts. */
INLINE void FN(kl_shift)(FN(kl) * s, V e, V low) {
    const V zero = vset(0.0);
    V w = FN(value)(s->w), a = FN(value)(s->a), m1, mx;
    M some = mne(w, zero), small = mlt(vabs(e), vset(0.5)), none = mand(meq(e, zero), meq(low, zero));
    V all = FN(vexpm1s)(e, &m1, &mx);
    low = vif(mlt(vabs(low), vset(1.0)), low);
    V change = vmul(all, low);
    mx = vfma(m1, low, mx);
    m1 = vadd(m1, change);
    V more = vif(some, vadd(vmul(m1, FN(value)(s->u)), vmul(mx, w)));
    V f = vsel(small, vset(1.0), vadd(all, change));
    FN(scale)(&s->a, f);
    FN(add_to)(&s->a, vif(mand(small, mnot(none)), vmul(m1, a)));
    FN(add_to)(&s->a, vif(mnot(none), more));
    FN(add_to)(&s->u, vif(some, vfma(e, w, vmul(low, w))));
}

/* The sums of either, by lanes. */
INLINE FN(kl) FN(kl_select)(M m, const FN(kl) * a, const FN(kl) * b) {
    FN(kl)
    v = {vsel(m, a->c, b->c), vsel(m, a->c_lo, b->c_lo), FN(sum_select)(m, a->w, b->w), FN(sum_select)(m, a->u, b->u),
         FN(sum_select)(m, a->a, b->a)};
    return v;
}

/* No exp(x - c), and no word of a t above 0 where x is -inf, either: that makes U a NaN, and the direct sum says so. */
INLINE M FN(kl_nothing)(const FN(kl) * s) {
    return mand(meq(FN(value)(s->a), vset(0.0)), meq(FN(value)(s->u), vset(0.0)));
}

/* Both against the same reference of t, about their common mean: that of the one with any t to speak of where the other has
 * none, and the larger c where neither has, so that no exp(x - c) overflows, nor loses digits below the normal range. */
INLINE void FN(kl_merge)(FN(kl) * a, FN(kl) b) {
    const V zero = vset(0.0);
    V wa = FN(value)(a->w), wb = FN(value)(b.w);
    const V slight = vset(KL_SLIGHT);
    M no_b = mlt(wb, slight), empty = no_b;
    const bool some_have_none = many(mor(mlt(wa, slight), no_b));
    if (some_have_none) {
        const M none_a = FN(kl_nothing)(a), none_b = FN(kl_nothing)(&b);
        const M turn = mand(mlt(wa, slight), mor(mnot(no_b), mor(none_a, mand(mnot(none_b), mlt(a->c, b.c)))));
        const FN(kl) first = *a;
        *a = FN(kl_select)(turn, &b, a);
        b = FN(kl_select)(turn, &first, &b);
        wa = FN(value)(a->w);
        wb = FN(value)(b.w);
        no_b = mlt(wb, slight);
        empty = mand(meq(wb, zero), FN(kl_nothing)(&b));
    }
    FN(kl) merged = *a, other = b;
    V low, lost, gap = FN(two_sum)(b.c, vsub(zero, a->c), &low);
    low = vadd(low, vsub(b.c_lo, a->c_lo));
    V sum_u = vadd(vadd(FN(value)(a->u), vmul(wb, vadd(gap, low))), FN(value)(b.u));
    V move = vif(mnot(no_b), vdiv(sum_u, vadd(wa, wb)));
    FN(kl_shift)(&merged, vsub(zero, move), zero);
    V e = FN(two_sum)(gap, vsub(zero, move), &lost);
    e = FN(two_sum)(e, vadd(lost, low), &low); /* both may be tiny: low has to be what e rounds */
    FN(kl_shift)(&other, e, low);
    FN(merge_sum)(&merged.w, other.w);
    FN(merge_sum)(&merged.u, other.u);
    FN(merge_sum)(&merged.a, other.a);
    merged.c = FN(two_sum)(a->c, move, &lost);
    merged.c = FN(two_sum)(merged.c, vadd(a->c_lo, lost), &merged.c_lo);
    *a = some_have_none ? FN(kl_select)(empty, a, &merged) : merged;
}

/* y's reference rises: t is held against one exp(d) as large from now on. Where nothing is left of t beside what comes, or
 * nothing was there, the sums are exp(x - c) alone, and c falls by as much as the reference rises: they must not become 0 with
 * t, because x may still be anything there. */
INLINE void FN(kl_follow)(FN(vref) old, FN(vref) now, FN(kl) * v) {
    const V zero = vset(0.0), least = vset(-8000.0);
    V rise = vsub(old.k, now.k), low, lower, lowest, d = FN(two_sum)(old.c, vsub(zero, now.c), &low);
    V f = FN(vexp2ref)(vmin(zero, vmax(least, d)), vsub(zero, rise));
    M no_t = meq(FN(value)(v->w), zero), moves = mor(no_t, mlt(f, vset(KL_FAINT)));
    FN(sum) e = v->a; /* sum t exp(u) */
    FN(merge_sum)(&e, v->u);
    FN(merge_sum)(&e, v->w);
    v->a.s = vsel(moves, e.s, vmul(v->a.s, f));
    v->a.e = vsel(moves, e.e, vmul(v->a.e, f));
    f = vif(mnot(moves), f);
    FN(scale)(&v->w, f);
    FN(scale)(&v->u, f);
    moves = mand(moves, mne(FN(value)(v->a), zero));
    V c = FN(two_sum)(FN(two_sum)(v->c, d, &lower), vmul(rise, vset(XENT_LN2_A)), &lowest);
    low = vadd(vadd(low, lower), vfma(rise, vset(XENT_LN2_B), lowest));
    v->c = vsel(moves, c, v->c);
    v->c_lo = vadd(v->c_lo, vif(moves, low));
}
static void FN(kl_follow_rows)(int rows, int at, const kl_reference *old, const kl_reference *now, group_state *s) {
    for (int l = 0; l < rows; l += VN) {
        const FN(vref) before = {vload(old->c + l), vload(old->k + l), vset(0.0)};
        const FN(vref) after = {vload(now->c + l), vload(now->k + l), vset(0.0)};
        FN(kl) v = FN(load_state)(PART_KL, s, at + l).kl;
        FN(kl_follow)(before, after, &v);
        FN(store_kl)(&v, s, at + l);
    }
}

INLINE FN(kl_tile) FN(load_part)(const kl_part *p, int l) {
    FN(kl_tile) v;
#define SUM(field) v.field = FN(load_sum)(p->field.s, p->field.e, l);
#define NUMBER(field) v.field = vload(p->field + l);
    KL_TILE(SUM, NUMBER)
#undef SUM
#undef NUMBER
    return v;
}

/* The centres of rows' tiles. */
static void FN(kl_centres)(int rows, bool is_f32, kl_part *p) {
    for (int l = 0; l < rows; l += VN) {
        FN(kl_tile) v = FN(load_part)(p, l);
        FN(kl_centre)(&v, is_f32);
        vstore(p->factor + l, v.factor);
        vstore(p->mean + l, v.mean);
        vstore(p->c + l, v.c);
        vstore(p->c_lo + l, v.c_lo);
    }
}

/* The tiles' sums, added to rows at and following. */
static void FN(kl_add)(int rows, int at, bool first, const kl_part *p, group_state *s) {
    for (int l = 0; l < rows; l += VN) {
        const FN(kl_tile) tile = FN(load_part)(p, l);
        FN(kl) v = FN(kl_of_tile)(&tile);
        if (!first) {
            FN(kl) sum = FN(load_state)(PART_KL, s, at + l).kl;
            FN(kl_merge)(&sum, v);
            v = sum;
        }
        FN(store_kl)(&v, s, at + l);
    }
}

/* No class at all. */
static void FN(kl_none)(int rows, int at, group_state *s) {
    const FN(kl) v = FN(start)().kl;
    for (int l = 0; l < rows; l += VN)
        FN(store_kl)(&v, s, at + l);
}
#endif

/* ---- folding ---- */
INLINE kl_reference FN(kl_reference_of)(FN(vref) f, const FN(tile) * T) {
    kl_reference r;
    if (!T->across)
        memset(&r, 0, sizeof r); /* one row of a vector of them */
    FN(put)(f.c, T, 0, r.c);
    FN(put)(f.k, T, 0, r.k);
    return r;
}
INLINE void FN(put_tile)(const FN(kl_tile) * v, const FN(tile) * T, kl_part *p) {
#define SUM(field) FN(put_sum)(v->field, T, 0, p->field.s, p->field.e);
#define NUMBER(field) FN(put)(v->field, T, 0, p->field);
    KL_TILE(SUM, NUMBER)
#undef SUM
#undef NUMBER
}

/* y's maxima with this tile; KL's sums, held against y's reference, follow. */
static void FN(lead_y)(const FN(tile) * T, reduce_kind kind, FN(state) * s, group_state *rows, int at) {
    V most = FN(tile_max)(T->t, T->ts, T);
    if (!many(mlt(s->y.m, most)))
        return;
    const FN(vref) old = s->y.ref;
    FN(raise_y)(kind, s, FN(new_max)(most, s->y.m, T));
    if (xent_parts(kind) & PART_KL) {
        const kl_reference before = FN(kl_reference_of)(old, T), now = FN(kl_reference_of)(s->y.ref, T);
        FN64(kl_follow_rows)(T->across ? VN : 1, at, &before, &now, rows);
    }
}

/* The largest of each row's p (t, or y) and the x beside it: an element that the others are compared with. */
INLINE void FN(tile_anchor)(const FN(tile) * T, R fill, V *xs, V *ts) {
    const V none = vset(-INF);
    V best[RUN] = {none, none, none, none}, at[RUN] = {none, none, none, none}; /* as many chains */
    EACH(T, {
        V x = GET_X(T), t = GET_T(T, fill);
        M more = mlt(best[j], t);
        best[j] = vsel(more, t, best[j]);
        at[j] = vsel(more, x, at[j]);
    });
    V most = vmax(vmax(best[0], best[1]), vmax(best[2], best[3])), x = none;
    if (!T->across)
        most = FN(across_lanes)(most, FN(larger));
    UNROLL for (int j = 0; j < RUN; j++) x = vmax(vsel(meq(best[j], most), at[j], none), x);
    *ts = most;
    *xs = T->across ? x : FN(across_lanes)(x, FN(larger));
}

/* A tile's sums, around c, the tile's own mean of x - log t under t. To have c and each u = x - log t - c to full relative
 * accuracy, differences are taken exactly (two-difference) and from those of an anchor, the tile's most probable element,
 * which is all that counts in a confident row. With u, an element adds t (exp(u) - 1 - u): t phi(u) where -1 <= u <= 2, else
 * q - t (1 + u) with q = t exp(u) = exp(x - c), which is taken from x alone, as E(x) against x's own largest times a factor
 * a row: nothing is rounded that exp would magnify. What is done once a tile is done in double, in the group's state, or
 * (whole: rows across of one tile each) stays in the tile's vectors. */
INLINE void FN(fold_kl)(const FN(folding) * F, const bool log_target) {
    /* With d + e = x - log t less the anchor's, e what d rounds: e, and what would cost a function to have again, t or d. */
    _Alignas(64) R es[TILE_REALS], kept[TILE_REALS];
    const FN(tile) *T = F->T;
    const FN(state) *s = F->s;
    const V zero = vset((R)0), none = vset(-INF);
    V r0[RUN] = {zero, zero, zero, zero}, r1[RUN] = {zero, zero, zero, zero}, most = none, anchor_x, anchor_lt;
    FN(sum) w = {zero, zero}, d_sum = w, u_sum = w, a_sum = w;
    FN(vref) fy = s->y.ref, fx;
    FN(kl_tile) mine;
    kl_part part;
    if (!F->whole && !T->across)
        memset(&part, 0, sizeof part); /* one row of a vector of them */

    FN(tile_anchor)(T, log_target ? -INF : (R)0, &anchor_x, &anchor_lt);
    if (log_target)
        fy.k = vsub(fy.k, vset((R)XENT_KL_LIFT));
    else
        anchor_lt = FN(vlog)(anchor_lt);
    M sound = mlt(vabs(vsub(anchor_x, anchor_lt)), vset(INF));
    anchor_x = vif(sound, anchor_x);
    anchor_lt = vif(sound, anchor_lt);
    V hi_a = vsub(anchor_x, anchor_lt), back_a = vsub(hi_a, anchor_x);
    V lo_a = vsub(vsub(anchor_x, vsub(hi_a, back_a)), vadd(anchor_lt, back_a));

    RUNS(T, BLOCK({
             V x = GET_X(T), t, lt;
             if (log_target) {
                 lt = GET_T(T, -INF);
                 t = FN(vexp_ref)(lt, fy);
             } else {
                 t = GET_T(T, (R)0);
                 lt = FN(vlog)(t);
             }
             V hi = vsub(x, lt), back = vsub(hi, x); /* x - log t, exactly hi + lo */
             V lo = vsub(vsub(x, vsub(hi, back)), vadd(lt, back));
             V e, d = FN(two_sum)(hi, vsub(zero, hi_a), &e); /* NaN where t or q is 0 */
             e = vadd(e, vsub(lo, lo_a));
             M live = mne(t, zero);
             if (log_target) /* KL is infinite, also where t is too small for the tile: the direct sum says so */
                 live = mor(live, meq(hi, none));
             r0[j] = t;
             r1[j] = vadd(r1[j], vif(live, vmul(t, vadd(d, e))));
             most = vmax(x, most);
             vstore(es + i * VN, e);
             vstore(kept + i * VN, log_target ? t : d);
         }),
         BLOCK({ FN(flush)(r0, &w); }));
    FN(flush)(r1, &d_sum); /* roughly is enough: see kl_of_tile */
    most = FN(new_max)(most, none, T);
    fx = FN(vref_of)(most);
    mine = (FN(kl_tile)){.w = w, .d = d_sum, .hi = hi_a, .lo = lo_a, .most = most, .xc = fx.c, .xk = fx.k};
    mine.top = log_target ? vif(mlt(none, s->y.m), s->y.m) : zero;
    mine.tc = log_target ? fy.c : zero;
    mine.tk = log_target ? fy.k : zero;
    if (F->whole) {
        FN(kl_centre)(&mine, XENT_REAL == 32);
    } else {
        FN(put_tile)(&mine, T, &part);
        FN64(kl_centres)(T->across ? VN : 1, XENT_REAL == 32, &part);
        mine.mean = FN(spread)(part.mean, T->across);
        mine.factor = FN(spread)(part.factor, T->across);
    }
    const V vm = mine.mean, f = mine.factor;

    r0[0] = r1[0] = zero;
    RUNS(T, BLOCK({
             V x = GET_X(T), t = vload(kept + i * VN), d = t;
             if (log_target)
                 d = vsub(vsub(x, GET_T(T, -INF)), hi_a);
             else
                 t = GET_T(T, (R)0);
             V u = vadd(vsub(d, vm), vload(es + i * VN));
             AHEAD(T, x);
             AHEAD(T, t);
             V tu = vif(mne(t, zero), vmul(t, u));
             V q = vmul(FN(vexp_ref)(x, fx), f);
             V far = vsub(vsub(q, t), tu);
             V a = vsel(mand(mle(vset((R)-1), u), mle(u, vset((R)2))), vmul(t, FN(vphi)(u)), far);
             r0[j] = a;
             r1[j] = tu;
         }),
         BLOCK({
             FN(flush)(r0, &a_sum);
             FN(flush)(r1, &u_sum);
         }));
    mine.u = u_sum;
    mine.a = a_sum;
    if (F->whole) {
        F->s->kl = FN(kl_of_tile)(&mine);
        return;
    }
    FN(put_sum)(u_sum, T, 0, part.u.s, part.u.e);
    FN(put_sum)(a_sum, T, 0, part.a.s, part.a.e);
    FN64(kl_add)(T->across ? VN : 1, F->at, F->first, &part, F->rows);
}

/* x and y alike and, with_terms, sum E(y) ((y - m_y) - (x - m_x)). */
INLINE void FN(fold_logs)(const FN(tile) * T, const bool tops, const bool keeps, R *keep, FN(state) * s,
                          const bool with_terms) {
    const V none = vset(-INF);
    SUMS(&s->x);
    V mx = vif(mlt(none, s->x.m), s->x.m), my = vif(mlt(none, s->y.m), s->y.m), ny = s->y.n;
    V ys[RUN] = {sums[0], sums[0], sums[0], sums[0]}, ds[RUN] = {sums[0], sums[0], sums[0], sums[0]}, es[RUN], ts[RUN];
    FN(sum) b = s->b, ry = s->y.r;
    RUNS(T, BLOCK({
             V x = GET_X(T), y = GET_T(T, -INF);
             AHEAD(T, x);
             AHEAD(T, t);
             V t = ts[j] = FN(lse_step)(&s->y, tops, XENT_REAL == 64, y, &ys[j], &ny, &ry.e);
             es[j] = FN(lse_step)(&s->x, tops, XENT_REAL == 64, x, &sums[j], &n, &r.e);
             if (with_terms) {
                 V d = vmul(t, vsub(vsub(y, my), vsub(x, mx)));
                 /* a target of 0 adds nothing, also one too small for the tile; but one above 0 where q = 0 is infinite */
                 ds[j] = vsel(mand(mne(y, none), meq(x, none)), vset(INF), vif(mne(t, vset((R)0)), d));
             }
         }),
         BLOCK({
             KEEP(true, es, ts)
             FN(flush)(sums, &r);
             FN(flush)(ys, &ry);
             if (with_terms)
                 FN(flush)(ds, &b);
         }));
    s->x.n = n;
    s->x.r = r;
    s->y.n = ny;
    s->y.r = ry;
    s->b = b;
}

/* One line a reduction: its tile. */
INLINE void FN(fold_KL)(const FN(folding) * F) {
    FN(fold_kl)(F, false);
}
INLINE void FN(fold_KL_LOGS)(const FN(folding) * F) {
    FN(fold_kl)(F, true);
}
INLINE void FN(fold_PAIR)(const FN(folding) * F) {
    VARIANT(fold_probs, F, true);
}
INLINE void FN(fold_PAIR_LOGS)(const FN(folding) * F) {
    VARIANT(fold_logs, F, true);
}
INLINE void FN(fold_KL_PAIR)(const FN(folding) * F) {
    FN(fold_KL)(F);
    FN(fold_PAIR)(F);
}
INLINE void FN(fold_KL_PAIR_LOGS)(const FN(folding) * F) {
    FN(fold_KL_LOGS)(F);
    FN(fold_PAIR_LOGS)(F);
}

/* ---- the value ---- */
/* Not finite: the direct sum decides. exp(u) left the range somewhere, or c came out so large that its own rounding took it
 * away from the mean (|c| > 2^50 or so), or the row holds NaN or a true infinity. */
INLINE V FN(kl_of)(const FN(kl) * s) {
    const V zero = vset((R)0), nan = vset((R)NAN);
    V w = FN(value)(s->w), u = FN(value)(s->u), a = FN(value)(s->a), inv = vdiv(vset((R)1), w);
    V z = vmul(vadd(a, u), inv);
    M near = mlt(vabs(z), vset((R)0.4));
    /* A/W, and what rounding that takes away, from the exact remainder */
    V mean = vmul(a, inv), rest = vmul(vadd(FN(vresidual)(mean, s->w.s, s->a.s), vfnma(mean, s->w.e, s->a.e)), inv);
    rest = vif(mlt(vabs(rest), vset(INF)), rest);
    V v = vadd(mean, vadd(FN(vlog1pmx)(z), rest));
    if (!mall(near)) {
        V log1 = FN(vlog1p)(z, false);
        V negative = vadd(mean, vadd(vsub(log1, z), rest)), large = vsub(log1, vmul(u, inv));
        v = vsel(near, v, vsel(mlt(z, zero), negative, large));
    }
    v = vsel(mlt(v, zero), zero, v); /* only the rounding of equal rows falls below zero */
    v = vsel(mand(mle(vabs(u), vmul(vset((R)0.5), w)), mlt(vabs(z), vset(INF))), v, nan);
    return vsel(meq(w, zero), vsel(mne(a, a), a, zero), v);
}

/* Whether a target is meant to sum to 1: what its own dtype, or the one it is computed in, may have rounded away. */
INLINE M FN(kl_means_one)(const FN(ending) * e) {
    const double eps = xent_dtype_eps(e->job->at[OPERAND_T].dtype, e->job->is_f32);
    const double tau = eps * (4.0 + sqrt((double)e->job->classes));
    return mle(vabs(vsub(e->total, vset((R)1))), vset((R)tau));
}

/* T of log-probabilities, from the centred sums: what W rounds is in A, too. Unlifted first: a float has no 2^-32 of the smallest
 * targets. */
INLINE V FN(kl_total)(const FN(ending) * e) {
    return vmul(e->py, vmul(FN(value)(e->s->kl.w), vset((R)XENT_KL_UNLIFT)));
}

/* T (KL(t/T, softmax x) + log T), without the last where T means 1. */
INLINE V FN(value_KL)(FN(ending) * e) {
    const V zero = vset((R)0), inf = vset(INF), none = vset(-INF), nan = vset((R)NAN), total = e->total;
    const FN(state) *s = e->s;
    const int parts = xent_parts(e->kind);
    const bool log_target = xent_is_log(e->target), of_logits = e->target == XENT_TARGET_LOGITS;
    const bool centred = parts & PART_KL, direct_too = parts & PART_TB;
    M unit = of_logits ? meq(zero, zero) : FN(kl_means_one)(e);
    V tlogt = zero, v = zero;
    if (!of_logits && (!mall(unit) || !centred))
        tlogt = vif(mne(total, zero), vmul(total, FN(vlog)(total)));
    if (centred) {
        const V own = e->target == XENT_TARGET_LOG_PROBS ? FN(kl_total)(e) : total;
        v = vadd(vmul(FN(kl_of)(&s->kl), own), vif(mnot(unit), tlogt));
        if (of_logits && e->job->classes > 0)
            v = vsel(mor(meq(s->y.m, inf), meq(s->y.m, none)), nan, v);
        e->again = mnot(mlt(vabs(v), inf));
    }
    /* Out of range, NaN, or truly infinite: the direct sum says which. */
    if (direct_too && (!centred || many(e->again))) {
        const V b = FN(value)(s->b);
        V direct;
        if (log_target) {
            direct = vadd(vsub(vmul(b, e->py), vmul(total, e->y.log1)), vmul(total, e->x.log1)); /* b inv T is b py */
            direct = vadd(direct, vif(mnot(unit), tlogt));
            if (!of_logits) /* no target at all: 0, but for NaN in x */
                direct = vsel(meq(s->y.m, none), vmul(zero, FN(value)(s->x.r)), direct);
        } else {
            const V own = centred ? vif(mne(total, zero), vmul(total, FN(vlog)(total))) : tlogt;
            direct = vsub(vadd(vmul(total, e->x.log1), b), vif(unit, own));
        }
        v = centred ? vsel(e->again, direct, v) : direct;
    }
    return v;
}

/* ---- terms ---- */
INLINE void FN(factors_KL_TERM)(const FN(ending) * e, FN(finished) * f) {
    FN(factors_CE_TERM)(e, f);
}
INLINE void FN(emit_KL_TERM)(const FN(writing) * w) {
    const V zero = vset((R)0), none = vset(-INF), inf = vset(INF);
    REF(w, fy, y);
    const V x_hi = ROW(w, x_hi), x_lo = ROW(w, x_lo), y_hi = ROW(w, y_hi), y_lo = ROW(w, y_lo);
    const V py = ROW(w, py), g = ROW(w, g), poison = ROW(w, poison), endless = FN(weigh)(inf, g);
    const M some = mne(g, zero);
    if (xent_is_log(w->target))
        WRITE(w, {
            V x = GET_X(w->T), y = GET_T(w->T, -INF);
            V d = vsub(vsub(vsub(y, y_hi), y_lo), vsub(vsub(x, x_hi), x_lo));
            V t = vmul(FN(vexp_ref)(y, fy), py), v = vif(mne(t, zero), vmul(t, d));
            M beyond = mand(mne(y, none), meq(x, none)); /* infinite, also where t is too small for the tile */
            v = vsel(beyond, vif(some, vadd(vmul(vadd(t, x_lo), zero), endless)), v); /* NaN where either row is */
            PUT(vadd(v, poison));
        });
    else
        WRITE(w, {
            V x = GET_X(w->T), t = GET_T(w->T, (R)0);
            V weight = vmul(t, g), v = vmul(weight, vadd(FN(vlog)(t), vadd(vsub(x_hi, x), x_lo)));
            PUT(vadd(vif(mne(weight, zero), v), poison));
        });
}

/* ---- the gradient with respect to the target's logits y, t ((y - x) - mean), the mean of y - x under t ---- */
/* The mean is -(c + U/W), which keeps its digits however near the rows are: (log t - log q) - KL has two log sum exp in it. */
INLINE void FN(factors_TARGET_GRAD)(const FN(ending) * e, FN(finished) * f) {
    const V inf = vset(INF), nan = vset((R)NAN), v = e->value;
    const FN(kl) *s = &e->s->kl;
    V low, c = FN(two_sum)(s->c, vdiv(FN(value)(s->u), FN(value)(s->w)), &low);
    /* Where the centred sums left their range it follows from the divergence. Infinite with it; and without a number where logits
     * are so large that no difference is one. */
    c = vsel(mlt(vabs(c), inf), c, vsub(vsub(e->x.lse, e->y.lse), v));
    c = vsel(meq(v, inf), vset(-INF), vsel(mlt(vabs(c), inf), c, nan));
    f->x_hi = e->rough ? FN(vfirst24)(c) : c;
    f->x_lo = vadd(vsub(c, f->x_hi), vadd(low, s->c_lo));
    f->x_lo = vif(mlt(vabs(f->x_lo), inf), f->x_lo);
    f->py = e->py;
    f->poison = vif(mne(v, v), nan);
}
INLINE void FN(emit_TARGET_GRAD)(const FN(writing) * w) {
    REF(w, fy, y);
    const V mean = ROW(w, x_hi), mean_lo = ROW(w, x_lo), py = ROW(w, py), g = ROW(w, g), poison = ROW(w, poison);
    const V zero = vset((R)0), inf = vset(INF), nearly = vset((R)1 - (R)(XENT_REAL == 32 ? 0x1p-20 : 0x1p-49));
    WRITE(w, {
        V y = GET_T(w->T, -INF), lost, d = FN(two_sum)(y, vsub(zero, GET_X(w->T)), &lost);
        V t = vmul(FN(vexp_ref)(y, fy), py), weight = vmul(t, g);
        V u = vadd(vadd(d, mean), vadd(vif(mlt(vabs(lost), inf), lost), mean_lo));
        /* Of infinite ones those that make the divergence so rise, if there are others to fall; what has no difference has none. */
        u = vsel(mne(u, u), vif(mand(meq(mean, vset(-INF)), mlt(t, nearly)), inf), u);
        PUT(vadd(vif(mne(weight, zero), vmul(weight, u)), poison));
    });
}
