/* host_lanes.h: the lanes of a launch on the host, behind which stand fibers (host_fibers.cpp) or threads
 * (host_threads.cpp).
 *
 * A launch is a grid of blocks, taken a cluster at a time; a cluster's lanes run together and meet at collectives. What a
 * device leaves undefined ends the program here, saying who stood where: lanes of one group at different collectives,
 * lanes that wait for one that has returned, and one that returns while it has yet to wait.
 */
#ifndef XENT_HOST_LANES_H
#define XENT_HOST_LANES_H

#include <cstddef>
#include <cstdint>

namespace xent_host {

/* What a device allows: threads a block, blocks a cluster, bytes of __shared__ arrays a block. */
enum { MAX_THREADS = 1024, MAX_CLUSTER = 16, WARP_LANES = 32, SHARED_BYTES = 48 * 1024, MAX_EXCHANGE = 256 };

/* A collective as its lanes call it: two calls are the same one where all of this is the same. */
struct Site {
    const char *what;
    uint32_t mask; /* of a shuffle: the lanes of the warp that take part, */
    int distance;  /* how far away the other one is: to be xored; negative: so many places before, */
    size_t bytes;  /* and what is exchanged */
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

/* All lanes of the block meet. What they did before is seen by all of them after. Returns whether any said true. */
bool meet(const Site &site, bool vote = false);
/* All lanes of the cluster: who waits sees what the others did before they arrived. By turns. */
void arrive_cluster(const Site &site);
void wait_cluster(const Site &site);
/* The lanes of site.mask meet, each brings site.bytes and takes those of its partner. As on the device, shared memory is
 * NOT ordered by this. */
void exchange(const Site &site, const void *mine, void *theirs);
/* The number in the warp of the lane whose bytes a lane takes: its own, where there is none before it. */
inline unsigned partner(const Site &site, unsigned own) {
    if (site.distance >= 0)
        return own ^ static_cast<unsigned>(site.distance);
    const unsigned before = own + static_cast<unsigned>(site.distance);
    return before < own && (site.mask >> before & 1) ? before : own;
}

/* A __shared__ array, one for each key, of the block with this rank in the cluster: all ones (NaN in every format) when
 * the block starts, and there for other blocks until the first of its lanes returns. */
void *shared_array(unsigned rank, const void *key, size_t bytes);

/* Runs body(argument) once a lane. */
void run(unsigned blocks, unsigned threads, unsigned cluster, void (*body)(const void *), const void *argument);

/* In which order lanes take their turns: 0 ascending, 1 descending (and blocks, too), others shuffled by that seed. A
 * result that depends on it is a collective that is missing. false: threads have no order. */
bool set_order(unsigned order);

} // namespace xent_host

#endif
