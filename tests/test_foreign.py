"""Arrays of other libraries in xent.<name>: dask's stay lazy, the others are read, and what cannot be says so."""

import ctypes
import pickle

import cases
import ml_dtypes
import numpy as np
import pandas as pd
import pytest

import xent
from xent import losses

every_row = pytest.mark.parametrize("name", cases.ROW_NAMES)
X = np.array([[0.5, -1.0, 2.0], [3.0, 0.0, -0.5]])


def call(name, args, **options):
    return cases.as_tuple(getattr(xent, name)(*args, **options))


# ---- dask ----------------------------------------------------------------------------------------------------------

da = pytest.importorskip("dask.array", reason="dask is not installed")


def cube(name, rng):
    """Operands of the batch shape (6, 5), of classes (2, 4), which come last."""
    args = cases.operands(name, "random", 30, 8, "f8", rng)
    return tuple(a.reshape(6, 5, 2, 4) if a.ndim == 2 else a.reshape(6, 5) for a in args)


def lazily(args, chunks=((4, 3, 1, 3), (2, 2, 2, 2))):
    """As dask arrays, each cut elsewhere."""
    return tuple(da.from_array(a, chunks=c[: a.ndim]) for a, c in zip(args, chunks, strict=False))


def same(got, expected, scheduler="sync"):
    """Lazy until now; the values and dtypes are those of NumPy arrays."""
    assert len(got) == len(expected)
    for lazy, value in zip(got, expected, strict=True):
        assert isinstance(lazy, da.Array)
        assert lazy.dtype == np.asarray(value).dtype
        assert lazy.shape == np.shape(value)
        computed = lazy.compute(scheduler=scheduler)
        assert np.asarray(computed).dtype == lazy.dtype
        # Rows in another layout may differ in the last bits.
        wide = np.asarray(value, "f8")
        np.testing.assert_allclose(
            np.asarray(computed, "f8"), wide, rtol=1e-13 if lazy.dtype == "f8" else 1e-6, atol=1e-13
        )


@every_row
@pytest.mark.parametrize(
    "axis",
    [
        -1,
        2,
        (2, 3),
        None,
        # The same axes in other words, for each operation.
        *(pytest.param(a, marks=pytest.mark.slow) for a in (3, np.int64(2), (-1, -2), [3, 2], [np.int8(-1)])),
    ],
    ids=repr,
)
def test_dask_axes(name, axis, rng):
    args = cube(name, rng)
    if cases.SECOND[name] == "labels":
        labels = args[1] % 2
        if axis is None:
            args = (args[0], labels[0, 0])
        elif np.ndim(axis) == 0 or len(axis) == 1:
            rest = 3 if np.ravel(axis)[0] in (2, -2) else 2
            args = (args[0], np.repeat(labels[..., None], args[0].shape[rest], -1))
        else:
            args = (args[0], labels)
    for keepdims in (False, True):
        expected = call(name, args, axis=axis, keepdims=keepdims)
        same(call(name, lazily(args), axis=axis, keepdims=keepdims), expected)


def test_dask_axis_none_by_hand(rng):
    x = rng.standard_normal((6, 5))
    d = da.from_array(x, chunks=(2, 3))
    whole = np.exp(x).sum()
    np.testing.assert_allclose(xent.logsumexp(d, axis=None).compute(), np.log(whole))
    np.testing.assert_allclose(xent.softmax(d, axis=None).compute(), np.exp(x) / whole)
    np.testing.assert_allclose(xent.softmax(d, axis=(0,)).compute(), np.exp(x) / np.exp(x).sum(axis=0))


@every_row
def test_dask_where_and_dtype(name, rng):
    args = cube(name, rng)
    if cases.SECOND[name] == "labels":
        args = (args[0], np.zeros((6, 5), int))
    keep = rng.random((6, 5, 2, 4)) < 0.7
    keep[..., 0, 0] = True
    options = {"axis": (2, 3), "where": keep}
    expected = call(name, args, **options)
    for lazy_keep in (keep, da.from_array(keep, chunks=(1, 5, 2, 3)), keep.tolist()):
        same(call(name, lazily(args), axis=(2, 3), where=lazy_keep), expected)
    # Only the mask is lazy; and one that broadcasts.
    same(call(name, args, axis=(2, 3), where=da.from_array(keep, chunks=3)), expected)
    row = np.array([True, False, True, True])
    same(call(name, lazily(args), axis=(2, 3), where=row), call(name, args, axis=(2, 3), where=row))
    for dtype in ("f2", "f4", "f8", ml_dtypes.bfloat16):
        got = call(name, lazily(args), axis=(2, 3), dtype=dtype)
        for lazy, value in zip(got, call(name, args, axis=(2, 3), dtype=dtype), strict=True):
            assert lazy.dtype == lazy.compute(scheduler="sync").dtype == np.dtype(dtype)
            np.testing.assert_array_equal(lazy.compute(scheduler="sync").astype("f8"), np.asarray(value).astype("f8"))


