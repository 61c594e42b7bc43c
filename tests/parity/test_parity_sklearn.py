"""xent.compat.sklearn beside scikit-learn: every option, dtype and kind of label, results, warnings and errors."""

import inspect
import itertools

import numpy as np
import pytest
from parity import Outcome, compare, eps, library

from xent.compat import sklearn as ours

metrics = library("sklearn.metrics")

DTYPES = [np.float16, np.float32, np.float64, np.longdouble, list]
NAMES = np.array(["ant", "bee", "cat", "dog"])


def check(what, atol, *args, **options):
    theirs = Outcome(lambda: metrics.log_loss(*args, **options), np.asarray)
    mine = Outcome(lambda: ours.log_loss(*args, **options), np.asarray)
    compare((options, args, what), mine, theirs, atol)
    assert mine.error is not None or type(mine.raw) is float


def test_signature():
    mine, theirs = (inspect.signature(m.log_loss).parameters for m in (ours, metrics))
    assert [(p.name, p.default, p.kind) for p in mine.values()] == [
        (p.name, p.default, p.kind) for p in theirs.values()
    ]


def made(p, dtype):
    return p.tolist() if dtype is list else p.astype(dtype)


def tolerance(p, dtype, samples):
    """float16 sums of classes and samples are scikit-learn's own; the largest loss is -log of the smallest eps."""
    step = eps(np.zeros(0, np.float64 if dtype in (list, np.longdouble) else dtype))
    return 4 * step * -np.log(step) * samples


@pytest.mark.parametrize("dtype", DTYPES)
def test_labels(rng, dtype):
    kinds = ["int", "str", "object", "bool", "float", "int8", "negative", "list"]
    for classes, kind, normalize, weighted, given in itertools.product(
        (2, 3, 4), kinds, (True, False), (False, True), ("no", "sorted", "reversed")
    ):
        if kind == "bool" and classes != 2:
            continue
        n = 12
        y = np.concatenate([np.arange(classes), rng.integers(classes, size=n - classes)])
        p = rng.dirichlet(np.ones(classes) * 0.5, n)
        p[0] = np.eye(classes)[-1]  # a certain mistake: what is clipped
        p = made(p, dtype)
        names = np.arange(classes)
        if kind in ("str", "object"):
            names = NAMES[:classes].astype(object if kind == "object" else NAMES.dtype)
        elif kind != "list":
            names = (names - (1 if kind == "negative" else 0)).astype({"negative": int}.get(kind, kind))
        y = names[y]
        labels = None if given == "no" else names if given == "sorted" else names[::-1]
        s = rng.uniform(-0.2, 2, n) if weighted else None
        if kind == "list":
            y, s = y.tolist(), None if s is None else s.tolist()
            labels = None if labels is None else labels.tolist()
        atol = tolerance(p, dtype, n)
        check(kind, atol, y, p, normalize=normalize, sample_weight=s, labels=labels)


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_and_several_labels(rng, dtype):
    y, p = rng.integers(2, size=9), rng.random(9)
    y[:2] = 0, 1
    atol = tolerance(p, dtype, 9)
    for normalize in (True, False):
        check("positive class", atol, y, made(p, dtype), normalize=normalize)
        check("a column", atol, y[:, None], made(p[:, None], dtype), normalize=normalize)
        check("with labels", atol, y, made(p, dtype), labels=[0, 1], normalize=normalize)
        check("one seen", atol, np.ones(9, int), made(p, dtype), labels=[0, 1], normalize=normalize)
        for t in (
            np.eye(3, dtype=int)[rng.integers(3, size=9)],
            rng.integers(2, size=(9, 3)),
            np.eye(3)[np.arange(9) % 3],
        ):
            t[0] = 1, 0, 1
            check("indicators", 3 * atol, t, made(rng.dirichlet(np.ones(3), 9), dtype), normalize=normalize)
        check("no distribution", 3 * atol, np.arange(9) % 3, made(rng.random((9, 3)), dtype), normalize=normalize)


P, Y = np.array([[0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.4, 0.6]]), ["b", "a", "a", "b"]
B, P3, Y3 = [1, 0, 0, 1], np.full((4, 3), 1 / 3), [2, 1, 0, 2]
BAD_CALLS = [
    *[((Y, p), {}) for p in (-P, P * 2, P * np.nan, P * np.inf, P[None], P[:3], P3, P + 0j, 0.5, None, P[:0])],
    *[
        ((y, P), {})
        for y in (Y[:3], ["a"] * 4, Y3, [0.5, 1, 2.2, 3], [0, 1, np.nan, 1], [0, "a", 1, 0], [0, None, 1, 0])
    ],
    *[((y, P), {}) for y in (None, "abcd", np.array(1), np.array([B]), np.array([[0, 1], [2, 1], [0, 0], [1, 1]]))],
    (([], np.zeros((0, 2))), {}),
    (([0, 1, 1, 0], P3), {}),
    *[((B, P), {"sample_weight": s}) for s in ([1, 2, 3], [[1], [2], [3], [4]], [1, np.nan, 1, 1], [0, 0, 0, 0], 2.0)],
    *[((B, P), {"normalize": n}) for n in (1, "a", None)],
    *[((Y, P), {"labels": c}) for c in (["a"], ["a", "x"], ["a", "b", "c"], [], "ab", 5, [["a", "b"]])],
    ((Y3, P3), {"labels": [0, 1, 2, 2]}),
    ((np.eye(3, dtype=int)[Y3], P3), {"labels": [0, 1, 2]}),
    ((Y, P), {"y_pred": P}),
    ((Y,), {"y_pred": P}),
    ((Y,), {"y_pred": None}),
    ((Y, P, True), {}),
]


@pytest.mark.parametrize("call", range(len(BAD_CALLS)))
def test_errors(call):
    args, options = BAD_CALLS[call]
    check("", 1e-14, *args, **options)
