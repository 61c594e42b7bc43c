import os

import host_cuda
import pytest


@pytest.fixture(scope="session")
def cuda_build(tmp_path_factory):
    """The kernels and their C interface, compiled for this processor once a session."""
    # Whoever works on the kernels keeps the objects from run to run.
    return host_cuda.build(os.environ.get("XENT_CUDA_HOST_BUILD") or tmp_path_factory.mktemp("cuda"), "host")
