# cython: language_level=3, freethreading_compatible=True
"""NumPy ufuncs, one for each line of the C table: one loop in C serves them all."""

import sys
from _thread import allocate_lock

import numpy as np

from xent import _docs

cimport numpy as cnp
from cpython.mem cimport PyMem_RawMalloc
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, strdup

from xent cimport _core
from xent._xent_h cimport *

cnp.import_array()
cnp.import_umath()

cdef extern from * nogil:
    """
    #include <fenv.h>
    #if defined(__SSE2__)
    #include <emmintrin.h>
    /* feclearexcept saves and loads the x87 unit's whole environment as well, which no kernel uses: a twentieth of a tiny
     * call. */
    static void clear_flags(void) {
        unsigned csr = _mm_getcsr();
        if (csr & 0x3f)
            _mm_setcsr(csr & ~0x3fu);
    }
    #else
    static void clear_flags(void) {
        feclearexcept(FE_ALL_EXCEPT);
    }
    #endif
    """
    void clear_flags()

cdef extern from "Python.h":
    ctypedef PyObject *(*vectorcallfunc)(PyObject *, PyObject **, size_t, PyObject *)
    Py_ssize_t PyVectorcall_NARGS(size_t count)
    void *PyErr_Occurred()
    void PyErr_SetObject(object type, object value)

cdef extern from "numpy/ufuncobject.h":
    ctypedef struct GUFunc "PyUFuncObject":
        int nin
        vectorcallfunc vectorcall

cdef enum:
    MAX_OPERANDS = 4
    MAX_LOOPS = 30  # those of labels: every float with every integer

# Doubles come first, so that integers and bools go to float64.
cdef list FLOATS = [cnp.NPY_DOUBLE, cnp.NPY_FLOAT, cnp.NPY_FLOAT16]
cdef list INTEGERS = [
    cnp.NPY_LONG, cnp.NPY_BYTE, cnp.NPY_UBYTE, cnp.NPY_SHORT, cnp.NPY_USHORT, cnp.NPY_INT, cnp.NPY_UINT,
    cnp.NPY_ULONG, cnp.NPY_LONGLONG, cnp.NPY_ULONGLONG,
]

ctypedef struct Loop:
    # What NumPy hands back to the loop as its data: which operation, and the dtypes of operands and results.
    const xent_op_info *info
    int op
    uint8_t dtype
    uint8_t target_dtype
    uint8_t result_dtype

ctypedef struct Loops:
    # What NumPy is told of the loops of a ufunc. It keeps the pointers for as long as the ufunc lives, which is to the end
    # of the process.
    cnp.PyUFuncGenericFunction functions[MAX_LOOPS]
    void *data[MAX_LOOPS]
    char types[MAX_LOOPS * MAX_OPERANDS]
    Loop loops[MAX_LOOPS]


cdef inline void point(
    xent_view *view, char *data, uint8_t dtype, const ptrdiff_t *stride, ptrdiff_t step
) noexcept nogil:
    view.data = data
    view.dtype = dtype
    view.strides = stride
    view.class_stride = step


cdef void run_loop(char **args, const cnp.npy_intp *dims, const cnp.npy_intp *steps, void *data) noexcept nogil:
    """Any loop of any of the ufuncs: dims and steps hold first the outer loop's, then those of the class axis."""
    cdef const Loop *loop = <const Loop *>data
    cdef xent_target target = loop.info.target
    cdef bint has_target = target != XENT_TARGET_NONE
    cdef int operands = 1 + has_target + (loop.info.has_value != 0) + (loop.info.has_emit != 0)
    cdef int i = 1 + has_target
    cdef const cnp.npy_intp *core = steps + operands
    cdef xent_request req
    cdef xent_status status

    _core.begin(&req)
    req.op = loop.op
    req.compute = XENT_F64 if loop.result_dtype == XENT_F64 else XENT_F32
    if target == XENT_TARGET_POINT:
        # No rows: the elements of the loop are one row's classes.
        req.classes = dims[0]
        point(&req.logits, args[0], loop.dtype, NULL, steps[0])
        point(&req.target, args[1], loop.target_dtype, NULL, steps[1])
        point(&req.out, args[2], loop.result_dtype, NULL, steps[2])
    else:
        req.ndim = 1
        req.shape = <const ptrdiff_t *>dims
        req.classes = dims[1]
        point(&req.logits, args[0], loop.dtype, <const ptrdiff_t *>steps, core[0])
        core += 1
        if has_target:
            point(&req.target, args[1], loop.target_dtype, <const ptrdiff_t *>&steps[1], 0)
            if target != XENT_TARGET_LABELS:
                req.target.class_stride = core[0]
                core += 1
        if loop.info.has_value:
            point(&req.value, args[i], loop.result_dtype, <const ptrdiff_t *>&steps[i], 0)
            i += 1
        if loop.info.has_emit:
            point(&req.out, args[i], loop.result_dtype, <const ptrdiff_t *>&steps[i], core[0])
    status = _core.execute(&req)
    if status != XENT_OK:
        with gil:
            report(status, &req, loop.info)
    # Masked lanes and -inf raise flags that NumPy would turn into warnings about defined results.
    clear_flags()


