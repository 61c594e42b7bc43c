/* js.h: Jensen-Shannon divergence of two rows of logits, once log sum exp of both is known (REDUCE_PAIR comes first).
 *
 * With p and q the two softmaxes, m = (p + q) / 2 and d = log p - log q, a class adds
 *     (p log(p/m) + q log(q/m)) / 2 = m h(d),  h(d) = d/2 tanh(d/2) - log cosh(d/2) = d^2 H(d^2),  0 <= h <= log 2,
 * never negative, so that no rounding of one class is magnified by another; log(p/m) = d/2 - log cosh(d/2), which the
 * gradient needs, is d/2 - d^2 G(d^2). H and G are Chebyshev fits on |d| <= 1.5; farther out both follow from
 * exp(-|d|). All of it is exactly even in the order of the operands. */
INLINE V FN(js_h)(V z) {
#if XENT_REAL == 32
    V v = vset(-8.910815e-09f);
    v = vfma(v, z, vset(1.6713116e-07f));
    v = vfma(v, z, vset(-1.9199856e-06f));
    v = vfma(v, z, vset(1.9157433e-05f));
    v = vfma(v, z, vset(-0.00018442635f));
    v = vfma(v, z, vset(0.0017361013f));
    v = vfma(v, z, vset(-0.015624999f));
#else
    V v = vset(-5.2853984972465675e-15);
    v = vfma(v, z, vset(1.3522906171568847e-13));
    v = vfma(v, z, vset(-1.91501554346218e-12));
    v = vfma(v, z, vset(2.1245340949213188e-11));
    v = vfma(v, z, vset(-2.152292438385301e-10));
    v = vfma(v, z, vset(2.1239563351440035e-09));
    v = vfma(v, z, vset(-2.082429337758197e-08));
    v = vfma(v, z, vset(2.035846680851217e-07));
    v = vfma(v, z, vset(-1.983552449099133e-06));
    v = vfma(v, z, vset(1.922123004078878e-05));
    v = vfma(v, z, vset(-0.0001844618055358506));
    v = vfma(v, z, vset(0.0017361111111093887));
    v = vfma(v, z, vset(-0.015624999999999941));
#endif
    return vfma(v, z, vset((R)0.125));
}
INLINE V FN(js_g)(V z) {
#if XENT_REAL == 32
    V v = vset(8.197371e-09f);
    v = vfma(v, z, vset(-1.6022129e-07f));
    v = vfma(v, z, vset(2.106854e-06f));
    v = vfma(v, z, vset(-2.6329799e-05f));
    v = vfma(v, z, vset(0.0003472142f));
    v = vfma(v, z, vset(-0.005208332f));
#else
    V v = vset(2.552540477112019e-15);
    v = vfma(v, z, vset(-6.483376643718723e-14));
    v = vfma(v, z, vset(9.425217135638826e-13));
    v = vfma(v, z, vset(-1.116062543575464e-11));
    v = vfma(v, z, vset(1.2466610986032514e-10));
    v = vfma(v, z, vset(-1.3879821443641443e-09));
    v = vfma(v, z, vset(1.5660127667846817e-08));
    v = vfma(v, z, vset(-1.8032283256442648e-07));
    v = vfma(v, z, vset(2.135692188918598e-06));
    v = vfma(v, z, vset(-2.635168649799661e-05));
    v = vfma(v, z, vset(0.00034722222222121154));
    v = vfma(v, z, vset(-0.005208333333333293));
#endif
    return vfma(v, z, vset((R)0.125));
}

/* What a row's classes are compared with: group_result's fields as vectors. */
typedef struct FN(js_row) {
    FN(vref) fx, fy;
    V mx, my, px, py;
    V gap, gap_lo; /* log sum exp(x - mx) less log sum exp(y - my), in two parts */
} FN(js_row);

INLINE FN(js_row) FN(js_row_of)(const group_result *r, int at, bool across) {
    const V most = vset((R)EXP_LOW);
    FN(js_row)
    row = {.fx = {FN(spread)(r->xc + at, across), FN(spread)(r->xk + at, across),
                  vsub(FN(spread)(r->xd + at, across), most)},
           .fy = {FN(spread)(r->yc + at, across), FN(spread)(r->yk + at, across),
                  vsub(FN(spread)(r->yd + at, across), most)},
           .mx = FN(spread)(r->x_hi + at, across),
           .my = FN(spread)(r->y_hi + at, across),
           .px = FN(spread)(r->px + at, across),
           .py = FN(spread)(r->py + at, across),
           .gap = FN(spread)(r->x_lo + at, across),
           .gap_lo = FN(spread)(r->y_lo + at, across)};
    return row;
}

