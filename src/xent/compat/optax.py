"""optax's losses on NumPy arrays: `optax.losses` by name, signature, default, dtype and error.

Checked against optax 0.2 (on JAX with 64-bit types). Arrays go in (JAX takes no lists, and so does this), one value a
row comes out, in nats. Where JAX departs from the rest of `xent`, it wins here:

* 0 times infinity is NaN: a label of 0 at a logit of -inf in `softmax_cross_entropy` (not in
  `safe_softmax_cross_entropy`), a target of 0 at a log-probability of -inf, a log-target of -inf. A row that holds +inf
  has no log-probabilities: NaN.
* A negative integer label counts from the last class; one out of range gives NaN, not an error.
* An integer label that `where` leaves out still has its logit subtracted from the logsumexp of the others.
* Predictions are taken as log-probabilities, normalised or not; the Kullback-Leibler sums are those of their terms.
* Integer and bool labels do not widen the logits. Shapes of two operands that do not broadcast are a TypeError, that
  of `where` is a ValueError.

float16 and bfloat16 (of ml_dtypes) are computed in float32 and rounded once; JAX rounds the log-probabilities as well.
A bfloat16 array that a file gives back as ``|V2`` needs ``.view(ml_dtypes.bfloat16)`` first. Nothing is traced:
``xent.losses`` has the gradients.
"""

import warnings
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

import xent
from xent.compat._shared import (
    FLOATS,
    Array,
    Axis,
    cross_entropy,
    float_dtype,
    is_float,
    is_kernel_float,
    kl_terms,
    kl_terms_from_logs,
    named,
    refuse_masked,
    total,
    widened,
)

__all__ = [
    "convex_kl_divergence",
    "generalized_kl_divergence",
    "kl_divergence",
    "kl_divergence_with_log_targets",
    "safe_softmax_cross_entropy",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
]


def _array(function: str, name: str, value: object, kinds: str = "f") -> Array:
    refuse_masked(function, name, value)
    if not isinstance(value, np.ndarray | np.generic | int | float):
        raise TypeError(f"{function}: {name} must be a NumPy array or a number, not {type(value).__name__}")
    array = np.asarray(value)
    kind = "f" if is_float(array) else array.dtype.kind
    if kind not in kinds or (kind == "f" and not is_kernel_float(array)):
        wanted = {"f": FLOATS, "iu": "integers"}.get(kinds, "real numbers")
        raise TypeError(f"{function}: {name} must be {wanted}, not {named(array.dtype)}")
    return array


def _pair(function: str, **operands: Array) -> tuple[Array, Array]:
    try:
        x, t = np.broadcast_arrays(*operands.values())
    except ValueError:
        shapes = " and ".join(f"{name} {array.shape}" for name, array in operands.items())
        raise TypeError(f"{function}: {shapes} do not broadcast") from None
    return x, t


def _mask(function: str, where: object, axis: Axis, shape: tuple[int, ...], expand: bool) -> Array | None:
    """`where` in the shape of the logits; with one axis less, where that is allowed, it says which rows count."""
    if where is None:
        return None
    if not isinstance(where, np.ndarray | np.bool_) or where.dtype != np.bool_:
        raise ValueError(f"{function}: where must be an array of bools")
    mask = np.asarray(where)
    if expand and mask.ndim != len(shape):
        mask = np.expand_dims(mask, axis if axis is not None else tuple(range(len(shape) - mask.ndim)))
    try:
        return np.broadcast_to(mask, shape)
    except ValueError:
        raise ValueError(f"{function}: where of shape {mask.shape} does not broadcast to {shape}") from None


