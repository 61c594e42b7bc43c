"""Binary cross-entropies, element by element and unreduced, in nats."""

from collections.abc import Callable
from math import prod
from typing import Any, TypeAlias

import numpy as np

from xent import losses
from xent.compat._shared import Array

Formula: TypeAlias = Callable[[Array, Array, Array | None], Array]


def with_logits(logits: Array, target: Array, pos_weight: Array | None, formula: Formula) -> Array:
    """``w t softplus(-x) + (1 - t) softplus(x)`` of logits and a target of one shape, to which `pos_weight` broadcasts.

    Where an operand is not finite, the library's own `formula` of (x, t, w) decides between NaN and the infinities.
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
    odd = ~(np.isfinite(logits) & np.isfinite(target) & np.isfinite(w))
    if not odd.any():
        return np.asarray(loss)
    x, t = (a[odd].astype(np.float64) for a in (logits, target))
    given = None if pos_weight is None else np.broadcast_to(w, shape)[odd].astype(np.float64)
    values: Array = np.array(loss)
    with np.errstate(invalid="ignore", over="ignore"):
        values[odd] = formula(x, t, given).astype(values.dtype)
    return values
