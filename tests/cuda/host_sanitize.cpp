/* host_sanitize.cpp: a small set of calls with a thread a lane, under ThreadSanitizer or AddressSanitizer: a part of a warp,
 * a warp, blocks and clusters a row, rows side by side, pieces of rows that are merged, and the reductions over rows. */
#include "../../cuda/table.h"
#include "host_launch.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

void xent_host::trace(const char *, int64_t) {
}
bool xent_host::clusters() {
    return true;
}

/* Only some reductions are compiled for this program; the others are not asked for. */
namespace xent {
#define XENT_ONE(REDUCE, M)                                                                                            \
    __attribute__((weak)) const op_kernels *kernels_##REDUCE##_##M(int) {                                              \
        std::abort();                                                                                                  \
    }
#define REDUCTION(name, PARTS, B_HOLDS, OPTIONS, COST, FEW, AGAIN, PIECES, QUICK) XENT_ARITHMETICS(XENT_ONE, name)
#include "../../kernels/reductions.def"
XENT_ARITHMETICS(XENT_ONE, NONE)
__attribute__((weak)) const common_kernels *kernels_COMMON_F64() {
    std::abort();
}
} // namespace xent

namespace {

int op_named(const char *name) {
    for (int i = 0; i < OPERATIONS; i++)
        if (!std::strcmp(xent::ops[i].name, name))
            return i;
    std::abort();
}

void call(const char *name, ptrdiff_t rows, ptrdiff_t classes, bool columns, xent_reduction reduction) {
    const int op = op_named(name);
    const bool labels = xent::ops[op].target == XENT_TARGET_LABELS;
    const ptrdiff_t size = rows * classes, step = sizeof(float);
    /* Exactly so large, so that AddressSanitizer sees every step outside. */
    std::unique_ptr<float[]> x(new float[size]), t(new float[size]), value(new float[rows]), out(new float[size]);
    std::unique_ptr<int32_t[]> y(new int32_t[rows]);
    for (ptrdiff_t i = 0; i < size; i++) {
        x[i] = float(i * 2654435761u % 1000) / 100 - 5;
        t[i] = 1.0f / float(classes);
    }
    for (ptrdiff_t i = 0; i < rows; i++)
        y[i] = int32_t(i * 7 % classes);
    const ptrdiff_t along[] = {columns ? step : classes * step}, one[] = {sizeof(int32_t)};
    const ptrdiff_t across = columns ? rows * step : step;
    xent_request r = {};
    r.struct_size = sizeof r;
    r.op = op;
    r.compute = XENT_F32;
    r.grad_scale = 1;
    r.beta = 0.5;
    r.ndim = 1;
    r.shape = &rows;
    r.classes = classes;
    r.reduction = reduction;
    r.logits = {x.get(), along, across, XENT_F32, 0};
    r.target = labels ? xent_view{y.get(), one, 0, XENT_I32, 0} : xent_view{t.get(), along, across, XENT_F32, 0};
    r.value = {value.get(), one, 0, XENT_F32, 0};
    r.out = {out.get(), along, reduction == XENT_PER_CLASS ? step : across, XENT_F32, 0};
    xent_cuda_launch at;
    xent_cuda_launch_init(&at);
    xent_status status = xent_cuda_workspace_size(&r, 0, &at.workspace_size);
    std::unique_ptr<char, decltype(&std::free)> workspace(
        static_cast<char *>(std::aligned_alloc(256, (at.workspace_size + 255) / 256 * 256)), std::free);
    at.workspace = workspace.get();
    if (status == XENT_OK)
        status = xent_cuda_run(&r, &at);
    std::printf("%s %td x %td%s, reduction %d: status %d\n", name, rows, classes, columns ? " by columns" : "",
                reduction, status);
    if (status != XENT_OK)
        std::exit(1);
}

} // namespace

int main() {
    for (const char *name : {"cross_entropy_with_labels_value_and_grad", "kl_div"}) {
        call(name, 5, 3, false, XENT_NONE);
        call(name, 3, 40, false, XENT_NONE);
        call(name, 2, 300, true, XENT_NONE);
        call(name, 1, 5003, false, XENT_NONE);
        call(name, 1, 70'000, false, XENT_NONE);
    }
    call("softmax", 2, 10'007, false, XENT_NONE);
    call("kl_div", 3, 40, false, XENT_MEAN);
    call("cross_entropy_terms", 66, 20, false, XENT_PER_CLASS);
    std::printf("ok\n");
    return 0;
}