def softmax_cross_entropy(logits: Array, labels: Array, axis: Axis = -1, where: Array | None = None) -> Any:
    """``-sum_c t_c log_softmax(x)_c`` of logits x and probabilities t: `optax.softmax_cross_entropy`.

    Parameters
    ----------
    logits : ndarray of float16, bfloat16, float32 or float64
        The prediction.
    labels : ndarray
        Probabilities; broadcasts with `logits`.
    axis : int, tuple of ints or None, default -1
        The class axes; None for all.
    where : ndarray of bool, optional
        Which classes count: of the shape of `logits`, or without the class axis.

    Returns
    -------
    ndarray or NumPy scalar
        One value a row, of the widest floating dtype.

    Raises
    ------
    TypeError
        `logits` is not floating, an operand is no array, or the two do not broadcast.
    ValueError
        An axis out of range, or a `where` that is not bool or does not broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import optax
    >>> optax.softmax_cross_entropy(np.zeros((2, 4)), np.eye(4)[:2])
    array([1.38629436, 1.38629436])
    """
    name = "softmax_cross_entropy"
    x, t = _array(name, "logits", logits), _array(name, "labels", labels, "fiub")
    mask = _mask(name, where, axis, x.shape, expand=True)
    dtype = float_dtype(x, t)
    x, t = _pair(name, logits=x, labels=t.astype(dtype, copy=False))
    mask = None if mask is None else np.broadcast_to(mask, x.shape)
    return cross_entropy(x, t, axis, mask)[()]


def safe_softmax_cross_entropy(logits: Array, labels: Array) -> Any:
    """`softmax_cross_entropy` over the last axis with 0 log 0 = 0: `optax.safe_softmax_cross_entropy`.

    Parameters and errors are those of `softmax_cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import optax
    >>> optax.safe_softmax_cross_entropy(np.array([[0.0, 0.0, -np.inf]]), np.array([[1.0, 0.0, 0.0]]))
    array([0.69314718])
    """
    name = "safe_softmax_cross_entropy"
    x, t = _array(name, "logits", logits), _array(name, "labels", labels, "fiub")
    dtype = float_dtype(x, t)
    x, t = _pair(name, logits=x, labels=t.astype(dtype, copy=False))
    return cross_entropy(x, t, -1, safe=True)[()]


def softmax_cross_entropy_with_integer_labels(
    logits: Array, labels: Array, axis: int | tuple[int, ...] = -1, where: Array | None = None
) -> Any:
    """``log sum_c exp(x_c) - x_y`` of logits x and labels y: `optax.softmax_cross_entropy_with_integer_labels`.

    Parameters
    ----------
    logits : ndarray of float16, bfloat16, float32 or float64
        The prediction.
    labels : ndarray of int
        One a row, of the shape of `logits` without the class axes.
    axis : int or tuple of ints, default -1
        The class axes; of several, a label counts through all their elements.
    where : ndarray of bool, optional
        Which classes count: of the shape of `logits`, or without the class axis.

    Returns
    -------
    ndarray or NumPy scalar
        One value a row, of the dtype of `logits`.

    Raises
    ------
    TypeError
        `logits` is not floating, `labels` are not integers, or one of them is no array.
    ValueError
        Shapes that do not match, an axis that is None, no int or out of range, or a `where` that is not bool or does
        not broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import optax
    >>> optax.softmax_cross_entropy_with_integer_labels(np.array([[0.0, 50.0], [0.0, 0.0]]), np.array([1, 2]))
    array([1.92874985e-22,            nan])
    """
    name = "softmax_cross_entropy_with_integer_labels"
    x, y = _array(name, "logits", logits), _array(name, "labels", labels, "iu")
    if not isinstance(axis, int | tuple):
        raise ValueError(f"{name}: axis must be an int or a tuple of ints, not {axis!r}")
    axes = normalize_axis_tuple(axis, x.ndim)
    mask = _mask(name, where, axis, x.shape, expand=True)
    # The class axes become one, the last.
    batch = tuple(i for i in range(x.ndim) if i not in axes)
    rows = (*(x.shape[i] for i in batch), int(np.prod([x.shape[i] for i in axes])))
    x = x.transpose(*batch, *axes).reshape(rows)
    mask = None if mask is None else mask.transpose(*batch, *axes).reshape(rows)
    if y.ndim != len(batch) or any(n not in (1, m) for n, m in zip(y.shape, rows[:-1], strict=True)):
        raise ValueError(f"{name}: labels have shape {y.shape}, expected {rows[:-1]}, one a row of logits")
    classes = rows[-1]
    if not classes:
        return np.full(rows[:-1], np.nan, x.dtype)[()]
    y = np.broadcast_to(y, rows[:-1]).astype(np.int64)
    y = np.where(y < 0, y + classes, y)
    known = (y >= 0) & (y < classes)
    y = np.where(known, y, 0)
    loss = xent.cross_entropy_with_labels(x, y, where=mask)
    if mask is not None:
        own, any_class = np.expand_dims(y, -1), mask.any(-1)
        # The label's class is left out of the sum, but its logit is subtracted; a row without classes stays 0.
        odd = ~np.take_along_axis(mask, own, -1).squeeze(-1) & any_class
        with np.errstate(invalid="ignore"):
            apart = xent.logsumexp(x, where=mask) - np.take_along_axis(x, own, -1).squeeze(-1)
        loss = np.where(odd, apart, loss)
        known = known | ~any_class
    return np.where(known, loss, np.nan).astype(x.dtype)[()]


