/* run.c: a job's work: groups of rows are reduced, finished and emitted; values are written, or added in units and an
 * order that do not depend on the threads. A long row is folded in pieces, in order, whether one thread does them all or
 * several share them (split), so that the bits are the same. */
#include "run.h"
#include "math/js_again.h"
#include "storage.h"
#include "threads.h"

enum {
    UNIT_ELEMENTS = 8192, /* rows are handed out in units of about so many elements */
    MAX_UNIT_ROWS = 4096,
    MAX_CLASS_SUMS = 64, /* per_class: partial sums over rows, at most so many ... */
    ROWS_ALONG_BYTES = 32768,
    WIDE_GROUPS = 8,
    ROWS_PER_CLASS_SUM = 64 /* ... of at least so many rows, so that they stay small beside the logits */
};

typedef struct work {
    const xent_job *job;
    const isa_kernels *k;
    const isa_entry *isa;
    xent_request *req;
    xent_take_states take_states; /* NULL: values and outputs are wanted */
    int group_rows, threads;      /* rows that are worked on together */
    ptrdiff_t unit_rows, units;
    ptrdiff_t skew; /* rows by which the first unit, and its first group, are shorter than the others */
    bool split, keeps;
    /* scratch */
    double *piece_states; /* of each piece, its rows' states, field by field */
    xent_sum *sums;       /* one a unit */
    xent_sum *class_sums; /* class_units x classes */
    ptrdiff_t class_units, class_rows;
} work;

static ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) {
    return a / b + (a % b != 0);
}

/* Rows across that are worked on together. Of many classes far apart, a write of one vector each costs a line, a set of the
 * cache and no prefetcher's help: more rows make longer writes. */
static int rows_across(const xent_job *job) {
    const bool wide = job->op->emit != EMIT_NONE && job->classes > ACROSS_CLASSES && job->pieces == 1;
    return wide && job->rows >= WIDE_GROUPS * MAX_GROUP_ROWS ? MAX_GROUP_ROWS : GROUP_ROWS;
}

/* Rows from the start of a line of memory to the first row, where rows are neighbours: when the first group is shorter by
 * these, every other one reads and writes whole lines. Arrays hardly ever start with a line (NumPy's large ones are 16 bytes
 * off); without this a vector of rows is two lines in every class. Sums keep what they round to far below the last bit of
 * the result: where a unit starts does not show. */
static ptrdiff_t skew_of(const xent_job *job) {
    const operand *o = &job->at[job->at[OPERAND_OUT].data ? OPERAND_OUT : OPERAND_X];
    if (!job->across || job->ndim == 0 || !o->data || o->rs[job->ndim - 1] != o->size || o->cs % LINE != 0)
        return 0;
    const ptrdiff_t rows = LINE / o->size < MAX_VECTOR ? LINE / o->size : MAX_VECTOR;
    return (ptrdiff_t)((uintptr_t)o->data / (uintptr_t)o->size) % rows;
}

static void size_up(const xent_job *job, work *w) {
    const int across = rows_across(job);
    ptrdiff_t rows = UNIT_ELEMENTS / (job->classes > 0 ? job->classes : 1);
    rows = rows < 1 ? 1 : rows > MAX_UNIT_ROWS ? MAX_UNIT_ROWS : rows;
    if (job->across)
        rows = ceil_div(rows, across) * across;
    w->unit_rows = rows;
    w->units = ceil_div(job->rows + w->skew, rows);
    w->class_units = job->rows / ROWS_PER_CLASS_SUM;
    w->class_units = w->class_units < 1 ? 1 : w->class_units > MAX_CLASS_SUMS ? MAX_CLASS_SUMS : w->class_units;
    w->class_rows = ceil_div(ceil_div(job->rows + w->skew, w->class_units), across) * across;
}

static bool sums_rows(const xent_request *req) {
    return req->reduction == XENT_SUM || req->reduction == XENT_MEAN;
}

static size_t pieces_size(const xent_job *job) {
    /* A row of so many classes is alone in its group along. */
    const ptrdiff_t rows = !job->across ? 1 : job->rows < GROUP_ROWS ? job->rows : GROUP_ROWS;
    return (size_t)job->pieces * STATE_FIELDS * (size_t)rows * sizeof(double);
}

static bool folds_pieces(const xent_job *job) {
    return job->pieces > 1 && job->op->reduce != REDUCE_NONE && !job->shares_no_row;
}

static size_t scratch_of(const xent_job *job, const xent_request *req) {
    work w = {.skew = MAX_VECTOR}; /* the most: where the operands will be need not be known yet */
    size_t size = 0;
    size_up(job, &w);
    if (folds_pieces(job))
        size += pieces_size(job);
    if (sums_rows(req))
        size += (size_t)w.units * sizeof(xent_sum);
    if (job->per_class)
        size += (size_t)w.class_units * (size_t)job->classes * sizeof(xent_sum);
    return size ? size + 64 : 0;
}

