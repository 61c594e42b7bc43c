/* emit.h: the second walk: what a row of finished states writes, one value a class. A line or two each; where it goes
 * (memory, another dtype, a sum over rows) is walk.h's matter. */
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

/* A run's vectors are written together: see RUNS. */
#undef PUT
#undef WRITE
#define PUT(v) put[j] = (v)
#define WRITE(T, ...)                                                                                                  \
    RUNS(T, BLOCK(__VA_ARGS__), BLOCK({                                                                                \
             UNROLL for (int q = 0; q < run; q++) {                                                                    \
                 if (part)                                                                                             \
                     vstoren(out + (i0 + q) * os, part, put[q]);                                                       \
                 else if (stream)                                                                                      \
                     vstream(out + (i0 + q) * os, put[q]);                                                             \
                 else                                                                                                  \
                     vstore(out + (i0 + q) * os, put[q]);                                                              \
             }                                                                                                         \
         }))

/* A number a row as a vector, from f where the rows were finished in vectors (and r is NULL); and E's reference. */
#undef ROW
#undef REF
#define ROW(field) (r ? FN(spread)(r->field + at, T->across) : f->field)
#define REF(name, which) const FN(vref) name = {ROW(which##c), ROW(which##k), vsub(ROW(which##d), vset((R)EXP_LOW))}

/* E(x) and E(y), as the reduction kept them or anew. */
#undef EXP_X
#undef EXP_Y
#define EXP_X() (kept ? vload(KEPT(i, pairs, 0)) : FN(vexp_ref)(GET_X(T), fx))
#define EXP_Y() (kept ? vload(KEPT(i, pairs, 1)) : FN(vexp_ref)(GET_T(T, -INF), fy))

INLINE void FN(emit_tile)(const emit_kind emit, const xent_target target, const FN(tile) * T, const group_result *r,
                          int at, const FN(finished) * f, char *out, ptrdiff_t os, const bool stream, const bool kept,
                          const R *keep) {
    const V zero = vset((R)0), none = vset(-INF), inf = vset(INF);
    const bool log_target = target == XENT_TARGET_LOGITS || target == XENT_TARGET_LOG_PROBS;
    const bool pairs = log_target || XENT_REAL == 64;
    V put[RUN];
    switch (emit) {
    case EMIT_NONE:
        break;
    case EMIT_LOGP: {
        const V x_hi = ROW(x_hi), x_lo = ROW(x_lo);
        WRITE(T, { /* what the first difference rounds is half the error, and twice that at a power of two */
                   V x = GET_X(T), d = vsub(x, x_hi), lost = vsub(x, vadd(d, x_hi));
                   PUT(vsub(d, vsub(x_lo, vif(mlt(vabs(lost), inf), lost))));
        });
        break;
    }
    case EMIT_P: {
        REF(fx, x);
        const V px = ROW(px), px_lo = ROW(px_lo);
        WRITE(T, {
            V lo, e;
            if (kept) {
                e = vload(KEPT(i, pairs, 0));
                lo = XENT_REAL == 64 ? vload(KEPT(i, pairs, 1)) : zero;
            } else {
                e = FN(vexp_ref_lo)(GET_X(T), fx, &lo);
            }
            V small = vmul(e, px_lo);
            PUT(vfma(e, px, XENT_REAL == 64 ? vfma(lo, px, small) : small));
        });
        break;
    }
    case EMIT_GRAD: {
        REF(fx, x);
        REF(fy, y);
        const V px = ROW(px), py = ROW(py), g = ROW(g);
        if (target == XENT_TARGET_LABELS)
            WRITE(T, { PUT(vmul(EXP_X(), px)); });
        else if (log_target)
            WRITE(T, { PUT(vsub(vmul(EXP_X(), px), vmul(EXP_Y(), py))); });
        else
            WRITE(T, {
                V t = GET_T(T, (R)0);
                PUT(vfnma(t, g, vmul(EXP_X(), px)));
            });
        break;
    }
    case EMIT_CE_TERM: {
        const V x_hi = ROW(x_hi), x_lo = ROW(x_lo), g = ROW(g), poison = ROW(poison);
        WRITE(T, {
            V x = GET_X(T), t = GET_T(T, (R)0);
            V w = vmul(t, g), v = vmul(w, vadd(x_lo, vsub(x_hi, x)));
            PUT(vadd(vif(mne(w, zero), v), poison));
        });
        break;
    }
    case EMIT_KL_TERM: {
        REF(fy, y);
        const V x_hi = ROW(x_hi), x_lo = ROW(x_lo), y_hi = ROW(y_hi), y_lo = ROW(y_lo);
        const V py = ROW(py), g = ROW(g), poison = ROW(poison), endless = FN(weigh)(inf, g);
        const M some = mne(g, zero);
        if (log_target)
            WRITE(T, {
                V x = GET_X(T), y = GET_T(T, -INF);
                V d = vsub(vsub(vsub(y, y_hi), y_lo), vsub(vsub(x, x_hi), x_lo));
                V t = vmul(FN(vexp_ref)(y, fy), py), v = vif(mne(t, zero), vmul(t, d));
                M beyond = mand(mne(y, none), meq(x, none)); /* infinite, also where t is too small for the tile */
                v = vsel(beyond, vif(some, vadd(vmul(vadd(t, x_lo), zero), endless)), v); /* NaN where either row is */
                PUT(vadd(v, poison));
            });
        else
            WRITE(T, {
                V x = GET_X(T), t = GET_T(T, (R)0);
                V w = vmul(t, g), v = vmul(w, vadd(FN(vlog)(t), vadd(vsub(x_hi, x), x_lo)));
                PUT(vadd(vif(mne(w, zero), v), poison));
            });
        break;
    }
    case EMIT_AT_LABEL:
        WRITE(T, { PUT(zero); });
        break;
    case EMIT_BCE_TERM: {
        const V g = ROW(g);
        WRITE(T, {
            V x = GET_X(T), t = GET_T(T, (R)0);
            PUT(FN(weigh)(FN(bce_term)(x, t, GET_W(T), GET_P(T)), g));
        });
        break;
    }
    case EMIT_BCE_GRAD: {
        const V g = ROW(g);
        WRITE(T, {
            V x = GET_X(T), t = GET_T(T, (R)0);
            PUT(vmul(g, FN(bce_slope)(x, t, GET_W(T), GET_P(T))));
        });
        break;
    }
    case EMIT_JS_TERM: {
        const FN(js_row) row = FN(js_row_of)(r, at, T->across);
        const V g = ROW(g);
        WRITE(T, { PUT(vmul(g, FN(js_term)(GET_X(T), GET_T(T, -INF), &row, false, NULL, NULL))); });
        break;
    }
    case EMIT_JS_GRAD: {
        const FN(js_row) row = FN(js_row_of)(r, at, T->across);
        const V g = ROW(g), all = ROW(gain);
        WRITE(T, {
            V x = GET_X(T), y = GET_T(T, -INF), p, gain;
            FN(js_term)(x, y, &row, true, &p, &gain);
            PUT(vmul(vmul(g, p), vsub(gain, all)));
        });
        break;
    }
    case EMIT_KL_POINT:
        WRITE(T, {
            V x = GET_X(T), t = GET_T(T, (R)0);
            PUT(vif(mor(mne(t, zero), mne(x, x)), vmul(t, vsub(FN(vlog)(t), x))));
        });
        break;
    case EMIT_REL_ENTR:
        WRITE(T, {
            V p = GET_X(T), q = GET_T(T, (R)0);
            PUT(FN(vrel_entr)(p, q));
        });
        break;
    }
}
