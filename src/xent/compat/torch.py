"""PyTorch's losses on NumPy arrays: `torch.nn.functional` by name, signature, default, shape, dtype, warning and error.

Checked against PyTorch 2.13. Arrays go in (PyTorch takes tensors, not lists, and so does this) and come out; a result
without dimensions is a NumPy scalar. Values are in nats. The classes are axis 1, or axis 0 of an input with one axis.

Where PyTorch departs from the rest of `xent`, PyTorch wins here:

* ``kl_div``'s default reduction "mean" divides by the number of elements, classes included ("batchmean" is the mean
  divergence), and warns. The input is taken as log-probabilities, normalised or not.
* 0 times infinity is NaN: a target or class weight of 0 at a logit of -inf (in `xent` 0), ``log_target`` of -inf, an
  infinite logit in the binary cross-entropies. So is every softmax of a row that holds +inf.
* The mean is NaN where nothing is left to average: an empty batch, all labels ignored, no classes.
* ``binary_cross_entropy`` takes no logarithm below -100, and refuses values outside 0 to 1.
* Labels are int64 (uint8 too, where the input has at most two axes), class weights have the input's dtype; anything
  else is a RuntimeError. Integer input is a NotImplementedError, except in ``logsumexp``, which makes it float32.
* An operand without axes does not widen one that has some, and ``binary_cross_entropy_with_logits`` gives the dtype of
  its target.

Here float16 and bfloat16 (of ml_dtypes) are computed in float32 and rounded once; PyTorch rounds the log-probabilities
as well. A bfloat16 array that a file gives back as ``|V2`` needs ``.view(ml_dtypes.bfloat16)`` first. Nothing records a
graph: ``xent.losses`` has the gradients.
"""

import operator
import warnings
from dataclasses import Field, InitVar, dataclass, fields
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

import xent
from xent import losses
from xent.compat import _bce
from xent.compat import scipy as _scipy
from xent.compat._shared import (
    FLOATS,
    Array,
    broadcasts_to,
    float_dtype,
    is_kernel_float,
    kl_terms,
    kl_terms_from_logs,
    named,
    nan_beside_inf,
    refuse_masked,
    rounded,
    total,
    widened,
)

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "KLDivLoss",
    "LogSoftmax",
    "NLLLoss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "kl_div",
    "log_softmax",
    "logsumexp",
    "nll_loss",
    "softmax",
    "softmin",
]

_Reduction: TypeAlias = Any  # one of three words; the losses have overloads of them

# ---------------------------------------------------------------------------------------------------------------------
# Arguments


def _tensor(function: str, name: str, value: object) -> Array:
    refuse_masked(function, name, value)
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"{function}: {name} must be a NumPy array, not {type(value).__name__}")
    return np.asarray(value)


def _floating(function: str, name: str, array: Array, error: type[RuntimeError] = NotImplementedError) -> None:
    if not is_kernel_float(array):
        raise error(f"{function}: {name} must be {FLOATS}, not {named(array.dtype)}")


