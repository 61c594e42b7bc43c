"""16-bit floats: converted exactly, whatever the layout; and bfloat16, a type that NumPy learns of from ml_dtypes."""

import os
import pickle
import subprocess
import sys
import textwrap
import tracemalloc

import cases
import dask.array as da
import ml_dtypes
import numpy as np
import pytest

import xent
from xent import losses

BF16 = np.dtype(ml_dtypes.bfloat16)
HALVES = [np.dtype(np.float16), BF16]
halves = pytest.mark.parametrize("dtype", HALVES, ids=str)
every = pytest.mark.parametrize("name", cases.NAMES)


def call(name, args, **options):
    return cases.as_tuple(getattr(xent, name)(*args, **options))


def cast(a, dtype):
    """astype without its warnings about what overflows, or about signalling NaNs."""
    with np.errstate(over="ignore", invalid="ignore"):
        return a.astype(dtype)


def same(got, expected):
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(cast(got, np.float64), cast(expected, np.float64))


# ---- conversions ---------------------------------------------------------------------------------------------------


@halves
@pytest.mark.parametrize("wide", [np.float32, np.float64])
def test_every_value(dtype, wide, isa):
    """logsumexp of a row of one class is that class: each of the 65536 read, each written again."""
    x = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    same(xent.logsumexp(x[:, None], dtype=wide), cast(x, wide))
    same(xent.logsumexp(x[:, None]), x)
    same(xent.logsumexp(cast(x, wide)[:, None], dtype=dtype), x)


@halves
@pytest.mark.parametrize("wide", [np.float32, np.float64])
def test_every_rounding(dtype, wide, isa):
    """Between any two neighbours: the lower one, what lies just below their middle, the middle, and just above."""
    bits = np.arange(1 << 15, dtype=np.uint16)
    bits = bits[np.isfinite(cast(bits.view(dtype), np.float64))]
    lower = bits.view(dtype).astype(np.float64)
    upper = np.append(lower[1:], 2 * lower[-1] - lower[-2])  # beyond the largest as if exponents went on
    middle = ((lower + upper) / 2).astype(wide)
    v = np.concatenate([lower.astype(wide), np.nextafter(middle, wide(0)), middle, np.nextafter(middle, wide(np.inf))])
    expected = np.concatenate([bits, bits, bits + (bits & 1), bits + 1]).astype(np.uint16).view(dtype)
    # A term of log p = -64 and target v / 64 is v, where v / 64 is exact. Rows of one sign: a sum of both is undefined.
    exact = (v == 0) | (v / 64 >= np.finfo(wide).tiny)
    assert np.count_nonzero(exact) > 0.9 * len(v)
    v, expected = np.stack([v, -v])[:, exact], np.stack([expected, -expected])[:, exact]
    x = np.full(v.shape, -64, wide)
    x[:, 0] = 0
    for order in (slice(None), slice(None, None, -1)):
        same(xent.cross_entropy_terms(x[:, order], v[:, order] / 64, out=np.empty(v.shape, dtype)), expected[:, order])


def widths():
    """Rows that go across and along, with every tail of a vector, and more than one tile."""
    return [*range(1, 66), 130, 1030, 2049]


@halves
@pytest.mark.parametrize("name", [*cases.ARRAY_NAMES, *cases.GRAD_NAMES])
def test_what_is_emitted_is_rounded_once(name, dtype, rng, isa):
    """Bit for bit the float32 result, rounded: what is read is exact, and the arithmetic is the same."""
    for n in widths():
        args = cases.operands(name, "random", 3 if n > 40 else 18, n, dtype, rng)
        wide = tuple(a if a.dtype.kind == "i" else a.astype(np.float32) for a in args)
        turned = [tuple(np.asfortranarray(a) for a in part) for part in (args, wide)]
        for part, exact in ((args, wide), turned):
            same(call(name, part)[-1], cast(call(name, exact)[-1], dtype))


