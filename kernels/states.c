/* states.c: rows that come in pieces. A state is one row of a group_state, as much of it as the operation's reduction uses,
 * behind what else a value needs: how many classes there were, and what is known of the row's label. A piece is a job whose
 * values are its rows' states. */
#include "run.h"
#include "storage.h"

enum { MARK = 0x78 };
enum {
    SEEN = 1,    /* a piece holds the row's label */
    KNOWN = 2,   /* ... and does not mask it      */
    COUNTS = 4,  /* a piece has classes that count, and the label is not ignored */
    LABELLED = 8 /* a piece came with the row's label, which is not ignored */
};
/* What a row may have in all, so that counting its classes cannot overflow. */
#define MOST_CLASSES (INT64_MAX / 4)

typedef struct head {
    uint8_t mark, abi, op, compute;
    uint8_t target; /* the target's dtype; XENT_NO_DTYPE before the first piece */
    uint8_t flags, unused[2];
    int64_t classes;
    double weight, x_label;
} head;

static reduce_kind kind_of(const op_entry *op) {
    return xent_reduce_of(op->reduce).of_pieces;
}

static const op_entry *op_with_states(int op) {
    const op_entry *e = xent_op_at(op);
    return e && e->value != VALUE_NONE && e->value != VALUE_JS && e->emit == EMIT_NONE ? e : NULL;
}

/* ---- rows in memory ---- */
/* The numbers of the fields that the operation's states have; returns how many. */
static int fields_of(const op_entry *op, int at[STATE_FIELDS]) {
    return xent_state_fields(xent_parts(kind_of(op)), at);
}

size_t xent_state_size(int op) {
    int at[STATE_FIELDS];
    const op_entry *e = op_with_states(op);
    return e ? sizeof(head) + (size_t)fields_of(e, at) * sizeof(double) : 0;
}

static void load_row(const char *p, const int *at, int fields, group_state *s, int l) {
    p += sizeof(head);
    for (int f = 0; f < fields; f++, p += sizeof(double))
        memcpy(&((per_row *)s)[at[f]][l], p, sizeof(double));
}

static void store_row(char *p, const int *at, int fields, const group_state *s, int l) {
    p += sizeof(head);
    for (int f = 0; f < fields; f++, p += sizeof(double))
        memcpy(p, &((const per_row *)s)[at[f]][l], sizeof(double));
}

static head head_at(const void *p) {
    head h;
    memcpy(&h, p, sizeof h);
    return h;
}

/* Whether the operation takes targets of this dtype. */
static bool takes(const op_entry *op, int dtype) {
    if (dtype == XENT_NO_DTYPE)
        return true;
    return op->target == XENT_TARGET_LABELS ? xent_is_integer(dtype)
                                            : op->target != XENT_TARGET_NONE && xent_is_float(dtype);
}

/* All that is made use of, since states may come from elsewhere: a head that no pieces lead to is refused. The sums behind
 * it may be any numbers. */
static bool is_state(const head *h) {
    const op_entry *op = op_with_states(h->op);
    if (h->mark != MARK || h->abi != XENT_ABI_VERSION || !op || (h->compute != XENT_F32 && h->compute != XENT_F64) ||
        !takes(op, h->target) || h->unused[0] || h->unused[1] || h->classes < 0 || h->classes > MOST_CLASSES)
        return false;
    if (op->target != XENT_TARGET_LABELS)
        return (h->flags & ~COUNTS) == 0 && h->weight == 1.0 && h->x_label == 0.0;
    return (h->flags & ~(SEEN | KNOWN | COUNTS | LABELLED)) == 0 && ((h->flags & SEEN) || h->weight == 1.0) &&
           ((h->flags & SEEN) || !(h->flags & KNOWN)) && ((h->flags & KNOWN) || h->x_label == 0.0);
}

