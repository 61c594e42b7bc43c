"""DESIGN's table "What every value must be", line by line: values, neighbours, and not one warning."""

import warnings

import cases
import numpy as np
import pytest

import xent
from xent import losses

pytestmark = pytest.mark.filterwarnings("error")


def arrays_of(name, operands, dtype):
    second = int if cases.SECOND[name] == "labels" else dtype
    return tuple(np.array(o, dtype=second if i else dtype) for i, o in enumerate(operands))


def same(got, expected, dtype):
    got, expected = np.asarray(got), np.asarray(expected, dtype=np.float64)
    assert got.dtype == dtype
    assert got.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(got[~finite].astype(np.float64), expected[~finite])
    rtol = 4 * float(cases.finfo(dtype).eps)
    np.testing.assert_allclose(got[finite].astype(np.float64), expected[finite], rtol=rtol, atol=0)


def compare(results, expected, dtype):
    for got, value in zip(cases.as_tuple(results), cases.as_tuple(expected), strict=True):
        same(got, value, dtype)


def table(rows):
    return pytest.mark.parametrize(
        ("name", "operands", "expected"), [pytest.param(*e[1:], id=f"{i}-{e[0]}-{e[1]}") for i, e in enumerate(rows)]
    )


edges = table(cases.EDGES)


@edges
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_one_row(name, operands, expected, dtype, isa):
    arrays = arrays_of(name, operands, dtype)
    with np.errstate(all="raise"):
        compare(getattr(xent, name)(*arrays), expected, np.dtype(dtype))
        compare(getattr(xent.ufuncs, name)(*arrays), expected, np.dtype(dtype))


@edges
@pytest.mark.parametrize("first", [False, True], ids=["last", "first"])
@pytest.mark.parametrize("threads", [1, 2])
def test_in_a_batch(name, operands, expected, first, threads, isa):
    """The edge in a few rows among many: no other row notices, however many threads share them."""
    xent.set_num_threads(threads)
    row = arrays_of(name, operands, np.float64)
    classes = len(row[0])
    if cases.SECOND[name] == "self":
        plain = (np.full(classes, 1 / max(classes, 1)),)
    else:
        plain = tuple(np.linspace(0.1, 0.5, classes) if r.ndim else np.array(0) for r in row)
    alone = cases.as_tuple(getattr(xent, name)(*(np.stack([p, p]) for p in plain)))
    n = 20_001
    places = [0, 7, n // 2, n - 1]
    batch = []
    for r, p in zip(row, plain, strict=True):
        b = np.repeat(p[None], n, axis=0)
        b[places] = r
        batch.append(np.ascontiguousarray(b.T) if first and r.ndim else b)
    results = cases.as_tuple(getattr(xent, name)(*batch, axis=0 if first else -1))
    others = np.delete(np.arange(n), places)
    for got, value, single in zip(results, cases.as_tuple(expected), alone, strict=True):
        rows = got.T if first and got.ndim == 2 else got
        for place in places:
            same(rows[place], value, np.dtype(np.float64))
        np.testing.assert_allclose(rows[others], np.broadcast_to(single[0], rows[others].shape), rtol=1e-15)


@table([e for e in cases.EDGES if len(e[2][0])])
def test_long_rows(name, operands, expected, isa):
    """The same edge in a long row, the other classes out of play: a vector body, a tail, several blocks."""
    row = arrays_of(name, operands, np.float64)
    classes = len(row[0])
    for n in (17, 300, 5003):
        spread = np.linspace(0, n - 1, classes).astype(int)
        longer = []
        for i, r in enumerate(row):
            if r.ndim == 0:
                longer.append(np.array(spread[int(r)]))
                continue
            neutral = -np.inf if i == 0 and cases.SECOND[name] != "self" else 0.0
            if i == 1 and cases.SECOND[name] in ("logits", "log_probs"):
                neutral = -np.inf
            b = np.full(n, neutral)
            b[spread] = r
            longer.append(b)
        results = cases.as_tuple(getattr(xent, name)(*longer))
        for got, value in zip(results, cases.as_tuple(expected), strict=True):
            same(np.asarray(got)[spread] if np.ndim(value) else got, value, np.dtype(np.float64))


def test_the_two_promised_digits():
    assert xent.logsumexp([0, -50]) == 1.9287498479639178e-22
    assert xent.logsumexp(np.array([0.0, -50.0])) == 1.9287498479639178e-22
    x = np.array([0.0, np.log(1e-20)])
    assert xent.log_softmax(x)[0] == pytest.approx(-1e-20, rel=1e-14)
    assert xent.cross_entropy_with_labels(x, 0) == pytest.approx(1e-20, rel=1e-14)
    assert xent.cross_entropy(x, [1.0, 0.0]) == pytest.approx(1e-20, rel=1e-14)


@pytest.mark.parametrize("name", cases.ROW_NAMES)
@pytest.mark.parametrize("classes", [0, 3])
def test_batch_of_length_0(name, classes):
    x = np.zeros((0, classes))
    second = cases.SECOND[name]
    operands = (x,) if second in ("", "self") else (x, np.zeros(0, int) if second == "labels" else x)
    for result in cases.as_tuple(getattr(xent, name)(*operands)):
        assert result.shape in ((0,), (0, classes))
        assert result.dtype == np.float64


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "terms", "per_class"])
def test_reductions_of_an_empty_batch(reduction):
    x = np.zeros((0, 3))
    for result in (
        losses.cross_entropy(x, np.zeros(0, int), reduction=reduction),
        losses.cross_entropy(x, x, reduction=reduction),
        losses.kl_div(x, x, reduction=reduction),
        losses.nll(x, np.zeros(0, int), reduction=reduction),
        losses.binary_cross_entropy(x, x, reduction=reduction),
        losses.js_div(x, x, reduction=reduction),
        losses.distillation(x, x, np.zeros(0, int), temperature=2.0, alpha=0.5, reduction=reduction),
    ):
        expected = {"none": np.zeros(0), "sum": 0.0, "mean": np.nan, "terms": x, "per_class": np.zeros(3)}[reduction]
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradients_of_an_empty_batch(reduction):
    x = np.zeros((0, 3))
    _, grad = losses.cross_entropy(x, np.zeros(0, int), reduction=reduction, return_grad=True)
    assert grad.shape == (0, 3)


