"""Which number is that? What two arrays hold, and what the losses of each library make of them.

Every number comes from `xent` itself, products of its softmax among them, or from a door of `xent.compat`; Keras, which
has none, from its published formula. A relation to the divergence is given only where it holds for the arrays at hand
within rounding: of a call whose arguments are as it takes them, for its value; of any other, for the value with the
arguments put right.
"""

import html
import math
import operator
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import ArrayLike, NDArray

import xent
from xent import losses
from xent._core import as_array
from xent._reading import (
    BLOCK,
    KIND_NAMES,
    LOGS,
    UNITS,
    Kind,
    Labels,
    Look,
    Place,
    Reading,
    Tick,
    as_float64,
    blocks_of,
    in_runs,
    is_whole,
    kinds_of,
    look_at,
    number,
    read_labels,
    row_sums,
    untold,
)
from xent.compat import gluon, optax, scipy, torch
from xent.compat._shared import is_kernel_float, refuse_masked

__all__ = ["Call", "Explanation", "Reading", "explain"]

Array: TypeAlias = NDArray[Any]

KERAS_EPSILON = 1e-7
WIDTH = 110
LIMIT = 1 << 17  # elements up to which the calls of the table are made of everything
FEWEST, MOST, THIN = 1 << 13, 1 << 16, 512  # elements, evenly spaced, of which they are made beyond: one in THIN
MOST_CLASSES = 1 << 20  # numbers without an axis of classes that may be one row
SHOW_AFTER = 2.0  # seconds until progress is shown
NO_LOSS = "no loss"  # in the place of a quantity

ODD_LOGS = set(LOGS) - {"log_probs"}
ODD_UNITS = {"percent", "neg_probs", "weights"}


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two arrays: how it reads, and how to write and compute what it says in another form.

    `source` is the array in Python. `array` holds float64 or, where the array was of integers, those; `axis` is its
    class axis and `written` how that is written for the array as the caller has it. They differ where rows were taken
    out of the array.
    """

    reading: Reading
    source: str
    array: Array
    axis: int
    written: int
    classes: int
    missed: float
    is_prediction: bool
    look: Look
    labels: Labels = field(default_factory=Labels)
    made: tuple[Array, int] | None = None  # the array with the rows that do not count, and its axis, if there are such
    forms: dict[str, tuple[str, Array]] = field(default_factory=dict)  # what `converted` has made so far

    @property
    def kind(self) -> str:
        return self.reading.kind

    @property
    def name(self) -> str:
        return self.reading.name

    @property
    def rows(self) -> Array:
        """The array with the axis of classes, if it has one, last."""
        return self.array if self.kind == "labels" else np.moveaxis(self.array, self.axis, -1)

    def along(self, text: str) -> str:
        """A call that gets axis= where the classes are not last."""
        return text if self.written == -1 else f"{text[:-1]}, axis={self.written})"

    def of(self, array: Array, axis: int, made: tuple[Array, int] | None = None) -> "Side":
        """The same of other rows."""
        return replace(self, array=array, axis=axis, made=made, forms={})

    def text(self, need: str) -> str:
        """How what `need` wants is written, which no row has to be converted for."""
        shape = (0,) if self.kind == "labels" else (0, self.classes)
        return self.of(as_float64(np.zeros(shape, self.array.dtype)), -1).converted(need)[0]

    def departure(self, need: str, as_prediction: bool) -> str:
        """What is wrong with the array where `need` is wanted; empty if nothing is."""
        kind = self.kind
        is_log, wants_log = (form in ("logits", "log_probs") for form in (kind, need))
        if kind == "labels":
            wrong = "holds labels" if need != "classes" else "counts its labels from 1" if self.labels.base else ""
        elif kind in ODD_LOGS or (kind in ODD_UNITS and not wants_log) or (kind == "logits" and need != "logits"):
            wrong = f"holds {KIND_NAMES[kind]}"
        elif is_log != wants_log:
            wrong = "is in log space" if is_log else "is not in log space"
        else:
            wrong = "is not normalised" if as_prediction and need != "logits" and not self.reading.normalised else ""
        return f"{self.name} {wrong}" if wrong else ""

    def converted(self, need: str) -> tuple[str, Array]:
        """The array as `need` wants it: how that is written in Python, and the values."""
        if need not in self.forms:
            self.forms[need] = self.convert(need)
        return self.forms[need]

    def convert(self, need: str) -> tuple[str, Array]:
        text, x, kind = self.source, self.array, self.kind
        # A target is taken as it is; a prediction has to be a distribution.
        loose = self.is_prediction and self.reading.normalised is False

        def divided(text: str, x: Array) -> tuple[str, Array]:
            return f"{text} / {text}.sum({self.written}, keepdims=True)", x / x.sum(self.axis, keepdims=True)

        if kind == "labels":
            x = x.astype(np.int64) - self.labels.base
            text = f"{text}.astype(np.int64)" if self.reading.dtype != "int64" else text
            text = f"{text} - {self.labels.base}" if self.labels.base else text
            if need == "classes":
                return text, x
            # Of a whole vocabulary a unit matrix would be gigabytes.
            n, x = self.classes, (x[..., None] == np.arange(self.classes)).astype(np.float64)
            text = f"np.eye({n})[{text}]" if n <= 1000 else f"1.0 * (({text})[..., None] == np.arange({n}))"
            if self.written != -1:
                text = f"np.moveaxis({text}, -1, {self.written})"
            x, kind = np.moveaxis(x, -1, self.axis), "one_hot"
        elif is_whole(self.array):
            text, x = f"{text}.astype(float)", x.astype(np.float64)
        if kind in LOGS:
            factor, how, _ = LOGS[kind]
            text, x, kind = how.format(text), x * factor, "log_probs"
        elif kind in UNITS:
            # Percentages that sum to about 100 are a distribution all the same.
            text = {"percent": f"{text} / 100", "neg_probs": f"-{text}"}.get(kind, text)
            x, kind = x / UNITS[kind], "probs"
        elif kind == "weights":
            (text, x), kind = divided(text, x), "probs"
        if need == "classes":
            need = "probs"
        bare = text if text.isidentifier() else f"({text})"
        if kind in ("probs", "one_hot") and need != "probs":
            text, x, kind = f"np.log({text})", np.log(x), "logits" if loose else "log_probs"
        if need == "logits" or (kind == need and not loose) or (kind == "one_hot" and need == "probs"):
            return text, x
        if need == "log_probs":
            return self.along(f"xent.log_softmax({text})"), xent.log_softmax(x, axis=self.axis)
        if kind == "probs":
            return divided(bare, x)
        if kind == "log_probs" and not loose:
            return f"np.exp({text})", np.exp(x)
        return self.along(f"xent.softmax({text})"), xent.softmax(x, axis=self.axis)


# ---------------------------------------------------------------------------------------------------------------------
# What the libraries compute


@dataclass(frozen=True)
class Numbers:
    """What the relations are written in, and how far rounding may carry a value from them."""

    kl: float
    reverse: float
    entropy: float
    cross_entropy: float
    rows: int
    classes: int
    shape: tuple[int, ...]
    rounding: float
    target: str  # the name of the argument that is the target

    def within(self, value: float, expected: float, scale: float) -> bool:
        if not (math.isfinite(value) and math.isfinite(expected) and math.isfinite(scale)):
            return value == expected
        return abs(value - expected) <= scale * self.rounding

    @cached_property
    def formulas(self) -> dict[str, "Formula"]:
        """What calls give, by what they do with the divergence of each row."""
        first, n = self.shape[0], "" if self.rows == 1 else "N "
        axis = "the only axis, the classes" if len(self.shape) == 1 else f"the first axis of length {first}"
        found = {
            "nothing": Formula("KL"),
            "normalise": Formula("KL", "normalises both arrays itself"),
            "clip": Formula("KL", "clips both arrays at 1e-7"),
            "sum": Formula("N KL", "summed over the rows", self.rows),
            "by first axis": Formula(f"{n}KL / {first}", f"divided by {axis}", self.rows / first),
            "by classes": Formula("KL / C", "divided by the number of classes", 1 / self.classes),
            "Gluon": Formula("KL / C", "divided by the number of classes; adds 1e-12", 1 / self.classes),
            "add entropy": Formula(f"KL + H({self.target})", "adds the target's entropy", plus_entropy=True),
        }
        if self.entropy == 0:
            found["add entropy"] = Formula("KL", "as the target's entropy, which it adds, is 0")
        for name in ("sum", "by first axis", "by classes"):
            if found[name].factor == 1:
                found[name] = found["nothing"]
        return found


@dataclass(frozen=True)
class Formula:
    """``factor KL``, or ``factor KL + H(target)``, in words."""

    text: str
    comment: str = ""
    factor: float = 1.0
    plus_entropy: bool = False

    def __str__(self) -> str:
        return f"{self.text}, {self.comment}" if self.comment else self.text

    def value(self, m: Numbers, reverse: bool = False) -> float:
        return self.factor * (m.reverse if reverse else m.kl) + (m.entropy if self.plus_entropy else 0.0)

    def holds(self, value: float, m: Numbers, slack: float = 0.0, reverse: bool = False) -> bool:
        expected = self.value(m, reverse)
        scale = 1 + (abs(m.reverse) + 2 * math.log(m.classes) if reverse else abs(m.cross_entropy) + abs(m.entropy))
        return m.within(value, expected, self.factor * scale + slack / m.rounding)


@dataclass(frozen=True)
class Row:
    """A library's call. `takes`: the forms of prediction and target; `target_first`: the order of its arguments."""

    call: str
    function: Callable[[Array, Array, int], Any]
    takes: tuple[str, str]
    formula: str
    target_first: bool = False
    swapped: bool = False  # as it is written here, the array named input is where the target belongs
    slack: float = 0.0

    def of(self, prediction: Array, target: Array, axis: int) -> tuple[Array | None, str | None]:
        return evaluate(self.function, *((target, prediction) if self.target_first else (prediction, target)), axis)


