"""The operations and losses on arrays that live on a CUDA GPU: of PyTorch, CuPy, JAX, or whoever else speaks DLPack.

Every operation of xent is here under its name. ``xent.<name>`` and ``xent.losses.*`` come here by themselves when an
operand is on a GPU; the element-wise `kl_pointwise` and `rel_entr`, ufuncs there, are called here. What differs from
arrays in CPU memory:

* Nothing waits for the GPU and nothing is copied to or from it. A call queues its kernels on the current stream of the
  library that the first operand belongs to, or on ``stream=``, and returns. JAX has no such stream: there the legacy
  default stream it is, which JAX's arrays are made ready for and its results ordered behind. Operands are kept until
  the kernels that read them are done; PyTorch's allocator is told, for any other library the next call looks.
* Results are arrays of the first operand's library: allocated by PyTorch or CuPy themselves; memory of xent's own that
  JAX, or whoever has the array standard's ``from_dlpack``, takes over; else an array of its own that speaks both
  protocols. All operands of a call, the weights among them, are on one GPU; a plain number will do for `temperature`
  and `sample_weight`.
* ``check_labels=False`` is the default: a label out of range makes its row's results NaN, and nothing is read outside
  of the logits. With ``check_labels=True`` the call waits for its result and raises the IndexError that the CPU raises;
  the results are written before that.
* Logits are of a floating dtype; what a number has to be is checked only where it is on the host. A temperature on the
  GPU that is not positive and finite makes its row's results NaN.
* Calls can be captured into a CUDA graph with arrays of PyTorch and CuPy, once `prepare` or an earlier call has loaded
  the kernels. ``check_labels=True`` cannot.

`using` sets the stream and the check for the calls inside it, those of ``xent.losses`` among them.
"""

import atexit
import contextlib
import contextvars
import math
import operator

import numpy as np

from xent import losses
from xent._core import DTYPE_NAMES, Operand, Options, Place, make_callables, on_gpu
from xent._libraries import library_of, stream_number
from xent._temperatures import COLD, WARM

try:
    import xent._cuda as _cuda
except ModuleNotFoundError as _error:
    if _error.name != "xent._cuda":
        raise
    _cuda = None

_SETTINGS = contextvars.ContextVar("xent.cuda", default=(None, False))  # stream, check_labels
_prepared = set()
_available = False


# ---------------------------------------------------------------------------------------------------------------------
# What there is


def is_built():
    """Whether this installation has the CUDA kernels.

    Examples
    --------
    >>> import xent.cuda
    >>> xent.cuda.is_built() in (True, False)
    True
    """
    return _cuda is not None


def is_available():
    """Whether calls can run: the kernels are built, and the driver has a GPU for them.

    Examples
    --------
    >>> import xent.cuda
    >>> xent.cuda.is_available() <= xent.cuda.is_built()
    True
    """
    global _available
    # Once there was a GPU it stays; that there is none may change, as with CUDA_VISIBLE_DEVICES.
    _available = _available or _why_not() is None
    return _available


def _version(number):
    return f"{number // 1000}.{number % 1000 // 10}"


def _why_not():
    """Why no call can run, in a sentence; None where one can."""
    if _cuda is None:
        return (
            "this installation of xent was built without its CUDA part; "
            "`make cuda`, or XENT_CUDA=1 pip install ., builds it"
        )
    devices, driver, runtime, said = _cuda.device_count()
    if devices > 0:
        return None
    if driver == 0:
        return "no NVIDIA driver was found on this machine"
    if driver // 1000 < runtime // 1000:
        return (
            f"the NVIDIA driver is too old: it goes up to CUDA {_version(driver)}, "
            f"and this installation of xent was built with CUDA {_version(runtime)}"
        )
    return f"the NVIDIA driver has no GPU for this process: {said}"


def _require(caller):
    if not is_available():
        raise RuntimeError(f"{caller}: xent.cuda cannot run here: {_why_not()}")


