/* host_launch.h: launch.h on the host. A launch runs at once, block after block. */
#ifndef XENT_HOST_LAUNCH_H
#define XENT_HOST_LAUNCH_H

#include "host_group.h"

namespace xent_host {

/* Remembers which kernel ran, by its type as the compiler spells it, and its grid. */
void trace(const char *kernel, int64_t blocks);
/* Whether the device that the host stands for has clusters. */
bool clusters();

} // namespace xent_host

namespace xent {

template <class K> void run_lane(const void *a) {
    host_group<typename K::shape> g;
    K::run(g, *static_cast<const typename K::args *>(a));
}

template <class K> xent_status launch(const typename K::args &a, int64_t blocks, void *) {
    xent_host::trace(__PRETTY_FUNCTION__, blocks);
    unsigned cluster = 1;
    if constexpr (K::shape::ranks > 1)
        cluster = static_cast<unsigned>(K::cluster(a));
    xent_host::run(static_cast<unsigned>(blocks), K::shape::threads, cluster, run_lane<K>, &a);
    return XENT_OK;
}

template <class K> xent_status load(int *made_for) {
    *made_for = 0;
    return XENT_OK;
}

} // namespace xent

#endif
