"""The other libraries' ways to what bench/gpu.py times, on PyTorch tensors; and the reference in float64.

Each peer is a function from an operation and its operands to a call without arguments, or to None where it has none.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from typing import Any

Call = Callable[[], Any]


def _forward(torch: Any, operation: str) -> Callable[..., Any]:
    """As a user of PyTorch writes it; gradients by autograd."""
    F = torch.nn.functional
    return {
        "logsumexp": lambda x: torch.logsumexp(x, -1),
        "log_softmax": lambda x: F.log_softmax(x, -1),
        "softmax": lambda x: F.softmax(x, -1),
        "ce": lambda x, y: F.cross_entropy(x, y, reduction="none"),
        "ce+grad": lambda x, y: F.cross_entropy(x, y, reduction="sum"),
        "kl": lambda x, t: F.kl_div(F.log_softmax(x, -1), t, reduction="none").sum(-1),
        "kl+grad": lambda x, t: F.kl_div(F.log_softmax(x, -1), t, reduction="sum"),
    }[operation]


def _called(torch: Any, forward: Callable[..., Any], operation: str, operands: tuple[Any, ...]) -> Call:
    if not operation.endswith("+grad"):

        def value() -> Any:
            with torch.no_grad():
                return forward(*operands)

        return value
    x = operands[0].detach().requires_grad_()

    def gradient() -> Any:
        loss = forward(x, *operands[1:])
        return loss, torch.autograd.grad(loss, x)[0]

    return gradient


def eager(torch: Any, operation: str, operands: tuple[Any, ...]) -> Call | None:
    return _called(torch, _forward(torch, operation), operation, operands)


def compiled(torch: Any, operation: str, operands: tuple[Any, ...]) -> Call | None:
    torch._dynamo.reset()  # or the next shape would be compiled for any
    forward = torch.compile(_forward(torch, operation), dynamic=False)
    return _called(torch, forward, operation, operands)


def liger(torch: Any, operation: str, operands: tuple[Any, ...]) -> Call | None:
    """Liger-Kernel. Its cross-entropy writes the gradient over the logits, which every call here must find again, so it
    gets a copy that is its own; the logits change from call to call, which does not change its time."""
    if operation == "ce+grad":
        function = importlib.import_module("liger_kernel.ops.cross_entropy").LigerCrossEntropyFunction
        x = operands[0].clone().requires_grad_()

        def run() -> Any:
            found = function.apply(x, operands[1], None, -100, 0.0, 0.0, "sum")
            loss = found[0] if isinstance(found, tuple) else found
            return loss, torch.autograd.grad(loss, x)[0]

        return run
    if operation == "kl":
        function = importlib.import_module("liger_kernel.ops.kl_div").LigerKLDivLossFunction
        log_softmax = torch.nn.functional.log_softmax

        def divergence() -> Any:
            with torch.no_grad():
                return function.apply(log_softmax(operands[0], -1), operands[1], "sum", False, 0.0)

        return divergence
    if operation == "softmax":
        function = importlib.import_module("liger_kernel.ops.softmax").LigerSoftmaxFunction
        return lambda: function.apply(operands[0])
    return None


def quack(torch: Any, operation: str, operands: tuple[Any, ...]) -> Call | None:
    """QuACK."""
    if operation == "softmax":
        softmax = importlib.import_module("quack.softmax").softmax
        return lambda: softmax(operands[0])
    if operation in ("ce", "ce+grad"):
        cross_entropy = importlib.import_module("quack.cross_entropy").cross_entropy
        if operation == "ce":
            return lambda: cross_entropy(operands[0], operands[1], reduction="none")
        return _called(torch, lambda x, y: cross_entropy(x, y, reduction="sum"), operation, operands)
    return None


PEERS = {"torch": eager, "torch.compile": compiled, "liger": liger, "quack": quack}
MODULES = {"torch": "torch", "torch.compile": "triton", "liger": "liger_kernel", "quack": "quack"}


def installed() -> list[str]:
    found = []
    for peer, module in MODULES.items():
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
            found.append(peer)
    return found


def reference(torch: Any, operation: str, operands: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    """(result, scale) in float64, one an output: errors are counted in eps of the scale, the sum of the absolute values
    of the terms that are finally added."""
    x = operands[0].double()
    m = x.max(-1, keepdim=True).values
    rest = (x - m).exp().sum(-1, keepdim=True)
    lse = m + rest.log()
    log_p = (x - m) - rest.log()
    p = log_p.exp()
    whole = (m.abs() + rest.log()).squeeze(-1)
    if operation == "logsumexp":
        return [(lse.squeeze(-1), whole)]
    if operation == "log_softmax":
        return [(log_p, (x - m).abs() + rest.log())]
    if operation == "softmax":
        return [(p, p)]
    if operation.startswith("ce"):
        labels = operands[1].unsqueeze(-1)
        value = -log_p.gather(-1, labels).squeeze(-1)
        t = torch.zeros_like(p).scatter_(-1, labels, 1.0)
        scale = (rest.log() + (m - x.gather(-1, labels))).squeeze(-1)
    else:
        t = operands[1].double()
        terms = torch.where(t > 0, t * (t.log() - log_p), 0.0)
        scale = terms.abs().sum(-1)
        # A target that sums to one but for its rounding is taken to: T KL(t / T, p), without T log T.
        total = t.sum(-1)
        rounding = torch.finfo(operands[1].dtype).eps * (4 + t.shape[-1] ** 0.5)
        value = terms.sum(-1) - torch.where((total - 1).abs() <= rounding, total * total.log(), 0.0)
    return [(value, scale), (p * t.sum(-1, keepdim=True) - t, p + t.abs())][: 1 + operation.endswith("+grad")]
