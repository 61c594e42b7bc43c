"""Do threads stall a call while another process is busy? python -m bench.busy [--busy N] [--seconds S].

Calls of about 0.1, 1 and 10 ms of serial work, back to back and some milliseconds apart, first on the machine as it is,
then beside processes that spin, each bound to one processor. Times are in units of the median serial call of the same
row. Serial calls take turns with those on all threads, because they are disturbed too. Each library has a process of
its own. OMP_WAIT_POLICY and GOMP_SPINCOUNT, which change how libgomp waits, are taken from the environment and noted.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.run import RESULTS, available_processors, busy_ticks, processor

LIBRARIES = ("xent", "torch")
WORK = (0.1e-3, 1e-3, 10e-3)  # seconds of a serial call
GAPS = (0.0, 1e-3, 5e-3, 20e-3, 100e-3)
HELPED = 0.8  # a call had a helper where it took less than so much of the median serial one
SLOW = 3.0  # a stall is a call of so many times the median serial one
WINDOW = 0.25  # seconds; serial and threaded calls take turns
QUIET = 0.12  # processors that other programs may use in a window that counts
PATIENCE = 6  # times the seconds asked for until a noisy machine is given up
BLOCK = (64, 1000)  # float32 logits in L2, read again and again: memory is not the limit
ENVIRONMENT = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_PROC_BIND", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Condition:
    library: str
    threads: int
    busy: int
    seconds: float


Call = Callable[[], Any]


def repeated(repeats: int) -> NDArray[np.float32]:
    block = np.random.default_rng(0).standard_normal(BLOCK, dtype=np.float32)
    return np.broadcast_to(block, (repeats, *BLOCK))


def xent_call(repeats: int) -> Call:
    xent, x = importlib.import_module("xent"), repeated(repeats)
    out = np.empty(x.shape[:-1], np.float32)
    return lambda: xent.logsumexp(x, out=out)


def torch_call(repeats: int) -> Call:
    torch = importlib.import_module("torch")
    x = torch.from_numpy(np.array(repeated(1))).expand(repeats, *BLOCK)
    out = torch.empty(x.shape[:-1])
    return lambda: torch.logsumexp(x, -1, out=out)


def timed(call: Call, gap: float, seconds: float) -> list[float]:
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while not times or time.perf_counter() < stop:
        if gap:
            time.sleep(gap)
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


class Watch:
    """How many processors other programs used since the start; the spinning ones of this study are left out."""

    def __init__(self, busy: int) -> None:
        self._busy, self._start = busy, self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        others = sum(busy_ticks().values()) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:2])
        return time.monotonic(), others

    def others(self) -> float:
        elapsed, used = (b - a for a, b in zip(self._start, self._now(), strict=True))
        return used / elapsed - self._busy


def percentiles(times: list[float], serial: float) -> dict[str, float]:
    ratios = np.array(times) / serial
    return {
        "calls": len(times),
        "mean": float(ratios.mean()),
        "p50": float(np.quantile(ratios, 0.5)),
        "p99": float(np.quantile(ratios, 0.99)),
        "max": float(ratios.max()),
        "helped": float((ratios < HELPED).mean()),
        "slow": float((ratios > SLOW).mean()),
    }


def measure(call: Call, gap: float, condition: Condition, set_threads: Callable[[int], None]) -> dict[str, Any]:
    times: dict[int, list[float]] = {1: [], condition.threads: []}
    noisy, give_up = 0, time.monotonic() + PATIENCE * condition.seconds
    # Windows in which others ran are kept only where there is nothing better.
    spare: dict[int, list[float]] = {n: [] for n in times}
    window = max(WINDOW, 8 * gap)
    quiet_seconds = 0.0
    while quiet_seconds < condition.seconds and time.monotonic() < give_up:
        for threads, kept in times.items():
            set_threads(threads)
            if threads > 1:
                timed(call, 0.0, 0.02)  # the team starts and spreads out
            watch = Watch(condition.busy)
            got = timed(call, gap, window)
            quiet = watch.others() <= QUIET
            noisy += not quiet
            quiet_seconds += window if quiet else 0.0
            (kept if quiet else spare[threads]).extend(got)
    disturbed = not all(times.values())
    if disturbed:
        times = {n: times[n] + spare[n] for n in times}
    serial = float(np.median(times[1]))
    return {
        "serial_seconds": serial,
        "serial": percentiles(times[1], serial),
        "threaded": percentiles(times[condition.threads], serial),
        "noisy_windows": noisy,
        "disturbed": disturbed,
    }


def line(row: dict[str, Any]) -> str:
    threaded, mark = row["threaded"], " others ran" if row["disturbed"] else ""
    return (
        f"{row['library']:8}{row['busy']:5}{row['serial_seconds'] * 1e3:11.3f}{row['gap'] * 1e3:8.0f}"
        f"{threaded['calls']:8}{threaded['p50']:9.2f}{threaded['p99']:9.2f}{threaded['max']:9.1f}"
        f"{threaded['helped']:8.0%}{threaded['slow']:10.2%}{row['serial']['slow']:10.2%}{mark}"
    )


HEADING = (
    f"{'library':8}{'busy':>5}{'serial ms':>11}{'gap ms':>8}{'calls':>8}{'p50':>9}{'p99':>9}{'max':>9}"
    f"{f'<{HELPED}x':>8}{f'>{SLOW:.0f}x':>10}{'serial':>10}"
)


def run_library(condition: Condition) -> list[dict[str, Any]]:
    """All rows of one library in one state of the machine. Prints them as they come."""
    module = importlib.import_module(condition.library)
    set_threads: Callable[[int], None] = module.set_num_threads
    make = {"xent": xent_call, "torch": torch_call}[condition.library]
    set_threads(1)
    once = min(timed(make(1), 0.0, 0.2))
    rows = []
    for work in WORK:
        call = make(max(1, round(work / once)))
        for gap in GAPS:
            row = measure(call, gap, condition, set_threads)
            rows.append({"library": condition.library, "busy": condition.busy, "gap": gap, "work": work, **row})
            print(line(rows[-1]), flush=True)
    return rows


@contextlib.contextmanager
def spinning(processes: int) -> Iterator[None]:
    """So many processes that spin, on the last processors that this one may use."""
    code = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"
    started = []
    try:
        for cpu in sorted(os.sched_getaffinity(0))[::-1][:processes]:
            started.append(subprocess.Popen([sys.executable, "-c", code, str(cpu)]))
        time.sleep(0.5 if processes else 0.0)
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.busy", description=__doc__)
    parser.add_argument("--library", nargs="+", choices=LIBRARIES, help="default: all that are installed")
    parser.add_argument("--busy", nargs="+", type=int, default=[0, 1], help="spinning processes; default: 0 and 1")
    parser.add_argument("--threads", type=int, help="default: one a processor")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each row; a noisy machine takes longer")
    parser.add_argument("--output", type=Path, help="where the JSON goes; default: bench/results/")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    if not hasattr(os, "sched_setaffinity") or not Path("/proc/stat").exists():
        print("bench.busy binds processes to processors and reads /proc/stat: it needs Linux", file=sys.stderr)
        return 2
    processors = available_processors()
    threads = processors if args.threads is None else args.threads
    if not 2 <= threads <= processors:
        print(f"--threads: from 2 to {processors}, the processors that may be used, got {threads}", file=sys.stderr)
        return 2
    if not all(0 <= n < processors for n in args.busy):
        print(f"--busy: from 0 to {processors - 1}, to leave one processor, got {args.busy}", file=sys.stderr)
        return 2
    libraries = args.library or [name for name in LIBRARIES if importlib.util.find_spec(name)]
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "processors": processors,
        "threads": threads,
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "versions": {name: importlib.metadata.version(name) for name in libraries},
        "rows": [],
    }
    print(f"{report['processor']}, {threads} threads on {processors} processors; {report['versions']}")
    print("times by the median serial call; last column: serial calls that took as long\n" + HEADING)
    for busy in args.busy:
        for library in libraries:
            condition = Condition(library, threads, busy, args.seconds)
            with spinning(busy), ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                report["rows"] += pool.submit(run_library, condition).result()
    stamp = report["date"][:19].replace(":", "").replace("-", "")
    output = args.output or RESULTS / f"{stamp}-busy.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"\n{output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
