from contextlib import AbstractContextManager
from typing import Any, Protocol, SupportsIndex, TypeAlias

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_terms",
    "binary_cross_entropy_value_and_grad",
    "cross_entropy",
    "cross_entropy_terms",
    "cross_entropy_value_and_grad",
    "cross_entropy_with_labels",
    "cross_entropy_with_labels_value_and_grad",
    "device_info",
    "entropy",
    "is_available",
    "is_built",
    "js_div",
    "js_div_terms",
    "js_div_value_and_grad",
    "kl_div",
    "kl_div_terms",
    "kl_div_value_and_grad",
    "kl_div_with_log_probs",
    "kl_div_with_log_probs_terms",
    "kl_div_with_log_probs_value_and_grad",
    "kl_div_with_logits",
    "kl_div_with_logits_terms",
    "kl_div_with_logits_value_and_grad",
    "kl_pointwise",
    "log_softmax",
    "logsumexp",
    "nll",
    "nll_terms",
    "nll_value_and_grad",
    "prepare",
    "rel_entr",
    "softmax",
    "softmax_entropy",
    "using",
]

# An array on a GPU, by DLPack or __cuda_array_interface__. What comes back is of the first operand's library, which is
# more than a type of ours could say.
_GpuArray: TypeAlias = Any
_Axis: TypeAlias = SupportsIndex | tuple[SupportsIndex, ...] | list[SupportsIndex] | None
_Out: TypeAlias = _GpuArray | tuple[_GpuArray] | None
_OutPair: TypeAlias = tuple[_GpuArray | None, _GpuArray | None] | None
_Dtype: TypeAlias = Any

class _CudaStream(Protocol):
    def __cuda_stream__(self) -> tuple[int, int]: ...

# PyTorch's, CuPy's and Numba's streams are taken for what they hold, too.
_Stream: TypeAlias = SupportsIndex | _CudaStream | Any | None

def is_built() -> bool: ...
def is_available() -> bool: ...
def device_info(device: SupportsIndex | None = None) -> Any: ...
def prepare(device: SupportsIndex = 0) -> None: ...
def using(stream: _Stream = None, check_labels: bool = False) -> AbstractContextManager[None]: ...
def logsumexp(
    logits: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> _GpuArray: ...
def log_softmax(
    logits: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> _GpuArray: ...
def softmax(
    logits: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> _GpuArray: ...
def entropy(
    probs: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> _GpuArray: ...
def softmax_entropy(
    logits: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> _GpuArray: ...
def cross_entropy(
    logits: _GpuArray,
    target: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> _GpuArray: ...
def cross_entropy_with_labels(
    logits: _GpuArray,
    labels: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
    check_labels: bool = False,
) -> _GpuArray: ...
def kl_div(
    logits: _GpuArray,
    target: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> _GpuArray: ...
def kl_div_with_logits(
    logits: _GpuArray,
    target: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> _GpuArray: ...
def kl_div_with_log_probs(
    logits: _GpuArray,
    target: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> _GpuArray: ...
def cross_entropy_terms(
    logits: _GpuArray,
    target: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> _GpuArray: ...
def kl_div_terms(
    logits: _GpuArray,
    target: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> _GpuArray: ...
def kl_div_with_logits_terms(
    logits: _GpuArray,
    target: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> _GpuArray: ...
def kl_div_with_log_probs_terms(
    logits: _GpuArray,
    target: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> _GpuArray: ...
def cross_entropy_value_and_grad(
    logits: _GpuArray,
    target: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _OutPair = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> tuple[_GpuArray, _GpuArray]: ...
def cross_entropy_with_labels_value_and_grad(
    logits: _GpuArray,
    labels: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _OutPair = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
    check_labels: bool = False,
) -> tuple[_GpuArray, _GpuArray]: ...
def kl_div_value_and_grad(
    logits: _GpuArray,
    target: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _OutPair = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> tuple[_GpuArray, _GpuArray]: ...
def kl_div_with_logits_value_and_grad(
    logits: _GpuArray,
    target: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _OutPair = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> tuple[_GpuArray, _GpuArray]: ...
def kl_div_with_log_probs_value_and_grad(
    logits: _GpuArray,
    target: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _OutPair = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> tuple[_GpuArray, _GpuArray]: ...
def nll(
    log_probs: _GpuArray,
    labels: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
    check_labels: bool = False,
) -> _GpuArray: ...
def nll_terms(
    log_probs: _GpuArray,
    labels: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
    check_labels: bool = False,
) -> _GpuArray: ...
def nll_value_and_grad(
    log_probs: _GpuArray,
    labels: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _OutPair = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
    check_labels: bool = False,
) -> tuple[_GpuArray, _GpuArray]: ...
def binary_cross_entropy(
    logits: _GpuArray,
    target: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> _GpuArray: ...
def binary_cross_entropy_terms(
    logits: _GpuArray,
    target: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> _GpuArray: ...
def binary_cross_entropy_value_and_grad(
    logits: _GpuArray,
    target: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _OutPair = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> tuple[_GpuArray, _GpuArray]: ...
def js_div(
    logits: _GpuArray,
    other_logits: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> _GpuArray: ...
def js_div_terms(
    logits: _GpuArray,
    other_logits: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _Out = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> _GpuArray: ...
def js_div_value_and_grad(
    logits: _GpuArray,
    other_logits: _GpuArray,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: _GpuArray | None = None,
    out: _OutPair = None,
    dtype: _Dtype | None = None,
    stream: _Stream = None,
) -> tuple[_GpuArray, _GpuArray]: ...
def kl_pointwise(
    x1: _GpuArray, x2: _GpuArray, /, *, out: _Out = None, dtype: _Dtype | None = None, stream: _Stream = None
) -> _GpuArray: ...
def rel_entr(
    x1: _GpuArray, x2: _GpuArray, /, *, out: _Out = None, dtype: _Dtype | None = None, stream: _Stream = None
) -> _GpuArray: ...
