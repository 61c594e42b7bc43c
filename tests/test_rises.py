"""Sums held against a reference, an operand's largest element so far, when that rises by more than exp holds: masks of
-1e4 and -1e9, in any order of tiles, pieces, splits and merges, of either operand or both."""

import functools

import capi
import cases
import numpy as np
import oracle
import pytest
from oracle import mp

import xent
from xent import losses

DTYPES = [np.float32, np.float64]
# How far what is masked lies below the rest. Between them: t is subnormal in a tile, or just above; exp's range; the
# border between references that are multiples of ln 2 and those that are logits.
DEPTHS = [30.0, 88.0, 103.0, 111.0, 125.0, 160.0, 600.0, 700.0, 745.0, 1500.0, 2047.0, 2100.0, 1e4, 1e9, 3e38]


def divergence(groups):
    """KL(softmax(y), softmax(x)) of a row given as (how many, x, y), by mpmath: from y's log-probabilities and x's."""
    return _divergence(tuple((n, float(x), float(y)) for n, x, y in groups))


@functools.cache  # for all instruction sets and orders
def _divergence(groups):
    with mp.workdps(900):
        exact = [(n, mp.mpf(x), mp.mpf(y)) for n, x, y in groups if n]
        zx, zy = (mp.log(mp.fsum(n * mp.exp(g[k]) for n, *g in exact)) for k in (0, 1))
        value = mp.fsum(n * mp.exp(y - zy) * ((y - zy) - (x - zx)) for n, x, y in exact)
        return float(value)


def rows(groups, dtype):
    counts = [n for n, _, _ in groups]
    return tuple(np.repeat(np.array([g[k] for g in groups], dtype), counts) for k in (1, 2))