def torch_kl(x: Array, t: Array, axis: int, *, reduction: str, log_target: bool) -> Any:
    return torch.kl_div(x, t, reduction=reduction, log_target=log_target)


def torch_ce(x: Array, t: Array, axis: int) -> Any:
    # PyTorch's class axis is the second.
    ndim = max(x.ndim, t.ndim)
    x, t = (np.moveaxis(a, axis, 1) if a.ndim == ndim > 1 else a for a in (x, t))
    return torch.cross_entropy(x, t)


def gluon_ce(x: Array, t: Array, axis: int) -> Any:
    return gluon.SoftmaxCELoss(axis=axis, sparse_label=t.ndim < x.ndim)(x, t).mean()


def rel_entr_sum(p: Array, q: Array, axis: int) -> Any:
    return scipy.rel_entr(p, q).sum()


def mean_entropy(p: Array, q: Array, axis: int) -> Any:
    return scipy.entropy(p, q, axis=axis).mean()


def keras_kl(y_true: Array, y_pred: Array, axis: int) -> Any:
    """``sum t log(t / p)``, t and p clipped to 1e-7 and 1: keras.losses.kl_divergence, as its documentation spells it.

    https://keras.io/api/losses/probabilistic_losses/#kl_divergence-function; `KLDivergence` averages it over all rows.
    """
    t, p = (np.clip(a, KERAS_EPSILON, 1.0) for a in (y_true, y_pred))
    return scipy.rel_entr(t, p).sum(axis).mean()


def rows_of_table() -> list[Row]:
    probs, logs = ("probs", "probs"), ("log_probs", "probs")
    reductions = {"mean": "by classes", "batchmean": "by first axis", "sum": "sum", "none": "sum"}
    rows = []
    for log_target, takes in ((False, logs), (True, ("log_probs", "log_probs"))):
        for reduction, formula in reductions.items():
            call = f"torch kl_div {reduction}{', log_target' if log_target else ''}"
            rows.append(Row(call, partial(torch_kl, reduction=reduction, log_target=log_target), takes, formula))
    return [
        *rows,
        Row("torch cross_entropy", torch_ce, ("logits", "classes"), "add entropy"),
        Row("Gluon SoftmaxCELoss", gluon_ce, ("logits", "classes"), "add entropy"),
        Row("Gluon KLDivLoss", lambda x, t, axis: gluon.KLDivLoss(axis=axis)(x, t).mean(), logs, "Gluon", slack=1e-12),
        Row("optax kl_divergence", lambda x, t, axis: optax.kl_divergence(x, t, axis=axis).mean(), logs, "nothing"),
        Row("SciPy rel_entr(target, input).sum()", rel_entr_sum, probs, "sum", target_first=True),
        Row("SciPy rel_entr(input, target).sum()", rel_entr_sum, probs, "sum", target_first=True, swapped=True),
        Row("SciPy entropy(target, input)", mean_entropy, probs, "normalise", target_first=True),
        Row("SciPy entropy(input, target)", mean_entropy, probs, "normalise", target_first=True, swapped=True),
        Row("Keras KLDivergence(target, input)", keras_kl, probs, "clip", target_first=True),
    ]


@dataclass(frozen=True)
class Call:
    """What a call gives: part of an `Explanation`.

    `value` in nats (None for an array, whose `shape` is given, and where the call is refused); `is_kl` whether that is
    KL(target, prediction); `relation` to it, in words; `estimated` whether the value is that of some of the rows only.
    """

    call: str
    value: float | None
    shape: tuple[int, ...] | None
    refused: str | None
    is_kl: bool
    relation: str
    estimated: bool = False

    @property
    def shown(self) -> str:
        if self.refused is not None:
            return "error"
        if self.value is None:
            return "x".join(map(str, self.shape or ())) + " array"
        return f"~{self.value + 0.0:.3g}" if self.estimated else number(self.value)


def evaluate(function: Callable[..., Any], *arguments: Any) -> tuple[Array | None, str | None]:
    """The value of a call, or the message with which it is refused."""
    # PyTorch's door warns, as PyTorch does, that "mean" is not the divergence; that is in the table.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return np.asarray(function(*arguments)), None
        except (TypeError, ValueError, IndexError, RuntimeError) as error:
            return None, str(error)


def in_all(value: Array | None) -> float:
    return math.nan if value is None else float(value.sum(dtype=np.float64))


def bounded(x: Array, zero: Array) -> Array:
    """-inf, where the target is 0, as a number whose exponential is 0 all the same: nothing is 0 times infinity."""
    return np.where(zero & np.isneginf(x), np.asarray(-1e4, x.dtype), x) if x.shape == zero.shape else x


def relate(row: Row, a: Side, b: Side, m: Numbers, of: Numbers) -> Call:
    """The call on the arrays as they are, `a` where it takes the prediction and `b` where it takes the target.

    The sides are the rows that count, all of them or, of large arrays, evenly spaced ones, of which `of` has the
    numbers. Then a call whose relation holds for these has the value that follows for all rows, and any other the one
    of these.
    """
    (x, axis), (y, _) = (side.made or (side.array, side.axis) for side in (a, b))
    value, refused = row.of(x, y, axis)
    total, swapped = in_all(value), not a.is_prediction
    formula, here = (numbers.formulas[row.formula] for numbers in (m, of))
    p, t = (b, a) if swapped else (a, b)
    # SciPy's entropy normalises by itself.
    departures = (a.departure(row.takes[0], row.function is not mean_entropy), b.departure(row.takes[1], False))
    wrong = [text for text in departures if text]
    skip = t.labels.skip
    if not wrong and skip is not None and (refused is not None or not here.holds(total, of, row.slack)):
        wrong = [f"{t.name} holds {skip}, which stands for no class"]
    if refused is not None and not wrong:
        odd = [side for side in (p, t) if is_whole(side.array) or side.kind == "labels"]
        wrong = [f"{side.name} is of dtype {side.reading.dtype}" for side in odd] or [refused]
    exact, relation = False, None
    if wrong:
        (p_text, x), (t_text, y) = p.converted(row.takes[0]), t.converted(row.takes[1])
        relation = "arguments swapped" if swapped else "; ".join(wrong)
        changed = [new for new, side in ((p_text, p), (t_text, t)) if new != side.name]
        if skip is not None:
            changed.append(f"the rows of {skip} left out")
        left, of_left = m, of
        if skip is not None and t.written == -1:  # the first axis is then that of the rows
            left, of_left = (replace(numbers, shape=(numbers.rows, numbers.classes)) for numbers in (m, of))
        plain = replace(left.formulas[row.formula], comment="")
        of_these = meaning(row, row.of(x, y, t.axis)[0], x, y, t, of_left, plain)[1]
        if of_these is not None:
            arguments = f"({t_text}, {p_text})" if row.target_first else f"({p_text}, {t_text})"
            with_these = arguments if swapped or len(changed) != 1 else changed[0]
            if skip is not None and len(changed) > 1:
                with_these += f", {changed[-1]},"
            relation += f": with {with_these} {of_these}"
    elif not swapped:
        exact, relation = meaning(row, value, x, y, t, of, formula)
    elif here.holds(total, of, row.slack, reverse=True):
        exact, relation = True, "arguments swapped: " + formula.text.replace("KL", f"KL(prediction, {m.target})")
    sampled = of is not m
    shape, shown = None, None
    if value is not None and value.ndim:
        shape = m.shape if sampled else value.shape
    elif value is not None:
        shown = formula.value(m, swapped) if sampled and exact else float(value)
    is_kl = exact and not swapped and shown is not None and formula.factor == 1 and not formula.plus_entropy
    estimated = sampled and not exact and shown is not None and math.isfinite(shown)
    return Call(row.call, shown, shape, refused, is_kl, relation or "no simple relation to KL here", estimated)


def meaning(
    row: Row, value: Array | None, x: Array, y: Array, t: Side, m: Numbers, words: Formula
) -> tuple[bool, str | None]:
    """What the call's value of prediction and target as it takes them is: whether its formula exactly, and in words."""
    if value is None:
        return False, None
    formula, total = m.formulas[row.formula], in_all(value)
    if formula.holds(total, m, row.slack):
        return True, f"the terms of {words.text}" if value.ndim else f"= {words}"
    if np.isnan(value).any():
        zero = t.converted("probs")[1] == 0
        if formula.holds(in_all(row.of(bounded(x, zero), bounded(y, zero), t.axis)[0]), m, row.slack):
            return False, f"NaN where 0 meets infinity, else {words.text}"
    elif row.function is keras_kl:
        clipped = sum(int(((a < KERAS_EPSILON) | (a > 1)).sum()) for a in (x, y))
        if clipped and formula.holds(in_all(scipy.rel_entr(y, x)) / m.rows, m):
            return False, f"clipped at 1e-7 ({clipped} of {x.size + y.size} elements), else KL"
    elif row.function is mean_entropy:
        # SciPy divides its arguments by their sums.
        unit = t.converted("probs")[1]
        unit = unit / unit.sum(t.axis, keepdims=True)
        kl = in_all(scipy.rel_entr(unit, x)) / m.rows
        if m.within(total, kl, 1 + abs(m.cross_entropy) + abs(m.entropy)):
            return False, "normalises silently: KL of the target divided by its sum"
    return False, None


# ---------------------------------------------------------------------------------------------------------------------
# The result


