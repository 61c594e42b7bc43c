"""scikit-learn's `sklearn.metrics.log_loss` on NumPy arrays, by signature, default, warning and error.

Checked against scikit-learn 1.9, which took the name `y_proba` for what was `y_pred`. Where it departs from the rest of
`xent`, it wins here:

* Probabilities are clipped to eps and 1 - eps, eps that of their dtype, so that no loss is infinite; they are not
  normalised.
* Labels of any sortable kind are matched with the columns in sorted order.
* The result is a Python float. float16, float32 and float64 are computed as they are, everything else, bfloat16
  (of ml_dtypes) too, as float64. A bfloat16 array that a file gives back as ``|V2`` needs ``.view(ml_dtypes.bfloat16)``
  first.
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import xent
from xent.compat._shared import KERNEL_DTYPES, Array, is_bfloat16, named, refuse_masked

__all__ = ["log_loss"]


def log_loss(
    y_true: ArrayLike,
    y_proba: ArrayLike | None = None,
    *,
    normalize: bool = True,
    sample_weight: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    y_pred: Any = "deprecated",
) -> float:
    """``-sum_i s_i log p_{i, y_i} / sum_i s_i``, in nats, p clipped to eps and 1 - eps: `sklearn.metrics.log_loss`.

    Parameters
    ----------
    y_true : array_like
        One label a sample, of any sortable kind; or of shape (N, C), 0 and 1: the indicators of several labels a
        sample, whose losses add.
    y_proba : array_like
        Probabilities of shape (N, C), one column a class in sorted order; of shape (N,) or (N, 1) those of the second
        of two classes.
    normalize : bool, default True
        Give the mean over samples, else the sum.
    sample_weight : array_like of shape (N,), optional
        One weight a sample.
    labels : array_like, optional
        All classes; without it they are those that `y_true` holds.
    y_pred : array_like
        The deprecated name of `y_proba`.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        An operand that is no array, or a `normalize` that is no bool.
    ValueError
        Probabilities outside 0 to 1 or NaN, lengths or classes that do not match, fewer than two classes, labels
        that are not classes, or weights that are NaN or all 0.

    Examples
    --------
    >>> from xent.compat import sklearn
    >>> round(sklearn.log_loss(["spam", "ham"], [[0.25, 0.75], [1.0, 0.0]]), 6)
    0.143841
    """
    if not (isinstance(y_pred, str) and y_pred == "deprecated"):
        if y_proba is not None:
            raise ValueError("log_loss: y_pred is the deprecated name of y_proba; pass one of them")
        warnings.warn("log_loss: y_pred is deprecated, pass y_proba", FutureWarning, stacklevel=2)
        y_proba = y_pred
    if not isinstance(normalize, bool | np.bool_):
        raise TypeError(f"log_loss: normalize must be a bool, not {normalize!r}")
    p = _probabilities(y_proba)
    y = _labels("y_true", y_true)
    if len(y) != len(p):
        raise ValueError(f"log_loss: y_true has {len(y)} samples, y_proba {len(p)}")
    weights = _weights(sample_weight, len(p))
    classes, columns = _classes(y, labels)
    if p.ndim == 1:
        p = p[:, np.newaxis]
    if p.shape[1] == 1:
        p = np.concatenate([1 - p, p], axis=1)
    eps = np.finfo(p.dtype).eps
    if not (np.abs(p.sum(axis=1) - 1) <= np.sqrt(eps)).all():
        warnings.warn("log_loss: rows of y_proba do not sum to 1", UserWarning, stacklevel=2)
    if len(classes) != p.shape[1]:
        raise ValueError(
            f"log_loss: y_proba has {p.shape[1]} columns for the {len(classes)} classes {classes.tolist()}"
            + (": pass all classes as labels" if labels is None else "")
        )
    # rel_entr(1, p) is -log p: no other probability needs a logarithm.
    if columns is None:
        loss = xent.rel_entr(y.astype(p.dtype), np.clip(p, eps, 1 - eps)).sum(axis=1, dtype=np.float64)
    else:
        own = np.take_along_axis(p, columns[:, np.newaxis], axis=1)[:, 0]
        loss = xent.rel_entr(p.dtype.type(1), np.clip(own, eps, 1 - eps)).astype(np.float64)
    if not normalize:
        return float(loss.sum() if weights is None else loss @ weights)
    return float(np.average(loss, weights=weights))


def _probabilities(y_proba: Any) -> Array:
    refuse_masked("log_loss", "y_proba", y_proba)
    p = np.asarray(y_proba)
    if p.ndim == 0 and y_proba is not None:
        raise TypeError(f"log_loss: y_proba must be an array, not {y_proba!r}")
    if p.dtype.kind == "V" and not is_bfloat16(p.dtype):
        raise ValueError(f"log_loss: y_proba must be numbers, not {named(p.dtype)}")
    if p.dtype.kind == "c":
        raise ValueError("log_loss: y_proba must be real, not complex")
    p = p.astype(p.dtype.type if p.dtype.type in KERNEL_DTYPES else np.float64)
    if not np.isfinite(p).all():
        raise ValueError("log_loss: y_proba must be finite numbers")
    if p.ndim not in (1, 2) or len(p) == 0:
        raise ValueError(f"log_loss: y_proba has shape {p.shape}, expected (N, C), (N, 1) or (N,) with samples in it")
    outside = np.argwhere((p < 0) | (p > 1))
    if outside.size:
        at = tuple(int(i) for i in outside[0])
        raise ValueError(f"log_loss: y_proba must be from 0 to 1, got {p[at]} at {at}")
    return p


def _labels(name: str, given: Any) -> Array:
    refuse_masked("log_loss", name, given)
    y = np.asarray(given)
    if y.ndim == 0:
        raise TypeError(f"log_loss: {name} must be an array, not {given!r}")
    if y.dtype.kind in "US" and not hasattr(given, "__array__") and not all(isinstance(v, str | bytes) for v in given):
        raise ValueError(f"log_loss: {name} mixes strings and numbers")
    if y.dtype.kind == "O" and not (all(isinstance(v, str) for v in y.flat) or y.size == 0):
        raise ValueError(f"log_loss: {name} holds objects that are no labels")
    if y.dtype.kind == "f" and not (np.isfinite(y).all() and (y == np.floor(y)).all()):
        raise ValueError(f"log_loss: {name} holds numbers that are no labels; integers, bools and strings are")
    if y.ndim > 2 or (y.ndim == 2 and name == "labels"):
        raise ValueError(f"log_loss: {name} must have one axis, not shape {y.shape}")
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def _weights(sample_weight: ArrayLike | None, samples: int) -> Array | None:
    if sample_weight is None:
        return None
    refuse_masked("log_loss", "sample_weight", sample_weight)
    weights = np.asarray(sample_weight)
    if weights.ndim == 0:
        raise TypeError(f"log_loss: sample_weight must be an array, not {sample_weight!r}")
    if weights.shape != (samples,):
        raise ValueError(f"log_loss: sample_weight has shape {weights.shape}, expected ({samples},)")
    weights = weights.astype(np.float64)
    if not np.isfinite(weights).all() or not weights.any():
        raise ValueError("log_loss: sample_weight must be finite, and not all 0")
    return weights


def _classes(y: Array, labels: ArrayLike | None) -> tuple[Array, Any]:
    """The classes in order, and each sample's column; None for indicators, whose columns are the classes."""
    if y.ndim == 2:
        if labels is not None or not np.isin(y, (0, 1)).all():
            raise ValueError("log_loss: a y_true of two axes must hold 0 and 1, and goes without labels")
        return np.arange(y.shape[1]), None
    if labels is None:
        classes = np.unique(y)
    else:
        given = _labels("labels", labels)
        classes = np.unique(given)
        if len(classes) < len(given):
            raise ValueError(f"log_loss: labels holds a class twice: {given.tolist()}")
        if len(classes) and not np.array_equal(classes, given):
            warnings.warn(
                f"log_loss: the columns of y_proba belong to the sorted classes {classes.tolist()}, not to labels "
                f"as given, {given.tolist()}",
                UserWarning,
                stacklevel=3,
            )
        unknown = ~np.isin(y, classes)
        if unknown.any():
            at = int(np.argmax(unknown))
            raise ValueError(f"log_loss: y_true holds {y[at]} at {at}, which is not in labels, {given.tolist()}")
    if len(classes) < 2:
        raise ValueError(f"log_loss: two classes are needed, got {classes.tolist()}; pass them all as labels")
    return classes, np.searchsorted(classes, y)
