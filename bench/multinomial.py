"""scikit-learn's multinomial loss beside the same interface on xent: python -m bench.multinomial [--seconds S].

The compiled class on xent is that of tests/embed/cython_package, which `pip install tests/embed/cython_package` builds.
Results are compared first; then the two take turns, and the shortest of the repeats counts. Times are in nanoseconds an
element of raw_prediction. Labels come as floats, as scikit-learn has them: the side of xent makes integers of them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn._loss.loss import HalfMultinomialLoss
from xent_embedder.multinomial import Multinomial

import xent

SHAPES = ((1_000_000, 3), (200_000, 10), (20_000, 100), (2_000, 1000))
METHODS = ("loss", "gradient", "loss_gradient")


def shortest(calls: list[Callable[[], Any]], seconds: float) -> list[float]:
    """Each call's shortest time, the calls in turns."""
    best = [float("inf")] * len(calls)
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop:
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def rows(seconds: float) -> Iterator[str]:
    for samples, classes in SHAPES:
        for dtype in (np.float32, np.float64):
            rng = np.random.default_rng(classes)
            raw: NDArray[Any] = (4 * rng.standard_normal((samples, classes))).astype(dtype)
            y = rng.integers(classes, size=samples).astype(dtype)
            weight = rng.uniform(0.5, 2, samples).astype(dtype)
            theirs, ours = HalfMultinomialLoss(n_classes=classes), HalfMultinomialLoss(n_classes=classes)
            ours.closs = Multinomial()
            loss, gradient = np.empty_like(y), np.empty_like(raw)
            out = {"loss": [loss], "gradient": [gradient], "loss_gradient": [loss, gradient]}
            for n_threads in (1, 2):
                cells = []
                for method in METHODS:
                    calls = []
                    for which in (theirs, ours):
                        call = getattr(which, method)
                        calls.append(partial(call, y, raw, weight, *out[method], n_threads=n_threads))
                    first, second = ([a.copy() for a in out[method] if call() is not None] for call in calls)
                    for a, b in zip(first, second, strict=True):
                        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 if dtype == np.float32 else 1e-12)
                    them, us = shortest(calls, seconds)
                    scale = 1e9 / raw.size
                    cells.append(f"{us * scale:.2f} / {them * scale:.2f} = {them / us:.1f}x")
                name = np.dtype(dtype).name
                yield f"| {samples}x{classes} | {name} | {n_threads} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each cell")
    seconds = parser.parse_args().seconds
    print(f"xent's time / scikit-learn's, ns an element; {xent.info()['isa']}\n")
    print("| shape | dtype | threads | " + " | ".join(METHODS) + " |")
    print("|---|---|---|---|---|---|")
    for row in rows(seconds):
        print(row, flush=True)


if __name__ == "__main__":
    main()
