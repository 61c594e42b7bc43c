"""The judge judged: the oracle against the edges, plain NumPy formulas, and one arithmetic against the other."""

import cases
import numpy as np
import oracle
import pytest


def agree(ref, expected):
    np.testing.assert_allclose(ref.hi, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("what", "name", "operands", "expected"), cases.EDGES)
def test_edges(what, name, operands, expected):
    logits, *target = (np.array([o], dtype=float) for o in operands)
    refs = oracle.evaluate(name, logits, *(t.astype(int) if cases.SECOND[name] == "labels" else t for t in target))
    for ref, value in zip(refs, cases.as_tuple(expected), strict=True):
        np.testing.assert_allclose(ref.hi[0], value, rtol=1e-15)


def test_plain_formulas(rng):
    x = 3 * rng.standard_normal((5, 7))
    y = 3 * rng.standard_normal((5, 7))
    t = cases.softmax64(y)
    logp = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    labels = rng.integers(7, size=5)
    evaluate = oracle.evaluate
    agree(evaluate("logsumexp", x)[0], np.log(np.exp(x).sum(axis=1)))
    agree(evaluate("log_softmax", x)[0], logp)
    agree(evaluate("softmax", x)[0], np.exp(logp))
    agree(evaluate("entropy", t)[0], -(t * np.log(t)).sum(axis=1))
    agree(evaluate("softmax_entropy", x)[0], -(np.exp(logp) * logp).sum(axis=1))
    agree(evaluate("cross_entropy", x, t)[0], -(t * logp).sum(axis=1))
    agree(evaluate("cross_entropy_with_labels", x, labels)[0], -logp[np.arange(5), labels])
    kl = t * (np.log(t) - logp)
    for name, target in [("kl_div", t), ("kl_div_with_logits", y), ("kl_div_with_log_probs", np.log(t))]:
        agree(evaluate(name, x, target)[0], kl.sum(axis=1))
        agree(evaluate(name + "_terms", x, target)[0], kl)
        agree(evaluate(name + "_value_and_grad", x, target)[1], np.exp(logp) - t)
    agree(evaluate("nll", logp, labels)[0], -logp[np.arange(5), labels])
    agree(evaluate("nll_value_and_grad", logp, labels)[1], -np.eye(7)[labels])
    sigmoid = 1 / (1 + np.exp(-x))
    bce = -t * np.log(sigmoid) - (1 - t) * np.log(1 - sigmoid)
    agree(evaluate("binary_cross_entropy", x, t)[0], bce.sum(axis=1))
    agree(evaluate("binary_cross_entropy_terms", x, t)[0], bce)
    agree(evaluate("binary_cross_entropy_value_and_grad", x, t)[1], sigmoid - t)
    p, m = np.exp(logp), (np.exp(logp) + t) / 2
    js = p * np.log(p / m) / 2 + t * np.log(t / m) / 2
    agree(evaluate("js_div", x, y)[0], js.sum(axis=1))
    agree(evaluate("js_div_terms", x, y)[0], js)
    gain = np.log(p / m)
    slope = p * (gain - (p * gain).sum(axis=1, keepdims=True)) / 2
    agree(evaluate("js_div_value_and_grad", x, y)[1], slope)
    # Unnormalised targets: T KL(t / T, p) + T log T is the plain sum.
    agree(evaluate("kl_div", x, 3 * t)[0], (3 * t * (np.log(3 * t) - logp)).sum(axis=1))
    agree(evaluate("kl_div_value_and_grad", x, 3 * t)[1], 3 * np.exp(logp) - 3 * t)


def test_a_total_within_rounding_of_one_is_one():
    t = np.array([[0.5, 0.5 + 2**-50]])
    value = oracle.evaluate("kl_div", np.zeros((1, 2)), t)[0].hi[0]
    assert 0 < value < 1e-30


@pytest.mark.skipif(not oracle.WIDE_IS_WIDE, reason="longdouble is float64 on this machine: mpmath is used throughout")
@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_longdouble_agrees_with_mpmath(name):
    operands = cases.operands(name, "random", 2, 2000, np.float64, oracle.rng_of(name))
    for exact, wide in zip(oracle.evaluate(name, *operands), oracle.evaluate(name, *operands, wide=True), strict=True):
        difference = np.abs((exact.hi - wide.hi) + (exact.lo - wide.lo))
        assert (difference <= 0.02 * np.spacing(exact.scale)).all()
        np.testing.assert_allclose(wide.scale, exact.scale, rtol=1e-12)


def test_the_metric():
    ref = oracle.evaluate("logsumexp", [[0.0, -50.0]])[0]
    assert oracle.worst(np.array([1.9287498479639178e-22]), ref) < 0.5
    assert oracle.worst(np.array([0.0]), ref) > 1e15
    with pytest.raises(AssertionError):
        oracle.ulps(np.array([np.nan]), ref)


# ---- what is kept from run to run ----


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Nothing is remembered yet, and everything is worth a file."""
    monkeypatch.setattr(oracle, "KEPT", tmp_path / "oracle")
    monkeypatch.setattr(oracle, "_QUICKEST", -1.0)
    monkeypatch.setattr(oracle, "_memory", type(oracle._memory)())
    return tmp_path / "oracle" / oracle._DIRECTORY


def ask(seed=0):
    x, y = np.random.default_rng(seed).standard_normal((2, 3, 5))
    refs = [*oracle.evaluate("js_div_value_and_grad", x, y), *oracle.losses_js_div(x, y, compute=np.float64)]
    return [part for ref in refs for part in (ref.hi, ref.lo, ref.scale)]


def same(a, b):
    return all(np.array_equal(x, y) and x.shape == y.shape for x, y in zip(a, b, strict=True))


def test_answers_from_files_are_the_answers(shelf, monkeypatch):
    first = ask()
    assert len(list(shelf.iterdir())) == 2
    oracle._memory.clear()
    monkeypatch.setattr(oracle, "js_div", None)
    assert same(ask(), first)


@pytest.mark.parametrize("how", ["another's", "damaged", "cut short", "empty"])
def test_files_that_are_not_the_answer_are_not_believed(how, shelf):
    """Be they whole: a file holds only for the operands that it was written for."""
    files = {}
    for seed in (1, 0):
        right = ask(seed)
        files[seed] = sorted(set(shelf.iterdir()) - {f for fs in files.values() for f in fs})
    for own, other in zip(files[0], files[1], strict=True):
        data = bytearray(own.read_bytes())
        data[-20] ^= 1
        own.write_bytes(
            {"another's": other.read_bytes(), "damaged": bytes(data), "cut short": bytes(data[:40]), "empty": b""}[how]
        )
    oracle._memory.clear()
    assert same(ask(), right)


def test_what_a_caller_does_to_an_answer_stays_with_him(shelf):
    first = ask()
    ask()[0][:] = 7
    assert same(ask(), first)


def test_other_sources_make_other_files(shelf, monkeypatch):
    ask()
    monkeypatch.setattr(oracle, "_DIRECTORY", "another")
    oracle._memory.clear()
    ask()
    assert [d.name for d in shelf.parent.iterdir()] == ["another"]
