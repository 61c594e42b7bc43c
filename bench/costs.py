"""What a call costs beside its arithmetic: importing, a call on a tiny array, memory, the pages of a fresh result.

Imports and memory are measured in processes of their own, which know nothing of this one's past.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import threading
import time
import timeit
from pathlib import Path
from typing import Any

import numpy as np

from bench import cases
from bench.peers import Call, out_call, plain_call
from bench.targets import BYTES_A_THREAD, CALL_TIMES, IMPORT_SECONDS, Verdict

# Freed memory stays with the process, so that the growth of its pages is the most that a call ever held; and no stack
# comes from a thread that has ended, with its pages in place.
KEEP_PAGES = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_ARENA_MAX": "1",
    "GLIBC_TUNABLES": "glibc.pthread.stack_cache_size=0",
}
# A regime of the kernels each.
MEMORY_SHAPES = ("512x32000", "1000000x10", "1000x4096@0", "8x21x256x256@1", "1x50000000")
FRESH_SHAPE = "512x32000"
STARTS = 200
PR_SET_THP_DISABLE = 41


def _fresh(code: str, *arguments: str, **environment: str) -> Any:
    """What that code prints, JSON, in an interpreter of its own."""
    root = str(Path(__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], env={**os.environ, **environment}, cwd=root, capture_output=True
    )
    if result.returncode:
        raise RuntimeError(result.stderr.decode(errors="replace"))
    return json.loads(result.stdout)


def import_seconds(repeats: int) -> dict[str, float]:
    """The shortest of several imports of NumPy, and of xent with it, in turn."""
    best: dict[str, float] = {}
    for _ in range(repeats):
        for module in ("numpy", "xent"):
            code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
            best[module] = min(best.get(module, np.inf), _fresh(code))
    return best


def call_seconds(isa: str, budget: float) -> list[dict[str, Any]]:
    """A call on 8x10 as one would write it: gufunc, callable and np.vecdot in turn, with out= and without."""
    import xent

    xent.set_isa(isa)
    rows = []
    for dtype in ("float32", "float64"):
        data = cases.Data(cases.SHAPES[cases.TINY], dtype)
        for operation in cases.OPERATIONS.values():
            if "." in operation.xent:
                continue
            second = data.second(operation)
            names = {
                "x": data.x,
                "t": second,
                "o": tuple([data.new_value()] * operation.value + [data.new_array()] * operation.writes),
                "v": data.new_value(),
                "vecdot": np.vecdot,
                "gufunc": getattr(xent.ufuncs, operation.xent),
                "callable": getattr(xent, operation.xent),
            }
            operands = "x" if second is None else "x, t"
            statements = {
                f"{name}{suffix}": f"{name}({'x, x' if name == 'vecdot' else operands}{out})"
                for name in ("vecdot", "gufunc", "callable")
                for suffix, out in (("", ""), (" out=", ", out=v" if name == "vecdot" else ", out=o"))
            }
            timers = {key: timeit.Timer(statement, globals=names) for key, statement in statements.items()}
            number = max(1, int(2e-4 / (timers["callable"].timeit(100) / 100)))
            best = dict.fromkeys(timers, np.inf)
            stop = time.perf_counter() + budget
            while time.perf_counter() < stop:
                for key, timer in timers.items():
                    best[key] = min(best[key], timer.timeit(number) / number)
            rows.append({"operation": operation.name, "dtype": dtype, "seconds": best})
    return rows


def page_faults(isa: str) -> dict[str, dict[str, float]]:
    """log_softmax of FRESH_SHAPE float32 into a fresh array and into the same one again: seconds, page faults a call.

    In a process of its own, because the one that times the kernels keeps its pages.
    """
    return dict(_fresh(f"import json; from bench import costs; print(json.dumps(costs._page_faults({isa!r})))"))


def _page_faults(isa: str) -> dict[str, dict[str, float]]:
    import xent

    xent.set_isa(isa)
    xent.set_num_threads(1)
    x = cases.Data(cases.SHAPES[FRESH_SHAPE], "float32").x
    out = np.ones_like(x)
    calls: dict[str, Call] = {
        "fresh": lambda: xent.log_softmax(x),
        "reused": lambda: xent.log_softmax(x, out=out),
    }
    result = {}
    for name, call in calls.items():
        call()
        best, before = np.inf, resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(8):
            start = time.perf_counter()
            call()
            best = min(best, time.perf_counter() - start)
        faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 8
        result[name] = {"seconds": best, "faults": faults}
    return result


def memory(isa: str, threads: int, quick: bool) -> dict[str, Any]:
    """Bytes of memory beyond operands and results, each operation at the shape that takes most; threads started.

    Counted are the pages that a call makes the process touch: the stack of the thread that calls, which has just been
    started, scratch, and the stacks of the threads that help. Python's own frames are in it.
    """
    code = "import json, sys; from bench import costs; print(json.dumps(costs._memory(*json.loads(sys.argv[1]))))"
    return dict(_fresh(code, json.dumps([isa, threads, quick]), **KEEP_PAGES))


def _anonymous_bytes() -> int:
    """Pages of this process that belong to no file: exact, unlike the counters in /proc/self/status."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Anonymous:"))


