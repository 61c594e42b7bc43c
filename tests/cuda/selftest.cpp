/* selftest.cpp: the host's lanes themselves. With no argument: sums by shuffles, by shared memory and over a cluster,
 * checked. With one: what a device leaves undefined, which must end the program and say what it was. */
#include "host_group.h"

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

using namespace xent;
using xent_host::Place;

namespace {

template <int LANES, int THREADS = LANES < WARP ? WARP : LANES, int BESIDE = 1>
using group = host_group<team<LANES, THREADS, BESIDE>>;
template <int LANES> using cluster = host_group<team<LANES, LANES, 1, 4>>;

long value_of(const Place &p) {
    return 1 + static_cast<long>(p.block) * 1000 + p.thread * p.thread;
}

long *output(const void *argument) {
    const Place &p = xent_host::place();
    return *static_cast<long *const *>(argument) + p.block * p.threads + p.thread;
}

long plus(long a, long b) {
    return a + b;
}

/* Twice the sum over a row's lanes, in two meetings, of which the second must not disturb the first. */
template <class G> void rows(const void *argument) {
    G g;
    int turn = 0;
    const long once = across_all(g, value_of(xent_host::place()), &turn, plus);
    *output(argument) = once + across_all(g, once, &turn, plus) / G::lanes;
}

template <class G> void votes(const void *argument) {
    G g;
    long said = 0;
    for (int i = 0; i < 7; i++)
        said |= static_cast<long>(g.any(i % 3 == 0 && g.thread() == i)) << i;
    *output(argument) = said;
}

/* The same over the blocks of a cluster. */
template <class G> long over_ranks(G &g, long v, int *turn) {
    v = across_all(g, v, turn, plus);
    return across<G::ranks>(g, exchange_ranks(g, v, 0l, turn), plus);
}
template <class G> void clusters(const void *argument) {
    G g;
    int turn = 0;
    const long once = over_ranks(g, value_of(xent_host::place()), &turn);
    *output(argument) = once + over_ranks(g, once, &turn) / (g.size() * G::lanes);
    await_ranks(g, &turn);
}

/* The lane before, and the first one itself. */
template <class G> void neighbours(const void *argument) {
    G g;
    *output(argument) = g.shfl_up(value_of(xent_host::place()));
}

using body = void(const void *);

[[noreturn]] void wrong_number(const char *what, unsigned block, unsigned thread, long found, long expected) {
    std::printf("%s: block %u, lane %u has %ld, not %ld\n", what, block, thread, found, expected);
    std::exit(1);
}

template <class G> void check_neighbours(const char *what) {
    std::vector<long> out(G::threads);
    long *data = out.data();
    xent_host::run(1, G::threads, 1, neighbours<G>, &data);
    for (unsigned t = 0; t < G::threads; t++) {
        const unsigned before = G::place_of(int(t)) > 0 ? t - G::beside : t;
        const long expected = value_of({before, G::threads, 0, 1, 0, 1});
        if (out[t] != expected)
            wrong_number(what, 0, t, out[t], expected);
    }
}

template <class G> void check_rows(const char *what, unsigned blocks, unsigned cluster = 1) {
    constexpr unsigned threads = G::threads;
    std::vector<long> out(blocks * threads);
    long *data = out.data();
    if constexpr (G::ranks > 1)
        xent_host::run(blocks, threads, cluster, clusters<G>, &data);
    else
        xent_host::run(blocks, threads, 1, rows<G>, &data);
    for (unsigned b = 0; b < blocks; b++)
        for (unsigned t = 0; t < threads; t++) {
            long expected = 0;
            for (unsigned i = b / cluster * cluster; i < b / cluster * cluster + cluster; i++)
                for (unsigned j = 0; j < threads; j++)
                    if (G::group_of(int(j)) == G::group_of(int(t)) && (cluster > 1 || i == b))
                        expected += 2 * value_of({j, threads, i, blocks, 0, 1});
            if (out[b * threads + t] != expected)
                wrong_number(what, b, t, out[b * threads + t], expected);
        }
}

void check_votes() {
    std::vector<long> out(2 * 64);
    long *data = out.data();
    xent_host::run(2, 64, 1, votes<group<64>>, &data);
    for (unsigned i = 0; i < 2 * 64; i++)
        if (out[i] != 0b1001001)
            wrong_number("any", i / 64, i % 64, out[i], 0b1001001);
}

/* ---- what must not pass ---- */
void other_collective(const void *) {
    group<64> g;
    if (g.thread() == 5)
        g.shfl_xor(1, 1);
    else
        g.sync();
}

void other_distance(const void *) {
    group<32> g;
    g.shfl_xor(1.0f, g.thread() == 3 ? 2 : 1);
}

void other_size(const void *) {
    group<8> g;
    if (g.thread() & 1)
        g.shfl_xor(1.0f, 1, "one.h", 1);
    else
        g.shfl_xor(1.0, 1, "one.h", 1);
}

/* Two calls of the same collective: no lane can be at both. */
void other_line(const void *) {
    group<64> g;
    if (g.thread() < 32)
        g.sync();
    else
        g.sync();
}

void too_far(const void *) {
    group<8> g;
    g.shfl_xor(1.0f, 8);
}

void one_returned(const void *) {
    group<32> g;
    if (g.thread() != 7)
        g.sync();
}

void not_in_cluster(const void *) {
    cluster<32> g;
    if (g.rank() == 0) {
        g.arrive_cluster();
        g.wait_cluster();
    }
}

/* What await_ranks is for. */
void does_not_wait(const void *) {
    cluster<32> g;
    int turn = 0;
    exchange_ranks(g, 1, 0, &turn);
}
void gone_from_cluster(const void *) {
    cluster<32> g;
    g.arrive_cluster();
    g.wait_cluster();
    g.shared_of<int, 1>(1 - g.rank());
}

void too_much_shared(const void *) {
    group<32> g;
    g.shared<char, xent_host::SHARED_BYTES>();
    g.shared<int, 1>();
}

/* A sync is missing between write and read: what a lane reads depends on who ran first. */
void race(const void *argument) {
    group<64> g;
    long *said = g.shared<long, 2>();
    if (g.thread() % WARP == 0)
        said[g.thread() / WARP] = 1;
    g.shfl_xor(1, 1);
    *output(argument) = said[0] + said[1];
}

int say_race() {
    std::vector<long> out(64);
    long *data = out.data();
    for (unsigned order = 0; order < 4; order++) {
        xent_host::set_order(order);
        xent_host::run(1, 64, 1, race, &data);
        for (long v : out)
            if (v != 2) {
                std::printf("order %u: %ld\n", order, v);
                return 1;
            }
    }
    std::printf("no order shows it\n");
    return 0;
}

} // namespace

