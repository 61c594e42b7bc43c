"""The accuracy contract: one row an operation and dtype, in ULPs of the scale that oracle.py returns.

A budget is the largest error, not a typical one: an exponential is within 0.75 ULP, sums and logarithms keep what they
round away. The searches of worst.py have not found more. float16 and bfloat16 are computed in float32, so all they may
lose is their own last rounding. README.md prints this table, xent.h its numbers: `python tests/cases.py` writes them.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from ml_dtypes import finfo  # of NumPy's own floats too

# By names that NumPy takes for them.
DTYPES = {
    "f8": np.dtype(np.float64),
    "f4": np.dtype(np.float32),
    "f2": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


@dataclass(frozen=True)
class Case:
    name: str
    dtype: str
    # The second operand: "", "probs", "unit" (each from 0 to 1), "logits", "log_probs", "labels"; "self"; or "point".
    operands: str
    budgets: tuple[float, ...]  # ULPs, one an output

    @property
    def type(self):
        return DTYPES[self.dtype]

    @property
    def itemsize(self):
        return self.type.itemsize

    @property
    def id(self):
        return f"{self.name}-{self.dtype}"


# fmt: off
_TABLE = [
    # name                                      second operand   f8            f4            f2 and bfloat16
    ("logsumexp",                               "",          (4.0,),       (4.0,),       (0.51,)),
    ("log_softmax",                             "",          (4.0,),       (4.0,),       (0.51,)),
    ("softmax",                                 "",          (4.0,),       (5.0,),       (0.51,)),
    ("entropy",                                 "self",      (5.0,),       (5.0,),       (0.51,)),
    ("softmax_entropy",                         "",          (7.0,),       (6.0,),       (0.51,)),
    ("cross_entropy",                           "probs",     (5.0,),       (5.0,),       (0.51,)),
    ("cross_entropy_with_labels",               "labels",    (4.0,),       (4.0,),       (0.51,)),
    ("kl_div",                                  "probs",     (5.0,),       (4.0,),       (0.51,)),
    ("kl_div_with_logits",                      "logits",    (6.0,),       (7.0,),       (0.51,)),
    ("kl_div_with_log_probs",                   "log_probs", (5.0,),       (7.0,),       (0.51,)),
    ("cross_entropy_terms",                     "probs",     (4.0,),       (5.0,),       (0.51,)),
    ("kl_div_terms",                            "probs",     (4.0,),       (5.0,),       (0.51,)),
    ("kl_div_with_logits_terms",                "logits",    (6.0,),       (9.0,),       (0.51,)),
    ("kl_div_with_log_probs_terms",             "log_probs", (5.0,),       (7.0,),       (0.51,)),
    ("cross_entropy_value_and_grad",            "probs",     (5.0, 7.0),   (5.0, 8.0),   (0.51, 0.51)),
    ("cross_entropy_with_labels_value_and_grad", "labels",   (4.0, 4.0),   (4.0, 5.0),   (0.51, 0.51)),
    ("kl_div_value_and_grad",                   "probs",     (5.0, 7.0),   (4.0, 7.0),   (0.51, 0.51)),
    ("kl_div_with_logits_value_and_grad",       "logits",    (6.0, 5.0),   (7.0, 5.0),   (0.51, 0.51)),
    ("kl_div_with_log_probs_value_and_grad",    "log_probs", (5.0, 7.0),   (7.0, 7.0),   (0.51, 0.51)),
    ("nll",                                     "labels",    (0.5,),       (0.5,),       (0.51,)),
    ("nll_terms",                               "labels",    (0.5,),       (0.5,),       (0.51,)),
    ("nll_value_and_grad",                      "labels",    (0.5, 0.5),   (0.5, 0.5),   (0.51, 0.51)),
    ("binary_cross_entropy",                    "unit",      (5.0,),       (5.0,),       (0.51,)),
    ("binary_cross_entropy_terms",              "unit",      (4.0,),       (4.0,),       (0.51,)),
    ("binary_cross_entropy_value_and_grad",     "unit",      (5.0, 5.0),   (5.0, 5.0),   (0.51, 0.51)),
    ("js_div",                                  "logits",    (5.0,),       (6.0,),       (0.51,)),
    ("js_div_terms",                            "logits",    (7.0,),       (7.0,),       (0.51,)),
    ("js_div_value_and_grad",                   "logits",    (5.0, 6.0),   (6.0, 5.0),   (0.51, 0.51)),
    ("kl_pointwise",                            "point",     (4.0,),       (4.0,),       (0.51,)),
    ("rel_entr",                                "point",     (5.0,),       (5.0,),       (0.51,)),
    ("cross_entropy_value_and_hess",            "probs",     (5.0, 10.0),  (5.0, 10.0),  (0.51, 0.51)),
    ("cross_entropy_with_labels_value_and_hess", "labels",   (4.0, 8.0),   (4.0, 9.0),   (0.51, 0.51)),
    ("kl_div_with_logits_value_and_target_grad", "logits",   (6.0, 8.0),   (7.0, 9.0),   (0.51, 0.51)),
]
# fmt: on

CASES = [
    Case(name, dtype, operands, budgets)
    for name, operands, f8, f4, half in _TABLE
    for dtype, budgets in zip(DTYPES, (f8, f4, half, half), strict=True)
]
NAMES = [row[0] for row in _TABLE]
SECOND = {row[0]: row[1] for row in _TABLE}
ROW_CASES = [c for c in CASES if c.operands != "point"]
POINT_CASES = [c for c in CASES if c.operands == "point"]
ROW_NAMES = [n for n in NAMES if SECOND[n] != "point"]
GRAD_NAMES = [n for n in NAMES if n.endswith("_value_and_grad")]
# One value a class for each row, so that the result has the shape of the logits.
ARRAY_NAMES = [n for n in NAMES if n in ("log_softmax", "softmax") or n.endswith("_terms")]

# Rows for a device, be it there or its code be run elsewhere: beside the few that the oracle has, enough to fill
# blocks; odd counts, so that the last one is not full.
_DEVICE_SHAPES = [(45, 3), (1001, 10), (333, 37), (65, 131), (9, 1000), (5, 5003), (2, 20_001), (3, 50_257)]


def device_rows(case, kind, rng):
    """(operands, whether extended precision is exact enough for them). Where a class may dominate its row it is not."""
    wide = kind == "random" or (kind == "offset" and case.dtype not in ("f2", "f8", "bfloat16"))
    for rows, classes in _DEVICE_SHAPES if kind == "random" else _DEVICE_SHAPES[:4]:
        yield (
            operands(case.name, kind, rows, classes, case.type, rng),
            wide and not (case.dtype == "f8" and classes < 1000),
        )


# Probabilities below the normal range have lost digits to their own rounding; logarithms of a hundred multiply that.
SUBNORMAL_STEPS = 1024


def subnormal_steps(name, dtype):
    """How many of the dtype's smallest steps an error may be where the numbers themselves are that small."""
    products = name not in ("logsumexp", "log_softmax", "softmax")
    return SUBNORMAL_STEPS if products and np.dtype(dtype).itemsize > 2 else 0