/* (x - mx) - (y - my), and in *lost what the first two differences rounded: what the two rows share cancels without a trace. */
INLINE V FN(js_apart)(V x, V y, const FN(js_row) * row, V *lost) {
    V dx = vsub(x, row->mx), bx = vsub(dx, x), dy = vsub(y, row->my), by = vsub(dy, y);
    V all = vsub(vsub(vsub(x, vsub(dx, bx)), vadd(row->mx, bx)), vsub(vsub(y, vsub(dy, by)), vadd(row->my, by)));
    *lost = vif(mlt(vabs(all), vset(INF)), all);
    return vsub(dx, dy);
}

/* A class's term and, where wanted, p and log(p/m). */
INLINE V FN(js_term)(V x, V y, const FN(js_row) * row, const bool gains, V *p, V *gain) {
    const V zero = vset((R)0), one = vset((R)1), half = vset((R)0.5), ln2 = vset((R)(XENT_LN2_A + XENT_LN2_B));
    V q = vmul(FN(vexp_ref)(y, row->fy), row->py), own = vmul(FN(vexp_ref)(x, row->fx), row->px);
    V m = vmul(vadd(own, q), half);
    V lost, d = FN(js_apart)(x, y, row, &lost);
    d = vadd(vsub(d, row->gap), vsub(lost, row->gap_lo));
    V u = vmin(vset(EXP_LOW), vabs(d)), z = vmul(u, u);
    V e = FN(vexp_minus_abs)(u), away = vsub(ln2, FN(vlog1p_unit)(e));
    M near = mle(u, vset((R)1.5));
    V h = vsel(near, vmul(z, FN(js_h)(z)), vsub(away, vdiv(vmul(u, e), vadd(one, e))));
    if (gains) {
        V g = vsel(near, vsub(vmul(half, d), vmul(z, FN(js_g)(z))), vsub(away, vif(mlt(d, zero), u)));
        *p = own;
        *gain = vif(mne(own, zero), g); /* classes that neither row has leave NaN in d */
    }
    return vif(mne(m, zero), vmul(m, h));
}

INLINE void FN(reduce_js)(const FN(tile) * T, const group_result *r, int at, const bool gains, FN(state) * s) {
    const FN(js_row) row = FN(js_row_of)(r, at, T->across);
    const V zero = vset((R)0);
    V v[RUN] = {zero, zero, zero, zero}, k[RUN] = {zero, zero, zero, zero};
    FN(sum) b = s->b, t = s->t;
    RUNS(T, BLOCK({
             V x = GET_X(T), y = GET_T(T, -INF), p = zero, gain = zero;
             AHEAD(T, x);
             AHEAD(T, t);
             v[j] = FN(js_term)(x, y, &row, gains, &p, &gain);
             if (gains)
                 k[j] = vmul(p, gain);
         }),
         BLOCK({
             FN(flush)(v, &b);
             if (gains)
                 FN(flush)(k, &t);
         }));
    s->b = b;
    s->t = t;
}

/* What the difference of the two log sum exp, less that of the maxima, follows from (reduce.c). With s = (x - mx) - (y - my) a
 * class adds (P - Q) / 2 = (P + Q) / 2 tanh(s / 2), P = exp(x - mx) and Q = exp(y - my), both over the geometric mean of their
 * sums. Exactly odd in the order of the operands. */
INLINE void FN(reduce_js_gap)(const FN(tile) * T, const group_result *r, int at, FN(state) * s) {
    const FN(js_row) row = FN(js_row_of)(r, at, T->across);
    const V zero = vset((R)0), one = vset((R)1), half = vset((R)0.5);
    const V shift = vmul(half, row.gap), px = vmul(row.px, FN(vexp2ref)(shift, zero));
    const V py = vmul(row.py, FN(vexp2ref)(vsub(zero, shift), zero));
    V v[RUN] = {zero, zero, zero, zero};
    FN(sum) b = s->b;
    RUNS(T, BLOCK({
             V x = GET_X(T), y = GET_T(T, -INF), lost;
             AHEAD(T, x);
             AHEAD(T, t);
             V p = vmul(FN(vexp_ref)(x, row.fx), px), q = vmul(FN(vexp_ref)(y, row.fy), py);
             V d = FN(js_apart)(x, y, &row, &lost), m = vmul(vadd(p, q), half);
             d = vadd(d, lost);
             V u = vmin(one, vabs(d)), grown = vadd(u, FN(vphi)(u)); /* exp(u) - 1 */
             V near = vmul(m, vdiv(grown, vadd(grown, vset((R)2))));
             near = vsel(mlt(d, zero), vsub(zero, near), near);
             v[j] = vif(mne(m, zero), vsel(mle(vabs(d), one), near, vmul(vsub(p, q), half)));
         }),
         BLOCK({ FN(flush)(v, &b); }));
    s->b = b;
}
