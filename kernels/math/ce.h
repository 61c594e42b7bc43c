/* ce.h: cross-entropy, of target probabilities and of labels, and negative log-likelihoods; and the gradient of every loss that is
 * linear in log_softmax, which is T softmax(x) - t, and its Hessian's diagonal. */
/* ---- folding ---- */
/* With target probabilities: sum t (m - x) for cross-entropy, sum t (log t + m - x) for KL. */
INLINE void FN(fold_probs)(const FN(tile) * T, const bool tops, const bool keeps, R *keep, FN(state) * s,
                           const bool with_log) {
    SUMS(&s->x);
    V m = vif(mlt(vset(-INF), s->x.m), s->x.m);
    V td[RUN] = {sums[0], sums[0], sums[0], sums[0]}, ts[RUN] = {sums[0], sums[0], sums[0], sums[0]}, es[RUN];
    FN(sum) b = s->b, w = s->t;
    RUNS(T, BLOCK({
             V x = GET_X(T), t = GET_T(T, (R)0), d = vsub(m, x);
             AHEAD(T, x);
             AHEAD(T, t);
             es[j] = FN(lse_step)(&s->x, tops, XENT_REAL == 64, x, &sums[j], &n, &r.e);
             if (with_log)
                 d = vadd(FN(vlog)(t), d);
             ts[j] = t;
             td[j] = vif(mne(t, vset((R)0)), vmul(t, d));
         }),
         BLOCK({
             KEEP(false, es, es)
             FN(flush)(sums, &r);
             FN(flush)(td, &b);
             FN(flush)(ts, &w);
         }));
    s->x.n = n;
    s->x.r = r;
    s->b = b;
    s->t = w;
}

INLINE void FN(fold_CE)(const FN(folding) * F) {
    VARIANT(fold_probs, F, false);
}
INLINE void FN(fold_LABEL)(const FN(folding) * F) { /* what counts is the number at the label */
    (void)F;
}

/* ---- values ---- */
INLINE V FN(value_CE)(FN(ending) * e) {
    const V zero = vset((R)0), nan = vset((R)NAN), t = e->total, b = FN(value)(e->s->b), log1 = e->x.log1;
    M no_t = meq(t, zero), no_x = meq(e->s->x.m, vset(-INF));
    V v = vadd(vsel(mand(no_t, meq(log1, log1)), zero, vmul(t, log1)), b);
    /* no class has any weight: 0 only if the target has none either */
    return vsel(no_x, vsel(mand(no_t, meq(b, zero)), vmul(zero, FN(value)(e->s->x.r)), nan), v);
}
INLINE V FN(value_LABEL)(FN(ending) * e) {
    return vif(mne(e->row->known, vset((R)0)), vadd(e->x.log1, vsub(e->s->x.m, e->row->x_label)));
}
INLINE V FN(value_NLL)(FN(ending) * e) {
    return vif(mne(e->row->known, vset((R)0)), vsub(vset((R)0), e->row->x_label));
}

/* ---- the gradient ---- */
/* softmax(x) at the label. */
INLINE V FN(label_p)(const FN(ending) * e) {
    V at = e->row->x_label, c = e->s->x.ref.c;
    V d = vmax(vset((R)-XENT_PLAIN - EXP_LOW), vif(mne(at, c), vsub(at, c)));
    return vmul(FN(vexp2ref)(d, e->s->x.ref.k), e->x.inv);
}
INLINE void FN(factors_GRAD)(const FN(ending) * e, FN(finished) * f) {
    const V zero = vset((R)0), one = vset((R)1), scale = e->row->scale;
    f->px = vmul(vmul(scale, e->x.inv), e->total);
    f->py = vmul(e->py, scale);
    if (e->target != XENT_TARGET_LABELS)
        return;
    M known = mne(e->row->known, zero);
    V at = e->row->x_label, p = FN(label_p)(e);
    f->px = vif(known, f->px);
    /* 1 - p without its cancellation */
    f->patch = vmul(scale, vsel(meq(at, e->s->x.m), vsub(zero, e->x.rest), vsub(p, one)));
    f->patch = vsel(meq(at, vset(INF)), vset((R)NAN), f->patch);
}
INLINE void FN(emit_GRAD)(const FN(writing) * w) {
    REF(w, fx, x);
    REF(w, fy, y);
    const V px = ROW(w, px), py = ROW(w, py), g = ROW(w, g);
    if (w->target == XENT_TARGET_LABELS)
        WRITE(w, { PUT(vmul(EXP_X(w, fx), px)); });
    else if (xent_is_log(w->target))
        WRITE(w, { PUT(vsub(vmul(EXP_X(w, fx), px), vmul(EXP_Y(w, fy), py))); });
    else
        WRITE(w, {
            V t = GET_T(w->T, (R)0);
            PUT(vfnma(t, g, vmul(EXP_X(w, fx), px)));
        });
}

