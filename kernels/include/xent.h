/* xent.h: the C interface of libxent: softmax losses of rows of numbers, and their gradients, in nats. C11 and C++17.
 *
 * Three ways in: a function for each operation and dtype, on contiguous rows; xent_run(), on strided operands of any
 * dtype and with every option; and states, for rows that come in pieces.
 *
 * What holds for every function:
 *   It never allocates, prints, exits or touches errno, and writes nothing where it returns an error; NULL where there
 *   should be something, and extents beyond any memory, are errors. Any thread may call any function at any time, as long
 *   as nobody writes what another reads, and gets by with 128 KiB of stack. Floating-point flags may be raised; results
 *   are those of rounding to nearest.
 *   Domain: any float. Infinities have the meaning that the functions below say; a NaN makes NaN of its row's results
 *   and of no other row's. No rows, or no classes where a result has one value a class: nothing is written.
 *   Aliasing: outputs overlap neither inputs nor each other, except "in place": the very same elements as an input's.
 *   Accuracy: the largest error, in ULPs of the sum of the absolute values of the terms finally added (|max| + log of the
 *   rest for logsumexp, p + |t| for a gradient), for float and for double; 16-bit floats: 0.51 of theirs everywhere.
 *   Bits: a row's results depend on its values, dtype, number of classes, instruction set, options, and on whether its
 *   classes are contiguous; not on the other rows, alignment or the number of threads.
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

/* XENT_ABI_VERSION of the library that runs: that of this header, or the two do not go together. */
XENT_API int xent_abi_version(void);

typedef enum xent_status {
    XENT_OK = 0,
    XENT_ERR_OP,        /* no such operation, or none that can be done this way                   */
    XENT_ERR_DTYPE,     /* an operand's dtype is not one that the operation takes                 */
    XENT_ERR_NULL,      /* an operand that the operation needs has no data                        */
    XENT_ERR_SHAPE,     /* negative or huge extent, or more than XENT_MAX_NDIM batch dimensions   */
    XENT_ERR_OPTION,    /* an option that the operation does not take, or a value out of its range */
    XENT_ERR_REDUCTION, /* this reduction does not go with this operation                         */
    XENT_ERR_LABEL,     /* a label out of range; a request's bad_row and bad_label say which      */
    XENT_ERR_SCRATCH,   /* scratch smaller than xent_scratch_size() asks for                      */
    XENT_ERR_ISA,       /* an instruction set that this processor or build lacks                  */
    XENT_ERR_REQUEST,   /* not a request of this ABI version: xent_request_init() has not seen it */
    XENT_ERR_STATE,     /* not states, or of another operation, dtype or ABI version              */
    XENT_ERR_CUDA,      /* a CUDA call failed; xent_cuda_error() says which (xent_cuda.h)         */
    XENT_ERR_DEVICE     /* no such CUDA device, or one that this build has no code for            */
} xent_status;

/* A sentence for any status, in English; never NULL. */
XENT_API const char *xent_strerror(xent_status status);

/* ---- contiguous rows ----
 * x, t and the results of one value a class are rows x classes, in C order; `value`, or `out` of one value a row, has one
 * a row. Large calls use up to xent_get_num_threads() threads. */

/* log sum exp(x). No classes: -inf; all -inf: -inf; +inf somewhere: +inf. Accuracy 4, 4. */
XENT_API xent_status xent_logsumexp_f32(const float *x, size_t rows, size_t classes, float *value);

/* x - log sum exp(x), in place or not. A row all -inf: NaN; with one +inf: NaN there, -inf elsewhere.
 * Accuracy 4, 4. */
XENT_API xent_status xent_log_softmax_f32(const float *x, size_t rows, size_t classes, float *out);

/* exp(x) / sum exp(x), in place or not. A row all -inf: NaN; with one +inf: NaN there, 0 elsewhere. Accuracy 5, 4. */
XENT_API xent_status xent_softmax_f32(const float *x, size_t rows, size_t classes, float *out);

/* -sum p log p of probabilities x >= 0, which need not sum to 1; 0 log 0 = 0, negative: NaN. Accuracy 5, 5. */
XENT_API xent_status xent_entropy_f32(const float *x, size_t rows, size_t classes, float *value);

