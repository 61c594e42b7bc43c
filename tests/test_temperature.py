"""Temperatures at the ends of a float's range, one a row, through the C ABI's rows: exact quotients on every ISA."""

import numpy as np
import pytest

import xent
from xent import losses

TEMPERATURES = [2.0**-1030, 1e-320, 2.0**-149, 1e-30, 0.3, 1.0, 1e30, 2.0**127, 1e39, 2.0**1023]


@pytest.fixture(autouse=True)
def best_isa_again():
    yield
    xent.set_isa(None)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [3, 100])
@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512", "neon"])
def test_rows_are_those_of_the_quotients(isa, classes, dtype):
    """The divided logits are NumPy's quotients: a row's bits are those of them, whoever its neighbours are."""
    try:
        xent.set_isa(isa)
    except (RuntimeError, ValueError):
        pytest.skip(f"{isa} does not run here")
    rng = np.random.default_rng(classes)
    t = np.array(TEMPERATURES * 4)
    x = np.ldexp(rng.standard_normal((t.size, classes)), np.frexp(np.clip(t, 2.0**-100, 2.0**100))[1][:, None])
    x = x.astype(dtype)
    target = rng.dirichlet(np.ones(classes), t.size).astype(dtype)
    with np.errstate(over="ignore", under="ignore"):
        quotients = (x.astype(np.float64) / t[:, None]).astype(dtype)
    finite = np.isfinite(quotients).all(axis=1)
    got = losses.kl_div(x, target, temperature=t, reduction="none")
    want = losses.kl_div(quotients, target, reduction="none")
    np.testing.assert_array_equal(got[finite], want[finite])
    assert finite.sum() >= 7 * 4
    alone = [
        losses.kl_div(x[i : i + 1], target[i : i + 1], temperature=t[i : i + 1], reduction="none")
        for i in range(t.size)
    ]
    np.testing.assert_array_equal(got, np.concatenate(alone))
