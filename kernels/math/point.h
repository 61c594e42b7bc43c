/* point.h: operations of two numbers an element, without a row. */
/* p log(p / q), SciPy's rel_entr: near p = q from the exact p - q. */
static inline V FN(vrel_entr)(V p, V q) {
    const V zero = vset((R)0);
    V ratio = vdiv(p, q);
    V s = vdiv(vsub(p, q), vadd(p, q)), z = vmul(s, s);
    V near = vfma(vmul(z, s), vpoly(z, FN(log_c)), vadd(s, s));
    V apart = FN(vlog)(ratio);
    M plain = mand(mlt(vset(XENT_REAL == 32 ? (R)0x1p-100 : (R)0x1p-1000), ratio),
                   mlt(ratio, vset(XENT_REAL == 32 ? (R)0x1p100 : (R)0x1p1000)));
    apart = vsel(plain, apart, vsub(FN(vlog)(p), FN(vlog)(q)));
    M is_near = mand(mlt(vset((R)0.7072), ratio), mlt(ratio, vset((R)1.414)));
    V v = vmul(p, vsel(is_near, near, apart));
    M both = mand(mlt(zero, p), mlt(zero, q));
    V rest = vsel(mand(meq(p, zero), mle(zero, q)), zero, vset(INF));
    rest = vsel(mor(mne(p, p), mne(q, q)), vadd(p, q), rest);
    return vsel(both, v, rest);
}

NO_FACTORS(REL_ENTR)
INLINE void FN(emit_REL_ENTR)(const FN(writing) * w) {
    WRITE(w, {
        V p = GET_X(w->T), q = GET_T(w->T, (R)0);
        PUT(FN(vrel_entr)(p, q));
    });
}

/* t (log t - x), PyTorch's term of kl_div */
NO_FACTORS(KL_POINT)
INLINE void FN(emit_KL_POINT)(const FN(writing) * w) {
    const V zero = vset((R)0);
    WRITE(w, {
        V x = GET_X(w->T), t = GET_T(w->T, (R)0);
        PUT(vif(mor(mne(t, zero), mne(x, x)), vmul(t, vsub(FN(vlog)(t), x))));
    });
}