# KL of rows that nearly agree, relative to the divergence itself.
NEAR_EQUAL_EPS = 4.0


def near_equal_allowance(operands, dtype, kl, t):
    """How far kl may be off; t are the target probabilities, or None where the target is not given as such.

    4 eps KL, and for probabilities, whose logarithms are rounded to a = eps (1 + max |log t|), what that makes of a
    divergence: 2 a sqrt(2 KL) + a^2. Nothing is resolved below the cube of float64's eps, 1e-47 nats.
    """
    eps = float(finfo(dtype).eps)
    allowed = NEAR_EQUAL_EPS * eps * kl
    if operands == "probs":
        a = eps * (1 + np.abs(np.log(np.where(t > 0, t, 1.0).astype(np.float64))).max(axis=-1, initial=0.0))
        allowed = allowed + 2 * a * np.sqrt(2 * kl) + a**2
    # A divergence below the dtype's normal range is rounded to its spacing there.
    return allowed + 0.5 * float(finfo(dtype).smallest_subnormal) + float(np.finfo(np.float64).eps) ** 3


def near_js_terms_allowance(dtype, x, y):
    """How far a term of Jensen-Shannon may be off where p and q of its class nearly agree: m a^2 with
    a = eps (1 + |log p|) of the smaller of the two."""
    p, q = softmax64(x), softmax64(y)
    with np.errstate(divide="ignore"):
        a = float(finfo(dtype).eps) * (1 + np.abs(np.log(np.minimum(p, q))))
    return np.where(np.isfinite(a), (p + q) / 2 * a**2, 0.0)


