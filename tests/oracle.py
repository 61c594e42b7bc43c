"""What every operation should return: its definition, evaluated far more precisely than any dtype of the package.

Inputs are taken as the exact numbers they hold. An answer is a `Ref`: the value as an unevaluated sum of two float64 (a
float64 alone would be half an ULP off), and the scale in whose ULPs an error counts: the sum of the absolute values of
the terms finally added.

Two arithmetics run the same definitions: mpmath (60 digits and more), and the longdouble of the machine for rows of
tens of thousands of classes, which test_oracle.py compares with mpmath.
"""

import collections
import contextlib
import functools
import hashlib
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import mpmath
import numpy as np
from ml_dtypes import finfo  # of NumPy's own floats too

# A private context, so that nobody else's mp.dps matters.
mp = mpmath.mp.clone()
mp.dps = 60


class Exact:
    """mpmath numbers in object arrays."""

    exp = staticmethod(np.frompyfunc(mp.exp, 1, 1))
    log = staticmethod(np.frompyfunc(mp.log, 1, 1))
    log1p = staticmethod(np.frompyfunc(mp.log1p, 1, 1))
    _wrap = staticmethod(np.frompyfunc(mp.mpf, 1, 1))
    inf = mp.inf
    nan = mp.nan
    dtype = object

    @classmethod
    def wrap(cls, values):
        with np.errstate(invalid="ignore"):
            return np.asarray(cls._wrap(np.asarray(values, dtype=np.float64).astype(object)), dtype=object)

    @staticmethod
    @contextlib.contextmanager
    def precision(x):
        """Enough digits that 1 + exp(min - max) is not 1: definitions then need no log1p."""
        finite = x[np.isfinite(x)]
        spread = float(finite.max() - finite.min()) if finite.size else 0.0
        with mp.workdps(60 + int(min(spread / np.log(10), 345))):
            yield


class Wide:
    """Extended precision, for rows too long for mpmath. Not for near-equal KL, nor where one class dominates."""

    exp = staticmethod(np.exp)
    log = staticmethod(np.log)
    log1p = staticmethod(np.log1p)
    inf = np.longdouble(np.inf)
    nan = np.longdouble(np.nan)
    dtype = np.longdouble

    @staticmethod
    def wrap(values):
        return np.asarray(values, dtype=np.longdouble)

    @staticmethod
    @contextlib.contextmanager
    def precision(x):
        yield


WIDE_IS_WIDE = np.finfo(np.longdouble).eps < 1e-18


@dataclass
class Quantity:
    """Values and scales as the arithmetic holds them, before they are split into float64 pairs."""

    value: np.ndarray
    scale: np.ndarray


@dataclass
class Ref:
    hi: np.ndarray
    lo: np.ndarray
    scale: np.ndarray


def split(quantity):
    value = np.asarray(quantity.value)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        hi = value.astype(np.float64)
        rest = value - (hi.astype(object) if value.dtype == object else hi.astype(value.dtype))
        lo = np.asarray(rest).astype(np.float64)
        scale = np.asarray(quantity.scale).astype(np.float64)
    return Ref(hi, np.where(np.isfinite(hi), lo, 0.0), scale)


def errors(got, ref):
    """Absolute errors, in float64. Where the truth is not finite in got's dtype, got must be that very value."""
    got = np.asarray(got)
    assert got.shape == ref.hi.shape, (got.shape, ref.hi.shape)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        truth = ref.hi.astype(got.dtype)
        special = ~np.isfinite(truth)
        np.testing.assert_array_equal(got[special].astype(np.float64), truth[special].astype(np.float64))
        wrong = np.abs((got.astype(np.float64) - ref.hi) - ref.lo)
    wrong = np.where(special, 0.0, wrong)
    assert not np.isnan(wrong).any(), "NaN where the truth is finite"
    return wrong


def unit(ref, dtype, steps=0):
    """An ULP (of dtype) of each scale, `steps` of the smallest subnormal at least."""
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        scale = np.minimum(np.nan_to_num(ref.scale, nan=0.0), float(finfo(dtype).max)).astype(dtype)
        return np.maximum(np.spacing(scale).astype(np.float64), steps * float(finfo(dtype).smallest_subnormal))


def ulps(got, ref, steps=0):
    """Errors in ULPs (of got's dtype) of the scale."""
    got = np.asarray(got)
    return errors(got, ref) / unit(ref, got.dtype, steps)


def worst(got, ref, steps=0):
    each = ulps(got, ref, steps)
    return float(each.max()) if each.size else 0.0


# ---- answers are kept ----------------------------------------------------------------------------------------------

