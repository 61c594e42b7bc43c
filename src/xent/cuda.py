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

from xent import _docs, _hints
from xent._core import TABLE, layout, on_gpu, places, split_out
from xent._libraries import library_of, stream_number

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


class _Place:
    """Where a call runs: the library that its results belong to, the GPU, the stream; and what it was given."""

    def __init__(self, logits, stream, caller):
        self.caller = caller
        self.logits = logits
        self.library = library_of(logits, _cuda)
        self.device = self.library.device(logits)
        self.current = self.library.current_stream(self.device)
        chosen = _SETTINGS.get()[0] if stream is None else stream_number(stream)
        self.stream = self.current if chosen is None else chosen
        self.foreign = []  # operands whose libraries do not know that this stream reads them

    def on_device(self):
        return self.library.at(self.device)

    def on_stream(self):
        """What is allocated here belongs to the call's stream."""
        if self.stream == self.current:
            return contextlib.nullcontext()
        return self.library.on(self.device, self.stream)

    def is_capturing(self):
        return _cuda.is_capturing(self.stream)

    def take(self, array, what):
        """An array as the module sees it, safe to use on the stream from now on."""
        if array is None:
            return None
        array = _bare(array)
        library = library_of(array, _cuda)
        # What its library runs, and when it uses the memory again, is ordered with the call if both are on one stream.
        ordered = library.HAS_STREAMS and library.current_stream(self.device) == self.stream
        taken = _cuda.Array(array, -1 if ordered else self.stream, f"{self.caller}: {what}")
        if not ordered:
            self.foreign.append((library, array, taken))
        return taken

    def take_number(self, array, what):
        """The same, and a plain number as an array of its own; None stays None."""
        if isinstance(array, int | float) or (isinstance(array, np.ndarray | np.generic) and array.ndim == 0):
            return self.own(self.library.scalar(float(array), self.device, self.stream))
        return self.take(array, what)

    def own(self, array):
        """An array that was allocated for this call, on its stream."""
        return array._view() if isinstance(array, _cuda.DeviceArray) else _cuda.Array(array, -1, self.caller)

    def keep(self):
        """After the launch: nobody may use the operands' memory again before the kernels are done with it."""
        late = [taken for library, array, taken in self.foreign if not library.keep(array, self.device, self.stream)]
        # What a graph reads has to live as long as the graph, which is its owner's business.
        if late and not self.is_capturing():
            _cuda.hold(self.device, self.stream, late)


def evaluate(op, logits, target, *, caller=None, operands=("logits", "target"), **options):
    """One operation with its options, on operands of which one at least is on a GPU."""
    caller = caller or op
    _require(caller)
    logits, target = _bare(logits), _bare(target)
    if not on_gpu(logits):
        raise TypeError(
            f"{caller}: {operands[0]} is a {type(logits).__module__}.{type(logits).__qualname__} in CPU memory, "
            f"{operands[1]} is on a GPU; a call runs where all of its operands are"
        )
    several = options.get("axis", -1)
    run = _evaluate_merged if several is None or isinstance(several, (tuple, list)) else _evaluate
    return run(op, logits, target, caller=caller, operands=operands, **options)


def _evaluate(
    op,
    logits,
    target,
    *,
    caller,
    operands,
    labels=False,
    axis=-1,
    keepdims=False,
    where=None,
    out=None,
    dtype=None,
    weight=None,
    pos_weight=None,
    sample_weight=None,
    temperature=None,
    label_smoothing=0.0,
    ignore_index=None,
    reduction="none",
    stream=None,
    check_labels=False,
):
    check_labels = labels and (check_labels or _SETTINGS.get()[1])
    outs = split_out(out, TABLE[op].number)
    for array in outs:
        if array is not None:
            library_of(array, _cuda).check_out(array, op)
    place = _Place(logits, stream, caller)
    _cuda.sweep()
    with place.on_device():
        x = place.take(logits, operands[0])
        place.device = x.device
        _make_ready(place, check_labels)
        t = place.take(target, operands[1])
        given = {"where": place.take(where, "where")}
        given["weight"] = place.take(weight, "weight")
        given["pos_weight"] = place.take(pos_weight, "pos_weight")
        bound = [place.take(array, "out") for array in outs]
        with place.on_stream():
            given["sample_weight"] = place.take_number(sample_weight, "sample_weight")
            given["temperature"] = place.take_number(temperature, "temperature")
            call = _cuda.Call(
                op,
                x,
                t,
                **given,
                caller=caller,
                first=operands[0],
                second=operands[1],
                labels=labels,
                axis=operator.index(axis),
                keepdims=bool(keepdims),
                label_smoothing=label_smoothing,
                ignore_index=ignore_index,
                reduction=reduction,
                dtype=None if dtype is None else _dtype_name(dtype),
            )
            results = _run(place, call, outs, bound, check_labels)
    return results[0] if len(results) == 1 else tuple(results)


