"""xent.<name>: what the callables add to the gufuncs: axes, where, out, dtype, containers, and errors that help."""

import inspect
import subprocess
import sys
import warnings

import cases
import numpy as np
import oracle
import pandas as pd
import pytest

import xent

every_row = pytest.mark.parametrize("name", cases.ROW_NAMES)
labelled = pytest.mark.parametrize("name", [n for n in cases.NAMES if cases.SECOND[n] == "labels"])


def call(name, args, **options):
    return cases.as_tuple(getattr(xent, name)(*args, **options))


def operands(name, rng, rows=5, classes=7, dtype="f8"):
    return cases.operands(name, "random", rows, classes, dtype, rng)


@every_row
def test_signature(name):
    f = getattr(xent, name)
    parameters = inspect.signature(f).parameters
    assert list(parameters)[: len(parameters) - 5] == {
        "": ["logits"],
        "self": ["probs"],
        "labels": ["log_probs" if name.startswith("nll") else "logits", "labels"],
    }.get(cases.SECOND[name], ["logits", "other_logits" if name.startswith("js_div") else "target"])
    for option, default in {"axis": -1, "keepdims": False, "where": None, "out": None, "dtype": None}.items():
        assert parameters[option].default is default or parameters[option].default == default
    assert f.__name__ == name
    assert len(f.__doc__) > 200


@every_row
def test_axis_forms(name, rng):
    """None flattens, a tuple is one class axis made of several."""
    x = cases.operands(name, "random", 6, 20, np.float64, rng)
    cube = tuple(a.reshape(2, 3, 4, 5) if a.ndim == 2 else a.reshape(2, 3) for a in x)
    expected = call(name, x)
    for got, value in zip(call(name, cube, axis=(2, 3)), expected, strict=True):
        np.testing.assert_array_equal(got.reshape(value.shape), value)
    for got, value in zip(call(name, cube, axis=(-2, -1), keepdims=True), expected, strict=True):
        assert got.shape == ((2, 3, 1, 1) if value.ndim == 1 else (2, 3, 4, 5))
        np.testing.assert_array_equal(got.reshape(value.shape), value)
    # Axes that are not the last ones: the same numbers in another place.
    moved = tuple(np.moveaxis(a, (2, 3), (0, 2)) if a.ndim == 4 else a for a in cube)
    for got, value, ulp in zip(
        call(name, moved, axis=(0, 2)), oracle.evaluate(name, *x), cases.budget(name, "f8"), strict=True
    ):
        back = np.moveaxis(got, (0, 2), (2, 3)) if got.ndim == 4 else got
        assert oracle.worst(back.reshape(value.hi.shape), value) <= ulp
    row = tuple(a[0].reshape(4, 5) if a.ndim == 2 else a[0] for a in x)
    for got, value in zip(call(name, row, axis=None), expected, strict=True):
        np.testing.assert_array_equal(np.asarray(got).reshape(value[0].shape), value[0])


@every_row
def test_bad_axes(name, rng):
    args = operands(name, rng)
    f = getattr(xent, name)
    for axis in (2, -3, (0, 2)):
        with pytest.raises(np.exceptions.AxisError):
            f(*args, axis=axis)
    with pytest.raises(ValueError, match=r"axis"):
        f(*args, axis=(1, 1))
    for axis in (1.0, "last"):
        with pytest.raises(TypeError):
            f(*args, axis=axis)
    with pytest.raises(ValueError, match="dimension"):
        f(*(np.array(a).flat[0] for a in args))


@every_row
def test_keepdims(name, rng):
    args = operands(name, rng)
    for got, value in zip(call(name, args, keepdims=True), call(name, args), strict=True):
        assert got.shape == ((5, 1) if value.ndim == 1 else value.shape)
        np.testing.assert_array_equal(got.reshape(value.shape), value)


