# cython: language_level=3, freethreading_compatible=True, auto_pickle=False
"""The one module that calls libxent: requests from arrays, the callables xent.<name>, threads and instruction sets."""

import functools
import inspect
import math
import operator
import os
import platform
import sys
from collections import namedtuple

import numpy as np

from xent import _docs

cimport cython
cimport numpy as cnp
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_INCREF
from libc.limits cimport INT_MAX
from libc.string cimport memcmp, memcpy
from numpy cimport ndarray

from xent._xent_h cimport *

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    # Steals the reference to descr, which numpy's own pxd does not say.
    object PyArray_NewLikeArray(ndarray prototype, cnp.NPY_ORDER order, void *descr, int subok)

cdef enum:
    # NumPy keeps the GIL for loops shorter than this too: giving it up and taking it back costs more than the loop.
    GIL_THRESHOLD = 500
    # Threads may share rows of so many classes, for which they need scratch; to ask whether they do costs nothing beside
    # the row.
    MANY_CLASSES = 32768
    ON_CPU = -1  # among the numbers of GPUs
    FEW = 8  # dimensions that hardly any array has more of
    BUILTIN = 24  # NumPy's own types have smaller numbers, those that others have brought have larger ones

OPERATIONS = xent_ops(&OPERATION_COUNT)

cdef char NOTHING = 0  # the address of an array without elements that has none of its own

ctypedef ptrdiff_t[XENT_MAX_NDIM + 1] Extents

cdef object LAST = -1  # of which there is one object alone
cdef object NDARRAY_UFUNC = np.ndarray.__array_ufunc__
cdef object REDUCTIONS = {
    "none": XENT_NONE, "terms": XENT_NONE, "sum": XENT_SUM, "mean": XENT_MEAN, "per_class": XENT_PER_CLASS,
}
cdef dict DTYPES = {
    "float16": XENT_F16, "bfloat16": XENT_BF16, "float32": XENT_F32, "float64": XENT_F64, "bool": XENT_BOOL,
    "int8": XENT_I8, "int16": XENT_I16, "int32": XENT_I32, "int64": XENT_I64,
    "uint8": XENT_U8, "uint16": XENT_U16, "uint32": XENT_U32, "uint64": XENT_U64,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}

# By NumPy's numbers, of which C's long and long long are two of one name; XENT_NO_DTYPE, 0, is that of all others.
cdef uint8_t[BUILTIN] DTYPE_OF
for code in "?efdbhilqBHILQ":
    DTYPE_OF[np.dtype(code).num] = DTYPES[np.dtype(code).name]
del code

# The number that NumPy has given ml_dtypes' bfloat16, once somebody has brought it: xent itself does not import ml_dtypes.
BFLOAT16 = -1


# ---------------------------------------------------------------------------------------------------------------------
# The library, for this module and for the others

cdef void begin(xent_request *req) noexcept nogil:
    xent_request_init(req)


cdef xent_status execute(xent_request *req) noexcept nogil:
    """Run, with the scratch that the request needs, if any. XENT_ERR_SCRATCH: there is no memory for it."""
    cdef size_t size = 0
    cdef xent_status status
    # Where scratch is likely it is asked for first: to be refused is to have all labels and masks read for nothing.
    if req.reduction == XENT_NONE and req.classes < MANY_CLASSES:
        status = xent_run(req)
        if status != XENT_ERR_SCRATCH:
            return status
    status = xent_scratch_size(req, &size)
    if status != XENT_OK:
        return status
    if size == 0:
        return xent_run(req)
    req.scratch = PyMem_RawMalloc(size)
    if req.scratch == NULL:
        return XENT_ERR_SCRATCH
    req.scratch_size = size
    status = xent_run(req)
    PyMem_RawFree(req.scratch)
    req.scratch = NULL
    req.scratch_size = 0
    return status


cdef int fail(xent_status status, const char *name) except -1:
    """Raise what a status other than XENT_OK means."""
    if status == XENT_ERR_SCRATCH:
        raise MemoryError
    if status == XENT_ERR_ISA:
        raise RuntimeError(
            f"XENT_ISA={os.environ.get('XENT_ISA')} is not an instruction set that runs here; "
            f"these do: {', '.join(available_isas())}"
        )
    of_value = status in (XENT_ERR_SHAPE, XENT_ERR_OPTION, XENT_ERR_REDUCTION)
    kind = TypeError if status == XENT_ERR_DTYPE else ValueError if of_value else SystemError
    raise kind(f"{name.decode()}: {xent_strerror(status).decode()}")


cdef int look_for_bfloat16() except -1:
    """Called before operands are looked at closely: whoever has a bfloat16 array has loaded ml_dtypes."""
    if BFLOAT16 < 0 and loaded("ml_dtypes", "bfloat16") != ():
        from xent import _ufuncs

        _ufuncs.register_bfloat16()


cdef int dtype_of_type(int typenum) noexcept nogil:
    """The library's name for one of NumPy's types; XENT_NO_DTYPE where it has none."""
    if 0 <= typenum < BUILTIN:
        return DTYPE_OF[typenum]
    return XENT_BF16 if typenum == BFLOAT16 else XENT_NO_DTYPE


cdef inline bint is_float(int dtype) noexcept nogil:
    return dtype == XENT_F64 or dtype == XENT_F32 or dtype == XENT_F16 or dtype == XENT_BF16


cdef inline bint is_integer(int dtype) noexcept nogil:
    return dtype in (XENT_I8, XENT_I16, XENT_I32, XENT_I64, XENT_U8, XENT_U16, XENT_U32, XENT_U64)


cdef inline int promoted(int a, int b) noexcept nogil:
    """The narrowest float that holds every value of both. NumPy has none for float16 with bfloat16; float32 does."""
    return a if a == b else XENT_F64 if a == XENT_F64 or b == XENT_F64 else XENT_F32


cdef inline int type_of(int dtype) noexcept nogil:
    if dtype == XENT_BF16:
        return BFLOAT16
    return cnp.NPY_DOUBLE if dtype == XENT_F64 else cnp.NPY_FLOAT if dtype == XENT_F32 else cnp.NPY_FLOAT16


cdef inline int compute_in(int dtype) noexcept nogil:
    return XENT_F64 if dtype == XENT_F64 else XENT_F32


# ---------------------------------------------------------------------------------------------------------------------
# Operands

@cython.final
@cython.freelist(16)
cdef class Operand:
    """An array where it lies: a view of NumPy's memory, or of a GPU's by xent._cuda's."""
    cdef readonly object array  # as it was given, or as what had to be made of it
    cdef object owner  # whose data, shape and strides are
    cdef object given  # the dtype that it came with, where it is another one now
    cdef object mask  # a masked array's, True where an element is hidden
    cdef char *data
    cdef const ptrdiff_t *shape
    cdef const ptrdiff_t *strides  # in bytes
    cdef ptrdiff_t itemsize
    cdef int ndim
    cdef int dtype  # XENT_NO_DTYPE: one that no operation takes
    cdef readonly int device  # ON_CPU, or a GPU's number
    cdef bint swapped, read_only
    cdef ptrdiff_t extents[2 * FEW]  # shape and strides of an ndarray, which somebody else may give another shape meanwhile

    @staticmethod
    def of_gpu(array, view):
        """Of an array of a GPU's library, with xent._cuda's view of it."""
        cdef Operand a = Operand.__new__(Operand)
        cdef size_t data, shape, strides
        data, shape, strides, a.itemsize, a.ndim, a.dtype, a.device, a.read_only = view.fields
        if a.ndim > XENT_MAX_NDIM + 1:
            raise ValueError(f"{a.ndim} dimensions are more than the {XENT_MAX_NDIM + 1} that there may be")
        a.array, a.owner = array, view
        a.data, a.shape, a.strides = <char *>data, <const ptrdiff_t *>shape, <const ptrdiff_t *>strides
        return a