_SOURCE = Path(__file__).read_bytes()
_MADE_BY = repr((mpmath.__version__, np.__version__, sys.version_info[:2], np.finfo(np.longdouble).nmant))
# From run to run, in a directory for this very oracle; `make clean` removes it, and so may anybody.
KEPT = Path(__file__).parents[1] / "build" / "tests" / "oracle"
_DIRECTORY = hashlib.blake2b(_SOURCE + _MADE_BY.encode(), digest_size=8).hexdigest()
_LARGEST, _QUICKEST = 1 << 18, 0.005  # bytes, and the seconds that make it worth a file
_IN_MEMORY = 300
_memory = collections.OrderedDict()


def _key(*parts):
    """A digest of arrays, to the last bit, and of whatever else has an exact repr."""
    digest = hashlib.blake2b(_SOURCE + _MADE_BY.encode(), digest_size=32)
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype!r} {part.shape} ".encode() + part.tobytes())
        else:
            digest.update(f"{part!r} ".encode())
    return digest.digest()


def _to_bytes(key, refs):
    shapes = json.dumps([ref and ref.hi.shape for ref in refs]).encode()
    numbers = [getattr(ref, part).tobytes() for ref in refs if ref for part in ("hi", "lo", "scale")]
    held = b"\n".join([shapes, b"".join(numbers)])
    return hashlib.blake2b(key + held, digest_size=32).digest() + held


def _from_bytes(key, data):
    """None unless it is what was written for this key."""
    if hashlib.blake2b(key + data[32:], digest_size=32).digest() != data[:32]:
        return None
    shapes, numbers = data[32:].split(b"\n", 1)
    refs, numbers = [], np.frombuffer(numbers)
    for shape in json.loads(shapes):
        size = 0 if shape is None else int(np.prod(shape))
        refs.append(None if shape is None else Ref(*numbers[: 3 * size].reshape(3, *shape)))
        numbers = numbers[3 * size :]
    return tuple(refs)


def _read(key):
    with contextlib.suppress(FileNotFoundError):
        return _from_bytes(key, (KEPT / _DIRECTORY / key.hex()).read_bytes())


def _write(key, refs):
    directory = KEPT / _DIRECTORY
    # Where nothing can be written, nothing is kept.
    with contextlib.suppress(OSError):
        if not directory.is_dir():
            shutil.rmtree(KEPT, ignore_errors=True)  # another oracle's
            directory.mkdir(parents=True, exist_ok=True)
        own = directory / f"{key.hex()}.{os.getpid()}"
        own.write_bytes(_to_bytes(key, refs))
        own.replace(directory / key.hex())


def _size(refs):
    return sum(3 * ref.hi.nbytes for ref in refs if ref)


def kept(function):
    """A function whose tuple of Refs is computed once for the same arguments: those in memory are the last ones, those
    in files the ones that took their time."""

    @functools.wraps(function)
    def call(*arguments, **options):
        key = _key(function.__qualname__, *arguments, *(part for item in sorted(options.items()) for part in item))
        refs = _memory.pop(key, None) or _read(key)
        if refs is None:
            start = time.process_time()
            refs = function(*arguments, **options)
            if time.process_time() - start > _QUICKEST and _size(refs) < _LARGEST:
                _write(key, refs)
        _memory[key] = refs
        while len(_memory) > (_IN_MEMORY if _size(refs) < _LARGEST else 1):
            _memory.popitem(last=False)
        return tuple(ref and Ref(*map(np.copy, (ref.hi, ref.lo, ref.scale))) for ref in refs)

    return call


# ---- one row -------------------------------------------------------------------------------------------------------


@dataclass
class Distribution:
    """softmax of a row."""

    lse: object
    lse_scale: object
    logp: np.ndarray
    logp_scale: np.ndarray
    p: np.ndarray


def _full(ar, n, value):
    # Through a list, because np.full would turn an mpmath infinity into a float first.
    return np.array([ar.wrap(value)[()]] * n, dtype=ar.dtype)


def distribution(ar, x):
    n = len(x)
    ones = _full(ar, n, 1.0)
    if n and np.isnan(x).any():
        nan = _full(ar, n, np.nan)
        return Distribution(ar.nan, 1, nan, ones, nan)
    if (x == np.inf).any():
        top = x == np.inf
        logp, p = _full(ar, n, -np.inf), _full(ar, n, 0.0)
        logp[top] = p[top] = ar.nan
        return Distribution(ar.inf, 1, logp, ones, p)
    live = x > -np.inf
    if not live.any():
        nan = _full(ar, n, np.nan)
        return Distribution(-ar.inf, 1, nan, ones, nan)
    values = ar.wrap(x[live])
    top = values.max()
    shifted = values - top
    e = ar.exp(shifted)
    s = e.sum()
    log_s = ar.log(s)
    logp, p, scale = _full(ar, n, -np.inf), _full(ar, n, 0.0), ones
    logp[live] = shifted - log_s
    p[live] = e / s
    scale[live] = abs(shifted) + log_s
    return Distribution(top + log_s, abs(top) + log_s, logp, scale, p)


