"""Hypothesis: shapes, strides and values that nobody thought of."""

import cases
import hypothesis.extra.numpy as hnp
import numpy as np
import oracle
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import xent
from xent import losses

settings.register_profile(
    "xent",
    deadline=None,
    # The same examples every time, and no database beside the sources: a red run can be run again.
    derandomize=True,
    database=None,
    max_examples=120,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("xent")

DTYPE = st.sampled_from([np.float64, np.float32])
ISA = st.sampled_from(xent.info()["isas"])
NAME = st.sampled_from(cases.ROW_NAMES)
FINITE = st.floats(-40, 40, width=32)
ANY = st.one_of(FINITE, st.sampled_from([np.inf, -np.inf, np.nan, 0.0]))
WEIGHT = st.one_of(st.floats(0, 2, width=32), st.sampled_from([0.0, 1.0]))
SHAPE = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=9)


def matrix(elements, max_classes=40):
    shape = st.tuples(st.integers(1, 5), st.integers(1, max_classes))
    return shape.flatmap(lambda s: hnp.arrays(np.float64, s, elements=elements))


@st.composite
def operands(draw, elements=FINITE):
    """(name, dtype, operands) of any operation on a small batch."""
    name, dtype = draw(NAME), draw(DTYPE)
    x = draw(matrix(elements)).astype(dtype)
    second = cases.SECOND[name]
    if second == "self":
        return name, dtype, (np.abs(draw(hnp.arrays(np.float64, x.shape, elements=WEIGHT))).astype(dtype),)
    if second == "":
        return name, dtype, (x,)
    if second == "labels":
        labels = hnp.arrays(np.int64, x.shape[:1], elements=st.integers(0, x.shape[1] - 1))
        return name, dtype, (x, draw(labels))
    strategy = {"probs": WEIGHT, "unit": WEIGHT, "logits": elements, "log_probs": st.floats(-30, 0.5, width=32)}[second]
    return name, dtype, (x, draw(hnp.arrays(np.float64, x.shape, elements=strategy)).astype(dtype))


def call(name, args, **options):
    return cases.as_tuple(getattr(xent, name)(*args, **options))


@given(operands(), ISA)
def test_values(case, isa):
    name, dtype, args = case
    if name.startswith("kl_div") and cases.SECOND[name] in ("probs", "log_probs"):
        # Where the total is within a few tau of 1 the answer may jump by T log T: that is cases.near_equal's business.
        t = np.asarray(args[1], np.float64)
        total = (np.exp(t) if cases.SECOND[name] == "log_probs" else t).sum(axis=1)
        assume((np.abs(total - 1) > 1e-4).all() or (total == 1).all())
    xent.set_isa(isa)
    refs = oracle.evaluate(name, *args)
    for got, ref, allowed in zip(call(name, args), refs, cases.budget(name, dtype), strict=True):
        assert oracle.worst(got, ref) <= allowed


@given(operands(ANY), ISA)
def test_specials(case, isa):
    """Infinities and NaN anywhere: the oracle's rules are the table's."""
    name, _, args = case
    assume(cases.SECOND[name] != "log_probs" or not (args[1] == np.inf).any())
    # Nor is it defined what two rows with +inf in them are to each other.
    assume(sum((a == np.inf).any() for a in args) < 2)
    xent.set_isa(isa)
    refs = oracle.evaluate(name, *args)
    for got, ref in zip(call(name, args), refs, strict=True):
        np.testing.assert_array_equal(np.isnan(got), np.isnan(ref.hi))
        infinite = np.isinf(ref.hi)
        np.testing.assert_array_equal(got[infinite], ref.hi[infinite])


@st.composite
def strided(draw):
    """An array, and the same numbers seen through random strides."""
    shape = draw(SHAPE)
    values = draw(hnp.arrays(np.float64, shape, elements=FINITE))
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 2, -1, -2])) for _ in shape]
    memory = np.zeros([abs(s) * shape[o] for s, o in zip(steps, order, strict=True)])
    view = memory[tuple(slice(None, None, s) for s in steps)].transpose(np.argsort(order))
    assert view.shape == shape
    view[...] = values
    return values, view


