/* xent.h: the C interface of libxent. C11 and C++17; needs nothing but <stddef.h> and <stdint.h>.
 *
 * Every function here may be called from any thread, never allocates, prints or exits, and leaves errno alone.
 * Values are in nats.
 */
#ifndef XENT_H
#define XENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32) && defined(XENT_SHARED)
#define XENT_API __declspec(dllexport)
#elif defined(__GNUC__)
#define XENT_API __attribute__((visibility("default")))
#else
#define XENT_API
#endif

#define XENT_VERSION_MAJOR 0
#define XENT_VERSION_MINOR 1
#define XENT_VERSION_PATCH 0
#define XENT_ABI_VERSION 1
#define XENT_MAX_NDIM 64

typedef enum xent_status {
    XENT_OK = 0,
    XENT_ERR_OP,        /* no such operation                                                      */
    XENT_ERR_DTYPE,     /* an operand's dtype is not one that the operation takes                 */
    XENT_ERR_NULL,      /* an operand that the operation needs has no data                        */
    XENT_ERR_SHAPE,     /* negative extent, or more than XENT_MAX_NDIM batch dimensions           */
    XENT_ERR_OPTION,    /* an option that the operation does not take, or a value out of its range */
    XENT_ERR_REDUCTION, /* this reduction does not go with this operation                         */
    XENT_ERR_LABEL,     /* a label out of range; bad_row and bad_label say which; nothing written */
    XENT_ERR_SCRATCH,   /* scratch smaller than xent_scratch_size() asks for                      */
    XENT_ERR_ISA,       /* an instruction set that this processor or build lacks                  */
    XENT_ERR_CUDA,      /* a CUDA call failed; xent_cuda_error() says which (xent_cuda.h)         */
    XENT_ERR_DEVICE     /* no such CUDA device, or one that this build has no code for            */
} xent_status;

/* The storage type of an operand. Those of 16 bits are computed in float32: IEEE binary16 (float16), and bfloat16, which
 * is the upper half of a float32. */
typedef enum xent_dtype {
    XENT_NO_DTYPE = 0,
    XENT_F16,
    XENT_BF16,
    XENT_F32,
    XENT_F64,
    XENT_BOOL,
    XENT_I8,
    XENT_I16,
    XENT_I32,
    XENT_I64,
    XENT_U8,
    XENT_U16,
    XENT_U32,
    XENT_U64
} xent_dtype;

typedef enum xent_reduction {
    XENT_NONE = 0, /* one value a row, or the terms as they are                          */
    XENT_SUM,      /* values summed over rows                                            */
    XENT_MEAN,     /* divided by the sum of the weights of the rows that count           */
    XENT_PER_CLASS /* of a *_terms operation: summed over rows, one value a class        */
} xent_reduction;

/* What an operation makes of its row, as ops.def has it. */
typedef enum xent_target {
    XENT_TARGET_NONE = 0,
    XENT_TARGET_PROBS,
    XENT_TARGET_LOGITS,
    XENT_TARGET_LOG_PROBS,
    XENT_TARGET_LABELS,
    XENT_TARGET_POINT
} xent_target;

typedef struct xent_op_info {
    const char *name;
    xent_target target;
    int has_value; /* writes one value a row       */
    int has_emit;  /* writes one value a row and class */
} xent_op_info;

/* A strided operand. Strides are in bytes and may be negative or zero; nothing need be aligned. strides has one entry a
 * batch dimension and may be NULL when there is none. data == NULL: the operand is absent. */
typedef struct xent_view {
    void *data;
    const ptrdiff_t *strides;
    ptrdiff_t class_stride;
    uint8_t dtype;   /* xent_dtype */
    uint8_t swapped; /* 1: not in the machine's byte order */
} xent_view;

/* One call. Fill with xent_request_init, then set what differs. */
typedef struct xent_request {
    size_t struct_size; /* set by xent_request_init */
    int op;             /* index into xent_ops() */
    int compute;        /* XENT_F32 or XENT_F64: the type that the arithmetic is done in */
    int ndim;           /* number of batch dimensions, 0 for a single row */
    const ptrdiff_t *shape;
    ptrdiff_t classes;

    xent_view logits; /* float; entropy: probabilities; nll: log-probabilities; rel_entr: p  */
    xent_view target; /* float or, for labels, any integer; class_stride is unused by labels  */
    xent_view value;  /* out, float: strides over the batch, or one scalar with SUM and MEAN  */
    xent_view out;    /* out, float: rows x classes; with PER_CLASS one row                   */

    xent_view where;         /* XENT_BOOL, rows x classes: 0 takes a class out of its row                    */
    xent_view class_weight;  /* XENT_F64, one a class (cross-entropies, nll)                                 */
    xent_view pos_weight;    /* XENT_F64, one a class: multiplies t, not 1 - t (binary cross-entropy)        */
    xent_view sample_weight; /* XENT_F64, one a row                                                          */
    xent_view temperature;   /* XENT_F64, one a row: logits (and target logits) are divided by it            */
    double label_smoothing;  /* in [0, 1]: target (1 - a) t + a / (number of classes that count in the row)  */
    double grad_scale;       /* multiplies the gradient                                                      */
    int64_t ignore_index;    /* labels equal to it take their row out                                        */
    int has_ignore_index;

    int reduction; /* xent_reduction */
    int threads;   /* at most so many; 0: xent_get_num_threads() */
    void *scratch; /* xent_scratch_size() bytes, 64-byte aligned or not */
    size_t scratch_size;

    ptrdiff_t bad_row; /* set with XENT_ERR_LABEL: the first row, counted in C order */
    int64_t bad_label; /* ... and its label, saturated to int64 */
} xent_request;

XENT_API void xent_request_init(xent_request *req);
/* Bytes of scratch that this request needs (often 0). */
XENT_API xent_status xent_scratch_size(const xent_request *req, size_t *size);
XENT_API xent_status xent_run(xent_request *req);

XENT_API const xent_op_info *xent_ops(int *count);
XENT_API int xent_find_op(const char *name); /* -1: no such operation */
XENT_API const char *xent_strerror(xent_status status);
XENT_API int xent_abi_version(void);

/* Threads: n = 0 follows OpenMP (OMP_NUM_THREADS, omp_set_num_threads). Returns XENT_ERR_OPTION for n < 0. */
XENT_API xent_status xent_set_num_threads(int n);
XENT_API int xent_get_num_threads(void);
XENT_API int xent_has_openmp(void);

/* Instruction sets, by name: "baseline", "avx2", "avx512", "neon". NULL to xent_set_isa: the best that runs here. The
 * environment variable XENT_ISA chooses the first one; an unknown or unsupported value there makes xent_run return
 * XENT_ERR_ISA until xent_set_isa is called. */
XENT_API const char *xent_get_isa(void);
XENT_API xent_status xent_set_isa(const char *name);
/* The i-th of the instruction sets that run here, NULL past the end. */
XENT_API const char *xent_isa_name(int i);

#ifdef __cplusplus
}
#endif
#endif
