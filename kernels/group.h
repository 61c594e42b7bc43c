/* group.h: rows of a job that are worked on together: a vector's lanes across, a few short rows or one long one along. */
#ifndef XENT_GROUP_H
#define XENT_GROUP_H

#include "job.h"

struct group_result;

/* What an option leaves alone is set once, by xent_start_group. */
typedef struct row_group {
    int rows;
    bool any_dead, any_after;
    bool adjacent[OPERANDS]; /* consecutive rows lie one storage element apart */
    ptrdiff_t off[OPERANDS][MAX_GROUP_ROWS];
    ptrdiff_t label[MAX_GROUP_ROWS]; /* -1: none, ignored, or its class is masked */
    bool dead[MAX_GROUP_ROWS];       /* does not count: value and outputs are 0 */
    per_row known;                   /* 1 where there is a label, else 0 */
    per_row x_label;                 /* the logit at the label, as the tiles hold it */
    per_row temperature;
    per_row uniform; /* label smoothing's share of each class */
    per_row weight;  /* sample weight, times the label's class weight where the target is labels alone */
    /* What the row's outputs are multiplied by: its weight and, of gradients, what follows from mean and temperature. Where
     * the tile's real cannot hold that, scale is 1 and it comes after, on the way out; else after is 1. */
    per_row scale, after;
    const struct group_result *first; /* what followed from the rows' first reduction, for those that come after it */
} row_group;

/* What follows from a row's state (state.h). */
typedef struct group_result {
    per_row value; /* times the sample weight */
#define ONE(field) per_row field;
    XENT_FACTORS(ONE)
#undef ONE
    bool any_again, again[MAX_GROUP_ROWS]; /* the state left its range: fold the row again (reductions.def) */
} group_result;

/* Rows without options; of no operand yet. */
void xent_start_group(const xent_job *, int rows, row_group *);
/* The next rows, and what the options make of them; moves the cursor past them. */
void xent_open_group(const xent_job *, row_cursor *, int rows, row_group *);

#endif
