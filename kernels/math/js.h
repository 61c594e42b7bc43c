/* js.h: Jensen-Shannon divergence of two rows of logits, once log sum exp of both is known (JS comes first, then JS_SUM: js_again.h).
 *
 * With p and q the two softmaxes, m = (p + q) / 2 and d = log p - log q, a class adds
 *     (p log(p/m) + q log(q/m)) / 2 = m h(d),  h(d) = d/2 tanh(d/2) - log cosh(d/2) = d^2 H(d^2),  0 <= h <= log 2,
 * never negative, so that no rounding of one class is magnified by another; log(p/m) = d/2 - log cosh(d/2), which the
 * gradient needs, is d/2 - d^2 G(d^2). H and G are Chebyshev fits on |d| <= 1.5; farther out both follow from
 * exp(-|d|). All of it is exactly even in the order of the operands. Of another beta than 1/2: mixture.h. */
static const R FN(js_h)[] = {C_(JS_H)}, FN(js_g)[] = {C_(JS_G)};

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

/* h(d) and, where wanted, log(p/m): of beta = 1/2. */
INLINE V FN(js_even)(V d, const bool gains, V *gain) {
    const V zero = vset((R)0), one = vset((R)1), half = vset((R)0.5), ln2 = vset((R)(XENT_LN2_A + XENT_LN2_B));
    V u = vmin(vset(EXP_LOW), vabs(d)), z = vmul(u, u);
    V e = FN(vexp_minus_abs)(u), away = vsub(ln2, FN(vlog1p_unit)(e));
    M near = mle(u, vset((R)1.5));
    if (gains)
        *gain = vsel(near, vsub(vmul(half, d), vmul(z, vpoly(z, FN(js_g)))), vsub(away, vif(mlt(d, zero), u)));
    return vsel(near, vmul(z, vpoly(z, FN(js_h))), vsub(away, vdiv(vmul(u, e), vadd(one, e))));
}

/* log(1 + s) - 2 t with t = s / (2 + s), and log(1 + s), which is given where s is not small. */
INLINE V FN(js_log)(V s, V *t, V *log) {
    *t = vdiv(s, vadd(s, vset((R)2)));
    V twice = vadd(*t, *t), tail = FN(vlog1p_tail)(*t);
    M small = mle(vabs(*t), vset((R)0.25));
    V rest = vsel(small, tail, vsub(*log, twice));
    *log = vsel(small, vadd(twice, tail), *log);
    return rest;
}

/* m h(d) and log(p/m), of any beta: by the series, or where the rows are farther apart as a sum of two numbers that
 * are not negative, so that a beta next to 0 or 1 has its digits, too: with psi(s) = (1 + s) log(1 + s) - s it is
 *     (1 - b) m psi(1/D - 1) + b m psi(w/D - 1),  psi(s) = s t + (1 + s) (log(1 + s) - 2 t), t = s / (2 + s)
 * for w = exp(-|d|), the share b of the less likely row in m, and D = 1 - b + b w; m / D is the other row's number. */
#undef SERIES
#if XENT_REAL == 32
#define SERIES(name) mix->f32.name
#else
#define SERIES(name) mix->f64.name
#endif
static NOINLINE V FN(js_mixed)(V d, V low, V p, V q, const xent_mixture *mix, V *gain) {
    const V zero = vset((R)0), one = vset((R)1), z = vmul(d, d),
            tiny = vset((R)(XENT_REAL == 32 ? 0x1p-120 : 0x1p-1000));
    const V beta = vmax(tiny, vset((R)mix->beta)), rest = vmax(tiny, vset((R)mix->rest));
    const int terms = XENT_REAL == 32 ? XENT_MIXTURE_F32 : XENT_MIXTURE_F64;
    V m = vfma(beta, p, vmul(rest, q)), u = vmin(vset(EXP_LOW), vabs(d));
    V value = vmul(m, vmul(z, FN(poly)(d, SERIES(h), terms)));
    M near = mle(u, vset((R)0.5)), down = mlt(d, zero);
    *gain = vsub(vmul(rest, d), vmul(z, FN(poly)(d, SERIES(g), terms)));
    if (!mall(near)) {
        V b = vsel(down, beta, rest), other = vsel(down, rest, beta), more = vsel(down, q, p),
          w = FN(vexp_minus_abs)(u);
        w = vfma(w, vsel(down, low, vsub(zero, low)), w); /* what rounding d is to it may be a hundred ULP */
        V inv = vdiv(one, vfma(b, w, other)), gap = vsub(one, w), less = vmul(w, inv), t_more, t_less;
        V s_more = vmul(vmul(b, gap), inv), s_less = vsub(zero, vmul(vmul(other, gap), inv));
        V log_more = FN(vlog)(inv);
        V log_less = vsel(mlt(less, tiny), vsub(log_more, u), FN(vlog)(vmax(tiny, less)));
        V rest_more = FN(js_log)(s_more, &t_more, &log_more), rest_less = FN(js_log)(s_less, &t_less, &log_less);
        V far = vmul(vmul(b, m), vfma(less, rest_less, vmul(s_less, t_less)));
        far = vfma(vmul(other, more), vfma(vmul(b, gap), t_more, rest_more), far);
        value = vsel(near, value, far);
        *gain = vsel(near, *gain, vsel(down, log_less, log_more));
    }
    return vif(mne(m, zero), value);
}

