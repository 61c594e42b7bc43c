"""Random calls of every loss and callable, valid ones beside the oracle and junk that must be refused:

    python tests/fuzz.py [--seconds 60] [--seed 0] [--call 1234]

A call is a function of the seed and its number, so that --call does one again. What a call finds is printed as code.
`make fuzz-sanitized` runs them in a build that stops at any access out of bounds and any undefined behaviour;
embed/random.c does so for the C interface, from several threads.
"""

import argparse
import sys
import time
import warnings

import cases
import numpy as np
import oracle

import xent
from xent import losses

LOSSES = {
    # loss: (its oracle, kinds of target, options)
    "cross_entropy": ("labels probs", "weight sample_weight where label_smoothing ignore_index"),
    "kl_div": ("probs log_probs logits", "sample_weight where temperature"),
    "nll": ("labels", "weight sample_weight where ignore_index"),
    "binary_cross_entropy": ("unit", "weight pos_weight sample_weight where"),
    "js_div": ("logits", "sample_weight where temperature"),
    "distillation": ("logits", "sample_weight where"),
}
DTYPE_NAMES = list(cases.DTYPES)
REDUCTIONS = ["none", "mean", "sum", "per_class", "terms"]
# Sums over rows and products with weights round once more each: what a wrong formula does is far beyond.
SLACK = 16.0


class Wrong(AssertionError):
    """What a call gave is not what it should have given."""


def laid_out(a, rng):
    """The same numbers somewhere else: another order, gaps, backwards, read-only, off alignment."""
    kind = rng.integers(6)
    if kind == 1:
        a = np.asfortranarray(a)
    elif kind == 2 and a.ndim:
        wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
        wide[..., ::2] = a
        a = wide[..., ::2]
    elif kind == 3 and a.ndim:
        a = np.ascontiguousarray(a[..., ::-1])[..., ::-1]
    elif kind == 4:
        raw = np.zeros(a.nbytes + 1, np.uint8)
        off = raw[1:].view(a.dtype).reshape(a.shape)
        off[...] = a
        a = off
    elif kind == 5:
        a = a.copy()
        a.setflags(write=False)
    return a


def operands_of(kind, rows, classes, dtype, rng):
    """(x, target), at times with what is not finite."""
    x = cases.logits(rng.choice(["random", "peaked", "wide"]), rows, classes, np.float64, rng)
    if rng.random() < 0.2:
        x[rng.random(x.shape) < 0.2] = rng.choice([np.inf, -np.inf, np.nan, 0.0, 1e4])
    x = x.astype(dtype)
    return x, cases.second(kind, "random", x.astype(np.float64), rng) if rows * classes else None


def options_of(names, rows, classes, labels, rng):
    options = {}
    for name in names.split():
        if rng.random() < 0.6:
            continue
        if name in ("weight", "pos_weight"):
            options[name] = rng.random(classes) * rng.choice([0.0, 1.0, 3.0], classes)
        elif name == "sample_weight":
            options[name] = rng.random(rows) * rng.choice([0.0, 1.0, 2.0], rows)
        elif name == "where":
            keep = rng.random((rows, classes)) < 0.7
            if labels is not None and rows:
                keep[np.arange(rows), labels] = True  # a label that is left out is a question of its own
            options[name] = keep
        elif name == "label_smoothing":
            options[name] = float(rng.choice([0.0, 0.1, 0.5, 1.0]))
        elif name == "temperature":
            options[name] = 2.0 ** rng.integers(-2, 3, rows) if rng.random() < 0.5 else 2.0
        elif labels is not None:
            options[name] = int(rng.integers(-1, classes))
    return options


def as_read(arrays, compute):
    """Operands as the arithmetic of a result's dtype has them: float64 is rounded to it first."""
    with np.errstate(all="ignore"):
        return [a.astype(compute) if a.dtype == np.float64 else a for a in arrays]


def distillation(student, teacher, *, temperature, **options):
    """T^2 KL of the divided logits; T is a power of two, so nothing is rounded."""
    squared = temperature**2
    return tuple(
        ref and oracle.Ref(*(squared * part for part in (ref.hi, ref.lo, ref.scale)))
        for ref in oracle.losses_kl_div(student, teacher, target_kind="logits", temperature=temperature, **options)
    )


