"""xent.losses: every option alone and with the others, against the oracle and against finite differences."""

import inspect
import itertools
import tracemalloc

import cases
import numpy as np
import oracle
import pandas as pd
import pytest

import xent
from xent import losses

REDUCTIONS = ("none", "sum", "mean", "terms", "per_class")
WITH_GRAD = ("none", "sum", "mean")
# Weights, smoothing and temperature add a few roundings of their own to a term; sums over rows add none.
BUDGET = 5.0

N, C = 7, 6


def within(got, ref, dtype, what, budget=None):
    got = np.asarray(got)
    assert got.dtype == np.dtype(dtype), what
    measured = oracle.worst(got, ref)
    allowed = 0.51 if np.dtype(dtype).itemsize == 2 else budget or BUDGET
    assert measured <= allowed, (what, measured)


def check(loss, judge, logits, target, dtype, options, layout=np.asarray, budget=None):
    """Every instruction set and reduction, and the gradient where there is one."""
    compute = np.float64 if np.dtype(dtype).itemsize == 8 else np.float32
    names = sorted(options)
    views = (layout(logits), layout(target) if target.ndim == 2 else target)
    for reduction in REDUCTIONS:
        value, grad = judge(logits, target, compute=compute, reduction=reduction, **options)
        for isa in xent.info()["isas"]:
            xent.set_isa(isa)
            got = loss(*views, reduction=reduction, **options)
            scalar = reduction in ("sum", "mean")
            result = compute if scalar else dtype
            within(got, value, result, (isa, reduction, names), budget)
            if reduction in WITH_GRAD:
                again, slope = loss(*views, reduction=reduction, return_grad=True, **options)
                # The same divisor and the same terms, whether or not the gradient is wanted too.
                within(again, value, result, (isa, reduction, names, "with gradient"), budget)
                within(slope, grad, dtype, (isa, reduction, names, "gradient"), budget)


def ce_options(rng, labels):
    keep = rng.random((N, C)) < 0.75
    keep[2] = False
    keep[3:] |= np.eye(C, dtype=bool)[[0, 1, 2, 3]]
    single = [
        {"weight": rng.random(C) + 0.1},
        {"weight": np.array([1.0, 0.0, 2.0, 0.5, 1.0, 3.0])},
        {"sample_weight": rng.random(N)},
        {"sample_weight": np.array([0.0, 1, 2, 0, 1, 1, 3])},
        {"where": keep},
        {"label_smoothing": 0.1},
        {"label_smoothing": 1.0},
    ]
    if labels:
        single += [{"ignore_index": 1}, {"ignore_index": -100}]
    combined = []
    for a, b in itertools.combinations(single, 2):
        if not set(a) & set(b):
            combined.append(a | b)
    everything = {"weight": rng.random(C) + 0.1, "sample_weight": rng.random(N), "where": keep, "label_smoothing": 0.2}
    combined.append(everything | ({"ignore_index": 1} if labels else {}))
    return [{}, *single, *combined]


def labels_for(options, rng):
    labels = rng.integers(C, size=N)
    labels[:2] = 1
    labels[-1] = 2  # counts whatever the options, so that the mean has a divisor
    if options.get("ignore_index") == -100:
        labels[[0, 4]] = -100
    return labels


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("kind", ["labels", "probs"])
def test_cross_entropy_options(kind, dtype, rng):
    for options in ce_options(rng, kind == "labels"):
        x = (2 * rng.standard_normal((N, C))).astype(dtype)
        target = labels_for(options, rng) if kind == "labels" else cases.second("probs", "random", x, rng)
        check(losses.cross_entropy, oracle.losses_cross_entropy, x, target, dtype, options)


@pytest.mark.parametrize("kind", ["labels", "probs"])
def test_cross_entropy_options_class_axis_not_contiguous(kind, rng):
    for options in ce_options(rng, kind == "labels"):
        x = 2 * rng.standard_normal((N, C))
        target = labels_for(options, rng) if kind == "labels" else cases.second("probs", "random", x, rng)
        check(losses.cross_entropy, oracle.losses_cross_entropy, x, target, "f8", options, np.asfortranarray)


def kl_options(rng):
    keep = rng.random((N, C)) < 0.75
    keep[2] = False
    keep[3:, 0] = True
    # Halves and quarters divide exactly, so that the oracle's division by T rounds like any other.
    temperatures = [2.0, 0.5, 4.0 ** rng.integers(-1, 2, size=N)]
    single = [
        {"sample_weight": rng.random(N)},
        {"where": keep},
        *({"temperature": t} for t in temperatures),
        {"temperature": 3.0},
    ]
    combined = []
    for a, b in itertools.combinations(single, 2):
        if not set(a) & set(b):
            combined.append(a | b)
    combined.append({"sample_weight": rng.random(N), "where": keep, "temperature": temperatures[2]})
    return [{}, *single, *combined]


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("kind", ["probs", "log_probs", "logits"])
def test_kl_div_options(kind, dtype, rng):
    for options in kl_options(rng):
        x = (2 * rng.standard_normal((N, C))).astype(dtype)
        target = cases.second(kind, "random", x, rng)
        check(losses.kl_div, oracle.losses_kl_div, x, target, dtype, options | {"target_kind": kind})


@pytest.mark.parametrize("kind", ["probs", "log_probs", "logits"])
def test_kl_div_options_class_axis_not_contiguous(kind, rng):
    for options in kl_options(rng):
        x = 2 * rng.standard_normal((N, C))
        target = cases.second(kind, "random", x, rng)
        check(losses.kl_div, oracle.losses_kl_div, x, target, "f8", options | {"target_kind": kind}, np.asfortranarray)


def nll_options(rng):
    return [options for options in ce_options(rng, True) if "label_smoothing" not in options] + [
        {"weight": rng.random(C), "sample_weight": rng.random(N), "where": rng.random((N, C)) < 0.6, "ignore_index": 1}
    ]


def bce_options(rng):
    keep = rng.random((N, C)) < 0.75
    keep[2] = False
    single = [
        {"weight": rng.random(C) + 0.1},
        {"weight": np.array([1.0, 0.0, 2.0, 0.5, 1.0, 3.0])},
        {"pos_weight": rng.random(C) * 4},
        {"pos_weight": np.array([1.0, 0.0, 2.0, 0.5, 1.0, 3.0])},
        {"sample_weight": rng.random(N)},
        {"where": keep},
    ]
    combined = [a | b for a, b in itertools.combinations(single, 2) if not set(a) & set(b)]
    combined.append(
        {"weight": rng.random(C), "pos_weight": rng.random(C), "sample_weight": rng.random(N), "where": keep}
    )
    return [{}, *single, *combined]


@pytest.mark.parametrize("layout", [np.asarray, np.asfortranarray], ids=["C", "F"])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2"])
def test_nll_options(dtype, layout, rng):
    for options in nll_options(rng):
        x = np.log(cases.softmax64(2 * rng.standard_normal((N, C)))).astype(dtype)
        check(losses.nll, oracle.losses_nll, x, labels_for(options, rng), dtype, options, layout)


@pytest.mark.parametrize("layout", [np.asarray, np.asfortranarray], ids=["C", "F"])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2"])
def test_binary_cross_entropy_options(dtype, layout, rng):
    for options in bce_options(rng):
        x = (3 * rng.standard_normal((N, C))).astype(dtype)
        target = cases.second("unit", "random", x, rng)
        check(losses.binary_cross_entropy, oracle.losses_binary_cross_entropy, x, target, dtype, options, layout)


@pytest.mark.parametrize("layout", [np.asarray, np.asfortranarray], ids=["C", "F"])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2"])
def test_js_div_options(dtype, layout, rng):
    for options in kl_options(rng):
        x, y = (2 * rng.standard_normal((2, N, C))).astype(dtype)
        check(losses.js_div, oracle.losses_js_div, x, y, dtype, options, layout)


@pytest.mark.parametrize("beta", [1e-12, 0.1, 0.5, np.nextafter(0.5, 1), 0.97, 1 - 1e-9])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2"])
def test_js_div_of_a_beta(dtype, beta, rng):
    keep = rng.random((N, C)) < 0.75
    for size in (0.3, 2.0, 8.0):
        x, y = (size * rng.standard_normal((2, N, C))).astype(dtype)
        y[0, 1], x[1, 2], x[2, 3] = -np.inf, -np.inf, -np.inf
        y[2, 3] = -np.inf
        for options in ({}, {"where": keep, "sample_weight": rng.random(N), "temperature": 0.7}):
            for layout in (np.asarray, np.asfortranarray):
                check(losses.js_div, oracle.losses_js_div, x, y, dtype, options | {"beta": beta}, layout, budget=12.0)