@pytest.mark.parametrize("name", [n for n in cases.ROW_NAMES if cases.SECOND[n] not in ("", "self")])
def test_dask_beside_arrays_in_memory(name, rng):
    """Either operand may be a dask array alone; chunks need not agree, and batches broadcast."""
    args = cube(name, rng)
    flat = tuple(a.reshape(6, 5, 8) if a.ndim == 4 else a for a in args)
    expected = call(name, flat)
    x, t = flat
    for pair in (
        (da.from_array(x, chunks=(2, 5, 8)), t),
        (x, da.from_array(t, chunks=2)),
        (da.from_array(x, chunks=(4, 2, 3)), da.from_array(t, chunks=(3, 3, 8)[: t.ndim])),
        (da.from_array(x, chunks=(2, 5, 8)), t.tolist()),
    ):
        same(call(name, pair), expected)
    first = t[0]
    same(call(name, (da.from_array(x, chunks=2), first)), call(name, (x, first)))
    wide = (x[0], np.stack([t[0], t[1]]))
    same(call(name, lazily(wide, ((2, 3), (1, 2, 3)))), call(name, wide))


@every_row
def test_dask_masked_and_integers(name, rng):
    x = rng.integers(-2, 3, (6, 4))
    args = {"": (x,), "self": (abs(x),), "labels": (x, x[:, 0] % 4)}.get(cases.SECOND[name], (x, abs(x) * 0.25))
    same(call(name, lazily(args, ((2, 3), (3, 2)))), call(name, args))
    masked = (np.ma.masked_equal(x, 2), *args[1:])
    same(call(name, (da.from_array(masked[0], chunks=(2, 3), asarray=False), *args[1:])), call(name, masked))


def test_dask_sizes_that_are_not_known_yet(rng):
    """Rows that are counted only when they are computed are as good as others; what has to fit together is refused."""
    x = rng.standard_normal((20, 5))
    y = rng.integers(5, size=20)
    dx, dy = da.from_array(x, chunks=(6, 2)), da.from_array(y, chunks=6)
    keep = x[:, 0] > 0
    some, labels = dx[dx[:, 0] > 0], dy[dx[:, 0] > 0]
    for name in ("softmax", "logsumexp"):
        got = getattr(xent, name)(some).compute(scheduler="sync")
        np.testing.assert_allclose(got, getattr(xent, name)(x[keep]))
    with pytest.raises(ValueError, match=r"logsumexp: .*logits.compute_chunk_sizes\(\)"):
        xent.logsumexp(some, axis=0)
    for options in ({"where": np.ones(5, bool)}, {"target": labels}):
        f = xent.cross_entropy_with_labels if "target" in options else xent.logsumexp
        second = [options.pop("target")] if "target" in options else []
        with pytest.raises(ValueError, match=rf"{f.__name__}: several arrays .*compute_chunk_sizes\(\)"):
            f(some, *second, **options)
    some.compute_chunk_sizes()
    labels.compute_chunk_sizes()
    got = xent.cross_entropy_with_labels(some, labels).compute(scheduler="sync")
    np.testing.assert_allclose(got, xent.cross_entropy_with_labels(x[keep], y[keep]))


