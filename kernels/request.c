/* request.c: a request, checked whole before anything is written, becomes a job: batch dimensions coalesced, labels
 * validated, the walk chosen, the divisor of mean known. */
#include "internal.h"
#include "plan.h"

/* Streaming stores, which read no line before it is written: for outputs that no cache keeps, and not for short rows, whose
 * ends fall within lines. Measured: 4 to 30 % of a long row's time on two threads; twice the time of rows of 100. */
#define STREAM_BYTES 16e6
#define STREAM_ROW 16e3
#define MOST_ELEMENTS ((ptrdiff_t)(PTRDIFF_MAX / sizeof(xent_sum) / 2))

static bool is_float(int dtype) {
    return dtype >= XENT_F16 && dtype <= XENT_F64;
}

static bool is_label(int dtype) {
    return dtype >= XENT_I8 && dtype <= XENT_U64;
}

static const xent_view *view_of(const xent_request *req, int which) {
    switch (which) {
    case OPERAND_X:
        return &req->logits;
    case OPERAND_T:
        return &req->target;
    case OPERAND_VALUE:
        return &req->value;
    case OPERAND_OUT:
        return &req->out;
    case OPERAND_WHERE:
        return &req->where;
    case OPERAND_WEIGHT:
        return &req->sample_weight;
    default:
        return &req->temperature;
    }
}

static xent_status check(const xent_request *req, const op_entry *op) {
    const bool pointwise = op->target == XENT_TARGET_POINT, labels = op->target == XENT_TARGET_LABELS;
    const bool soft = op->target == XENT_TARGET_PROBS;
    const bool has_labels = labels || (soft && op->reduce != REDUCE_BCE && is_label(req->target.dtype));
    const bool cross_entropy = op->reduce == REDUCE_CE || op->value == VALUE_LABEL, bce = op->reduce == REDUCE_BCE;
    const bool weighs_classes = cross_entropy || bce || op->reduce == REDUCE_LABEL;
    const bool loss = weighs_classes || op->reduce >= REDUCE_KL; /* of a prediction and a target */
    const bool has_value = op->value != VALUE_NONE, has_emit = op->emit != EMIT_NONE;
    ptrdiff_t rows = 1, least;

    if (req->compute != XENT_F32 && req->compute != XENT_F64)
        return XENT_ERR_DTYPE;
    if (req->ndim < 0 || req->ndim > XENT_MAX_NDIM || req->classes < 0 || (req->ndim > 0 && !req->shape))
        return XENT_ERR_SHAPE;
    for (int d = 0; d < req->ndim; d++) {
        if (req->shape[d] < 0 || (req->shape[d] > 0 && rows > PTRDIFF_MAX / req->shape[d]))
            return XENT_ERR_SHAPE;
        rows *= req->shape[d];
    }
    /* Strides of zero make batches of any size. No product is too large that follows from this one: of elements, units of
     * rows, their sums, and those of classes. */
    least = rows > 0 ? rows : 1;
    if (least > MOST_ELEMENTS || req->classes > MOST_ELEMENTS / least)
        return XENT_ERR_SHAPE;
    if (!is_float(req->logits.dtype))
        return XENT_ERR_DTYPE;
    if (op->target != XENT_TARGET_NONE &&
        !(labels ? is_label(req->target.dtype) : is_float(req->target.dtype) || has_labels))
        return XENT_ERR_DTYPE;
    if ((has_value && req->reduction != XENT_PER_CLASS && !is_float(req->value.dtype)) ||
        (has_emit && !is_float(req->out.dtype)))
        return XENT_ERR_DTYPE;
    if ((req->where.data && req->where.dtype != XENT_BOOL) ||
        (req->class_weight.data && req->class_weight.dtype != XENT_F64) ||
        (req->pos_weight.data && req->pos_weight.dtype != XENT_F64) ||
        (req->sample_weight.data && req->sample_weight.dtype != XENT_F64) ||
        (req->temperature.data && req->temperature.dtype != XENT_F64))
        return XENT_ERR_DTYPE;

    switch (req->reduction) {
    case XENT_NONE:
        break;
    case XENT_SUM:
    case XENT_MEAN:
        if (!has_value)
            return XENT_ERR_REDUCTION;
        break;
    case XENT_PER_CLASS:
        if (!loss || has_value)
            return XENT_ERR_REDUCTION;
        break;
    default:
        return XENT_ERR_REDUCTION;
    }

    if (!(req->label_smoothing >= 0.0 && req->label_smoothing <= 1.0))
        return XENT_ERR_OPTION;
    if ((req->label_smoothing != 0.0 && !(cross_entropy && soft)) || (req->class_weight.data && !weighs_classes) ||
        (req->pos_weight.data && !bce) || (req->has_ignore_index && !has_labels) ||
        (req->sample_weight.data && !loss) || (op->reduce == REDUCE_LABEL && req->temperature.data) ||
        (pointwise && (req->where.data || req->temperature.data)) ||
        (op->reduce == REDUCE_ENT && req->temperature.data) || req->threads < 0)
        return XENT_ERR_OPTION;

    /* A scalar result is written even of an empty batch; nothing else is touched then. */
    if (has_value && !req->value.data && (rows > 0 || req->reduction != XENT_NONE))
        return XENT_ERR_NULL;
    if (rows > 0 && req->classes > 0 && (!req->logits.data || (has_emit && !req->out.data)))
        return XENT_ERR_NULL;
    if (rows > 0 && op->target != XENT_TARGET_NONE && !req->target.data && (has_labels || req->classes > 0))
        return XENT_ERR_NULL;
    if (req->reduction == XENT_PER_CLASS && req->classes > 0 && !req->out.data)
        return XENT_ERR_NULL;
    for (int o = 0; o < OPERANDS; o++)
        if (req->ndim > 0 && view_of(req, o)->data && !view_of(req, o)->strides &&
            !(o == OPERAND_VALUE && req->reduction != XENT_NONE) &&
            !(o == OPERAND_OUT && req->reduction == XENT_PER_CLASS))
            return XENT_ERR_NULL;
    return XENT_OK;
}

