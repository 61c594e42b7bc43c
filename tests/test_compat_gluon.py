"""xent.compat.gluon against the formulas of MXNet's documentation, written out in NumPy.

MXNet no longer installs. Source: "mxnet.gluon.loss" in the Python API of apache/mxnet 2.0, SoftmaxCrossEntropyLoss,
KLDivLoss, SigmoidBinaryCrossEntropyLoss, and "pick" in the operators' reference (its mode "clip").
"""

import inspect
import itertools

import numpy as np
import pytest

from xent.compat import gluon

DTYPES = [np.float16, np.float32, np.float64]
# A few eps of the result's dtype at the scale of the largest term: each loss is a mean of terms below 100.
SCALE = 4 * 100


def log_softmax(x, axis):
    x = np.asarray(x, np.longdouble)
    with np.errstate(invalid="ignore", divide="ignore"):
        shifted = x - x.max(axis, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def per_sample(loss, weight, sample_weight, batch_axis):
    """Weighted, then averaged over every axis but the batch's."""
    if sample_weight is not None:
        loss = loss * sample_weight
    if weight is not None:
        loss = loss * weight
    return np.moveaxis(loss, batch_axis, 0).reshape(loss.shape[batch_axis], -1).mean(1)


def check(value, reference, dtype):
    assert value.dtype == dtype
    assert value.shape == reference.shape
    np.testing.assert_allclose(value, reference.astype(np.float64), rtol=0, atol=SCALE * float(np.finfo(dtype).eps))


def weights(rng, shape, axis):
    """Every way to weight a sample: not, all classes alike, and with the class axis kept."""
    narrow = tuple(1 if i == axis % len(shape) else n for i, n in enumerate(shape))
    yield None
    yield rng.uniform(0.5, 2, narrow)
    yield rng.uniform(0.5, 2, (1,) * len(shape))


SHAPES = [(4, 5), (2, 3, 4), (3, 2, 2, 3)]


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_cross_entropy_with_labels(rng, dtype, shape, from_logits):
    for axis, batch_axis, weight, kind in itertools.product(
        range(-1, len(shape)), (0, -1), (None, 0.5, 3), (np.int64, np.uint8, np.float32, list)
    ):
        x = rng.normal(0, 3, shape).astype(dtype)
        classes = shape[axis]
        y = rng.integers(classes, size=np.delete(shape, axis))
        label = y.tolist() if kind is list else y.astype(kind)
        log_p = x.astype(np.longdouble) if from_logits else log_softmax(x, axis)
        expected = -np.take_along_axis(log_p, np.expand_dims(y, axis), axis)
        loss = gluon.SoftmaxCrossEntropyLoss(axis, from_logits=from_logits, weight=weight, batch_axis=batch_axis)
        for s in weights(rng, shape, axis):
            check(loss(x, label, s), per_sample(expected, weight, s, batch_axis), dtype)
        check(loss(x, np.expand_dims(y, axis)), per_sample(expected, weight, None, batch_axis), dtype)


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_cross_entropy_with_probabilities(rng, dtype, shape, from_logits):
    for axis, batch_axis, weight in itertools.product(range(-1, len(shape)), (0, 1), (None, 2.0)):
        x, t = rng.normal(0, 3, shape).astype(dtype), rng.random(shape).astype(dtype)
        log_p = x.astype(np.longdouble) if from_logits else log_softmax(x, axis)
        expected = -(t * log_p).sum(axis, keepdims=True)
        loss = gluon.SoftmaxCELoss(axis, False, from_logits, weight, batch_axis)
        for s in weights(rng, shape, axis):
            check(loss(x, t, s), per_sample(expected, weight, s, batch_axis), dtype)
        # A label of another shape with as many elements is reshaped, as Gluon does.
        check(loss(x, t.ravel()), per_sample(expected, weight, None, batch_axis), dtype)


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_div(rng, dtype, shape, from_logits):
    for axis, batch_axis, weight in itertools.product(range(-1, len(shape)), (0, 1), (None, 2.0)):
        x, t = rng.normal(0, 3, shape).astype(dtype), rng.random(shape).astype(dtype)
        t[rng.random(shape) < 0.2] = 0
        log_p = x.astype(np.longdouble) if from_logits else log_softmax(x, axis)
        expected = t * (np.log(t.astype(np.longdouble) + 1e-12) - log_p)
        loss = gluon.KLDivLoss(from_logits, axis, weight, batch_axis)
        for s in (*weights(rng, shape, axis), rng.random(shape)):
            check(loss(x, t, s), per_sample(expected, weight, s, batch_axis), dtype)


@pytest.mark.parametrize("from_sigmoid", [False, True])
@pytest.mark.parametrize("shape", [(5,), *SHAPES])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_binary_cross_entropy(rng, dtype, shape, from_sigmoid):
    for batch_axis, weight, positive in itertools.product((0, -1), (None, 2.0), (None, (), shape[-1:], shape)):
        x, t = rng.normal(0, 10, shape).astype(dtype), rng.random(shape).astype(dtype)
        if from_sigmoid:
            x = rng.choice([0.0, 0.25, 0.5, 1.0], shape).astype(dtype)
        v = 1 if positive is None else rng.uniform(0.5, 2, positive)
        z = x.astype(np.longdouble)
        with np.errstate(divide="ignore"):
            log_p = np.log(z + 1e-12) if from_sigmoid else -np.logaddexp(0, -z)
            log_q = np.log(1 - z + 1e-12) if from_sigmoid else -np.logaddexp(0, z)
        expected = -(t * log_p * v + (1 - t) * log_q)
        loss = gluon.SigmoidBCELoss(from_sigmoid, weight, batch_axis)
        for s in (None, rng.random(shape)):
            value = loss(x, t, s, None if positive is None else v)
            check(value, per_sample(expected, weight, s, batch_axis), dtype)


def test_the_mean_is_the_divergence_over_the_number_of_classes():
    t = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    x = np.array([[2.0, 1.0, -1.0], [0.5, 2.5, 0.0]])
    divergence = (t * (np.log(t) - log_softmax(x, -1))).sum(1)
    value = gluon.KLDivLoss(from_logits=False)(x, t)
    np.testing.assert_allclose(value, (divergence / 3).astype(float), atol=2e-12)  # 1e-12 in each logarithm


def test_the_epsilon():
    t, x = np.array([[0.0, 1e-12]]), np.array([[-1.0, -1.0]])
    np.testing.assert_allclose(gluon.KLDivLoss()(x, t), [1e-12 * (np.log(2e-12) + 1) / 2], rtol=1e-12)
    p = np.array([[0.0, 1.0]])
    np.testing.assert_allclose(gluon.SigmoidBCELoss(from_sigmoid=True)(p, 1 - p), [-np.log(1e-12)], rtol=1e-12)
    # Where float16 would round the epsilon to 0, and 0 times log 0 be NaN.
    assert gluon.KLDivLoss()(x.astype(np.float16), np.zeros((1, 2), np.float16)) == 0


def test_labels_are_clipped_and_truncated():
    x = np.array([[0.0, 1.0, 3.0]] * 5)
    loss = gluon.SoftmaxCELoss(from_logits=True)
    np.testing.assert_array_equal(loss(x, np.array([-5, 3, 1000, 1, 0])), [0, -3, -3, -1, 0])
    np.testing.assert_array_equal(loss(x, np.array([-0.5, 1.75, 2.9, 1e30, -1e30])), [0, -1, -3, -3, 0])


def test_infinities():
    x = np.array([[0.0, -np.inf, 0.0], [np.inf, 0.0, 0.0], [-np.inf] * 3, [np.nan, 0.0, 0.0], [0.0, 0.0, 0.0]])
    t = np.array([[0.5, 0.0, 0.5]] * 5)
    undefined = [True, True, True, True, False]
    for loss in (gluon.SoftmaxCELoss(sparse_label=False), gluon.KLDivLoss(from_logits=False)):
        np.testing.assert_array_equal(np.isnan(loss(x, t)), undefined)
    np.testing.assert_array_equal(np.isnan(gluon.SoftmaxCELoss()(x, [2] * 5)), [False, True, True, True, False])
    assert np.isnan(gluon.SoftmaxCELoss(sparse_label=False, from_logits=True)(x[:1], t[:1]))
    assert gluon.SoftmaxCELoss()(x[:1], [1]) == np.inf
    assert np.isnan(gluon.KLDivLoss()(np.zeros((1, 1)), np.array([[-0.5]])))


def test_constructors():
    parameters = {
        "SoftmaxCrossEntropyLoss": "(axis=-1, sparse_label=True, from_logits=False, weight=None, batch_axis=0)",
        "KLDivLoss": "(from_logits=True, axis=-1, weight=None, batch_axis=0)",
        "SigmoidBinaryCrossEntropyLoss": "(from_sigmoid=False, weight=None, batch_axis=0)",
    }
    for name, expected in parameters.items():
        loss = getattr(gluon, name)
        given = inspect.signature(loss).parameters.values()
        assert "(" + ", ".join(f"{p.name}={p.default}" for p in given) + ")" == expected
        assert repr(loss()) == name + expected
        call = list(inspect.signature(loss()).parameters)
        assert call[:3] == ["pred", "label", "sample_weight"]
    assert gluon.SoftmaxCELoss is gluon.SoftmaxCrossEntropyLoss
    assert gluon.SigmoidBCELoss is gluon.SigmoidBinaryCrossEntropyLoss


X = np.zeros((4, 3))


@pytest.mark.parametrize(
    ("loss", "arguments", "error", "match"),
    [
        (gluon.SoftmaxCELoss(), (X, np.zeros(3, int)), ValueError, r"\(3,\), expected \(4,\)"),
        (gluon.SoftmaxCELoss(), (X, np.zeros((4, 3), int)), ValueError, r"\(4, 3\), expected \(4,\)"),
        (gluon.SoftmaxCELoss(sparse_label=False), (X, X[:, :2]), ValueError, r"\(4, 2\).*\(4, 3\)"),
        (gluon.SoftmaxCELoss(), (X, np.zeros(4, int), np.ones(4)), ValueError, r"sample_weight.*\(4,\).*\(4, 1\)"),
        (gluon.SoftmaxCELoss(batch_axis=2), (X, np.zeros(4, int)), np.exceptions.AxisError, "axis 2"),
        (gluon.SoftmaxCELoss(axis=2), (X, np.zeros(4, int)), np.exceptions.AxisError, "axis 2"),
        (gluon.SoftmaxCELoss(), (X.astype(complex), np.zeros(4, int)), TypeError, "pred.*complex"),
        (gluon.SoftmaxCELoss(), (X, np.ma.array([0, 1, 2, 0], mask=[0, 0, 0, 1])), TypeError, "masked"),
        (gluon.KLDivLoss(), (X, X[:3]), ValueError, r"\(3, 3\).*\(4, 3\)"),
        (gluon.SigmoidBCELoss(), (X, X, None, np.ones((2, 4, 3))), ValueError, r"pos_weight.*\(2, 4, 3\)"),
    ],
)
def test_errors(loss, arguments, error, match):
    with pytest.raises(error, match=match):
        loss(*arguments)


def test_weight_must_be_a_number():
    with pytest.raises(TypeError, match="weight must be a number"):
        gluon.SoftmaxCELoss(weight=np.ones(3))
