import gc
from pathlib import Path

import numpy as np
import pytest

import xent

# A package of somebody else's: built and installed elsewhere before it is looked at (make embed).
collect_ignore = ["embed/cython_package"]

# What `make test-all` runs and `make test` leaves out: other compilers, emulation, sanitizers, the CUDA kernels on the
# processor, what needs other libraries. A test elsewhere that takes seconds says so itself: @pytest.mark.slow.
SLOW = ("cuda", "embed", "parity", "test_embed.py", "test_cuda_build.py", "test_cuda_device.py", "test_collected.py")

# A file's tests stay in one process (make test): what keeps one busy for minutes must not be left for the end.
FIRST = (
    "test_embed.py",
    "test_cuda_kernels.py",
    "test_ptx_kernels.py",
    "test_accuracy.py",
    "test_cli_process.py",
    "test_threads.py",
    "test_cuda.py",
)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.path.relative_to(here).parts[0] in SLOW:
            item.add_marker("slow")
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


# pytest itself counts what -m leaves out, but for the processes of xdist, which do not pass it on.
LEFT = pytest.StashKey()


def pytest_deselected(items):
    config = items[0].config
    config.stash[LEFT] = config.stash.get(LEFT, 0) + len(items)
    getattr(config, "workeroutput", {})["left"] = config.stash[LEFT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    node.config.stash[LEFT] = getattr(node, "workeroutput", {}).get("left", 0)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the last line but one
def pytest_terminal_summary(terminalreporter, config):
    result = yield
    if left := config.stash.get(LEFT, 0):
        chosen = config.getoption("markexpr")
        where = ", left to make test-all" if chosen == "not slow" else ""
        terminalreporter.write_line(f"{left} tests deselected by -m {chosen!r}{where}")
    return result


def pytest_collection_finish():
    # Modules and tests stay: whoever looks for garbage, a hundred times in test_cuda.py alone, need not look there.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _leave_settings_alone():
    """A test may choose threads and an instruction set; the next one starts from what it would have had."""
    isa = xent.info()["isa"]
    yield
    xent.set_isa(isa)
    xent.set_num_threads(0)


@pytest.fixture
def rng(request):
    # Seeded by the test's own name, so that a failure does not depend on which tests ran before it; not by the
    # instruction set's, so that the oracle is asked once for all of them.
    name = request.node.nodeid
    if "isa" in request.fixturenames:
        name = name.replace(str(request.getfixturevalue("isa")), "", 1)
    return np.random.default_rng(list(name.encode()))


@pytest.fixture(params=xent.info()["isas"])
def isa(request):
    xent.set_isa(request.param)
    return request.param
