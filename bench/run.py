"""Time xent and its peers, interleaved, beside the machine's own limits: python -m bench.run [--quick] [filters].

First every contender's result is compared with a reference in a wider type; a row of xent's that is wrong is not timed.
Each thread count has a process of its own, bound to as many processors, so that every library keeps to them. With
another --isa than the machine's best NumPy and PyTorch are held to it too, and JAX and onnxruntime, whose prebuilt
kernels cannot be, are left out. A figure is the shortest of its repeats: whatever else runs can only make one longer.

Rows are written to the JSON as soon as their shape and dtype are done. --resume goes on with a run that was cut short,
and times those rows anew during which other programs took much of the processors.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench import cases, costs, targets
from bench.limits import Limits
from bench.peers import PEERS, Call, as_dict, held_to, out_call, plain_call
from bench.targets import DISTURBED

RESULTS = Path(__file__).with_name("results")
XENT = ("xent", "xent out=")
XENT_ERROR = 8.0  # eps of the scale: the budgets of tests/cases.py are 5 ULP at most
# A sanity check: the peers lose the digits of small losses and of long sums, which is not what is compared here.
PEER_ERROR = {"float32": 1e5, "float64": 1e5, "float16": 50.0, "bfloat16": 50.0}
ROUNDS = 4
WAKE = 0.04  # seconds until a new team has spread out
SETTLE = 0.01  # an OpenMP team goes on spinning for milliseconds: another library's must not pay for it
REPEATS, PATIENCE = 4, 10
HOPELESS = 4  # budgets: a contender whose one call takes longer has had its turn
SHORTEST = 2e-4  # a timing is of as many calls as take this long
# Page faults are kept out: what a library allocates for a call comes from pages that the process has already. No mmap
# for large blocks, nothing handed back, and one heap for all threads.
KEEP_PAGES = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class Options:
    operations: tuple[str, ...]
    shapes: tuple[str, ...]
    dtypes: tuple[str, ...]
    peers: tuple[str, ...]
    isa: str
    threads: int
    budget: float
    quick: bool


def available_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def busy_ticks() -> dict[int, int]:
    lines = (line.split() for line in Path("/proc/stat").read_text().splitlines())
    # user nice system idle iowait irq softirq steal: all but the two in which nothing ran.
    return {
        int(f[0][3:]): sum(map(int, f[1:9])) - int(f[4]) - int(f[5])
        for f in lines
        if f[0].startswith("cpu") and f[0] != "cpu"
    }


def bind(threads: int) -> bool:
    """Keep this process, and the threads that it will start, to the processors that are least busy now."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    before = busy_ticks()
    time.sleep(0.5)
    after = busy_ticks()
    allowed = sorted(os.sched_getaffinity(0), key=lambda cpu: after[cpu] - before[cpu])
    os.sched_setaffinity(0, allowed[:threads])
    return True


class OtherWork:
    """The part of this process's processors that others took, from the start to the question."""

    def __init__(self) -> None:
        self._start = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        ticks = busy_ticks()
        busy = sum(ticks[cpu] for cpu in os.sched_getaffinity(0)) / os.sysconf("SC_CLK_TCK")
        # The compiler that builds limits.c is ours too.
        return time.monotonic(), busy, sum(os.times()[:4])

    def part(self) -> float:
        elapsed, busy, own = (b - a for a, b in zip(self._start, self._now(), strict=True))
        return max(0.0, (busy - own) / (elapsed * len(os.sched_getaffinity(0))))


def seconds_a_call(call: Call, number: int) -> float:
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number


def interleave(calls: dict[str, Call], budget: float, threads: int) -> dict[str, float]:
    """The shortest time of each, a few repeats of one and then of the next, round after round."""
    best, spent = {}, {}
    for name, call in calls.items():
        # What is compiled at the first call was, by the check.
        stop, best[name] = time.perf_counter() + (WAKE if threads > 1 else 0), seconds_a_call(call, 1)
        spent[name] = budget if best[name] > HOPELESS * budget else 0.0
        # A new team shares the caller's processor until the system moves it, and each call takes milliseconds.
        while time.perf_counter() < stop:
            best[name] = min(best[name], seconds_a_call(call, 1))
    for turn in range(ROUNDS):
        for name, call in calls.items():
            if spent[name] >= budget:
                continue
            if threads > 1:
                time.sleep(SETTLE)
            number = max(1, int(SHORTEST / best[name]))
            # What ran before has left its own arrays in the cache; where calls are short the first is not counted.
            if best[name] < budget / ROUNDS:
                seconds_a_call(call, number)
            stop = budget * (turn + 1) / ROUNDS
            runs = 0
            # A stalled thread can use up the whole budget in one call: some repeats more then, within reason.
            while spent[name] < stop or (runs < REPEATS and spent[name] < PATIENCE * stop):
                took = seconds_a_call(call, number)
                best[name], spent[name], runs = min(best[name], took), spent[name] + took * number, runs + 1
    return best


def reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]


def cell(operation: cases.Operation, data: cases.Data, limits: Limits, options: Options) -> dict[str, Any]:
    """One row: check, then time."""
    shape, threads, convert = data.shape, options.threads, as_dict(operation)
    which = cases.sampled_rows(shape)
    wanted = cases.reference(operation, data, which)
    calls: dict[str, Call] = {}
    errors: dict[str, float] = {}
    failed, wrong = {}, []
    # The figure of a tiny row is that of the call as one writes it; elsewhere a result is reused if it may be.
    tiny = shape.name == cases.TINY
    makers: dict[str, Callable[..., Call | None]] = {"xent": plain_call if tiny or "." in operation.xent else out_call}
    if tiny:
        makers["xent out="] = out_call
    makers |= {name: PEERS[name].calls for name in options.peers if PEERS[name].takes(data)}
    for name, make in makers.items():
        try:
            call = make(operation, data, threads)
            if call is None:
                continue
            result = convert(call())
            with np.errstate(all="ignore"):
                errors[name] = cases.largest_error(result, wanted, data, which, slack=0.0 if name in XENT else 1.0)
        except Exception as error:
            # A library may lack a dtype, which it says in its own way; the row shows what it said.
            failed[name] = reason(error)
            continue
        if name in XENT and not errors[name] <= XENT_ERROR:
            failed[name] = f"wrong by {errors[name]:.3g} eps of the scale"
            continue
        if name not in XENT and not errors[name] <= PEER_ERROR[data.dtype]:
            wrong.append(name)
        calls[name] = call
    with np.errstate(all="ignore"):
        times = interleave(calls, options.budget, threads)
    read, written = cases.traffic(operation, shape, data.dtype)
    real = "f64" if data.dtype == "float64" else "f32"
    return {
        "operation": operation.name,
        "dtype": data.dtype,
        "shape": shape.name,
        "threads": threads,
        "elements": shape.size,
        "read": read,
        "written": written,
        "seconds": times,
        "limit": limits.seconds(read, written, operation.exps * shape.size, operation.logs * shape.size, real),
        "error_eps": errors,
        "wrong": wrong,
        "failed": failed,
    }


def heading(peers: Iterable[str]) -> str:
    names = "".join(f"{name:>12}" for name in peers)
    return f"{'operation':17}{'dtype':9}{'shape':15}{'thr':>4}{'ns/elem':>9}{'GB/s':>7}{'limit':>6} by {names}  target"


def line(row: dict[str, Any], peers: Iterable[str], isa: str, among: list[dict[str, Any]]) -> str:
    """ns an element, GB/s, fraction of the limit and what sets it; each peer's time over xent's; the verdict."""
    text = f"{row['operation']:17}{row['dtype']:9}{row['shape']:15}{row['threads']:4}"
    if "xent" not in row["seconds"]:
        return f"{text}  failed: {row['failed']['xent']}"
    ours = row["seconds"]["xent"]
    bound = max(row["limit"], key=row["limit"].__getitem__)
    text += f"{ours / row['elements'] * 1e9:9.3f}{(row['read'] + row['written']) / ours * 1e-9:7.1f}"
    text += f"{row['limit'][bound] / ours:6.2f} {bound[:3]}"
    for name in peers:
        took = row["seconds"].get(name)
        mark = "!" if name in row["wrong"] else "x"
        text += f"{'failed' if name in row['failed'] else '-':>12}" if took is None else f"{took / ours:11.2f}{mark}"
    verdicts = list(targets.of_rows([row], isa, among))
    worst = min(verdicts, key=lambda v: v.part, default=None)
    if worst:
        text += "  met" if worst.met else f"  {worst.part:.2f} of {worst.target}"
    return text