def test_length_0_with_labels():
    """No class: any label is out of range, and no label at all is fine."""
    with pytest.raises(IndexError):
        xent.cross_entropy_with_labels(np.zeros((2, 0)), [0, 0])
    assert xent.cross_entropy_with_labels(np.zeros((0, 0)), np.zeros(0, int)).shape == (0,)


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_unnormalised_targets(dtype, rng):
    """CE is linear in t; KL is T KL(t/T, p) + T log T, and T log T is dropped where T is 1 but for rounding."""
    x = rng.standard_normal((6, 5)).astype(dtype)
    t = cases.softmax64(rng.standard_normal((6, 5))).astype(dtype)
    rtol = 20 * cases.finfo(dtype).eps
    for factor in (0.5, 2.0, 4.0):
        np.testing.assert_allclose(xent.cross_entropy(x, factor * t), factor * xent.cross_entropy(x, t), rtol=rtol)
        extra = factor * np.log(factor) * t.astype(float).sum(axis=1)
        np.testing.assert_allclose(
            xent.kl_div(x, factor * t).astype(float),
            factor * xent.kl_div(x, t).astype(float) + extra,
            rtol=rtol,
            atol=rtol,
        )


@pytest.mark.parametrize("name", ["kl_div", "kl_div_with_logits", "kl_div_with_log_probs", "cross_entropy"])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_terms_add_up(name, dtype, rng, isa):
    """A row's terms sum to its value, within their rounding and tau."""
    classes = 50
    x, t = cases.operands(name, "random", 20, classes, dtype, rng)
    terms = getattr(xent, name + "_terms")(x, t).astype(np.float64)
    eps = cases.finfo(dtype).eps
    allowed = 8 * eps * np.abs(terms).sum(axis=1) + eps * (4 + np.sqrt(classes))
    assert (np.abs(terms.sum(axis=1) - getattr(xent, name)(x, t)) <= allowed).all()


def test_masked_lanes_raise_no_warning(rng):
    """What lanes that are not used compute may overflow or be invalid: NumPy looks at the processor's flags after a
    gufunc's loop, and would say so."""
    x = rng.standard_normal((100, 33))
    x[::3, ::2] = -np.inf
    x[5] = np.nan
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in cases.ROW_NAMES:
            second = cases.SECOND[name]
            t = np.where(np.isfinite(x), 1 / 33, 0.0)
            operands = {"": (x,), "self": (t,), "labels": (x, np.zeros(100, int))}.get(second, (x, t))
            getattr(xent, name)(*operands)
            getattr(xent.ufuncs, name)(*operands)
