"""xent.compat.scipy beside SciPy: every option, dtype and shape, results and errors alike.

Tolerances are a few eps of the coarsest operand at the scale of the terms added: SciPy rounds every exponential,
product and partial sum to the operands' dtype, xent once at the end.
"""

import inspect
import itertools

import numpy as np
import pytest
from parity import Outcome, compare, eps, library, rows, worst_term

from xent.compat import scipy as ours

special = library("scipy.special")
stats = library("scipy.stats")

FLOATS = [np.float16, np.float32, np.float64]
DTYPES = [*FLOATS, np.longdouble, np.complex64, np.complex128, np.int8, np.int16, np.int64]
SHAPES = [(), (5,), (3, 4), (2, 3, 4)]


def array(value):
    """Of a complex result the real part and the phase, which goes round: pi is -pi."""
    value = np.asarray(value)
    return np.stack([value.real, np.cos(value.imag), np.sin(value.imag)]) if value.dtype.kind == "c" else value


def check(what, function, atol, *args, **options):
    real = getattr(special, function, None) or getattr(stats, function)
    theirs = Outcome(lambda: real(*args, **options), array)
    mine = Outcome(lambda: getattr(ours, function)(*args, **options), array)
    compare((function, options, what), mine, theirs, atol)


def axes_of(ndim):
    yield None
    for n in range(1, ndim + 1):
        yield from itertools.permutations(range(ndim), n)
    yield from range(-ndim, ndim)


def values(rng, shape, dtype, spoiled=False):
    if np.dtype(dtype).kind == "c":
        return (rows(rng, shape, np.float64, spoiled=spoiled) + 1j * rng.normal(0, 4, shape)).astype(dtype)
    return np.asarray(rows(rng, shape, np.float64, spoiled=spoiled)).astype(dtype)


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax", "entropy"])
def test_signatures(name):
    real = getattr(special, name, None) or getattr(stats, name)
    mine, theirs = inspect.signature(getattr(ours, name)).parameters, inspect.signature(real).parameters
    assert [(p.name, p.default, p.kind) for p in mine.values()] == [
        (p.name, p.default, p.kind) for p in theirs.values()
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_logsumexp(rng, dtype, shape):
    for spoiled, axis, (keepdims, sign) in itertools.product(
        (False, True), axes_of(len(shape)), ((False, False), (False, True), (True, True))
    ):
        # Infinite complex numbers are left to NumPy by both, which disagree with themselves from one axis to another.
        a = values(rng, shape, dtype, spoiled and np.dtype(dtype).kind == "f")
        # A phase is a sum over terms, whatever its scale.
        scale = worst_term(a.real, 0) + 20
        wide = a if a.dtype.kind in "fc" else np.zeros(1)
        check(a, "logsumexp", 4 * eps(wide) * scale, a, axis=axis, keepdims=keepdims, return_sign=sign)


@pytest.mark.parametrize("b_dtype", [np.float16, np.float64, np.int64, np.bool_, np.complex128, float, int])
@pytest.mark.parametrize("dtype", [*FLOATS, np.longdouble, np.complex128, np.int64, float])
def test_logsumexp_of_weighted(rng, dtype, b_dtype):
    shapes = [
        ((4,), (4,)),
        ((3, 4), (3, 4)),
        ((3, 4), (4,)),
        ((3, 4), (3, 1)),
        ((4,), (3, 4)),
        ((), (4,)),
        ((3, 4), ()),
    ]
    for (shape, b_shape), kind, spoiled, (keepdims, sign) in itertools.product(
        shapes, ("positive", "zeros", "signs"), (False, True), ((False, False), (False, True), (True, True))
    ):
        if (dtype is float and shape) or (b_dtype is float and b_shape) or (b_dtype is int and b_shape):
            continue
        real = np.dtype(dtype).kind == "f" and np.dtype(b_dtype).kind != "c"
        a = values(rng, shape, dtype, spoiled and real)
        b = rng.integers(1, 4, b_shape) * rng.choice([0.5, 1.0, 1.5], b_shape)
        if kind != "positive":
            b = b * (rng.random(b_shape) < 0.6)
        if kind == "signs":
            b = b * rng.choice([-1.0, 1.0, 1.0], b_shape)
        b = np.asarray(b).astype(b_dtype)
        a, b = (a.item() if dtype is float else a), (b.item() if b_dtype in (float, int) else b)
        for axis in (None, *range(max(np.ndim(a), np.ndim(b)))):
            atol = tolerance_of_weighted(a, b, axis)
            check((a, b), "logsumexp", atol, a, b=b, axis=axis, keepdims=keepdims, return_sign=sign)


def tolerance_of_weighted(a, b, axis):
    """What is left of a sum that cancels has the rounding of its terms: eps times their sum over the result."""
    wide = np.result_type(a, b)
    step = float(np.finfo(wide if wide.kind in "fc" else np.float64).eps)
    if wide.kind == "c":
        step = max(step, float(np.finfo(np.float64).eps))  # SciPy's pi, by which phases are wrapped, is a double
    x = np.asarray(a, np.complex128)
    x = np.where(np.asarray(b) == 0, -np.inf, x)
    top = np.where(np.isfinite(x.real), x.real, -1e300).max()
    with np.errstate(all="ignore"):
        terms = np.asarray(b) * np.exp(x - top)
        lost = np.abs(terms).sum(axis) / np.abs(terms.sum(axis))
    lost = np.where(np.isfinite(lost), lost, 1).max()
    return 4 * step * (worst_term(np.asarray(a, complex).real, 0) + 20 + 2 * float(lost))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([0.0, -50.0], None),
        ([0.0, -50.0], [1.0, 2.0]),
        ([0.0, -50.0], [1.0, -2.0]),
        ([1000.0, 999.999], [1.0, -1.0]),
        ([1000.0, 999.0], [1.0, -5.0]),
        ([-1000.0, -1001.0], [-1.0, 5.0]),
        ([1.0, 1.0, 0.0], [1.0, -1.0, 1.0]),
        ([0.0, 0.0], [1.0, -1.0]),
        ([-50.0, 0.0], [1e30, 1.0]),
        ([np.inf, 0.0], [-1.0, 1.0]),
        ([np.inf, 0.0], [0.0, 1.0]),
        ([np.inf, np.inf], [1.0, -1.0]),
        ([np.inf, 0.0], [0.0, 0.0]),
        ([np.nan, 0.0], [0.0, 1.0]),
        ([-np.inf, 0.0], [np.inf, 1.0]),
        ([0.0, 1.0], [np.inf, 1.0]),
        ([0.0, 1.0], [np.nan, 1.0]),
        ([-np.inf, -np.inf], [1.0, -1.0]),
    ],
)
@pytest.mark.parametrize("sign", [False, True])
def test_logsumexp_keeps_what_is_tiny_and_what_is_infinite(a, b, sign):
    theirs = Outcome(lambda: special.logsumexp(a, b=b, return_sign=sign), np.asarray)
    size = np.abs(theirs.values[0])
    atol = 4 * np.finfo(float).eps * (float(size) if np.isfinite(size) else 0)
    compare((a, b), Outcome(lambda: ours.logsumexp(a, b=b, return_sign=sign), np.asarray), theirs, atol)


