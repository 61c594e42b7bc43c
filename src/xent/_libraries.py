"""What xent.cuda needs of the libraries that arrays come from: their current stream, and their memory for results.

Streams are numbered as DLPack numbers them: 1 is CUDA's legacy default stream, 2 the per-thread one, anything else a
``cudaStream_t``. No library is imported here: whoever has an array of one has loaded it.
"""

import contextlib
import operator
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

LEGACY, PER_THREAD = 1, 2


def stream_number(stream: Any) -> int:
    """The number of a stream: an int, or a stream of PyTorch, CuPy, Numba, or whoever else has __cuda_stream__."""
    if hasattr(stream, "__index__") and not isinstance(stream, bool):
        number = operator.index(stream)
        if number <= 0:
            raise ValueError(
                f"stream={number} is no stream: 1 is the legacy default stream, 2 the per-thread one, "
                "and anything else the address of a cudaStream_t"
            )
        return number
    for attribute in ("__cuda_stream__", "cuda_stream", "ptr", "handle"):
        found = getattr(stream, attribute, None)
        if found is not None:
            if attribute == "__cuda_stream__":
                found = (found() if callable(found) else found)[1]
            # ctypes' pointers hold their address, None for 0. Of an object it is clear which stream its 0 means.
            return int(getattr(found, "value", found) or LEGACY)
    raise TypeError(f"stream must be an int or a stream of an array library, not {type(stream).__name__}")


class _Library:
    """A library that gives memory to write to on a stream of one's choice, and says which stream it is on itself."""

    HAS_STREAMS = True

    def __init__(self, module: Any) -> None:
        self.module = module  # the library itself, or ours that allocates for it

    def keep(self, array: Any, device: int, stream: int) -> bool:
        """Have the memory of an array not used again before what is queued on `stream`; whether that could be had."""
        return False

    def broadcast_to(self, array: Any, shape: tuple[int, ...]) -> Any:
        return self.module.broadcast_to(array, shape)

    def check_out(self, out: Any, op: str) -> None:
        pass

    def check_copy(self, out: Any) -> None:
        pass

    def deliver(self, result: Any, like: Any) -> Any:
        return result


class Torch(_Library):
    """PyTorch: its caching allocator knows streams, and is told where a tensor is read elsewhere."""

    def device(self, array: Any) -> Any:
        return array.device.index

    def current_stream(self, device: int | None) -> int:
        return self.module.cuda.current_stream(device).cuda_stream or LEGACY

    def _stream(self, device: int | None, stream: int) -> Any:
        if stream == LEGACY:
            return self.module.cuda.default_stream(device)
        return self.module.cuda.ExternalStream(stream, device=device)

    def at(self, device: int | None) -> Any:
        """The device made current, without which a tensor on it is not exported."""
        if self.module.cuda.current_device() == device:
            return contextlib.nullcontext()
        return self.module.cuda.device(device)

    def on(self, device: int | None, stream: int) -> Any:
        """The device and the stream made current: what is allocated belongs to that stream."""
        return self.module.cuda.stream(self._stream(device, stream))

    def empty(self, shape: tuple[int, ...], dtype: str, device: int, stream: int, like: Any) -> Any:
        dtype = getattr(self.module, dtype)
        if like is not None and tuple(like.shape) == shape:
            return self.module.empty_like(like, dtype=dtype)  # its strides too, so that one walk suits both
        return self.module.empty(shape, dtype=dtype, device=self.module.device("cuda", device))

    def scalar(self, value: float, device: int, stream: int) -> Any:
        return self.module.full((), value, dtype=self.module.float64, device=self.module.device("cuda", device))

    def workspace(self, size: int, device: int, stream: int) -> tuple[Any, int]:
        memory = self.module.empty(size, dtype=self.module.uint8, device=self.module.device("cuda", device))
        return memory, memory.data_ptr()

    def keep(self, array: Any, device: int, stream: int) -> bool:
        array.record_stream(self._stream(device, stream))
        return True

    def reshaped(self, array: Any, order: Sequence[int], shape: tuple[int, ...]) -> Any:
        return array.permute(tuple(order)).reshape(shape)

    def copy(self, result: Any, out: Any) -> None:
        out.copy_(result)

    def cast(self, array: Any, dtype: Any) -> Any:
        return array.to(getattr(self.module, dtype) if isinstance(dtype, str) else dtype)


