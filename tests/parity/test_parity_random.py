"""Random calls of each door beside its library: values that are infinite, NaN, signed zeros, subnormal or huge; weights
of 0 and below; labels that are ignored; empty arrays; every reduction. Seeded and bounded.

XENT_PARITY_CALLS=20000 searches longer, XENT_PARITY_SEED=7 elsewhere.
"""

import os

import ml_dtypes
import numpy as np
from parity import Outcome, compare, library

from xent.compat import optax as our_optax
from xent.compat import scipy as our_scipy
from xent.compat import sklearn as our_sklearn
from xent.compat import torch as our_torch

CALLS = int(os.environ.get("XENT_PARITY_CALLS", "400"))
SEED = int(os.environ.get("XENT_PARITY_SEED", "0"))
BF16 = ml_dtypes.bfloat16
FLOATS = [np.float16, BF16, np.float32, np.float64]
SHAPES_1_TO_4 = (
    (5,),
    (1,),
    (4, 3),
    (1, 2),
    (3, 1),
    (2, 4, 3),
    (2, 3, 0),
    (2, 3, 2, 2),
    (0, 3),
    (3, 0),
    (2, 0, 2),
    (2, 0, 1, 2),
    (1, 0, 2, 1, 1),
)


def info(dtype):
    return ml_dtypes.finfo(dtype)


def specials(dtype, low=None):
    """What is not ordinary, in a dtype: never so large that a library's own partial sums would overflow."""
    f = info(dtype)
    huge = float(f.max) ** 0.5
    return [np.nan, np.inf, -np.inf, -np.inf, 0.0, -0.0, huge, -huge, float(f.smallest_subnormal), float(f.tiny)]


def spoiled(rng, a, share):
    """`a` with special values in some places; `share` 0 leaves it alone."""
    if share and a.size:
        where = rng.random(a.shape) < share
        a = np.where(where, rng.choice(specials(a.dtype), a.shape), a.astype(np.float64)).astype(a.dtype)
    return a


def logits(rng, shape, dtype):
    return spoiled(rng, np.asarray(rng.normal(0, 3, shape)).astype(dtype), rng.choice([0, 0, 0.1, 0.3]))


def probabilities(rng, shape, dtype):
    """Shares, among them zeros; sometimes negative, infinite or NaN."""
    t = np.asarray(rng.random(shape) * (rng.random(shape) < 0.7))
    if rng.random() < 0.2:
        t = np.where(rng.random(shape) < 0.3, -t, t)
    return spoiled(rng, np.asarray(t).astype(dtype), rng.choice([0, 0, 0, 0.1, 0.3]))


def weights(rng, shape, dtype):
    w = np.asarray(rng.choice([0.5, 1.0, 2.0, 3.0], shape))
    kind = rng.random()
    if kind < 0.3:
        w = w * (rng.random(shape) < 0.5)
    elif kind < 0.4:
        w = w * rng.choice([-1.0, 1.0], shape)
    elif kind < 0.5:
        w = np.where(rng.random(shape) < 0.3, rng.choice([np.inf, -np.inf, np.nan, -0.0], shape), w)
    return np.asarray(w).astype(dtype)


def largest(*arrays):
    """A bound on the product of one finite element of each: at least 1, so that eps times it bounds a rounding."""
    product = 1.0
    for a in arrays:
        if isinstance(a, np.ndarray) and a.size and (a.dtype.kind == "f" or a.dtype == BF16):
            wide = a.astype(np.float64)
            product *= max(1.0, 2 * float(np.abs(np.where(np.isfinite(wide), wide, 0)).max()))
    return product


def coarsest(*arrays):
    floats = [a for a in arrays if isinstance(a, np.ndarray) and (a.dtype.kind == "f" or a.dtype == BF16)]
    return max((float(info(a.dtype).eps) for a in floats), default=float(np.finfo(float).eps))


def exponential(*logs):
    """The largest exp of what is finite and no overflow: the factor of a divergence's terms."""
    with np.errstate(all="ignore"):
        e = np.exp(np.concatenate([a.astype(np.float64).ravel() for a in logs]))
    return float(np.where(np.isfinite(e), e, 1).max(initial=1))