@dataclass(frozen=True)
class Alternative:
    """Another reading of the two arrays that fits them as well, and what is right under it."""

    reading: str
    quantity: str
    value: float
    use: str

    def __post_init__(self) -> None:
        # What would be NaN is not advised.
        if math.isnan(self.value):
            object.__setattr__(self, "use", "")

    def __str__(self) -> str:
        value = f" = {number(self.value)} nats, by {self.use}" if self.use else " is NaN"
        return f"{self.reading}: {self.quantity}{'' if self.quantity == NO_LOSS else value}"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Explanation:
    """What `explain` found; print it, or show it in a notebook.

    Attributes
    ----------
    input, target : Reading
        What the arrays look like.
    swapped : bool
        Whether `input` looks like the target, and `target` like the prediction; it is then read so.
    axis, rows, classes : int
        The class axis, how many rows count (N) and how many classes there are (C).
    loss : str
        What these arrays are for: "kl_div", "binary_cross_entropy", or "none" where no loss takes them.
    value : float
        What `use` gives: the divergence, or the binary cross-entropy, a mean over the rows, in nats.
    unclear : bool
        Whether the arrays can be read in several ways. The numbers are then those of the first, and `alternatives` has
        the others.
    alternatives : tuple of Alternative
        The readings that fit as well.
    kl, reverse, entropy, cross_entropy : float
        KL(target, prediction), KL(prediction, target), H(target) and the cross-entropy, means over the rows, in nats;
        NaN where `loss` is not "kl_div".
    prediction : str
        The prediction as probabilities, in Python.
    per_class : ndarray of shape (C,)
        What each class adds to `kl`; empty where `loss` is not "kl_div".
    pitfalls : tuple of str
        What these arrays run into, the worst first.
    calls : tuple of Call
        What each library's call gives.
    use : str
        The one call to use; empty where there is none, also where its value would be NaN.
    sampled : int
        0, or of large arrays the number of rows of which the calls are made; the numbers above are always of all.
    """

    input: Reading
    target: Reading
    swapped: bool
    axis: int
    rows: int
    classes: int
    prediction: str
    kl: float = math.nan
    reverse: float = math.nan
    entropy: float = math.nan
    cross_entropy: float = math.nan
    per_class: Array = field(default_factory=lambda: np.zeros(0))
    pitfalls: tuple[str, ...]
    calls: tuple[Call, ...]
    use: str
    loss: str = "kl_div"
    value: float = math.nan
    alternatives: tuple[Alternative, ...] = ()
    reading: str = ""
    sampled: int = 0
    normalised_kl: float | None = None  # of the target divided by its sums, where those are not 1

    @property
    def unclear(self) -> bool:
        return bool(self.alternatives)

    @property
    def summary(self) -> str:
        """The number, what it is of, and the numbers that it is taken for."""
        under = "Under reading 1: " if self.unclear else ""
        if self.loss == "none":
            return f"{under}no loss is defined between these arrays."
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        size = f"the mean of N = {rows} of C = {self.classes} {'class' if self.classes == 1 else 'classes'}"
        start = f"{under}{self.quantity} = {number(self.value)} nats"
        if self.loss == "binary_cross_entropy":
            return (
                f"{start}, {size}, summed over a row's classes; divided by C, as PyTorch's mean is: "
                f"{number(self.value / self.classes)}. A KL divergence is not defined: these rows are no distributions "
                "over the classes."
            )
        target = "input" if self.swapped else "target"
        if self.normalised_kl is not None:
            start += (
                f" (of a {target} whose rows do not sum to 1, so this is no divergence and may be negative; of "
                f"{target} divided by its sums it is {number(self.normalised_kl)})"
            )
        return (
            f"{start}, {size}; the prediction is {self.prediction}. H({target}) = {number(self.entropy)}, "
            f"cross-entropy = {number(self.cross_entropy)}; the other way round, KL(prediction, {target}) = "
            f"{number(self.reverse)}."
        )

    @property
    def advice(self) -> tuple[tuple[str, str], ...]:
        """What to read first, each line with the word that it starts with."""
        lines: list[tuple[str, str]] = []
        if self.unclear:
            lines.append(("unclear", "The arrays do not decide how they are to be read:"))
            readings = [Alternative(self.reading, self.quantity, self.value, self.use), *self.alternatives]
            lines += [(f"({i})", str(text)) for i, text in enumerate(readings, 1)]
        elif self.use:
            lines.append(("use", self.use))
        lines += [("pitfall", text) for text in self.pitfalls]
        return tuple(lines)

    @property
    def quantity(self) -> str:
        if self.loss == "kl_div":
            return f"KL({'input' if self.swapped else 'target'}, prediction)"
        return "binary cross-entropy" if self.loss == "binary_cross_entropy" else NO_LOSS

    @property
    def heading(self) -> str:
        """Over the calls' relations."""
        to, that = "KL", "the divergence"
        if self.loss == "binary_cross_entropy":
            to, that = "BCE, the binary cross-entropy", "that"
        return f"relation to {to}{' of reading 1' if self.unclear else ''}; ! is not {that}"

    @property
    def note(self) -> str:
        rows = f"{self.sampled} rows only, evenly spaced, with the extremes; relations were checked on these rows"
        return f"~ is of {rows}." if self.sampled else ""

    def __str__(self) -> str:
        lines = []
        for word, text in self.advice:
            lines += wrapped(f"{word:8}", text)
        lines += wrapped(f"{'KL' if self.loss == 'kl_div' else 'loss':8}", self.summary)
        for reading in (self.input, self.target):
            lines += wrapped(f"{reading.name:8}", f"{reading.dtype} {reading.shape}, {reading}")
        if not self.calls:
            return "\n".join(lines)
        name = max(len(call.call) for call in self.calls)
        value = max(len(call.shown) for call in self.calls)
        lines += wrapped(f"{'sample':8}", self.note)
        lines += [f"  {'call':{name}}  {'value':>{value}}  {self.heading}", "-" * WIDTH]
        for call in self.calls:
            mark = " " if call.is_kl else "!"
            lines += wrapped(f"{mark} {call.call:{name}}  {call.shown:>{value}}  ", call.relation)
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def cells(tag: str, texts: Sequence[str]) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"

        def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
            return f"<table>{cells('th', head)}{''.join(cells('td', line) for line in body)}</table>"

        readings = [(r.name, r.dtype, str(r.shape), str(r)) for r in (self.input, self.target)]
        calls = [("" if c.is_kl else "!", c.call, c.shown, c.relation) for c in self.calls]
        lines = [(word, html.escape(text)) for word, text in self.advice]
        items = [f"use <code>{text}</code>" if word == "use" else f"{word}: {text}" for word, text in lines]
        return (
            f"{'<ul><li>' + '</li><li>'.join(items) + '</li></ul>' if items else ''}<p>{html.escape(self.summary)}</p>"
            f"{table(('array', 'dtype', 'shape', 'looks like'), readings)}"
            f"{f'<p>{html.escape(self.note)}</p>' if self.note else ''}"
            f"{table(('', 'call', 'value', self.heading), calls) if calls else ''}"
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain dicts, lists, strings and numbers (infinities and NaN among them)."""
        record = asdict(self)
        record["per_class"] = self.per_class.tolist()
        for item in (record["input"], record["target"], *record["calls"]):
            item["shape"] = None if item["shape"] is None else list(item["shape"])
        lists = {name: list(record[name]) for name in ("pitfalls", "calls", "alternatives")}
        return record | lists | {"unclear": self.unclear, "advice": [list(line) for line in self.advice]}

    def plot(self, ax: Any = None) -> Any:
        """What each class adds to the divergence, drawn with matplotlib; terms may be negative, their sum is KL.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure's without it.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            `loss` is not "kl_div": there is no divergence to draw.
        """
        if self.loss != "kl_div":
            raise ValueError(f"Explanation.plot draws a divergence, and for these arrays loss is {self.loss!r}")
        if ax is None:
            try:
                from matplotlib import pyplot
            except ImportError as error:
                raise ImportError("Explanation.plot draws with matplotlib: pip install matplotlib") from error
            ax = pyplot.subplots()[1]
        # Steps, not bars: a vocabulary of 100,000 classes is two polygons.
        edges = np.arange(self.classes + 1) - 0.5
        ax.stairs(np.maximum(self.per_class, 0), edges, fill=True, label="target above prediction")
        ax.stairs(np.minimum(self.per_class, 0), edges, fill=True, label="target below prediction")
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set(xlabel="class", ylabel="nats, mean over rows", title=f"per-class terms, in all KL = {self.kl:.6g}")
        ax.legend()
        return ax


def wrapped(start: str, text: str) -> list[str]:
    width, rest = max(WIDTH, len(start) + 40), " " * len(start)
    return textwrap.wrap(
        text, width, initial_indent=start, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


# ---------------------------------------------------------------------------------------------------------------------
# The numbers, a block of rows at a time


class Progress:
    """How far explain is, on stderr, once it has taken a while and somebody may be looking."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.start, self.shown = max(total, 1), 0, time.monotonic(), -1
        self.wanted = sys.stderr is not None and sys.stderr.isatty()
        self.lock = Lock()

    def tick(self, elements: int) -> None:
        """From any thread."""
        if not self.wanted:
            return
        with self.lock:
            self.done = min(self.done + elements, self.total)
            percent = 100 * self.done // self.total
            if percent > self.shown and time.monotonic() - self.start >= SHOW_AFTER:
                print(f"\rexplain: {percent:3} %", end="", file=sys.stderr, flush=True)
                self.shown = percent

    def close(self) -> None:
        if self.shown >= 0:
            print("\r" + " " * 20 + "\r", end="", file=sys.stderr, flush=True)


def in_order(p: Side, t: Side) -> tuple[Side, Side]:
    """As they are given to `explain`."""
    return (p, t) if p.name == "input" else (t, p)


def piece(p: Side, t: Side, place: Place, taken: Callable[[Array], Array] = as_float64) -> tuple[Side, Side]:
    """The rows at `place` that count, C classes along the last axis."""
    x, y = taken(p.rows[place]).reshape(-1, p.classes), taken(t.rows[place])
    y = y.reshape(-1) if t.kind == "labels" else y.reshape(-1, t.classes)
    if t.labels.skip is not None:
        kept = y != t.labels.skip
        x, y = x[kept], y[kept]
    return p.of(x, -1), t.of(y, -1)


class Sums(NamedTuple):
    """Over the rows that count."""

    kl: float = 0.0
    reverse: float = 0.0
    entropy: float = 0.0
    cross_entropy: float = 0.0
    of_normalised: float = 0.0  # KL of a target divided by its sums
    rows: int = 0
    per_class: Array | float = 0.0


def sums_by_kernels(p: Side, t: Side) -> Sums:
    """The sums as xent's losses make them, whose digits hold also where the terms cancel or are infinite."""
    logits, as_logits = (side.converted("logits")[1] for side in (p, t))
    reverse = float(losses.kl_div(as_logits, logits, target_kind="logits", reduction="sum"))
    if t.kind == "labels":
        classes = t.converted("classes")[1]
        by_row, per_class = (losses.cross_entropy(logits, classes, reduction=each) for each in ("none", "per_class"))
        kl = float(np.sum(by_row))
        return Sums(kl, reverse, 0.0, kl, 0.0, len(by_row), per_class)
    probs, of_normalised = t.converted("probs")[1], 0.0
    # The kernel that normalises both, so that what is equal differs by nothing.
    kl = float(losses.kl_div(logits, as_logits, target_kind="logits", reduction="sum"))
    per_class = losses.kl_div(logits, as_logits, target_kind="logits", reduction="per_class")
    if t.reading.normalised is False:
        kl, of_normalised = float(losses.kl_div(logits, probs, reduction="sum")), kl
        per_class = losses.kl_div(logits, probs, reduction="per_class")
    elif t.kind != "logits":
        probs = probs / probs.sum(-1, keepdims=True)
    cross_entropy = float(losses.cross_entropy(logits, probs, reduction="sum"))
    entropy = 0.0 if t.kind == "one_hot" else float(np.sum(xent.entropy(probs)))
    return Sums(kl, reverse, entropy, cross_entropy, of_normalised, len(logits), per_class)


@dataclass(frozen=True)
class Scores:
    """Rows as the sums are made of them: their log-probabilities are ``z - lse``, and `z` is 0 where p is."""

    z: Array
    lse: Array
    p: Array
    mass: Array | None  # what the rows sum to, where that is not 1
    gone: Any  # where p is 0; False if nowhere


def scores_of(side: Side, rows: Array, desk: Array) -> Scores:
    """Of some of its rows, in the two of `desk`: fresh temporaries would cost more than what is computed."""
    x, other = desk[:, : rows.size].reshape(2, -1, side.classes)
    np.copyto(x.reshape(rows.shape), rows, casting="unsafe")
    if side.kind == "logits" or side.kind in LOGS:
        if side.kind in ODD_LOGS:
            x *= LOGS[side.kind][0]
        top = x.max(-1, keepdims=True)
        z = np.subtract(x, top, out=x)
        p = xent.softmax(z, out=other)
        lse = -np.log(p.max(-1))
        mass = np.exp(top[:, 0] + lse)
    else:
        if side.kind in ("percent", "neg_probs"):
            x /= UNITS[side.kind]
        mass = row_sums(x)
        z, lse, p = np.log(x, out=other), np.log(mass), np.divide(x, mass[:, None], out=x)
    gone = z == -np.inf if z.min() == -np.inf else np.False_
    z[gone] = 0
    unnormalised = not side.is_prediction and side.reading.normalised is False
    return Scores(z, lse, p, mass if unnormalised else None, gone)


def sums_of_labels(p: Side, t: Side, place: Place) -> Sums | None:
    """The sums of labels, or None where the kernels have to decide."""
    wide = p.array.dtype.kind == "f" and p.array.dtype.itemsize > 2
    if t.kind == "labels" and t.labels.skip is None and p.kind in ("logits", "log_probs") and wide:
        logits, classes = p.rows[place].reshape(-1, p.classes), t.array[place].reshape(-1)
        classes = classes.astype(np.int64, copy=False) - t.labels.base
    else:
        x, y = piece(p, t, place)
        logits = x.converted("logits")[1]
        classes = y.array.argmax(-1) if t.kind == "one_hot" else y.converted("classes")[1]
    if not len(logits):
        return Sums()
    by_row = losses.cross_entropy(logits, classes, reduction="none", dtype=np.float64)
    kl = float(by_row.sum())
    if p.classes == 1 or not np.isfinite(logits.min()) or not math.isfinite(kl):
        return None
    # Each class has something of a finite row's prediction, and all but one have nothing of the target.
    return Sums(kl, math.inf, 0.0, kl, 0.0, len(by_row), np.bincount(classes, by_row, p.classes))


def sums_of_two(a: Scores, b: Scores) -> Sums | None:
    """The sums by products, in a third of the time that a kernel for each would take.

    A divergence is a difference of two sums here. Where it is small beside them, or not finite: None.
    """
    gap = np.subtract(b.z, a.z, out=b.z)
    gap += (a.lse - b.lse)[:, None]  # log target - log prediction
    per_class = np.einsum("ij,ij->j", b.p, gap)
    kl = of_normalised = float(per_class.sum())
    cross = float(a.lse.sum() - np.einsum("ij,ij->", b.p, a.z))
    reverse = -float(np.einsum("ij,ij->", a.p, gap))
    scale = 1e-6 * (len(gap) + abs(cross) + abs(cross - kl))
    # NaN compares as False.
    if not all(abs(total) >= scale for total in (kl, cross, cross - kl, reverse)):
        return None
    if b.mass is not None:
        gap += np.log(b.mass)[:, None]
        np.multiply(b.p, b.mass[:, None], out=b.p)
        per_class = np.einsum("ij,ij->j", b.p, gap)
        kl = float(per_class.sum())
        cross = float((b.mass * a.lse).sum() - np.einsum("ij,ij->", b.p, a.z))
    entropy = cross - kl
    hidden = a.gone & ~b.gone
    if hidden.any():
        kl = cross = of_normalised = math.inf
        per_class[hidden.any(0)] = math.inf
    if (b.gone & ~a.gone).any():
        reverse = math.inf
    return Sums(kl, reverse, entropy, cross, of_normalised, len(gap), per_class)


def means_of(p: Side, t: Side, tick: Tick = untold) -> Sums:
    """The sums over all rows that count, divided by how many those are; in float64 whatever the arrays' dtypes, blocks
    side by side on the threads."""
    labels = t.kind in ("labels", "one_hot")
    x, y = p.rows, t.rows

    def one(run: list[Place]) -> tuple[list[list[float]], Array]:
        found, per_class, desk = [], np.zeros(p.classes), np.empty((4, max(BLOCK, p.classes)))
        for place in run:
            if labels:
                sums = sums_of_labels(p, t, place)
            else:
                sums = sums_of_two(scores_of(p, x[place], desk[:2]), scores_of(t, y[place], desk[2:]))
            if sums is None:
                sums = sums_by_kernels(*piece(p, t, place))
            *totals, terms = sums
            per_class += terms
            found.append(totals)
            tick(sums.rows * p.classes)
        return found, per_class

    runs = in_runs(list(blocks_of(x.shape[:-1], p.classes)), one)
    of_blocks = [totals for found, _ in runs for totals in found]
    *totals, rows = (total_of(column) for column in zip(*of_blocks, strict=True))
    per_class = np.sum([terms for _, terms in runs], 0) / rows
    return Sums._make([*(total / rows for total in totals), int(rows), per_class])


def total_of(values: Sequence[float]) -> float:
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # infinities of both signs, or beyond the largest float
        return float(np.sum(values))


def numbers_of(means: Sums, p: Side, t: Side) -> Numbers:
    # 16 for the chain of roundings, the rest for sums that miss 1 by theirs.
    rounding = float(np.finfo(np.float64).eps) * (20 + math.sqrt(p.classes))
    rounding += sum(side.missed for side in (p, t) if side.reading.normalised)
    return Numbers(*means[:4], means.rows, p.classes, p.array.shape, rounding, t.name)


def call_to_use(p: Side, t: Side) -> str:
    """The one call that gives the divergence, as it is written."""
    options: dict[str, Any] = {} if t.written == -1 else {"axis": t.written}
    function = "kl_div"
    if t.kind == "labels":
        function, text = "cross_entropy", t.text("classes")
        if t.labels.skip is not None:
            options["ignore_index"] = t.labels.skip - t.labels.base
    elif t.kind == "one_hot" and is_whole(t.array):
        function, text = "cross_entropy", f"{t.name}.argmax({t.written})"
    elif t.kind == "logits":
        options["target_kind"], text = "logits", t.name
    elif t.kind in LOGS:
        options["target_kind"], text = "log_probs", t.text("log_probs")
    else:
        text = t.text("probs")
    written = "".join(f", {key}={value!r}" for key, value in options.items())
    return f"xent.losses.{function}({p.text('logits')}, {text}{written})"


def own_calls(p: Side, t: Side, m: Numbers, of: Numbers) -> list[Call]:
    """xent's three calls on the rows that count, their relations as those of the other libraries' calls."""
    logits, probs, formula = p.converted("logits")[1], t.converted("probs")[1], m.formulas["add entropy"]
    kl = in_all(xent.kl_pointwise(p.converted("log_probs")[1], probs)) / of.rows
    cross = float(losses.cross_entropy(logits, t.converted("classes")[1], axis=p.axis))
    entropy = 0.0 if t.kind == "labels" else in_all(xent.entropy(probs, axis=t.axis)) / of.rows
    its_own = formula.holds(of.kl + entropy, of) and m.entropy >= 0
    calls = []
    for call, here, in_full, holds, is_kl, words in (
        ("kl_div", kl, m.kl, Formula("KL").holds(kl, of), True, "= KL"),
        ("cross_entropy", cross, m.cross_entropy, formula.holds(cross, of), not formula.plus_entropy, f"= {formula}"),
        ("entropy", entropy, m.entropy, its_own, False, f"H({m.target}), of the target alone"),
    ):
        relation = words if holds else "no simple relation to KL here"
        estimated = of is not m and not holds and math.isfinite(here)
        calls.append(Call(f"xent {call}", in_full if holds else here, None, None, holds and is_kl, relation, estimated))
    return calls


def places_where(p: Side, t: Side, condition: Callable[[Side, Side], Array]) -> str | None:
    """How many elements meet a condition, and where the first one is; None if there is none."""
    count, size, first = 0, 0, None
    batch = p.rows.shape[:-1]
    for place in blocks_of(batch, p.classes):
        found = condition(*piece(p, t, place, np.asarray))
        here = int(np.count_nonzero(found))
        count, size = count + here, size + found.size
        if first is None and here:
            row, column = np.argwhere(found)[0]
            at = np.arange(math.prod(batch)).reshape(batch)[place].reshape(-1)
            if t.labels.skip is not None:
                at = at[t.array[place].reshape(-1) != t.labels.skip]
            index = [*np.unravel_index(at[row], batch)] if batch else []
            index.insert(p.axis % p.array.ndim, column)
            first = tuple(int(i) for i in index)
    return None if first is None else f"{count} of {size} elements, the first at {first}"


# ---------------------------------------------------------------------------------------------------------------------
# What to say


def has_none(side: Side) -> Array:
    """Where a class has no probability at all; what is finite in logs has one, too small for a float though it be."""
    if side.kind == "labels":
        return np.asarray(side.converted("classes")[1][:, None] != np.arange(side.classes))
    if side.kind == "logits" or side.kind in LOGS:
        return np.asarray(side.array == -math.copysign(math.inf, LOGS.get(side.kind, LOGS["log_probs"])[0]))
    return np.asarray(side.array == 0)


def all_have_none(side: Side) -> Array:
    """Where no class of a row has."""
    found = has_none(side)
    return np.broadcast_to(found.all(-1, keepdims=True), found.shape)


def pitfalls_of(p: Side, t: Side, m: Numbers, calls: dict[str, Call]) -> Iterator[str]:
    """What these arrays run into, the worst first; `calls` by name."""
    a, b, skip = p.reading, t.reading, t.labels.skip
    batchmean, mean = calls["torch kl_div batchmean"], calls["torch kl_div mean"]

    def places(side: Side, condition: Callable[[Side], Array]) -> str | None:
        return places_where(p, t, lambda u, v: condition(u if side is p else v))

    for side in (p, t):
        if side.look.nan_rows and (where := places(side, lambda u: np.isnan(u.array))):
            yield f"{side.name} holds NaN: {where}. No mean survives it."
        if side.look.high == math.inf and (where := places(side, lambda u: np.isposinf(u.array))):
            yield (
                f"{side.name} holds +inf: {where}. softmax is NaN in such a row, and so is every mean over it; no loss "
                "of these arrays means anything before that is mended."
            )
    for side in (p, t) if math.isnan(m.kl) else ():
        if side.kind != "labels" and (where := places(side, all_have_none)):
            yield f"{side.name} has rows that leave no class any probability: {where}."
    if p.name == "target":
        yield (
            f"The arguments look swapped: input holds {KIND_NAMES[b.kind]}, target {KIND_NAMES[a.kind]}. Here, in "
            "PyTorch, Gluon and optax the prediction comes first, in SciPy and Keras the target. Below, target is read "
            "as the prediction."
        )
    for side in (p, t):
        held = f"{side.name} holds {KIND_NAMES[side.kind]}: {side.reading.evidence}"
        if side.kind in ODD_LOGS:
            yield f"{held}. Every library here wants natural logarithms of probabilities: {side.text('log_probs')}."
        elif side.kind in ODD_UNITS:
            yield f"{held}. As probabilities it is {side.text('probs')}."
    if skip is not None:
        given = f"ignore_index={skip}"
        others = f"leaves out -100 only, unless {given} is given; Gluon takes them for the nearest class."
        others = "leaves them out by default." if skip == -100 else others
        yield f"{b.name} holds labels of {skip}: those rows are left out, as {given} says. PyTorch {others}"
    if t.labels.base:
        yield (
            f"{b.name} counts its labels from 1: {b.evidence}. Every library here counts them from 0: {b.name} - 1. A "
            "library that does not check takes each row's next class without a word."
        )
    if p.kind in ("probs", "one_hot", "logits"):
        gives = ""
        if p.name == "input" and batchmean.value is not None:
            gives = f" (batchmean gives {batchmean.shown})"
            if batchmean.value < 0 and p.kind != "logits":
                gives = f" (batchmean gives {batchmean.shown}, and a divergence is never negative)"
        if p.kind == "logits":
            yield (
                f"{a.name} holds logits: kl_div of PyTorch, Gluon and optax takes log-probabilities and normalises "
                f"nothing{gives}. {p.text('log_probs')} is right for it."
            )
        else:
            yield (
                f"{a.name} is not in log space: kl_div of PyTorch, Gluon and optax takes log-probabilities{gives}, and "
                f"their cross-entropies make another softmax of it. np.log({a.name}) is right for both."
            )
    if t.kind in ("log_probs", "logits"):
        what, remedy = ("in log space", "log_target=True") if t.kind == "log_probs" else ("logits", t.text("probs"))
        yield f"{b.name} is {what}, where most calls take probabilities: in PyTorch's kl_div use {remedy}."
    if t.kind == p.kind == "logits":
        yield (
            "Nothing in the values says that these are scores of classes: of two arrays of regression outputs, or of "
            "features, every number below would be meaningless."
        )
    if t.kind == "probs" and t.look.low < 0:
        where = places(t, lambda v: v.array < 0)
        yield f"{b.name} has negative probabilities ({where}): KL is NaN there."
    if a.normalised is False:
        yield f"{a.name} is not normalised: {a.evidence}. KL is that of the prediction divided by its sum."
    if b.normalised is False:
        yield (
            f"{b.name} is not normalised: {b.evidence}. Of a sum T, KL is T KL({b.name} / T, prediction) + T log T, "
            "which may be negative; SciPy's entropy divides by T silently."
        )
    if math.isinf(m.kl):
        where = places_where(p, t, lambda u, v: has_none(u) & ~has_none(v))
        yield (
            f"KL is infinite: the target is positive where the prediction is 0 ({where}). Keras' clipping hides that."
            if where
            else "KL is beyond the largest float."
        )
    if t.kind == "labels" and not is_whole(t.array):
        yield f"{b.name} holds labels of dtype {b.dtype}; most calls take integers only."
    if t.kind == "one_hot" and is_whole(t.array):
        yield f"{b.name} is one-hot of dtype {b.dtype}; PyTorch takes integers for labels."
    if m.formulas["by first axis"].factor != 1:
        yield f"PyTorch's batchmean divides by the first axis, of length {m.shape[0]}, not by N = {m.rows}."
    if len(m.shape) > 1 and p.written % len(m.shape) != 1:
        yield "PyTorch's cross_entropy takes the classes from axis 1; its value below is with them moved there."
    if "NaN where" in calls["optax kl_divergence"].relation:
        yield (
            "A target of 0 meets a log-probability of -inf: kl_div of PyTorch, Gluon and optax is NaN then; here and "
            "in SciPy that adds 0."
        )
    if mean.relation.startswith("= KL / C"):
        yield (
            f"PyTorch's default reduction, mean, divides by the C = {m.classes} classes too: {mean.shown} instead of "
            f"{m.kl:.6g}. So does Gluon's KLDivLoss."
        )
    if t.kind in ("one_hot", "labels") and m.formulas["add entropy"].holds(m.cross_entropy, m) and m.entropy == 0:
        yield "All of each row's target is on one class: its entropy is 0, so cross-entropy and KL agree."


# ---------------------------------------------------------------------------------------------------------------------
# How the two arrays are read


@dataclass(frozen=True, eq=False)
class Operand:
    """An argument as it came, along an axis of classes, and what can be said of it alone."""

    name: str
    array: Array
    axis: int = -1
    look: Look = field(default_factory=lambda: Look(0))  # what `along` has seen
    text: str = ""  # how it is written in Python, if not by its name

    @property
    def source(self) -> str:
        return self.text or self.name

    @property
    def classes(self) -> int:
        return int(self.array.shape[self.axis])

    @property
    def written(self) -> int:
        return -1 if self.axis in (-1, self.array.ndim - 1) else self.axis

    @property
    def range(self) -> str:
        return f"from {number(self.look.low)} to {number(self.look.high)}"

    def along(self, axis: int, tick: Tick = untold) -> "Operand":
        """The same, looked at along `axis`."""
        look = look_at(self.array, axis, tick=tick)
        if not look.rows and self.array.ndim == 1 and not np.isnan(self.array).all():
            # What is left says whether these are classes of one row, or one number a row.
            look = look_at(self.array[~np.isnan(self.array)], axis)
            look.nan_rows = 1
        if not look.rows:
            raise ValueError(f"explain: every row of {self.name} holds a NaN")
        return replace(self, axis=axis, look=look)

    def is_settled(self, axis: int, of_parts: bool = False) -> bool:
        """Whether all rows along `axis` sum to 1, `of_parts`: of more than a single 1."""
        look = look_at(self.array, axis, until_unsettled=True)
        return bool(look.rows) and look.settled and not (of_parts and look.zero_or_one)

    def reading(self, kind: str, evidence: str, normalised: bool | None = None) -> Reading:
        return Reading(self.name, kind, normalised, evidence, str(self.array.dtype), self.array.shape)

    def side(self, found: Kind, is_prediction: bool) -> Side:
        reading = self.reading(found.kind, found.evidence, found.normalised)
        where = (self.axis, self.written, self.classes)
        return Side(reading, self.source, self.array, *where, found.missed, is_prediction, self.look)

    def labels(self, how: Labels, dense: "Operand") -> Side:
        reading, axis = self.reading("labels", how.evidence), dense.written
        return Side(reading, self.source, self.array, axis, axis, dense.classes, 0.0, False, self.look, how)


def operand(name: str, value: ArrayLike) -> Operand:
    refuse_masked("explain", name, value)
    array: Array = as_array(value, "explain", name)
    if not is_whole(array) and not is_kernel_float(array):
        raw = "; bfloat16 read from a file is .view(ml_dtypes.bfloat16)" if array.dtype.str == "|V2" else ""
        text = "; labels have to be integer codes" if array.dtype.kind in "OUST" else ""
        raise TypeError(
            f"explain: {name} must be float16, bfloat16, float32, float64, integers or bools, "
            f"not {array.dtype}{raw}{text}"
        )
    if not array.size:
        raise ValueError(f"explain: {name} has shape {array.shape}, so there is nothing in it to explain")
    return Operand(name, array)


def whole(name: str, value: int) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"explain: {name} must be an int, not {type(value).__name__}") from None


