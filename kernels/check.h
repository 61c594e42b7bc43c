/* check.h: whether an operation can do what a request asks for. The same file for C and, with cuda/, for C++. */
#ifndef XENT_CHECK_H
#define XENT_CHECK_H

#include "dtypes.h"
#include "ops.h"

/* Whether the target is labels, also in place of probabilities. */
static inline bool xent_has_labels(const op_entry *op, int target_dtype) {
    return op->target == XENT_TARGET_LABELS || ((xent_options(op) & OPTION_ONE_HOT) && xent_is_integer(target_dtype));
}

/* On a device elements are read as what they are: no swapped bytes; and weights may be float32. */
typedef enum { XENT_ON_HOST, XENT_ON_DEVICE } xent_where_run;

#if defined(__cplusplus)
extern "C" {
#endif
/* Everything but what only the data says. Nothing is read but the request. */
xent_status xent_check(const xent_request *req, xent_where_run where);
#if defined(__cplusplus)
}
#endif

#endif