static void lay_out(const xent_job *job, xent_request *req, work *w) {
    char *p = req->scratch;
    if (!p)
        return;
    p += (64 - (uintptr_t)p % 64) % 64;
    w->piece_states = (double *)(void *)p;
    if (folds_pieces(job))
        p += pieces_size(job);
    w->sums = (xent_sum *)(void *)p;
    if (sums_rows(req))
        p += (size_t)w->units * sizeof(xent_sum);
    w->class_sums = (xent_sum *)(void *)p;
}

/* ---- one group ---- */
typedef struct group_task {
    work *w;
    const row_group *g;
    reduce_kind kind;
    const group_result *results;
    xent_sum *acc;
} group_task;

static ptrdiff_t piece_end(const xent_job *job, ptrdiff_t piece) {
    ptrdiff_t end = (piece + 1) * job->piece;
    return end < job->classes ? end : job->classes;
}

static void reduce_piece(void *ctx, ptrdiff_t piece) {
    group_task *t = ctx;
    const work *w = t->w;
    const int rows = t->g->rows;
    group_state s;
    xent_clear_states(&s, rows);
    w->k->reduce(w->job, t->g, piece * w->job->piece, piece_end(w->job, piece), t->kind, &s, NULL);
    for (int f = 0; f < STATE_FIELDS; f++)
        memcpy(w->piece_states + (piece * STATE_FIELDS + f) * rows, (const per_row *)&s + f,
               (size_t)rows * sizeof(double));
}

static void emit_piece(void *ctx, ptrdiff_t piece) {
    group_task *t = ctx;
    t->w->k->emit(t->w->job, t->g, piece * t->w->job->piece, piece_end(t->w->job, piece), t->results, NULL, t->acc);
}

static void reduce_group(work *w, const row_group *g, reduce_kind kind, group_state *s, void *keep) {
    const xent_job *job = w->job;
    group_task t = {.w = w, .g = g, .kind = kind};
    if (!xent_folds(kind))
        return;
    if (job->pieces == 1) {
        w->k->reduce(job, g, 0, job->classes, kind, s, keep);
        return;
    }
    if (w->split)
        xent_parallel_for(job->pieces, w->threads, reduce_piece, &t);
    for (ptrdiff_t piece = 0; piece < job->pieces; piece++) {
        group_state one, *into = piece == 0 ? s : &one;
        if (piece > 0)
            xent_clear_states(&one, g->rows);
        if (!w->split)
            w->k->reduce(job, g, piece * job->piece, piece_end(job, piece), kind, into, NULL);
        else
            for (int f = 0; f < STATE_FIELDS; f++)
                memcpy((per_row *)into + f, w->piece_states + (piece * STATE_FIELDS + f) * g->rows,
                       (size_t)g->rows * sizeof(double));
        if (piece > 0)
            w->isa->merge(kind, g->rows, s, &one);
    }
}

static void fold_task(void *ctx, reduce_kind kind, group_state *s) {
    const group_task *t = ctx;
    reduce_group(t->w, t->g, kind, s, NULL);
}

/* Rows whose state left its range are folded once more. Not inlined: the stack that these need would be do_rows's
 * on every way. */
__attribute__((noinline)) static void fold_again(work *w, const row_group *g, group_state *s, group_result *r) {
    group_result direct;
    const reduce_kind again = xent_reduce_of(w->job->op->reduce).again;
    reduce_group(w, g, again, s, NULL);
    w->isa->finish(w->job, again, g, s, &direct);
    for (int l = 0; l < g->rows; l++)
        if (r->again[l])
            r->value[l] = direct.value[l];
}

static void store_values(const operand *o, const row_group *g, const double *v) {
    const ptrdiff_t *off = g->off[OPERAND_VALUE];
    if (o->dtype == XENT_F32 && !o->swapped)
        for (int l = 0; l < g->rows; l++) {
            float f = (float)v[l];
            memcpy(o->data + off[l], &f, sizeof f);
        }
    else
        for (int l = 0; l < g->rows; l++)
            xent_store_scalar(o->data + off[l], o->dtype, o->swapped, v[l]);
}