cdef Operand of_ndarray(ndarray a):
    cdef Operand made = Operand.__new__(Operand)
    cdef int d
    made.array = a
    if cnp.PyArray_NDIM(a) > FEW:
        a = a.view()
    made.owner = a
    made.ndim = cnp.PyArray_NDIM(a)
    made.data = cnp.PyArray_BYTES(a)
    made.itemsize = cnp.PyArray_ITEMSIZE(a)
    if made.ndim > FEW:
        made.shape = <const ptrdiff_t *>cnp.PyArray_DIMS(a)
        made.strides = <const ptrdiff_t *>cnp.PyArray_STRIDES(a)
    else:
        made.shape, made.strides = made.extents, made.extents + FEW
        for d in range(made.ndim):
            made.extents[d] = cnp.PyArray_DIM(a, d)
            made.extents[FEW + d] = cnp.PyArray_STRIDE(a, d)
    made.dtype = dtype_of_type(cnp.PyArray_TYPE(a))
    made.device = ON_CPU
    made.swapped = not cnp.PyArray_ISNOTSWAPPED(a)
    made.read_only = not cnp.PyArray_ISWRITEABLE(a)
    return made


cdef tuple as_tuple(int n, const ptrdiff_t *shape):
    return tuple([shape[i] for i in range(n)])


cdef tuple shape_of(Operand a):
    return as_tuple(a.ndim, a.shape)


cdef object dtype_of(Operand a):
    """What messages say that it is of."""
    return a.owner.dtype


cdef object came_as(Operand a):
    """The dtype that it was given with, with its kind."""
    if a.device != ON_CPU:
        return sys.modules["xent.cuda"].OnGPU(a.array)
    return a.array.dtype if a.given is None else a.given


cdef inline void fill(xent_view *view, Operand a, const ptrdiff_t *strides, ptrdiff_t class_stride) noexcept:
    view.data = a.data if a.data != NULL else &NOTHING
    view.dtype = <uint8_t>a.dtype
    view.swapped = a.swapped
    view.strides = strides
    view.class_stride = class_stride


cdef void extent(Operand a, char **low, char **high) noexcept:
    """The bytes that it lies within."""
    cdef int d
    cdef ptrdiff_t reach
    low[0] = a.data
    high[0] = a.data + a.itemsize
    for d in range(a.ndim):
        reach = (a.shape[d] - 1) * a.strides[d]
        if reach > 0:
            high[0] += reach
        else:
            low[0] += reach


cdef bint is_empty(Operand a) noexcept:
    cdef int d
    for d in range(a.ndim):
        if a.shape[d] == 0:
            return True
    return False


cdef bint same_place(Operand a, Operand b) noexcept:
    """Whether each element of one is the other's of the same index, and no two of them are one."""
    cdef ptrdiff_t step = a.itemsize
    cdef int d
    if a.data != b.data or a.dtype != b.dtype or a.ndim != b.ndim:
        return False
    for d in range(a.ndim - 1, -1, -1):
        if a.shape[d] != b.shape[d] or a.strides[d] != b.strides[d] or (a.shape[d] > 1 and a.strides[d] != step):
            return False
        step *= a.shape[d]
    return True


cdef bint apart(Operand out, Operand a, bint elementwise) noexcept:
    """Whether `out` can be written while `a` is read. Elementwise: also where it is the very same elements, for each is read
    before it is written."""
    cdef char *low, *high, *a_low, *a_high
    if a is None or out.device != a.device or is_empty(out) or is_empty(a):
        return True
    extent(out, &low, &high)
    extent(a, &a_low, &a_high)
    return high <= a_low or a_high <= low or (elementwise and same_place(out, a))


# ---------------------------------------------------------------------------------------------------------------------
# Axes and shapes

cdef struct Axes:
    int count
    int at[XENT_MAX_NDIM + 1]


cdef struct Rows:  # of a call: which rows there are, and where the classes of each operand and of a result lie
    int ndim  # of the batch, which is what is left of the operands without their class axes, broadcast
    Extents shape
    ptrdiff_t classes
    Axes of_x, of_target, of_result
    Extents full  # the batch with the class axes in their places


cdef Axes NO_AXES  # whose count is 0


cdef inline bint has(const Axes *axes, int d) noexcept:
    cdef int i
    for i in range(axes.count):
        if axes.at[i] == d:
            return True
    return False


cdef object one_axis(object axis, str op):
    try:
        return operator.index(axis)
    except TypeError:
        raise TypeError(f"{op}: axis must be an integer, not {axis!r:.60}") from None


cpdef int place(object axis, int ndim, str op) except -1:
    """`axis` counted from the front."""
    axis = one_axis(axis, op)
    if not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(axis, ndim, op)
    return axis % ndim


cdef int find(Axes *axes, object axis, int ndim, str op) except -1:
    """The axes of an operand of so many dimensions that `axis` means: one, a tuple of them, or None for all."""
    cdef int i
    if axis is None:
        axes.count = ndim
        for i in range(ndim):
            axes.at[i] = i
    elif isinstance(axis, tuple):
        axes.count = 0
        for one in axis:
            i = place(one, ndim, op)
            if has(axes, i):
                raise ValueError(f"{op}: duplicate value in axis={axis!r}")
            axes.at[axes.count] = i
            axes.count += 1
    else:
        axes.count = 1
        axes.at[0] = place(axis, ndim, op)


cdef tuple tuple_of(const Axes *axes):
    return tuple([axes.at[i] for i in range(axes.count)])


def places(axis, int ndim, str op):
    """A tuple of axes, or None for all of them, counted from the front."""
    cdef Axes found
    find(&found, axis, ndim, op)
    return tuple_of(&found)


cdef bint widen(int *ndim, ptrdiff_t *shape, Operand a, const Axes *without) noexcept:
    """Broadcast `shape` in place with that of `a` without some of its axes; False where they differ."""
    cdef int i, d, n = a.ndim - without.count
    if n > ndim[0]:
        for i in range(ndim[0] - 1, -1, -1):
            shape[i + n - ndim[0]] = shape[i]
        for i in range(n - ndim[0]):
            shape[i] = 1
        ndim[0] = n
    i = ndim[0]
    for d in range(a.ndim - 1, -1, -1):
        if has(without, d):
            continue
        i -= 1
        if shape[i] == 1:
            shape[i] = a.shape[d]
        elif a.shape[d] != 1 and a.shape[d] != shape[i]:
            return False
    return True


cdef bint walk(int ndim, const ptrdiff_t *shape, Operand a, const Axes *without, ptrdiff_t *strides) noexcept:
    """The strides that walk `shape` over `a` without some of its axes; False where that does not broadcast."""
    cdef int d, i = ndim
    for d in range(a.ndim - 1, -1, -1):
        if has(without, d):
            continue
        i -= 1
        if i < 0:
            return False
        if a.shape[d] == shape[i]:
            strides[i] = a.strides[d]
        elif a.shape[d] == 1:
            strides[i] = 0
        else:
            return False
    for d in range(i):
        strides[d] = 0
    return True


cdef bint joined(const ptrdiff_t *shape, const ptrdiff_t *strides, const Axes *axes, ptrdiff_t *stride) noexcept:
    """Whether one stride walks the elements of several axes in their order; and which."""
    cdef ptrdiff_t next_step = 0
    cdef bint found = False
    cdef int i, d
    stride[0] = strides[axes.at[axes.count - 1]] if axes.count else 0
    for i in range(axes.count - 1, -1, -1):
        d = axes.at[i]
        if shape[d] == 1:
            continue
        if not found:
            stride[0] = strides[d]
        elif strides[d] != next_step:
            return False
        found = True
        next_step = strides[d] * shape[d]
    return True


cdef str op_name(int op):
    return OPERATIONS[op].name.decode()


cdef dict TARGET_NAMES = {
    XENT_TARGET_NONE: "none", XENT_TARGET_PROBS: "probs", XENT_TARGET_LOGITS: "logits",
    XENT_TARGET_LOG_PROBS: "log_probs", XENT_TARGET_LABELS: "labels", XENT_TARGET_POINT: "point",
}

cdef list OPERANDS = [_docs.operands(op_name(op), TARGET_NAMES[OPERATIONS[op].target]) for op in range(OPERATION_COUNT)]


cdef inline tuple operands_of(int op):
    return <tuple>OPERANDS[op]


# ---------------------------------------------------------------------------------------------------------------------
# Reading operands

cdef object loaded(str module, str name):
    """A class of a module that may not be imported: what was never loaded has no instances."""
    return getattr(sys.modules.get(module), name, ())


cdef bint is_masked(object a):
    return isinstance(a, loaded("numpy.ma", "MaskedArray"))


cdef bint is_table(object a):
    return isinstance(a, (
        loaded("pandas", "Series"), loaded("pandas", "DataFrame"), loaded("pandas", "Index"),
        loaded("pandas.api.extensions", "ExtensionArray"), loaded("polars", "Series"), loaded("polars", "DataFrame"),
    ))


