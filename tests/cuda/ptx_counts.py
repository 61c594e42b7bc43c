"""What the kernels' PTX does for an element and a row, beside what it may do: a table. With --strict, more is an error.

    python ptx_counts.py [--strict] [OPERATION...]

Instructions are PTX's, of every lane that does them, but for those that become operands of others: moves, parameters,
signs. Where a kernel takes rows of several lengths, with as many numbers in each lane, the difference is an element's,
and what is left a row's; else all of it is an element's, which may be as much more. Bytes in flight are those that a
multiprocessor's lanes have asked for when the first of them is used (machine.h's Counts): how many lanes it has room
for follows from the registers that ptxas gives them.
"""

import argparse
import functools
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import cases
import host_cuda
import host_ptx
import numpy as np

# Operations, and how many instructions an element may have in float32 and in 16 bits.
BUDGETS = {
    ("logsumexp", "cross_entropy_with_labels", "cross_entropy"): (18, 9),
    (
        "softmax",
        "log_softmax",
        "cross_entropy_with_labels_value_and_grad",
        "cross_entropy_value_and_grad",
    ): (32, 16),
    (
        "kl_div",
        "kl_div_value_and_grad",
        "kl_div_with_logits",
        "kl_div_with_logits_value_and_grad",
    ): (44, 24),
}
OF_LOGITS = "kl_div_with_logits"  # at a temperature
ROW_A_LANE, ROW, ROW_OF_KL = 40, 150, 60
SHORT = {"softmax": (45, 40)}  # rows of 8 to 32 classes, all in
IN_FLIGHT = 32 << 10

LENGTHS = [1024, 2048, 4096, 8192, 12_288, 16_384, 24_576, 32_768]
ROWS = 8  # what a block has of them at most, so that none is left over
SHORT_LENGTHS, SHORT_ROWS = [8, 16, 32], 256
DTYPES = ["f4", "f2", "bfloat16"]
NO_INSTRUCTION = re.compile(r"mov\b|cvta\b|ld\.param\b|(neg|abs)\.f|ret\b")

# A multiprocessor of capability 9.0.
REGISTERS, MOST_THREADS, MOST_BLOCKS, REGISTER_STEP = 65_536, 2048, 32, 8


class Row(NamedTuple):
    """Instructions done and allowed, of an element and, if they are known apart, of a row."""

    what: str
    element: float
    element_budget: float
    row: float | None
    row_budget: float | None
    count: "Count"

    def over(self, flight):
        return (
            self.element > self.element_budget,
            self.row is not None and self.row > self.row_budget,
            flight is not None and flight < IN_FLIGHT,
        )


class Count(NamedTuple):
    """Of a call, a row: `kernel` did most of it, with so many blocks a row, or fewer than one."""

    classes: int
    kernel: str
    threads: int
    blocks: float
    instructions: float
    requested: int  # bytes
    flight: float  # bytes, a lane's

    @property
    def lanes(self):
        """Of the group that has the row."""
        return host_ptx.lanes_of(self.kernel) * max(1, round(self.blocks))

    @property
    def is_even(self):
        """Whether every lane has as many numbers: of tiles of 8 where it holds them, else of 16 at most."""
        return self.classes % ((8 if "4heldI" in self.kernel else 16) * self.lanes) == 0

    @property
    def regime(self):
        name = re.search(r"\d(held|stream)I", self.kernel)[1]
        return f"{name}, {self.lanes} lanes"


