"""What README.md says that is not an example (those are doctested)."""

from pathlib import Path

import cases
import numpy as np

from xent._explain import explain, rows_of_table
from xent._reading import KIND_NAMES

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_accuracy_table_is_the_one_that_is_tested():
    assert cases.readme_table() in README


def test_every_operation_is_named():
    for name in cases.NAMES:
        assert f"`{name}`" in README, name


def who_computes_what() -> str:
    """README's table: each call, what it takes in the place of input and of target, and what it gives of that."""
    prediction = np.log([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    target = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    forms = {
        "log_probs": (prediction, np.log(target)),
        "logits": (prediction + 1.0, np.log(target) + 1.0),
        "probs": (np.exp(prediction), target),
        "classes": (prediction, target),
    }
    lines = ["| call | input | target | value |", "|---|---|---|---|"]
    for row in rows_of_table():
        needs = row.takes
        x, t = forms[needs[0]][0], forms[needs[1]][1]
        call = next(call for call in explain(x, t).calls if call.call == row.call)
        lines.append(f"| {row.call} | {KIND_NAMES[needs[0]]} | {KIND_NAMES[needs[1]]} | {call.relation} |")
    return "\n".join(lines) + "\n"


def test_table_of_who_computes_what_is_what_explain_finds():
    assert who_computes_what() in README
