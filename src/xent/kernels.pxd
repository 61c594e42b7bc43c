# The C interface of libxent (xent.h) for Cython. Compile with xent.get_include() on the include path.
from libc.stdint cimport int64_t, uint8_t


cdef extern from "xent.h" nogil:
    int XENT_VERSION_MAJOR
    int XENT_VERSION_MINOR
    int XENT_VERSION_PATCH
    int XENT_ABI_VERSION
    enum: XENT_MAX_NDIM

    ctypedef enum xent_status:
        XENT_OK
        XENT_ERR_OP
        XENT_ERR_DTYPE
        XENT_ERR_NULL
        XENT_ERR_SHAPE
        XENT_ERR_OPTION
        XENT_ERR_REDUCTION
        XENT_ERR_LABEL
        XENT_ERR_SCRATCH
        XENT_ERR_ISA

    ctypedef enum xent_dtype:
        XENT_NO_DTYPE
        XENT_F16
        XENT_BF16
        XENT_F32
        XENT_F64
        XENT_BOOL
        XENT_I8
        XENT_I16
        XENT_I32
        XENT_I64
        XENT_U8
        XENT_U16
        XENT_U32
        XENT_U64

    ctypedef enum xent_reduction:
        XENT_NONE
        XENT_SUM
        XENT_MEAN
        XENT_PER_CLASS

    ctypedef enum xent_target:
        XENT_TARGET_NONE
        XENT_TARGET_PROBS
        XENT_TARGET_LOGITS
        XENT_TARGET_LOG_PROBS
        XENT_TARGET_LABELS
        XENT_TARGET_POINT

    ctypedef struct xent_op_info:
        const char *name
        xent_target target
        int has_value
        int has_emit

    ctypedef struct xent_view:
        void *data
        const ptrdiff_t *strides
        ptrdiff_t class_stride
        uint8_t dtype
        uint8_t swapped

    ctypedef struct xent_request:
        size_t struct_size
        int op
        int compute
        int ndim
        const ptrdiff_t *shape
        ptrdiff_t classes
        xent_view logits
        xent_view target
        xent_view value
        xent_view out
        xent_view where
        xent_view class_weight
        xent_view pos_weight
        xent_view sample_weight
        xent_view temperature
        double label_smoothing
        double grad_scale
        int64_t ignore_index
        int has_ignore_index
        int reduction
        int threads
        void *scratch
        size_t scratch_size
        ptrdiff_t bad_row
        int64_t bad_label

    void xent_request_init(xent_request *req)
    xent_status xent_scratch_size(const xent_request *req, size_t *size)
    xent_status xent_run(xent_request *req)

    const xent_op_info *xent_ops(int *count)
    int xent_find_op(const char *name)
    const char *xent_strerror(xent_status status)
    int xent_abi_version()

    xent_status xent_set_num_threads(int n)
    int xent_get_num_threads()
    int xent_has_openmp()

    const char *xent_get_isa()
    xent_status xent_set_isa(const char *name)
    const char *xent_isa_name(int i)
