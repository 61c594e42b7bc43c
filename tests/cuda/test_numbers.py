"""cuda/hd.h: 16-bit floats, exp and log, which every kernel stands on, against NumPy's extended precision."""

import ctypes

import host_cuda
import ml_dtypes
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(host_cuda.compiler() is None, reason="needs a C++ compiler")

FLOATS = ["f4", "f8"]
HALVES = {"half": np.float16, "bfloat16": ml_dtypes.bfloat16}


@pytest.fixture(scope="module")
def numbers():
    directory = host_cuda.build("host-numbers")
    library = ctypes.CDLL(str(directory / "libxent_cuda_numbers.so"))

    def call(name, values, result):
        out = np.empty(len(values), result)
        getattr(library, name)(
            values.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(len(values))
        )
        return out

    return call


@pytest.mark.parametrize("half", HALVES)
def test_every_16_bit_number_there_and_back(half, numbers):
    bits = np.arange(2**16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):  # signalling NaN
        expected = bits.view(HALVES[half]).astype(np.float32)
    wide = numbers(f"widen_{half}", bits, np.float32)
    np.testing.assert_array_equal(wide, expected)
    assert np.array_equal(np.signbit(wide), np.signbit(expected))
    for dtype in FLOATS:
        with np.errstate(invalid="ignore"):
            values = expected.astype(dtype)
        back = numbers(f"{half}_{dtype}", values, np.uint16)
        number = ~np.isnan(expected)
        assert np.array_equal(back[number], bits[number])
        assert np.isnan(back[~number].view(HALVES[half]).astype(np.float32)).all()


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_rounding_to_16_bits(half, dtype, numbers, rng):
    """Ties, their neighbours, and the ends of the range: nearest even, once."""
    infinity = int(np.array(np.inf, HALVES[half]).view(np.uint16))
    every = np.arange(infinity, dtype=np.uint16).view(HALVES[half]).astype(np.float64)
    every = np.concatenate([-every[:0:-1], every])
    ties = (every[1:] + every[:-1]) / 2
    values = np.concatenate(
        [ties, np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf), 2 * rng.standard_normal(10000)]
    )
    limit = 2 * every[-1] - every[-2] - (every[-1] - every[-2]) / 2
    values = np.concatenate([values, [limit, -limit, np.nextafter(limit, 0), np.inf, -np.inf, 1e-300, -1e-300, 1e300]])
    with np.errstate(over="ignore", under="ignore"):
        values = values.astype(dtype)
    got = numbers(f"{half}_{dtype}", values, np.uint16).view(HALVES[half]).astype(np.float64)
    # By hand: NumPy rounds float64 once, ml_dtypes by way of float32.
    with np.errstate(over="ignore"):
        above = np.clip(np.searchsorted(every, values.astype(np.float64)), 1, len(every) - 1)
    low, high = every[above - 1], every[above]
    exact = values.astype(np.float64)
    to_high = (exact - low) - (high - exact)
    even = np.asarray(low, HALVES[half]).view(np.uint16) % 2 == 0
    expected = np.where((to_high < 0) | ((to_high == 0) & even), low, high)
    over = np.abs(exact) >= limit
    expected[over] = np.copysign(np.inf, exact[over])
    np.testing.assert_array_equal(got, expected)


def error(got, exact):
    """Largest error in ULPs of the result, subnormal results in their own steps."""
    with np.errstate(under="ignore", over="ignore"):
        unit = np.spacing(np.abs(exact.astype(got.dtype))).astype(np.longdouble)
    return float((np.abs(got.astype(np.longdouble) - exact) / unit).max())


def spread(dtype, low, high, rng, n=50_000):
    return np.concatenate([np.linspace(low, high, n), low + (high - low) * rng.random(n)]).astype(dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_exp(dtype, numbers, rng):
    lowest = {"f4": -87.0, "f8": -708.0}[dtype]
    for name, high in [("exp_any", -lowest), ("exp_near", 0.0), ("exp_minus_abs", -lowest)]:
        x = spread(dtype, lowest, high, rng)
        wide = x.astype(np.longdouble)
        exact = np.exp(-np.abs(wide) if name == "exp_minus_abs" else wide)
        assert error(numbers(f"{name}_{dtype}", x, dtype), exact) <= 0.75, name
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 89.0, 710.0, -1e4], dtype)
    with np.errstate(over="ignore", under="ignore"):
        expected = np.exp(special.astype(np.longdouble)).astype(dtype)
    got = numbers(f"exp_any_{dtype}", special, dtype)
    finite = np.isfinite(expected) & (expected != 0)
    np.testing.assert_array_equal(got[~finite], expected[~finite])
    np.testing.assert_allclose(got[finite], expected[finite], rtol=np.finfo(dtype).eps)
    down = np.linspace(-104 if dtype == "f4" else -746, lowest, 1000).astype(dtype)
    step = np.finfo(dtype).smallest_subnormal
    exact = np.exp(down.astype(np.longdouble))
    assert (np.abs(numbers(f"exp_any_{dtype}", down, dtype) - exact) <= 1.5 * step + exact * np.finfo(dtype).eps).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_log(dtype, numbers, rng):
    info = np.finfo(dtype)
    x = np.concatenate(
        [
            spread(dtype, 0.25, 4.0, rng),
            np.exp(spread("f8", np.log(float(info.tiny)), np.log(float(info.max)) - 1, rng)).astype(dtype),
            (np.arange(1, 2000) * info.smallest_subnormal).astype(dtype),
        ]
    )
    x = x[x != 1]
    assert error(numbers(f"log_{dtype}", x, dtype), np.log(x.astype(np.longdouble))) <= 1.0
    special = np.array([1.0, 0.0, -0.0, np.inf, np.nan, -1.0, -np.inf], dtype)
    expected = [0.0, -np.inf, -np.inf, np.inf, np.nan, np.nan, np.nan]
    np.testing.assert_array_equal(numbers(f"log_{dtype}", special, dtype), np.array(expected, dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_log1p_of_the_rest_of_a_row(dtype, numbers, rng):
    x = np.concatenate([spread(dtype, 0, 1, rng), np.exp(-80 * rng.random(200_000)).astype(dtype)])
    x = x[x > 0]
    assert error(numbers(f"log1p_unit_{dtype}", x, dtype), np.log1p(x.astype(np.longdouble))) <= 1.75
    assert numbers(f"log1p_unit_{dtype}", np.zeros(1, dtype), dtype) == 0


@pytest.mark.parametrize("dtype", FLOATS)
def test_phi(dtype, numbers, rng):
    """exp(u) - 1 - u, relative to itself; its own series near 0, where the difference has nothing left."""
    u = spread(dtype, -1, 2, rng)
    u = u[np.abs(u) > {"f4": 1e-15, "f8": 1e-100}[dtype]]
    wide = u.astype(np.longdouble)
    near = np.abs(wide) < 0.125
    series = sum(wide ** (k - 2) / np.prod(np.arange(1, k + 1), dtype=np.longdouble) for k in range(2, 16))
    exact = np.where(near, wide**2 * series, np.expm1(wide) - wide)
    assert error(numbers(f"phi_{dtype}", u, dtype), exact) <= 3.0
    assert numbers(f"phi_{dtype}", np.zeros(1, dtype), dtype) == 0
