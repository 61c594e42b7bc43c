import fcntl
import os

import host_cuda
import pytest


@pytest.fixture(scope="session")
def cuda_build(tmp_path_factory):
    """The kernels and their C interface, compiled for this processor once a session, whatever processes share it."""
    own = tmp_path_factory.getbasetemp()
    base = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with open(base / "cuda.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Whoever works on the kernels keeps the objects from run to run.
        return host_cuda.build(os.environ.get("XENT_CUDA_HOST_BUILD") or base / "cuda", "host")
