"""The definitions of oracle.py for many rows at once, in the machine's longdouble: what a search of millions of rows is
compared with. test_wide.py compares it with mpmath, and the rows that a search reports are judged by mpmath once more.

Every function takes (rows, classes) arrays and returns oracle.Quantity objects: values, and the scales in whose ULPs an
error counts. KL and Jensen-Shannon are written as sums of terms that are not negative, so that they keep their digits
however near the rows are.
"""

import numpy as np
import oracle
from ml_dtypes import finfo
from oracle import Quantity

LD = np.longdouble
IS_WIDE = oracle.WIDE_IS_WIDE
TOO_NARROW = "longdouble is float64 on this machine: the search needs more digits"


def wrap(values):
    return np.asarray(np.asarray(values), dtype=np.float64).astype(LD)


class Distribution:
    """softmax of each row: shifted by its largest logit, whose share of the sum is 1 and stays out of log1p."""

    def __init__(self, x):
        x = wrap(x)
        rows, classes = x.shape
        top = x.max(axis=1, initial=-np.inf, keepdims=True)
        finite = np.isfinite(top)
        self.shifted = np.where(finite, x - np.where(finite, top, 0), x)
        e = np.exp(self.shifted)
        rest = e.copy()
        if classes:
            rest[np.arange(rows), np.where(np.isnan(x), -np.inf, x).argmax(axis=1)] = 0
        rest = rest.sum(axis=1, keepdims=True)
        self.log_s = np.log1p(rest)
        self.lse = top + self.log_s
        self.lse_scale = abs(top) + self.log_s
        self.logp = self.shifted - self.log_s
        self.logp_scale = np.where(np.isfinite(self.shifted), abs(self.shifted) + self.log_s, 1)
        self.p = e / (1 + rest)
        self.others = np.where(self.p > 0.5, rest / (1 + rest), 1 - self.p)
        infinite, empty, bad = top == np.inf, top == -np.inf, np.isnan(x).any(axis=1, keepdims=True)
        self.lse = np.where(infinite, np.inf, np.where(empty, -np.inf, self.lse))
        at = x == np.inf
        self.logp = np.where(infinite, np.where(at, np.nan, -np.inf), np.where(empty, np.nan, self.logp))
        self.p = np.where(infinite, np.where(at, np.nan, 0), np.where(empty, np.nan, self.p))
        self.lse, self.logp, self.p = (np.where(bad, np.nan, a) for a in (self.lse, self.logp, self.p))
        self.bad = bad


def softmax_family(x):
    d = Distribution(x)
    return {
        "lse": Quantity(d.lse[:, 0], d.lse_scale[:, 0]),
        "logp": Quantity(d.logp, d.logp_scale),
        "p": Quantity(d.p, d.p),
    }


def _weighted(t, terms):
    """t times terms, where a t of 0 makes nothing of an infinity."""
    return np.where(t == 0, 0, t * terms)


def _of_terms(terms, scale):
    return {"value": Quantity(terms.sum(axis=1), abs(terms).sum(axis=1)), "terms": Quantity(terms, scale)}


def entropy(p):
    p = wrap(p)
    terms = np.where(p == 0, 0, -p * np.log(np.where(p == 0, 1, p)))
    return _of_terms(terms, abs(terms))


def softmax_entropy(x):
    d = Distribution(x)
    terms = -_weighted(d.p, d.logp)
    return _of_terms(terms, abs(terms))


def cross_entropy(x, t):
    """For exact weights t, longdouble."""
    d = Distribution(x)
    bad = d.bad | np.isnan(t).any(axis=1, keepdims=True)
    terms = np.where(bad, np.nan, -_weighted(t, d.logp))
    total = t.sum(axis=1, keepdims=True)
    return _of_terms(terms, abs(t) * d.logp_scale) | {
        "grad": Quantity(np.where(bad, np.nan, total * d.p - t), abs(total) * d.p + abs(t)),
        "hess": Quantity(np.where(bad, np.nan, total * d.p * d.others), abs(total) * d.p * d.others),
    }


def one_hot(labels, classes):
    return (np.asarray(labels)[:, None] == np.arange(classes)).astype(LD)


