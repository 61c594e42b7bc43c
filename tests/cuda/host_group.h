/* host_group.h: group.h's lanes on the host. */
#ifndef XENT_HOST_GROUP_H
#define XENT_HOST_GROUP_H

#include "../../cuda/group.h"
#include "host_lanes.h"

namespace xent {

template <class TEAM> struct host_group : TEAM {
    static int thread() {
        return static_cast<int>(xent_host::place().thread);
    }
    static int64_t block() {
        return xent_host::place().block / xent_host::place().cluster;
    }
    static int64_t blocks() {
        return xent_host::place().blocks / xent_host::place().cluster;
    }
    static int rank() {
        return static_cast<int>(xent_host::place().rank);
    }
    static int size() {
        return static_cast<int>(xent_host::place().cluster);
    }

    /* As device_group has it. */
    static unsigned mask() {
        const unsigned own = static_cast<unsigned>(thread()) % WARP;
        unsigned found = 0;
        for (unsigned other = 0; other < WARP; other++) {
            const bool beside = TEAM::beside > 1 ? other % TEAM::beside == own % TEAM::beside
                                                 : other / TEAM::width == own / TEAM::width;
            found |= static_cast<unsigned>(beside) << other;
        }
        return found;
    }
    template <class T> static T shfl_xor(T v, int d, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
        static_assert(std::is_trivially_copyable_v<T>, "lanes exchange plain bytes");
        T theirs;
        xent_host::exchange({"shfl_xor", mask(), d * TEAM::beside, sizeof v, file, line}, &v, &theirs);
        return theirs;
    }
    template <class T> static T shfl_up(T v, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
        T theirs;
        xent_host::exchange({"shfl_up", mask(), -TEAM::beside, sizeof v, file, line}, &v, &theirs);
        return theirs;
    }
    static void sync(const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
        xent_host::meet({"sync", 0, 0, 0, file, line});
    }
    static bool any(bool b, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
        return xent_host::meet({"any", 0, 0, 0, file, line}, b);
    }
    static void arrive_cluster(const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
        xent_host::arrive_cluster({"arrive_cluster", 0, 0, 0, file, line});
    }
    static void wait_cluster(const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
        xent_host::wait_cluster({"wait_cluster", 0, 0, 0, file, line});
    }
    template <class S, int N> static S *shared_of(int rank) {
        static char key; /* one array for each S and N */
        return static_cast<S *>(xent_host::shared_array(static_cast<unsigned>(rank), &key, sizeof(S) * N));
    }
    template <class S, int N> static S *shared() {
        return shared_of<S, N>(rank());
    }
};

} // namespace xent

#endif
