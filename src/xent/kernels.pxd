# xent.h for Cython, in two ways; both need xent.get_include() on the include path.
#
#   xent_*     the library's own functions: link with libxent, which `python -m xent.config --libs` says how
#   the rest   the same functions of the libxent that Python's xent runs on (its threads, its instruction set): pointers
#              that come with the import of this module, nothing to link. xent.kernels.address() has them for ctypes, cffi
#              and Numba
#
# What they do is documented in xent.h.
from libc.stdint cimport int64_t, uint16_t

from xent._xent_h cimport *


cdef int abi_version() noexcept nogil
cdef const char *strerror(xent_status status) noexcept nogil
cdef const xent_op_info *ops(int *count) noexcept nogil
cdef int find_op(const char *name) noexcept nogil
cdef void request_init(xent_request *req) noexcept nogil
cdef xent_status scratch_size(const xent_request *req, size_t *size) noexcept nogil
cdef xent_status run(xent_request *req) noexcept nogil
cdef size_t state_size(int op) noexcept nogil
cdef xent_status state_start(int op, int compute, size_t rows, void *states) noexcept nogil
cdef xent_status state_update(xent_request *piece, ptrdiff_t first_class, void *states) noexcept nogil
cdef xent_status state_merge(size_t rows, void *into, const void *other) noexcept nogil
cdef xent_status state_finish(size_t rows, const void *states, int dtype, void *value, size_t *bad_row) noexcept nogil
cdef xent_status set_num_threads(int n) noexcept nogil
cdef int get_num_threads() noexcept nogil
cdef int has_openmp() noexcept nogil
cdef const char *get_isa() noexcept nogil
cdef xent_status set_isa(const char *name) noexcept nogil
cdef const char *isa_name(int i) noexcept nogil

