import numpy as np

__test__: dict[str, str]
UFUNCS: dict[str, np.ufunc]