/* Neighbouring batch dimensions that every operand steps through evenly become one. */
static void set_batch(xent_job *job, const xent_request *req) {
    job->rows = 1;
    for (int d = 0; d < req->ndim; d++)
        job->rows *= req->shape[d];
    job->ndim = 0;
    for (int d = 0; job->rows > 0 && d < req->ndim; d++) {
        bool join = job->ndim > 0;
        int last = job->ndim - 1;
        if (req->shape[d] == 1)
            continue;
        for (int o = 0; join && o < OPERANDS; o++)
            if (job->at[o].data && job->at[o].rs) {
                join = job->strides[o][last] == view_of(req, o)->strides[d] * req->shape[d];
            }
        if (join) {
            job->shape[last] *= req->shape[d];
        } else {
            last = job->ndim++;
            job->shape[last] = req->shape[d];
        }
        for (int o = 0; o < OPERANDS; o++)
            job->strides[o][last] = job->at[o].data && job->at[o].rs ? view_of(req, o)->strides[d] : 0;
    }
    for (int o = 0; o < OPERANDS; o++)
        job->at[o].rs = job->strides[o];
}

static operand operand_of(const xent_view *v, const ptrdiff_t *rs) {
    operand o = {.data = v->data, .cs = v->class_stride, .rs = rs, .dtype = v->dtype, .swapped = v->swapped};
    o.size = xent_dtype_size(v->dtype);
    return o;
}

/* Labels at p and following; those types that labels mostly have are not asked for their type each time. */
static void load_labels(const char *p, ptrdiff_t step, const operand *t, ptrdiff_t count, int64_t *y) {
    if (t->dtype == XENT_I64 && !t->swapped)
        for (ptrdiff_t i = 0; i < count; i++)
            memcpy(&y[i], p + i * step, sizeof y[i]);
    else if (t->dtype == XENT_I32 && !t->swapped)
        for (ptrdiff_t i = 0; i < count; i++) {
            int32_t v;
            memcpy(&v, p + i * step, sizeof v);
            y[i] = v;
        }
    else
        for (ptrdiff_t i = 0; i < count; i++)
            y[i] = xent_load_label(p + i * step, t->dtype, t->swapped);
}

