"""Every operation as a NumPy ufunc or generalized ufunc: it broadcasts and casts as NumPy does.

``xent.<name>`` is the callable in front of ``xent.ufuncs.<name>``, for what a raw gufunc cannot do or does wrongly:
several class axes, ``where``, pandas objects (a raw gufunc reduces the wrong axis of a DataFrame) and masked arrays
(a raw gufunc ignores the mask).
"""

from xent._ufuncs import UFUNCS as _UFUNCS

__all__ = list(_UFUNCS)

globals().update(_UFUNCS)

# doctest does not look into ufuncs. A gufunc's examples are those of its callable.
__test__ = {name: ufunc.__doc__ for name, ufunc in _UFUNCS.items() if ufunc.signature is None}