@dataclass
class Target:
    """Weights t of a row, exact, with their logarithms and a scale of these."""

    t: np.ndarray
    log_t: np.ndarray
    log_scale: np.ndarray
    total: object
    tau: float  # how far from 1 the total may lie and still mean 1
    poisoned: bool  # a NaN was given, which makes the whole row NaN


def _log_or_inf(ar, t):
    out = _full(ar, len(t), 0.0)
    for i, v in enumerate(t):
        if not v >= 0:
            out[i] = ar.nan
        else:
            out[i] = ar.log(v) if v > 0 else -ar.inf
    return out


def _tau(dtype, classes):
    return float(finfo(dtype).eps) * (4 + float(np.sqrt(classes)))


def target_from_probs(ar, t, dtype, classes):
    exact = ar.wrap(t)
    log_t = _log_or_inf(ar, exact) if ar is Exact else _wide_log(exact)
    return Target(exact, log_t, abs(log_t), _sum(ar, exact), _tau(dtype, classes), bool(np.isnan(t).any()))


def _wide_log(t):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(t)


def target_from_log_probs(ar, lt, dtype, classes):
    exact = ar.wrap(lt)
    t = np.array([ar.exp(v) if v > -ar.inf else ar.wrap(0.0)[()] for v in exact], dtype=ar.dtype)
    if np.isnan(lt).any():
        t = _full(ar, len(lt), np.nan)
    return Target(t, exact, abs(exact), _sum(ar, t), _tau(dtype, classes), bool(np.isnan(lt).any()))


def target_from_logits(ar, y):
    d = distribution(ar, y)
    return Target(d.p, d.logp, d.logp_scale, ar.wrap(1.0)[()], 0.0, bool(np.isnan(y).any()))


def _sum(ar, values):
    return values.sum() if len(values) else ar.wrap(0.0)[()]


def cross_entropy(ar, x, t):
    """-sum t log softmax(x), its terms, gradient and Hessian's diagonal, for exact weights t, numbers of `ar`."""
    n = len(x)
    d = distribution(ar, x)
    terms, scale = _full(ar, n, 0.0), _full(ar, n, 0.0)
    spread = _full(ar, n, 0.0)
    bad = bool(np.isnan(x).any() or np.isnan(np.asarray(t).astype(np.float64)).any())
    for i in range(n) if ar is Exact else ():
        if bad:
            terms[i] = ar.nan
        elif t[i] != 0:
            terms[i] = -t[i] * d.logp[i]
            spread[i] = abs(terms[i])
            scale[i] = abs(t[i]) * d.logp_scale[i]
    if ar is Wide:
        terms, scale = -t * d.logp, abs(t) * d.logp_scale
        spread = abs(terms)
    total = _sum(ar, t)
    grad = d.p * total - t if not bad else _full(ar, n, np.nan)
    hess = total * d.p * (1 - d.p) if not bad else _full(ar, n, np.nan)
    return {
        "value": Quantity(_sum(ar, terms), _sum(ar, spread)),
        "terms": Quantity(terms, scale),
        "grad": Quantity(grad, d.p * abs(total) + abs(t)),
        "hess": Quantity(hess, abs(total) * d.p * (1 - d.p)),
    }


def kl_div(ar, x, target):
    """T KL(t/T, softmax x) + h(T), its terms, its gradient, and that of the target's logits, if t is their softmax."""
    n = len(x)
    d = distribution(ar, x)
    t = target.t
    bad = target.poisoned or bool(np.isnan(x).any())
    if ar is Wide:
        with np.errstate(invalid="ignore"):
            terms = np.where(t == 0, 0, t * (target.log_t - d.logp))
            scale = np.where(t == 0, 0, t * (target.log_scale + d.logp_scale))
    else:
        terms, scale = _full(ar, n, 0.0), _full(ar, n, 0.0)
        for i in range(n):
            if bad or t[i] < 0:
                terms[i] = ar.nan
            elif t[i] != 0:
                terms[i] = t[i] * (target.log_t[i] - d.logp[i])
                scale[i] = t[i] * (target.log_scale[i] + d.logp_scale[i])
    total = target.total
    raw = _sum(ar, terms)
    # raw = T KL(t/T, p) + T log T; where T means 1 the last term is the target's rounding, not a part of the answer.
    value, scale_of_value = raw, _sum(ar, abs(terms))
    if np.isfinite(float(raw)) and total > 0:
        h = total * ar.log(total)
        if abs(total - 1) <= target.tau:
            value = raw - h
        else:
            # T log T is a term of its own, and T in it a rounded sum.
            scale_of_value = scale_of_value + abs(h) + total
    target_grad = terms - t * raw if np.isfinite(float(raw)) else _full(ar, n, np.nan)
    if float(raw) == np.inf:  # its limit, as the logits that make it so fall
        sides = np.where(np.asarray(terms).astype(np.float64) == np.inf, np.where(t == 1, 0.0, np.inf), -np.inf)
        target_grad = ar.wrap(np.where(t == 0, 0.0, sides))
    return {
        "value": Quantity(value, scale_of_value),
        "terms": Quantity(terms, scale),
        "target_grad": Quantity(target_grad, abs(terms) + t * _sum(ar, abs(terms))),
        "grad": Quantity(d.p * total - t if not bad else _full(ar, n, np.nan), d.p * abs(total) + abs(t)),
    }


