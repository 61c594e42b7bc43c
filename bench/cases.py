"""What is timed: operations, dtypes and shapes, the traffic and the exp and log that each needs, and what is right."""

from __future__ import annotations

import importlib
import importlib.util
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

TEMPERATURE = 2.0
DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
}
if importlib.util.find_spec("ml_dtypes"):
    DTYPES["bfloat16"] = np.dtype(importlib.import_module("ml_dtypes").bfloat16)
HALVES = ("float16", "bfloat16")
# Elements whose rows are compared with the reference: all rows of a small case, some of a large one.
CHECKED = 400_000
# A longer row repeats as many values, so that a reference in a wide type takes no longer than the rest of the bench.
LONGEST_PERIOD = 1_000_000


@dataclass(frozen=True)
class Operation:
    """One line of the table. A count is of what no implementation can do without, an element of the logits."""

    name: str
    xent: str  # the callable's name; "losses.kl_div" for the one with a temperature
    second: str  # "", "labels", "probs", "logits": the operand beside the logits
    reads: int  # arrays of the logits' size
    writes: int
    exps: int
    logs: int
    value: bool  # one value a row is a result

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of what is returned."""
        return ("value",) * self.value + ("array",) * self.writes


# fmt: off
OPERATIONS = {o.name: o for o in (
    #         name                 xent                                      second    read written exp log value
    Operation("logsumexp",         "logsumexp",                                "",       1, 0, 1, 0, True),
    Operation("log_softmax",       "log_softmax",                              "",       1, 1, 1, 0, False),
    Operation("softmax",           "softmax",                                  "",       1, 1, 1, 0, False),
    Operation("ce_labels",         "cross_entropy_with_labels",                "labels", 1, 0, 1, 0, True),
    Operation("ce_soft",           "cross_entropy",                            "probs",  2, 0, 1, 0, True),
    Operation("kl",                "kl_div",                                   "probs",  2, 0, 1, 1, True),
    Operation("kl_logits",         "kl_div_with_logits",                       "logits", 2, 0, 2, 0, True),
    Operation("distill",           "losses.kl_div",                            "logits", 2, 0, 2, 0, True),
    Operation("ce_labels_grad",    "cross_entropy_with_labels_value_and_grad", "labels", 1, 1, 1, 0, True),
    Operation("ce_soft_grad",      "cross_entropy_value_and_grad",             "probs",  2, 1, 1, 0, True),
    Operation("kl_logits_grad",    "kl_div_with_logits_value_and_grad",        "logits", 2, 1, 2, 0, True),
    Operation("softmax_entropy",   "softmax_entropy",                          "",       1, 0, 1, 0, True),
)}
# fmt: on


@dataclass(frozen=True)
class Shape:
    name: str
    dims: tuple[int, ...]
    axis: int = -1

    @property
    def classes(self) -> int:
        return self.dims[self.axis]

    @property
    def size(self) -> int:
        return math.prod(self.dims)

    @property
    def rows(self) -> tuple[int, ...]:
        axis = self.axis % len(self.dims)
        return self.dims[:axis] + self.dims[axis + 1 :]

    @property
    def repeats(self) -> int:
        """How often a row's values come again within it."""
        return max(1, self.classes // LONGEST_PERIOD)

    @property
    def period(self) -> tuple[int, ...]:
        """The shape of the values that are repeated along the class axis."""
        axis = self.axis % len(self.dims)
        return (*self.dims[:axis], self.classes // self.repeats, *self.dims[axis + 1 :])


SHAPES = {
    s.name: s
    for s in (
        Shape("8x10", (8, 10)),
        Shape("64x1000", (64, 1000)),
        Shape("4096x1000", (4096, 1000)),
        Shape("512x32000", (512, 32000)),
        Shape("128x128256", (128, 128256)),
        Shape("1000000x10", (1_000_000, 10)),
        Shape("1000000x3", (1_000_000, 3)),
        Shape("1000x4096@0", (1000, 4096), 0),
        Shape("8x21x256x256@1", (8, 21, 256, 256), 1),
        Shape("1x50000000", (1, 50_000_000)),
    )
}
TINY = "8x10"

QUICK_OPERATIONS = ("logsumexp", "log_softmax", "ce_labels", "ce_soft", "kl", "distill", "ce_labels_grad")
QUICK_SHAPES = (TINY, "64x1000", "512x32000", "1000000x10")
QUICK_DTYPES = ("float32",)


@dataclass
class Data:
    """The operands of one shape and dtype, and outputs to be reused; made when first asked for."""

    shape: Shape
    dtype: str
    seed: int = 0
    _rng: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    @property
    def axis(self) -> int:
        return self.shape.axis

    def _wide(self) -> type:
        """The type that operands are made in: theirs, or float32 for 16 bits."""
        return np.float64 if self.dtype == "float64" else np.float32

    def _made(self, period: Array) -> Array:
        whole = np.concatenate([period] * self.shape.repeats, axis=self.axis) if self.shape.repeats > 1 else period
        return whole.astype(DTYPES[self.dtype], copy=False)

    def _normal(self, scale: float) -> Array:
        a: Array = self._rng.standard_normal(self.shape.period, self._wide())
        a *= scale
        return a

    @cached_property
    def x(self) -> Array:
        return self._made(self._normal(3.0))

    @cached_property
    def y(self) -> Array:
        return self._made(self._normal(1.0) + one_period(self.x, self.shape))

    @cached_property
    def t(self) -> Array:
        t: Any = one_period(self.y, self.shape).astype(self._wide())
        t -= t.max(axis=self.axis, keepdims=True)
        np.exp(t, out=t)
        t /= t.sum(axis=self.axis, keepdims=True) * self.shape.repeats
        return self._made(t)

    @cached_property
    def labels(self) -> Array:
        return self._rng.integers(0, self.shape.classes // self.shape.repeats, self.shape.rows)

    def second(self, operation: Operation) -> Any:
        """The operand beside the logits."""
        if not operation.second:
            return None
        return getattr(self, {"labels": "labels", "probs": "t", "logits": "y"}[operation.second])

    def new_value(self) -> Array:
        return np.zeros(self.shape.rows, DTYPES[self.dtype])

    def new_array(self) -> Array:
        # Not zeros: those pages would be there only when first written, inside a timing.
        return np.full(self.shape.dims, 1, DTYPES[self.dtype])


def traffic(operation: Operation, shape: Shape, dtype: str) -> tuple[int, int]:
    """Bytes that have to be read and written."""
    item, rows = DTYPES[dtype].itemsize, math.prod(shape.rows)
    labels = 8 * rows if operation.second == "labels" else 0
    return (
        operation.reads * shape.size * item + labels,
        operation.writes * shape.size * item + operation.value * rows * item,
    )


def sampled_rows(shape: Shape) -> Array:
    """Row numbers, first and last among them, of about CHECKED elements."""
    rows = math.prod(shape.rows)
    return np.unique(np.linspace(0, rows - 1, max(2, min(rows, CHECKED // shape.classes))).astype(np.intp))


def one_period(a: Array, shape: Shape) -> Array:
    """The first of the repeated parts of an array of the logits' shape."""
    axis = shape.axis % len(shape.dims)
    return a[(slice(None),) * axis + (slice(shape.period[axis]),)]


def take_rows(a: Array, shape: Shape, which: Array) -> Array:
    """Those rows of an array of the logits' shape, (rows, classes)."""
    index = np.unravel_index(which, shape.rows)
    return np.moveaxis(a, shape.axis, -1)[index]


def finfo(dtype: str) -> Any:
    """NumPy's, which bfloat16 has in its own package."""
    return importlib.import_module("ml_dtypes").finfo(dtype) if dtype == "bfloat16" else np.finfo(dtype)


Reference: TypeAlias = dict[str, tuple[Array, Array]]


def reference(operation: Operation, data: Data, which: Array) -> Reference:
    """The results of those rows in a wider type, each with the scale of its rounding: sum |what is added|.

    Of a row that repeats its values, one period.
    """
    wide = np.longdouble if data.dtype == "float64" else np.float64
    temperature = TEMPERATURE if operation.name == "distill" else 1.0
    repeats = data.shape.repeats

    def rows(a: Array) -> Array:
        return take_rows(one_period(a, data.shape), data.shape, which).astype(wide)

    def total(a: Array) -> Array:
        return np.asarray(repeats * a.sum(axis=-1))

    def normalised(a: Array) -> tuple[Array, Array, Array, Array]:
        largest = a.argmax(axis=-1, keepdims=True)
        m = np.take_along_axis(a, largest, -1)
        e = np.exp(a - m)
        # log1p of the others: the logarithm of a sum that is nearly 1 has lost their digits.
        np.put_along_axis(e, largest, 0, -1)
        others = total(e)[..., None] + (repeats - 1)
        np.put_along_axis(e, largest, 1, -1)
        return a - m - np.log1p(others), e / (1 + others), m, np.log1p(others)

    x = rows(data.x) / temperature
    log_p, p, m, log_s = normalised(x)
    below = np.abs(x - m) + log_s
    if operation.name == "logsumexp":
        return {"value": ((m + log_s)[..., 0], (np.abs(m) + log_s)[..., 0])}
    if operation.name == "log_softmax":
        return {"array": (log_p, below)}
    if operation.name == "softmax":
        return {"array": (p, p)}
    if operation.name == "softmax_entropy":
        return {"value": (-total(p * log_p), total(p * below))}
    if operation.second == "labels":
        at = (np.arange(len(which)), data.labels.ravel()[which])
        t = np.zeros_like(x)
        t[at] = 1
        value, scale = -log_p[at], below[at]
    elif operation.second == "probs":
        t = rows(data.t)
        value, scale = -total(t * log_p), total(t * below)
    else:
        y = rows(data.y) / temperature
        log_t, t, _, _ = normalised(y)
        value, scale = total(t * (log_t - log_p)), total(np.abs(t * (log_t - log_p)))
    if operation.name == "kl":
        log_t = np.log(np.where(t > 0, t, 1))
        whole = total(t)
        # The divergence of what the target is when it is normalised; its own sum is 1 but for rounding.
        value = total(t * (log_t - log_p)) - whole * np.log(np.where(whole > 0, whole, 1))
        scale = total(np.abs(t * (log_t - log_p)))
    result = {"value": (value, scale)}
    if operation.writes:
        # A label is in one period only: the first, by the range that labels are drawn from.
        mass = t.sum(axis=-1) if operation.second == "labels" else total(t)
        result["array"] = (p * mass[..., None] - t, p + t)
    return result


def largest_error(got: dict[str, Array], wanted: Reference, data: Data, which: Array, slack: float = 0.0) -> float:
    """In units of eps of the dtype times (scale + slack); NaN where a value is not a number."""
    info, worst = finfo(data.dtype), 0.0
    for name, result in got.items():
        exact, scale = wanted[name]
        if name == "array":
            rows = take_rows(one_period(result, data.shape), data.shape, which)
        else:
            rows = result.reshape(-1)[which]
        # The reference rounds too: it adds numbers of the size of 1 in its own type.
        wider = float(np.finfo(exact.dtype).eps / float(info.eps))
        # Below the normal range the spacing is that of the smallest normal number.
        unit = float(info.eps) * np.maximum(scale + max(slack, wider), float(info.tiny))
        worst = float(np.maximum(worst, np.max(np.abs(rows.astype(exact.dtype) - exact) / unit)))
    return worst