class Worker:
    """What a process of one thread count keeps: its processors and the machine's limits on them."""

    def __init__(self, options: Options) -> None:
        self.bound = bind(options.threads)
        if not self.bound and options.threads < (os.cpu_count() or 1) and "jax" in options.peers:
            print("jax is left out: this system cannot bind a process to processors, and jax takes them all")
            options = replace(options, peers=tuple(p for p in options.peers if p != "jax"))
        self.options = options
        self.columns = (*XENT[1:], *options.peers) if cases.TINY in options.shapes else options.peers
        importlib.import_module("xent").set_isa(options.isa)
        self.limits = Limits(options.isa, options.threads, budget=min(0.05, options.budget / 2))

    def describe(self) -> dict[str, Any]:
        limits = self.limits
        rates = [
            f"{kind} {real} {entry['ns']:.3f} ({entry['function']}, {entry['ulp']:.2f} ULP)"
            for kind, reals in limits.rates.items()
            for real, entry in reals.items()
        ]
        print(f"\n{self.options.threads} thread(s), {self.options.isa}; in cache, ns an element: {', '.join(rates)}")
        print(heading(self.columns), flush=True)
        return {"threads": self.options.threads, "rates": limits.rates}

    def block(self, shape: str, dtype: str, operations: list[str]) -> list[dict[str, Any]]:
        """The rows of one shape and dtype, printed as they come."""
        others = OtherWork() if self.bound else None
        rows: list[dict[str, Any]] = []
        data = cases.Data(cases.SHAPES[shape], dtype)
        for operation in (cases.OPERATIONS[name] for name in operations):
            rows.append(cell(operation, data, self.limits, self.options))
            print(line(rows[-1], self.columns, self.options.isa, rows), flush=True)
        part = others.part() if others else 0.0
        if part > DISTURBED:
            print(f"Other programs took {part:.0%} of these processors meanwhile: figures say little.", flush=True)
        return [{**row, "other_work": part} for row in rows]


@cache
def worker(options: Options) -> Worker:
    return Worker(options)


def describe(options: Options) -> dict[str, Any]:
    return worker(options).describe()


def block(
    options: Options, shape: str, dtype: str, operations: list[str]
) -> tuple[list[dict[str, Any]], list[dict[str, float]]]:
    return worker(options).block(shape, dtype, operations), worker(options).limits.measured


@contextlib.contextmanager
def environment(**names: str) -> Iterator[None]:
    """For processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def rounded(value: Any) -> Any:
    """More digits than four only make the file larger."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def save(report: dict[str, Any], output: Path) -> None:
    """All or nothing: a run that is cut short leaves a whole file."""
    part = output.with_suffix(".part")
    part.write_text(json.dumps(rounded(report), separators=(",", ":")) + "\n", encoding="utf-8")
    part.replace(output)


