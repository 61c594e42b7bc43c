"""A small part of the kernels with a thread a lane, under ThreadSanitizer and AddressSanitizer.

ThreadSanitizer sees shared memory that is read with no sync since it was written, which fibers show by results alone.
"""

import subprocess

import host_cuda
import pytest

pytestmark = pytest.mark.skipif(host_cuda.compiler() is None, reason="needs a C++ compiler")

FLAGS = {"thread": "-fsanitize=thread", "address": "-fsanitize=address,undefined"}


def missing(flag, directory):
    """A compiler may come without the sanitizers' libraries."""
    source, program = directory / "nothing.cpp", directory / "nothing"
    source.write_text("int main() { return 0; }\n")
    done = subprocess.run([host_cuda.compiler(), flag, source, "-o", program], capture_output=True, check=False)
    return done.returncode != 0 or subprocess.run([program], capture_output=True, check=False).returncode != 0


@pytest.fixture(scope="module", params=FLAGS)
def programs(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    if missing(FLAGS[request.param], directory):
        pytest.skip(f"needs a C++ compiler whose programs run with {FLAGS[request.param]}")
    return request.param, host_cuda.build(f"host-{request.param}")


def test_lanes(programs):
    which, directory = programs
    done = subprocess.run([directory / f"selftest-{which}"], capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stdout + done.stderr


def test_a_missing_sync_is_seen(programs):
    which, directory = programs
    if which == "thread":
        done = subprocess.run([directory / "selftest-thread", "race"], capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "data race" in done.stderr


def test_kernels(programs):
    which, directory = programs
    done = subprocess.run([directory / f"sanitized-{which}"], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-5000:]
    assert done.stdout.endswith("ok\n")
