import numpy as np

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
kl_pointwise: np.ufunc
rel_entr: np.ufunc