def kl_div(x, t, log_t, log_scale, tau):
    """T KL(t/T, softmax x) + h(T), where h(T) = T log T unless T means 1."""
    d = Distribution(x)
    bad = d.bad | np.isnan(t).any(axis=1, keepdims=True) | np.isnan(log_t).all(axis=1, keepdims=True)
    # A log t of any size is a t above 0, also where longdouble has no such number.
    terms = np.where((d.logp == -np.inf) & (log_t > -np.inf), np.inf, _weighted(t, log_t - d.logp))
    terms = np.where(bad | (t < 0), np.nan, terms)
    total = t.sum(axis=1, keepdims=True)
    plain = terms.sum(axis=1)
    spread = abs(terms).sum(axis=1)
    # With q = t/T and u = log p - log q, KL is the sum of q (exp(u) - 1 - u), and of p where q is 0.
    u = d.logp - log_t + np.log(total)
    centred = np.where(t == 0, total * d.p, t * _exp_minus_line(u)).sum(axis=1)
    total = total[:, 0]
    h = _weighted(total, np.log(total))
    usual = np.isfinite(plain) & (total > 0)
    means_one = abs(total - 1) <= tau
    value = np.where(usual, np.where(means_one, centred, centred + h), plain)
    scale = np.where(usual & ~means_one, spread + abs(h) + total, spread)
    sides = np.where(terms == np.inf, np.where(t == 1, 0, np.inf), -np.inf)
    target_grad = np.where(plain[:, None] == np.inf, np.where(t == 0, 0, sides), terms - t * plain[:, None])
    return {
        "value": Quantity(value, scale),
        "target_grad": Quantity(target_grad, abs(terms) + t * abs(terms).sum(axis=1, keepdims=True)),
        "terms": Quantity(terms, _weighted(abs(t), log_scale + d.logp_scale)),
        "grad": Quantity(np.where(bad, np.nan, total[:, None] * d.p - t), abs(total)[:, None] * d.p + abs(t)),
    }


def _exp_minus_line(u):
    """exp(u) - 1 - u"""
    near = abs(u) < 0.1
    v = np.where(near, u, 0)
    series = np.zeros_like(v)
    for k in range(18, 1, -1):
        series = (1 + series) * v / k if k > 2 else (1 + series) * v * v / 2
    return np.where(near, series, np.expm1(u) - u)


def target_from_probs(t, dtype):
    t = wrap(t)
    log_t = np.log(t)
    return t, log_t, abs(log_t), tau(dtype, t.shape[1])


def target_from_log_probs(log_t, dtype):
    log_t = wrap(log_t)
    t = np.where(np.isnan(log_t).any(axis=1, keepdims=True), np.nan, np.exp(log_t))
    return t, log_t, abs(log_t), tau(dtype, t.shape[1])


def target_from_logits(y, dtype):
    d = Distribution(y)
    return d.p, d.logp, d.logp_scale, tau(dtype, d.p.shape[1])


def tau(dtype, classes):
    return float(finfo(dtype).eps) * (4 + float(np.sqrt(classes)))


def nll(x, labels):
    own = one_hot(labels, np.shape(x)[1])
    terms = np.where(own == 1, -wrap(x), 0)
    return _of_terms(terms, abs(terms)) | {"grad": Quantity(-own, own)}


def binary_cross_entropy(x, t, w=1, p=1):
    x = wrap(x)
    tail = np.log1p(np.exp(-abs(x)))
    sigmoid = 1 / (1 + np.exp(-abs(x)))  # of |x|
    up = x > 0
    parts = [w * p * t, w * (1 - t)]
    each = [_weighted(parts[0], np.where(up, 0, abs(x)) + tail), _weighted(parts[1], np.where(up, abs(x), 0) + tail)]
    far, near = np.where(up, parts[1], parts[0]), np.where(up, parts[0], parts[1])
    slopes = [far * sigmoid, near * (sigmoid * np.exp(-abs(x)))]
    grad = np.where(np.isnan(x), np.nan, np.where(up, 1, -1) * (slopes[0] - slopes[1]))
    terms = np.where(np.isnan(x), np.nan, each[0] + each[1])
    scale = abs(each[0]) + abs(each[1])
    return {
        "value": Quantity(terms.sum(axis=1), scale.sum(axis=1)),
        "terms": Quantity(terms, scale),
        "grad": Quantity(grad, abs(slopes[0]) + abs(slopes[1])),
    }


