"""What README.md says that is not an example (those are doctested)."""

from pathlib import Path

import cases

from xent._explain import who_computes_what

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_accuracy_table_is_the_one_that_is_tested():
    assert cases.readme_table() in README


def test_every_operation_is_named():
    for name in cases.NAMES:
        assert f"`{name}`" in README, name


def test_table_of_who_computes_what_is_what_explain_finds():
    assert who_computes_what() in README
