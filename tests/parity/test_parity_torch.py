"""xent.compat.torch beside PyTorch: every option, dtype and shape, results and errors alike.

Tolerances are a few eps of the coarsest operand at the scale of the terms added: PyTorch rounds each log-probability,
product and partial sum to the operands' dtype, xent once at the end.
"""

import inspect
import itertools

import numpy as np
import pytest
from parity import Outcome, compare, eps, library, probs, rows, worst_term

from xent.compat import torch as ours

torch = library("torch")
F = torch.nn.functional

DTYPES = [np.float16, np.float32, np.float64]
SHAPES = [(5,), (1,), (6, 5), (3, 4, 2), (2, 5, 3, 2), (2, 3, 2, 1, 2)]
REDUCTIONS = ["none", "mean", "sum"]
INFINITIES = np.array([-np.inf, np.inf, np.nan, 0.0, -3.0, 2.5])


def tensor(a):
    if a is None or not isinstance(a, np.ndarray | np.generic):
        return a
    return torch.from_numpy(np.array(a))


def array(value):
    return value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def check(what, function, atol, *args, **options):
    """One call in both, with the arrays of either."""
    mine = getattr(ours, function)
    real = getattr(F, function, None) or getattr(torch, function)
    theirs = Outcome(lambda: real(*map(tensor, args), **{k: tensor(v) for k, v in options.items()}), array)
    compare((function, options, what), Outcome(lambda: mine(*args, **options), array), theirs, atol)


def class_axis(shape):
    return min(len(shape) - 1, 1)


@pytest.mark.parametrize("name", ours.__all__)
def test_signatures(name):
    real = getattr(F, name, None) or getattr(torch.nn, name, None) or getattr(torch, name)
    if name == "logsumexp":  # a builtin without a signature: the documentation's
        assert str(inspect.signature(ours.logsumexp)).startswith("(input:")
        assert list(inspect.signature(ours.logsumexp).parameters) == ["input", "dim", "keepdim", "out"]
        return
    mine, theirs = inspect.signature(getattr(ours, name)).parameters, inspect.signature(real).parameters
    assert [(p.name, p.default, p.kind) for p in mine.values()] == [
        (p.name, p.default, p.kind) for p in theirs.values()
    ]


