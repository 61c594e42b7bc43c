/* group.c: rows of a job, and what the options make of them: weights, labels, masks, temperatures. */
#include <math.h>

#include "group.h"
#include "storage.h"

/* row_group's scale and after. */
static void scale_rows(const xent_job *job, row_group *g) {
    const int order = xent_emit_of(job->op->emit).order;
    const bool tempered = job->at[OPERAND_TEMPERATURE].data != NULL;
    g->any_after = false;
    for (int l = 0; l < g->rows; l++) {
        double s = g->weight[l], size;
        if (order > 0)
            s = s / job->divisor * job->grad_scale;
        for (int n = 0; n < order && tempered; n++)
            s /= g->temperature[l];
        size = fabs(s);
        const bool after = job->is_f32 && size < INFINITY && (size > 0x1p60 || size < 0x1p-60) && size != 0.0;
        g->scale[l] = after ? 1.0 : s;
        g->after[l] = after ? s : 1.0;
        g->any_after = g->any_after || after;
    }
}

void xent_start_group(const xent_job *job, int rows, row_group *g) {
    const double uniform = job->classes > 0 ? job->label_smoothing / (double)job->classes : 0.0;
    g->rows = rows;
    for (int l = 0; l < rows; l++) {
        g->label[l] = -1;
        g->dead[l] = false;
        g->known[l] = g->x_label[l] = 0.0;
        g->temperature[l] = 1.0;
        g->weight[l] = job->class_scale;
        g->uniform[l] = uniform;
    }
    scale_rows(job, g);
}

/* The logits at the labels, as the tiles hold them. */
static void label_logits(const xent_job *job, row_group *g) {
    const operand *x = &job->at[OPERAND_X];
    const bool tempered = job->at[OPERAND_TEMPERATURE].data != NULL;
    const bool plain = !x->swapped && x->dtype == (job->is_f32 ? XENT_F32 : XENT_F64);
    for (int l = 0; l < g->rows; l++) {
        const bool known = g->label[l] >= 0;
        const char *p = x->data + g->off[OPERAND_X][l] + (known ? g->label[l] * x->cs : 0);
        double v = 0.0;
        if (plain && job->is_f32) {
            float f;
            memcpy(&f, p, sizeof f);
            v = (double)f;
        } else if (plain) {
            memcpy(&v, p, sizeof v);
        } else {
            v = xent_load_scalar(p, x->dtype, x->swapped);
            v = job->is_f32 ? (double)(float)v : v;
        }
        if (tempered) {
            v /= g->temperature[l];
            v = job->is_f32 ? (double)(float)v : v;
        }
        g->x_label[l] = known ? v : 0.0;
    }
}

/* What the options make of the rows. */
static void open_rows(const xent_job *job, row_group *g) {
    const operand *t = &job->at[OPERAND_T], *where = &job->at[OPERAND_WHERE], *sw = &job->at[OPERAND_WEIGHT];
    const operand *temperature = &job->at[OPERAND_TEMPERATURE], *cw = &job->class_weight;
    const ptrdiff_t *off = g->off[OPERAND_T];
    for (int l = 0; l < g->rows; l++)
        g->dead[l] = false;
    for (int l = 0; sw->data && l < g->rows; l++)
        g->weight[l] = xent_load_scalar(sw->data + g->off[OPERAND_WEIGHT][l], XENT_F64, sw->swapped) * job->class_scale;
    for (int l = 0; temperature->data && l < g->rows; l++)
        g->temperature[l] =
            xent_load_scalar(temperature->data + g->off[OPERAND_TEMPERATURE][l], XENT_F64, temperature->swapped);
    for (int l = 0; job->has_labels && l < g->rows; l++) {
        int64_t y;
        xent_load_labels(t->data + off[l], 0, t, 1, &y);
        g->dead[l] = job->has_ignore && y == job->ignore_index;
        y = g->dead[l] ? -1 : y - job->first_class;
        g->label[l] = y >= 0 && y < job->classes ? (ptrdiff_t)y : -1; /* or in another piece of the row */
    }
    if (job->has_labels && cw->data && job->op->target == XENT_TARGET_LABELS)
        for (int l = 0; l < g->rows; l++) {
            double w = sw->data ? g->weight[l] : 1.0;
            g->weight[l] =
                g->label[l] < 0 ? w : w * xent_load_scalar(cw->data + g->label[l] * cw->cs, XENT_F64, cw->swapped);
        }
    for (int l = 0; where->data && job->classes > 0 && l < g->rows; l++) {
        const char *p = where->data + g->off[OPERAND_WHERE][l];
        const bool count = job->label_smoothing > 0.0;
        const ptrdiff_t n = xent_count_where(job, g->off[OPERAND_WHERE][l], !count);
        if (g->label[l] >= 0 && !p[g->label[l] * where->cs])
            g->label[l] = -1;
        g->dead[l] = g->dead[l] || n == 0;
        g->uniform[l] = count && n > 0 ? job->label_smoothing / (double)n : 0.0;
    }
    for (int l = 0; l < g->rows; l++) {
        g->label[l] = g->dead[l] ? -1 : g->label[l];
        g->any_dead = g->any_dead || g->dead[l];
        g->known[l] = g->label[l] >= 0 ? 1.0 : 0.0;
    }
    if (job->op->target == XENT_TARGET_LABELS && job->classes > 0)
        label_logits(job, g);
    if (job->op->emit != EMIT_NONE && (sw->data || cw->data || temperature->data))
        scale_rows(job, g);
}

void xent_open_group(const xent_job *job, row_cursor *cur, int rows, row_group *g) {
    const bool even = job->ndim == 0 || cur->index[job->ndim - 1] + rows <= job->shape[job->ndim - 1];
    const bool optional = job->has_labels || job->at[OPERAND_WHERE].data || job->at[OPERAND_WEIGHT].data ||
                          job->at[OPERAND_TEMPERATURE].data;
    g->rows = rows;
    g->any_dead = false;
    for (int u = 0; u < job->n_used; u++) {
        const int o = job->used[u];
        const ptrdiff_t step = job->ndim > 0 ? job->at[o].rs[job->ndim - 1] : 0;
        g->adjacent[o] = even && step == job->at[o].size;
        for (int l = 0; even && l < rows; l++)
            g->off[o][l] = cur->off[o] + l * step;
    }
    if (even)
        cursor_skip(job, cur, rows);
    else
        for (int l = 0; l < rows; l++, cursor_skip(job, cur, 1))
            for (int u = 0; u < job->n_used; u++)
                g->off[job->used[u]][l] = cur->off[job->used[u]];
    if (optional)
        open_rows(job, g);
}