/* entropy of softmax(x). No classes: 0; a row all -inf or with a +inf: NaN. Accuracy 6, 7. */
XENT_API xent_status xent_softmax_entropy_f32(const float *x, size_t rows, size_t classes, float *value);

/* -sum t log_softmax(x) for target probabilities t: any real numbers, the loss is linear in them. t = 0 adds 0,
 * also where x = -inf; t > 0 there: +inf; a row all -inf: NaN, but 0 where t is all 0. No classes: 0. Accuracy 5, 5. */
XENT_API xent_status xent_cross_entropy_f32(const float *x, const float *t, size_t rows, size_t classes, float *value);

/* -log_softmax(x) at the row's label, 0 <= label < classes, else XENT_ERR_LABEL and nothing is written. x = -inf there:
 * +inf; a row all -inf: NaN. Accuracy 4, 4. */
XENT_API xent_status xent_cross_entropy_with_labels_f32(const float *x, const int64_t *labels, size_t rows,
                                                        size_t classes, float *value);

/* KL(t, softmax(x)) for target probabilities t >= 0 (negative: NaN); never negative where they sum to 1 within rounding.
 * Else, T = sum t: T KL(t/T, softmax(x)) + T log T. t = 0 adds 0, t > 0 where x = -inf: +inf. No classes: 0.
 * Accuracy 4, 5, or 4 eps KL + 2 a sqrt(2 KL) + a^2 with a = eps (1 + max |log t|) where that is more. */
XENT_API xent_status xent_kl_div_f32(const float *x, const float *t, size_t rows, size_t classes, float *value);

/* KL(softmax(t), softmax(x)) for target logits t; a t of -inf is a probability of 0, a row of them NaN. Never negative.
 * Accuracy 6, 6, in ULPs of the divergence itself, however near the rows. */
XENT_API xent_status xent_kl_div_with_logits_f32(const float *x, const float *t, size_t rows, size_t classes,
                                                 float *value);

/* kl_div of t = log-probabilities, taken as they are: the target is exp(t), summing to 1 or not. As there; accuracy 6, 5. */
XENT_API xent_status xent_kl_div_with_log_probs_f32(const float *x, const float *t, size_t rows, size_t classes,
                                                    float *value);

/* -t log_softmax(x), a value a class, in place of x or t or not. t = 0: 0; a row all -inf: NaN where t is not 0.
 * Accuracy 5, 4. */
XENT_API xent_status xent_cross_entropy_terms_f32(const float *x, const float *t, size_t rows, size_t classes,
                                                  float *out);

/* t (log t - log_softmax(x)), a value a class, in place of x or t or not. t = 0: 0; t < 0: NaN, and so is a row all -inf
 * where t is not 0. Accuracy 5, 4. */
XENT_API xent_status xent_kl_div_terms_f32(const float *x, const float *t, size_t rows, size_t classes, float *out);

/* The same for target logits. Accuracy 9, 6. */
XENT_API xent_status xent_kl_div_with_logits_terms_f32(const float *x, const float *t, size_t rows, size_t classes,
                                                       float *out);

/* The same for log-probabilities. Accuracy 7, 5. */
XENT_API xent_status xent_kl_div_with_log_probs_terms_f32(const float *x, const float *t, size_t rows, size_t classes,
                                                          float *out);

/* cross_entropy and its gradient with respect to x, softmax(x) sum t - t, in place of x or t or not. A row all -inf or with
 * a +inf: NaN. Accuracy 5, 5, of the gradient 6, 7. */
XENT_API xent_status xent_cross_entropy_value_and_grad_f32(const float *x, const float *t, size_t rows, size_t classes,
                                                           float *value, float *grad);

/* cross_entropy_with_labels and its gradient, softmax(x) less 1 at the label, in place of x or not; labels out of range as
 * there. Accuracy 4, 4, of the gradient 5, 4. */
XENT_API xent_status xent_cross_entropy_with_labels_value_and_grad_f32(const float *x, const int64_t *labels,
                                                                       size_t rows, size_t classes, float *value,
                                                                       float *grad);

/* kl_div and its gradient, softmax(x) sum t - t, in place of x or t or not. A row all -inf or with a +inf: NaN.
 * Accuracy 4, 5, of the gradient 6, 6. */
XENT_API xent_status xent_kl_div_value_and_grad_f32(const float *x, const float *t, size_t rows, size_t classes,
                                                    float *value, float *grad);

