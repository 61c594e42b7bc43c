from typing import Any

import numpy as np

WARM: float
COLD: float
COLDEST: dict[type[np.floating[Any]], float]

class Rows:
    batch: tuple[int, ...]
    classes: int
    axis: int
    def __init__(self, student: Any, teacher: Any, shown: Any, axis: int) -> None: ...
    def chunks(self, rows: Any) -> Any: ...

class Warm:
    def __init__(self, rows: Rows, temperature: Any, weights: Any) -> None: ...
    def left_over(self, real: type[np.floating[Any]]) -> tuple[Any, Any]: ...
    def add(self, value: Any, gradient: Any, reduction: str) -> Any: ...