@halves
@pytest.mark.parametrize("rows", [1, 2, 5, 15, 16, 17, 33])
def test_neighbouring_rows(rows, dtype, rng, isa):
    """The class axis first: whole groups of neighbouring rows, and what is left of them."""
    keep = rng.random((40, rows)) < 0.7
    for order in (slice(None), slice(None, None, -1), slice(None, None, 2)):
        x = (3 * rng.standard_normal((40, rows))).astype(dtype)[:, order]
        for options in ({}, {"where": keep[:, order]}):
            got = xent.softmax(x, axis=0, **options)
            same(got, cast(xent.softmax(x.astype(np.float32), axis=0, **options), dtype))


@halves
def test_nothing_is_copied_to_float32(dtype, rng):
    x = rng.standard_normal((64, 4096)).astype(dtype)
    y = rng.integers(4096, size=64)
    for f in (
        lambda: losses.cross_entropy(x, y),
        lambda: losses.kl_div(x, x, target_kind="logits", temperature=2.0),
        lambda: xent.logsumexp(x, axis=0),
        lambda: xent.softmax(x, where=x > 0, out=x.copy()),
        lambda: xent.ufuncs.kl_div_with_logits(x, x),
    ):
        tracemalloc.start()
        f()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 1.7 * x.nbytes  # the mask and the copy of one of them; float32 would be twice its size


# ---- bfloat16 in NumPy's type system -------------------------------------------------------------------------------

PAIRS = [(a, b) for a in cases.DTYPES.values() for b in cases.DTYPES.values()]


def promoted(a, b):
    # NumPy has no common type for the two of 16 bits.
    return np.dtype(np.float32) if {a, b} == set(HALVES) else np.result_type(a, b)


@pytest.mark.parametrize("name", [n for n in cases.NAMES if cases.SECOND[n] not in ("", "self", "labels")])
@pytest.mark.parametrize(("a", "b"), PAIRS, ids=lambda d: d.name)
def test_mixed_floats(name, a, b, rng):
    """The callable and the ufunc promote alike, and read each operand as it is."""
    x, t = (np.abs(rng.standard_normal((5, 9))).astype(d) for d in (a, b))
    for door in (xent, xent.ufuncs):
        for got in cases.as_tuple(getattr(door, name)(x, t)):
            assert got.dtype == promoted(a, b)
    wide = promoted(a, b)
    if name.startswith("kl_div") and "logits" not in name:
        return  # a target's own dtype decides what counts as a sum of 1
    for got, expected in zip(call(name, (x, t)), call(name, (x.astype(wide), t.astype(wide))), strict=True):
        same(got, expected)


@every
def test_bfloat16_in_bfloat16_out(name, rng):
    args = cases.operands(name, "random", 6, 11, BF16, rng) if cases.SECOND[name] != "point" else None
    args = args or tuple(rng.random((2, 6, 11)).astype(BF16))
    for door in (xent, xent.ufuncs):
        results = cases.as_tuple(getattr(door, name)(*args))
        outs = tuple(np.zeros_like(r) for r in results)
        for got, out, expected in zip(cases.as_tuple(getattr(door, name)(*args, out=outs)), outs, results, strict=True):
            assert got is out
            assert got.dtype == BF16
            same(got, expected)
        single = cases.as_tuple(getattr(door, name)(*(a[0] for a in args)))
        assert all(r.dtype == BF16 for r in single)


@pytest.mark.parametrize("integer", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "longlong"])
def test_bfloat16_with_labels(integer, rng):
    x = rng.standard_normal((6, 4)).astype(BF16)
    y = rng.integers(4, size=6)
    expected = xent.cross_entropy_with_labels(x, y)
    assert expected.dtype == BF16
    for door in (xent, xent.ufuncs):
        same(door.cross_entropy_with_labels(x, y.astype(integer)), expected)
    same(losses.cross_entropy(x, y.astype(integer), reduction="none"), expected)
    with pytest.raises(IndexError):
        xent.ufuncs.cross_entropy_with_labels(x, np.full(6, 4, integer))


