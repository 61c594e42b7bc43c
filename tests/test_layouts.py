"""Every layout that NumPy can express, against a contiguous copy.

Where the class axis of all operands is contiguous the bits are those of the copy; where it is not, all such layouts
agree among themselves, and with the copy within the budget.
"""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import cases
import numpy as np
import oracle
import pytest
import wide

import xent

ROWS = 6


def padded(a, step_rows, step_classes):
    out = np.zeros((a.shape[0] * step_rows, *a.shape[1:-1], a.shape[-1] * step_classes), a.dtype)
    view = out[::step_rows, ..., ::step_classes]
    view[...] = a
    return view


def misaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def read_only(a):
    view = a.copy()
    view.flags.writeable = False
    return view


def swapped(a):
    return a.astype(a.dtype.newbyteorder())


KEEP_CONTIGUOUS = {
    "copy": np.copy,
    "rows backwards": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "rows apart": lambda a: padded(a, 3, 1),
    "misaligned": misaligned,
    "byte-swapped": swapped,
    "byte-swapped and misaligned": lambda a: misaligned(swapped(a)),
    "read-only": read_only,
}
BREAK = {
    "Fortran": lambda a: np.asfortranarray(a) if a.ndim > 1 else a,
    "classes backwards": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "both backwards": lambda a: np.ascontiguousarray(a[::-1, ..., ::-1])[::-1, ..., ::-1],
    "every other class": lambda a: padded(a, 1, 2),
    "every third, rows apart": lambda a: padded(a, 2, 3),
    "byte-swapped Fortran": lambda a: np.asfortranarray(swapped(a)),
    "misaligned, every other class": lambda a: padded_misaligned(a),
}


def padded_misaligned(a):
    return misaligned(padded(a, 1, 2).repeat(2, axis=-1))[..., ::2]


def lay(arrays, how):
    """Labels have no class axis: only the row order of a layout means anything to them."""
    return tuple(how(a) if a.ndim > 1 else a for a in arrays)


def call(name, arrays, **options):
    return cases.as_tuple(getattr(xent, name)(*arrays, **options))


@pytest.mark.parametrize("classes", [1, 3, 10, 37, 300])
@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_layouts(name, dtype, classes, isa):
    rng = oracle.rng_of(name, dtype, classes)
    arrays = cases.operands(name, "random", ROWS, classes, dtype, rng)
    contiguous = call(name, arrays)
    for what, how in KEEP_CONTIGUOUS.items():
        for got, expected in zip(call(name, lay(arrays, how)), contiguous, strict=True):
            assert got.dtype == np.dtype(dtype)
            assert got.tobytes() == expected.tobytes(), what
    if classes == 1:
        return
    results = {what: call(name, lay(arrays, how)) for what, how in BREAK.items()}
    first = results["Fortran"]
    for what, result in results.items():
        for got, expected in zip(result, first, strict=True):
            assert np.array_equal(got, expected), what
    refs = wide.judge(name, *arrays)
    for got, ref, allowed in zip(first, refs, cases.budget(name, dtype), strict=True):
        assert oracle.worst(got, ref) <= allowed


@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_any_axis(name, rng, isa):
    """The class axis in the middle and first, three batch dimensions in all orders."""
    flat = cases.operands(name, "random", 24, 11, np.float64, rng)
    expected = call(name, flat)
    allowed = cases.budget(name, np.float64)
    refs = oracle.evaluate(name, *flat)
    shaped = tuple(a.reshape(2, 3, 4, *a.shape[1:]) for a in flat)
    for axis in (0, 1, 2, 3, -1, -2, -3, -4):
        for contiguous in (False, True):
            moved = tuple(np.moveaxis(a, -1, axis) if a.ndim == 4 else a for a in shaped)
            if contiguous:
                moved = tuple(np.ascontiguousarray(a) for a in moved)
            for got, ref, old, ulp in zip(call(name, moved, axis=axis), refs, expected, allowed, strict=True):
                back = np.moveaxis(got, axis, -1) if got.ndim == 4 else got
                back = back.reshape(old.shape)
                assert oracle.worst(back, ref) <= ulp
                if not contiguous:
                    # The bytes have not moved, so neither has a bit of the answer.
                    assert back.tobytes() == old.tobytes()


