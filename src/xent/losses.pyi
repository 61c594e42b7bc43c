from typing import Any, Literal, SupportsIndex, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["binary_cross_entropy", "cross_entropy", "distillation", "js_div", "kl_div", "nll"]

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
    return_hess: Literal[False] = False,
    dtype: DTypeLike | None = None,
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
    return_grad: Literal[False] = False,
    return_hess: Literal[True],
    dtype: DTypeLike | None = None,
) -> tuple[Any, _Floats]: ...
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
    return_hess: Literal[False] = False,
    dtype: DTypeLike | None = None,
) -> tuple[Any, _Floats]: ...
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
    return_hess: Literal[True],
    dtype: DTypeLike | None = None,
) -> tuple[Any, _Floats, _Floats]: ...
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
    grad_of: Literal["logits"] = "logits",
    dtype: DTypeLike | None = None,
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
    grad_of: Literal["logits", "target"] = "logits",
    dtype: DTypeLike | None = None,
) -> tuple[Any, _Floats]: ...
@overload
def nll(
    log_probs: ArrayLike,
    labels: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    where: ArrayLike | None = None,
    reduction: _Reduction = "mean",
    return_grad: Literal[False] = False,
    dtype: DTypeLike | None = None,
) -> Any: ...
@overload
def nll(
    log_probs: ArrayLike,
    labels: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    where: ArrayLike | None = None,
    reduction: _Reduced = "mean",
    return_grad: Literal[True],
    dtype: DTypeLike | None = None,
) -> tuple[Any, _Floats]: ...
@overload
def binary_cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    pos_weight: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    reduction: _Reduction = "mean",
    return_grad: Literal[False] = False,
    dtype: DTypeLike | None = None,
) -> Any: ...
@overload
def binary_cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    pos_weight: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    reduction: _Reduced = "mean",
    return_grad: Literal[True],
    dtype: DTypeLike | None = None,
) -> tuple[Any, _Floats]: ...
@overload
def js_div(
    logits: ArrayLike,
    other_logits: ArrayLike,
    *,
    beta: float = 0.5,
    axis: SupportsIndex = -1,
    temperature: ArrayLike = 1.0,
    sample_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    reduction: _Reduction = "mean",
    return_grad: Literal[False] = False,
    dtype: DTypeLike | None = None,
) -> Any: ...
@overload
def js_div(
    logits: ArrayLike,
    other_logits: ArrayLike,
    *,
    beta: float = 0.5,
    axis: SupportsIndex = -1,
    temperature: ArrayLike = 1.0,
    sample_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    reduction: _Reduced = "mean",
    return_grad: Literal[True],
    dtype: DTypeLike | None = None,
) -> tuple[Any, _Floats]: ...
@overload
def distillation(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    temperature: ArrayLike,
    alpha: float | None = None,
    scale_by_temperature_squared: bool = True,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    where: ArrayLike | None = None,
    reduction: _Reduction = "mean",
    return_grad: Literal[False] = False,
    dtype: DTypeLike | None = None,
) -> Any: ...
@overload
def distillation(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    temperature: ArrayLike,
    alpha: float | None = None,
    scale_by_temperature_squared: bool = True,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    where: ArrayLike | None = None,
    reduction: _Reduced = "mean",
    return_grad: Literal[True],
    dtype: DTypeLike | None = None,
) -> tuple[Any, _Floats]: ...