/* Rows [r0, r1), of which the first are before the job's: everything that is done with a row. */
static void do_rows(work *w, ptrdiff_t r0, ptrdiff_t r1, xent_sum *sum, xent_sum *acc) {
    const xent_job *job = w->job;
    const ptrdiff_t first = r0 < 0 ? 0 : r0;
    ptrdiff_t end = r0; /* of a group */
    const operand *value = &job->at[OPERAND_VALUE];
    row_cursor cur;
    row_group g;
    group_state s;
    group_result r;
    _Alignas(64) char room[KEEP_BYTES];
    void *keep = w->keeps ? room : NULL;
    const ptrdiff_t whole = ceil_div(r1 - r0 < w->group_rows ? r1 - r0 : w->group_rows, MAX_VECTOR) * MAX_VECTOR;
    xent_start_group(job, whole < MAX_GROUP_ROWS ? (int)whole : MAX_GROUP_ROWS, &g);
    if (!job->across)
        xent_clear_states(&s, MAX_ROWS_ALONG);
    cursor_seek(job, &cur, first);
    while (end <= first)
        end += w->group_rows;
    for (ptrdiff_t row = first; row < r1; row = end, end += w->group_rows) {
        xent_open_group(job, &cur, (int)((r1 < end ? r1 : end) - row), &g);
        if (w->take_states) {
            reduce_group(w, &g, xent_reduce_of(job->op->reduce).of_pieces, &s, NULL);
            w->take_states(job, w->isa, &g, &s);
            continue;
        }
        if (job->few) {
            w->k->few(job, &g, sum ? r.value : NULL, room);
            for (int l = 0; sum && l < g.rows; l++)
                xent_sum_add(sum, r.value[l]);
            continue;
        }
        if (job->op->reduce != REDUCE_NONE) {
            reduce_group(w, &g, job->op->reduce, &s, keep);
            w->isa->finish(job, job->op->reduce, &g, &s, &r);
            if (r.any_again)
                fold_again(w, &g, &s, &r);
            if (job->op->reduce == REDUCE_JS) {
                group_task task = {.w = w, .g = &g};
                g.first = &r;
                js_fold_again(job, &g, fold_task, &task, &s, &r);
            }
            if (value->data)
                store_values(value, &g, r.value);
            for (int l = 0; sum && l < g.rows; l++)
                xent_sum_add(sum, r.value[l]);
        }
        if (job->op->emit == EMIT_NONE || job->classes == 0)
            continue;
        group_task t = {.w = w, .g = &g, .results = &r, .acc = acc};
        if (w->split)
            xent_parallel_for(job->pieces, w->threads, emit_piece, &t);
        else
            w->k->emit(job, &g, 0, job->classes, &r, keep, acc);
    }
}

static void do_unit(void *ctx, ptrdiff_t unit) {
    work *w = ctx;
    ptrdiff_t r0 = unit * w->unit_rows - w->skew, r1 = r0 + w->unit_rows;
    xent_sum *sum = sums_rows(w->req) ? &w->sums[unit] : NULL;
    if (sum)
        sum->s = sum->e = 0.0;
    do_rows(w, r0, r1 < w->job->rows ? r1 : w->job->rows, sum, NULL);
}

static void do_class_unit(void *ctx, ptrdiff_t unit) {
    work *w = ctx;
    ptrdiff_t r0 = unit * w->class_rows - w->skew, r1 = r0 + w->class_rows;
    xent_sum *acc = w->class_sums + unit * w->job->classes;
    for (ptrdiff_t c = 0; c < w->job->classes; c++)
        acc[c].s = acc[c].e = 0.0;
    if (r0 < w->job->rows)
        do_rows(w, r0, r1 < w->job->rows ? r1 : w->job->rows, NULL, acc);
}

static void write_class_sums(work *w) {
    const xent_view *out = &w->req->out;
    for (ptrdiff_t c = 0; c < w->job->classes; c++) {
        xent_sum v = {0.0, 0.0};
        for (ptrdiff_t u = 0; u < w->class_units; u++)
            xent_sum_merge(&v, w->class_sums[u * w->job->classes + c]);
        xent_store_scalar((char *)out->data + c * out->class_stride, out->dtype, out->swapped, xent_sum_value(v));
    }
}

static void write_sum(work *w) {
    xent_sum total = {0.0, 0.0};
    for (ptrdiff_t u = 0; u < w->units; u++) {
        xent_sum_add(&total, w->sums[u].s);
        xent_sum_add(&total, w->sums[u].e);
    }
    xent_store_scalar(w->req->value.data, w->req->value.dtype, w->req->value.swapped,
                      xent_sum_value(total) / w->job->divisor);
}

/* How many rows are worked on together. Across: whole vectors. Along: short rows a few at a time, so that their states are
 * finished together; they stay in L1 meanwhile. Where the emit needs the exponentials of the reduction and there is room for a row's
 * (across: for a tile of a vector of rows), there are no more rows than that holds. */
