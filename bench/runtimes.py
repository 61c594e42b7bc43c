"""Does xent's OpenMP runtime take time from another library's? python -m bench.runtimes [--seconds S].

Wheels bring a runtime each, and two of them in one process are known to slow each other down: threads of one spin while
those of the other work. Here a call of PyTorch on all processors is timed in turns with one of xent, of scikit-learn,
or of nothing that has threads, each pair in a process of its own; and a call of xent likewise. The median counts, in
units of that beside the call without threads.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

ROWS, CLASSES = 256, 4096


def calls() -> dict[str, Callable[[], Callable[[], Any]]]:
    """By name, what makes a call; libraries are imported only where they take part."""
    x = np.random.default_rng(0).standard_normal((ROWS, CLASSES)).astype(np.float32)
    threads = len(os.sched_getaffinity(0))

    def torch_call() -> Callable[[], Any]:
        import torch

        torch.set_num_threads(threads)
        tensor = torch.from_numpy(x)
        return lambda: torch.logsumexp(tensor, 1)

    def xent_call() -> Callable[[], Any]:
        import xent

        xent.set_num_threads(threads)
        return lambda: xent.logsumexp(x)

    def sklearn_call() -> Callable[[], Any]:
        from sklearn._loss.loss import HalfMultinomialLoss

        loss, y = HalfMultinomialLoss(n_classes=CLASSES), np.zeros(ROWS, np.float32)
        return lambda: loss.loss(y, x, n_threads=threads)

    def numpy_call() -> Callable[[], Any]:
        return lambda: np.exp(x)

    return {"torch": torch_call, "xent": xent_call, "sklearn": sklearn_call, "nothing": numpy_call}


def measure(first: str, second: str, seconds: float) -> float:
    """The median time of the first call, in turns with the second."""
    timed, other = calls()[first](), calls()[second]()
    times = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times) < 20:
        other()
        start = time.perf_counter()
        timed()
        times.append(time.perf_counter() - start)
    return statistics.median(times[5:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each pair")
    parser.add_argument("pair", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pair:
        print(measure(*arguments.pair, arguments.seconds))
        return
    print(f"{ROWS}x{CLASSES} float32, {len(os.sched_getaffinity(0))} processors")
    for first in ("torch", "xent"):
        alone = None
        for second in ("nothing", "xent", "torch", "sklearn"):
            if second == first:
                continue
            command = [sys.executable, "-m", "bench.runtimes", "--seconds", str(arguments.seconds), first, second]
            took = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            alone = alone or took
            print(f"{first} beside {second}: {took * 1e6:.0f} us, {took / alone:.2f}", flush=True)


if __name__ == "__main__":
    main()
