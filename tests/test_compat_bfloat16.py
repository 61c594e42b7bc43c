"""bfloat16 in every door: taken, with the dtype that the library gives, or refused with what to do instead."""

import warnings

import ml_dtypes
import numpy as np
import pytest

from xent import losses
from xent.compat import gluon, optax, scipy, sklearn, torch

BF16 = np.dtype(ml_dtypes.bfloat16)
X = np.array([[2.0, 1.0, -1.0], [0.5, 2.5, 0.0]]).astype(BF16)  # all of them exact
P = np.array([[0.75, 0.25, 0.0], [0.125, 0.75, 0.125]]).astype(BF16)
LOG_P = np.array([[-0.5, -1.5, -2.0], [-1.0, -0.75, -3.0]]).astype(BF16)
Y = np.array([0, 2])
W = np.array([0.5, 1.0, 2.0]).astype(BF16)

TAKEN = {
    "torch.cross_entropy": lambda x, p, q, w: torch.cross_entropy(x, Y),
    "torch.cross_entropy, weights": lambda x, p, q, w: torch.cross_entropy(x, Y, w, label_smoothing=0.1),
    "torch.cross_entropy, sum": lambda x, p, q, w: torch.cross_entropy(x, Y, w, reduction="sum"),
    "torch.cross_entropy, probabilities": lambda x, p, q, w: torch.cross_entropy(x, p, w, reduction="none"),
    "torch.nll_loss": lambda x, p, q, w: torch.nll_loss(q, Y, w),
    "torch.kl_div": lambda x, p, q, w: torch.kl_div(q, p, reduction="batchmean"),
    "torch.kl_div, none": lambda x, p, q, w: torch.kl_div(q, p, reduction="none"),
    "torch.kl_div, logs": lambda x, p, q, w: torch.kl_div(q, x, reduction="sum", log_target=True),
    "torch.softmax": lambda x, p, q, w: torch.softmax(x, 1),
    "torch.log_softmax": lambda x, p, q, w: torch.log_softmax(x, 0),
    "torch.softmin": lambda x, p, q, w: torch.softmin(x, 1),
    "torch.logsumexp": lambda x, p, q, w: torch.logsumexp(x, 1),
    "torch.binary_cross_entropy": lambda x, p, q, w: torch.binary_cross_entropy(p, p, w),
    "torch.with_logits": lambda x, p, q, w: torch.binary_cross_entropy_with_logits(x, p, w, pos_weight=w),
    "gluon.SoftmaxCELoss": lambda x, p, q, w: gluon.SoftmaxCELoss()(x, Y),
    "gluon.SoftmaxCELoss, dense": lambda x, p, q, w: gluon.SoftmaxCELoss(sparse_label=False)(x, p),
    "gluon.SoftmaxCELoss, logs": lambda x, p, q, w: gluon.SoftmaxCELoss(sparse_label=False, from_logits=True)(q, p),
    "gluon.KLDivLoss": lambda x, p, q, w: gluon.KLDivLoss()(q, p),
    "gluon.SigmoidBCELoss": lambda x, p, q, w: gluon.SigmoidBCELoss()(x, p, pos_weight=w),
    "optax.softmax_cross_entropy": lambda x, p, q, w: optax.softmax_cross_entropy(x, p),
    "optax.safe_softmax_cross_entropy": lambda x, p, q, w: optax.safe_softmax_cross_entropy(x, p),
    "optax.integer_labels": lambda x, p, q, w: optax.softmax_cross_entropy_with_integer_labels(x, Y),
    "optax.kl_divergence": lambda x, p, q, w: optax.kl_divergence(q, p),
    "optax.log_targets": lambda x, p, q, w: optax.kl_divergence_with_log_targets(q, x),
    "optax.generalized_kl_divergence": lambda x, p, q, w: optax.generalized_kl_divergence(q, p),
    "scipy.softmax": lambda x, p, q, w: scipy.softmax(x, axis=1),
    "scipy.log_softmax": lambda x, p, q, w: scipy.log_softmax(x, axis=1),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name):
    """The values of the same numbers in float64, to a step of bfloat16: some are rounded twice, as in the library."""
    call = TAKEN[name]
    value = call(X, P, LOG_P, W)
    expected = np.asarray(call(*(a.astype(np.float64) for a in (X, P, LOG_P, W))))
    assert value.dtype == BF16
    assert np.shape(value) == expected.shape
    np.testing.assert_allclose(np.asarray(value, np.float64), expected, rtol=2**-7, atol=2**-9)


