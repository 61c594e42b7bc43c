/* host_group.h: the groups of lanes that a kernel's body is written over, on the host. */
#ifndef XENT_HOST_GROUP_H
#define XENT_HOST_GROUP_H

#include "host_lanes.h"

#include <type_traits>

namespace xent_host {

/* A part of a warp, a warp, or a block: LANES neighbours, the first of them at a multiple of LANES. */
template <int LANES> struct Group {
    static constexpr int lanes = LANES;

    int lane() const {
        return static_cast<int>(place().thread) % LANES;
    }

    /* Which of the block's groups this is. */
    int index() const {
        return static_cast<int>(place().thread) / LANES;
    }

    template <class T>
    T shfl_xor(T v, int distance, const char *file = __builtin_FILE(), int line = __builtin_LINE()) const {
        static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= MAX_EXCHANGE, "lanes exchange plain bytes");
        constexpr int width = LANES < WARP ? LANES : WARP;
        const int first = static_cast<int>(place().thread) / width * width;
        T theirs;
        exchange(first, width, {"shfl_xor", distance, sizeof v, file, line}, &v,
                 (static_cast<int>(place().thread) - first) ^ distance, &theirs);
        return theirs;
    }

    void sync(const char *file = __builtin_FILE(), int line = __builtin_LINE()) const {
        meet(index() * LANES, LANES, {"sync", 0, 0, file, line});
    }

    template <class S> S &shared() const {
        static_assert(sizeof(S) <= SHARED_BYTES, "a block has no more shared memory");
        return *static_cast<S *>(shared_of(place().rank));
    }
};

/* A cluster of blocks, each of LANES lanes. */
template <int LANES> struct ClusterGroup : Group<LANES> {
    int rank() const {
        return static_cast<int>(place().rank);
    }

    int size() const {
        return static_cast<int>(place().cluster);
    }

    void sync_cluster(const char *file = __builtin_FILE(), int line = __builtin_LINE()) const {
        meet_cluster({"sync_cluster", 0, 0, file, line});
    }

    template <class S> S &peer(int rank) const {
        return *static_cast<S *>(shared_of(static_cast<unsigned>(rank)));
    }
};

} // namespace xent_host

#endif
