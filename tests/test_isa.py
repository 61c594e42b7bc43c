"""Which instruction set runs, and who may choose it."""

import os
import subprocess
import sys

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
    for wrong in ("sse9", "", "AVX 2", missing):
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


def test_every_isa_is_tested_here():
    """What the processor and the build share is what set_isa takes: a test that loops over info() misses none."""
    for name in KNOWN:
        if name not in xent.info()["isas"]:
            with pytest.raises((ValueError, RuntimeError)):
                xent.set_isa(name)
