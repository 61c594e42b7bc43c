/* launch.h: kernels (group.h) on their way to a device; or, in the host build of the tests, to its fibers:
 * host_launch.h then defines the same two functions. */
#ifndef XENT_CUDA_LAUNCH_H
#define XENT_CUDA_LAUNCH_H

#include "group.h"
#include "xent_cuda.h"

namespace xent {

/* Queues K::run on `blocks` blocks: where a cluster shares a row, in clusters of K::cluster(a). */
template <class K> xent_status launch(const typename K::args &a, int64_t blocks, void *stream);
/* Loads K's code, for what may not be done inside a graph's capture; *made_for: the compute capability, times 10, that
 * it was compiled for, which is the device's or an older one. */
template <class K> xent_status load(int *made_for);

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
    if constexpr (K::shape::ranks == 1) {
        device_group<typename K::shape> g;
        K::run(g, a);
    }
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900 /* older devices have no clusters, and are not asked (plan.h) */
    else {
        cluster_group<typename K::shape> g;
        K::run(g, a);
    }
#endif
}

template <class K> xent_status launch(const typename K::args &a, int64_t blocks, void *stream) {
    cudaLaunchConfig_t at = {};
    at.gridDim = dim3(unsigned(blocks));
    at.blockDim = dim3(unsigned(K::shape::threads));
    at.stream = static_cast<cudaStream_t>(stream);
    cudaLaunchAttribute cluster = {};
    if constexpr (K::shape::ranks > 1) {
        cluster.id = cudaLaunchAttributeClusterDimension;
        cluster.val.clusterDim.x = unsigned(K::cluster(a));
        cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
        at.attrs = &cluster;
        at.numAttrs = 1;
    }
    return said(cudaLaunchKernelEx(&at, run<K>, a));
}

template <class K> xent_status load(int *made_for) {
    cudaFuncAttributes found = {};
    const xent_status s = said(cudaFuncGetAttributes(&found, run<K>));
    *made_for = found.ptxVersion;
    return s;
}

} // namespace xent
#endif

#endif
