"""The CUDA kernels, every lane of them run on this processor: what the CPU's tests ask, asked of every regime.

This shows the algebra, the tails, the synchronisation and the C ABI. It does not show what a device rounds by itself (its
approximations of exp2 and of the reciprocal), nor how fast it is.
"""

import inspect
import itertools

import cases
import host_cuda
import host_face
import numpy as np
import oracle
import pytest
import test_accuracy
import test_edges
import test_losses

# The CPU's own tests, collected once more here: _stand_in puts the GPU's kernels behind what they call.
from test_accuracy import (  # noqa: F401
    test_confident_rows_keep_their_digits,
    test_extreme_magnitudes,
    test_issue_example,
    test_kl_is_never_negative,
    test_long_sums_do_not_saturate,
    test_near_equal_long_rows,
    test_pointwise,
    test_rel_entr_keeps_its_digits_near_one,
)
from test_edges import (  # noqa: F401
    test_long_rows,
    test_one_row,
    test_reductions_of_an_empty_batch,
    test_terms_add_up,
    test_unnormalised_targets,
)

from xent import losses

CPU = losses.evaluate_loss

pytestmark = pytest.mark.skipif(host_cuda.compiler() is None, reason="needs a C++ compiler")


@pytest.fixture
def cuda(cuda_build):
    library = host_cuda.Library(cuda_build / "libxent_cuda_host.so")
    library.set_order(0)
    library.trace()
    return library


@pytest.fixture(autouse=True)
def _stand_in(cuda, monkeypatch):
    host_face.stand_in(host_face.Face(cuda), monkeypatch, test_accuracy, test_edges, test_losses)


@pytest.fixture
def isa():
    """Where the CPU's tests choose an instruction set."""
    return host_face.ISA


def hold(case, results, refs, what):
    """Outputs within their budgets, of the right dtype, and every element written."""
    for output, (got, ref, allowed) in enumerate(zip(cases.as_tuple(results), refs, case.budgets, strict=True)):
        assert got.dtype == case.type
        measured = oracle.worst(got, ref, cases.subnormal_steps(case.name, case.type))
        assert measured <= allowed, f"{case.id} {what} output {output}: {measured:.3g} ULP > {allowed}"


def along(arrays, axis=-1):
    """The same rows with their class axis contiguous (-1), or with the rows beside each other (0)."""
    return tuple(a if axis == -1 or a.ndim == 1 else np.ascontiguousarray(a.T) for a in arrays)


def call(cuda, name, arrays, axis=-1, **options):
    results = cases.as_tuple(cuda(name, *along(arrays, axis), axis=axis, **options))
    return tuple(r.T if axis == 0 and r.ndim == 2 else r for r in results)


# ---- accuracy --------------------------------------------------------------------------------------------------------

# Row counts are odd, so that the last block is not full. Where a class may dominate its row the oracle has to be the exact
# one, which is slow; float64 shows what extended precision lacks already in rows of 131.
EXACT = {"few": (7, 3), "ten": (3, 10), "odd": (3, 37), "hundred": (1, 131)}
WIDE = {"few": (45, 3), "ten": (21, 10), "odd": (9, 37), "hundred": (5, 131)}
LONG = {"1,000": (3, 1000), "5,003": (2, 5003)}


@pytest.mark.parametrize("kind", ["random", "offset", "peaked", "wide"])
@pytest.mark.parametrize("case", cases.ROW_CASES, ids=lambda c: c.id)
def test_rows(case, kind, cuda, rng):
    even = kind == "random" or (kind == "offset" and case.type.itemsize > 2)
    wide = even and case.dtype != "f8"
    for what, (rows, classes) in {**(WIDE if wide else EXACT), **(LONG if even else {})}.items():
        arrays = cases.operands(case.name, kind, rows, classes, case.type, rng)
        refs = oracle.evaluate(case.name, *arrays, wide=wide or what in LONG)
        for axis in (-1, 0):
            hold(case, call(cuda, case.name, arrays, axis), refs, f"{kind} {what} axis {axis}")