def test_js_divs_limits(rng):
    """Over beta, or over 1 - beta, it tends to KL each way."""
    x, y = rng.standard_normal((2, N, C))
    one, other = losses.kl_div(y, x, target_kind="logits"), losses.kl_div(x, y, target_kind="logits")
    for beta in (1e-9, 1e-300):
        np.testing.assert_allclose(losses.js_div(x, y, beta=beta) / beta, one, rtol=4e-9)
    np.testing.assert_allclose(losses.js_div(x, y, beta=1 - 2**-40) * 2**40, other, rtol=4e-12)
    disjoint = losses.js_div([0.0, -np.inf], [-np.inf, 0.0], beta=0.25)
    np.testing.assert_allclose(disjoint, 0.25 * np.log(4) + 0.75 * np.log(4 / 3), rtol=1e-15)


@pytest.mark.parametrize("beta", [0, 1, 0.0, -0.5, 1.5, np.nan])
def test_beta_lies_between_0_and_1(beta):
    with pytest.raises(ValueError, match=f"js_div: beta must .* 0.* 1, got {beta!r}"):
        losses.js_div(np.zeros(3), np.zeros(3), beta=beta)


@pytest.mark.parametrize("classes", [10, 40, 300])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_more_classes(classes, dtype, rng):
    """Vector bodies and tails of the options, which rows of six classes do not reach."""
    x = (2 * rng.standard_normal((5, classes))).astype(dtype)
    keep = rng.random(x.shape) < 0.8
    keep[:, 0] = True
    weight, sw = rng.random(classes) + 0.1, rng.random(5)
    t = cases.second("probs", "random", x, rng)
    y = cases.second("logits", "random", x, rng)
    ce = {"weight": weight, "sample_weight": sw, "where": keep, "label_smoothing": 0.1}
    check(losses.cross_entropy, oracle.losses_cross_entropy, x, t, dtype, ce)
    check(losses.cross_entropy, oracle.losses_cross_entropy, x, np.zeros(5, int), dtype, ce)
    kl = {"sample_weight": sw, "where": keep, "temperature": 2.0}
    check(losses.kl_div, oracle.losses_kl_div, x, y, dtype, kl | {"target_kind": "logits"})
    check(losses.kl_div, oracle.losses_kl_div, x, t, dtype, kl)
    check(losses.js_div, oracle.losses_js_div, x, y, dtype, kl)
    unit = cases.second("unit", "random", x, rng)
    bce = {"weight": weight, "pos_weight": rng.random(classes), "sample_weight": sw}
    check(losses.binary_cross_entropy, oracle.losses_binary_cross_entropy, x, unit, dtype, bce)
    check(losses.binary_cross_entropy, oracle.losses_binary_cross_entropy, x, unit, dtype, bce | {"where": keep})


@pytest.mark.parametrize("reduction", ["sum", "mean", "per_class"])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_reductions_over_many_rows(reduction, dtype, rng, isa):
    """Sums over rows are wider than the dtype: 200,000 equal losses add up without drift."""
    n = 200_000
    x = np.zeros((n, 3), dtype)
    target = np.zeros(n, np.int8)
    one = np.log(3.0)
    expected = {"sum": n * one, "mean": one, "per_class": [n * one, 0.0, 0.0]}[reduction]
    got = losses.cross_entropy(x, target, reduction=reduction)
    np.testing.assert_allclose(got, expected, rtol=2 * np.finfo(dtype).eps)


# ---- gradients by finite differences -------------------------------------------------------------------------------


def central_differences(f, x, h=1e-5):
    """d f(x) / d x, one entry at a time; f returns a scalar or one value a row of x (then only that row matters)."""
    grad = np.empty_like(x)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += h
        down[index] -= h
        difference = np.asarray(f(up) - f(down)) / (up[index] - down[index])
        grad[index] = difference if difference.ndim == 0 else difference[index[0]]
    return grad


@pytest.mark.parametrize("reduction", WITH_GRAD)
@pytest.mark.parametrize("kind", ["labels", "probs"])
def test_cross_entropy_gradient(kind, reduction, rng):
    for options in ce_options(rng, kind == "labels"):
        x = rng.standard_normal((N, C))
        target = labels_for(options, rng) if kind == "labels" else cases.second("probs", "random", x, rng) * 1.3

        def f(z, target=target, options=options):
            return losses.cross_entropy(z, target, reduction=reduction, **options)

        _, grad = losses.cross_entropy(x, target, reduction=reduction, return_grad=True, **options)
        np.testing.assert_allclose(grad, central_differences(f, x), atol=3e-9)


@pytest.mark.parametrize("reduction", WITH_GRAD)
@pytest.mark.parametrize("kind", ["probs", "log_probs", "logits"])
def test_kl_div_gradient(kind, reduction, rng):
    for options in [*kl_options(rng), {"temperature": 0.7}]:
        x = rng.standard_normal((N, C))
        target = cases.second(kind, "random", x, rng)

        def f(z, target=target, options=options):
            return losses.kl_div(z, target, target_kind=kind, reduction=reduction, **options)

        _, grad = losses.kl_div(x, target, target_kind=kind, reduction=reduction, return_grad=True, **options)
        np.testing.assert_allclose(grad, central_differences(f, x), atol=3e-9)


@pytest.mark.parametrize("name", cases.GRAD_NAMES)
def test_callable_gradients(name, rng):
    x, target = cases.operands(name, "random", 4, 5, np.float64, rng)
    if cases.SECOND[name] in ("probs",):
        target = target * 1.5
    value, grad = getattr(xent, name)(x, target)
    plain = getattr(xent, name.removesuffix("_value_and_grad"))
    np.testing.assert_allclose(value, plain(x, target), rtol=1e-14)
    np.testing.assert_allclose(grad, central_differences(lambda z: plain(z, target), x), atol=3e-9)


@pytest.mark.parametrize("reduction", WITH_GRAD)
def test_the_gradient_of_the_target(reduction, rng):
    """Of KL with respect to the target's logits, under all options; near rows keep its digits."""
    x, y = rng.standard_normal((2, N, C))
    for options in [*kl_options(rng), {"temperature": 0.7}]:

        def f(z, options=options):
            return losses.kl_div(x, z, target_kind="logits", reduction=reduction, **options)

        value, grad = losses.kl_div(
            x, y, target_kind="logits", reduction=reduction, return_grad=True, grad_of="target", **options
        )
        np.testing.assert_array_equal(value, f(y))
        np.testing.assert_allclose(grad, central_differences(f, y), atol=3e-9)
    near = x + 1e-9 * y
    _, grad = losses.kl_div(x, near, target_kind="logits", reduction="sum", return_grad=True, grad_of="target")
    p, d = cases.softmax64(near), near - x
    np.testing.assert_allclose(grad, p * (d - (p * d).sum(axis=1, keepdims=True)), rtol=1e-12, atol=1e-24)


def test_what_grad_of_takes():
    x = np.zeros((2, 3))
    for options, message in [
        ({"grad_of": "teacher"}, "grad_of must be logits or target, got 'teacher'"),
        ({"grad_of": "target", "target_kind": "logits"}, "goes with return_grad=True"),
        ({"grad_of": "target", "return_grad": True}, 'goes with return_grad=True and target_kind="logits"'),
    ]:
        with pytest.raises(ValueError, match=message):
            losses.kl_div(x, x, **options)


