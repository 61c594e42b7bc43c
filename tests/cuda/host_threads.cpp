/* host_threads.cpp: a lane is a thread, for ThreadSanitizer and AddressSanitizer, which fibers upset.
 *
 * ThreadSanitizer finds what the order of fibers cannot show: shared memory that one lane writes and another reads with no
 * sync between. For that a shuffle must not look like a sync: on the device it orders nothing. So a meeting's own words are
 * written and read by functions that the sanitizer does not see, and only meet() makes a release and an acquire of it. */
#include "host_lanes.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sched.h>
#include <thread>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#define UNSEEN __attribute__((noinline, no_sanitize("thread")))
#else
#define UNSEEN __attribute__((noinline))
#endif

namespace xent_host {
namespace {

enum { BUFFERS = 2, PATIENCE_SECONDS = 30 };

struct Meeting {
    int arrived;
    unsigned round;
    const Site *site; /* of the first to arrive, on its stack until all have left */
    std::atomic<unsigned> seen;
};

struct Block {
    Meeting whole;
    Meeting parts[6][MAX_THREADS];
    std::unique_ptr<unsigned char[]> shared;
};

struct Slots {
    alignas(16) uint64_t words[BUFFERS][MAX_EXCHANGE / 8];
};

struct Cluster {
    std::vector<std::unique_ptr<Block>> blocks;
    std::vector<Slots> slots;
    Meeting all;
};

thread_local Place here;
thread_local Cluster *cluster_here;

UNSEEN void fail(const char *why, const Site &mine, const Site *other) {
    std::fprintf(stderr, "block %u, lane %u at %s(%d) of %zu bytes, %s:%d: %s\n", here.block, here.thread, mine.what,
                 mine.argument, mine.bytes, mine.file, mine.line, why);
    if (other)
        std::fprintf(stderr, "  another is at %s(%d) of %zu bytes, %s:%d\n", other->what, other->argument, other->bytes,
                     other->file, other->line);
    std::abort();
}

UNSEEN bool same(const Site &a, const Site &b) {
    return a.line == b.line && a.argument == b.argument && a.bytes == b.bytes && !std::strcmp(a.what, b.what) &&
           !std::strcmp(a.file, b.file);
}

/* Waits until `count` lanes are here. Builtins and not std::atomic, whose functions the sanitizer would see. */
UNSEEN void arrive(Meeting *m, int count, const Site *site) {
    const unsigned round = __atomic_load_n(&m->round, __ATOMIC_ACQUIRE);
    const Site *first = nullptr;
    if (!__atomic_compare_exchange_n(&m->site, &first, site, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE) &&
        !same(*first, *site))
        fail("lanes of one group meet at different collectives", *site, first);
    if (__atomic_add_fetch(&m->arrived, 1, __ATOMIC_ACQ_REL) == count) {
        __atomic_store_n(&m->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&m->site, nullptr, __ATOMIC_RELAXED);
        __atomic_store_n(&m->round, round + 1, __ATOMIC_RELEASE);
        return;
    }
    const auto start = std::chrono::steady_clock::now();
    for (unsigned turns = 0; __atomic_load_n(&m->round, __ATOMIC_ACQUIRE) == round; turns++) {
        sched_yield();
        if (turns % 4096 == 4095 && std::chrono::steady_clock::now() - start > std::chrono::seconds(PATIENCE_SECONDS))
            fail("waits for others that do not come", *site, nullptr);
    }
}

UNSEEN void put(uint64_t *slot, const void *mine, size_t bytes) {
    const unsigned char *from = static_cast<const unsigned char *>(mine);
    volatile unsigned char *to = reinterpret_cast<unsigned char *>(slot);
    for (size_t i = 0; i < bytes; i++)
        to[i] = from[i];
}

UNSEEN void take(void *theirs, const uint64_t *slot, size_t bytes) {
    const volatile unsigned char *from = reinterpret_cast<const unsigned char *>(slot);
    unsigned char *to = static_cast<unsigned char *>(theirs);
    for (size_t i = 0; i < bytes; i++)
        to[i] = from[i];
}

UNSEEN unsigned round_of(const Meeting *m) {
    return __atomic_load_n(&m->round, __ATOMIC_ACQUIRE);
}

Meeting *meeting_of(int first, int count, const Site &site) {
    Block &b = *cluster_here->blocks[here.rank];
    const int own = static_cast<int>(here.thread), threads = static_cast<int>(here.threads);
    int level = 0;
    if (first == 0 && count == threads && count > WARP)
        return &b.whole;
    while (level < 6 && 1 << level != count)
        level++;
    if (level == 6 || first % count || first + count > threads || own < first || own >= first + count)
        fail("this lane cannot be in such a group", site, nullptr);
    return &b.parts[level][first];
}

void meet_at(Meeting *m, int count, const Site &site) {
    /* Read-modify-writes: an acquire of any of them sees the releases of all before it. */
    m->seen.fetch_add(1, std::memory_order_acq_rel);
    arrive(m, count, &site);
    m->seen.fetch_add(1, std::memory_order_acq_rel);
}

} // namespace

const Place &place() {
    return here;
}

void meet(int first, int count, const Site &site) {
    meet_at(meeting_of(first, count, site), count, site);
}

void meet_cluster(const Site &site) {
    meet_at(&cluster_here->all, static_cast<int>(here.cluster * here.threads), site);
}

void exchange(int first, int count, const Site &site, const void *mine, int from, void *theirs) {
    Meeting *m = meeting_of(first, count, site);
    Slots *block = &cluster_here->slots[here.rank * here.threads];
    const unsigned buffer = round_of(m) % BUFFERS;
    if (site.bytes > MAX_EXCHANGE || from < 0 || from >= count)
        fail("no such exchange in this group", site, nullptr);
    put(block[here.thread].words[buffer], mine, site.bytes);
    arrive(m, count, &site);
    take(theirs, block[first + from].words[buffer], site.bytes);
}

void *shared_of(unsigned rank) {
    return cluster_here->blocks[rank]->shared.get();
}

void run(unsigned blocks, unsigned threads, unsigned cluster, size_t shared_bytes, void (*body)(const void *),
         const void *argument) {
    if (!blocks || !threads || threads > MAX_THREADS || !cluster || cluster > MAX_CLUSTER || blocks % cluster ||
        shared_bytes > SHARED_BYTES) {
        std::fprintf(stderr, "no launch of %u blocks of %u lanes in clusters of %u with %zu bytes\n", blocks, threads,
                     cluster, shared_bytes);
        std::abort();
    }
    for (unsigned first = 0; first < blocks; first += cluster) {
        Cluster c;
        c.slots.resize(static_cast<size_t>(cluster) * threads);
        for (unsigned rank = 0; rank < cluster; rank++) {
            c.blocks.emplace_back(new Block{});
            /* No more than was asked for, so that AddressSanitizer sees the end of it. */
            c.blocks.back()->shared.reset(new unsigned char[shared_bytes]);
            std::memset(c.blocks.back()->shared.get(), 0xff, shared_bytes);
        }
        c.all.round = 0;
        c.all.arrived = 0;
        c.all.site = nullptr;
        std::vector<std::thread> lanes;
        for (unsigned i = 0; i < cluster * threads; i++)
            lanes.emplace_back([&, i] {
                here = {i % threads, threads, first + i / threads, blocks, i / threads, cluster};
                cluster_here = &c;
                body(argument);
            });
        for (std::thread &lane : lanes)
            lane.join();
    }
}

void set_order(unsigned) {
}

} // namespace xent_host