def valid_loss(rng):
    """A call of xent.losses and what it should give."""
    name = str(rng.choice(list(LOSSES)))
    kinds, option_names = LOSSES[name]
    kind = str(rng.choice(kinds.split()))
    dtype = cases.DTYPES[str(rng.choice(list(cases.DTYPES)))]
    rows, classes = int(rng.integers(1, 7)), int(rng.choice([1, 2, 3, 5, 9, 20]))
    x, target = operands_of(kind, rows, classes, dtype, rng)
    labels = target if kind == "labels" else None
    options = options_of(option_names, rows, classes, labels, rng)
    if kind != "labels":
        target = target.astype(dtype)
    elif options.get("ignore_index") == -1:
        target = np.where(rng.random(rows) < 0.3, -1, target)
    if not (np.all(options.get("sample_weight", 1)) and np.all(options.get("weight", 1))):
        # Whether a NaN that infinite logits make weighs anything is nobody's question.
        x[x == np.inf] = 0
        x[np.where(options.get("where", True), x == -np.inf, True).all(axis=1)] = 0
    if name == "kl_div":
        options["target_kind"] = kind
    if name == "distillation":
        options["temperature"] = 2.0 ** int(rng.integers(-2, 5))
    reduction = str(rng.choice(REDUCTIONS))
    given = dict(options)
    wanted = dtype
    if rng.random() < 0.25:
        wanted = given["dtype"] = cases.DTYPES[str(rng.choice(DTYPE_NAMES))]
    # The sum of 16-bit losses that do not fit has no other answer than another dtype.
    compute = np.float64 if wanted == np.float64 else np.float32
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        read = as_read((x, target), compute)
        expected = _oracle_of(name)(*read, compute=compute, reduction=reduction, **options)
    return_grad = reduction in ("none", "mean", "sum") and rng.random() < 0.5
    axis = -1
    if rng.random() < 0.4:
        axis = 0
        x, target = x.T, target if kind == "labels" else target.T
        if "where" in given:
            given["where"] = given["where"].T
    arguments = [laid_out(x, rng), laid_out(target, rng)]
    given |= {"reduction": reduction, "return_grad": return_grad, "axis": axis}
    return f"losses.{name}", getattr(losses, name), arguments, given, expected


def _oracle_of(name):
    return distillation if name == "distillation" else getattr(oracle, f"losses_{name}")


def called(name, function, arguments, options):
    before = [a.tobytes() for a in arguments]
    result = function(*arguments, **options)
    if [a.tobytes() for a in arguments] != before:
        raise Wrong(f"{name} wrote into an operand")
    return result


def check_loss(call):
    name, function, arguments, options, (value, grad) = call
    result = called(name, function, arguments, options)
    got = result if options["return_grad"] else (result, None)
    dtype = scalar = options.get("dtype", arguments[0].dtype)
    if options["reduction"] in ("mean", "sum") and "dtype" not in options:
        scalar = max(dtype, np.dtype(np.float32), key=_size)
    for what, out, ref, of in (("value", got[0], value, scalar), ("gradient", got[1], grad, dtype)):
        if out is None or ref is None:
            continue
        out = np.asarray(out)
        if out.dtype != of:
            raise Wrong(f"{name}: {what} is {out.dtype}, not {of}")
        if options["axis"] == 0 and out.ndim == 2:
            out = out.T
        off = beyond(out, ref, dtype)
        if off:
            raise Wrong(f"{name}: {what} {off}")


def _size(dtype):
    return dtype.itemsize


def beyond(out, ref, dtype):
    """What is wrong with a result, in words, or None."""
    if out.shape != ref.hi.shape:
        return f"has shape {out.shape}, not {ref.hi.shape}"
    with np.errstate(all="ignore"):
        truth = ref.hi.astype(out.dtype)
        same = (out == truth) | (np.isnan(out) & np.isnan(truth))
        apart = np.abs(out.astype(np.float64) - ref.hi)
        # 16-bit results round once, and so do the numbers that they are made of.
        compute = dtype if _size(dtype) == 8 else np.float32
        unit = np.maximum(oracle.unit(ref, out.dtype, 1024), oracle.unit(ref, compute))
        close = np.isfinite(out) & np.isfinite(ref.hi) & (apart <= SLACK * unit)
    wrong = ~(same | close)
    if not wrong.any():
        return None
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"at {place} is {out[place]!r}, not {ref.hi[place]!r}"


# A class that a mask hides is this in the second operand.
HIDDEN = {"logits": -np.inf, "log_probs": -np.inf, "probs": 0.0, "unit": 0.0}


