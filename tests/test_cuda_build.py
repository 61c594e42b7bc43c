"""How the CUDA module comes to be built, or not; what the bench on a GPU makes of its numbers. Neither needs one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import gpu_cases, gpu_check

ROOT = Path(__file__).parents[1]

# setup.py as far as its own decisions go: what it would build, and what it needs for that.
READ = """
import runpy, sys, types
import setuptools
build = types.ModuleType("Cython.Build")
build.cythonize = lambda modules, **options: modules
sys.modules |= {"Cython": types.ModuleType("Cython"), "Cython.Build": build}
setuptools.setup = lambda **given: print([e.name for e in given["ext_modules"]], given["setup_requires"])
found = runpy.run_path("setup.py")
"""
NVCC = """#!/bin/sh
echo '#$ TOP=/opt/c u d a' >&2
echo '#$ INCLUDES="-I/opt/c u d a/include"  ' >&2
echo '#$ LIBRARIES=  "-L/opt/c u d a/lib/stubs" "-L/opt/c u d a/lib"' >&2
"""


def setup(code="", **environment):
    pytest.importorskip("setuptools", reason="setuptools is not installed")
    if not (ROOT / "setup.py").is_file():
        pytest.skip("setup.py decides what is built from source, and there is none beside an installed package")
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("XENT_", "CUDA_"))}
    plain["PATH"] = os.pathsep.join(p for p in plain["PATH"].split(os.pathsep) if not Path(p, "nvcc").exists())
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READ + code],
        cwd=ROOT,
        env=plain | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def home(tmp_path):
    """A toolkit that is there in name."""
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text(NVCC)
    nvcc.chmod(0o755)
    return str(tmp_path)


@pytest.mark.parametrize("wanted", [{}, {"XENT_CUDA": "0"}])
def test_not_unless_asked(home, wanted):
    done = setup(CUDA_HOME=home, **wanted)
    assert done.stdout == "['xent._core', 'xent._ufuncs'] []\n", done.stderr


@pytest.mark.parametrize("wanted", ["1", "auto"])
def test_where_there_is_an_nvcc(home, wanted):
    built = "['xent._core', 'xent._ufuncs', 'xent._cuda'] ['pybind11>=2.13']\n"
    assert setup(CUDA_HOME=home, XENT_CUDA=wanted).stdout == built
    on_path = os.pathsep.join([f"{home}/bin", os.environ["PATH"]])
    assert setup(PATH=on_path, XENT_CUDA=wanted).stdout == built


def test_without_an_nvcc():
    done = setup(XENT_CUDA="auto")
    line, result = done.stdout.splitlines()
    assert line == "xent: no nvcc in CUDA_HOME/bin or on the PATH, so the CUDA module is left out"
    assert result == "['xent._core', 'xent._ufuncs'] []"
    done = setup(XENT_CUDA="1", CUDA_HOME="/nowhere")
    assert done.returncode == 1
    assert done.stderr == "XENT_CUDA=1, and there is no nvcc in CUDA_HOME/bin or on the PATH\n"
    assert setup(XENT_CUDA="yes").stderr == "XENT_CUDA=yes is neither 0, 1 nor auto\n"


def test_where_the_toolkit_is(home):
    done = setup("print(found['toolkit'](found['NVCC']))", CUDA_HOME=home, XENT_CUDA="1")
    assert done.stdout.splitlines()[-1] == "(['/opt/c u d a/include'], ['/opt/c u d a/lib/stubs', '/opt/c u d a/lib'])"


def test_architectures():
    for given, wanted in (("", ""), ("90", "90"), ("80,90 100", "80 90 100")):
        assert setup("print(found['wanted_archs']())", XENT_CUDA_ARCHS=given).stdout.splitlines()[-1] == wanted
    native = setup("print(found['wanted_archs']())", XENT_CUDA_ARCHS="native")
    if native.returncode:
        assert native.stderr.startswith("XENT_CUDA_ARCHS=native, and ")
    else:
        assert all(int(arch) >= 50 for arch in native.stdout.splitlines()[-1].split())


# ---- the bench -----------------------------------------------------------------------------------------------------


def test_cases_are_different():
    labels = [case.label for case in gpu_cases.CASES]
    assert len(labels) == len(set(labels))
    for case in gpu_cases.CASES:
        assert case.sets * case.bytes >= gpu_cases.WORKING_SET


@pytest.mark.parametrize(
    ("case", "nbytes"),
    [
        (gpu_cases.Case("softmax", 10, "float32", 7), 7 * (10 + 10) * 4),
        (gpu_cases.Case("logsumexp", 10, "bfloat16", 7), 7 * (10 + 1) * 2),
        (gpu_cases.Case("ce+grad", 10, "float32", 7), 7 * ((10 + 10 + 1) * 4 + 8)),
        (gpu_cases.Case("kl", 10, "float64", 7), 7 * (10 + 10 + 1) * 8),
    ],
)
def test_bytes(case, nbytes):
    assert case.bytes == nbytes


@pytest.mark.parametrize(
    ("operation", "classes", "dtype", "rows", "aim"),
    [
        ("softmax", 32, "float32", 0, 0.90),
        ("softmax", 33, "float32", 0, 0.95),
        ("ce+grad", 1025, "bfloat16", 0, 0.98),
        ("log_softmax", 262_144, "float16", 0, 1.00),
        ("softmax", 262_145, "float32", 0, None),
        ("kl", 4096, "float32", 0, 1.02),
        ("ce", 4095, "float32", 0, None),
        ("softmax", 128_256, "float32", 64, 0.85),
        ("softmax", 4096, "float64", 0, None),
    ],
)
def test_targets(operation, classes, dtype, rows, aim):
    assert gpu_cases.target(gpu_cases.Case(operation, classes, dtype, rows)) == aim


def row(**more):
    made = {"case": "ce 9x4096 float32", "operation": "ce", "rows": 9, "classes": 4096, "dtype": "float32"}
    made |= {"us": 12.345, "GB/s": 3456.7, "x copy": 1.03, "target": 1.02, "error": 0.5, "peers": {}}
    return made | more


def test_verdicts():
    assert gpu_cases.verdicts([row(peers={"torch": 2.0, "torch.compile": 0.97})]) == []
    missed = gpu_cases.verdicts([row(peers={"torch": 1.99, "liger": 0.96}, **{"x copy": 1.01})])
    assert missed == [
        "ce 9x4096 float32: 1.01 of copy, target 1.02",
        "ce 9x4096 float32: 1.99x torch, target 2.00x",
        "ce 9x4096 float32: 0.96x liger, target 0.97x",
    ]
    even = row(case="ce 9x50256 float32", classes=50_256)
    odd = row(case="ce 9x50257 float32", classes=50_257, target=None)
    assert gpu_cases.verdicts([even, odd | {"x copy": 0.93}]) == []
    assert gpu_cases.verdicts([even, odd | {"x copy": 0.92}]) == [
        "ce 9x50257 float32: 0.92 of copy, 1.03 with 50256 classes"
    ]


def test_table():
    rows = [row(peers={"torch": 2.5}), row(target=None)]
    head, first, second = gpu_cases.table(json.loads(json.dumps(rows)), ["torch", "liger"]).splitlines()
    assert " ".join(head.split()) == "operation rows classes dtype us GB/s x copy target error, eps x torch x liger"
    assert first.split() == ["ce", "9", "4096", "float32", "12.3", "3457", "1.03", "1.02", "0.5", "2.50"]
    assert second.split() == ["ce", "9", "4096", "float32", "12.3", "3457", "1.03", "0.5"]
    assert len(head) == len(first) == len(second)


SAYS = {
    "clean": ("ERROR SUMMARY: 0 errors\n========= RACECHECK SUMMARY: 0 hazards displayed", 0, True, "clean"),
    "an error": ("Invalid __global__ write\n========= ERROR SUMMARY: 3 errors", 9, False, "ERROR SUMMARY: 3 errors"),
    "no device": ("Error: Device not supported", 1, True, "does not run here (Error: Device not supported)"),
    "nothing": ("", 1, True, "does not run here (it said nothing)"),
}


@pytest.mark.parametrize("what", SAYS)
def test_what_the_sanitizer_says(what, tmp_path, monkeypatch, capsys):
    says, status, good, verdict = SAYS[what]
    program = tmp_path / "compute-sanitizer"
    program.write_text(f"#!/bin/sh\nprintf '========= {says}\\n'\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert gpu_check.sanitizer(30.0) is good
    assert f"compute-sanitizer memcheck: {verdict}" in capsys.readouterr().out


def test_a_sanitizer_that_is_slow_or_missing(tmp_path, monkeypatch, capsys):
    program = tmp_path / "compute-sanitizer"
    program.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert gpu_check.sanitizer(0.2)
    assert "memcheck: not done after 0 s" in capsys.readouterr().out
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert gpu_check.sanitizer(0.2)
    assert "not on the PATH" in capsys.readouterr().out