@every_row
def test_dask_refusals(name, rng):
    """What is wrong is said at once, by the name that was called, and not when the graph runs."""
    args = cases.operands(name, "random", 6, 5, "f8", rng)
    lazy = tuple(da.from_array(a, chunks=2) for a in args)
    f = getattr(xent, name)
    for out in (lazy[0], np.empty((6, 5))):
        with pytest.raises(TypeError, match=f"{name}: out="):
            f(*lazy, out=out)
    # A dask array cannot be written to beside arrays in memory either.
    pair = "_value_and_" in name
    with pytest.raises(TypeError, match=f"{name}: out must be a plain array, not Array"):
        f(*args, out=(lazy[0], lazy[0]) if pair else lazy[0])
    with pytest.raises(np.exceptions.AxisError):
        f(*lazy, axis=7)
    with pytest.raises(TypeError):
        f(*lazy, axis=1.0)
    with pytest.raises(ValueError, match="duplicate"):
        f(*lazy, axis=(0, 0))
    with pytest.raises(TypeError, match=f"{name}: dtype=int"):
        f(*lazy, dtype=int)
    with pytest.raises(TypeError, match=f"{name}: .*complex"):
        f(lazy[0].astype(complex), *lazy[1:])
    with pytest.raises(TypeError, match=f"{name}: where must be bools"):
        f(*lazy, where=np.ones(5))
    with pytest.raises(ValueError, match=rf"{name}: where of shape \(4,\)"):
        f(*lazy, where=np.ones(4, bool))
    with pytest.raises(TypeError, match=rf"{name}: where is a masked array.*filled"):
        f(*lazy, where=np.ma.ones(5, bool))
    with pytest.raises(ValueError, match=f"{name}: .*dimension"):
        f(*(da.zeros((), dtype=a.dtype) for a in args))
    if len(args) == 2:
        with pytest.raises(ValueError, match=f"{name}: .*do not match"):
            f(lazy[0], da.zeros(4, dtype=int) if cases.SECOND[name] == "labels" else da.zeros((6, 4)))
    if cases.SECOND[name] == "labels":
        with pytest.raises(TypeError, match="astype"):
            f(lazy[0], lazy[1].astype(float))
        with pytest.raises(ValueError, match="one-hot"):
            f(lazy[0], da.zeros((6, 5), dtype=int))
        with pytest.raises(ValueError, match=r"labels.squeeze\(1\)"):
            f(lazy[0], da.zeros((6, 1), dtype=int))
        with pytest.raises(ValueError, match="as one row"):
            f(lazy[0], lazy[1], axis=None)
        late = cases.as_tuple(f(lazy[0], lazy[1] + 5))
        with pytest.raises(IndexError, match=r"5 classes: .*\(counted within a chunk"):
            late[0].compute(scheduler="sync")


def test_dask_graphs_travel(rng):
    x = rng.standard_normal((6, 5))
    lazy = pickle.loads(pickle.dumps(xent.softmax(da.from_array(x, chunks=2), where=x > -1)))
    np.testing.assert_allclose(lazy.compute(scheduler="threads"), xent.softmax(x, where=x > -1))


# ---- other libraries that have __array_ufunc__ ---------------------------------------------------------------------


class Heard:
    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return kwargs


def test_the_gufunc_gets_what_it_can_take():
    x = Heard()
    assert xent.logsumexp(x) == {}
    for axis in (0, np.int64(0), (0,), [0]):
        assert xent.logsumexp(x, axis=axis, keepdims=True) == {"axis": 0, "keepdims": True}
    for options in ({"axis": None}, {"axis": (0, 1)}, {"where": True}):
        with pytest.raises(
            TypeError, match=r"logsumexp: .*Heard brings its own __array_ufunc__.*xent.ufuncs.logsumexp"
        ):
            xent.logsumexp(x, **options)


# ---- pandas' nullable dtypes ---------------------------------------------------------------------------------------


@every_row
def test_pandas_nullable(name, rng):
    args = cases.operands(name, "random", 5, 7, "f4", rng)
    frames = tuple(
        pd.DataFrame(a).convert_dtypes().astype("Float32") if a.ndim == 2 else pd.Series(a, dtype="Int64") for a in args
    )
    for got, value in zip(call(name, frames), call(name, args), strict=True):
        assert type(got) is np.ndarray
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, value)


def test_pandas_nullable_dtypes_and_missing_values():
    frame = pd.DataFrame({"a": pd.array([1, 2], "Int8"), "b": [3.0, 4.0], "c": pd.array([True, False], "boolean")})
    plain = np.array([[1.0, 3, 1], [2, 4, 0]])
    np.testing.assert_array_equal(xent.softmax(frame), xent.softmax(plain))
    expected = losses.cross_entropy(plain, [0, 1], reduction="none")
    np.testing.assert_array_equal(losses.cross_entropy(frame, [0, 1], reduction="none"), expected)
    for column in (frame["a"], frame["a"].array, pd.Index(frame["a"])):
        np.testing.assert_array_equal(xent.log_softmax(column), xent.log_softmax(np.array([1.0, 2.0])))
    sparse = pd.DataFrame({"a": [0.0, 2.0], "b": [0.0, 1.0]}).astype(pd.SparseDtype(float))
    np.testing.assert_array_equal(xent.logsumexp(sparse), xent.logsumexp(np.array([[0.0, 0], [2, 1]])))
    # A missing value is NaN, and no other row's business; a missing label is nobody's.
    frame.loc[0, "a"] = pd.NA
    got = xent.logsumexp(frame)
    assert np.isnan(got[0])
    assert got[1] == xent.logsumexp(plain[1])
    missing = pd.Series([0, None], dtype="Int64")
    for f in (xent.cross_entropy_with_labels, losses.cross_entropy):
        with pytest.raises(TypeError, match=r"Int64 has a missing value at 1"):
            f(X, missing)


