"""SciPy's functions on NumPy arrays: `scipy.special` logsumexp, softmax, log_softmax, rel_entr, kl_div; `scipy.stats`
entropy, by signature, default (``axis=None``: the whole array), dtype and error.

Checked against SciPy 1.17. Where SciPy departs from the rest of `xent`, SciPy wins here:

* `rel_entr` and `kl_div` take a negative value for an infinite divergence, +inf; `kl_div` adds ``y - x`` to each term;
  both compute float16 and small integers in, and give, float32.
* `entropy` normalises what it is given, silently; it is -inf where a normalised probability is negative.
* `softmax` of a row that holds +inf is NaN throughout. A maximum over no elements is a ValueError; bool is a TypeError
  for `softmax` and `log_softmax`, and their integers of 8 and 16 bits give float16 and float32.
* A sum of weighted exponentials that is negative has no real logarithm: NaN without ``return_sign``.

No warnings are raised for infinities and NaN. A masked array, whose mask SciPy would ignore, is refused.

bfloat16 (of ml_dtypes) does what SciPy makes of it: `logsumexp` gives float64, `softmax` and `log_softmax` bfloat16,
`rel_entr` and `kl_div` float32, and `entropy` is a TypeError. A bfloat16 array that a file gives back as ``|V2`` needs
``.view(ml_dtypes.bfloat16)`` first.

Weighted sums (``b``) take the kernels' softmax; complex numbers and long doubles, which no kernel reads, go through
NumPy.
"""

import math
from typing import Any, Literal

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.typing import ArrayLike

import xent
from xent.compat._shared import (
    Array,
    Axis,
    is_bfloat16,
    is_kernel_float,
    named,
    nan_beside_inf,
    refuse_masked,
    total,
    widened,
)

__all__ = ["entropy", "kl_div", "log_softmax", "logsumexp", "rel_entr", "softmax"]


def _array(function: str, name: str, value: ArrayLike) -> Array:
    refuse_masked(function, name, value)
    array = np.asarray(value)
    if array.dtype.kind not in "biufc" and not is_bfloat16(array.dtype):
        raise TypeError(f"{function}: {name} must be numbers, not {named(array.dtype)}")
    return array


# ---------------------------------------------------------------------------------------------------------------------
# logsumexp and softmax


def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
) -> Any:
    """``log sum b exp(a)``, in nats: `scipy.special.logsumexp`.

    Parameters
    ----------
    a : array_like
        Real or complex.
    axis : int, tuple of ints or None, default None
        The axes to sum over; None for all.
    b : array_like, optional
        Factors, which broadcast with `a`, also negative ones. One of 0 leaves its element out, whatever that is.
    keepdims : bool, default False
        Keep the axes with length 1.
    return_sign : bool, default False
        Also return the sign of the sum, or its phase if it is complex; without it a negative sum gives NaN.

    Returns
    -------
    result : ndarray or NumPy scalar
        The logarithm of the sum, with `return_sign` of its absolute value.
    sign : ndarray or NumPy scalar
        With `return_sign`: 1, 0 or -1, or a complex number of absolute value 1 or 0.

    Raises
    ------
    TypeError
        An operand that holds no numbers, or an axis that is none.
    ValueError
        Shapes that do not broadcast, or an axis out of range or given twice.

    Examples
    --------
    >>> from xent.compat import scipy
    >>> scipy.logsumexp([[0.0, -50.0], [3.0, 3.0]], axis=1)
    array([1.92874985e-22, 3.69314718e+00])
    >>> scipy.logsumexp([0, 0], b=[1, -3], return_sign=True)
    (np.float64(0.6931471805599453), np.float64(-1.0))
    """
    name = "logsumexp"
    x = np.atleast_1d(_array(name, "a", a))
    w = None if b is None else _array(name, "b", b)
    x = x.astype(np.float64) if is_bfloat16(x.dtype) else x
    w = w.astype(np.float64) if w is not None and is_bfloat16(w.dtype) else w
    # A Python number does not widen the other operand; an array without dimensions does.
    held = [(a, x)] if w is None else [(a, x), (b, w)]
    dtype = np.result_type(*(given if isinstance(given, int | float | complex) else array for given, array in held))
    if w is not None:
        try:
            x, w = np.broadcast_arrays(x, w)
        except ValueError:
            raise ValueError(f"{name}: a {x.shape} and b {w.shape} do not broadcast") from None
    if dtype.kind in "biu":
        dtype = np.dtype(np.float64)
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
    x = x.astype(dtype.newbyteorder("="), copy=False)
    w = None if w is None else w.astype(x.dtype, copy=False)
    if w is None and is_kernel_float(x):
        result = xent.logsumexp(x, axis=axes, keepdims=keepdims)
        if not return_sign:
            return result
        sign = np.where(np.isnan(result), result, np.asarray(result) > -np.inf).astype(dtype)
        if not x.size:
            sign = np.sign(result)
        return result, sign[()]
    result, sign = _weighted(x, w, axes, keepdims, return_sign)
    if not return_sign:
        return result.astype(dtype)[()]
    real = dtype.type(0).real.dtype
    return result.astype(real)[()], sign.astype(dtype)[()]


