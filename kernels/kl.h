/* kl.h: the centred sums of rowstate.h. Included for both reals after rows.h, which does in double what is done once a
 * tile. */
/* The largest of each row's p (t, or y) and the x beside it: an element that the others are compared with. */
INLINE void FN(tile_anchor)(const FN(tile) * T, R fill, V *xs, V *ts) {
    const V none = vset(-INF);
    V best[RUN] = {none, none, none, none}, at[RUN] = {none, none, none, none}; /* as many chains */
    EACH(T, {
        V x = GET_X(T), t = GET_T(T, fill);
        M more = mlt(best[j], t);
        best[j] = vsel(more, t, best[j]);
        at[j] = vsel(more, x, at[j]);
    });
    V most = vmax(vmax(best[0], best[1]), vmax(best[2], best[3])), x = none;
    if (!T->across)
        most = FN(across_lanes)(most, FN(larger));
    UNROLL for (int j = 0; j < RUN; j++) x = vmax(vsel(meq(best[j], most), at[j], none), x);
    *ts = most;
    *xs = T->across ? x : FN(across_lanes)(x, FN(larger));
}

/* y's maxima with this tile; KL's sums, held against y's reference, follow. */
static void FN(lead_y)(const FN(tile) * T, reduce_kind kind, FN(state) * s, group_state *rows, int at) {
    V most = FN(tile_max)(T->t, T->ts, T);
    if (!many(mlt(s->y.m, most)))
        return;
    const FN(vref) old = s->y.ref;
    FN(raise_y)(s, FN(new_max)(most, s->y.m, T));
    if (xent_is_kl(kind)) {
        kl_rise rise;
        if (!T->across)
            memset(&rise, 0, sizeof rise); /* one row of several that are worked on */
        FN(put)(old.c, T, 0, rise.old_c);
        FN(put)(old.k, T, 0, rise.old_k);
        FN(put)(s->y.ref.c, T, 0, rise.new_c);
        FN(put)(s->y.ref.k, T, 0, rise.new_k);
        FN64(kl_follow)(T->across ? VN : 1, at, &rise, rows);
    }
}

/* A tile's sums, around c, the tile's own mean of x - log t under t. To have c and each u = x - log t - c to full relative
 * accuracy, differences are taken exactly (two-difference) and from those of an anchor, the tile's most probable element,
 * which is all that counts in a confident row. With u, an element adds t (exp(u) - 1 - u): t phi(u) where -1 <= u <= 2, else
 * q - t (1 + u) with q = t exp(u) = exp(x - c), which is taken from x alone, as E(x) against x's own largest times a factor
 * a row: nothing is rounded that exp would magnify. What is done once a tile is done in double, in the group's state, or
 * (own: rows across of one tile each) stays in the tile's vectors. */
INLINE void FN(reduce_kl)(const FN(tile) * T, const bool log_target, const FN(state) * s, bool first, group_state *rows,
                          int at, FN(kl) * own) {
    /* With d + e = x - log t less the anchor's, e what d rounds: e, and what would cost a function to have again, t or d. */
    _Alignas(64) R es[TILE_REALS], kept[TILE_REALS];
    const V zero = vset((R)0), none = vset(-INF);
    V r0[RUN] = {zero, zero, zero, zero}, r1[RUN] = {zero, zero, zero, zero}, most = none, anchor_x, anchor_lt;
    FN(sum) w = {zero, zero}, d_sum = w, u_sum = w, a_sum = w;
    FN(vref) fy = s->y.ref, fx;
    FN(kl_tile) mine;
    kl_part part;
    if (!own && !T->across)
        memset(&part, 0, sizeof part); /* one row of several that are worked on */

    FN(tile_anchor)(T, log_target ? -INF : (R)0, &anchor_x, &anchor_lt);
    if (log_target)
        fy.k = vsub(fy.k, vset((R)XENT_KL_LIFT));
    else
        anchor_lt = FN(vlog)(anchor_lt);
    M sound = mlt(vabs(vsub(anchor_x, anchor_lt)), vset(INF));
    anchor_x = vif(sound, anchor_x);
    anchor_lt = vif(sound, anchor_lt);
    V hi_a = vsub(anchor_x, anchor_lt), back_a = vsub(hi_a, anchor_x);
    V lo_a = vsub(vsub(anchor_x, vsub(hi_a, back_a)), vadd(anchor_lt, back_a));

    RUNS(T, BLOCK({
             V x = GET_X(T), t, lt;
             if (log_target) {
                 lt = GET_T(T, -INF);
                 t = FN(vexp_ref)(lt, fy);
             } else {
                 t = GET_T(T, (R)0);
                 lt = FN(vlog)(t);
             }
             V hi = vsub(x, lt), back = vsub(hi, x); /* x - log t, exactly hi + lo */
             V lo = vsub(vsub(x, vsub(hi, back)), vadd(lt, back));
             V e, d = FN(two_sum)(hi, vsub(zero, hi_a), &e); /* NaN where t or q is 0 */
             e = vadd(e, vsub(lo, lo_a));
             M live = mne(t, zero);
             if (log_target) /* KL is infinite, also where t is too small for the tile: the direct sum says so */
                 live = mor(live, meq(hi, none));
             r0[j] = t;
             r1[j] = vadd(r1[j], vif(live, vmul(t, vadd(d, e))));
             most = vmax(x, most);
             vstore(es + i * VN, e);
             vstore(kept + i * VN, log_target ? t : d);
         }),
         BLOCK({ FN(flush)(r0, &w); }));
    FN(flush)(r1, &d_sum); /* roughly is enough: see kl_of_tile */
    most = FN(new_max)(most, none, T);
    fx = FN(vref_of)(most);
    mine = (FN(kl_tile)){.w = w, .d = d_sum, .hi = hi_a, .lo = lo_a, .most = most, .xc = fx.c, .xk = fx.k};
    mine.top = log_target ? vif(mlt(none, s->y.m), s->y.m) : zero;
    mine.tc = log_target ? fy.c : zero;
    mine.tk = log_target ? fy.k : zero;
    if (own) {
        FN(kl_centre)(&mine, XENT_REAL == 32);
    } else {
        FN(put_sum)(w, T, 0, part.w.s, part.w.e);
        FN(put_sum)(d_sum, T, 0, part.d.s, part.d.e);
#define PUT_PART(field) FN(put)(mine.field, T, 0, part.field)
        PUT_PART(hi);
        PUT_PART(lo);
        PUT_PART(most);
        PUT_PART(top);
        PUT_PART(xc);
        PUT_PART(xk);
        PUT_PART(tc);
        PUT_PART(tk);
#undef PUT_PART
        FN64(kl_centres)(T->across ? VN : 1, XENT_REAL == 32, &part);
        mine.mean = FN(spread)(part.mean, T->across);
        mine.factor = FN(spread)(part.factor, T->across);
    }
    const V vm = mine.mean, f = mine.factor;

    r0[0] = r1[0] = zero;
    RUNS(T, BLOCK({
             V x = GET_X(T), t = vload(kept + i * VN), d = t;
             if (log_target)
                 d = vsub(vsub(x, GET_T(T, -INF)), hi_a);
             else
                 t = GET_T(T, (R)0);
             V u = vadd(vsub(d, vm), vload(es + i * VN));
             AHEAD(T, x);
             AHEAD(T, t);
             V tu = vif(mne(t, zero), vmul(t, u));
             V q = vmul(FN(vexp_ref)(x, fx), f);
             V far = vsub(vsub(q, t), tu);
             V a = vsel(mand(mle(vset((R)-1), u), mle(u, vset((R)2))), vmul(t, FN(vphi)(u)), far);
             r0[j] = a;
             r1[j] = tu;
         }),
         BLOCK({
             FN(flush)(r0, &a_sum);
             FN(flush)(r1, &u_sum);
         }));
    mine.u = u_sum;
    mine.a = a_sum;
    if (own) {
        *own = FN(kl_of_tile)(&mine);
        return;
    }
    FN(put_sum)(u_sum, T, 0, part.u.s, part.u.e);
    FN(put_sum)(a_sum, T, 0, part.a.s, part.a.e);
    FN64(kl_add)(T->across ? VN : 1, at, first, &part, rows);
}