def test_integers_become_float64_beside_bfloat16():
    x = np.zeros((2, 3), BF16)
    for integer in (np.int8, np.int64, bool):
        assert xent.kl_div_with_logits(x, np.ones((2, 3), integer)).dtype == np.float64


def test_dtype_and_out_of_another_float(rng):
    x = rng.standard_normal((4, 9)).astype(np.float32)
    exact = xent.softmax(x)
    same(xent.softmax(x, dtype=BF16), exact.astype(BF16))
    same(xent.softmax(x, out=np.zeros((4, 9), BF16)), exact.astype(BF16))
    same(xent.softmax(x.astype(BF16), dtype=np.float64), xent.softmax(x.astype(BF16).astype(np.float64)))
    with pytest.raises(TypeError, match="bfloat16, the result, to float16"):
        xent.softmax(x.astype(BF16), out=np.zeros((4, 9), np.float16))


def test_losses_take_bfloat16(rng):
    x, y = rng.standard_normal((2, 6, 4)).astype(BF16)
    sample_weight, weight = rng.random(6).astype(BF16), rng.random(4).astype(BF16)
    value, grad = losses.cross_entropy(x, cases.softmax64(y).astype(BF16), return_grad=True)
    assert (value.dtype, grad.dtype) == (np.float32, BF16)
    assert losses.cross_entropy(x, [0] * 6, dtype=BF16).dtype == BF16
    assert losses.kl_div(x, y, target_kind="logits", reduction="per_class").dtype == BF16
    labels = np.array([0, 1, 2, 3, 0, 1])
    got = losses.cross_entropy(x, labels, sample_weight=sample_weight, weight=weight)
    same(got, losses.cross_entropy(x, labels, sample_weight=sample_weight.astype(float), weight=weight.astype(float)))


@pytest.mark.parametrize("small", [np.float16, BF16])
def test_scalars_of_16_bits_are_float32(small, rng):
    x = (30 * rng.standard_normal((5000, 4))).astype(small)
    y = rng.integers(4, size=5000)
    for reduction in ("sum", "mean"):
        wide = losses.cross_entropy(x.astype(np.float64), y, reduction=reduction)
        for dtype, tolerance in ((None, 1e-6), (np.float32, 1e-6), (np.float64, 1e-14)):
            value, grad = losses.cross_entropy(x, y, reduction=reduction, return_grad=True, dtype=dtype)
            assert value.dtype == (dtype or np.float32)
            assert grad.dtype == (dtype or small)
            assert value == pytest.approx(wide, rel=tolerance)


def test_distillation_of_every_pair_of_dtypes(rng):
    x, y = rng.integers(-3, 4, (2, 5, 4))
    kinds = [np.float16, BF16, np.float32, np.float64, np.int8, np.int64]
    exact = losses.distillation(x, y, [0, 1, 2, 3, 0], temperature=2.0, alpha=0.5, reduction="none")
    for a in kinds:
        for b in kinds:
            pair = x.astype(a), y.astype(b)
            dtype = losses.distillation(*pair, temperature=2.0, reduction="none").dtype
            got = losses.distillation(*pair, [0, 1, 2, 3, 0], temperature=2.0, alpha=0.5, reduction="none")
            assert got.dtype == dtype
            np.testing.assert_allclose(got.astype(float), exact, rtol=2 * float(ml_dtypes.finfo(dtype).eps))


def test_byte_order_and_masks(rng):
    x = rng.standard_normal((6, 40)).astype(BF16)
    turned = x.byteswap().view(BF16.newbyteorder())
    same(xent.log_softmax(turned), xent.log_softmax(x))
    hidden = rng.random(x.shape) < 0.3
    same(xent.log_softmax(np.ma.masked_array(x, hidden)), xent.log_softmax(x, where=~hidden))


def test_other_small_floats_are_refused(rng):
    x = rng.standard_normal((2, 3)).astype(ml_dtypes.float8_e4m3fn)
    with pytest.raises(TypeError, match=r"float8_e4m3fn .*bfloat16"):
        xent.logsumexp(x)
    with pytest.raises(TypeError, match="float8_e4m3fn"):
        xent.logsumexp(x.astype(np.float32), dtype=ml_dtypes.float8_e4m3fn)