def hints():
    """What refusals say beside what is wrong: loaded once a call has failed."""
    from xent import _hints

    return _hints


cdef str type_name(object a):
    return f"{type(a).__module__}.{type(a).__qualname__}"


def on_gpu(a, /):
    """Whether an operand lives on a CUDA GPU, where xent.cuda works on it. CPU memory, and memory pinned for a device, can be
    read here; any other device is a TypeError."""
    if cnp.PyArray_Check(a) or cnp.PyArray_CheckAnyScalar(a) or isinstance(a, (list, tuple)):
        return False
    if isinstance(a, loaded("xent.cuda", "OnGPU")):
        return True
    device = getattr(type(a), "__dlpack_device__", None)
    if device is None:
        return hasattr(a, "__cuda_array_interface__")
    kind = int(device(a)[0])
    if kind in (1, 3, 11):
        return False
    if kind in (2, 13):
        return True
    raise TypeError(
        f"a {type_name(a)} is on a device of DLPack's type {kind}: xent computes in CPU memory and on CUDA GPUs"
    )


def operand(a, str op, str name):
    """What the losses look at: an operand on a GPU as one that stays there, any other as an ndarray."""
    if on_gpu(a):
        from xent import cuda

        return cuda.OnGPU(a)
    return as_array(a, op, name)


cpdef bint foreign(object a):
    """Whether a type brings its own __array_ufunc__ (dask, xarray, units, ...), and is not simply read as an ndarray."""
    if cnp.PyArray_CheckExact(a):
        return False
    own = getattr(type(a), "__array_ufunc__", NDARRAY_UFUNC)
    return own is not NDARRAY_UFUNC and not is_table(a) and not is_masked(a)


def as_array(a, str op, str name):
    """An operand as an ndarray of any dtype; of its subclasses only masked arrays stay what they are."""
    if cnp.PyArray_CheckExact(a) or is_masked(a):
        return a
    if not isinstance(a, (ndarray, np.generic, list, tuple, int, float)):
        if on_gpu(a):
            raise TypeError(f"{op}: {name} is a {type_name(a)} on a GPU, and is needed in CPU memory")
        from xent import _foreign

        a = _foreign.read(a, op, name)
        if is_masked(a):
            return a
    try:
        return np.asarray(a)
    except (TypeError, ValueError) as error:  # nested lists of several lengths, and what else is no array
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{op}: {name}: {error}") from error


cdef int refuse_dtype(ndarray plain, object given, str op, str name) except -1:
    """TypeError for what is no operand; `given`: the dtype that it came with, where it came with one."""
    if dtype_of_type(cnp.PyArray_TYPE(plain)) == XENT_NO_DTYPE:
        raise TypeError(hints().operand_dtype(op, name, plain.dtype, given))


def as_numbers(a, str op, str name):
    """as_array(a), or TypeError for a dtype that is no operand's."""
    given = getattr(a, "dtype", None)
    look_for_bfloat16()
    a = as_array(a, op, name)
    refuse_dtype(a, given, op, name)
    return a


def as_weights(weights, str op, str option):
    """Float64, in which the CPU's kernels read weights and temperatures; None and what is on a GPU are left alone."""
    if weights is None or on_gpu(weights):
        return weights
    weights = as_array(weights, op, option)
    if is_masked(weights):
        raise TypeError(
            f"{op}: {option} must not be masked: {option}.filled() takes the number that is meant where it is"
        )
    if cnp.PyArray_TYPE(weights) == cnp.NPY_DOUBLE and cnp.PyArray_ISNOTSWAPPED(weights):
        return weights
    if not np.can_cast(weights.dtype, np.float64, "same_kind"):
        raise TypeError(f"{op}: {option} must be real numbers, not {weights.dtype}")
    return weights.astype(np.float64)


def as_temperatures(temperature, str op):
    """Positive numbers, as_weights; on a GPU they are not looked at, which would be to wait."""
    if temperature is None:
        raise TypeError(f"{op}: temperature must be real numbers, not None")
    temperature = as_weights(temperature, op, "temperature")
    if on_gpu(temperature) or (temperature.ndim == 0 and 0.0 < float(temperature) < math.inf):
        return temperature
    wrong = ~((temperature > 0.0) & (temperature < np.inf))
    if wrong.any():
        at = tuple([int(i) for i in np.argwhere(wrong)[0]])
        where = f" at {at if len(at) > 1 else at[0]}" if at else ""
        raise ValueError(f"{op}: temperature must be positive and finite, got {temperature[at]}{where}")
    return temperature


def as_share(value, str op, str option):
    """A number from 0 to 1 as a float."""
    share = value
    if type(value) is not float:
        try:
            if isinstance(value, (str, bytes)) or is_masked(value) or getattr(value, "ndim", 0):
                raise TypeError
            share = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{op}: {option} must be a number from 0 to 1, not {value!r:.60}") from None
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"{op}: {option} must be from 0 to 1, got {value!r}")
    return share


def as_label(label, str op):
    """ignore_index as the kernels take it, an integer of 64 bits; None stays None."""
    if label is None:
        return None
    try:
        found = operator.index(label)
    except TypeError:
        raise TypeError(f"{op}: ignore_index must be an integer, not {label!r:.60}") from None
    if not -(2**63) <= found < 2**63:
        raise ValueError(f"{op}: ignore_index must be from -2**63 to 2**63 - 1, got {found}")
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Options

@cython.final
@cython.freelist(8)
cdef class Options:
    """What a call asks for beside its operands, checked as far as that needs none of them. An option of the losses is a field
    and an argument here, and a field of the request that `evaluate` fills."""
    cdef int op
    cdef readonly str caller  # the function that was called,
    cdef readonly tuple operands  # and its names for the operands
    cdef bint of_loss  # and no broadcasting of a target or a mask that could be labels or a mask of rows
    cdef readonly bint labels  # the target holds one integer a row
    cdef readonly object axis, where, dtype, weight, pos_weight, sample_weight, temperature, ignore_index
    cdef readonly double label_smoothing, beta
    cdef readonly str reduction
    # Of a callable alone.
    cdef bint keepdims
    cdef object out
    # Of one of xent.cuda.
    cdef readonly object stream
    cdef readonly bint check_labels

    def __init__(
        self, str caller, axis=-1, where=None, sample_weight=None, str reduction="none", dtype=None, *,
        tuple operands=("logits", "target"), bint labels=False, weight=None, ignore_index=None, label_smoothing=0.0,
        pos_weight=None, temperature=1.0, beta=0.5,
    ):
        self.of_loss = True
        self.caller, self.operands, self.labels = caller, operands, labels
        self.axis = one_axis(axis, caller)
        self.where = where
        self.dtype = dtype
        self.weight = as_weights(weight, caller, "weight")
        self.pos_weight = as_weights(pos_weight, caller, "pos_weight")
        self.sample_weight = as_weights(sample_weight, caller, "sample_weight")
        # The kernels need not divide by the plain 1.0.
        plain = type(temperature) is float and temperature == 1.0
        self.temperature = None if plain else as_temperatures(temperature, caller)
        self.label_smoothing = as_share(label_smoothing, caller, "label_smoothing")
        self.beta = as_share(beta, caller, "beta")
        if not 0.0 < self.beta < 1.0:
            raise ValueError(f"{caller}: beta must lie between 0 and 1, got {beta!r}; over beta (or 1 - beta) the limit is a kl_div")
        self.ignore_index = as_label(ignore_index, caller)
        self.reduction = reduction


cdef Options of_callable(int op, object axis, object keepdims, object where, object out, object dtype):
    cdef Options o = Options.__new__(Options)
    o.op = op
    o.caller = op_name(op)
    o.operands = operands_of(op)
    o.labels = OPERATIONS[op].target == XENT_TARGET_LABELS
    o.axis = tuple(axis) if isinstance(axis, list) else axis
    o.keepdims = keepdims
    o.where, o.out, o.dtype = where, out, dtype
    o.reduction, o.beta = "none", 0.5
    return o


# ---------------------------------------------------------------------------------------------------------------------
# Where a call runs

