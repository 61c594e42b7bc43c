"""MXNet Gluon's losses on NumPy arrays: `mxnet.gluon.loss` by name, constructor, default and call.

MXNet is no longer installable, so these follow its documentation and source (python/mxnet/gluon/loss.py, version 2.0).
Construct a loss, then call it with ``(pred, label, sample_weight=None)``; it gives one value a sample, in nats: every
axis but `batch_axis` is averaged. ``sample_weight`` broadcasts with the unreduced loss, whose class axis has length 1
(all classes in `KLDivLoss` and `SigmoidBinaryCrossEntropyLoss`): shape (N, 1) for pred of shape (N, C).

Where Gluon departs from the rest of `xent`, Gluon wins here:

* ``from_logits=True`` means that `pred` holds log-probabilities, which are taken as they are (in TensorFlow the same
  word means the opposite); ``from_logits=False`` applies log_softmax.
* `KLDivLoss` averages over the classes too: the divergence divided by C. Its logarithm is that of ``label + 1e-12``.
* ``SigmoidBinaryCrossEntropyLoss(from_sigmoid=True)`` adds 1e-12 in both logarithms.
* A label beyond the classes is clipped to the first or the last, as Gluon's `pick` does, not refused; labels of a
  floating dtype are truncated.
* 0 times infinity is NaN: a target of 0 at a log-probability of -inf; and log_softmax of a row that holds +inf.

float16 and bfloat16 (of ml_dtypes) are computed in float32 and rounded once, so that the 1e-12 counts; in MXNet it
vanishes there. A bfloat16 array that a file gives back as ``|V2`` needs ``.view(ml_dtypes.bfloat16)`` first. Integer
operands take the other operand's floating dtype, as labels do in MXNet.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import ArrayLike

import xent
from xent.compat import _bce
from xent.compat._shared import (
    FLOATS,
    Array,
    broadcasts_to,
    cross_entropy,
    float_dtype,
    is_kernel_float,
    named,
    nan_beside_inf,
    refuse_masked,
    total,
    widened,
)

__all__ = [
    "KLDivLoss",
    "SigmoidBCELoss",
    "SigmoidBinaryCrossEntropyLoss",
    "SoftmaxCELoss",
    "SoftmaxCrossEntropyLoss",
]

_EPSILON = 1e-12


def _array(loss: str, name: str, value: ArrayLike) -> Array:
    refuse_masked(loss, name, value)
    array = np.asarray(value)
    if array.dtype.kind not in "biu" and not is_kernel_float(array):
        raise TypeError(f"{loss}: {name} must be integers, {FLOATS}, not {named(array.dtype)}")
    return array


class _Loss:
    """What the losses share: operands, weights, and the mean over all axes but the batch's."""

    weight: float | None
    batch_axis: int

    def __post_init__(self) -> None:
        if self.weight is not None and not isinstance(self.weight, int | float | np.number):
            raise TypeError(f"{type(self).__name__}: weight must be a number, not {type(self.weight).__name__}")

    def _operands(self, pred: ArrayLike, label: ArrayLike, same_shape: bool) -> tuple[Array, Array]:
        name = type(self).__name__
        x, t = _array(name, "pred", pred), _array(name, "label", label)
        if not is_kernel_float(x):
            x = x.astype(t.dtype if is_kernel_float(t) else np.float32)
        if same_shape:
            if t.size != x.size:
                raise ValueError(f"{name}: label has shape {t.shape}, expected that of pred, {x.shape}")
            t = t.reshape(x.shape)
            if not is_kernel_float(t):
                t = t.astype(x.dtype)
        return x, t

    def _factor(self, option: str, value: ArrayLike, of: Array) -> Array:
        name = type(self).__name__
        array = _array(name, option, value)
        if not broadcasts_to(array.shape, of.shape):
            raise ValueError(f"{name}: {option} of shape {array.shape} does not broadcast to {of.shape}")
        return array.astype(of.dtype)

    def _mean(self, loss: Array, sample_weight: ArrayLike | None) -> Any:
        dtype = loss.dtype
        if sample_weight is not None:
            loss = loss * self._factor("sample_weight", sample_weight, loss)
        if self.weight is not None:
            loss = loss * dtype.type(self.weight)
        batch = normalize_axis_index(self.batch_axis, loss.ndim)
        others = tuple(i for i in range(loss.ndim) if i != batch)
        return total(loss, others, dtype=dtype, divisor=loss.size // max(loss.shape[batch], 1))


@dataclass(eq=False)
class SoftmaxCrossEntropyLoss(_Loss):
    """``-sum_c t_c log_softmax(pred)_c``, or ``-log_softmax(pred)_y`` of labels y, averaged a sample.

    Parameters
    ----------
    axis : int, default -1
        The class axis.
    sparse_label : bool, default True
        Whether `label` holds labels, of the shape of `pred` without or with length 1 in `axis`; else probabilities.
    from_logits : bool, default False
        Whether `pred` already holds log-probabilities.
    weight : float, optional
        Multiplies every value.
    batch_axis : int, default 0
        The axis that is not averaged.

    Raises
    ------
    TypeError
        An operand that is no real array, or a `weight` that is no number.
    ValueError
        Shapes that do not match.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import gluon
    >>> loss = gluon.SoftmaxCELoss()
    >>> loss(np.zeros((2, 4), np.float32), np.array([3, 0]))
    array([1.3862944, 1.3862944], dtype=float32)
    >>> loss
    SoftmaxCrossEntropyLoss(axis=-1, sparse_label=True, from_logits=False, weight=None, batch_axis=0)
    """

    axis: int = -1
    sparse_label: bool = True
    from_logits: bool = False
    weight: float | None = None
    batch_axis: int = 0

    def __call__(self, pred: ArrayLike, label: ArrayLike, sample_weight: ArrayLike | None = None) -> Any:
        x, t = self._operands(pred, label, same_shape=not self.sparse_label)
        axis = normalize_axis_index(self.axis, x.ndim)
        loss = self._sparse(x, t, axis) if self.sparse_label else self._dense(x, t, axis)
        return self._mean(np.expand_dims(loss, axis), sample_weight)

    def _sparse(self, x: Array, label: Array, axis: int) -> Array:
        if label.ndim == x.ndim and label.shape[axis] == 1:
            label = label.squeeze(axis)
        expected = x.shape[:axis] + x.shape[axis + 1 :]
        if label.shape != expected:
            raise ValueError(
                f"{type(self).__name__}: label has shape {label.shape}, expected {expected}, "
                f"pred's {x.shape} without axis {axis}"
            )
        # Before the conversion, which a float beyond the integers would not survive.
        label = np.clip(label, 0, x.shape[axis] - 1).astype(np.intp)
        if self.from_logits:
            return -np.take_along_axis(x, np.expand_dims(label, axis), axis).squeeze(axis)
        loss = np.asarray(xent.cross_entropy_with_labels(x, label, axis=axis))
        if not np.isfinite(loss).all():
            loss = np.where(np.isposinf(x).any(axis), loss.dtype.type(np.nan), loss)
        return loss

    def _dense(self, x: Array, target: Array, axis: int) -> Array:
        if self.from_logits:
            with np.errstate(invalid="ignore", over="ignore"):
                return np.asarray(-total(widened(x) * widened(target), axis, dtype=float_dtype(x, target)))
        return cross_entropy(x, target, axis)


SoftmaxCELoss = SoftmaxCrossEntropyLoss


@dataclass(eq=False)
class KLDivLoss(_Loss):
    """``t (log(t + 1e-12) - log p)``, averaged over all of a sample, its C classes included: KL(t, p) / C.

    Parameters
    ----------
    from_logits : bool, default True
        Whether `pred` already holds log-probabilities.
    axis : int, default -1
        The class axis, which matters for ``from_logits=False`` only.
    weight : float, optional
        Multiplies every value.
    batch_axis : int, default 0
        The axis that is not averaged.

    Raises
    ------
    TypeError
        An operand that is no real array, or a `weight` that is no number.
    ValueError
        Shapes that do not match.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import gluon
    >>> gluon.KLDivLoss(from_logits=False)(np.zeros((1, 2)), np.array([[1.0, 0.0]]))
    array([0.34657359])
    """

    from_logits: bool = True
    axis: int = -1
    weight: float | None = None
    batch_axis: int = 0

    def __call__(self, pred: ArrayLike, label: ArrayLike, sample_weight: ArrayLike | None = None) -> Any:
        x, t = self._operands(pred, label, same_shape=True)
        dtype = float_dtype(x, t)
        wide = np.result_type(dtype, np.float32)
        log_probs, t = x.astype(wide), t.astype(wide)
        if not self.from_logits:
            log_probs = nan_beside_inf(xent.log_softmax(log_probs, axis=self.axis), log_probs, self.axis)
        # No kernel has an epsilon; a negative label gives NaN, as Gluon's logarithm does.
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            loss = t * (np.log(t + wide.type(_EPSILON)) - log_probs)
        return self._mean(loss, sample_weight).astype(dtype)


def _bce_formula(x: Array, t: Array, w: Array | None) -> Array:
    """Gluon's own, whose differences of infinities are NaN."""
    softplus = np.log1p(np.exp(-np.abs(x)))
    if w is None:
        return np.asarray(np.maximum(x, 0) - x * t + softplus)
    return np.asarray(x - x * t + (1 + (w - 1) * t) * (softplus + np.maximum(-x, 0)))


@dataclass(eq=False)
class SigmoidBinaryCrossEntropyLoss(_Loss):
    """``-(v t log s(pred) + (1 - t) log(1 - s(pred)))``, s the sigmoid and v `pos_weight`, averaged a sample.

    Call it with ``(pred, label, sample_weight=None, pos_weight=None)``; `pos_weight` broadcasts with `pred`.

    Parameters
    ----------
    from_sigmoid : bool, default False
        Whether `pred` already holds probabilities.
    weight : float, optional
        Multiplies every value.
    batch_axis : int, default 0
        The axis that is not averaged.

    Raises
    ------
    TypeError
        An operand that is no real array, or a `weight` that is no number.
    ValueError
        Shapes that do not match.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import gluon
    >>> gluon.SigmoidBCELoss()(np.array([[0.0, 50.0]]), np.array([[1, 1]]), pos_weight=np.array([[2.0, 1.0]]))
    array([0.69314718])
    """

    from_sigmoid: bool = False
    weight: float | None = None
    batch_axis: int = 0

    def __call__(
        self,
        pred: ArrayLike,
        label: ArrayLike,
        sample_weight: ArrayLike | None = None,
        pos_weight: ArrayLike | None = None,
    ) -> Any:
        x, t = self._operands(pred, label, same_shape=True)
        dtype = float_dtype(x, t)
        wide = np.result_type(dtype, np.float32)
        x, t = x.astype(wide), t.astype(wide)
        positive = None if pos_weight is None else self._factor("pos_weight", pos_weight, x)
        if self.from_sigmoid:
            epsilon = wide.type(_EPSILON)
            with np.errstate(invalid="ignore", divide="ignore"):
                weighted = np.log(x + epsilon) * t * (1 if positive is None else positive)
                loss = -(weighted + np.log(1 - x + epsilon) * (1 - t))
        else:
            loss = _bce.with_logits(x, t, positive, _bce_formula)
        return self._mean(loss, sample_weight).astype(dtype)


SigmoidBCELoss = SigmoidBinaryCrossEntropyLoss
