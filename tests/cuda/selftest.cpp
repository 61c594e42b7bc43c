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

template <class G> void clusters(const void *argument) {
    const Place &p = xent_host::place();
    static char key;
    G g;
    int turn = 0;
    const long sum = across_all(g, value_of(p), &turn, plus);
    long total = 0;
    if (g.thread() == 0)
        *static_cast<long *>(xent_host::shared_array(p.rank, &key, sizeof sum)) = sum;
    xent_host::meet_cluster({"sync_cluster", 0, 0, 0, __FILE__, __LINE__});
    for (unsigned r = 0; r < p.cluster; r++)
        total += *static_cast<long *>(xent_host::shared_array(r, &key, sizeof sum));
    xent_host::meet_cluster({"sync_cluster", 0, 0, 0, __FILE__, __LINE__});
    *output(argument) = 2 * total;
}

using body = void(const void *);

[[noreturn]] void wrong_number(const char *what, unsigned block, unsigned thread, long found, long expected) {
    std::printf("%s: block %u, lane %u has %ld, not %ld\n", what, block, thread, found, expected);
    std::exit(1);
}

template <class G> void check_rows(const char *what, unsigned blocks, unsigned cluster = 1) {
    constexpr unsigned threads = G::threads;
    std::vector<long> out(blocks * threads);
    long *data = out.data();
    xent_host::run(blocks, threads, cluster, cluster > 1 ? clusters<G> : rows<G>, &data);
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
    if (xent_host::place().rank == 0)
        xent_host::meet_cluster({"sync_cluster", 0, 0, 0, __FILE__, __LINE__});
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
        check_rows<group<64>>("clusters of 2", 6, 2);
        check_rows<group<32>>("clusters of 4", 8, 4);
        check_votes();
    }
    std::printf("ok\n");
    return 0;
}
