"""xent.compat.scipy without SciPy: what its docstring says, against formulas. The whole grid is in parity/."""

import numpy as np
import pytest

from xent.compat import scipy

A = np.array([[0.0, 1.0, 2.0], [3.0, -1.0, 0.5]])


def test_the_default_axis_is_all_of_them():
    assert np.ndim(scipy.logsumexp(A)) == 0
    np.testing.assert_allclose(scipy.softmax(A).sum(), 1)
    np.testing.assert_allclose(scipy.logsumexp(A), np.log(np.exp(A).sum()))
    np.testing.assert_allclose(scipy.log_softmax(A), A - np.log(np.exp(A).sum()))
    # entropy's is 0, the first.
    p = np.exp(A) / np.exp(A).sum(0)
    np.testing.assert_allclose(scipy.entropy(np.exp(A)), -(p * np.log(p)).sum(0))
    assert scipy.logsumexp(A, axis=(0, 1), keepdims=True).shape == (1, 1)


def test_weights():
    b = np.array([[1.0, -1.0, 0.5], [0.0, 2.0, 1.0]])
    total = (b * np.exp(A)).sum(1)
    value, sign = scipy.logsumexp(A, axis=1, b=-b, return_sign=True)
    np.testing.assert_allclose(value, np.log(np.abs(total)), rtol=1e-13)
    np.testing.assert_array_equal(sign, -np.sign(total))
    np.testing.assert_array_equal(np.isnan(scipy.logsumexp(A, axis=1, b=-b)), total > 0)
    # A factor of 0 leaves out whatever it stands before; opposite ones leave nothing.
    assert scipy.logsumexp([np.nan, np.inf, 1.0], b=[0, 0, 1]) == 1.0
    assert scipy.logsumexp([1.0, 1.0], b=[1, -1], return_sign=True) == (-np.inf, 0.0)
    # Far from where exp overflows, and with the second outweighing the first.
    value, sign = scipy.logsumexp([1000, 999], b=[1, -5], return_sign=True)
    np.testing.assert_allclose([value, sign], [999 + np.log(5 - np.e), -1], rtol=1e-15)
    # log(1 + 2 exp(-50)), which no sum of doubles keeps.
    np.testing.assert_allclose(scipy.logsumexp([0, -50], b=[1, 2]), 2 * np.exp(-50.0), rtol=1e-15)


def test_complex_and_long_double():
    z = np.array([1 + 3j, 2 - 1j])
    total = np.exp(z).sum()
    np.testing.assert_allclose(scipy.logsumexp(z), np.log(total), rtol=1e-14)
    value, phase = scipy.logsumexp(z, return_sign=True)
    np.testing.assert_allclose([value, phase], [np.log(abs(total)), total / abs(total)], rtol=1e-14)
    assert scipy.logsumexp(A.astype(np.longdouble)).dtype == np.longdouble
    np.testing.assert_allclose(scipy.softmax(z).sum(), 1)
    np.testing.assert_allclose(scipy.log_softmax(z), z - np.log(total), rtol=1e-14)


def test_divergences():
    x, y = np.array([1.0, 0.0, 0.5, -1.0, 0.5, 1.0]), np.array([0.5, 0.5, 0.0, 0.5, -1.0, 1.0])
    np.testing.assert_allclose(scipy.rel_entr(x, y), [np.log(2), 0, np.inf, np.inf, np.inf, 0])
    np.testing.assert_allclose(scipy.kl_div(x, y), [np.log(2) - 0.5, 0.5, np.inf, np.inf, np.inf, 0])
    for dtype in (np.float16, np.int8, np.bool_):
        assert scipy.rel_entr(np.ones(2, dtype), np.ones(2, dtype)).dtype == np.float32
        assert scipy.kl_div(np.ones(2, dtype), np.ones(2, dtype)).dtype == np.float32
    out = np.full(6, 7.0)
    assert scipy.kl_div(x, y, out, where=x == 1) is out
    np.testing.assert_allclose(out, [np.log(2) - 0.5, 7, 7, 7, 7, 0])