def orders(groups):
    """What is masked first, last, and on both sides of what is not."""
    (n, *masked), kept = groups
    return {
        "first": [(n, *masked), kept],
        "last": [kept, (n, *masked)],
        "around": [(n // 2, *masked), kept, (n - n // 2, *masked)],
    }


def groups_of(which, depth, masked, kept):
    """Groups of masked and of kept classes: x alone masked, y alone, or both."""
    return [(masked, -depth if "x" in which else 0.0, -depth if "y" in which else 0.0), (kept, 0.0, 0.0)]


def check(got, truth, dtype, scale=1.0):
    eps = float(np.finfo(dtype).eps)
    if truth > float(np.finfo(dtype).max) / 4096 and got == np.inf:
        return  # the limit: the sum over thousands of classes overflows, if not the mean
    elif truth == 0 or truth < float(np.finfo(dtype).tiny):
        assert 0 <= got <= float(np.finfo(dtype).tiny) + 2 * truth, (got, truth)
    else:
        # 4 eps of itself; a divergence of rows that are far apart is a difference of two log sum exp, whose eps it has.
        assert abs(float(got) - truth) <= 4 * eps * max(truth, scale if truth > 1e-2 else 0.0), (got, truth)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", ["y", "x", "xy"])
@pytest.mark.parametrize("first", [False, True], ids=["last axis", "first axis"])
def test_masked_vocabularies(dtype, which, first, isa):
    for depth in DEPTHS:
        for masked, kept in ((1100, 100), (1024, 1024), (600, 3000), (3000, 1)):
            groups = groups_of(which, depth, masked, kept)
            truth = divergence([(n, dtype(x), dtype(y)) for n, x, y in groups])
            for order in orders(groups).values():
                x, y = rows(order, dtype)
                if first:
                    x, y = (np.repeat(a[:, None], 20, axis=1) for a in (x, y))
                axis = 0 if first else -1
                value = xent.kl_div_with_logits(x, y, axis=axis)
                check(value[7] if first else value, truth, dtype)
                both, gradient = xent.kl_div_with_logits_value_and_grad(x, y, axis=axis)
                check(both[7] if first else both, truth, dtype)
                assert not np.isnan(gradient).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("depth", [d for d in DEPTHS if d >= 160.0])  # what is masked does not matter then
def test_near_rows_behind_a_mask(dtype, depth, rng, isa):
    """Both masked alike, and near each other where they are not: 4 eps of 1e-12, whatever the mask's depth."""
    x = rng.standard_normal(700).astype(dtype)
    y = (x + dtype(1e-6) * rng.standard_normal(700).astype(dtype)).astype(dtype)
    with mp.workdps(60):
        zx, zy = (mp.log(mp.fsum(mp.exp(mp.mpf(float(v))) for v in a)) for a in (x, y))
        logs = [
            (mp.mpf(float(b)) - zy, (mp.mpf(float(b)) - mp.mpf(float(a))) - (zy - zx))
            for a, b in zip(x, y, strict=True)
        ]
        truth = float(mp.fsum(mp.exp(lt) * d for lt, d in logs))
    mask = np.full(3000, -depth, dtype)
    for xs, ys in (((mask, x), (mask, y)), ((x, mask), (y, mask)), ((mask, x, mask), (mask, y, mask))):
        got = float(xent.kl_div_with_logits(np.concatenate(xs), np.concatenate(ys)))
        assert abs(got - truth) <= 4 * float(np.finfo(dtype).eps) * truth, (got, truth)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_pieces_of_a_long_row(dtype, threads, isa):
    """Rows of so many classes are folded in pieces, whose states are merged."""
    xent.set_num_threads(threads)
    for depth in (125.0, 1e4, 1e9):
        for which in ("y", "xy"):
            groups = groups_of(which, depth, 200_000, 70_000)
            truth = divergence([(n, dtype(x), dtype(y)) for n, x, y in groups])
            for order in orders(groups).values():
                check(xent.kl_div_with_logits(*rows(order, dtype)), truth, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [7, 90, 500])
def test_states(dtype, size, isa):
    """Pieces of rows in C, folded one after the other, and as a tree."""
    for depth in DEPTHS:
        for which in ("y", "x", "xy"):
            groups = groups_of(which, depth, 300, 200)
            truth = divergence([(n, dtype(x), dtype(y)) for n, x, y in groups])
            for order in orders(groups).values():
                x, y = (np.stack([a] * 3) for a in rows(order, dtype))
                chain, tree = capi.States("kl_div_with_logits", 3, dtype), []
                for c in range(0, x.shape[1], size):
                    piece = [np.ascontiguousarray(a[:, c : c + size]) for a in (x, y)]
                    assert chain.update(c, *piece) == 0
                    tree.append(capi.States("kl_div_with_logits", 3, dtype))
                    assert tree[-1].update(c, *piece) == 0
                while len(tree) > 1:
                    for a, b in zip(tree[::2], tree[1::2], strict=False):
                        assert a.merge(b) == 0
                    tree = tree[::2]
                for value in (*chain.finish(), *tree[0].finish()):
                    check(value, truth, dtype, scale=truth + 2 * np.log(500))  # the terms: t log t and t log p


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_probabilities_and_distillation(dtype, isa):
    x = np.zeros(1200, dtype)
    y = np.full(1200, -1e4, dtype)
    y[1100:] = 0
    log_probs = xent.log_softmax(y)
    truth = np.log(12)
    check(losses.kl_div(x, log_probs, target_kind="log_probs"), truth, dtype)
    check(losses.kl_div(x, y, target_kind="logits", temperature=2.0), truth, dtype)
    check(losses.distillation(x[None], y[None], temperature=4.0) / 16, truth, dtype)
    terms = losses.kl_div(x, y, target_kind="logits", reduction="terms")
    np.testing.assert_allclose(terms.sum(dtype=np.float64), truth, rtol=4 * np.finfo(dtype).eps * 100)
    assert (terms[:1100] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tiny", [1e-36, 1e-38, 1e-42])
def test_faint_probabilities(dtype, tiny, isa):
    """Tiles whose target probabilities are next to nothing, while the prediction has half of its mass there."""
    x, t = np.zeros(2048, dtype), np.full(2048, tiny, dtype)
    t[:1024] = 1 / 1024
    for flip in (slice(None), slice(None, None, -1)):
        got = xent.kl_div(x, np.ascontiguousarray(t[flip]))
        check(got, np.log(2.0), dtype, scale=np.log(1024.0))  # of which the terms are made


@pytest.mark.parametrize("classes", [100, 1000, 9001])
@pytest.mark.parametrize("operation", ["kl_div", "kl_div_with_logits"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_targets_that_fade_below_the_range(operation, dtype, classes, rng, isa):
    """Half of the prediction's mass lies where the target fades out of the dtype's range, a little in each tile."""
    y = np.linspace(0, 800 if dtype == np.float64 else 120, classes) + rng.standard_normal(classes)
    target = (cases.softmax64(y) if operation == "kl_div" else y).astype(dtype)
    x = rng.standard_normal(classes).astype(dtype)
    for flip in (slice(None), slice(None, None, -1)):
        x_row, t_row = np.ascontiguousarray(x[flip])[None], np.ascontiguousarray(target[flip])[None]
        ref = oracle.evaluate(operation, x_row, t_row, wide=classes > 1000)[0]
        budget = cases.budget(operation, dtype)[0]
        got = getattr(xent, operation)(x_row, t_row)
        assert oracle.worst(got, ref) <= budget
        first = (np.ascontiguousarray(np.repeat(a, 20, axis=0).T) for a in (x_row, t_row))
        assert oracle.worst(getattr(xent, operation)(*first, axis=0)[:1], ref) <= budget


LARGEST = {np.float32: [3.4e38, -3.4e38, 2e38, -2e38], np.float64: [1.7e308, -1.7e308, 9e307, -9e307]}
PAIRS = [c.name for c in cases.CASES if c.dtype == "f8" and c.operands in ("logits", "") and c.name != "rel_entr"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PAIRS)
def test_differences_that_overflow(name, dtype, rng, isa):
    """Finite logits, up to the largest there are: never NaN, and of one class that has all the mass the limit."""
    second = cases.SECOND[name] != ""
    for classes in (1, 2, 3, 20, 90, 1200):
        pool = np.array([*LARGEST[dtype], 0.0, 1.0, -1e4], dtype)
        arrays = [rng.choice(pool, (40, classes)) for _ in range(1 + second)]
        for axis in (-1, 0):
            given = [a if axis == -1 else np.ascontiguousarray(a.T) for a in arrays]
            for result in cases.as_tuple(getattr(xent, name)(*given, axis=axis)):
                assert not np.isnan(result).any(), (name, classes, axis)


@pytest.mark.parametrize("dtype", DTYPES)
def test_limits_of_differences_that_overflow(dtype, isa):
    logits = np.array([LARGEST[dtype][2], LARGEST[dtype][3]], dtype)
    assert xent.softmax_entropy(logits) == 0
    assert xent.kl_div_with_logits(logits, -logits) == np.inf
    assert xent.kl_div_with_logits(logits, logits) == 0
    assert xent.js_div(logits, logits) == 0
    np.testing.assert_allclose(xent.js_div(logits, -logits), np.log(2), rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(xent.kl_div_with_logits_terms(logits, -logits), [0, np.inf])
    np.testing.assert_array_equal(xent.kl_div_with_logits_value_and_grad(logits, -logits)[1], [1, -1])
    assert losses.kl_div(logits, -logits, target_kind="logits") == np.inf
