/* emit.h: the second walk: what a row of finished states writes, one value a class. A line or two each; where it goes
 * (memory, another dtype, a sum over rows) is walk.h's matter. */
typedef struct FN(factors) { /* of each row, as vectors; see row_result */
    FN(vref) x, y;
    V x_hi, x_lo, y_hi, y_lo, px, px_lo, py, g, poison;
} FN(factors);

/* A field of each row's result; `first` is the one of row 0. */
static inline V FN(spread_field)(const FN(tile) * T, const double *first) {
    R a[MAX_LANES] = {0};
    if (!T->across)
        return vset((R)*first);
    for (int l = 0; l < T->rows; l++)
        a[l] = (R)first[(size_t)l * (sizeof(row_result) / sizeof(double))];
    return vload(a);
}

static FN(factors) FN(take_factors)(const FN(tile) * T, const row_result *r) {
    FN(factors) f;
    const V low = vset((R)-XENT_PLAIN - EXP_LOW);
    f.x.c = FN(spread_field)(T, &r->fx.c);
    f.x.k = FN(spread_field)(T, &r->fx.k);
    f.y.c = FN(spread_field)(T, &r->fy.c);
    f.y.k = FN(spread_field)(T, &r->fy.k);
    f.x.low = f.y.low = low;
    f.x_hi = FN(spread_field)(T, &r->lx_hi);
    f.x_lo = FN(spread_field)(T, &r->lx_lo);
    f.y_hi = FN(spread_field)(T, &r->ly_hi);
    f.y_lo = FN(spread_field)(T, &r->ly_lo);
    f.px = FN(spread_field)(T, &r->px);
    f.px_lo = FN(spread_field)(T, &r->px_lo);
    f.py = FN(spread_field)(T, &r->py);
    f.g = FN(spread_field)(T, &r->g);
    f.poison = FN(spread_field)(T, &r->poison);
    return f;
}

/* p log(p / q), SciPy's rel_entr: near p = q from the exact p - q. */
static inline V FN(vrel_entr)(V p, V q) {
    const V zero = vset((R)0);
    V ratio = vdiv(p, q);
    V s = vdiv(vsub(p, q), vadd(p, q)), z = vmul(s, s);
    V near = vfma(vmul(z, s), FN(vlogp)(z), vadd(s, s));
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

#undef PUT
#define PUT(v)                                                                                                         \
    do {                                                                                                               \
        V put_ = (v);                                                                                                  \
        if (part)                                                                                                      \
            vstoren(out + i * os, part, put_);                                                                         \
        else                                                                                                           \
            vstore(out + i * os, put_);                                                                                \
    } while (0)

static void FN(emit_tile)(const xent_job *job, const FN(tile) * T, const FN(factors) * f, char *out, ptrdiff_t os) {
    const V zero = vset((R)0), none = vset(-INF), inf = vset(INF);
    const bool log_target = xent_target_is_log(job);
    switch (job->op->emit) {
    case EMIT_NONE:
        break;
    case EMIT_LOGP:
        EACH(T, {
            V x = GET_X(T);
            PUT(vsub(vsub(x, f->x_hi), f->x_lo));
        });
        break;
    case EMIT_P:
        EACH(T, {
            V x = GET_X(T), e = FN(vexp_ref)(x, f->x);
            PUT(vfma(e, f->px, vmul(e, f->px_lo)));
        });
        break;
    case EMIT_GRAD:
        if (job->op->target == XENT_TARGET_LABELS)
            EACH(T, {
                V x = GET_X(T);
                PUT(vmul(FN(vexp_ref)(x, f->x), f->px));
            });
        else if (log_target)
            EACH(T, {
                V x = GET_X(T), y = GET_T(T, -INF);
                PUT(vsub(vmul(FN(vexp_ref)(x, f->x), f->px), vmul(FN(vexp_ref)(y, f->y), f->py)));
            });
        else
            EACH(T, {
                V x = GET_X(T), t = GET_T(T, (R)0);
                PUT(vfnma(t, f->g, vmul(FN(vexp_ref)(x, f->x), f->px)));
            });
        break;
    case EMIT_CE_TERM:
        EACH(T, {
            V x = GET_X(T), t = GET_T(T, (R)0);
            V v = vmul(vmul(t, f->g), vadd(f->x_lo, vsub(f->x_hi, x)));
            PUT(vadd(vif(mne(t, zero), v), f->poison));
        });
        break;
    case EMIT_KL_TERM:
        if (log_target)
            EACH(T, {
                V x = GET_X(T), y = GET_T(T, -INF);
                V d = vsub(vsub(vsub(y, f->y_hi), f->y_lo), vsub(vsub(x, f->x_hi), f->x_lo));
                V t = vmul(FN(vexp_ref)(y, f->y), f->py), v = vmul(t, d);
                M live = mne(y, none);
                v = vsel(mand(live, meq(x, none)), vadd(vadd(t, f->x_lo), inf), v); /* NaN where either row is */
                PUT(vadd(vif(live, v), f->poison));
            });
        else
            EACH(T, {
                V x = GET_X(T), t = GET_T(T, (R)0);
                V v = vmul(vmul(t, f->g), vadd(FN(vlog)(t), vadd(vsub(f->x_hi, x), f->x_lo)));
                PUT(vadd(vif(mne(t, zero), v), f->poison));
            });
        break;
    case EMIT_KL_POINT:
        EACH(T, {
            V x = GET_X(T), t = GET_T(T, (R)0);
            PUT(vif(mne(t, zero), vmul(t, vsub(FN(vlog)(t), x))));
        });
        break;
    case EMIT_REL_ENTR:
        EACH(T, {
            V p = GET_X(T), q = GET_T(T, (R)0);
            PUT(FN(vrel_entr)(p, q));
        });
        break;
    }
}
