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


DIVERGENCES = ["kl_div", "kl_div_with_logits", "kl_div_with_log_probs"]


def pairs(name, classes, dtype, rng):
    """Predictions and targets as near as can be and as far, which their first classes show and do not show; sure of one
    class, of none, masked; far from 0, and with a class where ranges end."""
    rows = []
    for distance in (0.0, 1e-12, 1e-7, 1e-3, 0.1, 0.5, 0.9, 1.0, 1.1, 1.3, 1.5, 2.0, 3.0, 8.0, 30.0):
        for offset in (0.0, 1000.0, -3000.0):
            y = rng.standard_normal(classes)
            rows.append((y + offset + distance * rng.standard_normal(classes), y))
    for first, then in ((0.0, 3.0), (3.0, 0.0), (1e-3, 30.0), (30.0, 1e-3), (0.9, 1.4)):
        y = rng.standard_normal(classes)
        apart = np.where(np.arange(classes) < 70, first, then)
        rows.append((y + apart * rng.standard_normal(classes), y))
    for place in (0, 17, classes // 2, classes - 1):
        for high in (3.0, 12.0, 15.9, 16.1, 41.0, 65.0, 120.0, 800.0):
            for which in ((1, 0), (0, 1), (1, 1), (1, -1)):
                y = rng.standard_normal(classes)
                x = y + 0.7 * rng.standard_normal(classes)
                x[place] += which[0] * high
                y[place] += which[1] * high
                rows.append((x, y))
    for x_masked, y_masked in (
        (slice(0, 20), slice(0, 20)),
        (slice(40, None), slice(40, None)),
        (slice(0, 0), slice(0, min(90, classes // 2))),
        (slice(3, 4), slice(0, 0)),
    ):
        for mask in (-np.inf, -4000.0):
            y = rng.standard_normal(classes)
            x = y + rng.standard_normal(classes)
            x[x_masked] = mask
            y[y_masked] = mask
            rows.append((x, y))
    x, y = (np.array(a) for a in zip(*rows, strict=True))
    t = (y - y.max(axis=1, keepdims=True)).astype(np.longdouble)
    t -= np.log(np.exp(t).sum(axis=1, keepdims=True))
    return x.astype(dtype), (y if "logits" in name else t if "log" in name else np.exp(t)).astype(dtype)


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


@pytest.mark.skipif(not wide.IS_WIDE, reason=wide.TOO_NARROW)
@pytest.mark.parametrize("classes", [40, 290, 1100])
@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_divergences_near_and_far(dtype, name, classes, rng):
    x, t = (a[:: 1 if classes < 300 else 6] for a in pairs(name, classes, dtype, rng))
    both = f"{name}_value_and_grad"
    ref, of_gradient = oracle.evaluate(both, x, t)
    budget, of_gradients = cases.budget(both, dtype)
    log_target = name != "kl_div"
    with np.errstate(invalid="ignore"):
        kl = np.maximum(ref.hi, 0)
        near = cases.near_equal_allowance("logits" if log_target else "probs", dtype, kl, None if log_target else t)
        allowed = np.fmax(budget * float(np.finfo(dtype).eps) * kl, near) + float(np.finfo(dtype).tiny)
    finite = np.isfinite(kl)
    if name != "kl_div_with_logits":  # whether what a target's sum rounds is meant is not what this is about
        total = (np.exp(wide.wrap(t)) if log_target else wide.wrap(t)).sum(axis=1)
        meant = abs(total - 1) < 0.75 * wide.tau(dtype, classes)
        assert meant.mean() > 0.9
        allowed[~meant] = np.inf
    for isa in xent.info()["isas"]:
        xent.set_isa(isa)
        for order in "CF":
            views = (np.asarray(x, order=order), np.asarray(t, order=order))
            value, (again, gradient) = getattr(xent, name)(*views), getattr(xent, both)(*views)
            for got in (value, again):
                with np.errstate(invalid="ignore"):
                    measured = (oracle.errors(got, ref) / allowed)[finite]
                assert (measured <= 1).all(), (isa, order, measured.argmax(), measured.max())
                np.testing.assert_array_equal(got[~finite], ref.hi[~finite])
            steps = max(cases.subnormal_steps(both, dtype), classes)
            assert oracle.worst(gradient, of_gradient, steps) <= of_gradients, (isa, order)


@pytest.mark.parametrize("classes", [130, 500, 2600])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_rows_bits_are_its_own(dtype, classes, rng, isa):
    """Whatever way its neighbours go, with which it may share a vector."""
    x = special_rows(classes, dtype, rng)
    labels = rng.integers(classes, size=len(x))
    theirs = {name: (x, labels) if "labels" in name else (x,) for name in NAMES}
    theirs |= {name: pairs(name, classes, dtype, rng) for name in DIVERGENCES}
    for name, operands in theirs.items():
        order = rng.permutation(len(operands[0]))
        for layout in (np.ascontiguousarray, np.asfortranarray):
            together = cases.as_tuple(getattr(xent, name)(*(layout(a) for a in operands)))
            shuffled = cases.as_tuple(getattr(xent, name)(*(layout(a[order]) for a in operands)))
            ordinary = cases.as_tuple(getattr(xent, name)(*(layout(a[:1].repeat(40, axis=0)) for a in operands)))
            for one, other, alike in zip(together, shuffled, ordinary, strict=True):
                np.testing.assert_array_equal(one[order], other)
                np.testing.assert_array_equal(alike, one[:1].repeat(40, axis=0))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_large_output_has_the_bits_of_a_small_one(dtype, rng, isa):
    """Its stores stream, past the caches and from an aligned place on; kept exponentials are read from there."""
    classes = 4093
    rows = int(17e6) // (classes * np.dtype(dtype).itemsize)
    x = rng.standard_normal((rows, classes)).astype(dtype)
    x[5, 4000:] += 40  # folded by the careful steps
    labels = rng.integers(classes, size=rows)
    target = rng.standard_normal((rows, classes)).astype(dtype)
    for name in ("softmax", "cross_entropy_with_labels_value_and_grad", "kl_div_with_logits_value_and_grad"):
        operands = (x, labels) if "labels" in name else (x, target) if "kl" in name else (x,)
        large = cases.as_tuple(getattr(xent, name)(*operands))[-1]
        np.testing.assert_array_equal(large[:9], cases.as_tuple(getattr(xent, name)(*(a[:9] for a in operands)))[-1])
        np.testing.assert_array_equal(large[-3:], cases.as_tuple(getattr(xent, name)(*(a[-3:] for a in operands)))[-1])
