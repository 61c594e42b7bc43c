"""Every example in a docstring of the public interface is run; README.md's are by pytest itself."""

import doctest

import numpy as np
import pytest

import xent
from xent import losses, ufuncs

PUBLIC = {
    "xent": xent,
    "losses": losses,
    **{
        f"{module.__name__}.{name}": getattr(module, name)
        for module in (xent, losses, ufuncs)
        for name in module.__all__
    },
}


def examples(name):
    # A parser, not a finder: the finder passes over compiled callables.
    return doctest.DocTestParser().get_doctest(PUBLIC[name].__doc__, {}, name, None, 0)


@pytest.mark.parametrize("name", PUBLIC)
def test_examples(name):
    printed = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(examples(name), out=printed.append)
    assert runner.failures == 0, "".join(printed)


def test_every_callable_has_an_example():
    # A ufunc's docstring leads to the callable's.
    ours = [name for name, what in PUBLIC.items() if callable(what) and not isinstance(what, np.ufunc)]
    bare = [name for name in ours if not examples(name).examples]
    assert bare == []
