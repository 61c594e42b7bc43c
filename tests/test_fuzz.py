"""A short run of fuzz.py: random calls, valid ones beside the oracle and junk that must be refused in words."""

import fuzz
import pytest


@pytest.mark.parametrize(
    ("seed", "calls"),
    [(0, 150), *[pytest.param(seed, 500, marks=pytest.mark.slow) for seed in range(3)]],
)
def test_random_calls(seed, calls):
    found = []
    for number in range(calls):
        try:
            fuzz.one(seed, number)
        except fuzz.Wrong as wrong:
            found.append(str(wrong))
    assert not found, "\n".join(found)


def test_a_wrong_answer_is_found(monkeypatch):
    """A loss that is off by a thousandth is seen."""
    right = fuzz.losses.cross_entropy
    monkeypatch.setattr(fuzz.losses, "cross_entropy", lambda *a, **k: _nudged(right(*a, **k)))
    with pytest.raises(fuzz.Wrong):
        for number in range(300):
            fuzz.one(0, number)


def _nudged(result):
    return (
        tuple(r * type(r.flat[0])(1.001) for r in result)
        if isinstance(result, tuple)
        else result * result.dtype.type(1.001)
    )