def alternative(words: str, p: Side, t: Side) -> Alternative:
    return Alternative(words, f"KL({t.name}, prediction)", means_of(p, t).kl, call_to_use(p, t))


def says(side: Side) -> str:
    rest = ", not normalised" if side.reading.normalised is False else ""
    return f"{side.name} holds {KIND_NAMES[side.kind]}{rest}"


def both_say(p: Side, t: Side) -> str:
    return f"{says(p)}, {says(t)}"


def explanation(p: Reading, t: Reading, use: str, **found: Any) -> Explanation:
    """The result, where `p` is what is read as the prediction; what would be NaN is not advised."""
    if use and math.isnan(found["value"]):
        mend = f"No call gives a number of these arrays: it is NaN. Once what follows is mended, {use}."
        use, found["pitfalls"] = "", [mend, *found["pitfalls"]]
    found |= {name: tuple(found.get(name, ())) for name in ("pitfalls", "calls", "alternatives")}
    first, second = (t, p) if p.name == "target" else (p, t)
    return Explanation(input=first, target=second, swapped=first is t, use=use, **found)


def explained_kl(
    p: Side, t: Side, notes: Sequence[str], alternatives: Sequence[Alternative], progress: Progress
) -> Explanation:
    means = means_of(p, t, progress.tick)
    m = numbers_of(means, p, t)
    ps, ts, sampled = rows_for_calls(p, t)
    of = m if not sampled else numbers_of(means_of(ps, ts), ps, ts)
    a, b = in_order(ps, ts)
    calls = own_calls(ps, ts, m, of)
    calls += [relate(row, *((b, a) if row.swapped else (a, b)), m, of) for row in rows_of_table()]
    return explanation(
        p.reading,
        t.reading,
        call_to_use(p, t),
        pitfalls=[*notes, *pitfalls_of(p, t, m, {call.call: call for call in calls})],
        calls=calls,
        alternatives=alternatives,
        value=m.kl,
        axis=p.written,
        prediction=p.text("probs"),
        per_class=means.per_class,
        reading=both_say(p, t),
        sampled=sampled,
        normalised_kl=means.of_normalised if t.reading.normalised is False else None,
        **{name: getattr(m, name) for name in ("kl", "reverse", "entropy", "cross_entropy", "rows", "classes")},
    )