def tolerance(*arrays):
    size = max(a.size for a in arrays if isinstance(a, np.ndarray))
    return 8 * coarsest(*arrays) * (largest(*arrays) + 3) * (size + 2)


# ---------------------------------------------------------------------------------------------------------------------
# PyTorch


def torch_call(rng):
    function = rng.choice(
        [
            *("cross_entropy", "cross_entropy", "nll_loss", "kl_div", "softmax", "log_softmax", "softmin"),
            *("logsumexp", "binary_cross_entropy", "binary_cross_entropy_with_logits"),
        ]
    )
    shape = SHAPES_1_TO_4[rng.integers(len(SHAPES_1_TO_4))]
    dtype = FLOATS[rng.integers(4)]
    other = dtype if rng.random() < 0.7 else FLOATS[rng.integers(4)]
    options = {"reduction": str(rng.choice(["none", "mean", "sum"]))}
    x = logits(rng, shape, dtype)
    if function in ("softmax", "log_softmax", "softmin", "logsumexp"):
        return function, (x, int(rng.integers(-len(shape), len(shape)))), {}
    if function == "kl_div":
        options["log_target"] = bool(rng.random() < 0.5)
        t = logits(rng, shape, other) if options["log_target"] else probabilities(rng, shape, other)
        options["reduction"] = str(rng.choice(["none", "batchmean", "sum"]))
        return function, (x, t), options
    if function.startswith("binary"):
        if other is not dtype:  # a loss that is finite in one may be beyond the other
            x = np.where(np.abs(x.astype(np.float64)) > 100, 0, x).astype(dtype)
        t = probabilities(rng, shape, other)
        if function == "binary_cross_entropy":
            x = np.abs(probabilities(rng, shape, dtype))
        elif rng.random() < 0.4:
            options["pos_weight"] = weights(rng, shape[-1:], dtype)
        if rng.random() < 0.3:
            options["weight"] = weights(rng, shape[-1:], dtype)
        return function, (x, t), options
    axis = min(len(shape) - 1, 1)
    classes = shape[axis]
    if rng.random() < 0.5:
        options["weight"] = weights(rng, (classes,), dtype)
    if function == "cross_entropy":
        options["label_smoothing"] = float(rng.choice([0.0, 0.0, 0.1, 0.5, 1.0, -0.5]))
    if function == "cross_entropy" and rng.random() < 0.5:
        return function, (x, probabilities(rng, shape, other)), options
    batch = shape[:axis] + shape[axis + 1 :]
    y = np.asarray(rng.integers(max(classes, 1), size=batch), np.int64)
    if rng.random() < 0.4:
        options["ignore_index"] = int(rng.choice([-100, 0, -1]))
        y = np.where(rng.random(batch) < rng.choice([0.3, 1.0]), options["ignore_index"], y)
    if rng.random() < 0.05:
        y = y + classes
    return function, (x, np.asarray(y)), options


def test_torch():
    torch = library("torch")

    def tensor(a):
        if not isinstance(a, np.ndarray):
            return a
        if a.dtype == BF16:
            return torch.from_numpy(np.array(a).view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(np.array(a))

    def array(value):
        if isinstance(value, torch.Tensor) and value.dtype is torch.bfloat16:
            return value.view(torch.int16).numpy().view(BF16)
        return value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)

    for call in range(CALLS):
        rng = np.random.default_rng([SEED, call])
        function, args, options = torch_call(rng)
        real = getattr(torch.nn.functional, function, None) or getattr(torch, function)
        changed = {k: tensor(v) for k, v in options.items()}
        theirs = Outcome(lambda real=real, a=args, o=changed: real(*map(tensor, a), **o), array)
        mine = Outcome(lambda f=function, a=args, o=options: getattr(our_torch, f)(*a, **o), array)
        scale = exponential(*args) if options.get("log_target") else 1
        compare((call, function, options, args), mine, theirs, tolerance(*args, *options.values()) * scale)


# ---------------------------------------------------------------------------------------------------------------------
# SciPy


def complex_logits(rng, shape, dtype):
    a = rng.normal(0, 3, shape) + 1j * rng.normal(0, 3, shape)
    odd = [
        complex(x, y) for x in (np.inf, -np.inf, 0.0, np.nan, 1.0) for y in (0.0, -0.0, 0.7533, 2.3562, 5.4978, -1.0)
    ]
    odd += [complex(x, np.inf) for x in (-np.inf, np.inf)]
    return np.where(rng.random(shape) < rng.choice([0, 0.2, 0.6]), rng.choice(odd, shape), a).astype(dtype)


