"""Drop-ins: the losses of other libraries with their signatures, defaults and quirks, on NumPy arrays.

===================== ==========================================================================================
`xent.compat.torch`   `torch.nn.functional`: cross_entropy, nll_loss, kl_div, softmax, ...; KLDivLoss, ... as classes
`xent.compat.gluon`   MXNet Gluon: SoftmaxCrossEntropyLoss, KLDivLoss, SigmoidBinaryCrossEntropyLoss
`xent.compat.scipy`   `scipy.special`: logsumexp, softmax, log_softmax, rel_entr, kl_div; `scipy.stats`: entropy
`xent.compat.optax`   softmax_cross_entropy, kl_divergence, ... and their variants
`xent.compat.sklearn` `sklearn.metrics`: log_loss
===================== ==========================================================================================

Inside a door the named library wins. Where it departs from what the rest of `xent` gives (a NaN for 0 times infinity,
an epsilon, a clipped probability), the door follows it, and its module's docstring says so.
"""

from xent.compat import gluon, optax, scipy, sklearn, torch

__all__ = ["gluon", "optax", "scipy", "sklearn", "torch"]
