/* dtypes.h: what xent.h's dtypes are. The order of the list, and of the enum, means nothing. */
#ifndef XENT_DTYPES_H
#define XENT_DTYPES_H

#include <stdbool.h>

#include "xent.h"

typedef enum { DTYPE_NONE, DTYPE_FLOAT, DTYPE_BOOL, DTYPE_INTEGER } dtype_kind;

/* F(name, bytes, kind, the gap above 1 of a float) */
#define XENT_DTYPES(F)                                                                                                 \
    F(F16, 2, FLOAT, 0x1p-10)                                                                                          \
    F(BF16, 2, FLOAT, 0x1p-7)                                                                                          \
    F(F32, 4, FLOAT, 0x1p-23)                                                                                          \
    F(F64, 8, FLOAT, 0x1p-52)                                                                                          \
    F(BOOL, 1, BOOL, 0.0)                                                                                              \
    F(I8, 1, INTEGER, 0.0)                                                                                             \
    F(I16, 2, INTEGER, 0.0)                                                                                            \
    F(I32, 4, INTEGER, 0.0)                                                                                            \
    F(I64, 8, INTEGER, 0.0)                                                                                            \
    F(U8, 1, INTEGER, 0.0)                                                                                             \
    F(U16, 2, INTEGER, 0.0)                                                                                            \
    F(U32, 4, INTEGER, 0.0)                                                                                            \
    F(U64, 8, INTEGER, 0.0)

typedef struct dtype_entry {
    int size;
    dtype_kind kind;
    double eps;
} dtype_entry;

static inline dtype_entry xent_dtype_of(int dtype) {
    dtype_entry e = {0, DTYPE_NONE, 0.0};
    switch (dtype) {
#define ONE(name, SIZE, KIND, EPS)                                                                                     \
    case XENT_##name:                                                                                                  \
        e.size = SIZE;                                                                                                 \
        e.kind = DTYPE_##KIND;                                                                                         \
        e.eps = EPS;                                                                                                   \
        break;
        XENT_DTYPES(ONE)
#undef ONE
    default:
        break;
    }
    return e;
}

static inline int xent_dtype_size(int dtype) {
    return xent_dtype_of(dtype).size;
}
static inline bool xent_is_float(int dtype) {
    return xent_dtype_of(dtype).kind == DTYPE_FLOAT;
}
static inline bool xent_is_integer(int dtype) {
    return xent_dtype_of(dtype).kind == DTYPE_INTEGER;
}
/* Of a float dtype, or of the one that it is computed in where that is coarser. */
static inline double xent_dtype_eps(int dtype, bool is_f32) {
    const double own = xent_dtype_of(dtype).eps, computed = is_f32 ? 0x1p-23 : 0x1p-52;
    return own < computed ? computed : own;
}

#endif