/* The same for target logits, softmax(x) - softmax(t). Accuracy 6, 6, of the gradient 5, 5. */
XENT_API xent_status xent_kl_div_with_logits_value_and_grad_f32(const float *x, const float *t, size_t rows,
                                                                size_t classes, float *value, float *grad);

/* The same for log-probabilities. Accuracy 6, 5, of the gradient 7, 6. */
XENT_API xent_status xent_kl_div_with_log_probs_value_and_grad_f32(const float *x, const float *t, size_t rows,
                                                                   size_t classes, float *value, float *grad);

/* -x at the row's label, for x = log-probabilities, taken as they are; labels out of range as above. Exact: 0.5, 0.5. */
XENT_API xent_status xent_nll_f32(const float *x, const int64_t *labels, size_t rows, size_t classes, float *value);

/* The same, a value a class: 0 but at the label. In place of x or not. Exact: 0.5, 0.5. */
XENT_API xent_status xent_nll_terms_f32(const float *x, const int64_t *labels, size_t rows, size_t classes, float *out);

/* nll and its gradient, -1 at the label and 0 elsewhere, in place of x or not. Exact: 0.5, 0.5, of the gradient 0.5, 0.5. */
XENT_API xent_status xent_nll_value_and_grad_f32(const float *x, const int64_t *labels, size_t rows, size_t classes,
                                                 float *value, float *grad);

/* sum over classes of -t log sigmoid(x) - (1 - t) log sigmoid(-x), for independent yes-or-no targets 0 <= t <= 1 (others
 * are taken as they come). x infinite on the wrong side of t: +inf, on its side: 0. Accuracy 4, 5. */
XENT_API xent_status xent_binary_cross_entropy_f32(const float *x, const float *t, size_t rows, size_t classes,
                                                   float *value);

/* The same, a value a class, in place of x or t or not. Accuracy 4, 4. */
XENT_API xent_status xent_binary_cross_entropy_terms_f32(const float *x, const float *t, size_t rows, size_t classes,
                                                         float *out);

/* binary_cross_entropy and its gradient, sigmoid(x) - t, in place of x or t or not. Accuracy 4, 5, of the gradient 5, 5. */
XENT_API xent_status xent_binary_cross_entropy_value_and_grad_f32(const float *x, const float *t, size_t rows,
                                                                  size_t classes, float *value, float *grad);

/* The Jensen-Shannon divergence of softmax(x) and softmax(t), symmetric, from 0 to log 2. A row all -inf or with a +inf in
 * either: NaN. Accuracy 6, 5. */
XENT_API xent_status xent_js_div_f32(const float *x, const float *t, size_t rows, size_t classes, float *value);

/* The same, a value a class, in place of x or t or not. Accuracy 6, 6. */
XENT_API xent_status xent_js_div_terms_f32(const float *x, const float *t, size_t rows, size_t classes, float *out);

/* js_div and its gradient with respect to x, in place of x or t or not. Accuracy 6, 5, of the gradient 5, 6. */
XENT_API xent_status xent_js_div_value_and_grad_f32(const float *x, const float *t, size_t rows, size_t classes,
                                                    float *value, float *grad);

/* t (log t - x) of each of n pairs: x a log-probability, t a probability. t = 0: 0; t < 0 or x NaN: NaN. In place
 * or not. Accuracy 4, 4. */
XENT_API xent_status xent_kl_pointwise_f32(const float *x, const float *t, size_t n, float *out);

/* x log(x / t) of each of n pairs of probabilities, as SciPy's rel_entr. x = 0 and t >= 0: 0; else where either is not
 * positive: +inf. In place or not. Accuracy 5, 5. */
XENT_API xent_status xent_rel_entr_f32(const float *x, const float *t, size_t n, float *out);

/* The same of double. */
XENT_API xent_status xent_logsumexp_f64(const double *x, size_t rows, size_t classes, double *value);
XENT_API xent_status xent_log_softmax_f64(const double *x, size_t rows, size_t classes, double *out);
XENT_API xent_status xent_softmax_f64(const double *x, size_t rows, size_t classes, double *out);
XENT_API xent_status xent_entropy_f64(const double *x, size_t rows, size_t classes, double *value);
XENT_API xent_status xent_softmax_entropy_f64(const double *x, size_t rows, size_t classes, double *value);
XENT_API xent_status xent_cross_entropy_f64(const double *x, const double *t, size_t rows, size_t classes,
                                            double *value);
