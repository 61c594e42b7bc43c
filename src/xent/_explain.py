"""Which number is that? What two arrays hold, and what the losses of each library make of them.

Every number comes from `xent` itself or from a door of `xent.compat`; Keras, which has none, from its published
formula. A relation to the divergence is given only where it holds for the arrays at hand within rounding: of a call
whose arguments are as it takes them, for its value; of any other, for the value with the arguments put right.
"""

import html
import math
import operator
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import ArrayLike, NDArray

import xent
from xent import losses
from xent._core import as_array
from xent.compat import gluon, optax, scipy, torch
from xent.compat._shared import is_kernel_float, refuse_masked

__all__ = ["Call", "Explanation", "Reading", "explain"]

Array: TypeAlias = NDArray[Any]

KIND_NAMES = {
    "logits": "logits",
    "log_probs": "log-probabilities",
    "probs": "probabilities",
    "one_hot": "one-hot probabilities",
    "labels": "labels",
    "classes": "probabilities or labels",
}
KERAS_EPSILON = 1e-7
NEAR = 0.05  # rows whose sums are this close to 1 are meant to sum to 1
WIDTH = 110


# ---------------------------------------------------------------------------------------------------------------------
# What an array looks like


@dataclass(frozen=True)
class Reading:
    """What an array looks like, and why: part of an `Explanation`.

    `kind` is logits, log_probs, probs, one_hot or labels; `normalised` whether rows sum to 1 within the rounding of
    their dtype (None for logits and labels, which need not).
    """

    name: str
    kind: str
    normalised: bool | None
    evidence: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        rest = "" if self.normalised is not False else ", not normalised"
        return f"{KIND_NAMES[self.kind]}{rest}: {self.evidence}"


def span(values: Array) -> str:
    low, high = f"{values.min():.6g}", f"{values.max():.6g}"
    return low if low == high else f"{low} to {high}"


def epsilon(array: Array) -> float:
    return float(np.finfo(array.dtype if array.dtype.kind == "f" else np.float64).eps)


def read_labels(name: str, array: Array, classes: int) -> Reading:
    whole = array.dtype.kind in "iu"
    if not whole and not (array.dtype.kind == "f" and (array == np.floor(array)).all()):
        raise ValueError(
            f"explain: {name} has shape {array.shape}, one value a row, and {array.dtype} values that are no labels"
        )
    outside = (array < 0) | (array >= classes)
    if outside.any():
        at = tuple(int(i) for i in np.argwhere(outside)[0])
        raise IndexError(f"explain: label {array[at].item()} of {name} at {at} is outside 0 to {classes - 1}")
    evidence = f"{'integers' if whole else 'whole numbers'} from {span(array)}, one a row"
    return Reading(name, "labels", None, evidence, str(array.dtype), array.shape)


