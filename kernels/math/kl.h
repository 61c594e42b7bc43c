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
INLINE void FN(store_kl)(const FN(kl) * v, group_state *s, int l, int rows) {
    FN(state) all = FN(start)();
    all.kl = *v;
    FN(store_state)(PART_KL, &all, s, l, rows);
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
        FN(store_kl)(&v, s, at + l, rows - l);
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
        FN(store_kl)(&v, s, at + l, rows - l);
    }
}

/* Rows folded in one walk (below): what the sums about c make of them. */
enum {
    KL_DIRECT,   /* to be seen: W in w, D in u, c, and the fields of x and y */
    KL_CENTRED,  /* centred sums */
    KL_RECENTRE, /* to be folded about another c, which is in c */
    KL_NEAR,     /* ... as a near row */
    KL_CAREFUL   /* not right */
};
static void FN(kl_of_direct)(int rows, int at, int parts, bool log_target, group_state *s, double *now) {
    const V zero = vset(0.0), inf = vset(INF), unit = vset(log_target ? 1 / XENT_KL_UNLIFT : 1.0), most = vset(0x1p60);
    for (int l = 0; l < rows; l += VN) {
        FN(state) v = FN(load_state)(parts | PART_X | PART_Y | PART_KL, s, at + l);
        V w = FN(value)(v.kl.w), d = FN(value)(v.kl.u), mean = vdiv(d, w), low, status = vload(now + l);
        const V c = FN(two_sum)(v.kl.c, mean, &low), lift = log_target ? vsub(vset(XENT_KL_LIFT), v.y.ref.k) : zero;
        /* sum exp(x - c) in W's units, c in two parts */
        V q = vfma(v.x.n, FN(vexp2ref)(v.x.m, v.x.ref.k), FN(value)(v.x.r));
        q = vmul(q, FN(vexp2ref)(vsub(zero, c), vsub(zero, vadd(v.x.ref.k, lift))));
        q = vfnma(q, low, q);
        V lifted = vmul(w, unit), value = FN(vlog)(vdiv(q, lifted));
        /* D's parts round for about 2 (|mean| + sqrt(2 KL)) eps at most, exp(x) and t in log space for one each */
        V room = log_target ? vfma(value, vset(1.2), vset(-0.6)) : vfma(value, vset(2.0), vset(-1.2));
        M sound = mand(mand(mle(vdiv(vset(1.0), most), w), mle(w, most)), mlt(vabs(mean), inf));
        sound = mand(sound, mlt(vabs(value), inf));
        M far = mle(vset(0.25), room);
        V found = vsel(mle(vabs(mean), room), vset(KL_CENTRED), vset(KL_RECENTRE));
        found = vsel(sound, vsel(far, found, vset(KL_NEAR)), vset(KL_CAREFUL));
        FN(store_some)(now + l, rows - l, vsel(meq(status, vset(KL_DIRECT)), found, status));
        if (parts & PART_TB) { /* b's differences are from the maxima */
            V gap = vsub(v.x.m, v.kl.c);
            v.t = v.kl.w;
            v.b = (FN(sum)){vsub(vmul(w, log_target ? vsub(gap, v.y.m) : gap), d), zero};
            FN(store_state)(PART_TB, &v, s, at + l, rows - l);
        }
        V u = vadd(vfnma(mean, v.kl.w.s, v.kl.u.s), vfnma(mean, v.kl.w.e, v.kl.u.e));
        FN(kl) kl = {c, low, {vmul(v.kl.w.s, unit), vmul(v.kl.w.e, unit)}, {vmul(u, unit), zero}, {zero, zero}};
        kl.a.s = vsub(vsub(q, lifted), kl.u.s);
        FN(store_kl)(&kl, s, at + l, rows - l);
    }
}

