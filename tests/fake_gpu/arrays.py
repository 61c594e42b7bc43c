"""xent.cuda without a GPU: its module built against fake_cuda.cpp, and arrays whose "device memory" is the host's."""

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import ClassVar

import built
import numpy as np
import pytest

import xent

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


# ---- the module ----------------------------------------------------------------------------------------------------


def build():
    """The extension module, built against the fake; skips where it cannot be built."""
    pybind11 = pytest.importorskip("pybind11", reason="pybind11 is not installed")
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("a C++ compiler is not installed")
    name = "_cuda" + sysconfig.get_config_var("EXT_SUFFIX")
    includes = [HERE, ROOT / "cuda", xent.get_include(), ROOT / "kernels", pybind11.get_include()]
    includes.append(sysconfig.get_paths()["include"])
    command = [compiler, "-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
    command += [f"-I{i}" for i in includes]
    command += [str(ROOT / "cuda" / "module.cpp"), str(HERE / "fake_cuda.cpp"), "-o"]

    def make(directory):
        done = subprocess.run([*command, directory / name], capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr

    own = [f for f in sorted(HERE.iterdir()) if f.suffix in (".h", ".cpp")]
    sources = [ROOT / "cuda", ROOT / "kernels", *own]
    settings = [*command, name, pybind11.__version__, sys.version]
    return built.directory("fake_gpu", make, compiler=[compiler], settings=settings, sources=sources) / name


def load(path):
    # Not under its own name: a real one may be there, too.
    spec = importlib.util.spec_from_file_location("_cuda", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def address_of(function):
    """Of one of xent.h's: by xent.kernels, or where there is none, as _core exports it."""
    if importlib.util.find_spec("xent.kernels") is not None:
        return importlib.import_module("xent.kernels").address(function)
    found = getattr(ctypes.CDLL(xent._core.__file__), f"xent_{function}")
    return ctypes.cast(found, ctypes.c_void_p).value


class Gpu:
    """What the fake was asked, and what it shall answer."""

    _NUMBERS = ("devices", "driver", "runtime", "capturing", "events_pending", "pointer_type", "pointer_device")

    def __init__(self, path):
        self.library = ctypes.CDLL(str(path))
        self.library.fake_notes.restype = ctypes.c_char_p
        self.library.fake_allocations.restype = ctypes.c_size_t
        for pointer, function in (("fake_kernels", "run"), ("fake_scratch", "scratch_size")):
            ctypes.c_void_p.in_dll(self.library, pointer).value = address_of(function)
        self._number("devices")
        self.initial = {name: self._number(name).value for name in (*self._NUMBERS, "fail_run")}

    def _number(self, name):
        return ctypes.c_int.in_dll(self.library, f"fake_{name}")

    def set(self, **answers):
        for name, value in answers.items():
            if name == "workspace":
                ctypes.c_size_t.in_dll(self.library, "fake_workspace").value = value
            else:
                self._number(name).value = value

    def reset(self):
        self.set(**self.initial, workspace=64)
        self.library.fake_forget()

    def notes(self):
        """What was asked since the last time."""
        lines = self.library.fake_notes().decode().splitlines()
        self.library.fake_forget()
        return lines

    @property
    def allocations(self):
        return self.library.fake_allocations()


# ---- DLPack, from the specification and by ctypes ------------------------------------------------------------------


class DLDevice(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("id", ctypes.c_int32)]


class DLDataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", DLDevice),
        ("ndim", ctypes.c_int32),
        ("dtype", DLDataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Managed(ctypes.Structure):
    _fields_ = [("tensor", DLTensor), ("manager", ctypes.c_void_p), ("deleter", Deleter)]


class ManagedVersioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    ]


_api = ctypes.pythonapi
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_api.PyCapsule_GetName.restype = ctypes.c_char_p
_api.PyCapsule_GetName.argtypes = [ctypes.py_object]
_api.PyCapsule_IsValid.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_GetPointer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]

Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@Destructor
def _destroy(capsule):
    """As every producer's: a capsule that nobody took frees its tensor."""
    for name, kind in ((b"dltensor", Managed), (b"dltensor_versioned", ManagedVersioned)):
        if _api.PyCapsule_IsValid(capsule, name):
            address = _api.PyCapsule_GetPointer(capsule, name)
            managed = ctypes.cast(address, ctypes.POINTER(kind)).contents
            if managed.deleter:
                managed.deleter(address)


def name_of(capsule):
    return _api.PyCapsule_GetName(capsule)


_CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}


def dtype_of(dtype):
    code = 4 if dtype.name == "bfloat16" else _CODES[dtype.kind]
    return DLDataType(code, 8 * dtype.itemsize, 1)


class Parcel:
    """One DLPack tensor of an array, with what a test wants to be different about it; counts its deleter's calls."""

    alive: ClassVar = {}  # by address, as a producer in C would own them

    def __init__(self, array, /, *, device=(2, 0), versioned=True, version=(1, 0), flags=0, deleter=True, **fields):
        self.array = array
        self.deleted = 0
        self.versioned = versioned
        self.extents = (ctypes.c_int64 * (2 * array.ndim + 1))(
            *array.shape, *(s // array.itemsize for s in array.strides)
        )
        self.managed = (ManagedVersioned if versioned else Managed)()
        t = self.managed.tensor
        t.data = array.ctypes.data
        t.device = DLDevice(*device)
        t.ndim = array.ndim
        t.dtype = dtype_of(array.dtype)
        t.shape = ctypes.cast(self.extents, ctypes.POINTER(ctypes.c_int64))
        t.strides = ctypes.cast(ctypes.byref(self.extents, 8 * array.ndim), ctypes.POINTER(ctypes.c_int64))
        for name, value in fields.items():
            setattr(t, name, value)
        if versioned:
            self.managed.major, self.managed.minor = version
            self.managed.flags = flags
        self._deleter = Deleter(self._delete)
        if deleter:
            self.managed.deleter = self._deleter

    def _delete(self, address):
        assert address == ctypes.addressof(self.managed)
        self.deleted += 1
        del self.alive[address]

    def capsule(self, name=None):
        address = ctypes.addressof(self.managed)
        self.alive[address] = self
        if name is None:
            name = b"dltensor_versioned" if self.versioned else b"dltensor"
        self.name = ctypes.create_string_buffer(name)  # a capsule keeps the pointer, not the name
        return _api.PyCapsule_New(address, self.name, _destroy)


# ---- arrays --------------------------------------------------------------------------------------------------------


class Array:
    """An array "on a GPU" that speaks DLPack and remembers what it was asked. No more than a producer must have."""

    def __init__(self, array, number=0, /, **parcel):
        self.data = np.asarray(array)
        self.number = number
        self.parcel = parcel
        self.asked = []
        self.parcels = []

    shape = property(lambda self: self.data.shape)
    ndim = property(lambda self: self.data.ndim)
    dtype = property(lambda self: self.data.dtype)

    def __dlpack_device__(self):
        return (2, self.number)

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        self.asked.append((stream, max_version))
        parcel = Parcel(self.data, **{"device": (2, self.number)} | self.parcel)
        self.parcels.append(parcel)
        return parcel.capsule()

    @property
    def deleted(self):
        return [parcel.deleted for parcel in self.parcels]


class OldArray(Array):
    """From before versions: it does not know the keyword."""

    def __dlpack__(self, *, stream=None):
        self.asked.append((stream, "none"))
        parcel = Parcel(self.data, device=(2, self.number), versioned=False)
        self.parcels.append(parcel)
        return parcel.capsule()


class Interface:
    """As Numba's: __cuda_array_interface__ and nothing else."""

    def __init__(self, array, /, **fields):
        self.data = np.asarray(array)
        self.fields = fields

    shape = property(lambda self: self.data.shape)
    ndim = property(lambda self: self.data.ndim)
    dtype = property(lambda self: self.data.dtype)

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self.data.shape,
            "typestr": self.data.dtype.str,
            "data": (self.data.ctypes.data, False),
            "strides": self.data.strides,
            "version": 3,
            "stream": None,
        } | self.fields


class Standard(Array):
    """As JAX's: of a library that makes arrays of others' memory, and has no stream to ask for."""

    @classmethod
    def from_dlpack(cls, other):
        """The array in memory of `other`, on a stream of the library's own."""
        assert other.__dlpack_device__() == (2, other.device)
        capsule = other.__dlpack__(stream=cls.STREAM)
        return cls(read(capsule, other.dtype).copy(), other.device)

    STREAM = 77

    def __array_namespace__(self, api_version=None):
        return type(self)

    @classmethod
    def reshape(cls, a, shape):
        return cls(a.data.reshape(shape))

    @classmethod
    def permute_dims(cls, a, order):
        return cls(a.data.transpose(order))

    @classmethod
    def broadcast_to(cls, a, shape):
        return cls(np.broadcast_to(a.data, shape))

    def astype(self, dtype):
        return type(self)(self.data.astype(dtype))


def read(capsule, dtype=None):
    """A NumPy array of what a capsule holds, which is used by that: as a consumer in Python would."""
    kind, name = (
        (ManagedVersioned, b"dltensor_versioned") if b"versioned" in name_of(capsule) else (Managed, b"dltensor")
    )
    address = _api.PyCapsule_GetPointer(id(capsule), name)
    t = ctypes.cast(address, ctypes.POINTER(kind)).contents.tensor
    shape, steps = t.shape[: t.ndim], t.strides[: t.ndim]
    dtype = np.dtype(dtype)
    assert (t.dtype.code, t.dtype.bits, t.dtype.lanes) == (dtype_of(dtype).code, 8 * dtype.itemsize, 1)
    count = int(np.prod(shape)) * dtype.itemsize
    flat = np.frombuffer((ctypes.c_char * max(count, 1)).from_address(t.data), np.uint8)[:count]
    assert not count or [s * dtype.itemsize for s in steps] == list(np.empty(shape, dtype).strides)
    return flat.view(dtype).reshape(shape)
