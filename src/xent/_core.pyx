# cython: language_level=3, freethreading_compatible=True
"""The one module that calls libxent: requests from arrays, the callables xent.<name>, threads and instruction sets."""

import inspect
import operator
import os
import platform
import sys
from collections import namedtuple

import numpy as np

from xent import _docs

cimport numpy as cnp
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_INCREF
from libc.limits cimport INT_MAX
from libc.string cimport memcmp, memcpy, memset
from numpy cimport ndarray

from xent._xent_h cimport *

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    # Steals the reference to descr, which numpy's own pxd does not say.
    object PyArray_NewLikeArray(ndarray prototype, cnp.NPY_ORDER order, void *descr, int subok)

# NumPy keeps the GIL for loops shorter than this too: giving it up and taking it back costs more than the loop.
cdef enum:
    GIL_THRESHOLD = 500

# Threads may share rows of so many classes, for which they need scratch; to ask whether they do costs nothing beside the row.
cdef enum:
    MANY_CLASSES = 32768

cdef int OPERATION_COUNT = 0
cdef const xent_op_info *OPERATIONS = xent_ops(&OPERATION_COUNT)
cdef char NOTHING = 0  # the address of an array without elements that has none of its own

ctypedef ptrdiff_t[XENT_MAX_NDIM + 1] Extents

cdef object NDARRAY_UFUNC = np.ndarray.__array_ufunc__
cdef object REDUCTIONS = {
    "none": XENT_NONE, "terms": XENT_NONE, "sum": XENT_SUM, "mean": XENT_MEAN, "per_class": XENT_PER_CLASS,
}


# ---------------------------------------------------------------------------------------------------------------------
# The library, for this module and for the others

cdef const xent_op_info *operations(int *count) noexcept nogil:
    count[0] = OPERATION_COUNT
    return OPERATIONS


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
    message = f"{name.decode()}: {xent_strerror(status).decode()}"
    if status == XENT_ERR_DTYPE:
        raise TypeError(message)
    if status in (XENT_ERR_SHAPE, XENT_ERR_OPTION, XENT_ERR_REDUCTION):
        raise ValueError(message)
    raise SystemError(message)


# The number that NumPy has given ml_dtypes' bfloat16, once somebody has brought it: xent itself does not import ml_dtypes.
cdef int BFLOAT16 = -1


cdef bint knows_bfloat16() noexcept nogil:
    return BFLOAT16 >= 0


cdef void know_bfloat16(int typenum) noexcept nogil:
    global BFLOAT16
    BFLOAT16 = typenum


cdef int look_for_bfloat16() except -1:
    """Called before operands are looked at closely: whoever has a bfloat16 array has loaded ml_dtypes."""
    if BFLOAT16 < 0 and loaded("ml_dtypes", "bfloat16") != ():
        from xent import _ufuncs

        _ufuncs.register_bfloat16()
    return 0


cdef int float_dtype(int typenum) noexcept nogil:
    """The library's name for NumPy's floats; XENT_NO_DTYPE for everything else."""
    if typenum == cnp.NPY_DOUBLE:
        return XENT_F64
    if typenum == cnp.NPY_FLOAT:
        return XENT_F32
    if typenum == cnp.NPY_FLOAT16:
        return XENT_F16
    return XENT_BF16 if typenum == BFLOAT16 else XENT_NO_DTYPE


cdef inline int promoted(int a, int b) noexcept nogil:
    """The narrowest float that holds every value of both. NumPy has none for float16 with bfloat16; float32 does."""
    return a if a == b else max(a, b, <int>XENT_F32)


cdef int integer_dtype(int typenum, Py_ssize_t itemsize) noexcept nogil:
    """The library's name for NumPy's integers, of which C's long and long long are two of the same size."""
    cdef bint signed = cnp.PyTypeNum_ISSIGNED(typenum)
    if not signed and not cnp.PyTypeNum_ISUNSIGNED(typenum):
        return XENT_NO_DTYPE
    if itemsize == 1:
        return XENT_I8 if signed else XENT_U8
    if itemsize == 2:
        return XENT_I16 if signed else XENT_U16
    if itemsize == 4:
        return XENT_I32 if signed else XENT_U32
    return XENT_I64 if signed else XENT_U64


cdef inline int type_of(int dtype) noexcept nogil:
    if dtype == XENT_F64:
        return cnp.NPY_DOUBLE
    if dtype == XENT_F32:
        return cnp.NPY_FLOAT
    return BFLOAT16 if dtype == XENT_BF16 else cnp.NPY_FLOAT16


cdef inline int compute_in(int dtype) noexcept nogil:
    return XENT_F64 if dtype == XENT_F64 else XENT_F32


# ---------------------------------------------------------------------------------------------------------------------
# Views and shapes

cdef inline void fill(
    xent_view *view, ndarray a, int dtype, const ptrdiff_t *strides, ptrdiff_t class_stride
) noexcept:
    view.data = cnp.PyArray_DATA(a)
    if view.data == NULL:
        view.data = &NOTHING
    view.dtype = <uint8_t>dtype
    view.swapped = not cnp.PyArray_ISNOTSWAPPED(a)
    view.strides = strides
    view.class_stride = class_stride


cdef int without(ndarray a, int axis, ptrdiff_t *shape, ptrdiff_t *strides) noexcept:
    """The extents and strides of `a` but for those of `axis` (-1: all of them); returns how many."""
    cdef int i, n = 0
    for i in range(cnp.PyArray_NDIM(a)):
        if i != axis:
            shape[n] = cnp.PyArray_DIM(a, i)
            strides[n] = cnp.PyArray_STRIDE(a, i)
            n += 1
    return n


cdef bint widen(int *ndim, ptrdiff_t *shape, int n, const ptrdiff_t *other) noexcept:
    """Broadcast `shape` in place with `other`; False where they differ."""
    cdef int i
    if n > ndim[0]:
        for i in range(ndim[0] - 1, -1, -1):
            shape[i + n - ndim[0]] = shape[i]
        for i in range(n - ndim[0]):
            shape[i] = 1
        ndim[0] = n
    for i in range(1, n + 1):
        if shape[ndim[0] - i] == 1:
            shape[ndim[0] - i] = other[n - i]
        elif other[n - i] != 1 and other[n - i] != shape[ndim[0] - i]:
            return False
    return True