XENT_API xent_status xent_cross_entropy_with_labels_f64(const double *x, const int64_t *labels, size_t rows,
                                                        size_t classes, double *value);
XENT_API xent_status xent_kl_div_f64(const double *x, const double *t, size_t rows, size_t classes, double *value);
XENT_API xent_status xent_kl_div_with_logits_f64(const double *x, const double *t, size_t rows, size_t classes,
                                                 double *value);
XENT_API xent_status xent_kl_div_with_log_probs_f64(const double *x, const double *t, size_t rows, size_t classes,
                                                    double *value);
XENT_API xent_status xent_cross_entropy_terms_f64(const double *x, const double *t, size_t rows, size_t classes,
                                                  double *out);
XENT_API xent_status xent_kl_div_terms_f64(const double *x, const double *t, size_t rows, size_t classes, double *out);
XENT_API xent_status xent_kl_div_with_logits_terms_f64(const double *x, const double *t, size_t rows, size_t classes,
                                                       double *out);
XENT_API xent_status xent_kl_div_with_log_probs_terms_f64(const double *x, const double *t, size_t rows, size_t classes,
                                                          double *out);
XENT_API xent_status xent_cross_entropy_value_and_grad_f64(const double *x, const double *t, size_t rows,
                                                           size_t classes, double *value, double *grad);
XENT_API xent_status xent_cross_entropy_with_labels_value_and_grad_f64(const double *x, const int64_t *labels,
                                                                       size_t rows, size_t classes, double *value,
                                                                       double *grad);
XENT_API xent_status xent_kl_div_value_and_grad_f64(const double *x, const double *t, size_t rows, size_t classes,
                                                    double *value, double *grad);
XENT_API xent_status xent_kl_div_with_logits_value_and_grad_f64(const double *x, const double *t, size_t rows,
                                                                size_t classes, double *value, double *grad);
XENT_API xent_status xent_kl_div_with_log_probs_value_and_grad_f64(const double *x, const double *t, size_t rows,
                                                                   size_t classes, double *value, double *grad);
XENT_API xent_status xent_nll_f64(const double *x, const int64_t *labels, size_t rows, size_t classes, double *value);
XENT_API xent_status xent_nll_terms_f64(const double *x, const int64_t *labels, size_t rows, size_t classes,
                                        double *out);
XENT_API xent_status xent_nll_value_and_grad_f64(const double *x, const int64_t *labels, size_t rows, size_t classes,
                                                 double *value, double *grad);
XENT_API xent_status xent_binary_cross_entropy_f64(const double *x, const double *t, size_t rows, size_t classes,
                                                   double *value);
XENT_API xent_status xent_binary_cross_entropy_terms_f64(const double *x, const double *t, size_t rows, size_t classes,
                                                         double *out);
XENT_API xent_status xent_binary_cross_entropy_value_and_grad_f64(const double *x, const double *t, size_t rows,
                                                                  size_t classes, double *value, double *grad);
XENT_API xent_status xent_js_div_f64(const double *x, const double *t, size_t rows, size_t classes, double *value);
XENT_API xent_status xent_js_div_terms_f64(const double *x, const double *t, size_t rows, size_t classes, double *out);
XENT_API xent_status xent_js_div_value_and_grad_f64(const double *x, const double *t, size_t rows, size_t classes,
                                                    double *value, double *grad);
XENT_API xent_status xent_kl_pointwise_f64(const double *x, const double *t, size_t n, double *out);
XENT_API xent_status xent_rel_entr_f64(const double *x, const double *t, size_t n, double *out);

/* The same of IEEE binary16, stored as uint16_t and computed in float. */
XENT_API xent_status xent_logsumexp_f16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value);
XENT_API xent_status xent_log_softmax_f16(const uint16_t *x, size_t rows, size_t classes, uint16_t *out);
XENT_API xent_status xent_softmax_f16(const uint16_t *x, size_t rows, size_t classes, uint16_t *out);
XENT_API xent_status xent_entropy_f16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value);
XENT_API xent_status xent_softmax_entropy_f16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value);
XENT_API xent_status xent_cross_entropy_f16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                            uint16_t *value);
XENT_API xent_status xent_cross_entropy_with_labels_f16(const uint16_t *x, const int64_t *labels, size_t rows,
                                                        size_t classes, uint16_t *value);
