"""What an array of a loss looks like: a part of `xent.explain`, and all that it judges by.

An array is walked once, a block of rows at a time, for the few facts that tell its kind (`Look`). A hypothesis, such as
"base-2 logarithms of probabilities", is dropped at the first row that refutes it, so that an array of logits costs
little more than its minimum, maximum and sums.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

import xent
from xent.compat._shared import is_float

Array: TypeAlias = NDArray[Any]

NEAR = 0.05  # rows whose sums are this close to 1 are meant to sum to 1
BLOCK = 1 << 16  # elements that are looked at together: they stay in cache
RUNS, SHORTEST = 64, 4  # of blocks, each one thread's: so many, or so long

# Logarithms of probabilities: what to multiply by to get natural ones, how that is written, and what undoes them.
LOGS = {
    "log_probs": (1.0, "{}", "exp"),
    "log2_probs": (math.log(2), "{} * np.log(2)", "2 ** x"),
    "log10_probs": (math.log(10), "{} * np.log(10)", "10 ** x"),
    "neg_log_probs": (-1.0, "-{}", "exp(-x)"),
    "neg_log2_probs": (-math.log(2), "{} * -np.log(2)", "2 ** -x"),
    "neg_log10_probs": (-math.log(10), "{} * -np.log(10)", "10 ** -x"),
}
# Probabilities in another unit: what to divide by.
UNITS = {"probs": 1.0, "percent": 100.0, "neg_probs": -1.0}
KIND_NAMES = {
    "logits": "logits",
    "log_probs": "log-probabilities",
    "log2_probs": "base-2 log-probabilities",
    "log10_probs": "base-10 log-probabilities",
    "neg_log_probs": "negative log-probabilities",
    "neg_log2_probs": "negative base-2 log-probabilities",
    "neg_log10_probs": "negative base-10 log-probabilities",
    "probs": "probabilities",
    "percent": "probabilities in percent",
    "neg_probs": "probabilities of the wrong sign",
    "weights": "counts or weights",
    "one_hot": "one-hot probabilities",
    "multi_hot": "zeros and ones",
    "signs": "-1 and 1",
    "binary_logits": "logits, each on its own",
    "binary_probs": "probabilities, each on its own",
    "labels": "labels",
    "classes": "probabilities or labels",
    "scores": "numbers without classes",
}


@dataclass(frozen=True)
class Reading:
    """What an array looks like, and why: part of an `Explanation`.

    `kind` is one of logits, log_probs (log2_probs, log10_probs and their negatives), probs, percent, neg_probs,
    weights, one_hot and labels; where classes are each present or not, multi_hot, signs, binary_logits and
    binary_probs; scores where there are no classes. `normalised` says whether rows sum to 1 within the rounding of
    their dtype (None for those that need not)."""

    name: str
    kind: str
    normalised: bool | None
    evidence: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        rest = "" if self.normalised is not False else ", not normalised"
        return f"{KIND_NAMES[self.kind]}{rest}: {self.evidence}"


def number(value: float) -> str:
    return f"{value + 0.0:.6g}"


def span(low: float, high: float) -> str:
    a, b = number(low), number(high)
    return a if a == b else f"{a} to {b}"


def is_whole(array: Array) -> bool:
    return array.dtype.kind in "biu"


def as_float64(array: Array) -> Array:
    return array if is_whole(array) else np.asarray(array, np.float64)


def blocks_of(shape: tuple[int, ...], width: int) -> Iterator[tuple[slice | int, ...]]:
    """Places that together make up a batch of `shape`, each of about BLOCK elements where a row has `width`."""
    if not shape:
        yield ()
        return
    inner, cut = width, len(shape) - 1
    while cut > 0 and inner * shape[cut] <= BLOCK:
        inner *= shape[cut]
        cut -= 1
    step = max(1, BLOCK // max(inner, 1))
    for outer in itertools.product(*(range(n) for n in shape[:cut])):
        for start in range(0, shape[cut], step):
            yield (*outer, slice(start, start + step))


Place: TypeAlias = tuple[slice | int, ...]
Found = TypeVar("Found")
Tick: TypeAlias = Callable[[int], None]  # told how many elements more are done


def untold(elements: int) -> None:
    """What has nobody to tell of its progress."""


def in_runs(places: list[Place], one: Callable[[list[Place]], Found]) -> list[Found]:
    """What `one` finds in each run of places, in order, on xent's threads; how many those are changes no run."""

    def quietly(run: list[Place]) -> Found:
        with np.errstate(all="ignore"):  # a thread's own
            return one(run)

    step = max(SHORTEST, -(-len(places) // RUNS))
    runs = [places[start : start + step] for start in range(0, len(places), step)]
    threads = min(xent.get_num_threads(), len(runs))
    if threads < 2:
        return [quietly(run) for run in runs]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(quietly, runs))


def row_sums(rows: Array) -> Array:
    """In float64."""
    if rows.shape[1] > 32:
        return np.asarray(rows.sum(1, dtype=np.float64))
    # NumPy takes longer to begin a short sum than to make it.
    sums = rows[:, 0].astype(np.float64)
    for i in range(1, rows.shape[1]):
        sums += rows[:, i]
    return sums


def mass_of(rows: Array, factor: float) -> Array:
    """The sums of the exponentials of the rows times `factor`."""
    if rows.dtype == np.float32 and factor == 1:
        # Of sums near 1 float32 gives the digits that are printed, and says in half the time whether they are near.
        mass: Array = np.exp(xent.logsumexp(rows), dtype=np.float64)
        if bool((np.abs(mass - 1) <= 2 * NEAR).all()):
            return mass
    mass = np.zeros(len(rows))
    for some in columns(rows):
        mass += np.exp(xent.logsumexp(some if factor == 1 else some * np.float64(factor), dtype=np.float64))
    return mass


def columns(rows: Array) -> Iterator[Array]:
    """The rows themselves, or what is a block long of one that is longer, as where there is one number a row."""
    for start in range(0, rows.shape[1], BLOCK):
        yield rows[:, start : start + BLOCK]


@dataclass
class Look:
    """The facts about an array's rows along an axis, of as many rows as have been added."""

    classes: int
    eps: float = 0.0  # of the array's dtype
    rows: int = 0
    low: float = math.inf
    high: float = -math.inf
    sum_low: float = math.inf
    sum_high: float = -math.inf
    zeros: bool = False  # where nothing is below 0, or all is whole
    whole: bool = True
    # By how much the sums of a kind, or the sums of the exponentials of one, miss 1; infinite once it is refuted.
    missed: dict[str, float] = field(default_factory=lambda: dict.fromkeys((*UNITS, *LOGS), 0.0))
    mass_low: float = math.inf
    mass_high: float = -math.inf
    nan_rows: int = 0
    walked: int = 0
    places: dict[str, int] = field(default_factory=dict)  # the rows of the extremes and of the first NaN

    def add(self, rows: Array) -> None:
        """Some more rows, of integers or in float32 or float64."""
        rows = rows.reshape(-1, self.classes)
        start, numbers = self.walked, None
        self.walked += len(rows)
        low, high = float(rows.min()), float(rows.max())
        if math.isnan(low):
            holed = np.isnan(rows).any(1)
            self.nan_rows += int(holed.sum())
            self.places.setdefault("nan", start + int(holed.argmax()))
            numbers = np.flatnonzero(~holed)
            if not len(numbers):
                return
            rows = rows[numbers]
            low, high = float(rows.min()), float(rows.max())
        first = not self.rows
        self.rows += len(rows)
        self.extreme("low", low, rows, start, numbers)
        self.extreme("high", high, rows, start, numbers)
        self.zeros = self.zeros or low == 0 or high == 0 or bool(self.whole and low < 0 < high and (rows == 0).any())
        if rows.dtype.kind == "f" and self.whole:
            finite = np.isfinite(low) and np.isfinite(high)
            self.whole = bool(finite and all((some == np.floor(some)).all() for some in columns(rows)))
        elif rows.dtype.kind != "f":
            self.missed |= dict.fromkeys(LOGS, math.inf)
        # Sums of numbers of both signs say nothing once they are no probabilities'.
        if self.whole or not self.low < 0 < self.high or min(self.missed[kind] for kind in UNITS) <= 2 * NEAR:
            sums = row_sums(rows)
            self.extreme("sum_low", float(sums.min()), sums[:, None], start, numbers)
            self.extreme("sum_high", float(sums.max()), sums[:, None], start, numbers)
            for kind, unit in UNITS.items():
                if not math.isinf(self.missed[kind]):
                    self.judge(kind, sums / unit if unit != 1 else sums)
        for kind, (factor, *_) in LOGS.items():
            if math.isinf(self.missed[kind]) and (kind != "log_probs" or self.high > 0.2):
                continue
            if max(low * factor, high * factor) > 0.2:
                self.missed[kind] = math.inf
                continue
            # A row refutes most of them, and all of the first block would cost as much as hundreds of rows.
            if first and kind != "log_probs":
                self.judge(kind, mass_of(rows[:1], factor))
                if math.isinf(self.missed[kind]):
                    continue
            mass = mass_of(rows, factor)
            if kind == "log_probs":  # of all rows, as these sums are told
                self.mass_low = min(self.mass_low, float(mass.min()))
                self.mass_high = max(self.mass_high, float(mass.max()))
            self.judge(kind, mass)

    def extreme(self, name: str, found: float, values: Array, start: int, numbers: Array | None) -> None:
        """Keep a minimum (its name ends so) or maximum of `values`, and which row has it."""
        best = getattr(self, name)
        if found < best if name.endswith("low") else found > best:
            setattr(self, name, found)
            row = int((values == found).any(1).argmax())
            self.places[name] = start + (row if numbers is None else int(numbers[row]))

    def merge(self, later: "Look") -> None:
        """The facts of the rows that follow."""
        for name in ("low", "high", "sum_low", "sum_high", "mass_low", "mass_high"):
            mine, its = getattr(self, name), getattr(later, name)
            if its < mine if name.endswith("low") else its > mine:
                setattr(self, name, its)
                if name in later.places:
                    self.places[name] = self.walked + later.places[name]
        if "nan" in later.places:
            self.places.setdefault("nan", self.walked + later.places["nan"])
        for name in ("rows", "walked", "nan_rows"):
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.zeros |= later.zeros
        self.whole &= later.whole
        self.missed = {kind: max(missed, later.missed[kind]) for kind, missed in self.missed.items()}

    @property
    def mass(self) -> str | None:
        """From what to what the rows' exponentials sum, where they were added up."""
        return span(self.mass_low, self.mass_high) if self.high <= 0.2 and self.mass_high > 0 else None

    def judge(self, kind: str, sums: Array) -> None:
        if not math.isinf(self.missed[kind]):
            worst = float(np.abs(sums - 1).max())
            self.missed[kind] = max(self.missed[kind], worst) if worst <= 2 * NEAR else math.inf

    @property
    def rounding(self) -> float:
        """How far sums of rounded values, or of exponentials of rounded logarithms, which lose more, may miss 1."""
        return min(16 * self.eps * (4 + math.sqrt(self.classes)), NEAR / 5)

    @property
    def zero_or_one(self) -> bool:
        return self.whole and self.is_unit

    @property
    def is_unit(self) -> bool:
        return self.low >= 0 and self.high <= 1

    @property
    def one_hot(self) -> bool:
        return self.zero_or_one and self.sum_low == self.sum_high == 1

    @property
    def settled(self) -> bool:
        """Whether the rows sum to 1 in some form: they were made along this axis."""
        return self.one_hot if self.zero_or_one else self.kind_that_sums is not None

    @property
    def kind_that_sums(self) -> str | None:
        for kind in ("probs", *LOGS, "percent", "neg_probs"):
            # Logarithms of probabilities end at 0, where probabilities begin.
            sign = -math.copysign(1, LOGS[kind][0]) if kind in LOGS else 1 / UNITS[kind]
            least = min(self.low * sign, self.high * sign)
            if self.missed[kind] <= self.rounding and least >= (-self.rounding if kind in LOGS else -1e-3):
                return kind
        return None


def look_at(array: Array, axis: int, until_unsettled: bool = False, tick: Tick = untold) -> Look:
    """The facts along `axis`; only as long as the rows still sum to 1 in some form, if that is all that matters."""
    moved = np.moveaxis(array, axis, -1)
    places = list(blocks_of(moved.shape[:-1], moved.shape[-1]))
    dtype = array.dtype if array.dtype.kind == "f" else np.float64
    eps = 2.0**-7 if array.dtype.name == "bfloat16" else float(np.finfo(dtype).eps)

    def one(run: list[Place]) -> Look:
        look, desk = Look(moved.shape[-1], eps), np.empty(0)
        for place in run:
            rows = moved[place]
            if is_float(array) and array.dtype.itemsize < 4:
                desk = np.empty(rows.size) if desk.size < rows.size else desk
                wide = desk[: rows.size].reshape(rows.shape)
                np.copyto(wide, rows, casting="unsafe")
                rows = wide
            look.add(rows)
            tick(rows.size)
            if until_unsettled and look.rows and not look.settled:
                break
        return look

    if until_unsettled:
        return one(places)
    look, *others = in_runs(places, one)
    for later in others:
        look.merge(later)
    return look


@dataclass(frozen=True)
class Kind:
    kind: str
    evidence: str
    normalised: bool | None = None
    missed: float = 0.0


def kinds_of(look: Look, is_target: bool) -> list[Kind]:
    """What rows with these facts may be, the likeliest first; more than one where the values do not decide."""
    low, high, rounding = look.low, look.high, look.rounding
    values = f"from {span(low, high)}"
    sums = span(look.sum_low, look.sum_high)
    summed = f"{values}, rows sum to {sums}"
    if look.one_hot:
        return [Kind("one_hot", "each row holds a single 1, else 0", True)]
    kind = look.kind_that_sums if not look.zero_or_one or look.sum_high == 0 else None
    if kind in LOGS:
        evidence = f"{values}, their {LOGS[kind][2]} sums to 1 within rounding"
        return [Kind(kind, evidence, True, look.missed[kind] + 4 * look.eps)]
    if kind is not None:
        return [Kind(kind, f"{values}, rows sum to {UNITS[kind]:g} within rounding", True, look.missed[kind])]
    if look.zero_or_one and is_target:
        return [Kind("multi_hot", f"zeros and ones, {sums} ones a row")]
    if look.whole and low == -1 and high == 1 and not look.zeros:
        return [Kind("signs" if is_target else "logits", "each -1 or 1")]
    unnormalised = Kind("probs", f"{summed}, not 1", False)
    why = "of both signs" if low < 0 < high else f"their sums {sums}"
    if not low < 0 < high and look.mass is not None:
        why += f", the sums of their exp {look.mass}"
    logits = Kind("logits", f"{values}, {why}")
    if low < 0 < high and look.missed["probs"] <= rounding:
        return [logits, Kind("probs", f"{values}, though rows sum to 1 within rounding", True, look.missed["probs"])]
    if high == math.inf:
        return [logits]
    if look.is_unit and look.sum_high > 0:
        if look.missed["probs"] <= NEAR:
            return [unnormalised]
        if look.zeros and look.sum_low > 0 and look.sum_high <= 1 + NEAR:
            return [Kind("probs", f"{summed}, not 1 (with zeros: pruned, and not divided by what was left)", False)]
        if not is_target:
            return [logits, unnormalised]
        if look.sum_high <= 1 + NEAR:
            return [unnormalised]
        return [unnormalised, Kind("binary_probs", f"{summed}, more than 1")]
    if look.missed["percent"] <= NEAR and low >= 0:
        return [Kind("percent", f"{summed}, about 100", False)]
    if low >= 0 and look.sum_low > 0 and high > 1:
        level = look.rows > 1 and look.sum_high - look.sum_low <= rounding * look.sum_high
        if level and not look.whole:
            return [Kind("weights", f"{values}, every row sums to {sums}")]
        if look.whole and is_target:
            return [Kind("weights", f"whole numbers {summed}"), logits]
        if look.whole or look.zeros or is_target:
            return [logits, Kind("weights", summed)]
    if high <= rounding and look.missed["log_probs"] <= NEAR:
        return [Kind("log_probs", f"{values}, their exp sums to {look.mass}, not 1", False, look.missed["log_probs"])]
    if is_target and high <= 0 and 0 < look.mass_high <= 1 + NEAR:
        return [logits, Kind("log_probs", f"{values}, their exp sums to {look.mass}", False)]
    return [logits]


@dataclass(frozen=True)
class Labels:
    """How labels count: what is to be taken off them, and which of them is none."""

    base: int = 0
    skip: int | None = None
    evidence: str = ""
    signs: bool = False  # -1 and 1 only, which may be the two classes


def read_labels(name: str, array: Array, classes: int, ignore_index: int | None) -> Labels:
    """How the labels count; IndexError where some are of no class, whatever way they are counted."""
    kind = array.dtype.kind
    if kind not in "iub" and not (is_float(array) and bool((array == np.floor(array)).all())):
        bad = ~(as_float64(array) == np.floor(as_float64(array)))
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        hint = f"; a distribution for all rows is {name}[None, :]" if array.shape == (classes,) else ""
        raise ValueError(
            f"explain: {name} has shape {array.shape}, one value a row, and {array.dtype} values that are no labels, "
            f"as {array[at].item()!r} at {at}{hint}; of a loss or a mean, give the array that it was made of"
        )
    values = array.astype(np.int64) if kind != "u" else array.astype(np.uint64)
    kept = values if ignore_index is None else values[values != ignore_index]
    skip = ignore_index
    outside = kept[(kept < 0) | (kept >= classes)]
    odd = np.unique(outside[:100_000])
    if len(odd) and (odd[0] < 0 or odd[0] == 255 != classes) and ignore_index is None:
        first = int(odd[0]) if odd[0] < 0 else 255
        skip, kept = first, kept[kept != first]
        outside = kept[(kept < 0) | (kept >= classes)]
    if not kept.size:
        raise ValueError(f"explain: every label of {name} is {skip}, which stands for no class: no row is left")
    base = 0
    if outside.size and kept.min() >= 1 and kept.max() == classes:
        base, outside = 1, outside[:0]
    if outside.size:
        at = tuple(int(i) for i in np.argwhere(values == outside[0])[0])
        hint = f"; there are labels for {int(kept.max()) + 1} classes" if kept.min() >= 0 else ""
        raise IndexError(
            f"explain: label {array[at].item()} of {name} at {at} is outside 0 to {classes - 1}{hint}; "
            "if it stands for no class, pass it as ignore_index"
        )
    whole = "integers" if kind in "iu" else "bools" if kind == "b" else "whole numbers"
    evidence = f"{whole} from {span(int(kept.min()), int(kept.max()))}, one a row"
    if base:
        evidence += f", counted from 1 (there is no 0, and {classes} = C occurs)"
    if skip is not None:
        evidence += f"; {array.size - kept.size} of {array.size} are {skip}, which stands for no class"
    signs = skip == -1 and ignore_index is None and classes == 2 and bool((kept == 1).all())
    return Labels(base, skip if kept.size < array.size else None, evidence, signs)