def valid_callable(rng):
    """A call of xent.<operation> and what it should give, a row at a time, for operands in two or three dimensions."""
    name = str(rng.choice(cases.ROW_NAMES))
    dtype = cases.DTYPES[str(rng.choice(DTYPE_NAMES))]
    rows, classes = int(rng.integers(1, 7)), int(rng.choice([1, 2, 3, 5, 9, 20, 33, 70]))
    kind = cases.SECOND[name]
    if kind == "self":
        operands = (cases.second("probs", "random", np.zeros((rows, classes)), rng).astype(dtype),)
    else:
        x, target = operands_of(kind or "labels", rows, classes, dtype, rng)
        operands = (x,) if not kind else (x, target if kind == "labels" else target.astype(dtype))
    options = {}
    result = dtype
    if rng.random() < 0.3:
        result = cases.DTYPES[str(rng.choice(DTYPE_NAMES))]
        options["dtype"] = result
    compute = np.float64 if result == np.float64 else np.float32
    read = as_read(operands, compute)
    if rng.random() < 0.3:
        keep = rng.random((rows, classes)) < 0.7
        if kind == "labels":
            keep[np.arange(rows), operands[1]] = True  # a label that is left out is a question of its own
        options["where"] = keep
        hidden = [0.0 if kind == "self" else -np.inf, HIDDEN.get(kind)][: len(read)]
        pairs = zip(read, hidden, strict=True)
        read = [a if a.ndim == 1 else np.where(keep, a, np.asarray(h, a.dtype)) for a, h in pairs]
    with np.errstate(all="ignore"):
        expected = oracle.evaluate(name, *read)
    for ref in expected:  # rows of which nothing counts
        nothing = ~np.broadcast_to(options.get("where", True), (rows, classes)).any(axis=1)
        ref.hi[nothing] = -np.inf if name in ("logsumexp", "log_softmax") else 0
        if "where" in options and ref.hi.ndim == 2:  # of a row that is NaN, too
            ref.hi[~options["where"]] = -np.inf if name == "log_softmax" else 0

    def there(a):
        """Where a (rows, classes) or (rows,) array lies in the call's own shape."""
        if splits:
            a = a.reshape(splits, rows // splits, *a.shape[1:])
        return np.moveaxis(a, -1, axis) if a.ndim == ndim else a

    splits = int(rng.choice([d for d in range(1, rows + 1) if rows % d == 0])) if rng.random() < 0.4 else 0
    ndim = 3 if splits else 2
    axis = int(rng.integers(-ndim, ndim)) if rng.random() < 0.5 else -1
    if axis != -1 or rng.random() < 0.5:
        options["axis"] = axis
    if "where" in options:
        options["where"] = laid_out(there(options["where"]), rng)
    arguments = [laid_out(there(a), rng) for a in operands]
    expected = [oracle.Ref(*(there(part) for part in (r.hi, r.lo, r.scale))) for r in expected]
    keepdims = expected[0].hi.ndim < ndim and rng.random() < 0.2
    if keepdims:
        options["keepdims"] = True
        at = axis % ndim
        widen = [np.expand_dims(part, at) for part in (expected[0].hi, expected[0].lo, expected[0].scale)]
        expected[0] = oracle.Ref(*widen)
    if rng.random() < 0.3:
        out = [laid_out(np.full(r.hi.shape, 7, result), rng) for r in expected]
        for o in out:
            o.setflags(write=True)
        options["out"] = tuple(out) if len(out) > 1 else out[0]
    return f"xent.{name}", getattr(xent, name), arguments, options, expected


def valid_point(rng):
    """A call of an operation on pairs."""
    name = str(rng.choice([c.name for c in cases.POINT_CASES]))
    dtype = cases.DTYPES[str(rng.choice(DTYPE_NAMES))]
    shape = tuple(rng.integers(0, 6, int(rng.integers(1, 4))))
    x, t = (rng.random(shape) * 10 ** rng.uniform(-8, 2, shape) for _ in range(2))
    x = x if name == "rel_entr" else np.log(x) + rng.standard_normal(shape)
    near = rng.random(shape) < 0.3
    x = np.where(near, t if name == "rel_entr" else np.log(t), x)
    special = rng.random((2, *shape)) < 0.05
    values = rng.choice([0.0, np.inf, -np.inf, np.nan, -1.0], (2, *shape))
    x, t = (np.where(s, v, a).astype(dtype) for s, v, a in zip(special, values, (x, t), strict=True))
    with np.errstate(all="ignore"):
        expected = (getattr(oracle, name)(x, t),)
    return f"xent.{name}", getattr(xent, name), [laid_out(x, rng), laid_out(t, rng)], {}, expected


def check_callable(call):
    name, function, arguments, options, expected = call
    given = options.get("out")
    results = cases.as_tuple(called(name, function, arguments, options))
    if given is not None and any(r is not o for r, o in zip(results, cases.as_tuple(given), strict=True)):
        raise Wrong(f"{name}: out is not what it returned")
    dtype = arguments[0].dtype
    for out, ref in zip(results, expected, strict=True):
        out = np.asarray(out)
        if out.dtype != options.get("dtype", dtype):
            raise Wrong(f"{name}: {out.dtype}, not {options.get('dtype', dtype)}")
        off = beyond(out, ref, out.dtype)
        if off:
            raise Wrong(f"{name}: {off}")


# fmt: off
JUNK = [
    None, "logits", b"x", 3, -1, 2**70, 1.5, float("nan"), float("inf"), -2.0, 1j, (), [], [[]], [1, [2, 3]], {},
    object(), True, slice(None), range(3), "mean", np.zeros(0), np.zeros((0, 3)), np.zeros((2, 0)), np.zeros((3, 2, 2)),
    np.array(1.0), np.array([1, 2]), np.array([-1, 5]), np.array(["a", "b"]), np.array([None, 1]), np.float16(2),
    np.zeros((2, 3), complex), np.zeros((2, 3), "M8[s]"), np.zeros((2, 3), bool), np.full((2, 3), np.nan),
    np.zeros((2, 3), ">f4"), np.zeros((2, 3), np.longdouble), np.zeros(2, [("a", "f4")]), np.uint64(2**64 - 1),
    np.ma.masked_equal([[0, 1, 2], [2, 1, 0]], 1),
]
# fmt: on
SPARE = ["axis", "where", "dtype", "reduction", "weight", "sample_weight", "temperature", "ignore_index", "out", "dim"]


def junk(rng):
    """A valid call of which one or two things are replaced by anything."""
    call = valid_loss(rng) if rng.random() < 0.6 else valid_callable(rng)
    name, function, arguments, options, _ = call
    options = dict(options)
    for _ in range(int(rng.integers(1, 3))):
        thing = JUNK[int(rng.integers(len(JUNK)))]
        if arguments and rng.random() < 0.4:
            arguments[int(rng.integers(len(arguments)))] = thing
        elif rng.random() < 0.1:
            arguments = arguments[:-1] if rng.random() < 0.5 else [*arguments, thing]
        else:
            options[str(rng.choice([*options, *SPARE]))] = thing
    return name, function, arguments, options


def check_junk(call):
    """It is refused by an error that says something, or gives an answer: no other exception."""
    name, function, arguments, options = call
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            function(*arguments, **options)
    except (TypeError, ValueError, IndexError) as error:
        if len(str(error)) < 12:
            raise Wrong(f"{name}: refused without a reason: {error!r}") from error


MAKERS = [
    *[(valid_loss, check_loss), (valid_callable, check_callable), (junk, check_junk)] * 3,
    (valid_point, check_callable),
]
xent.enable_bfloat16()  # the operations on pairs are NumPy ufuncs, which know the dtype from here on


def one(seed, number):
    """Call `number` of a seed."""
    rng = np.random.default_rng([seed, number])
    xent.set_isa(str(rng.choice(xent.info()["isas"])))
    make, check = MAKERS[number % len(MAKERS)]
    call = make(rng)
    try:
        check(call)
    except Exception as error:
        what = ", ".join([*map(repr, call[2]), *(f"{key}={value!r}" for key, value in call[3].items())])
        isa = xent.info()["isa"]
        raise Wrong(f"call {number} of seed {seed} ({isa}): {error!r}\n    {call[0]}({what})") from error


def main():
    parser = argparse.ArgumentParser(description="Random calls, valid and junk, beside the oracle.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the clock unless said; it is printed")
    parser.add_argument("--call", type=int, help="this one alone")
    options = parser.parse_args()
    if options.call is not None:
        one(options.seed, options.call)
        return
    print(f"seed {options.seed}")
    end, number, found = time.monotonic() + options.seconds, 0, 0
    while time.monotonic() < end:
        try:
            one(options.seed, number)
        except Wrong as wrong:
            found += 1
            print(wrong, flush=True)
        number += 1
    print(f"{number} calls, {found} wrong")
    sys.exit(found > 0)


if __name__ == "__main__":
    main()
