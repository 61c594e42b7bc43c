/* isa.h: what an instruction set does with a group of rows, and which one is in use. */
#ifndef XENT_ISA_H
#define XENT_ISA_H

#include "group.h"
#include "sum.h"

/* One table for each of float and double. */
typedef struct isa_kernels {
    int lanes; /* in a vector */
    /* Folds classes [c0, c1) of the group. keep, where not NULL: room for the exponentials of all of them, for the emit:
     * xent_kept_tiles() for each tile of a row along, or for the one that a vector of rows across has. */
    void (*reduce)(const xent_job *, const row_group *, ptrdiff_t c0, ptrdiff_t c1, reduce_kind, group_state *,
                   void *keep);
    /* Writes classes [c0, c1) of the emit or, with acc (one a class), adds them over rows. */
    void (*emit)(const xent_job *, const row_group *, ptrdiff_t c0, ptrdiff_t c1, const group_result *,
                 const void *keep, xent_sum *acc);
    /* Everything that is done with a group of rows of few classes (xent_job's few): reduced, finished and emitted in
     * vectors. Values are stored; with values they go there as well. room: KEEP_BYTES, for exponentials. */
    void (*few)(const xent_job *, const row_group *, double *values, void *room);
} isa_kernels;

enum { KEEP_BYTES = 16384 };

typedef struct isa_entry {
    const char *name;
    const isa_kernels *f32, *f64;
    /* a := a and b together */
    void (*merge)(reduce_kind, int rows, group_state *a, const group_state *b);
    /* Values, the factors that emits need, and which rows need another reduction. */
    void (*finish)(const xent_job *, reduce_kind, const row_group *, const group_state *, group_result *);
} isa_entry;

extern const isa_entry xent_isa_baseline_entry;
extern const isa_entry xent_isa_avx2_entry;
extern const isa_entry xent_isa_avx512_entry;
extern const isa_entry xent_isa_neon_entry;

const isa_entry *xent_current_isa(void); /* NULL: XENT_ISA asks for what is not here */

#endif
