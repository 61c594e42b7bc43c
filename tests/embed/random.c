/* random.c: calls of libxent that nobody would write, by the thousand: any operation, dtypes, layouts, reductions, options
 * and pieces, right or wrong. Operands, scratch and states end, or begin, where memory does: a page that may not be touched
 * follows, or precedes. What has not been a result's is as it was, all of it after an error; and so is errno.
 *
 *   random CALLS SEED      prints how many were done */
#define _DEFAULT_SOURCE
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "xent.h"

enum { PAGES = 96, AXES = 4, MARK = 0x5a, ERRNO = 4711 };

static uint64_t seed;
static long call_number;

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "random.c:%d: call %ld: %s\n", __LINE__, call_number, #condition);                         \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static unsigned any(unsigned below) { /* xorshift64* */
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (unsigned)((seed * 0x2545f4914f6cdd1dULL) >> 33) % below;
}

static bool once_in(unsigned n) {
    return any(n) == 0;
}

/* ---- memory between two pages that may not be touched ---- */
typedef struct fence {
    unsigned char *begin, *end;
} fence;

static fence fence_new(void) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    fence f;
    void *p = mmap(NULL, (PAGES + 2) * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    f.begin = (unsigned char *)p + page;
    f.end = f.begin + PAGES * page;
    CHECK(mprotect(f.begin, PAGES * page, PROT_READ | PROT_WRITE) == 0);
    return f;
}

static void fence_hide(const fence *f, bool hide) {
    CHECK(mprotect(f->begin, (size_t)(f->end - f->begin), hide ? PROT_NONE : PROT_READ | PROT_WRITE) == 0);
}

static unsigned char *place(const fence *f, size_t size) {
    CHECK(size <= (size_t)(f->end - f->begin));
    return once_in(2) ? f->begin : f->end - size;
}

/* ---- operands ---- */
static size_t size_of(int dtype) {
    static const uint8_t sizes[] = {0, 2, 2, 4, 8, 1, 1, 2, 4, 8, 1, 2, 4, 8};
    return dtype >= 0 && dtype <= XENT_U64 ? sizes[dtype] : 1;
}

typedef struct operand {
    fence memory;
    unsigned char *bytes; /* of these */
    size_t size;
    ptrdiff_t strides[AXES];
    bool written[PAGES * 65536]; /* which bytes are a result's */
} operand;

typedef struct shape {
    int ndim;
    ptrdiff_t extent[AXES + 1]; /* the last is the classes */
} shape;

/* Axes in any order, some backwards, with gaps; inputs may repeat along some. */
static xent_view lay_out(operand *o, const shape *s, int dtype, bool rows, bool classes, bool result) {
    const size_t item = size_of(dtype);
    ptrdiff_t stride[AXES + 1] = {0}, step = (ptrdiff_t)item, low = 0, high = 0;
    bool done[AXES + 1] = {false}, empty = false;
    xent_view v;
    for (int d = 0; d <= s->ndim; d++) {
        int axis = s->ndim - d; /* C order, mostly */
        if (once_in(3))
            axis = (int)any((unsigned)s->ndim + 1);
        while (done[axis])
            axis = (axis + 1) % (s->ndim + 1);
        done[axis] = true;
        if (axis < s->ndim ? !rows : !classes)
            continue;
        empty = empty || s->extent[axis] == 0;
        if (!result && once_in(12))
            continue; /* a stride of 0 */
        stride[axis] = once_in(6) ? -step : step;
        if (s->extent[axis] > 1)
            step *= s->extent[axis];
        step += once_in(6) ? (ptrdiff_t)any(3) * (once_in(4) ? 1 : (ptrdiff_t)item) : 0;
    }
    for (int d = 0; d <= s->ndim; d++) {
        ptrdiff_t reach = s->extent[d] > 0 ? stride[d] * (s->extent[d] - 1) : 0;
        low += reach < 0 ? reach : 0;
        high += reach > 0 ? reach : 0;
    }
    o->size = empty ? 0 : (size_t)(high - low) + item;
    o->bytes = place(&o->memory, o->size);
    memset(o->bytes, MARK, o->size);
    memcpy(o->strides, stride, sizeof o->strides);
    memset(&v, 0, sizeof v);
    v.data = o->bytes - low;
    v.strides = o->strides;
    v.class_stride = stride[s->ndim];
    v.dtype = (uint8_t)dtype;
    v.swapped = once_in(8) && item > 1;
    return v;
}