cdef bint stretch(int ndim, const ptrdiff_t *shape, int n, const ptrdiff_t *own, ptrdiff_t *strides) noexcept:
    """Turn the n strides of an operand of extents `own` into those that walk `shape`; False if it cannot."""
    cdef int i
    if n > ndim:
        return False
    for i in range(1, n + 1):
        if own[n - i] == shape[ndim - i]:
            strides[ndim - i] = strides[n - i]
        elif own[n - i] == 1:
            strides[ndim - i] = 0
        else:
            return False
    for i in range(ndim - n):
        strides[i] = 0
    return True


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


cpdef tuple places(object axis, int ndim, str op):
    """A tuple of axes, or None for all of them, counted from the front."""
    if axis is None:
        return tuple(range(ndim))
    found = tuple([place(a, ndim, op) for a in axis])
    if len(set(found)) < len(found):
        raise ValueError(f"{op}: duplicate value in axis={axis!r}")
    return found


cdef tuple as_tuple(int n, const ptrdiff_t *shape):
    return tuple([shape[i] for i in range(n)])


cdef tuple shape_of(ndarray a):
    return as_tuple(cnp.PyArray_NDIM(a), <ptrdiff_t *>cnp.PyArray_DIMS(a))


cdef str op_name(int op):
    return OPERATIONS[op].name.decode()


cdef str first_operand(int op):
    return _docs.OPERANDS.get(op_name(op), "logits")


cdef str second_operand(int op):
    return _docs.second_operand(op_name(op), OPERATIONS[op].target == XENT_TARGET_LABELS)


cdef list OPERANDS = [(first_operand(op), second_operand(op)) for op in range(OPERATION_COUNT)]


cdef inline tuple operands_of(int op):
    return <tuple>OPERANDS[op]


# ---------------------------------------------------------------------------------------------------------------------
# Running one request

cdef xent_status launch(xent_request *req) noexcept:
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


cdef int refuse(
    xent_status status, xent_request *req, ndarray target, str caller=None, tuple operands=None
) except -1:
    name = caller or op_name(req.op)
    if status != XENT_ERR_LABEL:
        return fail(status, name.encode())
    from xent import _hints

    batch = as_tuple(req.ndim, req.shape)
    at = tuple([int(i) for i in np.unravel_index(req.bad_row, batch)])
    raise IndexError(_hints.label_out_of_range(
        name, (operands or operands_of(req.op))[1], np.broadcast_to(target, batch)[at], at, req.classes,
        req.ignore_index if req.has_ignore_index else None,
    ))


cdef inline object scalar_or_array(ndarray a):
    """A NumPy scalar for an array without dimensions, as ufuncs return it."""
    if cnp.PyArray_NDIM(a) == 0:
        return cnp.PyArray_ToScalar(cnp.PyArray_DATA(a), a)
    return a


cdef ndarray like(ndarray a, int dtype):
    """An array of the shape of `a`, in the order of its axes in memory, so that one walk suits both."""
    cdef cnp.dtype descr
    if cnp.PyArray_IS_C_CONTIGUOUS(a):
        return cnp.PyArray_EMPTY(cnp.PyArray_NDIM(a), cnp.PyArray_DIMS(a), type_of(dtype), 0)
    descr = cnp.PyArray_DescrFromType(type_of(dtype))
    Py_INCREF(descr)
    return PyArray_NewLikeArray(a, cnp.NPY_KEEPORDER, <void *>descr, 0)


cdef inline void extent(ndarray a, char **low, char **high) noexcept:
    """The bytes that an array lies within."""
    cdef int d
    cdef ptrdiff_t reach
    low[0] = cnp.PyArray_BYTES(a)
    high[0] = low[0] + cnp.PyArray_ITEMSIZE(a)
    for d in range(cnp.PyArray_NDIM(a)):
        reach = (cnp.PyArray_DIM(a, d) - 1) * cnp.PyArray_STRIDE(a, d)
        if reach > 0:
            high[0] += reach
        else:
            low[0] += reach


cdef inline bint apart(ndarray out, ndarray a, bint elementwise) noexcept:
    """Whether `out` can be written while `a` is read. Elementwise: also where it is the very same elements, for each is read
    before it is written."""
    cdef char *low
    cdef char *high
    cdef char *a_low
    cdef char *a_high
    if a is None:
        return True
    extent(out, &low, &high)
    extent(a, &a_low, &a_high)
    if high <= a_low or a_high <= low:
        return True
    return (elementwise and cnp.PyArray_DATA(out) == cnp.PyArray_DATA(a) and cnp.PyArray_NDIM(out) == cnp.PyArray_NDIM(a)
            and cnp.PyArray_TYPE(out) == cnp.PyArray_TYPE(a) and cnp.PyArray_SIZE(out) == cnp.PyArray_SIZE(a)
            and cnp.PyArray_IS_C_CONTIGUOUS(out) and cnp.PyArray_IS_C_CONTIGUOUS(a))


cdef inline bint ready(object out, int ndim, const ptrdiff_t *shape, int dtype, ndarray x, ndarray t, bint elementwise):
    """Whether the kernel can write straight into `out`; anything else is for the general way, which has the messages."""
    return (cnp.PyArray_CheckExact(out) and cnp.PyArray_NDIM(out) == ndim
            and memcmp(cnp.PyArray_DIMS(out), shape, ndim * sizeof(ptrdiff_t)) == 0
            and float_dtype(cnp.PyArray_TYPE(out)) == dtype and cnp.PyArray_ISWRITEABLE(out)
            and apart(out, x, elementwise) and apart(out, t, elementwise))