def device_info(device=None):
    """What a GPU is, as far as the choice of kernels depends on it.

    Parameters
    ----------
    device : int, optional
        Its number; without one, all of them.

    Returns
    -------
    dict, or list of dict
        ``name``, ``capability`` (a pair), ``multiprocessors``, ``shared_bytes_per_block``, ``l2_bytes``,
        ``memory_bytes``, ``clock_khz``, ``memory_clock_khz``, ``memory_bus_bits``. An empty list where no call can run.

    Raises
    ------
    RuntimeError
        `device` is given and not there: with the reason.

    Examples
    --------
    >>> import xent.cuda
    >>> len(xent.cuda.device_info()) > 0 if xent.cuda.is_available() else xent.cuda.device_info() == []
    True
    """
    if device is None:
        return [_cuda.device_info(i) for i in range(_cuda.device_count()[0])] if is_available() else []
    _require("device_info")
    return _cuda.device_info(operator.index(device))


def prepare(device=0):
    """Load the kernels of a GPU now, as its first call does otherwise; before a call is captured into a graph.

    Raises
    ------
    RuntimeError
        There is no such GPU, or this build has no code for it.

    Examples
    --------
    >>> import xent.cuda
    >>> if xent.cuda.is_available():
    ...     xent.cuda.prepare(0)
    """
    _require("prepare")
    device = operator.index(device)
    _cuda.prepare(device)
    _prepared.add(device)


@contextlib.contextmanager
def using(stream=None, check_labels=False):
    """A context in which every call on GPU arrays, of ``xent.losses`` too, has this stream and this check of labels.

    Parameters
    ----------
    stream : int or stream, optional
        As everywhere here: a stream of PyTorch, CuPy, Numba or cuda.core, or DLPack's number of one.
    check_labels : bool, default False
        Whether labels out of range are an IndexError, for which a call waits, instead of NaN.

    Examples
    --------
    >>> import xent.cuda
    >>> with xent.cuda.using(check_labels=True):
    ...     pass
    """
    token = _SETTINGS.set((None if stream is None else stream_number(stream), bool(check_labels)))
    try:
        yield
    finally:
        _SETTINGS.reset(token)


# ---------------------------------------------------------------------------------------------------------------------
# A call


class OnGPU:
    """An operand that stays where it is, and what xent.losses must know of it: its dtype's kind, as NumPy has it."""

    __slots__ = ("array", "kind", "name")

    def __init__(self, array):
        self.array = array
        # PyTorch says torch.int64 where NumPy's dtypes, which the others have, say int64.
        self.name = str(array.dtype).rpartition(".")[2]
        self.kind = {"bool": "b", "int": "i", "uint": "u"}.get(self.name.rstrip("0123456789"), "f")

    @property
    def dtype(self):
        return self

    @property
    def shape(self):
        return tuple(self.array.shape)

    def __str__(self):
        return self.name


def _bare(array):
    return array.array if isinstance(array, OnGPU) else array


def _dtype_name(dtype):
    try:
        return np.dtype(dtype).name
    except TypeError:
        return str(dtype).rpartition(".")[2]  # PyTorch's own


