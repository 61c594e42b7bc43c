/* table.h: how api.cpp finds the kernels that inst.cu was compiled into, one object a family of operations and dtype.
 * */
#ifndef XENT_CUDA_TABLE_H
#define XENT_CUDA_TABLE_H

#include "plan.h"

namespace xent {

/* Operations that share their reductions are compiled together. */
#define XENT_FAMILIES(F)                                                                                               \
    F(LSE)                                                                                                             \
    F(CE)                                                                                                              \
    F(KL)                                                                                                              \
    F(PAIR)                                                                                                            \
    F(KLPAIR)                                                                                                          \
    F(JS)                                                                                                              \
    F(BCE)                                                                                                             \
    F(REST)

enum family {
#define XENT_ONE(name) FAMILY_##name,
    XENT_FAMILIES(XENT_ONE)
#undef XENT_ONE
};

constexpr family family_of(const op_entry &op) {
    switch (op.reduce) {
    case REDUCE_LSE:
        return FAMILY_LSE;
    case REDUCE_CE:
        return FAMILY_CE;
    case REDUCE_KL:
    case REDUCE_KL_LOGS:
        return FAMILY_KL;
    case REDUCE_PAIR:
    case REDUCE_PAIR_LOGS:
        return FAMILY_PAIR;
    case REDUCE_KL_PAIR:
    case REDUCE_KL_PAIR_LOGS:
        return FAMILY_KLPAIR;
    case REDUCE_JS:
        return FAMILY_JS;
    case REDUCE_BCE:
        return FAMILY_BCE;
    default:
        return FAMILY_REST;
    }
}

struct kernel {
    xent_status (*launch)(const job &, int64_t blocks, void *stream); /* null: there is none */
    xent_status (*load)(int *made_for);
};

/* The kernels of an operation: one a regime, and how many reals its states and results are. */
struct op_kernels {
    kernel at[REGIMES];
    int state_reals, result_reals;
};

/* Kernels that know no operation. */
struct common_kernels {
    kernel weigh_rows, class_totals, scale_classes, start_note;
    xent_status (*add_up)(const sum_args &, int64_t blocks, void *stream);
    xent_status (*load_add_up)(int *made_for);
};

#define XENT_ONE(FAMILY, M) const op_kernels *kernels_##FAMILY##_##M(int op);
#define XENT_EACH(FAMILY) XENT_ONE(FAMILY, F16) XENT_ONE(FAMILY, BF16) XENT_ONE(FAMILY, F32) XENT_ONE(FAMILY, F64)
XENT_FAMILIES(XENT_EACH)
#undef XENT_EACH
#undef XENT_ONE
const common_kernels *kernels_COMMON_F32();
const common_kernels *kernels_COMMON_F64();

} // namespace xent

#endif