/* Every element's place, or those of one that is written. */
static void each(const shape *s, const xent_view *v, bool classes,
                 void (*f)(operand *, unsigned char *, const xent_view *), operand *o) {
    ptrdiff_t index[AXES + 1] = {0};
    const int axes = classes ? s->ndim + 1 : s->ndim;
    for (int d = 0; d < axes; d++)
        if (s->extent[classes || d < s->ndim ? d : s->ndim] == 0)
            return;
    for (;;) {
        unsigned char *p = v->data;
        int d = axes - 1;
        for (int a = 0; a < axes; a++)
            p += index[a] * (a < s->ndim ? o->strides[a] : v->class_stride);
        f(o, p, v);
        while (d >= 0 && ++index[d] == s->extent[d])
            index[d--] = 0;
        if (d < 0)
            return;
    }
}

static void put_bits(unsigned char *p, uint64_t bits, const xent_view *v) {
    const size_t n = size_of(v->dtype);
    for (size_t i = 0; i < n; i++)
        p[v->swapped ? n - 1 - i : i] = (unsigned char)(bits >> 8 * i);
}

static bool tame; /* whether floats stay where two ways to a value agree closely */

static void put_float(operand *o, unsigned char *p, const xent_view *v) {
    static const double special[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 1e300, -1e300, 700.0, -90.0, 1.0};
    const double d = !tame && once_in(9) ? special[any(10)] : (double)any(20001) / 1000.0 - (once_in(3) ? 10.0 : 0.0);
    const float f = (float)d;
    uint64_t bits;
    uint32_t half;
    (void)o;
    memcpy(&bits, &d, sizeof d);
    memcpy(&half, &f, sizeof f);
    if (v->dtype == XENT_F32)
        bits = half;
    else if (v->dtype == XENT_BF16)
        bits = half >> 16;
    else if (v->dtype == XENT_F16)
        bits = tame ? any(0x4800) | (once_in(3) ? 0x8000u : 0) : any(65536);
    put_bits(p, bits, v);
}

/* Temperatures, one of which may be none. */
static void put_temperature(operand *o, unsigned char *p, const xent_view *v) {
    static const double special[] = {0.0, -1.0, INFINITY, NAN};
    static const double far[] = {1e-320, 1e300, 1e-30, 1e-300, 1e39};
    double d = 0.05 + (double)any(4000) / 1000.0;
    uint64_t bits;
    if (once_in(200))
        d = special[any(4)];
    else if (!tame && once_in(5))
        d = far[any(5)];
    (void)o;
    memcpy(&bits, &d, sizeof d);
    put_bits(p, bits, v);
}

static ptrdiff_t label_classes;
static void put_label(operand *o, unsigned char *p, const xent_view *v) {
    (void)o;
    put_bits(p, once_in(400) ? any(300) - 9u : any((unsigned)label_classes + (label_classes == 0)), v);
}

static void put_bool(operand *o, unsigned char *p, const xent_view *v) {
    (void)o, (void)v;
    *p = (unsigned char)(once_in(3) ? 0 : any(256));
}

static void mark_written(operand *o, unsigned char *p, const xent_view *v) {
    memset(o->written + (p - o->bytes), true, size_of(v->dtype));
}

static bool others_untouched(const operand *o) {
    for (size_t i = 0; i < o->size; i++)
        if (!o->written[i] && o->bytes[i] != MARK)
            return false;
    return true;
}

/* ---- calls ---- */
enum { X, T, VALUE, OUT, WHERE, CLASS_WEIGHT, POS_WEIGHT, WEIGHT, TEMPERATURE, OPERANDS };
static operand *operands; /* OPERANDS of them */
static fence scratch_memory, state_memory, more_states;

