"""xent.h's requests and states by ctypes, laid out as the header that ships says."""

import ctypes
from functools import cache

import header
import numpy as np

from xent import kernels

_PLAIN = {
    "size_t": ctypes.c_size_t,
    "ptrdiff_t": ctypes.c_ssize_t,
    "int": ctypes.c_int,
    "double": ctypes.c_double,
    "int64_t": ctypes.c_int64,
    "uint8_t": ctypes.c_uint8,
}


@cache
def structure(name):
    fields = []
    for declaration, field in header.structures()[name]:
        kind = declaration[: -len(field)].strip()
        if kind.endswith("*"):
            fields.append((field, ctypes.c_void_p))
        else:
            fields.append((field, _PLAIN[kind] if kind in _PLAIN else structure(kind)))
    return type(name, (ctypes.Structure,), {"_fields_": fields})


@cache
def numbers():
    """The dtypes' and reductions' numbers: enumerations that start from 0 and leave none out."""
    return {name: i for names in header.enumerations().values() for i, name in enumerate(names)}


def call(name, *arguments, result=ctypes.c_int):
    return ctypes.CFUNCTYPE(result)(kernels.address(name))(*arguments)


_DTYPES = {"e": "XENT_F16", "f": "XENT_F32", "d": "XENT_F64", "l": "XENT_I64", "?": "XENT_BOOL"}


class Request:
    """A request over rows with the classes in the last axis, and the arrays that it points to."""

    def __init__(self, operation, logits, target=None, **views):
        n = len(logits)
        self.struct = structure("xent_request")()
        self._kept = []
        self.pointer = ctypes.byref(self.struct)
        call("request_init", self.pointer, result=None)
        self.struct.op = call("find_op", ctypes.c_char_p(operation.encode()))
        self.struct.compute = numbers()["XENT_F64" if logits.dtype == np.float64 else "XENT_F32"]
        self.struct.ndim = 1
        shape = (ctypes.c_ssize_t * 1)(n)
        self._kept.append(shape)
        self.struct.shape = ctypes.addressof(shape)
        self.struct.classes = logits.shape[1]
        self.view("logits", logits)
        if target is not None:
            self.view("target", target)
        for name, array in views.items():
            self.view(name, array)

    def view(self, name, array):
        view = getattr(self.struct, name)
        strides = (ctypes.c_ssize_t * 1)(array.strides[0])
        self._kept += [array, strides]
        view.data = array.ctypes.data
        view.strides = ctypes.addressof(strides)
        view.class_stride = array.strides[-1]
        view.dtype = numbers()[_DTYPES[array.dtype.char]]


class States:
    """Rows that come in pieces."""

    def __init__(self, operation, rows, dtype):
        op = call("find_op", ctypes.c_char_p(operation.encode()))
        self.operation, self.rows, self.dtype = operation, rows, np.dtype(dtype)
        size = call("state_size", op, result=ctypes.c_size_t)
        self.bytes = ctypes.create_string_buffer(size * rows)
        compute = numbers()["XENT_F64" if dtype == np.float64 else "XENT_F32"]
        assert call("state_start", op, compute, ctypes.c_size_t(rows), self.bytes) == 0

    def update(self, first_class, logits, target=None, **views):
        request = Request(self.operation, logits, target, **views)
        return call("state_update", request.pointer, ctypes.c_ssize_t(first_class), self.bytes)

    def merge(self, other):
        return call("state_merge", ctypes.c_size_t(self.rows), self.bytes, other.bytes)

    def finish(self, dtype=None):
        value = np.full(self.rows, 7, dtype or self.dtype)
        bad = ctypes.c_size_t()
        dtype = numbers()[_DTYPES[value.dtype.char]]
        pointer = ctypes.c_void_p(value.ctypes.data)
        status = call("state_finish", ctypes.c_size_t(self.rows), self.bytes, dtype, pointer, ctypes.byref(bad))
        assert status == 0, status
        return value
