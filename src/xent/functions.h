/* functions.h: xent.h's functions of contiguous rows, by operation and dtype. */
#ifndef XENT_FUNCTIONS_H
#define XENT_FUNCTIONS_H

#include "xent.h"

typedef void (*function_pointer)(void);

static inline function_pointer row_function(int op, int dtype) {
    static const function_pointer table[][4] = {
#define OP(name, R, T, V, E)                                                                                           \
    {(function_pointer)xent_##name##_f16, (function_pointer)xent_##name##_bf16, (function_pointer)xent_##name##_f32,   \
     (function_pointer)xent_##name##_f64},
#include "ops.def"
#undef OP
    };
    return table[op][dtype - XENT_F16];
}

#endif
