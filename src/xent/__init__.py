"""Softmax-family losses on NumPy arrays: logsumexp, cross-entropy, KL divergence, their terms and their gradients.

Each operation is a callable here (``xent.kl_div``) and a NumPy ufunc in ``xent.ufuncs``; ``xent.losses`` has what
training and evaluation code calls. Values are in nats; the prediction comes first, the target second.
"""

import sys as _sys
from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import Any as _Any

# Before NumPy: where Python runs this package as a program, it heeds Ctrl-C from here on.
import _xent_command as _command  # noqa: F401
from xent import losses, ufuncs
from xent._core import CALLABLES as _CALLABLES
from xent._core import get_num_threads, info, set_isa, set_num_threads
from xent._ufuncs import enable_bfloat16
from xent._ufuncs import register_bfloat16 as _register_bfloat16

__version__ = "0.1.0"

# The operations come from the C table. Those that take single elements have no rows to reduce: their ufunc serves.
_OPERATIONS = {name: _CALLABLES.get(name, ufunc) for name, ufunc in ufuncs._UFUNCS.items()}
globals().update(_OPERATIONS)

# Before NumPy sees a bfloat16 in a call of a ufunc, because it would remember how it cast it.
if _sys.modules.get("ml_dtypes") is not None:
    _register_bfloat16()

__all__ = [
    *_OPERATIONS,
    "enable_bfloat16",
    "explain",
    "get_include",
    "get_library_dir",
    "get_num_threads",
    "info",
    "losses",
    "set_isa",
    "set_num_threads",
    "ufuncs",
]


def get_include() -> str:
    """The directory of ``xent.h``, for C and Cython code that calls the library itself.

    Examples
    --------
    >>> import pathlib, xent
    >>> pathlib.Path(xent.get_include(), "xent.h").is_file()
    True
    """
    return str(_Path(__file__).resolve().parent / "include")


def get_library_dir() -> str:
    """The directory of the static library that C and Cython code links with: ``libxent.a``.

    ``python -m xent.config --cflags --libs`` has the flags for it, and where ``xent.pc`` and the CMake package are.

    Examples
    --------
    >>> import pathlib, xent
    >>> pathlib.Path(xent.get_library_dir(), "libxent.a").is_file()
    True
    """
    return str(_Path(__file__).resolve().parent / "lib")


# What is imported when it is first asked for: explain needs every door of xent.compat, which would be a tenth of the
# import's time; cuda, where it is built, is larger than all the rest.
_LAZY = ("compat", "config", "cuda", "explain", "kernels")


def __getattr__(name: str) -> _Any:
    if name == "explain":
        from xent._explain import explain

        return explain
    if name in _LAZY:
        return _import_module(f"xent.{name}")
    raise AttributeError(f"module 'xent' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_LAZY, *(name for name in globals() if name.startswith("__"))})
