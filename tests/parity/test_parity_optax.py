"""xent.compat.optax beside optax on JAX with 64-bit types: every option, dtype and shape, results and errors alike.

Tolerances are a few eps of the coarsest operand at the scale of the terms added: JAX rounds each log-probability and
product to the operands' dtype, xent once at the end.
"""

import inspect
import itertools

import numpy as np
import pytest
from parity import Outcome, compare, eps, library, rows, worst_term

from xent.compat import optax as ours

jax = library("jax")
losses = library("optax.losses")

DTYPES = [np.float16, np.float32, np.float64]
PAIRS = [((5,), (5,)), ((6, 5), (6, 5)), ((6, 5), (5,)), ((5,), (6, 5)), ((6, 5), (6, 1)), ((2, 3, 4), (2, 3, 4))]
PAIRS += [((6, 5), ()), ((0, 5), (0, 5)), ((4, 0), (4, 0)), ((6, 5), (6, 4))]
LABELS = "softmax_cross_entropy_with_integer_labels"
SOFTMAX = ["softmax_cross_entropy", "safe_softmax_cross_entropy"]
KL = ["kl_divergence", "kl_divergence_with_log_targets", "generalized_kl_divergence"]


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


def jaxed(a):
    return jax.numpy.asarray(a) if isinstance(a, np.ndarray) else a


def check(what, function, atol, *args, **options):
    theirs = Outcome(
        lambda: getattr(losses, function)(*map(jaxed, args), **{k: jaxed(v) for k, v in options.items()}), np.asarray
    )
    compare(
        (function, options, what), Outcome(lambda: getattr(ours, function)(*args, **options), np.asarray), theirs, atol
    )


def masks(rng, shape):
    yield None
    if np.prod(shape):
        some = rng.random(shape) < 0.6
        some[(0,) * (len(shape) - 1)] = False
        yield some
        if len(shape) > 1:
            yield rng.random(shape[:-1]) < 0.6
            yield rng.random(shape[-1:]) < 0.6


@pytest.mark.parametrize("name", ours.__all__)
def test_signatures(name):
    mine, theirs = (inspect.signature(getattr(m, name)).parameters for m in (ours, losses))
    assert [(p.name, p.default, p.kind) for p in mine.values()] == [
        (p.name, p.default, p.kind) for p in theirs.values()
    ]


# JAX compiles every primitive for every shape, axis and dtype: mixed dtypes take a few shapes, one dtype takes all.
def cases(dtype, other):
    pairs = PAIRS if np.dtype(dtype) == other else PAIRS[1:3]
    return itertools.product(pairs, (False, True))


def calls(rng, shape, mixed):
    """Pairs of an axis and a mask."""
    yield -1, None
    if mixed:
        return
    yield from ((axis, None) for axis in (0, None, tuple(range(len(shape))), len(shape)))
    if len(shape) == 2:
        yield from ((-1, where) for where in masks(rng, shape))
        yield 0, rng.random(shape) < 0.6


@pytest.mark.parametrize("label_dtype", [*DTYPES, np.int32, np.bool_])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", SOFTMAX)
def test_softmax_cross_entropy(rng, function, dtype, label_dtype):
    for (shape, label_shape), spoiled in cases(dtype, label_dtype):
        # XLA makes the product with a bool a selection, in which 0 times infinity is 0; that is not optax's doing.
        x = rows(rng, shape, dtype, spoiled=spoiled and np.prod(shape) > 0 and label_dtype is not np.bool_)
        t = np.asarray(rng.random(label_shape) * 2 * (rng.random(label_shape) < 0.7)).astype(label_dtype)
        atol = 4 * (eps(x, t) if t.dtype.kind == "f" else eps(x)) * worst_term(x, -1) * 2 * x.size
        if function != "softmax_cross_entropy":
            check((x, t), function, atol, x, t)
            continue
        for axis, where in calls(rng, shape, shape != label_shape or dtype is not label_dtype):
            check((x, t), function, atol, x, t, axis=axis, where=where)