@pytest.mark.parametrize("reduction", WITH_GRAD)
def test_the_hessian_is_the_gradients_derivative(reduction, rng):
    """Its diagonal, of cross-entropy with labels and with probabilities, under all options; and what it comes with."""
    x = rng.standard_normal((N, C))
    probs = 1.3 * cases.second("probs", "random", x, rng)
    for labels, options in [(kind, options) for kind in (False, True) for options in ce_options(rng, kind)]:
        target = labels_for(options, rng) if labels else probs

        def slope(z, target=target, options=options):
            return losses.cross_entropy(z, target, reduction=reduction, return_grad=True, **options)

        value, grad, hess = losses.cross_entropy(
            x, target, reduction=reduction, return_grad=True, return_hess=True, **options
        )
        np.testing.assert_array_equal(value, slope(x)[0])
        np.testing.assert_array_equal(grad, slope(x)[1])
        alone = losses.cross_entropy(x, target, reduction=reduction, return_hess=True, **options)
        np.testing.assert_array_equal(hess, alone[1])
        for c in range(C):
            step = np.where(np.arange(C) == c, 1e-5, 0)
            expected = (slope(x + step)[1] - slope(x - step)[1])[:, c] / 2e-5
            np.testing.assert_allclose(hess[:, c], expected, atol=1e-9)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_confident_classes_keep_the_hessians_digits(dtype):
    """1 - p of the likely class is what the others sum up to."""
    x = np.array([[40, 0, 0], [0, 40, 0]], dtype)
    for target in (np.array([0, 0]), np.array([[1, 0, 0], [0.5, 0.5, 0]], dtype)):
        _, hess = losses.cross_entropy(x, target, reduction="sum", return_hess=True)
        small = np.exp(-40.0)
        expected = np.where(x == 40, 2 * small, small)
        np.testing.assert_allclose(hess, expected, rtol=8 * np.finfo(dtype).eps)


def test_the_hessian_goes_with_one_value():
    with pytest.raises(ValueError, match="return_hess goes with one value a row or in all, not with reduction='terms'"):
        losses.cross_entropy(np.zeros((2, 3)), [0, 1], reduction="terms", return_hess=True)


@pytest.mark.parametrize("reduction", WITH_GRAD)
def test_the_other_gradients(reduction, rng):
    """nll with respect to the log-probabilities, the rest to the logits; js_div to the first operand."""
    x, y = rng.standard_normal((2, N, C))
    target = cases.second("unit", "random", x, rng)
    calls = [(losses.nll, labels_for(options, rng), options) for options in nll_options(rng)]
    calls += [(losses.binary_cross_entropy, target * 1.3, options) for options in bce_options(rng)]
    calls += [(losses.js_div, y, options) for options in [*kl_options(rng), {"temperature": 0.7}]]
    for loss, second, options in calls:

        def f(z, loss=loss, second=second, options=options):
            return loss(z, second, reduction=reduction, **options)

        _, grad = loss(x, second, reduction=reduction, return_grad=True, **options)
        np.testing.assert_allclose(grad, central_differences(f, x), atol=3e-9)


# ---- distillation --------------------------------------------------------------------------------------------------


def distillation_options(rng):
    keep = rng.random((N, C)) < 0.75
    keep[2] = False
    keep[3:, 0] = True
    for temperature in (2.0, rng.random(N) + 0.5):
        for squared in (True, False):
            common = {"temperature": temperature, "scale_by_temperature_squared": squared}
            more = {"sample_weight": rng.random(N), "where": keep}
            yield common
            yield common | more
            hard = {"labels": rng.integers(C, size=N), "alpha": 0.3}
            hard["labels"][:2] = 1
            for extra in ({}, more, {"weight": rng.random(C)}, {"ignore_index": 1}):
                yield common | hard | extra
            yield common | hard | more | {"weight": rng.random(C), "ignore_index": 1}


def recipe(x, y, reduction, temperature, scale_by_temperature_squared, labels=None, alpha=1.0, **options):
    """The documented formula, row by row, from the two losses that it joins."""
    counts = np.ones(N, bool)
    if "ignore_index" in options:
        counts &= labels != options["ignore_index"]
    keep = options.get("where", np.ones((N, C), bool)) & counts[:, None]
    counts = keep.any(axis=1)
    shape = "terms" if reduction in ("terms", "per_class") else "none"
    tall = (slice(None), None) if shape == "terms" else slice(None)
    factor = alpha * (np.broadcast_to(temperature, N) ** 2 if scale_by_temperature_squared else np.ones(N))
    rows = losses.kl_div(x, y, target_kind="logits", temperature=temperature, where=keep, reduction=shape)
    rows = factor[tall] * rows
    if labels is not None:
        safe = np.where(counts, labels, 0)
        hard = losses.cross_entropy(x, safe, weight=options.get("weight"), where=keep, reduction=shape)
        rows = rows + (1 - alpha) * hard
    weights = np.broadcast_to(options.get("sample_weight", 1.0), N)
    rows = rows * weights[tall]
    if reduction in ("none", "terms"):
        return rows
    if reduction == "per_class":
        return rows.sum(axis=0)
    return rows.sum() / (weights[counts].sum() if reduction == "mean" else 1.0)


@pytest.mark.parametrize("layout", [np.asarray, np.asfortranarray], ids=["C", "F"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_distillation_is_its_formula(reduction, layout, rng):
    for options in distillation_options(rng):
        x, y = rng.standard_normal((2, N, C))
        expected = recipe(x, y, reduction, **options)
        got = losses.distillation(layout(x), layout(y), reduction=reduction, **options)
        np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-15)
        moved = options | ({"where": options["where"].T} if "where" in options else {})
        turned = losses.distillation(x.T, y.T, reduction=reduction, axis=0, **moved)
        np.testing.assert_allclose(turned.T if reduction == "terms" else turned, expected, rtol=1e-13, atol=1e-15)
        if reduction in WITH_GRAD:
            value, grad = losses.distillation(layout(x), layout(y), reduction=reduction, return_grad=True, **options)
            np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-15)
            slopes = central_differences(lambda z, y=y, o=options: recipe(z, y, reduction, **o), x)
            np.testing.assert_allclose(grad, slopes, atol=1e-8)


def test_distillation_temperature_factors(rng):
    """The value holds T^2 and the gradient T, or neither and 1/T."""
    x, y = rng.standard_normal((2, 5, 4))
    for t in (0.5, 3.0):
        kl, slope = losses.kl_div(x, y, target_kind="logits", temperature=t, return_grad=True)
        np.testing.assert_allclose(slope, (cases.softmax64(x / t) - cases.softmax64(y / t)) / (5 * t), atol=1e-15)
        value, grad = losses.distillation(x, y, temperature=t, return_grad=True)
        assert value == pytest.approx(t**2 * kl, rel=1e-14)
        np.testing.assert_allclose(grad, t**2 * slope, rtol=1e-12, atol=1e-16)
        value, grad = losses.distillation(x, y, temperature=t, scale_by_temperature_squared=False, return_grad=True)
        assert value == pytest.approx(kl, rel=1e-14)
        np.testing.assert_allclose(grad, slope, rtol=1e-12, atol=1e-16)


def test_distillation_of_rows_that_do_not_count(rng):
    x, y = rng.standard_normal((2, 4, 3))
    labels = np.array([0, -100, 2, 1])
    kept = [0, 2, 3]
    x[1] = y[1] = np.nan
    for options in ({"ignore_index": -100}, {}):
        given = labels if options else np.ma.masked_array(np.abs(labels), labels == -100)
        value, grad = losses.distillation(x, y, given, temperature=2.0, alpha=0.5, return_grad=True, **options)
        expected, slope = losses.distillation(
            x[kept], y[kept], labels[kept], temperature=2.0, alpha=0.5, return_grad=True
        )
        assert value == pytest.approx(expected, rel=1e-15)
        np.testing.assert_allclose(grad[kept], slope, rtol=1e-14)
        assert not grad[1].any()
    hidden = np.zeros((4, 3), bool)
    hidden[:, 1] = True
    student = np.ma.masked_array(x, hidden)
    teacher = np.ma.masked_array(y, hidden)
    plain = losses.distillation(x[kept], y[kept], [0, 2, 1], temperature=2.0, alpha=0.5, where=~hidden[kept])
    for pair in ((student, y), (x, teacher), (student, teacher)):
        got = losses.distillation(*pair, labels, temperature=2.0, alpha=0.5, ignore_index=-100)
        assert got == pytest.approx(plain, rel=1e-15)
    nothing = np.full(4, -100)
    value, grad = losses.distillation(x, y, nothing, temperature=1.0, alpha=0.5, ignore_index=-100, return_grad=True)
    assert np.isnan(value)
    assert not grad.any()
    assert losses.distillation(x, y, nothing, temperature=1.0, alpha=0.5, ignore_index=-100, reduction="sum") == 0
    assert np.isnan(losses.distillation(np.zeros((0, 3)), np.zeros((0, 3)), temperature=1.0))


