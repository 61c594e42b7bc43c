/* functions.c: a function for each operation and dtype, on contiguous rows: requests without options. The functions come from
 * ops.def, in xent.h by declare.awk and here by the preprocessor: where the two differ this file does not compile. */
#include "run.h"

enum { ROOM = 16384 }; /* on the stack: enough for threads to share a row of 5 million classes */

static xent_view view_of(const void *data, int dtype, const ptrdiff_t *stride, ptrdiff_t class_stride) {
    xent_view v = {.strides = stride, .class_stride = class_stride, .dtype = (uint8_t)dtype};
    v.data = (void *)(uintptr_t)data; /* inputs are only read */
    return v;
}

static xent_status run(int op, int dtype, const void *x, const void *t, size_t rows, size_t classes, void *value,
                       void *out) {
    _Alignas(64) char room[ROOM];
    const bool labels = xent_op_at(op)->target == XENT_TARGET_LABELS;
    const size_t size = (size_t)xent_dtype_size(dtype), most = PTRDIFF_MAX / size;
    const ptrdiff_t shape = (ptrdiff_t)rows, item = (ptrdiff_t)size, label = sizeof(int64_t);
    const ptrdiff_t row = (ptrdiff_t)(classes * size);
    xent_request req;
    if (classes > most || rows > (classes > 0 ? most / classes : most))
        return XENT_ERR_SHAPE;
    xent_request_init(&req);
    req.op = op;
    req.compute = dtype == XENT_F64 ? XENT_F64 : XENT_F32;
    req.ndim = 1;
    req.shape = &shape;
    req.classes = (ptrdiff_t)classes;
    req.logits = view_of(x, dtype, &row, item);
    req.target = labels ? view_of(t, XENT_I64, &label, 0) : view_of(t, dtype, &row, item);
    req.value = view_of(value, dtype, &item, 0);
    req.out = view_of(out, dtype, &row, item);
    req.scratch = room;
    req.scratch_size = sizeof room;
    return xent_run_with_what_there_is(&req);
}

/* What the function of an operation is given, by what ops.def says of it. Pairs of numbers have no rows: they are the
 * classes of one. */
#define OPERAND_NONE(REAL)
#define OPERAND_PROBS(REAL) const REAL *t,
#define OPERAND_LOGITS(REAL) const REAL *t,
#define OPERAND_LOG_PROBS(REAL) const REAL *t,
#define OPERAND_LABELS(REAL) const int64_t *t,
#define OPERAND_POINT(REAL) const REAL *t,
#define SECOND_NONE NULL
#define SECOND_PROBS t
#define SECOND_LOGITS t
#define SECOND_LOG_PROBS t
#define SECOND_LABELS t
#define SECOND_POINT t
#define EXTENT_NONE size_t rows, size_t classes
#define EXTENT_PROBS size_t rows, size_t classes
#define EXTENT_LOGITS size_t rows, size_t classes
#define EXTENT_LOG_PROBS size_t rows, size_t classes
#define EXTENT_LABELS size_t rows, size_t classes
#define EXTENT_POINT size_t classes
#define ROWS_NONE rows
#define ROWS_PROBS rows
#define ROWS_LOGITS rows
#define ROWS_LOG_PROBS rows
#define ROWS_LABELS rows
#define ROWS_POINT 1

/* HAS(X): 0 for NONE, else 1, of an operation's VALUE or EMIT. */
#define TAKE_SECOND(a, b, ...) b
#define HAS_EITHER(...) TAKE_SECOND(__VA_ARGS__, 1, ~)
#define HAS(X) HAS_EITHER(HAS_NOT_##X)
#define HAS_NOT_NONE ~, 0
#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define RESULT_0(REAL, name)
#define RESULT_1(REAL, name) , REAL *name
#define GIVEN_0(name) NULL
#define GIVEN_1(name) name

#define FUNCTION(name, T, V, E, REAL, DTYPE, suffix)                                                                   \
    xent_status xent_##name##_##suffix(const REAL *x, OPERAND_##T(REAL) EXTENT_##T PASTE(RESULT_, HAS(V))(REAL, value) \
                                                          PASTE(RESULT_, HAS(E))(REAL, out)) {                         \
        return run(OP_##name, DTYPE, x, SECOND_##T, ROWS_##T, classes, PASTE(GIVEN_, HAS(V))(value),                   \
                   PASTE(GIVEN_, HAS(E))(out));                                                                        \
    }
/* clang-format off */
#define OP(name, R, T, V, E)                                                                                           \
    FUNCTION(name, T, V, E, float, XENT_F32, f32)                                                                      \
    FUNCTION(name, T, V, E, double, XENT_F64, f64)                                                                     \
    FUNCTION(name, T, V, E, uint16_t, XENT_F16, f16)                                                                   \
    FUNCTION(name, T, V, E, uint16_t, XENT_BF16, bf16)
/* clang-format on */
#include "ops.def"