def read_dense(name: str, array: Array, axis: int, is_target: bool) -> tuple[Reading, float]:
    """The reading, and by how much the sums of its rows miss 1 (0 for logits)."""
    classes = array.shape[axis]
    rows = np.moveaxis(array, axis, -1).reshape(-1, classes).astype(np.float64)
    rows = rows[~np.isnan(rows).any(1)]
    if not len(rows):
        raise ValueError(f"explain: every row of {name} holds a NaN")
    low, high, sums = rows.min(), rows.max(), rows.sum(1)
    # Sums of rounded values, and of exponentials of rounded logarithms, which lose more.
    rounding = min(16 * epsilon(array) * (4 + math.sqrt(classes)), NEAR / 5)
    kind = "logits"
    normalised: bool | None = None
    missed = 0.0
    values = f"from {span(rows)}"
    if ((rows == 0) | (rows == 1)).all() and (sums == 1).all():
        kind, normalised, evidence = "one_hot", True, "each row holds a single 1, else 0"
    elif low >= -1e-3 and (missed := float(np.abs(sums - 1).max())) <= rounding:
        # Rows of logits that all sum to exactly 1 would be a coincidence.
        kind, normalised, evidence = "probs", True, f"{values}, rows sum to 1 within rounding"
    elif low >= 0 and ((high <= 1 and (missed <= NEAR or is_target)) or (is_target and (rows == np.floor(rows)).all())):
        # In the place of the prediction, values from 0 to 1 whose sums are anything are outputs of no softmax.
        kind, normalised, evidence = "probs", False, f"{values}, rows sum to {span(sums)}, not 1"
    else:
        mass = np.exp(xent.logsumexp(rows))
        missed = float(np.abs(mass - 1).max())
        if high <= rounding and missed <= NEAR:
            kind, normalised = "log_probs", missed <= rounding
            evidence = f"{values}, their exp sums to " + ("1 within rounding" if normalised else f"{span(mass)}, not 1")
        else:
            missed = 0.0
            why = "of both signs" if low < 0 < high else f"their sums {span(sums)}, the sums of their exp {span(mass)}"
            evidence = f"{values}, {why}"
    return Reading(name, kind, normalised, evidence, str(array.dtype), array.shape), missed


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two arrays: how it reads, and how to write and compute what it says in another form."""

    reading: Reading
    array: Array
    axis: int
    classes: int
    missed: float
    is_prediction: bool
    forms: dict[str, tuple[str, Array]] = field(default_factory=dict)  # what `converted` has made so far

    @property
    def is_first(self) -> bool:
        """Whether it is the first argument of `explain`."""
        return self.reading.name == "input"

    @property
    def kind(self) -> str:
        return self.reading.kind

    def along(self, text: str) -> str:
        """A call that gets axis= where the classes are not last."""
        return text if self.axis == -1 else f"{text[:-1]}, axis={self.axis})"

    def departure(self, need: str, as_prediction: bool) -> str:
        """What is wrong with the array where `need` is wanted; empty if nothing is."""
        kind, name = self.kind, self.reading.name
        if kind == "labels":
            wrong = "holds labels" if need != "classes" else ""
        elif need == "logits":
            wrong = "" if kind in ("logits", "log_probs") else "is not in log space"
        elif kind == "logits":
            wrong = "holds logits"
        elif (need == "log_probs") != (kind == "log_probs"):
            wrong = "is in log space" if kind == "log_probs" else "is not in log space"
        else:
            wrong = "is not normalised" if as_prediction and not self.reading.normalised else ""
        return f"{name} {wrong}" if wrong else ""

    def converted(self, need: str) -> tuple[str, Array]:
        """The array as `need` wants it: how that is written in Python, and the values."""
        if need not in self.forms:
            self.forms[need] = self.convert(need)
        return self.forms[need]

    def convert(self, need: str) -> tuple[str, Array]:
        text, x, kind = self.reading.name, self.array, self.kind
        if kind == "labels":
            if need == "classes":
                return (text, x) if x.dtype == np.int64 else (f"{text}.astype(np.int64)", x.astype(np.int64))
            text, x = f"np.eye({self.classes})[{text}]", np.eye(self.classes)[x.astype(np.intp)]
            if self.axis != -1:
                text, x = f"np.moveaxis({text}, -1, {self.axis})", np.moveaxis(x, -1, self.axis)
            kind = "one_hot"
        elif x.dtype.kind != "f":
            text, x = f"{text}.astype(float)", x.astype(np.float64)
        if need == "classes":
            need = "probs"
        # A target is taken as it is; a prediction has to be a distribution.
        loose = self.is_prediction and self.reading.normalised is False
        if kind in ("probs", "one_hot") and need != "probs":
            text, x, kind = f"np.log({text})", np.log(x), "logits" if loose else "log_probs"
        if need == "logits" or (kind == need and not loose) or (kind == "one_hot" and need == "probs"):
            return text, x
        if need == "log_probs":
            return self.along(f"xent.log_softmax({text})"), xent.log_softmax(x, axis=self.axis)
        if kind == "probs":
            return f"{text} / {text}.sum({self.axis}, keepdims=True)", x / x.sum(self.axis, keepdims=True)
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
    first: int
    ndim: int
    rounding: float
    reverse_scale: float
    target: str  # the name of the argument that is the target

    def within(self, value: float, expected: float, scale: float) -> bool:
        if not (math.isfinite(value) and math.isfinite(expected) and math.isfinite(scale)):
            return value == expected
        return abs(value - expected) <= scale * self.rounding


@dataclass(frozen=True)
class Formula:
    """``factor KL``, or ``factor KL + H(target)``, in words."""

    text: str
    comment: str = ""
    factor: float = 1.0
    plus_entropy: bool = False

    def __str__(self) -> str:
        return f"{self.text}, {self.comment}" if self.comment else self.text

    def holds(self, value: float, m: Numbers, slack: float, reverse: bool = False) -> bool:
        expected = self.factor * (m.reverse if reverse else m.kl) + (m.entropy if self.plus_entropy else 0.0)
        scale = 1 + (m.reverse_scale if reverse else abs(m.cross_entropy) + abs(m.entropy))
        return m.within(value, expected, self.factor * scale + slack / m.rounding)


def per_row(m: Numbers) -> Formula:
    return Formula("KL")


def over_classes(m: Numbers) -> Formula:
    return Formula("KL / C", "divided by the number of classes", 1 / m.classes) if m.classes > 1 else per_row(m)


def over_classes_gluon(m: Numbers) -> Formula:
    return Formula("KL / C", "divided by the number of classes; adds 1e-12", 1 / m.classes)


def per_row_normalised(m: Numbers) -> Formula:
    return Formula("KL", "normalises both arrays itself")


def per_row_clipped(m: Numbers) -> Formula:
    return Formula("KL", "clips both arrays at 1e-7")


def summed(m: Numbers) -> Formula:
    return Formula("N KL", "summed over the rows", m.rows) if m.rows > 1 else per_row(m)


def over_first_axis(m: Numbers) -> Formula:
    if m.first == m.rows:
        return per_row(m)
    what = "the only axis, the classes" if m.ndim == 1 else f"the first axis of length {m.first}"
    return Formula(f"{'' if m.rows == 1 else 'N '}KL / {m.first}", f"divided by {what}", m.rows / m.first)


def with_entropy(m: Numbers) -> Formula:
    if m.entropy == 0:
        return Formula("KL", "as the target's entropy, which it adds, is 0")
    return Formula(f"KL + H({m.target})", "adds the target's entropy", plus_entropy=True)


@dataclass(frozen=True)
class Row:
    """A library's call. `takes`: the forms of prediction and target; `target_first`: the order of its arguments."""

    call: str
    function: Callable[[Array, Array, int], Any]
    takes: tuple[str, str]
    formula: Callable[[Numbers], Formula]
    target_first: bool = False
    swapped: bool = False  # as it is written here, the array named input is where the target belongs
    slack: float = 0.0