@pytest.mark.parametrize("label_dtype", [np.int64, np.int8, np.uint8, np.uint64])
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_cross_entropy_with_integer_labels(rng, dtype, label_dtype):
    shapes = [(5,), (6, 5), (2, 3, 4)] if label_dtype is np.int64 else [(6, 5)]
    for shape, spoiled, beyond in itertools.product(shapes, (False, True), (False, True)):
        x = rows(rng, shape, dtype, spoiled=spoiled)
        everything = tuple(range(len(shape)))
        for axis in (-1, 0, (0,), everything[::-1]) if len(shape) == 2 else (-1, everything):
            axes = [a % len(shape) for a in (axis if isinstance(axis, tuple) else (axis,))]
            batch = [n for i, n in enumerate(shape) if i not in axes]
            classes = int(np.prod([shape[a] for a in axes]))
            within = (-classes - 2, classes + 2) if beyond else (0, classes)
            y = np.asarray(rng.integers(*within, batch)).astype(label_dtype)
            for where in masks(rng, shape) if len(shape) == 2 else [None]:
                if where is None or where.ndim == x.ndim or (axis == -1 and where.shape == shape[:-1]):
                    atol = 4 * eps(x) * worst_term(x.reshape(-1), -1) * 2
                    check((x, y), LABELS, atol, x, y, axis=axis, where=where)


@pytest.mark.parametrize("target_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", KL)
def test_kl_divergence(rng, function, dtype, target_dtype):
    for (shape, target_shape), spoiled in cases(dtype, target_dtype):
        x = np.asarray(-np.abs(rows(rng, shape, np.float64)) - 0.1).astype(dtype)
        t = np.asarray(rng.random(target_shape) * 2).astype(target_dtype)
        if spoiled and x.size and t.size:
            x.reshape(-1)[rng.integers(x.size)] = rng.choice([-np.inf, np.inf, np.nan])
            t.reshape(-1)[rng.integers(t.size)] = rng.choice([0.0, -0.5, np.nan])
        if function == "kl_divergence_with_log_targets":
            with np.errstate(divide="ignore", invalid="ignore"):
                t = np.asarray(np.log(np.abs(t)))
        both = np.broadcast_shapes(shape, target_shape) if target_shape != (6, 4) else shape
        atol = 4 * eps(x, t) * (worst_term(x, 0) + 3) * 2 * max(int(np.prod(both)), 1)
        for axis, where in calls(rng, both, dtype is not target_dtype):
            check((x, t), function, atol, x, t, axis=axis, where=where)


X, P, Y = np.zeros((4, 3)), np.full((4, 3), 0.25), np.array([0, 1, 2, 1])
BAD_CALLS = [
    *[(f, (x, P), {}) for f in (*SOFTMAX, *KL) for x in (X.astype(int), X > 0, X.astype(complex), X.tolist(), X[:3])],
    *[(f, (X, p), {}) for f in KL for p in (P > 0, P.astype(int), P.tolist(), P[:2])],
    *[(f, (X, P.tolist()), {}) for f in SOFTMAX],
    *[(LABELS, (X, y), {}) for y in (Y.astype(float), Y > 0, Y[:3], Y[:, None], Y[None], Y[0], P)],
    *[(LABELS, (X, Y), {"axis": axis}) for axis in (None, 1.0, 2, -3)],
    *[(f, (X, P), {"axis": axis}) for f in ("softmax_cross_entropy", *KL) for axis in (2, -3, (0, 0), (0, 5))],
    *[
        (f, (X, P), {"where": w})
        for f in ("softmax_cross_entropy", *KL)
        for w in (np.ones((4, 3), int), np.ones((3, 3), bool))
    ],
    *[(LABELS, (X, Y), {"where": w}) for w in (np.ones((4, 3), int), np.ones((3, 3), bool))],
]


@pytest.mark.parametrize("call", range(len(BAD_CALLS)))
def test_errors(call):
    function, args, options = BAD_CALLS[call]
    check((args,), function, 1e-14, *args, **options)


def test_deprecated_name():
    check("deprecated", "convex_kl_divergence", 1e-14, np.log(P), P)