def _make_ready(place, check_labels):
    """What has to be so before anything is queued."""
    if check_labels and place.is_capturing():
        raise RuntimeError(
            f"{place.caller}: check_labels=True waits for the GPU, which nothing can do while its stream is captured "
            "into a graph"
        )
    if place.device not in _prepared:
        if place.is_capturing():
            raise RuntimeError(
                f"{place.caller}: the kernels are not loaded yet, and nothing can be while a stream is captured into a "
                f"graph; call xent.cuda.prepare({place.device}) before the capture"
            )
        prepare(place.device)


def _run(place, call, outs, bound, check_labels):
    """Queue the kernels of a call; `outs` are the arrays to write to, or None, for its value and for its rows."""
    library, results, copies = place.library, [], []
    shapes = (call.value_shape, call.out_shape)
    for is_value, shape, view in zip((True, False), shapes, bound, strict=True):
        if shape is not None and view is not None:
            call.check_out(view, is_value)
    for is_value, shape, out, view in zip((True, False), shapes, outs, bound, strict=True):
        if shape is None:
            continue
        result = out
        if view is None or not call.can_write(view, is_value):
            like = None if is_value else place.logits
            result = library.empty(shape, call.dtype(is_value), place.device, place.stream, like)
            view = place.own(result)
            if out is not None:
                library.check_copy(out)
                copies.append((result, out))
        (call.set_value if is_value else call.set_out)(view)
        results.append((result, out))
    size = call.workspace_size()
    memory, address = library.workspace(size, place.device, place.stream) if size else (None, 0)
    try:
        call.run(place.stream, address, size)
    finally:
        place.keep()  # after an error, too: the kernels before it may be queued
    for result, out in copies:
        library.copy(result, out)
    if check_labels:
        call.check_labels(place.stream, address, size)
    del memory  # to be used again behind what is queued
    return [library.deliver(result, place.logits) if out is None else out for result, out in results]


def _evaluate_merged(op, logits, target, *, axis, labels=False, keepdims=False, where=None, out=None, **options):
    """Several class axes: one axis of all their elements, which costs a copy where no stride can walk them."""
    info, library, caller = TABLE[op], library_of(logits, _cuda), options["caller"]
    outs = split_out(out, info.number)
    shape = tuple(logits.shape)
    stand_ins = _stand_in(logits), None if target is None else _stand_in(target)
    batch, classes = layout(caller, options["operands"], *stand_ins, labels, axis)
    merged = _merged(library, logits, places(axis, len(shape), caller))
    if target is not None and not labels:
        target = _merged(library, target, places(axis, len(target.shape), caller))
    ndim = len(batch) + len(classes)
    at = places(axis, ndim, caller)
    rest = iter(batch)
    full = tuple(classes[at.index(i)] if i in at else next(rest) for i in range(ndim))
    if where is not None:
        where = _merged(library, library.broadcast_to(where, full), at)
    value_shape = tuple(1 if i in at else n for i, n in enumerate(full)) if keepdims else batch
    for array, expected in zip(outs, (value_shape, full), strict=True):
        if array is not None:
            library_of(array, _cuda).check_out(array, op)
            if tuple(array.shape) != expected:
                raise ValueError(f"{op}: out has shape {tuple(array.shape)}, the result has {expected}")

    made = _evaluate(op, merged, target, labels=labels, where=where, **options)
    made = list(made) if info.has_value and info.has_emit else [made]
    if info.has_value:
        made[0] = library.split(made[0], value_shape, range(len(value_shape)))
    if info.has_emit:
        # From the batch and then the classes back to the places that the axes came from.
        order = [i for i in range(ndim) if i not in at] + list(at)
        made[-1] = library.split(made[-1], batch + classes, [order.index(i) for i in range(ndim)])
    wanted = [array for array, has in zip(outs, (info.has_value, info.has_emit), strict=True) if has]
    place = _Place(logits, options.get("stream"), op)
    with place.on_device(), place.on_stream():
        for i, array in enumerate(wanted):
            if array is not None:
                library.check_copy(array)
                library.copy(made[i], array)
                made[i] = array
    return made[0] if len(made) == 1 else tuple(made)