/* The first label out of range, if any. */
static bool check_labels(const xent_job *job, xent_request *req) {
    enum { SOME = 256 };
    const operand *t = &job->at[OPERAND_T];
    const ptrdiff_t inner = job->ndim > 0 ? job->shape[job->ndim - 1] : 1,
                    step = job->ndim > 0 ? t->rs[job->ndim - 1] : 0;
    const uint64_t classes = (uint64_t)job->classes;
    int64_t y[SOME];
    row_cursor cur;
    cursor_seek(job, &cur, 0);
    for (ptrdiff_t row = 0, count; row < job->rows; row += count, cursor_skip(job, &cur, count)) {
        ptrdiff_t left = inner - row % inner;
        bool bad = false;
        count = left < SOME ? left : SOME;
        load_labels(t->data + cur.off[OPERAND_T], step, t, count, y);
        for (ptrdiff_t i = 0; i < count; i++)
            bad |= (uint64_t)y[i] >= classes;
        for (ptrdiff_t i = 0; bad && i < count; i++)
            if ((uint64_t)y[i] >= classes && !(job->has_ignore && y[i] == job->ignore_index)) {
                req->bad_row = row + i;
                req->bad_label = y[i];
                return false;
            }
    }
    return true;
}

static ptrdiff_t count_where(const xent_job *job, ptrdiff_t off, bool any) {
    const operand *w = &job->at[OPERAND_WHERE];
    ptrdiff_t n = 0;
    for (ptrdiff_t j = 0; j < job->classes; j++) {
        n += w->data[off + j * w->cs] != 0;
        if (any && n)
            break;
    }
    return n;
}

