from typing import Any

import numpy as np

__test__: dict[str, str]
UFUNCS: dict[str, np.ufunc]

def enable_bfloat16() -> None: ...
def register_bfloat16() -> np.dtype[Any]: ...
