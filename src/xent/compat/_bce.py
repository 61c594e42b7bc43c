"""Binary cross-entropies, element by element and unreduced, in nats."""

from math import prod
from typing import Any

import numpy as np

from xent import losses
from xent.compat._shared import Array


def with_logits(logits: Array, target: Array, pos_weight: Array | None = None) -> Array:
    """``w t softplus(-x) + (1 - t) softplus(x)`` of logits and a target of one shape, to which `pos_weight` broadcasts.

    At an infinite logit PyTorch and Gluon get the NaN or infinity of ``(1 - t) x - (1 + (w - 1) t) log sigmoid(x)``,
    and so does this.
    """
    shape = logits.shape
    w: Any = np.ones(()) if pos_weight is None else pos_weight
    # The kernel takes one weight a class: its classes are the trailing dimensions that the weights vary along.
    lead = max(0, min([len(shape) - 1, *(len(shape) - w.ndim + d for d in range(w.ndim) if w.shape[d] > 1)]))
    rows = (*shape[:lead], prod(shape[lead:]))
    weights = None if pos_weight is None else np.broadcast_to(w, (*(1,) * lead, *shape[lead:])).reshape(-1)
    loss: Any = losses.binary_cross_entropy(
        logits.reshape(rows), target.reshape(rows), pos_weight=weights, reduction="terms"
    ).reshape(shape)
    infinite = np.isinf(logits)
    if infinite.any():
        with np.errstate(invalid="ignore"):
            theirs = (1 - target) * logits - (1 + (w - 1) * target) * np.minimum(logits, 0)
            loss = np.where(infinite, theirs, loss).astype(loss.dtype)
    return np.asarray(loss)
