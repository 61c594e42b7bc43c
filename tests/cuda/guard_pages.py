"""Run by test_cuda_kernels.py as a program of its own: every operand and output between pages that may not be touched.

An access outside an array ends the process; the last line says in which call. Labels are in range, or anything but.
"""

import ctypes
import mmap
import sys

import cases
import host_cuda
import numpy as np

PROT_NONE = 0
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

SHAPES = [(3, 1), (7, 3), (3, 16), (5, 37), (2, 300), (2, 1500), (1, 5003), (2, 9001), (1, 33_000)]
WRONG_LABELS = [-1, -(2**63), 2**63 - 1, 2**31, 0]  # and the number of classes itself


class Page:
    """An array whose first or last byte lies beside a page that nobody may touch."""

    def __init__(self, shape, dtype, at_end, like=None):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        inside = -(-max(size, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._map = mmap.mmap(-1, inside + 2 * mmap.PAGESIZE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        for page in (address, address + mmap.PAGESIZE + inside):
            assert libc.mprotect(page, mmap.PAGESIZE, PROT_NONE) == 0, ctypes.get_errno()
        start = mmap.PAGESIZE + (inside - size if at_end else 0)
        self.array = host_cuda.laid_like(like, shape, dtype, self._map, start)


def paged(array, at_end):
    page = Page(array.shape, array.dtype, at_end, array.strides)
    page.array[...] = array
    return page.array


def main(path):
    library = host_cuda.Library(path)
    rng = np.random.default_rng(5)
    kept = []
    for name in cases.ROW_NAMES:
        for dtype in ("f4", "bfloat16"):
            for (rows, classes), axis, at_end in [
                (s, a, e) for s in SHAPES for a in (-1, 0) for e in (False, True) if s[1] < 2000 or a == -1
            ]:
                print(name, dtype, rows, classes, axis, "end" if at_end else "start", flush=True)
                arrays = cases.operands(name, "random", rows, classes, cases.DTYPES[dtype], rng)
                if axis == 0:
                    arrays = tuple(np.ascontiguousarray(a.T) if a.ndim == 2 else a for a in arrays)
                options = {}
                if cases.SECOND[name] == "labels":
                    arrays[1][0] = rng.choice([*WRONG_LABELS, classes])
                    options["class_weight"] = paged(np.ones(classes), at_end)
                arrays = tuple(paged(a, at_end) for a in arrays)
                kept.append((arrays, options))
                call = library.request(name, *arrays, axis=axis, **options)
                for guarded, field in ((call.value, "value"), (call.out, "out")):
                    if guarded is not None:
                        page = Page(guarded.array.shape, guarded.array.dtype, at_end, guarded.array.strides)
                        kept.append(page)
                        getattr(call.req, field).data = page.array.ctypes.data
                call.run()
                del kept[:]
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1])
