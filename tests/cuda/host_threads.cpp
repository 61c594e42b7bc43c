/* host_threads.cpp: a lane is a thread, for ThreadSanitizer and AddressSanitizer, which fibers upset.
 *
 * ThreadSanitizer finds what the order of fibers cannot show: shared memory that one lane writes and another reads with no
 * sync between. For that a shuffle must not look like a sync: on the device it orders nothing. So a meeting's own words are
 * written and read by functions that the sanitizer does not see, and only meet() makes a release and an acquire of it. */
#include "host_lanes.h"

#include <atomic>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sched.h>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__SANITIZE_THREAD__)
#define UNSEEN __attribute__((noinline, no_sanitize("thread")))
#else
#define UNSEEN __attribute__((noinline))
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define open_memory(p, n) __asan_unpoison_memory_region(p, n)
#define close_memory(p, n) __asan_poison_memory_region(p, n)
#else
#define open_memory(p, n) ((void)(p), (void)(n))
#define close_memory(p, n) ((void)(p), (void)(n))
#endif

namespace xent_host {
namespace {

enum { BUFFERS = 2, VOTES = 3, MAX_ARRAYS = 32, PATIENCE_SECONDS = 30 };

struct Meeting {
    int arrived;
    unsigned round;
    const Site *site; /* of the first to arrive, on its stack until all have left */
    std::atomic<unsigned> seen;
};

struct Array {
    const void *key;
    size_t start;
};

struct Block {
    Meeting whole;
    Meeting parts[MAX_THREADS]; /* shuffles, by the first lane of their mask */
    std::atomic<bool> votes[VOTES];
    int lock, arrays;
    size_t used;
    Array array[MAX_ARRAYS];
    alignas(16) unsigned char shared[SHARED_BYTES];
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
thread_local Site arrived_at; /* at the cluster's meeting: what is null there, a lane has waited since */
thread_local unsigned arrived_round;

UNSEEN void fail(const char *why, const Site &mine, const Site *other) {
    std::fprintf(stderr, "block %u, lane %u at %s(%d) of %zu bytes among %08x, %s:%d: %s\n", here.block, here.thread,
                 mine.what, mine.distance, mine.bytes, mine.mask, mine.file, mine.line, why);
    if (other)
        std::fprintf(stderr, "  another is at %s(%d) of %zu bytes among %08x, %s:%d\n", other->what, other->distance,
                     other->bytes, other->mask, other->file, other->line);
    std::abort();
}

UNSEEN bool same(const Site &a, const Site &b) {
    return a.line == b.line && a.mask == b.mask && a.distance == b.distance && a.bytes == b.bytes &&
           !std::strcmp(a.what, b.what) && !std::strcmp(a.file, b.file);
}

/* Hundreds of lanes share a few processors: who waits must not keep one. */
UNSEEN void sleep_while(const unsigned *word, unsigned value) {
#if defined(__linux__)
    const timespec second = {1, 0};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &second, nullptr, 0);
#else
    (void)word, (void)value;
    sched_yield();
#endif
}

UNSEEN void wake(const unsigned *word) {
#if defined(__linux__)
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
#else
    (void)word;
#endif
}

/* Counts this lane in; the last of `count` ends the round. Returns the round. Builtins and not std::atomic, whose functions
 * the sanitizer would see. */
UNSEEN unsigned join(Meeting *m, int count, const Site *site) {
    const unsigned round = __atomic_load_n(&m->round, __ATOMIC_ACQUIRE);
    const Site *first = nullptr;
    if (!__atomic_compare_exchange_n(&m->site, &first, site, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE) &&
        !same(*first, *site))
        fail("lanes of one group meet at different collectives", *site, first);
    if (__atomic_add_fetch(&m->arrived, 1, __ATOMIC_ACQ_REL) == count) {
        __atomic_store_n(&m->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&m->site, nullptr, __ATOMIC_RELAXED);
        __atomic_store_n(&m->round, round + 1, __ATOMIC_RELEASE);
        wake(&m->round);
    }
    return round;
}

UNSEEN void wait(const Meeting *m, unsigned round, const Site *site) {
    const auto start = std::chrono::steady_clock::now();
    while (__atomic_load_n(&m->round, __ATOMIC_ACQUIRE) == round) {
        sleep_while(&m->round, round);
        if (std::chrono::steady_clock::now() - start > std::chrono::seconds(PATIENCE_SECONDS))
            fail("waits for others that do not come", *site, nullptr);
    }
}

UNSEEN void arrive(Meeting *m, int count, const Site *site) {
    wait(m, join(m, count, site), site);
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

bool meet(const Site &site, bool vote) {
    Block &b = *cluster_here->blocks[here.rank];
    const unsigned round = round_of(&b.whole);
    /* Any lane clears the next one, whose last readers have met since. */
    b.votes[(round + 1) % VOTES].store(false, std::memory_order_relaxed);
    if (vote)
        b.votes[round % VOTES].store(true, std::memory_order_relaxed);
    meet_at(&b.whole, static_cast<int>(here.threads), site);
    return b.votes[round % VOTES].load(std::memory_order_relaxed);
}

void arrive_cluster(const Site &site) {
    if (arrived_at.what)
        fail("arrives twice and has not waited", site, &arrived_at);
    arrived_at = site; /* outlives this call, as the meeting needs it */
    Meeting *m = &cluster_here->all;
    m->seen.fetch_add(1, std::memory_order_acq_rel);
    arrived_round = join(m, static_cast<int>(here.cluster * here.threads), &arrived_at);
}

void wait_cluster(const Site &site) {
    if (!arrived_at.what)
        fail("waits and has not arrived", site, nullptr);
    Meeting *m = &cluster_here->all;
    wait(m, arrived_round, &site);
    m->seen.fetch_add(1, std::memory_order_acq_rel);
    arrived_at.what = nullptr;
}

void exchange(const Site &site, const void *mine, void *theirs) {
    const unsigned own = here.thread % WARP_LANES, other = partner(site, own);
    const unsigned warp = here.thread - own, first = static_cast<unsigned>(__builtin_ctz(site.mask));
    const bool inside = other < WARP_LANES && warp + other < here.threads;
    if (!(site.mask >> own & 1) || !inside || !(site.mask >> other & 1) || site.bytes > MAX_EXCHANGE)
        fail("a shuffle beyond its lanes, or of too much", site, nullptr);
    Meeting *m = &cluster_here->blocks[here.rank]->parts[warp + first];
    Slots *slots = &cluster_here->slots[here.rank * here.threads];
    const unsigned buffer = round_of(m) % BUFFERS;
    put(slots[here.thread].words[buffer], mine, site.bytes);
    arrive(m, __builtin_popcount(site.mask), &site);
    take(theirs, slots[warp + other].words[buffer], site.bytes);
}

/* A lock that the sanitizer does not see, for it would order the lanes. */
UNSEEN void *shared_array(unsigned rank, const void *key, size_t bytes) {
    Block &b = *cluster_here->blocks[rank];
    while (__atomic_exchange_n(&b.lock, 1, __ATOMIC_ACQUIRE))
        sched_yield();
    int i = 0;
    while (i < b.arrays && b.array[i].key != key)
        i++;
    if (i == b.arrays) {
        if (i == MAX_ARRAYS || b.used + bytes > SHARED_BYTES) {
            std::fprintf(stderr, "a block has %d bytes of shared memory: no room for %zu beside %zu\n", SHARED_BYTES,
                         bytes, b.used);
            std::abort();
        }
        b.array[i] = {key, b.used};
        b.arrays++;
        open_memory(b.shared + b.used, bytes);
        /* A gap, which AddressSanitizer guards. */
        b.used += (bytes + 15) / 16 * 16 + 16;
    }
    void *found = b.shared + b.array[i].start;
    __atomic_store_n(&b.lock, 0, __ATOMIC_RELEASE);
    return found;
}

void run(unsigned blocks, unsigned threads, unsigned cluster, void (*body)(const void *), const void *argument) {
    if (!blocks || !threads || threads > MAX_THREADS || !cluster || cluster > MAX_CLUSTER || blocks % cluster) {
        std::fprintf(stderr, "no launch of %u blocks of %u lanes in clusters of %u\n", blocks, threads, cluster);
        std::abort();
    }
    for (unsigned first = 0; first < blocks; first += cluster) {
        Cluster c;
        c.slots.resize(static_cast<size_t>(cluster) * threads);
        for (unsigned rank = 0; rank < cluster; rank++) {
            c.blocks.emplace_back(new Block{});
            std::memset(c.blocks.back()->shared, 0xff, SHARED_BYTES);
            close_memory(c.blocks.back()->shared, SHARED_BYTES);
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
                if (arrived_at.what)
                    fail("has arrived and does not wait", arrived_at, nullptr);
            });
        for (std::thread &lane : lanes)
            lane.join();
        for (auto &block : c.blocks)
            open_memory(block->shared, SHARED_BYTES);
    }
}

bool set_order(unsigned) {
    return false;
}

} // namespace xent_host