def nll(ar, x, label):
    """-x at the label, its terms and its gradient; label None: the label's class is left out."""
    n = len(x)
    terms, grad = _full(ar, n, 0.0), _full(ar, n, 0.0)
    if label is not None:
        terms[label] = -ar.wrap(x[label])[()]
        grad[label] = -ar.wrap(1.0)[()]
    return {
        "value": Quantity(_sum(ar, terms), _sum(ar, abs(terms))),
        "terms": Quantity(terms, abs(terms)),
        "grad": Quantity(grad, abs(grad)),
    }


def _product(ar, a, b):
    """a b, with 0 times infinity 0."""
    out = _full(ar, len(a), 0.0)
    some = a != 0
    out[some] = a[some] * b[some]
    return out


def binary_cross_entropy(ar, x, t, w=None, p=None):
    """sum w (p t softplus(-x) + (1 - t) softplus(x)) for exact t, w, p; each class by itself."""
    n = len(x)
    one = _full(ar, n, 1.0)
    w, p = (one if v is None else v for v in (w, p))
    exact = ar.wrap(x)
    tail = ar.log1p(ar.exp(-abs(exact)))
    sigmoid = 1 / (1 + ar.exp(-abs(exact)))  # of |x|
    up = exact > 0
    parts = [w * p * t, w * (one - t)]
    plus, minus = (np.where(side, abs(exact), 0 * one) + tail for side in (up, ~up))
    each = [_product(ar, parts[0], minus), _product(ar, parts[1], plus)]
    far, near = np.where(up, parts[1], parts[0]), np.where(up, parts[0], parts[1])
    slopes = [far * sigmoid, near * (sigmoid * ar.exp(-abs(exact)))]
    grad = np.where(up, slopes[0] - slopes[1], slopes[1] - slopes[0])
    for a in (*each, grad):
        a[np.isnan(x)] = ar.nan
    terms, scale = each[0] + each[1], abs(each[0]) + abs(each[1])
    return {
        "value": Quantity(_sum(ar, terms), _sum(ar, scale)),
        "terms": Quantity(terms, scale),
        "grad": Quantity(grad, abs(slopes[0]) + abs(slopes[1])),
    }


def js_div(ar, x, y, beta=0.5):
    """b KL(p, m) + (1 - b) KL(q, m) with m = b p + (1 - b) q between p = softmax(x) and q = softmax(y); the gradient is
    that of x. Wide has it for b = 1/2 alone."""
    n = len(x)
    dx, dy = distribution(ar, x), distribution(ar, y)
    p, q = dx.p, dy.p
    b = ar.wrap(beta)[()]
    m = b * p + (1 - b) * q
    logs = [_full(ar, n, 0.0), _full(ar, n, 0.0)]
    if ar is Wide:
        # Of p and q that nearly agree, log(p/m) has few digits; r = p/m - 1 has them all.
        r = np.tanh(((ar.wrap(x) - ar.wrap(y)) - (dx.lse - dy.lse)) / 2)
        logs = [ar.log1p(r), ar.log1p(-r)]
    for log, share in zip(logs, (p, q), strict=True):
        some = share != 0 if ar is Exact else abs(r) >= 0.05
        log[some] = ar.log(share[some] / m[some])
    parts = [b * p * logs[0], (1 - b) * q * logs[1]]
    terms, scale = parts[0] + parts[1], abs(parts[0]) + abs(parts[1])
    if ar is Wide:
        series = sum(r ** (2 * k) / ar.wrap(2 * k * (2 * k - 1)) for k in range(1, 15))
        terms = np.where(abs(r) < 0.05, m * series, terms)
    return {
        "value": Quantity(_sum(ar, terms), _sum(ar, scale)),
        "terms": Quantity(terms, scale),
        "grad": Quantity(
            b * p * (logs[0] - _sum(ar, p * logs[0])), b * p * (abs(logs[0]) + _sum(ar, p * abs(logs[0])))
        ),
    }


