"""Which instruction set runs, and who may choose it."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xent

KNOWN = ("baseline", "avx2", "avx512", "neon")


def run(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env={**os.environ, **env}, check=False
    )


def test_info():
    info = xent.info()
    assert info["version"] == xent.__version__
    assert info["isa"] in info["isas"]
    assert "baseline" in info["isas"]
    assert set(info["isas"]) <= set(KNOWN)
    assert len(set(info["isas"])) == len(info["isas"])
    assert info["threads"] == xent.get_num_threads()
    assert info["openmp"] in (True, False)


def test_set_isa(rng):
    x = 3 * rng.standard_normal((20, 100))
    answers = []
    for name in xent.info()["isas"]:
        xent.set_isa(name)
        assert xent.info()["isa"] == name
        answers.append(xent.logsumexp(x))
    for answer in answers:
        np.testing.assert_allclose(answer, answers[0], rtol=4e-16)


def test_set_isa_rejects():
    before = xent.info()["isa"]
    missing = next(n for n in KNOWN if n not in xent.info()["isas"])
    for wrong in ("sse9", "", "AVX 2", missing, "baseline\0", "baseline\0x", "\0", "\ud800"):
        with pytest.raises((ValueError, RuntimeError), match=r"isa|ISA|instruction"):
            xent.set_isa(wrong)
        assert xent.info()["isa"] == before
    with pytest.raises(TypeError):
        xent.set_isa(3)


def test_environment_chooses():
    for name in xent.info()["isas"]:
        done = run("import xent; print(xent.info()['isa'], xent.logsumexp([0, -50]))", XENT_ISA=name)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [name, "1.9287498479639178e-22"]


def test_environment_mistakes_are_said():
    """Never another instruction set than the one asked for, and set_isa mends it."""
    missing = next(n for n in KNOWN if n not in xent.info()["isas"])
    for wrong in ("sse9", missing):
        done = run("import xent; print(xent.logsumexp([0, 1]))", XENT_ISA=wrong)
        assert done.returncode != 0
        assert "XENT_ISA" in done.stderr
        assert not done.stdout
        done = run("import xent; xent.set_isa('baseline'); print(xent.logsumexp([0, -50]))", XENT_ISA=wrong)
        assert done.stdout.split() == ["1.9287498479639178e-22"], done.stderr


# What the code of each is compiled for: what info() names must not need more, nor leave out what would run.
NEEDS = {
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma", "f16c"},
    "avx2": {"avx2", "fma", "f16c"},
}


def test_every_isa_of_this_processor_is_there():
    """A test that loops over info() misses none: all that the processor has, the best first."""
    machine = platform.machine()
    expected = ["baseline"]
    if machine in ("x86_64", "AMD64"):
        cpuinfo = Path("/proc/cpuinfo")
        if not cpuinfo.exists():
            pytest.skip("what the processor has is read from /proc/cpuinfo, which this system lacks")
        line = next(line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("flags"))
        flags = set(line.split(":", 1)[1].split())
        expected = [*(name for name, needs in NEEDS.items() if needs <= flags), "baseline"]
    elif machine in ("aarch64", "arm64"):
        expected = ["neon", "baseline"]
    assert xent.info()["isas"] == expected
    # XENT_ISA may be set for the tests; without it the first is what runs.
    done = run("import xent; print(xent.info()['isa'])", XENT_ISA="")
    assert done.stdout.split() == [expected[0]], done.stderr
