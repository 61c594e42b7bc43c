"""The functions of ``xent.h`` by address, for Numba, ctypes and cffi; for Cython there is ``cimport xent.kernels``.

They are those of the libxent that ``xent`` itself runs on, with its threads and its instruction set, under their names
in ``xent.h`` without ``xent_``: ``softmax_f32``, ``run``, ``state_merge``. ``xent.h`` (in ``xent.get_include()``) says
what each does. All may be called without the GIL.

Examples
--------
>>> import ctypes
>>> import numpy as np
>>> from xent import kernels
>>> double_p = ctypes.POINTER(ctypes.c_double)
>>> prototype = ctypes.CFUNCTYPE(ctypes.c_int, double_p, ctypes.c_size_t, ctypes.c_size_t, double_p)
>>> logsumexp = prototype(kernels.address("logsumexp_f64"))
>>> x, out = np.zeros((2, 4)), np.empty(2)
>>> logsumexp(x.ctypes.data_as(double_p), 2, 4, out.ctypes.data_as(double_p))
0
>>> print(out.round(6))
[1.386294 1.386294]
"""

from xent import _core

__all__ = ["address", "names", "signature"]

_FUNCTIONS = {name: (address, signature.encode()) for name, (address, signature) in _core.functions().items()}

# Where Cython's cimport, scipy.LowLevelCallable and numba.extending.get_cython_function_address look.
__pyx_capi__ = {name: _core.capsule(*found) for name, found in _FUNCTIONS.items()}


def names() -> list[str]:
    """The names that the other functions here take.

    Examples
    --------
    >>> from xent import kernels
    >>> "softmax_f32" in kernels.names()
    True
    """
    return list(_FUNCTIONS)


def address(name: str) -> int:
    """The address of a function of ``xent.h``, valid as long as the process lives.

    Examples
    --------
    >>> from xent import kernels
    >>> kernels.address("softmax_f32") != 0
    True
    """
    return _find(name)[0]


def signature(name: str) -> str:
    """The C type of that function, as Cython spells it.

    Examples
    --------
    >>> from xent import kernels
    >>> kernels.signature("softmax_f32")
    'xent_status (float const *, size_t, size_t, float *)'
    """
    return _find(name)[1].decode()


def _find(name: str) -> tuple[int, bytes]:
    try:
        return _FUNCTIONS[name]
    except KeyError:
        raise ValueError(f"xent.h has no function {name!r} (without xent_): xent.kernels.names() lists them") from None