cdef class Place:
    """Takes operands, gives memory for results, runs a request: the CPU's, with NumPy's arrays. xent.cuda has GPUs'."""

    cpdef Operand take(self, object a, str name, Options o):
        """An operand of any dtype, that is there for as long as the call."""
        cdef Operand made
        cdef bint labels = o.labels and name is o.operands[1]
        given = getattr(a, "dtype", None)
        a = as_array(a, o.caller, name)
        mask = None
        if not cnp.PyArray_CheckExact(a):
            if a.mask is not sys.modules["numpy.ma"].nomask:
                mask = np.asarray(a.mask)
            # What lies under a mask is not looked at, so it must not be found out of range either.
            a = np.asarray(a.filled(0) if labels and mask is not None else a.data)
        if labels and given is None and cnp.PyArray_SIZE(a) == 0:
            a = a.astype(np.intp)  # NumPy makes an empty list float64
        made = of_ndarray(a)
        made.given, made.mask = given, mask
        return made

    cpdef Operand take_mask(self, object where, Options o):
        where = as_array(where, o.caller, "where")
        if not cnp.PyArray_CheckExact(where):
            raise TypeError(hints().masked_where(o.caller))
        return of_ndarray(where)

    cpdef Operand take_weights(self, object weights, str name, Options o):
        """What as_weights has made of an option."""
        return of_ndarray(weights)

    cpdef Operand take_out(self, object out, Options o):
        if not isinstance(out, np.ndarray) or is_masked(out):
            raise TypeError(f"{o.caller}: out must be a plain array, not {type(out).__name__}")
        return of_ndarray(np.asarray(out))

    cpdef Operand empty(self, tuple shape, int dtype, Operand like):
        """Memory for a result: of a shape, or like an operand, with its strides if that can be, so that one walk suits both."""
        if like is not None:
            return of_ndarray(like_array(like.array, dtype))
        return of_ndarray(np.empty(shape, cnp.PyArray_DescrFromType(type_of(dtype))))

    cpdef object reshaped(self, object array, list order, tuple shape):
        """The array with its axes in an order, and then of a shape."""
        return array.transpose(order).reshape(shape)

    cpdef object stretched(self, object array, tuple shape):
        return np.broadcast_to(array, shape)

    cpdef object check_copy(self, object out):
        """An error for an `out` that no result can be copied into."""

    cpdef object copy(self, object result, object out):
        np.copyto(out, result, casting="same_kind")

    cpdef object deliver(self, object result):
        """What the caller is given."""
        return scalar_or_array(result)


cdef Place HERE = Place()


cdef inline object scalar_or_array(ndarray a):
    """A NumPy scalar for an array without dimensions, as ufuncs return it."""
    if cnp.PyArray_NDIM(a) == 0:
        return cnp.PyArray_ToScalar(cnp.PyArray_DATA(a), a)
    return a


cdef inline ndarray like_array(ndarray a, int dtype):
    """An array of the shape of `a`, in the order of its axes in memory."""
    cdef cnp.dtype descr
    if cnp.PyArray_IS_C_CONTIGUOUS(a):
        return cnp.PyArray_EMPTY(cnp.PyArray_NDIM(a), cnp.PyArray_DIMS(a), type_of(dtype), 0)
    descr = cnp.PyArray_DescrFromType(type_of(dtype))
    Py_INCREF(descr)
    return PyArray_NewLikeArray(a, cnp.NPY_KEEPORDER, <void *>descr, 0)


cdef inline xent_status launch(xent_request *req) noexcept:
    cdef xent_status status
    cdef ptrdiff_t work = req.classes
    cdef int i
    for i in range(req.ndim):
        work *= req.shape[i]
    if work < GIL_THRESHOLD:
        return execute(req)
    with nogil:
        status = execute(req)
    return status


cdef int refuse_label(str caller, str name, object label, ptrdiff_t row, xent_request *req) except -1:
    """IndexError for the label of a row, counted over the batch."""
    at = tuple([int(i) for i in np.unravel_index(row, as_tuple(req.ndim, req.shape))])
    ignored = req.ignore_index if req.has_ignore_index else None
    raise IndexError(hints().label_out_of_range(caller, name, label, at, req.classes, ignored))


cdef int refuse(xent_status status, xent_request *req, ndarray target, str caller, tuple operands) except -1:
    """Raise what the CPU's kernels found."""
    if status != XENT_ERR_LABEL:
        return fail(status, caller.encode())
    # Not the request's own, which is saturated to int64.
    label = np.broadcast_to(target, as_tuple(req.ndim, req.shape)).flat[req.bad_row]
    return refuse_label(caller, operands[1], label, req.bad_row, req)


# ---------------------------------------------------------------------------------------------------------------------
# The fast way: plain arrays of one shape with the classes last, and no options

cdef inline void fill_array(
    xent_view *view, ndarray a, int dtype, const ptrdiff_t *strides, ptrdiff_t class_stride
) noexcept:
    view.data = cnp.PyArray_DATA(a)
    if view.data == NULL:
        view.data = &NOTHING
    view.dtype = <uint8_t>dtype
    view.swapped = not cnp.PyArray_ISNOTSWAPPED(a)
    view.strides = strides
    view.class_stride = class_stride


cdef bint ready(object out, int ndim, const ptrdiff_t *shape, int dtype, ndarray x, ndarray t, bint elementwise):
    """Whether the kernel can write straight into `out`; anything else is for the general way, which has the messages."""
    cdef Operand a
    if (not cnp.PyArray_CheckExact(out) or cnp.PyArray_NDIM(out) != ndim
            or memcmp(cnp.PyArray_DIMS(out), shape, ndim * sizeof(ptrdiff_t)) != 0
            or dtype_of_type(cnp.PyArray_TYPE(out)) != dtype or not cnp.PyArray_ISWRITEABLE(out)):
        return False
    a = of_ndarray(out)
    return apart(a, of_ndarray(x), elementwise) and (t is None or apart(a, of_ndarray(t), elementwise))


cdef object fast(int op, ndarray x, ndarray t, object out):
    """The result; None where the general way is needed."""
    cdef const xent_op_info *info = &OPERATIONS[op]
    cdef int n = cnp.PyArray_NDIM(x) - 1
    cdef int x_dtype = dtype_of_type(cnp.PyArray_TYPE(x)), t_dtype, dtype = x_dtype
    cdef ptrdiff_t *shape = <ptrdiff_t *>cnp.PyArray_DIMS(x)
    cdef xent_request req
    cdef xent_status status
    cdef ndarray value = None, emitted = None

    if n < 0 or not is_float(x_dtype):
        return None
    if t is not None:
        t_dtype = dtype_of_type(cnp.PyArray_TYPE(t))
        if info.target == XENT_TARGET_LABELS:
            if not is_integer(t_dtype) or cnp.PyArray_NDIM(t) != n:
                return None
        else:
            dtype = promoted(x_dtype, t_dtype)
            if not is_float(t_dtype) or cnp.PyArray_NDIM(t) != n + 1 or cnp.PyArray_DIM(t, n) != shape[n]:
                return None
        if memcmp(cnp.PyArray_DIMS(t), shape, n * sizeof(ptrdiff_t)) != 0:
            return None

    if out is not None:
        if info.has_value and info.has_emit:
            if not isinstance(out, tuple) or len(<tuple>out) != 2:
                return None
            if (not ready((<tuple>out)[0], n, shape, dtype, x, t, False)
                    or not ready((<tuple>out)[1], n + 1, shape, dtype, x, t, True)
                    or not apart(of_ndarray((<tuple>out)[0]), of_ndarray((<tuple>out)[1]), False)):
                return None
            value, emitted = <tuple>out
        elif isinstance(out, tuple) and len(<tuple>out) == 1:
            return fast(op, x, t, (<tuple>out)[0])
        elif not ready(out, n + info.has_emit, shape, dtype, x, t, info.has_emit):
            return None
        elif info.has_emit:
            emitted = out
        else:
            value = out

    begin(&req)
    req.op = op
    req.compute = compute_in(dtype)
    req.ndim = n
    req.shape = shape
    req.classes = shape[n]
    fill_array(&req.logits, x, x_dtype, <ptrdiff_t *>cnp.PyArray_STRIDES(x), cnp.PyArray_STRIDE(x, n))
    if t is not None:
        fill_array(&req.target, t, t_dtype, <ptrdiff_t *>cnp.PyArray_STRIDES(t),
                   0 if info.target == XENT_TARGET_LABELS else cnp.PyArray_STRIDE(t, n))
    if info.has_value:
        if value is None:
            value = cnp.PyArray_EMPTY(n, cnp.PyArray_DIMS(x), type_of(dtype), 0)
        fill_array(&req.value, value, dtype, <ptrdiff_t *>cnp.PyArray_STRIDES(value), 0)
    if info.has_emit:
        if emitted is None:
            emitted = like_array(x, dtype)
        fill_array(&req.out, emitted, dtype, <ptrdiff_t *>cnp.PyArray_STRIDES(emitted), cnp.PyArray_STRIDE(emitted, n))
    status = launch(&req)
    if status != XENT_OK:
        refuse(status, &req, t, op_name(op), operands_of(op))
    if out is not None:
        return out
    if emitted is None:
        return scalar_or_array(value)
    return emitted if value is None else (scalar_or_array(value), emitted)