def test_distillation_dtypes_and_single_rows(rng):
    x, y = rng.standard_normal((2, 3, 4)).astype(np.float32)
    for reduction in ("none", "terms", "mean"):
        for pair, dtype in (((x, y), np.float32), ((x, y.astype(np.float64)), np.float64), ((x, y.astype("f2")), "f4")):
            got = losses.distillation(*pair, [0, 1, 2], temperature=2.0, alpha=0.5, reduction=reduction)
            assert got.dtype == dtype
    alone = losses.distillation(x[0], y[0], 2, temperature=2.0, alpha=0.5)
    assert alone == losses.distillation(x[:1], y[:1], [2], temperature=2.0, alpha=0.5)
    halves = {"temperature": 2.0, "return_grad": True}
    for value, grad in (
        losses.distillation(x.astype("f2"), y.astype("f2"), **halves),
        losses.distillation(x.astype("f2"), y.astype("f2"), [0, 1, 2], alpha=0.5, **halves),
    ):
        assert (value.dtype, grad.dtype) == (np.float32, np.float16)


def test_distillation_over_no_weight_is_nan_without_a_warning(rng):
    x, y = rng.standard_normal((2, 2, 3))
    for more in ({}, {"labels": [0, 1], "alpha": 0.5}):
        value, grad = losses.distillation(x, y, temperature=2.0, sample_weight=[1, -1], return_grad=True, **more)
        assert np.isnan(value)
        assert np.isnan(grad).any(axis=1).all()


def test_no_labels_at_all():
    assert np.isnan(losses.cross_entropy(np.zeros((0, 3)), []))
    assert losses.cross_entropy(np.zeros((0, 3)), [], reduction="none").shape == (0,)


# ---- against PyTorch's automatic differentiation -------------------------------------------------------------------


@pytest.mark.slow
def test_gradients_are_torchs(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    functional = torch.nn.functional
    x, y = rng.standard_normal((2, N, C))
    labels, t = rng.integers(C, size=N), rng.random((N, C))
    w, p = rng.random(C), rng.random(C)
    tw, tp, tt, ty, tl = (torch.tensor(a) for a in (w, p, t, y, labels))

    def js(z):
        a, b = torch.log_softmax(z, 1), torch.log_softmax(ty, 1)
        m = torch.logaddexp(a, b) - np.log(2.0)
        return sum(functional.kl_div(m, v, reduction="batchmean", log_target=True) for v in (a, b)) / 2

    def hinton(z):
        soft = functional.kl_div(torch.log_softmax(z / 4, 1), torch.softmax(ty / 4, 1), reduction="batchmean")
        return 0.7 * 16 * soft + 0.3 * functional.cross_entropy(z, tl)

    for what, result, theirs in (
        ("nll", losses.nll(x, labels, weight=w, return_grad=True), lambda z: functional.nll_loss(z, tl, weight=tw)),
        (
            "bce",
            losses.binary_cross_entropy(x, t, weight=w, pos_weight=p, return_grad=True),
            lambda z: functional.binary_cross_entropy_with_logits(z, tt, weight=tw, pos_weight=tp) * C,
        ),
        ("js", losses.js_div(x, y, return_grad=True), js),
        ("distillation", losses.distillation(x, y, labels, temperature=4.0, alpha=0.7, return_grad=True), hinton),
    ):
        z = torch.tensor(x, requires_grad=True)
        value = theirs(z)
        value.backward()
        assert result[0] == pytest.approx(value.item(), rel=1e-12), what
        np.testing.assert_allclose(result[1], z.grad.numpy(), rtol=1e-10, atol=1e-14, err_msg=what)


# ---- Jensen-Shannon ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2"])
def test_js_div_is_bounded_and_symmetric(dtype, rng, isa):
    """To the last bit symmetric, never NaN for finite logits however large, from 0 to log 2."""
    info = np.finfo(dtype)
    most = np.array(np.log(2.0), dtype)
    for scale in (0.0, 1e-6, 1e-2, 1.0, 30.0, 1e3, float(info.max) / 8):
        x, y = (scale * rng.uniform(-1, 1, (2, 500, 9))).astype(dtype)
        x[0], y[0] = info.max, info.min
        x[1, :4], y[1, :4] = info.max, info.min
        x[2, ::2], x[2, 1::2], y[2, ::2], y[2, 1::2] = info.max, info.min, info.min, info.max
        value = losses.js_div(x, y, reduction="none")
        assert ((value >= 0) & (value <= most)).all(), scale
        assert value.tobytes() == losses.js_div(y, x, reduction="none").tobytes()
        assert value[0] == 0
        assert value[2] == most
        terms = losses.js_div(x, y, reduction="terms")
        assert (terms >= 0).all()
        assert terms.tobytes() == losses.js_div(y, x, reduction="terms").tobytes()
        assert not losses.js_div(x, x, reduction="none").any()
        assert np.isfinite(losses.js_div(x, y, reduction="none", return_grad=True)[1]).all()


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_js_div_of_nearly_equal_rows(dtype, offset, rng, isa):
    """Right relative to itself, as kl_div is."""
    distances = {"f8": [1e-1, 1e-2, 1e-4, 1e-6, 1e-8], "f4": [1e-1, 1e-2, 1e-3]}[dtype]
    for classes in (3, 10, 37, 1000):
        y = 2 * rng.standard_normal((len(distances), classes))
        x = (y + np.array(distances)[:, None] * rng.standard_normal(y.shape) + offset).astype(dtype)
        y = y.astype(dtype)
        ref = oracle.evaluate("js_div", x, y)[0]
        wrong = oracle.errors(losses.js_div(x, y, reduction="none"), ref)
        assert (wrong <= cases.NEAR_EQUAL_EPS * np.finfo(dtype).eps * ref.hi).all(), (classes, wrong / ref.hi)


# ---- yes or no -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_binary_cross_entropy_keeps_small_losses(dtype, isa):
    """A confident, right class: value and gradient are exp(-|x|), not 0."""
    x = np.array([[40.0, -60.0, 80.0], [20.0, 30.0, -50.0]], dtype)
    target = (x > 0).astype(dtype)
    value, grad = losses.binary_cross_entropy(x, target, reduction="none", return_grad=True)
    for got, ref in zip((value, grad), oracle.evaluate("binary_cross_entropy_value_and_grad", x, target), strict=True):
        assert (oracle.errors(got, ref) <= 4 * np.finfo(dtype).eps * np.abs(ref.hi)).all()


def test_binary_cross_entropy_takes_bools_and_integers(rng):
    x = rng.standard_normal((4, 3)).astype(np.float32)
    yes = rng.random((4, 3)) < 0.5
    expected = losses.binary_cross_entropy(x, yes.astype(np.float32), reduction="terms")
    for target in (yes, yes.astype(np.uint8), yes.astype(np.int64)):
        got = losses.binary_cross_entropy(x, target, reduction="terms")
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, expected)
    masked = np.ma.masked_array(np.where([False, True, True], yes, 7), [[True, False, False]] * 4)
    np.testing.assert_array_equal(
        losses.binary_cross_entropy(x, masked, reduction="terms"), expected * np.array([0, 1, 1], np.float32)
    )


def test_nll_looks_at_the_label_alone(rng):
    x = np.full((3, 4), np.nan)
    x[[0, 1, 2], [3, 1, 0]] = [-1.0, -2.0, 5.0]
    assert losses.nll(x, [3, 1, 0], reduction="none").tolist() == [1.0, 2.0, -5.0]
    assert losses.nll(x, [3, 1, 0], reduction="terms")[0].tolist() == [0, 0, 0, 1]
    logits = rng.standard_normal((20, 7))
    labels = rng.integers(7, size=20)
    expected = losses.cross_entropy(logits, labels)
    assert losses.nll(xent.log_softmax(logits), labels) == pytest.approx(expected, rel=1e-14)


def test_the_others_when_nothing_counts(rng):
    x, y = rng.standard_normal((2, 3, 4))
    none = np.zeros((3, 4), bool)
    labels = np.full(3, -100)
    for call in (
        lambda **o: losses.nll(x, labels, ignore_index=-100, **o),
        lambda **o: losses.nll(x, np.zeros(3, int), where=none, **o),
        lambda **o: losses.binary_cross_entropy(x, y, where=none, **o),
        lambda **o: losses.js_div(x, y, where=none, **o),
    ):
        assert np.isnan(call())
        assert call(reduction="sum") == 0
        assert call(reduction="none").tolist() == [0, 0, 0]
        assert not call(reduction="terms").any()
        assert not call(reduction="per_class").any()
        value, grad = call(return_grad=True)
        assert np.isnan(value)
        assert not grad.any()


