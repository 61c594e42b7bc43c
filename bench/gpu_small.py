"""A small set of calls for the compute sanitizer: every operation, the dtypes, and rows for every regime."""

from __future__ import annotations

import itertools
import sys

import xent.cuda
from xent import losses
from xent._core import TABLE

try:
    import torch
except ModuleNotFoundError:
    sys.exit("bench.gpu_small needs PyTorch, for its tensors")

# Few classes, odd ones, more than a block holds, and more than a cluster, which are split; and rows beside each other.
SHAPES = [(37, 3), (5, 131), (3, 1000), (2, 5003), (2, 9001), (1, 70_001)]
DTYPES = [torch.float32, torch.bfloat16]


def operands(target: str, shape: tuple[int, int], dtype: torch.dtype) -> list[torch.Tensor]:
    x = torch.randn(shape, device="cuda").to(dtype)
    if target == "none":
        return [x]
    if target == "labels":
        return [x, torch.randint(shape[1], shape[:1], device="cuda")]
    t = torch.randn(shape, device="cuda")
    return [x, (torch.softmax(t, -1) if target in ("probs", "point") else torch.log_softmax(t, -1)).to(dtype)]


def main() -> None:
    if not xent.cuda.is_available():
        sys.exit(f"bench.gpu_small has nothing to run on: {xent.cuda._why_not()}")
    torch.manual_seed(1)
    xent.cuda.prepare(0)
    calls = 0
    for (name, info), shape, dtype in itertools.product(TABLE.items(), SHAPES, DTYPES):
        given = operands(info.target, shape, dtype)
        getattr(xent.cuda, name)(*given)
        calls += 1
        if shape == (37, 3) and info.target != "point":
            columns = [a.T.contiguous() if a.ndim == 2 else a for a in given]
            getattr(xent.cuda, name)(*columns, axis=0)
            calls += 1
    x, y = operands("labels", (301, 131), torch.float32)
    for reduction in ("sum", "mean", "terms", "per_class"):
        losses.cross_entropy(x, y, reduction=reduction, sample_weight=torch.rand(301, device="cuda"))
        losses.kl_div(x, torch.softmax(x, -1), reduction=reduction, where=x > -1)
        calls += 2
    torch.cuda.synchronize()
    print(f"{calls} calls")


if __name__ == "__main__":
    main()
