/* xent_cuda.h: the C interface of the CUDA kernels. C11 and C++17; needs xent.h and nothing of CUDA's own headers.
 *
 * A request is xent.h's: shape and strides lie in host memory, the views' data on the device. What differs:
 *   - class_weight, pos_weight, sample_weight and temperature may be XENT_F32 or XENT_F64;
 *   - nothing is byte-swapped (XENT_ERR_DTYPE), and batch dimensions that cannot be joined into XENT_CUDA_MAX_NDIM are
 *     XENT_ERR_SHAPE;
 *   - `threads`, `scratch`, `bad_row` and `bad_label` are not looked at and not written;
 *   - a label out of range makes its row's results NaN, and is noted in the workspace (xent_cuda_check_labels);
 *   - logits, target, value and out must be aligned to their own size (XENT_ERR_OPTION otherwise), and results must not
 *     overlap operands, but for an output that is exactly the logits or exactly the target.
 * Where logits, a floating target and out are all of one 16-bit dtype, exponentials come from the special function
 * unit: results of 16 bits are rounded as elsewhere, a value asked for as float32 is right to about 2^-20.
 * The number of classes, the dtypes, the options, and whether the class axis of all arrays is contiguous decide a row's
 * bits; the batch, alignment and the device do not, but for a device's own exponential, and whether it has thread-block
 * clusters (compute capability 9.0 and later, in a build for it).
 *
 * Every function may be called from any thread. None prints, exits or allocates. The calling thread's current device is
 * restored.
 */
#ifndef XENT_CUDA_H
#define XENT_CUDA_H

#include "xent.h"

#ifdef __cplusplus
extern "C" {
#endif

#define XENT_CUDA_MAX_NDIM 4

/* Where a request runs. Fill with xent_cuda_launch_init, then set what differs. */
typedef struct xent_cuda_launch {
    size_t struct_size; /* set by xent_cuda_launch_init                                             */
    int device;         /* an ordinal, as CUDA counts                                               */
    void *stream;       /* a cudaStream_t of that device; NULL: the legacy default stream           */
    void *workspace;    /* device memory, xent_cuda_workspace_size() bytes, aligned to 256           */
    size_t workspace_size;
} xent_cuda_launch;

typedef struct xent_cuda_device {
    size_t struct_size; /* set by the caller */
    char name[256];
    int major, minor;     /* compute capability */
    int multiprocessors;  /* ... of which each has */
    int shared_per_block; /* bytes of shared memory, at most, that a block may have */
    int l2_bytes;
    size_t memory_bytes;
    int clock_khz, memory_clock_khz, memory_bus_bits;
} xent_cuda_device;

XENT_API void xent_cuda_launch_init(xent_cuda_launch *launch);

/* Bytes of workspace that this request needs there. Reads no device memory, and the device's facts only once. */
XENT_API xent_status xent_cuda_workspace_size(const xent_request *req, int device, size_t *size);

/* Queues the kernels and returns: no synchronisation, no host read; may be captured into a graph once
 * xent_cuda_prepare has been called for the device. */
XENT_API xent_status xent_cuda_run(const xent_request *req, const xent_cuda_launch *launch);

/* Loads every kernel and learns the device's facts, so that nothing is loaded later. */
XENT_API xent_status xent_cuda_prepare(int device);

/* After a run with labels: waits for the stream. XENT_ERR_LABEL: the first row (in C order over the batch) whose label
 * was out of range, and that label. The workspace must still be the one of that run. */
XENT_API xent_status xent_cuda_check_labels(const xent_cuda_launch *launch, int64_t *bad_row, int64_t *bad_label);

/* What CUDA said when this thread last got XENT_ERR_CUDA or XENT_ERR_DEVICE, as "cudaErrorName (number): text". */
XENT_API const char *xent_cuda_error(void);

/* 0 where there is no driver or no device; xent_cuda_error() then says why. Either version may be NULL; 0: none. */
XENT_API int xent_cuda_device_count(int *driver_version, int *runtime_version);
XENT_API xent_status xent_cuda_device_info(int device, xent_cuda_device *info);

#ifdef __cplusplus
}
#endif
#endif
