# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""NumPy ufuncs, one for each line of the C table: one loop in C serves them all."""

from xent import _docs

cimport numpy as cnp
from cpython.mem cimport PyMem_RawMalloc
from libc.stdint cimport uint8_t
from libc.string cimport strdup

from xent cimport _core
from xent.kernels cimport *

cnp.import_array()
cnp.import_umath()

cdef extern from "<fenv.h>" nogil:
    int feclearexcept(int)
    int FE_ALL_EXCEPT

cdef extern from "Python.h":
    void *PyErr_Occurred()
    void PyErr_SetObject(object type, object value)

cdef enum:
    FLOATS = 3
    INTEGERS = 10
    MAX_LOOPS = FLOATS * INTEGERS
    MAX_OPERANDS = 4

ctypedef struct Loop:
    # What NumPy hands back to the loop as its data: which operation, and the operands' dtypes.
    const xent_op_info *info
    int op
    uint8_t dtype
    uint8_t target_dtype

ctypedef struct Registration:
    # NumPy keeps pointers into this for as long as the ufunc lives, which is to the end of the process.
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
    cdef int i = 0
    cdef const cnp.npy_intp *core = steps + operands
    cdef xent_request req
    cdef xent_status status

    _core.begin(&req)
    req.op = loop.op
    req.compute = XENT_F64 if loop.dtype == XENT_F64 else XENT_F32
    if target == XENT_TARGET_POINT:
        # No rows: the elements of the loop are one row's classes.
        req.classes = dims[0]
        point(&req.logits, args[0], loop.dtype, NULL, steps[0])
        point(&req.target, args[1], loop.target_dtype, NULL, steps[1])
        point(&req.out, args[2], loop.dtype, NULL, steps[2])
    else:
        req.ndim = 1
        req.shape = <const ptrdiff_t *>dims
        req.classes = dims[1]
        point(&req.logits, args[0], loop.dtype, <const ptrdiff_t *>steps, core[0])
        core += 1
        i = 1
        if target == XENT_TARGET_LABELS:
            point(&req.target, args[1], loop.target_dtype, <const ptrdiff_t *>&steps[1], 0)
            i = 2
        elif has_target:
            point(&req.target, args[1], loop.target_dtype, <const ptrdiff_t *>&steps[1], core[0])
            core += 1
            i = 2
        if loop.info.has_value:
            point(&req.value, args[i], loop.dtype, <const ptrdiff_t *>&steps[i], 0)
            i += 1
        if loop.info.has_emit:
            point(&req.out, args[i], loop.dtype, <const ptrdiff_t *>&steps[i], core[0])
    status = _core.execute(&req)
    if status != XENT_OK:
        with gil:
            report(status, &req, loop.info)
    # Masked lanes and -inf raise flags that NumPy would turn into warnings about defined results.
    feclearexcept(FE_ALL_EXCEPT)


cdef void report(xent_status status, const xent_request *req, const xent_op_info *info) noexcept with gil:
    """Set the exception, unless an earlier inner loop of this call has set one: NumPy goes on after an error."""
    if PyErr_Occurred() != NULL:
        return
    try:
        if status == XENT_ERR_LABEL:
            name = info.name.decode()
            raise IndexError(
                f"label {req.bad_label} is out of range for {req.classes} classes (xent.{name} says at which position)"
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


cdef object register(int op, const xent_op_info *info):
    """The ufunc of one operation. Doubles come first, so that integers and bools go to float64."""
    cdef int *floats = [cnp.NPY_DOUBLE, cnp.NPY_FLOAT, cnp.NPY_FLOAT16]
    cdef int *integers = [
        cnp.NPY_LONG, cnp.NPY_BYTE, cnp.NPY_UBYTE, cnp.NPY_SHORT, cnp.NPY_USHORT, cnp.NPY_INT, cnp.NPY_UINT,
        cnp.NPY_ULONG, cnp.NPY_LONGLONG, cnp.NPY_ULONGLONG,
    ]
    cdef bint labels = info.target == XENT_TARGET_LABELS
    cdef int inputs = 1 + (info.target != XENT_TARGET_NONE)
    cdef int outputs = (info.has_value != 0) + (info.has_emit != 0)
    cdef int operands = inputs + outputs
    cdef int f, i, k, n = 0
    cdef Registration *made = <Registration *>PyMem_RawMalloc(sizeof(Registration))
    cdef Loop *loop
    if made == NULL:
        raise MemoryError
    for f in range(FLOATS):
        for i in range(INTEGERS if labels else 1):
            loop = &made.loops[n]
            loop.info = info
            loop.op = op
            loop.dtype = _core.float_dtype(floats[f])
            loop.target_dtype = loop.dtype
            for k in range(operands):
                made.types[n * operands + k] = floats[f]
            if labels:
                loop.target_dtype = _core.integer_dtype(integers[i], cnp.PyArray_DescrFromType(integers[i]).itemsize)
                made.types[n * operands + 1] = integers[i]
            made.functions[n] = <cnp.PyUFuncGenericFunction>run_loop  # NumPy's pxd leaves out the consts
            made.data[n] = loop
            n += 1
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
    return cnp.PyUFunc_FromFuncAndDataAndSignature(
        made.functions, made.data, made.types, n, inputs, outputs, cnp.PyUFunc_None, <char *>info.name, kept_doc, 0,
        signature.encode(),
    )


cdef dict make_ufuncs():
    cdef int op, count = 0
    cdef const xent_op_info *table = _core.operations(&count)
    return {table[op].name.decode(): register(op, &table[op]) for op in range(count)}


UFUNCS = make_ufuncs()
