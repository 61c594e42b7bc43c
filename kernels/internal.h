/* internal.h: what the rooms of this library share: the job (a request, checked and normalised), the work an instruction
 * set does on it, and the parallel loop. Nothing here is visible outside. */
#ifndef XENT_INTERNAL_H
#define XENT_INTERNAL_H

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "xent.h"
#include "rowstate.h"

/* Neumaier's compensated sum. */
typedef struct xent_sum {
    double s, e;
} xent_sum;

static inline void xent_sum_add(xent_sum *a, double v) {
    double t = a->s + v;
    double big = fabs(a->s) >= fabs(v) ? a->s : v, small = fabs(a->s) >= fabs(v) ? v : a->s;
    double e = (big - t) + small;
    a->s = t;
    if (e - e == 0.0) /* an infinite or NaN sum stays what it is */
        a->e += e;
}

static inline void xent_sum_merge(xent_sum *a, xent_sum b) {
    xent_sum_add(a, b.s);
    a->e += b.e;
}

static inline double xent_sum_value(xent_sum a) {
    return a.s + a.e;
}

/* ---- what ops.def speaks of ---- */
typedef enum {
    REDUCE_NONE,   /* element by element, no row                                             */
    REDUCE_LSE,    /* log sum exp of x                                                       */
    REDUCE_ENT,    /* sum p log p                                                            */
    REDUCE_SENT,   /* LSE, and sum E(x) (m - x)                                              */
    REDUCE_CE,     /* LSE, T = sum t, B = sum t (m - x)                                      */
    REDUCE_LABEL,  /* nothing: what counts is the number at the label                        */
    REDUCE_BCE,    /* B = sum of binary cross-entropies                                      */
    REDUCE_JS,     /* B = sum of Jensen-Shannon terms, T = sum p log(p/m): after PAIR        */
    REDUCE_JS_GAP, /* B = sum of (exp(x - m_x) - exp(y - m_y)) / 2, from the differences themselves: after PAIR */
    REDUCE_KL,     /* the centred sums of rowstate.h                                         */
    REDUCE_PAIR, /* LSE of x, and of y for a target in log space; B = sum t (log t - log q) with the maxima as references */
    REDUCE_KLPAIR /* both: the loss from the first, gradients (and extreme rows) from the second */
} reduce_kind;

typedef enum {
    VALUE_NONE,
    VALUE_LSE,
    VALUE_ENT,
    VALUE_SENT,
    VALUE_CE,
    VALUE_LABEL,
    VALUE_KL,
    VALUE_NLL,
    VALUE_BCE,
    VALUE_JS
} value_kind;

typedef enum {
    EMIT_NONE,
    EMIT_LOGP,
    EMIT_P,
    EMIT_GRAD,
    EMIT_CE_TERM,
    EMIT_KL_TERM,
    EMIT_AT_LABEL, /* 0 but at the label */
    EMIT_BCE_TERM,
    EMIT_BCE_GRAD,
    EMIT_JS_TERM,
    EMIT_JS_GRAD,
    EMIT_KL_POINT,
    EMIT_REL_ENTR
} emit_kind;

/* Places in the list. */
enum {
#define OP(name, REDUCE, TARGET, VALUE, EMIT) OP_##name,
#include "ops.def"
#undef OP
    OPERATIONS
};

typedef struct op_entry {
    const char *name;
    reduce_kind reduce;
    xent_target target;
    value_kind value;
    emit_kind emit;
} op_entry;

/* ---- the job ---- */
enum { OPERAND_X, OPERAND_T, OPERAND_VALUE, OPERAND_OUT, OPERAND_WHERE, OPERAND_WEIGHT, OPERAND_TEMPERATURE, OPERANDS };

typedef struct operand {
    char *data; /* NULL: absent */
    ptrdiff_t cs;
    const ptrdiff_t *rs; /* a stride for each of the job's batch dimensions */
    int dtype, size, swapped;
} operand;

enum {
    TILE_BYTES = 4096, /* x, t, log t and an output stay in L1 together                     */
    LINE = 64,         /* of a cache */
    FAR_BYTES = 1024,
    GATHER_AHEAD = 2048, /* bytes */
    ACROSS_CLASSES = 32, /* rows with contiguous classes: at most so many go across          */
    /* A long row is folded piece by piece, whoever does the pieces: of so many classes at least, and so many at most. */
    PIECE_CLASSES = 65536,
    MAX_PIECES = 256
};

