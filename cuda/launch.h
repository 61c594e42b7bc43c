/* launch.h: kernels (group.h) on their way to a device; or, in the host build of the tests, to its fibers:
 * host_launch.h then defines the same two functions. */
#ifndef XENT_CUDA_LAUNCH_H
#define XENT_CUDA_LAUNCH_H

#include "group.h"
#include "xent_cuda.h"

namespace xent {

/* Queues K::run on `blocks` blocks. */
template <class K> xent_status launch(const typename K::args &a, int64_t blocks, void *stream);
/* Loads K's code, for what may not be done inside a graph's capture. */
template <class K> xent_status load();

} // namespace xent

#if defined(XENT_CUDA_HOST)
#include "host_launch.h"
#else
#include "group.cuh"
#include <cuda_runtime.h>

namespace xent {

/* XENT_OK, or XENT_ERR_CUDA with the text that xent_cuda_error returns (api.cpp). */
xent_status said(cudaError_t e);

template <class K>
__global__ void __launch_bounds__(K::shape::threads, K::blocks) run(const __grid_constant__ typename K::args a) {
    device_group<typename K::shape> g;
    K::run(g, a);
}

template <class K> xent_status launch(const typename K::args &a, int64_t blocks, void *stream) {
    cudaLaunchConfig_t at = {};
    at.gridDim = dim3(unsigned(blocks));
    at.blockDim = dim3(unsigned(K::shape::threads));
    at.stream = static_cast<cudaStream_t>(stream);
    return said(cudaLaunchKernelEx(&at, run<K>, a));
}

template <class K> xent_status load() {
    cudaFuncAttributes unused;
    return said(cudaFuncGetAttributes(&unused, run<K>));
}

} // namespace xent
#endif

#endif
