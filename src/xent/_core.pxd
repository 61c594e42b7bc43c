# What the other extension modules call: only _core is linked with libxent, so its state exists once.
from xent._xent_h cimport xent_op_info, xent_request, xent_status


cdef const xent_op_info *operations(int *count) noexcept nogil
cdef void begin(xent_request *req) noexcept nogil
cdef xent_status execute(xent_request *req) noexcept nogil
cdef int fail(xent_status status, const char *name) except -1
cdef int float_dtype(int typenum) noexcept nogil
cdef bint knows_bfloat16() noexcept nogil
cdef void know_bfloat16(int typenum) noexcept nogil
cdef int integer_dtype(int typenum, Py_ssize_t itemsize) noexcept nogil