def _weighted(a: Array, b: Array | None, axes: tuple[int, ...], keepdims: bool, absolute: bool) -> tuple[Array, Array]:
    """log (sum b exp(a)), with `absolute` log |sum b exp(a)|; and the sign of the sum.

    With one largest element m taken out the sum is ``exp(a_m) b_m (1 + s)``, where s sums ``b / b_m exp(a - a_m)`` over
    the others: log1p keeps an s that is tiny beside 1.
    """
    given = a.dtype
    wide, unweighted = np.result_type(a.dtype, np.float64), b is None
    a, b = a.astype(wide, copy=False), None if b is None else b.astype(wide, copy=False)
    kept = [i for i in range(a.ndim) if i not in axes]
    shape = [1 if i in axes else n for i, n in enumerate(a.shape)] if keepdims else [a.shape[i] for i in kept]
    rows = [a.shape[i] for i in kept]
    count = math.prod(a.shape[i] for i in axes)
    a = np.transpose(a, (*kept, *axes)).reshape(*rows, count)
    b = np.ones((), a.dtype) if b is None else np.transpose(b, (*kept, *axes)).reshape(*rows, count)
    if count == 0:
        return np.full(shape, -np.inf), np.full(shape, -1.0)
    x = np.where(b == 0, -np.inf, a)
    b = np.broadcast_to(b, x.shape)
    is_complex = x.dtype.kind == "c"
    at = np.argmax(x.real, axis=-1, keepdims=True)
    top, factor = np.take_along_axis(x, at, -1), np.take_along_axis(b, at, -1)
    with np.errstate(all="ignore"):
        if is_kernel_float(x):
            p = xent.softmax(x)
            relative = p / np.take_along_axis(p, at, -1)
        else:
            relative = np.exp(x - top)
        terms = b / factor * relative
        np.put_along_axis(terms, at, 0, -1)
        s = terms.sum(-1)
        top, factor = top[..., 0], factor[..., 0]
        size = np.log(np.abs(1 + s)) if is_complex else np.log1p(s)
        size = np.where(s.real < -1, np.log(np.abs(1 + s)), size.real)
        result = top.real + np.log(np.abs(factor)) + size
        sign = np.sign(factor) * np.sign(1 + s)
        if is_complex:
            sign = sign * np.exp(1j * top.imag)
        if not absolute:
            result = result + 1j * np.angle(sign) if is_complex else np.where(sign < 0, np.nan, result)
        # Infinities have no element to take out; what SciPy says then is what the plain sum in the operands' own dtype
        # says, in which a weight of 0 leaves nothing out.
        result, sign = np.array(result), np.array(sign)
        infinite = ~np.isfinite(result)
        if infinite.any():
            a, b = (v[infinite].astype(given) for v in (np.broadcast_to(a, x.shape), b))
            plain = (np.exp(a) if unweighted else b * np.exp(a)).sum(-1)
            size = np.abs(plain)
            result[infinite] = np.log(size if absolute else plain)
            sign[infinite] = np.where(size == 0, 0, plain / size) if is_complex else np.sign(plain)
            if is_complex and not absolute:  # a phase of NaN makes NaN of the size, too
                result[np.isnan(result.imag)] = complex(np.nan, np.nan)
    return result.reshape(shape), sign.reshape(shape)


def _softmax(operation: Any, function: str, x: ArrayLike, axis: Axis) -> tuple[Array, Any]:
    """The operand and the kernel's result, None where NumPy has to compute it."""
    array = _array(function, "x", x)
    if array.dtype.kind == "b":
        raise TypeError(f"{function}: x must be numbers, not bool")
    if array.size == 0:
        np.max(array, axis=axis)  # ValueError where there is no maximum to subtract
    if array.dtype.kind in "iu":
        array = array.astype(np.result_type(array, np.float16))
    if not is_kernel_float(array):
        return array, None
    return array, operation(np.atleast_1d(array), axis=axis).reshape(array.shape)


