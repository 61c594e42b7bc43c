import numpy as np

UFUNCS: dict[str, np.ufunc]