static shape any_shape(void) {
    static const ptrdiff_t classes[] = {0, 1, 2, 3, 5, 8, 10, 16, 17, 31, 32, 33, 47, 64, 65, 100, 130, 257, 515, 1000};
    shape s = {.ndim = (int)any(AXES + 1)};
    ptrdiff_t rows = 1;
    for (int d = 0; d < s.ndim; d++) {
        s.extent[d] = once_in(20) ? 0 : 1 + (ptrdiff_t)any(once_in(4) ? 40 : 4);
        s.extent[d] = rows * s.extent[d] > 150 ? 1 : s.extent[d];
        rows *= s.extent[d];
    }
    s.extent[s.ndim] = classes[any(sizeof classes / sizeof classes[0])];
    if (rows * s.extent[s.ndim] > 4000)
        s.extent[s.ndim] = 1 + (ptrdiff_t)any(20);
    return s;
}

static int any_float(void) {
    return XENT_F16 + (int)any(4);
}

static void any_request(xent_request *q, const shape *s) {
    const xent_op_info *info;
    int ops;
    xent_request_init(q);
    info = xent_ops(&ops);
    q->op = (int)any((unsigned)ops);
    info += q->op;
    q->compute = once_in(2) ? XENT_F32 : XENT_F64;
    q->ndim = s->ndim;
    q->shape = s->extent;
    q->classes = label_classes = s->extent[s->ndim];
    q->reduction = once_in(2) ? XENT_NONE : (int)any(XENT_PER_CLASS + 1);
    if (info->target == XENT_TARGET_POINT)
        q->reduction = XENT_NONE;
    q->logits = lay_out(&operands[X], s, any_float(), true, true, false);
    each(s, &q->logits, true, put_float, &operands[X]);
    if (info->target == XENT_TARGET_LABELS || (info->target == XENT_TARGET_PROBS && once_in(4))) {
        const int dtype = label_classes > 127 ? XENT_I64 : XENT_I8 + (int)any(XENT_U64 - XENT_I8 + 1);
        q->target = lay_out(&operands[T], s, dtype, true, false, false);
        each(s, &q->target, false, put_label, &operands[T]);
        if (once_in(3)) {
            q->has_ignore_index = 1;
            q->ignore_index = (int64_t)any(4) - 1;
        }
    } else if (info->target != XENT_TARGET_NONE) {
        q->target = lay_out(&operands[T], s, any_float(), true, true, false);
        each(s, &q->target, true, put_float, &operands[T]);
    }
    operands[VALUE].size = operands[OUT].size = 0;
    if (info->has_value) {
        const bool rows = q->reduction == XENT_NONE;
        shape one = rows ? *s : (shape){0};
        q->value = lay_out(&operands[VALUE], &one, any_float(), rows, false, true);
        memset(operands[VALUE].written, false, operands[VALUE].size);
        each(&one, &q->value, false, mark_written, &operands[VALUE]);
    }
    if (info->has_emit) {
        shape one = {.extent = {q->classes}};
        const shape *of = q->reduction == XENT_PER_CLASS ? &one : s;
        q->out = lay_out(&operands[OUT], of, any_float(), true, true, true);
        memset(operands[OUT].written, false, operands[OUT].size);
        each(of, &q->out, true, mark_written, &operands[OUT]);
    }
    if (once_in(6)) {
        q->where = lay_out(&operands[WHERE], s, XENT_BOOL, true, true, false);
        each(s, &q->where, true, put_bool, &operands[WHERE]);
    }
    for (int o = CLASS_WEIGHT; o <= TEMPERATURE; o++)
        if (once_in(8)) {
            const bool rows = o >= WEIGHT;
            xent_view *v[] = {&q->class_weight, &q->pos_weight, &q->sample_weight, &q->temperature};
            xent_view *mine = v[o - CLASS_WEIGHT];
            *mine = lay_out(&operands[o], s, XENT_F64, rows, !rows, false);
            if (rows) {
                each(s, mine, false, o == TEMPERATURE ? put_temperature : put_float, &operands[o]);
            } else {
                const shape row = {.extent = {q->classes}};
                each(&row, mine, true, put_float, &operands[o]);
            }
        }
    q->label_smoothing = once_in(8) ? 0.1 : 0.0;
    q->grad_scale = once_in(8) ? -2.5 : 1.0;
    q->threads = (int)any(3);
}