def softmax(x: ArrayLike, axis: Axis = None) -> Any:
    """``exp(x) / sum exp(x)``: `scipy.special.softmax`.

    Parameters
    ----------
    x : array_like
        Real or complex.
    axis : int, tuple of ints or None, default None
        The axes to sum over; None for all.

    Returns
    -------
    ndarray or NumPy scalar
        Of the shape of `x`.

    Raises
    ------
    TypeError
        `x` is bool or holds no numbers.
    ValueError
        A sum over no elements, or an axis out of range or given twice.

    Examples
    --------
    >>> from xent.compat import scipy
    >>> scipy.softmax([[0.0, 0.0], [0.0, 0.0]])
    array([[0.25, 0.25],
           [0.25, 0.25]])
    """
    array, result = _softmax(xent.softmax, "softmax", x, axis)
    if result is None:
        with np.errstate(all="ignore"):
            e = np.exp(array - np.max(array, axis=axis, keepdims=True))
            return e / np.sum(e, axis=axis, keepdims=True)
    return nan_beside_inf(result, array, axis)[()]


def log_softmax(x: ArrayLike, axis: Axis = None) -> Any:
    """``x - log sum exp(x)``, in nats: `scipy.special.log_softmax`; parameters and errors are those of `softmax`.

    Examples
    --------
    >>> from xent.compat import scipy
    >>> scipy.log_softmax([1000.0, 1.0])
    array([   0., -999.])
    """
    array, result = _softmax(xent.log_softmax, "log_softmax", x, axis)
    if result is None:
        with np.errstate(all="ignore"):
            top = np.max(array, axis=axis, keepdims=True)
            shifted = array - np.where(np.isfinite(top), top, 0)
            return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
    return result[()]


# ---------------------------------------------------------------------------------------------------------------------
# Divergences


def rel_entr(x: ArrayLike, y: ArrayLike, /, out: Array | None = None, *, where: ArrayLike = True) -> Any:
    """``x log(x / y)`` element by element, in nats: `scipy.special.rel_entr`.

    Parameters
    ----------
    x, y : array_like
        They broadcast.
    out : ndarray, optional
        Where to put the result.
    where : array_like of bool, default True
        Which elements to compute; the others stay what `out` holds.

    Returns
    -------
    ndarray or NumPy scalar
        0 for x = 0, y >= 0; +inf where x or y is negative, or y alone is 0.

    Raises
    ------
    TypeError
        Operands that are not real, or long doubles.
    ValueError
        Shapes that do not broadcast.

    Examples
    --------
    >>> from xent.compat import scipy
    >>> scipy.rel_entr([1.0, 0.0, -1.0], [0.5, 0.5, 0.5])
    array([0.69314718, 0.        ,        inf])
    """
    x, y = _known("rel_entr", "x", x), _known("rel_entr", "y", y)
    return xent.rel_entr(x, y, out=out, where=where, dtype=np.float32 if _single(x, y) else None)


