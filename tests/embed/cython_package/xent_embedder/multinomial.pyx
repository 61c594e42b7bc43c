# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""scikit-learn's multinomial loss on xent: the methods that sklearn._loss calls in its own compiled class."""

import numpy as np

cimport numpy as cnp
from libc.stdlib cimport free, malloc

from xent cimport kernels
from xent.kernels cimport (
    XENT_ERR_LABEL, XENT_ERR_SCRATCH, XENT_F32, XENT_F64, XENT_I64, XENT_NONE, XENT_OK, XENT_SUM, xent_request,
    xent_status, xent_view,
)

cnp.import_array()

cdef int LOSS = kernels.find_op("cross_entropy_with_labels")
cdef int LOSS_AND_GRADIENT = kernels.find_op("cross_entropy_with_labels_value_and_grad")


cdef int view(xent_view *v, cnp.ndarray a, int ndim) except -1:
    if cnp.PyArray_NDIM(a) != ndim:
        raise ValueError(f"expected {ndim} dimensions, got {cnp.PyArray_NDIM(a)}")
    if cnp.PyArray_TYPE(a) == cnp.NPY_DOUBLE:
        v.dtype = XENT_F64
    elif cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT:
        v.dtype = XENT_F32
    elif cnp.PyArray_TYPE(a) == cnp.NPY_INT64:
        v.dtype = XENT_I64
    else:
        raise TypeError(f"cannot take {a.dtype}")
    v.data = cnp.PyArray_DATA(a)
    v.strides = <const ptrdiff_t *>cnp.PyArray_STRIDES(a)
    v.class_stride = cnp.PyArray_STRIDE(a, 1) if ndim == 2 else 0
    return 0


cdef class Multinomial:
    def __reduce__(self):
        return Multinomial, ()

    def loss(self, y_true, cnp.ndarray raw_prediction, sample_weight, cnp.ndarray loss_out, int n_threads=1):
        self.run(LOSS, y_true, raw_prediction, sample_weight, loss_out, None, n_threads)

    def gradient(self, y_true, cnp.ndarray raw_prediction, sample_weight, cnp.ndarray gradient_out, int n_threads=1):
        self.run(LOSS_AND_GRADIENT, y_true, raw_prediction, sample_weight, None, gradient_out, n_threads)

    def loss_gradient(
        self, y_true, cnp.ndarray raw_prediction, sample_weight, cnp.ndarray loss_out, cnp.ndarray gradient_out,
        int n_threads=1,
    ):
        self.run(LOSS_AND_GRADIENT, y_true, raw_prediction, sample_weight, loss_out, gradient_out, n_threads)

    cdef run(self, int op, y_true, cnp.ndarray x, sample_weight, cnp.ndarray loss, cnp.ndarray gradient, int threads):
        cdef xent_request req
        cdef xent_status status
        cdef size_t size = 0
        cdef double total = 0.0
        cdef cnp.ndarray labels = np.asarray(y_true).astype(np.int64, copy=False), weights
        cdef ptrdiff_t rows = cnp.PyArray_DIM(labels, 0)

        kernels.request_init(&req)
        req.op = op
        req.compute = XENT_F32 if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT else XENT_F64
        req.ndim = 1
        req.shape = &rows
        req.threads = threads
        view(&req.logits, x, 2)
        req.classes = cnp.PyArray_DIM(x, 1)
        view(&req.target, labels, 1)
        for other in (x, loss, gradient):
            if other is not None and other.shape[0] != rows:
                raise ValueError(f"{rows} labels, but {other.shape[0]} rows elsewhere")
        if gradient is not None:
            if cnp.PyArray_DIM(gradient, 1) != req.classes:
                raise ValueError(f"{req.classes} classes, but {cnp.PyArray_DIM(gradient, 1)} in the gradient")
            view(&req.out, gradient, 2)
        if loss is not None:
            view(&req.value, loss, 1)
        else:  # the gradient of the sum is the rows' own
            req.reduction = XENT_SUM
            req.value.data = &total
            req.value.dtype = XENT_F64
        if sample_weight is not None:
            weights = np.asarray(sample_weight, dtype=np.float64)
            if weights.shape[0] != rows:
                raise ValueError(f"{rows} labels, but {weights.shape[0]} sample weights")
            view(&req.sample_weight, weights, 1)
        with nogil:
            status = kernels.scratch_size(&req, &size)
            if status == XENT_OK and size > 0:
                req.scratch = malloc(size)
                req.scratch_size = size
            if status == XENT_OK:
                status = kernels.run(&req)
            free(req.scratch)
        if status == XENT_ERR_LABEL:
            raise ValueError(f"y_true has {req.bad_label} at {req.bad_row}, of {req.classes} classes")
        if status == XENT_ERR_SCRATCH:
            raise MemoryError
        if status != XENT_OK:
            raise ValueError(kernels.strerror(status).decode())
