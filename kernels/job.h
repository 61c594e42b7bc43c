/* job.h: a job: a request, checked and normalised. */
#ifndef XENT_JOB_H
#define XENT_JOB_H

#include "check.h"
#include "math/mixture.h"
#include "state.h"
#include "storage.h"

enum { OPERAND_X, OPERAND_T, OPERAND_VALUE, OPERAND_OUT, OPERAND_WHERE, OPERAND_WEIGHT, OPERAND_TEMPERATURE, OPERANDS };

typedef struct operand {
    char *data; /* NULL: absent */
    ptrdiff_t cs;
    const ptrdiff_t *rs; /* a stride for each of the job's batch dimensions */
    int dtype, size, swapped;
} operand;

enum {
    TILE_BYTES = 4096, /* x, t, log t and an output stay in L1 together */
    LINE = 64,         /* of a cache */
    FAR_BYTES = 1024,
    GATHER_AHEAD = 2048, /* bytes */
    ACROSS_CLASSES = 32, /* rows with contiguous classes: at most so many go across */
    /* A long row is folded piece by piece, whoever does the pieces: of so many classes at least, and so many at most. */
    PIECE_CLASSES = 65536,
    MAX_PIECES = 256
};

typedef struct xent_job {
    const op_entry *op;
    int op_number, options; /* what the operation takes: ops.h */
    int ndim;               /* batch dimensions after coalescing */
    ptrdiff_t rows, classes;
    operand at[OPERANDS];
    int used[OPERANDS], n_used; /* those that have data */
    operand class_weight, pos_weight;
    double label_smoothing, grad_scale;
    xent_mixture mixture;
    int64_t ignore_index;
    bool has_ignore, has_labels, across, few, is_f32;
    bool per_class;
    bool streams;            /* the output is too large to be found in a cache later,    */
    bool fetches;            /* ... or not in one near enough for a burst of its stores */
    double divisor;          /* of mean; 1 elsewhere */
    ptrdiff_t pieces, piece; /* how many, and classes in each but the last */
    double class_scale;      /* a power of two that class weights are divided by and rows' weights multiplied */
    ptrdiff_t first_class;   /* labels count from here: not 0 for a piece of rows */
    bool shares_no_row;      /* there is no scratch for that */
    ptrdiff_t shape[XENT_MAX_NDIM];
    ptrdiff_t strides[OPERANDS][XENT_MAX_NDIM];
} xent_job;

/* The target as ops.h's options act on it: probabilities that class weights, label smoothing and one-hot labels shape. */
static inline bool xent_shapes_target(const xent_job *job) {
    return job->op->target == XENT_TARGET_PROBS && (job->options & OPTION_ONE_HOT);
}

/* Tiles of exponentials that are kept of a tile for the emit. */
static inline int xent_kept_tiles(const xent_job *job) {
    return xent_is_log(job->op->target) ? 2 : 1;
}

/* v times its weight: what weighs nothing adds nothing, be it infinite. */
static inline double xent_weigh(double v, double weight) {
    return weight == 0.0 && v == v ? 0.0 : v * weight;
}

/* ---- the place of one row in every operand ---- */
typedef struct row_cursor {
    ptrdiff_t off[OPERANDS];
    ptrdiff_t index[XENT_MAX_NDIM];
} row_cursor;

static inline void cursor_seek(const xent_job *job, row_cursor *c, ptrdiff_t row) {
    ptrdiff_t rest = row;
    memset(c->off, 0, sizeof c->off);
    for (int d = job->ndim - 1; d >= 0; d--) {
        ptrdiff_t i = d == 0 ? rest : rest % job->shape[d];
        rest = d == 0 ? 0 : rest / job->shape[d];
        c->index[d] = i;
        for (int u = 0; u < job->n_used; u++)
            c->off[job->used[u]] += i * job->at[job->used[u]].rs[d];
    }
}

/* rows more, the last of them at most one past the end of the innermost dimension. */
static inline void cursor_skip(const xent_job *job, row_cursor *c, ptrdiff_t rows) {
    for (int d = job->ndim - 1; d >= 0; d--, rows = 1) {
        bool wrap = d > 0 && c->index[d] + rows == job->shape[d];
        ptrdiff_t step = wrap ? -c->index[d] : rows;
        c->index[d] += step;
        for (int u = 0; u < job->n_used; u++)
            c->off[job->used[u]] += step * job->at[job->used[u]].rs[d];
        if (!wrap)
            return;
    }
}

/* ---- from a request to a job ---- */
/* Checks everything but labels: the data is not looked at. On XENT_OK the job is complete, but for the divisor of mean. */
xent_status xent_make_job(const xent_request *req, xent_job *job);
/* Checks labels and temperatures, and finds the divisor. Nothing has been written before this returns XENT_OK. */
xent_status xent_read_job(xent_request *req, xent_job *job);
/* The same of a piece of rows, whose labels may be of other pieces. */
xent_status xent_read_piece(xent_request *piece, xent_job *job);

/* Labels at p and following, `step` bytes apart. int64 and int32 labels, the usual ones, have loops of their own. Inline: rows of
 * few classes ask for one at a time. */
static inline void xent_load_labels(const char *p, ptrdiff_t step, const operand *t, ptrdiff_t count, int64_t *y) {
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

/* How many classes of the row at `off` its mask selects; any: 1 where there is one. */
ptrdiff_t xent_count_where(const xent_job *job, ptrdiff_t off, bool any);

#endif