def entropy(ar, p):
    n = len(p)
    exact = ar.wrap(p)
    terms = _full(ar, n, 0.0)
    if ar is Wide:
        terms = -exact * np.log(exact, out=np.zeros(n, Wide.dtype), where=exact != 0)
    for i in range(n) if ar is Exact else ():
        if exact[i] != 0:
            terms[i] = -exact[i] * ar.log(exact[i]) if exact[i] > 0 else ar.nan
    return {"value": Quantity(_sum(ar, terms), _sum(ar, abs(terms)))}


def softmax_entropy(ar, x):
    d = distribution(ar, x)
    n = len(x)
    if ar is Wide:
        terms = -d.p * d.logp
    else:
        terms = _full(ar, n, 0.0)
        for i in range(n):
            if d.p[i] != 0:
                terms[i] = -d.p[i] * d.logp[i]
    return {"value": Quantity(_sum(ar, terms), _sum(ar, abs(terms)))}


def softmax_family(ar, x):
    d = distribution(ar, x)
    return {
        "lse": Quantity(d.lse, d.lse_scale),
        "logp": Quantity(d.logp, d.logp_scale),
        "p": Quantity(d.p, d.p),
    }


# ---- an operation on rows ------------------------------------------------------------------------------------------

# name -> (definition, what its outputs are)
# What each operation is about; a variant's suffix says which of its results are returned.
DEFINITIONS = {
    "logsumexp": ("softmax_family", ("lse",)),
    "log_softmax": ("softmax_family", ("logp",)),
    "softmax": ("softmax_family", ("p",)),
    "entropy": ("entropy", ("value",)),
    "softmax_entropy": ("softmax_entropy", ("value",)),
    "cross_entropy": ("cross_entropy", ("value",)),
    "cross_entropy_with_labels": ("labels", ("value",)),
    "kl_div": ("kl_probs", ("value",)),
    "kl_div_with_logits": ("kl_logits", ("value",)),
    "kl_div_with_log_probs": ("kl_log_probs", ("value",)),
    "nll": ("nll", ("value",)),
    "binary_cross_entropy": ("binary_cross_entropy", ("value",)),
    "js_div": ("js_div", ("value",)),
}
VARIANTS = {"_terms": ("terms",), "_value_and_grad": ("value", "grad"), "_value_and_hess": ("value", "hess")}
VARIANTS["_value_and_target_grad"] = ("value", "target_grad")
# All that a definition has, in order.
RESULTS = {
    definition: {
        "softmax_family": ("lse", "logp", "p"),
        "entropy": ("value",),
        "softmax_entropy": ("value",),
        "cross_entropy": ("value", "terms", "grad", "hess"),
        "labels": ("value", "terms", "grad", "hess"),
        "kl_logits": ("value", "terms", "grad", "target_grad"),
    }.get(definition, ("value", "terms", "grad"))
    for definition, _ in DEFINITIONS.values()
}


def definition_of(name):
    """The definition behind an operation, and which of its results the operation returns."""
    for suffix, outputs in VARIANTS.items():
        if name.endswith(suffix):
            return DEFINITIONS[name.removesuffix(suffix)][0], outputs
    return DEFINITIONS[name]


def rng_of(name, *what):
    """Random numbers that the variants of a definition have in common, so that they are asked for once."""
    return np.random.default_rng(list(repr((definition_of(name)[0], *map(str, what))).encode()))