def torch_kl(reduction: str, log_target: bool) -> Callable[[Array, Array, int], Any]:
    return lambda x, t, axis: torch.kl_div(x, t, reduction=reduction, log_target=log_target)


def torch_ce(x: Array, t: Array, axis: int) -> Any:
    # PyTorch's class axis is the second.
    ndim = max(x.ndim, t.ndim)
    x, t = (np.moveaxis(a, axis, 1) if a.ndim == ndim > 1 else a for a in (x, t))
    return torch.cross_entropy(x, t)


def keras_kl(y_true: Array, y_pred: Array, axis: int) -> Any:
    """``sum t log(t / p)``, t and p clipped to 1e-7 and 1: keras.losses.kl_divergence, as its documentation spells it.

    https://keras.io/api/losses/probabilistic_losses/#kl_divergence-function; `KLDivergence` averages it over all rows.
    """
    t, p = (np.clip(a, KERAS_EPSILON, 1.0) for a in (y_true, y_pred))
    return scipy.rel_entr(t, p).sum(axis).mean()


def rows_of_table() -> list[Row]:
    rows = []
    for log_target in (False, True):
        takes = ("log_probs", "log_probs" if log_target else "probs")
        for reduction, formula in (
            ("mean", over_classes),
            ("batchmean", over_first_axis),
            ("sum", summed),
            ("none", summed),
        ):
            call = f"torch kl_div {reduction}{', log_target' if log_target else ''}"
            rows.append(Row(call, torch_kl(reduction, log_target), takes, formula))
    both = ("probs", "probs")
    return [
        *rows,
        Row("torch cross_entropy", torch_ce, ("logits", "classes"), with_entropy),
        Row(
            "Gluon SoftmaxCELoss",
            lambda x, t, axis: gluon.SoftmaxCELoss(axis=axis, sparse_label=t.ndim < x.ndim)(x, t).mean(),
            ("logits", "classes"),
            with_entropy,
        ),
        Row(
            "Gluon KLDivLoss",
            lambda x, t, axis: gluon.KLDivLoss(axis=axis)(x, t).mean(),
            ("log_probs", "probs"),
            over_classes_gluon,
            slack=1e-12,
        ),
        Row(
            "optax kl_divergence",
            lambda x, t, axis: optax.kl_divergence(x, t, axis=axis).mean(),
            ("log_probs", "probs"),
            per_row,
        ),
        Row("SciPy rel_entr(target, input).sum()", rel_entr_sum, both, summed, target_first=True),
        Row("SciPy rel_entr(input, target).sum()", rel_entr_sum, both, summed, target_first=True, swapped=True),
        Row("SciPy entropy(target, input)", mean_entropy, both, per_row_normalised, target_first=True),
        Row("SciPy entropy(input, target)", mean_entropy, both, per_row_normalised, target_first=True, swapped=True),
        Row("Keras KLDivergence(target, input)", keras_kl, both, per_row_clipped, target_first=True),
    ]