/* ---- groups of rows ---- */
void xent_start_group(const xent_job *job, int rows, row_group *g) {
    const double uniform = job->classes > 0 ? job->label_smoothing / (double)job->classes : 0.0;
    for (int l = 0; l < rows; l++) {
        g->label[l] = -1;
        g->dead[l] = false;
        g->known[l] = g->x_label[l] = 0.0;
        g->temperature[l] = g->weight[l] = 1.0;
        g->uniform[l] = uniform;
    }
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
        g->weight[l] = xent_load_scalar(sw->data + g->off[OPERAND_WEIGHT][l], XENT_F64, sw->swapped);
    for (int l = 0; temperature->data && l < g->rows; l++)
        g->temperature[l] =
            xent_load_scalar(temperature->data + g->off[OPERAND_TEMPERATURE][l], XENT_F64, temperature->swapped);
    for (int l = 0; job->has_labels && l < g->rows; l++) {
        int64_t y;
        load_labels(t->data + off[l], 0, t, 1, &y);
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
        const ptrdiff_t n = count_where(job, g->off[OPERAND_WHERE][l], !count);
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

/* Mean divides by the weights of the rows that count. */
static double weights_that_count(const xent_job *job) {
    const operand *t = &job->at[OPERAND_T], *cw = &job->class_weight;
    const bool by_label = job->has_labels && cw->data;
    xent_sum sum = {0.0, 0.0};
    row_cursor cur;
    row_group g;
    if (!by_label && !job->at[OPERAND_WEIGHT].data && !job->has_ignore && !job->at[OPERAND_WHERE].data)
        return (double)job->rows;
    cursor_seek(job, &cur, 0);
    xent_start_group(job, 1, &g);
    for (ptrdiff_t row = 0; row < job->rows; row++) {
        xent_open_group(job, &cur, 1, &g);
        double weight = g.weight[0];
        if (g.dead[0])
            continue;
        if (by_label && job->op->target != XENT_TARGET_LABELS)
            weight *= xent_load_scalar(
                cw->data + (ptrdiff_t)xent_load_label(t->data + g.off[OPERAND_T][0], t->dtype, t->swapped) * cw->cs,
                XENT_F64, cw->swapped);
        xent_sum_add(&sum, weight);
    }
    return xent_sum_value(sum);
}

xent_status xent_make_job(const xent_request *req, xent_job *job) {
    const op_entry *op;
    xent_status status;
    if (!req || req->struct_size != sizeof *req) /* before more of it is read than there may be */
        return XENT_ERR_REQUEST;
    op = xent_op_at(req->op);
    if (!op)
        return XENT_ERR_OP;
    status = check(req, op);
    if (status != XENT_OK)
        return status;
    job->op = op;
    job->classes = req->classes;
    for (int o = 0; o < OPERANDS; o++) {
        bool of_result = o == OPERAND_VALUE || o == OPERAND_OUT;
        job->at[o] = operand_of(view_of(req, o), view_of(req, o)->strides);
        if ((o == OPERAND_VALUE && (req->reduction != XENT_NONE || op->value == VALUE_NONE)) ||
            (o == OPERAND_OUT && (req->reduction == XENT_PER_CLASS || op->emit == EMIT_NONE)) ||
            (o == OPERAND_T && op->target == XENT_TARGET_NONE) || (of_result && !job->at[o].data)) {
            job->at[o].data = NULL; /* not a per-row operand of this job */
            job->at[o].rs = NULL;
        }
    }
    job->n_used = 0;
    for (int o = 0; o < OPERANDS; o++)
        if (job->at[o].data)
            job->used[job->n_used++] = o;
    set_batch(job, req);
    job->class_weight = operand_of(&req->class_weight, NULL);
    job->pos_weight = operand_of(&req->pos_weight, NULL);
    job->label_smoothing = req->label_smoothing;
    job->grad_scale = req->grad_scale;
    job->ignore_index = req->ignore_index;
    job->has_ignore = req->has_ignore_index != 0;
    job->has_labels =
        op->target == XENT_TARGET_LABELS || (op->target == XENT_TARGET_PROBS && is_label(req->target.dtype));
    job->is_f32 = req->compute == XENT_F32;
    job->per_class = req->reduction == XENT_PER_CLASS;
    /* The walk depends on the class axis alone, so that a row's bits do not depend on its batch. */
    {
        const double row = (double)job->classes * job->at[OPERAND_OUT].size;
        bool contiguous = req->logits.class_stride == xent_dtype_size(req->logits.dtype);
        job->across = op->target != XENT_TARGET_POINT && (!contiguous || job->classes <= ACROSS_CLASSES);
        job->streams =
            op->emit != EMIT_NONE && (job->across || row >= STREAM_ROW) && (double)job->rows * row >= STREAM_BYTES;
        job->few = job->across && job->classes > 0 && job->classes <= ACROSS_CLASSES &&
                   XENT_HAS_FEW(op->reduce, op->value, op->emit) && !job->per_class && !job->at[OPERAND_WHERE].data;
    }
    {
        const ptrdiff_t last = job->classes > 0 ? job->classes - 1 : 0;
        job->piece = PIECE_CLASSES * (last / ((ptrdiff_t)PIECE_CLASSES * MAX_PIECES) + 1);
        job->pieces = last / job->piece + 1;
    }
    job->divisor = 1.0;
    job->first_class = 0;
    job->into_states = job->shares_no_row = false;
    return XENT_OK;
}

xent_status xent_read_job(xent_request *req, xent_job *job) {
    if (job->has_labels && !check_labels(job, req))
        return XENT_ERR_LABEL;
    if (req->reduction == XENT_MEAN) {
        job->divisor = weights_that_count(job);
        /* A sum over no weight has no mean, whatever the sum is: over 0 it would be infinite or NaN. */
        if (job->divisor == 0.0)
            job->divisor = NAN;
    }
    return XENT_OK;
}
