"""Rows that are folded in one walk (kernels/math/lse.h), rows that are not, and what lies on the border of the two."""

import cases
import numpy as np
import oracle
import pytest
import wide

import xent

NAMES = [
    "logsumexp",
    "log_softmax",
    "softmax",
    "cross_entropy_with_labels",
    "cross_entropy_with_labels_value_and_grad",
    "cross_entropy_with_labels_value_and_hess",
]


def special_rows(classes, dtype, rng):
    """Ordinary rows, and what the first numbers, the last and one in the midst make of them."""
    x = rng.standard_normal((classes,))
    rows = [x, x + 1000, x - 1000, x + 2040, x - 2040, x + 2060, x - 2060, x + 1e4, x - 1e4, 0 * x, 30 * x]
    places = [0, 1, 17, classes // 2, classes - 2, classes - 1]
    for place in places:
        # far above the first numbers: around 16 and 64, where windows end; beyond all of them; and where no number is
        for high in (15.4, 16.0, 16.7, 63.4, 64.0, 64.7, 88.0, 600.0, 700.0, 3000.0, np.inf, -np.inf, np.nan):
            row = x.copy()
            row[place] = high
            rows.append(row)
    for low in (-19.3, -20.0, -20.7, -85.0, -87.0, -104.0, -350.0, -706.0, -708.0, -746.0, -1e4, -np.inf):
        for some in (slice(0, 1), slice(0, 16), slice(16, None), slice(0, -1), slice(1, None)):
            row = x.copy()
            row[some] += low
            rows.append(row)
            rows.append(np.where(np.arange(classes) == places[3], 0.0, low + 0 * x))
    rows.append(np.full(classes, -np.inf))
    return np.array(rows).astype(dtype)


def judged(name, *operands):
    with np.errstate(all="ignore"):
        return wide.evaluate(name, *operands) if operands[0].shape[1] > 300 else oracle.evaluate(name, *operands)


@pytest.mark.skipif(not wide.IS_WIDE, reason=wide.TOO_NARROW)
@pytest.mark.parametrize("classes", [130, 1030, 2600])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_on_both_sides_of_the_border(dtype, classes, rng):
    x = special_rows(classes, dtype, rng)
    labels = np.where(np.arange(len(x)) % 2, np.nanargmax(np.where(np.isnan(x), -np.inf, x), axis=1), classes // 2)
    for name in NAMES:
        operands = (x, labels) if "labels" in name else (x,)
        refs = judged(name, *operands)
        for isa in xent.info()["isas"]:
            xent.set_isa(isa)
            for order in "CF":
                views = tuple(np.asarray(a, order=order) for a in operands)
                for got, ref, allowed in zip(
                    cases.as_tuple(getattr(xent, name)(*views)), refs, cases.budget(name, dtype), strict=True
                ):
                    steps = max(cases.subnormal_steps(name, dtype), classes)  # exponentials below the normal range
                    measured = oracle.worst(got, ref, steps)
                    assert measured <= allowed, (name, isa, order, measured)


@pytest.mark.parametrize("classes", [130, 500, 2600])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_rows_bits_are_its_own(dtype, classes, rng, isa):
    """Whatever way its neighbours go, with which it may share a vector."""
    x = special_rows(classes, dtype, rng)
    order = rng.permutation(len(x))
    labels = rng.integers(classes, size=len(x))
    for name in NAMES:
        operands = (x, labels) if "labels" in name else (x,)
        for layout in (np.ascontiguousarray, np.asfortranarray):
            together = cases.as_tuple(getattr(xent, name)(*(layout(a) for a in operands)))
            shuffled = cases.as_tuple(getattr(xent, name)(*(layout(a[order]) for a in operands)))
            ordinary = cases.as_tuple(getattr(xent, name)(*(layout(a[:1].repeat(40, axis=0)) for a in operands)))
            for one, other, alike in zip(together, shuffled, ordinary, strict=True):
                np.testing.assert_array_equal(one[order], other)
                np.testing.assert_array_equal(alike, one[:1].repeat(40, axis=0))