/* No class at all. */
static void FN(kl_none)(int rows, int at, group_state *s) {
    const FN(kl) v = FN(start)().kl;
    for (int l = 0; l < rows; l += VN)
        FN(store_kl)(&v, s, at + l, rows - l);
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

/* ---- in one walk ---- */
/* Of rows that are not near: W = sum t, D = sum t d and sum exp(x), with d = x - log t - c, c the mean of x - log t over a row's first
 * classes. KL is log(sum exp(x - c) / W) - D/W. What is rounded of exp(x), of d and of t d counts as it is where KL is not small and
 * c not far from the mean: kl_of_direct says of which rows. What is rounded of log t and of x - c, alike in all classes perhaps, is
 * kept. */

/* x - log t - c: all that its differences round is kept where c may be anything, or u be tiny; of probabilities, whose c is about x or
 * above it, else what counts. NaN where t or q is 0. */
INLINE V FN(kl_u)(V x, V log_t, V rest, V c, const bool all) {
    if (all) {
        V lost, hi = FN(two_sum)(x, vsub(vset((R)0), log_t), &lost);
        return vadd(vsub(hi, c), vsub(lost, rest));
    }
    V hi = vsub(x, c), lo = vsub(x, vadd(hi, c));
    return vadd(vsub(hi, log_t), vsub(lo, rest));
}
/* The mean of x - log t over a row's first classes goes to c, and to c_lo, too, where these look near. */
static NOINLINE void FN(direct_centre)(const FN(tile) * T, const bool log_target, V y_k, FN(kl) * s) {
    enum { ALONG = 64 / VN, ACROSS = 16, MOST = ALONG < ACROSS ? ACROSS : ALONG }; /* vectors */
    const V zero = vset((R)0), nan = vset((R)NAN);
    const FN(window) wy = FN(window_of)(y_k, true);
    const ptrdiff_t most = T->across ? ACROSS : ALONG, some = T->full < most ? T->full : most;
    V w = zero, d = zero, far = zero, all = zero, ts[MOST], ds[MOST], rest = zero;
    for (ptrdiff_t i = 0; i < some; i++) {
        V y = vload(T->t + i * T->ts), t = ts[i] = log_target ? FN(vexp_window)(y, wy, true) : y;
        V log_t = log_target ? y : FN(vlog_parts)(t, false, &rest);
        ds[i] = vif(mne(t, zero), FN(kl_u)(vload(T->x + i * T->xs), log_t, rest, zero, false));
        w = vadd(w, t);
        d = vadd(d, vmul(t, ds[i]));
    }
    if (!T->across) {
        w = FN(across_lanes)(w, FN(plus));
        d = FN(across_lanes)(d, FN(plus));
    }
    V c = vdiv(d, w);
    c = vif(mlt(vabs(c), vset(INF)), c);
    for (ptrdiff_t i = 0; i < some; i++) {
        V off = vsub(ds[i], c);
        off = vif(mne(ts[i], zero), vmul(off, off));
        far = vfma(ts[i], off, far);
        all = vadd(all, off);
    }
    ptrdiff_t count = some;
    if (!T->across) {
        far = FN(across_lanes)(far, FN(plus));
        all = FN(across_lanes)(all, FN(plus));
        count *= VN;
    }
    /* twice KL, roughly; where one class has nearly all of the target this says nothing, but then the others are scattered */
    M near = mand(mlt(far, vmul(w, vset((R)(log_target ? 1.5 : 1.1)))), mlt(all, vset((R)(3 * count))));
    s->c = c;
    s->c_lo = vsel(near, c, nan);
}

/* What one vector adds to W, to D, and to the sum of exp(x); of near rows to W, U and A, the centred sums themselves, about a c that
 * is near enough to the mean: u has its digits, because what x - log t rounds is kept. */
typedef struct FN(one_walk) {
    V w, u, a;
} FN(one_walk);
INLINE FN(one_walk) FN(plus_walk)(FN(one_walk) a, FN(one_walk) b) {
    FN(one_walk) v = {vadd(a.w, b.w), vadd(a.u, b.u), vadd(a.a, b.a)};
    return v;
}
/* factor: exp(x - c) in W's units is E(x) times it. */
INLINE FN(one_walk) FN(kl_step)(V x, V y, const bool log_target, const bool near, const bool keeps, FN(window) wx,
                                FN(window) wy, V c, V factor, FN(top) * sx, FN(top) * sy, R *keep) {
    V e, t = y, log_t = y, rest = vset((R)0);
    FN(one_walk) v = {y, y, y};
    if (log_target)
        v.w = FN(quick_step)(y, true, wy, sy, &t);
    else
        log_t = FN(vlog_parts)(t, true, &rest);
    V u = FN(kl_u)(x, log_t, rest, c, near || log_target);
    v.u = vif(mne(t, vset((R)0)), vmul(t, u));
    if (near) {
        const M small = mand(mle(vset((R)-1), u), mle(u, vset((R)2)));
        V q = vmul(FN(vexp_window)(x, wx, true), factor); /* a branch round it costs more where some are far */
        sx->m = vmax(x, sx->m);
        v.a = vsel(small, vmul(t, FN(vphi)(u)), vsub(vsub(q, t), v.u));
        return v;
    }
    v.a = FN(quick_step)(x, keeps, wx, sx, &e);
    if (keeps)
        vstore(KEPT(keep, 0, log_target, 0), e);
    if (keeps && log_target)
        vstore(KEPT(keep, 0, log_target, 1), t);
    return v;
}
INLINE void FN(kl_walk)(const FN(tile) * tile, const bool log_target, const bool near, const bool keeps, R *keep,
                        FN(state) * s) {
    const V zero = vset((R)0), c = s->kl.c;
    const FN(tile) own = FN(own_tile)(tile), *T = &own;
    const FN(window) wx = FN(window_of)(s->x.ref.k, near || keeps), wy = FN(window_of)(s->y.ref.k, true);
    const V factor = FN(vexp2ref)(vsub(zero, c), vsub(log_target ? s->y.ref.k : zero, s->x.ref.k));
    const FN(one_walk) none = {zero, zero, zero};
    FN(top) sx = s->x, sy = s->y;
    FN(sum) w = {zero, zero}, u = w, a = w; /* of this tile: as in quick_walk */
    ptrdiff_t i0 = 0;
#define STEP(i, part)                                                                                                  \
    FN(kl_step)(GET(T->x + (i) * T->xs, part, -INF), GET(T->t + (i) * T->ts, part, log_target ? -INF : (R)0),          \
                log_target, near, keeps, wx, wy, c, factor, &sx, &sy, keeps ? KEPT(keep, i, log_target, 0) : NULL)
    while (i0 < T->full + (T->tail > 0)) { /* two by two, if not near: measured */
        FN(one_walk) sum = none;
        if (near && i0 + FN(FOUR) <= T->full) {
            FN(one_walk) two[2];
            UNROLL for (int j = 0; j < FN(FOUR); j++) {
                const ptrdiff_t i = i0 + j;
                AHEAD(T, x);
                AHEAD(T, t);
                const FN(one_walk) v = STEP(i, 0);
                two[j / 2] = j % 2 ? FN(plus_walk)(two[j / 2], v) : v;
            }
            sum = FN(plus_walk)(two[0], two[1]);
            i0 += FN(FOUR);
        } else if (i0 + FN(FOUR) <= T->full)
            _Pragma("GCC unroll 1") for (const ptrdiff_t end = i0 + FN(FOUR); i0 < end; i0 += 2) {
                for (ptrdiff_t i = i0; i < i0 + 2; i++) {
                    AHEAD(T, x);
                    AHEAD(T, t);
                }
                const FN(one_walk) first = STEP(i0, 0), second = STEP(i0 + 1, 0);
                sum = FN(plus_walk)(sum, FN(plus_walk)(first, second));
            }
        else
            for (; i0 < T->full + (T->tail > 0); i0++) {
                const int part = i0 < T->full ? 0 : T->tail;
                sum = FN(plus_walk)(sum, STEP(i0, part));
            }
        FN(add_to)(&w, sum.w);
        FN(add_to)(&u, sum.u);
        FN(add_to)(&a, sum.a);
    }
#undef STEP
    sx.r = s->x.r;
    sy.r = s->y.r;
    s->x = sx;
    s->y = sy;
    FN(merge_sum)(log_target ? &s->y.r : &s->kl.w, w);
    FN(merge_sum)(&s->kl.u, u);
    FN(merge_sum)(near ? &s->kl.a : &s->x.r, a);
}
static NOINLINE void FN(kl_one_walk)(const FN(tile) * T, const bool log_target, const bool near, R *keep,
                                     FN(state) * s) {
    if (near && log_target)
        FN(kl_walk)(T, true, true, false, NULL, s);
    else if (near)
        FN(kl_walk)(T, false, true, false, NULL, s);
    else if (log_target && keep)
        FN(kl_walk)(T, true, false, true, keep, s);
    else if (log_target)
        FN(kl_walk)(T, true, false, false, NULL, s);
    else if (keep)
        FN(kl_walk)(T, false, false, true, keep, s);
    else
        FN(kl_walk)(T, false, false, false, NULL, s);
}

/* To rows at and following: near ones' sums as fold_kl leaves them, others' for kl_of_direct. Which are not right. */
static M FN(kl_end)(const FN(tile) * T, ptrdiff_t count, const bool log_target, const bool near, bool keeps,
                    FN(state) * s, int at, group_state *rows) {
    V scale = vset((R)1), above;
    M bad;
    if (near) {
        above = vfnma(s->x.ref.k, vset((R)(XENT_LN2_A + XENT_LN2_B)), FN(new_max)(s->x.m, s->x.m, T));
        bad = mlt(vset((R)16), above);
    } else {
        bad = FN(quick_end)(T, count, keeps, keeps, &s->x, &scale);
    }
    if (log_target) {
        s->kl.w = s->y.r;
        FN(add_to)(&s->kl.w, s->y.n); /* the lanes' largest */
        bad = mor(bad, FN(quick_end)(T, count, true, keeps, &s->y, &scale));
        if (near)
            scale = vmul(scale, vset((R)(1 / XENT_KL_UNLIFT)));
        FN(scale)(&s->kl.w, scale);
        FN(scale)(&s->kl.u, scale);
        FN(scale)(&s->kl.a, scale);
    }
    s->kl.c_lo = vset((R)0);
    FN(put_state)(PART_KL | (near ? 0 : PART_X) | (log_target ? PART_Y | PART_Y_SUM : 0), T, s, at, rows);
    return bad;
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

#if XENT_REAL == 64
/* Near rows folded in one walk: right where c is so near the mean that little cancels, or, slight, what logarithms round. */
static void FN(kl_is_centred)(int rows, int at, double slight, const group_state *s, double *now) {
    for (int l = 0; l < rows; l += VN) {
        const FN(kl) kl = FN(load_state)(PART_KL, s, at + l).kl;
        V w = FN(value)(kl.w), mean = vdiv(FN(value)(kl.u), w), v = FN(kl_of)(&kl), status = vload(now + l);
        M fine = mand(mle(vmul(mean, mean), vadd(v, vset(slight))), mle(vset(0x1p-60), w));
        V found = vsel(mand(fine, mle(w, vset(0x1p100))), vset(KL_CENTRED), vset(KL_CAREFUL));
        FN(store_some)(now + l, rows - l, vsel(meq(status, vset(KL_NEAR)), found, status));
    }
}
#endif

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
    f->x_hi = e->rough ? vsel(meq(c, vset(-INF)), c, FN(vfirst24)(c)) : c;
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
