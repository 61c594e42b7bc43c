"""What the parity tests share: the libraries, one call's outcome, and the comparison of two.

A library that is not installed skips its tests, by name; with XENT_PARITY=required, as `make parity` sets it, it fails.
"""

import importlib
import os
import warnings

import numpy as np
import pytest


def library(name):
    if os.environ.get("XENT_PARITY") == "required":
        return importlib.import_module(name)
    return pytest.importorskip(name, reason=f"waits for {name}, which the extra xent[parity] brings")


class Outcome:
    """What a call gave: its value, raw and as arrays, or an exception; and the categories of its warnings."""

    def __init__(self, call, as_array):
        self.error, self.values = None, None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                self.raw = value = call()
            except Exception as error:
                self.error = error
            else:
                self.values = [as_array(v) for v in (value if isinstance(value, tuple) else (value,))]
        self.warnings = [w.category for w in caught]

    def __repr__(self):
        return repr(self.error) if self.error is not None else repr(self.values)


# Where a library's exception has no counterpart outside it, what stands for it here: its own classes, and the missing
# method of what is no tensor.
STANDS_FOR = {
    "InvalidParameterError": (TypeError, ValueError),
    "AttributeError": TypeError,
    "UFuncTypeError": TypeError,
    "_UFuncNoLoopError": TypeError,
    "_UFuncInputCastingError": TypeError,
    "_UFuncOutputCastingError": TypeError,
}


def told(*parts):
    """A message in a line, whatever the arrays in it."""
    return " | ".join(" ".join(repr(part).split()) for part in parts)


def compare(what, ours, theirs, atol):
    """Shapes, dtypes, warnings, errors and values alike; `atol` bounds the difference of finite values."""
    message = told(ours, theirs, what)
    if theirs.error is not None:
        assert isinstance(ours.error, STANDS_FOR.get(type(theirs.error).__name__, type(theirs.error))), message
        assert str(ours.error), message
        return
    assert ours.error is None, message
    # NumPy's floating-point warnings are the libraries' own; xent has none.
    expected = [w for w in theirs.warnings if not issubclass(w, RuntimeWarning)]
    assert ours.warnings == expected, told(ours.warnings, expected, what)
    for value, reference in zip(ours.values, theirs.values, strict=True):
        assert (value.shape, value.dtype) == (reference.shape, reference.dtype), message
        kind = np.clongdouble if value.dtype.kind == "c" else np.longdouble
        value, reference = value.astype(kind), reference.astype(kind)
        same = (value == reference) | (np.isnan(value) & np.isnan(reference))
        with np.errstate(invalid="ignore"):
            difference = np.abs(value - reference)
        assert (same | (difference <= atol)).all(), told(difference, atol) + " | " + message


def eps(*arrays):
    """The coarsest rounding of any floating operand: the library may have rounded in between."""
    return max(float(np.finfo(a.dtype).eps) for a in arrays if a.dtype.kind in "fc")


def rows(rng, shape, dtype, axis=-1, spoiled=False):
    """Logits, some of them confident; `spoiled`: with infinities and NaN in some places, never in all rows alike."""
    x = rng.normal(0, 3, shape)
    if spoiled:
        flat = x.reshape(-1)
        for value in (-np.inf, -np.inf, -np.inf, np.inf, np.nan):
            if rng.random() < 0.7:
                flat[rng.integers(flat.size)] = value
    return x.astype(dtype)


def probs(rng, shape, dtype, axis=-1, zeros=False):
    t = rng.dirichlet(np.ones(shape[axis]), np.delete(shape, axis).tolist() or None)
    t = np.moveaxis(np.asarray(t), -1, axis).copy()
    if zeros:
        t[rng.random(t.shape) < 0.3] = 0.0
    return t.astype(dtype)


def worst_term(x, axis):
    """A bound on any |log p| of logits: how far they spread, and the logarithm of their number."""
    finite = np.where(np.isfinite(x), x, 0).astype(np.float64)
    spread = 2 * np.abs(finite).max(initial=0)
    return float(spread + np.log(max(x.shape[axis] if x.ndim else 1, 2)))