@pytest.mark.parametrize("case", cases.ROW_CASES, ids=lambda c: c.id)
def test_rows_of_a_vocabulary(case, cuda, rng):
    arrays = cases.operands(case.name, "random", 2, 32_000, case.type, rng)
    refs = oracle.evaluate(case.name, *arrays, wide=True)
    hold(case, call(cuda, case.name, arrays), refs, "32,000 classes")


NEAR_EQUAL = [c for c in test_accuracy.NEAR_EQUAL if c.dtype in ("f8", "f4")]


@pytest.mark.parametrize("classes", [3, 37])
@pytest.mark.parametrize("case", NEAR_EQUAL, ids=lambda c: c.id)
def test_near_equal_rows(case, classes, rng):
    test_accuracy.test_near_equal_rows(case, classes, rng)


# ---- layouts and alignment -------------------------------------------------------------------------------------------


def misalignments(size):
    """Where operands and outputs may begin, in elements past 16 bytes: all alike, and each its own."""
    per_pack = 16 // size
    yield from ((k, k, k) for k in range(per_pack))
    yield from ((0, 1, 0), (1, 0, per_pack - 1), (0, 0, 1), (per_pack - 1, 1, 0))


@pytest.mark.parametrize("classes", [16, 33, 515])
@pytest.mark.parametrize("name", cases.ROW_NAMES)
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_alignment_changes_no_bit(name, dtype, classes, cuda, rng):
    arrays = cases.operands(name, "random", 3, classes, dtype, rng)
    expected = call(cuda, name, arrays)
    for *offsets, out in misalignments(arrays[0].itemsize):
        moved = tuple(host_cuda.realigned(a, k) for a, k in zip(arrays, offsets, strict=False))
        for got, value in zip(call(cuda, name, moved, misalign=out), expected, strict=True):
            assert got.tobytes() == value.tobytes(), (offsets, out)


def stretched(a, rows, classes):
    """The same numbers, `rows` apart and `classes` apart; negative: backwards."""
    if a.ndim == 1:
        out = np.repeat(a, abs(rows))[:: abs(rows)]
        return out[::-1].copy()[::-1] if rows < 0 else out
    wide = np.full((a.shape[0] * abs(rows), a.shape[1] * abs(classes)), np.nan, a.dtype)
    view = wide[:: abs(rows), :: abs(classes)]
    view = view[:: -1 if rows < 0 else 1, :: -1 if classes < 0 else 1]
    view[...] = a
    return view


@pytest.mark.parametrize("classes", [3, 40, 1030])
@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_strides(name, classes, cuda, rng):
    """Rows apart or backwards leave the bits as they are; classes apart or backwards stay within the budget."""
    case = next(c for c in cases.ROW_CASES if c.name == name and c.dtype == "f4")
    arrays = cases.operands(name, "random", 5, classes, case.type, rng)
    refs = oracle.evaluate(name, *arrays, wide=True)
    expected = call(cuda, name, arrays)
    for rows, apart in [(3, 1), (-1, 1), (-2, 1), (1, 2), (1, -1), (-2, 3)]:
        results = call(cuda, name, tuple(stretched(a, rows, apart) for a in arrays))
        hold(case, results, refs, f"strides {rows} {apart}")
        if apart == 1:
            assert [r.tobytes() for r in results] == [e.tobytes() for e in expected]


@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_stride_zero(name, cuda, rng):
    case = next(c for c in cases.ROW_CASES if c.name == name and c.dtype == "f4")
    arrays = cases.operands(name, "random", 5, 40, case.type, rng)
    single = call(cuda, name, tuple(a[:1] for a in arrays))
    repeated = tuple(np.broadcast_to(a[:1], (7, *a.shape[1:])) for a in arrays)
    for got, one in zip(call(cuda, name, repeated), single, strict=True):
        assert got.tobytes() == np.repeat(one, 7, axis=0).tobytes()
    flat = np.broadcast_to(arrays[0][:, :1], arrays[0].shape)
    views = (flat, *arrays[1:])
    hold(case, call(cuda, name, views), oracle.evaluate(name, *views, wide=True), "one number for a row")


