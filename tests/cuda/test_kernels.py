"""The CUDA kernels, every lane of them run on this processor: what test_accuracy.py, test_edges.py, test_layouts.py and
test_losses.py ask of the CPU, asked of every regime.

This shows the algebra, the tails, the synchronisation and the C ABI. It does not show what a device rounds by itself (its
approximations of exp2 and of the reciprocal), nor how fast it is.
"""

import cases
import host_cuda
import numpy as np
import oracle
import pytest

import xent

pytestmark = pytest.mark.skipif(host_cuda.compiler() is None, reason="needs a C++ compiler")

SINGLE = [c for c in cases.ROW_CASES if c.dtype == "f4"]
by_id = {"ids": lambda c: c.id}


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    return host_cuda.build(tmp_path_factory.mktemp("cuda"), "host")


@pytest.fixture
def cuda(built):
    library = host_cuda.Library(built / "libxent_cuda_host.so")
    library.set_device()
    return library


def hold(case, results, refs, what):
    """Outputs within their budgets, of the right dtype, and every element written."""
    for output, (got, ref, allowed) in enumerate(zip(cases.as_tuple(results), refs, case.budgets, strict=True)):
        assert got.dtype == case.type
        measured = oracle.worst(got, ref, cases.subnormal_steps(case.name, case.type))
        assert measured <= allowed, f"{case.id} {what} output {output}: {measured:.3g} ULP > {allowed}"