cdef object fast(int op, ndarray x, ndarray t, object out):
    """The result for operands of one shape with the classes last; None where the general way is needed."""
    cdef const xent_op_info *info = &OPERATIONS[op]
    cdef int n = cnp.PyArray_NDIM(x) - 1
    cdef int x_dtype = float_dtype(cnp.PyArray_TYPE(x)), t_dtype, dtype = x_dtype
    cdef ptrdiff_t *shape = <ptrdiff_t *>cnp.PyArray_DIMS(x)
    cdef xent_request req
    cdef xent_status status
    cdef ndarray value = None, emitted = None

    if n < 0 or x_dtype == XENT_NO_DTYPE:
        return None
    if t is not None:
        if info.target == XENT_TARGET_LABELS:
            t_dtype = integer_dtype(cnp.PyArray_TYPE(t), cnp.PyArray_ITEMSIZE(t))
            if cnp.PyArray_NDIM(t) != n:
                return None
        else:
            t_dtype = float_dtype(cnp.PyArray_TYPE(t))
            dtype = promoted(x_dtype, t_dtype)
            if cnp.PyArray_NDIM(t) != n + 1 or cnp.PyArray_DIM(t, n) != shape[n]:
                return None
        if t_dtype == XENT_NO_DTYPE or memcmp(cnp.PyArray_DIMS(t), shape, n * sizeof(ptrdiff_t)) != 0:
            return None

    if out is not None:
        if info.has_value and info.has_emit:
            if not isinstance(out, tuple) or len(<tuple>out) != 2:
                return None
            if (not ready((<tuple>out)[0], n, shape, dtype, x, t, False)
                    or not ready((<tuple>out)[1], n + 1, shape, dtype, x, t, True)
                    or not apart((<tuple>out)[0], (<tuple>out)[1], False)):
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
    fill(&req.logits, x, x_dtype, <ptrdiff_t *>cnp.PyArray_STRIDES(x), cnp.PyArray_STRIDE(x, n))
    if t is not None:
        fill(&req.target, t, t_dtype, <ptrdiff_t *>cnp.PyArray_STRIDES(t),
             0 if info.target == XENT_TARGET_LABELS else cnp.PyArray_STRIDE(t, n))
    if info.has_value:
        if value is None:
            value = cnp.PyArray_EMPTY(n, cnp.PyArray_DIMS(x), type_of(dtype), 0)
        fill(&req.value, value, dtype, <ptrdiff_t *>cnp.PyArray_STRIDES(value), 0)
    if info.has_emit:
        if emitted is None:
            emitted = like(x, dtype)
        fill(&req.out, emitted, dtype, <ptrdiff_t *>cnp.PyArray_STRIDES(emitted), cnp.PyArray_STRIDE(emitted, n))
    status = launch(&req)
    if status != XENT_OK:
        refuse(status, &req, t)
    if out is not None:
        return out
    if emitted is None:
        return scalar_or_array(value)
    return emitted if value is None else (scalar_or_array(value), emitted)


# ---------------------------------------------------------------------------------------------------------------------
# Operands

cdef object loaded(str module, str name):
    """A class of a module that may not be imported: what was never loaded has no instances."""
    return getattr(sys.modules.get(module), name, ())


cdef bint is_table(object a):
    return isinstance(a, (
        loaded("pandas", "Series"), loaded("pandas", "DataFrame"), loaded("pandas", "Index"),
        loaded("pandas.api.extensions", "ExtensionArray"), loaded("polars", "Series"), loaded("polars", "DataFrame"),
    ))


def on_gpu(a, /):
    """Whether an operand lives on a CUDA GPU, where xent.cuda works on it. CPU memory, and memory pinned for a device, can be
    read here; any other device is a TypeError."""
    if cnp.PyArray_Check(a):
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
        f"a {type(a).__module__}.{type(a).__qualname__} is on a device of DLPack's type {kind}: "
        "xent computes in CPU memory and on CUDA GPUs"
    )


cdef int refuse_device(object a, str op, str name) except -1:
    """TypeError for an operand on a GPU where all that goes with it is in CPU memory."""
    if on_gpu(a):
        raise TypeError(
            f"{op}: {name} is a {type(a).__module__}.{type(a).__qualname__} on a GPU, and is needed in CPU memory"
        )
    return 0


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
    return own is not NDARRAY_UFUNC and not is_table(a) and not isinstance(a, loaded("numpy.ma", "MaskedArray"))


def as_array(a, str op, str name):
    """An operand as an ndarray of any dtype; of its subclasses only masked arrays stay what they are."""
    if cnp.PyArray_CheckExact(a) or isinstance(a, loaded("numpy.ma", "MaskedArray")):
        return a
    if not isinstance(a, (ndarray, np.generic, list, tuple, int, float)):
        refuse_device(a, op, name)
        from xent import _foreign

        a = _foreign.read(a, op, name)
        if isinstance(a, loaded("numpy.ma", "MaskedArray")):
            return a
    try:
        return np.asarray(a)
    except (TypeError, ValueError) as error:  # nested lists of several lengths, and what else is no array
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{op}: {name}: {error}") from error


cdef int refuse_dtype(ndarray plain, object given, str op, str name) except -1:
    """TypeError for what is no operand; `given`: the dtype that it came with, where it came with one."""
    cdef int typenum = cnp.PyArray_TYPE(plain)
    if float_dtype(typenum) == XENT_NO_DTYPE and not cnp.PyTypeNum_ISBOOL(typenum) and not cnp.PyTypeNum_ISINTEGER(typenum):
        from xent import _hints

        raise TypeError(_hints.operand_dtype(op, name, plain.dtype, given))
    return 0


def as_numbers(a, str op, str name):
    """as_array(a), or TypeError for a dtype that is no operand's."""
    given = getattr(a, "dtype", None)
    look_for_bfloat16()
    a = as_array(a, op, name)
    refuse_dtype(a, given, op, name)
    return a