XENT_API xent_status xent_kl_div_f16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                     uint16_t *value);
XENT_API xent_status xent_kl_div_with_logits_f16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                                 uint16_t *value);
XENT_API xent_status xent_kl_div_with_log_probs_f16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                                    uint16_t *value);
XENT_API xent_status xent_cross_entropy_terms_f16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                                  uint16_t *out);
XENT_API xent_status xent_kl_div_terms_f16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                           uint16_t *out);
XENT_API xent_status xent_kl_div_with_logits_terms_f16(const uint16_t *x, const uint16_t *t, size_t rows,
                                                       size_t classes, uint16_t *out);
XENT_API xent_status xent_kl_div_with_log_probs_terms_f16(const uint16_t *x, const uint16_t *t, size_t rows,
                                                          size_t classes, uint16_t *out);
XENT_API xent_status xent_cross_entropy_value_and_grad_f16(const uint16_t *x, const uint16_t *t, size_t rows,
                                                           size_t classes, uint16_t *value, uint16_t *grad);
XENT_API xent_status xent_cross_entropy_with_labels_value_and_grad_f16(const uint16_t *x, const int64_t *labels,
                                                                       size_t rows, size_t classes, uint16_t *value,
                                                                       uint16_t *grad);
XENT_API xent_status xent_kl_div_value_and_grad_f16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                                    uint16_t *value, uint16_t *grad);
XENT_API xent_status xent_kl_div_with_logits_value_and_grad_f16(const uint16_t *x, const uint16_t *t, size_t rows,
                                                                size_t classes, uint16_t *value, uint16_t *grad);
XENT_API xent_status xent_kl_div_with_log_probs_value_and_grad_f16(const uint16_t *x, const uint16_t *t, size_t rows,
                                                                   size_t classes, uint16_t *value, uint16_t *grad);
XENT_API xent_status xent_nll_f16(const uint16_t *x, const int64_t *labels, size_t rows, size_t classes,
                                  uint16_t *value);
XENT_API xent_status xent_nll_terms_f16(const uint16_t *x, const int64_t *labels, size_t rows, size_t classes,
                                        uint16_t *out);
XENT_API xent_status xent_nll_value_and_grad_f16(const uint16_t *x, const int64_t *labels, size_t rows, size_t classes,
                                                 uint16_t *value, uint16_t *grad);
XENT_API xent_status xent_binary_cross_entropy_f16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                                   uint16_t *value);
XENT_API xent_status xent_binary_cross_entropy_terms_f16(const uint16_t *x, const uint16_t *t, size_t rows,
                                                         size_t classes, uint16_t *out);
XENT_API xent_status xent_binary_cross_entropy_value_and_grad_f16(const uint16_t *x, const uint16_t *t, size_t rows,
                                                                  size_t classes, uint16_t *value, uint16_t *grad);
XENT_API xent_status xent_js_div_f16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                     uint16_t *value);
XENT_API xent_status xent_js_div_terms_f16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                           uint16_t *out);
XENT_API xent_status xent_js_div_value_and_grad_f16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                                    uint16_t *value, uint16_t *grad);
XENT_API xent_status xent_kl_pointwise_f16(const uint16_t *x, const uint16_t *t, size_t n, uint16_t *out);
XENT_API xent_status xent_rel_entr_f16(const uint16_t *x, const uint16_t *t, size_t n, uint16_t *out);

/* The same of bfloat16, the upper half of a float, stored as uint16_t and computed in float. */
XENT_API xent_status xent_logsumexp_bf16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value);
XENT_API xent_status xent_log_softmax_bf16(const uint16_t *x, size_t rows, size_t classes, uint16_t *out);
XENT_API xent_status xent_softmax_bf16(const uint16_t *x, size_t rows, size_t classes, uint16_t *out);
XENT_API xent_status xent_entropy_bf16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value);
XENT_API xent_status xent_softmax_entropy_bf16(const uint16_t *x, size_t rows, size_t classes, uint16_t *value);
XENT_API xent_status xent_cross_entropy_bf16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                             uint16_t *value);
XENT_API xent_status xent_cross_entropy_with_labels_bf16(const uint16_t *x, const int64_t *labels, size_t rows,
                                                         size_t classes, uint16_t *value);