def _stand_in(array):
    """An array of the same shape in CPU memory, of no size and, where that says something, of the same dtype."""
    dtype = str(array.dtype).rpartition(".")[2]
    return np.broadcast_to(np.zeros((), dtype if "int" in dtype else float), tuple(array.shape))


def _merged(library, array, axes):
    """`array` with `axes` made one axis, the last."""
    shape = tuple(array.shape)
    rest = [i for i in range(len(shape)) if i not in axes]
    classes = 1
    for i in axes:
        classes *= shape[i]
    return library.merge(array, [*rest, *axes], (*[shape[i] for i in rest], classes))


# ---------------------------------------------------------------------------------------------------------------------
# Knowledge distillation: two calls, and one divisor for both


def distillation(
    student,
    teacher,
    labels,
    *,
    temperature,
    alpha,
    scale_by_temperature_squared,
    axis,
    weight,
    sample_weight,
    ignore_index,
    where,
    reduction,
    return_grad,
    dtype=None,
):
    """`xent.losses.distillation` of arrays on a GPU, once it has looked at what can be looked at.

    Temperatures that are numbers may be any, as on the CPU; of those above 1024 the gradients and terms of float64
    logits are right to 1e-7. Temperatures in an array on the GPU are not looked at: their squares and the divided
    logits are to stay in the range of floats.
    """
    name = "distillation"
    _require(name)
    given = {"student_logits": student, "teacher_logits": teacher, "labels": labels, "where": where}
    for what, array in given.items():
        if array is not None and not on_gpu(array):
            raise TypeError(
                f"{name}: {what} is in CPU memory, others are on a GPU; a call runs where all of its operands are"
            )
    library = library_of(student, _cuda)
    shape = tuple(student.shape)
    if shape != tuple(teacher.shape):
        raise ValueError(_hints.two_shapes(name, OnGPU(student), OnGPU(teacher)))
    (axis,) = places((axis,), len(shape), name)
    batch = shape[:axis] + shape[axis + 1 :]
    if labels is not None and tuple(labels.shape) != batch:
        raise ValueError(_hints.not_one_a_row(name, OnGPU(labels), shape, batch))
    if ignore_index is not None:
        # Both parts leave out the same rows. One bool a row: nothing of the logits' size.
        known = (labels != ignore_index)[(slice(None),) * axis + (None,)]
        where = known if where is None else where & known
    temperature = _wide(library, temperature, "temperature")
    sample_weight = _wide(library, sample_weight, "sample_weight")
    if reduction == "mean":
        divisor = _counted_weight(library, sample_weight, where, shape, axis)
        sample_weight = sample_weight / divisor
    result = _promoted(student, teacher) if dtype is None else _dtype_name(dtype)
    # The labels' part does not see the teacher's dtype: it is not to be rounded to less.
    inner = result if dtype is not None or (labels is not None and result != _dtype_name(student.dtype)) else None
    # In float64, whose range has the logits divided by a temperature at which the limit is reached.
    extreme = scale_by_temperature_squared and isinstance(temperature, float) and not _COLD <= temperature <= _WARM
    summed = {"caller": name, "dtype": "float64" if extreme else inner, "axis": axis, "where": where}
    summed["reduction"] = "sum" if reduction == "mean" else reduction
    variant = "_terms" if reduction in ("terms", "per_class") else "_value_and_grad" * bool(return_grad)

    def soft(variant):
        at, factor = temperature, temperature**2 if scale_by_temperature_squared and not extreme else 1.0
        if extreme:
            # Values keep their digits however near the rows are; terms and gradients are differences.
            at = min(max(temperature, _COLDEST), _WARMEST if variant == "" else _WARMEST_OF_DIFFERENCES)
            # Terms grow with T, and cold rows' values fall with it; all else tends to a limit.
            factor = at * (temperature if variant == "_terms" or temperature < at else at)
        return evaluate(
            "kl_div_with_logits" + variant,
            student,
            teacher,
            operands=("student_logits", "teacher_logits"),
            temperature=at,
            sample_weight=sample_weight * alpha * factor,
            **summed,
        )

    parts = [(soft(""), soft(variant)[1]) if extreme and return_grad else soft(variant)]
    if labels is not None:
        parts.append(
            evaluate(
                ("cross_entropy" if variant == "_terms" else "cross_entropy_with_labels") + variant,
                student,
                labels,
                operands=("student_logits", "labels"),
                labels=True,
                weight=weight,
                sample_weight=sample_weight * (1.0 - alpha),
                ignore_index=ignore_index,
                **summed,
            )
        )
    place = _Place(student, None, name)
    with place.on_device(), place.on_stream():
        parts = [part if return_grad else (part,) for part in parts]
        value, *gradient = [first + more[0] if more else first for first, *more in zip(*parts, strict=True)]
        if reduction == "mean":
            # A sum over no rows is 0; their mean is not.
            nothing = 0.0 / divisor
            value = value + (nothing if isinstance(nothing, float) else library.cast(nothing, value.dtype))
        if extreme:
            of_value = "float32" if dtype is None and reduction in ("sum", "mean") and "16" in result else result
            value = library.cast(value, of_value)
            gradient = [library.cast(part, result) for part in gradient]
    return (value, *gradient) if return_grad else value