class Device(Place):
    """Where a call on a GPU runs: the library that its results belong to, the device, the stream; and what was given.

    `xent._core` says what a call means; here its operands are taken, its results allocated and its request run."""

    def __init__(self, logits, target, options):
        self.caller = options.caller
        _require(self.caller)
        self.logits = _bare(logits)
        if not on_gpu(self.logits):
            first, second = options.operands
            there = target is not None and on_gpu(target)
            raise TypeError(
                f"{self.caller}: {first} is a {type(logits).__module__}.{type(logits).__qualname__} in CPU memory, "
                + (f"{second} is on a GPU; a call runs where all of its operands are" if there else "not on a CUDA GPU")
            )
        self.library = library_of(self.logits, _cuda)
        self.device = self.library.device(self.logits)
        self.current = self.library.current_stream(self.device)
        stream, check_labels = _SETTINGS.get()
        if options.stream is not None:
            stream = stream_number(options.stream)
        self.stream = self.current if stream is None else stream
        self.check_labels = options.labels and (options.check_labels or check_labels)
        self.foreign = []  # operands whose libraries do not know that this stream reads them
        self.ready = False

    def __enter__(self):
        _cuda.sweep()
        self.entered = self.library.at(self.device)
        self.entered.__enter__()
        return self

    def __exit__(self, *error):
        self.entered.__exit__(*error)

    def on_stream(self):
        """What is allocated here belongs to the call's stream."""
        if self.stream == self.current:
            return contextlib.nullcontext()
        return self.library.on(self.device, self.stream)

    def take(self, array, name, options):
        """An array as _core sees it, safe to use on the stream from now on."""
        array = _bare(array)
        library = library_of(array, _cuda)
        # What its library runs, and when it uses the memory again, is ordered with the call if both are on one stream.
        ordered = library.HAS_STREAMS and library.current_stream(self.device) == self.stream
        view = _cuda.Array(array, -1 if ordered else self.stream, f"{self.caller}: {name}")
        if not ordered:
            self.foreign.append((library, array, view))
        if not self.ready:
            self.device = view.device
            self._make_ready()
            self.ready = True
        return Operand.of_gpu(array, view)

    def _make_ready(self):
        """What has to be so before anything is queued."""
        capturing = _cuda.is_capturing(self.stream)
        if self.check_labels and capturing:
            raise RuntimeError(
                f"{self.caller}: check_labels=True waits for the GPU, which nothing can do while its stream is "
                "captured into a graph"
            )
        if self.device not in _prepared:
            if capturing:
                raise RuntimeError(
                    f"{self.caller}: the kernels are not loaded yet, and nothing can be while a stream is captured "
                    f"into a graph; call xent.cuda.prepare({self.device}) before the capture"
                )
            prepare(self.device)

    def take_mask(self, where, options):
        return self.take(where, "where", options)

    def take_weights(self, weights, name, options):
        """A plain number, too, as an array of its own; of numbers a class there is none."""
        if isinstance(weights, np.ndarray) and weights.ndim == 0 and name in ("sample_weight", "temperature"):
            with self.on_stream():
                return self._own(self.library.scalar(float(weights), self.device, self.stream))
        return self.take(weights, name, options)

    def take_out(self, out, options):
        library_of(out, _cuda).check_out(out, options.caller)
        return self.take(out, "out", options)

    def _own(self, array):
        """An array that was allocated for this call, on its stream."""
        own = isinstance(array, _cuda.DeviceArray)
        return Operand.of_gpu(array, array._view() if own else _cuda.Array(array, -1, self.caller))

    def empty(self, shape, dtype, like):
        if like is not None:
            like = like.array
            shape = tuple(like.shape)
        with self.on_stream():
            return self._own(self.library.empty(shape, DTYPE_NAMES[dtype], self.device, self.stream, like))

    def run(self, request, options):
        """Queue the kernels of a request, which lies at an address."""
        size = _cuda.workspace_size(request, self.device, self.caller)
        address = 0
        if size:
            with self.on_stream():
                self.memory, address = self.library.workspace(size, self.device, self.stream)
        self.launch = _cuda.Launch(self.device, self.stream, address, size)
        try:
            _cuda.run(request, self.launch, self.caller)
        finally:
            self._keep()  # after an error, too: the kernels before it may be queued

    def _keep(self):
        """Nobody may use the operands' memory again before the kernels are done with it."""
        late = [view for library, array, view in self.foreign if not library.keep(array, self.device, self.stream)]
        # What a graph reads has to live as long as the graph, which is its owner's business.
        if late and not _cuda.is_capturing(self.stream):
            _cuda.hold(self.device, self.stream, late)

    def bad_label(self, options):
        """(row, label) of the first label out of range, where it is asked for."""
        return _cuda.bad_label(self.launch, self.caller) if self.check_labels else None

    def reshaped(self, array, order, shape):
        return library_of(array, _cuda).reshaped(array, order, shape)

    def stretched(self, array, shape):
        return library_of(array, _cuda).broadcast_to(array, shape)

    def check_copy(self, out):
        self.library.check_copy(out)

    def copy(self, result, out):
        with self.on_stream():
            self.library.copy(result, out)

    def deliver(self, result):
        return self.library.deliver(result, self.logits)


# ---------------------------------------------------------------------------------------------------------------------
# Knowledge distillation: two calls, and one divisor for both


def operands_of_distillation(student, teacher, labels, where):
    """The student's and the teacher's logits and the labels as `OnGPU`, once all are found to be there."""
    name = "distillation"
    _require(name)
    given = {"student_logits": student, "teacher_logits": teacher, "labels": labels, "where": where}
    for what, array in given.items():
        if array is not None and not on_gpu(array):
            raise TypeError(
                f"{name}: {what} is in CPU memory, others are on a GPU; a call runs where all of its operands are"
            )
    return OnGPU(student), OnGPU(teacher), None if labels is None else OnGPU(labels)