# ---- labels that are no integers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in cases.ROW_NAMES if cases.SECOND[n] == "labels"])
@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.array(["a", "b"]), r"<U1: .*integer code.*np.unique"),
        (np.array(["a", "b"], object), r"object: .*integer code"),
        (["a", "b"], r"<U1: .*integer code"),
        (pd.Series(["a", "b"], dtype="category"), r"category: .*integer code.*labels.cat.codes"),
        (pd.Series(["a", "b"], dtype="string"), r"string: .*integer code"),
        (np.array([0.0, 1.0]), r"float64: labels.astype\(int\)"),
        (np.array([True, False]), r"bool: labels.astype\(int\)"),
    ],
    ids=["str", "object", "list", "category", "string", "float", "bool"],
)
def test_labels_that_are_no_integers(name, labels, says):
    with pytest.raises(TypeError, match=rf"^{name}: labels must be integers, one a row, not {says}"):
        getattr(xent, name)(X, labels)


# ---- xarray, polars ------------------------------------------------------------------------------------------------


@every_row
def test_xarray(name, rng):
    """Its variables count as the arrays in them: axes by position, a plain array back, a lazy one where it is lazy."""
    xr = pytest.importorskip("xarray", reason="xarray is not installed")
    args = cases.operands(name, "random", 5, 7, "f8", rng)
    dims = ("row", "class")
    arrays = tuple(xr.DataArray(a, dims=dims[: a.ndim]) for a in args)
    for forms in (arrays, tuple(a.variable for a in arrays), (arrays[0], *args[1:])):
        for got, value in zip(call(name, forms), call(name, args), strict=True):
            assert type(got) is np.ndarray
            np.testing.assert_array_equal(got, value)
    keep = rng.random((5, 7)) < 2
    for got, value in zip(call(name, args, where=xr.DataArray(keep)), call(name, args, where=keep), strict=True):
        np.testing.assert_array_equal(got, value)
    same(call(name, tuple(a.chunk(2) for a in arrays)), call(name, args))
    with pytest.raises(TypeError, match=rf"{name}: .*Dataset, holds several arrays"):
        getattr(xent, name)(arrays[0].to_dataset(name="v"), *args[1:])


@every_row
def test_polars(name, rng):
    pl = pytest.importorskip("polars", reason="polars is not installed")
    args = cases.operands(name, "random", 5, 7, "f8", rng)
    forms = tuple(pl.DataFrame(a) if a.ndim == 2 else pl.Series(a) for a in args)
    for got, value in zip(call(name, forms), call(name, args), strict=True):
        assert type(got) is np.ndarray
        np.testing.assert_allclose(got, value, rtol=1e-13, atol=1e-15)
    with pytest.raises(TypeError, match=rf"{name}: .*LazyFrame, has no values yet.*collect"):
        getattr(xent, name)(pl.DataFrame(args[0]).lazy(), *args[1:])


def test_polars_missing_values_and_labels():
    pl = pytest.importorskip("polars", reason="polars is not installed")
    got = xent.logsumexp(pl.DataFrame({"a": [1.0, None], "b": [3, 4]}))
    assert got[0] == xent.logsumexp([1.0, 3.0])
    assert np.isnan(got[1])
    with pytest.raises(TypeError, match="Int64 has a missing value at 1"):
        xent.cross_entropy_with_labels(X, pl.Series([0, None]))
    with pytest.raises(TypeError, match=r"String: .*integer code"):
        xent.cross_entropy_with_labels(X, pl.Series(["a", "b"]))
    with pytest.raises(TypeError, match=r"Float64: labels.astype\(int\)"):
        xent.cross_entropy_with_labels(X, pl.Series([0.0, 1.0]))


