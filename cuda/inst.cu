/* inst.cu: the kernels of the operations of one reduction, and one dtype: compiled once for each with -DXENT_REDUCE=LSE
 * (kernels/ops.def) and -DXENT_DTYPE=F32; and with -DXENT_REDUCE=COMMON for F32 and F64. */
#include "launch.h"
#include "table.h"

#include <utility>

namespace xent {

template <class K> constexpr kernel kernel_of() {
    return {launch<K>, load<K>};
}

#define XENT_JOIN(a, b, c, d) a##b##c##d
#define XENT_NAME(a, b, c, d) XENT_JOIN(a, b, c, d)

#define XENT_IS_COMMON_COMMON 1
#define XENT_CONCAT(a, b) a##b
#define XENT_IS_COMMON(reduce) XENT_CONCAT(XENT_IS_COMMON_, reduce)

#if XENT_IS_COMMON(XENT_REDUCE)

const common_kernels *XENT_NAME(kernels_, XENT_REDUCE, _, XENT_DTYPE)() {
    using M = XENT_DTYPE;
    using add = add_up<M::real>;
    static const common_kernels all = {kernel_of<weigh_rows<M>>(),
                                       kernel_of<class_totals<M>>(),
                                       kernel_of<scale_classes>(),
                                       kernel_of<start_note>(),
                                       launch<add>,
                                       load<add>};
    return &all;
}

#else

namespace { /* the same names in every object, of another dtype */

/* plan.h knows how many classes a lane holds. */
template <class OP, class M, class TEAM> constexpr bool holds(regime r) {
    return held_tile<OP, M>() * held_tiles<OP, M, TEAM>() ==
           held_room(ops[OP::index], sizeof(typename M::real) == 8, r);
}

template <int I, int REGIME> constexpr kernel at() {
    using OP = op_of<I>;
    using M = XENT_DTYPE;
    static_assert(!exists(ops[I], HELD_QUAD) ||
                      (holds<OP, M, quad_team>(HELD_QUAD) && holds<OP, M, cluster_team>(HELD_CLUSTER)),
                  "plan.h says the same");
    if constexpr (!exists(ops[I], REGIME))
        return {nullptr, nullptr};
#define XENT_ONE(name, ...) else if constexpr (REGIME == name) return kernel_of<__VA_ARGS__>();
    XENT_REGIMES(XENT_ONE)
#undef XENT_ONE
}

template <int I, int... REGIME> const op_kernels *kernels_of(std::integer_sequence<int, REGIME...>) {
    using M = XENT_DTYPE;
    using S = state_of<op_of<I>, M>;
    static const op_kernels all = {{at<I, REGIME>()...},
                                   int(sizeof(typename S::packed) / sizeof(M::real)),
                                   int(sizeof(typename result<M>::packed) / sizeof(M::real))};
    return &all;
}

template <int I> const op_kernels *find(int op) {
    if constexpr (I < OPERATIONS) {
        if constexpr (ops[I].reduce == XENT_NAME(REDUCE_, XENT_REDUCE, , )) {
            if (op == I)
                return kernels_of<I>(std::make_integer_sequence<int, REGIMES>());
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
