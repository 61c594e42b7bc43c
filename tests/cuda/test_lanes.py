"""The host's lanes, which every other test here stands on: they add up, and what a device leaves undefined aborts."""

import subprocess

import host_cuda
import pytest

pytestmark = pytest.mark.skipif(host_cuda.compiler() is None, reason="needs a C++ compiler")


@pytest.fixture(scope="module")
def programs():
    return host_cuda.build("host-selftest")


def run(program, *arguments):
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=100)


def test_rows_votes_and_clusters_add_up_in_any_order(programs):
    done = run(programs / "selftest")
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("collective", ["lanes wait", "lane 0 to 4: sync", "lane 5: shfl_xor(1) of 4", "lane 6 to 63: sync"]),
        ("distance", ["different collectives", "lane 0: shfl_xor(1)", "lane 3: shfl_xor(2)"]),
        ("size", ["different collectives", "of 8 bytes among 000000ff", "of 4 bytes among 000000ff"]),
        ("line", ["different collectives", "lane 0: sync", "lane 32: sync"]),
        ("far", ["a shuffle beyond its lanes", "shfl_xor(8)"]),
        ("returned", ["lanes wait for others", "lane 0 to 6: sync", "lane 7: returned", "lane 8 to 31: sync"]),
        ("cluster", ["lanes wait", "block 0, lane 0 to 31: wait_cluster", "block 1, lane 0 to 31: returned"]),
        ("gone", ["shared memory of a block that is no longer there", "block 0, lane 0: shared_of(1)"]),
        ("leaves", ["a lane has arrived and does not wait", "block 1, lane 31: returned"]),
        ("shared", ["a block has 49152 bytes of shared memory"]),
    ],
)
def test_what_a_device_leaves_undefined_aborts(what, said, programs):
    done = run(programs / "selftest", what)
    assert done.returncode == -6, done
    for text in said:
        assert text in done.stderr


def test_a_missing_sync_shows_in_some_order(programs):
    done = run(programs / "selftest", "race")
    assert done.returncode == 1
    assert done.stdout.startswith("order ")
