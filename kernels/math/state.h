/* state.h: state.h's rows in vectors: partial sums of one row along (m the same in all lanes), one row a lane across. How they are
 * started, follow a maximum that rises, and become rows of a group. What is folded into them is the families' matter. */
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
/* Its error is made smaller than its last bit again: over millions of additions what the error itself rounds would count. */
INLINE void FN(tidy)(FN(sum) * a) {
    V t = FN(value)(*a);
    a->e = vsub(a->e, vsub(t, a->s));
    a->s = t;
}
INLINE void FN(merge_sum)(FN(sum) * a, FN(sum) b) {
    FN(add_to)(a, b.s);
    a->e = vadd(a->e, b.e);
    FN(tidy)(a);
}

/* ---- the state ---- */
typedef struct FN(top) {
    V m, n;
    FN(vref) ref;
    FN(sum) r;
} FN(top);
typedef struct FN(kl) {
    V c, c_lo;
    FN(sum) w, u, a;
} FN(kl);
typedef struct FN(state) {
    FN(top) x, y;
    FN(sum) t, b;
    FN(kl) kl;
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
    const V zero = vset((R)0), none = vset(-INF);
    const FN(sum) sum = {zero, zero};
    const FN(top) top = {none, zero, FN(vref_of)(none), sum};
    FN(state) s = {top, top, sum, sum, {zero, zero, sum, sum, sum}};
    return s;
}

/* ---- a maximum rises ---- */
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

/* ... and b follows, which sums up differences from the maxima (reductions.def). */
static void FN(raise_x)(reduce_kind kind, FN(state) * s, V m) {
    const V none = vset(-INF);
    M known = mand(mlt(s->x.m, m), mlt(none, s->x.m));
    V d = vif(known, vsub(m, s->x.m)), f = FN(raise)(&s->x, m), mass = vset((R)0);
    switch (xent_reduce_of(kind).b_holds) {
    case MASS_NOTHING:
        return;
    case MASS_X:
        FN(scale)(&s->b, f);
        mass = FN(value)(s->x.r);
        break;
    case MASS_T:
        mass = FN(value)(s->t);
        break;
    case MASS_Y:
        known = mand(known, mlt(none, s->y.m));
        mass = vadd(FN(value)(s->y.r), vmul(s->y.n, FN(vexp_ref)(s->y.m, s->y.ref)));
        break;
    }
    FN(add_to)(&s->b, FN(moved)(known, d, mass));
}
static void FN(raise_y)(reduce_kind kind, FN(state) * s, V m) {
    M known = mand(mlt(s->y.m, m), mlt(vset(-INF), s->y.m));
    V d = vif(known, vsub(s->y.m, m)), f = FN(raise)(&s->y, m);
    if (xent_reduce_of(kind).b_holds != MASS_Y)
        return;
    M infinite = meq(s->b.s, vset(INF)); /* it stays, where f is 0, too */
    FN(scale)(&s->b, f);
    s->b.s = vsel(infinite, vset(INF), s->b.s);
    FN(add_to)(&s->b, FN(moved)(known, d, FN(value)(s->y.r)));
}

/* Makes the state's maxima those of this tile, too; whether the tile holds any of them. */
INLINE bool FN(lead_x)(const FN(tile) * T, reduce_kind kind, bool first, FN(state) * s) {
    V most = FN(tile_max)(T->x, T->xs, T);
    if (first) {
        s->x.m = FN(new_max)(most, vset(-INF), T);
        s->x.ref = FN(vref_of)(s->x.m);
        return true;
    }
    if (many(mlt(s->x.m, most)))
        FN(raise_x)(kind, s, FN(new_max)(most, s->x.m, T));
    return many(meq(most, s->x.m));
}

/* ---- a tile is folded in ---- */
typedef struct FN(folding) {
    const xent_job *job;
    const FN(tile) * T;
    FN(state) * s;
    bool first; /* of the row's tiles */
    bool tops;  /* it may hold maxima, which stay out of the sums */
    bool keeps; /* its E go to keep, for the emit */
    bool whole; /* it is all of its rows, whose state stays in s: KL's is else in rows */
    R *keep;
    group_state *rows;
    int at;
    const group_result *before; /* what followed from the reduction before this one */
} FN(folding);

/* E(x), and its addition to everything but the maxima. fine: what it rounded itself is kept, which is most of the error of
 * a row of few classes. Sums of many floats are finished in double, and what a float rounds is left as it is. */
