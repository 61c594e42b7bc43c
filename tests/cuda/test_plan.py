"""plan.h, a pure function: which lanes do what, for shapes far too large to run here, too."""

import ctypes
import itertools
from typing import NamedTuple

import host_cuda
import pytest

pytestmark = pytest.mark.skipif(host_cuda.compiler() is None, reason="needs a C++ compiler")

ACCESS = {"packs": 0, "strided": 1, "any": 2}
LIES = [("packs", 1), ("strided", 0), ("any", 0), ("any", 1)]  # and whether the class axis is contiguous
MAX_GRID = 2**31 - 1
MAX_PIECES = 256
HELD_CLUSTER, MAX_CLUSTER = 3, 8
LENGTHS = [0, 1, 2, 3, 4, 31, 33, 63, 64, 65, 127, 129, 511, 513, 1024, 2048, 2049, 4096, 8191, 8193, 16384, 32768]
LENGTHS += [32769, 50257, 128256, 262144, 2**20 + 1, 2**22 + 1, 2**33 + 5, 2**40]


class Plan(NamedTuple):
    regime: int
    pieces: int
    piece: int
    split: int
    blocks: int
    rows_a_block: int
    chunks: int
    chunk_rows: int
    class_blocks: int
    sum_blocks: int
    workspace: int


@pytest.fixture(scope="session")
def plan(cuda_build):
    library = ctypes.CDLL(str(cuda_build / "libxent_cuda_host.so"))
    longs = ctypes.c_int64 * len(Plan._fields)

    def make(
        op, rows, classes, *, f64=0, access="packs", contiguous=1, reduction="none", labels=0, sms=132, clusters=1
    ):
        said = longs()
        library.xent_host_plan(
            ctypes.c_int(host_cuda.OPERATIONS[op][0]),
            ctypes.c_int(f64),
            ctypes.c_int64(rows),
            ctypes.c_int64(classes),
            ctypes.c_int(ACCESS[access]),
            ctypes.c_int(contiguous),
            ctypes.c_int(host_cuda.REDUCTIONS[reduction]),
            ctypes.c_int(labels),
            ctypes.c_int(sms),
            ctypes.c_int(clusters),
            said,
        )
        return Plan(*said)

    make.library = library
    library.xent_host_room.restype = ctypes.c_int64
    return make


def lies():
    """The keywords of all ways in which a row may lie, on all devices."""
    return [
        {"access": access, "contiguous": contiguous, "f64": f64, "clusters": clusters}
        for (access, contiguous), f64, clusters in itertools.product(LIES, (0, 1), (0, 1))
    ]


@pytest.mark.parametrize("op", host_cuda.OPERATIONS)
def test_how_a_row_is_added_follows_from_its_classes_alone(op, plan):
    """Neither the batch nor the device: a row's bits must not know them."""
    for classes, how in itertools.product(LENGTHS, lies()):
        made = {
            plan(op, rows, classes, sms=sms, **how)[:3]
            for rows, sms in itertools.product((1, 7, 300, 10**6, 2**40), (1, 4, 132, 1000))
        }
        assert len(made) == 1, (classes, how)


@pytest.mark.parametrize("op", host_cuda.OPERATIONS)
def test_every_class_of_a_row_has_one_lane(op, plan):
    for classes, how in itertools.product(LENGTHS, lies()):
        p = plan(op, 3, classes, **how)
        index, f64, regime = map(ctypes.c_int, (host_cuda.OPERATIONS[op][0], how["f64"], p.regime))
        assert plan.library.xent_host_exists(index, regime) == 1, (classes, how, p)
        room = plan.library.xent_host_room(index, f64, regime)
        assert classes <= room
        if p.regime == HELD_CLUSTER:
            assert how["clusters"]
            assert p.pieces in (2, 4, MAX_CLUSTER)
            assert p.piece <= room // MAX_CLUSTER
        assert 1 <= p.pieces <= MAX_PIECES
        # Pieces end where the next begins, and the last one is not empty.
        assert p.pieces * p.piece >= classes
        assert (p.pieces - 1) * p.piece < max(classes, 1)


@pytest.mark.parametrize("op", host_cuda.OPERATIONS)
def test_grids(op, plan):
    for rows, classes, how in itertools.product((0, 1, 5, 263, 264, 10**6, 2**31, 2**40), LENGTHS, lies()):
        p = plan(op, rows, classes, **how)
        units = rows * p.pieces if p.split else rows
        assert p.blocks <= MAX_GRID
        each = p.pieces if p.regime == HELD_CLUSTER else 1
        teams = p.blocks // each
        assert p.blocks % each == 0
        # One round of the grid suffices, or the grid is as large as it may be.
        assert teams * p.rows_a_block >= units or teams == MAX_GRID // each
        assert (teams - 1) * p.rows_a_block < max(units, 1), (rows, classes, p)


def test_few_long_rows_are_split(plan):
    assert plan("logsumexp", 64, 128_256).split
    assert not plan("logsumexp", 64, 4096).split
    assert not plan("logsumexp", 4096, 128_256).split


def test_rows_that_clusters_hold(plan):
    """Arrays of results alone: a value is read for once however long the row is."""
    for classes, blocks in [(8193, 2), (16385, 4), (32769, 8), (50257, 8), (65536, 8)]:
        p = plan("softmax", 10, classes)
        assert (p.regime, p.pieces, p.blocks, p.split) == (HELD_CLUSTER, blocks, 10 * blocks, 0)
    for name, rows, classes, options in [
        ("softmax", 10, 8192, {}),
        ("softmax", 10, 65537, {}),
        ("softmax", 10, 50257, {"clusters": 0}),
        ("logsumexp", 10, 50257, {}),
        ("kl_div_terms", 10, 20_000, {"reduction": "per_class"}),
    ]:
        assert plan(name, rows, classes, **options).regime != HELD_CLUSTER, (name, classes, options)


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 10**4, 10**9])
@pytest.mark.parametrize("classes", [0, 1, 511, 513, 10**6])
def test_chunks_of_rows_for_sums_over_them(rows, classes, plan):
    p = plan("kl_div_terms", rows, classes, reduction="per_class")
    assert p.chunks * p.chunk_rows >= rows
    assert (p.chunks - 1) * p.chunk_rows <= max(rows - 1, 0)
    assert p.class_blocks <= MAX_GRID
    # One number in two parts a class and chunk, and what the rows came to.
    assert p.workspace >= p.chunks * classes * 8
    assert p.workspace <= p.chunks * classes * 8 + rows * 8 * 4 + 2**20


def test_workspace_grows_with_what_it_holds(plan):
    assert plan("logsumexp", 1000, 1000).workspace == 0
    assert plan("cross_entropy_with_labels", 1000, 1000, labels=1).workspace > 0
    for rows in (10, 10**4, 10**7):
        assert plan("kl_div", rows, 100, reduction="sum").workspace >= rows * 8