@pytest.mark.parametrize(
    ("call", "dtype"),
    [
        (lambda a: scipy.logsumexp(a, axis=1), np.float64),
        (lambda a: scipy.rel_entr(a, a), np.float32),
        (lambda a: scipy.kl_div(a, a), np.float32),
        (lambda a: np.float64(sklearn.log_loss([0, 1, 2], np.array([[0.5, 0.25, 0.25]] * 3).astype(a.dtype))), float),
        (lambda a: torch.cross_entropy(a, a.astype(np.float16)), np.float32),
        (lambda a: optax.softmax_cross_entropy(a, a.astype(np.float16)), np.float32),
        (lambda a: optax.generalized_kl_divergence(-a, a.astype(np.float16)), np.float32),
        (lambda a: torch.kl_div(-a, a.astype(np.float32), reduction="sum"), np.float32),
    ],
)
def test_as_the_library_widens_it(call, dtype):
    value = call(P)
    assert value.dtype == dtype
    np.testing.assert_allclose(value, call(P.astype(np.float64)), rtol=1e-5, atol=1e-7)


def test_scipys_entropy_refuses_it():
    with pytest.raises(TypeError, match=r"bfloat16.*astype\(np.float32\)"):
        scipy.entropy(P)


VOID = X.view("V2")
UNTYPED = {
    "torch": lambda: torch.cross_entropy(VOID, Y),
    "torch target": lambda: torch.cross_entropy(X, VOID),
    "torch kl_div": lambda: torch.kl_div(VOID, P, reduction="sum"),
    "torch softmax": lambda: torch.softmax(VOID, 1),
    "gluon": lambda: gluon.KLDivLoss()(VOID, P),
    "scipy logsumexp": lambda: scipy.logsumexp(VOID),
    "scipy softmax": lambda: scipy.softmax(VOID),
    "scipy rel_entr": lambda: scipy.rel_entr(VOID, P),
    "scipy kl_div": lambda: scipy.kl_div(P, VOID),
    "scipy entropy": lambda: scipy.entropy(VOID),
    "optax": lambda: optax.softmax_cross_entropy(VOID, P),
    "optax kl_divergence": lambda: optax.kl_divergence(LOG_P, VOID),
    "sklearn": lambda: sklearn.log_loss([0, 1], VOID),
}


@pytest.mark.parametrize("name", UNTYPED)
def test_what_a_file_gives_back_says_how_to_view_it(name):
    with pytest.raises(
        (TypeError, ValueError, RuntimeError, NotImplementedError), match=r"\.view\(ml_dtypes.bfloat16\)"
    ):
        UNTYPED[name]()


def test_docstrings_say_it():
    for door in (torch, gluon, scipy, optax, sklearn):
        assert "bfloat16" in door.__doc__
        assert ".view(ml_dtypes.bfloat16)" in door.__doc__


@pytest.mark.parametrize("dtype", [np.float16, BF16])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_16_bit_results_stay_16_bit(monkeypatch, dtype, reduction):
    """Whatever `xent.losses` makes of a scalar: PyTorch keeps the dtype, and rounds once."""
    x, p, w = (a.astype(dtype) for a in (X, P, W))
    plain = losses.cross_entropy

    def wide(logits, *args, **options):
        return np.asarray(plain(logits.astype(np.float64), *args, **options)).astype(np.float32)[()]

    monkeypatch.setattr(losses, "cross_entropy", wide)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for target, weight in ((Y, None), (Y, w), (p, None), (p, w)):
            value = torch.cross_entropy(x, target, weight, reduction=reduction)
            assert value.dtype == dtype
            expected = torch.cross_entropy(
                *(a.astype(np.float64) if a.dtype == dtype else a for a in (x, target)),
                None if weight is None else weight.astype(np.float64),
                reduction=reduction,
            )
            np.testing.assert_array_equal(value, np.asarray(expected).astype(np.float32).astype(dtype))
        large = (x * dtype.type(100) if isinstance(dtype, np.dtype) else x * dtype(100)).repeat(5000, axis=0)
        huge = torch.cross_entropy(large, np.full(len(large), 2), reduction="sum")
        assert huge.dtype == dtype
        assert np.isinf(huge) == (dtype is np.float16)  # as in PyTorch


def test_no_warning_of_nan():
    """NumPy's comparisons of bfloat16 warn of a NaN, which the doors do not."""
    x = np.array([[np.nan, np.inf, -np.inf], [1.0, np.nan, 2.0]]).astype(BF16)
    t = np.array([[np.inf, 0.0, 0.5], [np.inf, 0.25, np.nan]]).astype(BF16)
    for log_target in (False, True):
        assert np.isnan(torch.kl_div(x, t, reduction="none", log_target=log_target)).any()
    for value in (torch.cross_entropy(x, t), torch.cross_entropy(x, Y), optax.kl_divergence(x, t)):
        assert np.isnan(value).any()
    assert np.isnan(torch.binary_cross_entropy_with_logits(x, t))
    assert np.isnan(gluon.KLDivLoss()(x, t)).all()
