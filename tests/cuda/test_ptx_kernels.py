"""The kernels as nvcc compiles them to PTX, run on this processor: rows as a device's tests have them, with every
approximation as wrong as it may be, and no access, collective or race that a device leaves undefined.

By itself this is a few of them, as many as `make test-all` has time for (host_ptx.FEW); with XENT_PTX=all, which `make
cuda-check` sets, it is every kernel, and what test_cuda_kernels.py asks of their C++.
"""

import itertools

import cases
import host_cuda
import host_face
import host_ptx
import oracle
import pytest
import test_accuracy
import test_cuda_kernels
import test_edges
import test_losses
import test_rises

UNITS = host_ptx.chosen_units()

pytestmark = [
    pytest.mark.skipif(host_cuda.compiler() is None, reason="needs a C++ compiler"),
    pytest.mark.skipif(host_ptx.nvcc() is None, reason="needs nvcc: a CUDA toolkit's, or pip install 'xent[ptx]'"),
]


@pytest.fixture(scope="module")
def library():
    return host_ptx.Library(UNITS)


@pytest.fixture
def cuda(library):
    library.set_direction("none")
    library.set_clusters(True)
    library.trace()
    return library


@pytest.fixture
def isa():
    return host_face.ISA


@pytest.fixture(autouse=True)
def _stand_in(cuda, monkeypatch):
    host_face.stand_in(host_face.Face(cuda), monkeypatch, test_accuracy, test_edges, test_losses, test_rises)


def compiled(names, dtypes):
    return [
        pytest.param(name, dtype, id=f"{name}-{dtype}")
        for name, dtype in itertools.product(names, dtypes)
        if host_ptx.unit_of(name, cases.DTYPES[dtype]) in UNITS
    ]


ROW_CASES = [c for c in cases.ROW_CASES if host_ptx.unit_of(c.name, c.type) in UNITS]


@pytest.mark.parametrize("kind", ["random", "offset", "peaked", "wide"])
@pytest.mark.parametrize("case", ROW_CASES, ids=lambda c: c.id)
def test_device_rows(case, kind, cuda, rng):
    """As test_cuda_device.py has them; and a row's bits do not depend on its place."""
    for arrays, wide in cases.device_rows(case, kind, rng):
        refs = oracle.evaluate(case.name, *(a[:5] for a in arrays), wide=wide)
        for axis in (-1, 0):
            for direction in host_ptx.DIRECTIONS:
                cuda.set_direction(direction)
                results = test_cuda_kernels.call(cuda, case.name, arrays, axis)
                few = tuple(r[:5] for r in results)
                test_cuda_kernels.hold(case, few, refs, f"{kind} {arrays[0].shape} axis {axis} {direction}")
            last = test_cuda_kernels.call(cuda, case.name, tuple(a[-3:] for a in arrays), axis)
            for got, alone in zip(results, last, strict=True):
                assert got[-3:].tobytes() == alone.tobytes()


@pytest.mark.parametrize(("name", "dtype"), compiled(cases.ROW_NAMES, ["f4", "bfloat16"]))
def test_device_alignment_changes_no_bit(name, dtype, cuda, rng):
    for classes in (515, 9001):
        arrays = cases.operands(name, "random", 3, classes, cases.DTYPES[dtype], rng)
        expected = cases.as_tuple(cuda(name, *arrays))
        for shifts in itertools.product(range(3), repeat=2):
            given = (host_cuda.realigned(a, shift) for a, shift in zip(arrays, shifts, strict=False))
            results = cases.as_tuple(cuda(name, *given, misalign=shifts[0]))
            assert [r.tobytes() for r in results] == [e.tobytes() for e in expected], shifts


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize(
    ("name", "dtype"), compiled([n for n in cases.ROW_NAMES if cases.SECOND[n] == "labels"], ["f4"])
)
def test_device_labels(name, dtype, axis, cuda, rng):
    for classes in (3, 37, 1500, 9000, 40_000):
        test_cuda_kernels.test_labels_out_of_range(name, axis, classes, cuda, rng)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_device_sums(reduction, cuda, rng):
    for rows in (1, 700, 70_001):
        test_cuda_kernels.test_sums_over_rows(reduction, rows, cuda, rng)


# Pages that may not be touched are for what this machine's compiler makes of the kernels: here all accesses are known.
OF_THE_HOST = {"test_nothing_outside_an_array_is_touched"}
if UNITS == host_ptx.UNITS:
    for _name, _test in vars(test_cuda_kernels).items():
        if _name.startswith("test_") and callable(_test) and _name not in OF_THE_HOST:
            globals()[_name] = _test
    quick = test_cuda_kernels.quick
