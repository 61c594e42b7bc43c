from typing import Any, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from xent import compat as compat
from xent import config as config
from xent import cuda as cuda
from xent import kernels as kernels
from xent import losses as losses
from xent import ufuncs as ufuncs
from xent._explain import explain as explain

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_terms",
    "binary_cross_entropy_value_and_grad",
    "cross_entropy",
    "cross_entropy_terms",
    "cross_entropy_value_and_grad",
    "cross_entropy_with_labels",
    "cross_entropy_with_labels_value_and_grad",
    "enable_bfloat16",
    "entropy",
    "explain",
    "get_include",
    "get_library_dir",
    "get_num_threads",
    "info",
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
    "losses",
    "nll",
    "nll_terms",
    "nll_value_and_grad",
    "rel_entr",
    "set_isa",
    "set_num_threads",
    "softmax",
    "softmax_entropy",
    "ufuncs",
]

__version__: str

_Axis: TypeAlias = SupportsIndex | tuple[SupportsIndex, ...] | list[SupportsIndex] | None
_Out: TypeAlias = NDArray[Any] | tuple[NDArray[Any]] | None
_OutPair: TypeAlias = tuple[NDArray[Any] | None, NDArray[Any] | None] | None
_Floats: TypeAlias = NDArray[np.floating[Any]]

# One value a row is a NumPy scalar for a single row and an array otherwise, which NumPy's own stubs call Any too.
def logsumexp(
    logits: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> Any: ...
def log_softmax(
    logits: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> _Floats: ...
def softmax(
    logits: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> _Floats: ...
def entropy(
    probs: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> Any: ...
def softmax_entropy(
    logits: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> Any: ...
def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> Any: ...
def cross_entropy_with_labels(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> Any: ...
def kl_div(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> Any: ...
def kl_div_with_logits(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> Any: ...
def kl_div_with_log_probs(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> Any: ...
def cross_entropy_terms(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> _Floats: ...
def kl_div_terms(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> _Floats: ...
def kl_div_with_logits_terms(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> _Floats: ...
def kl_div_with_log_probs_terms(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> _Floats: ...
def cross_entropy_value_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _OutPair = None,
    dtype: DTypeLike | None = None,
) -> tuple[Any, _Floats]: ...
def cross_entropy_with_labels_value_and_grad(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _OutPair = None,
    dtype: DTypeLike | None = None,
) -> tuple[Any, _Floats]: ...
def kl_div_value_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _OutPair = None,
    dtype: DTypeLike | None = None,
) -> tuple[Any, _Floats]: ...
def kl_div_with_logits_value_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _OutPair = None,
    dtype: DTypeLike | None = None,
) -> tuple[Any, _Floats]: ...
def kl_div_with_log_probs_value_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _OutPair = None,
    dtype: DTypeLike | None = None,
) -> tuple[Any, _Floats]: ...
def nll(
    log_probs: ArrayLike,
    labels: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> Any: ...
def nll_terms(
    log_probs: ArrayLike,
    labels: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> _Floats: ...
def nll_value_and_grad(
    log_probs: ArrayLike,
    labels: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _OutPair = None,
    dtype: DTypeLike | None = None,
) -> tuple[Any, _Floats]: ...
def binary_cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> Any: ...
def binary_cross_entropy_terms(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> _Floats: ...
def binary_cross_entropy_value_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _OutPair = None,
    dtype: DTypeLike | None = None,
) -> tuple[Any, _Floats]: ...
def js_div(
    logits: ArrayLike,
    other_logits: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> Any: ...
def js_div_terms(
    logits: ArrayLike,
    other_logits: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _Out = None,
    dtype: DTypeLike | None = None,
) -> _Floats: ...
def js_div_value_and_grad(
    logits: ArrayLike,
    other_logits: ArrayLike,
    *,
    axis: _Axis = -1,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    out: _OutPair = None,
    dtype: DTypeLike | None = None,
) -> tuple[Any, _Floats]: ...

kl_pointwise: np.ufunc
rel_entr: np.ufunc

def enable_bfloat16() -> None: ...
def get_include() -> str: ...
def get_library_dir() -> str: ...
def get_num_threads() -> int: ...
def info() -> dict[str, Any]: ...
def set_isa(name: str | None = None, /) -> None: ...
def set_num_threads(n: SupportsIndex, /) -> None: ...
