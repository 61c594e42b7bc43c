/* lse.h: log sum exp, and what is nothing but it: log_softmax and softmax. */
/* ---- folding ---- */
/* exact: every addition keeps its error, for log_softmax of few classes, whose own rounding is most of a result's error. */
INLINE void FN(fold_lse)(const FN(tile) * T, const bool tops, const bool keeps, R *keep, FN(state) * s,
                         const bool exact) {
    SUMS(&s->x);
    V es[RUN];
    RUNS(T, BLOCK({
             V x = GET_X(T);
             AHEAD(T, x);
             es[j] = FN(lse_step)(&s->x, tops, exact || XENT_REAL == 64, x, &sums[j], &n, &r.e);
         }),
         BLOCK({
             KEEP(false, es, es)
             if (exact)
                 FN(flush_all)(sums, &r);
             else
                 FN(flush)(sums, &r);
         }));
    s->x.n = n;
    s->x.r = r;
}

INLINE void FN(fold_LSE)(const FN(folding) * F) {
    if (F->whole && F->job->op->emit == EMIT_LOGP)
        VARIANT(fold_lse, F, true);
    else
        VARIANT(fold_lse, F, false);
}

/* ---- in one walk ---- */
/* Exponentials are summed against a reference near a row's first numbers, and every lane leaves the largest that it has met out of its
 * sum: no maximum has to be known first. That is right where the maximum is not far above the reference and the sum no matter of
 * exponentials that underflow: of nearly all rows. quick_end says of which; others are folded by the steps above. While it lasts x.m
 * is a lane's own, and x.n its largest exponential where they are kept. */
enum { FN(FOUR) = 4 }; /* vectors added up plainly, as a tree: of each addition half a ULP is lost */

/* What one vector of x adds to the sum; whole: its exponentials are wanted, too, and fade as results do. */
INLINE V FN(quick_step)(V x, const bool whole, FN(window) w, FN(top) * s, V *e) {
    V low;
    if (whole) {
        *e = FN(vexp_window)(x, w, true);
        low = vmin(s->n, *e);
        s->n = vmax(*e, s->n);
    } else {
        low = FN(vexp_window)(vmin(s->m, x), w, false);
    }
    s->m = vmax(x, s->m);
    return low;
}
INLINE void FN(quick_walk)(const FN(tile) * tile, const bool keeps, R *keep, FN(state) * state) {
    const FN(tile) own = FN(own_tile)(tile), *T = &own;
    FN(top) s = state->x;
    const V zero = vset((R)0);
    s.r = (FN(sum)){zero, zero}; /* of this tile: over millions of additions what they round would itself be rounded */
    const FN(window) w = FN(window_of)(s.ref.k, keeps);
    ptrdiff_t i0 = 0;
    V e;
    for (; i0 + FN(FOUR) <= T->full; i0 += FN(FOUR)) {
        V two[FN(FOUR) / 2];
        UNROLL for (int j = 0; j < FN(FOUR); j++) {
            const ptrdiff_t i = i0 + j;
            AHEAD(T, x);
            V low = FN(quick_step)(vload(T->x + i * T->xs), keeps, w, &s, &e);
            two[j / 2] = j % 2 ? vadd(two[j / 2], low) : low;
            if (keeps)
                vstore(keep + i * VN, e);
        }
        FN(add_to)(&s.r, vadd(two[0], two[1]));
    }
    V others = zero;
    for (; i0 < T->full + (T->tail > 0); i0++) {
        const int part = i0 < T->full ? 0 : T->tail;
        V x = GET(T->x + i0 * T->xs, part, -INF);
        others = vadd(others, FN(quick_step)(x, keeps, w, &s, &e));
        if (keeps)
            vstore(keep + i0 * VN, e);
    }
    FN(add_to)(&s.r, others);
    FN(sum) all = state->x.r;
    FN(merge_sum)(&all, s.r);
    state->x = s;
    state->x.r = all;
}
static NOINLINE void FN(quick_tile)(const FN(tile) * T, R *keep, FN(state) * s) {
    if (keep)
        FN(quick_walk)(T, true, keep, s);
    else
        FN(quick_walk)(T, false, NULL, s);
}

/* The reference of logits p, 0 where the first numbers are masked. Whether one walk may do: not where they are so large that none is
 * near. */
INLINE bool FN(quick_start)(const FN(tile) * T, const char *p, FN(top) * s) {
    const V none = vset(-INF), most = FN(new_max)(T->full ? vload(p) : vloadn(p, T->tail, none), none, T);
    const V plain = vset((R)XENT_PLAIN);
    const M far = mlt(plain, most);
    s->ref.k = vround(vmul(vif(mle(vabs(most), plain), most), vset((R)XENT_LOG2E)));
    return T->across ? !mall(far) : !many(far);
}

/* The rows' own states from those of lanes: against the reference that their maximum has, or where exponentials are kept against
 * theirs. whole: n is a lane's largest exponential. Which rows are not right; *scale is what the sum was multiplied by. */
INLINE M FN(quick_end)(const FN(tile) * T, ptrdiff_t count, const bool whole, bool keeps, FN(top) * s, V *scale) {
    const V none = vset(-INF), m = s->m, most = FN(new_max)(m, none, T), k = s->ref.k;
    const V own = whole ? s->n : FN(vexp_window)(m, FN(window_of)(k, false), false);
    s->n = vif(meq(m, most), vset((R)1));
    FN(add_to)(&s->r, vif(mand(mlt(none, m), mlt(m, most)), own));
    V rest = FN(value)(s->r);
    if (!T->across)
        rest = FN(across_lanes)(rest, FN(plus));
    /* below the window each may be off by its low end */
    const V least = vset((R)((double)count * (XENT_REAL == 32 ? 0x1p-98 : 0x1p-966)));
    const V above = vfnma(k, vset((R)(XENT_LN2_A + XENT_LN2_B)), most);
    M fine = mand(mle(vset((R)-20), above), mle(above, vset((R)(whole ? 16 : 64))));
    fine = mand(fine, mle(vabs(most), vset((R)XENT_PLAIN)));
    fine = mand(fine, mand(mle(least, rest), mlt(rest, vset(INF))));
    s->m = most;
    *scale = vset((R)1);
    if (!keeps) {
        s->ref = FN(vref_of)(most);
        *scale = vldexp(vset((R)1), vsub(k, s->ref.k));
        FN(scale)(&s->r, *scale);
    }
    return mnot(fine);
}

