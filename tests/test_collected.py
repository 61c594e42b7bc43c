"""`make test` and `make test-all` run every test between them, and none of them twice."""

import ast
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import xent
import xent.cuda

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"


def commands(target):
    """The arguments of the pytest commands that a make target runs in this directory, and their environment."""
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS")}
    said = subprocess.run(
        ["make", "-n", target, "PYTEST_ARGS="], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    for line in said.stdout.splitlines():
        if " -m pytest" in line and not line.startswith("cd "):
            words = shlex.split(line)
            at = words.index("pytest")
            yield dict(word.split("=", 1) for word in words[:at] if "=" in word), words[at + 1 :]


def collect(environment, arguments):
    """The ids that such a command runs, and how many tests it knows, those that are deselected among them."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, "-n0", "--collect-only", "-q"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    ids = [line for line in done.stdout.splitlines() if "::" in line and not line.startswith("SKIPPED")]
    chosen, known = re.search(r"(\d+)(?:/(\d+))? tests collected", done.stdout).groups()
    assert len(ids) == len(set(ids)) == int(chosen)
    return set(ids), int(known or chosen)


def written():
    """(file, function) of each test function of the tree, whatever its file is called."""
    for file in TESTS.rglob("*.py"):
        name = str(file.relative_to(ROOT))
        if "cython_package" not in name and (xent.cuda.is_available() or file.name != "test_cuda_device.py"):
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                    yield name, node.name


def test_every_test_has_its_place():
    if shutil.which("make") is None or not (ROOT / "Makefile").is_file():
        pytest.skip("needs make, and the Makefile that says what is run")
    missing = [name for name in ("optax", "scipy", "sklearn", "torch") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"waits for {', '.join(missing)}, which the extra xent[parity] brings")
    (quick,) = commands("test")
    slow, embed = commands("test-all")
    in_quick, _ = collect(*quick)
    in_slow, known = collect(*slow)
    in_embed, _ = collect(*embed)
    # Each value of each parameter, too; tests/embed is left to `make embed`, which has one file more of its own to run
    # against what it builds.
    assert not in_quick & in_slow
    assert known == len(in_quick) + len(in_slow)
    assert {name.split("::")[0] for name in in_embed & (in_quick | in_slow)} <= {"tests/test_abi.py"}
    run = {tuple(name.split("[")[0].split("::")[:2]) for name in in_quick | in_slow | in_embed}
    assert sorted(set(written()) - run) == []