def some_of(rows: int, classes: int, notable: Sequence[int], counted: Array | None = None) -> Array:
    """Which rows stand for all of a large array's: of one alone, a sum and a mean would be the same.

    `notable` are the rows of extremes; `counted` says of each row whether it counts.
    """
    elements = min(max(FEWEST, rows * classes // THIN), MOST)
    count = min(rows, max(1, elements // classes))
    some = np.unique([*np.linspace(0, rows - 1, count).astype(np.int64), *notable[: max(2, MOST // classes)]])
    here = some if counted is None else some[counted[some]]
    if len(here) < 2:
        ends = (0, rows - 1) if counted is None else (counted.argmax(), rows - 1 - counted[::-1].argmax())
        some = np.unique([*some, *ends])
    return some


def rows_for_calls(p: Side, t: Side) -> tuple[Side, Side, int]:
    """What the calls are made of: the sides, and of how many rows, 0 for all."""
    skip, sampled = t.labels.skip, 0
    if p.array.size > LIMIT and p.array.size // p.classes > 1:
        batch, counted = p.rows.shape[:-1], None
        notable = [row for side in in_order(p, t) for row in side.look.places.values()]
        if skip is not None:
            counted = t.array.reshape(-1) != skip
            notable.insert(0, int(counted.argmin()))
        some = some_of(math.prod(batch), p.classes, notable, counted)
        places = np.unravel_index(some, batch)
        p, t, sampled = p.of(p.rows[places], -1), t.of(t.rows[places], -1), len(some)
    p, t = p.of(as_float64(p.array), p.axis), t.of(as_float64(t.array), t.axis)
    if skip is not None:
        kept = t.array != skip
        p, t = p.of(p.rows[kept], -1, (p.array, p.axis)), t.of(t.array[kept], -1, (t.array, t.axis))
    return p, t, sampled


# ---------------------------------------------------------------------------------------------------------------------
# Classes that are each present or not


@dataclass(frozen=True)
class Binary:
    """Prediction and target of a binary cross-entropy, as the arrays are and as xent takes them."""

    x: Operand
    t: Operand
    probs: bool  # the prediction holds probabilities
    signs: bool = False  # the target holds -1 and 1

    @property
    def lone(self) -> bool:
        """Whether there is one number a row, without an axis of classes."""
        return self.x.array.ndim == 1

    @property
    def held(self) -> str:
        """What the prediction holds."""
        return "probabilities" if self.probs else "logits"

    @property
    def texts(self) -> tuple[str, str]:
        x, t = (f"{side.source}[:, None]" if self.lone else side.source for side in (self.x, self.t))
        if self.probs:
            x = f"np.log({x} / (1 - {x}))"
        return x, f"({t} + 1) / 2" if self.signs else t

    @property
    def use(self) -> str:
        axis = "" if self.x.written == -1 else f", axis={self.x.axis}"
        return f"xent.losses.binary_cross_entropy({', '.join(self.texts)}{axis})"

    @property
    def arrays(self) -> list[Array]:
        """With the classes last, of which one number a row is one."""
        arrays = (np.moveaxis(side.array, side.axis, -1) for side in (self.x, self.t))
        return [array[:, None] if self.lone else array for array in arrays]

    @property
    def notable(self) -> list[int]:
        """The rows of the extremes."""
        if self.lone:
            return [int(row) for side in (self.x, self.t) for row in (side.array.argmin(), side.array.argmax())]
        return [row for side in (self.x, self.t) for row in side.look.places.values()]

    @property
    def count(self) -> tuple[int, int]:
        classes = 1 if self.lone else self.x.classes
        return self.x.array.size // classes, classes

    def taken(self, x: Array, t: Array) -> tuple[Array, Array]:
        x, t = as_float64(x).astype(np.float64, copy=False), as_float64(t).astype(np.float64, copy=False)
        return (np.log(x) - np.log1p(-x) if self.probs else x), ((t + 1) / 2 if self.signs else t)

    def mean(self, tick: Tick = untold) -> float:
        """The binary cross-entropy."""
        x, t = self.arrays

        def one(run: list[Place]) -> list[float]:
            totals = []
            for at in run:
                totals.append(float(losses.binary_cross_entropy(*self.taken(x[at], t[at]), reduction="sum")))
                tick(x[at].size)
            return totals

        runs = in_runs(list(blocks_of(x.shape[:-1], x.shape[-1])), one)
        return total_of([total for run in runs for total in run]) / self.count[0]

    def alternative(self, words: str) -> Alternative:
        return Alternative(words, "binary cross-entropy", self.mean(), self.use)


def targets_last(a: Operand, b: Operand) -> tuple[Operand, Operand]:
    """With what alone holds zeros and ones as the target."""
    return (b, a) if a.look.zero_or_one and not b.look.zero_or_one else (a, b)


def binary_of(x: Operand, t: Operand) -> Binary | None:
    """The case of classes that are each present or not, if it is one; `x` is the prediction."""
    seen = t.look
    signs = seen.whole and seen.low == -1 and seen.high == 1 and not seen.zeros
    case = Binary(x, t, x.look.is_unit, signs)
    single = case.count[1] == 1
    soft = t.look.is_unit and not t.look.settled and single
    one_hot = t.look.one_hot and (case.lone or not single)
    return case if (seen.zero_or_one or signs or soft) and not one_hot else None


def binary_alternatives(case: Binary) -> list[Alternative]:
    x, t, seen = case.x, case.t, case.t.look
    found = []
    if case.probs:
        found.append(replace(case, probs=False).alternative(f"{x.name} holds logits that all lie from 0 to 1"))
    if case.signs or (case.count[1] == 1 and not case.lone):
        return found
    kind = kinds_of(x.look, False)[0]
    if kind.kind != "one_hot":
        p = x.side(kind, True)
        along = f"classes along axis {x.axis} that exclude each other"
        if case.lone:
            along = f"one row of {x.classes} classes"
        probs = t.side(Kind("probs", "", False), False)
        if seen.zero_or_one and 0 < seen.sum_high <= 1:
            found.append(alternative(f"{along}, one-hot, and rows of zeros are no row's target", p, probs))
        elif x.look.settled and not case.lone and seen.sum_low > 0:
            q = t.side(Kind("weights", ""), False)
            found.append(alternative(f"{along}: {says(p)}, and the ones of a row share its mass", p, q))
        elif case.lone and not seen.zero_or_one and seen.sum_low > 0 and x.classes <= MOST_CLASSES:
            found.append(alternative(f"{along}: {both_say(p, probs)}", p, probs))
    for a, length in enumerate(t.array.shape):
        if a != x.axis and length > 1 and seen.zero_or_one and t.is_settled(a):
            found.append(along_axis(x, t, a))
    return found


def binary_calls(case: Binary, value: float) -> tuple[list[Call], int]:
    """What the libraries' binary cross-entropies give of the arrays as they are, and of how many rows, 0 for all."""
    rows, classes = case.count
    few = np.arange(rows) if rows * classes <= LIMIT else some_of(rows, classes, case.notable)
    sampled = len(few) if len(few) < rows else 0
    x, t = (as_float64(a[np.unravel_index(few, a.shape[:-1])]) for a in case.arrays)
    right = case.taken(x, t)
    here = float(losses.binary_cross_entropy(*right)) if sampled else value
    logistic = 1 / (1 + np.exp(-right[0]))
    with_logits = torch.binary_cross_entropy_with_logits
    table: list[tuple[str, bool, Callable[[Array, Array], Any], str]] = [
        ("torch bce_with_logits mean", False, with_logits, "BCE / C"),
        ("torch bce_with_logits sum", False, partial(with_logits, reduction="sum"), "N BCE"),
        ("torch binary_cross_entropy mean", True, torch.binary_cross_entropy, "BCE / C"),
        ("Gluon SigmoidBCELoss", False, lambda a, b: gluon.SigmoidBCELoss()(a, b).mean(), "BCE / C"),
    ]
    calls = [Call("xent binary_cross_entropy", value, None, None, True, "= BCE")]
    for name, wants_probs, function, formula in table:
        # Of all rows, and of those that the calls are made of.
        factor, factor_here = (1 / classes if formula == "BCE / C" else float(n) for n in (rows, len(few)))
        formula = formula if factor != 1 else "BCE"
        made, refused = evaluate(function, x, t)
        wrong = [f"{case.x.name} holds {case.held}"] if wants_probs != case.probs else []
        if case.signs:
            wrong.append(f"{case.t.name} holds -1 and 1")
        if refused is not None and not wrong:
            wrong.append(f"{case.t.name} is of dtype {case.t.array.dtype}")
        fitting = evaluate(function, logistic if wants_probs else right[0], right[1])[0] if wrong else made
        holds = math.isclose(in_all(fitting), here * factor_here, rel_tol=1e-9, abs_tol=1e-12)
        relation = f"= {formula}" if holds else "no simple relation to BCE here"
        if wrong:
            relation = "; ".join(wrong) + (f": put right, it is {formula}" if holds else "")
        exact = holds and not wrong
        shown = None if made is None else value * factor if exact and sampled else float(made)
        estimated = sampled > 0 and not exact and shown is not None and math.isfinite(shown)
        calls.append(Call(name, shown, None, refused, exact and formula == "BCE", relation, estimated))
    return calls, sampled


def explained_binary(case: Binary, progress: Progress) -> Explanation:
    x, t, seen = case.x, case.t, case.t.look
    rows, classes = case.count
    value = case.mean(progress.tick)
    calls, sampled = binary_calls(case, value)
    target, held = ("multi_hot", "zeros and ones") if seen.zero_or_one else ("binary_probs", "numbers from 0 to 1")
    if case.signs:
        target, held = "signs", "-1 and 1"
    what = "one number a row" if classes == 1 else "classes that are each present or not"
    notes = [
        f"{t.name} holds {held}, {what}: the loss is binary_cross_entropy, not cross-entropy over the classes and no "
        "KL divergence."
    ]
    if x.name == "target":
        notes.append("The arguments look swapped: the prediction comes first. Below, target is read as the prediction.")
    if case.signs:
        notes.append(f"{t.name} holds -1 and 1, where every library here takes 0 and 1.")
    if math.isnan(value):
        notes[:0] = [f"{side.name} holds NaN." for side in (x, t) if bool(np.isnan(side.array).any())]
    elif math.isinf(value):
        notes.append("The loss is infinite: a target is where the prediction says that it cannot be.")
    sums = f"{number(seen.sum_low)} to {number(seen.sum_high)} in all a row"
    return explanation(
        x.reading("binary_probs" if case.probs else "binary_logits", x.range),
        t.reading(target, f"{t.range}, {sums}"),
        case.use,
        pitfalls=notes,
        calls=calls,
        alternatives=binary_alternatives(case),
        value=value,
        axis=x.axis,
        rows=rows,
        classes=classes,
        prediction=f"1 / (1 + np.exp(-{case.texts[0]}))",
        loss="binary_cross_entropy",
        reading=f"{x.name} holds {case.held}, each on its own, {t.name} {held if case.signs else 'what is present'}",
        sampled=sampled,
    )


def explained_none(x: Operand, t: Operand, kind: str, why: str, **found: Any) -> Explanation:
    p, q = (side.reading(kind, f"from {side.array.min()} to {side.array.max()}, no axis of classes") for side in (x, t))
    nothing = {"axis": -1, "rows": x.array.size, "classes": 1, "prediction": "", "loss": "none"}
    return explanation(p, q, "", pitfalls=[why], **nothing, **found)


# ---------------------------------------------------------------------------------------------------------------------
# Putting it together


def explain_same_shape(x: Operand, t: Operand, wanted: int | None, progress: Progress) -> Explanation:
    shape, ndim = x.array.shape, x.array.ndim
    place = ndim - 1 if wanted is None else wanted
    notes: list[str] = []
    longer = [a for a in (*range(1, ndim), 0) if shape[a] > 1] if shape[place] == 1 else []
    for a in longer if wanted is None else ():
        if any(side.is_settled(a, of_parts=True) for side in (x, t)):
            place, longer = a, []
            notes.append(f"The last axis has length 1 and rows sum to 1 along axis {a}: give axis={a}.")
            break
    x, t = x.along(place, progress.tick), t.along(place, progress.tick)

    hot = [side.look.one_hot and ndim > 1 for side in (x, t)]
    if all(hot) or (not any(hot) and all(is_whole(side.array) and side.look.low >= 0 for side in (x, t))):
        return explain_two_whole(x, t, all(hot))

    # Zeros alone are the logits of a model that has learnt nothing, or say nothing.
    fits = t.look.settled and (x.look.high == 0 or hot[0])
    binary = binary_of(*((x, t) if fits else targets_last(x, t)))
    if binary is not None:
        return explained_binary(binary, progress)
    if longer:
        what = f"Each row has one class along axis {place}, and every divergence of one class is 0"
        why = f"{what}. Numbers of a row each, without classes, are regression's, which no loss here is for."
        words, other = "one number a row, without classes", along_axis(x, t, longer[0])
        return explained_none(x, t, "scores", why, reading=words, alternatives=[other])

    alternatives: list[Alternative] = []
    unsettled = [side for side in (x, t) if not side.look.settled]
    others = (a for a in range(ndim) if a != place and shape[a] > 1)
    that_sum = ((a, [side for side in unsettled if side.is_settled(a)]) for a in others)
    moved, sides = next((found for found in that_sum if found[1]), (place, []))
    if sides:
        names, verb = " and ".join(side.name for side in sides), "sum" if len(sides) == 2 else "sums"
        start, here = f"{names} {verb} to 1 along axis {moved}", f"axis {place}{', the last' if wanted is None else ''}"
        if len(unsettled) == 1:
            notes.append(
                f"{start}, {'input' if sides[0] is t else 'target'} along {here}: one of them was normalised over the "
                "wrong axis, and no loss of the two means anything before that is put right."
            )
        elif wanted is not None:
            notes.append(f"{start}, not along {here}, which was asked for: axis={moved} is meant?")
        else:
            notes.append(
                f"{start}, not along {here}: the classes are read along axis {moved}. Give axis={moved} to every call; "
                "PyTorch's cross_entropy takes them from axis 1, kl_div has no axis."
            )
            x, t = x.along(moved, progress.tick), t.along(moved, progress.tick)
        if x.axis != moved:
            alternatives.append(along_axis(x, t, moved))
    elif len(unsettled) == 2 and ndim > 2 and wanted is None:
        notes.append(
            f"Nothing sums to 1 along any axis: the classes are taken to be along the last, of shape {shape}; "
            "PyTorch has them along axis 1. Give axis."
        )
        alternatives.append(along_axis(x, t, 1))
    return explain_dense(x, t, notes, alternatives, progress)


def along_axis(x: Operand, t: Operand, axis: int) -> Alternative:
    x, t = x.along(axis), t.along(axis)
    kx, kt = kinds_of(x.look, False)[0], kinds_of(t.look, True)[0]
    if kt.kind in ("multi_hot", "signs"):
        kt = replace(kt, kind="probs", normalised=False)
    p, q = x.side(kx, True), t.side(kt, False)
    return alternative(f"the classes lie along axis {axis}: {both_say(p, q)}", p, q)


def explain_dense(
    x: Operand, t: Operand, notes: Sequence[str], alternatives: list[Alternative], progress: Progress
) -> Explanation:
    kx, kt = kinds_of(x.look, False), kinds_of(t.look, True)
    if (kx[0].kind == "one_hot" and kt[0].kind != "one_hot") or (
        len(kx) == 1 and kx[0].kind in UNITS and (kt[0].kind in LOGS or kt[0].kind == "logits")
    ):
        # Read again: what an array looks like depends on the place in which it belongs.
        x, t = t, x
        kx, kt = kinds_of(x.look, False), kinds_of(t.look, True)
    p, *predictions = (x.side(kind, True) for kind in kx)
    q, *targets = (t.side(kind, False) for kind in kt)
    binary = Binary(x, t, x.look.is_unit)
    if binary.lone and q.kind == "one_hot":
        alternatives.append(binary.alternative("one number a row, each with a target of 0 or 1"))
    for first, second in [*((one, q) for one in predictions), *((p, one) for one in targets)]:
        if second.kind == "binary_probs":
            alternatives.append(binary.alternative(f"{t.name} holds a probability for each class on its own"))
        else:
            alternatives.append(alternative(both_say(first, second), first, second))
    return explained_kl(p, q, notes, alternatives, progress)


def explain_two_whole(x: Operand, t: Operand, hot: bool) -> Explanation:
    """Two arrays of whole numbers of one shape: two sets of labels, or of counts."""
    same = x.array.argmax(x.axis) == t.array.argmax(t.axis) if hot else x.array == t.array
    note = (
        f"Both arrays {'are one-hot' if hot else 'hold integers, one label each'}: two sets of labels, and no scores. "
        "A loss needs the model's scores, C of them a row, before argmax: pass those as input. All that these say is "
        f"how often they agree: {number(100 * float(same.mean()))} % of {same.size}."
    )
    alternatives = []
    if x.look.sum_low > 0 and t.look.sum_low > 0 and not (hot and is_whole(x.array) and is_whole(t.array)):
        kind, what = ("one_hot", "probabilities") if hot else ("weights", "counts")
        p, q = (side.side(Kind(kind, "", hot or None), side is x) for side in (x, t))
        alternatives.append(alternative(f"both are {what}, of {x.classes} classes along axis {x.axis}", p, q))
    kind = "one_hot" if hot else "labels"
    return explained_none(x, t, kind, note, reading="both are labels", alternatives=alternatives)


def explain_labels(
    x: Operand, t: Operand, wanted: int | None, ignore_index: int | None, progress: Progress
) -> Explanation:
    """Arrays of two shapes: a dense one, and labels of its rows."""
    notes: list[str] = []
    dense, other = (x, t) if x.array.ndim >= t.array.ndim and x.array.size >= t.array.size else (t, x)
    shape = dense.array.shape
    places = [] if not shape else range(len(shape)) if wanted is None else [wanted]
    fitting = [a for a in places if other.array.shape == shape[:a] + shape[a + 1 :]]
    kept = [a for a in places if other.array.shape == (*shape[:a], 1, *shape[a + 1 :]) and shape[a] > 1]
    if not fitting and kept:
        fitting = kept[-1:]
        text = f"{other.name}[{':, ' * fitting[0]}0]"
        other = Operand(other.name, other.array.squeeze(fitting[0]), text=text)
        notes.append(
            f"{other.name} has an axis of length 1: most calls want labels without it, {text}; below it is read so."
        )
    if not fitting:
        hints = f"; {other.name}.T has the shape of {dense.name}" if other.array.shape[::-1] == shape else ""
        place = len(shape) - 1 if wanted is None else wanted
        batch = shape[:place] + shape[place + 1 :]
        raise ValueError(
            f"explain: input has shape {x.array.shape} and target {t.array.shape}; expected the same shape, or labels "
            f"of shape {batch}, one a row of {shape[place]} classes along axis {place}{hints}"
        )
    last = fitting[-1]
    if shape[last] == 1:
        named = f"{other.name}[{':, ' * last}None]"
        wide = Operand(other.name, np.expand_dims(other.array, last), text=named).along(last)
        binary = binary_of(*targets_last(dense.along(last), wide))
        if binary is not None:
            found = explained_binary(binary, progress)
            flat: dict[str, Any] = {other.name: replace(getattr(found, other.name), shape=other.array.shape)}
            note = (
                f"input has shape {x.array.shape} and target {t.array.shape}: where they are subtracted or multiplied "
                f"they broadcast to a matrix. {named} has the other's shape."
            )
            return replace(found, pitfalls=(*found.pitfalls, note), **flat)
    usable: list[tuple[int, Labels]] = []
    errors: list[IndexError] = []
    for a in fitting:
        try:
            usable.append((a, read_labels(other.name, other.array, shape[a], ignore_index)))
        except IndexError as error:
            errors.append(error)
    if not usable:
        raise errors[-1]
    alternatives: list[Alternative] = []
    settled = [one for one in usable if len(usable) > 1 and dense.is_settled(one[0])]
    place, how = (settled or usable)[-1]

    def sides(a: int, labels: Labels) -> tuple[list[Side], Side]:
        """What the dense array may be, and the labels."""
        seen = dense.along(a, progress.tick)
        return [seen.side(kind, True) for kind in kinds_of(seen.look, False)], other.labels(labels, seen)

    (p, *others), q = sides(place, how)
    if len(usable) > 1 and len(settled) != 1:
        notes.append(f"The shapes fit classes along axes {', '.join(str(a) for a, _ in usable)}: give axis.")
        for a, labels in usable:
            if a != place:
                (first, *_), of_these = sides(a, labels)
                alternatives.append(alternative(f"the classes lie along axis {a}", first, of_these))
    elif wanted is None and place != len(shape) - 1:
        notes.append(f"The classes are along axis {place}, as {other.name}'s shape has it: give axis={place}.")
    alternatives += [alternative(both_say(one, q), one, q) for one in others]
    if how.signs:
        text, classes = q.converted("classes")
        two = Operand(other.name, (classes + 1) // 2, text=f"({text} + 1) // 2").labels(Labels(), dense.along(place))
        alternatives.append(alternative(f"{other.name} holds -1 and 1 for the two classes", p, two))
    return explained_kl(p, q, notes, alternatives, progress)


def explain(
    input: ArrayLike, target: ArrayLike, axis: int | None = None, *, ignore_index: int | None = None
) -> Explanation:
    """Say what two arrays look like, and how the losses of several libraries on them relate to KL(target, prediction).

    Looks at the values, not at names: rows that sum to 1 are probabilities, rows whose exponentials do are
    log-probabilities (also those of base 2 and 10, and of the wrong sign), one integer a row is a label, zeros and ones
    are classes that are each present or not, whose loss is `xent.losses.binary_cross_entropy`. Where `input` can only
    be the target of `target`, they are read swapped, and a pitfall says so. Where the values do not decide, the result
    is `unclear` and has each reading with its number. Then PyTorch's, Gluon's, optax's and SciPy's losses are computed
    of the arrays exactly as they are, by the doors of `xent.compat`, and Keras' clipped divergence by its formula. A
    relation is stated only if it holds for these numbers within rounding.

    All is computed in float64, a block of rows at a time on xent's threads, and nothing of an array's size is allocated
    unless a row has more than 65,536 classes. Of more than 131,072 elements, the calls of the table are made of evenly
    spaced rows and of those with the extremes, and marked ``~`` where no relation gives them for all rows, of which
    everything else is. Beyond 2 seconds a terminal shows the progress on stderr.

    Parameters
    ----------
    input : array_like
        The prediction: logits, log-probabilities or probabilities, C classes along `axis`.
    target : array_like
        Of the same shape: probabilities, log-probabilities, logits, one-hot or multi-hot; or labels, one a row.
    axis : int, optional
        The class axis. Without it the last, unless only along another one rows sum to 1 or the shape of labels fits.
    ignore_index : int, optional
        Rows with this label do not count. Without it, a single negative label that occurs (-100, -1), or 255, is read
        so, and a pitfall says it.

    Returns
    -------
    Explanation
        Print it; or see its attributes, ``to_dict()`` and ``plot()``. In a notebook it shows as tables. Values are in
        nats, means over the rows unless the call says otherwise.

    Raises
    ------
    IndexError
        A label outside 0 to C - 1 that is read in no other way: its value and position.
    TypeError
        A masked array, or a dtype other than float16, bfloat16, float32, float64, integers and bool.
    ValueError
        Shapes that do not match, an axis out of range, empty arrays, a NaN in every row, or one number a row that is
        no label.

    Examples
    --------
    >>> import numpy as np
    >>> import xent
    >>> found = xent.explain(np.log([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.7, 0.3], [0.8, 0.2]]))
    >>> found.use
    'xent.losses.kl_div(input, target)'
    >>> [(call.call, call.shown, call.relation) for call in found.calls if call.call == "torch kl_div mean"]
    [('torch kl_div mean', '0.0316715', '= KL / C, divided by the number of classes')]
    >>> xent.explain(np.log2([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.7, 0.3], [0.8, 0.2]])).use
    'xent.losses.kl_div(input * np.log(2), target)'
    """
    x, t = operand("input", input), operand("target", target)
    ndim = max(x.array.ndim, t.array.ndim)
    if not ndim:
        raise ValueError("explain: input and target are single numbers; an axis of classes is expected")
    wanted = None if axis is None else normalize_axis_index(whole("axis", axis), ndim, "explain")
    ignore_index = None if ignore_index is None else whole("ignore_index", ignore_index)
    # Each array is looked at, and then both are added up.
    passes = 3 if x.array.shape == t.array.shape else 2
    progress = Progress(passes * max(x.array.size, t.array.size))
    try:
        # Infinities and NaN are part of what is explained.
        with np.errstate(all="ignore"):
            if x.array.shape != t.array.shape:
                return explain_labels(x, t, wanted, ignore_index, progress)
            found = explain_same_shape(x, t, wanted, progress)
    finally:
        progress.close()
    if ignore_index is not None:
        note = f"ignore_index={ignore_index} goes with labels, one a row, which these arrays are not: it is not used."
        found = replace(found, pitfalls=(note, *found.pitfalls))
    return found
