/* ops.h: the operations and what they are made of: ops.def and reductions.def as enums and tables. The ground floor: for C
 * and, with cuda/, for C++. */
#ifndef XENT_OPS_H
#define XENT_OPS_H

#include <stdbool.h>

#include "xent.h"

/* What C++ may ask while it compiles. */
#if defined(__cplusplus)
#define XENT_CONSTANT constexpr
#else
#define XENT_CONSTANT static inline
#endif

/* ---- reductions ---- */
/* Parts of a row's state (state.h). PART_Y: y's maximum and reference; PART_Y_SUM: what is summed up against them. */
enum {
    PART_X = 1,
    PART_Y = 2,
    PART_Y_SUM = 4,
    PART_TB = 8,
    PART_KL = 16,
    PARTS_OF_PAIR = PART_X | PART_Y | PART_Y_SUM
};

/* What an operation may be given besides its operands; ignore_index goes with labels (check.h). */
enum {
    OPTION_WHERE = 1,
    OPTION_TEMPERATURE = 2,
    OPTION_SAMPLE_WEIGHT = 4, /* also: its terms may be summed over the rows, one value a class */
    OPTION_CLASS_WEIGHT = 8,
    OPTION_POS_WEIGHT = 16,
    OPTION_LABEL_SMOOTHING = 32,
    OPTION_ONE_HOT = 64, /* labels in place of target probabilities */
    OPTION_BETA = 128,
    OPTIONS_OF_CE = OPTION_WHERE | OPTION_TEMPERATURE | OPTION_SAMPLE_WEIGHT | OPTION_CLASS_WEIGHT |
        OPTION_LABEL_SMOOTHING | OPTION_ONE_HOT,
    OPTIONS_OF_BCE = OPTION_WHERE | OPTION_TEMPERATURE | OPTION_SAMPLE_WEIGHT | OPTION_CLASS_WEIGHT | OPTION_POS_WEIGHT,
    OPTIONS_OF_KL = OPTION_WHERE | OPTION_TEMPERATURE | OPTION_SAMPLE_WEIGHT,
    OPTIONS_OF_LABELS = OPTION_SAMPLE_WEIGHT | OPTION_CLASS_WEIGHT
};

typedef enum { MASS_NOTHING, MASS_X, MASS_T, MASS_Y } mass_kind;

/* Folds in one walk. NEAR: of rows that QUICK finds near. */
typedef enum { QUICK_NONE, QUICK_LSE, QUICK_KL, QUICK_KL_LOGS, NEAR_KL, NEAR_KL_LOGS } quick_kind;
XENT_CONSTANT bool xent_quick_is_log(quick_kind how) {
    return how == QUICK_KL_LOGS || how == NEAR_KL_LOGS;
}
XENT_CONSTANT bool xent_quick_is_near(quick_kind how) {
    return how == NEAR_KL || how == NEAR_KL_LOGS;
}

typedef enum {
    REDUCE_NONE,
#define REDUCTION(name, PARTS, B_HOLDS, OPTIONS, COST, FEW, AGAIN, PIECES, QUICK) REDUCE_##name,
#include "reductions.def"
#undef REDUCTION
} reduce_kind;

/* Whether walk/few.h has operations of it: for the compiler, which is not to see those that it has not. */
enum {
    FEW_NONE = 0,
#define REDUCTION(name, PARTS, B_HOLDS, OPTIONS, COST, FEW, AGAIN, PIECES, QUICK) FEW_##name = FEW,
#include "reductions.def"
#undef REDUCTION
};

typedef struct reduction_entry {
    int parts;
    mass_kind b_holds;
    int options;
    double cost;
    bool few;
    reduce_kind again, of_pieces;
    quick_kind quick;
} reduction_entry;

