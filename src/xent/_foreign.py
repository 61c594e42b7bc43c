"""Arrays of other libraries in the callables: how each is read, and dask's, whose results stay lazy.

No library is imported here but for an array of its own: whoever has one has loaded it.
"""

import ctypes
import functools
import math
import operator
import struct
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn, TypeAlias

import numpy as np

from xent import _hints
from xent._core import CALLABLES, TABLE, foreign, layout, places

Array: TypeAlias = np.ndarray[Any, Any]


def _loaded(module: str, *names: str) -> Any:
    """Classes of a module that may not be imported: what was never loaded has no instances."""
    return tuple(getattr(sys.modules.get(module), name, ()) for name in names)


def _type_name(a: Any) -> str:
    return f"{type(a).__module__}.{type(a).__qualname__}"


# ---------------------------------------------------------------------------------------------------------------------
# Reading them


def read(a: Any, op: str, name: str) -> Any:
    """An operand of another library as an ndarray (or as what NumPy can make one of), with its values as they are."""
    a = unwrap(a, op, name)
    pandas = _loaded("pandas", "DataFrame", "Series", "Index") + _loaded("pandas.api.extensions", "ExtensionArray")
    if isinstance(a, pandas):
        return _from_pandas(a, op, name)
    if isinstance(a, _loaded("polars", "DataFrame", "Series")):
        return _from_polars(a, op, name)
    if isinstance(a, np.ndarray):
        return a
    bits = _read_bfloat16(a, op, name)
    if bits is not None:
        return bits
    if hasattr(a, "__dlpack__") and not hasattr(a, "__array__"):
        return np.from_dlpack(a)
    return a


def unwrap(a: Any, op: str, name: str) -> Any:
    """xarray's variables as the array that they hold, and TypeError for what holds none, or several."""
    if isinstance(a, _loaded("xarray", "DataArray", "Variable")):
        return a.data
    if isinstance(a, _loaded("xarray", "Dataset", "DataTree")):
        raise TypeError(f"{op}: {name}, of type {_type_name(a)}, holds several arrays: pass one of them")
    if isinstance(a, _loaded("polars", "LazyFrame")):
        raise TypeError(f"{op}: {name}, of type {_type_name(a)}, has no values yet: {name}.collect() has")
    return a


def _refuse_missing(op: str, name: str, dtype: Any, missing: Array) -> NoReturn:
    at = tuple(int(i) for i in np.argwhere(missing)[0])
    raise TypeError(
        f"{op}: {name} of dtype {dtype} has a missing value at {at[0] if len(at) == 1 else at}; "
        "drop such rows, or fill in a label and leave it out (ignore_index of xent.losses)"
    )


def _from_pandas(a: Any, op: str, name: str) -> Any:
    """Nullable columns are numbers with NaN where one is missing, as pandas' own float columns have it."""
    frame = hasattr(a, "dtypes") and a.ndim == 2
    kinds = [k for k in (list(a.dtypes) if frame else [a.dtype]) if not isinstance(k, np.dtype)]
    plain = [getattr(k, "numpy_dtype", getattr(k, "subtype", None)) for k in kinds]
    if not kinds or not all(isinstance(k, np.dtype) and k.kind in "fiub" for k in plain):
        return a.to_numpy()
    columns = plain + [k for k in (a.dtypes if frame else []) if isinstance(k, np.dtype)]
    wanted = np.result_type(*columns)
    missing = np.asarray(a.isna())
    if missing.any():
        if name in ("labels", "target") and wanted.kind in "iub":
            _refuse_missing(op, name, kinds[0], missing)
        if wanted.kind != "f":
            wanted = np.dtype(np.float64)
        return a.to_numpy(dtype=wanted, na_value=np.nan)
    return a.to_numpy(dtype=wanted)


def _from_polars(a: Any, op: str, name: str) -> Any:
    """Columns of numbers with NaN where one is missing, as polars itself converts them."""
    series = isinstance(a, _loaded("polars", "Series"))
    if series and name in ("labels", "target") and a.dtype.is_integer() and a.null_count():
        _refuse_missing(op, name, a.dtype, a.is_null().to_numpy())
    return a.to_numpy()


# DLTensor, by which NumPy imports other types but not bfloat16: data, device (type, id), ndim, dtype (code, bits,
# lanes), shape, strides, byte_offset.
_TENSOR = struct.Struct("@PiiiBBHPPQ")
_BFLOAT16 = (4, 16, 1)  # DLPack's code for it, its bits and its lanes


def _numbers(address: int, count: int) -> tuple[int, ...]:
    return struct.unpack(f"@{count}q", ctypes.string_at(address, 8 * count)) if count else ()