def budget(name, dtype):
    """The budgets of an operation in a dtype, one an output."""
    dtype = np.dtype(dtype)
    return next(c.budgets for c in CASES if c.name == name and c.type == dtype)


def declared_operations():
    """The names in kernels/ops.def, the one list of operations."""
    text = (Path(__file__).parents[1] / "kernels" / "ops.def").read_text(encoding="utf-8")
    return re.findall(r"^OP\((\w+),", text, flags=re.MULTILINE)


# ---- data ----------------------------------------------------------------------------------------------------------


def softmax64(x):
    x = np.asarray(x, dtype=np.float64)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def logits(kind, rows, classes, dtype, rng):
    """Rows of logits of one kind, as the dtype holds them."""
    z = rng.standard_normal((rows, classes))
    if kind == "random":
        x = 3 * z
    elif kind == "offset":
        x = 1e4 + (3 * z if np.dtype(dtype).itemsize > 2 else 40 * z)
    elif kind == "peaked":
        x = z
        x[np.arange(rows), rng.integers(classes, size=rows)] += np.linspace(15, 60, rows)
    elif kind == "wide":
        x = 30 * z
    else:
        raise ValueError(kind)
    return x.astype(dtype)


def second(operands, kind, x, rng):
    """A second operand that goes with logits x; None where the operation has one operand."""
    rows, classes = x.shape
    dtype = x.dtype
    if operands in ("", "self"):
        return None
    if operands == "labels":
        return rng.integers(classes, size=rows)
    if operands == "logits":
        other = logits(kind, rows, classes, np.float64, rng)
        return other.astype(dtype)
    if operands == "unit":
        # Mostly yes or no, as labels are.
        return np.clip(np.round(3 * rng.random((rows, classes)) - 1, 2), 0, 1).astype(dtype)
    probs = softmax64(3 * rng.standard_normal((rows, classes)))
    if operands == "log_probs":
        return np.log(probs).astype(dtype)
    if classes > 1:
        # Some zeros, though never a whole row of them.
        probs[(rng.random((rows, classes)) < 0.1) & (probs < probs.max(axis=-1, keepdims=True))] = 0.0
    probs[0] = 0.0
    probs[0, rng.integers(classes)] = 1.0
    return (probs / probs.sum(axis=-1, keepdims=True)).astype(dtype)


def operands(name, kind, rows, classes, dtype, rng):
    """Positional operands of operation `name`."""
    x = logits(kind, rows, classes, dtype, rng)
    if SECOND[name] == "self":
        return (second("probs", kind, x, rng),)
    t = second(SECOND[name], kind, x, rng)
    return (x,) if t is None else (x, t)


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


# ---- edges: (what, name, operands, result) in float64; other dtypes where the numbers fit --------------------------