def test_pickle_and_dask(rng):
    x = rng.standard_normal((12, 5)).astype(BF16)
    assert pickle.loads(pickle.dumps(xent.ufuncs.softmax)) is xent.ufuncs.softmax
    same(pickle.loads(pickle.dumps(xent.softmax(x))), xent.softmax(x))
    lazy = xent.softmax(da.from_array(x, chunks=(4, 3)))
    assert lazy.dtype == BF16
    same(lazy.compute(scheduler="sync"), xent.softmax(x))


# ---- before and after ml_dtypes is loaded: processes of their own --------------------------------------------------


def run(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env=dict(os.environ),
        check=False,
    )


def says(code, *expected):
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(expected)


def test_import_leaves_ml_dtypes_alone():
    says("import sys, xent; xent.logsumexp([1, 2]); print('ml_dtypes' in sys.modules)", "False")


def test_ml_dtypes_first():
    says(
        """
        import ml_dtypes, numpy as np, xent
        x = np.zeros((2, 3), ml_dtypes.bfloat16)
        print(xent.ufuncs.logsumexp(x).dtype, xent.kl_pointwise(x, x).dtype)
        """,
        *["bfloat16"] * 2,
    )


@pytest.mark.parametrize(
    "how",
    [
        "xent.enable_bfloat16() or xent.enable_bfloat16() or x",
        "xent.logsumexp(x)",
        "xent.log_softmax(x.T)",
        "xent.softmax(np.zeros((2, 3)), dtype=x.dtype)",
        "xent.losses.cross_entropy(x, [0, 1], reduction='none')",
    ],
)
def test_xent_first(how):
    """Whatever meets the first bfloat16: it gives bfloat16 itself, and so do the ufuncs from then on."""
    says(
        f"""
        import numpy as np, xent
        import ml_dtypes
        x = np.zeros((2, 3), ml_dtypes.bfloat16)
        print(({how}).dtype)
        print(xent.ufuncs.logsumexp(x).dtype, xent.kl_pointwise(x, x).dtype)
        """,
        *["bfloat16"] * 3,
    )


def test_a_ufunc_that_came_too_early():
    """NumPy remembers a cast; enable_bfloat16 says so, and the callables do not go through it."""
    says(
        """
        import numpy as np, xent, ml_dtypes
        x = np.zeros((2, 3), ml_dtypes.bfloat16)
        print(xent.ufuncs.softmax(x).dtype)
        try:
            xent.enable_bfloat16()
        except RuntimeError as error:
            print(str(error).split()[-1])
        print(xent.softmax(x).dtype, xent.ufuncs.logsumexp(x).dtype)
        """,
        *["float64", "softmax", "bfloat16", "bfloat16"],
    )


def test_threads_that_meet_it_at_once():
    says(
        """
        import threading
        import numpy as np, xent, ml_dtypes
        x = np.zeros((2, 3), ml_dtypes.bfloat16)
        start, found = threading.Barrier(8), []
        def meet():
            start.wait()
            found.append(xent.logsumexp(x).dtype.name)
            found.append(xent.ufuncs.logsumexp(x).dtype.name)
        threads = [threading.Thread(target=meet) for _ in range(8)]
        for t in threads: t.start()
        for t in threads: t.join()
        print(len(found), *set(found))
        """,
        *["16", "bfloat16"],
    )


def test_without_ml_dtypes():
    """Everything else works, and enable_bfloat16 names what is missing."""
    says(
        """
        import sys
        sys.modules["ml_dtypes"] = None  # as Python itself marks a module that must not be imported
        import numpy as np, xent
        print(xent.logsumexp(np.zeros((2, 3), np.float16)).dtype)
        try:
            xent.enable_bfloat16()
        except ImportError as error:
            print(error.name, "ml_dtypes" in str(error))
        """,
        *["float16", "ml_dtypes", "True"],
    )
