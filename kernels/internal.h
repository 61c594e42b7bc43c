/* internal.h: what the rooms of this library share: the job (a request, checked and normalised), the work an instruction
 * set does on it, and the parallel loop. Nothing here is visible outside. */
#ifndef XENT_INTERNAL_H
#define XENT_INTERNAL_H

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "include/xent.h"
#include "rowstate.h"

/* ---- what ops.def speaks of ---- */
typedef enum {
    REDUCE_NONE, /* element by element, no row                                             */
    REDUCE_LSE,  /* log sum exp of x                                                       */
    REDUCE_ENT,  /* sum p log p                                                            */
    REDUCE_SENT, /* LSE, and sum E(x) (m - x)                                              */
    REDUCE_CE,   /* LSE, T = sum t, B = sum t (m - x)                                      */
    REDUCE_KL,   /* the centred sums of rowstate.h                                         */
    REDUCE_PAIR, /* LSE of x, and of y for a target in log space; B = sum t (log t - log q) with the maxima as references */
    REDUCE_KLPAIR /* both: the loss from the first, gradients (and extreme rows) from the second */
} reduce_kind;

typedef enum { VALUE_NONE, VALUE_LSE, VALUE_ENT, VALUE_SENT, VALUE_CE, VALUE_LABEL, VALUE_KL } value_kind;

typedef enum {
    EMIT_NONE,
    EMIT_LOGP,
    EMIT_P,
    EMIT_GRAD,
    EMIT_CE_TERM,
    EMIT_KL_TERM,
    EMIT_KL_POINT,
    EMIT_REL_ENTR
} emit_kind;

typedef struct op_entry {
    const char *name;
    reduce_kind reduce;
    xent_target target;
    value_kind value;
    emit_kind emit;
} op_entry;

/* ---- a row's state: only the fields of the operation's reduction are used ---- */
typedef struct row_state {
    xent_lse x, y;
    xent_kl kl; /* held against y's reference, or 1 for target probabilities */
    xent_sum t; /* sum t */
    xent_sum b; /* CE: sum t (m - x); PAIR: see above; SENT: sum E(x) (m - x); ENT: -sum p log p */
} row_state;

/* ---- the job ---- */
enum { OPERAND_X, OPERAND_T, OPERAND_VALUE, OPERAND_OUT, OPERAND_WHERE, OPERAND_WEIGHT, OPERAND_TEMPERATURE, OPERANDS };

typedef struct operand {
    char *data; /* NULL: absent */
    ptrdiff_t cs;
    const ptrdiff_t *rs; /* a stride for each of the job's batch dimensions */
    int dtype, swapped;
} operand;

enum {
    MAX_LANES = 16,       /* rows that one walk across steps through together, at most        */
    ACROSS_CLASSES = 32,  /* rows with contiguous classes: at most so many go across          */
    PIECE_CLASSES = 65536 /* a long row is folded piece by piece, whoever does the pieces     */
};

typedef struct xent_job {
    const op_entry *op;
    int ndim; /* batch dimensions after coalescing */
    ptrdiff_t rows, classes;
    operand at[OPERANDS];
    operand class_weight;
    double label_smoothing, grad_scale;
    int64_t ignore_index;
    bool has_ignore, has_labels, across, is_f32;
    bool per_class;
    double divisor; /* of mean; 1 elsewhere */
    ptrdiff_t pieces;
    ptrdiff_t shape[XENT_MAX_NDIM];
    ptrdiff_t strides[OPERANDS][XENT_MAX_NDIM];
} xent_job;

static inline bool xent_target_is_log(const xent_job *job) {
    return job->op->target == XENT_TARGET_LOGITS || job->op->target == XENT_TARGET_LOG_PROBS;
}

/* The place of one row in every operand. */
typedef struct row_cursor {
    ptrdiff_t row;
    ptrdiff_t off[OPERANDS];
    ptrdiff_t index[XENT_MAX_NDIM];
} row_cursor;

static inline void cursor_seek(const xent_job *job, row_cursor *c, ptrdiff_t row) {
    ptrdiff_t rest = row;
    c->row = row;
    for (int o = 0; o < OPERANDS; o++)
        c->off[o] = 0;
    for (int d = job->ndim - 1; d >= 0; d--) {
        ptrdiff_t i = d == 0 ? rest : rest % job->shape[d];
        rest = d == 0 ? 0 : rest / job->shape[d];
        c->index[d] = i;
        for (int o = 0; o < OPERANDS; o++)
            if (job->at[o].data)
                c->off[o] += i * job->at[o].rs[d];
    }
}