# ---------------------------------------------------------------------------------------------------------------------
# The general way: what a call means, decided once for every place that it may run in

cdef Operand taken(Place place, object a, str name, Options o):
    """An operand of a dtype that the kernels read; TypeError where it has none such."""
    cdef Operand made = place.take(a, name, o)
    if o.labels and name is o.operands[1]:
        if not is_integer(made.dtype):
            given = came_as(made)
            kind = made.array.dtype.kind if made.device == ON_CPU else given.kind
            raise TypeError(hints().labels_dtype(o.caller, name, given, kind))
    elif not is_float(made.dtype):
        if made.device != ON_CPU:
            raise TypeError(
                f"{o.caller}: {name} of dtype {dtype_of(made)} is not supported on a GPU; float16, bfloat16, float32 and "
                "float64 are"
            )
        refuse_dtype(made.array, made.given, o.caller, name)
        given, mask = came_as(made), made.mask
        made = of_ndarray(made.array.astype(np.float64))
        made.given, made.mask = given, mask
    return made


cdef Operand beside(Operand a, Operand x, str name, Options o):
    """Another operand of a call, once it is found to be where the first one is."""
    if a.device != x.device and not is_empty(a):
        raise ValueError(
            f"{o.caller}: {name} is on GPU {a.device}, the first operand on GPU {x.device}; a call runs on one of them"
        )
    return a


cdef int refuse_shapes(Operand x, Operand t, const Rows *r, Options o) except -1:
    """ValueError for a target that goes with other logits, or is most likely labels: of one number a row."""
    batch = tuple([x.shape[d] for d in range(x.ndim) if not has(&r.of_x, d)])
    cdef bint one_axis_each = o.axis is not None and not isinstance(o.axis, tuple)
    if (one_axis_each and OPERATIONS[o.op].target == XENT_TARGET_PROBS and shape_of(t) == batch
            and t.shape[r.of_target.at[0]] != r.classes):
        raise ValueError(hints().one_number_a_row(o.caller, shape_of(x), shape_of(t), came_as(t)))
    raise ValueError(
        f"{o.caller}: shapes {shape_of(x)} of {o.operands[0]} and {shape_of(t)} of {o.operands[1]} do not match "
        f"(axis={o.axis}: the class axes must be of one length, the others must broadcast)"
    )


cdef int refuse_class_axis(Operand x, Operand labels, const Axes *axes, Options o) except -1:
    """Labels with as many axes as the logits: ValueError for what can only be a one-hot encoding or a column."""
    first, second = o.operands
    if shape_of(labels) == shape_of(x):
        raise ValueError(
            f"{o.caller}: {second} of dtype {dtype_of(labels)}, integers, and of the own shape {shape_of(x)} of {first} look "
            "like a one-hot encoding; pass one label a row, or to cross_entropy the one-hot rows as floating-point "
            "probabilities"
        )
    kept = tuple([1 if has(axes, d) else x.shape[d] for d in range(x.ndim)])
    if x.ndim > axes.count and shape_of(labels) == kept:
        # Broadcasting would pair every label with every row.
        raise ValueError(
            f"{o.caller}: {second} of shape {shape_of(labels)} keep the class axis of {first} {shape_of(x)}; "
            f"pass one label a row, as {second}.squeeze({axes.at[0] if axes.count == 1 else tuple_of(axes)}) does"
        )


cdef int lay_out(Rows *r, Operand x, Operand t, Options o) except -1:
    """ValueError where the operands do not go together."""
    cdef bint rows = t is not None and not o.labels, fits
    cdef int i, d = 0
    if o.axis is not None and not isinstance(o.axis, tuple) and (x.ndim == 0 or (rows and t.ndim == 0)):
        without_any = o.operands[0 if x.ndim == 0 else 1]
        raise ValueError(f"{o.caller}: {without_any} must have at least one dimension, the class axis")
    find(&r.of_x, o.axis, x.ndim, o.caller)
    r.of_target.count = 0
    if rows:
        find(&r.of_target, o.axis, t.ndim, o.caller)
    fits = not rows or r.of_x.count == r.of_target.count
    r.classes = 1
    for i in range(r.of_x.count):
        r.classes *= x.shape[r.of_x.at[i]]
        fits = fits and (not rows or x.shape[r.of_x.at[i]] == t.shape[r.of_target.at[i]])
    r.ndim = 0
    widen(&r.ndim, r.shape, x, &r.of_x)
    if rows:
        if not fits or not widen(&r.ndim, r.shape, t, &r.of_target):
            refuse_shapes(x, t, r, o)
    elif o.labels:
        if t.ndim != 0 and t.ndim == x.ndim:
            refuse_class_axis(x, t, &r.of_x, o)
        if o.axis is None and t.ndim != 0:
            raise ValueError(
                f"{o.caller}: axis=None takes {o.operands[0]} of shape {shape_of(x)} as one row, which has one label, of shape "
                f"(), not {o.operands[1]} of shape {shape_of(t)}"
            )
        batch = as_tuple(r.ndim, r.shape)
        if not widen(&r.ndim, r.shape, t, &r.of_target):
            raise ValueError(
                f"{o.caller}: {o.operands[1]} of shape {shape_of(t)} and dtype {dtype_of(t)} do not match {o.operands[0]} "
                f"of shape {shape_of(x)}: {shape_of(t)} does not broadcast with {batch}, what is left of the latter "
                "without their class axis"
            )
    check_ndim(r.ndim + r.of_x.count, o)
    find(&r.of_result, o.axis, r.ndim + r.of_x.count, o.caller)
    for i in range(r.of_x.count):
        r.full[r.of_result.at[i]] = x.shape[r.of_x.at[i]]
    for i in range(r.ndim + r.of_x.count):
        if not has(&r.of_result, i):
            r.full[i] = r.shape[d]
            d += 1


cdef int lay_out_elements(Rows *r, Operand x, Operand t, Options o) except -1:
    """No rows to reduce: the last axis of what broadcasts stands where a row's classes do."""
    cdef int ndim = 0
    r.of_x.count = r.of_target.count = 0
    widen(&ndim, r.full, x, &r.of_x)
    if not widen(&ndim, r.full, t, &r.of_target):
        raise ValueError(f"{o.caller}: shapes {shape_of(x)} and {shape_of(t)} do not broadcast")
    check_ndim(ndim, o)
    r.of_result.count = 1 if ndim else 0
    r.of_result.at[0] = r.ndim = max(ndim - 1, 0)
    r.classes = r.full[r.ndim] if ndim else 1
    memcpy(r.shape, r.full, r.ndim * sizeof(ptrdiff_t))


cdef int check_ndim(int ndim, Options o) except -1:
    if ndim > XENT_MAX_NDIM + 1:
        raise ValueError(f"{o.caller}: {ndim} dimensions are more than the {XENT_MAX_NDIM + 1} that there may be")


cdef tuple full_shape(const Rows *r):
    return as_tuple(r.ndim + r.of_result.count, r.full)


cdef tuple class_shape(const Rows *r):
    return tuple([r.full[r.of_result.at[i]] for i in range(r.of_result.count)])


def layout(str name, x, t, axis):
    """(batch shape, class shape) of the operands, ndarrays, of one operation; ValueError where they do not go together."""
    cdef Options o = of_callable(xent_find_op(name.encode()), axis, False, None, None, None)
    cdef Rows r
    lay_out(&r, of_ndarray(x), None if t is None else of_ndarray(t), o)
    return as_tuple(r.ndim, r.shape), class_shape(&r)


