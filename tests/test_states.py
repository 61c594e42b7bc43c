"""Rows that come in pieces, with weights that the dtype of the arithmetic does not hold."""

import itertools

import capi
import cases
import numpy as np
import pytest

from xent import losses


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e-50, 1.0, 1e50])
@pytest.mark.parametrize("operation", ["cross_entropy", "cross_entropy_with_labels", "binary_cross_entropy"])
def test_class_weights_of_any_size(operation, size, dtype, rng, isa):
    rows, classes = 5, 90
    x = rng.standard_normal((rows, classes)).astype(dtype)
    target = cases.second(cases.SECOND[operation], "random", x, rng)
    weight = size * (0.5 + rng.random(classes))
    weight[40:] *= 1e-20  # a piece may have weights that are far from another's
    loss = losses.binary_cross_entropy if operation.startswith("binary") else losses.cross_entropy
    wide = target if target.dtype.kind == "i" else target.astype(np.float64)
    truth = loss(x.astype(np.float64), wide, weight=weight, reduction="none")
    for cuts in ([0, 90], [0, 30, 90], [0, 40, 41, 90]):
        states, more = (capi.States(operation, rows, dtype) for _ in range(2))
        for number, (a, b) in enumerate(itertools.pairwise(cuts)):
            piece = target if target.ndim == 1 else np.ascontiguousarray(target[:, a:b])
            into = more if number == 1 else states
            assert into.update(a, np.ascontiguousarray(x[:, a:b]), piece, class_weight=weight[a:b]) == 0
        assert states.merge(more) == 0
        value = states.finish(np.float64)
        np.testing.assert_allclose(value, truth, rtol=60 * np.finfo(dtype).eps, atol=0)