/* ---- finishing ---- */
/* Infinite maxima, NaN and rows of nothing but -inf. */
INLINE FN(lse) FN(lse_special)(V m, V r, FN(lse) f) {
    M high = meq(m, vset(INF)), bad = mne(r, r), none = mor(meq(m, vset(-INF)), bad), special = mor(high, none);
    V nan = vset((R)NAN), gone = vif(none, nan);
    f.lse = vsel(special, vsel(bad, nan, m), f.lse);
    f.log1 = vsel(special, gone, f.log1);
    f.inv = vsel(special, gone, f.inv);
    f.inv_lo = vsel(special, gone, f.inv_lo);
    f.rest = vsel(special, gone, f.rest);
    return f;
}

/* E(m) is only divided by, and its reciprocal is an exponential, too: z = sum / E(m) - 1. Where it is not rough everything keeps
 * what it rounds away. */
INLINE FN(lse) FN(lse_of)(const FN(top) * s, const bool rough, const bool with_inv) {
    const V zero = vset((R)0), one = vset((R)1);
    V m = s->m;
    V near = vif(mle(vabs(m), vset((R)XENT_PLAIN)), m); /* elsewhere the reference is m itself, and E(m) is 1 */
    V others = vmax(vsub(s->n, one), zero), up_lo, up = FN(vexp2ref_lo)(vsub(zero, near), vsub(zero, s->ref.k), &up_lo);
    V r = vadd(s->r.s, s->r.e);
    FN(lse) f = {zero, zero, zero, zero, zero, zero, zero};
    if (rough) {
        V z = vfma(r, up, others);
        f.log1 = FN(vlog1p)(z, true);
        f.lse = vadd(m, f.log1);
        if (with_inv) {
            V part = vdiv(one, vadd(one, z));
            f.inv = vmul(up, part);
            f.rest = vmul(z, part);
        }
        return FN(lse_special)(m, r, f);
    }
    V r_lo = vadd(vsub(s->r.s, r), s->r.e), p = vmul(r, up), z = vadd(p, others), u = vadd(one, z), part = vdiv(one, u);
    V p_lo = vsub(vfma(r, up_lo, vmul(r_lo, up)), FN(vresidual)(r, up, p));
    V z_lo = vadd(p_lo, vsub(p, vsub(z, others)));
    V u_lo = vadd(z_lo, vsel(mlt(z, one), vsub(z, vsub(u, one)), vsub(one, vsub(u, z))));
    f.log1 = FN(vlog_normal)(u, vmul(u_lo, part), &f.low);
    V first = vadd(m, f.log1), back = vsub(first, m);
    V lost = vadd(vadd(vsub(m, vsub(first, back)), vsub(f.log1, back)), f.low);
    f.lse = vadd(first, lost);
    f.lse_lo = vadd(vsub(first, f.lse), lost);
    if (with_inv) {
        V inv = vmul(up, part);
        V more = vmul(vadd(up_lo, vfnma(inv, u_lo, FN(vresidual)(inv, u, up))), part);
        f.inv = vadd(inv, more);
        f.inv_lo = vsub(more, vsub(f.inv, inv));
        f.rest = vmul(z, part);
    }
    return FN(lse_special)(m, r, f);
}

/* log p = (x - hi) - lo: where x is near the maximum m the first difference is exact. */
INLINE void FN(split_lse)(const FN(lse) * f, V m, const bool rough, V *hi, V *lo) {
    M known = mlt(vabs(m), vset(INF));
    V h = rough ? FN(vfirst24)(f->lse) : f->lse;
    *hi = vsel(known, h, vsel(meq(m, vset(INF)), m, f->log1)); /* an all -inf row: NaN */
    *lo = vsel(known, rough ? vadd(vsub(m, h), f->log1) : f->lse_lo, f->log1);
}

INLINE V FN(value_LSE)(FN(ending) * e) {
    return e->x.lse;
}

/* ---- emits ---- */
NO_FACTORS(LOGP)
INLINE void FN(emit_LOGP)(const FN(writing) * w) {
    const V x_hi = ROW(w, x_hi), x_lo = ROW(w, x_lo), inf = vset(INF);
    WRITE(w, { /* what the first difference rounds is half the error, and twice that at a power of two */
               V x = GET_X(w->T), d = vsub(x, x_hi), lost = vsub(x, vadd(d, x_hi));
               PUT(vsub(d, vsub(x_lo, vif(mlt(vabs(lost), inf), lost))));
    });
}

INLINE void FN(factors_P)(const FN(ending) * e, FN(finished) * f) {
    f->px = e->rough ? FN(vfirst24)(e->x.inv) : e->x.inv;
    f->px_lo = vadd(vsub(e->x.inv, f->px), e->x.inv_lo);
}
INLINE void FN(emit_P)(const FN(writing) * w) {
    REF(w, fx, x);
    const V px = ROW(w, px), px_lo = ROW(w, px_lo);
    WRITE(w, {
        V e = EXP_X(w, fx);
        PUT(vfma(e, px, vmul(e, px_lo)));
    });
}
