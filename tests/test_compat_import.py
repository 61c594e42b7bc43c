"""xent.compat brings its doors when they are asked for, and none before."""

import subprocess
import sys

import pytest

from xent import compat

DOORS = ["gluon", "optax", "scipy", "sklearn", "torch"]


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_nothing_is_imported_before_it_is_asked_for():
    loaded = "*sorted(m for m in sys.modules if m.startswith('xent.compat.'))"
    assert run(f"import sys, xent.compat; print({loaded})") == []
    assert run(f"import sys, xent.compat; xent.compat.gluon; print({loaded})") == [
        "xent.compat._bce",
        "xent.compat._shared",
        "xent.compat.gluon",
    ]


@pytest.mark.parametrize("door", DOORS)
def test_every_door_by_attribute(door):
    assert run(f"import xent.compat; print(xent.compat.{door}.__name__)") == [f"xent.compat.{door}"]
    assert run(f"from xent.compat import {door}; print({door}.__name__)") == [f"xent.compat.{door}"]


def test_names():
    assert compat.__all__ == DOORS
    assert set(DOORS) <= set(dir(compat))
    assert "__all__" in dir(compat)
    assert run("from xent.compat import *; print(torch.__name__, scipy.__name__)") == [
        "xent.compat.torch",
        "xent.compat.scipy",
    ]
    with pytest.raises(AttributeError, match=r"'xent.compat' has no attribute 'tensorflow'"):
        _ = compat.tensorflow
    with pytest.raises(ImportError):
        from xent.compat import keras  # noqa: F401