def count(library, name, dtype, rows, classes):
    rng = np.random.default_rng(classes)
    arrays = cases.operands(name, "random", rows, classes, cases.DTYPES[dtype], rng)
    library.counts()
    options = {"temperature": np.full(rows, 2.0)} if name.startswith(OF_LOGITS) else {}
    library(name, *arrays, **options)
    found = []
    for kernel, (_, blocks, threads, nbytes, squares), instructions in library.counts():
        done = sum(lanes for _, lanes, _, what in instructions if not NO_INSTRUCTION.match(what))
        requested = sum(lanes * size for _, lanes, size, _ in instructions)
        flight = squares / nbytes / 32 if nbytes else 0.0
        found.append(
            Count(classes, kernel, int(threads / blocks), blocks / rows, done / rows, requested // rows, flight)
        )
    most = max(found, key=lambda c: c.instructions)
    return most._replace(instructions=sum(c.instructions for c in found), requested=sum(c.requested for c in found))


def long_rows(library, name, dtype, budget):
    counts = [count(library, name, dtype, ROWS, classes) for classes in LENGTHS]
    for (_, lanes), of_kernel in itertools.groupby(counts, key=lambda c: (c.kernel, c.lanes)):
        group = list(of_kernel)
        even = [c for c in group if c.is_even]
        row_budget = ROW_A_LANE * lanes + ROW + (ROW_OF_KL if name.startswith("kl") else 0)
        last = (even or group)[-1]
        if len(even) > 1:
            first = even[0]
            what = f"{name} {dtype} {first.classes:,} to {last.classes:,} ({last.regime})"
            element = (last.instructions - first.instructions) / (last.classes - first.classes)
            yield Row(what, element, budget, last.instructions - element * last.classes, row_budget, last)
        else:
            what = f"{name} {dtype} {last.classes:,} ({last.regime}), all in"
            yield Row(what, last.instructions / last.classes, budget + row_budget / last.classes, None, None, last)


def short_rows(library, name, dtype, budget):
    for classes in SHORT_LENGTHS:
        done = count(library, name, dtype, SHORT_ROWS, classes)
        what = f"{name} {dtype} {classes} ({done.regime}), all in"
        yield Row(what, done.instructions / classes, budget, None, None, done)


@functools.cache
def text_of(unit):
    return host_ptx.compiled(unit).read_text(encoding="utf-8")


def registers(unit_and_kernel):
    """What ptxas gives each lane of a kernel, which it compiles by itself: all of a unit take it minutes."""
    unit, kernel = unit_and_kernel
    text = text_of(unit)
    begin = text.index(f".visible .entry {kernel}(")
    end = text.index("\n}\n", begin) + 3
    head = text[: text.index("\n.visible .entry ")]
    path = os.pathsep.join([str(Path(host_ptx.nvcc()).parent), os.environ.get("PATH", "")])
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as one:
        one.write(head + "\n" + text[begin:end])
        one.flush()
        command = [shutil.which("ptxas", path=path), "-arch=sm_90", "-v", "-o", os.devnull, one.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(re.search(r"Used (\d+) registers", done.stderr)[1])


def in_flight(count, used):
    """Bytes a multiprocessor."""
    each = -(-used // REGISTER_STEP) * REGISTER_STEP * count.threads
    blocks = min(REGISTERS // each, MOST_THREADS // count.threads, MOST_BLOCKS)
    return count.flight * blocks * count.threads


def measure(operations):
    chosen = [(n, b, long_rows) for names, b in BUDGETS.items() for n in names] + [
        (n, b, short_rows) for n, b in SHORT.items()
    ]
    chosen = [one for one in chosen if not operations or one[0] in operations]
    units = {host_ptx.unit_of(name, cases.DTYPES[dtype]) for name, *_ in chosen for dtype in DTYPES}
    library = host_ptx.Library(["COMMON-F32", *sorted(units)])
    for name, budgets, rows_of in chosen:
        for dtype in DTYPES:
            for row in rows_of(library, name, dtype, budgets[dtype != "f4"]):
                yield host_ptx.unit_of(name, cases.DTYPES[dtype]), row


def main(given=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("operations", nargs="*", help="those alone")
    parser.add_argument("--strict", action="store_true", help="more than a budget is an error")
    parser.add_argument("--no-registers", action="store_true", help="without ptxas, and so without bytes in flight")
    args = parser.parse_args(given)
    if host_ptx.nvcc() is None or host_cuda.compiler() is None:
        sys.exit("needs nvcc and a C++ compiler")
    found = list(measure(args.operations))
    used = {}
    if not args.no_registers:
        kernels = sorted({(unit, row.count.kernel) for unit, row in found})
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            used = dict(zip(kernels, pool.map(registers, kernels), strict=True))
    print(f"{'':84} instructions                   bytes an")
    print(f"{'':84}element   may    row    may    element registers  KB in flight (32 or more)")
    worse = 0
    for unit, row in found:
        lanes_registers = used.get((unit, row.count.kernel))
        flight = in_flight(row.count, lanes_registers) if lanes_registers else None
        over = row.over(flight)
        worse += sum(over)
        element, whole, few = ("!" if one else " " for one in over)
        line = f"{row.what:84} {row.element:6.1f} {row.element_budget:5.1f}{element}"
        line += f"{row.row:7.0f} {row.row_budget:6}{whole}" if row.row is not None else " " * 15
        line += f"{row.count.requested / row.count.classes:10.1f}"
        print(line + (f"{lanes_registers:10}{flight / 1024:11.1f}{few}" if lanes_registers else ""))
    print(f"{worse} over")
    return bool(args.strict and worse)


if __name__ == "__main__":
    sys.exit(main())
