"""What a type checker makes of calls as users write them: `make lint` checks this file; nobody runs it."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import xent
from xent import losses

Floats = NDArray[np.floating[Any]]


def training_step(logits: NDArray[np.float32], labels: NDArray[np.int64], with_gradient: bool) -> None:
    assert_type(losses.cross_entropy(logits, labels, return_grad=True), tuple[Any, Floats])
    assert_type(losses.cross_entropy(logits, labels, return_grad=True, return_hess=True), tuple[Any, Floats, Floats])
    assert_type(losses.cross_entropy(logits, labels, return_hess=True, reduction="sum"), tuple[Any, Floats])
    assert_type(losses.distillation(logits, logits, labels, temperature=2.0, return_grad=True), tuple[Any, Floats])
    loss: float = losses.cross_entropy(logits, labels, label_smoothing=0.1, ignore_index=-100)
    per_class: Floats = losses.kl_div(logits, logits, target_kind="logits", reduction="per_class")
    # Which of its calls it is shows when it runs.
    anything: Any = losses.js_div(logits, logits, return_grad=with_gradient)
    print(loss, per_class, anything, xent.logsumexp(logits, axis=-1, keepdims=True))


def refused(logits: NDArray[np.float32], with_gradient: bool) -> None:
    losses.kl_div(logits, logits, return_grad=True, reduction="terms")  # type: ignore[call-overload]
    losses.kl_div(logits, logits, return_grad=with_gradient, reduction="per_class")  # type: ignore[call-overload]
    losses.kl_div(logits, logits, reduction="batchmean")  # type: ignore[call-overload]
    losses.cross_entropy(logits)  # type: ignore[call-overload]
