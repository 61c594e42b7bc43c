"""Distillation's T^2 KL where T, or 1 / T, is so large that a kernel's KL of the divided logits no longer tells it.

Warm rows, T far above what their logits differ by: p and q = softmax(y / T) are nearly equal, so that p - q and
log p - log q cancel, and KL underflows beside a T^2 that overflows. With D = x - y less its mean under q, s = D / T and
``psi(s) = 2 (exp(s) - 1 - s) / s^2`` (1 at 0), all is said by differences that nobody divided:
    V = sum_c q_c D_c^2 psi(s_c) / 2,  z = V / T^2 = sum_c q_c (exp(s_c) - 1),  lam = log1p(z) / z
    value    T^2 KL       = V lam
    terms    T^2 q log(q/p) = T q (V lam / T - D)
    gradient T (p - q)    = q d (exp(d / T) - 1) / (d / T), d = D - V lam / T
whose limits, half the variance of the differences and their deviation from the mean over C, need no case of their own.

Cold rows, T so small that a divided logit overflows: T KL has reached its limit long before, so that the kernel is
given a larger temperature T', and T T' in place of T^2.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Chunk: TypeAlias = tuple[Any, Array, Array, Array]

WARM = 1024.0  # up to here the kernel's own gradients are as good as their budget says
COLD = 2.0**-40
# Of a row's largest logit: far from overflow, and from 0.
COLDEST: dict[type[Any], float] = {np.float32: 2.0**-90, np.float64: 2.0**-100}
_MOST_APART = 600.0  # exp(s) and its products stay finite
_ELEMENTS = 1 << 16  # of a chunk of rows, in float64: they stay in a cache


class Rows:
    """Rows of pairs of logits, some of which are picked, in chunks of float64 with the classes in the last axis."""

    def __init__(self, student: Array, teacher: Array, shown: Array | None, axis: int) -> None:
        moved = [np.moveaxis(a, axis, -1) for a in (student, teacher)]
        self.batch, self.classes = moved[0].shape[:-1], moved[0].shape[-1]
        shown = None if shown is None else np.moveaxis(np.broadcast_to(shown, student.shape), axis, -1)
        self._arrays, self._shown, self.axis = moved, shown, axis

    def chunks(self, rows: Any) -> Iterator[Chunk]:
        """(where, x, y, counts) of `rows`, an array of bools of the batch shape; a class that is not there in either
        row, or not shown, does not count and is 0 in both."""
        places = np.flatnonzero(rows)
        step = max(1, _ELEMENTS // max(1, self.classes))
        for start in range(0, places.size, step):
            where = np.unravel_index(places[start : start + step], self.batch) if self.batch else ()
            x, y = (np.asarray(a[where], np.float64).reshape(-1, self.classes) for a in self._arrays)
            counts = ~(np.isneginf(x) & np.isneginf(y))
            if self._shown is not None:
                counts &= self._shown[where].reshape(counts.shape)
            yield where, np.where(counts, x, 0.0), np.where(counts, y, 0.0), counts


def _apart(x: Array, y: Array, counts: Array) -> tuple[Array, Array]:
    """The teacher's rows less their own largest, and x - y less what that is at one class: exactly, then rounded."""
    d = x - y
    back = d - x
    lost = (x - (d - back)) - (y + back)
    top = np.argmax(counts, axis=-1, keepdims=True)
    d = (d - np.take_along_axis(d, top, -1)) + (lost - np.take_along_axis(lost, top, -1))
    y = np.where(counts, y, -np.inf)
    return y - y.max(axis=-1, keepdims=True), np.where(counts, d, 0.0)


def _psi(s: Array) -> Array:
    """2 (exp(s) - 1 - s) / s^2."""
    near = np.abs(s) < 1.0
    series, safe = np.ones_like(s), np.where(near, 1.0, s)
    small = np.where(near, s, 0.0)
    for n in range(20, 2, -1):
        series = 1.0 + small / n * series
    return np.where(near, series, 2.0 * (np.expm1(safe) - safe) / (safe * safe))


def _ratio(function: Callable[[Array], Array], s: Array) -> Array:
    """function(s) / s, 1 at 0."""
    safe = np.where(s == 0.0, 1.0, s)
    return np.where(s == 0.0, 1.0, function(safe) / safe)