cdef tuple convert(object a, str op, str name, bint labels):
    """An operand as a plain ndarray of a dtype that the kernels read, and its mask if it is a masked array."""
    cdef ndarray plain
    cdef bint typed = hasattr(a, "dtype")
    given = getattr(a, "dtype", None)
    mask = None
    a = as_array(a, op, name)
    if not cnp.PyArray_CheckExact(a):
        if a.mask is not sys.modules["numpy.ma"].nomask:
            mask = np.asarray(a.mask)
        # What lies under a mask is not looked at, so it must not be found out of range either.
        a = np.asarray(a.filled(0) if labels and mask is not None else a.data)
    plain = a
    if labels and not typed and cnp.PyArray_SIZE(plain) == 0:
        plain = plain.astype(np.intp)  # NumPy makes an empty list float64
    cdef int typenum = cnp.PyArray_TYPE(plain)
    if labels:
        if integer_dtype(typenum, cnp.PyArray_ITEMSIZE(plain)) == XENT_NO_DTYPE:
            from xent import _hints

            raise TypeError(_hints.labels_dtype(op, name, plain.dtype if given is None else given, plain.dtype.kind))
    elif float_dtype(typenum) == XENT_NO_DTYPE:
        refuse_dtype(plain, given, op, name)
        plain = plain.astype(np.float64)
    return plain, mask


cdef ndarray as_bools(object where, str op):
    if not cnp.PyArray_CheckExact(where):
        where = as_array(where, op, "where")
        if not cnp.PyArray_CheckExact(where):
            from xent import _hints

            raise TypeError(_hints.masked_where(op))
    if cnp.PyArray_TYPE(where) != cnp.NPY_BOOL:
        raise TypeError(f"{op}: where must be bools, not {where.dtype}")
    return where


cdef tuple axes_of(object axis, int ndim, str op):
    return places(axis, ndim, op) if axis is None or isinstance(axis, tuple) else (place(axis, ndim, op),)


def layout(str name, tuple operands, ndarray x, ndarray t, bint labels, axis):
    """(batch shape, class shape) of `operands` with one class axis or several; ValueError where they do not go together."""
    cdef int i
    if axis is not None and not isinstance(axis, tuple):
        refuse_no_axis(name, operands, x, None if labels else t)
    x_axes = axes_of(axis, x.ndim, name)
    classes = tuple([x.shape[i] for i in x_axes])
    batch = tuple([x.shape[i] for i in range(x.ndim) if i not in x_axes])
    if t is None:
        return batch, classes
    t_axes = () if labels else axes_of(axis, t.ndim, name)
    t_batch = tuple([t.shape[i] for i in range(t.ndim) if i not in t_axes])
    if labels:
        if t.ndim and t.ndim == x.ndim:
            refuse_class_axis(name, operands, x, t, x_axes)
        if axis is None:
            refuse_many_labels(name, operands, x, t)
    elif tuple([t.shape[i] for i in t_axes]) != classes:
        refuse_shapes(name, operands, x, t, axis)
    try:
        return np.broadcast_shapes(batch, t_batch), classes
    except ValueError:
        if labels:
            refuse_labels(name, operands, x, t, batch)
        refuse_shapes(name, operands, x, t, axis)


cdef ndarray join_masks(
    str name, tuple operands, ndarray x, object x_mask, ndarray t, object t_mask, bint labels, object axis, object where
):
    """One `where` of the broadcast shape for masked operands: what any of the masks hides is left out."""
    batch, classes = layout(name, operands, x, t, labels, axis)
    depth = len(classes)
    tail = tuple(range(-depth, 0))
    hidden = np.False_ if x_mask is None else np.moveaxis(x_mask, axes_of(axis, x.ndim, name), tail)
    if t_mask is not None:
        # A masked label takes its whole row out.
        t_hidden = t_mask[(..., *([None] * depth))] if labels else np.moveaxis(t_mask, axes_of(axis, t.ndim, name), tail)
        hidden = np.logical_or(hidden, t_hidden)
    shown = np.broadcast_to(np.logical_not(hidden), batch + classes)
    shown = np.moveaxis(shown, tail, axes_of(axis, len(batch) + depth, name))
    if where is None:
        return shown
    where = as_bools(where, name)
    try:
        return np.logical_and(shown, np.broadcast_to(where, shown.shape))
    except ValueError:
        raise ValueError(f"{name}: where of shape {where.shape} does not broadcast to {shown.shape}") from None


# ---------------------------------------------------------------------------------------------------------------------
# Results