static void choose_group(const xent_job *job, work *w) {
    const int size = job->is_f32 ? 4 : 8;
    const ptrdiff_t tiles = job->across ? 1 : ceil_div(job->classes * size, TILE_BYTES);
    const ptrdiff_t kept = tiles * xent_kept_tiles(job) * TILE_BYTES; /* of a row, or of a vector of them */
    const int inputs = job->op->target == XENT_TARGET_NONE || job->op->target == XENT_TARGET_LABELS ? 1 : 2;
    ptrdiff_t rows = ROWS_ALONG_BYTES / ((job->classes + 1) * size * inputs);
    w->keeps = !job->few && xent_emit_of(job->op->emit).of_exp && job->classes > 0 && kept <= KEEP_BYTES &&
               (job->across ? job->classes * size * w->k->lanes <= TILE_BYTES
                            : tiles == 1 || xent_reduce_of(job->op->reduce).quick != QUICK_NONE);
    w->group_rows = rows < 1 ? 1 : rows > MAX_ROWS_ALONG ? MAX_ROWS_ALONG : (int)rows;
    if (job->across)
        w->group_rows = w->keeps ? GROUP_ROWS : rows_across(job);
    if (w->keeps) {
        const ptrdiff_t most = KEEP_BYTES / kept * (job->across ? w->k->lanes : 1);
        w->group_rows = w->group_rows > most ? (int)most : w->group_rows;
    }
}

/* An element's time in units of a long row's logsumexp, roughly: what decides whether threads pay. */
static double cost(const xent_job *job) {
    return (xent_reduce_of(job->op->reduce).cost + (job->op->emit != EMIT_NONE ? 1.0 : 0.0)) *
           (job->across ? 4.0 : 1.0) * (job->is_f32 ? 1.0 : 2.0);
}

static void do_job(const xent_job *job, xent_request *req, const isa_entry *isa, xent_take_states take_states) {
    work w = {.job = job,
              .k = job->is_f32 ? isa->f32 : isa->f64,
              .isa = isa,
              .req = req,
              .skew = skew_of(job),
              .take_states = take_states};
    double elements = (double)job->rows * (double)job->classes * cost(job);
    if (job->per_class && job->classes == 0) /* nothing to write, and no scratch for its sums */
        return;
    choose_group(job, &w);
    w.threads = xent_threads_for(elements, req->threads);
    size_up(job, &w);
    lay_out(job, req, &w);
    /* Few rows: the pieces of each are shared out instead of the rows. */
    w.split = job->pieces > 1 && !job->shares_no_row && w.threads > 1 &&
              (job->per_class ? w.class_units == 1 : w.units < 4 * (ptrdiff_t)w.threads);
    if (job->per_class) {
        xent_parallel_for(w.class_units, w.split ? 1 : w.threads, do_class_unit, &w);
        write_class_sums(&w);
    } else {
        xent_parallel_for(w.units, w.split ? 1 : w.threads, do_unit, &w);
        if (sums_rows(req))
            write_sum(&w);
    }
}

/* ---- requests ---- */
xent_status xent_scratch_size(const xent_request *req, size_t *size) {
    xent_job job;
    xent_status status = xent_make_job(req, &job);
    if (status != XENT_OK)
        return status;
    if (!size)
        return XENT_ERR_NULL;
    *size = scratch_of(&job, req);
    return XENT_OK;
}

/* The job of a request, and the instruction set in use. */
static xent_status begin(const xent_request *req, xent_job *job, const isa_entry **isa) {
    *isa = xent_current_isa();
    return *isa ? xent_make_job(req, job) : XENT_ERR_ISA;
}

xent_status xent_run(xent_request *req) {
    const isa_entry *isa;
    xent_job job;
    xent_status status = begin(req, &job, &isa);
    /* before labels and weights are read: callers may ask for the size only then */
    if (status == XENT_OK && scratch_of(&job, req) > (req->scratch ? req->scratch_size : 0))
        return XENT_ERR_SCRATCH;
    if (status == XENT_OK)
        status = xent_read_job(req, &job);
    if (status == XENT_OK)
        do_job(&job, req, isa, NULL);
    return status;
}

/* ---- without scratch, or with less ---- */
void xent_do_with_what_there_is(xent_job *job, xent_request *req, const isa_entry *isa, xent_take_states take_states) {
    job->shares_no_row = scratch_of(job, req) > (req->scratch ? req->scratch_size : 0);
    do_job(job, req, isa, take_states);
}

xent_status xent_run_with_what_there_is(xent_request *req) {
    const isa_entry *isa;
    xent_job job;
    xent_status status = begin(req, &job, &isa);
    if (status == XENT_OK)
        status = xent_read_job(req, &job);
    if (status == XENT_OK)
        xent_do_with_what_there_is(&job, req, isa, NULL);
    return status;
}