def rel_entr_sum(p: Array, q: Array, axis: int) -> Any:
    return scipy.rel_entr(p, q).sum()


def mean_entropy(p: Array, q: Array, axis: int) -> Any:
    return scipy.entropy(p, q, axis=axis).mean()


@dataclass(frozen=True)
class Call:
    """What a call gives: part of an `Explanation`.

    `value` in nats (None for an array, whose `shape` is given, and where the call is refused); `is_kl` whether that is
    KL(target, prediction); `relation` to it, in words.
    """

    call: str
    value: float | None
    shape: tuple[int, ...] | None
    refused: str | None
    is_kl: bool
    relation: str

    @property
    def shown(self) -> str:
        if self.refused is not None:
            return "error"
        return f"{self.value + 0.0:.6g}" if self.value is not None else "x".join(map(str, self.shape or ())) + " array"


def evaluate(row: Row, prediction: Array, target: Array, axis: int) -> tuple[Array | None, str | None]:
    """The value of the call, or the message with which it is refused."""
    arguments = (target, prediction) if row.target_first else (prediction, target)
    # PyTorch's door warns, as PyTorch does, that "mean" is not the divergence; that is in the table.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return np.asarray(row.function(*arguments, axis)), None
        except (TypeError, ValueError, IndexError, RuntimeError) as error:
            return None, str(error)


def in_all(value: Array | None) -> float:
    return math.nan if value is None else float(value.sum(dtype=np.float64))


def bounded(x: Array, zero: Array) -> Array:
    """-inf, where the target is 0, as a number whose exponential is 0 all the same: nothing is 0 times infinity."""
    return np.where(zero & np.isneginf(x), np.asarray(-1e4, x.dtype), x) if x.shape == zero.shape else x


def relate(row: Row, a: Side, b: Side, m: Numbers) -> Call:
    """The call on the arrays as they are, `a` where it takes the prediction and `b` where it takes the target."""
    value, refused = evaluate(row, a.array, b.array, a.axis)
    swapped, formula = not a.is_prediction, row.formula(m)
    p, t = (b, a) if swapped else (a, b)
    # SciPy's entropy normalises by itself.
    departures = (a.departure(row.takes[0], row.function is not mean_entropy), b.departure(row.takes[1], False))
    wrong = [text for text in departures if text]
    if refused is not None and not wrong:
        odd = [s for s in (p, t) if s.array.dtype.kind != "f" or s.kind == "labels"]
        wrong = [f"{s.reading.name} is of dtype {s.array.dtype}" for s in odd] or [refused]
    exact, relation = False, None
    if not wrong and swapped:
        if formula.holds(in_all(value), m, row.slack, reverse=True):
            relation = "arguments swapped: " + formula.text.replace("KL", f"KL(prediction, {m.target})")
    elif not wrong:
        exact, relation = meaning(row, a.array, b.array, t, m, brief=False)
    else:
        (p_text, x), (t_text, y) = p.converted(row.takes[0]), t.converted(row.takes[1])
        relation = "arguments swapped" if swapped else "; ".join(wrong)
        changed = [new for new, side in ((p_text, p), (t_text, t)) if new != side.reading.name]
        arguments = ", ".join((t_text, p_text) if row.target_first else (p_text, t_text))
        of_these = meaning(row, x, y, t, m, brief=True)[1]
        if of_these is not None:
            relation += f": with {f'({arguments})' if swapped or len(changed) > 1 else changed[0]} {of_these}"
    single = value is not None and not value.ndim
    return Call(
        row.call,
        float(value) if value is not None and single else None,
        None if value is None or single else value.shape,
        refused,
        single and exact and formula.factor == 1 and not formula.plus_entropy,
        relation or "no simple relation to KL here",
    )


def meaning(row: Row, x: Array, y: Array, t: Side, m: Numbers, brief: bool) -> tuple[bool, str | None]:
    """What the call gives of prediction and target as it takes them: whether its formula exactly, and in words."""
    value, formula = evaluate(row, x, y, t.axis)[0], row.formula(m)
    if value is None:
        return False, None
    if formula.holds(in_all(value), m, row.slack):
        if value.ndim:
            return True, f"the terms of {formula.text}"
        return True, f"= {formula.text if brief else formula}"
    if np.isnan(value).any():
        zero = t.converted("probs")[1] == 0
        if formula.holds(in_all(evaluate(row, bounded(x, zero), bounded(y, zero), t.axis)[0]), m, row.slack):
            return False, f"NaN where 0 meets infinity, else {formula.text}"
    elif row.function is keras_kl:
        clipped = sum(int(((a < KERAS_EPSILON) | (a > 1)).sum()) for a in (x, y))
        if clipped and formula.holds(in_all(scipy.rel_entr(y, x)) / m.rows, m, 0.0):
            return False, f"clipped at 1e-7 ({clipped} of {x.size + y.size} elements), else KL"
    elif row.function is mean_entropy:
        # SciPy divides its arguments by their sums.
        unit = t.converted("probs")[1]
        unit = unit / unit.sum(t.axis, keepdims=True)
        kl = in_all(scipy.rel_entr(unit, x)) / m.rows
        if m.within(in_all(value), kl, 1 + abs(m.cross_entropy) + abs(m.entropy)):
            return False, "normalises silently: KL of the target divided by its sum"
    return False, None


