"""The libraries' own tests, run on the doors: the installed test file, in a process of its own, with the door's
functions in the place of the library's.

A test that cannot apply is deselected by name, with the reason; optax's are not here: they go through `jax.jit`. Where
a library comes without its tests, this waits for them; with XENT_PARITY=required that is a failure.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from parity import library

# Only after collection are the names replaced: libraries look their own functions up while they make their tests.
PLUGIN = """
import functools, importlib, json, os

SPEC = json.loads(os.environ["XENT_SUITE"])
CALLS = dict.fromkeys(SPEC["names"], 0)


def counted(name, function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        CALLS[name] += 1
        return function(*args, **kwargs)

    return call


def pytest_collection_modifyitems(config, items):
    door = importlib.import_module(SPEC["door"])
    places = [importlib.import_module(p) for p in SPEC["within"]] or list({item.module for item in items})
    for place in places:
        for name in SPEC["names"]:
            assert hasattr(place, name), (place, name)
            setattr(place, name, counted(name, getattr(door, name)))
    chosen = [i for i in items if any(word in i.nodeid for word in SPEC["only"])] if SPEC["only"] else list(items)
    skipped = [i for i in chosen if i.originalname in SPEC["deselected"] or i.name in SPEC["deselected"]]
    items[:] = [i for i in chosen if i not in skipped]
    unknown = set(SPEC["deselected"]) - {i.originalname for i in skipped} - {i.name for i in skipped}
    assert not unknown, f"deselected, but not there: {unknown}"


def pytest_sessionfinish(session):
    with open(SPEC["report"], "w") as file:
        json.dump({"calls": CALLS, "collected": session.testscollected, "failed": session.testsfailed}, file)
"""


def suite(tmp_path, module, names, door, only=(), within=(), deselected=()):
    """Run the tests of `module` with `names` of the door; how many ran, how many failed, and what was printed."""
    library(module.partition(".")[0])
    spec = importlib.util.find_spec(module.rpartition(".")[0])
    found = spec and Path(next(iter(spec.submodule_search_locations))) / f"{module.rpartition('.')[2]}.py"
    if not found or not found.is_file():
        if os.environ.get("XENT_PARITY") == "required":
            pytest.fail(f"{module} is not installed")
        pytest.skip(f"waits for {module}, the library's own tests, which this installation lacks")
    (tmp_path / "xent_suite.py").write_text(PLUGIN, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    report = tmp_path / "report.json"
    call = {
        "names": list(names),
        "door": door,
        "only": list(only),
        "within": list(within),
        "deselected": list(deselected),
        "report": str(report),
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "SCIPY_ARRAY_API"))}
    environment |= {"XENT_SUITE": json.dumps(call), "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    options = ["-q", "--tb=short", "-c", "pytest.ini", "--rootdir", ".", "-p", "xent_suite", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(found)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    printed = (done.stdout + done.stderr)[-4000:]
    assert report.is_file(), printed
    return done.returncode, json.loads(report.read_text()), printed


SCIPY = "xent.compat.scipy"
SUITES = {
    "scipy-logsumexp": {
        "module": "scipy.special.tests.test_logsumexp",
        "names": ["logsumexp", "softmax", "log_softmax"],
        "door": SCIPY,
        # Other array libraries and long doubles: run with NumPy alone, SciPy's file has no such test.
        "deselected": {"test_wrap_radians": "a private helper of SciPy's, none of the three functions"},
        "least": 400,
    },
    "scipy-entropy": {
        "module": "scipy.stats.tests.test_entropy",
        "names": ["entropy"],
        "door": SCIPY,
        "only": ["TestEntropy"],
        "within": ["scipy.stats"],
        # Their classes are in test_parity_scipy.
        "deselected": {
            "test_entropy_raises_value_error": "compares the wording of a message",
            "test_entropy_shape_mismatch": "compares the wording of a message",
            "test_input_validation": "compares the wording of a message",
        },
        "least": 12,
    },
    "scipy-divergences": {
        "module": "scipy.special.tests.test_basic",
        "names": ["rel_entr", "kl_div"],
        "door": SCIPY,
        "only": ["test_kl_div", "test_rel_entr"],
        "within": ["scipy.special"],
        "deselected": {},
        "least": 4,
    },
    "sklearn-log_loss": {
        "module": "sklearn.metrics.tests.test_classification",
        "names": ["log_loss"],
        "door": "xent.compat.sklearn",
        "only": ["::test_log_loss"],
        # Values, categories and classes of these are in test_parity_sklearn.
        "deselected": {
            "test_log_loss": "compares the wording of messages",
            "test_log_loss_not_probabilities_warning": "compares the wording of a warning",
            "test_log_loss_warnings": "compares the wording of a warning",
            "test_log_loss_y_pred_deprecation": "compares the wording of a warning",
        },
        "least": 7,
    },
}


@pytest.mark.parametrize("name", SUITES)
def test_the_librarys_own_tests_pass(name, tmp_path):
    chosen = dict(SUITES[name])
    least = chosen.pop("least")
    status, report, printed = suite(tmp_path, **chosen)
    assert status == 0, printed
    assert report["failed"] == 0, printed
    assert report["collected"] >= least, printed
    assert min(report["calls"].values()) > 0, report


def test_a_wrong_door_fails(tmp_path):
    """What runs is the door: one whose values are wrong does not get through."""
    (tmp_path / "wrong_door.py").write_text(
        "from xent.compat import scipy\n"
        "softmax, log_softmax = scipy.softmax, scipy.log_softmax\n"
        "def logsumexp(*args, **kwargs):\n"
        "    result = scipy.logsumexp(*args, **kwargs)\n"
        "    return (result[0] + 1, result[1]) if kwargs.get('return_sign') else result + 1\n",
        encoding="utf-8",
    )
    chosen = {k: v for k, v in SUITES["scipy-logsumexp"].items() if k != "least"} | {"door": "wrong_door"}
    status, report, printed = suite(tmp_path, **chosen)
    assert status == 1, printed
    assert report["failed"] >= 40, printed
