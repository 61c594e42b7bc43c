/* entropy.h: the entropy of probabilities, and of the softmax of logits. */
INLINE void FN(fold_ENT)(const FN(folding) * F) {
    const FN(tile) *T = F->T;
    V h[RUN] = {vset((R)0), vset((R)0), vset((R)0), vset((R)0)};
    FN(sum) b = F->s->b;
    RUNS(T, BLOCK({
             V p = GET((T)->x + i * (T)->xs, part, (R)0);
             AHEAD(T, x);
             h[j] = vif(mne(p, vset((R)0)), vmul(p, vsub(vset((R)0), FN(vlog)(p))));
         }),
         BLOCK({ FN(flush)(h, &b); }));
    F->s->b = b;
}

INLINE V FN(value_ENT)(FN(ending) * e) {
    return FN(value)(e->s->b);
}

INLINE void FN(fold_sent)(const FN(tile) * T, const bool tops, FN(state) * s) {
    SUMS(&s->x);
    V m = vif(mlt(vset(-INF), s->x.m), s->x.m), d[RUN] = {sums[0], sums[0], sums[0], sums[0]};
    FN(sum) b = s->b;
    RUNS(T, BLOCK({
             V x = GET_X(T), e = FN(lse_step)(&s->x, tops, XENT_REAL == 64, x, &sums[j], &n, &r.e);
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

INLINE void FN(fold_SENT)(const FN(folding) * F) {
    if (F->tops)
        FN(fold_sent)(F->T, true, F->s);
    else
        FN(fold_sent)(F->T, false, F->s);
}
INLINE V FN(value_SENT)(FN(ending) * e) {
    const V zero = vset((R)0), nan = vset((R)NAN);
    if (e->job->classes == 0)
        return zero;
    return vsel(meq(e->s->x.m, vset(INF)), nan, vadd(e->x.log1, vmul(FN(value)(e->s->b), e->x.inv)));
}
