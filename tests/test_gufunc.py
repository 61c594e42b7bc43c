"""xent.ufuncs: real gufuncs, with NumPy's own casting, broadcasting and errors."""

import pickle

import cases
import numpy as np
import oracle
import pandas as pd
import pytest

import xent


def signature(name):
    """What the rows of the table in cases.py say of it; None: element by element."""
    second, outputs = cases.SECOND[name], len(cases.budget(name, "f8"))
    if second == "point":
        return None
    inputs = {"": "(n)", "self": "(n)", "labels": "(n),()"}.get(second, "(n),(n)")
    return inputs + "->" + ("(),(n)" if outputs == 2 else "(n)" if name in cases.ARRAY_NAMES else "()")


every = pytest.mark.parametrize("name", cases.NAMES)
every_row = pytest.mark.parametrize("name", cases.ROW_NAMES)


def operands(name, rng, rows=5, classes=7, dtype="f8"):
    return cases.operands(name, "random", rows, classes, dtype, rng)


def test_one_list_of_operations():
    """ops.def, cases.py, the gufuncs and the callables name the same operations."""
    assert cases.declared_operations() == cases.NAMES
    assert {n for n, f in vars(xent.ufuncs).items() if isinstance(f, np.ufunc)} == set(cases.NAMES)
    for name in cases.NAMES:
        assert callable(getattr(xent, name))
        assert name in xent.__all__


@every
def test_it_is_a_gufunc(name):
    f = getattr(xent.ufuncs, name)
    assert isinstance(f, np.ufunc)
    assert f.signature == signature(name)
    assert f.__name__ == name
    assert f.__doc__
    assert pickle.loads(pickle.dumps(f)) is f


@every_row
def test_it_agrees_with_the_callable(name, rng):
    xent.enable_bfloat16()  # no test before this one need have met it
    for dtype in cases.DTYPES:
        args = operands(name, rng, dtype=dtype)
        raw = cases.as_tuple(getattr(xent.ufuncs, name)(*args))
        for a, b in zip(raw, cases.as_tuple(getattr(xent, name)(*args)), strict=True):
            assert a.dtype == b.dtype == np.dtype(dtype)
            assert a.tobytes() == b.tobytes()


@every_row
def test_loops(name, rng):
    """float16, float32 and float64 have loops of their own; integers and bools become float64."""
    f = getattr(xent.ufuncs, name)
    args = operands(name, rng)
    for integer in (np.int8, np.int16, np.int64, np.uint8, np.uint64, np.bool_):
        x = np.array([[0, 1, 1], [1, 0, 0]]).astype(integer)
        second = {"labels": np.array([0, 2])}.get(cases.SECOND[name], x)
        got = cases.as_tuple(f(x) if len(args) == 1 else f(x, second))
        other = second if cases.SECOND[name] == "labels" else x.astype(np.float64)
        expected = cases.as_tuple(f(x.astype(np.float64)) if len(args) == 1 else f(x.astype(np.float64), other))
        for a, b in zip(got, expected, strict=True):
            assert a.dtype == np.float64
            np.testing.assert_array_equal(a, b)
    for wrong in (np.longdouble, np.complex64, np.complex128, object):
        with pytest.raises(TypeError):
            f(args[0].astype(wrong), *args[1:])
    with pytest.raises(TypeError):
        f(np.array([["a", "b"]]), *args[1:])


@pytest.mark.parametrize("name", [n for n in cases.NAMES if cases.SECOND[n] == "labels"])
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_labels_do_not_widen(name, dtype, rng):
    f = getattr(xent.ufuncs, name)
    x = rng.standard_normal((4, 3)).astype(dtype)
    labels = np.array([0, 2, 1, 1])
    expected = cases.as_tuple(f(x, labels))
    for integer in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "longlong", "intp"):
        for got, value in zip(cases.as_tuple(f(x, labels.astype(integer))), expected, strict=True):
            assert got.dtype == np.dtype(dtype)
            assert got.tobytes() == value.tobytes()
    for wrong in (labels.astype(float), labels.astype(complex)):
        with pytest.raises(TypeError):
            f(x, wrong)


