"""The CUDA kernels on this machine's processor: their C ABI, built for the host, called with NumPy arrays.

Nothing here knows what the numbers should be. Outputs lie between guard bytes and start poisoned, so that a store that
is missing, or one too many, shows.
"""

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import built
import capi
import ml_dtypes
import numpy as np

ROOT = Path(__file__).parents[2]
POISON = 0xA5
GUARD_BYTES = 256  # and what an aligned output or workspace is aligned to

DTYPES = {
    np.dtype(np.float16): "F16",
    np.dtype(ml_dtypes.bfloat16): "BF16",
    np.dtype(np.float32): "F32",
    np.dtype(np.float64): "F64",
    np.dtype(np.bool_): "BOOL",
    **{np.dtype(f"{kind}{size}"): f"{kind.upper()}{8 * size}" for kind in "iu" for size in (1, 2, 4, 8)},
}


def enumerators(enum):
    """The names of an enum of xent.h, in order; their values count from 0."""
    text = (ROOT / "kernels" / "include" / "xent.h.in").read_text(encoding="utf-8")
    body = re.search(rf"typedef enum {enum} {{(.*?)}}", text, flags=re.DOTALL)[1]
    return re.findall(r"XENT_(\w+)", re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL))


STATUSES = enumerators("xent_status")
DTYPE_CODES = {name: code for code, name in enumerate(enumerators("xent_dtype"))}
REDUCTIONS = {name.lower(): code for code, name in enumerate(enumerators("xent_reduction"))}


def operations():
    """(name, reduce, target, value, emit) of kernels/ops.def, in order."""
    text = (ROOT / "kernels" / "ops.def").read_text(encoding="utf-8")
    return re.findall(r"^OP\((\w+), *(\w+), *(\w+), *(\w+), *(\w+)\)", text, flags=re.MULTILINE)


OPERATIONS = {row[0]: (i, *row[1:]) for i, row in enumerate(operations())}


Request = capi.structure("xent_request")


class Launch(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("device", ctypes.c_int),
        ("stream", ctypes.c_void_p),
        ("workspace", ctypes.c_void_p),
        ("workspace_size", ctypes.c_size_t),
    )


class Refused(Exception):
    """A status other than OK."""

    def __init__(self, status, text=""):
        self.status = STATUSES[status]
        super().__init__(f"XENT_{self.status}{': ' if text else ''}{text}")


def compiler():
    """The C++ compiler of this machine, or None."""
    return next((c for c in (os.environ.get("CXX"), "c++", "g++", "clang++") if c and shutil.which(c)), None)


def own_sources():
    return [f for f in sorted(Path(__file__).parent.iterdir()) if f.suffix in (".h", ".cpp")]