cdef object label_of(const xent_request *req):
    """The label that was refused, which as xent_request's signed integer is not what an unsigned one of 64 bits says."""
    cdef uint64_t label
    if req.target.dtype != XENT_U64:
        return req.bad_label
    memcpy(&label, <const char *>req.target.data + req.bad_row * req.target.strides[0], sizeof(label))
    return label


cdef void report(xent_status status, const xent_request *req, const xent_op_info *info) noexcept with gil:
    """Set the exception, unless an earlier inner loop of this call has set one: NumPy goes on after an error."""
    if PyErr_Occurred() != NULL:
        return
    try:
        if status == XENT_ERR_LABEL:
            name = info.name.decode()
            raise IndexError(
                f"label {label_of(req)} is out of range for {req.classes} classes (xent.{name} says at which position)"
            )
        _core.fail(status, info.name)
    except BaseException as error:
        PyErr_SetObject(type(error), error)


cdef str signature_of(const xent_op_info *info):
    cdef xent_target target = info.target
    if target == XENT_TARGET_POINT:
        return "(),()->()"
    outputs = ["()"] * (info.has_value != 0) + ["(n)"] * (info.has_emit != 0)
    inputs = {XENT_TARGET_NONE: "(n)", XENT_TARGET_LABELS: "(n),()"}.get(target, "(n),(n)")
    return f"{inputs}->{','.join(outputs)}"


cdef list types_of(const xent_op_info *info, list floats):
    """The types of each loop's operands and results, as NumPy numbers them: at most MAX_OPERANDS.

    Floats of two kinds have loops of their own: NumPy would take the first that both can be cast to, and cast them whole.
    """
    outputs = (info.has_value != 0) + (info.has_emit != 0)
    if info.target == XENT_TARGET_NONE:
        return [(f, *[f] * outputs) for f in floats]
    if info.target == XENT_TARGET_LABELS:
        return [(f, i, *[f] * outputs) for f in floats for i in INTEGERS]
    alike = [(f, f, *[f] * outputs) for f in floats]
    return alike + [(a, b, *[promoted(a, b)] * outputs) for a in floats for b in floats if a != b]


cdef int promoted(int a, int b):
    return cnp.NPY_DOUBLE if cnp.NPY_DOUBLE in (a, b) else cnp.NPY_FLOAT


cdef int dtype_of(int typenum) noexcept:
    """The library's name for a type of a loop; NumPy's own, or else bfloat16, which may not be known yet."""
    return XENT_BF16 if cnp.PyTypeNum_ISUSERDEF(typenum) else _core.dtype_of_type(typenum)


cdef int describe(Loop *loop, int op, tuple types) except -1:
    loop.info = &_core.OPERATIONS[op]
    loop.op = op
    loop.dtype = dtype_of(types[0])
    loop.target_dtype = dtype_of(types[1])  # without a target the result's, which nobody reads
    loop.result_dtype = dtype_of(types[-1])


# ---------------------------------------------------------------------------------------------------------------------
# What the gufuncs would take and get wrong: NumPy does not show them the mask of a masked array, and pandas hands them the
# blocks of a DataFrame lying on their sides.

cdef vectorcallfunc numpy_call = NULL


cdef PyObject *call_gufunc(PyObject *ufunc, PyObject **args, size_t count, PyObject *names) except NULL:
    """Every call of a gufunc: NumPy's own, once the operands have been looked at."""
    cdef Py_ssize_t i, given = PyVectorcall_NARGS(count)
    for i in range(min(given, <Py_ssize_t>(<GUFunc *>ufunc).nin)):
        if not cnp.PyArray_CheckExact(<object>args[i]):
            refuse_operand(<object>ufunc, <object>args[i])
    return numpy_call(ufunc, args, count, names)


cdef int refuse_operand(object ufunc, object a) except -1:
    if isinstance(a, getattr(sys.modules.get("numpy.ma"), "MaskedArray", ())):
        if np.ma.is_masked(a):
            raise TypeError(
                f"xent.ufuncs.{ufunc.__name__} would count what a mask hides; xent.{ufunc.__name__} leaves it out"
            )
    elif isinstance(a, getattr(sys.modules.get("pandas"), "DataFrame", ())):
        raise TypeError(
            f"xent.ufuncs.{ufunc.__name__} would be handed the columns of a DataFrame as rows; "
            f"xent.{ufunc.__name__} takes it"
        )


