/* bce.h: binary cross-entropy, class by class: w (p t softplus(-x) + (1 - t) softplus(x)), with class weights w and weights
 * p of the positive part. With L = log1p(exp(-|x|)) the softplus on x's own side is |x| + L, the other one L: both factors
 * are sums of what does not cancel, so that a confident, right class keeps its small loss and its small gradient. */
static inline V FN(vlog1p_unit)(V e) { /* 0 <= e <= 1 */
    const V one = vset((R)1);
    V u = vadd(one, e), low;
    return FN(vlog_normal)(u, vsub(e, vsub(u, one)), &low); /* what u rounded away goes back in */
}

/* exp(-|x|) */
static inline V FN(vexp_minus_abs)(V x) {
    return FN(vexp2ref)(vmax(vset(-EXP_LOW), vsub(vset((R)0), vabs(x))), vset((R)0));
}

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

static void FN(reduce_bce)(const FN(tile) * T, FN(state) * s) {
    V v[RUN] = {vset((R)0), vset((R)0), vset((R)0), vset((R)0)};
    FN(sum) b = s->b;
    RUNS(T, BLOCK({
             V x = GET_X(T), t = GET_T(T, (R)0);
             AHEAD(T, x);
             AHEAD(T, t);
             v[j] = FN(bce_term)(x, t, GET_W(T), GET_P(T));
         }),
         BLOCK({ FN(flush)(v, &b); }));
    s->b = b;
}
