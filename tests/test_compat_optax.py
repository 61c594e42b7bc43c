"""xent.compat.optax without JAX: what its docstring says, against formulas. The whole grid is in parity/."""

import numpy as np
import pytest

from xent.compat import optax

X = np.array([[2.0, 1.0, -1.0], [0.5, 2.5, 0.0]])
P = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
LOG_P = X - np.log(np.exp(X).sum(1, keepdims=True))


def test_losses():
    np.testing.assert_allclose(optax.softmax_cross_entropy(X, P), -(P * LOG_P).sum(1), rtol=1e-13)
    np.testing.assert_allclose(optax.safe_softmax_cross_entropy(X, P), -(P * LOG_P).sum(1), rtol=1e-13)
    labels = np.array([2, 0])
    by_label = optax.softmax_cross_entropy_with_integer_labels(X, labels)
    np.testing.assert_allclose(by_label, [-LOG_P[0, 2], -LOG_P[1, 0]], rtol=1e-13)
    np.testing.assert_allclose(optax.kl_divergence(X, P), (P * (np.log(P) - X)).sum(1), rtol=1e-13)
    logs = optax.kl_divergence_with_log_targets(X, np.log(P))
    np.testing.assert_allclose(logs, (P * (np.log(P) - X)).sum(1), rtol=1e-13)
    generalized = optax.generalized_kl_divergence(X, P)
    np.testing.assert_allclose(generalized, (P * (np.log(P) - X) + np.exp(X) - P).sum(1), rtol=1e-13)


def test_axes_and_masks():
    np.testing.assert_allclose(optax.softmax_cross_entropy(X.T, P.T, axis=0), -(P * LOG_P).sum(1), rtol=1e-13)
    keep = np.array([[True, False, True], [False, False, False]])
    kept = X[0, [0, 2]]
    expected = -(P[0, [0, 2]] * (kept - np.log(np.exp(kept).sum()))).sum()
    np.testing.assert_allclose(optax.softmax_cross_entropy(X, P, where=keep), [expected, 0], rtol=1e-13)
    np.testing.assert_allclose(optax.kl_divergence(X, P, where=keep)[1], 0)
    # A mask without the class axis selects rows.
    np.testing.assert_array_equal(optax.softmax_cross_entropy(X, P, where=np.array([True, False]))[1], 0)
    # A label whose class is left out: the logsumexp of the others less its logit.
    value = optax.softmax_cross_entropy_with_integer_labels(X, np.array([1, 1]), where=keep)
    np.testing.assert_allclose(value, [np.log(np.exp(kept).sum()) - X[0, 1], 0], rtol=1e-13)
    beyond = optax.softmax_cross_entropy_with_integer_labels(X, np.array([3, 3]), where=keep)
    np.testing.assert_array_equal(beyond, [np.nan, 0])
    whole = optax.softmax_cross_entropy_with_integer_labels(X, np.array(4), axis=(0, 1))
    np.testing.assert_allclose(whole, np.log(np.exp(X).sum()) - X[1, 1], rtol=1e-13)


def test_labels_out_of_range_and_negative():
    x = np.array([[0.0, 1.0, 2.0]] * 4)
    value = optax.softmax_cross_entropy_with_integer_labels(x, np.array([-1, -3, 3, -4]))
    lse = np.log(np.exp(x[0]).sum())
    np.testing.assert_allclose(value, [lse - 2, lse, np.nan, np.nan], rtol=1e-13)


def test_zero_times_infinity():
    x = np.array([[0.0, 0.0, -np.inf], [np.inf, 0.0, 0.0], [0.0, 0.0, 0.0]])
    t = np.array([[0.5, 0.5, 0.0]] * 3)
    np.testing.assert_array_equal(np.isnan(optax.softmax_cross_entropy(x, t)), [True, True, False])
    apart = optax.softmax_cross_entropy(x, t, where=np.isfinite(x))
    np.testing.assert_allclose(apart, [np.log(2), 0.5 * np.log(2), np.log(3)], rtol=1e-14)
    np.testing.assert_array_equal(np.isnan(optax.safe_softmax_cross_entropy(x, t)), [False, True, False])
    np.testing.assert_array_equal(optax.safe_softmax_cross_entropy(x, 0 * t), [0, 0, 0])
    np.testing.assert_array_equal(np.isnan(optax.kl_divergence(x, t)), [True, False, False])
    assert np.isnan(optax.kl_divergence_with_log_targets(np.zeros(1), np.full(1, -np.inf)))


def test_dtypes():
    for dtype in (np.float16, np.float32, np.float64):
        x = X.astype(dtype)
        assert optax.softmax_cross_entropy(x, P > 0.5).dtype == dtype
        assert optax.softmax_cross_entropy(x, (P > 0.5).astype(int)).dtype == dtype
        assert optax.softmax_cross_entropy_with_integer_labels(x, np.array([0, 1])).dtype == dtype
        assert optax.kl_divergence(x, P.astype(np.float16)).dtype == dtype


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: optax.softmax_cross_entropy(X, P[:, :2]), TypeError, r"\(2, 3\).*\(2, 2\)"),
        (lambda: optax.softmax_cross_entropy(X.astype(int), P), TypeError, "logits.*int64"),
        (lambda: optax.softmax_cross_entropy(X.tolist(), P), TypeError, "not list"),
        (lambda: optax.softmax_cross_entropy(X, P, where=np.ones(4, bool)), ValueError, "where"),
        (lambda: optax.softmax_cross_entropy(X, P, where=np.ones(3)), ValueError, "bools"),
        (lambda: optax.softmax_cross_entropy(np.ma.array(X), P), TypeError, "masked"),
        (lambda: optax.kl_divergence(X, P > 0), TypeError, "targets.*bool"),
        (lambda: optax.softmax_cross_entropy_with_integer_labels(X, P), TypeError, "labels.*float64"),
        (lambda: optax.softmax_cross_entropy_with_integer_labels(X, np.zeros(3, int)), ValueError, r"\(3,\).*\(2,\)"),
        (lambda: optax.softmax_cross_entropy_with_integer_labels(X, np.zeros(2, int), None), ValueError, "axis"),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_deprecated_name_points_at_the_caller():
    with pytest.warns(DeprecationWarning, match="generalized_kl_divergence") as caught:
        optax.convex_kl_divergence(X, P)
    assert caught[0].filename == __file__