# ---- what the words mean -------------------------------------------------------------------------------------------


def test_mean_is_pytorchs(rng):
    """Labels: sum of w_y nll over sum of w_y. Probabilities: over the number of samples, whatever the class weights."""
    x = rng.standard_normal((5, 3))
    y = np.array([0, 2, 1, 1, 0])
    w = np.array([0.2, 3.0, 1.0])
    logp = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    nll = -logp[np.arange(5), y]
    assert losses.cross_entropy(x, y, weight=w) == pytest.approx((w[y] * nll).sum() / w[y].sum(), rel=1e-14)
    kept = y != 1
    assert losses.cross_entropy(x, y, weight=w, ignore_index=1) == pytest.approx(
        (w[y] * nll)[kept].sum() / w[y][kept].sum(), rel=1e-14
    )
    t = np.eye(3)[y]
    assert losses.cross_entropy(x, t, weight=w) == pytest.approx((w[y] * nll).sum() / 5, rel=1e-14)
    smooth = 0.9 * t + 0.1 / 3
    expected = -(smooth * w * logp).sum() / w[y].sum()
    assert losses.cross_entropy(x, y, weight=w, label_smoothing=0.1) == pytest.approx(expected, rel=1e-14)
    sw = np.array([1.0, 2.0, 0.5, 0.0, 1.5])
    assert losses.cross_entropy(x, y, sample_weight=sw) == pytest.approx((sw * nll).sum() / sw.sum(), rel=1e-14)
    assert losses.cross_entropy(x, y) == pytest.approx(nll.mean(), rel=1e-14)
    kl = (t * 0.5 + 0.5 / 3) * (np.log(t * 0.5 + 0.5 / 3) - logp)
    assert losses.kl_div(x, t * 0.5 + 0.5 / 3) == pytest.approx(kl.sum() / 5, rel=1e-13)


def test_everything_ignored(rng):
    """A mean of nothing is NaN, said without a warning; the rows are 0 and so are their gradients."""
    x = rng.standard_normal((3, 4))
    y = np.full(3, -100)
    none = np.zeros((3, 4), bool)
    for options in ({"ignore_index": -100}, {"where": none}):
        labels = y if "ignore_index" in options else np.zeros(3, int)
        assert np.isnan(losses.cross_entropy(x, labels, **options))
        assert losses.cross_entropy(x, labels, reduction="sum", **options) == 0
        assert losses.cross_entropy(x, labels, reduction="none", **options).tolist() == [0, 0, 0]
        assert not losses.cross_entropy(x, labels, reduction="terms", **options).any()
        assert not losses.cross_entropy(x, labels, reduction="per_class", **options).any()
        value, grad = losses.cross_entropy(x, labels, return_grad=True, **options)
        assert np.isnan(value)
        assert grad.tolist() == np.zeros((3, 4)).tolist()
    assert np.isnan(losses.kl_div(x, x, target_kind="logits", where=none))
    assert np.isnan(losses.cross_entropy(x, [0, 1, 2], sample_weight=np.zeros(3)))


def test_ignored_rows_may_hold_anything(rng):
    x = rng.standard_normal((3, 4))
    x[1] = np.nan
    y = np.array([0, 255, 1], np.uint8)
    value, grad = losses.cross_entropy(x, y, ignore_index=255, return_grad=True)
    expected, slope = losses.cross_entropy(x[[0, 2]], y[[0, 2]], return_grad=True)
    assert value == expected
    np.testing.assert_array_equal(grad[[0, 2]], slope)
    assert not grad[1].any()
    np.testing.assert_array_equal(
        losses.cross_entropy(x, y, ignore_index=255, reduction="per_class"),
        losses.cross_entropy(x[[0, 2]], y[[0, 2]], reduction="per_class"),
    )


def test_masked_labels_do_not_count(rng):
    x = rng.standard_normal((4, 3))
    y = np.ma.masked_array([0, 99, 1, 2], [False, True, False, False])
    assert losses.cross_entropy(x, y) == losses.cross_entropy(x, np.array([0, 99, 1, 2]), ignore_index=99)


def test_excluded_classes_may_hold_anything(rng):
    x = rng.standard_normal((4, 5))
    t = cases.softmax64(rng.standard_normal((4, 5)))
    keep = rng.random((4, 5)) < 0.6
    keep[:, 2] = True
    dirty_x, dirty_t = np.where(keep, x, np.nan), np.where(keep, t, np.nan)
    for options in ({"reduction": r} for r in REDUCTIONS):
        clean = losses.cross_entropy(x, t, where=keep, **options)
        np.testing.assert_array_equal(losses.cross_entropy(dirty_x, dirty_t, where=keep, **options), clean)
        clean = losses.kl_div(x, t, where=keep, **options)
        np.testing.assert_array_equal(losses.kl_div(dirty_x, dirty_t, where=keep, **options), clean)


def test_label_of_an_excluded_class(rng):
    """Its target is 0, so its row's loss is 0; the row still counts in the mean."""
    x = rng.standard_normal((2, 3))
    keep = np.array([[False, True, True], [True, True, True]])
    rows = losses.cross_entropy(x, [0, 0], where=keep, reduction="none")
    assert rows[0] == 0
    assert losses.cross_entropy(x, [0, 0], where=keep) == pytest.approx(rows[1] / 2, rel=1e-15)


def test_temperature(rng):
    """It divides logits, the teacher's too, but not probabilities; the gradient holds 1/T, and nothing holds T^2."""
    x, y = rng.standard_normal((2, 6, 4))
    p = cases.softmax64(y)
    for t in (2.0, 3.0, np.linspace(0.5, 3, 6)):
        column = np.broadcast_to(t, 6)[:, None]
        value, grad = losses.kl_div(x, y, target_kind="logits", temperature=t, reduction="none", return_grad=True)
        np.testing.assert_allclose(
            value, losses.kl_div(x / column, y / column, target_kind="logits", reduction="none"), rtol=1e-12
        )
        np.testing.assert_allclose(
            grad, (cases.softmax64(x / column) - cases.softmax64(y / column)) / column, atol=1e-15
        )
        np.testing.assert_allclose(
            losses.kl_div(x, p, temperature=t, reduction="none"),
            losses.kl_div(x / column, p, reduction="none"),
            rtol=1e-12,
        )
    plain = losses.kl_div(x, y, target_kind="logits", reduction="none")
    again = losses.kl_div(x, y, target_kind="logits", reduction="none", temperature=1.0)
    assert plain.tobytes() == again.tobytes()


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_bad_temperature(bad):
    with pytest.raises(ValueError, match="temperature"):
        losses.kl_div(np.zeros((2, 3)), np.zeros((2, 3)), target_kind="logits", temperature=bad)


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_axis(axis, rng):
    x = rng.standard_normal((3, 4, 5))
    keep = rng.random(x.shape) < 0.8
    keep[(slice(None),) * (axis % 3) + (0,)] = True
    t = cases.softmax64(np.moveaxis(rng.standard_normal((3, 4, 5)), axis, -1))
    y = rng.integers(x.shape[axis], size=t.shape[:-1])
    target = np.moveaxis(t, -1, axis)
    back = np.moveaxis(x, axis, -1)
    options = {"where": np.moveaxis(keep, axis, -1), "sample_weight": rng.random(y.shape)}
    moved = options | {"where": keep, "axis": axis}
    for reduction in REDUCTIONS:
        for got, expected in (
            (
                losses.cross_entropy(x, target, reduction=reduction, **moved),
                losses.cross_entropy(back, t, reduction=reduction, **options),
            ),
            (
                losses.cross_entropy(x, y, reduction=reduction, **moved),
                losses.cross_entropy(back, y, reduction=reduction, **options),
            ),
            (
                losses.kl_div(x, target, reduction=reduction, **moved),
                losses.kl_div(back, t, reduction=reduction, **options),
            ),
        ):
            if reduction == "terms":
                got = np.moveaxis(got, axis, -1)
            np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-15)
    _, grad = losses.cross_entropy(x, y, return_grad=True, **moved)
    _, expected = losses.cross_entropy(back, y, return_grad=True, **options)
    np.testing.assert_allclose(np.moveaxis(grad, axis, -1), expected, rtol=1e-13, atol=1e-16)