static inline void cursor_next(const xent_job *job, row_cursor *c) {
    c->row++;
    for (int d = job->ndim - 1; d >= 0; d--) {
        bool wrap = d > 0 && c->index[d] + 1 == job->shape[d];
        ptrdiff_t step = wrap ? -c->index[d] : 1;
        c->index[d] += step;
        for (int o = 0; o < OPERANDS; o++)
            if (job->at[o].data)
                c->off[o] += step * job->at[o].rs[d];
        if (!wrap)
            return;
    }
}

/* What emits and values need of finished rows. Arrays, one entry a lane; the walk along uses the first. */
typedef struct row_result {
    bool dead;                         /* does not count: value and outputs are 0 */
    double value;                      /* times the sample weight */
    double lx_hi, lx_lo, ly_hi, ly_lo; /* log sum exp of x and of y, in two parts */
    xent_ref fx, fy;                   /* their references */
    double px, px_lo, py, g;           /* factors of E(x) (two parts), E(y), t */
    double poison;                     /* NaN where the row's terms are all NaN, else 0 */
    double patch;                      /* gradient at the label */
    ptrdiff_t label;                   /* -1: none */
} row_result;

/* Rows that are worked on together: one along, up to MAX_LANES across. */
typedef struct row_group {
    int rows;
    ptrdiff_t off[OPERANDS][MAX_LANES];
    ptrdiff_t label[MAX_LANES]; /* -1: none, ignored, or its class is masked */
    bool dead[MAX_LANES];
    double temperature[MAX_LANES];
    double uniform[MAX_LANES]; /* label smoothing's share of each class */
    double weight[MAX_LANES];  /* sample weight, times the label's class weight where the target is labels alone */
} row_group;

/* ---- what an instruction set does: one table for each of float and double ---- */
typedef struct isa_kernels {
    int lanes; /* rows in a group that goes across */
    /* Folds classes [c0, c1) of the group into states, one a row. */
    void (*reduce)(const xent_job *, const row_group *, ptrdiff_t c0, ptrdiff_t c1, reduce_kind, row_state *states);
    /* Writes classes [c0, c1) of the emit or, with acc (one a class), adds them over rows. */
    void (*emit)(const xent_job *, const row_group *, ptrdiff_t c0, ptrdiff_t c1, const row_result *, xent_sum *acc);
} isa_kernels;

typedef struct isa_entry {
    const char *name;
    const isa_kernels *f32, *f64;
    void (*finish_lse)(const row_state *, bool of_y, int rows, xent_lse_result *); /* x's or y's sums, finished */
} isa_entry;

extern const isa_entry xent_isa_baseline_entry;
extern const isa_entry xent_isa_avx2_entry;
extern const isa_entry xent_isa_avx512_entry;
extern const isa_entry xent_isa_neon_entry;

/* ---- rooms ---- */
const op_entry *xent_op_at(int op);

/* rows.c: states beyond rowstate.h, and what follows from a finished one. */
typedef struct row_options {
    double weight; /* sample weight, times the label's class weight */
    double temperature;
    double x_label;  /* the logit at the label, temperature applied */
    ptrdiff_t label; /* -1: none, or its class is masked */
    bool dead;       /* does not count: ignored, or no class selected */
} row_options;

row_state xent_row_start(reduce_kind);
void xent_raise_x(const xent_job *, reduce_kind, row_state *, double m);
void xent_raise_y(reduce_kind, row_state *, double m);
void xent_row_merge(const xent_job *, reduce_kind, row_state *a, const row_state *b);
/* *direct: KL left its range; fold the row again with REDUCE_PAIR. */
void xent_finish_row(const xent_job *, reduce_kind, const row_state *, const xent_lse_result *x,
                     const xent_lse_result *y, const row_options *, row_result *, bool *direct);
/* Which of x and y a reduction sums up. */
bool xent_sums_x(reduce_kind);
bool xent_sums_y(const xent_job *, reduce_kind);

/* parallel.c */
typedef void (*unit_fn)(void *ctx, ptrdiff_t unit);
int xent_threads_for(double elements, int most);
void xent_parallel_for(ptrdiff_t units, int threads, unit_fn, void *ctx);

/* request.c */
void xent_open_group(const xent_job *, row_cursor *, int rows, row_group *); /* moves the cursor past them */
double xent_label_logit(const xent_job *, const row_group *, int l);

/* load.c: scalar access to storage */
double xent_load_scalar(const char *p, int dtype, int swapped);
int64_t xent_load_label(const char *p, int dtype, int swapped);
void xent_store_scalar(char *p, int dtype, int swapped, double v);
int xent_dtype_size(int dtype);
double xent_dtype_eps(int dtype);

#endif
