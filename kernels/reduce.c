/* reduce.c: a job's work: groups of rows are reduced, finished and emitted; values are written, or added in units and an
 * order that do not depend on the threads. A long row is folded in pieces, in order, whether one thread does them all or
 * several share them (split), so that the bits are the same. */
#include "internal.h"
#include "plan.h"

#define LN2 (XENT_LN2_A + XENT_LN2_B)

enum {
    UNIT_ELEMENTS = 8192, /* rows are handed out in units of about so many elements */
    MAX_UNIT_ROWS = 4096,
    MAX_CLASS_SUMS = 64, /* per_class: partial sums over rows, at most so many ... */
    ROWS_ALONG_BYTES = 32768,
    WIDE_GROUPS = 8,
    KEEP_BYTES = 16384,
    ROWS_PER_CLASS_SUM = 64 /* ... of at least so many rows, so that they stay small beside the logits */
};

typedef struct work {
    const xent_job *job;
    const isa_kernels *k;
    const isa_entry *isa;
    xent_request *req;
    int lanes, threads;
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
    return wide && job->rows >= WIDE_GROUPS * MAX_LANES ? MAX_LANES : GROUP_LANES;
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
    const ptrdiff_t rows = !job->across ? 1 : job->rows < GROUP_LANES ? job->rows : GROUP_LANES;
    return (size_t)job->pieces * STATE_FIELDS * (size_t)rows * sizeof(double);
}

static bool folds_pieces(const xent_job *job) {
    return job->pieces > 1 && job->op->reduce != REDUCE_NONE && !job->shares_no_row;
}

size_t xent_job_scratch(const xent_job *job, const xent_request *req) {
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
        memcpy(w->piece_states + (piece * STATE_FIELDS + f) * rows, (const lanes *)&s + f,
               (size_t)rows * sizeof(double));
}

static void emit_piece(void *ctx, ptrdiff_t piece) {
    group_task *t = ctx;
    t->w->k->emit(t->w->job, t->g, piece * t->w->job->piece, piece_end(t->w->job, piece), t->results, NULL, t->acc);
}

static void reduce_group(work *w, const row_group *g, reduce_kind kind, group_state *s, void *keep) {
    const xent_job *job = w->job;
    group_task t = {.w = w, .g = g, .kind = kind};
    if (kind == REDUCE_LABEL)
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
                memcpy((lanes *)into + f, w->piece_states + (piece * STATE_FIELDS + f) * g->rows,
                       (size_t)g->rows * sizeof(double));
        if (piece > 0)
            w->isa->merge(job, kind, g->rows, s, &one);
    }
}

/* Rows whose KL left its range are folded once more, without centred sums. Not inlined, as fold_js: the stack that these
 * need would be do_rows's on every way. */
__attribute__((noinline)) static void fold_again(work *w, const row_group *g, group_state *s, group_result *r) {
    group_result direct;
    reduce_group(w, g, REDUCE_PAIR, s, NULL);
    w->isa->finish(w->job, REDUCE_PAIR, g, s, &direct);
    for (int l = 0; l < g->rows; l++)
        if (r->again[l])
            r->value[l] = direct.value[l];
}

/* Jensen-Shannon, once log sum exp of both operands is known: sums of terms, and what gradients need. */
static void sum_js(work *w, const row_group *g, group_state *s, group_result *r) {
    reduce_group(w, g, REDUCE_JS, s, NULL);
    for (int l = 0; l < g->rows; l++) {
        double v = s->b.s[l] + s->b.e[l];
        v = v > LN2 ? LN2 : v; /* rounding alone gets there */
        r->value[l] = g->any_dead && g->dead[l] ? 0.0 : xent_weigh(v, g->weight[l]);
        r->gain[l] = s->t.s[l] + s->t.e[l];
    }
}

/* In rows that are near to each other log p - log q is small beside what the two log sum exp round. There their difference comes
 * from those of the logits: with S = sum (P - Q) / 2 and C = sum (P + Q) / 2 it is log((C + S) / (C - S)) = 2 atanh(S / C). */