def test_results_are_scalars_and_dtypes_follow_the_floats(rng):
    x = rng.standard_normal((4, 3)).astype(np.float32)
    y = np.array([0, 1, 2, 0])
    for value in (losses.cross_entropy(x, y), losses.cross_entropy(x, y, reduction="sum")):
        assert isinstance(value, np.float32)
    assert losses.cross_entropy(x, y, weight=np.ones(3), sample_weight=np.ones(4), reduction="none").dtype == np.float32
    assert losses.cross_entropy(x, np.eye(3)[y]).dtype == np.float64
    assert losses.cross_entropy(x.astype(np.float16), y, reduction="per_class").dtype == np.float16
    assert losses.cross_entropy((x > 0).astype(int), y).dtype == np.float64
    assert losses.kl_div(x, x.astype(np.float16), target_kind="logits").dtype == np.float32
    assert losses.cross_entropy(x.tolist(), y.tolist()).dtype == np.float64
    assert losses.cross_entropy(pd.DataFrame(x), pd.Series(y)) == losses.cross_entropy(x, y)
    assert isinstance(losses.cross_entropy(x[0], y[0], reduction="none"), np.float32)
    assert losses.cross_entropy(x[0], 2) == losses.cross_entropy(x[:1], [2])


def test_broadcast_weights(rng):
    x = rng.standard_normal((2, 3, 4))
    y = rng.integers(4, size=(2, 3))
    sw = rng.random((2, 1))
    whole = np.broadcast_to(sw, (2, 3)).copy()
    for reduction in REDUCTIONS:
        np.testing.assert_array_equal(
            losses.cross_entropy(x, y, sample_weight=sw, reduction=reduction),
            losses.cross_entropy(x, y, sample_weight=whole, reduction=reduction),
        )
    assert losses.cross_entropy(x, y, sample_weight=2.0) == losses.cross_entropy(
        x, y, sample_weight=np.full((2, 3), 2.0)
    )


def test_strided_options(rng):
    """Weights and masks in odd layouts and dtypes mean what they hold."""
    x = rng.standard_normal((6, 5))
    y = rng.integers(5, size=6)
    w, sw = rng.integers(1, 9, 5).astype(float), rng.integers(1, 9, 6).astype(float)
    keep = rng.random((6, 5)) < 0.7
    keep[:, 0] = True
    expected = losses.cross_entropy(x, y, weight=w, sample_weight=sw, where=keep, return_grad=True)
    for got in (
        losses.cross_entropy(
            x,
            y,
            weight=np.repeat(w, 2)[::2],
            sample_weight=sw[::-1].copy()[::-1],
            where=np.asfortranarray(keep),
            return_grad=True,
        ),
        losses.cross_entropy(
            x,
            y,
            weight=w.astype(np.float32),
            sample_weight=sw.astype(int).tolist(),
            where=keep.tolist(),
            return_grad=True,
        ),
        losses.cross_entropy(
            x, y, weight=w.astype(">f8"), sample_weight=sw.astype(">f4"), where=keep, return_grad=True
        ),
    ):
        assert got[0] == expected[0]
        np.testing.assert_array_equal(got[1], expected[1])


# ---- errors --------------------------------------------------------------------------------------------------------


X = np.zeros((4, 3))
Y = np.zeros(4, int)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        ((X, Y), {"reduction": "batchmean"}, ValueError, "mean.*per_class|per_class.*mean"),
        ((X, Y), {"reduction": None}, (ValueError, TypeError), "reduction"),
        ((X, Y), {"reduction": "terms", "return_grad": True}, ValueError, "terms"),
        ((X, Y), {"reduction": "per_class", "return_grad": True}, ValueError, "per_class"),
        ((X, Y.astype(bool)), {}, TypeError, "bool"),
        ((X, Y.astype(complex)), {}, TypeError, "complex"),
        ((X, X.astype(int)), {}, (ValueError, TypeError), "one-hot"),
        ((X, Y[:3]), {}, ValueError, r"\(4, 3\).*\(3,\)"),
        ((X, X[:, :2]), {}, ValueError, r"\(4, 3\).*\(4, 2\)"),
        ((X, Y), {"weight": np.ones(4)}, ValueError, "weight.*3|3.*weight"),
        ((X, Y), {"weight": np.ones((1, 3))}, ValueError, "weight"),
        ((X, Y), {"weight": np.ones(3) * 1j}, TypeError, "weight"),
        ((X, Y), {"sample_weight": np.ones(3)}, ValueError, "sample_weight"),
        ((X, Y), {"where": np.ones(4, bool)}, ValueError, "where"),
        ((X, Y), {"where": np.ones((4, 3))}, TypeError, "where"),
        ((X, Y), {"label_smoothing": -0.1}, ValueError, "label_smoothing"),
        ((X, Y), {"label_smoothing": 1.5}, ValueError, "label_smoothing"),
        ((X, Y), {"label_smoothing": np.nan}, ValueError, "label_smoothing"),
        ((X, X), {"ignore_index": 0}, (ValueError, TypeError), "ignore_index"),
        ((X, Y), {"ignore_index": 1.5}, TypeError, "ignore_index|integer"),
        ((X, Y), {"axis": 2}, np.exceptions.AxisError, "axis"),
        ((X, Y), {"temperature": 2.0}, TypeError, "temperature"),
        ((X.astype(complex), Y), {}, TypeError, "complex"),
        ((X.astype(np.longdouble), Y), {}, TypeError, "longdouble|float128"),
        ((X, Y + 3), {}, IndexError, "label 3 at 0 .*3 classes"),
        ((X, Y - 1), {}, IndexError, "label -1 at 0 .*3 classes"),
        ((X, Y + 3), {"label_smoothing": 0.1}, IndexError, "label 3 at 0 .*3 classes"),
        ((X, Y + 3), {"reduction": "per_class"}, IndexError, "label 3 at 0 .*3 classes"),
        ((X, Y - 1), {"ignore_index": -100}, IndexError, "label -1 at 0 .*3 classes"),
    ],
)
def test_cross_entropy_errors(arguments, options, error, match):
    with pytest.raises(error, match=match):
        losses.cross_entropy(*arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        ((X, X), {"target_kind": "prob"}, ValueError, "log_probs"),
        ((X, X), {"reduction": "batchmean"}, ValueError, "per_class"),
        ((X, X), {"reduction": "terms", "return_grad": True}, ValueError, "terms"),
        ((X, X[:, :2]), {}, ValueError, r"\(4, 3\).*\(4, 2\)"),
        ((X, X.astype(complex)), {}, TypeError, "complex"),
        ((X, X), {"temperature": np.ones(3)}, ValueError, "temperature"),
        ((X, X), {"sample_weight": np.ones(3)}, ValueError, "sample_weight"),
        ((X, X), {"where": np.ones(4, bool)}, ValueError, "where"),
        ((X, X), {"weight": np.ones(3)}, TypeError, "weight"),
    ],
)
def test_kl_div_errors(arguments, options, error, match):
    with pytest.raises(error, match=match):
        losses.kl_div(*arguments, **options)


Z = {"temperature": 1.0, "alpha": 0.5}


