/* rows.c: a row's state beyond rowstate.h: raising a reference, merging pieces, and the value that follows. Scalar, in
 * double, the same for every instruction set. */
#include "internal.h"

bool xent_sums_x(reduce_kind kind) {
    return kind != REDUCE_NONE && kind != REDUCE_ENT && kind != REDUCE_KL;
}

bool xent_sums_y(const xent_job *job, reduce_kind kind) {
    return xent_target_is_log(job) && (kind == REDUCE_PAIR || kind == REDUCE_KLPAIR);
}

static bool is_kl(reduce_kind kind) {
    return kind == REDUCE_KL || kind == REDUCE_KLPAIR;
}

row_state xent_row_start(reduce_kind kind) {
    row_state s;
    s.x = s.y = xent_lse_start();
    s.t = s.b = (xent_sum){0.0, 0.0};
    if (is_kl(kind)) /* else it is never looked at */
        s.kl = xent_kl_start();
    return s;
}

/* x's maximum becomes m > s->x.m. */
void xent_raise_x(const xent_job *job, reduce_kind kind, row_state *s, double m) {
    const double m0 = s->x.m, w = xent_sum_value(s->t);
    xent_lse_raise(&s->x, m);
    if (m0 == -INFINITY || kind == REDUCE_LSE)
        return;
    if (kind == REDUCE_SENT) {
        xent_sum_scale(&s->b, xent_ref_scale(xent_ref_of(m0), xent_ref_of(m)));
        xent_sum_add(&s->b, (m - m0) * xent_sum_value(s->x.r));
    } else if (!xent_target_is_log(job)) {
        if (w != 0.0)
            xent_sum_add(&s->b, w * (m - m0));
    } else if (s->y.m > -INFINITY) {
        xent_sum_add(&s->b, (xent_lse_top(s->y) + xent_sum_value(s->y.r)) * (m - m0));
    }
}

/* y's maximum becomes m > s->y.m. */
void xent_raise_y(reduce_kind kind, row_state *s, double m) {
    const double m0 = s->y.m;
    const xent_ref from = xent_ref_of(m0), to = xent_ref_of(m);
    const double f = xent_ref_scale(from, to);
    if (!is_kl(kind)) {
    } else if (xent_sum_value(s->kl.w) == 0.0) { /* only exp(x - c) so far: move c, so that it cannot underflow */
        s->kl.c += (from.c - to.c) + (from.k - to.k) * (XENT_LN2_A + XENT_LN2_B);
        if (xent_sum_value(s->kl.a) == 0.0)
            s->kl.c = 0.0;
    } else {
        xent_kl_scale(&s->kl, f);
    }
    if (kind == REDUCE_KL) { /* needs y's maximum alone */
        s->y.m = m;
        return;
    }
    xent_lse_raise(&s->y, m);
    if (m0 > -INFINITY) {
        xent_sum_scale(&s->b, f);
        xent_sum_add(&s->b, (m0 - m) * xent_sum_value(s->y.r));
    }
}

/* a := a and b together. */
void xent_row_merge(const xent_job *job, reduce_kind kind, row_state *a, const row_state *b) {
    row_state r = *b;
    /* Both against the larger maximum; of two equal maxima one is left out. */
    if (a->x.m < r.x.m)
        xent_raise_x(job, kind, a, r.x.m);
    else if (r.x.m < a->x.m)
        xent_raise_x(job, kind, &r, a->x.m);
    else if (r.x.m > -INFINITY)
        xent_sum_add(&r.x.r, xent_lse_top(r.x));
    if (a->y.m < r.y.m)
        xent_raise_y(kind, a, r.y.m);
    else if (r.y.m < a->y.m)
        xent_raise_y(kind, &r, a->y.m);
    else if (r.y.m > -INFINITY && kind != REDUCE_KL)
        xent_sum_add(&r.y.r, xent_lse_top(r.y));
    xent_sum_merge(&a->x.r, r.x.r);
    xent_sum_merge(&a->y.r, r.y.r);
    xent_sum_merge(&a->t, r.t);
    xent_sum_merge(&a->b, r.b);
    if (is_kl(kind))
        xent_kl_merge(&a->kl, r.kl);
}

/* ---- from a folded row to its value and to the factors of its emit ---- */

/* Whether a target that sums to total is meant to sum to 1: what its own dtype may have rounded away. */
static bool sums_to_one(const xent_job *job, double total) {
    return fabs(total - 1.0) <= xent_dtype_eps(job->at[OPERAND_T].dtype) * (4.0 + sqrt((double)job->classes));
}

/* h(T) of kl_div = T KL(t/T, softmax x) + h(T). */
static double excess(const xent_job *job, double total) {
    return sums_to_one(job, total) || total == 0.0 ? 0.0 : total * log(total);
}

/* log p = (x - hi) - lo: where x is near the maximum m the first difference is exact. */
static void split_lse(const xent_job *job, double m, const xent_lse_result *f, double *hi, double *lo) {
    *hi = *lo = f->log1; /* an all -inf row: NaN */
    if (m - m == 0.0) {
        *hi = job->is_f32 ? (double)(float)f->lse : f->lse;
        *lo = (m - *hi) + f->log1;
    } else if (m == INFINITY) {
        *hi = m;
    }
}

