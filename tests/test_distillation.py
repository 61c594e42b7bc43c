"""Distillation where T^2 overflows, and where the divided logits no longer differ or overflow; by mpmath."""

import ml_dtypes
import mpmath
import numpy as np
import pytest

from xent import losses

TEMPERATURES = [1.0, 64.0, 1024.0, 1025.0, 3e3, 1e5, 1e8, 1e12, 1e20, 1e38, 1e154, 1e200, 1e308]
DTYPES = {"f2": np.float16, "bf16": ml_dtypes.bfloat16, "f4": np.float32, "f8": np.float64}
INF = float("inf")


def softened(x, y, t):
    """Of one row: T^2 KL, T (p - q), T^2 q log(q/p), exactly; classes that neither row has add nothing."""
    with mpmath.workdps(60 + 2 * abs(int(np.log10(t)))):
        t = mpmath.mpf(t)

        def log_softmax(row):
            row = [mpmath.mpf(float(v)) / t for v in row]
            most = max(row)
            total = mpmath.log(mpmath.fsum(mpmath.exp(v - most) for v in row))
            return [v - most - total for v in row]

        p, q = log_softmax(x), log_softmax(y)
        terms, slopes = [], []
        for a, b in zip(p, q, strict=True):
            weight = mpmath.exp(b)
            terms.append(
                mpmath.inf if weight and a == -mpmath.inf else t**2 * weight * (b - a) if weight else mpmath.mpf(0)
            )
            slopes.append(t * (mpmath.exp(a) - weight))
        return mpmath.fsum(terms), slopes, terms


def as_floats(values, dtype):
    most = float(np.finfo(dtype).max) if dtype != ml_dtypes.bfloat16 else float(ml_dtypes.finfo(dtype).max)
    return np.array([float(v) if abs(v) <= most else INF * float(mpmath.sign(v)) for v in values])


def ulps(got, want, scale, dtype):
    eps = float(ml_dtypes.finfo(dtype).eps)
    tiny = float(ml_dtypes.finfo(dtype).smallest_subnormal)
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    same = got == want
    with np.errstate(invalid="ignore"):
        return np.where(same, 0.0, np.abs(got - want) / (eps * np.abs(scale) + tiny)).max(initial=0.0)


def pairs(kind, classes, dtype, rng):
    if kind == "offset":
        return (rng.normal(size=(2, 3, classes)) + np.reshape([48.0, -23.0], (2, 1, 1))).astype(dtype)
    x, y = rng.normal(size=(2, 3, classes)).astype(dtype)
    if kind == "masked":
        x[:, ::3] = y[:, ::3] = -INF
        x[:, 1] = y[:, 1] = 0.5
    if kind == "near":
        y = (x.astype(np.float64) * (1 + 2.0**-6)).astype(dtype)
    if kind == "small":
        x, y = (x.astype(np.float64) / 512).astype(dtype), (y.astype(np.float64) / 1024).astype(dtype)
    return x, y


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("classes", [1, 2, 3, 40])
@pytest.mark.parametrize("kind", ["plain", "offset", "masked", "near", "small"])
def test_values_gradients_and_terms_at_large_temperatures(kind, classes, dtype, rng):
    """Beyond 1024 all three are right to a few units; before, the value is, where no quotient is rounded."""
    x, y = pairs(kind, classes, dtype, rng) if classes > 1 else rng.normal(size=(2, 4, 1)).astype(dtype)
    for t in TEMPERATURES:
        truth = [softened(a, b, t) for a, b in zip(x, y, strict=True)]
        value, grad = losses.distillation(x, y, temperature=t, reduction="none", return_grad=True)
        terms = losses.distillation(x, y, temperature=t, reduction="terms")
        assert value.dtype == grad.dtype == terms.dtype == dtype
        want = as_floats([row[0] for row in truth], dtype)
        np.testing.assert_array_equal(value, losses.distillation(x, y, temperature=t, reduction="none"))
        assert ulps(value, want, want, dtype) <= 4, t
        if t > 1024:
            slopes, parts = (np.array([as_floats(row[i], dtype) for row in truth]) for i in (1, 2))
            assert ulps(grad, slopes, np.abs(slopes).max(1, keepdims=True), dtype) <= 4, t
            with np.errstate(invalid="ignore"):
                finite = np.where(np.isfinite(parts), np.abs(parts), float(ml_dtypes.finfo(dtype).max))
            assert ulps(terms, parts, finite.max(1, keepdims=True), dtype) <= 4, t