/* What a caller gets wrong. */
static void spoil(xent_request *q) {
    static const ptrdiff_t huge[] = {PTRDIFF_MAX, PTRDIFF_MAX / 2, (ptrdiff_t)1 << 60, -1, PTRDIFF_MIN};
    static ptrdiff_t extents[AXES];
    switch (any(10)) {
    case 0:
        q->logits.data = NULL;
        break;
    case 1:
        q->target.data = NULL;
        break;
    case 2:
        q->value.data = NULL;
        break;
    case 3:
        q->out.strides = NULL;
        break;
    case 4:
        q->logits.dtype = (uint8_t)(once_in(9) ? XENT_NO_DTYPE : XENT_BOOL + any(256 - XENT_BOOL));
        break;
    case 5:
        q->target.dtype = (uint8_t)(once_in(9) ? XENT_BOOL : XENT_U64 + 1 + any(255 - XENT_U64));
        break;
    case 6: /* far more than there is */
        q->classes = huge[any(5)];
        break;
    case 7:
        for (int d = 0; d < q->ndim; d++)
            extents[d] = huge[any(5)];
        q->shape = extents;
        break;
    case 8:
        q->compute = (int)any(20);
        break;
    default:
        q->ndim = XENT_MAX_NDIM + (int)any(3);
        q->shape = NULL;
    }
}

static bool untouched(const operand *o) {
    for (size_t i = 0; i < o->size; i++)
        if (o->bytes[i] != MARK)
            return false;
    return true;
}

/* Whether it was done. */
static bool run_any(void) {
    const shape s = (tame = false, any_shape());
    const bool spoilt = once_in(10);
    xent_request q;
    xent_status status;
    size_t size = 0;
    any_request(&q, &s);
    if (spoilt)
        spoil(&q);
    errno = ERRNO;
    status = xent_scratch_size(&q, &size);
    if (status == XENT_OK && size > 0) {
        CHECK(q.classes <= 1000);
        q.scratch = place(&scratch_memory, size);
        q.scratch_size = size;
        if (once_in(10)) {
            /* said before the labels and weights are read, which need not be readable */
            const int hidden[] = {T, WEIGHT, TEMPERATURE};
            q.scratch_size--;
            for (int h = 0; h < 3; h++)
                fence_hide(&operands[hidden[h]].memory, true);
            status = xent_run(&q);
            for (int h = 0; h < 3; h++)
                fence_hide(&operands[hidden[h]].memory, false);
            CHECK(status == XENT_ERR_SCRATCH);
            CHECK(untouched(&operands[VALUE]) && untouched(&operands[OUT]));
            q.scratch_size++;
        }
    }
    CHECK(!spoilt || status != XENT_OK || q.classes <= 1000);
    status = xent_run(&q);
    CHECK(errno == ERRNO);
    if (status != XENT_OK) {
        CHECK(untouched(&operands[VALUE]) && untouched(&operands[OUT]));
        return false;
    }
    CHECK(others_untouched(&operands[VALUE]) && others_untouched(&operands[OUT]));
    return true;
}

/* What xent_run makes of the rows, in doubles. */
static xent_status run_whole(const xent_request *q, double *value) {
    ptrdiff_t strides[AXES];
    ptrdiff_t step = (ptrdiff_t)sizeof *value;
    size_t size = 0;
    xent_request all = *q;
    for (int d = q->ndim - 1; d >= 0; d--) {
        strides[d] = step;
        step *= q->shape[d];
    }
    all.value = (xent_view){.data = value, .strides = strides, .dtype = XENT_F64};
    if (xent_scratch_size(&all, &size) == XENT_OK && size > 0) {
        all.scratch = place(&scratch_memory, size);
        all.scratch_size = size;
    }
    return xent_run(&all);
}

static bool alike(double a, double b, int compute) {
    const double tolerance = compute == XENT_F32 ? 2e-3 : 1e-8;
    return isnan(a) || isnan(b) ? isnan(a) && isnan(b) : a == b || fabs(a - b) <= tolerance * (1.0 + fabs(a));
}

/* ---- states from elsewhere ---- */
enum { AT_OP = 2, AT_COMPUTE, AT_TARGET, AT_FLAGS, AT_UNUSED, AT_CLASSES = 8, AT_WEIGHT = 16, AT_SUMS = 32 };