@every_row
def test_scalars_lists_and_memory(name, rng):
    """One row gives NumPy scalars; sequences are read as NumPy reads them."""
    args = operands(name, rng)
    row = tuple(a[0] for a in args)
    for got, value in zip(call(name, row), call(name, args), strict=True):
        assert got.dtype == np.float64
        if value.ndim == 1:
            assert isinstance(got, np.float64)
        np.testing.assert_array_equal(got, value[0])
    for form in (np.ndarray.tolist, memoryview, lambda a: tuple(map(tuple, a)) if a.ndim == 2 else tuple(a)):
        for got, value in zip(call(name, tuple(form(a) for a in args)), call(name, args), strict=True):
            np.testing.assert_array_equal(got, value)


@every_row
def test_where(name, rng, isa):
    """An excluded class is a logit of -inf with target 0, whatever the arrays hold there."""
    x, *rest = operands(name, rng, rows=12, classes=9)
    keep = rng.random(x.shape) < 0.7
    keep[:, 0] = True
    keep[3] = True
    second = cases.SECOND[name]
    if second == "labels":
        rest = [np.zeros(12, int)]
    poison = np.where(keep, x, np.nan)
    hidden = np.where(keep, x, 0.0 if second == "self" else -np.inf)
    hidden_rest = [
        r if r.ndim == 1 else np.where(keep, r, -np.inf if second in ("logits", "log_probs") else 0.0) for r in rest
    ]
    poison_rest = [r if r.ndim == 1 else np.where(keep, r, np.nan) for r in rest]
    expected = oracle.evaluate(name, hidden, *hidden_rest)
    for views in ((poison, *poison_rest), tuple(np.asfortranarray(a) for a in (poison, *poison_rest))):
        for got, ref, ulp in zip(call(name, views, where=keep), expected, cases.budget(name, "f8"), strict=True):
            assert oracle.worst(got, ref) <= ulp
            if got.ndim == 2:
                outside = got[~keep]
                assert (outside == (-np.inf if name == "log_softmax" else 0.0)).all()


@every_row
def test_where_broadcasts(name, rng):
    args = operands(name, rng)
    if cases.SECOND[name] == "labels":
        args = (args[0], np.zeros(5, int))
    keep = np.array([True, True, False, True, True, False, True])
    whole = np.broadcast_to(keep, (5, 7)).copy()
    for a, b, c in zip(
        call(name, args, where=keep), call(name, args, where=whole), call(name, args, where=keep.tolist()), strict=True
    ):
        assert a.tobytes() == b.tobytes() == c.tobytes()
    everything = call(name, args, where=True)
    for a, b in zip(everything, call(name, args), strict=True):
        assert a.tobytes() == b.tobytes()
    with pytest.raises(ValueError, match=r"\(3,\)"):
        getattr(xent, name)(*args, where=np.ones(3, bool))
    with pytest.raises(TypeError):
        getattr(xent, name)(*args, where=np.ones(7))


@every_row
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_dtype_argument(name, dtype, rng):
    args = operands(name, rng, dtype="f4")
    wanted = tuple(a if a.dtype.kind == "i" else a.astype(dtype) for a in args)
    for got, ref, ulp in zip(
        call(name, args, dtype=dtype), oracle.evaluate(name, *args), cases.budget(name, dtype), strict=True
    ):
        assert got.dtype == np.dtype(dtype)
        # Inputs are either read as they are or rounded first; both are defensible only where they are the same.
        if np.dtype(dtype).itemsize > 2:
            assert oracle.worst(got, ref) <= ulp
    for got, value in zip(call(name, wanted), call(name, wanted, dtype=dtype), strict=True):
        assert got.tobytes() == value.tobytes()
    for wrong in (int, complex, np.longdouble, object, "U3"):
        with pytest.raises(TypeError):
            getattr(xent, name)(*args, dtype=wrong)