/* The sum of the target, and what E(y) is multiplied by to give it where the target is in log space. */
static double target_total(const xent_job *job, reduce_kind kind, const row_state *s, const xent_lse_result *y,
                           double *factor) {
    const xent_ref plain = {0.0, 0.0};
    *factor = 0.0;
    if (!xent_target_is_log(job))
        return is_kl(kind) ? xent_sum_value(s->kl.w) : xent_sum_value(s->t);
    *factor = y->inv;
    if (job->op->target == XENT_TARGET_LOGITS)
        return 1.0;
    *factor = xent_ref_scale(xent_ref_of(s->y.m), plain); /* 2^k where c is 0, exactly */
    if (s->y.m == -INFINITY)
        return 0.0;
    return kind == REDUCE_KL ? *factor * ldexp(xent_sum_value(s->kl.w), -(int)XENT_KL_LIFT) : *factor / y->inv;
}

/* NaN or infinite where the centred sums left their range, too. */
static double kl_value(const xent_job *job, const row_state *s, double total) {
    const bool no_distribution = s->y.m == INFINITY || (s->y.m == -INFINITY && job->classes > 0);
    if (job->op->target == XENT_TARGET_LOGITS && no_distribution)
        return NAN;
    return xent_kl_finish(s->kl) * total + excess(job, total);
}

/* The same from REDUCE_PAIR: sum t (log t - log q), term by term. */
static double kl_value_direct(const xent_job *job, const row_state *s, const xent_lse_result *x,
                              const xent_lse_result *y, double total) {
    const double b = xent_sum_value(s->b);
    if (xent_target_is_log(job))
        return total * (b * y->inv - y->log1 + x->log1) + excess(job, total);
    return total * x->log1 + b - (sums_to_one(job, total) ? total * log(total) : 0.0);
}

static double ce_value(const row_state *s, const xent_lse_result *x) {
    const double t = xent_sum_value(s->t), b = xent_sum_value(s->b);
    if (s->x.m == -INFINITY) /* no class has any weight: 0 only if the target has none either */
        return b == 0.0 && t == 0.0 ? 0.0 * xent_sum_value(s->x.r) : NAN;
    return (t == 0.0 && x->log1 == x->log1 ? 0.0 : t * x->log1) + b;
}

static double row_value(const xent_job *job, reduce_kind kind, const row_state *s, const xent_lse_result *x,
                        const xent_lse_result *y, const row_options *o, double total, bool *direct) {
    double v;
    switch (job->op->value) {
    case VALUE_NONE:
        return 0.0;
    case VALUE_LSE:
        return job->classes == 0 ? -INFINITY : x->lse;
    case VALUE_ENT:
        return xent_sum_value(s->b);
    case VALUE_SENT:
        if (job->classes == 0)
            return 0.0;
        return s->x.m == INFINITY ? NAN : x->log1 + xent_sum_value(s->b) * x->inv;
    case VALUE_LABEL:
        return o->label < 0 ? 0.0 : x->log1 + (s->x.m - o->x_label);
    case VALUE_CE:
        return ce_value(s, x);
    case VALUE_KL:
        break;
    }
    v = kind == REDUCE_PAIR ? NAN : kl_value(job, s, total);
    if (v - v == 0.0)
        return v;
    /* Out of range, NaN, or truly infinite: the direct sum says which. */
    *direct = kind == REDUCE_KL;
    return *direct ? v : kl_value_direct(job, s, x, y, total);
}

static void row_factors(const xent_job *job, const row_state *s, const xent_lse_result *x, const row_options *o,
                        double total, row_result *r) {
    const double scale = o->weight * job->grad_scale / (o->temperature * job->divisor);
    const bool unit_target = job->op->target == XENT_TARGET_LOGITS;
    double seen;
    r->px_lo = r->poison = r->patch = 0.0;
    switch (job->op->emit) {
    case EMIT_GRAD:
        r->g = scale;
        r->px = scale * x->inv * total;
        r->py *= scale;
        if (job->op->target == XENT_TARGET_LABELS) {
            r->px = o->label < 0 ? 0.0 : scale * x->inv;
            if (o->x_label == INFINITY)
                r->patch = NAN;
            else if (o->x_label == s->x.m)
                r->patch = -scale * x->rest; /* 1 - p without its cancellation */
            else
                r->patch = scale * (xent_ref_exp(o->x_label, r->fx) * x->inv - 1.0);
        }
        break;
    case EMIT_CE_TERM:
    case EMIT_KL_TERM: /* a NaN in the row, or a target that is no distribution, shows in every term */
        seen = xent_sum_value(s->t) + xent_sum_value(s->x.r) + xent_sum_value(s->y.r);
        if (seen != seen || (unit_target && s->y.m == -INFINITY))
            r->poison = NAN;
        r->g = o->weight;
        r->px = 0.0;
        r->py *= o->weight;
        break;
    default:
        r->g = 0.0;
        r->px = job->is_f32 ? (double)(float)x->inv : x->inv;
        r->px_lo = (x->inv - r->px) + x->inv_lo;
        break;
    }
}

void xent_finish_row(const xent_job *job, reduce_kind kind, const row_state *s, const xent_lse_result *x,
                     const xent_lse_result *y, const row_options *o, row_result *r, bool *direct) {
    const double total = target_total(job, kind, s, y, &r->py);
    double v;
    *direct = false;
    v = row_value(job, kind, s, x, y, o, total, direct);
    r->dead = o->dead;
    r->label = o->label;
    r->value = o->dead && job->op->value != VALUE_LSE ? 0.0 : v * o->weight;
    if (job->op->emit == EMIT_NONE)
        return;
    r->fx = xent_ref_of(s->x.m);
    r->fy = xent_ref_of(s->y.m);
    split_lse(job, s->x.m, x, &r->lx_hi, &r->lx_lo);
    split_lse(job, s->y.m, y, &r->ly_hi, &r->ly_lo);
    if (job->op->target == XENT_TARGET_LOG_PROBS) /* taken as they are */
        r->ly_hi = r->ly_lo = 0.0;
    row_factors(job, s, x, o, total, r);
}
