from typing import Any, Literal, SupportsIndex, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["cross_entropy", "kl_div"]

_Reduced: TypeAlias = Literal["none", "sum", "mean"]
_Reduction: TypeAlias = Literal["none", "sum", "mean", "terms", "per_class"]
_TargetKind: TypeAlias = Literal["probs", "log_probs", "logits"]
_Floats: TypeAlias = NDArray[np.floating[Any]]

@overload
def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    where: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    reduction: _Reduction = "mean",
    return_grad: Literal[False] = False,
) -> Any: ...
@overload
def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    where: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    reduction: _Reduced = "mean",
    return_grad: Literal[True],
) -> tuple[Any, _Floats]: ...
@overload
def kl_div(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    target_kind: _TargetKind = "probs",
    temperature: ArrayLike = 1.0,
    sample_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    reduction: _Reduction = "mean",
    return_grad: Literal[False] = False,
) -> Any: ...
@overload
def kl_div(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    target_kind: _TargetKind = "probs",
    temperature: ArrayLike = 1.0,
    sample_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    reduction: _Reduced = "mean",
    return_grad: Literal[True],
) -> tuple[Any, _Floats]: ...
