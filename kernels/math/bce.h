/* bce.h: binary cross-entropy, class by class: w (p t softplus(-x) + (1 - t) softplus(x)), with class weights w and weights
 * p of the positive part. With L = log1p(exp(-|x|)) the softplus on x's own side is |x| + L, the other one L: both factors
 * are sums of what does not cancel, so that a confident, right class keeps its small loss and its small gradient. */
#undef GET_W
#undef GET_P
#define GET_W(T) vload((T)->w + i * (T)->ws)
#define GET_P(T) vload((T)->p + i * (T)->ps)

/* The weights of the two softplus: positive = w p t, negative = w (1 - t). */
INLINE void FN(bce_parts)(V t, V w, V p, V *positive, V *negative) {
    *positive = vmul(w, vmul(p, t));
    *negative = vmul(w, vsub(vset((R)1), t));
}

INLINE V FN(bce_term)(V x, V t, V w, V p) {
    const V zero = vset((R)0);
    V positive, negative;
    FN(bce_parts)(t, w, p, &positive, &negative);
    V far = vsel(mlt(zero, x), negative, positive);
    far = vif(mne(far, zero), vmul(vabs(x), far)); /* certain and right: 0, at infinite logits too */
    return vfma(vadd(positive, negative), FN(vlog1p_unit)(FN(vexp_minus_abs)(x)), far);
}

/* w ((1 - t) sigmoid(x) - p t sigmoid(-x)), where sigmoid(-|x|) is exp(-|x|) times sigmoid(|x|). */
INLINE V FN(bce_slope)(V x, V t, V w, V p) {
    const V one = vset((R)1);
    V positive, negative, e = FN(vexp_minus_abs)(x), s = vdiv(one, vadd(one, e));
    FN(bce_parts)(t, w, p, &positive, &negative);
    M up = mlt(vset((R)0), x);
    V large = vmul(s, vsel(up, negative, positive)), small = vmul(vmul(s, e), vsel(up, positive, negative));
    V v = vsub(large, small);
    return vsel(up, v, vsub(vset((R)0), v));
}

INLINE void FN(fold_BCE)(const FN(folding) * F) {
    const FN(tile) *T = F->T;
    V v[RUN] = {vset((R)0), vset((R)0), vset((R)0), vset((R)0)};
    FN(sum) b = F->s->b;
    RUNS(T, BLOCK({
             V x = GET_X(T), t = GET_T(T, (R)0);
             AHEAD(T, x);
             AHEAD(T, t);
             v[j] = FN(bce_term)(x, t, GET_W(T), GET_P(T));
         }),
         BLOCK({ FN(flush)(v, &b); }));
    F->s->b = b;
}
INLINE V FN(value_BCE)(FN(ending) * e) {
    return FN(value)(e->s->b);
}

NO_FACTORS(BCE_TERM)
INLINE void FN(emit_BCE_TERM)(const FN(writing) * w) {
    const V g = ROW(w, g);
    WRITE(w, {
        V x = GET_X(w->T), t = GET_T(w->T, (R)0);
        PUT(FN(weigh)(FN(bce_term)(x, t, GET_W(w->T), GET_P(w->T)), g));
    });
}
NO_FACTORS(BCE_GRAD)
INLINE void FN(emit_BCE_GRAD)(const FN(writing) * w) {
    const V g = ROW(w, g);
    WRITE(w, {
        V x = GET_X(w->T), t = GET_T(w->T, (R)0);
        PUT(vmul(g, FN(bce_slope)(x, t, GET_W(w->T), GET_P(w->T))));
    });
}