def _read_bfloat16(a: Any, op: str, name: str) -> Array | None:
    """A view of a bfloat16 array that comes by DLPack alone, as PyTorch's do; None for what is something else."""
    if "bfloat16" not in str(getattr(a, "dtype", "")) or not hasattr(a, "__dlpack__"):
        return None
    if isinstance(a.dtype, np.dtype):
        return None  # of ml_dtypes, and what has it can be converted as usual
    try:
        from ml_dtypes import bfloat16
    except ImportError as error:
        raise ImportError(
            f"{op}: {name}, of type {_type_name(a)}, holds bfloat16, for which NumPy needs ml_dtypes", name="ml_dtypes"
        ) from error
    capsule = a.__dlpack__()
    prototype = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    address = prototype(("PyCapsule_GetPointer", ctypes.pythonapi))
    tensor = ctypes.string_at(address(capsule, b"dltensor"), _TENSOR.size)
    data, _, _, ndim, *kind, shape_at, strides_at, byte_offset = _TENSOR.unpack(tensor)
    if tuple(kind) != _BFLOAT16:
        raise TypeError(f"{op}: {name} says that it is bfloat16, and gives DLPack's type {tuple(kind)}")
    shape = _numbers(shape_at, ndim)
    if 0 in shape:
        return np.empty(shape, bfloat16)
    in_c_order = [math.prod(shape[i + 1 :]) for i in range(ndim)]
    strides = [2 * stride for stride in (_numbers(strides_at, ndim) if strides_at else in_c_order)]
    reach = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
    before = -sum(r for r in reach if r < 0)
    size = before + sum(r for r in reach if r > 0) + 2

    # A class of its own, whose objects can hold on to the capsule: the bytes live as long as that does.
    kept: Any = type("Memory", (ctypes.c_char * size,), {})
    memory = kept.from_address(data + byte_offset - before)
    memory.owner = capsule
    view: Array = np.ndarray(shape, bfloat16, memory, before, strides)
    view.flags.writeable = False
    return view


# ---------------------------------------------------------------------------------------------------------------------
# Callables of arrays that bring their own __array_ufunc__


def call(name: str, operands: Sequence[Any], axis: Any, keepdims: bool, where: Any, out: Any, dtype: Any) -> Any:
    """``xent.<name>`` of operands of which one at least (or `where`) is of another library."""
    lazy = _loaded("dask.array", "Array")
    names = [operand for operand in TABLE[name].operands if operand]
    operands = [unwrap(a, name, operand) for a, operand in zip(operands, names, strict=True)]
    where = unwrap(where, name, "where")
    if isinstance(axis, list):
        axis = tuple(axis)
    if any(isinstance(a, lazy) for a in (*operands, where)):
        return _of_dask(name, operands, axis, keepdims, where, out, dtype)
    options = {"keepdims": keepdims, "out": out, "dtype": dtype}
    for a in operands:
        if foreign(a):
            return _through_gufunc(name, operands, a, axis, where, options)
    return CALLABLES[name](*operands, axis=axis, where=None if where is None else np.asarray(where), **options)


def _through_gufunc(
    name: str, operands: Sequence[Any], whose: Any, axis: Any, where: Any, options: dict[str, Any]
) -> Any:
    from xent import ufuncs

    if isinstance(axis, tuple) and len(axis) == 1:
        axis = axis[0]
    if axis is None or isinstance(axis, tuple) or where is not None:
        raise TypeError(
            f"{name}: {_type_name(whose)} brings its own __array_ufunc__, which is handed xent.ufuncs.{name}: "
            "that takes one class axis, and no where"
        )
    given = {key: option for key, option in options.items() if option is not None and option is not False}
    if operator.index(axis) != -1:
        given["axis"] = operator.index(axis)
    return getattr(ufuncs, name)(*operands, **given)


# ---------------------------------------------------------------------------------------------------------------------
# dask


def _of_dask(name: str, operands: Sequence[Any], axis: Any, keepdims: bool, where: Any, out: Any, dtype: Any) -> Any:
    """The same values as of NumPy arrays, computed a chunk of rows at a time, when dask is asked for them."""
    da: Any = import_module("dask.array")
    op = TABLE[name]
    if out is not None:
        raise TypeError(
            f"{name}: out= cannot be filled by dask, which computes later; da.store puts a result somewhere"
        )
    lazy = [_as_dask(a, name, operand) for a, operand in zip(operands, op.operands, strict=False)]
    with_classes = lazy[:1] if op.target == "labels" else lazy
    labels = lazy[len(with_classes) :]
    if not (axis is None or isinstance(axis, tuple)):
        axis = operator.index(axis)
        for a, operand in zip(with_classes, op.operands, strict=False):
            if a.ndim == 0:
                raise ValueError(f"{name}: {operand} must have at least one dimension, the class axis")

    mask = [] if where is None else [_mask(where, name)]
    several = len(lazy) + len(mask) > 1
    if several and any(math.isnan(n) for a in (*lazy, *mask) for n in a.shape):
        raise ValueError(f"{name}: several arrays need lengths that dask knows: compute_chunk_sizes() of each first")

    # Before anything is put into a graph: dtypes, by a row of one class; shapes, as the callable looks at them.
    rows = [np.zeros(1, a.dtype) for a in with_classes] + [np.zeros((), a.dtype) for a in labels]
    made = CALLABLES[name](*rows, dtype=dtype)
    dtypes = [np.asarray(part).dtype for part in (made if isinstance(made, tuple) else (made,))]
    x, *t = (_stand_in(a) for a in lazy)
    batch, classes = layout(name, x, t[0] if t else None, axis)
    depth = len(classes)
    at, tail = places(_several(axis), len(batch) + depth, name), tuple(range(-depth, 0))

    core = f"({','.join(f'c{i}' for i in range(depth))})"
    signature = [core] * len(with_classes) + ["()"] * len(labels) + [core] * len(mask)
    arrays = [_classes_last(a, axis, name, operand) for a, operand in zip(with_classes, op.operands, strict=False)]
    arrays += labels
    arrays += [_classes_last(_stretched(name, a, batch, classes, at), at, name, "where") for a in mask]
    arrays = _with_common_chunks(arrays, signature, depth)
    outputs = ["()"] * op.has_value + [core] * op.has_emit
    results = da.apply_gufunc(
        functools.partial(_chunk, name, depth, len(batch), bool(mask), dtype),
        f"{','.join(signature)}->{','.join(outputs)}",
        *arrays,
        output_dtypes=dtypes if len(dtypes) > 1 else dtypes[0],
    )
    results = list(results) if len(outputs) > 1 else [results]
    if op.has_value and keepdims:
        results[0] = da.expand_dims(results[0], at)
    if op.has_emit and depth:
        results[-1] = da.moveaxis(results[-1], tail, at)
    return tuple(results) if len(results) > 1 else results[0]