XENT_API xent_status xent_kl_div_bf16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                      uint16_t *value);
XENT_API xent_status xent_kl_div_with_logits_bf16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                                  uint16_t *value);
XENT_API xent_status xent_kl_div_with_log_probs_bf16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                                     uint16_t *value);
XENT_API xent_status xent_cross_entropy_terms_bf16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                                   uint16_t *out);
XENT_API xent_status xent_kl_div_terms_bf16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                            uint16_t *out);
XENT_API xent_status xent_kl_div_with_logits_terms_bf16(const uint16_t *x, const uint16_t *t, size_t rows,
                                                        size_t classes, uint16_t *out);
XENT_API xent_status xent_kl_div_with_log_probs_terms_bf16(const uint16_t *x, const uint16_t *t, size_t rows,
                                                           size_t classes, uint16_t *out);
XENT_API xent_status xent_cross_entropy_value_and_grad_bf16(const uint16_t *x, const uint16_t *t, size_t rows,
                                                            size_t classes, uint16_t *value, uint16_t *grad);
XENT_API xent_status xent_cross_entropy_with_labels_value_and_grad_bf16(const uint16_t *x, const int64_t *labels,
                                                                        size_t rows, size_t classes, uint16_t *value,
                                                                        uint16_t *grad);
XENT_API xent_status xent_kl_div_value_and_grad_bf16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                                     uint16_t *value, uint16_t *grad);
XENT_API xent_status xent_kl_div_with_logits_value_and_grad_bf16(const uint16_t *x, const uint16_t *t, size_t rows,
                                                                 size_t classes, uint16_t *value, uint16_t *grad);
XENT_API xent_status xent_kl_div_with_log_probs_value_and_grad_bf16(const uint16_t *x, const uint16_t *t, size_t rows,
                                                                    size_t classes, uint16_t *value, uint16_t *grad);
XENT_API xent_status xent_nll_bf16(const uint16_t *x, const int64_t *labels, size_t rows, size_t classes,
                                   uint16_t *value);
XENT_API xent_status xent_nll_terms_bf16(const uint16_t *x, const int64_t *labels, size_t rows, size_t classes,
                                         uint16_t *out);
XENT_API xent_status xent_nll_value_and_grad_bf16(const uint16_t *x, const int64_t *labels, size_t rows, size_t classes,
                                                  uint16_t *value, uint16_t *grad);
XENT_API xent_status xent_binary_cross_entropy_bf16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                                    uint16_t *value);
XENT_API xent_status xent_binary_cross_entropy_terms_bf16(const uint16_t *x, const uint16_t *t, size_t rows,
                                                          size_t classes, uint16_t *out);
XENT_API xent_status xent_binary_cross_entropy_value_and_grad_bf16(const uint16_t *x, const uint16_t *t, size_t rows,
                                                                   size_t classes, uint16_t *value, uint16_t *grad);
XENT_API xent_status xent_js_div_bf16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                      uint16_t *value);
XENT_API xent_status xent_js_div_terms_bf16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                            uint16_t *out);
XENT_API xent_status xent_js_div_value_and_grad_bf16(const uint16_t *x, const uint16_t *t, size_t rows, size_t classes,
                                                     uint16_t *value, uint16_t *grad);
XENT_API xent_status xent_kl_pointwise_bf16(const uint16_t *x, const uint16_t *t, size_t n, uint16_t *out);
XENT_API xent_status xent_rel_entr_bf16(const uint16_t *x, const uint16_t *t, size_t n, uint16_t *out);

/* ---- strided operands, any dtype, options ---- */
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
    XENT_MEAN,     /* divided by the sum of the counted rows' weights; NaN where that is 0    */
    XENT_PER_CLASS /* of a *_terms operation: summed over rows, one value a class        */
} xent_reduction;

/* What the second operand of an operation is. */
typedef enum xent_target {
    XENT_TARGET_NONE = 0,
    XENT_TARGET_PROBS,
    XENT_TARGET_LOGITS,
    XENT_TARGET_LOG_PROBS,
    XENT_TARGET_LABELS,
    XENT_TARGET_POINT /* two numbers an element, and no rows */
} xent_target;