/* Whether a piece or a state of this operation and these dtypes goes into the state. */
static bool fits(const head *h, int op, int compute, int target) {
    return is_state(h) && h->op == op && h->compute == compute &&
           (h->target == XENT_NO_DTYPE || target == XENT_NO_DTYPE || h->target == target);
}

/* Whether two heads are of one row: it has not too many classes, and one place for its label. */
static bool go_together(const head *a, const head *b) {
    return a->classes <= MOST_CLASSES - b->classes && !(a->flags & b->flags & SEEN);
}

/* What one state's head becomes with another piece of the row. */
static head joined(head a, head b) {
    a.target = a.target == XENT_NO_DTYPE ? b.target : a.target;
    a.flags |= b.flags;
    a.classes += b.classes;
    a.weight *= b.weight;   /* 1 where the label is elsewhere, */
    a.x_label += b.x_label; /* and 0 */
    return a;
}

/* As much of a job as merging and finishing ask for. */
static void start_job(const head *h, xent_job *job) {
    memset(job, 0, sizeof *job);
    job->op = xent_op_at(h->op);
    job->is_f32 = h->compute == XENT_F32;
    job->classes = (ptrdiff_t)h->classes;
    job->at[OPERAND_T].dtype = h->target;
    job->grad_scale = job->divisor = job->class_scale = 1.0;
}

/* ---- joining ---- */
/* Rows of `more` join the states at p; a state without classes becomes what comes. */
static void join_rows(const xent_job *job, const isa_entry *isa, char *const p[], const head more[], int rows,
                      const group_state *s) {
    int at[STATE_FIELDS];
    const int fields = fields_of(job->op, at);
    group_state sum;
    bool merges = false;
    xent_clear_states(&sum, rows);
    for (int l = 0; l < rows; l++) {
        load_row(p[l], at, fields, &sum, l);
        merges = merges || head_at(p[l]).classes > 0;
    }
    if (merges && fields > 0)
        isa->merge(kind_of(job->op), rows, &sum, s);
    for (int l = 0; l < rows; l++) {
        const head old = head_at(p[l]), new = joined(old, more[l]);
        if (more[l].classes > 0)
            store_row(p[l], at, fields, old.classes > 0 ? &sum : s, l);
        memcpy(p[l], &new, sizeof new);
    }
}

static void keep_states(const xent_job *job, const isa_entry *isa, const row_group *g, group_state *s) {
    const operand *t = &job->at[OPERAND_T], *states = &job->at[OPERAND_VALUE];
    const bool weighed = job->class_scale != 1.0; /* pieces have scales of their own, states none */
    char *p[GROUP_ROWS];
    head more[GROUP_ROWS];
    for (int l = 0; weighed && l < g->rows; l++) {
        s->b.s[l] *= job->class_scale, s->b.e[l] *= job->class_scale;
        s->t.s[l] *= job->class_scale, s->t.e[l] *= job->class_scale;
    }
    for (int l = 0; l < g->rows; l++) {
        head h = {.classes = job->classes, .weight = job->has_labels ? g->weight[l] : 1.0, .x_label = g->x_label[l]};
        if (t->data)
            h.target = (uint8_t)t->dtype;
        if (job->has_labels) {
            int64_t y = xent_load_label(t->data + g->off[OPERAND_T][l], t->dtype, t->swapped);
            if (!(job->has_ignore && y == job->ignore_index))
                h.flags |= LABELLED;
            if (y >= job->first_class && y - job->first_class < job->classes)
                h.flags |= SEEN;
        }
        if (g->known[l] != 0.0)
            h.flags |= KNOWN;
        if (!g->dead[l] && job->classes > 0)
            h.flags |= COUNTS;
        more[l] = h;
        p[l] = states->data + g->off[OPERAND_VALUE][l];
    }
    join_rows(job, isa, p, more, g->rows, s);
}