@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_stride_zero(name, rng, isa):
    """One row for a whole batch, one value for a whole row, and a target that the batch shares."""
    arrays = cases.operands(name, "random", 5, 12, np.float64, rng)
    row = tuple(a[:1] for a in arrays)
    single = call(name, row)
    repeated = tuple(np.broadcast_to(a, (7, *a.shape[1:])) for a in row)
    for got, one in zip(call(name, repeated), single, strict=True):
        assert got.tobytes() == np.repeat(one, 7, axis=0).tobytes()
    flat = np.broadcast_to(arrays[0][:, :1], arrays[0].shape)
    views = (flat, *arrays[1:])
    refs = oracle.evaluate(name, *views)
    for got, ref, ulp in zip(call(name, views), refs, cases.budget(name, np.float64), strict=True):
        assert oracle.worst(got, ref) <= ulp
    if len(arrays) == 1:
        return
    x, t = arrays
    for shared in ((x, t[0]), (x[0], t), (x[:1], t)):
        whole = tuple(np.broadcast_to(a, old.shape).copy() for a, old in zip(shared, arrays, strict=True))
        for got, expected in zip(call(name, shared), call(name, whole), strict=True):
            assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", [n for n in cases.ROW_NAMES if cases.SECOND[n] not in ("", "self", "labels")])
def test_mixed_dtypes_and_layouts(name, rng, isa):
    """Each operand its own dtype and layout: the wider float decides, as for NumPy's own functions."""
    x, t = cases.operands(name, "random", 8, 21, np.float32, rng)
    cases_of = [
        (x.astype(np.float64), t, np.float64),
        (x, t.astype(np.float64), np.float64),
        (x.astype(np.float16), t, np.float32),
        (np.asfortranarray(x), t, np.float32),
        (x, np.asfortranarray(t).astype(np.float64), np.float64),
        (swapped(x), misaligned(t.astype(np.float64)), np.float64),
        (x[:, ::-1][:, ::-1], swapped(np.asfortranarray(t)), np.float32),
    ]
    for a, b, dtype in cases_of:
        refs = oracle.evaluate(name, a, b)
        for got, ref, ulp in zip(call(name, (a, b)), refs, cases.budget(name, dtype), strict=True):
            assert got.dtype == dtype
            assert oracle.worst(got, ref) <= ulp


@pytest.mark.parametrize("label_dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4", ">u2"])
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_label_layouts(label_dtype, dtype, rng, isa):
    """Labels of any integer dtype and layout; they never widen the result."""
    x = (3 * rng.standard_normal((40, 9))).astype(dtype)
    labels = rng.integers(9, size=40)
    expected = xent.cross_entropy_with_labels_value_and_grad(x, labels)
    narrow = labels.astype(label_dtype)
    forms = [narrow, np.repeat(narrow, 3)[::3], narrow[::-1].copy()[::-1], misaligned(narrow), read_only(narrow)]
    for form in forms:
        for got, value in zip(xent.cross_entropy_with_labels_value_and_grad(x, form), expected, strict=True):
            assert got.dtype == np.dtype(dtype)
            assert got.tobytes() == value.tobytes()
    same = xent.cross_entropy_with_labels(x, np.broadcast_to(narrow[0], 40))
    assert same.tobytes() == xent.cross_entropy_with_labels(x, np.full(40, labels[0])).tobytes()


@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_out_layouts(name, rng, isa):
    """Results written into strided, misaligned and byte-swapped arrays of the caller's."""
    arrays = cases.operands(name, "random", 9, 14, np.float64, rng)
    expected = call(name, arrays)
    for make in (
        np.empty_like,
        lambda a: padded(np.zeros_like(a), 2, 2) if a.ndim > 1 else np.zeros(2 * len(a))[::2],
        lambda a: np.zeros_like(a)[::-1],
        lambda a: misaligned(np.zeros_like(a)),
        lambda a: swapped(np.zeros_like(a)),
        np.asfortranarray,
    ):
        outs = tuple(make(e) for e in expected)
        results = call(name, arrays, out=outs if len(outs) > 1 else outs[0])
        for result, out, value in zip(results, outs, expected, strict=True):
            assert result is out
            np.testing.assert_array_equal(out, value)


