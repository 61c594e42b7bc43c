"""Time xent.cuda beside the device's own copy and its peers, on PyTorch tensors: python -m bench.gpu [--seconds 200].

Every result is checked first, on rows spread over the whole of it, against float64; one that is wrong is not timed,
and the run fails. A time is that of a captured graph's replay, so that neither Python nor a launch is in it, over
buffers of 1 GB or more in all. Bytes are each input and each output once; the copy that they are compared with is
measured in the same run, by the same means. Rows are written to the JSON as they come; when the time is up, the rest is
left out by name.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import xent
import xent.cuda
from bench import gpu_cases as cases
from bench import gpu_peers as peers

try:
    import torch
except ModuleNotFoundError:
    sys.exit("bench.gpu needs PyTorch, for its tensors and its clock")

XENT_ERROR = {"float64": 8.0, "float32": 8.0, "float16": 0.55, "bfloat16": 0.55}  # eps; 16 bits: but for their rounding
CHECKED_ROWS = 64
SHORTEST_MS = 2.0  # a replay is of as many calls as take this long
REPLAYS = 15


class Graph:
    """Calls captured once, to be replayed."""

    def __init__(self, calls: Sequence[Callable[[], Any]]) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for call in calls:
                call()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            for call in calls:
                call()

    def milliseconds(self, replays: int) -> list[float]:
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(replays)]
        for start, end in pairs:
            start.record()
            self.graph.replay()
            end.record()
        torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in pairs]


def microseconds(calls: Sequence[Callable[[], Any]]) -> float:
    """The time of one of the calls, which go through buffers in turn: the median of the replays."""
    once = statistics.median(Graph(calls).milliseconds(3)[1:])
    often = max(1, round(SHORTEST_MS / max(once, 1e-3)))
    graph = Graph(list(calls) * often)
    graph.milliseconds(2)
    return 1e3 * statistics.median(graph.milliseconds(REPLAYS)) / (len(calls) * often)


def copy_bandwidth(nbytes: int) -> float:
    """Bytes a second that a copy reads and writes, of `nbytes` in all a call, in buffers of 1 GB or more."""
    sets = max(1, -(-cases.WORKING_SET // nbytes))
    pairs = [
        [torch.randint(255, (nbytes // 2,), dtype=torch.uint8, device="cuda") for _ in range(2)] for _ in range(sets)
    ]
    return nbytes / (microseconds([lambda a=a, b=b: b.copy_(a) for a, b in pairs]) * 1e-6)


def operands_of(case: cases.Case, seed: int) -> tuple[Any, ...]:
    generator = torch.Generator("cuda").manual_seed(seed)
    shape, dtype = (case.row_count, case.classes), getattr(torch, case.dtype)
    x = torch.empty(shape, dtype=dtype, device="cuda").normal_(0, 3, generator=generator)
    if case.what.second == "labels":
        return x, torch.randint(case.classes, shape[:1], device="cuda", generator=generator)
    if case.what.second == "probs":
        t = torch.empty(shape, dtype=dtype, device="cuda").normal_(0, 3, generator=generator)
        return x, torch.softmax(t, -1)
    return (x,)


def results_for(case: cases.Case) -> tuple[Any, ...]:
    """Where xent writes, poisoned: what it left out would show."""
    dtype = getattr(torch, case.dtype)
    shapes = [(case.row_count,)] * case.what.value + [(case.row_count, case.classes)] * case.what.rows
    return tuple(torch.full(shape, float("nan"), dtype=dtype, device="cuda") for shape in shapes)


def xent_call(case: cases.Case, operands: tuple[Any, ...], outs: tuple[Any, ...]) -> Callable[[], Any]:
    function = getattr(xent.cuda, case.what.name)
    out = outs if len(outs) > 1 else outs[0]
    return lambda: function(*operands, out=out)


def largest_error(case: cases.Case, operands: tuple[Any, ...], results: tuple[Any, ...]) -> float:
    """In eps of the scale, over rows spread evenly, the first and the last among them; infinite where one is NaN."""
    rows = torch.linspace(0, case.row_count - 1, min(CHECKED_ROWS, case.row_count), device="cuda").long().unique()
    eps, worst = torch.finfo(getattr(torch, case.dtype)).eps, 0.0
    smallest = torch.finfo(getattr(torch, case.dtype)).tiny
    sampled = tuple(a[rows] for a in operands)
    for got, (wanted, scale) in zip(results, peers.reference(torch, case.operation, sampled), strict=True):
        if torch.isnan(got).any():
            return float("inf")
        off = (got[rows].double() - wanted).abs() / (eps * scale.clamp(min=smallest))
        worst = max(worst, off.max().item())
    return worst


def measured(case: cases.Case, bandwidth: dict[int, float], others: list[str]) -> dict[str, Any]:
    sets = [operands_of(case, seed) for seed in range(case.sets)]
    outs = [results_for(case) for _ in sets]
    calls = [xent_call(case, *pair) for pair in zip(sets, outs, strict=True)]
    for call in calls:
        call()
    error = max(largest_error(case, *pair) for pair in zip(sets, outs, strict=True))
    row: dict[str, Any] = {"case": case.label, "operation": case.operation, "rows": case.row_count}
    row |= {"classes": case.classes, "dtype": case.dtype, "error": error, "peers": {}, "notes": []}
    if not error <= XENT_ERROR[case.dtype]:
        row["notes"].append(f"wrong: {error:.3g} eps, not timed")
        return row
    # Many large buffers copy at one speed; a call's worth of bytes, if it is less, has a copy of its own.
    nbytes = min(case.bytes, cases.WORKING_SET) & ~1
    if nbytes not in bandwidth:
        bandwidth[nbytes] = copy_bandwidth(nbytes)
    taken = microseconds(calls)
    row |= {"us": taken, "GB/s": case.bytes / taken / 1e3, "x copy": case.bytes / (taken * 1e-6) / bandwidth[nbytes]}
    row["target"] = cases.target(case)
    for peer in others:
        if peer == "torch.compile" and not case.compiled:
            continue
        try:
            theirs = [peers.PEERS[peer](torch, case.operation, operands) for operands in sets]
            if None not in theirs:
                row["peers"][peer] = microseconds([call for call in theirs if call is not None]) / taken
        except Exception as failure:  # a note in the table, not the end of the run
            first_line = next(iter(str(failure).splitlines()), "")
            row["notes"].append(f"{peer}: {type(failure).__name__}: {first_line}")
            torch.cuda.synchronize()
    return row


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=200.0, help="stop after this long")
    parser.add_argument("--json", type=Path, default=Path("build", "gpu.json"), help="where the rows go")
    parser.add_argument("--only", default="", help="only the cases whose label holds this")
    options = parser.parse_args(arguments)
    if not xent.cuda.is_available() or not torch.cuda.is_available():
        print(f"bench.gpu has nothing to run on: xent {xent.cuda._why_not()}; PyTorch {torch.cuda.is_available()}")
        return 1
    stop = time.monotonic() + options.seconds
    xent.cuda.prepare(torch.cuda.current_device())
    others = peers.installed()
    missing = [peer for peer in peers.PEERS if peer not in others]
    about = {"device": xent.cuda.device_info(torch.cuda.current_device()), "xent": xent.__version__}
    about |= {"torch": torch.__version__, "cuda": torch.version.cuda, "not installed": missing}
    bandwidth = {cases.WORKING_SET: copy_bandwidth(cases.WORKING_SET)}
    chosen = [case for case in cases.CASES if options.only in case.label]
    rows: list[dict[str, Any]] = []
    left: list[str] = []
    print(f"{about['device']['name']}: copy {bandwidth[cases.WORKING_SET] / 1e9:.0f} GB/s; not installed: {missing}")
    for case in chosen:
        if time.monotonic() > stop:
            left.append(case.label)
            continue
        rows.append(measured(case, bandwidth, others))
        torch.cuda.empty_cache()
        options.json.parent.mkdir(parents=True, exist_ok=True)
        copies = {str(n): b / 1e9 for n, b in bandwidth.items()}
        options.json.write_text(json.dumps({"about": about, "copy GB/s": copies, "rows": rows, "left": left}, indent=1))
    timed = [row for row in rows if "us" in row]
    print(cases.table(timed, others))
    for line in cases.verdicts(timed):
        print("misses", line)
    for row in rows:
        for note in row["notes"]:
            print("note  ", row["case"], note)
    if left:
        print(f"left out after {options.seconds:.0f} s: {', '.join(left)}")
    return 0 if len(timed) == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
