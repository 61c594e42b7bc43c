/* host_api.cpp: what the tests ask of the host build beside the C interface: in which order lanes take their turns, which
 * kernels a call ran, and what plan.h says of a shape. */
#include "../../cuda/plan.h"
#include "host_launch.h"

#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

thread_local std::string ran;
thread_local bool has_clusters = true;

} // namespace

void xent_host::trace(const char *kernel, int64_t blocks) {
    ran += std::to_string(blocks) + " " + kernel + "\n";
}

bool xent_host::clusters() {
    return has_clusters;
}

/* Whether the next calls find a device with clusters. */
EXPORT void xent_host_clusters(int has) {
    has_clusters = has != 0;
}

/* Kernels launched since the last call, one line each: the grid, and the kernel's type. */
EXPORT const char *xent_host_trace(void) {
    static thread_local std::string told;
    told.swap(ran);
    ran.clear();
    return told.c_str();
}

EXPORT void xent_host_order(unsigned order) {
    xent_host::set_order(order);
}

/* plan.h, for a shape: what test_plan.py looks at, in this order. */
EXPORT void xent_host_plan(int op, int is_f64, int64_t rows, int64_t classes, int access, int contiguous, int reduction,
                           int has_labels, int multiprocessors, int clusters, int64_t *said) {
    xent::facts f = {};
    f.op = &xent::ops[op];
    f.is_f64 = is_f64 != 0;
    f.rows = rows;
    f.classes = classes;
    f.access = static_cast<xent::access_kind>(access);
    f.contiguous = contiguous != 0;
    f.reduction = reduction;
    f.has_labels = has_labels != 0;
    f.weighs = reduction == XENT_MEAN && has_labels;
    f.state_reals = 16;
    f.result_reals = 8;
    f.multiprocessors = multiprocessors;
    f.clusters = clusters != 0;
    const xent::plan p = xent::make_plan(f);
    const int64_t all[] = {p.rows,
                           p.row_pieces.count,
                           p.row_pieces.classes,
                           p.split,
                           p.blocks,
                           xent::rows_of(p.rows),
                           p.chunks,
                           p.chunk_rows,
                           p.class_blocks,
                           p.sum_blocks,
                           static_cast<int64_t>(p.size)};
    for (int64_t v : all)
        *said++ = v;
}

/* Whether an operation has a kernel of a regime; -1 past the last regime. */
EXPORT int xent_host_exists(int op, int regime) {
    return regime < xent::REGIMES ? xent::exists(xent::ops[op], regime) : -1;
}

/* Classes that the lanes of a regime hold between them. */
EXPORT int64_t xent_host_room(int op, int is_f64, int regime) {
    switch (regime) {
    case xent::HELD_QUAD:
    case xent::HELD_WARP:
    case xent::HELD_BLOCK:
    case xent::HELD_CLUSTER:
        return xent::held_classes(xent::ops[op], is_f64 != 0, static_cast<xent::regime>(regime));
    default:
        return INT64_MAX;
    }
}
