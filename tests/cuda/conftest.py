import host_cuda
import pytest


@pytest.fixture(scope="session")
def cuda_build():
    """The kernels and their C interface, compiled for this processor."""
    return host_cuda.build("host")