cdef xent_status logsumexp_f32(const float *x, size_t rows, size_t classes, float *value) noexcept nogil
cdef xent_status log_softmax_f32(const float *x, size_t rows, size_t classes, float *out) noexcept nogil
cdef xent_status softmax_f32(const float *x, size_t rows, size_t classes, float *out) noexcept nogil
cdef xent_status entropy_f32(const float *x, size_t rows, size_t classes, float *value) noexcept nogil
cdef xent_status softmax_entropy_f32(const float *x, size_t rows, size_t classes, float *value) noexcept nogil
cdef xent_status cross_entropy_f32(
    const float *x, const float *t, size_t rows, size_t classes, float *value
) noexcept nogil
cdef xent_status cross_entropy_with_labels_f32(
    const float *x, const int64_t *labels, size_t rows, size_t classes, float *value
) noexcept nogil
cdef xent_status kl_div_f32(const float *x, const float *t, size_t rows, size_t classes, float *value) noexcept nogil
cdef xent_status kl_div_with_logits_f32(
    const float *x, const float *t, size_t rows, size_t classes, float *value
) noexcept nogil
cdef xent_status kl_div_with_log_probs_f32(
    const float *x, const float *t, size_t rows, size_t classes, float *value
) noexcept nogil
cdef xent_status cross_entropy_terms_f32(
    const float *x, const float *t, size_t rows, size_t classes, float *out
) noexcept nogil
cdef xent_status kl_div_terms_f32(
    const float *x, const float *t, size_t rows, size_t classes, float *out
) noexcept nogil
cdef xent_status kl_div_with_logits_terms_f32(
    const float *x, const float *t, size_t rows, size_t classes, float *out
) noexcept nogil
cdef xent_status kl_div_with_log_probs_terms_f32(
    const float *x, const float *t, size_t rows, size_t classes, float *out
) noexcept nogil
cdef xent_status cross_entropy_value_and_grad_f32(
    const float *x, const float *t, size_t rows, size_t classes, float *value, float *grad
) noexcept nogil
cdef xent_status cross_entropy_with_labels_value_and_grad_f32(
    const float *x, const int64_t *labels, size_t rows, size_t classes, float *value, float *grad
) noexcept nogil
cdef xent_status kl_div_value_and_grad_f32(
    const float *x, const float *t, size_t rows, size_t classes, float *value, float *grad
) noexcept nogil
cdef xent_status kl_div_with_logits_value_and_grad_f32(
    const float *x, const float *t, size_t rows, size_t classes, float *value, float *grad
) noexcept nogil
cdef xent_status kl_div_with_log_probs_value_and_grad_f32(
    const float *x, const float *t, size_t rows, size_t classes, float *value, float *grad
) noexcept nogil
cdef xent_status nll_f32(
    const float *x, const int64_t *labels, size_t rows, size_t classes, float *value
) noexcept nogil
cdef xent_status nll_terms_f32(
    const float *x, const int64_t *labels, size_t rows, size_t classes, float *out
) noexcept nogil
cdef xent_status nll_value_and_grad_f32(
    const float *x, const int64_t *labels, size_t rows, size_t classes, float *value, float *grad
) noexcept nogil
cdef xent_status binary_cross_entropy_f32(
    const float *x, const float *t, size_t rows, size_t classes, float *value
) noexcept nogil
cdef xent_status binary_cross_entropy_terms_f32(
    const float *x, const float *t, size_t rows, size_t classes, float *out
) noexcept nogil
cdef xent_status binary_cross_entropy_value_and_grad_f32(
    const float *x, const float *t, size_t rows, size_t classes, float *value, float *grad
) noexcept nogil
cdef xent_status js_div_f32(const float *x, const float *t, size_t rows, size_t classes, float *value) noexcept nogil
cdef xent_status js_div_terms_f32(
    const float *x, const float *t, size_t rows, size_t classes, float *out
) noexcept nogil
cdef xent_status js_div_value_and_grad_f32(
    const float *x, const float *t, size_t rows, size_t classes, float *value, float *grad
) noexcept nogil
cdef xent_status kl_pointwise_f32(const float *x, const float *t, size_t n, float *out) noexcept nogil
cdef xent_status rel_entr_f32(const float *x, const float *t, size_t n, float *out) noexcept nogil
cdef xent_status logsumexp_f64(const double *x, size_t rows, size_t classes, double *value) noexcept nogil
cdef xent_status log_softmax_f64(const double *x, size_t rows, size_t classes, double *out) noexcept nogil
cdef xent_status softmax_f64(const double *x, size_t rows, size_t classes, double *out) noexcept nogil
cdef xent_status entropy_f64(const double *x, size_t rows, size_t classes, double *value) noexcept nogil
cdef xent_status softmax_entropy_f64(const double *x, size_t rows, size_t classes, double *value) noexcept nogil
cdef xent_status cross_entropy_f64(
    const double *x, const double *t, size_t rows, size_t classes, double *value
) noexcept nogil
cdef xent_status cross_entropy_with_labels_f64(
    const double *x, const int64_t *labels, size_t rows, size_t classes, double *value
) noexcept nogil
cdef xent_status kl_div_f64(const double *x, const double *t, size_t rows, size_t classes, double *value) noexcept nogil
cdef xent_status kl_div_with_logits_f64(
    const double *x, const double *t, size_t rows, size_t classes, double *value
) noexcept nogil
cdef xent_status kl_div_with_log_probs_f64(
    const double *x, const double *t, size_t rows, size_t classes, double *value
) noexcept nogil
cdef xent_status cross_entropy_terms_f64(
    const double *x, const double *t, size_t rows, size_t classes, double *out
) noexcept nogil
cdef xent_status kl_div_terms_f64(
    const double *x, const double *t, size_t rows, size_t classes, double *out
) noexcept nogil
cdef xent_status kl_div_with_logits_terms_f64(
    const double *x, const double *t, size_t rows, size_t classes, double *out
) noexcept nogil
cdef xent_status kl_div_with_log_probs_terms_f64(
    const double *x, const double *t, size_t rows, size_t classes, double *out
) noexcept nogil
cdef xent_status cross_entropy_value_and_grad_f64(
    const double *x, const double *t, size_t rows, size_t classes, double *value, double *grad
) noexcept nogil
cdef xent_status cross_entropy_with_labels_value_and_grad_f64(
    const double *x, const int64_t *labels, size_t rows, size_t classes, double *value, double *grad
) noexcept nogil
cdef xent_status kl_div_value_and_grad_f64(
    const double *x, const double *t, size_t rows, size_t classes, double *value, double *grad
) noexcept nogil
cdef xent_status kl_div_with_logits_value_and_grad_f64(
    const double *x, const double *t, size_t rows, size_t classes, double *value, double *grad
) noexcept nogil
cdef xent_status kl_div_with_log_probs_value_and_grad_f64(
    const double *x, const double *t, size_t rows, size_t classes, double *value, double *grad
) noexcept nogil
cdef xent_status nll_f64(
    const double *x, const int64_t *labels, size_t rows, size_t classes, double *value
) noexcept nogil
cdef xent_status nll_terms_f64(
    const double *x, const int64_t *labels, size_t rows, size_t classes, double *out
) noexcept nogil
cdef xent_status nll_value_and_grad_f64(
    const double *x, const int64_t *labels, size_t rows, size_t classes, double *value, double *grad
) noexcept nogil
cdef xent_status binary_cross_entropy_f64(
    const double *x, const double *t, size_t rows, size_t classes, double *value
) noexcept nogil
cdef xent_status binary_cross_entropy_terms_f64(
    const double *x, const double *t, size_t rows, size_t classes, double *out
) noexcept nogil
cdef xent_status binary_cross_entropy_value_and_grad_f64(
    const double *x, const double *t, size_t rows, size_t classes, double *value, double *grad
) noexcept nogil
cdef xent_status js_div_f64(const double *x, const double *t, size_t rows, size_t classes, double *value) noexcept nogil
cdef xent_status js_div_terms_f64(
    const double *x, const double *t, size_t rows, size_t classes, double *out
) noexcept nogil
cdef xent_status js_div_value_and_grad_f64(
    const double *x, const double *t, size_t rows, size_t classes, double *value, double *grad
) noexcept nogil
cdef xent_status kl_pointwise_f64(const double *x, const double *t, size_t n, double *out) noexcept nogil
cdef xent_status rel_entr_f64(const double *x, const double *t, size_t n, double *out) noexcept nogil
cdef xent_status logsumexp_f16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value) noexcept nogil
cdef xent_status log_softmax_f16(const uint16_t *x, size_t rows, size_t classes, uint16_t *out) noexcept nogil
cdef xent_status softmax_f16(const uint16_t *x, size_t rows, size_t classes, uint16_t *out) noexcept nogil
cdef xent_status entropy_f16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value) noexcept nogil
cdef xent_status softmax_entropy_f16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value) noexcept nogil
cdef xent_status cross_entropy_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
) noexcept nogil
cdef xent_status cross_entropy_with_labels_f16(
    const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *value
) noexcept nogil
cdef xent_status kl_div_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
) noexcept nogil
cdef xent_status kl_div_with_logits_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
) noexcept nogil
cdef xent_status kl_div_with_log_probs_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
) noexcept nogil
cdef xent_status cross_entropy_terms_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
) noexcept nogil
cdef xent_status kl_div_terms_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
) noexcept nogil
cdef xent_status kl_div_with_logits_terms_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
) noexcept nogil
cdef xent_status kl_div_with_log_probs_terms_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
) noexcept nogil
cdef xent_status cross_entropy_value_and_grad_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
) noexcept nogil
cdef xent_status cross_entropy_with_labels_value_and_grad_f16(
    const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
) noexcept nogil
cdef xent_status kl_div_value_and_grad_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
) noexcept nogil
cdef xent_status kl_div_with_logits_value_and_grad_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
) noexcept nogil
cdef xent_status kl_div_with_log_probs_value_and_grad_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
) noexcept nogil
cdef xent_status nll_f16(
    const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *value
) noexcept nogil
cdef xent_status nll_terms_f16(
    const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *out
) noexcept nogil
cdef xent_status nll_value_and_grad_f16(
    const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
) noexcept nogil
cdef xent_status binary_cross_entropy_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
) noexcept nogil
cdef xent_status binary_cross_entropy_terms_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
) noexcept nogil
cdef xent_status binary_cross_entropy_value_and_grad_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
) noexcept nogil
cdef xent_status js_div_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
) noexcept nogil
cdef xent_status js_div_terms_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
) noexcept nogil
cdef xent_status js_div_value_and_grad_f16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
) noexcept nogil
cdef xent_status kl_pointwise_f16(const uint16_t *x, const uint16_t *t, size_t n, uint16_t *out) noexcept nogil
cdef xent_status rel_entr_f16(const uint16_t *x, const uint16_t *t, size_t n, uint16_t *out) noexcept nogil
cdef xent_status logsumexp_bf16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value) noexcept nogil
cdef xent_status log_softmax_bf16(const uint16_t *x, size_t rows, size_t classes, uint16_t *out) noexcept nogil
cdef xent_status softmax_bf16(const uint16_t *x, size_t rows, size_t classes, uint16_t *out) noexcept nogil
cdef xent_status entropy_bf16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value) noexcept nogil
cdef xent_status softmax_entropy_bf16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value) noexcept nogil
cdef xent_status cross_entropy_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
) noexcept nogil
cdef xent_status cross_entropy_with_labels_bf16(
    const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *value
) noexcept nogil
cdef xent_status kl_div_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
) noexcept nogil
cdef xent_status kl_div_with_logits_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
) noexcept nogil
cdef xent_status kl_div_with_log_probs_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
) noexcept nogil
cdef xent_status cross_entropy_terms_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
) noexcept nogil
cdef xent_status kl_div_terms_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
) noexcept nogil
cdef xent_status kl_div_with_logits_terms_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
) noexcept nogil
cdef xent_status kl_div_with_log_probs_terms_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
) noexcept nogil
cdef xent_status cross_entropy_value_and_grad_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
) noexcept nogil
cdef xent_status cross_entropy_with_labels_value_and_grad_bf16(
    const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
) noexcept nogil
cdef xent_status kl_div_value_and_grad_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
) noexcept nogil
cdef xent_status kl_div_with_logits_value_and_grad_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
) noexcept nogil
cdef xent_status kl_div_with_log_probs_value_and_grad_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
) noexcept nogil
cdef xent_status nll_bf16(
    const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *value
) noexcept nogil
cdef xent_status nll_terms_bf16(
    const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *out
) noexcept nogil
cdef xent_status nll_value_and_grad_bf16(
    const uint16_t *x, const int64_t *labels, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
) noexcept nogil
cdef xent_status binary_cross_entropy_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
) noexcept nogil
cdef xent_status binary_cross_entropy_terms_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
) noexcept nogil
cdef xent_status binary_cross_entropy_value_and_grad_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
) noexcept nogil
cdef xent_status js_div_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value
) noexcept nogil
cdef xent_status js_div_terms_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *out
) noexcept nogil
cdef xent_status js_div_value_and_grad_bf16(
    const uint16_t *x, const uint16_t *t, size_t rows, size_t classes, uint16_t *value, uint16_t *grad
) noexcept nogil
cdef xent_status kl_pointwise_bf16(const uint16_t *x, const uint16_t *t, size_t n, uint16_t *out) noexcept nogil
cdef xent_status rel_entr_bf16(const uint16_t *x, const uint16_t *t, size_t n, uint16_t *out) noexcept nogil