/* ---- the Hessian's diagonal, T p (1 - p) ---- */
/* p (1 - p) without cancellation: above 1/2 the rest is 1 - p, of the one class that can be. */
INLINE V FN(spread_of)(V p, V rest) {
    return vmul(p, vsel(mlt(vset((R)0.5), p), rest, vsub(vset((R)1), p)));
}
INLINE void FN(factors_HESS)(const FN(ending) * e, FN(finished) * f) {
    f->px = e->x.inv;
    f->rest = e->x.rest;
    f->g = vmul(e->row->scale, e->total);
    if (e->target != XENT_TARGET_LABELS)
        return;
    f->g = vif(mne(e->row->known, vset((R)0)), f->g);
    f->patch = vmul(FN(spread_of)(FN(label_p)(e), f->rest), f->g);
    f->patch = vsel(meq(e->row->x_label, vset(INF)), vset((R)NAN), f->patch);
}
INLINE void FN(emit_HESS)(const FN(writing) * w) {
    REF(w, fx, x);
    const V px = ROW(w, px), g = ROW(w, g), rest = ROW(w, rest);
    WRITE(w, { PUT(vmul(FN(spread_of)(vmul(EXP_X(w, fx), px), rest), g)); });
}

/* ---- terms ---- */
/* A NaN in the row, or a target that is no distribution, shows in every term. */
INLINE void FN(factors_CE_TERM)(const FN(ending) * e, FN(finished) * f) {
    const V nan = vset((R)NAN);
    V seen = vadd(FN(value)(e->s->t), FN(value)(e->s->x.r));
    if (xent_parts(e->kind) & PART_Y)
        seen = vadd(seen, FN(value)(e->s->y.r));
    f->poison = vif(mne(seen, seen), nan);
    if (e->target == XENT_TARGET_LOGITS)
        f->poison = vsel(meq(e->s->y.m, vset(-INF)), nan, f->poison);
    f->py = vmul(e->py, e->row->scale);
}
INLINE void FN(emit_CE_TERM)(const FN(writing) * w) {
    const V x_hi = ROW(w, x_hi), x_lo = ROW(w, x_lo), g = ROW(w, g), poison = ROW(w, poison), zero = vset((R)0);
    WRITE(w, {
        V x = GET_X(w->T), t = GET_T(w->T, (R)0);
        V weight = vmul(t, g), v = vmul(weight, vadd(x_lo, vsub(x_hi, x)));
        PUT(vadd(vif(mne(weight, zero), v), poison));
    });
}

/* 0 but at the label. */
INLINE void FN(factors_NLL_TERM)(const FN(ending) * e, FN(finished) * f) {
    f->patch = vsub(vset((R)0), FN(weigh)(e->row->x_label, e->row->scale));
}
INLINE void FN(emit_NLL_TERM)(const FN(writing) * w) {
    WRITE(w, { PUT(vset((R)0)); });
}
INLINE void FN(factors_NLL_GRAD)(const FN(ending) * e, FN(finished) * f) {
    f->patch = vsub(vset((R)0), e->row->scale);
}
INLINE void FN(emit_NLL_GRAD)(const FN(writing) * w) {
    FN(emit_NLL_TERM)(w);
}