__attribute__((noinline)) static void fold_js(work *w, row_group *g, group_state *s, group_result *r) {
    const double near = 64.0 * (w->job->is_f32 ? 0x1p-23 : 0x1p-52), apart = 0.5;
    /* Rows whose divergence is below `near` differ by at most this in their largest class, which has a share of 1 / classes
     * or more, and so does the gap. Of very many classes that says nothing; 0.1 then leaves out most rows that are not near. */
    const double most = fmin(sqrt(8.0 * near * (double)w->job->classes), 0.1);
    bool candidates = false, again = false, redo[MAX_LANES]; /* a row's own numbers decide, not its neighbours' */
    g->first = r;
    for (int l = 0; l < g->rows; l++)
        candidates = candidates || fabs(r->x_lo[l]) <= most;
    if (!candidates && w->job->op->value != VALUE_JS) /* terms, of rows that are not near */
        return;
    sum_js(w, g, s, r);
    for (int l = 0; l < g->rows; l++) {
        redo[l] = fabs(r->x_lo[l]) <= most && s->b.s[l] < near;
        again = again || redo[l];
    }
    if (!again)
        return;
    reduce_group(w, g, REDUCE_JS_GAP, s, NULL);
    for (int l = 0; l < g->rows; l++) {
        const double ratio = (s->b.s[l] + s->b.e[l]) / cosh(0.5 * r->x_lo[l]);
        if (!redo[l] || !(fabs(ratio) < apart))
            continue;
        const double gap = 2.0 * atanh(ratio);
        r->x_lo[l] = w->job->is_f32 ? (double)(float)gap : gap;
        r->y_lo[l] = gap - r->x_lo[l];
    }
    sum_js(w, g, s, r);
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
    const ptrdiff_t whole = ceil_div(r1 - r0 < w->lanes ? r1 - r0 : w->lanes, MAX_VECTOR) * MAX_VECTOR;
    xent_start_group(job, whole < MAX_LANES ? (int)whole : MAX_LANES, &g);
    if (!job->across)
        xent_clear_states(&s, MAX_ROWS_ALONG);
    cursor_seek(job, &cur, first);
    while (end <= first)
        end += w->lanes;
    for (ptrdiff_t row = first; row < r1; row = end, end += w->lanes) {
        xent_open_group(job, &cur, (int)((r1 < end ? r1 : end) - row), &g);
        if (job->into_states) {
            reduce_group(w, &g, xent_state_kind(job->op), &s, NULL);
            xent_keep_states(job, w->isa, &g, &s);
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
            if (xent_is_js(job))
                fold_js(w, &g, &s, &r);
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
 * finished together; they stay in L1 meanwhile. Where the emit needs the exponentials of the reduction and a row is one tile,
 * there are no more of them than the room for those holds. */
static void choose_group(const xent_job *job, work *w) {
    const int size = job->is_f32 ? 4 : 8, tiles = xent_kept_tiles(job);
    const ptrdiff_t tile = TILE_BYTES / (job->across ? size * w->k->lanes : size);
    const int inputs = job->op->target == XENT_TARGET_NONE || job->op->target == XENT_TARGET_LABELS ? 1 : 2;
    ptrdiff_t rows = ROWS_ALONG_BYTES / ((job->classes + 1) * size * inputs);
    w->keeps = !job->few && (job->op->emit == EMIT_P || job->op->emit == EMIT_GRAD) && job->classes <= tile;
    w->lanes = rows < 1 ? 1 : rows > MAX_ROWS_ALONG ? MAX_ROWS_ALONG : (int)rows;
    if (w->keeps && w->lanes > KEEP_BYTES / (TILE_BYTES * tiles))
        w->lanes = KEEP_BYTES / (TILE_BYTES * tiles);
    if (job->across)
        w->lanes = !w->keeps ? rows_across(job) : w->k->lanes * (KEEP_BYTES / (TILE_BYTES * tiles));
    if (w->keeps && w->lanes > GROUP_LANES)
        w->lanes = GROUP_LANES;
}

/* An element's time in units of a long row's logsumexp, roughly: what decides whether threads pay. */
static double cost(const xent_job *job) {
    double c = job->op->reduce >= REDUCE_BCE ? 4.0 : job->op->reduce == REDUCE_ENT ? 2.0 : 1.0;
    return (c + (job->op->emit != EMIT_NONE ? 1.0 : 0.0)) * (job->across ? 4.0 : 1.0) * (job->is_f32 ? 1.0 : 2.0);
}

void xent_do_job(const xent_job *job, xent_request *req, const isa_entry *isa) {
    work w = {.job = job, .k = job->is_f32 ? isa->f32 : isa->f64, .isa = isa, .req = req, .skew = skew_of(job)};
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