@every_row
def test_dtypes_of_results(name, rng):
    for dtype in cases.DTYPES:
        for got in call(name, operands(name, rng, dtype=dtype)):
            assert got.dtype == np.dtype(dtype)
    args = operands(name, rng)
    for integer in (np.int8, np.uint8, np.int64, bool):
        x = (args[0] > 0).astype(integer)
        second = [x if a.ndim == 2 else a for a in args[1:]]
        if cases.SECOND[name] not in ("", "self", "labels"):
            second = [x.astype(np.float16)]
        for got in call(name, (x, *second)):
            assert got.dtype == np.float64
    for wrong in (np.longdouble, complex, object):
        with pytest.raises(TypeError, match=np.dtype(wrong).name.rstrip("0123456789")):
            getattr(xent, name)(args[0].astype(wrong), *args[1:])
    for wrong in (np.array(["a", "b"]), np.array(["2020-01-01"] * 2, "M8[D]"), None):
        with pytest.raises(TypeError):
            getattr(xent, name)(wrong, *args[1:])


@every_row
def test_out(name, rng):
    args = operands(name, rng)
    expected = call(name, args)
    outs = tuple(np.full_like(e, 7) for e in expected)
    given = outs[0] if len(outs) == 1 else outs
    for result, out, value in zip(call(name, args, out=given), outs, expected, strict=True):
        assert result is out
        np.testing.assert_array_equal(out, value)
    if len(outs) == 1:
        again = np.full_like(expected[0], 7)
        assert getattr(xent, name)(*args, out=(again,)) is again
        np.testing.assert_array_equal(again, expected[0])
    # A result may go into a narrower float, as NumPy's same_kind allows.
    narrow = tuple(np.empty(e.shape, np.float32) for e in expected)
    call(name, args, out=narrow[0] if len(narrow) == 1 else narrow)
    for got, value in zip(narrow, expected, strict=True):
        np.testing.assert_allclose(got, value, rtol=2e-7, atol=1e-12)


@pytest.mark.parametrize("ndim", [2, 12])
def test_an_array_of_another_shape_meanwhile(ndim):
    """Whoever has the array may give it another one while the call runs Python code: nothing is read past its end."""

    class Axis:
        def __index__(self):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                x.shape = (12,)
            return -1

    x = np.arange(12.0).reshape((3,) + (1,) * (ndim - 2) + (4,))
    expected = xent.logsumexp(x.copy())
    np.testing.assert_array_equal(xent.logsumexp(x, axis=Axis()), expected)


@every_row
def test_bad_out(name, rng):
    args = operands(name, rng)
    expected = call(name, args)

    def give(change):
        outs = tuple(np.full_like(e, 7) for e in expected)
        outs = (*outs[:-1], change(outs[-1]))
        return outs, outs if len(outs) > 1 else outs[0]

    def locked(a):
        a.flags.writeable = False
        return a

    for change, error in [
        (lambda a: np.full((9, *a.shape), 7.0), ValueError),
        (lambda a: np.full((*a.shape[:-1], a.shape[-1] + 1), 7.0), ValueError),
        (lambda a: np.full(a.shape, 7), TypeError),
        (locked, ValueError),
        (lambda a: a.tolist(), TypeError),
    ]:
        outs, given = give(change)
        with pytest.raises(error):
            getattr(xent, name)(*args, out=given)
        for out in outs:
            assert (np.asarray(out) == 7).all()
    outs, given = give(lambda a: np.full((9, *a.shape), 7.0))
    with pytest.raises(ValueError, match=rf"\(9, {', '.join(map(str, expected[-1].shape))},?\)"):
        getattr(xent, name)(*args, out=given)


