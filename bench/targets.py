"""What each figure has to reach, as data, and the verdicts: met, or by how much it is missed.

`measure` is what a row is asked for: its speed over the best of some peers, over itself in float32 ("float32"), or over
itself on one thread ("serial", where memory is not the limit); or the part that it reaches of the limit that memory or
computing sets. log_softmax is measured with out= as everything is, so its memory limit is that of a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from bench import cases
from bench.cases import HALVES
from bench.peers import PEERS

Row: TypeAlias = dict[str, Any]

ALL = tuple(cases.OPERATIONS)
LOSSES = ("logsumexp", "ce_labels", "ce_soft", "kl", "kl_logits", "distill", "ce_labels_grad", "ce_soft_grad")
DIVERGENCES = ("kl", "kl_logits", "distill")
ARRAYS = ("log_softmax", "softmax")
SHAPES = tuple(cases.SHAPES)
FEW_CLASSES = ("1000000x10", "1000000x3")
LONG = ("512x32000",)
LONG_ROWS = ("512x32000", "128x128256", "1x50000000")
IN_CACHE = ("64x1000",)
LARGE = tuple(s.name for s in cases.SHAPES.values() if s.size > 1_000_000)
REALS = ("float32", "float64")
# Instruction sets that convert float16 in a vector.
CONVERTS = ("avx512", "avx2", "neon")


@dataclass(frozen=True)
class Target:
    """The least that `measure` may give for the rows that it names, or for their geometric mean over the shapes."""

    name: str
    measure: str
    least: float
    operations: tuple[str, ...]
    dtypes: tuple[str, ...] = REALS
    shapes: tuple[str, ...] = SHAPES
    threads: int = 1
    peers: tuple[str, ...] = tuple(PEERS)
    isas: tuple[str, ...] = ()  # none: every one
    mean: bool = False

    def covers(self, row: Row, isa: str) -> bool:
        return (
            row["operation"] in self.operations
            and row["dtype"] in self.dtypes
            and row["shape"] in self.shapes
            and row["threads"] == self.threads
            and (not self.isas or isa in self.isas)
        )


# fmt: off
TARGETS = (
    #      name                               measure    least operations
    Target("never behind",                    "peers",   1.0,  LOSSES),
    Target("3x in the mean",                  "peers",   3.0,  LOSSES, mean=True),
    Target("divergences 3x",                  "peers",   3.0,  DIVERGENCES),
    Target("few classes 5x",                  "peers",   5.0,  ALL, shapes=FEW_CLASSES),
    Target("1.2x onnxruntime",                "peers",   1.2,  ARRAYS, ("float32",), peers=("onnxruntime",)),
    Target("4x onnxruntime",                  "peers",   4.0,  ARRAYS, ("float64",), peers=("onnxruntime",)),
    Target("1.6x torch",                      "peers",   1.6,  ARRAYS, peers=("torch",)),
    Target("3x torch on AVX2",                "peers",   3.0,  LOSSES, peers=("torch",), isas=("avx2",)),
    Target("0.6 of reading",                  "memory",  0.6,  ("logsumexp",), ("float32",), LONG),
    Target("0.85 of reading",                 "memory",  0.85, ("logsumexp",), ("float32",), LONG, threads=2),
    Target("0.9 of copying",                  "memory",  0.9,  ("log_softmax",), ("float32",), LONG, threads=2),
    Target("0.7 of exp and log in cache",     "compute", 0.7,  ALL, shapes=IN_CACHE),
    Target("16 bits no slower than float32",  "float32", 1.0,  ALL, HALVES, LONG_ROWS, isas=CONVERTS),
    Target("1.8x on two threads",             "serial",  1.8,  ALL, shapes=LARGE, threads=2),
)
# fmt: on

# Figures that are no row: at most so much.
CALL_TIMES = {"gufunc": 1.5, "callable": 2.0}  # of np.vecdot's
IMPORT_SECONDS = 0.020  # beyond NumPy's
BYTES_A_THREAD = 64 << 10

DISTURBED = 0.1  # the part of the processors that other programs may take while a row is timed


@dataclass(frozen=True)
class Verdict:
    target: str
    what: str  # the row or figure
    reached: float
    wanted: float
    most: bool = False  # wanted is an upper bound
    note: str = ""

    @property
    def part(self) -> float:
        """Of the target that is reached; 1 or more is met."""
        if self.most:
            return self.wanted / self.reached if self.reached else np.inf
        return self.reached / self.wanted

    @property
    def met(self) -> bool:
        return self.part >= 1

    def __str__(self) -> str:
        state = "met" if self.met else f"missed, {self.part:.2f} of it"
        return f"{self.target}: {self.what}: {self.reached:.3g} against {self.wanted:.3g}, {state}{self.note}"


def name_of(row: Row) -> str:
    return f"{row['operation']} {row['dtype']} {row['shape']}, {row['threads']} thread{'s' * (row['threads'] > 1)}"


def best_peer(row: Row, peers: Iterable[str] = tuple(PEERS)) -> tuple[str, float] | None:
    """The fastest of these that computed the same."""
    times = row["seconds"]
    found = [(times[name], name) for name in peers if name in times and name not in row["wrong"]]
    return (min(found)[1], min(found)[0]) if found else None


def _key(row: Row) -> tuple[str, str, str, int]:
    return row["operation"], row["dtype"], row["shape"], row["threads"]


def _measures(rows: Iterable[Row]) -> dict[str, Callable[[Row, Target], tuple[float, str] | None]]:
    """What a target may ask of a row, each with a note; None where there is nothing to compare with."""
    by_key = {_key(row): row for row in rows}

    def peers(row: Row, target: Target) -> tuple[float, str] | None:
        best = best_peer(row, target.peers)
        return (best[1] / row["seconds"]["xent"], f" ({best[0]})") if best else None

    def limit(row: Row, target: Target) -> tuple[float, str]:
        return row["limit"][target.measure] / row["seconds"]["xent"], ""

    def against(row: Row, **other: Any) -> tuple[float, str] | None:
        partner = by_key.get(_key({**row, **other}))
        if partner is None or "xent" not in partner["seconds"]:
            return None
        return partner["seconds"]["xent"] / row["seconds"]["xent"], ""

    def serial(row: Row, target: Target) -> tuple[float, str] | None:
        # Where memory alone takes half of the time, it may be what keeps the threads from sharing the work.
        if row["limit"]["memory"] > 0.5 * row["seconds"]["xent"]:
            return None
        return against(row, threads=1)

    return {
        "peers": peers,
        "memory": limit,
        "compute": limit,
        "float32": lambda row, target: against(row, dtype="float32"),
        "serial": serial,
    }


def of_rows(rows: list[Row], isa: str, among: list[Row] | None = None) -> Iterator[Verdict]:
    """The verdicts on rows, by their own targets; the partners that some compare with are looked for in `among`."""
    measures = _measures(among if among is not None else rows)
    for target in TARGETS:
        if target.mean:
            continue
        for row in rows:
            if not target.covers(row, isa):
                continue
            if "xent" not in row["seconds"]:
                yield Verdict(target.name, name_of(row), 0.0, target.least, note=f" ({row['failed']['xent']})")
                continue
            found = measures[target.measure](row, target)
            if found:
                taken = row.get("other_work", 0.0)
                note = f", others took {taken:.0%} of the processors" if taken > DISTURBED else ""
                yield Verdict(target.name, name_of(row), found[0], target.least, note=found[1] + note)


def of_means(rows: list[Row], isa: str) -> Iterator[Verdict]:
    """The verdicts on means; of a run of some shapes only there are none."""
    measures = _measures(rows)
    for target in TARGETS:
        if not target.mean:
            continue
        groups: dict[tuple[str, str], dict[str, float]] = {}
        for row in rows:
            if target.covers(row, isa) and "xent" in row["seconds"]:
                found = measures[target.measure](row, target)
                if found:
                    groups.setdefault((row["operation"], row["dtype"]), {})[row["shape"]] = found[0]
        for (operation, dtype), values in groups.items():
            if values.keys() == set(target.shapes):
                mean = float(np.exp(np.mean(np.log([*values.values()]))))
                yield Verdict(target.name, f"{operation} {dtype}, all shapes", mean, target.least)


def of_report(report: dict[str, Any]) -> list[Verdict]:
    """Every verdict on a run."""
    rows = [row for process in report["processes"] for row in process["rows"]]
    return [*of_rows(rows, report["isa"]), *of_means(rows, report["isa"])]