/* How many states from p on are alike but for what they hold, up to a group. */
static int run_of_alike(const char *p, size_t size, size_t rows, const head *first) {
    int n = 1;
    while (n < GROUP_ROWS && (size_t)n < rows) {
        const head h = head_at(p + (size_t)n * size);
        if (h.op != first->op || h.compute != first->compute || h.target != first->target ||
            h.classes != first->classes)
            break;
        n++;
    }
    return n;
}

/* ---- the public entry points ---- */
xent_status xent_state_start(int op, int compute, size_t rows, void *states) {
    const size_t size = xent_state_size(op);
    const head h = {.mark = MARK, .abi = XENT_ABI_VERSION, .op = (uint8_t)op, .compute = (uint8_t)compute, .weight = 1};
    int at[STATE_FIELDS], fields;
    group_state s;
    if (size == 0)
        return XENT_ERR_OP;
    if (compute != XENT_F32 && compute != XENT_F64)
        return XENT_ERR_DTYPE;
    if (rows > PTRDIFF_MAX / size)
        return XENT_ERR_SHAPE;
    if (rows > 0 && !states)
        return XENT_ERR_NULL;
    fields = fields_of(xent_op_at(op), at);
    xent_clear_states(&s, 1);
    s.x.m[0] = s.y.m[0] = -INFINITY;
    for (char *p = states; rows > 0; rows--, p += size) {
        memcpy(p, &h, sizeof h);
        store_row(p, at, fields, &s, 0);
    }
    return XENT_OK;
}

xent_status xent_state_update(xent_request *piece, ptrdiff_t first_class, void *states) {
    const isa_entry *isa = xent_current_isa();
    const op_entry *op;
    xent_request req;
    xent_job job;
    xent_status status;
    ptrdiff_t strides[XENT_MAX_NDIM];
    size_t size, step;
    if (!isa)
        return XENT_ERR_ISA;
    if (!piece || piece->struct_size != sizeof *piece)
        return XENT_ERR_REQUEST;
    op = op_with_states(piece->op);
    if (!op)
        return XENT_ERR_OP;
    if (op->target == XENT_TARGET_PROBS && !xent_is_float(piece->target.dtype)) /* one-hot: the operation of labels */
        return XENT_ERR_DTYPE;
    if (piece->sample_weight.data || piece->label_smoothing != 0.0)
        return XENT_ERR_OPTION;
    if (piece->reduction != XENT_NONE)
        return XENT_ERR_REDUCTION;
    if (first_class < 0 || piece->ndim < 0 || piece->ndim > XENT_MAX_NDIM || (piece->ndim > 0 && !piece->shape))
        return XENT_ERR_SHAPE;

    req = *piece;
    size = xent_state_size(piece->op);
    step = size;
    for (int d = piece->ndim - 1; d >= 0; d--) {
        strides[d] = (ptrdiff_t)step;
        step *= (size_t)piece->shape[d];
    }
    req.value = (xent_view){.data = states, .strides = strides, .dtype = XENT_F64};
    status = xent_make_job(&req, &job);
    if (status != XENT_OK)
        return status;
    if (job.rows > PTRDIFF_MAX / (ptrdiff_t)size)
        return XENT_ERR_SHAPE;
    for (ptrdiff_t row = 0; row < job.rows; row++) {
        const head h = head_at((const char *)states + (size_t)row * size);
        const int target = op->target == XENT_TARGET_NONE ? XENT_NO_DTYPE : piece->target.dtype;
        if (!fits(&h, piece->op, piece->compute, target) || h.classes > MOST_CLASSES - job.classes)
            return XENT_ERR_STATE;
    }
    status = xent_read_piece(piece, &job);
    if (status != XENT_OK)
        return status;
    job.first_class = first_class;
    xent_do_with_what_there_is(&job, &req, isa, keep_states);
    return XENT_OK;
}

