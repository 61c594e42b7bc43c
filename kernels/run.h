/* run.h: a job, done. */
#ifndef XENT_RUN_H
#define XENT_RUN_H

#include "isa.h"

/* Where rows come in pieces: takes a group's states; there are no values then. */
typedef void (*xent_take_states)(const xent_job *, const isa_entry *, const row_group *, group_state *);

/* With whatever scratch the request has: where that is too little, one thread does each row. Not for sums over rows. */
void xent_do_with_what_there_is(xent_job *job, xent_request *req, const isa_entry *isa, xent_take_states);
xent_status xent_run_with_what_there_is(xent_request *req);

#endif