def _known(function: str, name: str, value: Any) -> Any:
    """bfloat16 as float32; other arrays without a meaning as numbers are refused, and masked ones."""
    refuse_masked(function, name, value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "V":
        return widened(_array(function, name, value))
    return value


def _single(*operands: Any) -> bool:
    """Whether SciPy computes in float32: where every operand, widened by Python's numbers alone, fits in it."""
    numbers = [a for a in operands if isinstance(a, int | float | complex)]
    dtypes = [np.result_type(np.asarray(a), *numbers) for a in operands if not isinstance(a, int | float | complex)]
    return bool(dtypes) and all(np.can_cast(dtype, np.float32) for dtype in dtypes)


def kl_div(x: ArrayLike, y: ArrayLike, /, out: Array | None = None, *, where: ArrayLike = True) -> Any:
    """``x log(x / y) - x + y`` element by element, in nats: `scipy.special.kl_div`.

    Parameters and errors are those of `rel_entr`. float32 is computed in float64, as SciPy does.

    Examples
    --------
    >>> from xent.compat import scipy
    >>> scipy.kl_div([1.0, 0.0], [0.5, 0.5])
    array([0.19314718, 0.5       ])
    """
    x, y = _known("kl_div", "x", x), _known("kl_div", "y", y)
    single = _single(x, y)
    p, q = (np.asarray(a, np.float64 if single else None) for a in (x, y))
    terms = xent.rel_entr(p, q)
    inside = ((p > 0) & (q > 0)) | ((p == 0) & (q >= 0))
    with np.errstate(all="ignore"):
        result = np.where(inside, terms - p + q, terms)
        # SciPy's quotient may overflow or vanish where the divergence does not.
        ratio = np.divide(p, q)
        far = inside & (p > 0) & ((ratio == 0) | np.isinf(ratio)) & np.isfinite(p) & np.isfinite(q)
        result = np.where(far, p * np.log(ratio) - p + q, result)
        result = result.astype(np.float32 if single else np.float64)
    if out is None:
        return result[()]
    np.copyto(out, result, where=np.asarray(where), casting="same_kind")
    return out


def entropy(
    pk: ArrayLike,
    qk: ArrayLike | None = None,
    base: float | None = None,
    axis: Axis = 0,
    *,
    nan_policy: Literal["propagate", "omit", "raise"] = "propagate",
    keepdims: bool = False,
) -> Any:
    """``-sum p log p``, or ``sum p log(p / q)``, of what is first normalised: `scipy.stats.entropy`.

    Parameters
    ----------
    pk : array_like
        Probabilities, or anything proportional to them.
    qk : array_like, optional
        The same; broadcasts with `pk`. With it the result is the divergence KL(p, q).
    base : float, optional
        Positive: the result is divided by its logarithm, else it is in nats.
    axis : int, tuple of ints or None, default 0
        The axes that a distribution runs along; None for all.
    nan_policy : {"propagate", "omit", "raise"}, default "propagate"
        What a NaN does: make its distribution's result NaN, leave out the element (of both operands), or raise.
    keepdims : bool, default False
        Keep the axes with length 1.

    Returns
    -------
    ndarray or NumPy scalar
        float32 for float16 and float32 operands, else float64.

    Raises
    ------
    TypeError
        Operands that are not real, or long doubles.
    ValueError
        Shapes that do not broadcast, a `base` that is not positive, an unknown `nan_policy`, a NaN with "raise", or
        an axis out of range or given twice.

    Examples
    --------
    >>> from xent.compat import scipy
    >>> scipy.entropy([1, 1], base=2)
    np.float64(1.0)
    >>> scipy.entropy([0.5, 0.5], [0.3, 0.3])
    np.float64(0.0)
    """
    name = "entropy"
    if base is not None and base <= 0:
        raise ValueError(f"{name}: base must be positive or None, got {base}")
    if nan_policy not in ("propagate", "omit", "raise"):
        raise ValueError(f"{name}: nan_policy must be propagate, omit or raise, got {nan_policy!r}")
    operands = [np.atleast_1d(_array(name, "pk", pk))]
    if qk is not None:
        operands.append(np.atleast_1d(_array(name, "qk", qk)))
    ndim = max(a.ndim for a in operands)
    if axis is None:
        operands = [a.ravel() for a in operands]  # before they are broadcast, not after
    if qk is not None:
        try:
            operands = list(np.broadcast_arrays(*operands))
        except ValueError:
            raise ValueError(f"{name}: pk {operands[0].shape} and qk {operands[1].shape} do not broadcast") from None
    if any(is_bfloat16(a.dtype) for a in operands):
        raise TypeError(f"{name}: SciPy does not take bfloat16 here; pass .astype(np.float32)")
    dtype = np.result_type(*operands)
    dtype = np.dtype(np.float64) if dtype.kind in "biu" else np.result_type(dtype, np.float32)
    if dtype.type not in (np.float32, np.float64):
        raise TypeError(f"{name}: pk and qk must be integers, float16, float32 or float64, not {dtype}")
    axes = normalize_axis_tuple(range(operands[0].ndim) if axis is None else axis, operands[0].ndim)
    missing = np.logical_or.reduce([np.isnan(a) for a in operands])
    if nan_policy == "raise" and missing.any():
        at = tuple(int(i) for i in np.argwhere(missing)[0])
        raise ValueError(f"{name}: nan_policy='raise', and there is a NaN at {at}")
    if nan_policy == "omit":
        operands = [np.where(missing, 0, a) for a in operands]
    with np.errstate(invalid="ignore", divide="ignore"):
        p, *q = (np.divide(a, np.sum(a, axis=axes, keepdims=True), dtype=dtype) for a in operands)
        if q:
            result = total(xent.rel_entr(p, *q), axes, dtype=dtype)
        else:
            negative = (p < 0).any(axes) & ~np.isnan(p).any(axes)
            result = np.where(negative, dtype.type(-np.inf), xent.entropy(p, axis=axes))
        if nan_policy == "omit":
            result = np.where(missing.all(axes), dtype.type(0), result)
        if base is not None:
            result = np.divide(result, math.log(base), dtype=dtype)
    if keepdims:
        result = np.expand_dims(result, tuple(range(ndim)) if axis is None else axes)
    return result[()]