/* A head that no pieces lead to. */
static void spoil_head(unsigned char *p) {
    static const int64_t counts[] = {-1, INT64_MAX, INT64_MIN, INT64_MAX / 2};
    const double weight = once_in(2) ? NAN : 2.0;
    switch (any(8)) {
    case 0:
        p[any(2)] ^= 1u;
        break;
    case 1:
        p[AT_OP] = (unsigned char)(200 + any(56));
        break;
    case 2:
        p[AT_COMPUTE] = (unsigned char)(XENT_F64 + 1 + any(200));
        break;
    case 3:
        p[AT_TARGET] = (unsigned char)(XENT_U64 + 1 + any(200));
        break;
    case 4:
        p[AT_FLAGS] |= (unsigned char)(16 << any(4));
        break;
    case 5:
        p[AT_UNUSED + (int)any(2)] = (unsigned char)(1 + any(255));
        break;
    case 6:
        p[AT_FLAGS] &= (unsigned char)~3u; /* no piece holds the label, and yet it weighs */
        memcpy(p + AT_WEIGHT, &weight, sizeof weight);
        break;
    default:
        memcpy(p + AT_CLASSES, &counts[any(4)], sizeof counts[0]);
    }
}

/* Refused where the head shows it, without a change; where it does not, done with whatever the sums hold. */
static void hostile_states(size_t rows, size_t size, unsigned char *states, unsigned char *others, void *value) {
    static const double numbers[] = {NAN, INFINITY, -INFINITY, 1e308, -1e308, 4e-320, 1e19, -3e9, 0.0};
    const size_t row = any((unsigned)rows);
    unsigned char *const spoilt = once_in(2) ? states : others, *const p = spoilt + row * size;
    if (once_in(2)) {
        unsigned char *const kept = malloc(size * rows);
        CHECK(kept);
        spoil_head(p);
        memcpy(kept, states, size * rows);
        CHECK(xent_state_merge(rows, states, others) == XENT_ERR_STATE);
        CHECK(memcmp(kept, states, size * rows) == 0);
        const xent_status status = xent_state_finish(rows, spoilt, XENT_F64, value, NULL);
        CHECK(status == XENT_ERR_STATE || (spoilt == others && status == XENT_ERR_LABEL)); /* of an earlier row */
        free(kept);
        return;
    }
    if (once_in(3)) { /* each may be, but not together */
        const int64_t most = INT64_MAX / 4;
        memcpy(states + row * size + AT_CLASSES, &most, sizeof most);
        memcpy(others + row * size + AT_CLASSES, &most, sizeof most);
        CHECK(xent_state_merge(rows, states, others) == XENT_ERR_STATE);
        (void)xent_state_finish(rows, states, XENT_F64, value, NULL);
        return;
    }
    for (unsigned n = 1 + any(4), at; n > 0; n--)
        if (once_in(2)) { /* the operation says how large a state is, so the caller has to know it */
            at = any((unsigned)size);
            p[at] ^= (unsigned char)(at == AT_OP ? 0 : 1u << any(8));
        } else
            memcpy(p + AT_SUMS + 8 * any((unsigned)(size - AT_SUMS) / 8 + 1) - 8, &numbers[any(9)], 8);
    (void)xent_state_merge(rows, states, others);
    (void)xent_state_finish(rows, states, XENT_F64, value, NULL);
    (void)xent_state_finish(rows, others, XENT_F32, value, NULL);
}

