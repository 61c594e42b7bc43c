"""One direction of flow: no circle among the files of kernels/ and cuda/, by what they include and what they call."""

import re
import shutil
import subprocess
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import xent

ROOT = Path(__file__).parents[1]


def check(graph):
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def included(path):
    """What a file includes, of this repository: beside it, or from the root of either library."""
    for name in re.findall(r'^ *#include ["<]([^">]+)[">]', path.read_text(encoding="utf-8"), flags=re.MULTILINE):
        for start in (path.parent, ROOT / "kernels", ROOT / "kernels" / "include", ROOT / "cuda"):
            if (start / name).exists():
                yield str((start / name).resolve().relative_to(ROOT))
                break


def test_no_file_includes_one_that_includes_it():
    if not (ROOT / "cuda").is_dir():
        pytest.skip("there is no cuda/ beside an installed package")
    files = [
        p
        for folder in ("kernels", "cuda")
        for end in ("c", "cpp", "cu", "cuh", "h", "def")
        for p in (ROOT / folder).rglob(f"*.{end}")
        if "build" not in p.parts
    ]
    graph = {str(p.relative_to(ROOT)): set(included(p)) for p in files}
    assert len(graph) > 60
    assert graph["kernels/run.c"]
    check(graph)


def test_no_file_calls_one_that_calls_it():
    """The members of libxent.a: who defines the symbols that each wants."""
    if not shutil.which("nm"):
        pytest.skip("no nm, which lists an archive's symbols")
    archive = Path(xent.get_library_dir(), "libxent.a")
    listed = subprocess.run(["nm", "-A", "-g", archive], capture_output=True, text=True, check=True).stdout
    symbols = re.findall(r"([\w.]+):(?:[0-9a-f]{16}| {16}) ([A-Za-z]) (\w+)$", listed, flags=re.MULTILINE)
    where = {name: member for member, kind, name in symbols if kind not in "Uw"}
    graph = {member: set() for member, _, _ in symbols}
    for member, kind, name in symbols:
        if kind == "U" and where.get(name, member) != member:
            graph[member].add(where[name])
    assert graph["run.o"]
    assert graph["states.o"]
    assert not graph["ops.o"]
    check(graph)