def js_div(x, y):
    dx, dy = Distribution(x), Distribution(y)
    p, q = dx.p, dy.p
    m = (p + q) / 2
    # p/m = 1 + r and q/m = 1 - r; where r is not small, log(p/m) = log 2 - softplus(-u)
    u = dx.logp - dy.logp
    u = np.where((p == 0) & (q == 0) & np.isnan(u), 0, u)
    r = np.tanh(u / 2)
    far = [np.log(LD(2)) - np.maximum(v, 0) - np.log1p(np.exp(-abs(v))) for v in (-u, u)]
    near = [np.log1p(sign * np.clip(r, -0.5, 0.5)) for sign in (1, -1)]
    logs = [np.where(abs(r) < 0.5, n, f) for n, f in zip(near, far, strict=True)]
    logs = [np.where(share == 0, 0, log) for share, log in zip((p, q), logs, strict=True)]
    parts = [p * logs[0] / 2, q * logs[1] / 2]
    series = sum(r ** (2 * k) / LD(2 * k * (2 * k - 1)) for k in range(1, 15))
    terms = np.where(abs(r) < 0.05, m * series, parts[0] + parts[1])
    scale = abs(parts[0]) + abs(parts[1])
    mean = (p * logs[0]).sum(axis=1, keepdims=True)
    return {
        "value": Quantity(terms.sum(axis=1), scale.sum(axis=1)),
        "terms": Quantity(terms, scale),
        "grad": Quantity(
            p / 2 * (logs[0] - mean), p / 2 * (abs(logs[0]) + (p * abs(logs[0])).sum(axis=1, keepdims=True))
        ),
    }


def kl_pointwise(x, t):
    x, t = wrap(x), wrap(t)
    value = np.where(t == 0, np.where(np.isnan(x), np.nan, 0), np.where(t > 0, t * (np.log(t) - x), np.nan))
    return {"value": Quantity(value, np.where(t > 0, t * (abs(np.log(t)) + abs(x)), 1))}


def rel_entr(p, q):
    p, q = wrap(p), wrap(q)
    near = abs(p - q) < 0.5 * abs(q)
    ratio = np.where(near, np.log1p(np.where(near, (p - q) / q, 0)), np.log(p / q))
    value = np.where((p > 0) & (q > 0), p * ratio, np.where((p == 0) & (q >= 0), 0, np.inf))
    value = np.where(np.isnan(p) | np.isnan(q), np.nan, value)
    return {"value": Quantity(value, abs(value))}


def _row(definition, x, target):
    if definition in ("softmax_family", "entropy", "softmax_entropy"):
        return globals()[definition](x)
    if definition == "nll":
        return nll(x, target)
    if definition == "labels":
        return cross_entropy(x, one_hot(target, np.shape(x)[1]))
    if definition == "js_div":
        return js_div(x, target)
    if definition in ("cross_entropy", "binary_cross_entropy"):
        return globals()[definition](x, wrap(target))
    kind = definition.removeprefix("kl_")
    of_kind = globals()[f"target_from_{kind}"](target, target.dtype)
    row = kl_div(x, *of_kind)
    far = oracle.distance_of_logits(x, target, target.dtype)[:, None]
    row["target_grad"].scale = row["target_grad"].scale + of_kind[0] * far
    return row


def judge(name, *operands):
    """evaluate() where longdouble has digits to spare for the operands' dtype, mpmath where it has none."""
    spare = IS_WIDE and all(a.dtype.kind in "iu" or a.dtype.itemsize < 8 for a in map(np.asarray, operands))
    return (evaluate if spare else oracle.evaluate)(name, *operands)


def evaluate(name, x, target=None):
    """The outputs of operation `name` on (rows, classes) operands: one oracle.Ref an output."""
    with np.errstate(all="ignore"):
        if name in ("kl_pointwise", "rel_entr"):
            return (oracle.split(globals()[name](x, target)["value"]),)
        definition, outputs = oracle.definition_of(name)
        found = _row(definition, np.asarray(x), None if target is None else np.asarray(target))
        return tuple(oracle.split(found[key]) for key in outputs)