INLINE V FN(lse_step)(const FN(top) * s, bool tops, const bool fine, V x, V *run, V *n, V *err) {
    V lo, e = FN(vexp_ref_lo)(x, s->ref, &lo);
    M rest = mne(x, s->m);
    *run = tops ? vif(rest, e) : e;
    if (tops)
        *n = vadd(*n, vif(mnot(rest), vset((R)1)));
    if (fine)
        *err = vadd(*err, tops ? vif(rest, lo) : lo);
    return e;
}

/* The variants of a fold's loop: most tiles hold no maximum, and need not look for one; a row that is one tile may keep its E(x)
 * for the emit, each vector followed by that of E(y) where both are logits (xent_kept_tiles). */
#undef KEPT
#define KEPT(keep, i, pairs, which) ((keep) + ((i) * ((pairs) ? 2 : 1) + (which)) * VN)
#undef KEEP
#define KEEP(pairs, first, second)                                                                                     \
    for (int j_ = 0; keeps && j_ < run; j_++) {                                                                        \
        vstore(KEPT(keep, i0 + j_, pairs, 0), (first)[j_]);                                                            \
        if (pairs)                                                                                                     \
            vstore(KEPT(keep, i0 + j_, pairs, 1), (second)[j_]);                                                       \
    }
#undef VARIANT
#define VARIANT(function, F, ...)                                                                                      \
    do {                                                                                                               \
        if ((F)->keeps)                                                                                                \
            FN(function)((F)->T, true, true, (F)->keep, (F)->s, __VA_ARGS__);                                          \
        else if ((F)->tops)                                                                                            \
            FN(function)((F)->T, true, false, NULL, (F)->s, __VA_ARGS__);                                              \
        else                                                                                                           \
            FN(function)((F)->T, false, false, NULL, (F)->s, __VA_ARGS__);                                             \
    } while (0)
#undef SUMS
#define SUMS(s)                                                                                                        \
    V sums[RUN] = {vset((R)0), vset((R)0), vset((R)0), vset((R)0)}, n = (s)->n;                                        \
    FN(sum) r = (s)->r

/* ---- lanes to rows ---- */
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

/* What is folded along the lanes, as rows of the group. */
static void FN(put_state)(int parts, const FN(tile) * T, const FN(state) * s, int at, group_state *rows) {
#define ONE_KEPT(part, field)                                                                                          \
    if (parts & PART_##part)                                                                                           \
        FN(put)(s->field, T, at, rows->field);
#define ONE_ADDED(part, field)                                                                                         \
    if (parts & PART_##part)                                                                                           \
        FN(put)(T->across ? s->field : FN(across_lanes)(s->field, FN(plus)), T, at, rows->field);
#define ONE_SUM(part, field)                                                                                           \
    if (parts & PART_##part)                                                                                           \
        FN(put_sum)(s->field, T, at, rows->field.s, rows->field.e);
    XENT_STATE(ONE_KEPT, ONE_ADDED, ONE_SUM)
#undef ONE_KEPT
#undef ONE_ADDED
#undef ONE_SUM
}

#if XENT_REAL == 64
/* ---- rows of a group, a lane each ---- */
INLINE FN(sum) FN(load_sum)(const double *s, const double *e, int l) {
    FN(sum) v = {vload(s + l), vload(e + l)};
    return v;
}
/* Of a vector of rows that many. */
INLINE void FN(store_some)(double *p, int rows, V v) {
    if (rows < VN)
        vstoren(p, rows, v);
    else
        vstore(p, v);
}

INLINE FN(state) FN(load_state)(const int parts, const group_state *s, int l) {
    FN(state) v = FN(start)();
#define ONE(part, field)                                                                                               \
    if (parts & PART_##part)                                                                                           \
        v.field = vload(s->field + l);
#define TWO(part, field)                                                                                               \
    if (parts & PART_##part)                                                                                           \
        v.field = FN(load_sum)(s->field.s, s->field.e, l);
    XENT_STATE(ONE, ONE, TWO)
#undef ONE
#undef TWO
    v.x.ref.low = vsub(vif(mle(vabs(v.x.m), vset(XENT_PLAIN)), v.x.m), vset(EXP_LOW));
    v.y.ref.low = vsub(vif(mle(vabs(v.y.m), vset(XENT_PLAIN)), v.y.m), vset(EXP_LOW));
    return v;
}
INLINE void FN(store_state)(const int parts, const FN(state) * v, group_state *s, int l, int rows) {
#define ONE(part, field)                                                                                               \
    if (parts & PART_##part)                                                                                           \
        FN(store_some)(s->field + l, rows, v->field);
#define TWO(part, field) ONE(part, field.s) ONE(part, field.e)
    XENT_STATE(ONE, ONE, TWO)
#undef ONE
#undef TWO
}
#endif
