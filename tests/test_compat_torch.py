"""xent.compat.torch without PyTorch: what its docstring says, against formulas. The whole grid is in parity/."""

import numpy as np
import pytest

from xent import losses
from xent.compat import torch

X = np.array([[2.0, 1.0, -1.0], [0.5, 2.5, 0.0], [0.0, 0.0, 3.0]])
Y = np.array([0, 2, 1])
P = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5]])
LOG_P = X - np.log(np.exp(X).sum(1, keepdims=True))
W = np.array([0.5, 1.0, 2.0])


def test_the_classes_are_axis_1():
    x = np.moveaxis(np.stack([X, 2 * X]), 2, 1)  # (2, 3 classes, 3)
    labels = np.stack([Y, Y])
    expected = [
        -np.take_along_axis(a - np.log(np.exp(a).sum(1, keepdims=True)), Y[:, None], 1)[:, 0] for a in (X, 2 * X)
    ]
    np.testing.assert_allclose(torch.cross_entropy(x, labels, reduction="none"), expected, rtol=1e-13)
    np.testing.assert_allclose(torch.nll_loss(x, labels, reduction="none"), [-np.diag(a[:, Y]) for a in (X, 2 * X)])
    np.testing.assert_allclose(torch.log_softmax(x, 1), np.moveaxis(torch.log_softmax(np.moveaxis(x, 1, 2), 2), 2, 1))


def test_smoothing_weights_and_ignored_labels_together():
    a, labels = 0.3, np.array([0, -100, 1])
    terms = -LOG_P[[0, 2]] * W * ((1 - a) * np.eye(3)[[0, 1]] + a / 3)
    expected = terms.sum() / W[[0, 1]].sum()
    value = torch.cross_entropy(X, labels, W, label_smoothing=a)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    soft = torch.cross_entropy(X, P, W, label_smoothing=a)
    np.testing.assert_allclose(soft, -(LOG_P * W * ((1 - a) * P + a / 3)).sum() / 3, rtol=1e-13)


def test_kl_div_means():
    divergence = (P * (np.log(P) - LOG_P)).sum()
    with pytest.warns(UserWarning, match="batchmean"):
        np.testing.assert_allclose(torch.kl_div(LOG_P, P), divergence / 9, rtol=1e-13)
    np.testing.assert_allclose(torch.kl_div(LOG_P, P, reduction="batchmean"), losses.kl_div(X, P), rtol=1e-13)
    with pytest.warns(UserWarning, match="reduction='sum'"):
        overridden = torch.kl_div(LOG_P, P, size_average=False, reduction="batchmean")
    np.testing.assert_allclose(overridden, divergence / 3, rtol=1e-13)
    logs = torch.kl_div(LOG_P, np.log(P), reduction="sum", log_target=True)
    np.testing.assert_allclose(logs, divergence, rtol=1e-13)


def test_zero_times_infinity():
    x = np.array([[0.0, -np.inf, 1.0], [np.inf, 0.0, 0.0], [0.0, 0.0, 0.0]])
    t = np.array([[0.5, 0.0, 0.5]] * 3)
    undefined = [True, True, False]
    np.testing.assert_array_equal(np.isnan(torch.cross_entropy(x, t, reduction="none")), undefined)
    assert np.isnan(torch.cross_entropy(x, t))
    np.testing.assert_array_equal(np.isnan(torch.softmax(x, 1)).all(1), [False, True, False])
    np.testing.assert_array_equal(np.isnan(torch.cross_entropy(x, Y * 0 + 2, reduction="none")), [False, True, False])
    weightless = torch.cross_entropy(x, np.array([1, 1, 1]), np.array([1.0, 0.0, 1.0]), reduction="none")
    np.testing.assert_array_equal(np.isnan(weightless), undefined)
    # What is ignored stays 0, whatever its logits.
    np.testing.assert_array_equal(torch.cross_entropy(x, np.array([-100, -100, 0]), reduction="none")[:2], 0)
    np.testing.assert_array_equal(torch.kl_div(x[0], t[0], reduction="none")[1], np.nan)
    assert np.isnan(torch.kl_div(np.zeros(1), np.full(1, -np.inf), reduction="sum", log_target=True))