@pytest.mark.parametrize("name", [n for n in cases.NAMES if cases.SECOND[n] == "labels"])
@pytest.mark.parametrize("bad", [-1, 3, 1 << 40, -(1 << 63)])
def test_bad_label(name, bad, rng):
    f = getattr(xent.ufuncs, name)
    x = rng.standard_normal((4, 3))
    with pytest.raises(IndexError, match=rf"{bad}.*3"):
        f(x, np.array([0, 1, bad, 2]))
    with pytest.raises(IndexError):
        f(x[0], bad)


@every_row
def test_axis_and_axes(name, rng):
    f = getattr(xent.ufuncs, name)
    args = operands(name, rng)
    expected = cases.as_tuple(f(*args))
    moved = tuple(a.T if a.ndim == 2 else a for a in args)
    for got, value in zip(cases.as_tuple(f(*moved, axis=0)), expected, strict=True):
        np.testing.assert_array_equal(got.T if got.ndim == 2 else got, value)
    core = {2: (0,), 1: ()}
    axes = [core[a.ndim] for a in moved] + [core[e.ndim] for e in expected]
    for got, value in zip(cases.as_tuple(f(*moved, axes=axes)), expected, strict=True):
        np.testing.assert_array_equal(got.T if got.ndim == 2 else got, value)
    with pytest.raises((ValueError, np.exceptions.AxisError)):
        f(*args, axis=2)


@every_row
def test_out(name, rng):
    f = getattr(xent.ufuncs, name)
    args = operands(name, rng)
    expected = cases.as_tuple(f(*args))
    outs = tuple(np.empty_like(e) for e in expected)
    results = cases.as_tuple(f(*args, out=outs))
    for result, out, value in zip(results, outs, expected, strict=True):
        assert result is out
        np.testing.assert_array_equal(out, value)


def test_dtype_and_casting(rng):
    x = rng.standard_normal((3, 4)).astype(np.float32)
    assert xent.ufuncs.logsumexp(x, dtype=np.float64).dtype == np.float64
    np.testing.assert_array_equal(
        xent.ufuncs.logsumexp(x, dtype=np.float64), xent.ufuncs.logsumexp(x.astype(np.float64))
    )
    assert xent.ufuncs.logsumexp(x.astype(np.float64), dtype=np.float32).dtype == np.float32
    with pytest.raises(TypeError):
        xent.ufuncs.logsumexp(x.astype(np.float64), dtype=np.float32, casting="safe")


def test_keepdims(rng):
    x = rng.standard_normal((3, 4))
    assert xent.ufuncs.logsumexp(x, keepdims=True).shape == (3, 1)
    assert xent.ufuncs.kl_div_with_logits(x, x, keepdims=True).shape == (3, 1)


def test_broadcasting(rng):
    x = rng.standard_normal((2, 1, 5, 4))
    t = cases.softmax64(rng.standard_normal((3, 1, 4)))
    got = xent.ufuncs.cross_entropy(x, t)
    assert got.shape == (2, 3, 5)
    np.testing.assert_array_equal(got, xent.ufuncs.cross_entropy(*(np.array(a) for a in np.broadcast_arrays(x, t))))
    with pytest.raises(ValueError, match=r"mismatch|broadcast"):
        xent.ufuncs.cross_entropy(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="broadcast"):
        xent.ufuncs.cross_entropy(np.zeros((2, 3)), np.zeros((5, 3)))


@every_row
def test_inputs_are_left_alone(name, rng):
    args = operands(name, rng)
    copies = tuple(a.copy() for a in args)
    getattr(xent.ufuncs, name)(*args)
    getattr(xent, name)(*args)
    for a, b in zip(args, copies, strict=True):
        np.testing.assert_array_equal(a, b)


class Loud(np.ndarray):
    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return ("heard", ufunc.__name__, method)


def test_array_ufunc_is_heard(rng):
    assert xent.ufuncs.logsumexp(rng.standard_normal((2, 3)).view(Loud)) == ("heard", "logsumexp", "__call__")