/* A class's term and, where wanted, p and log(p/m). mix: NULL for beta = 1/2. */
INLINE V FN(js_term)(V x, V y, const FN(js_row) * row, const xent_mixture *mix, const bool gains, V *p, V *gain) {
    const V zero = vset((R)0);
    V q = vmul(FN(vexp_ref)(y, row->fy), row->py), own = vmul(FN(vexp_ref)(x, row->fx), row->px);
    V g, lost, low, lower, d = FN(js_apart)(x, y, row, &lost), value;
    d = FN(two_sum)(d, vsub(zero, row->gap), &low);
    d = FN(two_sum)(d, vsub(lost, row->gap_lo), &lower);
    if (mix) {
        low = vadd(low, lower);
        value = FN(js_mixed)(d, vif(mlt(vabs(low), vset((R)1)), low), own, q, mix, &g);
    } else {
        V m = vmul(vadd(own, q), vset((R)0.5));
        value = vif(mne(m, zero), vmul(m, FN(js_even)(d, gains, &g)));
    }
    if (gains) {
        *p = own;
        *gain = vif(mne(own, zero), g); /* classes that neither row has leave NaN in d */
    }
    return value;
}

/* First, log sum exp of both. */
INLINE void FN(fold_JS)(const FN(folding) * F) {
    VARIANT(fold_logs, F, false);
}

/* Then the terms, and what gradients need. */
INLINE void FN(fold_js)(const FN(folding) * F, const xent_mixture *mix, const bool gains) {
    const FN(tile) *T = F->T;
    FN(state) *s = F->s;
    const FN(js_row) row = FN(js_row_of)(F->before, F->at, T->across);
    const V zero = vset((R)0);
    V v[RUN] = {zero, zero, zero, zero}, k[RUN] = {zero, zero, zero, zero};
    FN(sum) b = s->b, t = s->t;
    RUNS(T, BLOCK({
             V x = GET_X(T), y = GET_T(T, -INF), p = zero, gain = zero;
             AHEAD(T, x);
             AHEAD(T, t);
             v[j] = FN(js_term)(x, y, &row, mix, gains, &p, &gain);
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

INLINE void FN(fold_JS_SUM)(const FN(folding) * F) {
    const xent_mixture *mix = &F->job->mixture;
    const bool gains = F->job->op->emit == EMIT_JS_GRAD;
    if (mix->even && gains)
        FN(fold_js)(F, NULL, true);
    else if (mix->even)
        FN(fold_js)(F, NULL, false);
    else if (gains)
        FN(fold_js)(F, mix, true);
    else
        FN(fold_js)(F, mix, false);
}

/* What the difference of the two log sum exp, less that of the maxima, follows from (js_again.h). With s = (x - mx) - (y - my) a
 * class adds (P - Q) / 2 = (P + Q) / 2 tanh(s / 2), P = exp(x - mx) and Q = exp(y - my), both over the geometric mean of their
 * sums. Exactly odd in the order of the operands. */
INLINE void FN(fold_JS_GAP)(const FN(folding) * F) {
    const FN(tile) *T = F->T;
    FN(state) *s = F->s;
    const FN(js_row) row = FN(js_row_of)(F->before, F->at, T->across);
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

/* The value is the sum of the terms: js_again.h. What JS leaves is how the rows compare. */
INLINE V FN(value_JS)(FN(ending) * e) {
    (void)e;
    return vset((R)0);
}

/* The two log1, which are small, apart from the maxima, which may be anything. */
INLINE void FN(factors_of_js)(const FN(ending) * e, FN(finished) * f) {
    V gap = vsub(e->x.log1, e->y.log1), back = vsub(gap, e->x.log1);
    V first = e->rough ? FN(vfirst24)(gap) : gap;
    V rest = vadd(vsub(vsub(e->x.log1, vsub(gap, back)), vadd(e->y.log1, back)), vsub(e->x.low, e->y.low));
    f->x_hi = e->s->x.m;
    f->y_hi = e->s->y.m;
    f->x_lo = first;
    f->y_lo = vadd(vsub(gap, first), rest);
    f->px = e->x.inv;
    f->py = e->py;
}

NO_FACTORS(JS_TERM) /* but factors_of_js */
INLINE void FN(emit_JS_TERM)(const FN(writing) * w) {
    const FN(js_row) row = FN(js_row_of)(w->r, w->at, w->T->across);
    const V g = ROW(w, g);
    const xent_mixture *mix = &w->job->mixture;
    if (mix->even)
        WRITE(w, { PUT(vmul(g, FN(js_term)(GET_X(w->T), GET_T(w->T, -INF), &row, NULL, false, NULL, NULL))); });
    else
        WRITE(w, { PUT(vmul(g, FN(js_term)(GET_X(w->T), GET_T(w->T, -INF), &row, mix, false, NULL, NULL))); });
}

INLINE void FN(factors_JS_GRAD)(const FN(ending) * e, FN(finished) * f) {
    f->g = vmul(vset((R)e->job->mixture.beta), e->row->scale);
}
INLINE void FN(emit_js_grad)(const FN(writing) * w, const xent_mixture *mix) {
    const FN(js_row) row = FN(js_row_of)(w->r, w->at, w->T->across);
    const V g = ROW(w, g), all = ROW(w, gain);
    WRITE(w, {
        V x = GET_X(w->T), y = GET_T(w->T, -INF), p, gain;
        FN(js_term)(x, y, &row, mix, true, &p, &gain);
        PUT(vmul(vmul(g, p), vsub(gain, all)));
    });
}
INLINE void FN(emit_JS_GRAD)(const FN(writing) * w) {
    const xent_mixture *mix = &w->job->mixture;
    if (mix->even)
        FN(emit_js_grad)(w, NULL);
    else
        FN(emit_js_grad)(w, mix);
}
