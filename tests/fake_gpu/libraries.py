"""Just enough of PyTorch and of CuPy for xent.cuda, on host memory: whose streams and whose memory, with the rules that
the real ones insist on, and a list of what they were asked to do."""

import contextlib
import types

import numpy as np

from fake_gpu import arrays

NAMES = ("float16", "float32", "float64", "uint8", "int32", "int64", "bool")


class Library:
    """The state that both have: current device and streams, allocations by stream, notes."""

    def __init__(self):
        self.device = 0
        self.streams = {0: 0, 1: 0}  # by device, as cudaStream_t
        self.notes = []

    @contextlib.contextmanager
    def current(self, device, stream=None):
        device_before, stream_before = self.device, self.streams[device]
        self.device = device
        if stream is not None:
            self.streams[device] = stream
        try:
            yield
        finally:
            self.device, self.streams[device] = device_before, stream_before


class Backed(arrays.Array):
    """An array of a library, with arithmetic by NumPy."""

    def _wrap(self, data):
        return type(self)(data, self.number)

    def reshape(self, shape):
        return self._wrap(self.data.reshape(shape))

    def any(self, axis):
        return self._wrap(self.data.any(axis))

    def sum(self):
        return self._wrap(self.data.sum())

    def __getitem__(self, index):
        return self._wrap(self.data[index])

    def __bool__(self):
        raise AssertionError("whoever looks waits for the GPU")

    __hash__ = None


def _arithmetic(name):
    def method(self, other):
        with np.errstate(all="ignore"):
            return self._wrap(getattr(self.data, name)(getattr(other, "data", other)))

    return method


for _name in ("add", "radd", "mul", "rmul", "truediv", "rtruediv", "pow", "and", "rand", "ne"):
    setattr(Backed, f"__{_name}__", _arithmetic(f"__{_name}__"))


def torch():
    """A module that stands for PyTorch."""
    library = Library()
    module = types.ModuleType("torch")
    module.library = library

    class Dtype:
        def __init__(self, name):
            self.name = name

        def __repr__(self):
            return f"torch.{self.name}"

    class Stream:
        def __init__(self, handle, device=0):
            self.cuda_stream = handle
            self.device = device

    class Tensor(Backed):
        dtype = property(lambda self: getattr(module, self.data.dtype.name))
        device = property(lambda self: types.SimpleNamespace(type="cuda", index=self.number))

        def __dlpack__(self, *, stream=-1, max_version=None, dl_device=None, copy=None):
            assert library.device == self.number, "Can't export tensors on a different CUDA device index"
            assert stream not in (0, 2)
            return super().__dlpack__(stream=stream, max_version=max_version)

        def data_ptr(self):
            return self.data.ctypes.data

        def record_stream(self, stream):
            library.notes.append(("record_stream", id(self), stream.cuda_stream))

        def permute(self, order):
            return self._wrap(self.data.transpose(order))

        def to(self, dtype):
            with np.errstate(over="ignore"):
                return self._wrap(self.data.astype(dtype.name))

        def copy_(self, other):
            library.notes.append(("copy", library.streams[self.number]))
            self.data[...] = other.data

    def allocate(data, device):
        made = Tensor(data, device)
        library.notes.append(("allocate", made.data.dtype.name, made.shape, library.streams[device]))
        return made

    module.Tensor = Tensor
    for name in NAMES:
        setattr(module, name, Dtype(name))
    module.device = lambda kind, index: index
    module.empty = lambda shape, dtype, device: allocate(np.empty(shape, dtype.name), device)
    module.empty_like = lambda like, dtype: allocate(np.empty_like(like.data, dtype=dtype.name), like.number)
    module.full = lambda shape, value, dtype, device: allocate(np.full(shape, value, dtype.name), device)
    module.broadcast_to = lambda a, shape: a._wrap(np.broadcast_to(a.data, shape))
    module.cuda = types.SimpleNamespace(
        current_device=lambda: library.device,
        current_stream=lambda device: Stream(library.streams[device], device),
        default_stream=lambda device: Stream(0, device),
        ExternalStream=Stream,
        Stream=Stream,
        device=library.current,
        stream=lambda stream: library.current(stream.device, stream.cuda_stream),
    )
    return module


def cupy():
    """A module that stands for CuPy."""
    library = Library()
    module = types.ModuleType("cupy")
    module.library = library

    class ndarray(Backed):
        device = property(lambda self: types.SimpleNamespace(id=self.number))

        def transpose(self, order):
            return self._wrap(self.data.transpose(order))

        def astype(self, dtype):
            return self._wrap(self.data.astype(dtype))

    class Stream:
        def __init__(self, ptr, device=None):
            self.ptr = ptr

        def __enter__(self):
            self.context = library.current(library.device, self.ptr)
            self.context.__enter__()

        def __exit__(self, *error):
            self.context.__exit__(*error)

    Stream.from_external = classmethod(lambda cls, other: cls(other.__cuda_stream__()[1]))
    Stream.null = Stream(0)
    Stream.ptds = Stream(2)

    def allocate(data):
        made = ndarray(data, library.device)
        library.notes.append(("allocate", made.data.dtype.name, made.shape, library.streams[library.device]))
        return made

    class Memory:
        def __init__(self, size):
            self.data = np.empty(size, np.uint8)
            self.ptr = self.data.ctypes.data
            library.notes.append(("allocate", "uint8", (size,), library.streams[library.device]))

    def copyto(out, result, casting):
        library.notes.append(("copy", library.streams[out.number]))
        np.copyto(out.data, result.data, casting=casting)

    module.ndarray = ndarray
    module.empty = lambda shape, dtype: allocate(np.empty(shape, dtype))
    module.empty_like = lambda like, dtype, order: allocate(np.empty_like(like.data, dtype=dtype, order=order))
    module.full = lambda shape, value, dtype: allocate(np.full(shape, value, dtype))
    module.broadcast_to = lambda a, shape: a._wrap(np.broadcast_to(a.data, shape))
    module.copyto = copyto
    module.cuda = types.SimpleNamespace(
        get_current_stream=lambda device: Stream(library.streams[device]),
        Device=library.current,
        ExternalStream=Stream,
        Stream=Stream,
        alloc=Memory,
    )
    return module