@pytest.mark.parametrize("name", [n for n in cases.ROW_NAMES if cases.SECOND[n] not in ("", "self", "labels")])
def test_shapes_in_the_message(name):
    f = getattr(xent, name)
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(4, 5\)"):
        f(np.zeros((4, 3)), np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(7, 3\)"):
        f(np.zeros((4, 3)), np.zeros((7, 3)))
    # A class axis of length 1 is not stretched: that would be another distribution.
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(4, 1\)"):
        f(np.zeros((4, 3)), np.zeros((4, 1)))


@labelled
def test_label_errors(name, rng):
    f = getattr(xent, name)
    x = rng.standard_normal((2, 3, 4))
    labels = np.zeros((2, 3), int)
    outs = (np.full((2, 3), 7.0), np.full((2, 3, 4), 7.0))
    given = outs if "_value_and_" in name else outs[name.endswith("terms")]
    for bad in (-1, 4, 2**62, -(2**62)):
        wrong = labels.copy()
        wrong[1, 2] = bad
        with pytest.raises(IndexError, match=rf"{bad} .*\(1, 2\).* 4 classes"):
            f(x, wrong, out=given)
        assert all((out == 7).all() for out in outs)
        wrong[0, 1] = bad
        with pytest.raises(IndexError, match=r"\(0, 1\)"):
            f(x, wrong)
        with pytest.raises(IndexError, match=r"\(0, 1\)"):
            f(np.moveaxis(x, -1, 0), wrong, axis=0)
    with pytest.raises(IndexError, match=r"18446744073709551615|9223372036854775807"):
        f(x, np.full((2, 3), 2**64 - 1, np.uint64))
    with pytest.raises(IndexError, match=r"label 4 at 1 is out of range for 4 classes"):
        f(x[0], [0, 4, 0])
    with pytest.raises(IndexError, match=r"label -1 .*4 classes"):
        f(x[0, 0], -1)
    for wrong in (labels.astype(float), labels.astype(bool), labels.astype(complex), labels.astype(str)):
        with pytest.raises(TypeError, match=str(wrong.dtype)):
            f(x, wrong)
    with pytest.raises((ValueError, TypeError), match="one-hot"):
        f(x, np.zeros((2, 3, 4), int))
    with pytest.raises(ValueError, match=r"\(2, 3, 4\).*\(5,\)"):
        f(x, np.zeros(5, int))


@labelled
def test_labels_broadcast(name, rng):
    x = rng.standard_normal((2, 3, 4))
    for got, value in zip(call(name, (x, 1)), call(name, (x, np.ones((2, 3), int))), strict=True):
        np.testing.assert_array_equal(got, value)
    labels = np.array([0, 3, 2])
    whole = np.broadcast_to(labels, (2, 3)).copy()
    for got, value in zip(call(name, (x, labels)), call(name, (x, whole)), strict=True):
        np.testing.assert_array_equal(got, value)
    for got, value in zip(call(name, (x[0, 0], labels)), call(name, (np.stack([x[0, 0]] * 3), labels)), strict=True):
        np.testing.assert_array_equal(got, value)


@every_row
def test_pandas(name, rng):
    """The values, along the axis asked for, and an ndarray back: a raw gufunc would reduce the other axis."""
    args = operands(name, rng)
    frames = tuple(pd.DataFrame(a, index=list("vwxyz")) if a.ndim == 2 else pd.Series(a) for a in args)
    for got, value in zip(call(name, frames), call(name, args), strict=True):
        assert type(got) is np.ndarray
        np.testing.assert_array_equal(got, value)
    turned = tuple(pd.DataFrame(a.T) if a.ndim == 2 else pd.Series(a) for a in args)
    for got, value in zip(call(name, turned, axis=0), call(name, args), strict=True):
        np.testing.assert_allclose(got.T if got.ndim == 2 else got, value, rtol=1e-13, atol=1e-15)
    row = tuple(pd.Series(a[0]) if a.ndim == 2 else a[0] for a in args)
    for got, value in zip(call(name, row), call(name, args), strict=True):
        np.testing.assert_array_equal(got, value[0])


@every_row
def test_masked_arrays(name, rng):
    """A mask means where=: what it hides takes no part."""
    x, *rest = operands(name, rng, rows=6, classes=8)
    if cases.SECOND[name] == "labels":
        rest = [np.zeros(6, int)]
    mask = rng.random(x.shape) < 0.3
    mask[:, 0] = False
    expected = call(name, (x, *rest), where=~mask)
    garbage = np.where(mask, np.nan, x)
    for got, value in zip(call(name, (np.ma.masked_array(garbage, mask), *rest)), expected, strict=True):
        np.testing.assert_array_equal(np.asarray(got), value)
    other = rng.random(x.shape) < 0.2
    other[:, 0] = False
    both = call(name, (x, *rest), where=~(mask | other))
    for got, value in zip(call(name, (np.ma.masked_array(x, mask), *rest), where=~other), both, strict=True):
        np.testing.assert_array_equal(np.asarray(got), value)
    if rest and rest[0].ndim == 2:
        masked = call(name, (np.ma.masked_array(x, mask), np.ma.masked_array(rest[0], other)))
        for got, value in zip(masked, both, strict=True):
            np.testing.assert_array_equal(np.asarray(got), value)
    for got, value in zip(call(name, (np.ma.masked_array(x), *rest)), call(name, (x, *rest)), strict=True):
        np.testing.assert_array_equal(np.asarray(got), value)


class Plain(np.ndarray):
    pass


@every_row
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_subclasses(name, rng):
    """A plain subclass, a matrix (always two axes elsewhere) and a record view count as the arrays under them."""
    args = operands(name, rng)
    for view in (lambda a: a.view(Plain), lambda a: np.asmatrix(a) if a.ndim == 2 else a):
        for got, value in zip(call(name, tuple(view(a) for a in args)), call(name, args), strict=True):
            assert got.shape == value.shape
            np.testing.assert_array_equal(np.asarray(got), value)


class Heard:
    """Some library's array: it wants to run the gufunc its own way."""

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return ("heard", ufunc, method, kwargs)


@every_row
def test_other_array_types_get_the_gufunc(name):
    x = Heard()
    answer = getattr(xent, name)(x) if cases.SECOND[name] in ("", "self") else getattr(xent, name)(x, x)
    assert answer[0] == "heard"
    assert answer[1] is getattr(xent.ufuncs, name)


class OnDevice:
    def __dlpack_device__(self):
        return (10, 0)  # ROCm; what lives on a CUDA GPU is test_cuda.py's

    def __dlpack__(self, **kwargs):
        raise AssertionError("there is nothing to read here")


def test_device_arrays_are_refused_clearly():
    with pytest.raises(TypeError, match="DLPack's type 10: xent computes in CPU memory and on CUDA GPUs"):
        xent.logsumexp(OnDevice())


ELSEWHERE = [
    # what was written, and the words that lead on
    (lambda x: xent.logsumexp(x, dim=0), "logsumexp", "'dim': it is axis here"),
    (lambda x: xent.logsumexp(x, keepdim=True), "logsumexp", "'keepdim': it is keepdims here"),
    (lambda x: xent.logsumexp(x, b=x), "logsumexp", r"'b': xent.compat.scipy.logsumexp .*logits \+ np.log\(b\)"),
    (lambda x: xent.logsumexp(x, return_sign=True), "logsumexp", "'return_sign': xent.compat.scipy.logsumexp"),
    (lambda x: xent.entropy(x, base=2), "entropy", "'base': xent.compat.scipy.entropy"),
    (lambda x: xent.kl_div(x, x, log_target=True), "kl_div", "'log_target': .*kl_div_with_log_probs.*target_kind"),
    (
        lambda x: xent.kl_div(x, x, reduction="batchmean"),
        "kl_div",
        "'reduction': xent.losses.kl_div .*'mean'.*batchmean",
    ),
    (lambda x: xent.kl_div(x, x, reduction="sum"), "kl_div", "'reduction': xent.losses.kl_div takes reduction=$"),
    (lambda x: xent.kl_div(x, x, return_grad=True), "kl_div", "'return_grad': xent.losses.kl_div takes it"),
    (
        lambda x: xent.cross_entropy(x, x, weights=x),
        "cross_entropy",
        "'weights': xent.losses.cross_entropy .*sample_weight",
    ),
    (
        lambda x: xent.js_div(x, x, weights=x),
        "js_div",
        r"'weights': xent.losses.js_div takes sample_weight= \(one a row\)",
    ),
    (lambda x: xent.nll(x, [0, 1], ignore_index=1), "nll", "'ignore_index': xent.losses.nll takes it"),
    (lambda x: xent.cross_entropy(x, labels=[0, 1]), "cross_entropy", "'labels': cross_entropy_with_labels"),
    (lambda x: xent.cross_entropy(x, [0, 1], from_logits=True), "cross_entropy", "'from_logits': .*logits too"),
    (lambda x: xent.cross_entropy(input=x, target=x), "cross_entropy", "'input': the first operand is logits here"),
    (lambda x: xent.js_div(x, target=x), "js_div", "'target': the second operand is other_logits here"),
    (lambda x: xent.softmax(x, temperature=2.0), "softmax", r"'temperature': softmax\(logits / temperature\)"),
    (lambda x: xent.softmax(x, casting="safe"), "softmax", "'casting': xent.ufuncs.softmax takes it"),
    (lambda x: xent.softmax(x, stream=1), "softmax", "'stream': xent.cuda.softmax takes it"),
    (
        lambda x: xent.softmax(x, axs=1),
        "softmax",
        "'axs': perhaps axis; it takes logits, axis, keepdims, where, out, dtype",
    ),
    (lambda x: xent.softmax(x, nonsense=1), "softmax", "'nonsense': it takes logits, axis"),
]


@pytest.mark.parametrize(("wrong", "name", "says"), ELSEWHERE, ids=[says for _, _, says in ELSEWHERE])
def test_keywords_of_others(wrong, name, says):
    """A keyword that is not taken here leads to where it is, or to what it is called."""
    with pytest.raises(TypeError, match=rf"^{name}\(\) has no argument {says}"):
        wrong(np.zeros((2, 3)))


@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_arguments_that_do_not_fit(name, rng):
    """Every message names the function that was called, its operands and the options."""
    f = getattr(xent, name)
    args = operands(name, rng)
    names = list(inspect.signature(f).parameters)[: len(args)]
    with pytest.raises(
        TypeError, match=rf"^{name}\(\) needs {' and '.join(names)}; {' and '.join(names)} (is|are) missing"
    ):
        f()
    with pytest.raises(
        TypeError, match=rf"^{name}\(\) takes {len(args)} positional .*axis, keepdims, where, out, dtype"
    ):
        f(*args, -1)
    with pytest.raises(TypeError, match=rf"^{name}\(\) got {names[0]} twice"):
        f(*args, **{names[0]: args[0]})
    with pytest.raises(TypeError, match=rf"^{name}\(\) has no argument 'log_target'"):
        f(*args, log_target=True)
    if len(args) == 2:
        with pytest.raises(TypeError, match=rf"^{name}\(\) needs .*; {names[1]} is missing"):
            f(args[0])
        with pytest.raises(TypeError, match=rf"^{name}\(\) needs .*; {names[0]} is missing"):
            f(**{names[1]: args[1]})
    expected = call(name, args)
    for got in (
        cases.as_tuple(f(**dict(zip(names, args, strict=True)))),
        cases.as_tuple(f(*args[:-1], **{names[-1]: args[-1]})),
    ):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    # Every loss's option is known to be one.
    from xent import losses

    for loss in losses.__all__:
        for option in list(inspect.signature(getattr(losses, loss)).parameters):
            if option not in ("axis", "where", "out", "dtype", *names):
                with pytest.raises(TypeError, match=rf"^{name}\(\) has no argument '{option}': \w"):
                    f(*args, **{option: 1})


@pytest.mark.parametrize("name", [n for n in cases.ROW_NAMES if cases.SECOND[n] in ("probs", "unit")])
def test_labels_where_probabilities_belong(name):
    """One number a row is no distribution: the message says which dtype came, and who takes labels."""
    for labels, says in (
        ([0, 1, 2, 1], "int64"),
        (np.zeros(4, np.uint8), "uint8"),
        (np.zeros(4, "f4"), r"float32.*astype\(int\)"),
    ):
        with pytest.raises(
            ValueError, match=rf"^{name}: shapes \(4, 3\) of logits and \(4,\) of target .*dtype {says}"
        ) as caught:
            getattr(xent, name)(np.zeros((4, 3)), labels)
        assert "xent.cross_entropy_with_labels takes them" in str(caught.value)
    with pytest.raises(ValueError, match=r"do not match \(axis=-1"):
        getattr(xent, name)(np.zeros((4, 3)), np.zeros(5))


@pytest.mark.parametrize("name", [n for n in cases.NAMES if cases.SECOND[n] == "labels"])
def test_label_shapes_say_which_dtype_made_them_labels(name):
    with pytest.raises(
        ValueError, match=r"labels of shape \(4, 3\) and dtype uint8 do not match log(it|_prob)s of shape \(5, 3\)"
    ):
        getattr(xent, name)(np.zeros((5, 3)), np.zeros((4, 3), np.uint8))


@every_row
def test_masked_where_is_refused(name, rng):
    """Whether what it hides is in or out only the caller knows: refused, whatever is under the mask."""
    args = operands(name, rng)
    for where in (np.ma.masked_array(np.ones(7, bool), np.arange(7) == 2), np.ma.ones(7, bool)):
        with pytest.raises(TypeError, match=rf"^{name}: where is a masked array; where\.filled\(False\) leaves out"):
            getattr(xent, name)(*args, where=where)


def test_many_dimensions(rng):
    x = rng.standard_normal((1,) * 20 + (2, 3))
    assert xent.logsumexp(x).shape == (1,) * 20 + (2,)
    assert xent.logsumexp(x, axis=0).shape == (1,) * 19 + (2, 3)


def test_where_that_selects_nothing(rng):
    """No class at all: as a class axis of length 0."""
    x = rng.standard_normal((2, 3))
    none = np.array([[True, False, True], [False, False, False]])
    lse = xent.logsumexp(x, where=none)
    assert lse[1] == -np.inf
    assert xent.log_softmax(x, where=none)[1].tolist() == [-np.inf] * 3
    assert xent.softmax(x, where=none)[1].tolist() == [0.0] * 3
    assert xent.cross_entropy(x, np.abs(x), where=none)[1] == 0
    assert xent.cross_entropy_with_labels(x, [0, 0], where=none)[1] == 0
    assert xent.kl_div_with_logits(x, x + 1, where=none)[1] == 0
    value, grad = xent.kl_div_with_logits_value_and_grad(x, x + 1, where=none)
    assert value[1] == 0
    assert grad[1].tolist() == [0.0] * 3


@every_row
def test_references_and_memory(name, rng):
    """Many calls, errors among them, leave nothing behind."""
    import tracemalloc

    args = operands(name, rng, rows=50, classes=100)

    def many(n):
        for _ in range(n):
            call(name, args)
            with pytest.raises(ValueError):  # noqa: PT011 - any: only what it leaves behind matters here
                getattr(xent, name)(*args, where=np.ones(3, bool))

    many(3)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        many(30)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 20_000


@pytest.mark.parametrize("chunks", [(2, 5), (3, 2), (6, 1)], ids=["rows", "both", "classes"])
def test_dask_stays_lazy(chunks, rng):
    """Chunks across the class axis are gathered lazily; values are NumPy's."""
    dask = pytest.importorskip("dask.array", reason="dask is not installed")
    x, y = rng.standard_normal((2, 6, 5))
    labels = np.arange(6) % 5
    lazy_x, lazy_y = dask.from_array(x, chunks=chunks), dask.from_array(y, chunks=chunks)
    for name, operands, plain in [
        ("logsumexp", (lazy_x,), (x,)),
        ("softmax", (lazy_x,), (x,)),
        ("kl_div_with_logits", (lazy_x, lazy_y), (x, y)),
        ("cross_entropy_with_labels", (lazy_x, dask.from_array(labels, chunks=chunks[:1])), (x, labels)),
    ]:
        got = getattr(xent, name)(*operands)
        assert isinstance(got, dask.Array), name
        np.testing.assert_array_equal(got.compute(), getattr(xent, name)(*plain), err_msg=name)
    np.testing.assert_array_equal(xent.softmax(lazy_x, axis=0).compute(), xent.softmax(x, axis=0))


def run(code):
    """In a process of its own: what this is about used to end it."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@labelled
def test_one_row_has_one_label(name, rng):
    """axis=None makes one row of everything, so several labels have no rows to go with."""
    f = getattr(xent, name)
    x = rng.standard_normal((2, 3))
    forms = "np.array([1, 2]), np.array([[1], [2]]), np.array([1]), [1, 2], np.ma.array([1, 2], mask=[0, 1])"
    done = run(
        f"import numpy as np, xent\n"
        f"for form in ({forms}):\n"
        f"    try:\n        xent.{name}(np.zeros((2, 3)), form, axis=None)\n"
        f"    except ValueError as error:\n        print(error)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 5
    for said in done.stdout.splitlines():
        assert said.startswith(f"{name}: axis=None takes ")
        assert "(2, 3) as one row" in said
        assert "of shape ()" in said
    with pytest.raises(ValueError, match="one-hot"):
        f(x, np.zeros((2, 3), int), axis=None)
    for got, value in zip(call(name, (x, 4), axis=None), call(name, (x.ravel(), 4)), strict=True):
        np.testing.assert_array_equal(np.asarray(got).ravel(), np.ravel(value))


@labelled
def test_several_class_axes_and_labels_that_widen(name, rng):
    """Labels of more dimensions than what the logits have left widen the batch, with several class axes too."""
    x = rng.standard_normal((2, 2, 3))
    y = rng.integers(6, size=(4, 1, 2))
    expected = call(name, (x.reshape(2, 6), y))
    done = run(
        f"import numpy as np, xent\n"
        f"for _ in range(20000): xent.{name}(np.zeros((2, 2, 3)), np.zeros((4, 1, 2), int), axis=(1, 2))\n"
        f"print('alive')"
    )
    assert done.stdout.split() == ["alive"], done.stderr
    for got, value in zip(call(name, (x, y), axis=(-2, -1)), expected, strict=True):
        np.testing.assert_array_equal(got.reshape(value.shape), value)
    for got, value in zip(call(name, (x, y), axis=(1, 2)), expected, strict=True):
        # The class axes are 1 and 2 of the result too, whatever the batch has become.
        back = got if value.ndim == 3 else np.moveaxis(got, (1, 2), (-2, -1)).reshape(value.shape)
        np.testing.assert_array_equal(back, value)
    with pytest.raises(ValueError, match=r"keep the class axis .* labels.squeeze\(\(1, 2\)\)"):
        getattr(xent, name)(x, np.zeros((2, 1, 1), int), axis=(1, 2))


@every_row
def test_shapes_of_masked_operands_are_looked_at_first(name, rng):
    """A mask is joined with shapes that fit; where they do not, the message is that of plain arrays."""
    if cases.SECOND[name] in ("", "self"):
        with pytest.raises(ValueError, match=rf"{name}: where of shape \(3,\)"):
            getattr(xent, name)(np.ma.masked_less(np.ones((2, 4)), 0.5).copy(), where=np.ones(3, bool))
        return
    x = np.ma.array(rng.standard_normal((4, 3)), mask=np.eye(4, 3))
    second = np.zeros(5, int) if cases.SECOND[name] == "labels" else np.ones((4, 5))
    with pytest.raises(ValueError, match=rf"{name}: .*do not match"):
        getattr(xent, name)(x, second)
    if cases.SECOND[name] != "labels":
        with pytest.raises(ValueError, match=rf"{name}: .*do not match"):
            getattr(xent, name)(x, np.ones((5, 3)))