def distance_of_logits(x, y, dtype):
    """An eps of the largest difference in each row: differences are known to twice the digits of the dtype."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64))
    return float(finfo(dtype).eps) * np.where(np.isfinite(apart), apart, 0.0).max(axis=-1, initial=0.0)


def _row(ar, definition, x, target, dtype):
    x = np.asarray(x, dtype=np.float64)
    if definition == "softmax_family":
        return softmax_family(ar, x)
    if definition == "entropy":
        return entropy(ar, x)
    if definition == "softmax_entropy":
        return softmax_entropy(ar, x)
    if definition == "nll":
        return nll(ar, x, int(target))
    if definition == "labels":
        one_hot = np.zeros(len(x))
        one_hot[int(target)] = 1.0
        return cross_entropy(ar, x, ar.wrap(one_hot))
    target = np.asarray(target, dtype=np.float64)
    if definition == "binary_cross_entropy":
        return binary_cross_entropy(ar, x, ar.wrap(target))
    if definition == "js_div":
        return js_div(ar, x, target)
    if definition == "cross_entropy":
        return cross_entropy(ar, x, ar.wrap(target))
    if definition == "kl_probs":
        return kl_div(ar, x, target_from_probs(ar, target, dtype, len(x)))
    if definition == "kl_logits":
        of_logits = target_from_logits(ar, target)
        row = kl_div(ar, x, of_logits)
        row["target_grad"].scale = row["target_grad"].scale + of_logits.t * distance_of_logits(x, target, dtype)
        return row
    if definition == "kl_log_probs":
        return kl_div(ar, x, target_from_log_probs(ar, target, dtype, len(x)))
    raise ValueError(definition)


def evaluate(name, logits, target=None, *, wide=False):
    """The outputs of operation `name` on (rows, classes) operands: one Ref an output."""
    definition, outputs = definition_of(name)
    found = _all_outputs(definition, np.asarray(logits), None if target is None else np.asarray(target), wide)
    return tuple(found[RESULTS[definition].index(key)] for key in outputs)


@kept
def _all_outputs(definition, logits, target, wide):
    """Of a definition, because its variants are asked for with the same operands."""
    ar = Wide if wide and WIDE_IS_WIDE else Exact
    dtype = None if target is None else target.dtype
    outputs = RESULTS[definition]
    found = {key: ([], []) for key in outputs}
    for i, x in enumerate(logits):
        spread = np.asarray(x, dtype=np.float64)
        if definition in ("kl_logits", "js_div"):
            # The two rows may lie at different offsets, and only their own ranges ask for digits.
            y = np.asarray(target[i], dtype=np.float64)
            with np.errstate(invalid="ignore"):
                spread = np.concatenate([row - np.max(row, initial=-np.inf) for row in (spread, y)])
        with ar.precision(spread):
            row = _row(ar, definition, x, None if target is None else target[i], dtype)
            for key in outputs:
                ref = split(row[key])
                found[key][0].append((ref.hi, ref.lo))
                found[key][1].append(ref.scale)
    refs = []
    for key in outputs:
        pairs, scales = found[key]
        per_row = () if key in ("lse", "value") else logits.shape[1:]
        shape = logits.shape[:1] + per_row
        hi = np.array([p[0] for p in pairs], dtype=np.float64).reshape(shape)
        lo = np.array([p[1] for p in pairs], dtype=np.float64).reshape(shape)
        refs.append(Ref(hi, lo, np.array(scales, dtype=np.float64).reshape(shape)))
    return tuple(refs)


def kl_pointwise(x, t):
    """t (log t - x), 0 at t = 0, NaN at t < 0. Two float arrays of one shape."""
    values, scales = [], []
    for xi, ti in zip(Exact.wrap(x).ravel(), Exact.wrap(t).ravel(), strict=True):
        if ti == 0:
            values.append(mp.nan if mp.isnan(xi) else mp.mpf(0))
            scales.append(mp.mpf(0))
        elif ti > 0:
            values.append(ti * (mp.log(ti) - xi))
            scales.append(ti * (abs(mp.log(ti)) + abs(xi)))
        else:
            values.append(mp.nan)
            scales.append(mp.mpf(1))
    return _shaped(values, scales, np.shape(x))


def rel_entr(p, q):
    """p log(p / q) as SciPy defines it."""
    values, scales = [], []
    for pi, qi in zip(Exact.wrap(p).ravel(), Exact.wrap(q).ravel(), strict=True):
        if mp.isnan(pi) or mp.isnan(qi):
            value = mp.nan
        elif pi > 0 and qi > 0:
            value = pi * mp.log(pi / qi)
        else:
            value = mp.mpf(0) if pi == 0 and qi >= 0 else mp.inf
        values.append(value)
        scales.append(abs(value))
    return _shaped(values, scales, np.shape(p))


def _shaped(values, scales, shape):
    return split(Quantity(np.array(values, dtype=object).reshape(shape), np.array(scales, dtype=object).reshape(shape)))


# ---- xent.losses: the options --------------------------------------------------------------------------------------


def _scaled(x, temperature, compute):
    """x / T as the package defines it: rounded to the dtype that the arithmetic is done in."""
    return (np.asarray(x, dtype=np.float64) / temperature).astype(compute).astype(np.float64)


def _rows_of(logits, sample_weight, where, temperature):
    n, classes = logits.shape
    keep = np.ones((n, classes), bool) if where is None else np.broadcast_to(where, (n, classes))
    sw = np.ones(n) if sample_weight is None else np.broadcast_to(np.asarray(sample_weight, np.float64), (n,))
    temperature = np.broadcast_to(np.asarray(temperature, np.float64), (n,))
    return keep, sw, temperature


def _hide(row, keep):
    """Excluded classes: 0 in every output of the row's length."""
    zero = mp.mpf(0)
    for key in ("terms", "grad"):
        row[key] = Quantity(np.where(keep, row[key].value, zero), np.where(keep, row[key].scale, zero))
    return row