def test_the_limit_is_half_the_variance_of_the_difference():
    x, y = [[1.0, 2, 4]], [[4.0, 1, 0]]
    d = np.subtract(x, y)
    for dtype, temperatures in ((np.float32, (1e20, 1e38, 1e200, 1e308)), (np.float64, (1e200, 1e308))):
        for t in temperatures:
            value, grad = losses.distillation(np.array(x, dtype), np.array(y, dtype), temperature=t, return_grad=True)
            np.testing.assert_allclose(value, d.var() / 2, rtol=1e-6 if dtype == np.float32 else 4e-15)
            np.testing.assert_allclose(grad, (d - d.mean()) / 3, rtol=1e-6 if dtype == np.float32 else 4e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("t", [1e-320, 1e-310, 1e-200, 1e-160, 1e-44, 1e-38, 1e-36, 1e-30, 1e-13, 1e-9])
def test_small_temperatures(t, dtype):
    """T^2 KL tends to T times the difference, as y's largest sees it; the quotients may overflow."""
    x, y = np.array([[1.0, 2, 4], [-3, 0, 0.5]], dtype), np.array([[4.0, 1, 0], [-1, -2, 3]], dtype)
    value, grad = losses.distillation(x, y, temperature=t, reduction="none", return_grad=True)
    # T T' is 0 below 1e-280, as T^2 is below 1e-162.
    assert ulps(value, [3 * t, 0], [3 * t, 0], dtype) <= 4 or t < 1e-280
    assert ulps(grad, [[-t, 0, t], [0, 0, 0]], t, dtype) <= 4 or t < 1e-280
    close = {"rtol": 1e-6, "atol": 1e-280 if dtype == np.float64 else 2e-45}
    np.testing.assert_allclose(value, [3 * t, 0], **close)
    np.testing.assert_allclose(grad, [[-t, 0, t], [0, 0, 0]], **close)


REDUCTIONS = ("none", "sum", "mean", "terms", "per_class")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axis", [1, 0])
def test_one_a_row_with_every_option(axis, dtype, rng):
    """Rows of ordinary and extreme temperatures together, weighed, masked, beside labels: each by itself."""
    t = np.array([1e-320, 0.5, 1e200, 2.0, 1e20, 1e308, 2000.0, 1.0])
    n = t.size
    x, y = rng.normal(size=(2, n, 5)).astype(dtype)
    keep = rng.random((n, 5)) < 0.7
    keep[:, 2:4] = True
    keep[3] = keep[5] = False
    weights, labels = rng.random(n) + 0.5, rng.integers(2, 4, n)
    labels[4] = -1
    turn = (lambda a: a.T) if axis == 0 else (lambda a: a)
    for more in ({}, {"alpha": 0.25, "ignore_index": -1}):
        given = (labels,) if more else ()
        common = {"temperature": t, "sample_weight": weights, "axis": axis} | more
        shown = keep & (labels != -1)[:, None] if more else keep
        counts = shown.any(axis=1)
        expected = {name: [] for name in ("none", "terms", "grad")}
        for i in range(n):
            s, soft, hard = shown[i], weights[i] * more.get("alpha", 1.0), weights[i] * (1 - more.get("alpha", 1.0))
            terms, slopes = np.zeros(5), np.zeros(5)
            if counts[i]:
                _, slope, term = softened(x[i][s], y[i][s], t[i])
                terms[s] = [float(v) * soft for v in term]
                slopes[s] = [float(v) * soft for v in slope]
                if more:
                    p = np.where(s, x[i].astype(np.float64), -INF)
                    p -= np.log(np.exp(p).sum())
                    terms[labels[i]] -= hard * p[labels[i]]
                    slopes += hard * (np.exp(p) - (np.arange(5) == labels[i]))
            expected["terms"].append(terms)
            expected["grad"].append(slopes)
            expected["none"].append(float(softened(x[i][s], y[i][s], t[i])[0]) * soft if counts[i] else 0.0)
            if more and counts[i]:
                expected["none"][-1] -= hard * p[labels[i]]
        expected = {k: np.array(v) for k, v in expected.items()}
        total = weights[counts].sum()
        with np.errstate(over="ignore", invalid="ignore"):
            expected = {k: v.astype(dtype).astype(np.float64) for k, v in expected.items()}
            wanted = {
                "none": expected["none"],
                "sum": expected["none"].sum(),
                "mean": expected["none"].sum() / total,
                "terms": turn(expected["terms"]),
                "per_class": expected["terms"].sum(axis=0),
            }
        close = {"rtol": 2e-5 if dtype == np.float32 else 1e-12, "atol": 1e-6 if dtype == np.float32 else 1e-15}
        for reduction in REDUCTIONS:
            options = common | {"where": turn(keep), "reduction": reduction}
            got = losses.distillation(turn(x), turn(y), *given, **options)
            big = np.abs(wanted[reduction]) > 1e30  # sums of terms that are each T large say nothing of the others
            np.testing.assert_allclose(np.where(big, 0, got), np.where(big, 0, wanted[reduction]), **close)
            np.testing.assert_allclose(np.where(big, got, 0), np.where(big, wanted[reduction], 0), **close)
            if reduction in REDUCTIONS[:3]:
                value, grad = losses.distillation(turn(x), turn(y), *given, **options, return_grad=True)
                np.testing.assert_array_equal(value, got)
                np.testing.assert_allclose(
                    turn(grad), expected["grad"] / (total if reduction == "mean" else 1), **close
                )


def test_equal_rows_are_zero_and_special_rows_keep_their_values():
    """At temperatures where T^2 is infinite: 0 times it is 0, and what diverges is infinite, nothing warns."""
    big = 1e300
    rows = [
        ([1.0, 2, 3], [1.0, 2, 3], 0.0),
        ([1.0, 2, 3], [11.0, 12, 13], 0.0),
        ([big, -big, 0], [big, -big, 0], 0.0),
        ([0.0, -INF, 1], [1.0, -INF, 2], 0.0),
        ([0.0, -INF, 1], [0.0, 1, 2], INF),  # the target is where the prediction cannot be
        ([0.0, 1, 2], [0.0, -INF, 1], INF),  # log(3/2) T^2
        ([np.nan, 1, 2], [0.0, 1, 2], np.nan),
        ([INF, 1, 2], [0.0, 1, 2], np.nan),
        ([-INF] * 3, [-INF] * 3, np.nan),
    ]
    x, y, want = (np.array(column) for column in zip(*rows, strict=True))
    got, grad = losses.distillation(x, y, temperature=1e200, reduction="none", return_grad=True)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(grad[:4], 0.0)
    alone = [losses.distillation(a, b, temperature=1e200) for a, b in zip(x, y, strict=True)]
    np.testing.assert_array_equal(alone, want)
    # What weighs nothing adds nothing; of no rows and no classes there is nothing.
    weights = (want == 0).astype(float)
    assert losses.distillation(x[:6], y[:6], temperature=1e200, sample_weight=weights[:6]) == 0
    assert losses.distillation(x[:6], y[:6], [0, 0, 0, 0, 0, 0], temperature=1e200, alpha=0.0) >= 0
    assert np.isnan(losses.distillation(x[:0], y[:0], temperature=1e200))
    assert losses.distillation(x[:0], y[:0], temperature=1e200, reduction="none").shape == (0,)
    np.testing.assert_array_equal(losses.distillation(x[:, :0], y[:, :0], temperature=1e200, reduction="none"), 0.0)
    none = losses.distillation(x, y, temperature=1e200, where=np.zeros((9, 3), bool), reduction="none")
    np.testing.assert_array_equal(none, 0.0)


def test_a_row_alone_has_the_bits_that_it_has_in_a_batch(rng):
    """However the rows are divided into chunks."""
    x, y = rng.normal(size=(2, 700, 300)).astype(np.float32)
    value, grad = losses.distillation(x, y, temperature=1e10, reduction="none", return_grad=True)
    for i in (0, 217, 218, 219, 699):
        one, slope = losses.distillation(x[i], y[i], temperature=1e10, reduction="none", return_grad=True)
        assert one == value[i]
        np.testing.assert_array_equal(slope, grad[i])