typedef struct xent_job {
    const op_entry *op;
    int ndim; /* batch dimensions after coalescing */
    ptrdiff_t rows, classes;
    operand at[OPERANDS];
    int used[OPERANDS], n_used; /* those that have data */
    operand class_weight, pos_weight;
    double label_smoothing, grad_scale;
    int64_t ignore_index;
    bool has_ignore, has_labels, across, few, is_f32;
    bool per_class, streams; /* streams: the output is too large to be found in a cache later */
    double divisor;          /* of mean; 1 elsewhere */
    ptrdiff_t pieces, piece; /* how many, and classes in each but the last */
    double class_scale;      /* a power of two that class weights are divided by and rows' weights multiplied */
    ptrdiff_t first_class;   /* labels count from here: not 0 for a piece of rows */
    bool into_states;        /* the values are states (states.c), and this is a piece of rows */
    bool shares_no_row;      /* there is no scratch for that */
    ptrdiff_t shape[XENT_MAX_NDIM];
    ptrdiff_t strides[OPERANDS][XENT_MAX_NDIM];
} xent_job;

static inline bool xent_target_is_log(const xent_job *job) {
    return job->op->target == XENT_TARGET_LOGITS || job->op->target == XENT_TARGET_LOG_PROBS;
}

/* Tiles of exponentials that a row keeps for its emit. */
static inline int xent_kept_tiles(const xent_job *job) {
    return xent_target_is_log(job) || !job->is_f32 ? 2 : 1;
}

/* Whether log sum exp of both operands comes first, and the loss from what follows from it. */
static inline bool xent_is_js(const xent_job *job) {
    return job->op->value == VALUE_JS || job->op->emit == EMIT_JS_TERM;
}

/* The place of one row in every operand. */
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

/* v times its weight: what weighs nothing adds nothing, be it infinite. */
static inline double xent_weigh(double v, double weight) {
    return weight == 0.0 && v == v ? 0.0 : v * weight;
}

/* Before vectors of rows are merged or finished whole, be there fewer. */
static inline void xent_clear_states(group_state *s, int rows) {
    enum { SOME = 8 }; /* doubles in the widest vector: a size that needs no call */
    for (int f = 0; f < STATE_FIELDS; f++)
        for (int l = 0; l < rows; l += SOME)
            memset(*((lanes *)s + f) + l, 0, SOME * sizeof(double));
}

/* Rows that are worked on together: a vector's lanes across, a few short rows or one long one along. What an option
 * leaves alone is set once, by xent_start_group. */
typedef struct row_group {
    int rows;
    bool any_dead, any_after;
    bool adjacent[OPERANDS]; /* consecutive rows lie one storage element apart */
    ptrdiff_t off[OPERANDS][MAX_LANES];
    ptrdiff_t label[MAX_LANES]; /* -1: none, ignored, or its class is masked */
    bool dead[MAX_LANES];       /* does not count: value and outputs are 0 */
    lanes known;                /* 1 where there is a label, else 0 */
    lanes x_label;              /* the logit at the label, as the tiles hold it */
    lanes temperature;
    lanes uniform; /* label smoothing's share of each class */
    lanes weight;  /* sample weight, times the label's class weight where the target is labels alone */
    /* What the row's outputs are multiplied by: its weight and, of gradients, what follows from mean and temperature. Where
     * the tile's real cannot hold that, scale is 1 and it comes after, on the way out; else after is 1. */
    lanes scale, after;
    const struct group_result *first; /* for REDUCE_JS: what followed from REDUCE_PAIR */
} row_group;

/* A tile's share of KL's sums on its way to a group's state: finish.h's kl_tile. */
typedef struct vector_sums {
    vector_lanes s, e;
} vector_sums;
typedef struct kl_part {
    vector_sums w, d, u, a;
    vector_lanes hi, lo, most, top, xc, xk, tc, tk, mean, factor, c, c_lo;
} kl_part;

/* y's references before and after they rose. */
typedef struct kl_rise {
    vector_lanes old_c, old_k, new_c, new_k;
} kl_rise;

/* What follows from a group's states. Of Jensen-Shannon, x_hi and y_hi are the maxima, x_lo and y_lo the difference of
 * log sum exp(x - x_hi) and log sum exp(y - y_hi), in two parts. */
