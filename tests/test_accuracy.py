"""Errors in ULPs against the oracle, on every instruction set of this processor and along every walk."""

import cases
import numpy as np
import oracle
import pytest
import wide

import xent
from xent import losses

ISAS = xent.info()["isas"]
xent.enable_bfloat16()  # the pointwise ones are NumPy ufuncs, which know the dtype from here on


def layouts(arrays):
    """The same rows with the class axis contiguous, and with it the slowest one: the kernels walk these differently."""
    yield "C", arrays, {}
    if arrays[0].shape[1] > 1:
        yield "F", tuple(np.asfortranarray(a) for a in arrays), {}


def check(case, arrays, refs, what):
    """Every ISA and layout within the budgets. The message holds the largest error measured."""
    found = []
    for isa in ISAS:
        xent.set_isa(isa)
        for layout, views, options in layouts(arrays):
            results = cases.as_tuple(getattr(xent, case.name)(*views, **options))
            for output, (got, ref, allowed) in enumerate(zip(results, refs, case.budgets, strict=True)):
                assert got.dtype == case.type
                measured = oracle.worst(got, ref, cases.subnormal_steps(case.name, case.type))
                if not measured <= allowed:
                    found.append(f"{case.id} {what} {isa} {layout} output {output}: {measured:.3g} ULP > {allowed}")
    assert not found, "\n".join(found)


def beside_each_other(row_cases):
    """Variants of one definition follow each other while the oracle has the answers at hand."""
    return sorted(row_cases, key=lambda c: (oracle.definition_of(c.name)[0], c.dtype))


# Longdouble is exact enough for all but float64 (test_wide.py), and a hundred times as fast as mpmath.
QUICKLY = [c for c in beside_each_other(cases.ROW_CASES) if c.dtype != "f8" and wide.IS_WIDE]
JUDGED = [pytest.param(c, wide.evaluate, id=f"{c.id}-longdouble") for c in QUICKLY] + [
    pytest.param(c, oracle.evaluate, id=f"{c.id}-mpmath", marks=[pytest.mark.slow] if c in QUICKLY else [])
    for c in beside_each_other(cases.ROW_CASES)
]

SHAPES = {"few": (64, 3), "ten": (40, 10), "odd": (9, 37), "hundred": (4, 131), "thousand": (2, 1000)}


@pytest.mark.parametrize("kind", ["random", "offset", "peaked", "wide"])
@pytest.mark.parametrize(("case", "judge"), JUDGED)
def test_rows(case, judge, kind):
    rng = oracle.rng_of(case.name, case.dtype, kind)
    for what, (rows, classes) in SHAPES.items():
        arrays = cases.operands(case.name, kind, rows, classes, case.type, rng)
        check(case, arrays, judge(case.name, *arrays), f"{kind} {what}")


@pytest.mark.parametrize("case", beside_each_other(cases.ROW_CASES), ids=lambda c: c.id)
def test_long_rows(case):
    arrays = cases.operands(case.name, "random", 3, 32_000, case.type, oracle.rng_of(case.name, case.dtype, "long"))
    check(case, arrays, oracle.evaluate(case.name, *arrays, wide=True), "32,000 classes")