@pytest.mark.parametrize(
    ("loss", "arguments", "options", "error", "match"),
    [
        ("nll", (X, X), {}, TypeError, "labels must be integers"),
        ("nll", (X, Y + 3), {}, IndexError, "label 3 at 0 .*3 classes"),
        ("nll", (X, Y + 3), {"reduction": "terms"}, IndexError, "label 3 at 0 .*3 classes"),
        ("nll", (X, Y), {"weight": np.ones(4)}, ValueError, "weight.*3"),
        ("nll", (X, Y), {"reduction": "terms", "return_grad": True}, ValueError, "terms"),
        ("nll", (X.astype(complex), Y), {}, TypeError, "log_probs.*complex"),
        ("binary_cross_entropy", (X, X[:, :2]), {}, ValueError, r"\(4, 3\).*\(4, 2\)"),
        ("binary_cross_entropy", (X, X.astype(int) + 2), {}, ValueError, r"0 or 1.*not 2 \(at \(0, 0\)\)"),
        ("binary_cross_entropy", (X, X.astype(complex)), {}, TypeError, "target.*complex"),
        ("binary_cross_entropy", (X, X), {"pos_weight": np.ones(4)}, ValueError, r"pos_weight.*\(4,\).*\(3,\)"),
        ("binary_cross_entropy", (X, X), {"pos_weight": 2.0}, ValueError, r"pos_weight.*\(3,\)"),
        ("binary_cross_entropy", (X, X), {"weight": np.ones((1, 3))}, ValueError, "weight"),
        ("binary_cross_entropy", (X, X), {"reduction": "batchmean"}, ValueError, "per_class"),
        ("binary_cross_entropy", (X, X), {"reduction": "per_class", "return_grad": True}, ValueError, "per_class"),
        ("js_div", (X, X[:, :2]), {}, ValueError, r"\(4, 3\).*\(4, 2\)"),
        ("js_div", (X, X.astype(complex)), {}, TypeError, "other_logits.*complex"),
        ("js_div", (X, X), {"temperature": 0.0}, ValueError, "temperature.*0.0"),
        ("js_div", (X, X), {"reduction": "terms", "return_grad": True}, ValueError, "terms"),
        ("distillation", (X, X[:3]), Z, ValueError, r"\(4, 3\).*\(3, 3\)"),
        ("distillation", (X, X, Y), {"temperature": 1.0}, ValueError, "alpha"),
        ("distillation", (X, X), Z, ValueError, "alpha"),
        ("distillation", (X, X), {"temperature": 1.0, "weight": np.ones(3)}, ValueError, "weight"),
        ("distillation", (X, X), {"temperature": 1.0, "ignore_index": 1}, ValueError, "ignore_index"),
        ("distillation", (X, X, Y), Z | {"alpha": 1.5}, ValueError, "alpha.*1.5"),
        ("distillation", (X, X, Y), Z | {"alpha": np.nan}, ValueError, "alpha"),
        ("distillation", (X, X, Y), Z | {"temperature": -1.0}, ValueError, "temperature.*-1.0"),
        ("distillation", (X, X, Y), Z | {"temperature": np.ones(3)}, ValueError, "temperature"),
        ("distillation", (X, X, Y), Z | {"sample_weight": np.ones(3)}, ValueError, "sample_weight"),
        ("distillation", (X, X, Y), Z | {"sample_weight": np.ones((2, 4))}, ValueError, "sample_weight"),
        ("distillation", (X, X, Y), Z | {"where": np.ones((4, 3))}, TypeError, "where"),
        ("distillation", (X, X, Y), Z | {"where": np.ones(4, bool)}, ValueError, "where"),
        ("distillation", (X, X, X), Z, TypeError, "labels must be integers"),
        ("distillation", (X, X, Y * 1.0), Z, TypeError, "labels"),
        ("distillation", (X, X, Y + 3), Z, IndexError, "label 3 at 0 .*3 classes"),
        ("distillation", (X, X, Y), Z | {"axis": 2}, np.exceptions.AxisError, "axis"),
        ("distillation", (X, X, Y), Z | {"reduction": "terms", "return_grad": True}, ValueError, "terms"),
        ("distillation", (X, X.astype(complex), Y), Z, TypeError, "teacher_logits.*complex"),
    ],
)
def test_other_errors(loss, arguments, options, error, match):
    with pytest.raises(error, match=match):
        getattr(losses, loss)(*arguments, **options)


def test_signatures():
    assert str(inspect.signature(losses.cross_entropy)).replace(" ", "").startswith("(logits")
    ce = inspect.signature(losses.cross_entropy).parameters
    assert {n: p.default for n, p in ce.items() if p.kind is p.KEYWORD_ONLY} == {
        "axis": -1,
        "weight": None,
        "sample_weight": None,
        "ignore_index": None,
        "where": None,
        "label_smoothing": 0.0,
        "reduction": "mean",
        "return_grad": False,
        "return_hess": False,
        "dtype": None,
    }
    kl = inspect.signature(losses.kl_div).parameters
    assert {n: p.default for n, p in kl.items() if p.kind is p.KEYWORD_ONLY} == {
        "axis": -1,
        "target_kind": "probs",
        "temperature": 1.0,
        "sample_weight": None,
        "where": None,
        "reduction": "mean",
        "return_grad": False,
        "grad_of": "logits",
        "dtype": None,
    }


# ---- memory --------------------------------------------------------------------------------------------------------


def peak_of(f):
    f()
    tracemalloc.start()
    try:
        f()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def memory_calls(rng):
    n, c = 2000, 500
    x = rng.standard_normal((n, c)).astype(np.float32)
    t = cases.softmax64(x).astype(np.float32)
    y = rng.integers(c, size=n).astype(np.int32)
    keep = np.broadcast_to(rng.random(c) < 0.9, x.shape)
    column = rng.random(n)
    limit = x.nbytes // 8
    many = {"weight": rng.random(c), "sample_weight": column, "where": keep, "label_smoothing": 0.1}
    for reduction in ("none", "sum", "mean", "per_class"):
        yield f"labels {reduction}", limit, lambda r=reduction: losses.cross_entropy(x, y, reduction=r)
        yield f"labels, options {reduction}", limit, lambda r=reduction: losses.cross_entropy(x, y, reduction=r, **many)
        yield f"probs {reduction}", limit, lambda r=reduction: losses.cross_entropy(x, t, reduction=r)
        yield f"probs, options {reduction}", limit, lambda r=reduction: losses.cross_entropy(x, t, reduction=r, **many)
        yield f"kl {reduction}", limit, lambda r=reduction: losses.kl_div(x, t, reduction=r)
        yield (
            f"kl, T {reduction}",
            limit,
            lambda r=reduction: losses.kl_div(
                x, t, target_kind="logits", reduction=r, temperature=column + 0.5, sample_weight=column
            ),
        )
    own = {"weight": rng.random(c), "sample_weight": column}
    for reduction in ("none", "sum", "mean", "per_class"):
        yield f"nll {reduction}", limit, lambda r=reduction: losses.nll(x, y, reduction=r, **own)
        yield f"js {reduction}", limit, lambda r=reduction: losses.js_div(x, t, reduction=r, temperature=column + 0.5)
        yield (
            f"bce {reduction}",
            limit,
            lambda r=reduction: losses.binary_cross_entropy(x, t, reduction=r, pos_weight=own["weight"], **own),
        )
        yield (
            f"distillation {reduction}",
            limit,
            lambda r=reduction: losses.distillation(
                x, t, y, temperature=2.0, alpha=0.5, ignore_index=3, reduction=r, **own
            ),
        )
    wide = t.astype(np.float64)
    yield "mixed dtypes", limit, lambda: losses.kl_div(x, wide)
    swapped = x.astype(">f4")
    yield "byte-swapped", limit, lambda: losses.cross_entropy(swapped, y)
    turned = np.asfortranarray(x)
    yield "Fortran", limit, lambda: losses.cross_entropy(turned, t)
    yield "class axis first", limit, lambda: losses.kl_div(x, t, axis=0)
    strided = np.repeat(x, 2, axis=1)[:, ::2]
    yield "strided", limit, lambda: losses.cross_entropy(strided, y, ignore_index=3)
    yield "callable, byte-swapped", limit, lambda: xent.logsumexp(swapped)
    yield "callable, where", limit, lambda: xent.kl_div_with_logits(x, t, where=keep)
    yield "callable, class axis first", limit, lambda: xent.cross_entropy(x, wide, axis=0)
    yield "callable, one axis of two", limit, lambda: xent.logsumexp(x.reshape(n, 5, -1), axis=(1, 2))
    # With a gradient the result itself is of the logits' size, and nothing else is.
    whole = x.nbytes + limit
    yield "gradient, labels", whole, lambda: losses.cross_entropy(x, y, return_grad=True)
    yield "gradient, options", whole, lambda: losses.cross_entropy(x, t, return_grad=True, **many)
    yield "gradient, kl", whole, lambda: losses.kl_div(x, t, target_kind="logits", temperature=2.0, return_grad=True)
    yield "terms", whole, lambda: losses.kl_div(x, t, reduction="terms")
    yield "gradient, nll", whole, lambda: losses.nll(x, y, return_grad=True)
    yield "gradient, js", whole, lambda: losses.js_div(x, t, return_grad=True)
    yield "gradient, bce", whole, lambda: losses.binary_cross_entropy(x, t, return_grad=True, **own)


def test_nothing_of_the_logits_size_is_allocated(rng):
    for what, limit, f in memory_calls(rng):
        peak = peak_of(f)
        assert peak <= limit, (what, peak, limit)