def _growth(call: Call) -> int:
    """The pages that a call adds in a thread that has not done anything yet."""
    libc = ctypes.CDLL(None)
    started, go, done, leave = (threading.Event() for _ in range(4))

    def run() -> None:
        started.set()
        go.wait()
        call()
        done.set()
        leave.wait()  # with its stack, and those of its helpers

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    libc.malloc_trim(0)
    before = _anonymous_bytes()
    go.set()
    done.wait()
    grown = _anonymous_bytes() - before
    leave.set()
    thread.join()
    return grown


def _memory(isa: str, threads: int, quick: bool) -> dict[str, Any]:
    import xent

    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)  # else a stack's first page may be a huge one
    xent.set_isa(isa)
    running = len(os.listdir("/proc/self/task"))
    for dtype in ("float32", "float64"):
        tiny = cases.Data(cases.SHAPES[cases.TINY], dtype)
        for operation in cases.OPERATIONS.values():
            call = plain_call(operation, tiny, threads)
            for _ in range(STARTS):
                call()
    started = len(os.listdir("/proc/self/task")) - running
    _growth(call)  # what is touched once in a process, by threads too
    most: dict[str, dict[str, Any]] = {}
    for shape in (cases.SHAPES[name] for name in (MEMORY_SHAPES[:1] if quick else MEMORY_SHAPES)):
        for dtype in ("float32",) if quick or shape.repeats > 1 else ("float32", "float64"):
            data = cases.Data(shape, dtype)
            for operation in cases.OPERATIONS.values():
                reusing = out_call(operation, data, threads)
                call = reusing or plain_call(operation, data, threads)
                call()  # and once by an operation
                # losses has no out=: its result, a value a row, is new.
                grown = _growth(call) - (0 if reusing else data.new_value().nbytes)
                if grown > most.get(operation.name, {"bytes": -1})["bytes"]:
                    most[operation.name] = {"bytes": grown, "at": f"{dtype} {shape.name}"}
    return {"threads": threads, "most": most, "started_by_tiny_calls": started}


def measure(isa: str, threads: list[int], quick: bool) -> dict[str, Any]:
    """All of it. The tiny calls are timed here, on one processor."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    found: dict[str, Any] = {"memory": [memory(isa, n, quick) for n in threads]}
    try:
        if allowed:
            os.sched_setaffinity(0, {max(allowed)})
        found["import"] = import_seconds(4 if quick else 10)
        found["calls"] = call_seconds(isa, 0.05 if quick else 0.3)
        found["page_faults"] = page_faults(isa)
    finally:
        if allowed:
            os.sched_setaffinity(0, allowed)
    return found


def lines(costs: dict[str, Any]) -> list[str]:
    seconds, calls, faults = costs["import"], costs["calls"], costs["page_faults"]
    text = [
        f"import: numpy {seconds['numpy'] * 1e3:.1f} ms, xent, which imports it, {seconds['xent'] * 1e3:.1f} ms",
        f"log_softmax {FRESH_SHAPE} float32: "
        + ", ".join(
            f"{n} result {f['seconds'] * 1e3:.2f} ms, {f['faults']:.0f} page faults" for n, f in faults.items()
        ),
    ]
    text.append(f"{'a call on ' + cases.TINY + ', ns':28}" + "".join(f"{key:>15}" for key in calls[0]["seconds"]))
    for row in calls:
        times = "".join(f"{s * 1e9:15.0f}" for s in row["seconds"].values())
        text.append(f"{row['operation']:18}{row['dtype']:10}{times}")
    for measured in costs["memory"]:
        n = measured["threads"]
        most = max(measured["most"].items(), key=lambda item: item[1]["bytes"])
        text.append(
            f"memory beyond operands and result, {n} thread(s): {most[1]['bytes'] / n / 1024:.0f} KB a thread at most "
            f"({most[0]} {most[1]['at']}); {measured['started_by_tiny_calls']} threads started by tiny calls"
        )
    return text


def verdicts(costs: dict[str, Any]) -> list[Verdict]:
    if not costs:
        return []
    seconds = costs["import"]
    found = [
        Verdict("NumPy's time and 20 ms", "import xent, ms", seconds["xent"] * 1e3,
                (seconds["numpy"] + IMPORT_SECONDS) * 1e3, most=True)
    ]  # fmt: skip
    for row in costs["calls"]:
        for name, times in CALL_TIMES.items():
            found.append(
                Verdict(f"{times}x np.vecdot", f"{row['operation']} {row['dtype']} {cases.TINY}, {name}",
                        row["seconds"][name] / row["seconds"]["vecdot"], times, most=True)
            )  # fmt: skip
    for measured in costs["memory"]:
        threads = measured["threads"]
        for operation, most in measured["most"].items():
            found.append(
                Verdict("64 KB a thread", f"{operation}, {threads} thread{'s' * (threads > 1)}, bytes at most",
                        most["bytes"] / threads, BYTES_A_THREAD, most=True, note=f" ({most['at']})")
            )  # fmt: skip
        started = measured["started_by_tiny_calls"]
        found.append(Verdict("no thread for a tiny call", f"{threads} allowed", started, 0, most=True))
    return found
