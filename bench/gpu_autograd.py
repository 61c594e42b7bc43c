"""xent's losses under PyTorch's autograd: a torch.autograd.Function, as thin as can be. An example, no part of xent.

    loss = cross_entropy(model(x), labels)
    loss.backward()

The gradient is computed with the loss, in one pass over the logits, and kept instead of them: what backward has left to
do is to multiply by the gradient that comes in, which for a loss that is the last thing computed is 1.
"""

from __future__ import annotations

import sys
from typing import Any

from xent import losses

try:
    import torch
except ModuleNotFoundError:
    sys.exit("bench.gpu_autograd needs PyTorch: it is for its autograd")


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, loss: Any, logits: torch.Tensor, target: torch.Tensor, options: dict[str, Any]
    ) -> torch.Tensor:
        # The gradient is kept where one will be asked for, and not computed where none is.
        wanted = logits.requires_grad
        found = loss(logits.detach(), target.detach(), return_grad=wanted, **options)
        if not wanted:
            return torch.as_tensor(found, device=logits.device)
        value, gradient = found
        ctx.save_for_backward(torch.as_tensor(gradient, device=logits.device))
        return torch.as_tensor(value, device=logits.device)

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        # One factor a row, or one in all.
        scale = upstream if upstream.ndim == 0 else upstream.unsqueeze(-1)
        return None, gradient * scale.to(gradient.dtype), None, None


def cross_entropy(logits: torch.Tensor, target: torch.Tensor, **options: Any) -> torch.Tensor:
    """`xent.losses.cross_entropy`, with the classes last, differentiable with respect to the logits."""
    return _Loss.apply(losses.cross_entropy, logits, target, options)


def kl_div(logits: torch.Tensor, target: torch.Tensor, **options: Any) -> torch.Tensor:
    """`xent.losses.kl_div`, with the classes last, differentiable with respect to the logits."""
    return _Loss.apply(losses.kl_div, logits, target, options)


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.randn(64, 1000, device=device, requires_grad=True)
    y = torch.randint(1000, (64,), device=device)
    cross_entropy(x, y, label_smoothing=0.1).backward()
    ours, x.grad = x.grad, None
    torch.nn.functional.cross_entropy(x, y, label_smoothing=0.1).backward()
    assert ours is not None
    assert x.grad is not None
    print(f"{device}: the largest difference from PyTorch's own gradient is {(ours - x.grad).abs().max().item():.2g}")


if __name__ == "__main__":
    main()
