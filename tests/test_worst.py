"""The published accuracy holds on the worst rows that searches have found, and in a short search (worst.py)."""

import json

import cases
import pytest
import wide
import worst

pytestmark = pytest.mark.skipif(not wide.IS_WIDE, reason=wide.TOO_NARROW)
REAL_CASES = [c for c in cases.CASES if c.dtype in ("f8", "f4")]
KEPT = worst.read_kept()


@pytest.mark.parametrize("case", REAL_CASES, ids=lambda c: c.id)
def test_worst_rows_so_far(case):
    for output, allowed in enumerate(case.budgets):
        found = KEPT[f"{case.id} {output}"]
        assert found["ulps"] <= allowed, f"output {output}: the row was {found['ulps']} ULP off on {found['where']}"
        if found["row"]:
            ulps, where = worst.measure(case, worst.row_of(case, found["row"]))[output]
            assert ulps <= allowed, f"output {output}: {ulps:.3f} ULP on {where}: {json.dumps(found['row'])}"


@pytest.mark.slow
@pytest.mark.parametrize("case", REAL_CASES, ids=lambda c: c.id)
def test_a_short_search(case):
    for output, (found, allowed) in enumerate(zip(worst.search(case, 8_000), case.budgets, strict=True)):
        assert found.ulps <= allowed, f"output {output}: {found.as_json()}"


def test_the_search_finds_what_is_wrong(monkeypatch):
    """A sum that is 40 ULP off in one row of a thousand."""
    right = worst.xent.logsumexp

    def nudged(x, **options):
        out = right(x, **options)
        out[::1000] *= 1 + 40 * cases.finfo(x.dtype).eps
        return out

    monkeypatch.setattr(worst.xent, "logsumexp", nudged)
    case = next(c for c in REAL_CASES if c.id == "logsumexp-f4")
    assert worst.search(case, 20_000)[0].ulps > 10