cdef int result_dtype(Operand x, Operand t, Options o) except -1:
    if o.dtype is not None:
        try:
            wanted = np.dtype(o.dtype).name
        except (TypeError, ValueError) as error:
            if x.device == ON_CPU:
                raise TypeError(f"{o.caller}: dtype: {error}") from None
            wanted = str(o.dtype).rpartition(".")[2]  # PyTorch's own, or bfloat16 where NumPy has none
        if not is_float(DTYPES.get(wanted, XENT_NO_DTYPE)):
            raise TypeError(f"{o.caller}: dtype={wanted} is not supported; float16, bfloat16, float32 and float64 are")
        return DTYPES[wanted]
    return x.dtype if t is None or o.labels else promoted(x.dtype, t.dtype)


cdef Operand merged(Operand a, const Axes *axes, str name, Place place, Options o):
    """`a` with its class axes made one, the last, which costs a copy where no stride can walk them."""
    cdef int i
    rest = [d for d in range(a.ndim) if not has(axes, d)]
    classes = math.prod([a.shape[axes.at[i]] for i in range(axes.count)])
    shape = (*[a.shape[d] for d in rest], classes)
    return place.take(place.reshaped(a.array, [*rest, *tuple_of(axes)], shape), name, o)


cdef Operand fill_operand(
    xent_view *view, Operand a, const Rows *r, const Axes *axes, ptrdiff_t *strides, str name, Place place, Options o
):
    """The view of logits or of a target, whose class axes are `axes` (of labels: none); None for None. What is returned
    is to be kept for as long as the view."""
    cdef ptrdiff_t class_stride
    cdef Axes last
    if a is None:
        return None
    if OPERATIONS[o.op].target == XENT_TARGET_POINT:
        return fill_whole(view, a, r, strides, name, place, o)
    if not joined(a.shape, a.strides, axes, &class_stride):
        a = merged(a, axes, name, place, o)
        last.count = 1
        last.at[0] = a.ndim - 1
        axes = &last
        class_stride = a.strides[a.ndim - 1]
    walk(r.ndim, r.shape, a, axes, strides)
    fill(view, a, strides, class_stride)
    return a


cdef Operand fill_whole(
    xent_view *view, Operand a, const Rows *r, ptrdiff_t *strides, str name, Place place, Options o
):
    """An operand that broadcasts to the whole shape of the result, of a mask or of single elements."""
    cdef Extents over
    cdef ptrdiff_t class_stride
    cdef int d, i = 0, ndim = r.ndim + r.of_result.count
    if not walk(ndim, r.full, a, &NO_AXES, over):
        raise ValueError(f"{o.caller}: {name} of shape {shape_of(a)} does not broadcast to {full_shape(r)}")
    if not joined(r.full, over, &r.of_result, &class_stride):
        a = place.take(place.stretched(a.array, full_shape(r)), name, o)
        return fill_operand(view, a, r, &r.of_result, strides, name, place, o)
    for d in range(ndim):
        if not has(&r.of_result, d):
            strides[i] = over[d]
            i += 1
    fill(view, a, strides, class_stride)
    return a


cdef int check_mask(Operand where, int ndim, Options o) except -1:
    """TypeError for what is no mask; ValueError, in a loss, for one of fewer dimensions than the logits."""
    if where.dtype != XENT_BOOL:
        raise TypeError(f"{o.caller}: where must be bools, not {dtype_of(where)}")
    if o.of_loss and 0 < where.ndim < ndim:
        # A mask of rows would be stretched over the classes where there are as many of both.
        raise ValueError(
            f"{o.caller}: where of shape {shape_of(where)} has fewer dimensions than {o.operands[0]}, which has {ndim}. "
            "A mask of rows is mask[:, None], one of classes mask[None, :]"
        )


cdef Operand fill_where(xent_view *view, Operand x, Operand t, const Rows *r, ptrdiff_t *strides, Place place, Options o):
    """The mask, and what masked operands hide; None where everything counts."""
    cdef Operand where = None
    if o.where is not None:
        where = beside(place.take_mask(o.where, o), x, "where", o)
        check_mask(where, x.ndim, o)
    if x.mask is not None or (t is not None and t.mask is not None):
        where = join_masks(x, t, where, r, o)
    if where is not None:
        where = fill_whole(view, where, r, strides, "where", place, o)
    return where


cdef Operand join_masks(Operand x, Operand t, Operand where, const Rows *r, Options o):
    """One `where` of the whole shape for masked operands: what any of the masks hides is left out."""
    cdef tuple full = full_shape(r)
    tail = tuple(range(-r.of_result.count, 0))
    hidden = np.False_ if x.mask is None else np.moveaxis(x.mask, tuple_of(&r.of_x), tail)
    if t is not None and t.mask is not None:
        # A masked label takes its whole row out.
        if o.labels:
            t_hidden = t.mask[(..., *([None] * r.of_result.count))]
        else:
            t_hidden = np.moveaxis(t.mask, tuple_of(&r.of_target), tail)
        hidden = np.logical_or(hidden, t_hidden)
    shown = np.broadcast_to(np.logical_not(hidden), as_tuple(r.ndim, r.shape) + class_shape(r))
    shown = np.moveaxis(shown, tail, tuple_of(&r.of_result))
    if where is not None:
        try:
            shown = np.logical_and(shown, np.broadcast_to(where.array, full))
        except ValueError:
            raise ValueError(f"{o.caller}: where of shape {shape_of(where)} does not broadcast to {full}") from None
    return of_ndarray(shown)


cdef Operand fill_weights(
    xent_view *view, object weights, str name, Operand x, const Rows *r, ptrdiff_t *strides, Place place, Options o
):
    """An option of one number a class, where there are no `strides` to fill, or else of one a row or for all."""
    if weights is None:
        return None
    cdef Operand a = beside(place.take_weights(weights, name, o), x, name, o)
    if a.dtype != XENT_F64 and a.dtype != XENT_F32:
        raise TypeError(f"{o.caller}: {name} must be float32 or float64 on a GPU, not {dtype_of(a)}")
    if strides == NULL:
        if a.ndim != 1 or a.shape[0] != r.classes:
            raise ValueError(f"{o.caller}: {name} has shape {shape_of(a)}, expected ({r.classes},), one a class")
    elif not walk(r.ndim, r.shape, a, &NO_AXES, strides):
        raise ValueError(f"{o.caller}: {name} of shape {shape_of(a)} does not broadcast to {as_tuple(r.ndim, r.shape)}")
    fill(view, a, strides, a.strides[0] if strides == NULL else 0)
    return a


cdef tuple split_out(Options o):
    """(out for the value, out for the rows), of which the operation uses those that it has."""
    cdef const xent_op_info *info = &OPERATIONS[o.op]
    cdef bint pair = info.has_value and info.has_emit
    out = o.out
    if not isinstance(out, tuple):
        if pair:
            raise TypeError(f"{o.caller}: out must be a tuple of two arrays, (value, gradient)")
        out = (out,)
    elif len(out) != 1 + pair:
        raise ValueError(f"{o.caller}: out must hold {1 + pair} arrays, not {len(out)}")
    return (out[0] if info.has_value else None), (out[-1] if info.has_emit else None)


cdef Operand check_out(object given, tuple shape, int dtype, Operand x, Place place, Options o):
    """`out`, once its type, shape and dtype are found to fit; None for None."""
    if given is None:
        return None
    cdef Operand out = beside(place.take_out(given, o), x, "out", o)
    if shape_of(out) != shape:
        raise ValueError(f"{o.caller}: out has shape {shape_of(out)}, the result has {shape}")
    if out.read_only:
        raise ValueError(f"{o.caller}: output array is read-only")
    if out.device == ON_CPU:
        fits = np.can_cast(cnp.PyArray_DescrFromType(type_of(dtype)), out.array.dtype, "same_kind")
    else:
        fits = is_float(out.dtype)
    if not fits:
        raise TypeError(
            f"{o.caller}: cannot cast {DTYPE_NAMES[dtype]}, the result, to {dtype_of(out)}, out's, with rule 'same_kind'"
        )
    return out


cdef Operand destination(
    Operand out, tuple shape, int dtype, Operand like, list read, Operand other, bint elementwise, Place place
):
    """Where the kernel writes: `out` itself, or a new array where there is none, or where the kernel cannot. `read`: the
    operands; `elementwise`: the result may lie in the first two's own elements; `other`: the other result."""
    cdef bint direct
    cdef int i
    if out is not None:
        direct = is_float(out.dtype) and apart(out, other, False)
        for i in range(len(read)):
            direct = direct and apart(out, <Operand>read[i], elementwise and i < 2)
        if direct:
            return out
        place.check_copy(out.array)
    return place.empty(shape, dtype, like)


