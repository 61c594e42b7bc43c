"""Every operation as a NumPy ufunc or generalized ufunc: it broadcasts and casts as NumPy does.

``xent.<name>`` is the callable in front of ``xent.ufuncs.<name>``, for what a raw gufunc cannot do or does wrongly:
several class axes, ``where``, pandas' DataFrames (which would hand a gufunc their columns as rows) and masked arrays
(whose masks NumPy does not show to gufuncs). The gufuncs refuse both of these.
"""

from xent._ufuncs import UFUNCS as _UFUNCS

__all__ = list(_UFUNCS)

globals().update(_UFUNCS)

# doctest does not look into ufuncs. A gufunc's examples are those of its callable.
__test__ = {name: ufunc.__doc__ for name, ufunc in _UFUNCS.items() if ufunc.signature is None}
