/* ops.c: the table of operations. */
#include <string.h>

#include "ops.h"

static const op_entry ops[] = {
#define OP(name, R, T, V, E) {#name, REDUCE_##R, XENT_TARGET_##T, VALUE_##V, EMIT_##E},
#include "ops.def"
#undef OP
};

static const xent_op_info infos[] = {
#define OP(name, R, T, V, E) {#name, XENT_TARGET_##T, VALUE_##V != VALUE_NONE, EMIT_##E != EMIT_NONE},
#include "ops.def"
#undef OP
};

const op_entry *xent_op_at(int op) {
    return op >= 0 && op < OPERATIONS ? &ops[op] : NULL;
}

const xent_op_info *xent_ops(int *count) {
    if (count)
        *count = OPERATIONS;
    return infos;
}

int xent_find_op(const char *name) {
    for (int i = 0; name && i < OPERATIONS; i++)
        if (strcmp(ops[i].name, name) == 0)
            return i;
    return -1;
}