@pytest.mark.parametrize("name", cases.ARRAY_NAMES + cases.GRAD_NAMES)
@pytest.mark.parametrize("how", ["in place", "shifted", "transposed"])
def test_overlapping_out(name, how, rng):
    """out= may be the input, or share some of its memory: the answer is the same."""
    arrays = cases.operands(name, "random", 12, 12, np.float64, rng)
    expected = call(name, arrays)
    for operand in range(len(arrays)):
        if arrays[operand].ndim == 1:
            continue
        memory = np.zeros((13, 12))
        view = memory[:12]
        view[...] = arrays[operand]
        out = {"in place": view, "shifted": memory[1:], "transposed": view.T}[how]
        views = tuple(view if i == operand else a for i, a in enumerate(arrays))
        outs = out if len(expected) == 1 else (np.empty(12), out)
        np.testing.assert_array_equal(call(name, views, out=outs)[-1], expected[-1])
        assert np.array_equal(out, expected[-1])


def test_value_overlapping_the_logits(rng):
    x = rng.standard_normal((12, 12))
    expected = xent.logsumexp(x)
    assert xent.logsumexp(x, out=x[0]).tolist() == expected.tolist()


GUARDED = """
    import ctypes, mmap, sys
    import numpy as np
    import cases, xent

    libc = ctypes.CDLL(None, use_errno=True)
    PAGE = mmap.PAGESIZE

    class Fence:
        # Readable pages between two that must not be touched.
        def __init__(self, pages):
            self.map = mmap.mmap(-1, (pages + 2) * PAGE)
            base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
            for at in (base, base + (pages + 1) * PAGE):
                if libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(PAGE), 0):
                    sys.exit("mprotect failed")
            self.bytes = np.frombuffer(self.map, np.uint8)[PAGE : (pages + 1) * PAGE]

        def put(self, a, last):
            n = a.nbytes
            view = (self.bytes[len(self.bytes) - n :] if last else self.bytes[:n]).view(a.dtype).reshape(a.shape)
            view[...] = a
            return view

    rng = np.random.default_rng(0)
    fences = [Fence(16) for _ in range(4)]
    for isa in xent.info()["isas"]:
        xent.set_isa(isa)
        for dtype in cases.DTYPES:
            for classes in (*range(1, 20), 31, 33, 63, 65, 130, 515):
                for rows in (1, 3, 9, 17):
                    for name in cases.ROW_NAMES:
                        args = cases.operands(name, "random", rows, classes, dtype, rng)
                        if sum(a.nbytes for a in args) > 16 * PAGE:
                            continue
                        expected = cases.as_tuple(getattr(xent, name)(*args))
                        for last in (True, False):
                            for turned in (False, True):
                                views = []
                                for a, fence in zip(args, fences):
                                    if turned and a.ndim == 2:
                                        views.append(fence.put(np.ascontiguousarray(a.T), last).T)
                                    else:
                                        views.append(fence.put(a, last))
                                outs = tuple(f.put(np.zeros_like(e), last) for e, f in zip(expected, fences[2:]))
                                getattr(xent, name)(*views, out=outs if len(outs) > 1 else outs[0])
                                if not turned:
                                    for out, e in zip(outs, expected):
                                        assert out.tobytes() == e.tobytes()
    print("inside")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect as this test calls it is Linux's")
def test_no_byte_outside_the_arrays():
    """Operands and results between pages that may not be touched: a vector that reached past either end would crash."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(GUARDED)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        check=False,
    )
    assert done.stdout.strip() == "inside", (done.returncode, done.stderr)


@pytest.mark.slow
def test_more_elements_than_an_int_counts():
    """2^31 + 8 classes, all of them one element in memory."""
    x = np.broadcast_to(np.float32(-1.5), (2**31 + 8,))
    assert xent.logsumexp(x) == np.float32(np.log(2.0**31 + 8) - 1.5)