@pytest.mark.parametrize("classes", [200_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", beside_each_other(c for c in cases.ROW_CASES if c.dtype != "f2"), ids=lambda c: c.id)
def test_a_row_long_enough_to_split(case, classes):
    arrays = cases.operands(case.name, "random", 1, classes, case.type, oracle.rng_of(case.name, case.dtype, classes))
    check(case, arrays, oracle.evaluate(case.name, *arrays, wide=True), f"{classes} classes")


@pytest.mark.parametrize("case", [c for c in cases.ROW_CASES if c.dtype != "f2"], ids=lambda c: c.id)
def test_extreme_magnitudes(case, rng):
    """Logits near the ends of the dtype's range, -inf among them, and all of them equal."""
    big = 1e300 if case.dtype == "f8" else 1e30
    x = np.array(
        [
            [big, -big, 0, 1, -1],
            [-big, -big, -big, -big, -big],
            [big, big, big, big, big],
            [1e-30, -1e-30, 0, 1e-35, -1e-35],
            [-np.inf, 0.5, -np.inf, 0.25, -np.inf],
            [-80, -70, -60, -75, -85],
            [700, 710, 705, 0, 650],
            [1e4, 1e4 + 1, 1e4 - 1, 1e4 + 0.5, 1e4 - 50],
        ],
        dtype=case.type,
    )
    if case.operands == "self":
        arrays = (cases.second("probs", "random", x, rng),)
    elif case.operands == "":
        arrays = (x,)
    elif case.operands == "labels":
        arrays = (x, x.argmax(axis=1))
    elif case.operands == "logits":
        arrays = (x, np.where(np.isinf(x), x, rng.standard_normal(x.shape)).astype(case.type))
    else:
        t = cases.softmax64(np.where(np.isinf(x), -np.inf, rng.standard_normal(x.shape)))
        with np.errstate(divide="ignore"):
            arrays = (x, (t if case.operands in ("probs", "unit") else np.log(t)).astype(case.type))
    refs = oracle.evaluate(case.name, *arrays)
    if case.name.startswith("kl_div") and not case.name.endswith("terms"):
        # Beyond 2^50 a logit has no digits left to centre differences with: the divergence is a plain sum there.
        terms = oracle.evaluate(case.name.partition("_value_and_")[0] + "_terms", *arrays)[0]
        far = (np.abs(x) > 2.0**50).any(axis=1) & np.isfinite(x).all(axis=1)
        refs[0].scale[far] = terms.scale.sum(axis=1)[far]
    check(case, arrays, refs, "extreme")


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_confident_rows_keep_their_digits(dtype, isa):
    """1 - p far below eps: log1p, not log(1 + ...)."""
    gaps = np.array([30.0, 50.0, 80.0, 100.0 if dtype == "f4" else 700.0])
    x = np.stack([np.zeros_like(gaps), -gaps], axis=1).astype(dtype)
    for name, operands in [
        ("logsumexp", (x,)),
        ("log_softmax", (x,)),
        ("cross_entropy_with_labels", (x, np.zeros(len(x), int))),
        ("softmax_entropy", (x,)),
    ]:
        refs = oracle.evaluate(name, *operands)
        measured = oracle.worst(getattr(xent, name)(*operands), refs[0], cases.subnormal_steps(name, dtype))
        assert measured <= cases.budget(name, dtype)[0], (name, measured)
    for classes in (3, 40, 1000):
        x = np.full((2, classes), -60.0, dtype)
        x[0, 1] = x[1, classes - 1] = 0.0
        for name in ("logsumexp", "log_softmax"):
            measured = oracle.worst(getattr(xent, name)(x), oracle.evaluate(name, x)[0])
            assert measured <= cases.budget(name, dtype)[0], (name, classes, measured)


NEAR_EQUAL = [c for c in cases.ROW_CASES if c.name.startswith("kl_div") and not c.name.endswith("terms")]


@pytest.mark.parametrize("classes", [3, 10, 37, 1000])
@pytest.mark.parametrize("case", NEAR_EQUAL, ids=lambda c: c.id)
def test_near_equal_rows(case, classes, rng):
    """KL of rows that nearly agree: right relative to itself, and never negative."""
    distances = {"f8": [1e-1, 1e-2, 1e-4, 1e-6, 1e-8], "f4": [1e-1, 1e-2, 1e-3, 1e-4]}.get(case.dtype, [1e-1, 3e-2])
    y = 2 * rng.standard_normal((len(distances), classes))
    x = (y + np.array(distances)[:, None] * rng.standard_normal(y.shape)).astype(case.type)
    if case.operands == "logits":
        target = y.astype(case.type)
    elif case.operands == "probs":
        target = cases.softmax64(y).astype(case.type)
    else:
        target = np.log(cases.softmax64(y)).astype(case.type)
    ref = oracle.evaluate(case.name, x, target)[0]
    allowed = cases.near_equal_allowance(case.operands, case.type, ref.hi, target)
    found = []
    for isa in ISAS:
        xent.set_isa(isa)
        for layout, views, options in layouts((x, target)):
            value = cases.as_tuple(getattr(xent, case.name)(*views, **options))[0]
            assert (value >= 0).all(), (isa, layout, value)
            wrong = oracle.errors(value, ref)
            found += [
                f"{case.id} C={classes} {isa} {layout} distance {d}: KL {k:.3g}, off by {w / k:.3g}, may {a / k:.3g}"
                for d, k, w, a in zip(distances, ref.hi, wrong, allowed, strict=True)
                if not w <= a
            ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("shape", [(1, 200_000), (3, 40_000)])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_near_equal_long_rows(dtype, shape, offset, rng, isa):
    """The same, however the row is split. Repeating the classes of a row leaves its divergence as it was."""
    y = 2 * rng.standard_normal((shape[0], 400))
    x = (y + (1e-6 if dtype == "f8" else 1e-3) * rng.standard_normal(y.shape) + offset).astype(dtype)
    y = y.astype(dtype)
    ref = oracle.evaluate("kl_div_with_logits", x, y)[0]
    tiles = (1, shape[1] // 400)
    value = xent.kl_div_with_logits(np.tile(x, tiles), np.tile(y, tiles))
    assert (oracle.errors(value, ref) <= cases.near_equal_allowance("logits", dtype, ref.hi, None)).all()


@pytest.mark.parametrize(
    ("classes", "rows"),
    [
        (2, 40),
        (10, 40),
        (40, 40),
        (1000, 3),
        *(pytest.param(*at, marks=pytest.mark.slow) for at in [(1000, 12), (2500, 6)]),
    ],
)
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_tiny_divergences_of_confident_rows(dtype, classes, rows, rng):
    """Both rows sure of the same class, wherever it is, and anywhere on the line: what is left is tiny, and right
    relative to itself."""
    for offset in (0.0, 1000.0, -1e4):
        x, y = (rng.standard_normal((2, rows, classes)) + offset).astype(dtype)
        gap = np.linspace(20.0, 60.0, rows).astype(dtype)
        top = np.linspace(0, classes - 1, rows).astype(int)
        rng.shuffle(top)
        x[np.arange(rows), top] += gap
        y[np.arange(rows), top] += gap[::-1]
        ref = oracle.evaluate("kl_div_with_logits", x, y)[0]
        for isa in ISAS:
            xent.set_isa(isa)
            for layout, views, options in layouts((x, y)):
                wrong = oracle.errors(xent.kl_div_with_logits(*views, **options), ref) / np.abs(ref.hi)
                assert wrong.max() <= 4 * np.finfo(dtype).eps, (isa, layout, offset, wrong.max() / np.finfo(dtype).eps)


@pytest.mark.parametrize("classes", [4, 10, 31, 100, 600, 5000])
@pytest.mark.parametrize("name", ["kl_div", "kl_div_with_logits", "kl_div_with_log_probs"])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_kl_with_one_class_far_from_the_rest(dtype, name, classes, rng):
    """A class that the logits all but rule out and that has the target's largest share, if by little: nothing of the
    divergence may be rounded at the size of its own logarithm."""
    far = np.array([-665.3, -300.7, -87.3, -40.123, -11.7])
    x = (
        np.full((len(far), classes), 0.3)
        + 1e-3 * rng.standard_normal((len(far), classes)) * np.array([[0, 1, 0, 1, 0]]).T
    )
    x[:, classes // 2] = far
    p = np.full(x.shape, 1 / classes)
    p[:, classes // 2] *= 1 + 1e-6
    p[:, 0] -= p.sum(axis=1) - 1
    x, target = x.astype(dtype), (p if name == "kl_div" else np.log(p)).astype(dtype)
    ref = oracle.evaluate(name, x, target, wide=classes > 1000)[0]
    for isa in ISAS:
        xent.set_isa(isa)
        for layout, views, options in layouts((x, target)):
            measured = oracle.worst(getattr(xent, name)(*views, **options), ref)
            assert measured <= cases.budget(name, dtype)[0], (isa, layout, measured)


@pytest.mark.parametrize("classes", [2, 3, 17, 40, 90, 1200])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_js_of_near_rows(dtype, classes, rng):
    """However near, 4 eps of itself; its gradient within its budget; the same bits the other way round."""
    distances = [2.0, 0.5, 0.1, 1e-2, 1e-3, 1e-5, 1e-6, 1e-7, 1e-9, 1e-12]
    x = rng.choice([0.01, 1.0, 4.0], (len(distances), 1)) * rng.standard_normal((len(distances), classes))
    x = x.astype(dtype)
    y = (x + np.array(distances)[:, None] * rng.standard_normal(x.shape)).astype(dtype)
    offset = np.array(distances)[::-1, None].astype(dtype)  # which rounds, and so is a part of the question
    y = y + offset
    refs = oracle.evaluate("js_div_value_and_grad", x, y)
    allowed = np.maximum(4 * float(np.finfo(dtype).eps) * refs[0].hi, float(np.finfo(dtype).tiny))
    for isa in ISAS:
        xent.set_isa(isa)
        for layout, views, options in layouts((x, y)):
            value, gradient = xent.js_div_value_and_grad(*views, **options)
            wrong = oracle.errors(value, refs[0])
            assert (wrong <= allowed).all(), (isa, layout, wrong / refs[0].hi)
            np.testing.assert_array_equal(value, xent.js_div(*views, **options))
            np.testing.assert_array_equal(value, xent.js_div(*views[::-1], **options))
            measured = oracle.worst(gradient, refs[1], cases.subnormal_steps("js_div_value_and_grad", dtype))
            assert measured <= cases.budget("js_div_value_and_grad", dtype)[1], (isa, layout, measured)


@pytest.mark.parametrize("beta", [1e-6, 0.1, 0.5, 0.9, 1 - 2**-24])
@pytest.mark.parametrize("classes", [2, 17, 90])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_js_of_a_beta_and_near_rows(dtype, classes, beta, rng, isa):
    """As that of 1/2 is; twice as far off where the rows are not near."""
    distances = [2.0, 0.5, 0.1, 1e-3, 1e-6, 1e-9]
    x = rng.choice([0.01, 1.0, 4.0], (len(distances), 1)) * rng.standard_normal((len(distances), classes))
    x = x.astype(dtype)
    y = (x + np.array(distances)[:, None] * rng.standard_normal(x.shape) + 3).astype(dtype)
    real, options = np.dtype(dtype), {"beta": beta, "reduction": "none"}
    ref, slope = oracle.losses_js_div(x, y, compute=real, **options)
    units = np.where(np.array(distances) < 0.1, 4, 8)
    allowed = np.maximum(units * float(np.finfo(dtype).eps) * ref.hi, float(np.finfo(dtype).tiny))
    value, gradient = losses.js_div(x, y, return_grad=True, **options)
    wrong = oracle.errors(value, ref)
    assert (wrong <= allowed).all(), wrong / ref.hi
    measured = oracle.worst(gradient, slope, cases.subnormal_steps("js_div", dtype))
    assert measured <= 2 * cases.budget("js_div_value_and_grad", dtype)[1]
    x = (np.round(64 * x) / 64).astype(dtype)
    assert not losses.js_div(x, x + real.type(2), **options).any()


@pytest.mark.parametrize("classes", [2, 17, 90, 1200, 150_000])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_js_of_shifted_rows_is_0(dtype, classes, rng, isa):
    x = (np.round(64 * rng.standard_normal((4, classes))) / 64).astype(dtype)
    for shift in (0.0, 1.0, -3.5, 1024.0):
        assert xent.js_div(x, x + np.array(shift, dtype)).tolist() == [0.0] * 4
        assert not xent.js_div_terms(x, x + np.array(shift, dtype)).any()
        assert not xent.js_div_value_and_grad(x, x + np.array(shift, dtype))[1].any()


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_js_of_long_near_rows(dtype, rng, isa):
    """However the row is split. Repeating the classes of a row leaves its divergence as it was."""
    x = (2 * rng.standard_normal((2, 400))).astype(dtype)
    y = (x + np.array([[1e-5], [1e-3]]) * rng.standard_normal(x.shape) + 1.0).astype(dtype)
    ref = oracle.evaluate("js_div", x, y)[0]
    value = xent.js_div(np.tile(x, 400), np.tile(y, 400))
    assert (oracle.errors(value, ref) <= 4 * np.finfo(dtype).eps * ref.hi).all()


@pytest.mark.parametrize("name", ["kl_div_with_logits", "kl_div", "kl_div_with_log_probs"])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_kl_is_never_negative(name, dtype, rng, isa):
    """Distances from far beyond rounding down to nothing, many rows each."""
    for distance in (0.0, 1e-16, 1e-12, 1e-8, 1e-7, 1e-6, 1e-4, 1e-2):
        y = 3 * rng.standard_normal((2000, 10))
        x = (y + distance * rng.standard_normal(y.shape)).astype(dtype)
        p = cases.softmax64(y.astype(dtype))
        with np.errstate(divide="ignore"):
            target = {"kl_div": p, "kl_div_with_logits": y, "kl_div_with_log_probs": np.log(p)}[name].astype(dtype)
        value = getattr(xent, name)(x, target)
        assert (value >= 0).all(), (distance, value.min())
    assert xent.kl_div_with_logits(x, x).tolist() == [0.0] * len(x)


def test_issue_example(isa):
    """KL of two float32 logit rows that differ by 1e-4: positive, and right to 1e-6."""
    gen = np.random.default_rng(1)
    y = gen.standard_normal((200, 10)).astype(np.float32)
    x = (y + 1e-4 * gen.standard_normal(y.shape)).astype(np.float32)
    value = xent.kl_div_with_logits(x, y)
    ref = oracle.evaluate("kl_div_with_logits", x, y)[0]
    assert (value > 0).all()
    assert (oracle.errors(value, ref) <= 1e-6 * ref.hi).all()


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("axis", [0, 1])
def test_long_sums_do_not_saturate(dtype, axis, isa):
    """2e7 equal classes: a float32 sum of ones would stop at 2^24."""
    shape = (20_000_000, 1) if axis == 0 else (1, 20_000_000)
    x = np.zeros(shape, dtype)
    assert abs(float(xent.logsumexp(x, axis=axis)[0]) - np.log(2e7)) <= np.spacing(np.asarray(np.log(2e7), dtype))
    assert abs(float(xent.softmax_entropy(x, axis=axis)[0]) - np.log(2e7)) <= 4 * np.spacing(
        np.asarray(np.log(2e7), dtype)
    )


def test_class_axis_first_does_not_saturate(isa):
    x = np.zeros((2**24 + 2**20, 2), np.float32)
    expected = -np.log(float(len(x)))
    out = xent.log_softmax(x, axis=0)
    assert (np.abs(out.astype(np.float64) - expected) <= 1.5 * np.spacing(np.float32(-expected))).all()


POINT_EDGES = {
    "kl_pointwise": (
        [0.3, -2.0, np.inf, -np.inf, np.nan, 1.0, -np.inf, 5.0, np.nan],
        [0.0, 0.5, 0.0, 0.0, 0.5, -0.5, 0.25, 1.0, 0.0],
    ),
    "rel_entr": (
        [0.5, 0.0, 0.0, 0.5, -0.1, 0.5, np.nan, 0.0, 1e-30, 0.2],
        [0.25, 0.0, 0.5, 0.0, 0.5, -0.5, 0.5, -0.5, 1e-30, 0.2 + 1e-9],
    ),
}


@pytest.mark.parametrize("case", cases.POINT_CASES, ids=lambda c: c.id)
def test_pointwise(case, rng, isa):
    first, second = (np.array(v).astype(case.type) for v in POINT_EDGES[case.name])
    x = rng.random(300) * 3 if case.name == "rel_entr" else -5 * rng.random(300)
    first = np.concatenate([first, x.astype(case.type)])
    second = np.concatenate([second, rng.random(300).astype(case.type)])
    ref = getattr(oracle, case.name)(first, second)
    got = getattr(xent, case.name)(first, second)
    assert got.dtype == case.type
    measured = oracle.worst(got, ref)
    assert measured <= case.budgets[0], measured
    backwards = np.ascontiguousarray(second[::-1])[::-1]
    assert backwards.strides[0] < 0
    strided = getattr(xent, case.name)(np.repeat(first, 3)[::3], backwards)
    assert strided.tobytes() == got.tobytes()


def test_rel_entr_keeps_its_digits_near_one(isa):
    """log(p / q) where p and q are neighbours is as small as their difference."""
    p = np.linspace(0.1, 1.0, 200)
    q = np.nextafter(p, 2.0)
    measured = oracle.worst(xent.rel_entr(p, q), oracle.rel_entr(p, q))
    assert measured <= cases.budget("rel_entr", "f8")[0]
