/* js_again.h: what Jensen-Shannon rows are folded into once log sum exp of both operands is known (js.h): the sums of their
 * terms; and of rows that are near, first, what the difference of the two log sum exp follows from. */
#ifndef XENT_JS_AGAIN_H
#define XENT_JS_AGAIN_H

#include "../group.h"

/* Folds the group's rows. */
typedef void (*xent_fold)(void *ctx, reduce_kind, group_state *);

static void js_sum_up(const xent_job *job, const row_group *g, xent_fold fold, void *ctx, group_state *s,
                      group_result *r) {
    const double most = job->mixture.most;
    fold(ctx, REDUCE_JS_SUM, s);
    for (int l = 0; l < g->rows; l++) {
        double v = s->b.s[l] + s->b.e[l];
        v = v > most ? most : v; /* rounding alone gets there */
        r->value[l] = g->any_dead && g->dead[l] ? 0.0 : xent_weigh(v, g->weight[l]);
        r->gain[l] = s->t.s[l] + s->t.e[l];
    }
}

/* In rows that are near to each other log p - log q is small beside what the two log sum exp round. There their difference comes
 * from those of the logits: with S = sum (P - Q) / 2 and C = sum (P + Q) / 2 it is log((C + S) / (C - S)) = 2 atanh(S / C).
 * g->first is r. Not inlined: the stack that this needs would be its caller's on every way. */
__attribute__((noinline)) static void js_fold_again(const xent_job *job, const row_group *g, xent_fold fold, void *ctx,
                                                    group_state *s, group_result *r) {
    const double near = 64.0 * (job->is_f32 ? 0x1p-23 : 0x1p-52), apart = 0.5;
    /* Rows whose divergence is below `near` differ by at most this in their largest class, which has a share of 1 / classes
     * or more, and so does the gap. Of very many classes that says nothing; 0.1 then leaves out most rows that are not near. */
    const double most = fmin(sqrt(8.0 * near * (double)job->classes), 0.1);
    /* A divergence is about beta (1 - beta) / 2 sum m d^2. */
    const double small = near * 4.0 * job->mixture.beta * job->mixture.rest;
    bool candidates = false, again = false, redo[MAX_GROUP_ROWS]; /* a row's own numbers decide, not its neighbours' */
    for (int l = 0; l < g->rows; l++)
        candidates = candidates || fabs(r->x_lo[l]) <= most;
    if (!candidates && job->op->value == VALUE_NONE) /* terms, of rows that are not near */
        return;
    js_sum_up(job, g, fold, ctx, s, r);
    for (int l = 0; l < g->rows; l++) {
        redo[l] = fabs(r->x_lo[l]) <= most && s->b.s[l] < small;
        again = again || redo[l];
    }
    if (!again)
        return;
    fold(ctx, REDUCE_JS_GAP, s);
    for (int l = 0; l < g->rows; l++) {
        const double ratio = (s->b.s[l] + s->b.e[l]) / cosh(0.5 * r->x_lo[l]);
        if (!redo[l] || !(fabs(ratio) < apart))
            continue;
        const double gap = 2.0 * atanh(ratio);
        r->x_lo[l] = job->is_f32 ? (double)(float)gap : gap;
        r->y_lo[l] = gap - r->x_lo[l];
    }
    js_sum_up(job, g, fold, ctx, s, r);
}

#endif