cdef object register(int op):
    """The ufunc of one operation."""
    cdef const xent_op_info *info = &_core.OPERATIONS[op]
    cdef int n, inputs = 1 + (info.target != XENT_TARGET_NONE), outputs = (info.has_value != 0) + (info.has_emit != 0)
    cdef list loops = types_of(info, FLOATS)
    cdef bytes types = bytes([typenum for of_loop in loops for typenum in of_loop])
    cdef Loops *made = <Loops *>PyMem_RawMalloc(sizeof(Loops))
    assert len(loops) <= MAX_LOOPS
    if made == NULL:
        raise MemoryError
    memcpy(made.types, <const char *>types, len(types))
    for n, of_loop in enumerate(loops):
        describe(&made.loops[n], op, of_loop)
        made.functions[n] = <cnp.PyUFuncGenericFunction>run_loop  # NumPy's pxd leaves out the consts
        made.data[n] = &made.loops[n]
    n = len(loops)
    signature = signature_of(info)
    doc = _docs.ufunc_doc(info.name.decode(), signature).encode()
    # NumPy does not copy the name and the docstring of a ufunc.
    cdef char *kept_doc = strdup(doc)
    if kept_doc == NULL:
        raise MemoryError
    if info.target == XENT_TARGET_POINT:
        return cnp.PyUFunc_FromFuncAndData(
            made.functions, made.data, made.types, n, inputs, outputs, cnp.PyUFunc_None, <char *>info.name, kept_doc, 0
        )
    global numpy_call
    made_ufunc = cnp.PyUFunc_FromFuncAndDataAndSignature(
        made.functions, made.data, made.types, n, inputs, outputs, cnp.PyUFunc_None, <char *>info.name, kept_doc, 0,
        signature.encode(),
    )
    numpy_call = (<GUFunc *>made_ufunc).vectorcall  # one and the same for all ufuncs
    (<GUFunc *>made_ufunc).vectorcall = <vectorcallfunc>call_gufunc
    return made_ufunc


UFUNCS = {_core.OPERATIONS[op].name.decode(): register(op) for op in range(_core.OPERATION_COUNT)}


# ---------------------------------------------------------------------------------------------------------------------
# bfloat16, a type that NumPy learns of when ml_dtypes is loaded

cdef object BFLOAT16_LOCK = allocate_lock()


cdef int register_loops(int op, int bfloat16) except -1:
    """Add to one ufunc every loop that has a bfloat16 in it."""
    cdef int types[MAX_OPERANDS]
    cdef int k
    cdef Loop *loop
    # Backwards, because NumPy looks first at what came last: where it has to cast, bfloat16 alone is what it should find.
    for of_loop in reversed(types_of(&_core.OPERATIONS[op], [*FLOATS, bfloat16])):
        if bfloat16 not in of_loop:
            continue
        loop = <Loop *>PyMem_RawMalloc(sizeof(Loop))
        if loop == NULL:
            raise MemoryError
        describe(loop, op, of_loop)
        for k, typenum in enumerate(of_loop):
            types[k] = typenum
        ufunc = UFUNCS[loop.info.name.decode()]
        cnp.PyUFunc_RegisterLoopForType(ufunc, bfloat16, <cnp.PyUFuncGenericFunction>run_loop, types, loop)


def register_bfloat16():
    """Make bfloat16 known, once, and give its dtype; ImportError without ml_dtypes."""
    cdef int op
    try:
        from ml_dtypes import bfloat16
    except ImportError as error:
        raise ImportError("bfloat16 for NumPy comes from ml_dtypes, which cannot be imported", name="ml_dtypes") from error
    dtype = np.dtype(bfloat16)
    with BFLOAT16_LOCK:
        if _core.BFLOAT16 < 0:
            for op in range(_core.OPERATION_COUNT):
                register_loops(op, dtype.num)
            _core.BFLOAT16 = dtype.num
    return dtype


def enable_bfloat16():
    """Let the ufuncs compute bfloat16, the type of that name in ml_dtypes, which has to be installed.

    It is done already where ml_dtypes was imported before xent, and by the first call of an ``xent.<name>`` with one
    value a row after it has been imported. Who calls the ufuncs themselves (``xent.ufuncs``, ``xent.kl_pointwise``,
    ``xent.rel_entr``) and imports ml_dtypes after xent calls this first. More than once does no harm.

    Raises
    ------
    ImportError
        ml_dtypes is not installed.
    RuntimeError
        A ufunc has seen a bfloat16 before: NumPy remembers to cast it to float64, for the rest of the process.

    Examples
    --------
    >>> import numpy as np, xent
    >>> from ml_dtypes import bfloat16
    >>> xent.enable_bfloat16()
    >>> xent.ufuncs.logsumexp(np.zeros((2, 4), bfloat16))
    array([1.38281, 1.38281], dtype=bfloat16)
    """
    wanted = register_bfloat16()
    stuck = []
    for op, (name, ufunc) in enumerate(UFUNCS.items()):
        labels = _core.OPERATIONS[op].target == XENT_TARGET_LABELS
        second = [np.dtype(np.intp) if labels else wanted] * (ufunc.nin - 1)
        if ufunc.resolve_dtypes((wanted, *second, *[None] * ufunc.nout))[ufunc.nin] != wanted:
            stuck.append(name)
    if stuck:
        raise RuntimeError(
            f"these ufuncs have been called with bfloat16 before enable_bfloat16, and NumPy remembers to cast it: "
            f"{', '.join(stuck)}"
        )


enable_bfloat16.__module__ = "xent"  # where users find it, and doctest too
