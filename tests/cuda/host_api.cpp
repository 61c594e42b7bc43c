/* host_api.cpp: what the tests ask of the host build beside the C interface: in which order lanes take their turns, which
 * kernels a call ran, and what plan.h says of a shape. */
#include "../../cuda/plan.h"
#include "host_launch.h"

#include <cstdio>
#include <cstring>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

thread_local std::string ran;

} // namespace

void xent_host::trace(const char *kernel, int64_t blocks) {
    ran += std::to_string(blocks) + " " + kernel + "\n";
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
