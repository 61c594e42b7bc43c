"""xent.compat.sklearn without scikit-learn: what its docstring says, against formulas. The grid is in parity/."""

import numpy as np
import pytest

from xent.compat.sklearn import log_loss

P = np.array([[0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.35, 0.65]])
Y = ["spam", "ham", "ham", "spam"]
LOSS = -np.log([0.9, 0.9, 0.8, 0.65])


def test_mean_sum_and_weights():
    value = log_loss(Y, P)
    assert type(value) is float
    np.testing.assert_allclose(value, LOSS.mean(), rtol=1e-14)
    np.testing.assert_allclose(log_loss(Y, P, normalize=False), LOSS.sum(), rtol=1e-14)
    np.testing.assert_allclose(log_loss(Y, P, sample_weight=[1, 0, 2, 1]), (LOSS @ [1, 0, 2, 1]) / 4, rtol=1e-14)
    np.testing.assert_allclose(log_loss([1, 0, 0, 1], P[:, 1]), LOSS.mean(), rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_probabilities_are_clipped(dtype):
    eps = np.finfo(dtype).eps
    value = log_loss([0, 1], np.eye(2, dtype=dtype)[::-1])
    np.testing.assert_allclose(value, -np.log(float(eps)), rtol=4 * eps)
    assert 0 < log_loss([0, 1], np.eye(2, dtype=dtype)) <= 2 * eps


def test_indicators_add_their_losses():
    t, p = np.array([[1, 0, 1], [0, 1, 0]]), np.array([[0.5, 0.1, 0.4], [0.2, 0.6, 0.2]])
    np.testing.assert_allclose(log_loss(t, p), (-np.log(0.5) - np.log(0.4) - np.log(0.6)) / 2, rtol=1e-14)


def test_warnings():
    with pytest.warns(UserWarning, match="sum to 1") as caught:
        log_loss(Y, P * 0.9)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="sorted") as caught:
        log_loss(Y, P, labels=["spam", "ham"])
    assert caught[0].filename == __file__
    with pytest.warns(FutureWarning, match="y_proba"):
        log_loss(Y, y_pred=P)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        ((Y, P + 1), {}, ValueError, r"from 0 to 1, got 1.1 at \(0, 0\)"),
        ((Y, P * np.nan), {}, ValueError, "finite"),
        ((Y[:3], P), {}, ValueError, "3 samples.*4"),
        ((["ham"] * 4, P), {}, ValueError, "two classes"),
        ((Y, P), {"labels": ["eggs", "ham"]}, ValueError, "spam at 0"),
        ((Y, P), {"labels": ["ham", "ham", "spam"]}, ValueError, "twice"),
        (([0, 1, 2, 0], P), {}, ValueError, "2 columns for the 3 classes"),
        ((Y, P), {"sample_weight": [1, 2]}, ValueError, r"\(2,\), expected \(4,\)"),
        ((Y, P), {"sample_weight": [0] * 4}, ValueError, "not all 0"),
        ((Y, P), {"normalize": 1}, TypeError, "normalize"),
        (([0, "a", 1, 0], P), {}, ValueError, "mixes"),
        ((np.ma.array([0, 1, 1, 0]), P), {}, TypeError, "masked"),
    ],
)
def test_errors(arguments, options, error, match):
    with pytest.raises(error, match=match):
        log_loss(*arguments, **options)


def test_the_doors_are_light():
    """A drop-in that loaded what it stands in for would be no gain."""
    import subprocess
    import sys

    code = "import sys, xent.compat; print({'torch', 'scipy', 'optax', 'jax', 'sklearn', 'mxnet'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"