/* ---- one tile, for every reduction ---- */
/* The state's maxima become those of this tile, too; whether to look for them in it. */
static bool FN(lead_tile)(const xent_job *job, reduce_kind kind, const FN(tile) * T, FN(state) * s, bool first,
                          group_state *rows, int at) {
    const bool log_target = xent_target_is_log(job);
    const bool tops = xent_sums_x(kind) && FN(lead_x)(T, kind, log_target, first, s);
    if (kind < REDUCE_KL || !log_target)
        return tops;
    FN(lead_y)(T, kind, s, rows, at);
    return true;
}

static void FN(reduce_tile)(const xent_job *job, const row_group *g, reduce_kind kind, const FN(tile) * T,
                            FN(state) * s, bool tops, bool first, group_state *rows, int at, R *keep) {
    const bool log_target = xent_target_is_log(job);
    switch (kind) {
    case REDUCE_NONE:
    case REDUCE_LABEL:
        break;
    case REDUCE_LSE:
        VARIANT(reduce_lse, tops, keep, false, s);
        break;
    case REDUCE_ENT:
        FN(reduce_ent)(T, s);
        break;
    case REDUCE_SENT:
        if (tops)
            FN(reduce_sent)(T, true, s);
        else
            FN(reduce_sent)(T, false, s);
        break;
    case REDUCE_CE:
        VARIANT(reduce_probs, tops, keep, false, s);
        break;
    case REDUCE_BCE:
        FN(reduce_bce)(T, s);
        break;
    case REDUCE_JS:
        if (job->op->emit == EMIT_JS_GRAD)
            FN(reduce_js)(T, g->first, at, true, s);
        else
            FN(reduce_js)(T, g->first, at, false, s);
        break;
    case REDUCE_JS_GAP:
        FN(reduce_js_gap)(T, g->first, at, s);
        break;
    case REDUCE_KL:
    case REDUCE_KLPAIR:
        if (log_target)
            FN(reduce_kl)(T, true, s, first, rows, at, NULL);
        else
            FN(reduce_kl)(T, false, s, first, rows, at, NULL);
        if (kind == REDUCE_KL)
            break;
        /* fall through */
    case REDUCE_PAIR:
        if (log_target)
            VARIANT(reduce_logs, true, keep, s);
        else
            VARIANT(reduce_probs, true, keep, true, s);
        break;
    }
}

static void FN(put_state)(const xent_job *job, reduce_kind kind, const FN(tile) * T, const FN(state) * s, int at,
                          group_state *rows) {
    if (xent_sums_x(kind))
        FN(put_top)(&s->x, T, at, &rows->x);
    if (kind >= REDUCE_KL && xent_target_is_log(job))
        FN(put_top)(&s->y, T, at, &rows->y);
    if (kind != REDUCE_LSE && kind != REDUCE_KL) {
        FN(put_sum)(s->b, T, at, rows->b.s, rows->b.e);
        FN(put_sum)(s->t, T, at, rows->t.s, rows->t.e);
    }
}
