# What the other extension modules call: only _core is linked with libxent, so its state exists once.
from xent._xent_h cimport xent_op_info, xent_request, xent_status


cdef const xent_op_info *OPERATIONS
cdef int OPERATION_COUNT
cdef int BFLOAT16
cdef void begin(xent_request *req) noexcept nogil
cdef xent_status execute(xent_request *req) noexcept nogil
cdef int fail(xent_status status, const char *name) except -1
cdef int dtype_of_type(int typenum) noexcept nogil
