/* ops.h: the operations of kernels/ops.def, for the compiler. */
#ifndef XENT_CUDA_OPS_H
#define XENT_CUDA_OPS_H

#include "../kernels/ops.h"

namespace xent {

constexpr op_entry ops[] = {
#define OP(name, R, T, V, E) {#name, REDUCE_##R, XENT_TARGET_##T, VALUE_##V, EMIT_##E},
#include "../kernels/ops.def"
#undef OP
};
/* Whether its target is read class by class; labels are not. */
constexpr bool reads_target(const op_entry &op) {
    return op.target != XENT_TARGET_NONE && op.target != XENT_TARGET_LABELS;
}

template <int I> struct op_of {
    static constexpr int index = I;
    static constexpr reduce_kind reduce = ops[I].reduce;
    static constexpr reduce_kind again = xent_reduce_of(reduce).again;
    static constexpr xent_target target = ops[I].target;
    static constexpr value_kind value = ops[I].value;
    static constexpr emit_kind emit = ops[I].emit;
    static constexpr bool log_target = xent_is_log(target);
    static constexpr bool is_js = reduce == REDUCE_JS;
    static constexpr bool emits = emit != EMIT_NONE, labels = target == XENT_TARGET_LABELS;
    static constexpr bool point = target == XENT_TARGET_POINT;
    /* Which operands the reduction and the emit read, class by class. */
    static constexpr bool folds = xent_folds(reduce);
    static constexpr bool reads_x = folds || point;
    static constexpr bool reads_t = reads_target(ops[I]);
    /* Weights of a class are applied in its term, not to the target. */
    static constexpr bool weighs = xent_options(&ops[I]) & OPTION_POS_WEIGHT;
    /* Target probabilities on which class weights, smoothing and one-hot labels act. */
    static constexpr bool shapes = target == XENT_TARGET_PROBS && (xent_options(&ops[I]) & OPTION_ONE_HOT);
    /* Classes that are excluded, or past the end, have x = 0; else -inf: they add nothing. */
    static constexpr bool zero_x = reduce == REDUCE_ENT || point;
    /* Of the derivative that is emitted. */
    static constexpr int order = xent_emit_of(emit).order;
    /* The emit is E times a factor. */
    static constexpr bool of_exp = xent_emit_of(emit).of_exp;
};

} // namespace xent

#endif