/* Of a kind that the compiler knows every answer is a constant. */
XENT_CONSTANT reduction_entry xent_reduce_of(reduce_kind kind) {
    const reduction_entry none = {0, MASS_NOTHING, 0, 1.0, false, REDUCE_NONE, REDUCE_NONE, QUICK_NONE};
    switch (kind) {
    case REDUCE_NONE:
        break;
#define REDUCTION(name, PARTS, B_HOLDS, OPTIONS, COST, FEW, AGAIN, PIECES, QUICK)                                      \
    case REDUCE_##name: {                                                                                              \
        const reduction_entry e = {PARTS, MASS_##B_HOLDS, OPTIONS,         COST,                                       \
                                   FEW,   REDUCE_##AGAIN, REDUCE_##PIECES, QUICK_##QUICK};                             \
        return e;                                                                                                      \
    }
#include "reductions.def"
#undef REDUCTION
    }
    return none;
}
XENT_CONSTANT int xent_parts(reduce_kind kind) {
    return xent_reduce_of(kind).parts;
}

/* Whether the classes of a row are walked over at all. */
XENT_CONSTANT bool xent_folds(reduce_kind kind) {
    return xent_parts(kind) != 0;
}

/* ---- values and emits ---- */
/* One value a row. LABEL: of cross-entropy with labels. */
#define XENT_VALUES(F) F(LSE) F(ENT) F(SENT) F(CE) F(LABEL) F(KL) F(NLL) F(BCE) F(JS)
/* One number a class: F(name, order, of_exp). */
#define XENT_EMITS(F)                                                                                                  \
    F(LOGP, 0, 0)                                                                                                      \
    F(P, 0, 1)                                                                                                         \
    F(GRAD, 1, 1)                                                                                                      \
    F(HESS, 2, 1)                                                                                                      \
    F(CE_TERM, 0, 0)                                                                                                   \
    F(KL_TERM, 0, 0)                                                                                                   \
    F(NLL_TERM, 0, 0)                                                                                                  \
    F(NLL_GRAD, 1, 0)                                                                                                  \
    F(BCE_TERM, 0, 0)                                                                                                  \
    F(BCE_GRAD, 1, 0)                                                                                                  \
    F(JS_TERM, 0, 0)                                                                                                   \
    F(JS_GRAD, 1, 0)                                                                                                   \
    F(TARGET_GRAD, 1, 0)                                                                                               \
    F(KL_POINT, 0, 0)                                                                                                  \
    F(REL_ENTR, 0, 0)

typedef enum {
    VALUE_NONE,
#define ONE(name) VALUE_##name,
    XENT_VALUES(ONE)
#undef ONE
} value_kind;

typedef enum {
    EMIT_NONE,
#define ONE(name, order, of_exp) EMIT_##name,
    XENT_EMITS(ONE)
#undef ONE
} emit_kind;

typedef struct emit_entry {
    int order;   /* of the derivative of the value that it is; 0: none      */
    bool of_exp; /* it is made of exponentials that the reduction can keep, */
                 /* and of no logits                                        */
} emit_entry;

XENT_CONSTANT emit_entry xent_emit_of(emit_kind emit) {
    const emit_entry none = {0, false};
    switch (emit) {
    case EMIT_NONE:
        break;
#define ONE(name, order, of_exp)                                                                                       \
    case EMIT_##name: {                                                                                                \
        const emit_entry e = {order, of_exp};                                                                          \
        return e;                                                                                                      \
    }
        XENT_EMITS(ONE)
#undef ONE
    }
    return none;
}

/* ---- targets ---- */
XENT_CONSTANT bool xent_is_log(xent_target target) {
    return target == XENT_TARGET_LOGITS || target == XENT_TARGET_LOG_PROBS;
}

/* ---- operations ---- */
/* Their places in the list. */
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

/* NULL: there is none of that number. */
const op_entry *xent_op_at(int op);

XENT_CONSTANT int xent_options(const op_entry *op) {
    return xent_reduce_of(op->reduce).options | (op->target == XENT_TARGET_LABELS ? (int)OPTIONS_OF_LABELS : 0);
}

#endif