@pytest.mark.parametrize("spoiled", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_labels(rng, dtype, shape, spoiled):
    axis = class_axis(shape)
    classes = shape[axis]
    batch = np.delete(shape, axis).tolist()
    for weighted, ignored, smoothing, reduction, label_type in itertools.product(
        ("none", "some", "zeros"),
        (-100, 0, 1),
        (0.0, 0.1, 1.0, -0.5),
        REDUCTIONS,
        (np.int64, np.uint8),
    ):
        if label_type is np.uint8 and len(shape) < 3 and smoothing > 0 and weighted != "none" and reduction == "mean":
            continue  # PyTorch's own gather refuses its own label type here
        x = rows(rng, shape, dtype, axis, spoiled)
        y = rng.integers(classes, size=batch).astype(label_type)
        if shape == (1,):
            y = np.array([0], label_type)[0]  # of shape (1,) it would be a target of the input's own shape
        w = None if weighted == "none" else rng.uniform(0.5, 2, classes).astype(dtype)
        if weighted == "zeros":
            w[rng.random(classes) < 0.5] = 0
        options = {"weight": w, "ignore_index": ignored, "label_smoothing": smoothing, "reduction": reduction}
        scale = worst_term(x, axis) * 2 * (1 + abs(smoothing)) * (y.size if reduction == "sum" else 1)
        check((x, y), "cross_entropy", 4 * eps(x) * scale, x, np.asarray(y), **options)


@pytest.mark.parametrize("spoiled", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_probs(rng, dtype, shape, spoiled):
    axis = class_axis(shape)
    classes = shape[axis]
    for weighted, smoothing, reduction, target_dtype in itertools.product(
        ("none", "some", "zeros", "double"), (0.0, 0.1, 1.0), REDUCTIONS, DTYPES
    ):
        x = rows(rng, shape, dtype, axis, spoiled)
        t = probs(rng, shape, target_dtype, axis, zeros=True)
        w = None
        if weighted != "none":
            w = rng.uniform(0.5, 2, classes).astype(np.float64 if weighted == "double" else dtype)
            if weighted == "zeros":
                w[rng.random(classes) < 0.5] = 0
        n = x.size // classes if reduction == "sum" else 1
        options = {"weight": w, "label_smoothing": smoothing, "reduction": reduction}
        check((x, t), "cross_entropy", 4 * eps(x, t) * worst_term(x, axis) * 2 * n, x, t, **options)


def test_everything_ignored_and_nothing_there():
    x = np.zeros((2, 3))
    none = np.array([-100, -100])
    for function, reduction in itertools.product(("cross_entropy", "nll_loss"), REDUCTIONS):
        check("ignored", function, 0, x, none, reduction=reduction)
        check("no rows", function, 0, x[:0], none[:0], reduction=reduction)
        check("no classes", function, 0, x[:, :0], none, reduction=reduction)
        check("K-dimensional", function, 0, np.zeros((2, 3, 0)), np.zeros((2, 0), int), reduction=reduction)
        check("no weight", function, 0, x, np.array([0, 1]), weight=np.zeros(3), reduction=reduction)
    for reduction in REDUCTIONS:
        check("smoothed", "cross_entropy", 0, x, none, reduction=reduction, label_smoothing=0.1)
        for shape in ((0, 3), (2, 0)):
            check(shape, "cross_entropy", 0, np.zeros(shape), np.zeros(shape), reduction=reduction)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nll_loss(rng, dtype, shape):
    axis = class_axis(shape)
    classes = shape[axis]
    batch = np.delete(shape, axis).tolist()
    for weighted, ignored, reduction, label_type, spoiled in itertools.product(
        (False, True), (-100, 1), REDUCTIONS, (np.int64, np.uint8), (False, True)
    ):
        x = rows(rng, shape, dtype, axis, spoiled)
        y = rng.integers(classes, size=batch).astype(label_type)
        w = rng.uniform(0, 2, classes).round().astype(dtype) if weighted else None
        scale = 2 * worst_term(x, axis) * (y.size if reduction == "sum" else 1)
        options = {"weight": w, "ignore_index": ignored, "reduction": reduction}
        check((x, y), "nll_loss", 2 * eps(x) * scale, x, y, **options)


@pytest.mark.parametrize("target_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_div(rng, dtype, target_dtype):
    pairs = [
        ((4, 3), (4, 3)),
        ((3,), (3,)),
        ((), ()),
        ((4, 3), (3,)),
        ((1, 3), (4, 3)),
        ((), (2,)),
        ((2, 3, 4), (2, 3, 4)),
    ]
    pairs += [((0, 3), (0, 3)), ((2, 0), (2, 0))]
    for (x_shape, t_shape), reduction, logs, spoiled in itertools.product(
        pairs, ("none", "mean", "sum", "batchmean"), (False, True), (False, True)
    ):
        x = np.asarray(-np.abs(rows(rng, x_shape, dtype)) - dtype(0.1))
        t = np.asarray(rng.random(t_shape)).astype(target_dtype)
        if spoiled and x.size and t.size:
            x.reshape(-1)[rng.integers(x.size)] = rng.choice(INFINITIES)
            t.reshape(-1)[rng.integers(t.size)] = rng.choice([0.0, 0.0, -0.5, np.nan, 1.5])
        if logs:
            with np.errstate(divide="ignore", invalid="ignore"):
                t = np.asarray(np.log(np.abs(t)))
        finite = np.abs(np.where(np.isfinite(x), x, 0)).astype(np.float64)
        n = np.broadcast(x, t).size if reduction in ("sum", "batchmean") else 1
        atol = 4 * eps(x, t) * (1.5 * (finite.max(initial=0) + 1)) * max(n, 1)
        check((x, t), "kl_div", atol, x, t, reduction=reduction, log_target=logs)


@pytest.mark.parametrize("function", ["kl_div", "cross_entropy", "nll_loss", "binary_cross_entropy"])
def test_deprecated_arguments(rng, function):
    x, t = probs(rng, (4, 3), np.float64), probs(rng, (4, 3), np.float64)
    if function == "nll_loss":
        t = np.array([0, 2, 1, 0])
    reductions = ("mean", "none", "batchmean", "elementwise_mean", "nonsense")
    for average, reduce, reduction in itertools.product((None, True, False), (None, True, False), reductions):
        options = {"size_average": average, "reduce": reduce, "reduction": reduction}
        check(function, function, 1e-14, x, t, **options)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmaxes(rng, dtype):
    for function, shape, spoiled in itertools.product(
        ("softmax", "log_softmax", "softmin"),
        ((), (4,), (3, 4), (2, 3, 4), (2, 2, 3, 2), (0, 3), (3, 0)),
        (False, True),
    ):
        x = rows(rng, shape, dtype, spoiled=spoiled and np.prod(shape) > 0)
        scale = worst_term(x, 0)
        for dim, wanted in itertools.product((None, *range(-len(shape) - 1, len(shape) + 1)), (None, *DTYPES)):
            atol = 4 * max(eps(x), float(np.finfo(wanted or dtype).eps)) * scale
            mine = getattr(ours, function)
            real = getattr(F, function)
            torch_dtype = None if wanted is None else tensor(np.zeros(1, wanted)).dtype
            theirs = Outcome(lambda real=real, x=x, dim=dim, d=torch_dtype: real(tensor(x), dim, dtype=d), array)
            got = Outcome(lambda mine=mine, x=x, dim=dim, d=wanted: mine(x, dim, dtype=d), array)
            compare((function, x, dim, wanted), got, theirs, atol)


@pytest.mark.parametrize("dtype", [*DTYPES, np.int64, np.int8, np.bool_, np.complex64, np.complex128])
def test_logsumexp(rng, dtype):
    for shape, spoiled in itertools.product(((), (4,), (3, 4), (2, 3, 4), (0, 3), (3, 0)), (False, True)):
        real = np.dtype(dtype).kind == "f"
        x = rows(rng, shape, dtype, spoiled=spoiled and real and np.prod(shape) > 0)
        axes = range(len(shape))
        for dim, keepdim in itertools.product((*axes, -1, len(shape) + 1, [0], tuple(axes) or 0), (False, True)):
            wide = x.astype(np.float32) if x.dtype.kind in "biu" else x
            check((x, dim), "logsumexp", 4 * eps(wide) * worst_term(x.real, 0), x, dim, keepdim=keepdim)


def test_logsumexp_out(rng):
    x = rows(rng, (3, 4), np.float32)
    for dtype in (np.float16, np.float32, np.float64, np.int64):
        out, filled = np.zeros(3, dtype), torch.zeros(3, dtype=tensor(np.zeros(1, dtype)).dtype)
        theirs = Outcome(lambda filled=filled: torch.logsumexp(tensor(x), 1, out=filled), array)
        mine = Outcome(lambda out=out: ours.logsumexp(x, 1, out=out), array)
        compare(dtype, mine, theirs, 4 * max(eps(x), 1e-3 * (dtype == np.float16)) * worst_term(x, 1))
        assert mine.error is not None or mine.values[0] is out


BCE_VALUES = np.array([0.0, 1.0, 0.5, 1e-3, 1 - 1e-3, 1e-7])
BCE_LOGITS = np.array([0.0, -1.0, 2.5, 8.0, -30.0, 50.0, -np.inf, np.inf, np.nan])


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy(rng, dtype):
    for shape, reduction, weight_shape in itertools.product(
        ((4, 3), (3,), (), (0, 3)), REDUCTIONS, (None, (), (3,), (4, 1), (4, 3), (5,), (2, 4, 3))
    ):
        p, t = (np.asarray(rng.choice(BCE_VALUES, shape)).astype(dtype) for _ in range(2))
        for weight_dtype in DTYPES:
            w = None if weight_shape is None else np.asarray(rng.uniform(0, 2, weight_shape), weight_dtype)
            n = p.size if reduction == "sum" else 1
            atol = 4 * (eps(p) if w is None else eps(p, w)) * 200 * n
            check((p, t), "binary_cross_entropy", atol, p, t, weight=w, reduction=reduction)


@pytest.mark.parametrize("target_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_with_logits(rng, dtype, target_dtype):
    name = "binary_cross_entropy_with_logits"
    for shape, reduction, weight_shape, positive_shape in itertools.product(
        ((4, 3), (3,), (), (0, 3)), REDUCTIONS, (None, (3,), (4, 1), (5,), (2, 4, 3)), (None, (), (3,), (4, 3), (5,))
    ):
        x = np.asarray(rng.choice(BCE_LOGITS[: rng.choice([6, 9])], shape)).astype(dtype)
        t = np.asarray(rng.choice([0.0, 1.0, 0.5, 2.0, 0.1], shape)).astype(target_dtype)
        w = None if weight_shape is None else rng.uniform(0.5, 2, weight_shape).astype(dtype)
        v = None if positive_shape is None else np.asarray(rng.uniform(0.5, 3, positive_shape)).astype(dtype)
        n = x.size if reduction == "sum" else 1
        # 50 is the largest logit; the factors are at most 2, 1 + (3 - 1) 2 and 2.
        atol = 4 * eps(x, t) * 50 * 2 * 5 * n
        check((x, t, w, v), name, atol, x, t, weight=w, pos_weight=v, reduction=reduction)


X, Y, P = np.zeros((4, 3)), np.array([0, 1, 2, 1]), np.full((4, 3), 0.25)
ONES = np.ones(3)
BAD_CALLS = [
    *[
        ("cross_entropy", (x, Y), {})
        for x in (X.astype(int), X > 0, X.astype(complex), X.tolist(), X[0], X[0, 0], X[:3])
    ],
    *[
        ("cross_entropy", (X, y), {})
        for y in (
            *(Y.astype(d) for d in (np.int8, np.int16, np.int32, bool, np.float64)),
            *(Y.tolist(), Y[:3], Y[None], Y[:, None], Y[0], Y + 1, Y - 1, P[:3], P[:, :2], P[0], P.astype(int), P > 0),
        )
    ],
    *[
        ("cross_entropy", (X, target), {"weight": w})
        for target in (Y, P)
        for w in (np.ones(4), np.ones((1, 3)), np.ones(()), ONES.astype(np.float32), ONES.astype(int), [1.0, 1, 1])
    ],
    *[("cross_entropy", (X, P), {"ignore_index": i}) for i in (0, 1, -1, -100)],
    *[("cross_entropy", (X, Y), {"ignore_index": i}) for i in (1.0, None, "1")],
    *[("cross_entropy", (X, t), {"label_smoothing": a}) for t in (Y, P) for a in (1.1, 2, 1)],
    *[("cross_entropy", (X, Y), {"reduction": r}) for r in ("batchmean", "Mean", None)],
    *[("cross_entropy", (X, Y + 1), {"label_smoothing": 0.1, "reduction": r}) for r in REDUCTIONS],
    ("cross_entropy", (np.zeros((2, 3, 4)), np.zeros((2, 3), int)), {}),
    ("cross_entropy", (np.zeros((2, 3, 4)), np.zeros((2, 4), int) + 3), {}),
    ("cross_entropy", (np.zeros((2, 3, 4, 2)), np.zeros((2, 4), int)), {}),
    ("cross_entropy", (np.zeros((2, 3, 4, 2)), np.zeros((1, 4, 2), int)), {}),
    ("cross_entropy", (np.zeros((2, 3, 4, 2, 1)), np.zeros((2, 4, 2), int)), {}),
    ("cross_entropy", (X[0], Y[:1]), {}),
    ("cross_entropy", (X[0], Y), {}),
    ("cross_entropy", (X[0], Y[0] + 3), {}),
    ("cross_entropy", (X[0, 0], P[0, 0]), {}),
    *[("nll_loss", (x, Y), {}) for x in (X.astype(int), X > 0, X.astype(complex), X.tolist(), X[0], X[0, 0], X[:3])],
    *[
        ("nll_loss", (X, y), {})
        for y in (Y.astype(np.int32), Y.astype(float), Y[:3], Y[:, None], Y + 1, Y - 1, Y[0], P)
    ],
    *[
        ("nll_loss", (X, Y), {"weight": w})
        for w in (np.ones(4), np.ones((1, 3)), ONES.astype(np.float32), ONES.astype(int))
    ],
    ("nll_loss", (np.zeros((2, 3, 4)), np.zeros((2, 4), int)), {"weight": np.ones(4)}),
    ("nll_loss", (X, Y), {"reduction": "batchmean"}),
    *[
        ("kl_div", pair, {"reduction": "sum", "log_target": logs})
        for pair in (
            (X, P[:3]),
            (X.astype(int), P),
            (X, P > 0),
            (X.astype(complex), P),
            (X.tolist(), P),
            (X, P.tolist()),
        )
        for logs in (False, True)
    ],
    ("kl_div", (X, P), {"reduction": "nonsense"}),
    *[
        (f, (x, 1), {})
        for f in ("softmax", "log_softmax", "softmin")
        for x in (X.astype(int), X > 0, X.astype(np.uint8), X.astype(complex), X.tolist())
    ],
    *[(f, (X, dim), {}) for f in ("softmax", "log_softmax", "softmin") for dim in (2, -3, 1.0, (0, 1), "0")],
    *[("logsumexp", (X, dim), {}) for dim in (2, -3, (0, 0), (0, -2), (), 1.0, None, "0")],
    ("logsumexp", (X.tolist(), 1), {}),
    *[
        ("binary_cross_entropy", pair, {})
        for pair in (
            *((P, P[:3]), (P, P[:1]), (P, P[0]), (P, P.astype(np.float32)), (P.astype(np.float32), P), (P, P > 0)),
            *((P > 0, P > 0), (Y, Y), (P.astype(complex), P.astype(complex)), (P.tolist(), P), (P, P.tolist())),
            *((P + 1, P), (P - 1, P), (P, P + 1), (P, P - 1), (P * np.nan, P), (P, P * np.nan)),
        )
    ],
    *[
        ("binary_cross_entropy_with_logits", pair, {})
        for pair in (
            (P, P[:3]),
            (P, P[0]),
            (P, P > 0),
            (P, X.astype(int)),
            (X.astype(int), P),
            (P > 0, P),
            (P.tolist(), P),
        )
    ],
    *[(f"binary_cross_entropy{s}", (P, P), {"reduction": "batchmean"}) for s in ("", "_with_logits")],
    *[(f"binary_cross_entropy{s}", (P, P), {"weight": [1.0, 1, 1]}) for s in ("", "_with_logits")],
    ("binary_cross_entropy_with_logits", (P, P), {"pos_weight": 2.0}),
]


@pytest.mark.parametrize("call", range(len(BAD_CALLS)))
def test_errors(call):
    function, args, options = BAD_CALLS[call]
    check((args,), function, 1e-14, *args, **options)


def test_classes(rng):
    x, y, t = rows(rng, (4, 3), np.float64), Y, probs(rng, (4, 3), np.float64)
    w = np.array([0.5, 1.0, 2.0])
    cases = [
        (
            "KLDivLoss",
            ({}, {"reduction": "batchmean", "log_target": True}, {"size_average": False}, {"reduce": False}),
            t,
        ),
        ("CrossEntropyLoss", ({}, {"weight": w, "ignore_index": 1, "label_smoothing": 0.1}, {"reduce": False}), y),
        ("NLLLoss", ({}, {"weight": w, "ignore_index": 1, "reduction": "sum"}, {"size_average": False}), y),
        ("BCEWithLogitsLoss", ({}, {"weight": w, "pos_weight": w, "reduction": "none"}, {"size_average": True}), t),
        ("CrossEntropyLoss", ({"reduction": "nonsense"},), y),
    ]
    for name, constructions, target in cases:
        for options in constructions:
            theirs = Outcome(
                lambda n=name, o=options, t=target: getattr(torch.nn, n)(**{k: tensor(v) for k, v in o.items()})(
                    tensor(x), tensor(t)
                ),
                array,
            )
            mine = Outcome(lambda n=name, o=options, t=target: getattr(ours, n)(**o)(x, t), array)
            compare((name, options), mine, theirs, 1e-13)
    for dim in (None, 0, 1, 5):
        theirs = Outcome(lambda dim=dim: torch.nn.LogSoftmax(dim)(tensor(x)), array)
        compare(dim, Outcome(lambda dim=dim: ours.LogSoftmax(dim)(x), array), theirs, 1e-14)