def distillation(
    student, teacher, labels, axis, where, temperature, scaled, alpha, weights, variant, reduction, dtype, of_labels
):
    """`xent.losses.distillation` of arrays on a GPU, once it has looked at what can be looked at.

    Temperatures that are numbers may be any, as on the CPU; of those above 1024 the gradients and terms of float64
    logits are right to 1e-7. Temperatures in an array on the GPU are not looked at: their squares and the divided
    logits are to stay in the range of floats.
    """
    library = library_of(student.array, _cuda)
    if of_labels["ignore_index"] is not None:
        # Both parts leave out the same rows. One bool a row: nothing of the logits' size.
        known = (labels.array != of_labels["ignore_index"])[(slice(None),) * axis + (None,)]
        where = known if where is None else where & known
    temperature = _wide(library, temperature, "temperature")
    sample_weight = _wide(library, weights, "sample_weight")
    if reduction == "mean":
        divisor = _counted_weight(library, sample_weight, where, student.shape, axis)
        sample_weight = sample_weight / divisor
    result = losses._promoted(student, teacher) if dtype is None else _dtype_name(dtype)
    # In float64, whose range has the logits divided by a temperature at which the limit is reached.
    extreme = scaled and isinstance(temperature, float) and not COLD <= temperature <= WARM
    options = {"axis": axis, "where": where, "reduction": "sum" if reduction == "mean" else reduction}
    options["dtype"] = "float64" if extreme else losses._dtype_of_parts(student, teacher, labels, dtype)

    def soft(variant):
        at, factor = temperature, temperature**2 if scaled and not extreme else 1.0
        if extreme:
            # Values keep their digits however near the rows are; terms and gradients are differences.
            at = min(max(temperature, _COLDEST), _WARMEST if variant == "" else _WARMEST_OF_DIFFERENCES)
            # Terms grow with T, and cold rows' values fall with it; all else tends to a limit.
            factor = at * (temperature if variant == "_terms" or temperature < at else at)
        return losses._of_teacher(variant, student, teacher, at, sample_weight * alpha * factor, options)

    parts = [(*soft(""), soft(variant)[1]) if extreme and variant == "_value_and_grad" else soft(variant)]
    if labels is not None:
        parts.append(losses._of_labels(variant, student, labels, sample_weight * (1.0 - alpha), options | of_labels))
    with Device(student, None, Options("distillation")) as device, device.on_stream():
        value, *gradient = [first + more[0] if more else first for first, *more in zip(*parts, strict=True)]
        if reduction == "mean":
            # A sum over no rows is 0; their mean is not.
            nothing = 0.0 / divisor
            value = value + (nothing if isinstance(nothing, float) else library.cast(nothing, value.dtype))
        if extreme:
            of_value = "float32" if dtype is None and reduction in ("sum", "mean") and "16" in result else result
            value = library.cast(value, of_value)
            gradient = [library.cast(part, result) for part in gradient]
    return (value, *gradient) if gradient else value


# Temperatures beyond which T^2 KL is computed at another one in float64. 2^-160 tells all float32 apart; at 2^26 the
# limit is as near as what differences of float64 round.
_COLDEST, _WARMEST, _WARMEST_OF_DIFFERENCES = 2.0**-160, 2.0**400, 2.0**26


def _wide(library, option, what):
    """A number, or an array in float64."""
    if on_gpu(option):
        return library.cast(option, "float64")
    if option.ndim > 0:
        raise TypeError(f"distillation: {what} is an array in CPU memory, the logits are on a GPU")
    return float(option)


def _counted_weight(library, sample_weight, where, shape, axis):
    """The sum of the sample weights of the rows that count: a number, or an array without dimensions."""
    rows = math.prod(shape[:axis] + shape[axis + 1 :])
    weights = sample_weight
    if where is not None and shape[axis]:
        behind = len(shape) - axis  # where the class axis is, counted from the end
        counted = where if len(where.shape) < behind else where.any(-behind)
        weights = weights * library.cast(counted, "float64")
    if isinstance(weights, float):
        return weights * rows or math.nan  # where an array would divide to NaN, Python would raise
    # Every weight stands for as many rows as it broadcasts to.
    return weights.sum() * (rows / max(math.prod(weights.shape), 1))


_OPERATIONS = make_callables(True)
globals().update(_OPERATIONS)

__all__ = [*_OPERATIONS, "device_info", "is_available", "is_built", "prepare", "using"]

if _cuda is not None:
    # While CUDA is still there.
    atexit.register(_cuda.drain)