@pytest.mark.filterwarnings("ignore:reduction='mean'")
def test_nothing_to_average():
    assert np.isnan(torch.cross_entropy(X, Y * 0 - 100))
    assert torch.cross_entropy(X, Y * 0 - 100, reduction="sum") == 0
    assert np.isnan(torch.nll_loss(X, Y * 0 - 100))
    assert np.isnan(torch.cross_entropy(X[:0], P[:0]))
    assert np.isnan(torch.kl_div(X[:0], P[:0]))
    assert np.isnan(torch.binary_cross_entropy(X[:0], P[:0]))


def test_binary_cross_entropies():
    t = np.array([0.0, 1.0, 0.25])
    p = np.array([0.0, 0.0, 0.5])
    np.testing.assert_allclose(torch.binary_cross_entropy(p, t, reduction="none"), [0, 100, np.log(2)])
    x = np.array([-50.0, 50.0, 0.0])
    v = np.array([1.0, 2.0, 3.0])
    value = torch.binary_cross_entropy_with_logits(x, t, pos_weight=v, reduction="none")
    tiny = np.log1p(np.exp(-50.0))
    np.testing.assert_allclose(value, [tiny, 2 * tiny, 1.5 * np.log(2)], rtol=1e-14)


@pytest.mark.parametrize("change", ["swapped", "strided", "Fortran", "reversed"])
def test_any_layout(change):
    def changed(a):
        if change == "swapped":
            return a.astype(a.dtype.newbyteorder())
        if change == "strided":
            return np.repeat(a, 2, axis=0)[::2]
        return np.asfortranarray(a) if change == "Fortran" else a[::-1][::-1]

    x, t, p, w, log_p = map(changed, (X, Y, P, W, LOG_P))
    pairs = [
        (torch.cross_entropy(x, t, w), torch.cross_entropy(X, Y, W)),
        (torch.nll_loss(x, t, w), torch.nll_loss(X, Y, W)),
        (torch.kl_div(log_p, p, reduction="sum"), torch.kl_div(LOG_P, P, reduction="sum")),
        (torch.binary_cross_entropy(p, p), torch.binary_cross_entropy(P, P)),
        (torch.binary_cross_entropy_with_logits(x, p, w), torch.binary_cross_entropy_with_logits(X, P, W)),
    ]
    for value, reference in pairs:
        # NumPy adds in the order of the memory.
        np.testing.assert_allclose(value, reference, rtol=2 * np.finfo(float).eps)
    np.testing.assert_array_equal(torch.softmin(x, 0), torch.softmin(X, 0))
    assert torch.nll_loss(x, t, reduction="none").dtype.isnative


