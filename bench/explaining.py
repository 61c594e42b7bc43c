"""What xent.explain costs beside the loss itself: python -m bench.explaining [ROWS [CLASSES]].

For each pair of float32 arrays, on one and on two threads: the median time of the loss, the least of explain's, their
quotient, and the memory that explain's process needed beyond the arrays. A process for each, so that a peak is its own.
"""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import xent

PAIRS = ("logits, logits", "logits, probs", "probs, probs", "log_probs, probs", "logits, labels")


def seconds(call: Callable[[], Any], times: int) -> list[float]:
    found = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def measure(pair: str, rows: int, classes: int, threads: int) -> str:
    rng = np.random.default_rng(0)
    first, second = pair.split(", ")

    def made(kind: str) -> Any:
        if kind == "labels":
            return rng.integers(0, classes, rows)
        array = 2 * rng.standard_normal((rows, classes), np.float32)
        function = {"probs": xent.softmax, "log_probs": xent.log_softmax}.get(kind)
        return array if function is None else function(array, out=array)

    x, t = made(first), made(second)
    xent.set_num_threads(threads)

    def loss() -> Any:
        if second == "labels":
            return xent.losses.cross_entropy(x, t)
        return xent.losses.kl_div(x, t, target_kind=second)

    xent.explain(x[:10], t[:10])  # what is imported once
    alone = statistics.median(seconds(loss, 7))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    explained = min(seconds(lambda: xent.explain(x, t), 3))
    beyond = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    times = f"loss {alone * 1e3:8.1f} ms  explain {explained * 1e3:8.1f} ms  x {explained / alone:4.1f}"
    return f"{pair:18} {threads} thread{'s' * (threads > 1):1}  {times}  {beyond:5.0f} MB beyond"


if __name__ == "__main__":
    if len(sys.argv) == 5:
        print(measure(sys.argv[1], *map(int, sys.argv[2:])))
    else:
        size = [*sys.argv[1:], "4000", "1000"][:2] if len(sys.argv) != 2 else [sys.argv[1], "1000"]
        for pair in PAIRS:
            for threads in ("1", "2"):
                subprocess.run([sys.executable, "-m", "bench.explaining", pair, *size, threads], check=True)
