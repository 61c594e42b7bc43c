"""The CUDA kernels as nvcc's PTX, run on this machine's processor by tests/cuda/ptx: called as in host_cuda.py.

What a device would leave undefined is an exception that says who did what where.
"""

import ctypes
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import built
import host_cuda
import numpy as np

DIRECTIONS = ("none", "up", "down", "apart")
REDUCE = {name: reduce for name, reduce, *_ in host_cuda.operations()}
UNITS = [f"COMMON-{dtype}" for dtype in ("F32", "F64")]
UNITS += [f"{reduce}-{dtype}" for reduce in sorted(set(REDUCE.values())) for dtype in ("F16", "BF16", "F32", "F64")]
# What `make test-all` has time for: every regime, labels, sums, and arithmetic of 16 bits with two operands.
FEW = ["COMMON-F32", "COMMON-F64", "LSE-F32", "LSE-F64", "KL_PAIR-F16"]


def chosen_units():
    return UNITS if os.environ.get("XENT_PTX") == "all" else FEW


def nvcc():
    """nvcc, as setup.py finds it, or where pip puts it (the extra `ptx`); None: there is none."""
    homes = [Path(os.environ[name], "bin") for name in ("CUDA_HOME", "CUDA_PATH") if name in os.environ]
    pip = sorted(Path(sysconfig.get_paths()["purelib"]).glob("nvidia/*/bin"))
    path = os.pathsep.join(map(str, [*homes, os.environ.get("PATH", ""), *pip]))
    return shutil.which("nvcc", path=path)


def version(program):
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout


def compiled(unit):
    """The file of a unit's PTX."""

    def make(directory):
        command = ["make", "-s", "-C", str(host_cuda.ROOT / "cuda"), f"BUILD={directory}", f"UNITS={unit}"]
        done = subprocess.run(
            [*command, f"NVCC={nvcc()}", "ptx"],
            capture_output=True,
            text=True,
            check=False,
            env=built.environment(),
        )
        assert done.returncode == 0, done.stdout + done.stderr

    made = built.directory(
        f"ptx-{unit}",
        make,
        compiler=[host_cuda.compiler()],
        settings=[version(nvcc())],
        sources=[host_cuda.ROOT / "cuda", host_cuda.ROOT / "kernels"],
    )
    return made / "ptx" / f"{unit}.ptx"


class Fault(Exception):
    """What a device would leave undefined."""


# memory.h's Use
OPERAND, RESULT, BOTH = range(3)


class Call(host_cuda.Call):
    def run(self, launch=None):
        launch = launch or self.launch()
        results = [g.array for g in (self.value, self.out, self.workspace) if g is not None]
        operands = [a for a in self.keep if isinstance(a, np.ndarray) and not any(a.base is r.base for r in results)]
        written = (self.req.value.data, self.req.out.data)
        self.library.forget()
        for array in operands:
            begin, end = np.lib.array_utils.byte_bounds(array)
            in_place = any(at is not None and begin <= at < end for at in written)
            self.library.remember(array, BOTH if in_place else OPERAND)
        for array in results:
            self.library.remember(array, RESULT)
        super().run(launch)


class Library(host_cuda.Library):
    """The C interface in front of the machine. A call's arrays are all that there is of global memory."""

    def __init__(self, units=()):
        super().__init__(host_cuda.build("host-ptx", Path(__file__).with_name("ptx")) / "libxent_cuda_ptx.so")
        for name in ("xent_ptx_fault", "xent_ptx_counts", "xent_ptx_known"):
            getattr(self.lib, name).restype = ctypes.c_char_p
        for unit in units:
            self.lib.xent_ptx_unit(unit.encode(), str(compiled(unit)).encode())

    def forget(self):
        """From now on there is no global memory."""
        self.lib.xent_ptx_clear()

    def remember(self, array, use):
        if array.size:
            begin, end = np.lib.array_utils.byte_bounds(array)
            self.lib.xent_ptx_add(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), use)

    def set_direction(self, direction):
        """In which direction approximate instructions are wrong."""
        self.lib.xent_ptx_direction(DIRECTIONS.index(direction))

    def check(self, status):
        if status and (text := self.lib.xent_ptx_fault().decode()):
            raise Fault(text)
        super().check(status)

    def request(self, name, logits, target=None, *, axis=-1, **options):
        return Call(self, name, logits, target, axis, options)

    def run_text(self, text, *results, operands=(), blocks=1, threads=32, cluster=1):
        """Runs the function `f` of a text, on the addresses of the results, then of the operands."""
        self.forget()
        for arrays, use in ((operands, OPERAND), (results, RESULT)):
            for array in arrays:
                self.remember(array, use)
        addresses = np.array([a.ctypes.data for a in (*results, *operands)], np.uint64)
        status = self.lib.xent_ptx_run(
            text.encode(),
            b"f",
            addresses.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_size_t(addresses.nbytes),
            ctypes.c_int64(blocks),
            threads,
            cluster,
        )
        self.check(status)

    def known(self):
        """The machine's arithmetic: by name, the bytes of the result and of each operand; 0 of a predicate."""
        lines = self.lib.xent_ptx_known().decode().splitlines()
        return {name: [int(n) for n in widths] for name, *widths in map(str.split, sorted(lines))}

    def counts(self):
        """What ran since the last call: (kernel's mangled name, its numbers, instructions)."""
        found = []
        for line in self.lib.xent_ptx_counts().decode().splitlines():
            words = line.split()
            if words[0] == "kernel":
                found.append((words[6], [float(w) for w in words[1:6]], []))
            else:
                found[-1][2].append((*map(int, words[:3]), words[3]))
        return found


def unit_of(name, dtype):
    return f"{REDUCE[name]}-{host_cuda.DTYPES[np.dtype(dtype)]}"


def lanes_of(mangled):
    """Lanes a row, of a kernel's name."""
    team = re.search(r"4teamILi(\d+)ELi(\d+)ELi(\d+)ELi(\d+)E", mangled)
    return int(team[1]) if team else None