def scipy_call(rng):
    function = str(rng.choice(["logsumexp", "logsumexp", "softmax", "log_softmax", "rel_entr", "kl_div", "entropy"]))
    shape = SHAPES_1_TO_4[rng.integers(len(SHAPES_1_TO_4))]
    dtype = [np.float16, np.float32, np.float64][rng.integers(3)]
    axis = None if rng.random() < 0.2 else int(rng.integers(len(shape)))
    if function in ("rel_entr", "kl_div"):
        return function, (probabilities(rng, shape, dtype), probabilities(rng, shape, dtype)), {}
    if function == "entropy":
        dtype = np.float32 if dtype is np.float16 else dtype  # SciPy gives float16 and float64 with NaN, by turns
        p = probabilities(rng, shape, dtype)
        q = probabilities(rng, shape, dtype) if rng.random() < 0.5 else None
        return function, (p, q), {"axis": axis, "keepdims": bool(rng.random() < 0.3)}
    if function != "logsumexp":
        return function, (logits(rng, shape, dtype), axis), {}
    options = {"axis": axis, "keepdims": bool(rng.random() < 0.3), "return_sign": bool(rng.random() < 0.4)}
    if rng.random() < 0.4:
        a = complex_logits(rng, shape, rng.choice([np.complex64, np.complex128]))
    else:
        a = logits(rng, shape, dtype)
    if rng.random() < 0.4:
        options["b"] = weights(rng, shape, [np.float32, np.float64][rng.integers(2)])
    if a.size == 0 and (a.dtype.kind == "c" or axis is None):
        a, options["axis"] = a.real, 0  # of these SciPy has an IndexError of its own, and complex logarithms of sizes
    return function, (a,), options


def cancelled(a, b, axis):
    """How much larger the terms are than their sum: by that much rounding counts more in its logarithm."""
    with np.errstate(all="ignore"):
        x = np.asarray(a, np.complex128)
        x = x - np.where(np.isfinite(x.real), x.real, -np.inf).max(initial=-1e300)
        terms = np.exp(x) * (1 if b is None else b)
        terms = np.where(np.isfinite(terms), terms, 0)
        lost = np.abs(terms).sum(axis) / np.abs(terms.sum(axis))
    return float(np.where(np.isfinite(lost), lost, 1).max(initial=1))


def scipy_array(value):
    """A complex result's size, and its phase, which goes round, where it has one."""
    value = np.asarray(value)
    if value.dtype.kind != "c":
        return value
    with np.errstate(all="ignore"):
        return np.stack([value.real, np.cos(value.imag), np.sin(value.imag)])


def test_scipy():
    special, stats = library("scipy.special"), library("scipy.stats")
    for call in range(CALLS):
        rng = np.random.default_rng([SEED, call])
        function, args, options = scipy_call(rng)
        real = getattr(special, function, None) or getattr(stats, function)
        theirs = Outcome(lambda real=real, a=args, o=options: real(*a, **o), scipy_array)
        mine = Outcome(lambda f=function, a=args, o=options: getattr(our_scipy, f)(*a, **o), scipy_array)
        atol = tolerance(*args, *options.values())
        if function in ("rel_entr", "kl_div"):
            atol *= 800  # the largest logarithm of a quotient
        if function == "logsumexp":
            a, b = args[0], options.get("b")
            step = max(float(np.finfo(v.dtype).eps) for v in (a, b) if v is not None)
            real_part = np.where(np.isfinite(a.real), a.real, 0)
            atol = 8 * step * (float(np.abs(real_part).max(initial=0)) + 20) * cancelled(a, b, options["axis"])
        compare((call, function, options, args), mine, theirs, atol)


# ---------------------------------------------------------------------------------------------------------------------
# optax