int main(int argc, char **argv) {
    struct {
        std::string_view name;
        body *run;
        unsigned blocks, threads, cluster;
    } const wrong[] = {
        {"collective", other_collective, 1, 64, 1},
        {"distance", other_distance, 1, 32, 1},
        {"size", other_size, 1, 32, 1},
        {"line", other_line, 1, 64, 1},
        {"far", too_far, 1, 32, 1},
        {"returned", one_returned, 1, 32, 1},
        {"cluster", not_in_cluster, 2, 32, 2},
        {"gone", gone_from_cluster, 2, 32, 2},
        {"leaves", does_not_wait, 2, 32, 2},
        {"shared", too_much_shared, 1, 32, 1},
    };
    const std::string_view asked = argc > 1 ? argv[1] : "";
    if (asked == "race")
        return say_race();
    for (const auto &w : wrong)
        if (asked == w.name) {
            xent_host::run(w.blocks, w.threads, w.cluster, w.run, nullptr);
            std::printf("%s passed\n", argv[1]);
            return 0;
        }
    for (unsigned order = 0; order < 4 && (xent_host::set_order(order) || order == 0); order++) {
        check_rows<group<1, 128>>("1 lane", 3);
        check_rows<group<4, 64>>("4 lanes", 3);
        check_rows<group<32, 64>>("warps", 3);
        check_rows<group<4, 64, 8>>("4 lanes, 8 rows beside each other", 2);
        check_rows<group<32, 128, 4>>("32 lanes, 4 rows beside each other", 2);
        check_rows<group<64>>("a block of 64", 3);
        check_rows<group<1024>>("a block of 1024", 1);
        check_rows<cluster<64>>("clusters of 2, which might be 4", 6, 2);
        check_rows<cluster<32>>("clusters of 4", 8, 4);
        check_votes();
        check_neighbours<group<4, 64>>("the lane before, of 4");
        check_neighbours<group<64>>("the lane before, of 64");
        check_neighbours<group<4, 64, 8>>("the lane before, of 4 with 8 rows beside each other");
    }
    std::printf("ok\n");
    return 0;
}