typedef struct xent_op_info {
    const char *name; /* as in the functions above, without xent_ and the dtype */
    xent_target target;
    int has_value; /* writes one value a row           */
    int has_emit;  /* writes one value a row and class */
} xent_op_info;

/* The operations, numbered from 0; count may be NULL. */
XENT_API const xent_op_info *xent_ops(int *count);
/* The number of an operation; -1: there is none of that name. */
XENT_API int xent_find_op(const char *name);

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
    xent_view temperature;   /* XENT_F64, one a row: logits (and target logits) are divided by it; positive  */
                             /* and finite, or XENT_ERR_OPTION. Quotients are rounded once, whatever it is   */
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

/* All zero, but for struct_size and grad_scale = 1. Of NULL: nothing. */
XENT_API void xent_request_init(xent_request *req);
/* Bytes of scratch that this request needs (often 0): for sums over rows, and for rows that threads share. */
XENT_API xent_status xent_scratch_size(const xent_request *req, size_t *size);
/* Domain, NaN and accuracy: as the operation's function above has them. Aliasing: `out` may be in place of operands of its
 * dtype and strides; scratch is the caller's until this returns. Labels are all checked before anything is written. */
XENT_API xent_status xent_run(xent_request *req);

/* ---- rows that come in pieces ----
 * A state is what any classes of one row come to. States of disjoint classes merge, in any order, on any thread, process
 * or machine of the same byte order and ABI version: they are plain bytes at any alignment. There are states for the
 * operations of one value a row, but for js_div. Domain, NaN and accuracy: as the operation's function above has them; a
 * merge may add one rounding of each. Pieces of 65536 classes, updated in order, give the bits that xent_run gives to rows
 * of 33 to 16777216 (but for the last of kl_div_with_log_probs). */

/* Bytes of one row's state; 0: the operation has none. */
XENT_API size_t xent_state_size(int op);
/* States of rows of which nothing is known yet. compute: XENT_F32 or XENT_F64. */
XENT_API xent_status xent_state_start(int op, int compute, size_t rows, void *states);
/* Adds the classes that piece->logits and the operands beside it hold: classes first_class and following of their rows.
 * One state a row of the piece, in C order. value, out and sample_weight are not used, label_smoothing must be 0. A label
 * is the same number in every piece; negative ones are found here, others that no piece holds by xent_state_finish.
 * Scratch as xent_run would need it lets threads share long rows; without it the bits are the same. */
XENT_API xent_status xent_state_update(xent_request *piece, ptrdiff_t first_class, void *states);
/* Adds the classes of `other`; the two do not overlap: XENT_ERR_STATE where both hold a row's label. Here and in the two
 * beside it, XENT_ERR_STATE says that bytes are no state that pieces lead to; what is not known is how many there are. */
XENT_API xent_status xent_state_merge(size_t rows, void *into, const void *other);
/* One value a row, contiguous, of a float dtype. XENT_ERR_LABEL: no piece held the label of row *bad_row (may be NULL).
 * The states stay as they are: more pieces may follow. */
XENT_API xent_status xent_state_finish(size_t rows, const void *states, int dtype, void *value, size_t *bad_row);

/* ---- threads and instruction sets, of the whole process ---- */
/* Threads: n = 0 follows OpenMP (OMP_NUM_THREADS, omp_set_num_threads). Returns XENT_ERR_OPTION for n < 0. A request's
 * `threads` is a limit of its own; beyond the number of processors, or 16 where there are fewer, more are not used. They
 * are OpenMP's: where the system refuses it one, what follows is up to its runtime (libgomp ends the process). */
XENT_API xent_status xent_set_num_threads(int n);
XENT_API int xent_get_num_threads(void);
/* 0: every call stays on its thread. */
XENT_API int xent_has_openmp(void);

/* Instruction sets, by name: "baseline", "avx2", "avx512", "neon". NULL to xent_set_isa: the best that runs here. The
 * environment variable XENT_ISA chooses the first one; an unknown or unsupported value there makes every call return
 * XENT_ERR_ISA, and xent_get_isa NULL, until xent_set_isa is called. */
XENT_API const char *xent_get_isa(void);
XENT_API xent_status xent_set_isa(const char *name);
/* The i-th of the instruction sets that run here, the best first; NULL past the ends. */
XENT_API const char *xent_isa_name(int i);

#ifdef __cplusplus
}
#endif
#endif
