/* plan.h: which lanes do what: from the shape of a request to its regime, grid and workspace, as pure functions. What
 * decides which lane adds what is the operation, the dtype, the number of classes, how they lie and whether there are
 * clusters, never the number of rows, so that a row's bits do not depend on its batch; the number of rows and of
 * multiprocessors only say who does it. */
#ifndef XENT_CUDA_PLAN_H
#define XENT_CUDA_PLAN_H

#include "regimes/per_class.h"
#include "regimes/split.h"
#include "regimes/sums.h"

#include <algorithm>
#include <initializer_list>

namespace xent {

using quad_team = team<4, 128>;
using warp_team = team<WARP, 256>;
using block_team = team<256, 256>;
using large_team = team<512, 512>;
template <bool F64>
using held_block =
    std::conditional_t<F64, block_team, large_team>; /* as many lanes as their registers leave room for */
using column_team = team<16, 128, 8>;
using cluster_team = team<256, 256, 1, 8>; /* a multiprocessor has two blocks: one reads while the other computes */

/* The regimes: which operations have kernels of it (exists), how many rows a block does at a time, and the kernel, of an
 * operation OP and an arithmetic M.
 *   HELD_...    a row in registers: of four lanes, a warp, a block, or a cluster's blocks
 *   STREAM_...  a row tile by tile; what is neither folded nor emitted is a number at the label
 *   COLUMNS     classes that are apart in memory, where neighbouring rows may be adjacent: these take turns in a warp
 *   ANY_...     options that act class by class, or mixed dtypes
 *   MERGE...    the states of a row's pieces joined, MERGE_JS: of Jensen-Shannon's second reduction
 *   CLASS_SUMS  terms summed over rows */
#define XENT_REGIMES(F)                                                                                                \
    F(HELD_QUAD, both, quad_team::groups, held<OP, M, quad_team>)                                                      \
    F(HELD_WARP, both, warp_team::groups, held<OP, M, warp_team>)                                                      \
    F(HELD_BLOCK, both, 1, held<OP, M, held_block<sizeof(M::real) == 8>>)                                              \
    F(HELD_CLUSTER, both, 1, held<OP, M, cluster_team>)                                                                \
    F(STREAM_QUAD, not_both, quad_team::groups, stream<OP, M, quad_team, OP::folds || OP::emits ? PACKS : ANY>)        \
    F(STREAM_WARP, one, warp_team::groups, stream<OP, M, warp_team, PACKS>)                                            \
    F(STREAM_BLOCK, any, 1, stream<OP, M, block_team, PACKS>)                                                          \
    F(COLUMNS, any, column_team::groups, stream<OP, M, column_team, STRIDED>)                                          \
    F(ANY_WARP, any, warp_team::groups, stream<OP, M, warp_team, ANY>)                                                 \
    F(ANY_COLUMNS, any, column_team::groups, stream<OP, M, column_team, ANY>)                                          \
    F(MERGE, folds, 1, merge<OP, M, false>)                                                                            \
    F(MERGE_JS, op.reduce == REDUCE_JS, 1, merge<OP, M, true>)                                                         \
    F(CLASS_SUMS, per_class, 1, class_sums<OP, M>)

enum regime {
#define XENT_ONE(name, ...) name,
    XENT_REGIMES(XENT_ONE)
#undef XENT_ONE
        REGIMES
};

/* Whether an operation has kernels of a regime. */
constexpr bool exists(const op_entry &op, int regime) {
    const bool emits = op.emit != EMIT_NONE, folds = xent_folds(op.reduce);
    const bool both = emits && folds, not_both = !both, any = emits || folds, one = emits != folds;
    const bool per_class = emits && op.value == VALUE_NONE && (xent_options(&op) & OPTION_SAMPLE_WEIGHT); /* check.c */
#define XENT_ONE(name, EXISTS, ...) EXISTS,
    const bool all[] = {XENT_REGIMES(XENT_ONE)};
#undef XENT_ONE
    return all[regime];
}

/* Classes that the lanes of a held row have room for. */
constexpr int64_t held_classes(const op_entry &op, bool is_f64, regime r) {
    const int lanes = r == HELD_QUAD    ? quad_team::lanes
                      : r == HELD_WARP  ? warp_team::lanes
                      : r != HELD_BLOCK ? cluster_team::lanes * cluster_team::ranks
                      : is_f64          ? held_block<true>::lanes
                                        : held_block<false>::lanes;
    return int64_t(held_room(op, is_f64, r == HELD_CLUSTER)) * lanes;
}

enum { LONG_ROW = 32768, PIECE = 16384, WARP_CLASSES = 2048, QUAD_CLASSES = 64 };
enum { CLUSTER_STEP = 64 }; /* a block's classes begin on a line's boundary where their row does */

constexpr int64_t ceil_div(int64_t a, int64_t b) {
    return a / b + (a % b != 0);
}

/* Where a row's pieces end. */
struct pieces {
    int64_t count, classes;
};
constexpr pieces pieces_of(int64_t classes) {
    if (classes <= LONG_ROW)
        return {1, classes};
    const int64_t each = ceil_div(classes, int64_t(MAX_PIECES) * PIECE) * PIECE;
    return {ceil_div(classes, each), each};
}

/* ... and which of them each block of a cluster holds: as few blocks as have room, and all of them much the same. */
constexpr pieces pieces_of_cluster(const op_entry &op, bool is_f64, int64_t classes) {
    const int64_t room = held_room(op, is_f64, true) * cluster_team::lanes;
    int64_t count = 2;
    while (count * room < classes)
        count *= 2;
    return {count, ceil_div(classes, count * CLUSTER_STEP) * CLUSTER_STEP};
}

/* What a plan follows from: a device, */
struct device_facts {
    int multiprocessors;
    bool clusters; /* capability 9.0 and later, where the code that is there was compiled for that */
};
/* ... and a request. */
struct facts : device_facts {
    const op_entry *op;
    bool is_f64;
    int64_t rows, classes;
    access_kind access;
    bool contiguous; /* the class axis of all operands is */
    int reduction;   /* xent_reduction */
    bool has_labels;
    bool weighs;                   /* the divisor of mean is to be summed up */
    bool scales;                   /* class weights act class by class, and floats may not hold them */
    int state_reals, result_reals; /* of this operation and dtype */
};

/* The regime of a request that reads classes along rows. */
constexpr regime choose(const facts &f) {
    const bool emits = f.op->emit != EMIT_NONE, folds = xent_folds(f.op->reduce);
    if (!emits && !folds) /* a number at the label */
        return STREAM_QUAD;
    if (f.access == ANY)
        return f.contiguous ? ANY_WARP : ANY_COLUMNS;
    if (f.access == STRIDED)
        return COLUMNS;
    if (f.reduction == XENT_PER_CLASS) /* only what follows from the rows is wanted */
        return f.classes <= QUAD_CLASSES ? COLUMNS : STREAM_BLOCK;
    if (emits && folds) {
        for (regime r : {HELD_QUAD, HELD_WARP, HELD_BLOCK, HELD_CLUSTER})
            if (f.classes <= held_classes(*f.op, f.is_f64, r) && (r != HELD_CLUSTER || f.clusters))
                return r;
        return STREAM_BLOCK;
    }
    return f.classes <= QUAD_CLASSES ? STREAM_QUAD : f.classes <= WARP_CLASSES ? STREAM_WARP : STREAM_BLOCK;
}

/* Rows at a time, a block. */
constexpr int64_t rows_of(regime r) {
#define XENT_ONE(name, EXISTS, GROUPS, ...) GROUPS,
    constexpr int all[] = {XENT_REGIMES(XENT_ONE)};
#undef XENT_ONE
    return all[r];
}

struct plan {
    regime rows; /* of the folds and emits */
    pieces row_pieces;
    bool split; /* pieces in blocks of their own, merged later */
    bool per_class, sums, weighs;
    int64_t blocks;                           /* of row kernels */
    int64_t chunks, chunk_rows, class_blocks; /* per_class */
    int64_t sum_blocks;
    /* the workspace: where each part begins, and its size */
    size_t states, results, values, total_weight, class_scale, partial_sums, class_partials, size;
};

constexpr int64_t MAX_BLOCKS = 0x7fffffff;
constexpr int64_t blocks_for(int64_t units, int64_t at_a_time) {
    return std::min(ceil_div(units, at_a_time), MAX_BLOCKS);
}

constexpr size_t room_for(size_t *end, size_t bytes) {
    const size_t at = *end;
    *end = (at + bytes + 255) / 256 * 256;
    return at;
}

constexpr plan make_plan(const facts &f) {
    plan p = {};
    const size_t real = f.is_f64 ? 8 : 4, pair = 2 * real;
    const op_entry &op = *f.op;
    const bool folds = xent_folds(op.reduce);
    p.rows = choose(f);
    p.per_class = f.reduction == XENT_PER_CLASS;
    p.sums = f.reduction == XENT_SUM || f.reduction == XENT_MEAN;
    p.weighs = f.reduction == XENT_MEAN && f.weighs;
    const bool shared = p.rows == HELD_CLUSTER;
    p.row_pieces = shared  ? pieces_of_cluster(op, f.is_f64, f.classes)
                   : folds ? pieces_of(f.classes)
                           : pieces{1, f.classes};
    /* Few rows would leave multiprocessors idle; and teams smaller than a block have no lane for every piece. */
    p.split = p.row_pieces.count > 1 && !shared && (p.rows != STREAM_BLOCK || f.rows < 2 * int64_t(f.multiprocessors));
    const int64_t units = p.split ? f.rows * p.row_pieces.count : f.rows;
    const int64_t each = shared ? p.row_pieces.count : 1; /* a grid is a whole number of clusters */
    p.blocks = each * std::min(ceil_div(units, rows_of(p.rows)), MAX_BLOCKS / each);
    p.sum_blocks = std::clamp<int64_t>(ceil_div(f.rows, 8 * sum_block::lanes), 1, SUM_BLOCKS);
    if (p.per_class) {
        p.chunks = std::min<int64_t>(ceil_div(f.rows, 64), 256);
        p.chunk_rows = p.chunks ? ceil_div(f.rows, p.chunks) : 0;
        p.class_blocks = std::min(ceil_div(f.classes, CLASSES_A_BLOCK) * p.chunks, MAX_BLOCKS);
    }

    size_t end = 0;
    if (f.has_labels)
        room_for(&end, sizeof(note));
    if (p.split)
        p.states = room_for(&end, size_t(units) * size_t(f.state_reals) * real);
    if ((p.split && (op.emit != EMIT_NONE || op.reduce == REDUCE_JS)) || p.per_class)
        p.results = room_for(&end, size_t(f.rows) * size_t(f.result_reals) * real);
    if (p.sums || p.weighs)
        p.values = room_for(&end, size_t(f.rows) * pair);
    if (p.sums) {
        p.partial_sums = room_for(&end, size_t(SUM_BLOCKS) * pair);
        p.total_weight = room_for(&end, pair);
    }
    if (f.scales)
        p.class_scale = room_for(&end, 2 * sizeof(double));
    if (p.per_class)
        p.class_partials = room_for(&end, size_t(p.chunks) * size_t(f.classes) * pair);
    p.size = end;
    return p;
}

} // namespace xent

#endif