INF, NAN = np.inf, np.nan
# fmt: off
EDGES = [
    ("0 log 0", "cross_entropy", ([0.0, -INF], [1.0, 0.0]), 0.0),
    ("0 log 0", "kl_div", ([0.0, -INF], [1.0, 0.0]), 0.0),
    ("0 log 0", "kl_div_with_logits", ([0.0, -INF], [0.0, -INF]), 0.0),
    ("0 log 0", "kl_div_with_log_probs", ([0.0, -INF], [0.0, -INF]), 0.0),
    ("0 log 0", "kl_div_with_logits", ([5.0, -INF, 5.0], [7.0, -INF, 7.0]), 0.0),
    ("0 log 0", "cross_entropy_terms", ([0.0, -INF], [1.0, 0.0]), [0.0, 0.0]),
    ("0 log 0", "kl_div_terms", ([0.0, -INF], [1.0, 0.0]), [0.0, 0.0]),
    ("0 log 0", "kl_div_with_logits_terms", ([0.0, -INF], [0.0, -INF]), [0.0, 0.0]),
    ("0 log 0", "entropy", ([1.0, 0.0],), 0.0),
    ("0 log 0", "softmax_entropy", ([3.0, -INF],), 0.0),
    ("0 log 0", "cross_entropy_value_and_grad", ([0.0, -INF], [1.0, 0.0]), (0.0, [0.0, 0.0])),
    ("0 log 0", "cross_entropy_value_and_hess", ([0.0, -INF], [1.0, 0.0]), (0.0, [0.0, 0.0])),
    ("0 log 0", "kl_div_value_and_grad", ([0.0, -INF], [1.0, 0.0]), (0.0, [0.0, 0.0])),
    ("0 log 0", "kl_div_with_logits_value_and_grad", ([0.0, -INF], [0.0, -INF]), (0.0, [0.0, 0.0])),
    ("0 log 0", "kl_div_with_logits_value_and_target_grad", ([0.0, -INF], [0.0, -INF]), (0.0, [0.0, 0.0])),
    ("target at a logit of -inf", "cross_entropy", ([0.0, -INF], [0.5, 0.5]), INF),
    ("target at a logit of -inf", "cross_entropy_with_labels", ([0.0, -INF], 1), INF),
    ("target at a logit of -inf", "kl_div", ([0.0, -INF], [0.5, 0.5]), INF),
    ("target at a logit of -inf", "kl_div_with_logits", ([0.0, -INF], [0.0, 0.0]), INF),
    ("target at a logit of -inf", "kl_div_with_logits", ([0.0, -INF], [3000.0, 0.0]), INF),
    ("target at a logit of -inf", "kl_div_with_log_probs", ([0.0, -INF], [0.0, -3000.0]), INF),
    ("target at a logit of -inf", "kl_div_with_logits", ([-INF, 0.0], [0.0, 3000.0]), INF),
    ("target at a logit of -inf", "kl_div_with_log_probs", ([-INF, 0.0], [-3000.0, 0.0]), INF),
    ("target at a logit of -inf", "kl_div_with_log_probs", ([0.0, -INF], [-1.0, -1.0]), INF),
    ("target at a logit of -inf", "cross_entropy_terms", ([0.0, -INF], [1.0, 0.5]), [0.0, INF]),
    ("target at a logit of -inf", "kl_div_terms", ([0.0, -INF], [1.0, 0.5]), [0.0, INF]),
    ("target at a logit of -inf", "cross_entropy_value_and_grad", ([0.0, -INF], [0.5, 0.5]), (INF, [0.5, -0.5])),
    ("target at a logit of -inf", "kl_div_value_and_grad", ([0.0, -INF], [0.5, 0.5]), (INF, [0.5, -0.5])),
    ("infinite", "kl_div_with_logits_value_and_target_grad", ([0.0, -INF], [0.0, 0.0]), (INF, [-INF, INF])),
    ("target at a logit of -inf", "cross_entropy_with_labels_value_and_grad", ([0.0, -INF], 1), (INF, [1.0, -1.0])),
    ("teacher has it -inf", "kl_div_with_logits", ([0.0, 0.0], [0.0, -INF]), np.log(2.0)),
    ("NaN", "logsumexp", ([0.0, NAN, 1.0],), NAN),
    ("NaN", "log_softmax", ([0.0, NAN, 1.0],), [NAN, NAN, NAN]),
    ("NaN", "softmax", ([NAN, 0.0, INF],), [NAN, NAN, NAN]),
    ("NaN", "entropy", ([0.5, NAN, 0.5],), NAN),
    ("NaN", "softmax_entropy", ([0.5, NAN, 0.5],), NAN),
    ("NaN", "cross_entropy", ([0.0, NAN], [1.0, 0.0]), NAN),
    ("NaN", "cross_entropy", ([0.0, 1.0], [NAN, 0.0]), NAN),
    ("NaN", "cross_entropy_with_labels", ([0.0, NAN], 0), NAN),
    ("NaN", "kl_div", ([0.0, NAN], [1.0, 0.0]), NAN),
    ("NaN", "kl_div", ([0.0, 0.0], [1.0, NAN]), NAN),
    ("NaN", "kl_div_with_logits", ([0.0, NAN], [1.0, 0.0]), NAN),
    ("NaN", "kl_div_with_logits", ([0.0, 0.0], [1.0, NAN]), NAN),
    ("NaN", "kl_div_with_log_probs", ([0.0, 0.0], [0.0, NAN]), NAN),
    ("NaN", "cross_entropy_terms", ([0.0, NAN], [1.0, 0.0]), [NAN, NAN]),
    ("NaN", "kl_div_terms", ([0.0, NAN], [1.0, 0.0]), [NAN, NAN]),
    ("NaN", "cross_entropy_value_and_grad", ([0.0, NAN], [1.0, 0.0]), (NAN, [NAN, NAN])),
    ("NaN", "cross_entropy_value_and_hess", ([0.0, NAN], [1.0, 0.0]), (NAN, [NAN, NAN])),
    ("NaN", "cross_entropy_with_labels_value_and_hess", ([0.0, NAN], 0), (NAN, [NAN, NAN])),
    ("NaN", "kl_div_value_and_grad", ([0.0, NAN], [1.0, 0.0]), (NAN, [NAN, NAN])),
    ("NaN", "kl_div_with_logits_value_and_grad", ([0.0, 0.0], [NAN, 0.0]), (NAN, [NAN, NAN])),
    ("NaN", "cross_entropy_with_labels_value_and_grad", ([0.0, NAN], 0), (NAN, [NAN, NAN])),
    ("all -inf", "logsumexp", ([-INF, -INF],), -INF),
    ("all -inf", "log_softmax", ([-INF, -INF],), [NAN, NAN]),
    ("all -inf", "softmax", ([-INF, -INF],), [NAN, NAN]),
    ("all -inf", "softmax_entropy", ([-INF, -INF],), NAN),
    ("all -inf", "cross_entropy", ([-INF, -INF], [0.5, 0.5]), NAN),
    ("all -inf", "cross_entropy", ([-INF, -INF], [0.0, 0.0]), 0.0),
    ("all -inf", "cross_entropy_with_labels", ([-INF, -INF], 0), NAN),
    ("all -inf", "cross_entropy_terms", ([-INF, -INF], [0.5, 0.0]), [NAN, 0.0]),
    ("all -inf", "kl_div_terms", ([-INF, -INF], [0.5, 0.0]), [NAN, 0.0]),
    ("all -inf", "kl_div", ([-INF, -INF], [0.5, 0.5]), NAN),
    ("all -inf", "kl_div_with_logits", ([-INF, -INF], [0.0, 0.0]), NAN),
    ("all -inf", "kl_div_with_logits", ([0.0, 0.0], [-INF, -INF]), NAN),
    ("all -inf", "kl_div_with_logits_terms", ([0.0, 0.0], [-INF, -INF]), [NAN, NAN]),
    ("all -inf", "kl_div_with_logits_value_and_target_grad", ([0.0, 0.0], [-INF, -INF]), (NAN, [NAN, NAN])),
    ("all -inf", "kl_div_with_logits_value_and_grad", ([0.0, 0.0], [-INF, -INF]), (NAN, [NAN, NAN])),
    ("one +inf", "logsumexp", ([1.0, INF, -INF],), INF),
    ("one +inf", "log_softmax", ([1.0, INF, -INF],), [-INF, NAN, -INF]),
    ("one +inf", "softmax", ([1.0, INF, -INF],), [0.0, NAN, 0.0]),
    ("one +inf", "cross_entropy_with_labels", ([1.0, INF, 2.0], 1), NAN),
    ("one +inf", "cross_entropy_with_labels", ([1.0, INF, 2.0], 0), INF),
    ("one +inf", "cross_entropy", ([1.0, INF, 2.0], [0.5, 0.0, 0.5]), INF),
    ("one +inf", "cross_entropy", ([1.0, INF, 2.0], [0.5, 0.5, 0.0]), NAN),
    ("length 0", "logsumexp", ([],), -INF),
    ("length 0", "log_softmax", ([],), []),
    ("length 0", "softmax", ([],), []),
    ("length 0", "entropy", ([],), 0.0),
    ("length 0", "softmax_entropy", ([],), 0.0),
    ("length 0", "cross_entropy", ([], []), 0.0),
    ("length 0", "kl_div", ([], []), 0.0),
    ("length 0", "kl_div_with_logits", ([], []), 0.0),
    ("length 0", "kl_div_with_log_probs", ([], []), 0.0),
    ("length 0", "cross_entropy_terms", ([], []), []),
    ("length 0", "kl_div_terms", ([], []), []),
    ("length 0", "cross_entropy_value_and_grad", ([], []), (0.0, [])),
    ("length 0", "kl_div_value_and_grad", ([], []), (0.0, [])),
    ("length 1", "logsumexp", ([3.5],), 3.5),
    ("length 1", "log_softmax", ([3.5],), [0.0]),
    ("length 1", "softmax", ([3.5],), [1.0]),
    ("length 1", "softmax_entropy", ([3.5],), 0.0),
    ("length 1", "cross_entropy_with_labels", ([3.5], 0), 0.0),
    ("length 1", "kl_div_with_logits", ([3.5], [-2.0]), 0.0),
    ("negative target", "cross_entropy", ([0.0, 0.0], [-1.0, 2.0]), np.log(2.0)),
    ("negative target", "cross_entropy", ([0.0, -INF], [1.0, -1.0]), -INF),
    ("negative target", "kl_div", ([0.0, 0.0], [-1.0, 2.0]), NAN),
    ("negative target", "kl_div_terms", ([0.0, 0.0], [-1.0, 1.0]), [NAN, np.log(2.0)]),
    ("negative target", "entropy", ([-0.5, 1.5],), NAN),
    ("all-zero target", "kl_div", ([1.0, 2.0], [0.0, 0.0]), 0.0),
    ("all-zero target", "cross_entropy", ([1.0, 2.0], [0.0, 0.0]), 0.0),
    ("all-zero target", "kl_div_with_log_probs", ([1.0, 2.0], [-INF, -INF]), 0.0),
    ("all-zero target", "cross_entropy_value_and_grad", ([1.0, 2.0], [0.0, 0.0]), (0.0, [0.0, 0.0])),
    ("all-zero target", "cross_entropy_value_and_hess", ([1.0, 2.0], [0.0, 0.0]), (0.0, [0.0, 0.0])),
    ("all-zero target", "kl_div_value_and_grad", ([1.0, 2.0], [0.0, 0.0]), (0.0, [0.0, 0.0])),
    ("its own class", "nll", ([-0.5, NAN, -INF], 0), 0.5),
    ("its own class", "nll", ([0.0, -INF], 1), INF),
    ("its own class", "nll", ([0.0, INF], 1), -INF),
    ("its own class", "nll", ([0.0, NAN], 1), NAN),
    ("its own class", "nll_terms", ([-0.5, NAN, -INF], 0), [0.5, 0.0, 0.0]),
    ("its own class", "nll_value_and_grad", ([-0.5, NAN, -INF], 2), (INF, [0.0, 0.0, -1.0])),
    ("0 log 0", "binary_cross_entropy", ([INF, -INF], [1.0, 0.0]), 0.0),
    ("0 log 0", "binary_cross_entropy_terms", ([INF, -INF], [1.0, 0.0]), [0.0, 0.0]),
    ("0 log 0", "binary_cross_entropy_value_and_grad", ([INF, -INF], [1.0, 0.0]), (0.0, [0.0, 0.0])),
    ("certain and wrong", "binary_cross_entropy", ([INF, 0.0], [0.0, 0.0]), INF),
    ("certain and wrong", "binary_cross_entropy_terms", ([-INF, 0.0], [1.0, 0.0]), [INF, np.log(2.0)]),
    ("certain and wrong", "binary_cross_entropy_value_and_grad", ([INF, -INF], [0.25, 0.25]), (INF, [0.75, -0.25])),
    ("confident", "binary_cross_entropy", ([8.0], [1.0]), np.log1p(np.exp(-8.0))),
    ("NaN", "binary_cross_entropy", ([0.0, NAN], [0.0, 0.0]), NAN),
    ("NaN", "binary_cross_entropy_terms", ([0.0, NAN], [1.0, 0.0]), [np.log(2.0), NAN]),
    ("NaN", "binary_cross_entropy_terms", ([0.0, 0.0], [NAN, 0.0]), [NAN, np.log(2.0)]),
    ("NaN", "binary_cross_entropy_value_and_grad", ([0.0, NAN], [1.0, 0.0]), (NAN, [-0.5, NAN])),
    ("length 0", "binary_cross_entropy", ([], []), 0.0),
    ("linear in the target", "binary_cross_entropy", ([0.0], [-3.0]), np.log(2.0)),
    ("linear in the target", "binary_cross_entropy", ([4.0], [3.0]), np.log1p(np.exp(-4.0)) - 8.0),
    ("0 log 0", "js_div", ([0.0, -INF], [0.0, -INF]), 0.0),
    ("0 log 0", "js_div_terms", ([0.0, -INF], [0.0, -INF]), [0.0, 0.0]),
    ("0 log 0", "js_div_value_and_grad", ([0.0, -INF], [0.0, -INF]), (0.0, [0.0, 0.0])),
    ("disjoint", "js_div", ([0.0, -INF], [-INF, 0.0]), np.log(2.0)),
    ("disjoint", "js_div", ([0.0, -1e4], [-1e4, 0.0]), np.log(2.0)),
    ("disjoint", "js_div_value_and_grad", ([0.0, -INF], [-INF, 0.0]), (np.log(2.0), [0.0, 0.0])),
    ("one has it -inf", "js_div", ([0.0, 0.0], [0.0, -INF]), 0.75 * np.log(4 / 3)),
    ("NaN", "js_div", ([0.0, NAN], [1.0, 0.0]), NAN),
    ("NaN", "js_div", ([0.0, 0.0], [1.0, NAN]), NAN),
    ("NaN", "js_div_terms", ([0.0, NAN], [1.0, 0.0]), [NAN, NAN]),
    ("NaN", "js_div_value_and_grad", ([0.0, 0.0], [NAN, 0.0]), (NAN, [NAN, NAN])),
    ("all -inf", "js_div", ([-INF, -INF], [0.0, 0.0]), NAN),
    ("all -inf", "js_div", ([0.0, 0.0], [-INF, -INF]), NAN),
    ("one +inf", "js_div", ([0.0, INF], [0.0, 0.0]), NAN),
    ("length 0", "js_div", ([], []), 0.0),
    ("length 1", "js_div", ([3.5], [-2.0]), 0.0),
    ("unnormalised target", "kl_div", ([0.0, 0.0], [2.0, 2.0]), 4 * np.log(4.0)),
    ("unnormalised target", "kl_div", ([0.0, 0.0], [0.25, 0.25]), 0.5 * np.log(0.5)),
    ("unnormalised target", "cross_entropy", ([0.0, 0.0], [2.0, 2.0]), 4 * np.log(2.0)),
    ("unnormalised target", "kl_div_with_log_probs", ([0.0, 0.0], [0.0, 0.0]), 2 * np.log(2.0)),
]
# fmt: on


