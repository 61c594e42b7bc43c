"""The longdouble definitions that the search for the worst rows is judged by, beside mpmath."""

import cases
import numpy as np
import oracle
import pytest
import wide

pytestmark = pytest.mark.skipif(not wide.IS_WIDE, reason=wide.TOO_NARROW)


@pytest.mark.parametrize("kind", ["random", "offset", "peaked", "wide"])
@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_longdouble_is_as_good_as_mpmath(name, kind, rng):
    for dtype in ("f8", "f4"):
        operands = cases.operands(name, kind, 6, 5, cases.DTYPES[dtype], rng)
        for exact, many in zip(oracle.evaluate(name, *operands), wide.evaluate(name, *operands), strict=True):
            apart = np.abs((exact.hi - many.hi) + (exact.lo - many.lo))
            assert (apart <= 0.25 * np.spacing(np.maximum(exact.scale, 1e-300))).all()
            np.testing.assert_allclose(many.scale, exact.scale, rtol=1e-12)


@pytest.mark.parametrize(("what", "name", "operands", "expected"), cases.EDGES)
def test_longdouble_at_the_edges(what, name, operands, expected):
    logits, *target = (np.array([o], dtype=float) for o in operands)
    target = [t.astype(int) if cases.SECOND[name] == "labels" else t for t in target]
    for ref, value in zip(wide.evaluate(name, logits, *target), cases.as_tuple(expected), strict=True):
        np.testing.assert_allclose(ref.hi[0], value, rtol=1e-15)


def test_longdouble_near_equal(rng):
    for dtype, distances in (("f8", [1e-2, 1e-6, 1e-9]), ("f4", [1e-2, 1e-4, 1e-6])):
        y = rng.standard_normal((len(distances), 6))
        x = (y + np.array(distances)[:, None] * rng.standard_normal(y.shape)).astype(dtype)
        for name, t in (
            ("kl_div_with_logits", y.astype(dtype)),
            ("kl_div", cases.softmax64(y).astype(dtype)),
            ("js_div", y.astype(dtype)),
        ):
            exact, many = oracle.evaluate(name, x, t)[0], wide.evaluate(name, x, t)[0]
            np.testing.assert_allclose(many.hi, exact.hi, rtol=1e-9)