def test_entropy_normalises():
    assert scipy.entropy([0.5, 0.5], [0.3, 0.3]) == 0
    np.testing.assert_allclose(scipy.entropy([3, 1], base=2), 2 - 0.75 * np.log2(3))
    assert scipy.entropy([2.0, -1.0]) == -np.inf
    assert np.isnan(scipy.entropy([0.0, 0.0]))
    assert scipy.entropy([np.nan, 1, 1], [1, 3, 3], nan_policy="omit") == 0
    assert np.isnan(scipy.entropy([np.nan, 1, 1]))
    assert scipy.entropy(np.ones((2, 3, 4)), axis=(0, 2), keepdims=True).shape == (1, 3, 1)


def test_infinities():
    x = np.array([[np.inf, 0.0], [-np.inf, -np.inf], [0.0, -np.inf]])
    np.testing.assert_array_equal(scipy.logsumexp(x, axis=1), [np.inf, -np.inf, 0])
    np.testing.assert_array_equal(scipy.softmax(x, axis=1), [[np.nan, np.nan], [np.nan, np.nan], [1, 0]])
    np.testing.assert_array_equal(scipy.log_softmax(x, axis=1), [[np.nan, -np.inf], [np.nan, np.nan], [0, -np.inf]])
    assert scipy.logsumexp(np.zeros((0, 3)), axis=0).tolist() == [-np.inf] * 3


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: scipy.logsumexp(np.ma.array(A)), TypeError, "masked"),
        (lambda: scipy.rel_entr(np.ma.array(A), A), TypeError, "masked"),
        (lambda: scipy.logsumexp(A, b=np.ones(2)), ValueError, r"\(2, 3\).*\(2,\)"),
        (lambda: scipy.logsumexp(A, axis=2), np.exceptions.AxisError, "axis 2"),
        (lambda: scipy.softmax(A > 0), TypeError, "not bool"),
        (lambda: scipy.softmax(A[:0]), ValueError, "zero-size"),
        (lambda: scipy.softmax(np.array(["a"])), TypeError, "x must be numbers"),
        (lambda: scipy.entropy(A, np.ones(2)), ValueError, r"\(2, 3\).*\(2,\)"),
        (lambda: scipy.entropy([1, np.nan], nan_policy="raise"), ValueError, r"NaN at \(1,\)"),
        (lambda: scipy.entropy(A, base=-1), ValueError, "base must be positive"),
        (lambda: scipy.entropy(A, nan_policy="skip"), ValueError, "nan_policy.*'skip'"),
        (lambda: scipy.entropy(A.astype(np.longdouble)), TypeError, "float"),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_complex_infinities_have_a_phase():
    inf, quarter = np.inf, np.pi / 4
    cases = [
        ([complex(inf, 5.4978), complex(-inf, 0)], None, complex(inf, -quarter)),  # the fourth quadrant
        ([complex(inf, 2.3562), complex(-inf, 0.7533)], None, complex(inf, 3 * quarter)),
        ([complex(inf, 0), 1j], None, complex(inf, 0)),
        ([complex(-inf, 1), -inf], None, complex(-inf, 0)),
    ]
    for a, b, expected in cases:
        value = scipy.logsumexp(np.array(a), b=b)
        np.testing.assert_allclose([value.real, value.imag], [expected.real, expected.imag], rtol=1e-15)
    size, _ = scipy.logsumexp(np.array([complex(inf, 5.4978), complex(-inf, 0)]), return_sign=True)
    assert size == inf
    rows = scipy.logsumexp(np.array([[complex(inf, 5.4978), -inf], [0, 0]]), axis=1)
    np.testing.assert_allclose(rows[1], np.log(2), rtol=1e-15)
