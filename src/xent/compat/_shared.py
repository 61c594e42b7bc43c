"""What several doors need: the other libraries' promotion, wide sums, and their products of 0 and infinity."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import xent

Array: TypeAlias = NDArray[Any]
Axis: TypeAlias = int | tuple[int, ...] | None

KERNEL_DTYPES: tuple[type, ...] = (np.float16, np.float32, np.float64)
FLOATS = "float16, bfloat16, float32 or float64"


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether this is the bfloat16 of ml_dtypes, which nobody here has to have loaded."""
    return dtype.kind == "V" and dtype.name == "bfloat16"


def is_kernel_float(array: Array) -> bool:
    """Whether the dtype, in either byte order, is one that the kernels compute."""
    return array.dtype.type in KERNEL_DTYPES or is_bfloat16(array.dtype)


def is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or is_bfloat16(array.dtype)


def named(dtype: np.dtype[Any]) -> str:
    """The dtype for a message; one that a file has made of bfloat16 with the way back."""
    if dtype == np.dtype("V2"):
        return f"{dtype}; if a file had bfloat16 in it, pass the array's .view(ml_dtypes.bfloat16)"
    return str(dtype)


def widened(array: Array) -> Array:
    """bfloat16 as float32, which holds it exactly and which NumPy's functions know; anything else as it is."""
    return array.astype(np.float32) if is_bfloat16(array.dtype) else array


def rounded(value: Any, dtype: np.dtype[Any]) -> Any:
    """A result in the dtype that the library gives: of 16-bit operands `xent.losses` has wider scalars."""
    with np.errstate(over="ignore"):
        return np.asarray(value).astype(dtype.newbyteorder("="), copy=False)[()]


def refuse_masked(function: str, name: str, value: object) -> None:
    """TypeError for masked arrays: none of the libraries looks at the mask, so it would be lost without a word."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{function}: {name} is a masked array, whose mask would be ignored; pass its data")


def nan_beside_inf(result: Array, x: Array, axis: Axis) -> Array:
    """The softmax of x, or its logarithm, as where the maximum is subtracted: NaN throughout a row that holds +inf."""
    if np.isfinite(x).all():
        return result
    return np.where(np.isposinf(x).any(axis, keepdims=True), result.dtype.type(np.nan), result)


def broadcasts_to(shape: tuple[int, ...], onto: tuple[int, ...]) -> bool:
    """Whether an operand of `shape` broadcasts with one of `onto` without widening it."""
    try:
        return np.broadcast_shapes(shape, onto) == onto
    except ValueError:
        return False


def float_dtype(*arrays: Array) -> np.dtype[Any]:
    """The widest floating dtype: in PyTorch and JAX, unlike NumPy, an integer or bool operand does not widen it.

    float16 and bfloat16, of which neither holds the other, make float32.
    """
    dtypes = {array.dtype.newbyteorder("=") for array in arrays if is_float(array)}
    if len(dtypes) > 1:
        dtypes = {np.dtype(np.float32) if is_bfloat16(dtype) else dtype for dtype in dtypes}
    return np.result_type(*dtypes)


def total(
    terms: Array, axis: Axis = None, where: Array | None = None, *, dtype: np.dtype[Any], divisor: int = 1
) -> Any:
    """A sum accumulated in float64 and rounded once; over a divisor of 0 it is NaN, without a warning."""
    # Infinities of both signs may meet, and a float16 result overflow, as they do in the libraries.
    with np.errstate(invalid="ignore", over="ignore"):
        summed = np.sum(widened(terms), axis=axis, dtype=np.float64, where=True if where is None else where)
        return (np.float64(summed) / divisor).astype(dtype)


def kl_terms(log_probs: Array, target: Array) -> Array:
    """``t (log t - x)`` as PyTorch and optax have it: not 0 but NaN where t = 0 meets an x that is not finite.

    Of bfloat16 they are float32.
    """
    log_probs, target = widened(log_probs), widened(target)
    dtype = float_dtype(log_probs, target)
    terms: Array = xent.kl_pointwise(log_probs.astype(dtype, copy=False), target.astype(dtype, copy=False))
    if np.isfinite(log_probs).all():
        return terms
    return np.where((target == 0) & ~np.isfinite(log_probs), np.asarray(np.nan, terms.dtype), terms)


def kl_terms_from_logs(log_probs: Array, log_target: Array) -> Array:
    """``exp(lt) (lt - x)``: NaN at lt = -inf, as PyTorch and optax have it. Of bfloat16 it is float32.

    The exponential is one of the target's own dtype, in which it may overflow.
    """
    log_probs, log_target = widened(log_probs), widened(log_target)
    with np.errstate(invalid="ignore", over="ignore"):
        terms: Array = np.exp(log_target).astype(float_dtype(log_probs, log_target)) * (log_target - log_probs)
    return terms


def cross_entropy(x: Array, t: Array, axis: Axis, where: Array | None = None, *, safe: bool = False) -> Array:
    """``-sum t log_softmax(x)`` of operands of one shape, as libraries that multiply have it where one is not finite.

    There a factor of 0 at a logit of -inf is a NaN (unless `safe`: a target of 0 counts for nothing), as the whole row
    is where a logit is +inf; and an infinite target has its own sign.
    """
    loss = np.asarray(xent.cross_entropy(x, t, axis=axis, where=where))
    odd = ~(np.isfinite(x) & np.isfinite(t))
    if not odd.any():
        return loss
    selected: Any = True if where is None else where
    log_probs = xent.log_softmax(x.astype(np.float64), axis=axis, where=where)
    lost = np.any(np.isposinf(x), axis=axis, where=selected, keepdims=True)
    with np.errstate(invalid="ignore"):
        terms = np.where(lost, np.nan, log_probs) * t.astype(np.float64)
        if safe:
            terms = np.where(t == 0, 0, terms)
        plain = -np.sum(terms, axis=axis, where=selected)
    return np.where(np.any(odd, axis=axis, where=selected), rounded(plain, loss.dtype), loss)