@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_any_axis(name, cuda, rng):
    """The class axis anywhere among three batch dimensions, contiguous or in place."""
    case = next(c for c in cases.ROW_CASES if c.name == name and c.dtype == "f4")
    flat = cases.operands(name, "random", 24, 11, case.type, rng)
    refs = oracle.evaluate(name, *flat, wide=True)
    expected = call(cuda, name, flat)
    shaped = tuple(a.reshape(2, 3, 4, *a.shape[1:]) for a in flat)
    for axis in range(4):
        for contiguous in (False, True):
            moved = tuple(np.moveaxis(a, -1, axis) if a.ndim == 4 else a for a in shaped)
            if contiguous:
                moved = tuple(np.ascontiguousarray(a) for a in moved)
            results = cases.as_tuple(cuda(name, *moved, axis=axis))
            back = tuple(
                (np.moveaxis(r, axis, -1) if r.ndim == 4 else r).reshape(e.shape)
                for r, e in zip(results, expected, strict=True)
            )
            hold(case, back, refs, f"axis {axis}")
            if not contiguous:
                assert [b.tobytes() for b in back] == [e.tobytes() for e in expected]


@pytest.mark.parametrize("name", [n for n in cases.ROW_NAMES if cases.SECOND[n] not in ("", "self", "labels")])
def test_operands_of_different_dtypes(name, cuda, rng):
    x, t = cases.operands(name, "random", 5, 37, np.float32, rng)
    for a, b in itertools.product(cases.DTYPES.values(), repeat=2):
        if a == b or {a.itemsize, b.itemsize} == {2}:  # float16 and bfloat16 have no common dtype of their own
            continue
        first, second = x.astype(a), t.astype(b)
        dtype = np.promote_types(a, b)
        case = next(c for c in cases.ROW_CASES if c.name == name and c.type == dtype)
        results = call(cuda, name, (first, second), dtype=dtype)
        hold(case, results, oracle.evaluate(name, first, second, wide=True), f"{a} {b}")


