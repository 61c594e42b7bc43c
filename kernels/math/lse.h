/* lse.h: log sum exp, and what is nothing but it: log_softmax and softmax. */
/* ---- folding ---- */
/* exact: every addition keeps its error, for log_softmax of few classes, whose own rounding is most of a result's error. */
INLINE void FN(fold_lse)(const FN(tile) * T, const bool tops, const bool keeps, R *keep, FN(state) * s,
                         const bool exact) {
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

INLINE void FN(fold_LSE)(const FN(folding) * F) {
    if (F->whole && F->job->op->emit == EMIT_LOGP)
        VARIANT(fold_lse, F, true);
    else
        VARIANT(fold_lse, F, false);
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
        V lo, e;
        if (w->kept) {
            e = vload(KEPT(w->keep, i, PAIRS(w), 0));
            lo = XENT_REAL == 64 ? vload(KEPT(w->keep, i, PAIRS(w), 1)) : vset((R)0);
        } else {
            e = FN(vexp_ref_lo)(GET_X(w->T), fx, &lo);
        }
        V small = vmul(e, px_lo);
        PUT(vfma(e, px, XENT_REAL == 64 ? vfma(lo, px, small) : small));
    });
}
