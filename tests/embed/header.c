/* header.c: xent.h by itself, first in its file and included twice, in C11 and in C++17. */
#include "xent.h"
#include "xent.h"

int xent_header_check(void);

int xent_header_check(void) {
    xent_request r;
    xent_request_init(&r);
    r.op = xent_find_op("softmax");
    r.compute = XENT_F32;
    return xent_run(&r) == XENT_OK && r.struct_size == sizeof(xent_request);
}