@pytest.mark.parametrize("label_dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_label_dtypes(label_dtype, cuda, rng):
    x = (3 * rng.standard_normal((41, 9))).astype(np.float32)
    labels = rng.integers(9, size=41)
    name = "cross_entropy_with_labels_value_and_grad"
    for got, value in zip(call(cuda, name, (x, labels.astype(label_dtype))), call(cuda, name, (x, labels)), strict=True):
        assert got.tobytes() == value.tobytes()


# ---- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [3, 10, 40, 300, 1500, 9000])
@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_a_row_is_the_same_wherever_it_lies(name, classes, cuda, rng):
    """In another batch, at another place of it, run again, and whichever lanes come first."""
    rows = 40 if classes < 1000 else 6
    arrays = cases.operands(name, "random", rows, classes, np.float32, rng)
    expected = call(cuda, name, arrays)
    for order in (1, 2, 0):
        cuda.set_order(order)
        assert [r.tobytes() for r in call(cuda, name, arrays)] == [e.tobytes() for e in expected], order
    for part in (slice(1, 2), slice(3, None), slice(None, None, -1)):
        for got, value in zip(call(cuda, name, tuple(a[part] for a in arrays)), expected, strict=True):
            assert got.tobytes() == value[part].tobytes(), part


# ---- options, reductions ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ["f4", "bfloat16"])
@pytest.mark.parametrize("kind", ["labels", "probs"])
def test_cross_entropy_options(kind, dtype, rng):
    test_losses.test_cross_entropy_options(kind, dtype, rng)


@pytest.mark.parametrize("dtype", ["f4", "bfloat16"])
@pytest.mark.parametrize("kind", ["probs", "log_probs", "logits"])
def test_kl_div_options(kind, dtype, rng):
    test_losses.test_kl_div_options(kind, dtype, rng)


@pytest.mark.parametrize("dtype", ["f4", "f2"])
@pytest.mark.parametrize(
    "test", [test_losses.test_nll_options, test_losses.test_binary_cross_entropy_options, test_losses.test_js_div_options]
)
def test_options_of_the_others(test, dtype, rng):
    test(dtype, np.asarray, rng)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_more_classes(dtype, rng):
    test_losses.test_more_classes(40, dtype, rng)


LOSSES = {
    "cross_entropy of labels": (losses.cross_entropy, "labels", {}),
    "cross_entropy of probs": (losses.cross_entropy, "probs", {}),
    "kl_div of probs": (losses.kl_div, "probs", {}),
    "kl_div of log_probs": (losses.kl_div, "log_probs", {"target_kind": "log_probs"}),
    "kl_div of logits": (losses.kl_div, "logits", {"target_kind": "logits"}),
    "nll": (losses.nll, "labels", {}),
    "binary_cross_entropy": (losses.binary_cross_entropy, "unit", {}),
    "js_div": (losses.js_div, "logits", {}),
}
SHAPES = [(70, 3), (11, 40), (5, 700), (3, 5000), (2, 40_000), (1, 150_000)]
OPTIONS = [
    {},
    {"weight": 1, "pos_weight": 1, "sample_weight": 1, "temperature": 1},
    {"where": 1, "sample_weight": 1, "ignore_index": 1, "label_smoothing": 0.125},
]


def options_for(loss, wanted, kind, x, rng):
    """Those of the wanted options that a loss takes, as arrays that divide exactly."""
    rows, classes = x.shape
    made = {
        "weight": rng.integers(1, 9, size=classes) / 4,
        "pos_weight": rng.integers(1, 9, size=classes) / 4,
        "sample_weight": rng.integers(0, 5, size=rows) / 2 + 0.5,
        "temperature": 2.0 ** rng.integers(-1, 2, size=rows),
        "where": rng.random((rows, classes)) < 0.8,
        "ignore_index": 1,
        "label_smoothing": 0.125,
    }
    made["where"][:, 0] = True
    takes = inspect.signature(loss).parameters
    if kind != "labels":
        wanted = {k: v for k, v in wanted.items() if k != "ignore_index"}
    return {k: made[k] for k in wanted if k in takes}


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("what", LOSSES)
def test_options_at_every_length(what, shape, axis, rng, monkeypatch):
    """Whichever regime a shape falls to, its results are those of the CPU in float64, on the same numbers."""
    loss, kind, fixed = LOSSES[what]
    x = cases.logits("random", *shape, np.float32, rng)
    if what == "nll":
        x = np.log(cases.softmax64(x)).astype(np.float32)
    target = cases.second(kind, "random", x, rng)
    laid, laid_target = along((x, target), axis)
    eps = float(np.finfo(np.float32).eps)
    for wanted in OPTIONS:
        options = options_for(loss, wanted, kind, x, rng) | fixed
        laid_options = options | ({"where": options["where"].T} if "where" in options and axis == 0 else {})

        def cpu(loss=loss, options=options, **more):
            # Only the logits are widened: the target's own dtype says what its sum may lack.
            with monkeypatch.context() as patch:
                patch.setattr(losses, "evaluate_loss", CPU)
                return loss(x.astype(np.float64), target, **options, **more)

        terms, total = np.abs(cpu(reduction="terms")), cpu(reduction="sum")
        for reduction in ("none", "sum", "mean", "terms", "per_class"):
            expected = cpu(reduction=reduction)
            got = loss(laid, laid_target, axis=axis, reduction=reduction, **laid_options)
            if reduction == "terms" and axis == 0:
                got = got.T
            scale = {"none": terms.sum(axis=1), "sum": terms.sum(), "terms": terms, "per_class": terms.sum(axis=0)}
            scale["mean"] = terms.sum() * (expected / total if total else 1.0)
            assert got.dtype == np.float32
            wrong = np.abs(got.astype(np.float64) - expected)
            assert (wrong <= 8 * eps * scale[reduction]).all(), (what, reduction, sorted(options), wrong.max())
            if reduction in ("terms", "per_class"):
                continue
            value, slope = loss(laid, laid_target, axis=axis, reduction=reduction, return_grad=True, **laid_options)
            assert np.array_equal(value, got), (reduction, sorted(options))
            _, expected = cpu(reduction=reduction, return_grad=True)
            slope = slope.T if axis == 0 else slope
            wrong = np.abs(slope.astype(np.float64) - expected)
            allowed = 16 * eps * np.abs(expected).max(axis=1, keepdims=True)
            assert (wrong <= allowed).all(), (what, reduction, sorted(options), "gradient", wrong.max())