class _Numbered:
    """A stream of which no more than its number is known, by CUDA's protocol."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.number


class CuPy(_Library):
    """CuPy: its pool gives memory back to the stream that it was allocated on, whoever reads it elsewhere."""

    def device(self, array: Any) -> Any:
        return array.device.id

    def current_stream(self, device: int | None) -> int:
        return self.module.cuda.get_current_stream(device).ptr or LEGACY

    def at(self, device: int | None) -> Any:
        return self.module.cuda.Device(device)

    def _stream(self, device: int | None, stream: int) -> Any:
        own = self.module.cuda.Stream
        if stream <= PER_THREAD:
            return own.null if stream == LEGACY else own.ptds
        if hasattr(own, "from_external"):
            return own.from_external(_Numbered(stream))
        return self.module.cuda.ExternalStream(stream, device)  # before CuPy 14

    @contextlib.contextmanager
    def on(self, device: int | None, stream: int) -> Iterator[None]:
        with self.module.cuda.Device(device), self._stream(device, stream):
            yield

    def empty(self, shape: tuple[int, ...], dtype: str, device: int, stream: int, like: Any) -> Any:
        # bfloat16 has this name, too: who has an array of it has loaded ml_dtypes.
        if like is not None and like.shape == shape:
            return self.module.empty_like(like, dtype=dtype, order="K")
        return self.module.empty(shape, dtype=dtype)

    def scalar(self, value: float, device: int, stream: int) -> Any:
        return self.module.full((), value, dtype="float64")

    def workspace(self, size: int, device: int, stream: int) -> tuple[Any, int]:
        memory = self.module.cuda.alloc(size)
        return memory, memory.ptr

    def reshaped(self, array: Any, order: Sequence[int], shape: tuple[int, ...]) -> Any:
        return array.transpose(tuple(order)).reshape(shape)

    def copy(self, result: Any, out: Any) -> None:
        self.module.copyto(out, result, casting="same_kind")

    def cast(self, array: Any, dtype: Any) -> Any:
        return array.astype(dtype)


class Other(_Library):
    """JAX and everybody else: no stream that we could ask for, and no memory that we may write to.

    A call runs on the legacy default stream; the producer orders its own work before it in ``__dlpack__(stream=1)``.
    The result is memory of ours. JAX, and whoever else has the standard's ``from_dlpack``, takes it; any other gets
    an array of ours.
    """

    HAS_STREAMS = False

    def device(self, array: Any) -> Any:
        return None  # the import will tell

    def current_stream(self, device: int | None) -> int:
        return LEGACY

    def at(self, device: int | None) -> Any:
        return contextlib.nullcontext()

    def on(self, device: int | None, stream: int) -> Any:
        return contextlib.nullcontext()

    def _allocate(self, shape: tuple[int, ...], dtype: str, device: int, stream: int) -> Any:
        if self.module.is_capturing(stream):
            raise RuntimeError(
                "xent.cuda cannot allocate while the stream is captured into a graph; "
                "arrays of PyTorch and CuPy, whose own allocators can, may be"
            )
        return self.module.DeviceArray(shape, dtype, device, stream)

    def empty(self, shape: tuple[int, ...], dtype: str, device: int, stream: int, like: Any) -> Any:
        return self._allocate(shape, dtype, device, stream)

    def scalar(self, value: float, device: int, stream: int) -> Any:
        made = self._allocate((), "float64", device, stream)
        made._set(value)
        return made

    def workspace(self, size: int, device: int, stream: int) -> tuple[Any, int]:
        memory = self._allocate((size,), "uint8", device, stream)
        return memory, memory._view().data

    def _namespace(self, array: Any) -> Any:
        space = getattr(array, "__array_namespace__", None)
        return None if space is None else space()

    def _standard(self, array: Any) -> Any:
        xp = self._namespace(array)
        if xp is None:
            raise TypeError(
                f"several class axes need arrays whose library can reshape them, as PyTorch, CuPy and JAX can; "
                f"{type(array).__name__} has no __array_namespace__"
            )
        return xp

    def reshaped(self, array: Any, order: Sequence[int], shape: tuple[int, ...]) -> Any:
        xp = self._standard(array)
        return xp.reshape(xp.permute_dims(array, tuple(order)), shape)

    def check_copy(self, out: Any) -> None:
        raise TypeError(
            f"out, a {type(out).__name__}, overlaps an operand or goes with several class axes; "
            "only into arrays of PyTorch and CuPy can the result be copied then"
        )

    def cast(self, array: Any, dtype: Any) -> Any:
        jax = sys.modules.get("jax")
        if jax is not None and isinstance(array, jax.Array):
            dtype = jax.dtypes.canonicalize_dtype(dtype)  # float32 where its 64-bit mode is off
        return array.astype(dtype)

    def broadcast_to(self, array: Any, shape: tuple[int, ...]) -> Any:
        return self._standard(array).broadcast_to(array, shape)

    def check_out(self, out: Any, op: str) -> None:
        if type(out).__module__.partition(".")[0] in ("jax", "jaxlib"):
            raise TypeError(f"{op}: out is an array of JAX, which nobody may write to")

    def deliver(self, result: Any, like: Any) -> Any:
        result._finish()
        xp = self._namespace(like)
        return result if not hasattr(xp, "from_dlpack") else xp.from_dlpack(result)


Library: TypeAlias = Torch | CuPy | Other


def library_of(array: Any, native: Any) -> Library:
    """The library that an array belongs to."""
    for name, kind, library in (("torch", "Tensor", Torch), ("cupy", "ndarray", CuPy)):
        module = sys.modules.get(name)
        if module is not None and isinstance(array, getattr(module, kind, ())):
            return library(module)
    return Other(native)