xent_status xent_state_merge(size_t rows, void *into, const void *other) {
    const isa_entry *isa = xent_current_isa();
    const char *b = other;
    char *a = into;
    size_t size;
    head first;
    if (!isa)
        return XENT_ERR_ISA;
    if (rows == 0)
        return XENT_OK;
    if (!into || !other)
        return XENT_ERR_NULL;
    first = head_at(into);
    if (!is_state(&first))
        return XENT_ERR_STATE;
    size = xent_state_size(first.op);
    if (rows > PTRDIFF_MAX / size)
        return XENT_ERR_SHAPE;
    for (size_t row = 0; row < rows; row++) {
        const head h = head_at(a + row * size), more = head_at(b + row * size);
        if (!fits(&h, first.op, first.compute, more.target) || !fits(&more, first.op, first.compute, h.target) ||
            !go_together(&h, &more))
            return XENT_ERR_STATE;
    }
    for (size_t row = 0; row < rows;) {
        int at[STATE_FIELDS], n = rows - row < GROUP_ROWS ? (int)(rows - row) : GROUP_ROWS;
        char *p[GROUP_ROWS];
        head heads[GROUP_ROWS];
        group_state s;
        xent_job job;
        start_job(&first, &job);
        xent_clear_states(&s, n);
        for (int l = 0; l < n; l++, row++) {
            p[l] = a + row * size;
            heads[l] = head_at(b + row * size);
            load_row(b + row * size, at, fields_of(job.op, at), &s, l);
        }
        join_rows(&job, isa, p, heads, n, &s);
    }
    return XENT_OK;
}

xent_status xent_state_finish(size_t rows, const void *states, int dtype, void *value, size_t *bad_row) {
    const isa_entry *isa = xent_current_isa();
    const char *p = states;
    const int width = xent_dtype_size(dtype);
    size_t size;
    head first;
    if (!isa)
        return XENT_ERR_ISA;
    if (!xent_is_float(dtype))
        return XENT_ERR_DTYPE;
    if (rows == 0)
        return XENT_OK;
    if (!states || !value)
        return XENT_ERR_NULL;
    first = head_at(states);
    if (!is_state(&first))
        return XENT_ERR_STATE;
    size = xent_state_size(first.op);
    if (rows > PTRDIFF_MAX / size)
        return XENT_ERR_SHAPE;
    for (size_t row = 0; row < rows; row++) {
        const head h = head_at(p + row * size);
        if (!fits(&h, first.op, first.compute, XENT_NO_DTYPE))
            return XENT_ERR_STATE;
        if (xent_op_at(h.op)->target == XENT_TARGET_LABELS && (h.flags & LABELLED) && !(h.flags & SEEN)) {
            if (bad_row)
                *bad_row = row;
            return XENT_ERR_LABEL;
        }
    }
    for (size_t row = 0; row < rows;) {
        int at[STATE_FIELDS];
        row_group g;
        group_state s;
        group_result r;
        xent_job job;
        first = head_at(p + row * size);
        start_job(&first, &job);
        xent_clear_states(&s, GROUP_ROWS);
        xent_start_group(&job, GROUP_ROWS, &g);
        g.rows = run_of_alike(p + row * size, size, rows - row, &first);
        g.any_dead = false;
        for (int l = 0; l < g.rows; l++) {
            const char *q = p + (row + (size_t)l) * size;
            const head h = head_at(q);
            load_row(q, at, fields_of(job.op, at), &s, l);
            g.weight[l] = h.weight;
            g.known[l] = h.flags & KNOWN ? 1.0 : 0.0;
            g.x_label[l] = h.x_label;
            g.dead[l] = !(h.flags & COUNTS);
            g.any_dead = g.any_dead || g.dead[l];
        }
        isa->finish(&job, kind_of(job.op), &g, &s, &r);
        for (int l = 0; l < g.rows; l++, row++)
            xent_store_scalar((char *)value + row * (size_t)width, dtype, 0, r.value[l]);
    }
    return XENT_OK;
}
