/* group.cuh: group.h's lanes on a device. */
#ifndef XENT_CUDA_GROUP_CUH
#define XENT_CUDA_GROUP_CUH

#include "group.h"

namespace xent {

template <class TEAM> struct device_group : TEAM {
    static __device__ __forceinline__ int thread() {
        return int(threadIdx.x);
    }
    static __device__ __forceinline__ int64_t block() {
        return blockIdx.x;
    }
    static __device__ __forceinline__ int64_t blocks() {
        return gridDim.x;
    }

    /* The lanes of this row's part of the warp: rows of a warp may be at different places of the code. */
    static __device__ __forceinline__ unsigned mask() {
        constexpr unsigned whole = ~0u;
        if constexpr (TEAM::width == WARP)
            return whole;
        else if constexpr (TEAM::beside > 1)
            return (whole / ((1u << TEAM::beside) - 1)) << (threadIdx.x % TEAM::beside);
        else
            return ((1u << TEAM::width) - 1) << (threadIdx.x % WARP / TEAM::width * TEAM::width);
    }
    template <class T> static __device__ __forceinline__ T shfl_xor(T v, int d) {
        return __shfl_xor_sync(mask(), v, d * TEAM::beside);
    }
    template <class T> static __device__ __forceinline__ T shfl_up(T v) {
        return __shfl_up_sync(mask(), v, TEAM::beside, TEAM::width * TEAM::beside);
    }
    static __device__ __forceinline__ void sync() {
        __syncthreads();
    }
    static __device__ __forceinline__ bool any(bool b) {
        return __syncthreads_or(b) != 0;
    }
    template <class S, int N> static __device__ __forceinline__ S *shared() {
        __shared__ __align__(16) unsigned char room[sizeof(S) * N];
        return reinterpret_cast<S *>(room);
    }
};

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
/* ... of which several blocks share a row. */
template <class TEAM> struct cluster_group : device_group<TEAM> {
    static __device__ __forceinline__ int64_t block() {
        return __clusterIdx().x;
    }
    static __device__ __forceinline__ int64_t blocks() {
        return __clusterGridDimInClusters().x;
    }
    static __device__ __forceinline__ int rank() {
        return int(__clusterRelativeBlockRank());
    }
    static __device__ __forceinline__ int size() {
        return int(__clusterSizeInBlocks());
    }
    static __device__ __forceinline__ void arrive_cluster() {
        __cluster_barrier_arrive();
    }
    static __device__ __forceinline__ void wait_cluster() {
        __cluster_barrier_wait();
    }
    template <class S, int N> static __device__ __forceinline__ S *shared_of(int rank) {
        void *own = device_group<TEAM>::template shared<S, N>();
        return static_cast<S *>(__cluster_map_shared_rank(own, unsigned(rank)));
    }
};
#endif

} // namespace xent

#endif
