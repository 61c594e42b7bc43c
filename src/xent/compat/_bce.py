"""Binary cross-entropies, element by element and unreduced, in nats."""

from typing import Any

import numpy as np

from xent.compat._shared import Array


def with_logits(logits: Array, target: Array, pos_weight: Any = 1.0) -> Array:
    """``-(w t log sigmoid(x) + (1 - t) log(1 - sigmoid(x)))`` as ``(1 - t) softplus(x) + w t softplus(-x)``.

    Neither term cancels: a confident logit keeps its small loss. At an infinite logit PyTorch and Gluon get the NaN or
    infinity of ``(1 - t) x - (1 + (w - 1) t) log sigmoid(x)``, and so does this.
    """
    dtype = np.result_type(logits, target)
    wide = np.result_type(dtype, np.float32)
    x: Any = np.asarray(logits, wide)
    t: Any = np.asarray(target, wide)
    w: Any = np.asarray(pos_weight, wide)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        tail = np.log1p(np.exp(-np.abs(x)))
        loss = (1 - t) * (np.maximum(x, 0) + tail) + w * t * (np.maximum(-x, 0) + tail)
        infinite = np.isinf(x)
        if infinite.any():
            loss = np.where(infinite, (1 - t) * x - (1 + (w - 1) * t) * np.minimum(x, 0), loss)
        return np.asarray(loss, dtype)
