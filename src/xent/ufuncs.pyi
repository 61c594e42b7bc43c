import numpy as np

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_terms",
    "binary_cross_entropy_value_and_grad",
    "cross_entropy",
    "cross_entropy_terms",
    "cross_entropy_value_and_grad",
    "cross_entropy_with_labels",
    "cross_entropy_with_labels_value_and_grad",
    "entropy",
    "js_div",
    "js_div_terms",
    "js_div_value_and_grad",
    "kl_div",
    "kl_div_terms",
    "kl_div_value_and_grad",
    "kl_div_with_log_probs",
    "kl_div_with_log_probs_terms",
    "kl_div_with_log_probs_value_and_grad",
    "kl_div_with_logits",
    "kl_div_with_logits_terms",
    "kl_div_with_logits_value_and_grad",
    "kl_pointwise",
    "log_softmax",
    "logsumexp",
    "nll",
    "nll_terms",
    "nll_value_and_grad",
    "rel_entr",
    "softmax",
    "softmax_entropy",
]

__test__: dict[str, str]

logsumexp: np.ufunc
log_softmax: np.ufunc
softmax: np.ufunc
entropy: np.ufunc
softmax_entropy: np.ufunc
cross_entropy: np.ufunc
cross_entropy_with_labels: np.ufunc
kl_div: np.ufunc
kl_div_with_logits: np.ufunc
kl_div_with_log_probs: np.ufunc
cross_entropy_terms: np.ufunc
kl_div_terms: np.ufunc
kl_div_with_logits_terms: np.ufunc
kl_div_with_log_probs_terms: np.ufunc
cross_entropy_value_and_grad: np.ufunc
cross_entropy_with_labels_value_and_grad: np.ufunc
kl_div_value_and_grad: np.ufunc
kl_div_with_logits_value_and_grad: np.ufunc
kl_div_with_log_probs_value_and_grad: np.ufunc
nll: np.ufunc
nll_terms: np.ufunc
nll_value_and_grad: np.ufunc
binary_cross_entropy: np.ufunc
binary_cross_entropy_terms: np.ufunc
binary_cross_entropy_value_and_grad: np.ufunc
js_div: np.ufunc
js_div_terms: np.ufunc
js_div_value_and_grad: np.ufunc
kl_pointwise: np.ufunc
rel_entr: np.ufunc