/* The classes in pieces, in two states a row, which are then merged. */
static bool run_states(void) {
    const shape s = (tame = once_in(2), any_shape());
    const xent_op_info *info;
    xent_request q, piece;
    ptrdiff_t rows = 1, from = 0;
    unsigned char *states, *others, *value;
    size_t size, width, bad;
    int dtype;
    xent_status whole_status = XENT_OK, status = XENT_OK;
    double whole[160];
    any_request(&q, &s);
    info = xent_ops(NULL) + q.op;
    q.reduction = XENT_NONE;
    q.sample_weight.data = NULL;
    q.label_smoothing = 0.0;
    size = xent_state_size(q.op);
    for (int d = 0; d < s.ndim; d++)
        rows *= s.extent[d];
    CHECK(rows <= 160);
    states = place(&state_memory, size * (size_t)rows);
    others = place(&more_states, size * (size_t)rows);
    errno = ERRNO;
    if (xent_state_start(q.op, q.compute, (size_t)rows, states) != XENT_OK)
        return false;
    CHECK(xent_state_start(q.op, q.compute, (size_t)rows, others) == XENT_OK);
    whole_status = run_whole(&q, whole);
    for (int n = 0; n < 3 && status == XENT_OK; n++) {
        const ptrdiff_t to = n == 2 ? q.classes : from + (ptrdiff_t)any((unsigned)(q.classes - from) + 1);
        const xent_view *views[] = {&q.logits, &q.target, &q.where, &q.class_weight, &q.pos_weight};
        xent_view *part[] = {&piece.logits, &piece.target, &piece.where, &piece.class_weight, &piece.pos_weight};
        piece = q;
        piece.classes = to - from;
        for (int v = 0; v < 5; v++)
            if (views[v]->data)
                part[v]->data = (unsigned char *)views[v]->data + from * views[v]->class_stride;
        status = xent_state_update(&piece, from, once_in(2) ? states : others);
        from = to;
    }
    if (status == XENT_OK)
        CHECK(xent_state_merge((size_t)rows, states, others) == XENT_OK);
    dtype = any_float();
    width = (size_t)rows * size_of(dtype);
    value = place(&operands[VALUE].memory, width);
    memset(value, MARK, width);
    if (status == XENT_OK) {
        status = xent_state_finish((size_t)rows, states, dtype, value, &bad);
        if (status != XENT_OK) {
            CHECK(bad < (size_t)rows);
            for (size_t i = 0; i < width; i++)
                CHECK(value[i] == MARK);
        }
    }
    /* As xent_run, but that one-hot labels are none of the states' targets, and that a label which no piece holds shows
     * at the end alone: after a temperature that is none. */
    CHECK(errno == ERRNO);
    if (info->target == XENT_TARGET_LABELS || q.target.dtype <= XENT_F64)
        CHECK(status == whole_status || (status == XENT_ERR_OPTION && whole_status == XENT_ERR_LABEL));
    if (status != XENT_OK)
        return false;
    if (tame && rows > 0) {
        double *const finished = (void *)(operands[OUT].memory.begin);
        CHECK(xent_state_finish((size_t)rows, states, XENT_F64, finished, NULL) == XENT_OK);
        for (ptrdiff_t r = 0; r < rows; r++) {
            if (!alike(whole[r], finished[r], q.compute))
                fprintf(stderr, "%s: row %td of %td, %td classes: %.17g, in pieces %.17g\n", info->name, r, rows,
                        q.classes, whole[r], finished[r]);
            CHECK(alike(whole[r], finished[r], q.compute));
        }
    }
    if (rows > 0)
        hostile_states((size_t)rows, size, states, others, operands[OUT].memory.begin);
    else
        CHECK(xent_state_merge(0, NULL, NULL) == XENT_OK && xent_state_finish(0, NULL, dtype, NULL, NULL) == XENT_OK);
    CHECK(errno == ERRNO);
    return true;
}

int main(int argc, char **argv) {
    const long calls = argc > 1 ? atol(argv[1]) : 10000;
    long done[2] = {0, 0};
    operands = calloc(OPERANDS, sizeof *operands);
    seed = 0x9e3779b97f4a7c15ULL * (argc > 2 ? strtoull(argv[2], NULL, 10) + 1 : 1);
    CHECK(operands);
    for (int o = 0; o < OPERANDS; o++)
        operands[o].memory = fence_new();
    scratch_memory = fence_new();
    state_memory = fence_new();
    more_states = fence_new();
    for (call_number = 0; call_number < calls; call_number++) {
        int isas = 0;
        while (xent_isa_name(isas))
            isas++;
        CHECK(xent_set_isa(xent_isa_name((int)any((unsigned)isas))) == XENT_OK);
        done[0] += run_any();
        done[1] += run_states();
    }
    printf("%ld requests: %ld done; as many rows in pieces: %ld done\n", calls, done[0], done[1]);
    return 0;
}
