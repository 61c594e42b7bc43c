/* check.c: whether an operation can do what a request asks for; and what each status means. */
#include <stdint.h>

#include "check.h"

/* Strides of zero make batches of any size. No product is too large that follows from this one: of elements, units of rows,
 * their sums (two doubles each), and those of classes. */
#define MOST_ELEMENTS ((ptrdiff_t)(PTRDIFF_MAX / (2 * sizeof(double)) / 2))

/* A view, and what it may be. */
typedef struct checked_view {
    const xent_view *view;
    int option;                /* that it is; 0: an operand */
    bool per_row, has_classes; /* its strides are used */
    bool is_weight;            /* float64, or float32 too on a device */
} checked_view;

static bool is_weight(int dtype, xent_where_run where) {
    return dtype == XENT_F64 || (where == XENT_ON_DEVICE && dtype == XENT_F32);
}

/* Whether every element that is used lies at a multiple of its size, as devices want it. */
static bool is_aligned(const xent_request *req, const checked_view *v) {
    const ptrdiff_t size = xent_dtype_size(v->view->dtype);
    if (size == 0)
        return true;
    if ((uintptr_t)v->view->data % (uintptr_t)size ||
        (v->has_classes && req->classes > 1 && v->view->class_stride % size))
        return false;
    for (int d = 0; v->per_row && d < req->ndim; d++)
        if (req->shape[d] > 1 && v->view->strides[d] % size)
            return false;
    return true;
}

xent_status xent_check(const xent_request *req, xent_where_run where) {
    const op_entry *op = xent_op_at(req->op);
    ptrdiff_t rows = 1;
    if (!op)
        return XENT_ERR_OP;
    const int options = xent_options(op);
    const bool has_target = op->target != XENT_TARGET_NONE, has_labels = xent_has_labels(op, req->target.dtype);
    const bool has_value = op->value != VALUE_NONE, has_emit = op->emit != EMIT_NONE;
    const bool sums = req->reduction == XENT_SUM || req->reduction == XENT_MEAN;
    const bool per_class = req->reduction == XENT_PER_CLASS;
    const checked_view views[] = {
        {&req->logits, 0, true, true, false},
        {&req->target, 0, has_target, !has_labels, false},
        {&req->value, 0, req->reduction == XENT_NONE, false, false},
        {&req->out, 0, !per_class, true, false},
        {&req->where, OPTION_WHERE, true, true, false},
        {&req->class_weight, OPTION_CLASS_WEIGHT, false, true, true},
        {&req->pos_weight, OPTION_POS_WEIGHT, false, true, true},
        {&req->sample_weight, OPTION_SAMPLE_WEIGHT, true, false, true},
        {&req->temperature, OPTION_TEMPERATURE, true, false, true},
    };
    enum { VIEWS = sizeof views / sizeof views[0] };

    if (req->compute != XENT_F32 && req->compute != XENT_F64)
        return XENT_ERR_DTYPE;
    if (req->ndim < 0 || req->ndim > XENT_MAX_NDIM || req->classes < 0 || (req->ndim > 0 && !req->shape))
        return XENT_ERR_SHAPE;
    for (int d = 0; d < req->ndim; d++) {
        if (req->shape[d] < 0 || (req->shape[d] > 0 && rows > PTRDIFF_MAX / req->shape[d]))
            return XENT_ERR_SHAPE;
        rows *= req->shape[d];
    }
    if (rows > MOST_ELEMENTS || req->classes > MOST_ELEMENTS / (rows > 0 ? rows : 1))
        return XENT_ERR_SHAPE;

    if (!xent_is_float(req->logits.dtype))
        return XENT_ERR_DTYPE;
    if (has_target && !(has_labels ? xent_is_integer(req->target.dtype) : xent_is_float(req->target.dtype)))
        return XENT_ERR_DTYPE;
    if ((has_value && !per_class && !xent_is_float(req->value.dtype)) || (has_emit && !xent_is_float(req->out.dtype)))
        return XENT_ERR_DTYPE;
    if (req->where.data && req->where.dtype != XENT_BOOL)
        return XENT_ERR_DTYPE;
    for (int i = 0; i < VIEWS; i++) {
        const xent_view *v = views[i].view;
        if (v->data && ((views[i].is_weight && !is_weight(v->dtype, where)) || (where == XENT_ON_DEVICE && v->swapped)))
            return XENT_ERR_DTYPE;
    }

    if (!(req->reduction == XENT_NONE || (sums && has_value) ||
          (per_class && !has_value && (options & OPTION_SAMPLE_WEIGHT))))
        return XENT_ERR_REDUCTION;

    if (!(req->label_smoothing >= 0.0 && req->label_smoothing <= 1.0) || req->threads < 0)
        return XENT_ERR_OPTION;
    if (!(req->beta > 0.0 && req->beta < 1.0) || (req->beta != 0.5 && !(options & OPTION_BETA)))
        return XENT_ERR_OPTION;
    if ((req->label_smoothing != 0.0 && !(options & OPTION_LABEL_SMOOTHING)) || (req->has_ignore_index && !has_labels))
        return XENT_ERR_OPTION;
    for (int i = 0; i < VIEWS; i++)
        if (views[i].view->data && (views[i].option & options) != views[i].option)
            return XENT_ERR_OPTION;

    /* A scalar result is written even of an empty batch; nothing else is touched then. */
    if (has_value && !req->value.data && (rows > 0 || req->reduction != XENT_NONE))
        return XENT_ERR_NULL;
    if (rows > 0 && req->classes > 0 && (!req->logits.data || (has_emit && !req->out.data)))
        return XENT_ERR_NULL;
    if (rows > 0 && has_target && !req->target.data && (has_labels || req->classes > 0))
        return XENT_ERR_NULL;
    if (per_class && req->classes > 0 && !req->out.data)
        return XENT_ERR_NULL;
    for (int i = 0; i < VIEWS; i++)
        if (req->ndim > 0 && views[i].per_row && views[i].view->data && !views[i].view->strides)
            return XENT_ERR_NULL;
    for (int i = 0; i < VIEWS; i++)
        if (where == XENT_ON_DEVICE && rows > 0 && views[i].view->data && !is_aligned(req, &views[i]))
            return XENT_ERR_OPTION;
    return XENT_OK;
}

const char *xent_strerror(xent_status status) {
    switch (status) {
    case XENT_OK:
        return "success";
    case XENT_ERR_OP:
        return "no such operation, or none that can be done this way";
    case XENT_ERR_DTYPE:
        return "an operand has a dtype that the operation does not take";
    case XENT_ERR_NULL:
        return "an operand that the operation needs is missing";
    case XENT_ERR_SHAPE:
        return "an extent is negative or huge, or there are too many dimensions";
    case XENT_ERR_OPTION:
        return "an option does not go with the operation, or its value is out of range";
    case XENT_ERR_REDUCTION:
        return "the reduction does not go with the operation";
    case XENT_ERR_LABEL:
        return "a label is out of range";
    case XENT_ERR_SCRATCH:
        return "the scratch is too small";
    case XENT_ERR_ISA:
        return "the instruction set is unknown, or not supported by this processor or build";
    case XENT_ERR_REQUEST:
        return "the request is not one that xent_request_init of this version has filled";
    case XENT_ERR_STATE:
        return "the states are none, or not of this operation, dtype and version";
    case XENT_ERR_CUDA:
        return "a CUDA call failed";
    case XENT_ERR_DEVICE:
        return "no such CUDA device, or one that this build has no code for";
    }
    return "unknown status";
}