# Temperatures beyond which T^2 KL is computed at another one in float64. 2^-160 tells all float32 apart; at 2^26 the
# limit is as near as what differences of float64 round.
_COLD, _COLDEST, _WARM, _WARMEST, _WARMEST_OF_DIFFERENCES = 2.0**-40, 2.0**-160, 2.0**10, 2.0**400, 2.0**26


def _promoted(student, teacher):
    names = {_dtype_name(student.dtype), _dtype_name(teacher.dtype)}
    return names.pop() if len(names) == 1 else "float64" if "float64" in names else "float32"


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


# ---------------------------------------------------------------------------------------------------------------------
# The operations, one function each, with the names of their operands


def _of_logits(name):
    def call(logits, *, axis=-1, keepdims=False, where=None, out=None, dtype=None, stream=None):
        return evaluate(
            name, logits, None, axis=axis, keepdims=keepdims, where=where, out=out, dtype=dtype, stream=stream
        )

    return call


def _of_probs(name):
    def call(probs, *, axis=-1, keepdims=False, where=None, out=None, dtype=None, stream=None):
        options = {"axis": axis, "keepdims": keepdims, "where": where, "out": out, "dtype": dtype, "stream": stream}
        return evaluate(name, probs, None, operands=("probs", ""), **options)

    return call


def _of_target(name):
    def call(logits, target, *, axis=-1, keepdims=False, where=None, out=None, dtype=None, stream=None):
        options = {"axis": axis, "keepdims": keepdims, "where": where, "out": out, "dtype": dtype, "stream": stream}
        return evaluate(name, logits, target, **options)

    return call


def _of_logits_pair(name):
    def call(logits, other_logits, *, axis=-1, keepdims=False, where=None, out=None, dtype=None, stream=None):
        options = {"axis": axis, "keepdims": keepdims, "where": where, "out": out, "dtype": dtype, "stream": stream}
        return evaluate(name, logits, other_logits, operands=("logits", "other_logits"), **options)

    return call


def _of_labels(name):
    def call(
        logits, labels, *, axis=-1, keepdims=False, where=None, out=None, dtype=None, stream=None, check_labels=False
    ):
        options = {"axis": axis, "keepdims": keepdims, "where": where, "out": out, "dtype": dtype, "stream": stream}
        options |= {"labels": True, "check_labels": check_labels}
        return evaluate(name, logits, labels, operands=("logits", "labels"), **options)

    return call


def _of_log_probs(name):
    def call(
        log_probs, labels, *, axis=-1, keepdims=False, where=None, out=None, dtype=None, stream=None, check_labels=False
    ):
        options = {"axis": axis, "keepdims": keepdims, "where": where, "out": out, "dtype": dtype, "stream": stream}
        options |= {"labels": True, "check_labels": check_labels}
        return evaluate(name, log_probs, labels, operands=("log_probs", "labels"), **options)

    return call


def _of_elements(name):
    first, second = _docs.ELEMENTS[name]

    def call(x1, x2, /, *, out=None, dtype=None, stream=None):
        return evaluate(name, x1, x2, operands=(first, second), out=out, dtype=dtype, stream=stream)

    return call


_FACTORIES = {
    ("logits", ""): _of_logits,
    ("probs", ""): _of_probs,
    ("logits", "target"): _of_target,
    ("logits", "other_logits"): _of_logits_pair,
    ("logits", "labels"): _of_labels,
    ("log_probs", "labels"): _of_log_probs,
}


def _operation(name, info):
    factory = _of_elements if info.target == "point" else _FACTORIES[info.operands]
    call = factory(name)
    call.__name__ = call.__qualname__ = name
    call.__module__ = __name__
    call.__doc__ = _docs.cuda_doc(name, info.operands, info.target)
    return call


_OPERATIONS = {name: _operation(name, info) for name, info in TABLE.items()}
globals().update(_OPERATIONS)

__all__ = [*_OPERATIONS, "device_info", "is_available", "is_built", "prepare", "using"]

if _cuda is not None:
    # While CUDA is still there.
    atexit.register(_cuda.drain)
