"""Time xent and its peers, interleaved, beside the machine's own limits: python -m bench.run [--quick] [filters].

First every contender's result is compared with a reference in a wider type; xent must be right or the run ends. Each
thread count has a process of its own, bound to as many processors, so that every library keeps to them. A figure is the
shortest of its repeats: whatever else runs can only make one longer.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import cases
from bench.limits import Limits
from bench.peers import PEERS, Call, as_dict, xent_calls

RESULTS = Path(__file__).with_name("results")
XENT_ERROR = 8.0  # eps of the scale: the budgets of tests/cases.py are 5 ULP at most
# A sanity check: the peers lose the digits of small losses and of long sums, which is not what is compared here.
PEER_ERROR = {"float32": 1e5, "float64": 1e5, "float16": 50.0}
ROUNDS = 4
DISTURBED = 0.1  # the part of the processors that others may take
WAKE = 0.04  # seconds until a new team has spread out
SETTLE = 0.01  # an OpenMP team goes on spinning for milliseconds: another library's must not pay for it
REPEATS, PATIENCE = 4, 10
SHORTEST = 2e-4  # a timing is of as many calls as take this long


@dataclass(frozen=True)
class Options:
    operations: tuple[str, ...]
    shapes: tuple[str, ...]
    dtypes: tuple[str, ...]
    peers: tuple[str, ...]
    isa: str
    threads: int
    budget: float


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
    best = {}
    for name, call in calls.items():
        stop, best[name] = time.perf_counter() + (WAKE if threads > 1 else 0), seconds_a_call(call, 1)
        # A new team shares the caller's processor until the system moves it, and each call takes milliseconds.
        while time.perf_counter() < stop:
            best[name] = min(best[name], seconds_a_call(call, 1))
    spent = dict.fromkeys(calls, 0.0)
    for turn in range(ROUNDS):
        for name, call in calls.items():
            if turn and spent[name] >= budget:
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


def cell(operation: cases.Operation, data: cases.Data, limits: Limits, options: Options) -> dict[str, Any]:
    """One row: check, then time."""
    shape, threads, convert = data.shape, options.threads, as_dict(operation)
    which = cases.sampled_rows(shape)
    wanted = cases.reference(operation, data, which)
    calls: dict[str, Call] = {"xent": xent_calls(operation, data, threads)}
    if shape.name == cases.TINY and "." not in operation.xent:
        calls["xent.ufuncs"] = xent_calls(operation, data, threads, gufunc=True)
    errors, failed = {}, {}
    for name, call in calls.items():
        errors[name] = cases.largest_error(convert(call()), wanted, data, which)
        if not errors[name] <= XENT_ERROR:
            where = f"{operation.name} {data.dtype} {shape.name}"
            raise RuntimeError(f"{name} is wrong: {where}, {threads} threads: {errors[name]:.3g} eps of the scale")
    for name in options.peers:
        try:
            call_or_none = PEERS[name].calls(operation, data, threads)
            if call_or_none is None:
                continue
            result = call_or_none()
            if PEERS[name].compared:
                with np.errstate(all="ignore"):
                    errors[name] = cases.largest_error(convert(result), wanted, data, which, slack=1.0)
        except Exception as error:
            # A peer may lack a dtype, which it says in its own way; the row shows what it said.
            failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
            continue
        calls[name] = call_or_none
    with np.errstate(all="ignore"):
        times = interleave(calls, options.budget, threads)
    read, written = cases.traffic(operation, shape, data.dtype)
    real = "f64" if data.dtype == "float64" else "f32"
    limit = limits.seconds(read, written, operation.exps * shape.size, operation.logs * shape.size, real)
    return {
        "operation": operation.name,
        "dtype": data.dtype,
        "shape": shape.name,
        "threads": threads,
        "elements": shape.size,
        "read": read,
        "written": written,
        "seconds": times,
        "limit": limit,
        "error_eps": errors,
        "wrong": [n for n in errors if not n.startswith("xent") and not errors[n] <= PEER_ERROR[data.dtype]],
        "failed": failed,
    }


def heading(peers: Iterable[str]) -> str:
    names = "".join(f"{name:>12}" for name in peers)
    return f"{'operation':18}{'dtype':9}{'shape':16}{'thr':>4}{'ns/elem':>10}{'GB/s':>8}{'limit':>7} by {names}"


def line(row: dict[str, Any], peers: Iterable[str]) -> str:
    """ns an element, GB/s, fraction of the limit and what sets it; then each peer's time over xent's."""
    ours = row["seconds"]["xent"]
    bound = max(row["limit"], key=row["limit"].__getitem__)
    text = (
        f"{row['operation']:18}{row['dtype']:9}{row['shape']:16}{row['threads']:4}{ours / row['elements'] * 1e9:10.3f}"
    )
    text += f"{(row['read'] + row['written']) / ours * 1e-9:8.1f}{row['limit'][bound] / ours:7.2f} {bound[:3]}"
    for name in peers:
        took = row["seconds"].get(name)
        mark = "!" if name in row["wrong"] else "x"
        text += f"{'failed' if name in row['failed'] else '-':>12}" if took is None else f"{took / ours:11.2f}{mark}"
    return text


def run_process(options: Options) -> dict[str, Any]:
    """All rows of one thread count. Prints them as they come."""
    bound = bind(options.threads)
    others = OtherWork() if bound else None
    if not bound and options.threads < (os.cpu_count() or 1) and "jax" in options.peers:
        print("jax is left out: this system cannot bind a process to processors, and jax takes them all")
        options = Options(**{**asdict(options), "peers": tuple(p for p in options.peers if p != "jax")})
    xent = importlib.import_module("xent")
    xent.set_isa(options.isa)
    limits = Limits(options.isa, options.threads, budget=min(0.05, options.budget / 2))
    columns = ["xent.ufuncs", *options.peers] if cases.TINY in options.shapes else list(options.peers)
    rates = ", ".join(
        f"{kind} {suffix} {rate:.3f} ({getattr(limits, kind + '_name')[suffix]})"
        for kind in ("exp", "log")
        for suffix, rate in getattr(limits, kind).items()
    )
    print(f"\n{options.threads} thread(s), {options.isa}; in cache, ns an element: {rates}")
    print(heading(columns), flush=True)
    rows = []
    for shape in (cases.SHAPES[name] for name in options.shapes):
        for dtype in options.dtypes:
            data = cases.Data(shape, dtype)
            for operation in (cases.OPERATIONS[name] for name in options.operations):
                if cases.covers(operation, shape, dtype):
                    rows.append(cell(operation, data, limits, options))
                    print(line(rows[-1], columns), flush=True)
    other_work = round(others.part(), 3) if others else None
    if other_work is not None and other_work > DISTURBED:
        print(f"Other programs took {other_work:.0%} of these processors meanwhile: these figures say little.")
    return {
        "threads": options.threads,
        "other_work": other_work,
        "rows": rows,
        "rates_ns": {"exp": limits.exp, "log": limits.log},
        "rates_by": {"exp": limits.exp_name, "log": limits.log_name},
        "bandwidth_gb_s": limits.measured,
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (row.split(":", 1)[1].strip() for row in lines if row.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def geometric_mean(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def summary(rows: list[dict[str, Any]], peers: Iterable[str]) -> str:
    """Each operation against the best of its peers, by geometric mean and at worst, and the peers that failed."""
    compared = [name for name in peers if PEERS[name].compared]
    text = [f"\n{'against the best peer':30}{'threads':>8}{'mean':>8}{'worst':>8}  at"]
    groups: dict[tuple[str, int], list[tuple[float, str]]] = {}
    for row in rows:
        times = [row["seconds"][n] for n in compared if n in row["seconds"] and n not in row["wrong"]]
        if times:
            ratio = min(times) / row["seconds"]["xent"]
            groups.setdefault((row["operation"], row["threads"]), []).append((ratio, f"{row['dtype']} {row['shape']}"))
    for (operation, threads), ratios in groups.items():
        worst = min(ratios)
        text.append(
            f"{operation:30}{threads:8}{geometric_mean([r for r, _ in ratios]):7.2f}x{worst[0]:7.2f}x  {worst[1]}"
        )
    reasons = {(name, row["dtype"], why) for row in rows for name, why in row["failed"].items()}
    text += [f"{name} {dtype} failed: {why}" for name, dtype, why in sorted(reasons)]
    return "\n".join(text)


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
    parser.add_argument("--output", type=Path, help="where the JSON goes; default: bench/results/")
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
    operations = args.op or (cases.QUICK_OPERATIONS if args.quick else tuple(cases.OPERATIONS))
    if args.quick and not args.op:
        operations = (*operations, "log_softmax_fresh")
    # The two that show page faults belong beside one another.
    operations = sorted(operations, key=lambda name: [*cases.OPERATIONS].index(name.removesuffix("_fresh")))
    peers = tuple(name for name in (PEERS if args.peer is None else args.peer) if PEERS[name].installed)
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "processors": processors,
        "system": platform.system(),
        "machine": platform.machine(),
        "isa": info["isa"],
        "quick": args.quick,
        "versions": {
            "python": platform.python_version(),
            "xent": info["version"],
            **{name: PEERS[name].version for name in peers if PEERS[name].compared},
        },
        "processes": [],
    }
    described = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    print(f"{report['processor']}, {processors} processors, {info['isa']}; {described}")
    print("limit: fraction of the machine's own, by memory or by computing; then the peer's time over xent's")
    print("!: its result is off by more than the check allows; -: it has no such operation")
    began = time.perf_counter()
    for n in threads:
        options = Options(
            operations=tuple(operations),
            shapes=tuple(args.shape or (cases.QUICK_SHAPES if args.quick else cases.SHAPES)),
            dtypes=tuple(args.dtype or (cases.QUICK_DTYPES if args.quick else cases.DTYPES)),
            peers=peers,
            isa=info["isa"],
            threads=n,
            budget=args.budget or (0.02 if args.quick else 0.15),
        )
        # Spawned: what this process has loaded would carry its own thread pools over.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            report["processes"].append(pool.submit(run_process, options).result())
    print(summary([row for process in report["processes"] for row in process["rows"]], peers))
    stamp = report["date"][:19].replace(":", "").replace("-", "")
    output = args.output or RESULTS / f"{stamp}-{info['isa']}{'-quick' if args.quick else ''}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"\n{time.perf_counter() - began:.0f} s; {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
