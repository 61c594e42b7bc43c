/* rows.c: a row's state beyond rowstate.h: raising a reference, merging pieces, and the value that follows. Scalar, in
 * double, the same for every instruction set. */
#include "internal.h"

static bool target_is_log(const xent_job *job) {
    return job->op->target == XENT_TARGET_LOGITS || job->op->target == XENT_TARGET_LOG_PROBS;
}

bool xent_sums_x(reduce_kind kind) {
    return kind != REDUCE_NONE && kind != REDUCE_ENT && kind != REDUCE_KL;
}

bool xent_sums_y(const xent_job *job, reduce_kind kind) {
    return target_is_log(job) && (kind == REDUCE_PAIR || kind == REDUCE_KLPAIR);
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
    } else if (!target_is_log(job)) {
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

/* T KL(t/T, q) -> sum t log(t/q): adds T log T, unless T is 1 but for rounding. */
static double unnormalised(const xent_job *job, double total) {
    const operand *t = &job->at[OPERAND_T];
    double tau = xent_dtype_eps(t->dtype) * (4.0 + sqrt((double)job->classes));
    return fabs(total - 1.0) <= tau || total == 0.0 ? 0.0 : total * log(total);
}

void xent_finish_row(const xent_job *job, reduce_kind kind, const row_state *s, const xent_lse_result *px,
                     const xent_lse_result *py, const row_options *o, row_result *r, bool *direct) {
    const bool log_target = target_is_log(job), unit_target = job->op->target == XENT_TARGET_LOGITS;
    const xent_ref fx = xent_ref_of(s->x.m), fy = xent_ref_of(s->y.m);
    const xent_lse_result x = *px, y = *py;
    const bool pair = kind == REDUCE_PAIR || kind == REDUCE_KLPAIR;
    const double scale = o->weight * job->grad_scale / (o->temperature * job->divisor); /* of a gradient */
    const double t = xent_sum_value(s->t), b = xent_sum_value(s->b);
    const double w = is_kl(kind) ? xent_sum_value(s->kl.w) : 0.0;
    double total = t, v = 0.0; /* total: sum of the target */

    *direct = false;
    r->dead = o->dead;
    r->label = o->label;
    /* log p = (x - hi) - lo: where x is near the maximum the first difference is exact */
    r->lx_hi = r->lx_lo = x.log1;
    if (s->x.m - s->x.m == 0.0) {
        r->lx_hi = job->is_f32 ? (double)(float)x.lse : x.lse;
        r->lx_lo = (s->x.m - r->lx_hi) + x.log1;
    } else if (s->x.m == INFINITY) {
        r->lx_hi = INFINITY;
        r->lx_lo = x.log1;
    }
    r->fx = fx;
    r->ly_hi = r->ly_lo = y.log1;
    if (s->y.m - s->y.m == 0.0) {
        r->ly_hi = job->is_f32 ? (double)(float)y.lse : y.lse;
        r->ly_lo = (s->y.m - r->ly_hi) + y.log1;
    }
    r->fy = fy;
    r->py = 0.0;
    r->patch = r->px_lo = r->poison = 0.0;

    if (log_target) { /* what E(y) is multiplied by to give the target */
        const xent_ref plain = {0.0, 0.0};
        double one = xent_ref_scale(fy, plain); /* 2^k where c is 0, exactly */
        total = 1.0;
        r->py = y.inv;
        if (!unit_target) {
            total = s->y.m == -INFINITY ? 0.0 : (pair ? one / y.inv : one * ldexp(w, -(int)XENT_KL_LIFT));
            r->py = one;
            r->ly_hi = r->ly_lo = 0.0;
        }
    }

    switch (job->op->value) {
    case VALUE_NONE:
        break;
    case VALUE_LSE:
        v = job->classes == 0 ? -INFINITY : x.lse;
        break;
    case VALUE_ENT:
        v = b;
        break;
    case VALUE_SENT:
        v = job->classes == 0 ? 0.0 : x.log1 + b * x.inv;
        if (s->x.m == INFINITY)
            v = NAN;
        break;
    case VALUE_LABEL:
        v = o->label < 0 ? 0.0 : x.log1 + (s->x.m - o->x_label); /* an all -inf row: log1 is NaN */
        break;
    case VALUE_CE:
        if (s->x.m == -INFINITY) /* no class has any weight: 0 only if the target has none either */
            v = b == 0.0 && t == 0.0 ? 0.0 * xent_sum_value(s->x.r) : NAN;
        else
            v = (t == 0.0 && x.log1 == x.log1 ? 0.0 : t * x.log1) + b;
        break;
    case VALUE_KL:
        v = NAN;
        if (kind != REDUCE_PAIR) {
            v = xent_kl_finish(s->kl) * (log_target ? total : w) + unnormalised(job, log_target ? total : w);
            if (unit_target && (s->y.m == INFINITY || (s->y.m == -INFINITY && job->classes > 0)))
                v = NAN; /* no such distribution */
        }
        if (v - v != 0.0) { /* out of range, NaN, or truly infinite: the direct sum says which */
            *direct = !pair;
            if (pair && log_target)
                v = total * (b * y.inv - y.log1 + x.log1) + unnormalised(job, total);
            else if (pair)
                v = total * x.log1 + b +
                    (fabs(total - 1.0) <= xent_dtype_eps(job->at[OPERAND_T].dtype) * (4.0 + sqrt((double)job->classes))
                         ? -total * log(total)
                         : 0.0);
        }
        break;
    }
    r->value = o->dead && job->op->value != VALUE_LSE ? 0.0 : v * o->weight;

    switch (job->op->emit) {
    case EMIT_GRAD:
        r->g = scale;
        r->px = scale * x.inv * total;
        r->py *= scale;
        if (job->op->target == XENT_TARGET_LABELS) {
            r->px = o->label < 0 ? 0.0 : scale * x.inv;
            if (o->x_label == INFINITY)
                r->patch = NAN;
            else if (o->x_label == s->x.m)
                r->patch = -scale * x.rest; /* 1 - p without its cancellation */
            else
                r->patch = scale * (xent_ref_exp(o->x_label, fx) * x.inv - 1.0);
        }
        break;
    case EMIT_CE_TERM:
    case EMIT_KL_TERM: /* a NaN in the row, or a target that is no distribution, shows in every term */
        r->poison = 0.0 * (t + xent_sum_value(s->x.r) + xent_sum_value(s->y.r));
        r->poison = r->poison != r->poison || (unit_target && s->y.m == -INFINITY) ? NAN : 0.0;
        r->g = o->weight;
        r->px = 0.0;
        r->py *= o->weight;
        break;
    default:
        r->g = 0.0;
        r->px = job->is_f32 ? (double)(float)x.inv : x.inv;
        r->px_lo = (x.inv - r->px) + x.inv_lo;
        break;
    }
}
