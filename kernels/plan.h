/* plan.h: from a request to a job (request.c), from a job to its work (reduce.c), and what states.c adds to both. */
#ifndef XENT_PLAN_H
#define XENT_PLAN_H

#include "internal.h"

/* Checks everything but labels: the data is not looked at. On XENT_OK the job is complete, but for the divisor of mean. */
xent_status xent_make_job(const xent_request *req, xent_job *job);
/* Checks labels and temperatures, and finds the divisor. Nothing has been written before this returns XENT_OK. */
xent_status xent_read_job(xent_request *req, xent_job *job);
/* The same of a piece of rows, whose labels may be of other pieces. */
xent_status xent_read_piece(xent_request *piece, xent_job *job);
size_t xent_job_scratch(const xent_job *job, const xent_request *req);
void xent_do_job(const xent_job *job, xent_request *req, const isa_entry *isa);

/* dispatch.c */
const isa_entry *xent_current_isa(void); /* NULL: XENT_ISA asks for what is not here */
/* xent_do_job with whatever scratch the request has: where that is too little, one thread does each row. Not for sums. */
void xent_do_with_what_there_is(xent_job *job, xent_request *req, const isa_entry *isa);
xent_status xent_run_with_what_there_is(xent_request *req);

/* states.c */
reduce_kind xent_state_kind(const op_entry *op); /* what rows that come in pieces are folded into */
/* Adds the groups' rows to the states at their values' places. */
void xent_keep_states(const xent_job *job, const isa_entry *isa, const row_group *g, group_state *s);

#endif