@pytest.mark.parametrize("isa_name", xent.info()["isas"])
@pytest.mark.parametrize("classes", [3, 90])
def test_a_mean_over_no_weight_is_nan(classes, isa_name):
    xent.set_isa(isa_name)
    x = np.linspace(-1.0, 1.0, 2 * classes).reshape(2, classes)
    t = np.full((2, classes), 1 / classes)
    opposite = {"sample_weight": [1, -1]}
    smooth = {"weight": np.r_[0.0, np.ones(classes - 1)], "label_smoothing": 0.1}
    for call in (
        lambda **o: losses.cross_entropy(x, [0, 0], **smooth, **o),
        lambda **o: losses.cross_entropy(x, [0, 1], **opposite, **o),
        lambda **o: losses.cross_entropy(x, t, **opposite, **o),
        lambda **o: losses.nll(x, [0, 1], **opposite, **o),
        lambda **o: losses.kl_div(x, t, **opposite, **o),
        lambda **o: losses.js_div(x, t, **opposite, **o),
        lambda **o: losses.binary_cross_entropy(x, t, **opposite, **o),
    ):
        assert np.isnan(call())
        value, grad = call(return_grad=True)
        assert np.isnan(value)
        assert np.isnan(grad).any(axis=1).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x, y: losses.cross_entropy(x, y.astype(float)), "astype"),
        (lambda x, y: losses.cross_entropy(x, np.full(10, 0.1)), r"target\[None, :\]"),
        (lambda x, y: losses.kl_div(x, y), "int64.*Labels are for cross_entropy"),
        (lambda x, y: losses.kl_div(x, y.astype(float)), "float64.*for cross_entropy.*astype"),
        (lambda x, y: losses.kl_div(x, x[0], target_kind="logits"), r"target\[None, :\]"),
        (lambda x, y: losses.js_div(x, x[0]), "fewer dimensions"),
        (lambda x, y: losses.binary_cross_entropy(x, np.ones(10)), "fewer dimensions"),
        (lambda x, y: losses.cross_entropy(x, np.eye(10) * 3), "counts"),
        (lambda x, y: losses.kl_div(x, np.eye(10, dtype=int) * 3), "counts"),
        (lambda x, y: losses.cross_entropy(x, y, where=y > 2), r"mask\[:, None\]"),
        (lambda x, y: losses.kl_div(x, x, target_kind="logits", where=y > 2), r"mask\[:, None\]"),
        (lambda x, y: losses.nll(x, y, where=y > 2), r"mask\[:, None\]"),
        (
            # A mask of the labels' rows is no reason to take that of `where` for one of classes.
            lambda x, y: losses.distillation(x, x, y, temperature=2.0, alpha=0.5, ignore_index=1, where=y > 2),
            r"mask\[:, None\]",
        ),
    ],
)
def test_what_broadcasting_would_hide_is_refused(call, says, rng):
    """As many rows as classes, so that NumPy would find nothing wrong."""
    x, y = rng.standard_normal((10, 10)), np.arange(10) % 4
    with pytest.raises(ValueError, match=says):
        call(x, y)


def test_what_is_not_a_mistake_is_taken(rng):
    x, y = rng.standard_normal((10, 10)), np.arange(10)
    hot = np.eye(10)
    assert losses.cross_entropy(x, hot) == pytest.approx(losses.cross_entropy(x, y), rel=1e-14)
    assert losses.kl_div(x, hot[:1]) > 0
    assert losses.kl_div(x, hot.astype(int)) == losses.kl_div(x, hot)
    assert losses.cross_entropy(x[0], hot) > 0  # logits for all rows
    assert losses.cross_entropy(x, y, where=True) == losses.cross_entropy(x, y)
    assert losses.cross_entropy(x, y, where=(y > 2)[:, None]) > 0


@pytest.mark.parametrize("option", ["weight", "sample_weight", "where"])
def test_masked_options_are_refused(option):
    masked = np.ma.masked_array(np.ones(3, bool if option == "where" else float), [False, True, False])
    with pytest.raises(TypeError, match=option):
        losses.cross_entropy(np.zeros((3, 3)), [0, 1, 2], **{option: masked if option != "where" else masked[:, None]})
    with pytest.raises(TypeError, match="temperature"):
        losses.kl_div(
            np.zeros((3, 3)), np.zeros((3, 3)), target_kind="logits", temperature=np.ma.masked_array([1.0], True)
        )


@pytest.mark.parametrize("classes", [2, 90, 5000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_weighs_nothing_adds_nothing(classes, dtype, isa):
    """An infinite loss with a class weight or a sample weight of 0."""
    x = np.zeros((3, classes), dtype)
    x[1:, 1] = -np.inf
    labels = np.array([0, 1, 0])
    weight = np.ones(classes)
    weight[1] = 0
    one = np.log(dtype(classes)), np.log(dtype(classes - 1))
    rows = losses.cross_entropy(x, labels, weight=weight, reduction="none")
    np.testing.assert_allclose(rows, [one[0], 0, one[1]], rtol=1e-5)
    hot = np.zeros((3, classes), dtype)
    hot[np.arange(3), labels] = 1
    np.testing.assert_allclose(losses.cross_entropy(x, hot, weight=weight, reduction="none"), rows, rtol=1e-5)
    assert losses.cross_entropy(x, labels, weight=weight) == pytest.approx((one[0] + one[1]) / 2, rel=1e-5)
    sample_weight = [1.0, 0.0, 1.0]
    for target in (labels, hot):
        for reduction in ("none", "sum", "mean", "terms", "per_class"):
            got = losses.cross_entropy(x, target, sample_weight=sample_weight, reduction=reduction)
            assert np.isfinite(got).all(), (reduction, got)
    with np.errstate(divide="ignore"):
        targets = (("probs", hot), ("log_probs", np.log(hot)))
    for kind, target in targets:
        for reduction in ("none", "sum", "mean", "terms", "per_class"):
            got = losses.kl_div(x, target, target_kind=kind, sample_weight=sample_weight, reduction=reduction)
            assert np.isfinite(got).all(), (kind, reduction, got)
        terms = losses.kl_div(x, target, target_kind=kind, sample_weight=[1.0, -1.0, 1.0], reduction="terms")
        assert terms[1, 1] == -np.inf
    x[1, 1] = np.inf
    assert losses.nll(-x, labels, weight=weight) == 0
    got = losses.binary_cross_entropy(x, np.zeros_like(x), sample_weight=sample_weight, reduction="none")
    assert got[1] == 0


@pytest.mark.parametrize("classes", [3, 40, 90, 2000])
@pytest.mark.parametrize("size", [1e-50, 1e-42, 1e30, 1e50])
def test_weights_that_floats_do_not_hold(classes, size, isa):
    """Of the mean and its gradient nothing of the weights' size is left."""
    x = np.full((2, classes), -100, np.float32)
    x[:, :3] = [1, 2, 3]
    labels = np.array([0, 1])
    plain = losses.cross_entropy(x, labels, return_grad=True)
    weighed = [losses.cross_entropy(x, labels, sample_weight=[size, size], return_grad=True)]
    weighed.append(losses.cross_entropy(x, labels, weight=np.full(classes, size), return_grad=True))
    for value, gradient in weighed:
        np.testing.assert_allclose(value, plain[0], rtol=1e-6)
        np.testing.assert_allclose(gradient, plain[1], rtol=1e-6, atol=1e-12)
    smooth = losses.cross_entropy(x, labels, label_smoothing=0.1, return_grad=True)
    value, gradient = losses.cross_entropy(
        x, labels, label_smoothing=0.1, weight=np.full(classes, size), return_grad=True
    )
    np.testing.assert_allclose(value, smooth[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, smooth[1], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_the_targets_gradient_of_an_infinite_divergence(dtype):
    """It falls without end at the classes that the prediction has, masked classes beside them or not."""
    x = np.array([[15.0, -np.inf, -np.inf]], dtype)
    y = np.array([[2.5, -2.0, 5.75]], dtype)
    shown = np.array([[True, True, False]])
    for classes, options in ((3, {"where": shown}), (2, {})):
        value, gradient = losses.kl_div(
            x[:, :classes],
            y[:, :classes],
            target_kind="logits",
            reduction="sum",
            return_grad=True,
            grad_of="target",
            **options,
        )
        assert value == np.inf
        np.testing.assert_array_equal(gradient, [[-np.inf, np.inf, 0.0][:classes]])