def _nothing(classes):
    zero = mp.mpf(0)
    zeros = np.array([zero] * classes, dtype=object)
    return {key: Quantity(zero if key == "value" else zeros, zero if key == "value" else zeros) for key in _KEYS}


_KEYS = ("value", "terms", "grad")


def _times(quantity, factor):
    """What weighs nothing adds nothing, be it infinite; a NaN stays."""
    value, scale = quantity.value, quantity.scale
    if factor == 0:
        value, scale = (np.where(np.asarray(_infinite(a), bool), mp.mpf(0), a)[()] for a in (value, scale))
    return Quantity(value * factor, scale * abs(factor))


_infinite = np.frompyfunc(mp.isinf, 1, 1)


REDUCTIONS = ("none", "sum", "mean", "terms", "per_class")


def _a_loss(rows_of):
    """xent.losses' loss of that name: (result, gradient or None), from its rows, which all reductions share."""

    @kept
    def all_reductions(name, *operands, **options):
        rows, divisor = rows_of(*operands, **options)
        with mp.workdps(120):
            return tuple(ref for how in REDUCTIONS for ref in _reduce(rows, divisor, how, operands[0].shape[1]))

    @functools.wraps(rows_of)
    def loss(logits, target, *, reduction="mean", **options):
        found = all_reductions(rows_of.__name__, np.asarray(logits), np.asarray(target), **options)
        at = 2 * REDUCTIONS.index(reduction)
        return found[at], found[at + 1]

    return loss


def _reduce(rows, divisor_parts, reduction, classes):
    """(result, gradient) of rows that sample_weight has multiplied already."""
    zero = mp.mpf(0)
    divisor = sum(divisor_parts, zero)

    def stack(key):
        shape = (len(rows),) if key == "value" else (len(rows), classes)
        value, scale = np.empty(shape, object), np.empty(shape, object)
        for i, r in enumerate(rows):
            value[i], scale[i] = r[key].value, r[key].scale
        return Quantity(value, scale)

    value, grad = stack("value"), stack("grad")
    if reduction == "none":
        return split(value), split(grad)
    if reduction == "terms":
        return split(stack("terms")), None
    if reduction == "per_class":
        terms = stack("terms")
        return split(Quantity(terms.value.sum(axis=0) + zero, terms.scale.sum(axis=0) + zero)), None
    total = Quantity(value.value.sum() + zero, value.scale.sum() + zero)
    if reduction == "sum":
        return split(total), split(grad)
    if divisor == 0:
        nan = Quantity(mp.nan, mp.mpf(1))
        return split(nan), None
    return split(_times(total, 1 / divisor)), split(_times(grad, 1 / divisor))


@_a_loss
def losses_cross_entropy(
    logits,
    target,
    *,
    compute,
    weight=None,
    sample_weight=None,
    ignore_index=None,
    where=None,
    label_smoothing=0.0,
    temperature=1.0,
):
    """(rows, parts of the divisor) of xent.losses.cross_entropy for (rows, classes) logits; labels are integers."""
    logits, target = np.asarray(logits), np.asarray(target)
    n, classes = logits.shape
    keep, sw, temperature = _rows_of(logits, sample_weight, where, temperature)
    labels = target.dtype.kind in "iu"
    w = [mp.mpf(1)] * classes if weight is None else list(Exact.wrap(weight))
    a = mp.mpf(float(label_smoothing))
    rows, divisor = [], []
    with mp.workdps(120):
        for i in range(n):
            if not keep[i].any() or (labels and ignore_index is not None and target[i] == ignore_index):
                rows.append(_nothing(classes))
                continue
            x = np.where(keep[i], _scaled(logits[i], temperature[i], compute), -np.inf)
            if labels:
                t = Exact.wrap(np.arange(classes) == target[i])
                divisor.append(mp.mpf(float(sw[i])) * w[int(target[i])])
            else:
                t = Exact.wrap(target[i])
                divisor.append(mp.mpf(float(sw[i])))
            k = int(keep[i].sum())
            t = np.array(
                [w[c] * ((1 - a) * t[c] + a / k) if keep[i][c] else mp.mpf(0) for c in range(classes)], dtype=object
            )
            row = _hide(cross_entropy(Exact, x, t), keep[i])
            row["grad"] = _times(row["grad"], 1 / mp.mpf(float(temperature[i])))
            rows.append({key: _times(row[key], mp.mpf(float(sw[i]))) for key in _KEYS})
        return rows, divisor


