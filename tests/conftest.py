import numpy as np
import pytest

import xent

# A package of somebody else's: built and installed elsewhere before it is looked at (make embed).
collect_ignore = ["embed/cython_package"]

# A file's tests stay in one process (make test): what keeps one busy for minutes must not be left for the end.
FIRST = "test_embed.py"


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name != FIRST)


@pytest.fixture(autouse=True)
def _leave_settings_alone():
    """A test may choose threads and an instruction set; the next one starts from what it would have had."""
    isa = xent.info()["isa"]
    yield
    xent.set_isa(isa)
    xent.set_num_threads(0)


@pytest.fixture
def rng(request):
    # Seeded by the test's own name, so that a failure does not depend on which tests ran before it.
    return np.random.default_rng(list(request.node.nodeid.encode()))


@pytest.fixture(params=xent.info()["isas"])
def isa(request):
    xent.set_isa(request.param)
    return request.param
