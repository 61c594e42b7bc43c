/* run.h: a job, done. */
#ifndef XENT_RUN_H
#define XENT_RUN_H

#include "isa.h"

/* With whatever scratch the request has: where that is too little, one thread does each row. Not for sums over rows. */
void xent_do_with_what_there_is(xent_job *job, xent_request *req, const isa_entry *isa);
xent_status xent_run_with_what_there_is(xent_request *req);

#endif