class Warm:
    """A call's rows of extreme temperatures: `weights` are what multiplies T^2 KL, `temperature` is one a row."""

    def __init__(self, rows: Rows, temperature: Array, weights: Any) -> None:
        self._rows = rows
        self._temperature = np.broadcast_to(temperature, rows.batch)
        self._weights = np.broadcast_to(weights, rows.batch)
        self._warm = np.array((self._temperature > WARM) & (rows.classes > 0))
        with np.errstate(all="ignore"):
            for where, x, y, counts in rows.chunks(self._warm):
                t = self._temperature[where].reshape(-1)
                _, apart = _apart(x, y, counts)
                spread = np.where(counts, apart, -np.inf).max(axis=-1) - np.where(counts, apart, np.inf).min(axis=-1)
                # Not what is infinite or NaN, nor where no class counts: the kernel says what these are.
                warm = counts.any(axis=-1) & (spread <= _MOST_APART * t)
                self._warm[where] = warm if rows.batch else warm[0]

    def left_over(self, real: type[np.floating[Any]]) -> tuple[Array, Array]:
        """Weights of KL and temperatures for the kernel, which divides in `real`: warm rows weigh nothing."""
        given = self._temperature
        if not self._rows.classes:
            return self._weights, given
        temperature = np.array(given)
        for where, x, y, counts in self._rows.chunks(given < COLD):
            sizes = [np.where(counts & np.isfinite(a), np.abs(a), 0.0).max(axis=-1, initial=0.0) for a in (x, y)]
            t = np.maximum(given[where].reshape(-1), np.maximum(*sizes) * COLDEST[real])
            temperature[where] = t if self._rows.batch else t[0]
        with np.errstate(over="ignore", invalid="ignore"):
            weights = self._weights * given * temperature
        weights = np.where(self._warm | (self._weights == 0.0), 0.0, weights)
        return weights, np.where(self._warm, 1.0, temperature)

    def add(self, value: Any, gradient: Array | None, reduction: str) -> Any:
        """The value or terms or sums, with the warm rows in what the kernel returned of the others; gradients too."""
        batch, axis = self._rows.batch, self._rows.axis
        places = np.moveaxis(value, axis, -1) if reduction == "terms" else value
        slopes_at = None if gradient is None else np.moveaxis(gradient, axis, -1)
        total = np.zeros(self._rows.classes if reduction == "per_class" else ())
        with np.errstate(all="ignore"):
            for where, x, y, counts in self._rows.chunks(self._warm):
                t, w = (a[where].reshape(-1, 1) for a in (self._temperature, self._weights))
                y, apart = _apart(x, y, counts)
                q = np.exp(y / t)
                q /= q.sum(axis=-1, keepdims=True)
                for _ in range(2):  # once more for what the first mean rounds
                    apart -= np.where(counts, np.sum(q * apart, axis=-1, keepdims=True), 0.0)
                psi = _psi(apart / t) / 2.0
                v = np.sum(q * apart * apart * psi, axis=-1, keepdims=True)
                shift = np.sum(q * apart * (apart / t) * psi, axis=-1, keepdims=True)  # V / T, where V is infinite, too
                lam = _ratio(np.log1p, shift / t)
                v, shift = v * lam, shift * lam
                if reduction in ("terms", "per_class"):
                    values = _weighed(counts & (w != 0.0), w, q * (shift - apart) * t)
                else:
                    values = _weighed(w != 0.0, w, v)[:, 0]
                if reduction in ("sum", "per_class"):
                    total = total + values.sum(axis=0)
                elif reduction == "terms" or batch:
                    places[where] = values if batch else values[0]
                else:
                    value = value.dtype.type(values[0])
                if slopes_at is not None:
                    d = apart - shift
                    slopes = _weighed(counts & (w != 0.0), w, q * d * _ratio(np.expm1, d / t))
                    slopes_at[where] = slopes if batch else slopes[0]
            if reduction == "per_class":
                value += total.astype(value.dtype)
            elif reduction == "sum":
                value = value + value.dtype.type(total)
        return value


def _weighed(some: Array, weights: Array, values: Array) -> Array:
    """What weighs nothing adds nothing, be it infinite."""
    return np.where(some, weights * values, 0.0)