def _integer(function: str, name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{function}: {name} must be an int, not {type(value).__name__}")
    return operator.index(value)


def _legacy(size_average: bool | None, reduce: bool | None, reduction: str, stacklevel: int = 3) -> str:
    """What the deprecated pair means, if either was given."""
    if size_average is None and reduce is None:
        return reduction
    meant = "mean" if size_average in (None, True) else "sum"
    if reduce is not None and not reduce:
        meant = "none"
    warnings.warn(f"size_average and reduce are deprecated: use reduction={meant!r}", stacklevel=stacklevel)
    return meant


def _known(function: str, reduction: object) -> _Reduction:
    if reduction == "elementwise_mean":
        warnings.warn("reduction='elementwise_mean' is deprecated: use reduction='mean'", stacklevel=3)
        return "mean"
    if reduction == "none" or reduction == "sum" or reduction == "mean":
        return reduction
    raise ValueError(f"{function}: reduction must be none, sum or mean, got {reduction!r}")


def _reduced(terms: Array, reduction: str, dtype: np.dtype[Any]) -> Any:
    if reduction == "none":
        return rounded(terms, dtype)
    return total(terms, dtype=dtype, divisor=terms.size if reduction == "mean" else 1)


def _dimension(function: str, dim: object, ndim: int) -> int:
    """A valid dim of an input of `ndim` axes; one without axes counts as having one, as in PyTorch."""
    given, ndim = _integer(function, "dim", dim), max(ndim, 1)
    if not -ndim <= given < ndim:
        raise IndexError(f"{function}: dim must be from {-ndim} to {ndim - 1}, got {given}")
    return given


# ---------------------------------------------------------------------------------------------------------------------
# Softmax and its relatives


def _along(
    operation: Any, function: str, input: Array, dim: int | None, dtype: DTypeLike | None, stacklevel: int
) -> Any:
    if dim is None:
        warnings.warn(f"{function} without dim is deprecated: pass dim=...", stacklevel=stacklevel)
        dim = 0 if input.ndim in (0, 1, 3) else 1
    if dtype is not None:
        _floating(function, "dtype", np.empty(0, dtype))
        input = input.real.astype(dtype)
    _floating(function, "input", input)
    axis = _dimension(function, dim, input.ndim)
    rows = np.atleast_1d(input)
    return nan_beside_inf(operation(rows, axis=axis), rows, axis).reshape(input.shape)[()]


def softmax(input: Array, dim: int | None = None, _stacklevel: int = 3, dtype: DTypeLike | None = None) -> Any:
    """``exp(x_c) / sum_k exp(x_k)`` along `dim`: `torch.nn.functional.softmax`.

    Parameters
    ----------
    input : ndarray of float16, bfloat16, float32 or float64
        Any shape; of any dtype if `dtype` is given.
    dim : int, optional
        Without it, 0 for 0, 1 or 3 axes and else 1, with PyTorch's deprecation warning.
    dtype : float16, bfloat16, float32 or float64, optional
        `input` is cast to it first.

    Returns
    -------
    ndarray
        Of the shape of `input`, of `dtype` or the dtype of `input`.

    Raises
    ------
    IndexError
        `dim` is out of range.
    NotImplementedError
        A dtype that is none of the four.
    TypeError
        `input` is no array, or `dim` no int.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import torch
    >>> torch.softmax(np.zeros((1, 2), np.float32), dim=1)
    array([[0.5, 0.5]], dtype=float32)
    """
    return _along(xent.softmax, "softmax", _tensor("softmax", "input", input), dim, dtype, _stacklevel)


def softmin(input: Array, dim: int | None = None, _stacklevel: int = 3, dtype: DTypeLike | None = None) -> Any:
    """``softmax(-input)``: `torch.nn.functional.softmin`; parameters and errors are those of `softmax`.

    Raises
    ------
    RuntimeError
        `input` is bool.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import torch
    >>> torch.softmin(np.array([0.0, -1000.0]), dim=0)
    array([0., 1.])
    """
    given = _tensor("softmin", "input", input)
    if given.dtype.kind == "b":
        raise RuntimeError("softmin: input must be numbers, which have a negative, not bool")
    return _along(xent.softmax, "softmin", -given, dim, dtype, _stacklevel)


def log_softmax(input: Array, dim: int | None = None, _stacklevel: int = 3, dtype: DTypeLike | None = None) -> Any:
    """``x_c - log sum_k exp(x_k)`` along `dim`, in nats: `torch.nn.functional.log_softmax`.

    Parameters and errors are those of `softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import torch
    >>> torch.log_softmax(np.array([[1000.0, 1000.0]]), dim=1)
    array([[-0.69314718, -0.69314718]])
    """
    return _along(xent.log_softmax, "log_softmax", _tensor("log_softmax", "input", input), dim, dtype, _stacklevel)


def logsumexp(
    input: Array, dim: int | tuple[int, ...] | list[int], keepdim: bool = False, *, out: Array | None = None
) -> Any:
    """``log sum exp x`` over one or several axes, in nats: `torch.logsumexp`.

    Parameters
    ----------
    input : ndarray
        Any shape. Integers and bools are made float32, PyTorch's default dtype; complex numbers go through NumPy.
    dim : int or sequence of ints
        The axes, at least one.
    keepdim : bool, default False
        Keep them with length 1.
    out : ndarray, optional
        Where to put the result; of its shape (PyTorch would resize) and a floating dtype.

    Returns
    -------
    ndarray or NumPy scalar

    Raises
    ------
    IndexError
        An axis out of range.
    RuntimeError
        No axis or one twice, or `out` of a dtype that cannot hold the result.
    TypeError
        `input` is no array, or `dim` neither an int nor a sequence of them.
    ValueError
        `out` has another shape than the result.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import torch
    >>> torch.logsumexp(np.array([[0.0, -50.0], [3.0, 3.0]]), dim=1)
    array([1.92874985e-22, 3.69314718e+00])
    """
    x = _tensor("logsumexp", "input", input)
    given = tuple(dim) if isinstance(dim, tuple | list) else (dim,)
    axes = tuple(_dimension("logsumexp", axis, x.ndim) % max(x.ndim, 1) for axis in given)
    if not axes or len(set(axes)) < len(axes):
        raise RuntimeError(f"logsumexp: dim must name different axes, at least one, got {dim!r}")
    if x.dtype.kind in "biu":
        x = x.astype(np.float32)
    rows = np.atleast_1d(x)
    if x.dtype.kind == "c":
        result = _scipy.logsumexp(rows, axis=axes, keepdims=keepdim)
    else:
        _floating("logsumexp", "input", x)
        result = xent.logsumexp(rows, axis=axes, keepdims=keepdim)
    if keepdim and x.ndim == 0:
        result = result[0]
    if out is None:
        return result
    if not np.can_cast(result.dtype, out.dtype, "same_kind"):
        raise RuntimeError(f"logsumexp: out must have a floating dtype, not {out.dtype}")
    if out.shape != np.shape(result):
        raise ValueError(f"logsumexp: out has shape {out.shape}, the result has {np.shape(result)}")
    np.copyto(out, result, casting="same_kind")
    return out


# ---------------------------------------------------------------------------------------------------------------------
# Losses with classes


def _check_labels(function: str, input: Array, target: Array, weight: Array | None) -> None:
    batch = target.shape[0] if target.ndim else 0
    if input.ndim == 0:
        raise ValueError(f"{function}: input must have at least one axis, the classes")
    if input.ndim > 1 and input.shape[0] != batch:
        raise ValueError(f"{function}: input has a batch of {input.shape[0]}, target one of {batch}")
    if input.ndim == 1 and target.ndim == 1 and batch != 1:
        raise ValueError(f"{function}: input of shape {input.shape} takes one label, target has shape {target.shape}")
    if input.ndim not in (1, 2, 4) and not input.size and target.size:
        raise RuntimeError(f"{function}: input of shape {input.shape} has no classes, target has shape {target.shape}")
    expected = input.shape[:1] + input.shape[2:]
    if (target.shape != expected) if input.ndim > 1 else (target.ndim > 1):
        raise RuntimeError(f"{function}: target has shape {target.shape}, expected {expected} for input {input.shape}")
    if target.dtype.type is not np.int64 and (target.dtype.type is not np.uint8 or input.ndim > 2):
        raise RuntimeError(f"{function}: labels must be int64, or uint8 for input of two axes, not {target.dtype}")
    _check_weight(function, weight, input)
    if weight is not None and weight.dtype.type is not input.dtype.type:
        raise RuntimeError(f"{function}: weight must have the dtype of input, {input.dtype}, not {weight.dtype}")


def _check_weight(function: str, weight: Array | None, input: Array) -> None:
    classes = input.shape[min(input.ndim - 1, 1)]
    if weight is not None and weight.shape != (classes,):
        raise RuntimeError(f"{function}: weight must have shape ({classes},), one a class, not {weight.shape}")


def cross_entropy(
    input: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Cross-entropy of logits under labels or probabilities, in nats: `torch.nn.functional.cross_entropy`.

    A row's loss is ``-sum_c w_c ((1 - a) t_c + a / C) log_softmax(x)_c`` with class weights w and label smoothing a; a
    label is the t that is 1 at it.

    Parameters
    ----------
    input : ndarray of float16, bfloat16, float32 or float64
        Logits of shape (C,), (N, C) or (N, C, d1, ..., dK).
    target : ndarray
        Of the shape of `input` and floating: probabilities. Else labels, int64 or uint8, one a row.
    weight : ndarray of shape (C,), optional
        Class weights; with labels of the dtype of `input`.
    size_average, reduce : bool, optional
        Deprecated; either overrides `reduction`, with a warning.
    ignore_index : int, default -100
        Rows with this label do not count. With probabilities it must be negative.
    reduction : {"none", "mean", "sum"}, default "mean"
        "mean" divides by the counted labels' weights, with probabilities by the number of rows.
    label_smoothing : float, default 0.0
        At most 1; PyTorch takes a negative one for 0.

    Returns
    -------
    ndarray or NumPy scalar
        Of the dtype of `input`; with probabilities of the widest of all three.

    Raises
    ------
    IndexError
        A label outside 0 to C - 1: its value and position.
    NotImplementedError
        `input` is not floating.
    RuntimeError
        Wrong shapes or dtypes of `target` or `weight`, a smoothing above 1, a nonnegative `ignore_index` with
        probabilities.
    TypeError
        An operand is no array.
    ValueError
        Batches that differ, or an unknown reduction.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import torch
    >>> torch.cross_entropy(np.zeros((2, 4)), np.array([3, -100]))
    np.float64(1.3862943611198906)
    """
    name = "cross_entropy"
    reduction = _known(name, _legacy(size_average, reduce, reduction))
    x, t = _tensor(name, "input", input), _tensor(name, "target", target)
    w = None if weight is None else _tensor(name, "weight", weight)
    ignored = _integer(name, "ignore_index", ignore_index)
    smoothing = max(float(label_smoothing), 0.0)
    if smoothing > 1.0:
        raise RuntimeError(f"{name}: label_smoothing must be from 0 to 1, got {label_smoothing}")
    probs = x.shape == t.shape
    if probs and not is_kernel_float(t):
        raise RuntimeError(
            f"{name}: a target of the shape of input holds probabilities, {FLOATS}, not {named(t.dtype)}"
        )
    if probs and ignored >= 0:
        raise RuntimeError(f"{name}: ignore_index={ignored} goes with labels; the target is probabilities")
    if x.ndim == 0:
        raise IndexError(f"{name}: input must have at least one axis, the classes")
    _floating(name, "input", x)
    if probs:
        _check_weight(name, w, x)
    else:
        _check_labels(name, x, t, w)
    dtype = float_dtype(x, t) if w is None else float_dtype(x, t, w)
    if float_dtype(x, t) != dtype:
        x = x.astype(dtype)  # weights never widen a result of the kernels
    w = None if w is None else w.astype(np.float64)
    value = _of_probs(x, t, w, smoothing, reduction) if probs else _of_labels(x, t, w, ignored, smoothing, reduction)
    return rounded(value, dtype)


def _of_labels(x: Array, labels: Array, w: Array | None, ignored: int, smoothing: float, reduction: _Reduction) -> Any:
    axis = min(x.ndim - 1, 1)
    labels = labels.reshape(()) if x.ndim == 1 else labels
    counted = labels != ignored
    value = losses.cross_entropy(
        x, labels, axis=axis, weight=w, ignore_index=ignored, label_smoothing=smoothing, reduction=reduction
    )
    if smoothing > 0 and not x.shape[axis]:
        return np.full(np.shape(value), np.nan)  # the smoothing that each of no classes gets is infinite
    # If no weight is 0, only a row that holds +inf can differ from PyTorch's, and its loss is not finite.
    watched = value if w is None or w.all() else x
    if (
        (w is None or np.isfinite(w).all())
        and (x.size == 0 or np.isfinite(watched).all())
        and (w is None or reduction != "mean" or w[labels[counted]].sum())
    ):
        return value
    # By PyTorch's own products, quotients and sums, each of the label's part and of the smoothing's, in which 0 times
    # infinity and 0 over 0 are NaN.
    log_probs = log_softmax(x.astype(np.float64), axis)
    at = np.expand_dims(np.where(counted, labels, 0), axis)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        weighted = log_probs if w is None else log_probs * _along_axis(w, axis, x.ndim)
        parts = [-np.take_along_axis(weighted, at, axis).squeeze(axis)] if x.size else [np.zeros(labels.shape)]
        if smoothing > 0:
            parts.append(-weighted.sum(axis))
        parts = [np.where(counted, part, 0) for part in parts]
        if reduction != "none":
            divisor = 1.0 if reduction == "sum" else counted.sum() if w is None else w[labels[counted]].sum()
            parts = [np.divide(part.sum(), divisor, dtype=np.float64) for part in parts]
        if smoothing > 0:
            parts = [(1 - smoothing) * parts[0], smoothing / x.shape[axis] * parts[1]]
        return sum(parts)


def _of_probs(x: Array, target: Array, w: Array | None, smoothing: float, reduction: _Reduction) -> Any:
    axis = min(x.ndim - 1, 1)
    options: Any = {"axis": axis, "weight": w, "label_smoothing": smoothing}
    if x.size == 0:
        value = losses.cross_entropy(x, target, reduction=reduction, **options)
        return np.float64(np.nan) if reduction == "mean" else value
    if all(np.isfinite(a).all() for a in (x, target, w) if a is not None):
        return losses.cross_entropy(x, target, reduction=reduction, **options)
    # By PyTorch's own products where something is not finite: 0 times infinity is NaN, and the signs are theirs.
    rows = losses.cross_entropy(x, target, reduction="none", **options)
    odd = ~(np.isfinite(x) & np.isfinite(target)).all(axis) | (w is not None and not np.isfinite(w).all())
    with np.errstate(invalid="ignore", over="ignore"):
        t = (1 - smoothing) * target.astype(np.float64) + smoothing / x.shape[axis]
        terms = log_softmax(x.astype(np.float64), axis) * t
        terms = terms if w is None else terms * _along_axis(w, axis, x.ndim)
        rows = np.where(odd, -terms.sum(axis), rows)
    if reduction == "none":
        return rows
    return total(rows, dtype=np.dtype(np.float64), divisor=rows.size if reduction == "mean" else 1)


def _along_axis(weight: Array, axis: int, ndim: int) -> Array:
    return weight.reshape([-1 if i == axis else 1 for i in range(ndim)])


def nll_loss(
    input: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """``-w_y x_y`` of log-probabilities x and labels y, in nats: `torch.nn.functional.nll_loss`.

    The input is taken as it is, normalised or not. Parameters and errors are those of `cross_entropy`, whose
    probabilities and smoothing it does not have.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import torch
    >>> torch.nll_loss(np.array([[-0.5, -1.0], [-2.0, -0.25]]), np.array([0, 1]), reduction="none")
    array([0.5 , 0.25])
    """
    name = "nll_loss"
    reduction = _known(name, _legacy(size_average, reduce, reduction))
    x, t = _tensor(name, "input", input), _tensor(name, "target", target)
    w = None if weight is None else _tensor(name, "weight", weight)
    ignored = _integer(name, "ignore_index", ignore_index)
    _floating(name, "input", x)
    _check_labels(name, x, t, w)
    # One row, if unbatched; and the classes last, where a label indexes them.
    rows = x[np.newaxis] if x.ndim == 1 else np.moveaxis(x, 1, -1)
    labels = np.atleast_1d(t) if x.ndim == 1 else t
    counted = labels != ignored
    wrong = np.argwhere(counted & ((labels < 0) | (labels >= rows.shape[-1])))
    if wrong.size:
        at = tuple(int(i) for i in wrong[0])
        raise IndexError(
            f"label {labels[at]} at {at if len(at) > 1 else at[0]} is out of range for {rows.shape[-1]} classes"
        )
    chosen = labels[counted]
    own = np.ones(chosen.shape, x.dtype) if w is None else w[chosen]
    loss = np.zeros(labels.shape, x.dtype.newbyteorder("="))
    with np.errstate(invalid="ignore", over="ignore"):
        loss[counted] = -(own * rows[(*np.nonzero(counted), chosen)])
    if reduction == "none":
        return loss.reshape(())[()] if x.ndim == 1 else loss
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        divisor = widened(own).sum(dtype=np.float64) if reduction == "mean" else 1
        return rounded(widened(loss).sum(dtype=np.float64) / divisor, loss.dtype)


def kl_div(
    input: Array,
    target: Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Any:
    """``t (log t - x)`` of log-probabilities x and probabilities t, in nats: `torch.nn.functional.kl_div`.

    Parameters
    ----------
    input : ndarray of float16, bfloat16, float32 or float64
        Log-probabilities of any shape, taken as they are.
    target : ndarray of float16, bfloat16, float32 or float64
        Probabilities, or their logarithms with `log_target`; broadcasts with `input`.
    size_average, reduce : bool, optional
        Deprecated; either overrides `reduction`, with a warning.
    reduction : {"mean", "batchmean", "sum", "none"}, default "mean"
        "mean" divides the sum by the number of elements, and warns that this is not the divergence; "batchmean"
        divides it by the length of the first axis of `input`.
    log_target : bool, default False
        Whether `target` holds logarithms.

    Returns
    -------
    ndarray or NumPy scalar
        Of the wider of the two dtypes.

    Raises
    ------
    RuntimeError
        An operand is not floating, or the shapes do not broadcast.
    TypeError
        An operand is no array.
    ValueError
        An unknown reduction.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import torch
    >>> log_probs = np.log([[0.5, 0.5], [0.5, 0.5]])
    >>> torch.kl_div(log_probs, np.array([[1.0, 0.0], [0.5, 0.5]]), reduction="batchmean")
    np.float64(0.34657359027997264)
    """
    name = "kl_div"
    if size_average is None and reduce is None and reduction == "mean":
        warnings.warn(
            "reduction='mean' divides by the number of classes too: reduction='batchmean' is the divergence",
            stacklevel=2,
        )
    meant = _legacy(size_average, reduce, reduction)
    plain = _known(name, "sum" if meant == "batchmean" else meant)
    x, t = _tensor(name, "input", input), _tensor(name, "target", target)
    _floating(name, "input", x, RuntimeError)
    _floating(name, "target", t, RuntimeError)
    try:
        np.broadcast_shapes(x.shape, t.shape)
    except ValueError:
        raise RuntimeError(f"{name}: input {x.shape} and target {t.shape} do not broadcast") from None
    # An operand without axes does not widen the other.
    shaped = [a for a in (x, t) if a.ndim] or [x, t]
    dtype = float_dtype(*shaped)
    x, t = (a if a.ndim else a.astype(dtype) for a in (x, t))
    terms = np.asarray(kl_terms_from_logs(x, t) if log_target else kl_terms(x, t))
    if not log_target and np.isposinf(t).any():
        # PyTorch's term is t log t - t x.
        terms = np.where(np.isposinf(t) & (widened(x) >= 0), terms.dtype.type(np.nan), terms)
    value = _reduced(terms, plain, dtype)
    # PyTorch looks at the reduction as it was given, also where a deprecated argument has overridden it.
    if reduction == "batchmean" and x.ndim:
        with np.errstate(invalid="ignore", divide="ignore"):
            value = rounded(np.divide(value, x.shape[0], dtype=terms.dtype), dtype)
    return value


# ---------------------------------------------------------------------------------------------------------------------
# Binary cross-entropy


def _weighted(function: str, loss: Array, weight: Array | None) -> Array:
    if weight is None:
        return loss
    _check_broadcast(function, "weight", weight, loss.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        return (loss * widened(weight)).astype(loss.dtype, copy=False)


def _check_broadcast(function: str, name: str, array: Array, shape: tuple[int, ...]) -> None:
    if not broadcasts_to(array.shape, shape):
        raise RuntimeError(f"{function}: {name} of shape {array.shape} does not broadcast to {shape}")


def binary_cross_entropy(
    input: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """``-w (t log p + (1 - t) log(1 - p))``, no logarithm below -100: `torch.nn.functional.binary_cross_entropy`.

    Parameters
    ----------
    input, target : ndarray of float16, bfloat16, float32 or float64
        Probabilities from 0 to 1, of one shape and dtype.
    weight : ndarray, optional
        Broadcasts to the shape of `target`.
    size_average, reduce : bool, optional
        Deprecated; either overrides `reduction`, with a warning.
    reduction : {"none", "mean", "sum"}, default "mean"
        "mean" divides by the number of elements.

    Returns
    -------
    ndarray or NumPy scalar
        Of the dtype of `input`, in nats.

    Raises
    ------
    NotImplementedError
        Operands that are not floating.
    RuntimeError
        A value outside 0 to 1, dtypes that differ, or a `weight` that does not broadcast.
    TypeError
        An operand is no array.
    ValueError
        Shapes that differ, or an unknown reduction.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import torch
    >>> torch.binary_cross_entropy(np.array([0.5, 0.0]), np.array([1.0, 1.0]), reduction="none")
    array([  0.69314718, 100.        ])
    """
    name = "binary_cross_entropy"
    reduction = _known(name, _legacy(size_average, reduce, reduction))
    p, t = _tensor(name, "input", input), _tensor(name, "target", target)
    if p.shape != t.shape:
        raise ValueError(f"{name}: input has shape {p.shape}, target {t.shape}; they must be the same")
    if p.dtype.type is not t.dtype.type:
        raise RuntimeError(f"{name}: input is {p.dtype}, target {t.dtype}; they must be the same")
    _floating(name, "input", p)
    for values, which in ((p, "input"), (t, "target")):
        outside = np.argwhere(~((widened(values) >= 0) & (widened(values) <= 1)))
        if outside.size:
            at = tuple(int(i) for i in outside[0])
            raise RuntimeError(f"{name}: {which} must be from 0 to 1, got {values[at]} at {at}")
    dtype = p.dtype.newbyteorder("=")
    p, t = (a.astype(np.result_type(dtype, np.float32)) for a in (p, t))
    with np.errstate(divide="ignore"):
        loss = (t - 1) * np.maximum(np.log1p(-p), -100) - t * np.maximum(np.log(p), -100)
    w = None if weight is None else _tensor(name, "weight", weight)
    return _reduced(_weighted(name, loss, w).astype(dtype), reduction, dtype)


def _bce_formula(x: Array, t: Array, w: Array | None) -> Array:
    """PyTorch's own, whose products of 0 and infinity are NaN."""
    log_sigmoid = -np.logaddexp(0, -x)
    loss: Array = (1 - t) * x - (log_sigmoid if w is None else ((w - 1) * t + 1) * log_sigmoid)
    return loss


def binary_cross_entropy_with_logits(
    input: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Array | None = None,
) -> Any:
    """``-w (v t log s(x) + (1 - t) log(1 - s(x)))``: `torch.nn.functional.binary_cross_entropy_with_logits`.

    Here s is the sigmoid, w is `weight` and v is `pos_weight`.

    Parameters
    ----------
    input : ndarray of float16, bfloat16, float32 or float64
        Logits of any shape.
    target : ndarray of float16, bfloat16, float32 or float64
        Of the shape of `input`; from 0 to 1, which is not checked.
    weight, pos_weight : ndarray, optional
        Broadcast to the shape of `input`.
    size_average, reduce : bool, optional
        Deprecated; either overrides `reduction`, with a warning.
    reduction : {"none", "mean", "sum"}, default "mean"
        "mean" divides by the number of elements.

    Returns
    -------
    ndarray or NumPy scalar
        Of the dtype of `target`, in nats.

    Raises
    ------
    NotImplementedError
        `input` is not floating.
    RuntimeError
        `target` is not floating, or a weight does not broadcast.
    TypeError
        An operand is no array.
    ValueError
        Shapes that differ, or an unknown reduction.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import torch
    >>> torch.binary_cross_entropy_with_logits(np.array([0.0, 50.0]), np.array([1.0, 1.0]), reduction="none")
    array([6.93147181e-01, 1.92874985e-22])
    """
    name = "binary_cross_entropy_with_logits"
    reduction = _known(name, _legacy(size_average, reduce, reduction))
    x, t = _tensor(name, "input", input), _tensor(name, "target", target)
    if x.shape != t.shape:
        raise ValueError(f"{name}: input has shape {x.shape}, target {t.shape}; they must be the same")
    _floating(name, "input", x)
    _floating(name, "target", t, RuntimeError)
    w = None if weight is None else _tensor(name, "weight", weight)
    positive = None
    if pos_weight is not None:
        positive = _tensor(name, "pos_weight", pos_weight)
        _check_broadcast(name, "pos_weight", positive, x.shape)
    dtype = t.dtype.newbyteorder("=")
    with np.errstate(over="ignore"):
        both = float_dtype(x, t)
        loss = _bce.with_logits(x.astype(both, copy=False), t.astype(both, copy=False), positive, _bce_formula)
        loss = widened(loss)
        loss = _weighted(name, loss.astype(np.result_type(dtype, np.float32)), w)
    return _reduced(loss, reduction, dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Classes


class _Loss:
    """What the classes share: deprecated arguments that become a reduction, the call, and its options, the fields."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    _function: ClassVar[Any]
    size_average: Any  # no fields: their defaults, which dataclass leaves with the classes
    reduce: Any
    reduction: str

    def __post_init__(self, size_average: bool | None, reduce: bool | None) -> None:
        self.reduction = _legacy(size_average, reduce, self.reduction, stacklevel=4)

    def __call__(self, input: Array, target: Array) -> Any:
        return self.forward(input, target)

    def forward(self, input: Array, target: Array) -> Any:
        return self._function(input, target, **{field.name: getattr(self, field.name) for field in fields(self)})


@dataclass(eq=False)
class KLDivLoss(_Loss):
    """`kl_div` with its options kept: `torch.nn.KLDivLoss`. Call it, or its `forward`, with (input, target).

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import torch
    >>> loss = torch.KLDivLoss(reduction="batchmean", log_target=True)
    >>> loss
    KLDivLoss(reduction='batchmean', log_target=True)
    >>> loss(np.log([[0.5, 0.5]]), np.log([[0.5, 0.5]]))
    np.float64(0.0)
    """

    _function: ClassVar[Any] = staticmethod(kl_div)
    size_average: InitVar[bool | None] = None
    reduce: InitVar[bool | None] = None
    reduction: str = "mean"
    log_target: bool = False


@dataclass(eq=False)
class CrossEntropyLoss(_Loss):
    """`cross_entropy` with its options kept: `torch.nn.CrossEntropyLoss`.

    Call it, or its `forward`, with (input, target).

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import torch
    >>> loss = torch.CrossEntropyLoss(ignore_index=0)
    >>> loss(np.zeros((2, 2)), np.array([0, 1]))
    np.float64(0.6931471805599453)
    """

    _function: ClassVar[Any] = staticmethod(cross_entropy)
    weight: Array | None = None
    size_average: InitVar[bool | None] = None
    ignore_index: int = -100
    reduce: InitVar[bool | None] = None
    reduction: str = "mean"
    label_smoothing: float = 0.0


@dataclass(eq=False)
class NLLLoss(_Loss):
    """`nll_loss` with its options kept: `torch.nn.NLLLoss`. Call it, or its `forward`, with (input, target).

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import torch
    >>> torch.NLLLoss(reduction="sum")(np.array([[-0.5, -1.0], [-2.0, -0.25]]), np.array([0, 1]))
    np.float64(0.75)
    """

    _function: ClassVar[Any] = staticmethod(nll_loss)
    weight: Array | None = None
    size_average: InitVar[bool | None] = None
    ignore_index: int = -100
    reduce: InitVar[bool | None] = None
    reduction: str = "mean"


@dataclass(eq=False)
class BCEWithLogitsLoss(_Loss):
    """`binary_cross_entropy_with_logits` with its options kept: `torch.nn.BCEWithLogitsLoss`.

    Call it, or its `forward`, with (input, target).

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import torch
    >>> torch.BCEWithLogitsLoss(pos_weight=np.array([2.0]))(np.array([0.0]), np.array([1.0]))
    np.float64(1.3862943611198906)
    """

    _function: ClassVar[Any] = staticmethod(binary_cross_entropy_with_logits)
    weight: Array | None = None
    size_average: InitVar[bool | None] = None
    reduce: InitVar[bool | None] = None
    reduction: str = "mean"
    pos_weight: Array | None = None


@dataclass(eq=False)
class LogSoftmax:
    """`log_softmax` along a dim that is kept: `torch.nn.LogSoftmax`. Call it, or its `forward`, with an input.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.compat import torch
    >>> torch.LogSoftmax(dim=1)(np.zeros((1, 2)))
    array([[-0.69314718, -0.69314718]])
    """

    dim: int | None = None

    def __call__(self, input: Array) -> Any:
        return self.forward(input)

    def forward(self, input: Array) -> Any:
        return log_softmax(input, self.dim, _stacklevel=5)