@given(strided(), st.data())
def test_strides_and_axes(pair, data):
    values, view = pair
    axis = data.draw(st.integers(-values.ndim, values.ndim - 1))
    for name in ("logsumexp", "log_softmax", "softmax", "softmax_entropy"):
        a, b = getattr(xent, name)(values, axis=axis), getattr(xent, name)(view, axis=axis)
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)
    a = xent.kl_div_with_logits(view, values[..., ::-1], axis=axis)
    b = xent.kl_div_with_logits(values, values[..., ::-1].copy(), axis=axis)
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@given(hnp.mutually_broadcastable_shapes(signature="(n),(n)->()", max_side=4, max_dims=3))
def test_broadcasting(shapes):
    (first, second), result = shapes.input_shapes, shapes.result_shape
    assume(first[-1] == second[-1] and first[-1] > 0)
    gen = np.random.default_rng(3)
    x, t = gen.standard_normal(first), gen.random(second)
    got = xent.cross_entropy(x, t)
    assert np.shape(got) == result
    whole = (*result, first[-1])
    expected = xent.cross_entropy(np.broadcast_to(x, whole).copy(), np.broadcast_to(t, whole).copy())
    np.testing.assert_array_equal(got, expected)


@given(matrix(FINITE), ISA)
def test_identities(x, isa):
    xent.set_isa(isa)
    p = xent.softmax(x)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-14)
    logp = xent.log_softmax(x)
    assert (logp <= 0).all()
    assert (xent.logsumexp(x) >= x.max(axis=1)).all()
    np.testing.assert_allclose(np.exp(logp), p, rtol=1e-13)
    np.testing.assert_allclose(xent.logsumexp(logp), 0.0, atol=1e-14)
    entropy = xent.softmax_entropy(x)
    assert (entropy >= 0).all()
    assert (entropy <= np.log(x.shape[1]) * (1 + 1e-15)).all()
    np.testing.assert_allclose(entropy, xent.entropy(p), rtol=1e-12, atol=1e-14)
    # Cross-entropy of a row with itself is its entropy, and its divergence from itself is nothing.
    np.testing.assert_allclose(xent.cross_entropy(x, p), entropy, rtol=1e-12, atol=1e-14)
    assert (xent.kl_div_with_logits(x, x) == 0).all()


@given(matrix(FINITE), st.data(), ISA)
def test_cross_entropy_minus_entropy_is_kl(x, data, isa):
    xent.set_isa(isa)
    y = data.draw(hnp.arrays(np.float64, x.shape, elements=FINITE))
    t = xent.softmax(y)
    kl = xent.kl_div_with_logits(x, y)
    assert (kl >= 0).all()
    scale = 1 + xent.cross_entropy(x, t)
    assert (np.abs(xent.cross_entropy(x, t) - xent.entropy(t) - kl) <= 1e-13 * scale).all()
    assert (np.abs(xent.kl_div(x, t) - kl) <= 1e-13 * scale).all()
    assert (xent.kl_div(x, t) >= 0).all()
    np.testing.assert_allclose(xent.kl_div_with_logits_terms(x, y).sum(axis=1), kl, atol=1e-13 * scale.max())
    assert (
        np.abs(losses.cross_entropy(x, t) - losses.kl_div(x, t) - xent.entropy(t).mean()) <= 1e-13 * scale.max()
    ).all()


@given(matrix(st.integers(-1000, 1000).map(lambda i: i / 8)), st.sampled_from([1024.0, -4096.0]), DTYPE, ISA)
def test_shift_invariance(x, shift, dtype, isa):
    """Adding a constant that loses no bit of the logits changes nothing that depends on their differences."""
    xent.set_isa(isa)
    x = x.astype(dtype)
    moved = x + dtype(shift)
    assume(np.array_equal(moved - dtype(shift), x))
    labels = np.zeros(len(x), int)
    reverse = x[:, ::-1].copy()
    for name, rest in [
        ("log_softmax", ()),
        ("softmax", ()),
        ("softmax_entropy", ()),
        ("cross_entropy_with_labels", (labels,)),
        ("kl_div_with_logits", (reverse,)),
    ]:
        # Each of the two within its budget; all of these are sums of terms of one sign.
        both = [getattr(xent, name)(z, *rest) for z in (moved, x)]
        rtol = 2 * cases.budget(name, dtype)[0] * np.finfo(dtype).eps
        tiny = cases.SUBNORMAL_STEPS * np.finfo(dtype).smallest_subnormal
        np.testing.assert_allclose(*both, rtol=rtol, atol=tiny)


@given(matrix(FINITE), st.data())
def test_a_row_is_its_own(x, data):
    """Any selection of rows, in any order, has the bits that the rows have in the whole."""
    chosen = data.draw(st.lists(st.integers(0, len(x) - 1), min_size=1, max_size=12))
    for name in ("logsumexp", "softmax", "softmax_entropy"):
        assert getattr(xent, name)(x[chosen]).tobytes() == getattr(xent, name)(x)[chosen].tobytes()