typedef struct group_result {
    lanes value;                      /* times the sample weight */
    lanes x_hi, x_lo, y_hi, y_lo;     /* log sum exp of x and of y, in two parts */
    lanes xc, xk, xd, yc, yk, yd;     /* their references, and how far from c the maximum is */
    lanes px, px_lo, py, g;           /* factors of E(x) (two parts), E(y), t */
    lanes poison;                     /* NaN where the row's terms are all NaN, else 0 */
    lanes patch;                      /* what belongs at the label */
    lanes gain;                       /* Jensen-Shannon: sum p log(p/m) */
    bool any_again, again[MAX_LANES]; /* KL left its range: fold the row again with REDUCE_PAIR */
} group_result;

/* ---- what an instruction set does: one table for each of float and double ---- */
typedef struct isa_kernels {
    int lanes; /* in a vector */
    /* Folds classes [c0, c1) of the group. keep, where not NULL: room for xent_kept_tiles() of each row along
     * or of each vector of rows across, all of whose classes are in one tile: exponentials, for the emit. */
    void (*reduce)(const xent_job *, const row_group *, ptrdiff_t c0, ptrdiff_t c1, reduce_kind, group_state *,
                   void *keep);
    /* Writes classes [c0, c1) of the emit or, with acc (one a class), adds them over rows. */
    void (*emit)(const xent_job *, const row_group *, ptrdiff_t c0, ptrdiff_t c1, const group_result *,
                 const void *keep, xent_sum *acc);
    /* Everything that is done with a group of rows of few classes (xent_job's few): reduced, finished and emitted in
     * vectors. Values are stored; with values they go there as well. room: KEEP_BYTES, for exponentials. */
    void (*few)(const xent_job *, const row_group *, double *values, void *room);
} isa_kernels;

typedef struct isa_entry {
    const char *name;
    const isa_kernels *f32, *f64;
    /* a := a and b together */
    void (*merge)(const xent_job *, reduce_kind, int rows, group_state *a, const group_state *b);
    /* Values, the factors that emits need, and which rows need another reduction. */
    void (*finish)(const xent_job *, reduce_kind, const row_group *, const group_state *, group_result *);
} isa_entry;

extern const isa_entry xent_isa_baseline_entry;
extern const isa_entry xent_isa_avx2_entry;
extern const isa_entry xent_isa_avx512_entry;
extern const isa_entry xent_isa_neon_entry;

/* ---- rooms ---- */
const op_entry *xent_op_at(int op);

/* Which of x and y a reduction sums up. */
static inline bool xent_sums_x(reduce_kind kind) {
    return kind == REDUCE_LSE || kind == REDUCE_SENT || kind == REDUCE_CE || kind == REDUCE_PAIR ||
           kind == REDUCE_KLPAIR;
}
static inline bool xent_sums_y(const xent_job *job, reduce_kind kind) {
    return xent_target_is_log(job) && (kind == REDUCE_PAIR || kind == REDUCE_KLPAIR);
}
/* Which operations few.h has: a macro, for what is not to be compiled at all. */
#define XENT_HAS_FEW(reduce, value, emit)                                                                              \
    ((reduce) != REDUCE_NONE && (reduce) != REDUCE_LABEL && (reduce) != REDUCE_BCE && (value) != VALUE_JS &&           \
     (emit) != EMIT_JS_TERM)
/* Whether an operation's output is the gradient of its value: what mean divides and a temperature, too. */
static inline bool xent_is_gradient(const op_entry *op) {
    return op->emit == EMIT_GRAD || op->emit == EMIT_BCE_GRAD || op->emit == EMIT_JS_GRAD ||
           (op->emit == EMIT_AT_LABEL && op->value != VALUE_NONE);
}
static inline bool xent_is_kl(reduce_kind kind) {
    return kind == REDUCE_KL || kind == REDUCE_KLPAIR;
}

/* parallel.c */
typedef void (*unit_fn)(void *ctx, ptrdiff_t unit);
int xent_threads_for(double elements, int most);
void xent_parallel_for(ptrdiff_t units, int threads, unit_fn, void *ctx);

/* request.c */
void xent_start_group(const xent_job *, int rows, row_group *);
void xent_open_group(const xent_job *, row_cursor *, int rows, row_group *); /* moves the cursor past them */

/* load.c: scalar access to storage */
double xent_load_scalar(const char *p, int dtype, int swapped);
int64_t xent_load_label(const char *p, int dtype, int swapped);
void xent_store_scalar(char *p, int dtype, int swapped, double v);
int xent_dtype_size(int dtype);
double xent_dtype_eps(int dtype, bool is_f32);

#endif
