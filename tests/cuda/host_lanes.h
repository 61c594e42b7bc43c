/* host_lanes.h: the lanes of a launch on the host, behind which stand fibers (host_fibers.cpp) or threads
 * (host_threads.cpp).
 *
 * A launch is a grid of blocks, taken a cluster at a time; a cluster's lanes run together and meet at collectives. What a
 * device leaves undefined ends the program here, saying who stood where: lanes of one group at different collectives, and
 * lanes that wait for one that has returned.
 */
#ifndef XENT_HOST_LANES_H
#define XENT_HOST_LANES_H

#include <cstddef>
#include <cstdint>

namespace xent_host {

enum { MAX_THREADS = 1024, MAX_CLUSTER = 16, WARP = 32, MAX_EXCHANGE = 256, SHARED_BYTES = 227 * 1024 };

/* A collective as its lanes call it: two calls are the same one where all of this is the same. */
struct Site {
    const char *what;
    int argument; /* the distance of a shuffle */
    size_t bytes;
    const char *file;
    int line;
};

/* Who a lane is: CUDA's built-in variables, in the one dimension that the kernels use, and its block's cluster. */
struct Place {
    unsigned thread, threads;
    unsigned block, blocks;
    unsigned rank, cluster;
};

const Place &place();

/* The lanes [first, first + count) of this lane's block meet. What they did before is seen by all of them after. */
void meet(int first, int count, const Site &site);
/* All lanes of the cluster. */
void meet_cluster(const Site &site);
/* The same lanes meet, each brings `bytes` and takes those of lane first + from. As on the device, shared memory is NOT
 * ordered by this. */
void exchange(int first, int count, const Site &site, const void *mine, int from, void *theirs);

/* The shared memory of the block with this rank in the cluster: all ones (NaN in every format) when the block starts. */
void *shared_of(unsigned rank);

/* Runs body(argument) once a lane. */
void run(unsigned blocks, unsigned threads, unsigned cluster, size_t shared_bytes, void (*body)(const void *),
         const void *argument);

/* In which order lanes take their turns: 0 ascending, 1 descending (and blocks, too), others shuffled by that seed. A
 * result that depends on it is a collective that is missing. Threads have no order, and ignore it. */
void set_order(unsigned order);

} // namespace xent_host

#endif