cdef object evaluate(Options o, Operand x, Operand t, Place place):
    """Fill one request, run it where its operands are, hand out its results."""
    cdef const xent_op_info *info = &OPERATIONS[o.op]
    cdef Rows r
    cdef Extents x_strides, t_strides, where_strides, sample_strides, temperature_strides, value_strides, out_strides
    cdef xent_request req
    cdef xent_status status
    cdef Axes written
    cdef ptrdiff_t class_stride = 0
    cdef bint scalar = o.reduction in ("sum", "mean"), per_class = o.reduction == "per_class", several
    cdef int dtype, value_dtype, i
    cdef Operand logits, target, mask, weight, pos_weight, sample_weight, temperature  # as the request has them
    cdef Operand value = None, emitted = None, value_out = None, emit_out = None, like = None
    cdef list read = None

    if o.of_loss and not o.labels and t.ndim < x.ndim:
        # NumPy would broadcast: labels that arrive as floats become probabilities where there are as many rows as classes.
        raise ValueError(hints().fewer_dimensions(o.caller, o.operands, shape_of(x), shape_of(t), came_as(t)))
    if info.target == XENT_TARGET_POINT:
        lay_out_elements(&r, x, t, o)
    else:
        lay_out(&r, x, t, o)
    several = r.of_result.count > 1
    dtype = result_dtype(x, t, o)

    begin(&req)
    req.op = o.op
    req.compute = compute_in(dtype)
    req.ndim = r.ndim
    req.shape = &r.shape[0]
    req.classes = r.classes
    req.reduction = REDUCTIONS[o.reduction]
    req.label_smoothing = o.label_smoothing
    req.beta = o.beta
    if o.ignore_index is not None:
        req.has_ignore_index = 1
        req.ignore_index = o.ignore_index
    logits = fill_operand(&req.logits, x, &r, &r.of_x, x_strides, o.operands[0], place, o)
    target = fill_operand(&req.target, t, &r, &r.of_target, t_strides, o.operands[1], place, o)
    mask = fill_where(&req.where, x, t, &r, where_strides, place, o)
    weight = fill_weights(&req.class_weight, o.weight, "weight", x, &r, NULL, place, o)
    pos_weight = fill_weights(&req.pos_weight, o.pos_weight, "pos_weight", x, &r, NULL, place, o)
    sample_weight = fill_weights(&req.sample_weight, o.sample_weight, "sample_weight", x, &r, sample_strides, place, o)
    temperature = fill_weights(&req.temperature, o.temperature, "temperature", x, &r, temperature_strides, place, o)

    # Every check of `out` comes before the first thing written.
    value_shape = () if scalar else as_tuple(r.ndim, r.shape)
    if o.keepdims:
        value_shape = tuple([1 if has(&r.of_result, i) else r.full[i] for i in range(r.ndim + r.of_result.count)])
    if not per_class and x.ndim == r.ndim + r.of_result.count and memcmp(x.shape, r.full, x.ndim * sizeof(ptrdiff_t)) == 0:
        like = x
    emit_shape = None
    if like is None or several or o.out is not None:
        emit_shape = class_shape(&r) if per_class else full_shape(&r)
    value_given = emit_given = None
    if o.out is not None:
        value_given, emit_given = split_out(o)
        value_out = check_out(value_given, value_shape, dtype, x, place, o)
        emit_out = check_out(emit_given, emit_shape, dtype, x, place, o)
        read = [logits, target, mask, weight, pos_weight, sample_weight, temperature]
    if info.has_value:
        # A sum over rows is no longer what 16 bits hold.
        value_dtype = compute_in(dtype) if scalar and o.dtype is None else dtype
        value = destination(value_out, value_shape, value_dtype, None, read, emit_out, False, place)
        walk(r.ndim, r.shape, value, &r.of_result if o.keepdims else &NO_AXES, value_strides)
        fill(&req.value, value, value_strides, 0)
    if info.has_emit:
        written = r.of_result
        if several:
            # Written with the class axes last, which one stride walks.
            for i in range(written.count):
                written.at[i] = (0 if per_class else r.ndim) + i
            emitted = place.empty((() if per_class else as_tuple(r.ndim, r.shape)) + class_shape(&r), dtype, None)
            if emit_given is not None:
                place.check_copy(emit_given)
        else:
            emitted = destination(emit_out, emit_shape, dtype, like, read, value, True, place)
        if per_class:
            written.at[0] = 0
        walk(r.ndim, r.shape, emitted, &written, out_strides)
        joined(emitted.shape, emitted.strides, &written, &class_stride)
        fill(&req.out, emitted, out_strides, class_stride)

    if place is HERE:
        status = launch(&req)
        if status != XENT_OK:
            refuse(status, &req, t.array if t is not None else None, o.caller, o.operands)
    else:
        place.run(<size_t>&req, o)
    value_made = finish(value, value_out, value_given, place)
    order = None
    if several and emitted is not None and not per_class:
        # From the batch and then the classes back to the places that the axes came from.
        order = [d for d in range(r.ndim + written.count) if not has(&r.of_result, d)] + list(tuple_of(&r.of_result))
        order = [order.index(d) for d in range(len(order))]
    emit_made = finish(emitted, emit_out, emit_given, place, order)
    if place is not HERE:
        label = place.bad_label(o)
        if label is not None:
            refuse_label(o.caller, o.operands[1], np.dtype(dtype_of(target)).type(label[1]), label[0], &req)
    if emit_made is None:
        return value_made
    return emit_made if value_made is None else (value_made, emit_made)


cdef object finish(Operand made, Operand out, object given, Place place, list order=None):
    """A result to hand out: what the caller brought, filled if the kernel wrote elsewhere, or what was made. order: of the
    axes, where they are not yet in their places."""
    if made is None:
        return None
    if made is out:
        return given
    result = made.array
    if given is None:
        result = place.deliver(result)
    if order is not None and order != sorted(order):
        result = place.reshaped(result, order, tuple([result.shape[d] for d in order]))
    if given is None:
        return result
    place.copy(result, out.array)
    return given


# ---------------------------------------------------------------------------------------------------------------------
# The callables

cdef object invoke(int op, object logits, object target, object axis, object keepdims, object where, object out,
                   object dtype):
    cdef bint alone = OPERATIONS[op].target == XENT_TARGET_NONE
    if (where is None and dtype is None and keepdims is False and axis is LAST
            and cnp.PyArray_CheckExact(logits) and (alone or cnp.PyArray_CheckExact(target))):
        result = fast(op, logits, target, out)
        if result is not None:
            return result
    there = on_gpu(logits) or (not alone and on_gpu(target))
    if not there and (foreign(logits) or (not alone and foreign(target)) or (where is not None and foreign(where))):
        from xent import _foreign

        operands = (logits,) if alone else (logits, target)
        return _foreign.call(op_name(op), operands, axis, keepdims, where, out, dtype)
    return call_where(there, of_callable(op, axis, keepdims, where, out, dtype), logits, target)


cdef object call_where(bint on_a_gpu, Options o, object logits, object target):
    """An operation where its operands are: on a GPU, or here."""
    if on_a_gpu:
        from xent import cuda

        with cuda.Device(logits, target, o) as place:
            return call_at(place, o, logits, target)
    look_for_bfloat16()
    return call_at(HERE, o, logits, target)


cdef object call_at(Place place, Options o, object logits, object target):
    cdef Operand x = taken(place, logits, o.operands[0], o), t = None
    if OPERATIONS[o.op].target != XENT_TARGET_NONE:
        t = beside(taken(place, target, o.operands[1], o), x, o.operands[1], o)
    return evaluate(o, x, t, place)


cdef object MISSING = object()


cdef tuple bind(int op, tuple names, object signature, tuple given, dict named):
    """The operands of a call that does not simply give them by their places; TypeError where they are not those wanted."""
    if len(given) <= len(names) and set(named) == set(names[len(given):]):
        return (*given, *[named[name] for name in names[len(given):]])
    hints().refuse_call(op_name(op), signature, len(given), named)


cdef tuple given_of(tuple first, tuple extra):
    return tuple([a for a in first if a is not MISSING]) + extra


# Cython names a function in its own messages as it is written here: what does not fit is therefore taken in, and refused by
# the name that was called.
def _of_one(int op, tuple names, signature):
    def call(logits=MISSING, /, *extra, axis=-1, keepdims=False, where=None, out=None, dtype=None, **named):
        if logits is MISSING or extra or named:
            (logits,) = bind(op, names, signature, given_of((logits,), extra), named)
        return invoke(op, logits, None, axis, keepdims, where, out, dtype)
    return call


