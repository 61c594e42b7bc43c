"""The CUDA kernels, every lane of them run on this processor: what the CPU's tests ask, asked of every regime.

This shows the algebra, the tails, the synchronisation and the C ABI. It does not show what a device rounds by itself
(its approximations of exp2 and of the reciprocal), nor how fast it is.
"""

import ctypes
import inspect
import itertools
import os
import subprocess
import sys
from pathlib import Path

import cases
import host_cuda
import host_face
import numpy as np
import oracle
import pytest
import test_accuracy
import test_edges
import test_losses
import test_rises

# The CPU's own tests, collected once more here: _stand_in puts the GPU's kernels behind what they call.
from test_accuracy import (  # noqa: F401
    test_confident_rows_keep_their_digits,
    test_extreme_magnitudes,
    test_issue_example,
    test_js_of_a_beta_and_near_rows,
    test_js_of_long_near_rows,
    test_js_of_shifted_rows_is_0,
    test_kl_is_never_negative,
    test_kl_with_one_class_far_from_the_rest,
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
from test_losses import (  # noqa: F401
    test_confident_classes_keep_the_hessians_digits,
    test_js_div_is_bounded_and_symmetric,
    test_js_div_of_a_beta,
    test_js_div_of_nearly_equal_rows,
    test_js_divs_limits,
    test_the_gradient_of_the_target,
    test_the_hessian_is_the_gradients_derivative,
    test_weights_that_floats_do_not_hold,
    test_what_weighs_nothing_adds_nothing,
)
from test_rises import (  # noqa: F401
    test_faint_probabilities,
    test_limits_of_differences_that_overflow,
    test_log_probabilities_and_distillation,
    test_near_rows_behind_a_mask,
)

from xent import losses

CPU = losses.evaluate_loss

pytestmark = pytest.mark.skipif(host_cuda.compiler() is None, reason="needs a C++ compiler")


@pytest.fixture
def cuda(cuda_build):
    library = host_cuda.Library(cuda_build / "libxent_cuda_host.so")
    library.set_order(0)
    library.set_clusters(True)
    library.trace()
    return library


@pytest.fixture(autouse=True)
def _stand_in(cuda, monkeypatch):
    host_face.stand_in(host_face.Face(cuda), monkeypatch, test_accuracy, test_edges, test_losses, test_rises)


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


# ---- accuracy -------------------------------------------------------------------------------------------------------

# Row counts are odd, so that the last block is not full. Where a class may dominate its row the oracle has to be the
# exact one, which is slow; float64 shows what extended precision lacks already in rows of 131.
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


@pytest.mark.parametrize("case", [c for c in cases.ROW_CASES if c.dtype != "f2"], ids=lambda c: c.id)
def test_rows_of_a_vocabulary(case, cuda, rng):
    arrays = cases.operands(case.name, "random", 1, 32_000, case.type, rng)
    refs = oracle.evaluate(case.name, *arrays, wide=True)
    hold(case, call(cuda, case.name, arrays), refs, "32,000 classes")


NEAR_EQUAL = [c for c in test_accuracy.NEAR_EQUAL if c.dtype in ("f8", "f4")]


@pytest.mark.parametrize("classes", [3, 37])
@pytest.mark.parametrize("case", NEAR_EQUAL, ids=lambda c: c.id)
def test_near_equal_rows(case, classes, rng):
    test_accuracy.test_near_equal_rows(case, classes, rng)


@pytest.mark.parametrize(("classes", "rows"), [(2, 12), (40, 12), (1000, 6), (9000, 2)])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_tiny_divergences_of_confident_rows(dtype, classes, rows, rng):
    test_accuracy.test_tiny_divergences_of_confident_rows(dtype, classes, rows, rng)


# ---- masked rows, differences that overflow, weights of 0 -----------------------------------------------------------

LENGTHS = [3, 36, 300, 1500, 5003, 9001, 40_000]


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("classes", LENGTHS)
@pytest.mark.parametrize("mask", [-1e4, -1e9, -3e38])
@pytest.mark.parametrize("name", ["kl_div_with_logits", "kl_div_with_logits_value_and_grad", "kl_div_with_log_probs"])
def test_masked_targets(name, mask, classes, axis, cuda, rng):
    """Equal logits, a target that is even on what a mask leaves: log(classes / left), wherever the mask lies. Levels
    between make the target's maximum rise more than once."""
    left = max(classes // 12, 1)
    y = np.full((4, classes), mask, np.float32)
    y[0, :left] = y[1, classes - left :] = y[2, :: -(-classes // left)] = 0
    y[3] = rng.choice(np.float32([mask, -200, -90, 50, 1000]), size=classes)
    counts = (y == y.max(axis=1, keepdims=True)).sum(axis=1)
    if name.endswith("log_probs"):
        y -= y.max(axis=1, keepdims=True)
        y -= np.log(counts)[:, None].astype(np.float32)
    value = call(cuda, name, (np.zeros_like(y), y), axis)[0]
    allowed = 2e-6 if name.endswith("log_probs") else 1e-6
    np.testing.assert_allclose(value, np.log(classes / counts), rtol=allowed, atol=allowed)


FADING = [c for c in cases.ROW_CASES if c.name.startswith("kl_div") and not c.name.endswith("_terms")]


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("case", [c for c in FADING if c.dtype in ("f4", "f8")], ids=lambda c: c.id)
def test_targets_that_fade(case, axis, cuda, rng):
    """Over all of exp's range, either way, while the prediction has as much mass there as elsewhere: what lanes and
    pieces with next to no target know of the prediction counts in the end."""
    far = {"f4": 105, "f8": 750}[case.dtype]
    for classes in LENGTHS:
        x = rng.standard_normal((2, classes)).astype(case.type)
        ramp = np.linspace(0, far, classes)
        y = np.stack([ramp, ramp[::-1]]) + rng.standard_normal((2, classes))
        t = {"probs": cases.softmax64, "logits": lambda y: y, "log_probs": lambda y: np.log(cases.softmax64(y))}
        with np.errstate(divide="ignore", under="ignore"):
            arrays = x, t[cases.SECOND[case.name]](y).astype(case.type)
        hold(case, call(cuda, case.name, arrays, axis), oracle.evaluate(case.name, *arrays, wide=True), classes)


@pytest.mark.parametrize("classes", LENGTHS)
@pytest.mark.parametrize("level", [-1e9, 1e9, -3e38])
def test_target_far_from_zero(level, classes, cuda, rng):
    """An even target at any level: the mean of -log softmax(x) less log(classes)."""
    x = (2 * rng.standard_normal((2, classes))).astype(np.float32)
    wide = x.astype(np.longdouble)
    expected = np.log(np.exp(wide).mean(axis=1)) - wide.mean(axis=1)
    value = cuda("kl_div_with_logits", x, np.full_like(x, level))
    np.testing.assert_allclose(value, expected.astype(float), rtol=1e-5)


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("classes", LENGTHS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_differences_that_overflow(dtype, classes, axis, cuda):
    big = np.dtype(dtype).type(0.9 * float(np.finfo(dtype).max))
    x = np.full((2, classes), -big, dtype)
    x[0, 0] = x[1, -1] = big
    assert (call(cuda, "softmax_entropy", (x,), axis)[0] == 0).all()
    for target, expected in ((-x, np.inf), (x, 0.0)):
        for name in ("kl_div_with_logits", "kl_div_with_logits_value_and_grad"):
            assert (call(cuda, name, (x, target), axis)[0] == expected).all(), (name, expected)
        terms = call(cuda, "kl_div_with_logits_terms", (x, target), axis)[0]
        assert not np.isnan(terms).any()
        assert (terms.sum(axis=1) == expected).all()


@pytest.mark.parametrize("classes", LENGTHS)
def test_what_weighs_nothing_adds_nothing_at_any_length(classes, cuda):
    x = np.zeros((2, classes), np.float32)
    x[0, 1] = -np.inf
    weight, labels = np.ones(classes), np.array([1, 0])
    weight[1] = 0
    one_hot = (np.arange(classes) == labels[:, None]).astype(np.float32)
    expected = [0, np.log(classes)]
    for name, target in (("cross_entropy_with_labels", labels), ("cross_entropy", one_hot)):
        for given in ({"class_weight": weight}, {"sample_weight": np.array([0.0, 1.0])}):
            np.testing.assert_allclose(cuda(name, x, target, **given), expected, rtol=1e-6)
            value, grad = cuda(name + "_value_and_grad", x, target, reduction="sum", **given)
            np.testing.assert_allclose(value, expected[1], rtol=1e-6)
            assert not grad[0].any()
            assert np.isfinite(grad).all()


@pytest.mark.parametrize("classes", LENGTHS)
@pytest.mark.parametrize("size", [1e-50, 1e-42, -1e30, 1e50])
def test_weights_of_any_size_at_every_length(size, classes, cuda, rng):
    """Of the mean, its gradient and what is weighed in float64 nothing of a weight's size is left."""
    x = (3 * rng.standard_normal((5, classes))).astype(np.float32)
    y = (3 * rng.standard_normal((5, classes))).astype(np.float32)
    labels, p = rng.integers(classes, size=5), cases.softmax64(y).astype(np.float32)
    weights = size * np.array([1.0, 2.0, 0.5, 0.25, 1.5])
    allowed = {"rtol": 1e-5, "atol": 1e-7}
    losses_of = {
        "cross_entropy_with_labels": labels,
        "cross_entropy": p,
        "kl_div": p,
        "kl_div_with_logits": y,
        "js_div": y,
    }
    for name, target in losses_of.items():
        plain = cuda(name + "_value_and_grad", x, target, sample_weight=weights / size, reduction="mean")
        weighed = cuda(name + "_value_and_grad", x, target, sample_weight=weights, reduction="mean")
        for got, expected in zip(weighed, plain, strict=True):
            np.testing.assert_allclose(got, expected, err_msg=name, **allowed)
        rows = cuda(name, x.astype(np.float64), target, sample_weight=weights)
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(cuda(name, x, target, sample_weight=weights), rows.astype(np.float32), **allowed)
            if name == "cross_entropy_with_labels":
                continue
            terms = cuda(name + "_terms", x, target, sample_weight=weights, reduction="per_class", dtype=np.float64)
            exact = cuda(name + "_terms", x.astype(np.float64), target, sample_weight=weights, reduction="per_class")
            np.testing.assert_allclose(terms / size, exact / size, rtol=1e-4, atol=1e-5 / classes)
    for target in (labels, p):
        plain = cuda("cross_entropy_value_and_grad", x, target, label_smoothing=0.125, reduction="mean")
        given = {"class_weight": np.full(classes, size), "label_smoothing": 0.125}
        value, gradient = cuda("cross_entropy_value_and_grad", x, target, sample_weight=np.full(5, 1 / size), **given)
        np.testing.assert_allclose(value.mean(), plain[0], **allowed)
        np.testing.assert_allclose(gradient / 5, plain[1], **allowed)


@pytest.mark.parametrize("classes", LENGTHS)
def test_a_weight_of_0_and_nan(classes, cuda):
    """What is not a number stays none, as on the CPU."""
    x = np.zeros((2, classes), np.float32)
    x[0, 1] = np.nan
    for target in (np.array([1, 0]), np.full((2, classes), 1 / classes, np.float32)):
        name = "cross_entropy_with_labels" if target.ndim == 1 else "cross_entropy"
        value = cuda(name, x, target, sample_weight=np.array([0.0, 1.0]))
        assert np.isnan(value[0])
        assert np.isfinite(value[1])
        assert np.isnan(cuda(name, x, target, sample_weight=np.array([0.0, 1.0]), reduction="sum"))


@pytest.mark.parametrize("classes", LENGTHS)
@pytest.mark.parametrize("name", ["kl_div_with_log_probs_terms", "kl_div_with_logits_terms", "kl_div_terms"])
def test_infinite_terms_have_the_sign_of_their_weight(name, classes, cuda):
    x, y = np.zeros((2, 3, classes), np.float32)
    x[:, 1] = -np.inf
    target = {"probs": np.exp, "log_probs": lambda a: a, "logits": lambda a: a}[cases.SECOND[name]](y)
    terms = cuda(name, x, target, sample_weight=np.array([0.0, -1.0, 2.0]))
    assert terms[:, 1].tolist() == [0, -np.inf, np.inf]
    assert not np.isnan(terms).any()


def test_no_target_and_no_prediction(cuda):
    """A row without a target adds nothing, be its logits all -inf."""
    none = np.full((1, 3), -np.inf, np.float32)
    for name in ("kl_div_with_log_probs", "kl_div_with_log_probs_value_and_grad"):
        assert cases.as_tuple(cuda(name, none, none))[0] == 0
        assert cases.as_tuple(cuda(name, none + np.nan, none))[0] != 0


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("classes", [2, 17, 90, 1200, 9000, 40_000])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_js_of_near_rows(dtype, classes, axis, cuda, rng):
    """However near, 4 eps of itself; its gradient within its budget; the same bits the other way round."""
    case = next(c for c in cases.ROW_CASES if c.name == "js_div_value_and_grad" and c.dtype == dtype)
    distances = [0.5, 1e-2, 1e-5, 1e-7, 1e-9, 1e-12] if classes < 9000 else [1e-6]
    x = rng.standard_normal((len(distances), classes)).astype(dtype)
    y = (x + np.array(distances)[:, None] * rng.standard_normal(x.shape) + np.array(distances)[::-1, None]).astype(
        dtype
    )
    refs = oracle.evaluate(case.name, x, y)
    allowed = np.maximum(4 * float(np.finfo(dtype).eps) * refs[0].hi, float(np.finfo(dtype).tiny))
    value, gradient = call(cuda, case.name, (x, y), axis)
    alone = call(cuda, "js_div", (x, y), axis)[0]
    terms = call(cuda, "js_div_terms", (x, y), axis)[0].sum(axis=1, dtype=np.longdouble)
    for got in (value, alone, terms):
        wrong = oracle.errors(got, refs[0])
        assert (wrong <= allowed).all(), wrong / refs[0].hi
    np.testing.assert_array_equal(alone, call(cuda, "js_div", (y, x), axis)[0])
    measured = oracle.worst(gradient, refs[1], cases.subnormal_steps(case.name, case.type))
    assert measured <= case.budgets[1], measured


TEMPERATURES = [2.0**-1030, 1e-320, 2.0**-149, 1e-30, 0.3, 0.7, 1.0, 3.0, 1e30, 2.0**127, 1e39, 2.0**1023]


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("classes", [3, 100, 5003])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_divided_logits_are_quotients(dtype, classes, axis, cuda, rng):
    """A row's bits are those of the divided and rounded row, at the ends of the range, too."""
    t = np.array(TEMPERATURES)
    size = np.frexp(np.clip(t, 2.0**-100, 2.0**100))[1][:, None]
    x = np.ldexp(rng.standard_normal((t.size, classes)), size).astype(dtype)
    target = rng.dirichlet(np.ones(classes), t.size).astype(dtype)
    with np.errstate(over="ignore", under="ignore"):
        quotients = (x.astype(np.float64) / t[:, None]).astype(dtype)
    finite = np.isfinite(quotients).all(axis=1)
    got = call(cuda, "kl_div", (x, target), axis, temperature=t)[0]
    np.testing.assert_array_equal(got[finite], call(cuda, "kl_div", (quotients, target), axis)[0][finite])
    assert finite.sum() >= 8


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf, np.nan])
def test_a_temperature_that_is_none_makes_its_row_nan(bad, cuda, rng):
    """Nobody looks at an array on a GPU before the call; what the CPU refuses is no number there."""
    x, y = rng.standard_normal((2, 3, 40)).astype(np.float32)
    expected = cuda("kl_div_with_logits_value_and_grad", x, y)
    for name in ("kl_div_with_logits_value_and_grad", "kl_div_with_logits_terms"):
        got = cases.as_tuple(cuda(name, x, y, temperature=np.array([1.0, bad, 1.0])))
        for result in got:
            assert np.isnan(result[1]).all()
            assert np.isfinite(result[[0, 2]]).all()
    np.testing.assert_array_equal(
        cuda("kl_div_with_logits_value_and_grad", x, y, temperature=np.ones(3))[0], expected[0]
    )


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_mean_of_nothing(dtype, cuda):
    x = np.array([[0.3, -0.2, 1.1], [0.5, 2.0, -1.0]], dtype)
    for weights in ([1.0, -1.0], [0.0, 0.0]):
        given = {"sample_weight": np.array(weights), "reduction": "mean"}
        assert np.isnan(cuda("cross_entropy_with_labels", x, np.array([2, 0]), **given))


# ---- blocks of a cluster --------------------------------------------------------------------------------------------

# Operations whose results have the length of the row, and that fold it: what clusters hold.
HELD = [n for n in (*cases.ARRAY_NAMES, *cases.GRAD_NAMES) if not n.startswith("nll")]
# What each eighth of a row lies at, from one of two ends: so far apart that only one block counts, or that all do; and
# where references are powers of two, or the maxima themselves.
LEVELS = {
    "all count": [0, 3, -2, 5, 1, -4, 2, 0],
    "one counts": [0, -60, 500, -500, 1500, -1500, 90, 30],
    "far from 0": [1e4, 1e4 + 8, 1e4 - 5, 1e4 - 200, 1e4 + 2, 1e4, 1e4 + 1, 9e3],
    "on both sides": [2040, 2052, 2047, 2044, 2060, 2030, 2050, 2049],
}


def ran(cuda, regime):
    return [kernel for kernel, _ in cuda.trace() if f"{regime}<" in kernel]


def levels_of(case):
    """The exact oracle, which float64 needs and Jensen-Shannon's terms of probabilities of 0, is slow."""
    if case.dtype == "f4":
        return ["all count", "on both sides"] + ["one counts"] * (not case.name.startswith("js"))
    return {"f8": ["far from 0"], "bfloat16": ["one counts"] * (not case.name.startswith("js")), "f2": []}[case.dtype]


@pytest.mark.parametrize(
    ("case", "levels"),
    [pytest.param(c, k, id=f"{c.id}-{k}") for c in cases.ROW_CASES if c.name in HELD for k in levels_of(c)],
)
def test_blocks_whose_maxima_differ(case, levels, cuda, rng):
    exact = case.dtype == "f8"
    rows, classes = (1, 2_103) if exact else (2, 9_003)
    x, *second = cases.operands(case.name, "random", rows, classes, np.float64, rng)
    steps = np.repeat(LEVELS[levels], -(-classes // 8))[:classes]
    x += np.stack([steps, steps[::-1]])[:rows]
    arrays = tuple(a.astype(case.type) if a.ndim == 2 else a for a in (x, *second))
    refs = oracle.evaluate(case.name, *arrays, wide=not exact)
    hold(case, call(cuda, case.name, arrays), refs, levels)
    kernels = ran(cuda, "held")
    assert len(kernels) == 1
    assert "256, 256, 1, 8" in kernels[0], kernels


@pytest.mark.parametrize("name", HELD)
def test_blocks_without_a_finite_maximum(name, cuda, rng):
    """A block all -inf, one with +inf, one with NaN: as where one block has the whole row."""
    classes = 9_003
    arrays = cases.operands(name, "random", 6, classes, np.float32, rng)
    for row, (begin, end, value) in enumerate(
        [(0, 4000, -np.inf), (5000, classes, -np.inf), (8000, 8001, np.inf), (10, 11, np.nan), (0, classes, -np.inf)]
    ):
        arrays[0][row, begin:end] = value
    found = []
    for has in (True, False):
        cuda.set_clusters(has)
        found.append(call(cuda, name, arrays))
    for got, expected in zip(*found, strict=True):
        for same in (np.isnan, np.isposinf, np.isneginf, lambda a: a == 0):
            np.testing.assert_array_equal(same(got), same(expected))
        finite = np.isfinite(expected)
        numbers, wanted = np.where(finite, got, 0), np.where(finite, expected, 0)
        scale = np.abs(wanted).max(axis=-1, keepdims=True)
        assert (np.abs(numbers - wanted) <= 4 * np.finfo(np.float32).eps * scale).all()


@pytest.mark.parametrize("case", [c for c in cases.ROW_CASES if c.name in HELD and c.dtype == "f4"], ids=lambda c: c.id)
def test_devices_without_clusters(case, cuda, rng):
    cuda.set_clusters(False)
    arrays = cases.operands(case.name, "random", 1, 9_003, case.type, rng)
    hold(case, call(cuda, case.name, arrays), oracle.evaluate(case.name, *arrays, wide=True), "one block")
    assert ran(cuda, "stream")


# ---- layouts and alignment ------------------------------------------------------------------------------------------


def misalignments(size):
    """Where operands and outputs may begin, in elements past 16 bytes: all alike, and each its own."""
    per_pack = 16 // size
    yield from ((k, k, k) for k in range(per_pack))
    yield from ((0, 1, 0), (1, 0, per_pack - 1), (0, 0, 1), (per_pack - 1, 1, 0))


@pytest.mark.parametrize(
    ("name", "classes"),
    [*itertools.product(cases.ROW_NAMES, [33, 515]), *itertools.product(["softmax", "kl_div_terms"], [8_197])],
)
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
        hold(case, results, oracle.evaluate(name, first, second, wide=case.dtype != "f8"), f"{a} {b}")


@pytest.mark.parametrize("label_dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_label_dtypes(label_dtype, cuda, rng):
    x = (3 * rng.standard_normal((41, 9))).astype(np.float32)
    labels = rng.integers(9, size=41)
    name = "cross_entropy_with_labels_value_and_grad"
    expected = call(cuda, name, (x, labels))
    for got, value in zip(call(cuda, name, (x, labels.astype(label_dtype))), expected, strict=True):
        assert got.tobytes() == value.tobytes()


# ---- the same bits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [3, 10, 40, 300, 1500, 9000])
@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_a_row_is_the_same_wherever_it_lies(name, classes, cuda, rng):
    """In another batch, at another place of it, run again, and whichever lanes come first."""
    rows = 40 if classes < 100 else 6
    arrays = cases.operands(name, "random", rows, classes, np.float32, rng)
    expected = call(cuda, name, arrays)
    for order in (1, 2, 0):
        cuda.set_order(order)
        assert [r.tobytes() for r in call(cuda, name, arrays)] == [e.tobytes() for e in expected], order
    for part in (slice(1, 2), slice(3, None), slice(None, None, -1)):
        for got, value in zip(call(cuda, name, tuple(a[part] for a in arrays)), expected, strict=True):
            assert got.tobytes() == value[part].tobytes(), part


# ---- options, reductions --------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Scalars of 16-bit rows are float32, of values that have a few bits more than 16."""

    def quick(dtype):
        if dtype in ("f2", "bfloat16"):
            monkeypatch.setattr(test_losses, "BUDGET", 16)

    return quick


@pytest.mark.parametrize("dtype", ["f4", "bfloat16"])
@pytest.mark.parametrize("kind", ["labels", "probs"])
def test_cross_entropy_options(kind, dtype, quick, rng):
    quick(dtype)
    test_losses.test_cross_entropy_options(kind, dtype, rng)


@pytest.mark.parametrize("dtype", ["f4", "bfloat16"])
@pytest.mark.parametrize("kind", ["probs", "log_probs", "logits"])
def test_kl_div_options(kind, dtype, quick, rng):
    quick(dtype)
    test_losses.test_kl_div_options(kind, dtype, rng)


@pytest.mark.parametrize("dtype", ["f4", "f2"])
@pytest.mark.parametrize(
    "test",
    [test_losses.test_nll_options, test_losses.test_binary_cross_entropy_options, test_losses.test_js_div_options],
)
def test_options_of_the_others(test, dtype, quick, rng):
    quick(dtype)
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
        # What a term is a small difference of may be as large as its row's largest, or as t log t; a gradient as a
        # probability; and a target that does not sum to 1 brings a term of its own: all weighted as the row is.
        weights = options.get("sample_weight", np.ones(len(x))) * np.max(options.get("weight", 1.0))
        each = terms + terms.max(axis=1, keepdims=True) + min(1.0, 10 / x.shape[1]) * weights[:, None]
        whole = terms.sum(axis=1) + weights
        scale = {"none": whole, "sum": whole.sum(), "terms": each, "per_class": each.sum(axis=0)}
        slopes = (weights * np.max(options.get("pos_weight", 1.0)) / options.get("temperature", 1.0))[:, None]
        for reduction in ("none", "sum", "mean", "terms", "per_class"):
            expected = cpu(reduction=reduction)
            divided = expected / total if reduction == "mean" and total else 1.0
            allowed = 8 * eps * (scale["sum"] * divided if reduction == "mean" else scale[reduction])
            got = loss(laid, laid_target, axis=axis, reduction=reduction, **laid_options)
            assert got.dtype == np.float32
            close(got.T if reduction == "terms" and axis == 0 else got, expected, allowed, (reduction, options))
            if reduction in ("terms", "per_class"):
                continue
            value, slope = loss(laid, laid_target, axis=axis, reduction=reduction, return_grad=True, **laid_options)
            close(value, expected, allowed, (reduction, options, "with gradient"))
            _, expected = cpu(reduction=reduction, return_grad=True)
            close(slope.T if axis == 0 else slope, expected, 8 * eps * slopes * divided, (reduction, options, "slope"))


def close(got, expected, allowed, what):
    wrong = np.abs(np.asarray(got, np.float64) - expected)
    assert (wrong <= allowed).all(), (*map(str, what), np.max(wrong / np.maximum(allowed, 1e-300)))


@pytest.mark.parametrize("rows", [1, 700, 70_001])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_sums_over_rows(reduction, rows, cuda, rng):
    """In float32, and still as good as in float64; the same bits whichever lanes come first."""
    x = (3 * rng.standard_normal((rows, 3))).astype(np.float32)
    labels, weight = rng.integers(3, size=rows), rng.random(rows)
    options = {"reduction": reduction, "sample_weight": weight}
    value = cuda("cross_entropy_with_labels", x, labels, **options)
    each = cuda("cross_entropy_with_labels", x.astype(np.float64), labels, sample_weight=weight)
    expected = each.sum() / (weight.sum() if reduction == "mean" else 1.0)
    assert abs(float(value) - expected) <= 1.01 * np.spacing(np.float32(expected))
    for order in (1, 2):
        cuda.set_order(order)
        assert cuda("cross_entropy_with_labels", x, labels, **options).tobytes() == value.tobytes()


@pytest.mark.parametrize("shape", [(1, 5), (64, 3), (65, 515), (1000, 37), (3, 40_000)], ids=str)
def test_sums_per_class(shape, cuda, rng):
    x, y = (3 * rng.standard_normal((2, *shape))).astype(np.float32)
    terms = cuda("js_div_terms", x.astype(np.float64), y.astype(np.float64))
    for axis in (-1, 0):
        got = cuda("js_div_terms", *along((x, y), axis), axis=axis, reduction="per_class")
        assert got.shape == shape[1:]
        scale = np.abs(terms).sum(axis=0)
        assert (np.abs(got - terms.sum(axis=0)) <= 8 * np.finfo(np.float32).eps * (scale + scale.max() / 100)).all()


@pytest.mark.parametrize("name", [n for n in cases.GRAD_NAMES if cases.SECOND[n] == "labels"])
def test_weights_of_either_float(name, cuda, rng):
    """Weights and temperatures are float32 or float64; what both hold gives the same bits."""
    x = np.log(cases.softmax64(rng.standard_normal((9, 40)))).astype(np.float32)
    labels = rng.integers(40, size=9)
    options = {"class_weight": rng.integers(1, 9, 40) / 8, "sample_weight": rng.integers(1, 9, 9) / 8}
    if not name.startswith("nll"):
        options["temperature"] = 2.0 ** rng.integers(-2, 2, 9)
    expected = call(cuda, name, (x, labels), reduction="mean", **options)
    narrow = {k: v.astype(np.float32) for k, v in options.items()}
    for got, value in zip(call(cuda, name, (x, labels), reduction="mean", **narrow), expected, strict=True):
        assert got.tobytes() == value.tobytes()


@pytest.mark.parametrize("name", cases.GRAD_NAMES)
def test_gradient_scale(name, cuda, rng):
    x, t = cases.operands(name, "random", 4, 37, np.float32, rng)
    value, grad = call(cuda, name, (x, t))
    scaled = call(cuda, name, (x, t), grad_scale=-4.0)
    assert scaled[0].tobytes() == value.tobytes()
    np.testing.assert_array_equal(scaled[1], -4.0 * grad)


@pytest.mark.parametrize("dtype", ["f4", "bfloat16"])
@pytest.mark.parametrize("classes", [2, 100, 3000, 40_000])
def test_gradient_where_the_label_is_nearly_certain(classes, dtype, cuda):
    """p - 1 of a p next to 1 is computed in float32, not from a p that 16 bits have rounded to 1."""
    x = np.full((3, classes), -8.0 - np.log(classes)).astype(dtype)
    labels = np.array([0, 1, classes - 1])
    x[np.arange(3), labels] = 0
    exact = x.astype(np.float64)
    rest = np.exp(exact).sum(axis=1) - 1
    _, grad = cuda("cross_entropy_with_labels_value_and_grad", x, labels)
    at = grad[np.arange(3), labels].astype(np.float64)
    np.testing.assert_allclose(at, -rest / (1 + rest), rtol=float(cases.finfo(dtype).eps))


# ---- in place, labels, refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [3, 100, 1500, 9000, 40_000])
@pytest.mark.parametrize("name", [n for n in cases.ROW_NAMES if n in (*cases.ARRAY_NAMES, *cases.GRAD_NAMES)])
def test_results_in_the_place_of_an_operand(name, classes, cuda, rng):
    arrays = cases.operands(name, "random", 3, classes, np.float32, rng)
    expected = call(cuda, name, arrays)[-1]
    for which in range(len(arrays)):
        if arrays[which].dtype != np.float32:
            continue
        copies = tuple(a.copy() for a in arrays)
        made = cuda.request(name, *copies)
        made.req.out.data = copies[which].ctypes.data
        made.run()
        assert copies[which].tobytes() == expected.tobytes(), which


WRONG = [-1, 2**31, -(2**63), 2**63 - 1]


@pytest.mark.parametrize("classes", [3, 37, 1500, 9000, 40_000])
@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("name", [n for n in cases.ROW_NAMES if cases.SECOND[n] == "labels"] + ["cross_entropy_terms"])
def test_labels_out_of_range(name, axis, classes, cuda, rng):
    """Their rows are NaN, the others as they were, and the first is noted; an ignored one is not wrong."""
    x, labels = cases.logits("random", 8, classes, np.float32, rng), rng.integers(classes, size=8)
    right = call(cuda, name, (x, labels), axis)
    for value in (*WRONG, classes):
        given = labels.copy()
        given[[2, 5]] = value
        made = cuda.request(name, *along((x, given), axis), axis=axis)
        made.run()
        assert made.bad_label() == (2, value)
        for got, expected in zip(cases.as_tuple(made.results()), right, strict=True):
            got = got.T if axis == 0 and got.ndim == 2 else got
            bad = np.isin(np.arange(8), [2, 5])
            assert np.isnan(got[bad]).all()
            np.testing.assert_array_equal(got[~bad], expected[~bad])
        made = cuda.request(name, *along((x, given), axis), axis=axis, ignore_index=value)
        made.run()
        assert made.bad_label() is None
        for got in cases.as_tuple(made.results()):
            got = got.T if axis == 0 and got.ndim == 2 else got
            assert (got[[2, 5]] == 0).all()


def test_the_first_wrong_label_in_c_order(cuda, rng):
    x = rng.standard_normal((4, 5, 6, 3)).astype(np.float32)
    labels = np.zeros((4, 5, 6), np.uint64)
    labels[3, 0, 0] = 2**64 - 1
    labels[1, 4, 2] = 7
    made = cuda.request("cross_entropy_with_labels", x, labels, reduction="mean")
    made.run()
    assert made.bad_label() == (np.ravel_multi_index((1, 4, 2), labels.shape), 7)
    assert np.isnan(made.results())
    labels[1, 4, 2] = 0
    made.run()
    # Saturated, as the CPU reports it.
    assert made.bad_label() == (90, 2**63 - 1)
    labels[3, 0, 0] = 2
    made.run()
    assert made.bad_label() is None
    assert np.isfinite(made.results())


def set_field(path, value):
    def change(call):
        *holders, field = path.split(".")
        at = call
        for h in holders:
            at = getattr(at, h)
        setattr(at, field, value)

    return change


def shift_rows(call):
    ctypes.c_ssize_t.from_address(call.req.logits.strides).value = 3 * 4 + 2


REFUSED = {
    "an old request": (set_field("req.struct_size", 8), "ERR_OPTION"),
    "no such operation": (set_field("req.op", 1000), "ERR_OP"),
    "a negative operation": (set_field("req.op", -1), "ERR_OP"),
    "computed in half": (set_field("req.compute", host_cuda.DTYPE_CODES["F16"]), "ERR_DTYPE"),
    "integer logits": (set_field("req.logits.dtype", host_cuda.DTYPE_CODES["I32"]), "ERR_DTYPE"),
    "float labels": (set_field("req.target.dtype", host_cuda.DTYPE_CODES["F32"]), "ERR_DTYPE"),
    "the other byte order": (set_field("req.logits.swapped", 1), "ERR_DTYPE"),
    "integer weights": (set_field("req.sample_weight.dtype", host_cuda.DTYPE_CODES["I32"]), "ERR_DTYPE"),
    "a mask of floats": (set_field("req.where.dtype", host_cuda.DTYPE_CODES["F32"]), "ERR_DTYPE"),
    "negative classes": (set_field("req.classes", -1), "ERR_SHAPE"),
    "negative dimensions": (set_field("req.ndim", -1), "ERR_SHAPE"),
    "too many dimensions": (set_field("req.ndim", 65), "ERR_SHAPE"),
    "no shape": (set_field("req.shape", None), "ERR_SHAPE"),
    "no strides": (set_field("req.logits.strides", None), "ERR_NULL"),
    "no logits": (set_field("req.logits.data", None), "ERR_NULL"),
    "no labels": (set_field("req.target.data", None), "ERR_NULL"),
    "no value": (set_field("req.value.data", None), "ERR_NULL"),
    "no out": (set_field("req.out.data", None), "ERR_NULL"),
    "half an element off": (lambda c: setattr(c.req.logits, "data", c.req.logits.data + 2), "ERR_OPTION"),
    "rows half an element off": (shift_rows, "ERR_OPTION"),
    "a beta of 1": (set_field("req.beta", 1.0), "ERR_OPTION"),
    "smoothing above 1": (set_field("req.label_smoothing", 1.5), "ERR_OPTION"),
    "smoothing that is no number": (set_field("req.label_smoothing", float("nan")), "ERR_OPTION"),
    "an unknown reduction": (set_field("req.reduction", 9), "ERR_REDUCTION"),
    "per class of values": (set_field("req.reduction", host_cuda.REDUCTIONS["per_class"]), "ERR_REDUCTION"),
    "an old launch": (set_field("at.struct_size", 8), "ERR_OPTION"),
    "another device": (set_field("at.device", 1), "ERR_DEVICE"),
    "no workspace": (set_field("at.workspace", None), "ERR_SCRATCH"),
    "too little workspace": (lambda c: setattr(c.at, "workspace_size", c.at.workspace_size - 1), "ERR_SCRATCH"),
    "a workspace off its boundary": (lambda c: setattr(c.at, "workspace", c.at.workspace + 128), "ERR_SCRATCH"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_before_anything_is_written(what, cuda, rng):
    change, status = REFUSED[what]
    x = rng.standard_normal((4, 3)).astype(np.float32)
    made = cuda.request(
        "cross_entropy_with_labels_value_and_grad", x, np.zeros(4, np.int64), sample_weight=np.ones(4), where=x < 9
    )
    made.at = made.launch()
    change(made)
    with pytest.raises(host_cuda.Refused) as refused:
        made.run(made.at)
    assert refused.value.status == status
    for guarded in (made.value, made.out, made.workspace):
        assert host_cuda.is_poison(guarded.array).all()


def test_dimensions_that_cannot_be_joined(cuda, rng):
    """Five of them, no two with one stride between them; four work."""
    x = rng.standard_normal((4, 4, 4, 4, 4, 3)).astype(np.float32)[::2, ::2, ::2, ::2, ::2]
    with pytest.raises(host_cuda.Refused, match="ERR_SHAPE"):
        cuda("logsumexp", x)
    four = x[0]
    np.testing.assert_array_equal(cuda("logsumexp", four), cuda("logsumexp", four.copy()))


def test_the_error_text_names_what_is_wrong_with_a_device(cuda, rng):
    made = cuda.request("logsumexp", np.zeros((2, 3), np.float32))
    with pytest.raises(host_cuda.Refused, match="device 0 alone"):
        made.workspace_size(device=3)


# ---- what the above has reached -------------------------------------------------------------------------------------


def test_every_kernel_is_reached(cuda, rng):
    """The lengths and layouts used above lead to every kernel of every operation."""
    reached = set()
    shapes = [(9, 3), (3, 40), (2, 300), (2, 1500), (2, 5003), (1, 9001), (2, 40_000)]
    for name in cases.ROW_NAMES:
        for (rows, classes), axis in itertools.product(shapes, (-1, 0)):
            arrays = along(cases.operands(name, "random", rows, classes, np.float32, rng), axis)
            hidden = {"where": np.ones(arrays[0].shape, bool)}
            cuda(name, *arrays, axis=axis)
            cuda(name, *arrays, axis=axis, **hidden)
            if name.endswith("_terms"):
                cuda(name, *arrays, axis=axis, reduction="per_class")
        cuda.set_clusters(False)
        cuda(name, *cases.operands(name, "random", 1, 9001, np.float32, rng))
        cuda.set_clusters(True)
        reached |= {kernel for kernel, _ in cuda.trace()}
    for name in cases.NAMES:
        index, *_ = host_cuda.OPERATIONS[name]
        kernels = [k for k in reached if f"op_of<{index}>, F32" in k]
        exist = []
        while (found := cuda.lib.xent_host_exists(index, len(exist))) >= 0:
            exist.append(found)
        assert cases.SECOND[name] == "point" or len(kernels) == sum(exist), (name, sorted(kernels))


# ---- under sanitizers -----------------------------------------------------------------------------------------------


def test_nothing_outside_an_array_is_touched(cuda_build):
    """Operands and outputs end where a page begins that may not be read."""
    program = Path(__file__).with_name("guard_pages.py")
    paths = os.pathsep.join([str(program.parent), str(program.parents[1])])
    done = subprocess.run(
        [sys.executable, program, cuda_build / "libxent_cuda_host.so"],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ, PYTHONPATH=paths),
    )
    last = done.stdout.strip().rsplit("\n", 1)[-1]
    assert (done.returncode, last) == (0, "ok"), (done.returncode, last, done.stderr[-2000:])
