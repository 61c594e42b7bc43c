from collections.abc import Callable
from typing import Any, NamedTuple, SupportsIndex

from numpy.typing import ArrayLike, DTypeLike, NDArray

__pyx_capi__: dict[str, object]
__test__: dict[str, str]
CALLABLES: dict[str, Callable[..., Any]]

class Operation(NamedTuple):
    number: int
    target: str
    operands: tuple[str, str]
    has_value: bool
    has_emit: bool

TABLE: dict[str, Operation]

def foreign(a: object) -> bool: ...
def layout(
    name: str, x: NDArray[Any], t: NDArray[Any] | None, labels: bool, axis: Any
) -> tuple[tuple[int, ...], tuple[int, ...]]: ...
def as_array(a: ArrayLike, op: str, name: str) -> NDArray[Any]: ...
def evaluate_loss(
    name: str,
    logits: ArrayLike,
    target: ArrayLike,
    *,
    caller: str,
    labels: bool = False,
    axis: SupportsIndex = -1,
    where: ArrayLike | None = None,
    weight: NDArray[Any] | None = None,
    sample_weight: NDArray[Any] | None = None,
    temperature: NDArray[Any] | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: str = "none",
    pos_weight: NDArray[Any] | None = None,
    operands: tuple[str, str] = ("logits", "target"),
    dtype: DTypeLike | None = None,
) -> Any: ...
def capsule(address: int, signature: bytes) -> object: ...
def functions() -> dict[str, tuple[int, str]]: ...
def get_num_threads() -> int: ...
def on_gpu(a: object, /) -> bool: ...
def operand(a: Any, op: str, name: str) -> Any: ...
def places(axis: Any, ndim: int) -> tuple[int, ...]: ...
def split_out(out: Any, op: int) -> tuple[Any, Any]: ...
def info() -> dict[str, Any]: ...
def set_isa(name: str | None = None, /) -> None: ...
def set_num_threads(n: SupportsIndex, /) -> None: ...