# ---- bfloat16 that NumPy cannot import -----------------------------------------------------------------------------


class Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("type", ctypes.c_uint8 * 4),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class Managed(ctypes.Structure):
    _fields_ = (("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class OtherLibrary:
    """As PyTorch's bfloat16 tensors: __array__ refuses, __dlpack__ exports DLPack's bfloat type."""

    dtype = "torch.bfloat16"
    alive = 0

    def __init__(self, a, contiguous=False, offset=0):
        self.a, self.contiguous, self.offset = a, contiguous, offset

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Got unsupported ScalarType BFloat16")

    def __dlpack_device__(self):
        return (1, 0)

    def __dlpack__(self, **options):
        assert not options
        a, n = self.a, self.a.ndim
        managed = Managed()
        managed.tensor.data = a.ctypes.data - self.offset
        managed.tensor.device[:] = (1, 0)
        managed.tensor.ndim = n
        managed.tensor.type[:] = (4, 16, 1, 0)
        managed.tensor.shape = (ctypes.c_int64 * n)(*a.shape)
        if not self.contiguous:
            managed.tensor.strides = (ctypes.c_int64 * n)(*(s // 2 for s in a.strides))
        managed.tensor.byte_offset = self.offset
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        self.managed = managed  # the producer's memory, for as long as the producer lives
        return new(ctypes.addressof(managed), b"dltensor", None)


@every_row
def test_bfloat16_by_dlpack(name, rng):
    args = cases.operands(name, "random", 5, 7, ml_dtypes.bfloat16, rng)
    expected = call(name, args)

    def compare(*forms):
        for got, value in zip(call(name, forms), expected, strict=True):
            assert got.dtype == ml_dtypes.bfloat16
            assert np.asarray(got).tobytes() == value.tobytes()

    rows = [a for a in args if a.ndim == 2]
    rest = [a for a in args if a.ndim == 1]
    compare(*(OtherLibrary(a) for a in rows), *rest)
    compare(*(OtherLibrary(a, contiguous=True, offset=64) for a in rows), *rest)
    compare(*(OtherLibrary(np.repeat(a, 3, axis=1)[:, ::3]) for a in rows), *rest)
    compare(*(OtherLibrary(a[::-1].copy()[::-1]) for a in rows), *rest)
    for got, value in zip(
        call(name, (*(OtherLibrary(np.asfortranarray(a)) for a in rows), *rest), axis=-1), expected, strict=True
    ):
        np.testing.assert_allclose(got.astype("f8"), value.astype("f8"), rtol=0.02, atol=0.02)


def test_bfloat16_by_dlpack_in_losses_and_empty(rng):
    x = rng.standard_normal((5, 7)).astype(ml_dtypes.bfloat16)
    assert losses.cross_entropy(OtherLibrary(x), [0] * 5) == losses.cross_entropy(x, [0] * 5)
    empty = xent.softmax(OtherLibrary(x[:0]))
    assert empty.shape == (0, 7)
    assert empty.dtype == ml_dtypes.bfloat16


@pytest.mark.slow
def test_torch_bfloat16():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = torch.randn(5, 7).to(torch.bfloat16)
    bits = x.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(xent.softmax(x), xent.softmax(bits))
    np.testing.assert_array_equal(xent.softmax(x.T), xent.softmax(bits.T))
    assert losses.cross_entropy(x, [0] * 5) == losses.cross_entropy(bits, [0] * 5)


def test_bfloat16_from_a_file(tmp_path):
    """NumPy saves the bits and forgets the type."""
    x = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    np.save(tmp_path / "x.npy", x)
    loaded = np.load(tmp_path / "x.npy")
    assert loaded.dtype == np.dtype("V2")
    for f, says in (
        (xent.logsumexp, r"logsumexp: logits of dtype \|V2 .*logits\.view\(ml_dtypes\.bfloat16\)"),
        (lambda a: xent.kl_div(X, a), r"kl_div: target of dtype \|V2 .*target\.view\(ml_dtypes\.bfloat16\)"),
        (
            lambda a: losses.cross_entropy(a, [0, 1]),
            r"cross_entropy: logits of dtype \|V2 .*view\(ml_dtypes\.bfloat16\)",
        ),
    ):
        with pytest.raises(TypeError, match=says):
            f(loaded)
    np.testing.assert_array_equal(xent.logsumexp(loaded.view(ml_dtypes.bfloat16)), xent.logsumexp(x))
