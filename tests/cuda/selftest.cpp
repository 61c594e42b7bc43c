/* selftest.cpp: the host's lanes themselves. With no argument: sums by shuffles, by shared memory and over a cluster,
 * checked. With one: what a device leaves undefined, which must end the program and say what it was. */
#include "host_group.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

using namespace xent_host;

namespace {

struct Sums {
    std::vector<long> found;
};

template <int LANES> long sum_of_lanes(Group<LANES> g, long v) {
    for (int d = 1; d < LANES && d < WARP; d *= 2)
        v += g.shfl_xor(v, d);
    return v;
}

long value_of(const Place &p) {
    return 1 + static_cast<long>(p.block) * 1000 + p.thread * p.thread;
}

template <int LANES> void sub_warps(const void *argument) {
    const Place &p = place();
    long *out = *static_cast<long *const *>(argument);
    out[p.block * p.threads + p.thread] = sum_of_lanes(Group<LANES>(), value_of(p));
}

struct Partials {
    long warp[32];
};

/* Two sums one after the other: the second writes what lanes may still read of the first, but for a sync. */
template <int LANES> long block_sum(Group<LANES> g, long v) {
    Partials &s = g.template shared<Partials>();
    v = sum_of_lanes(g, v);
    g.sync();
    if (g.lane() % WARP == 0)
        s.warp[g.lane() / WARP] = v;
    g.sync();
    long sum = 0;
    for (int i = 0; i < LANES / WARP; i++)
        sum += s.warp[i];
    return sum;
}

template <int LANES> void whole_blocks(const void *argument) {
    const Place &p = place();
    long *out = *static_cast<long *const *>(argument);
    Group<LANES> g;
    const long once = block_sum(g, value_of(p));
    out[p.block * p.threads + p.thread] = block_sum(g, once) / LANES;
}

template <int LANES> void clusters(const void *argument) {
    const Place &p = place();
    long *out = *static_cast<long *const *>(argument);
    ClusterGroup<LANES> g;
    long sum = block_sum(g, value_of(p)), total = 0;
    g.sync();
    if (g.lane() == 0)
        g.template shared<Partials>().warp[0] = sum;
    g.sync_cluster();
    for (int r = 0; r < g.size(); r++)
        total += g.template peer<Partials>((g.rank() + r) % g.size()).warp[0];
    g.sync_cluster();
    out[p.block * p.threads + p.thread] = total;
}

void check(const char *what, void (*body)(const void *), unsigned blocks, unsigned threads, unsigned cluster,
           unsigned group) {
    std::vector<long> out(static_cast<size_t>(blocks) * threads);
    long *data = out.data();
    run(blocks, threads, cluster, sizeof(Partials), body, &data);
    for (unsigned b = 0; b < blocks; b++)
        for (unsigned t = 0; t < threads; t++) {
            long expected = 0;
            const unsigned first = (b * threads + t) / group * group;
            for (unsigned i = first; i < first + group; i++)
                expected += value_of({i % threads, threads, i / threads, blocks, 0, cluster});
            if (out[b * threads + t] != expected) {
                std::printf("%s: block %u, lane %u has %ld, not %ld\n", what, b, t, out[b * threads + t], expected);
                std::exit(1);
            }
        }
}

/* ---- what must not pass ---- */
void other_collective(const void *) {
    Group<64> g;
    if (g.lane() == 5)
        g.shfl_xor(1, 1);
    else
        g.sync();
}

void other_distance(const void *) {
    Group<32> g;
    g.shfl_xor(1.0f, g.lane() == 3 ? 2 : 1);
}

void other_size(const void *) {
    Group<8> g;
    if (g.lane() & 1)
        g.shfl_xor(1.0f, 1, "one.h", 1);
    else
        g.shfl_xor(1.0, 1, "one.h", 1);
}

void one_returned(const void *) {
    Group<32> g;
    if (g.lane() != 7)
        g.sync();
}

void not_in_cluster(const void *) {
    ClusterGroup<32> g;
    if (g.rank() == 0)
        g.sync_cluster();
}

/* A sync is missing between write and read: what a lane reads depends on who ran first. */
void race(const void *argument) {
    long *out = *static_cast<long *const *>(argument);
    Group<64> g;
    Partials &s = g.shared<Partials>();
    if (g.lane() % WARP == 0)
        s.warp[g.lane() / WARP] = 1;
    g.shfl_xor(1, 1);
    out[g.lane()] = s.warp[0] + s.warp[1];
}

void say_race() {
    std::vector<long> out(64);
    long *data = out.data();
    for (unsigned order = 0; order < 4; order++) {
        set_order(order);
        run(1, 64, 1, sizeof(Partials), race, &data);
        for (long v : out)
            if (v != 2) {
                std::printf("order %u: %ld\n", order, v);
                return;
            }
    }
    std::printf("not seen\n");
}

} // namespace

int main(int argc, char **argv) {
    struct {
        const char *name;
        void (*body)(const void *);
        unsigned blocks, threads, cluster;
    } const wrong[] = {
        {"collective", other_collective, 1, 64, 1}, {"distance", other_distance, 1, 32, 1},
        {"size", other_size, 1, 32, 1},             {"returned", one_returned, 1, 32, 1},
        {"cluster", not_in_cluster, 2, 32, 2},
    };
    if (argc == 2 && !std::strcmp(argv[1], "race")) {
        say_race();
        return 0;
    }
    for (const auto &w : wrong)
        if (argc == 2 && !std::strcmp(argv[1], w.name)) {
            run(w.blocks, w.threads, w.cluster, sizeof(Partials), w.body, nullptr);
            std::printf("%s passed\n", w.name);
            return 0;
        }
    for (unsigned order = 0; order < 4; order++) {
        set_order(order);
        check("4 lanes", sub_warps<4>, 3, 64, 1, 4);
        check("1 lane", sub_warps<1>, 3, 32, 1, 1);
        check("warps", sub_warps<32>, 3, 64, 1, 32);
        check("a block of 64", whole_blocks<64>, 3, 64, 1, 64);
        check("a block of 256", whole_blocks<256>, 2, 256, 1, 256);
        check("clusters of 2", clusters<64>, 6, 64, 2, 128);
        check("clusters of 4", clusters<32>, 8, 32, 4, 128);
    }
    std::printf("ok\n");
    return 0;
}
