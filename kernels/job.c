/* job.c: a request, checked whole before anything is written, becomes a job: batch dimensions coalesced, labels validated, the
 * walk chosen, the divisor of mean known. */
#include "job.h"
#include "storage.h"
#include "sum.h"
#include "threads.h"

/* Streaming stores, which read no line before it is written: for outputs that no cache keeps, and not for short rows, whose
 * ends fall within lines. Measured: 4 to 30 % of a long row's time on two threads; twice the time of rows of 100. */
#define STREAM_BYTES 16e6
#define STREAM_ROW 16e3
/* Stores to what lies in L2 do not wait: to ask for it first costs 15 % of a row of 1,000 floats. */
#define FETCH_BYTES 1e6

void xent_request_init(xent_request *req) {
    if (!req)
        return;
    memset(req, 0, sizeof *req);
    req->struct_size = sizeof *req;
    req->grad_scale = 1.0;
    req->beta = 0.5;
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

/* A stride that takes nobody anywhere may be any number, and an operand without elements any pointer: neither is used in an
 * address. */
static operand operand_of(const xent_view *v, const ptrdiff_t *rs, ptrdiff_t classes) {
    operand o = {.data = v->data, .cs = v->class_stride, .rs = rs, .dtype = v->dtype, .swapped = v->swapped};
    o.size = xent_dtype_size(v->dtype);
    if (classes <= 1)
        o.cs = o.size;
    return o;
}

/* Of no classes: there, if it should be, but all rows are in one place. */
static void make_empty(operand *o, bool wanted) {
    static const char nothing;
    o->data = wanted || o->data ? (char *)(uintptr_t)&nothing : NULL; /* never written */
    o->rs = NULL;
}

ptrdiff_t xent_count_where(const xent_job *job, ptrdiff_t off, bool any) {
    const operand *w = &job->at[OPERAND_WHERE];
    ptrdiff_t n = 0;
    for (ptrdiff_t j = 0; j < job->classes; j++) {
        n += w->data[off + j * w->cs] != 0;
        if (any && n)
            break;
    }
    return n;
}

/* Weights of classes that floats do not hold are halved or doubled as often as it takes for the largest to be about 1. */
static double scale_of_classes(const xent_job *job) {
    const operand *cw = &job->class_weight;
    double most = 0.0;
    int exponent;
    if (!cw->data || !job->is_f32 || job->op->target != XENT_TARGET_PROBS)
        return 1.0;
    for (ptrdiff_t c = 0; c < job->classes; c++)
        most = fmax(most, fabs(xent_load_scalar(cw->data + c * cw->cs, XENT_F64, cw->swapped)));
    if (most == 0.0 || most == INFINITY || (most > 0x1p-60 && most < 0x1p60))
        return 1.0;
    frexp(most, &exponent);
    return ldexp(1.0, exponent < 1000 ? exponent : 1000);
}

xent_status xent_make_job(const xent_request *req, xent_job *job) {
    const op_entry *op;
    xent_status status;
    if (!req || req->struct_size != sizeof *req) /* before more of it is read than there may be */
        return XENT_ERR_REQUEST;
    status = xent_check(req, XENT_ON_HOST);
    if (status != XENT_OK)
        return status;
    op = xent_op_at(req->op);
    job->op = op;
    job->op_number = req->op;
    job->options = xent_options(op);
    job->classes = req->classes;
    job->has_labels = xent_has_labels(op, req->target.dtype);
    for (int o = 0; o < OPERANDS; o++) {
        bool of_result = o == OPERAND_VALUE || o == OPERAND_OUT;
        const bool has_classes = o != OPERAND_VALUE && o != OPERAND_WEIGHT && o != OPERAND_TEMPERATURE &&
                                 !(o == OPERAND_T && job->has_labels);
        job->at[o] = operand_of(view_of(req, o), view_of(req, o)->strides, has_classes ? job->classes : 0);
        if (job->classes == 0 && has_classes)
            make_empty(&job->at[o], o != OPERAND_WHERE);
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
    job->class_weight = operand_of(&req->class_weight, NULL, job->classes);
    job->pos_weight = operand_of(&req->pos_weight, NULL, job->classes);
    job->label_smoothing = req->label_smoothing;
    job->grad_scale = req->grad_scale;
    xent_mix(req->beta, &job->mixture);
    job->ignore_index = req->ignore_index;
    job->has_ignore = req->has_ignore_index != 0;
    job->is_f32 = req->compute == XENT_F32;
    job->per_class = req->reduction == XENT_PER_CLASS;
    /* The walk depends on the class axis alone, so that a row's bits do not depend on its batch. */
    {
        const double row = (double)job->classes * job->at[OPERAND_OUT].size;
        bool contiguous = req->logits.class_stride == xent_dtype_size(req->logits.dtype);
        job->across = op->target != XENT_TARGET_POINT && (!contiguous || job->classes <= ACROSS_CLASSES);
        job->streams =
            op->emit != EMIT_NONE && (job->across || row >= STREAM_ROW) && (double)job->rows * row >= STREAM_BYTES;
        job->fetches = (double)job->rows * row >= FETCH_BYTES;
        job->few = job->across && job->classes > 0 && job->classes <= ACROSS_CLASSES &&
                   xent_reduce_of(op->reduce).few && !job->per_class && !job->at[OPERAND_WHERE].data;
    }
    {
        const ptrdiff_t last = job->classes > 0 ? job->classes - 1 : 0;
        job->piece = PIECE_CLASSES * (last / ((ptrdiff_t)PIECE_CLASSES * MAX_PIECES) + 1);
        job->pieces = last / job->piece + 1;
    }
    job->divisor = job->class_scale = 1.0;
    job->first_class = 0;
    job->shares_no_row = false;
    return XENT_OK;
}

/* ---- what is read before anything is written: labels, temperatures, and the weights that mean divides by ---- */
enum { READ_ROWS = 8192, MOST_READS = 64, SOME = 256 };

typedef struct reading {
    const xent_job *job;
    uint64_t labels; /* from here on they are out of range */
    bool weighs;     /* the rows' weights are wanted */
    bool by_label;   /* ... and have a class weight in them */
    ptrdiff_t rows;  /* of a unit */
    struct {         /* of each unit, so that neither its sums nor what it finds first depend on the threads */
        ptrdiff_t bad_row, bad_temperature; /* -1: none */
        int64_t bad_label;
        ptrdiff_t count; /* rows that count, where all weigh the same */
        xent_sum sum;
    } units[MOST_READS];
} reading;

static bool weighs_the_same(const reading *r) {
    return !r->by_label && !r->job->at[OPERAND_WEIGHT].data;
}

/* A row's temperature divides its logits: they are to have an order and a limit. */
static bool is_temperature(double t) {
    return t > 0.0 && t < INFINITY;
}

/* Whether all rows have one and the same element of an operand. */
static bool is_repeated(const xent_job *job, int which) {
    bool moves = false;
    for (int d = 0; d < job->ndim; d++)
        moves = moves || job->at[which].rs[d] != 0;
    return !moves;
}

static void read_unit(void *ctx, ptrdiff_t unit) {
    reading *r = ctx;
    const xent_job *job = r->job;
    const operand *t = &job->at[OPERAND_T], *where = &job->at[OPERAND_WHERE], *cw = &job->class_weight;
    const operand *sw = &job->at[OPERAND_WEIGHT], *temperature = &job->at[OPERAND_TEMPERATURE];
    const int inner = job->ndim - 1;
    const ptrdiff_t end = job->rows - unit * r->rows < r->rows ? job->rows : (unit + 1) * r->rows;
    const bool masks = r->weighs && where->data && job->classes > 0, same = weighs_the_same(r);
    const bool tempered = temperature->data && (unit == 0 || !is_repeated(job, OPERAND_TEMPERATURE));
    ptrdiff_t counted = 0, bad_temperature = -1;
    xent_sum sum = {0.0, 0.0};
    row_cursor cur;
    r->units[unit].bad_row = r->units[unit].bad_temperature = -1;
    cursor_seek(job, &cur, unit * r->rows);
    for (ptrdiff_t row = unit * r->rows, count; row < end; row += count, cursor_skip(job, &cur, count)) {
        const ptrdiff_t left = inner < 0 ? 1 : job->shape[inner] - cur.index[inner];
        int64_t y[SOME];
        bool ignored[SOME];
        count = left < SOME ? left : SOME;
        count = end - row < count ? end - row : count;
        for (ptrdiff_t i = 0; tempered && bad_temperature < 0 && i < count; i++)
            if (!is_temperature(xent_load_scalar(temperature->data + cur.off[OPERAND_TEMPERATURE] +
                                                     (inner < 0 ? 0 : i * temperature->rs[inner]),
                                                 XENT_F64, temperature->swapped)))
                bad_temperature = row + i;
        if (job->has_labels) {
            bool bad = false;
            xent_load_labels(t->data + cur.off[OPERAND_T], inner < 0 ? 0 : t->rs[inner], t, count, y);
            for (ptrdiff_t i = 0; i < count; i++) {
                ignored[i] = job->has_ignore && y[i] == job->ignore_index;
                bad |= !ignored[i] && (uint64_t)y[i] >= r->labels;
            }
            for (ptrdiff_t i = 0; bad; i++)
                if ((uint64_t)y[i] >= r->labels && !ignored[i]) {
                    r->units[unit].bad_row = row + i;
                    r->units[unit].bad_label = y[i];
                    return; /* whatever the temperatures are */
                }
        }
        if (!r->weighs)
            continue;
        if (!job->has_labels)
            memset(ignored, 0, sizeof ignored);
        for (ptrdiff_t i = 0; masks && i < count; i++)
            ignored[i] =
                ignored[i] ||
                xent_count_where(job, cur.off[OPERAND_WHERE] + (inner < 0 ? 0 : i * where->rs[inner]), true) == 0;
        if (same) {
            for (ptrdiff_t i = 0; i < count; i++)
                counted += !ignored[i];
            continue;
        }
        for (ptrdiff_t i = 0; i < count; i++) {
            double weight = 1.0;
            if (ignored[i])
                continue;
            if (sw->data)
                weight = xent_load_scalar(sw->data + cur.off[OPERAND_WEIGHT] + (inner < 0 ? 0 : i * sw->rs[inner]),
                                          XENT_F64, sw->swapped);
            if (r->by_label)
                weight *= xent_load_scalar(cw->data + (ptrdiff_t)y[i] * cw->cs, XENT_F64, cw->swapped);
            xent_sum_add(&sum, weight);
        }
    }
    r->units[unit].bad_temperature = bad_temperature;
    r->units[unit].count = counted;
    r->units[unit].sum = sum;
}

/* labels: how many there may be. divisor: where not NULL, the weights of the rows that count. */
static xent_status read_rows(const xent_job *job, xent_request *req, uint64_t labels, double *divisor) {
    reading r; /* whose units are more to clear than a small call has time for */
    const bool tempers = job->at[OPERAND_TEMPERATURE].data != NULL;
    double cost = (job->has_labels ? 4.0 : 0.0) + (tempers ? 4.0 : 0.0);
    ptrdiff_t units;
    r.job = job;
    r.labels = labels;
    r.rows = READ_ROWS;
    r.by_label = job->has_labels && job->class_weight.data;
    r.weighs = divisor && (!weighs_the_same(&r) || job->has_ignore || job->at[OPERAND_WHERE].data);
    if (divisor)
        *divisor = (double)job->rows;
    cost += !r.weighs ? 0.0 : weighs_the_same(&r) && !job->at[OPERAND_WHERE].data ? 4.0 : 16.0;
    if (job->rows == 0 || cost == 0.0)
        return XENT_OK;
    if (job->rows / MOST_READS >= r.rows)
        r.rows = job->rows / MOST_READS + 1;
    units = (job->rows - 1) / r.rows + 1;
    xent_parallel_for(units, xent_threads_for((double)job->rows * cost, req->threads), read_unit, &r);
    for (ptrdiff_t u = 0; u < units; u++)
        if (r.units[u].bad_row >= 0) {
            req->bad_row = r.units[u].bad_row;
            req->bad_label = r.units[u].bad_label;
            return XENT_ERR_LABEL;
        }
    for (ptrdiff_t u = 0; u < units; u++)
        if (r.units[u].bad_temperature >= 0) {
            req->bad_row = r.units[u].bad_temperature;
            return XENT_ERR_OPTION;
        }
    if (r.weighs) {
        xent_sum sum = {0.0, 0.0};
        ptrdiff_t count = 0;
        for (ptrdiff_t u = 0; u < units; u++) {
            count += r.units[u].count;
            xent_sum_merge(&sum, r.units[u].sum);
        }
        *divisor = weighs_the_same(&r) ? (double)count : xent_sum_value(sum);
    }
    return XENT_OK;
}

xent_status xent_read_job(xent_request *req, xent_job *job) {
    const bool mean = req->reduction == XENT_MEAN;
    const xent_status status = read_rows(job, req, (uint64_t)job->classes, mean ? &job->divisor : NULL);
    if (status != XENT_OK)
        return status;
    if (job->divisor == 0.0) /* no weight to take the mean over, whatever the sum is */
        job->divisor = NAN;
    job->class_scale = scale_of_classes(job);
    return XENT_OK;
}

xent_status xent_read_piece(xent_request *piece, xent_job *job) {
    job->class_scale = scale_of_classes(job);
    return read_rows(job, piece, (uint64_t)INT64_MAX + 1, NULL);
}