def test_operands_stay_as_they_are():
    before = [a.copy() for a in (X, Y, P, W)]
    torch.cross_entropy(X, Y, W, label_smoothing=0.1)
    torch.cross_entropy(X, P, W, label_smoothing=0.1)
    torch.binary_cross_entropy_with_logits(X, P, W, pos_weight=W)
    torch.softmin(X, 1)
    for a, b in zip((X, Y, P, W), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_messages_name_value_place_and_what_was_expected():
    with pytest.raises(IndexError, match="label 5 at 1 is out of range for 3 classes"):
        torch.cross_entropy(X, np.array([0, 5, 1]))
    with pytest.raises(IndexError, match=r"label -3 at \(1, 0\) is out of range for 3 classes"):
        torch.nll_loss(np.zeros((2, 3, 2)), np.array([[0, 0], [-3, 0]]))
    with pytest.raises(RuntimeError, match=r"got 1.5 at \(0, 1\)"):
        torch.binary_cross_entropy(np.array([[0.5, 1.5]]), np.ones((1, 2)))
    with pytest.raises(RuntimeError, match=r"weight must have shape \(3,\).*\(2,\)"):
        torch.cross_entropy(X, Y, np.ones(2))
    with pytest.raises(RuntimeError, match=r"labels must be int64.*int32"):
        torch.cross_entropy(X, Y.astype(np.int32))
    with pytest.raises(ValueError, match=r"batch of 3.*one of 2"):
        torch.cross_entropy(X, Y[:2])
    with pytest.raises(TypeError, match="must be a NumPy array, not list"):
        torch.cross_entropy(X.tolist(), Y)
    with pytest.raises(TypeError, match="masked array"):
        torch.cross_entropy(X, np.ma.array(Y, mask=[0, 1, 0]))


def test_warnings_point_at_the_caller():
    calls = [
        lambda: torch.softmax(X),
        lambda: torch.LogSoftmax()(X),
        lambda: torch.kl_div(LOG_P, P),
        lambda: torch.cross_entropy(X, Y, size_average=True),
        lambda: torch.CrossEntropyLoss(reduce=False),
        lambda: torch.nll_loss(X, Y, reduction="elementwise_mean"),
    ]
    for call in calls:
        with pytest.warns(UserWarning, match="deprecated|batchmean") as caught:
            call()
        assert [w.filename for w in caught] == [__file__]


def test_classes_keep_their_options():
    loss = torch.CrossEntropyLoss(W, ignore_index=2, reduction="none", label_smoothing=0.1)
    expected = torch.cross_entropy(X, Y, W, ignore_index=2, reduction="none", label_smoothing=0.1)
    np.testing.assert_array_equal(loss(X, Y), expected)
    np.testing.assert_array_equal(loss.forward(X, Y), expected)
    assert repr(torch.NLLLoss()) == "NLLLoss(weight=None, ignore_index=-100, reduction='mean')"
    with pytest.warns(UserWarning, match="reduction='none'"):
        assert torch.NLLLoss(reduce=False).reduction == "none"
    assert repr(torch.LogSoftmax(1)) == "LogSoftmax(dim=1)"


def test_infinite_targets_have_their_sign():
    finite = np.array([[2.0, 1.0, -1.0], [0.5, 2.5, 0.0], [0.0, 0.0, 3.0]])
    for value, expected in ((-np.inf, -np.inf), (np.inf, np.inf), (np.nan, np.nan)):
        t = P.copy()
        t[1, 2] = value
        rows = torch.cross_entropy(finite, t, reduction="none")
        np.testing.assert_array_equal(rows[1], expected)
        np.testing.assert_array_equal(rows[[0, 2]], torch.cross_entropy(finite, P, reduction="none")[[0, 2]])
        np.testing.assert_array_equal(torch.cross_entropy(finite, t), expected)
        np.testing.assert_array_equal(torch.cross_entropy(finite, t, reduction="sum"), expected)
    t[1] = -np.inf, 0, np.inf
    assert np.isnan(torch.cross_entropy(finite, t, reduction="none")[1])
    # t log t - t x of an infinite t, and (1 - t) x - log sigmoid(x).
    pointwise = torch.kl_div(np.array([-1.0, 0.0, 1.0]), np.full(3, np.inf), reduction="none")
    np.testing.assert_array_equal(pointwise, [np.inf, np.nan, np.nan])
    binary = torch.binary_cross_entropy_with_logits(np.array([1.0, -1.0]), np.full(2, np.inf), reduction="none")
    np.testing.assert_array_equal(binary, [-np.inf, np.inf])


def test_a_divisor_of_0_is_each_parts_own():
    labels = np.array([0, 1])
    canceling = np.array([1.0, -1.0, 0.0])
    own = -LOG_P[[0, 1], [0, 1]] * canceling[:2]
    assert torch.cross_entropy(X[:2], labels, canceling) == np.sign(own.sum()) * np.inf
    assert np.isnan(torch.cross_entropy(X[:2], labels, np.zeros(3)))
    assert np.isnan(torch.cross_entropy(X[:2], labels, canceling, label_smoothing=1.0))  # 0 times infinity
    assert np.isnan(torch.cross_entropy(X[:, :0], np.full(3, -100), label_smoothing=0.1, reduction="sum"))
    with pytest.raises(RuntimeError, match="no classes"):
        torch.cross_entropy(np.zeros((2, 0, 2)), np.full((2, 2), -100))