cdef ndarray check_out(object out, tuple shape, int dtype, int op):
    """`out` as a plain array, once its type, shape and dtype are found to fit."""
    name = op_name(op)
    if not isinstance(out, np.ndarray) or isinstance(out, loaded("numpy.ma", "MaskedArray")):
        raise TypeError(f"{name}: out must be a plain array, not {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"{name}: out has shape {out.shape}, the result has {shape}")
    if not out.flags.writeable:
        raise ValueError(f"{name}: output array is read-only")
    result = np.dtype(cnp.PyArray_DescrFromType(type_of(dtype)))
    if not np.can_cast(result, out.dtype, "same_kind"):
        raise TypeError(f"{name}: cannot cast {result}, the result, to {out.dtype}, out's, with rule 'same_kind'")
    return np.asarray(out)


cdef ndarray destination(ndarray out, tuple shape, int dtype, ndarray pattern, list arrays):
    """Where the kernel writes: `out` itself, or a new array where there is none, or where it overlaps an operand."""
    if out is not None and float_dtype(cnp.PyArray_TYPE(out)) != XENT_NO_DTYPE:
        if not any([a is not None and np.may_share_memory(out, a) for a in arrays]):
            return out
    if pattern is not None and shape_of(pattern) == shape:
        return like(pattern, dtype)
    return np.empty(shape, cnp.PyArray_DescrFromType(type_of(dtype)))


cpdef tuple split_out(object out, int op):
    """(out for the value, out for the rows), of which the operation uses those that it has."""
    cdef const xent_op_info *info = &OPERATIONS[op]
    cdef bint pair = info.has_value and info.has_emit
    if not isinstance(out, tuple):
        if out is not None and pair:
            raise TypeError(f"{op_name(op)}: out must be a tuple of two arrays, (value, gradient)")
        out = (out, out) if not pair else (None, None)
    elif len(out) != 1 + pair:
        raise ValueError(f"{op_name(op)}: out must hold {1 + pair} arrays, not {len(out)}")
    elif not pair:
        out = out * 2
    return (out[0] if info.has_value else None), (out[1] if info.has_emit else None)


cdef object deliver(object value, object emitted):
    if emitted is None:
        return value
    return emitted if value is None else (value, emitted)


cdef object finish(ndarray made, ndarray wanted, object given):
    """The result to hand out: `given` where the caller brought one, filled if the kernel wrote elsewhere."""
    if made is None:
        return None
    if given is None:
        return scalar_or_array(made)
    if made is not wanted:
        np.copyto(wanted, made, casting="same_kind")
    return given


# ---------------------------------------------------------------------------------------------------------------------
# The general way

cdef int refuse_no_axis(str name, tuple operands, ndarray x, ndarray t) except -1:
    """ValueError for an operand without dimensions, where each has a class axis."""
    if cnp.PyArray_NDIM(x) == 0 or (t is not None and cnp.PyArray_NDIM(t) == 0):
        without_any = operands[0 if cnp.PyArray_NDIM(x) == 0 else 1]
        raise ValueError(f"{name}: {without_any} must have at least one dimension, the class axis")
    return 0


cdef int refuse_labels(str name, tuple operands, ndarray x, ndarray labels, tuple batch) except -1:
    raise ValueError(
        f"{name}: {operands[1]} of shape {shape_of(labels)} and dtype {labels.dtype} do not match {operands[0]} of shape "
        f"{shape_of(x)}: {shape_of(labels)} does not broadcast with {batch}, what is left of the latter without their class axis"
    )


cdef int refuse_shapes(str name, tuple operands, ndarray x, ndarray t, object axis) except -1:
    raise ValueError(
        f"{name}: shapes {shape_of(x)} of {operands[0]} and {shape_of(t)} of {operands[1]} do not match "
        f"(axis={axis}: the class axes must be of one length, the others must broadcast)"
    )


cdef int refuse_likely_labels(str name, ndarray x, ndarray t, object target, object axis) except -1:
    """ValueError for a target of one number a row, where rows of classes cannot be meant: most likely it is labels. t is
    the target as it was converted, so that its dtype need not be the one that came."""
    cdef int at
    if axis is None or isinstance(axis, tuple) or cnp.PyArray_NDIM(t) == 0 or t.ndim != x.ndim - 1:
        return 0
    at = place(axis, x.ndim, name)
    if shape_of(t) != shape_of(x)[:at] + shape_of(x)[at + 1:] or x.shape[at] == t.shape[place(axis, t.ndim, name)]:
        return 0
    from xent import _hints

    dtype = target.dtype if hasattr(target, "dtype") else np.asarray(target).dtype
    raise ValueError(_hints.one_number_a_row(name, shape_of(x), shape_of(t), dtype))


cdef int refuse_class_axis(str name, tuple operands, ndarray x, ndarray labels, tuple axes) except -1:
    """Labels with as many axes as the logits: ValueError for what can only be a one-hot encoding or a column."""
    cdef int i
    if shape_of(labels) == shape_of(x):
        raise ValueError(
            f"{name}: {operands[1]} of dtype {labels.dtype}, integers, and of the own shape {shape_of(x)} of {operands[0]} look "
            "like a one-hot encoding; pass one label a row, or to cross_entropy the one-hot rows as floating-point probabilities"
        )
    kept = tuple([1 if i in axes else x.shape[i] for i in range(x.ndim)])
    if x.ndim > len(axes) and shape_of(labels) == kept:
        # Broadcasting would pair every label with every row.
        raise ValueError(
            f"{name}: {operands[1]} of shape {shape_of(labels)} keep the class axis of {operands[0]} {shape_of(x)}; "
            f"pass one label a row, as {operands[1]}.squeeze({axes[0] if len(axes) == 1 else axes}) does"
        )
    return 0


cdef int refuse_many_labels(str name, tuple operands, ndarray x, ndarray labels) except -1:
    """Labels beside axis=None, which makes one row of all the logits: ValueError for more than one."""
    if cnp.PyArray_NDIM(labels) != 0:
        raise ValueError(
            f"{name}: axis=None takes {operands[0]} of shape {shape_of(x)} as one row, which has one label, of shape (), "
            f"not {operands[1]} of shape {shape_of(labels)}"
        )
    return 0


cdef int fill_class_weights(xent_view *view, ndarray weights, ptrdiff_t classes, str op, str option) except -1:
    if weights is not None:
        if cnp.PyArray_NDIM(weights) != 1 or cnp.PyArray_DIM(weights, 0) != classes:
            raise ValueError(f"{op}: {option} has shape {shape_of(weights)}, expected ({classes},), one a class")
        fill(view, weights, XENT_F64, NULL, cnp.PyArray_STRIDE(weights, 0))
    return 0


cdef object evaluate(
    int op, ndarray x, ndarray t, bint labels, object axis, bint keepdims, object where, object out, int dtype,
    ndarray class_weight, ndarray sample_weight, ndarray temperature, double smoothing, object ignore_index,
    int reduction, ndarray pos_weight=None, str caller=None, tuple operands=None, int scalar_dtype=XENT_NO_DTYPE,
):
    """One request from operands of any strides. `labels`: t holds one integer a row; dtype: that of the result; `caller` and
    `operands`: the function that was called and its names for x and t, where they are not the operation's own;
    `scalar_dtype`: that of a value summed over rows, where it is another one."""
    cdef const xent_op_info *info = &OPERATIONS[op]
    cdef bint rows = t is not None and not labels
    cdef int x_axis, t_axis = 0, at, n, i, ndim, x_n, t_n = 0, value_dtype
    cdef Extents shape, full, own, x_shape, t_shape
    cdef Extents x_strides, t_strides, value_strides, out_strides, where_strides, sample_strides, temperature_strides
    cdef ptrdiff_t classes, where_class = 0
    cdef xent_request req
    cdef xent_status status
    cdef ndarray mask = None, value = None, emitted = None, value_out = None, emit_out = None

    if axis is None or isinstance(axis, tuple):
        return evaluate_merged(
            op, x, t, labels, axis, keepdims, where, out, dtype, class_weight, sample_weight, temperature, smoothing,
            ignore_index, reduction, pos_weight, caller,
        )
    name = caller or op_name(op)
    operands = operands or operands_of(op)
    refuse_no_axis(name, operands, x, t if rows else None)

    # Batch dimensions: what is left of each operand without its class axis, broadcast.
    x_axis = place(axis, cnp.PyArray_NDIM(x), name)
    classes = cnp.PyArray_DIM(x, x_axis)
    x_n = ndim = without(x, x_axis, x_shape, x_strides)
    memcpy(shape, x_shape, ndim * sizeof(ptrdiff_t))
    if labels:
        t_n = without(t, -1, t_shape, t_strides)
        if t_n == cnp.PyArray_NDIM(x):
            refuse_class_axis(name, operands, x, t, (x_axis,))
        if not widen(&ndim, shape, t_n, t_shape):
            refuse_labels(name, operands, x, t, as_tuple(x_n, x_shape))
    elif rows:
        t_axis = place(axis, cnp.PyArray_NDIM(t), name)
        t_n = without(t, t_axis, t_shape, t_strides)
        if cnp.PyArray_DIM(t, t_axis) != classes or not widen(&ndim, shape, t_n, t_shape):
            refuse_shapes(name, operands, x, t, axis)
    if t is not None:
        stretch(ndim, shape, t_n, t_shape, t_strides)
    stretch(ndim, shape, x_n, x_shape, x_strides)
    at = place(axis, ndim + 1, name)
    for i in range(ndim + 1):
        full[i] = classes if i == at else shape[i - (i > at)]

    begin(&req)
    req.op = op
    req.compute = compute_in(dtype)
    req.ndim = ndim
    req.shape = shape
    req.classes = classes
    req.reduction = reduction
    req.label_smoothing = smoothing
    if ignore_index is not None:
        req.has_ignore_index = 1
        req.ignore_index = ignore_index
    fill(&req.logits, x, float_dtype(cnp.PyArray_TYPE(x)), x_strides, cnp.PyArray_STRIDE(x, x_axis))
    if labels:
        fill(&req.target, t, integer_dtype(cnp.PyArray_TYPE(t), cnp.PyArray_ITEMSIZE(t)), t_strides, 0)
    elif rows:
        fill(&req.target, t, float_dtype(cnp.PyArray_TYPE(t)), t_strides, cnp.PyArray_STRIDE(t, t_axis))
    if where is not None:
        mask = as_bools(where, name)
        n = without(mask, -1, own, where_strides)
        if not stretch(ndim + 1, full, n, own, where_strides):
            raise ValueError(
                f"{name}: where of shape {shape_of(mask)} does not broadcast to {as_tuple(ndim + 1, full)}"
            )
        where_class = where_strides[at]
        for i in range(at, ndim):
            where_strides[i] = where_strides[i + 1]
        fill(&req.where, mask, XENT_BOOL, where_strides, where_class)
    fill_class_weights(&req.class_weight, class_weight, classes, name, "weight")
    fill_class_weights(&req.pos_weight, pos_weight, classes, name, "pos_weight")
    if sample_weight is not None:
        n = without(sample_weight, -1, own, sample_strides)
        if not stretch(ndim, shape, n, own, sample_strides):
            raise ValueError(
                f"{name}: sample_weight of shape {shape_of(sample_weight)} does not broadcast "
                f"to {as_tuple(ndim, shape)}"
            )
        fill(&req.sample_weight, sample_weight, XENT_F64, sample_strides, 0)
    if temperature is not None:
        n = without(temperature, -1, own, temperature_strides)
        if not stretch(ndim, shape, n, own, temperature_strides):
            raise ValueError(
                f"{name}: temperature of shape {shape_of(temperature)} does not broadcast to {as_tuple(ndim, shape)}"
            )
        fill(&req.temperature, temperature, XENT_F64, temperature_strides, 0)

    # Every check of `out` comes before the first thing written.
    value_given, emit_given = split_out(out, op)
    arrays = [x, t, mask, class_weight, pos_weight, sample_weight, temperature]
    value_shape = () if reduction in (XENT_SUM, XENT_MEAN) else as_tuple(ndim, shape)
    if keepdims:
        value_shape = tuple([1 if i == at else full[i] for i in range(ndim + 1)])
    emit_shape = (classes,) if reduction == XENT_PER_CLASS else as_tuple(ndim + 1, full)
    if value_given is not None:
        value_out = check_out(value_given, value_shape, dtype, op)
    if emit_given is not None:
        emit_out = check_out(emit_given, emit_shape, dtype, op)
    if info.has_value:
        value_dtype = dtype
        if reduction in (XENT_SUM, XENT_MEAN) and scalar_dtype != XENT_NO_DTYPE:
            value_dtype = scalar_dtype
        value = destination(value_out, value_shape, value_dtype, None, [*arrays, emit_out])
        without(value, at if keepdims else -1, own, value_strides)
        if reduction in (XENT_SUM, XENT_MEAN):
            memset(value_strides, 0, ndim * sizeof(ptrdiff_t))
        fill(&req.value, value, float_dtype(cnp.PyArray_TYPE(value)), value_strides, 0)
    if info.has_emit:
        emitted = destination(emit_out, emit_shape, dtype, x, [*arrays, value_out])
        if reduction == XENT_PER_CLASS:
            memset(out_strides, 0, ndim * sizeof(ptrdiff_t))
            n = 0
        else:
            without(emitted, at, own, out_strides)
            n = at
        fill(&req.out, emitted, float_dtype(cnp.PyArray_TYPE(emitted)), out_strides, cnp.PyArray_STRIDE(emitted, n))

    status = launch(&req)
    if status != XENT_OK:
        refuse(status, &req, t, caller, operands)
    return deliver(finish(value, value_out, value_given), finish(emitted, emit_out, emit_given))


cdef object evaluate_merged(
    int op, ndarray x, ndarray t, bint labels, object axis, bint keepdims, object where, object out, int dtype,
    ndarray class_weight, ndarray sample_weight, ndarray temperature, double smoothing, object ignore_index,
    int reduction, ndarray pos_weight, str caller,
):
    """Several class axes: one axis of all their elements, which costs a copy where no stride can walk them."""
    cdef int i
    name = caller or op_name(op)
    batch, class_shape = layout(name, operands_of(op), x, t, labels, axis)
    if t is not None and not labels:
        t = merge(t, places(axis, t.ndim, name))
    x = merge(x, places(axis, x.ndim, name))
    ndim = len(batch) + len(class_shape)
    at = places(axis, ndim, name)
    rest = iter(batch)
    full = tuple([class_shape[at.index(i)] if i in at else next(rest) for i in range(ndim)])
    if where is not None:
        where = as_bools(where, name)
        try:
            where = np.broadcast_to(where, full)
        except ValueError:
            raise ValueError(f"{name}: where of shape {where.shape} does not broadcast to {full}") from None
        where = merge(where, at)

    value_given, emit_given = split_out(out, op)
    value_out = emit_out = None
    if value_given is not None:
        value_shape = tuple([1 if i in at else full[i] for i in range(ndim)]) if keepdims else batch
        value_out = check_out(value_given, value_shape, dtype, op)
    if emit_given is not None:
        emit_out = check_out(emit_given, full, dtype, op)

    result = evaluate(
        op, x, t, labels, -1, False, where, None, dtype, class_weight, sample_weight, temperature, smoothing,
        ignore_index, reduction, pos_weight, caller,
    )
    value, emitted = None, None
    if OPERATIONS[op].has_value:
        value = np.asarray(result[0] if OPERATIONS[op].has_emit else result)
        if keepdims:
            value = np.expand_dims(value, at)
    if OPERATIONS[op].has_emit:
        emitted = result[1] if OPERATIONS[op].has_value else result
        if reduction == XENT_PER_CLASS:
            emitted = emitted.reshape(class_shape)
        else:
            emitted = np.moveaxis(emitted.reshape(batch + class_shape), range(len(batch), ndim), at)
    return deliver(finish(value, value_out, value_given), finish(emitted, emit_out, emit_given))


cdef ndarray merge(ndarray a, tuple axes):
    """`a` with `axes` made one axis, the last."""
    rest = [i for i in range(a.ndim) if i not in axes]
    classes = 1
    for i in axes:
        classes *= a.shape[i]
    return a.transpose([*rest, *axes]).reshape([*[a.shape[i] for i in rest], classes])


cdef int result_dtype(ndarray x, ndarray t, bint labels, object dtype, str op) except -1:
    cdef int found = float_dtype(cnp.PyArray_TYPE(x))
    if dtype is not None:
        try:
            wanted = np.dtype(dtype)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{op}: dtype: {error}") from None
        found = float_dtype(wanted.num)
        if found == XENT_NO_DTYPE:
            raise TypeError(f"{op}: dtype={wanted} is not supported; float16, bfloat16, float32 and float64 are")
    elif t is not None and not labels:
        found = promoted(found, float_dtype(cnp.PyArray_TYPE(t)))
    return found


# ---------------------------------------------------------------------------------------------------------------------
# The callables

cdef object invoke(int op, object logits, object target, object axis, object keepdims, object where, object out,
                   object dtype):
    cdef bint alone = OPERATIONS[op].target == XENT_TARGET_NONE
    cdef bint labels = OPERATIONS[op].target == XENT_TARGET_LABELS
    cdef ndarray x, t = None
    if (where is None and dtype is None and keepdims is False and type(axis) is int and axis == -1
            and cnp.PyArray_CheckExact(logits) and (alone or cnp.PyArray_CheckExact(target))):
        result = fast(op, logits, None if alone else target, out)
        if result is not None:
            return result
    if on_gpu(logits) or (not alone and on_gpu(target)):
        from xent import cuda

        return cuda.evaluate(
            op_name(op), logits, None if alone else target, operands=operands_of(op),
            labels=labels, axis=axis, keepdims=keepdims, where=where, out=out, dtype=dtype,
        )
    look_for_bfloat16()
    name = op_name(op)
    if foreign(logits) or (not alone and foreign(target)) or (where is not None and foreign(where)):
        from xent import _foreign

        return _foreign.call(name, (logits,) if alone else (logits, target), axis, keepdims, where, out, dtype)
    if isinstance(axis, list):
        axis = tuple(axis)
    x, x_mask = convert(logits, name, first_operand(op), False)
    t_mask = None
    if not alone:
        t, t_mask = convert(target, name, second_operand(op), labels)
        if OPERATIONS[op].target == XENT_TARGET_PROBS:
            refuse_likely_labels(name, x, t, target, axis)
    if x_mask is not None or t_mask is not None:
        where = join_masks(name, operands_of(op), x, x_mask, t, t_mask, labels, axis, where)
    return evaluate(
        op, x, t, labels, axis, keepdims, where, out, result_dtype(x, t, labels, dtype, name), None, None, None, 0.0,
        None, XENT_NONE,
    )


cdef object MISSING = object()


cdef tuple bind(int op, tuple names, tuple given, dict named):
    """The operands of a call that does not simply give them by their places; TypeError where they are not those wanted."""
    if len(given) <= len(names) and set(named) == set(names[len(given):]):
        return (*given, *[named[name] for name in names[len(given):]])
    from xent import _hints

    name = op_name(op)
    _hints.refuse_call(name, CALLABLES[name].__signature__, len(given), named)


cdef tuple given_of(tuple first, tuple extra):
    return tuple([a for a in first if a is not MISSING]) + extra


# Cython names a function in its own messages as it is written here: what does not fit is therefore taken in, and refused by
# the name that was called.
def _of_one(int op, tuple names):
    def call(logits=MISSING, /, *extra, axis=-1, keepdims=False, where=None, out=None, dtype=None, **named):
        if logits is MISSING or extra or named:
            (logits,) = bind(op, names, given_of((logits,), extra), named)
        return invoke(op, logits, None, axis, keepdims, where, out, dtype)
    return call


def _of_two(int op, tuple names):
    def call(logits=MISSING, target=MISSING, /, *extra, axis=-1, keepdims=False, where=None, out=None, dtype=None, **named):
        if target is MISSING or extra or named:
            logits, target = bind(op, names, given_of((logits, target), extra), named)
        return invoke(op, logits, target, axis, keepdims, where, out, dtype)
    return call


cdef object signature_of(tuple names, dict known):
    """The signature that users are shown: the operands by name, the options as keywords."""
    if names not in known:
        kinds = inspect.Parameter
        defaults = {"axis": -1, "keepdims": False, "where": None, "out": None, "dtype": None}
        known[names] = inspect.Signature(
            [kinds(name, kinds.POSITIONAL_OR_KEYWORD) for name in names]
            + [kinds(name, kinds.KEYWORD_ONLY, default=default) for name, default in defaults.items()]
        )
    return known[names]


cdef dict make_callables():
    """One function for each row-wise operation of the table, named and documented after it."""
    cdef int op
    made, known = {}, {}
    for op in range(OPERATION_COUNT):
        name = op_name(op)
        target = OPERATIONS[op].target
        if target == XENT_TARGET_POINT:
            continue  # nothing to reduce: the ufunc itself is the function
        names = (first_operand(op),) if target == XENT_TARGET_NONE else operands_of(op)
        call = (_of_one if target == XENT_TARGET_NONE else _of_two)(op, names)
        call.__signature__ = signature_of(names, known)
        call.__name__ = call.__qualname__ = name
        call.__module__ = "xent"
        call.__doc__ = _docs.callable_doc(
            name, TARGET_NAMES[target], bool(OPERATIONS[op].has_value), bool(OPERATIONS[op].has_emit)
        )
        made[name] = call
    return made


cdef dict TARGET_NAMES = {
    XENT_TARGET_NONE: "none", XENT_TARGET_PROBS: "probs", XENT_TARGET_LOGITS: "logits",
    XENT_TARGET_LOG_PROBS: "log_probs", XENT_TARGET_LABELS: "labels", XENT_TARGET_POINT: "point",
}

CALLABLES = make_callables()

Operation = namedtuple("Operation", "number target operands has_value has_emit")


cdef dict make_table():
    cdef int op
    return {
        op_name(op): Operation(
            op, TARGET_NAMES[OPERATIONS[op].target],
            (first_operand(op), "" if OPERATIONS[op].target == XENT_TARGET_NONE else second_operand(op)),
            bool(OPERATIONS[op].has_value), bool(OPERATIONS[op].has_emit),
        )
        for op in range(OPERATION_COUNT)
    }


# The operations in order, for who is written in Python.
TABLE = make_table()


# ---------------------------------------------------------------------------------------------------------------------
# For xent.losses

def evaluate_loss(
    str name, logits, target, *, caller, bint labels=False, axis=-1, where=None, weight=None, sample_weight=None,
    temperature=None, double label_smoothing=0.0, ignore_index=None, reduction="none", pos_weight=None,
    operands=("logits", "target"), dtype=None,
):
    """One operation with the options of the losses; `labels`: target holds one integer a row.

    `dtype`: that of all results. Without it they have the operands', but sums over rows of 16-bit operands are float32.
    """
    cdef int op = xent_find_op(name.encode())
    cdef int found
    cdef ndarray x, t
    if on_gpu(logits) or on_gpu(target):
        from xent import cuda

        return cuda.evaluate(
            name, logits, target, caller=caller, operands=operands, labels=labels, axis=one_axis(axis, caller),
            where=where, weight=weight, pos_weight=pos_weight, sample_weight=sample_weight, temperature=temperature,
            label_smoothing=label_smoothing, ignore_index=ignore_index, reduction=reduction, dtype=dtype,
        )
    look_for_bfloat16()
    x, x_mask = convert(logits, caller, operands[0], False)
    t, t_mask = convert(target, caller, operands[1], labels)
    asked = getattr(target, "dtype", t.dtype)
    axis = one_axis(axis, caller)
    if not labels and t.ndim < x.ndim:
        # NumPy would broadcast: labels that arrive as floats become probabilities where there are as many rows as classes.
        from xent import _hints

        raise ValueError(_hints.fewer_dimensions(caller, operands, shape_of(x), shape_of(t), asked))
    if where is not None:
        where = mask_of_classes(where, caller, operands[0], x.ndim)
    if x_mask is not None or t_mask is not None:
        where = join_masks(caller, operands, x, x_mask, t, t_mask, labels, axis, where)
    found = result_dtype(x, t, labels, dtype, caller)
    return evaluate(
        op, x, t, labels, axis, False, where, None, found, weight, sample_weight, temperature, label_smoothing,
        ignore_index, REDUCTIONS[reduction], pos_weight, caller, operands,
        found if dtype is not None else compute_in(found),
    )


def mask_of_classes(where, str caller, str operand, int ndim):
    """The option `where` of a loss, whose operand has `ndim` dimensions: bools of as many, or one for all. TypeError, ValueError
    for what is none: a mask of rows would be stretched over the classes where there are as many of both."""
    where = as_bools(where, caller)
    if 0 < where.ndim < ndim:
        raise ValueError(
            f"{caller}: where of shape {where.shape} has fewer dimensions than {operand}, which has {ndim}. A mask of rows is "
            "mask[:, None], one of classes mask[None, :]"
        )
    return where


# ---------------------------------------------------------------------------------------------------------------------
# Threads, instruction sets, information

cdef list available_isas():
    cdef int i = 0
    names = []
    while xent_isa_name(i) != NULL:
        names.append(xent_isa_name(i).decode())
        i += 1
    return names


cdef str current_isa():
    cdef const char *name = xent_get_isa()
    return None if name == NULL else name.decode()


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
        "isa": current_isa(),
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