@pytest.mark.parametrize("function", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmaxes(rng, function, dtype):
    for shape, spoiled in itertools.product([*SHAPES, (0, 3, 4), (2, 0, 4), (0,)], (False, True)):
        if np.dtype(dtype) == np.int8:
            x = rng.integers(-20, 20, shape).astype(dtype)  # SciPy's differences of int8 wrap around beyond that
        else:
            x = values(rng, shape, dtype, spoiled and np.dtype(dtype).kind == "f" and np.prod(shape) > 0)
        scale = worst_term(x.real, 0) + (10 if x.dtype.kind == "c" else 0)
        rounding = {1: np.finfo(np.float16).eps, 2: np.finfo(np.float32).eps}.get(x.itemsize, np.finfo(float).eps)
        for axis in (*axes_of(len(shape)), len(shape) + 1):
            step = eps(x) if x.dtype.kind in "fc" else float(rounding)
            check(x, function, 4 * step * scale, x, axis=axis)


EDGES = np.array([0.0, -0.0, 1.0, 2.0, 0.5, 1e-20, -1.0, np.inf, -np.inf, np.nan, 1e100])


@pytest.mark.parametrize("function", ["rel_entr", "kl_div"])
def test_elementwise_edges(function):
    for x, y in itertools.product(EDGES, EDGES):
        size = abs(x) + abs(y)
        # 1e100 log(1e100 / 1e-20) has a factor of 276.
        check((x, y), function, 4 * eps(EDGES) * 276 * size if np.isfinite(size) else 0, x, y)


@pytest.mark.parametrize("function", ["rel_entr", "kl_div"])
def test_elementwise(rng, function):
    kinds = [*FLOATS, np.longdouble, np.complex128, np.int8, np.uint16, np.int64, np.bool_, float, int, list]
    pairs = [((3, 4), (3, 4)), ((3, 4), (4,)), ((), (4,)), ((), ()), ((3, 4), (5,)), ((0, 3), (3,))]

    def made(values, kind):
        if kind is list:
            return values.tolist()
        return kind(values.ravel()[0]) if kind in (float, int) and values.size else values.astype(kind)

    for x_kind, y_kind, (x_shape, y_shape) in itertools.product(kinds, kinds, pairs):
        x = made(np.asarray(rng.integers(0, 4, x_shape), float), x_kind)
        y = made(np.asarray(rng.random(y_shape) * 4), y_kind)
        theirs = Outcome(lambda x=x, y=y: getattr(special, function)(x, y), np.asarray)
        # Of the result's dtype: float32 is computed in float64, float16 read exactly. 4 is the largest operand.
        step = 0 if theirs.error is not None else eps(*theirs.values)
        check((x, y), function, 4 * step * 4 * np.log(4e4), x, y)


def test_elementwise_out_and_where(rng):
    x, y = rng.random((3, 4)), rng.random((3, 4))
    for function, dtype, where in itertools.product(
        ("rel_entr", "kl_div"), (np.float32, np.float64, np.int64), (True, x > y)
    ):
        mine, theirs = np.full((3, 4), 7, dtype), np.full((3, 4), 7, dtype)
        real = Outcome(lambda t=theirs, f=function, w=where: getattr(special, f)(x, y, out=t, where=w), np.asarray)
        got = Outcome(lambda m=mine, f=function, w=where: getattr(ours, f)(x, y, out=m, where=w), np.asarray)
        compare((function, dtype), got, real, 4 * float(np.finfo(np.float32 if dtype is np.float32 else float).eps) * 4)
        assert got.error is not None or got.values[0] is mine


@pytest.mark.parametrize("dtype", [*FLOATS, np.longdouble, np.complex128, np.int8, np.int64, np.bool_])
def test_entropy(rng, dtype):
    for shape, paired, base, policy, keepdims in itertools.product(
        [*SHAPES, (0, 3), (3, 0)],
        ("no", "same", "row"),
        (None, 2, 0.5),
        ("propagate", "omit", "raise"),
        (False, True),
    ):
        for axis in axes_of(len(shape) or 1):
            if dtype in (np.float16, np.longdouble, np.complex128) and not np.prod(shape):
                continue  # SciPy looks at the type where there is something to compute only
            if axis is None and paired == "row":
                continue  # each is flattened before they are broadcast: an error, which BAD_CALLS has
            kind = np.dtype(dtype).kind
            p = np.asarray(rng.random(shape) * (1 if kind in "fc" else 9)).astype(dtype)
            q = None if paired == "no" else np.asarray(rng.random(shape if paired == "same" else shape[-1:]) + 0.1)
            q = q if q is None else q.astype(dtype if kind == "f" else np.float64)
            if p.size and kind == "f":
                # A NaN among float16 or long doubles changes SciPy's own dtype, from one number of axes to another.
                nan = np.nan if dtype in (np.float32, np.float64) else 0.0
                p.reshape(-1)[rng.integers(p.size)] = rng.choice([0.0, 1.0, 1.0, 1.0, -0.5, nan, np.inf])
                if q is not None:
                    q.reshape(-1)[rng.integers(q.size)] = rng.choice([0.0, 1.0, 1.0, 1.0, -0.5, nan])
            # Integers are few and may all be 0: 0 / 0 is NaN in both.
            check(
                (p, q),
                "entropy",
                tolerance_of_entropy(p, q, axis),
                p,
                q,
                base,
                axis,
                nan_policy=policy,
                keepdims=keepdims,
            )


def tolerance_of_entropy(p, q, axis):
    """Terms share log share: a negative element makes the sum small that they are shares of."""
    real = [np.atleast_1d(a.real) for a in np.broadcast_arrays(p, p if q is None else q)]
    step = max([float(np.finfo(float).eps), *(eps(a) for a in real if a.dtype.kind == "f" and a.dtype.itemsize < 8)])
    largest = 1.0
    for a in real:
        wide = np.where(np.isfinite(a), a, 0).astype(np.float64)
        with np.errstate(all="ignore"):
            shares = np.abs(wide).sum(axis) / np.abs(wide.sum(axis))
        largest = max(largest, float(np.where(np.isfinite(shares), shares, 1).max(initial=1)))
    return 8 * step * largest * (8 + np.log(largest)) * largest


A = np.zeros((2, 3))
BAD_CALLS = [
    *[
        (f, (A,), {"axis": axis})
        for f in ("logsumexp", "softmax", "log_softmax")
        for axis in (2, -3, (0, 0), (0, -2), 1.0, "0")
    ],
    *[
        (f, (a,), {})
        for f in ("softmax", "log_softmax")
        for a in (A > 0, A.astype(object), np.zeros(0), np.zeros((2, 0)))
    ],
    ("logsumexp", (A.astype(object),), {}),
    *[("logsumexp", (A,), {"b": b}) for b in (np.ones(2), np.ones((4, 1)))],
    *[(f, (A, np.ones(2)), {}) for f in ("rel_entr", "kl_div")],
    *[(f, (A.astype(t), A), {}) for f in ("rel_entr", "kl_div") for t in (complex, np.longdouble, object)],
    *[("entropy", (A,), {"axis": axis}) for axis in (2, -3, (0, 0), 1.0, "0")],
    *[("entropy", (A,), {"base": base}) for base in (0, -1)],
    ("entropy", (A,), {"nan_policy": "ignore"}),
    ("entropy", ([1.0, np.nan],), {"nan_policy": "raise"}),
    ("entropy", ([1, 1],), {"base": 1}),
    ("entropy", (A, np.ones(2)), {}),
    ("entropy", (A, np.ones(3)), {"axis": None}),
]


@pytest.mark.parametrize("call", range(len(BAD_CALLS)))
def test_errors(call):
    function, args, options = BAD_CALLS[call]
    check((args,), function, 1e-14, *args, **options)