def time_rows(options: Options, report: dict[str, Any], output: Path) -> None:
    """The rows of one thread count that the report lacks, into the report."""
    process = next((p for p in report["processes"] if p["threads"] == options.threads), None)
    kept = [row for row in (process["rows"] if process else ()) if row["other_work"] <= DISTURBED]
    have = {(row["operation"], row["dtype"], row["shape"]) for row in kept}
    todo = [
        (shape, dtype, missing)
        for shape in options.shapes
        for dtype in options.dtypes
        if (missing := [name for name in options.operations if (name, dtype, shape) not in have])
    ]
    if not todo:
        return
    # Spawned: what this process has loaded would carry its own thread pools over.
    with (
        environment(**KEEP_PAGES, **report["held"]),
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
    ):
        about = pool.submit(describe, options).result()
        if process is None:
            process = {**about, "bandwidth_gb_s": [], "rows": []}
            report["processes"].append(process)
        before = process["bandwidth_gb_s"]
        for shape, dtype, missing in todo:
            rows, measured = pool.submit(block, options, shape, dtype, missing).result()
            anew = {(shape, dtype, name) for name in missing}
            old = [row for row in process["rows"] if (row["shape"], row["dtype"], row["operation"]) not in anew]
            process["rows"] = old + rows
            process["bandwidth_gb_s"] = before + measured
            save(report, output)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (row.split(":", 1)[1].strip() for row in lines if row.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def geometric_mean(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def summary(report: dict[str, Any]) -> str:
    """Each operation against the best of its peers, the peers that failed, what the costs are, and what is missed."""
    rows = [row for process in report["processes"] for row in process["rows"]]
    text = [f"\n{'against the best peer':30}{'threads':>8}{'mean':>8}{'worst':>8}  at"]
    groups: dict[tuple[str, int], list[tuple[float, str]]] = {}
    for row in rows:
        best = targets.best_peer(row)
        if best and "xent" in row["seconds"]:
            ratio = best[1] / row["seconds"]["xent"]
            groups.setdefault((row["operation"], row["threads"]), []).append((ratio, f"{row['dtype']} {row['shape']}"))
    for (operation, threads), ratios in groups.items():
        worst = min(ratios)
        text.append(
            f"{operation:30}{threads:8}{geometric_mean([r for r, _ in ratios]):7.2f}x{worst[0]:7.2f}x  {worst[1]}"
        )
    reasons = {(name, row["dtype"], why) for row in rows for name, why in row["failed"].items()}
    text += [f"{name} {dtype} failed: {why}" for name, dtype, why in sorted(reasons)]
    if report["costs"]:
        text += ["", *costs.lines(report["costs"])]
    verdicts = [*targets.of_report(report), *costs.verdicts(report["costs"])]
    missed = sorted((v for v in verdicts if not v.met), key=lambda v: v.part)
    text.append(f"\nTargets: {len(verdicts) - len(missed)} of {len(verdicts)} met" + (", missed:" if missed else ""))
    return "\n".join([*text, *(f"  {v}" for v in missed)])


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows and repeats: about a minute")
    parser.add_argument("--op", nargs="+", choices=cases.OPERATIONS, metavar="NAME", help=", ".join(cases.OPERATIONS))
    parser.add_argument("--shape", nargs="+", choices=cases.SHAPES, metavar="SHAPE", help=", ".join(cases.SHAPES))
    parser.add_argument("--dtype", nargs="+", choices=cases.DTYPES)
    parser.add_argument("--peer", nargs="*", choices=PEERS, help="default: all that are installed")
    parser.add_argument("--isa", help="default: the best, or XENT_ISA")
    parser.add_argument("--threads", nargs="+", type=int, help="default: 1 and all")
    parser.add_argument("--budget", type=float, help="seconds for each contender in each row")
    parser.add_argument("--no-costs", action="store_true", help="rows only: no imports, tiny calls and memory")
    parser.add_argument("--output", type=Path, help="where the JSON goes; default: bench/results/")
    parser.add_argument("--resume", type=Path, metavar="JSON", help="time what this run lacks, and add it there")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    xent = importlib.import_module("xent")
    if args.isa:
        xent.set_isa(args.isa)
    info = xent.info()
    processors = available_processors()
    threads = args.threads or sorted({1, processors})
    if not all(1 <= n <= processors for n in threads):
        print(f"--threads: from 1 to {processors}, the processors that this process may use", file=sys.stderr)
        return 2
    held = {} if info["isa"] == info["isas"][0] else held_to(info["isa"])
    chosen = (PEERS[name] for name in (PEERS if args.peer is None else args.peer))
    peers = tuple(peer.name for peer in chosen if peer.installed and (peer.held or not held))
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "processors": processors,
        "system": platform.system(),
        "machine": platform.machine(),
        "isa": info["isa"],
        "quick": args.quick,
        "held": held,
        "versions": {
            "python": platform.python_version(),
            "xent": info["version"],
            **{name: PEERS[name].version for name in peers},
        },
        "costs": {},
        "processes": [],
    }
    stamp = report["date"][:19].replace(":", "").replace("-", "")
    output = args.resume or args.output or RESULTS / f"{stamp}-{info['isa']}{'-quick' if args.quick else ''}.json"
    if args.resume:
        earlier = json.loads(args.resume.read_text(encoding="utf-8"))
        differs = [key for key in ("processor", "isa", "quick", "held", "versions") if earlier[key] != report[key]]
        if differs:
            print(f"--resume: {args.resume} differs from this run in {' and '.join(differs)}", file=sys.stderr)
            return 2
        report = earlier
    output.parent.mkdir(parents=True, exist_ok=True)
    described = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    print(f"{report['processor']}, {processors} processors, {info['isa']}; {described}")
    print("limit: fraction of the machine's own, by memory or by computing; then the peer's time over xent's;")
    print("target: met, or the part of the one that is missed most")
    print("!: its result is off by more than the check allows; -: it has no such operation, or is left out")
    began = time.perf_counter()
    for n in threads:
        options = Options(
            operations=tuple(args.op or (cases.QUICK_OPERATIONS if args.quick else cases.OPERATIONS)),
            shapes=tuple(args.shape or (cases.QUICK_SHAPES if args.quick else cases.SHAPES)),
            dtypes=tuple(args.dtype or (cases.QUICK_DTYPES if args.quick else cases.DTYPES)),
            # A library that knows one thread only says nothing new beside many.
            peers=tuple(name for name in peers if n == 1 or PEERS[name].threaded),
            isa=info["isa"],
            threads=n,
            budget=args.budget or (0.015 if args.quick else 0.08),
            quick=args.quick,
        )
        time_rows(options, report, output)
    if not args.no_costs and not report["costs"]:
        report["costs"] = costs.measure(info["isa"], threads, args.quick)
        save(report, output)
    print(summary(report))
    print(f"\n{time.perf_counter() - began:.0f} s; {output}")
    reasons = [row["failed"].get(name, "") for p in report["processes"] for row in p["rows"] for name in XENT]
    wrong = any(why.startswith("wrong by") for why in reasons)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