def _chunk(name: str, depth: int, batch: int, has_where: bool, dtype: Any, *blocks: Any) -> Any:
    """The operation on one chunk, whose class axes are whole and last."""
    x, *rest = blocks
    where = rest.pop() if has_where else None
    axis = -1 if depth == 1 else tuple(range(-depth, 0))
    # Every axis of the batch, so that labels are never taken for something with a class axis.
    x = x[(None,) * (batch + depth - x.ndim)]
    try:
        made = CALLABLES[name](x, *rest, axis=axis, where=where, dtype=dtype)
    except IndexError as error:
        raise IndexError(f"{error} (counted within a chunk of the dask array)") from None
    return tuple(np.asarray(part) for part in made) if isinstance(made, tuple) else np.asarray(made)


def _as_dask(a: Any, op: str, name: str) -> Any:
    da: Any = import_module("dask.array")
    if isinstance(a, da.Array):
        return a
    a = read(a, op, name)
    return da.from_array(a if isinstance(a, np.ndarray) else np.asarray(a), chunks=-1, asarray=False)


def _several(axis: Any) -> Any:
    return axis if axis is None or isinstance(axis, tuple) else (axis,)


def _stand_in(a: Any) -> Array:
    """An array of a dask array's shape and dtype without its memory; extents that dask does not know yet are 1."""
    return np.broadcast_to(np.zeros((), a.dtype), [1 if math.isnan(n) else n for n in a.shape])


def _classes_last(a: Any, axis: Any, op: str, name: str) -> Any:
    """With the class axes last, each in one chunk."""
    da: Any = import_module("dask.array")
    axes = places(_several(axis), a.ndim, op)
    if any(math.isnan(a.shape[i]) for i in axes):
        raise ValueError(
            f"{op}: dask does not know yet how many classes {name} has; {name}.compute_chunk_sizes() first"
        )
    if not axes:
        return a
    last = da.moveaxis(a, axes, range(-len(axes), 0))
    return last.rechunk(dict.fromkeys(range(last.ndim - len(axes), last.ndim), -1))


def _mask(where: Any, op: str) -> Any:
    if isinstance(where, _loaded("numpy.ma", "MaskedArray")):
        raise TypeError(_hints.masked_where(op))
    where = _as_dask(where, op, "where")
    if where.dtype != bool:
        raise TypeError(f"{op}: where must be bools, not {where.dtype}")
    return where


def _stretched(op: str, where: Any, batch: Sequence[int], classes: Sequence[int], at: tuple[int, ...]) -> Any:
    """`where` with the whole shape of the operands."""
    da: Any = import_module("dask.array")
    rest = iter(batch)
    full = tuple(classes[at.index(i)] if i in at else next(rest) for i in range(len(batch) + len(classes)))
    try:
        return da.broadcast_to(where, full)
    except ValueError:
        raise ValueError(f"{op}: where of shape {where.shape} does not broadcast to {full}") from None


def _with_common_chunks(arrays: Sequence[Any], signature: Sequence[str], depth: int) -> list[Any]:
    """With the batch cut at the same places in all of them."""
    pairs: list[Any] = []
    for a, core in zip(arrays, signature, strict=True):
        inner = depth if core != "()" else 0
        outer = a.ndim - inner
        # Named from the end of the batch, where broadcasting starts; the classes of each are its own business.
        pairs += [a, [*(("batch", i - outer) for i in range(outer)), *(("classes", i) for i in range(inner))]]
    return list(import_module("dask.array.core").unify_chunks(*pairs)[1])
