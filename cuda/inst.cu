/* inst.cu: the kernels of the operations of one reduction, and one dtype: compiled once for each with -DXENT_REDUCE=LSE
 * (kernels/ops.def) and -DXENT_DTYPE=F32; and with -DXENT_REDUCE=COMMON for F32 and F64. */
#include "launch.h"
#include "table.h"

namespace xent {

template <class K> constexpr kernel<typename K::args> kernel_of() {
    return {launch<K>, load<K>};
}

#define XENT_JOIN(a, b, c, d) a##b##c##d
#define XENT_NAME(a, b, c, d) XENT_JOIN(a, b, c, d)

#define XENT_IS_COMMON_COMMON 1
#if XENT_NAME(XENT_IS_COMMON_, XENT_REDUCE, , )

const common_kernels *XENT_NAME(kernels_, XENT_REDUCE, _, XENT_DTYPE)() {
    using M = XENT_DTYPE;
    static const common_kernels all = {kernel_of<weigh_rows<M>>(), kernel_of<class_totals<M>>(),
                                       kernel_of<scale_classes>(), kernel_of<start_note>(),
                                       kernel_of<add_up<M::real>>()};
    return &all;
}

#else

namespace { /* the same names in every object, of another dtype */

template <class K, bool EXISTS> constexpr kernel<job> kernel_if() {
    if constexpr (EXISTS)
        return kernel_of<K>();
    else
        return {nullptr, nullptr};
}

template <int I> const op_kernels *kernels_of() {
    using OP = op_of<I>;
    using M = XENT_DTYPE;
#define XENT_ONE(name, EXISTS, GROUPS, ...) kernel_if<__VA_ARGS__, exists(ops[I], name)>(),
    static const op_kernels all = {{XENT_REGIMES(XENT_ONE)},
                                   int(sizeof(typename state_of<OP, M>::packed) / sizeof(M::real)),
                                   int(sizeof(result<M>) / sizeof(M::real))};
#undef XENT_ONE
    return &all;
}

template <int I> const op_kernels *find(int op) {
    if constexpr (I < OPERATIONS) {
        if constexpr (ops[I].reduce == XENT_NAME(REDUCE_, XENT_REDUCE, , )) {
            if (op == I)
                return kernels_of<I>();
        }
        return find<I + 1>(op);
    }
    return nullptr;
}

} // namespace

const op_kernels *XENT_NAME(kernels_, XENT_REDUCE, _, XENT_DTYPE)(int op) {
    return find<0>(op);
}

#endif

} // namespace xent