def optax_call(rng):
    function = str(
        rng.choice(
            [
                *("softmax_cross_entropy", "safe_softmax_cross_entropy", "softmax_cross_entropy_with_integer_labels"),
                *("kl_divergence", "kl_divergence_with_log_targets", "generalized_kl_divergence"),
            ]
        )
    )
    # JAX compiles for every shape, dtype and axis: few of them.
    shape = ((4, 3), (5,), (2, 3, 2))[rng.integers(3)]
    dtype = FLOATS[rng.integers(4)]
    other = dtype if rng.random() < 0.8 else FLOATS[rng.integers(4)]
    x = logits(rng, shape, dtype)
    options = {}
    if function != "safe_softmax_cross_entropy":
        options["axis"] = int(rng.choice([-1, 0]))
        if rng.random() < 0.3:
            options["where"] = rng.random(shape) < 0.6
    if function.endswith("labels"):
        classes = shape[options["axis"]]
        batch = shape[:-1] if options["axis"] == -1 else shape[1:]
        return function, (x, np.asarray(rng.integers(-classes - 1, classes + 1, batch))), options
    t = logits(rng, shape, other) if function.endswith("log_targets") else probabilities(rng, shape, other)
    # XLA takes subnormal numbers for 0, and 16-bit log-probabilities that JAX rounds to 0 make an infinite target NaN.
    x, t = (np.where(np.abs(a.astype(np.float64)) <= float(info(a.dtype).tiny), 0, a).astype(a.dtype) for a in (x, t))
    if x.itemsize < 4 or t.itemsize < 4:
        t = np.where(np.isinf(t), 1, t).astype(t.dtype)
    return function, (x, t), options


def test_optax():
    jax, losses = library("jax"), library("optax.losses")

    def jaxed(a):
        return jax.numpy.asarray(a) if isinstance(a, np.ndarray) else a

    with jax.enable_x64(True):
        for call in range(CALLS):
            rng = np.random.default_rng([SEED, call])
            function, args, options = optax_call(rng)
            changed = {k: jaxed(v) for k, v in options.items()}
            theirs = Outcome(lambda f=function, a=args, o=changed: getattr(losses, f)(*map(jaxed, a), **o), np.asarray)
            mine = Outcome(lambda f=function, a=args, o=options: getattr(our_optax, f)(*a, **o), np.asarray)
            scale = exponential(*args) if "kl" in function else 1
            compare((call, function, options, args), mine, theirs, tolerance(*args) * scale)


# ---------------------------------------------------------------------------------------------------------------------
# scikit-learn


def sklearn_call(rng):
    classes, n = int(rng.integers(1, 5)), int(rng.choice([0, 1, 2, 6, 12]))
    dtype = [np.float16, np.float32, np.float64][rng.integers(3)]
    p = rng.dirichlet(np.ones(classes) * 0.5, n) if n else np.zeros((0, classes))
    p = p.astype(dtype)
    if rng.random() < 0.3:
        at = rng.random(p.shape) < 0.2
        p = np.where(at, rng.choice([0.0, -0.0, 1.0, float(info(dtype).smallest_subnormal), 0.5], p.shape), p)
    elif rng.random() < 0.1:
        p = np.where(rng.random(p.shape) < 0.2, rng.choice([np.nan, np.inf, -1e-3, 1.5, -np.inf], p.shape), p)
    p = p.astype(dtype)
    y = rng.integers(classes, size=n)
    options = {"normalize": bool(rng.random() < 0.6)}
    if rng.random() < 0.6:
        options["labels"] = np.arange(classes)
    if rng.random() < 0.3:
        options["sample_weight"] = weights(rng, (n,), np.float64)
    if classes == 2 and rng.random() < 0.5:
        p = p[:, 1]
    if rng.random() < 0.2:
        y = rng.integers(2, size=(n, classes))
        if "labels" in options and classes == 1:
            y = y[:, 0]  # there scikit-learn's own message fails, on an "unhashable type"
    return (y, p), options


def test_sklearn():
    metrics = library("sklearn.metrics")
    for call in range(CALLS):
        args, options = sklearn_call(np.random.default_rng([SEED, call]))
        theirs = Outcome(lambda a=args, o=options: metrics.log_loss(*a, **o), np.asarray)
        mine = Outcome(lambda a=args, o=options: our_sklearn.log_loss(*a, **o), np.asarray)
        bound = -np.log(coarsest(args[1])) * max(largest(*options.values()), 1)
        compare((call, "log_loss", options, args), mine, theirs, 8 * coarsest(args[1]) * bound * (len(args[1]) + 1))