ROOT = Path(__file__).parents[1]
TABLE = re.compile(r"(?<=<!-- accuracy:begin -->\n).*(?=\n<!-- accuracy:end -->)", re.DOTALL)


def readme_table():
    lines = ["| operation | float64 | float32 | float16, bfloat16 |", "|---|---|---|---|"]
    for name, _, *columns in _TABLE:
        lines.append(f"| `{name}` | " + " | ".join(", ".join(f"{b:g}" for b in column) for column in columns) + " |")
    return "\n".join(lines)


def with_budgets(header):
    """xent.h or its template with each function's accuracy, and its derivative's: float's and double's, as here."""

    def restated(comment):
        for output, lead in enumerate([r"(?:[Aa]ccuracy|Exact:)", r"of\sthe\s(?:gradient|Hessian)"][: len(f4)]):
            comment, times = re.subn(
                rf"({lead}[\s*]+)[\d.]+(,[\s*]+)[\d.]*\d",
                lambda m, o=output: f"{m[1]}{f4[o]:g}{m[2]}{f8[o]:g}",
                comment,
                count=1,
            )
            assert times == 1, (name, lead)
        return comment

    for name in NAMES:
        f4, f8 = budget(name, "f4"), budget(name, "f8")
        described = rf"(?:XENT_API xent_status xent_{name}_f32\(|@function {name}@)"
        before = re.search(rf"/\*(?:(?!/\*).)*?\*/\n{described}", header, re.DOTALL)
        header = header[: before.start()] + restated(before[0]) + header[before.end() :]
    return header


def write():
    readme, header = ROOT / "README.md", ROOT / "kernels" / "include" / "xent.h.in"
    readme.write_text(TABLE.sub(readme_table(), readme.read_text(encoding="utf-8")), encoding="utf-8")
    header.write_text(with_budgets(header.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write()
