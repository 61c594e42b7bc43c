"""xent's own callables and losses with the CUDA kernels behind them, so that the CPU's tests run through those.

What is checked and refused before a kernel runs is xent's; of the names here only what those tests use exists.
"""

import cases
import numpy as np

from xent import losses

ISA = "cuda on the host"
# What the arithmetic is done in, by the size of the result.
_FLOATS = tuple(cases.DTYPES.values())


def _result_type(*arrays):
    floats = [a.dtype.newbyteorder("=") if a.dtype.newbyteorder("=") in _FLOATS else np.float64 for a in arrays]
    return np.result_type(*floats)


def _as_floats(a):
    a = np.asarray(a)
    return a if a.dtype in _FLOATS else a.astype(np.float64)


def _operands(logits, target, labels, axis):
    """Both with the class axis last, broadcast against each other; and the dtype of the result."""
    logits = np.moveaxis(_as_floats(logits), axis, -1)
    if target is None:
        return logits, None, logits.dtype
    if labels:
        target = np.broadcast_to(np.asarray(target), logits.shape[:-1])
        return logits, target, logits.dtype
    target = _as_floats(target)
    if target.ndim > 1 or axis == -1:
        target = np.moveaxis(target, axis, -1)
    dtype = _result_type(logits, target)
    return *np.broadcast_arrays(logits, target), dtype


class Face:
    """Stands where a test says `xent`, `xent.ufuncs`, or `losses`."""

    def __init__(self, library, **always):
        self.library, self.always = library, always
        self.ufuncs = self

    def info(self):
        return {"isas": [ISA], "isa": ISA}

    def set_isa(self, isa):
        assert isa == ISA

    def set_num_threads(self, n):
        pass

    def _run(self, name, logits, target, labels, axis, dtype=None, **options):
        logits, target, result = _operands(logits, target, labels, axis)
        if dtype is None and result.itemsize == 2 and options.get("reduction") in ("sum", "mean"):
            options["value_dtype"] = np.float32
        results = self.library(name, logits, target, dtype=dtype or result, **self.always, **options)

        def back(a):
            a = np.moveaxis(a, -1, axis) if a.ndim == logits.ndim and a.ndim > 1 else a
            return a[()]

        return tuple(map(back, results)) if isinstance(results, tuple) else back(results)

    def __getattr__(self, name):
        if name not in cases.NAMES:
            raise AttributeError(name)

        def call(logits, target=None, *, axis=-1, **options):
            if cases.SECOND[name] == "point":
                dtype = _result_type(np.asarray(logits), np.asarray(target))
                return self.library(name, *np.broadcast_arrays(logits, target), dtype=dtype)
            return self._run(name, logits, target, cases.SECOND[name] == "labels", axis, **options)

        return call

    def evaluate_loss(self, operation, logits, target, given):
        """What xent.losses hands to the CPU's kernels."""
        logits, target = np.asarray(logits), np.asarray(target)
        options = {"class_weight": given.weight, "reduction": given.reduction.replace("terms", "none")}
        for option in ("dtype", "pos_weight", "label_smoothing", "beta", "ignore_index"):
            options[option] = getattr(given, option)
        if given.where is not None:
            options["where"] = np.moveaxis(np.broadcast_to(given.where, logits.shape), given.axis, -1)
        for option in ("sample_weight", "temperature"):
            weights = getattr(given, option)
            if weights is not None:
                options[option] = np.broadcast_to(weights, np.delete(logits.shape, given.axis))
        return self._run(operation, logits, target, given.labels, given.axis, **options)


def stand_in(face, monkeypatch, *modules):
    """`xent` of these test modules, and what xent.losses calls, become the face."""
    for module in modules:
        for name in ("xent", "ISAS"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, face if name == "xent" else [ISA])
    monkeypatch.setattr(losses, "evaluate_loss", face.evaluate_loss)