def _kl(
    function: str, terms: Any, axis: Axis, where: object, **operands: object
) -> tuple[Any, Array, Array, Array | None]:
    x, t = _pair(function, **{name: _array(function, name, operand) for name, operand in operands.items()})
    mask = _mask(function, where, axis, x.shape, expand=False)
    return total(terms(x, t), axis, mask, dtype=float_dtype(x, t)), x, t, mask


def kl_divergence(log_predictions: Array, targets: Array, axis: Axis = -1, where: Array | None = None) -> Any:
    """``sum_c t_c (log t_c - x_c)`` of log-probabilities x and probabilities t: `optax.losses.kl_divergence`.

    Parameters
    ----------
    log_predictions : ndarray of float16, bfloat16, float32 or float64
        Log-probabilities, taken as they are.
    targets : ndarray of float16, bfloat16, float32 or float64
        Probabilities; broadcasts with `log_predictions`.
    axis : int, tuple of ints or None, default -1
        The class axes; None for all.
    where : ndarray of bool, optional
        Which classes count; broadcasts to the operands' shape.

    Returns
    -------
    ndarray or NumPy scalar
        One value a row, of the wider dtype.

    Raises
    ------
    TypeError
        An operand is no floating array, or the two do not broadcast.
    ValueError
        An axis out of range, or a `where` that is not bool or does not broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import optax
    >>> optax.kl_divergence(np.log([[0.5, 0.5]]), np.array([[1.0, 0.0]]))
    array([0.69314718])
    """
    return _kl("kl_divergence", kl_terms, axis, where, log_predictions=log_predictions, targets=targets)[0]


def kl_divergence_with_log_targets(
    log_predictions: Array, log_targets: Array, axis: Axis = -1, where: Array | None = None
) -> Any:
    """``sum_c exp(l_c) (l_c - x_c)`` of log-probabilities x, l: `optax.losses.kl_divergence_with_log_targets`.

    Parameters and errors are those of `kl_divergence`.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import optax
    >>> optax.kl_divergence_with_log_targets(np.log([[0.5, 0.5]]), np.log([[0.5, 0.5]]))
    array([0.])
    """
    operands = {"log_predictions": log_predictions, "log_targets": log_targets}
    return _kl("kl_divergence_with_log_targets", kl_terms_from_logs, axis, where, **operands)[0]


def generalized_kl_divergence(
    log_predictions: Array, targets: Array, axis: Axis = -1, where: Array | None = None
) -> Any:
    """``sum_c t_c (log t_c - x_c) + exp(x_c) - t_c``: `optax.losses.generalized_kl_divergence`.

    Parameters and errors are those of `kl_divergence`.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import optax
    >>> optax.generalized_kl_divergence(np.log([[1.0, 1.0]]), np.array([[0.5, 0.5]]))
    array([0.30685282])
    """
    operands = {"log_predictions": log_predictions, "targets": targets}
    value, x, t, mask = _kl("generalized_kl_divergence", kl_terms, axis, where, **operands)
    with np.errstate(over="ignore", invalid="ignore"):
        return value + total(np.exp(widened(x)) - widened(t), axis, mask, dtype=value.dtype)


def convex_kl_divergence(log_predictions: Array, targets: Array, axis: Axis = -1, where: Array | None = None) -> Any:
    """The deprecated name of `generalized_kl_divergence`: `optax.losses.convex_kl_divergence`.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from xent.compat import optax
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", DeprecationWarning)
    ...     optax.convex_kl_divergence(np.log([[1.0, 1.0]]), np.array([[0.5, 0.5]]))
    array([0.30685282])
    """
    warnings.warn("convex_kl_divergence is deprecated: use generalized_kl_divergence", DeprecationWarning, stacklevel=2)
    return generalized_kl_divergence(log_predictions, targets, axis=axis, where=where)