@_a_loss
def losses_kl_div(
    logits,
    target,
    *,
    compute,
    target_kind="probs",
    temperature=1.0,
    sample_weight=None,
    where=None,
):
    """(rows, parts of the divisor) of xent.losses.kl_div for (rows, classes) operands."""
    logits, target = np.asarray(logits), np.asarray(target)
    n, classes = logits.shape
    keep, sw, temperature = _rows_of(logits, sample_weight, where, temperature)
    rows, divisor = [], []
    with mp.workdps(120):
        for i in range(n):
            if not keep[i].any():
                rows.append(_nothing(classes))
                continue
            divisor.append(mp.mpf(float(sw[i])))
            x = np.where(keep[i], _scaled(logits[i], temperature[i], compute), -np.inf)
            if target_kind == "probs":
                t = target_from_probs(Exact, np.where(keep[i], target[i], 0.0), target.dtype, classes)
            elif target_kind == "log_probs":
                t = target_from_log_probs(Exact, np.where(keep[i], target[i], -np.inf), target.dtype, classes)
            else:
                y = np.where(keep[i], _scaled(target[i], temperature[i], compute), -np.inf)
                t = target_from_logits(Exact, y)
            row = _hide(kl_div(Exact, x, t), keep[i])
            row["grad"] = _times(row["grad"], 1 / mp.mpf(float(temperature[i])))
            rows.append({key: _times(row[key], mp.mpf(float(sw[i]))) for key in _KEYS})
        return rows, divisor


@_a_loss
def losses_nll(
    log_probs,
    labels,
    *,
    compute,
    weight=None,
    sample_weight=None,
    ignore_index=None,
    where=None,
):
    """(rows, parts of the divisor) of xent.losses.nll for (rows, classes) log-probabilities; they need no rounding."""
    del compute
    n, classes = log_probs.shape
    keep, sw, _ = _rows_of(log_probs, sample_weight, where, 1.0)
    w = Exact.wrap(np.ones(classes) if weight is None else weight)
    rows, divisor = [], []
    for i in range(n):
        y = int(labels[i])
        if not keep[i].any() or y == ignore_index:
            rows.append(_nothing(classes))
            continue
        factor = mp.mpf(float(sw[i])) * w[y]
        divisor.append(factor)
        row = nll(Exact, np.asarray(log_probs[i], np.float64), y if keep[i][y] else None)
        rows.append({key: _times(row[key], factor) for key in _KEYS})
    return rows, divisor


@_a_loss
def losses_binary_cross_entropy(
    logits,
    target,
    *,
    compute,
    pos_weight=None,
    weight=None,
    sample_weight=None,
    where=None,
):
    """(rows, parts of the divisor) of xent.losses.binary_cross_entropy for (rows, classes) operands."""
    del compute
    n, classes = logits.shape
    keep, sw, _ = _rows_of(logits, sample_weight, where, 1.0)
    w, p = (Exact.wrap(np.ones(classes) if v is None else v) for v in (weight, pos_weight))
    rows, divisor = [], []
    for i in range(n):
        if not keep[i].any():
            rows.append(_nothing(classes))
            continue
        divisor.append(mp.mpf(float(sw[i])))
        x, t = (np.where(keep[i], np.asarray(a[i], np.float64), fill) for a, fill in ((logits, -np.inf), (target, 0.0)))
        row = _hide(binary_cross_entropy(Exact, x, Exact.wrap(t), w, p), keep[i])
        rows.append({key: _times(row[key], mp.mpf(float(sw[i]))) for key in _KEYS})
    return rows, divisor


@_a_loss
def losses_js_div(
    logits,
    other_logits,
    *,
    compute,
    beta=0.5,
    temperature=1.0,
    sample_weight=None,
    where=None,
):
    """(rows, parts of the divisor) of xent.losses.js_div for (rows, classes) operands."""
    n, classes = logits.shape
    keep, sw, temperature = _rows_of(logits, sample_weight, where, temperature)
    rows, divisor = [], []
    with mp.workdps(120):
        for i in range(n):
            if not keep[i].any():
                rows.append(_nothing(classes))
                continue
            divisor.append(mp.mpf(float(sw[i])))
            x, y = (np.where(keep[i], _scaled(a[i], temperature[i], compute), -np.inf) for a in (logits, other_logits))
            row = _hide(js_div(Exact, x, y, beta), keep[i])
            row["grad"] = _times(row["grad"], 1 / mp.mpf(float(temperature[i])))
            rows.append({key: _times(row[key], mp.mpf(float(sw[i]))) for key in _KEYS})
        return rows, divisor
