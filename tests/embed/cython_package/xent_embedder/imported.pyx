# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""Linked with nothing: the functions of the libxent that Python's xent runs on."""

import numpy as np

from cython.parallel cimport prange
from libc.stdint cimport int64_t, intptr_t

from xent cimport kernels
from xent.kernels cimport XENT_F64, XENT_OK, xent_request, xent_status


def losses(const float[:, ::1] x, const int64_t[::1] labels, int threads):
    """Each row's cross-entropy, rows shared out by this module's own loop."""
    cdef Py_ssize_t i, rows = x.shape[0], classes = x.shape[1], failed = 0
    out = np.empty(rows, np.float32)
    cdef float[::1] values = out
    for i in prange(rows, nogil=True, num_threads=threads):
        failed += kernels.cross_entropy_with_labels_f32(&x[i, 0], &labels[i], 1, classes, &values[i]) != XENT_OK
    if failed:
        raise ValueError(f"{failed} rows could not be done")
    return out


cdef xent_status add_piece(
    int op, const double[:, ::1] x, Py_ssize_t first, Py_ssize_t end, char *states
) noexcept nogil:
    cdef xent_request req
    cdef ptrdiff_t rows = x.shape[0], step = x.shape[1] * sizeof(double)
    kernels.request_init(&req)
    req.op = op
    req.compute = XENT_F64
    req.ndim = 1
    req.shape = &rows
    req.classes = end - first
    req.logits.data = <void *>&x[0, first]
    req.logits.dtype = XENT_F64
    req.logits.strides = &step
    req.logits.class_stride = sizeof(double)
    return kernels.state_update(&req, first, states)


def logsumexp(const double[:, ::1] x, int pieces, int threads):
    """log sum exp of rows too long for one thread: each piece of the classes has states of its own, which then merge."""
    cdef int op = kernels.find_op("logsumexp"), failed = 0, p
    cdef Py_ssize_t rows = x.shape[0], classes = x.shape[1], size = kernels.state_size(op)
    cdef char[:, ::1] states = np.empty((pieces, rows * size), np.int8)
    out = np.empty(rows)
    cdef double[::1] values = out
    for p in prange(pieces, nogil=True, num_threads=threads, schedule="dynamic"):
        failed += kernels.state_start(op, XENT_F64, rows, &states[p, 0]) != XENT_OK
        failed += add_piece(op, x, classes * p // pieces, classes * (p + 1) // pieces, &states[p, 0]) != XENT_OK
    for p in range(1, pieces):
        failed += kernels.state_merge(rows, &states[0, 0], &states[p, 0]) != XENT_OK
    failed += kernels.state_finish(rows, &states[0, 0], XENT_F64, &values[0], NULL) != XENT_OK
    if failed:
        raise ValueError("a piece could not be done")
    return out


cdef api int soft_maximum(double *window, intptr_t count, double *result, void *unused) noexcept nogil:
    """For scipy.ndimage.generic_filter, by scipy.LowLevelCallable."""
    return kernels.logsumexp_f64(window, 1, count, result) == XENT_OK
