/* threads.h: independent units of work, shared by threads. */
#ifndef XENT_THREADS_H
#define XENT_THREADS_H

#include <stddef.h>

typedef void (*xent_unit)(void *ctx, ptrdiff_t unit);

/* How many threads pay for so many elements, in units of a long row's logsumexp; at most `most`, where that is not 0. */
int xent_threads_for(double elements, int most);
void xent_parallel_for(ptrdiff_t units, int threads, xent_unit, void *ctx);

#endif
