from _thread import LockType

import numpy as np

__test__: dict[str, str]
BFLOAT16_LOCK: LockType
FLOATS: list[int]
INTEGERS: list[int]
UFUNCS: dict[str, np.ufunc]

def enable_bfloat16() -> None: ...
def register_bfloat16() -> None: ...