def test_pointwise_are_ordinary_ufuncs(rng):
    p, q = rng.random((2, 4, 5))
    for name in ("kl_pointwise", "rel_entr"):
        f = getattr(xent.ufuncs, name)
        assert f.signature is None
        assert f.nin == 2
        assert f.nout == 1
        keep = rng.random((4, 5)) < 0.5
        out = np.full((4, 5), 7.0)
        f(p, q, out=out, where=keep)
        np.testing.assert_array_equal(out, np.where(keep, f(p, q), 7.0))
        assert f(p[:, :1], q[0]).shape == (4, 5)
        assert f(np.float32(0.5), np.float32(0.25)).dtype == np.float32
        assert oracle.worst(np.asarray(getattr(xent, name)(p, q)), getattr(oracle, name)(p, q)) <= 4
        assert getattr(xent, name)(pd.Series(p[0]), q[0]).shape == (5,)


@every_row
def test_masked_arrays_are_refused(name, rng):
    """NumPy shows a gufunc no mask, so it would count what is hidden; the callable is named, and nothing is written."""
    f = getattr(xent.ufuncs, name)
    args = operands(name, rng)
    masked = [np.ma.masked_array(a, np.arange(a.size).reshape(a.shape) == 3) for a in args]
    outs = tuple(np.full_like(e, 7) for e in cases.as_tuple(f(*args)))
    for i in range(len(args)):
        mixed = [*args[:i], masked[i], *args[i + 1 :]]
        with pytest.raises(TypeError, match=rf"xent\.ufuncs\.{name} .*mask.*; xent\.{name} leaves"):
            f(*mixed, out=outs)
        with pytest.raises(TypeError, match=rf"xent\.{name} leaves"):
            f(*mixed, *outs)
    assert all((out == 7).all() for out in outs)
    # Nothing is hidden here.
    for plain in ([np.ma.array(a) for a in args], [np.ma.array(a, mask=np.zeros(a.shape, bool)) for a in args]):
        if f.nout == 1 and cases.SECOND[name] != "labels" and f.signature.endswith("(n)"):
            np.testing.assert_array_equal(np.asarray(f(*plain)), f(*args))
    # Elementwise ufuncs keep masks as NumPy's own do.
    assert np.ma.is_masked(xent.ufuncs.rel_entr(np.ma.masked_array([0.5, 0.5], [True, False]), 0.25))


@every_row
def test_data_frames_are_refused(name, rng):
    """pandas hands a gufunc its blocks, in which the columns are the rows."""
    args = operands(name, rng)
    frames = [pd.DataFrame(a) if a.ndim == 2 else pd.Series(a) for a in args]
    for options in ({}, {"axis": -1}):
        with pytest.raises(TypeError, match=rf"xent\.ufuncs\.{name} .*DataFrame.*xent\.{name} takes it"):
            getattr(xent.ufuncs, name)(*frames, **options)


def test_calls_by_every_way(rng):
    """The look at the operands is in NumPy's way, whatever form a call has."""
    f = xent.ufuncs.kl_div_with_logits
    x, y = rng.standard_normal((2, 3, 4))
    expected = f(x, y)
    out = np.empty(3)
    assert f(x, y, out) is out
    for got in (out, f(*[x, y]), f(x, y, axis=1), f(x.tolist(), y.tolist()), np.ufunc.__call__(f, x, y)):
        np.testing.assert_array_equal(got, expected)
    for wrong in ((), (x,), (x, y, out, out)):
        with pytest.raises(TypeError, match="argument"):
            f(*wrong)
    with pytest.raises(TypeError):
        f(x, y, dim=1)


@pytest.mark.parametrize("name", [n for n in cases.NAMES if cases.SECOND[n] == "labels"])
@pytest.mark.parametrize("bad", [2**63, 2**64 - 1, 2**64 - 100])
def test_bad_label_above_what_a_signed_integer_holds(name, bad, rng):
    x = rng.standard_normal((4, 3))
    labels = np.array([0, 1, bad, 2], np.uint64)
    for door in (xent.ufuncs, xent):
        for y in (labels, labels[::-1], labels.astype(">u8"), np.repeat(labels, 2)[::2]):
            with pytest.raises(IndexError, match=rf"label {bad} "):
                getattr(door, name)(x, y)


def test_every_loop_is_registered():
    """As many as the dtypes make; the room for them is measured from the list itself."""
    for name in cases.NAMES:
        f = getattr(xent.ufuncs, name)
        operand = {"": 3, "self": 3, "labels": 3 * 10}.get(cases.SECOND[name], 3 * 3)
        assert len(f.types) == len(set(f.types))
        assert f.ntypes == operand, name