def build(target, *more_sources):
    """The directory in which cuda/Makefile has made a target for this machine's processor."""

    def make(directory):
        command = ["make", "-s", f"-j{min(os.cpu_count(), 8)}", "-C", str(ROOT / "cuda"), f"BUILD={directory}"]
        done = subprocess.run(
            [*command, f"CXX={compiler()}", target],
            capture_output=True,
            text=True,
            check=False,
            env=built.environment(),
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return built.directory(
        f"cuda-{target}",
        make,
        compiler=[compiler()],
        settings=[os.environ.get("HOST_CXXFLAGS", "")],
        sources=[ROOT / "cuda", ROOT / "kernels", *own_sources(), *more_sources],
    )


def laid_like(strides, shape, dtype, buffer, start):
    """An array without gaps in a buffer, its axes in the order in which those with such strides lie."""
    order = list(range(len(shape)))
    if strides:  # a stride of 0 says nothing, so such an axis comes first
        order.sort(key=lambda d: -abs(strides[d]) if strides[d] else -np.inf)
    return np.ndarray([shape[d] for d in order], dtype, buffer, start).transpose(np.argsort(order))


class Guarded:
    """A poisoned array inside a buffer whose other bytes must stay as they are."""

    def __init__(self, shape, dtype, misalign=0, like=None):
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self._buffer = np.full(size + 3 * GUARD_BYTES, POISON, np.uint8)
        start = GUARD_BYTES + -self._buffer.ctypes.data % GUARD_BYTES + misalign * dtype.itemsize
        self._before, self._after = self._buffer[:start], self._buffer[start + size :]
        self.array = laid_like(like, shape, dtype, self._buffer, start)

    def check(self):
        assert (self._before == POISON).all(), "written before the output"
        assert (self._after == POISON).all(), "written after the output"


def is_poison(array):
    """Where an array still holds what it held before the call."""
    raw = np.ascontiguousarray(array).view(np.uint8)
    return (raw.reshape(*array.shape, array.dtype.itemsize) == POISON).all(axis=-1)


def realigned(array, offset):
    """A copy whose data begin `offset` elements past a 16-byte boundary, between others' bytes."""
    holder = Guarded(array.shape, array.dtype, misalign=offset)
    holder.array[...] = array
    return holder.array


class Library:
    """xent_cuda.h, loaded."""

    def __init__(self, path):
        self.lib = ctypes.CDLL(str(path))
        self.lib.xent_cuda_error.restype = self.lib.xent_host_trace.restype = ctypes.c_char_p

    def set_order(self, order):
        """In which order lanes take their turns (host_lanes.h)."""
        self.lib.xent_host_order(ctypes.c_uint(order))

    def set_clusters(self, has):
        """Whether the device that the host stands for has thread-block clusters."""
        self.lib.xent_host_clusters(ctypes.c_int(has))

    def trace(self):
        """The kernels launched since the last call: (name, lanes a row, blocks)."""
        found = []
        for line in (self.lib.xent_host_trace() or b"").decode().splitlines():
            blocks, kernel = line.split(" ", 1)
            found.append((kernel, int(blocks)))
        return found

    def check(self, status):
        if status:
            raise Refused(status, (self.lib.xent_cuda_error() or b"").decode())

    def request(self, name, logits, target=None, *, axis=-1, **options):
        return Call(self, name, logits, target, axis, options)

    def __call__(self, name, logits, target=None, **options):
        """The operation's results, as xent.<name> would return them; `values` and `out` where it has both."""
        call = self.request(name, logits, target, **options)
        call.run()
        return call.results()


class Call:
    """One request: its arrays, its views of them, its outputs."""

    def __init__(self, library, name, logits, target, axis, options):
        self.library = library
        self.keep = []
        self.name = name
        op, _, kind, value, emit = OPERATIONS[name]
        options = dict(options)
        reduction = options.pop("reduction", "none")
        logits = np.asarray(logits)
        point = kind == "POINT"
        rows_last = logits[..., None] if point else np.moveaxis(logits, axis, -1)
        batch, classes = rows_last.shape[:-1], rows_last.shape[-1]
        r = self.req = Request(struct_size=ctypes.sizeof(Request), op=op, grad_scale=1.0, beta=0.5, ndim=len(batch))
        wide = logits.dtype == np.float64 or (target is not None and np.asarray(target).dtype == np.float64)
        r.compute = DTYPE_CODES["F64" if wide else "F32"]
        r.shape = self._longs(batch)
        r.classes = classes
        r.reduction = REDUCTIONS[reduction]
        self._view("logits", rows_last, len(batch))
        if target is not None:
            target = np.asarray(target)
            if point:
                target = np.broadcast_to(target, logits.shape)[..., None]
            elif target.ndim == logits.ndim:
                target = np.moveaxis(target, axis, -1)
            self._view("target", target, len(batch))
        for option in ("where", "class_weight", "pos_weight", "sample_weight", "temperature"):
            given = options.pop(option, None)
            if given is None:
                continue
            per_class = option in ("class_weight", "pos_weight")
            if option == "where":
                given = np.moveaxis(np.broadcast_to(given, logits.shape), axis, -1)
            elif not per_class:
                given = np.broadcast_to(np.asarray(given), batch)
            self._view(option, given, 0 if per_class else len(batch))
        dtype = np.dtype(options.pop("dtype", logits.dtype))
        value_dtype = options.pop("value_dtype", dtype)
        misalign = options.pop("misalign", 0)
        self.value = self.out = None
        if value != "NONE" and reduction != "per_class":
            self.value = Guarded(batch if reduction == "none" else (), value_dtype, misalign=misalign)
            self._view("value", self.value.array, len(batch) if reduction == "none" else 0)
        if emit != "NONE":
            if reduction == "per_class":
                self.out = Guarded((classes,), dtype, misalign=misalign)
                self._view("out", self.out.array, 0)
            else:
                self.out = Guarded(logits.shape, dtype, misalign=misalign, like=logits.strides)
                array = self.out.array[..., None] if point else np.moveaxis(self.out.array, axis, -1)
                self._view("out", array, len(batch))
        for option in ("label_smoothing", "grad_scale", "beta"):
            setattr(r, option, options.pop(option, getattr(r, option)))
        ignored = options.pop("ignore_index", None)
        if ignored is not None:
            r.ignore_index, r.has_ignore_index = ignored, 1
        assert not options, f"unknown options {options}"

    def _longs(self, numbers):
        array = (ctypes.c_ssize_t * max(len(numbers), 1))(*numbers)
        self.keep.append(array)
        return ctypes.addressof(array)

    def _view(self, field, array, ndim):
        view = getattr(self.req, field)
        array = np.asarray(array)
        self.keep.append(array)
        view.data = array.ctypes.data
        view.strides = self._longs(array.strides[:ndim])
        view.class_stride = array.strides[ndim] if array.ndim > ndim else 0
        view.dtype = DTYPE_CODES[DTYPES[array.dtype.newbyteorder("=")]]
        view.swapped = int(not array.dtype.isnative)

    def workspace_size(self, device=0):
        size = ctypes.c_size_t()
        self.library.check(
            self.library.lib.xent_cuda_workspace_size(ctypes.byref(self.req), device, ctypes.byref(size))
        )
        return size.value

    def launch(self, size=None):
        """A launch with a workspace of exactly so many bytes, guarded on both sides."""
        size = self.workspace_size() if size is None else size
        self.workspace = Guarded((size,), np.uint8)
        at = Launch(struct_size=ctypes.sizeof(Launch), device=0)
        at.workspace, at.workspace_size = self.workspace.array.ctypes.data if size else None, size
        return at

    def run(self, launch=None):
        self.launched = launch or self.launch()
        self.library.check(self.library.lib.xent_cuda_run(ctypes.byref(self.req), ctypes.byref(self.launched)))
        for guarded in (self.value, self.out, self.workspace):
            if guarded is not None:
                guarded.check()

    def bad_label(self):
        """(row, label) of the first label out of range, or None."""
        row, label = ctypes.c_int64(-1), ctypes.c_int64(-1)
        status = self.library.lib.xent_cuda_check_labels(
            ctypes.byref(self.launched), ctypes.byref(row), ctypes.byref(label)
        )
        if status and STATUSES[status] == "ERR_LABEL":
            return row.value, label.value
        self.library.check(status)
        return None

    def results(self):
        found = [g.array for g in (self.value, self.out) if g is not None]
        return found[0] if len(found) == 1 else tuple(found)
