"""Drop-ins: the losses of other libraries with their signatures, defaults and quirks, on NumPy arrays.

===================== ==========================================================================================
`xent.compat.torch`   `torch.nn.functional`: cross_entropy, nll_loss, kl_div, softmax, ...; KLDivLoss, ... as classes
`xent.compat.gluon`   MXNet Gluon: SoftmaxCrossEntropyLoss, KLDivLoss, SigmoidBinaryCrossEntropyLoss
`xent.compat.scipy`   `scipy.special`: logsumexp, softmax, log_softmax, rel_entr, kl_div; `scipy.stats`: entropy
`xent.compat.optax`   softmax_cross_entropy, kl_divergence, ... and their variants
`xent.compat.sklearn` `sklearn.metrics`: log_loss
===================== ==========================================================================================

Inside a door the named library wins. Where it departs from what the rest of `xent` gives (a NaN for 0 times infinity,
an epsilon, a clipped probability), the door follows it, and its module's docstring says so. A door is imported when it
is first asked for.
"""

from typing import TYPE_CHECKING

__all__ = ["gluon", "optax", "scipy", "sklearn", "torch"]

if TYPE_CHECKING:
    from xent.compat import gluon, optax, scipy, sklearn, torch
else:  # a __getattr__ that type checkers saw would make them take any name for a module

    def __getattr__(name):
        from importlib import import_module

        if name in __all__:
            return import_module(f"xent.compat.{name}")
        raise AttributeError(f"module 'xent.compat' has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})
