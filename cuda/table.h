/* table.h: how api.cpp finds the kernels that inst.cu was compiled into, one object a reduction and dtype. */
#ifndef XENT_CUDA_TABLE_H
#define XENT_CUDA_TABLE_H

#include "plan.h"

namespace xent {

template <class ARGS> struct kernel {
    xent_status (*launch)(const ARGS &, int64_t blocks, void *stream); /* null: there is none */
    xent_status (*load)(int *made_for);
};

/* The kernels of an operation: one a regime, and how many reals its states and results are. */
struct op_kernels {
    kernel<job> at[REGIMES];
    int state_reals, result_reals;
};

/* Kernels that know no operation. */
struct common_kernels {
    kernel<job> weigh_rows, class_totals, scale_classes, start_note;
    kernel<sum_args> add_up;
};

/* What a kernel computes in (hd.h), for operations of one reduction. */
#define XENT_ARITHMETICS(F, REDUCE) F(REDUCE, F16) F(REDUCE, BF16) F(REDUCE, F32) F(REDUCE, F64)

#define XENT_ONE(REDUCE, M) const op_kernels *kernels_##REDUCE##_##M(int op);
#define OP(name, REDUCE, TARGET, VALUE, EMIT) XENT_ARITHMETICS(XENT_ONE, REDUCE)
#include "../kernels/ops.def"
#undef OP
#undef XENT_ONE
const common_kernels *kernels_COMMON_F32();
const common_kernels *kernels_COMMON_F64();

} // namespace xent

#endif
