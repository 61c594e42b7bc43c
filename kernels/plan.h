/* plan.h: from a request to a job (request.c), and from a job to its work (reduce.c). */
#ifndef XENT_PLAN_H
#define XENT_PLAN_H

#include "internal.h"

/* Checks everything; on XENT_OK the job is complete and nothing has been written. read = false: the data is not looked at
 * (labels are not checked, the divisor is not known). */
xent_status xent_make_job(xent_request *req, xent_job *job, bool read);
size_t xent_job_scratch(const xent_job *job, const xent_request *req);
void xent_do_job(const xent_job *job, xent_request *req, const isa_entry *isa);

#endif