def _of_two(int op, tuple names, signature):
    def call(logits=MISSING, target=MISSING, /, *extra, axis=-1, keepdims=False, where=None, out=None, dtype=None, **named):
        if target is MISSING or extra or named:
            logits, target = bind(op, names, signature, given_of((logits, target), extra), named)
        return invoke(op, logits, target, axis, keepdims, where, out, dtype)
    return call


def _of_cuda(int op, tuple names, signature):
    """A function of xent.cuda, which says for itself where it runs."""
    cdef bint labels = OPERATIONS[op].target == XENT_TARGET_LABELS

    def call(
        *given, axis=-1, keepdims=False, where=None, out=None, dtype=None, stream=None, check_labels=MISSING, **named
    ):
        cdef Options o
        if check_labels is not MISSING and not labels:
            named["check_labels"] = check_labels
        if named or len(given) != len(names):
            given = bind(op, names, signature, given, named)
        o = of_callable(op, axis, keepdims, where, out, dtype)
        o.stream, o.check_labels = stream, labels and check_labels is not MISSING and check_labels
        return call_where(True, o, given[0], given[1] if len(given) > 1 else None)
    return call


def _of_elements(int op):
    """The same without rows."""
    def call(x1, x2, /, *, out=None, dtype=None, stream=None):
        cdef Options o = of_callable(op, None, False, None, out, dtype)
        o.stream = stream
        return call_where(True, o, x1, x2)
    return call


@functools.cache
def _signature_of(tuple names, tuple more):
    """The signature that users are shown: the operands by name, the options as keywords."""
    kinds = inspect.Parameter
    defaults = {"axis": -1, "keepdims": False, "where": None, "out": None, "dtype": None}
    return inspect.Signature(
        [kinds(name, kinds.POSITIONAL_OR_KEYWORD) for name in names]
        + [kinds(name, kinds.KEYWORD_ONLY, default=default) for name, default in [*defaults.items(), *more]]
    )


def make_callables(bint of_cuda=False):
    """One function for each operation of the table, or for each of rows, named and documented after it: of xent.cuda, or of
    xent, where those of elements are the ufuncs themselves."""
    made = {}
    for name, (op, target, operands, *results) in TABLE.items():
        names = tuple([operand for operand in operands if operand])
        more = (("stream", None), ("check_labels", False))[:1 + (target == "labels")] if of_cuda else ()
        if target == "point":
            if not of_cuda:
                continue
            call = _of_elements(op)
        else:
            signature = _signature_of(names, more)
            call = (_of_cuda if of_cuda else _of_two if names[1:] else _of_one)(op, names, signature)
            call.__signature__ = signature
        call.__name__ = call.__qualname__ = name
        call.__module__ = "xent.cuda" if of_cuda else "xent"
        document = _docs.cuda_doc if of_cuda else _docs.callable_doc
        call.__doc__ = document(name, target, operands, *results)
        made[name] = call
    return made


Operation = namedtuple("Operation", "number target operands has_value has_emit")

# The operations in order, for who is written in Python.
TABLE = {
    op_name(op): Operation(
        op, TARGET_NAMES[OPERATIONS[op].target], operands_of(op),
        bool(OPERATIONS[op].has_value), bool(OPERATIONS[op].has_emit),
    )
    for op in range(OPERATION_COUNT)
}
CALLABLES = make_callables()


# ---------------------------------------------------------------------------------------------------------------------
# For xent.losses

def evaluate_loss(str operation, logits, target, Options options, /):
    """One operation with the options of a loss. Without a dtype all results have the operands', but sums over rows of 16-bit
    operands are float32."""
    options.op = xent_find_op(operation.encode())
    return call_where(on_gpu(logits) or on_gpu(target), options, logits, target)


def mask_of_classes(where, str caller, str operand, int ndim):
    """The option `where` of a loss as an ndarray; its operand has `ndim` dimensions."""
    cdef Options o = Options(caller, operands=(operand, ""))
    cdef Operand mask = HERE.take_mask(where, o)
    check_mask(mask, ndim, o)
    return mask.array


# ---------------------------------------------------------------------------------------------------------------------
# Threads, instruction sets, information

cdef list available_isas():
    cdef int i = 0
    names = []
    while xent_isa_name(i) != NULL:
        names.append(xent_isa_name(i).decode())
        i += 1
    return names


def set_num_threads(n, /):
    """Use at most `n` threads from now on; 0 follows OpenMP (OMP_NUM_THREADS, threadpoolctl), which is the default.

    Results do not depend on it. It is a limit: small calls run on one thread whatever it says, and none runs on more
    than there are processors, or 16 where there are fewer. `get_num_threads` gives `n` back also where it is more.

    Raises
    ------
    ValueError
        `n` is negative, or more than a C int holds.

    Examples
    --------
    >>> import xent
    >>> xent.set_num_threads(1)
    >>> xent.get_num_threads()
    1
    >>> xent.set_num_threads(0)
    """
    given = operator.index(n)
    if not 0 <= given <= INT_MAX or xent_set_num_threads(given) != XENT_OK:
        raise ValueError(f"the number of threads must be from 0 to {INT_MAX}, got {given}")


def get_num_threads():
    """The limit that `set_num_threads` has set, or else OpenMP's: a call uses no more threads than that.

    It may use fewer: small calls run on one, and none on more than there are processors, or 16 where there are fewer.

    Examples
    --------
    >>> import xent
    >>> xent.get_num_threads() >= 1
    True
    """
    return xent_get_num_threads()


def set_isa(name=None, /):
    """Run the code for one instruction set: a name of ``xent.info()["isas"]``, or None for the best that runs here.

    The environment variable XENT_ISA does the same from the first call on. Results of two instruction sets may differ
    in the last bits.

    Raises
    ------
    ValueError
        The name is unknown, or this processor or build lacks the instruction set.

    Examples
    --------
    >>> import xent
    >>> xent.set_isa("baseline")
    >>> xent.info()["isa"]
    'baseline'
    >>> xent.set_isa(None)
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(f"an instruction set is a string or None, not {type(name).__name__}")
    # C would read a name with a null in it only up to there.
    cdef bytes encoded = b"" if name is None or "\0" in name else name.encode(errors="replace")
    cdef const char *chosen = NULL
    if name is not None:
        chosen = encoded
    if xent_set_isa(chosen) != XENT_OK:
        raise ValueError(f"{name!r} is not an instruction set that runs here; these do: {', '.join(available_isas())}")


def info():
    """What runs: versions, the instruction set in use and those that could be, OpenMP, threads.

    Returns
    -------
    dict
        ``version``, ``abi``, ``isa`` (None where XENT_ISA names none that runs here), ``isas``, ``openmp``,
        ``threads``, ``operations`` (how many), ``numpy``, ``python``, ``machine``.

    Examples
    --------
    >>> import xent
    >>> "baseline" in xent.info()["isas"]
    True
    """
    return {
        "version": f"{XENT_VERSION_MAJOR}.{XENT_VERSION_MINOR}.{XENT_VERSION_PATCH}",
        "abi": xent_abi_version(),
        "isa": None if xent_get_isa() == NULL else xent_get_isa().decode(),
        "isas": available_isas(),
        "openmp": bool(xent_has_openmp()),
        "threads": xent_get_num_threads(),
        "operations": OPERATION_COUNT,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


# ---------------------------------------------------------------------------------------------------------------------
# The library's functions, for code that is not linked with it

cdef extern from "functions.h":
    struct function_of_xent_h:
        const char *name
        const char *signature
        void (*address)()
    const function_of_xent_h FUNCTIONS[]
    const int FUNCTION_COUNT


def functions():
    """The address and the signature of each function of xent.h, by its name there without xent_. Cython compares signatures
    with those in kernels.pxd on import."""
    cdef int i
    return {
        FUNCTIONS[i].name.decode(): (<size_t>FUNCTIONS[i].address, FUNCTIONS[i].signature.decode())
        for i in range(FUNCTION_COUNT)
    }


def capsule(size_t address, bytes signature):
    """What Cython and SciPy take function pointers from. The signature must outlive it."""
    return PyCapsule_New(<void *>address, signature, NULL)


for function in (set_num_threads, get_num_threads, set_isa, info):
    function.__module__ = "xent"  # where users find them, and doctest too
del function
