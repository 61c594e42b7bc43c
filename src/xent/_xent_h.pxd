# xent.h as it is: who calls these functions is linked with libxent.
from libc.stdint cimport int64_t, uint8_t, uint16_t


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
        XENT_ERR_REQUEST
        XENT_ERR_STATE
        XENT_ERR_CUDA
        XENT_ERR_DEVICE

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

    int xent_abi_version()
    const char *xent_strerror(xent_status status)
    const xent_op_info *xent_ops(int *count)
    int xent_find_op(const char *name)
    void xent_request_init(xent_request *req)
    xent_status xent_scratch_size(const xent_request *req, size_t *size)
    xent_status xent_run(xent_request *req)
    size_t xent_state_size(int op)
    xent_status xent_state_start(int op, int compute, size_t rows, void *states)
    xent_status xent_state_update(xent_request *piece, ptrdiff_t first_class, void *states)
    xent_status xent_state_merge(size_t rows, void *into, const void *other)
    xent_status xent_state_finish(size_t rows, const void *states, int dtype, void *value, size_t *bad_row)
    xent_status xent_set_num_threads(int n)
    int xent_get_num_threads()
    int xent_has_openmp()
    const char *xent_get_isa()
    xent_status xent_set_isa(const char *name)
    const char *xent_isa_name(int i)

    xent_status xent_logsumexp_f32(const float *x, size_t rows, size_t classes, float *value)
    xent_status xent_log_softmax_f32(const float *x, size_t rows, size_t classes, float *out)
    xent_status xent_softmax_f32(const float *x, size_t rows, size_t classes, float *out)
    xent_status xent_entropy_f32(const float *x, size_t rows, size_t classes, float *value)
    xent_status xent_softmax_entropy_f32(const float *x, size_t rows, size_t classes, float *value)
    xent_status xent_cross_entropy_f32(const float *x, const float *t, size_t rows, size_t classes, float *value)
    xent_status xent_cross_entropy_with_labels_f32(
        const float *x, const int64_t *labels, size_t rows, size_t classes, float *value
    )
    xent_status xent_kl_div_f32(const float *x, const float *t, size_t rows, size_t classes, float *value)
    xent_status xent_kl_div_with_logits_f32(const float *x, const float *t, size_t rows, size_t classes, float *value)
    xent_status xent_kl_div_with_log_probs_f32(
        const float *x, const float *t, size_t rows, size_t classes, float *value
    )
    xent_status xent_cross_entropy_terms_f32(const float *x, const float *t, size_t rows, size_t classes, float *out)
    xent_status xent_kl_div_terms_f32(const float *x, const float *t, size_t rows, size_t classes, float *out)
    xent_status xent_kl_div_with_logits_terms_f32(
        const float *x, const float *t, size_t rows, size_t classes, float *out
    )
    xent_status xent_kl_div_with_log_probs_terms_f32(
        const float *x, const float *t, size_t rows, size_t classes, float *out
    )
    xent_status xent_cross_entropy_value_and_grad_f32(
        const float *x, const float *t, size_t rows, size_t classes, float *value, float *grad
    )
    xent_status xent_cross_entropy_with_labels_value_and_grad_f32(
        const float *x, const int64_t *labels, size_t rows, size_t classes, float *value, float *grad
    )
    xent_status xent_kl_div_value_and_grad_f32(
        const float *x, const float *t, size_t rows, size_t classes, float *value, float *grad
    )
    xent_status xent_kl_div_with_logits_value_and_grad_f32(
        const float *x, const float *t, size_t rows, size_t classes, float *value, float *grad
    )
    xent_status xent_kl_div_with_log_probs_value_and_grad_f32(
        const float *x, const float *t, size_t rows, size_t classes, float *value, float *grad
    )
    xent_status xent_nll_f32(const float *x, const int64_t *labels, size_t rows, size_t classes, float *value)
    xent_status xent_nll_terms_f32(const float *x, const int64_t *labels, size_t rows, size_t classes, float *out)
    xent_status xent_nll_value_and_grad_f32(
        const float *x, const int64_t *labels, size_t rows, size_t classes, float *value, float *grad
    )
    xent_status xent_binary_cross_entropy_f32(const float *x, const float *t, size_t rows, size_t classes, float *value)
    xent_status xent_binary_cross_entropy_terms_f32(
        const float *x, const float *t, size_t rows, size_t classes, float *out
    )
    xent_status xent_binary_cross_entropy_value_and_grad_f32(
        const float *x, const float *t, size_t rows, size_t classes, float *value, float *grad
    )
    xent_status xent_js_div_f32(const float *x, const float *t, size_t rows, size_t classes, float *value)
    xent_status xent_js_div_terms_f32(const float *x, const float *t, size_t rows, size_t classes, float *out)
    xent_status xent_js_div_value_and_grad_f32(
        const float *x, const float *t, size_t rows, size_t classes, float *value, float *grad
    )
    xent_status xent_kl_pointwise_f32(const float *x, const float *t, size_t n, float *out)
    xent_status xent_rel_entr_f32(const float *x, const float *t, size_t n, float *out)
    xent_status xent_logsumexp_f64(const double *x, size_t rows, size_t classes, double *value)
    xent_status xent_log_softmax_f64(const double *x, size_t rows, size_t classes, double *out)
    xent_status xent_softmax_f64(const double *x, size_t rows, size_t classes, double *out)
    xent_status xent_entropy_f64(const double *x, size_t rows, size_t classes, double *value)
    xent_status xent_softmax_entropy_f64(const double *x, size_t rows, size_t classes, double *value)
    xent_status xent_cross_entropy_f64(const double *x, const double *t, size_t rows, size_t classes, double *value)
    xent_status xent_cross_entropy_with_labels_f64(
        const double *x, const int64_t *labels, size_t rows, size_t classes, double *value
    )
    xent_status xent_kl_div_f64(const double *x, const double *t, size_t rows, size_t classes, double *value)
    xent_status xent_kl_div_with_logits_f64(
        const double *x, const double *t, size_t rows, size_t classes, double *value
    )
    xent_status xent_kl_div_with_log_probs_f64(
        const double *x, const double *t, size_t rows, size_t classes, double *value
    )
    xent_status xent_cross_entropy_terms_f64(const double *x, const double *t, size_t rows, size_t classes, double *out)
    xent_status xent_kl_div_terms_f64(const double *x, const double *t, size_t rows, size_t classes, double *out)
    xent_status xent_kl_div_with_logits_terms_f64(
        const double *x, const double *t, size_t rows, size_t classes, double *out
    )
    xent_status xent_kl_div_with_log_probs_terms_f64(
        const double *x, const double *t, size_t rows, size_t classes, double *out
    )
    xent_status xent_cross_entropy_value_and_grad_f64(
        const double *x, const double *t, size_t rows, size_t classes, double *value, double *grad
    )
    xent_status xent_cross_entropy_with_labels_value_and_grad_f64(
        const double *x, const int64_t *labels, size_t rows, size_t classes, double *value, double *grad
    )
    xent_status xent_kl_div_value_and_grad_f64(
        const double *x, const double *t, size_t rows, size_t classes, double *value, double *grad
    )
    xent_status xent_kl_div_with_logits_value_and_grad_f64(
        const double *x, const double *t, size_t rows, size_t classes, double *value, double *grad
    )
    xent_status xent_kl_div_with_log_probs_value_and_grad_f64(
        const double *x, const double *t, size_t rows, size_t classes, double *value, double *grad
    )
    xent_status xent_nll_f64(const double *x, const int64_t *labels, size_t rows, size_t classes, double *value)
    xent_status xent_nll_terms_f64(const double *x, const int64_t *labels, size_t rows, size_t classes, double *out)
    xent_status xent_nll_value_and_grad_f64(
        const double *x, const int64_t *labels, size_t rows, size_t classes, double *value, double *grad
    )
    xent_status xent_binary_cross_entropy_f64(
        const double *x, const double *t, size_t rows, size_t classes, double *value
    )
    xent_status xent_binary_cross_entropy_terms_f64(
        const double *x, const double *t, size_t rows, size_t classes, double *out
    )
    xent_status xent_binary_cross_entropy_value_and_grad_f64(
        const double *x, const double *t, size_t rows, size_t classes, double *value, double *grad
    )
    xent_status xent_js_div_f64(const double *x, const double *t, size_t rows, size_t classes, double *value)
    xent_status xent_js_div_terms_f64(const double *x, const double *t, size_t rows, size_t classes, double *out)
    xent_status xent_js_div_value_and_grad_f64(
        const double *x, const double *t, size_t rows, size_t classes, double *value, double *grad
    )
    xent_status xent_kl_pointwise_f64(const double *x, const double *t, size_t n, double *out)
    xent_status xent_rel_entr_f64(const double *x, const double *t, size_t n, double *out)
    xent_status xent_logsumexp_f16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value)
    xent_status xent_log_softmax_f16(const uint16_t *x, size_t rows, size_t classes, uint16_t *out)
    xent_status xent_softmax_f16(const uint16_t *x, size_t rows, size_t classes, uint16_t *out)
    xent_status xent_entropy_f16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value)
    xent_status xent_softmax_entropy_f16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value)
    xent_status xent_cross_entropy_f16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
    )
    xent_status xent_cross_entropy_with_labels_f16(
        const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *value
    )
    xent_status xent_kl_div_f16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value)
    xent_status xent_kl_div_with_logits_f16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
    )
    xent_status xent_kl_div_with_log_probs_f16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
    )
    xent_status xent_cross_entropy_terms_f16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
    )
    xent_status xent_kl_div_terms_f16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out)
    xent_status xent_kl_div_with_logits_terms_f16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
    )
    xent_status xent_kl_div_with_log_probs_terms_f16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
    )
    xent_status xent_cross_entropy_value_and_grad_f16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
    )
    xent_status xent_cross_entropy_with_labels_value_and_grad_f16(
        const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
    )
    xent_status xent_kl_div_value_and_grad_f16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
    )
    xent_status xent_kl_div_with_logits_value_and_grad_f16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
    )
    xent_status xent_kl_div_with_log_probs_value_and_grad_f16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
    )
    xent_status xent_nll_f16(const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *value)
    xent_status xent_nll_terms_f16(const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *out)
    xent_status xent_nll_value_and_grad_f16(
        const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
    )
    xent_status xent_binary_cross_entropy_f16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
    )
    xent_status xent_binary_cross_entropy_terms_f16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
    )
    xent_status xent_binary_cross_entropy_value_and_grad_f16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
    )
    xent_status xent_js_div_f16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value)
    xent_status xent_js_div_terms_f16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out)
    xent_status xent_js_div_value_and_grad_f16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
    )
    xent_status xent_kl_pointwise_f16(const uint16_t *x, const uint16_t *t, size_t n, uint16_t *out)
    xent_status xent_rel_entr_f16(const uint16_t *x, const uint16_t *t, size_t n, uint16_t *out)
    xent_status xent_logsumexp_bf16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value)
    xent_status xent_log_softmax_bf16(const uint16_t *x, size_t rows, size_t classes, uint16_t *out)
    xent_status xent_softmax_bf16(const uint16_t *x, size_t rows, size_t classes, uint16_t *out)
    xent_status xent_entropy_bf16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value)
    xent_status xent_softmax_entropy_bf16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value)
    xent_status xent_cross_entropy_bf16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
    )
    xent_status xent_cross_entropy_with_labels_bf16(
        const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *value
    )
    xent_status xent_kl_div_bf16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value)
    xent_status xent_kl_div_with_logits_bf16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
    )
    xent_status xent_kl_div_with_log_probs_bf16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
    )
    xent_status xent_cross_entropy_terms_bf16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
    )
    xent_status xent_kl_div_terms_bf16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out)
    xent_status xent_kl_div_with_logits_terms_bf16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
    )
    xent_status xent_kl_div_with_log_probs_terms_bf16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
    )
    xent_status xent_cross_entropy_value_and_grad_bf16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
    )
    xent_status xent_cross_entropy_with_labels_value_and_grad_bf16(
        const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
    )
    xent_status xent_kl_div_value_and_grad_bf16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
    )
    xent_status xent_kl_div_with_logits_value_and_grad_bf16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
    )
    xent_status xent_kl_div_with_log_probs_value_and_grad_bf16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
    )
    xent_status xent_nll_bf16(const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *value)
    xent_status xent_nll_terms_bf16(
        const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *out
    )
    xent_status xent_nll_value_and_grad_bf16(
        const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
    )
    xent_status xent_binary_cross_entropy_bf16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
    )
    xent_status xent_binary_cross_entropy_terms_bf16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
    )
    xent_status xent_binary_cross_entropy_value_and_grad_bf16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
    )
    xent_status xent_js_div_bf16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value)
    xent_status xent_js_div_terms_bf16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out)
    xent_status xent_js_div_value_and_grad_bf16(
        const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
    )
    xent_status xent_kl_pointwise_bf16(const uint16_t *x, const uint16_t *t, size_t n, uint16_t *out)
    xent_status xent_rel_entr_bf16(const uint16_t *x, const uint16_t *t, size_t n, uint16_t *out)
