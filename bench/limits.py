"""The machine's own limits, measured by limits.c: bandwidth at a working-set size, rates of exp and log in cache."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOURCE = Path(__file__).with_name("limits.c")
FLAGS = {
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"],
    "avx2": ["-mavx2", "-mfma"],
    "baseline": [],
    "neon": [],
}
AHEAD = (0, 1024, 4096)  # bytes of software prefetch to try
SMALLEST = 16 << 10  # below this a pass is as short as the barriers around it
LARGEST = 1 << 29
CHECKED = 1 << 20
LIMIT_ULP = 1.6  # at worst, below a power of two; 999 of 1000 are within 1.1
L1 = 16 << 10
BYTES_A_TIMING = 64 << 20


def aligned(nbytes: int) -> NDArray[np.uint8]:
    """A touched buffer that starts on a page, with a page of slack for what is prefetched past the end."""
    raw = np.ones(nbytes + 8192, np.uint8)
    start = -raw.ctypes.data % 4096
    return raw[start : start + nbytes]


def log_pairs(count: int, real: type) -> NDArray[np.float64]:
    """An inverse and minus its logarithm for each of `count` parts of [1, 2), the upper ones halved.

    Of the numbers near the middle's inverse it is the one whose logarithm is rounded least.
    """
    pairs = np.zeros((count, 2))
    for i in range(count):
        middle = (1 + (i + 0.5) / count) / (1 if i < count // 2 else 2)
        tried: Any = (np.linspace(0.998, 1.002, 4001) / middle).astype(real)
        exact = -np.log(tried.astype(np.longdouble))
        best = np.argmin(np.abs(exact.astype(real) - exact))
        pairs[i] = (1, 0) if i in (0, count - 1) else (tried[best], exact[best].astype(real))
    return pairs


def build(isa: str) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "limits.so")
        compiler = os.environ.get("CC", "cc")
        flags = ["-O3", "-std=gnu11", "-ffp-contract=fast", "-fopenmp", "-shared", "-fPIC", *FLAGS[isa]]
        subprocess.run([compiler, *flags, str(SOURCE), "-o", str(library)], check=True)
        built = ctypes.CDLL(str(library))
    tables = [np.exp2(np.arange(16) / 16), log_pairs(32, np.float32), log_pairs(16, np.float64)]
    built.limit_init(*(table.ctypes.data_as(ctypes.c_void_p) for table in tables))
    return built


def functions(library: ctypes.CDLL, kind: str, real: str) -> list[str]:
    """The ways in which it computes "exp" or "log" of "f32" or "f64"."""
    names = (f"{kind}_{way}_{real}" for way in ("poly", "table"))
    return [name for name in names if hasattr(library, f"limit_{name}")]


def largest_error(library: ctypes.CDLL, name: str) -> float:
    """In ULP, over what the operations ask for."""
    kind, dtype = (np.exp, np.log)[name.startswith("log")], (np.float32, np.float64)[name.endswith("64")]
    x, got = (aligned(CHECKED).view(dtype) for _ in range(2))
    if kind is np.exp:
        x[:] = np.linspace(-80, 0, x.size)
    else:
        x[: x.size // 2] = np.geomspace(1e-30, 1e3, x.size // 2)
        x[x.size // 2 :] = np.linspace(0.5, 2, x.size - x.size // 2)
    function = getattr(library, f"apply_{name}")
    function(ctypes.c_void_p(got.ctypes.data), ctypes.c_void_p(x.ctypes.data), ctypes.c_size_t(x.nbytes))
    exact = kind(x.astype(np.longdouble))
    return float(np.max(np.abs(got - exact) / np.spacing(np.abs(exact).astype(dtype))))


class Limits:
    """Limits of one instruction set with a number of threads. Each figure is measured once, when first asked for."""

    def __init__(self, isa: str, threads: int, budget: float = 0.05) -> None:
        self.isa, self.threads, self.budget = isa, threads, budget
        self._library = build(isa)
        self._read, self._copy = cache(self._measure_read), cache(self._measure_copy)
        self.measured: list[dict[str, float]] = []
        self.rates = {kind: self._fastest(kind) for kind in ("exp", "log")}

    def _best(self, call: Callable[[], float], longer: float = 1.0) -> float:
        stop, best, runs = time.perf_counter() + self.budget * longer, float("inf"), 0
        while runs < 3 or time.perf_counter() < stop:
            best, runs = min(best, call()), runs + 1
        return best

    def _timed(self, name: str, buffers: list[NDArray[np.uint8]], *extra: int) -> float:
        """Seconds of a pass; infinite where the machine lacks it."""
        function = getattr(self._library, name)
        function.restype = ctypes.c_double
        nbytes = buffers[0].nbytes
        passes = max(1, BYTES_A_TIMING // (nbytes * len(buffers)))
        pointers = [ctypes.c_void_p(b.ctypes.data) for b in buffers]
        tail = [ctypes.c_size_t(e) for e in extra]

        def once() -> float:
            return float(function(*pointers, ctypes.c_size_t(nbytes), self.threads, passes, *tail))

        if once() < 0:
            return float("inf")
        return self._best(once)

    @staticmethod
    def _size(nbytes: int) -> int:
        """Sizes that are nearly equal share a measurement; larger than any cache is large enough."""
        nbytes = min(max(nbytes, SMALLEST), LARGEST)
        step = 1 << (nbytes.bit_length() - 4)
        return (nbytes + step // 2) // step * step

    def read(self, nbytes: int) -> float:
        """GB/s of reading `nbytes`, again and again."""
        return self._read(self._size(nbytes))

    def copy(self, nbytes: int) -> float:
        """GB/s, read and written together, of copying one half of `nbytes` to the other: the better of both stores."""
        return self._copy(self._size(nbytes))

    def _measure_read(self, nbytes: int) -> float:
        source = aligned(nbytes)
        rate = nbytes * 1e-9 / min(self._timed("limit_read", [source], ahead) for ahead in AHEAD)
        self.measured.append({"bytes": nbytes, "read": rate})
        return rate

    def _measure_copy(self, nbytes: int) -> float:
        buffers = [aligned(nbytes // 2), aligned(nbytes // 2)]
        plain, stream = (
            nbytes * 1e-9 / min(self._timed(name, buffers, ahead) for ahead in AHEAD)
            for name in ("limit_copy", "limit_stream")
        )
        self.measured.append({"bytes": nbytes, "copy": plain, "stream": stream})
        return max(plain, stream)

    def _fastest(self, kind: str) -> dict[str, dict[str, Any]]:
        """Of each real type: nanoseconds an element, all threads together, which function that was, and its error."""
        rates = {}
        for real, dtype in (("f32", np.float32), ("f64", np.float64)):
            found: list[dict[str, Any]] = []
            for name in functions(self._library, kind, real):
                buffer = aligned(L1 * self.threads)
                buffer.view(dtype)[:] = np.linspace(0.01, 9, buffer.nbytes // np.dtype(dtype).itemsize)
                seconds = self._rate(f"limit_{name}", buffer)
                ns = seconds * np.dtype(dtype).itemsize / buffer.nbytes * 1e9
                # A rate counts only if the function is as exact as what it is a limit for.
                ulp = largest_error(self._library, name)
                if not ulp <= LIMIT_ULP:
                    raise RuntimeError(f"bench/limits.c: {name} is wrong by {ulp:.3g} ULP")
                found.append({"ns": ns, "function": name, "ulp": ulp})
            rates[real] = min(found, key=lambda entry: float(entry["ns"]))
        return rates

    def _rate(self, name: str, buffer: NDArray[np.uint8]) -> float:
        function = getattr(self._library, name)
        function.restype = ctypes.c_double
        pointer = ctypes.c_void_p(buffer.ctypes.data)
        # Every row rests on these few figures: take longer.
        return self._best(lambda: float(function(pointer, ctypes.c_size_t(L1), self.threads, 400)), longer=4)

    def seconds(self, read: int, written: int, exps: float, logs: float, real: str) -> dict[str, float]:
        """The least time for so much traffic and so many exp and log: {"memory": s, "compute": s}.

        What is written is paired with as much that is read, at the rate of a copy; the rest is read at its own rate.
        """
        size = read + written
        compute = exps * self.rates["exp"][real]["ns"] + logs * self.rates["log"][real]["ns"]
        paired = min(read, written)
        memory = (2 * paired / self.copy(size) if paired else 0.0) + (size - 2 * paired) / self.read(size)
        return {"memory": memory * 1e-9, "compute": compute * 1e-9}


if __name__ == "__main__":
    import sys

    limits = Limits(sys.argv[1], int(sys.argv[2]))
    for rates in limits.rates.values():
        for entry in rates.values():
            print(f"{entry['function']}: {entry['ns']:.4f} ns, {entry['ulp']:.2f} ULP")
    for size in (256 << 10, 4 << 20, 64 << 20, 512 << 20):
        limits.read(size), limits.copy(size)
    print(*limits.measured, sep="\n")