# ---------------------------------------------------------------------------------------------------------------------
# The result


@dataclass(frozen=True, eq=False)
class Explanation:
    """What `explain` found; print it, or show it in a notebook.

    Attributes
    ----------
    input, target : Reading
        What the arrays look like.
    swapped : bool
        Whether `input` looks like the target, and `target` like the prediction; it is then read so.
    axis, rows, classes : int
        The class axis, how many rows there are (N) and how many classes (C).
    kl, reverse, entropy, cross_entropy : float
        KL(target, prediction), KL(prediction, target), H(target) and the cross-entropy, means over the rows, in nats.
    prediction : str
        The prediction as probabilities, in Python.
    per_class : ndarray of shape (C,)
        What each class adds to `kl`.
    pitfalls : tuple of str
        What these arrays run into, the worst first.
    calls : tuple of Call
        What each library's call gives.
    use : str
        The one call to use.
    """

    input: Reading
    target: Reading
    swapped: bool
    axis: int
    rows: int
    classes: int
    prediction: str
    kl: float
    reverse: float
    entropy: float
    cross_entropy: float
    per_class: Array
    pitfalls: tuple[str, ...]
    calls: tuple[Call, ...]
    use: str

    @property
    def summary(self) -> str:
        """The divergence, what it is of, and the numbers that it is taken for."""
        target = "input" if self.swapped else "target"
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        return (
            f"KL({target}, prediction) = {self.kl:.6g} nats, the mean of N = {rows} of C = {self.classes} classes; the "
            f"prediction is {self.prediction}. H({target}) = {self.entropy + 0.0:.6g}, "
            f"cross-entropy = {self.cross_entropy:.6g}; the other way round, KL(prediction, {target}) = "
            f"{self.reverse + 0.0:.6g}."
        )

    def __str__(self) -> str:
        lines = []
        for reading in (self.input, self.target):
            lines += wrapped(f"{reading.name:8}", f"{reading.dtype} {reading.shape}, {reading}")
        lines += wrapped("KL      ", self.summary)
        for pitfall in self.pitfalls:
            lines += wrapped("pitfall ", pitfall)
        lines.append(f"use     {self.use}")
        name = max(len(call.call) for call in self.calls)
        value = max(len(call.shown) for call in self.calls)
        lines += [f"  {'call':{name}}  {'value':>{value}}  relation to KL; ! is not the divergence", "-" * WIDTH]
        for call in self.calls:
            mark = " " if call.is_kl else "!"
            lines += wrapped(f"{mark} {call.call:{name}}  {call.shown:>{value}}  ", call.relation)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        def cells(tag: str, texts: Sequence[str]) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"

        def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
            return f"<table>{cells('th', head)}{''.join(cells('td', line) for line in body)}</table>"

        readings = [(r.name, r.dtype, str(r.shape), str(r)) for r in (self.input, self.target)]
        calls = [("" if c.is_kl else "!", c.call, c.shown, c.relation) for c in self.calls]
        pitfalls = "".join(f"<li>{html.escape(text)}</li>" for text in self.pitfalls)
        return (
            f"{table(('array', 'dtype', 'shape', 'looks like'), readings)}<p>{html.escape(self.summary)}</p>"
            f"{f'<ol>{pitfalls}</ol>' if pitfalls else ''}{table(('', 'call', 'value', 'relation to KL'), calls)}"
            f"<p>! is not the divergence. Use <code>{html.escape(self.use)}</code></p>"
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain dicts, lists, strings and numbers (infinities and NaN among them)."""
        record = asdict(self)
        record["per_class"] = self.per_class.tolist()
        for item in (record["input"], record["target"], *record["calls"]):
            item["shape"] = None if item["shape"] is None else list(item["shape"])
        return record | {"pitfalls": list(self.pitfalls), "calls": list(record["calls"])}

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
        """
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
    return textwrap.wrap(
        text,
        max(WIDTH, len(start) + 40),
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Putting it together


def operand(name: str, value: ArrayLike) -> Array:
    refuse_masked("explain", name, value)
    array: Array = as_array(value, "explain", name)
    if array.dtype.kind not in "biu" and not is_kernel_float(array):
        raise TypeError(f"explain: {name} must be float16, float32, float64, integers or bools, not {array.dtype}")
    if not array.size:
        raise ValueError(f"explain: {name} has shape {array.shape}, so there is nothing in it to explain")
    return array


def read(input: ArrayLike, target: ArrayLike, axis: int) -> tuple[Side, Side]:
    """Both arrays, looked at."""
    x, t = operand("input", input), operand("target", target)
    dense = x if x.ndim >= t.ndim else t
    if not dense.ndim:
        raise ValueError("explain: input and target are single numbers; an axis of classes is expected")
    try:
        place = normalize_axis_index(operator.index(axis), dense.ndim, "explain")
    except TypeError:
        raise TypeError(f"explain: axis must be an int, not {type(axis).__name__}") from None
    classes = dense.shape[place]
    batch = dense.shape[:place] + dense.shape[place + 1 :]
    if x.shape != t.shape and batch not in (x.shape, t.shape):
        raise ValueError(
            f"explain: input has shape {x.shape} and target {t.shape}; expected the same shape, or labels of shape "
            f"{batch}, one a row of {classes} classes along axis {place}"
        )
    # Written as users write it, where the classes are last.
    axis = -1 if place == dense.ndim - 1 else place

    def side(name: str, array: Array, is_prediction: bool) -> Side:
        if array.shape == dense.shape:
            reading, missed = read_dense(name, array, axis, not is_prediction)
        else:
            reading, missed = read_labels(name, array, classes), 0.0
        return Side(reading, array, axis, classes, missed, is_prediction)

    p, t_side = side("input", x, True), side("target", t, False)
    sure = ("labels", "one_hot")
    if (
        p.kind == "labels"
        or (p.kind == "one_hot" and t_side.kind not in sure)
        or (p.kind == "probs" and t_side.kind in ("log_probs", "logits"))
    ):
        # Read again: what an array looks like depends on the place in which it belongs.
        return side("target", t, True), side("input", x, False)
    return p, t_side


def call_to_use(p: Side, t: Side) -> tuple[str, float]:
    """The one call that gives the divergence, as it is written and its value."""
    logits_text, logits = p.converted("logits")
    name, x = t.reading.name, t.array
    options: dict[str, Any] = {} if t.axis == -1 else {"axis": t.axis}
    function: Any = losses.kl_div
    if t.kind == "labels":
        function, (text, x) = losses.cross_entropy, t.converted("classes") if x.dtype.kind == "f" else (name, x)
    elif t.kind == "one_hot" and x.dtype.kind != "f":
        function, text, x = losses.cross_entropy, f"{name}.argmax({t.axis})", x.argmax(t.axis)
    else:
        text, x = (name, x) if x.dtype.kind == "f" else t.converted("probs" if t.kind == "probs" else t.kind)
        if t.kind in ("log_probs", "logits"):
            options["target_kind"] = t.kind
    written = "".join(f", {key}={value!r}" for key, value in options.items())
    call = f"xent.losses.{function.__name__}({logits_text}, {text}{written})"
    return call, float(function(logits, x, **options))


def measure(p: Side, t: Side, kl: float) -> Numbers:
    probs, log_probs = p.converted("probs")[1], t.converted("log_probs")[1]
    rows = p.array.size // p.classes if p.kind != "labels" else t.array.size // t.classes
    entropy_of_prediction = float(xent.entropy(probs, axis=p.axis).mean(dtype=np.float64))
    reverse = in_all(xent.kl_pointwise(log_probs, probs)) / rows
    eps = max(epsilon(p.array), epsilon(t.array))
    return Numbers(
        kl=kl,
        reverse=reverse,
        entropy=float(xent.entropy(t.converted("probs")[1], axis=t.axis).mean(dtype=np.float64)),
        cross_entropy=float(losses.cross_entropy(p.converted("logits")[1], t.converted("classes")[1], axis=p.axis)),
        rows=rows,
        classes=p.classes,
        first=max(p.array, t.array, key=np.ndim).shape[0],
        ndim=max(p.array.ndim, t.array.ndim),
        # 16 for the chain of roundings, the rest for sums that miss 1 by theirs.
        rounding=eps * (20 + math.sqrt(p.classes)) + sum(s.missed for s in (p, t) if s.reading.normalised),
        reverse_scale=abs(reverse) + 2 * abs(entropy_of_prediction),
        target=t.reading.name,
    )


def own_calls(p: Side, t: Side, m: Numbers) -> list[Call]:
    """xent's three numbers, and whether they are what they should be."""
    terms = xent.kl_pointwise(p.converted("log_probs")[1], t.converted("probs")[1])
    formula = with_entropy(m)
    related = {
        "xent kl_div": "= KL" if per_row(m).holds(in_all(terms) / m.rows, m, 0.0) else None,
        "xent cross_entropy": f"= {formula}" if formula.holds(m.cross_entropy, m, 0.0) else None,
        "xent entropy": (
            f"H({m.target}), of the target alone"
            if formula.holds(m.kl + m.entropy, m, 0.0) and m.entropy >= 0
            else None
        ),
    }
    values = (m.kl, m.cross_entropy, m.entropy)
    return [
        Call(
            call,
            value,
            None,
            None,
            relation is not None and call != "xent entropy" and not (formula.plus_entropy and "cross" in call),
            relation or "no simple relation to KL here",
        )
        for (call, relation), value in zip(related.items(), values, strict=True)
    ]


def first_place(found: Array) -> str:
    return f"{int(found.sum())} of {found.size} elements, the first at {tuple(int(i) for i in np.argwhere(found)[0])}"


def pitfalls_of(p: Side, t: Side, m: Numbers, calls: dict[str, Call]) -> list[str]:
    """What these arrays run into, the worst first; `calls` by name."""
    found = []
    a, b = p.reading, t.reading
    shown = {name: call.shown for name, call in calls.items()}
    raw = calls["torch kl_div batchmean"].value
    for side in (p, t):
        missing = np.isnan(side.array) if side.array.dtype.kind == "f" else np.zeros((), bool)
        if missing.any():
            found.append(f"{side.reading.name} holds NaN: {first_place(missing)}. No mean survives it.")
    if not p.is_first:
        found.append(
            f"The arguments look swapped: input holds {KIND_NAMES[b.kind]}, target {KIND_NAMES[a.kind]}. Here, in "
            "PyTorch, Gluon and optax the prediction comes first, in SciPy and Keras the target. Below, target is read "
            "as the prediction."
        )
    if p.kind in ("probs", "one_hot"):
        sign = ", and a divergence is never negative" if p.is_first and raw is not None and raw < 0 else ""
        found.append(
            f"{a.name} is not in log space: kl_div of PyTorch, Gluon and optax takes log-probabilities"
            + (f" (batchmean gives {shown['torch kl_div batchmean']}{sign})" if raw is not None and p.is_first else "")
            + f", and their cross-entropies make another softmax of it. np.log({a.name}) is right for both."
        )
    elif p.kind == "logits":
        found.append(
            f"{a.name} holds logits: kl_div of PyTorch, Gluon and optax takes log-probabilities and normalises nothing"
            + (f" (batchmean gives {shown['torch kl_div batchmean']})" if raw is not None and p.is_first else "")
            + f". {p.converted('log_probs')[0]} is right for it."
        )
    if t.kind in ("log_probs", "logits"):
        what = "in log space" if t.kind == "log_probs" else "logits"
        remedy = "log_target=True" if t.kind == "log_probs" else t.converted("probs")[0]
        found.append(f"{b.name} is {what}, where most calls take probabilities: in PyTorch's kl_div use {remedy}.")
    if (t.array < 0).any() and t.kind == "probs":
        found.append(f"{b.name} has negative probabilities ({first_place(t.array < 0)}): KL is NaN there.")
    if a.normalised is False:
        found.append(f"{a.name} is not normalised: {a.evidence}. KL is that of the prediction divided by its sum.")
    if b.normalised is False:
        found.append(
            f"{b.name} is not normalised: {b.evidence}. Of a sum T, KL is T KL({b.name} / T, prediction) + T log T, "
            "which may be negative; SciPy's entropy divides by T silently."
        )
    if math.isinf(m.kl):
        # Not by their probabilities: those of finite logits may be too small for a float.
        empty = (p.converted("logits")[1] == -np.inf) & (t.converted("logits")[1] > -np.inf)
        found.append(
            f"KL is infinite: the target is positive where the prediction is 0 ({first_place(empty)}). "
            "Keras' clipping hides that."
            if empty.any()
            else "KL is beyond the largest float."
        )
    if t.kind == "labels" and t.array.dtype.kind == "f":
        found.append(f"{b.name} holds labels of dtype {b.dtype}; most calls take integers only.")
    if t.kind == "one_hot" and t.array.dtype.kind != "f":
        found.append(f"{b.name} is one-hot of dtype {b.dtype}; PyTorch takes integers for labels.")
    if over_first_axis(m).factor != 1:
        found.append(f"PyTorch's batchmean divides by the first axis, of length {m.first}, not by N = {m.rows}.")
    if m.ndim > 1 and p.axis % m.ndim != 1:
        found.append("PyTorch's cross_entropy takes the classes from axis 1; its value below is with them moved there.")
    if "NaN where" in calls["optax kl_divergence"].relation:
        found.append(
            "A target of 0 meets a log-probability of -inf: kl_div of PyTorch, Gluon and optax is NaN then; here and "
            "in SciPy that adds 0."
        )
    if calls["torch kl_div mean"].relation.startswith("= KL / C"):
        found.append(
            f"PyTorch's default reduction, mean, divides by the C = {m.classes} classes too: "
            f"{shown['torch kl_div mean']} instead of {m.kl:.6g}. So does Gluon's KLDivLoss."
        )
    if t.kind in ("one_hot", "labels") and with_entropy(m).holds(m.cross_entropy, m, 0.0) and m.entropy == 0:
        found.append("All of each row's target is on one class: its entropy is 0, so cross-entropy and KL agree.")
    return found


def explain(input: ArrayLike, target: ArrayLike, axis: int = -1) -> Explanation:
    """Say what two arrays look like, and how the losses of several libraries on them relate to KL(target, prediction).

    Looks at the values, not at names: rows that sum to 1 are probabilities, rows whose exponentials do are
    log-probabilities, one integer a row is a label. Where `input` can only be the target of `target`, they are read
    swapped, and the first pitfall says so. Then PyTorch's, Gluon's, optax's and SciPy's losses are computed of the
    arrays exactly as they are, by the doors of `xent.compat`, and Keras' clipped divergence by its formula. A relation
    is stated only if it holds for these numbers within rounding.

    Parameters
    ----------
    input : array_like
        The prediction: logits, log-probabilities or probabilities, C classes along `axis`.
    target : array_like
        Of the same shape: probabilities, log-probabilities, logits or one-hot; or labels, one a row.
    axis : int, default -1
        The class axis.

    Returns
    -------
    Explanation
        Print it; or see its attributes, ``to_dict()`` and ``plot()``. In a notebook it shows as tables. Values are in
        nats, means over the rows unless the call says otherwise.

    Raises
    ------
    IndexError
        A label outside 0 to C - 1: its value and position.
    TypeError
        A masked array, or a dtype other than float16, float32, float64, integers and bool.
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
    """
    # Infinities and NaN are part of what is explained.
    with np.errstate(all="ignore"):
        return explained(*read(input, target, axis))


def explained(p: Side, t: Side) -> Explanation:
    use, kl = call_to_use(p, t)
    m = measure(p, t, kl)
    calls = own_calls(p, t, m)
    first, second = (p, t) if p.is_first else (t, p)
    for row in rows_of_table():
        calls.append(relate(row, *((second, first) if row.swapped else (first, second)), m))
    per_class = losses.kl_div(p.converted("logits")[1], t.converted("probs")[1], axis=p.axis, reduction="per_class")
    return Explanation(
        input=first.reading,
        target=second.reading,
        swapped=not p.is_first,
        axis=p.axis,
        rows=m.rows,
        classes=m.classes,
        prediction=p.converted("probs")[0],
        kl=m.kl,
        reverse=m.reverse,
        entropy=m.entropy,
        cross_entropy=m.cross_entropy,
        per_class=np.asarray(per_class, np.float64) / m.rows,
        pitfalls=tuple(pitfalls_of(p, t, m, {call.call: call for call in calls})),
        calls=tuple(calls),
        use=use,
    )


def who_computes_what() -> str:
    """README's table: each call, what it takes in the place of input and of target, and what it gives of that."""
    prediction = np.log([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    target = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    forms = {
        "log_probs": (prediction, np.log(target)),
        "logits": (prediction + 1.0, np.log(target) + 1.0),
        "probs": (np.exp(prediction), target),
        "classes": (prediction, target),
    }
    lines = ["| call | input | target | value |", "|---|---|---|---|"]
    for row in rows_of_table():
        needs = row.takes
        x, t = forms[needs[0]][0], forms[needs[1]][1]
        call = next(call for call in explain(x, t).calls if call.call == row.call)
        lines.append(f"| {row.call} | {KIND_NAMES[needs[0]]} | {KIND_NAMES[needs[1]]} | {call.relation} |")
    return "\n".join(lines) + "\n"
