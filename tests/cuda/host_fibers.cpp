/* host_fibers.cpp: a lane is a fiber. One thread runs them in turn, each to its next collective, so that a launch of
 * thousands of lanes costs little more than its arithmetic and always goes the same way. */
#include "host_lanes.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sys/mman.h>
#include <vector>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

namespace xent_host {
namespace {

/* Two buffers for shuffles: a lane may be at the next round while others have yet to read this one, never two rounds
 * ahead. Three for votes, of which the first to come clears the next. */
enum { STACK_BYTES = 64 * 1024, BUFFERS = 2, VOTES = 3 };
const uint64_t CANARY = 0x7865'6e74'6c61'6e65;

/* ---- a switch of stacks: what the calling convention has a function keep, and the stack pointer ---- */
#if defined(__x86_64__) || defined(__aarch64__)
struct Context {
    void *stack;
};

extern "C" void xent_host_switch(void **from, void *to);
#if defined(__x86_64__)
enum { SAVED = 6 };
asm(R"(
    .text
    .globl xent_host_switch
    .hidden xent_host_switch
    .type xent_host_switch, @function
xent_host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size xent_host_switch, .-xent_host_switch
)");
#else
enum { SAVED = 20, LINK = 11 };
asm(R"(
    .text
    .globl xent_host_switch
    .hidden xent_host_switch
    .type xent_host_switch, %function
xent_host_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size xent_host_switch, .-xent_host_switch
)");
#endif

void start_context(Context *c, char *stack, void (*entry)()) {
    void **top = reinterpret_cast<void **>(stack + STACK_BYTES);
#if defined(__x86_64__)
    /* As a call leaves it: 8 off a multiple of 16, and no return address, for entry never returns. */
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(entry);
    top -= SAVED;
    std::memset(top, 0, SAVED * sizeof *top);
#else
    top -= SAVED;
    std::memset(top, 0, SAVED * sizeof *top);
    top[LINK] = reinterpret_cast<void *>(entry);
#endif
    c->stack = top;
}

void switch_context(Context *from, Context *to) {
    xent_host_switch(&from->stack, to->stack);
}
#else
struct Context {
    ucontext_t u;
};

void start_context(Context *c, char *stack, void (*entry)()) {
    getcontext(&c->u);
    c->u.uc_stack.ss_sp = stack;
    c->u.uc_stack.ss_size = STACK_BYTES;
    c->u.uc_link = nullptr;
    makecontext(&c->u, entry, 0);
}

void switch_context(Context *from, Context *to) {
    swapcontext(&from->u, &to->u);
}
#endif

/* ---- lanes and where they meet ---- */
struct Meeting {
    int arrived;
    unsigned round;
    Site site;
    const Place *who; /* the first to arrive */
};

struct Array {
    const void *key;
    size_t start, bytes;
};

struct Block {
    Meeting whole;
    Meeting parts[MAX_THREADS]; /* shuffles, by the first lane of their mask */
    bool votes[VOTES];          /* by the meeting's round */
    bool left;                  /* a lane has returned */
    std::vector<Array> arrays;
    size_t used;
    alignas(16) unsigned char shared[SHARED_BYTES];
};

struct Lane {
    Context context;
    Place place;
    const Meeting *waits; /* until its round is no longer this one */
    unsigned round, cluster_round;
    bool arrived; /* at the cluster's meeting, and has yet to wait */
    Site site;    /* where it waits */
    bool returned;
    alignas(16) unsigned char slots[BUFFERS][MAX_EXCHANGE];
};

struct Scheduler {
    std::vector<Lane> lanes;
    std::vector<std::unique_ptr<Block>> blocks;
    std::vector<unsigned> turns;
    Meeting all;
    char *stacks = nullptr;
    size_t stack_count = 0;
    Context home;
    Lane *current = nullptr;
    unsigned order = 0;
    bool running = false;
    void (*body)(const void *) = nullptr;
    const void *argument = nullptr;
};

/* One a thread: a launch stays on the thread that made it, and threads of the caller may launch side by side. */
thread_local Scheduler *scheduler_of_thread;

struct Owner {
    ~Owner() {
        if (scheduler_of_thread && scheduler_of_thread->stacks)
            munmap(scheduler_of_thread->stacks, scheduler_of_thread->stack_count * STACK_BYTES);
        delete scheduler_of_thread;
    }
};

Scheduler &scheduler() {
    static thread_local Owner owner;
    (void)owner;
    if (!scheduler_of_thread)
        scheduler_of_thread = new Scheduler();
    return *scheduler_of_thread;
}

/* One lane, or a run of neighbours. */
void describe(const Place &p, unsigned last, const Site *site) {
    std::fprintf(stderr, "  block %u, lane %u", p.block, p.thread);
    if (last != p.thread)
        std::fprintf(stderr, " to %u", last);
    if (!site)
        std::fprintf(stderr, ": returned\n");
    else if (site->bytes)
        std::fprintf(stderr, ": %s(%d) of %zu bytes among %08x, %s:%d\n", site->what, site->distance, site->bytes,
                     site->mask, site->file, site->line);
    else
        std::fprintf(stderr, ": %s, %s:%d\n", site->what, site->file, site->line);
}

bool same(const Site &a, const Site &b) {
    return a.line == b.line && a.mask == b.mask && a.distance == b.distance && a.bytes == b.bytes &&
           !std::strcmp(a.what, b.what) && !std::strcmp(a.file, b.file);
}

void yield(Scheduler &s) {
    Lane *lane = s.current;
    switch_context(&lane->context, &s.home);
}

/* Counts the current lane in; the last one ends the round. Returns the round. */
unsigned join(Scheduler &s, Meeting &m, int count, const Site &site) {
    Lane *lane = s.current;
    const unsigned round = m.round;
    if (m.arrived == 0) {
        m.site = site;
        m.who = &lane->place;
    } else if (!same(m.site, site)) {
        std::fprintf(stderr, "lanes of one group meet at different collectives:\n");
        describe(*m.who, m.who->thread, &m.site);
        describe(lane->place, lane->place.thread, &site);
        std::abort();
    }
    if (++m.arrived == count) {
        m.arrived = 0;
        m.round++;
    }
    return round;
}

void wait(Scheduler &s, const Meeting &m, unsigned round, const Site &site) {
    Lane *lane = s.current;
    if (m.round != round)
        return;
    lane->waits = &m;
    lane->round = round;
    lane->site = site;
    yield(s);
}

void arrive(Scheduler &s, Meeting &m, int count, const Site &site) {
    wait(s, m, join(s, m, count, site), site);
}

[[noreturn]] void fail(const char *why, const Lane &lane, const Site *site) {
    std::fprintf(stderr, "%s:\n", why);
    describe(lane.place, lane.place.thread, site);
    std::abort();
}

void entry() {
    Scheduler &s = scheduler();
    s.body(s.argument);
    Lane *lane = s.current;
    if (lane->arrived)
        fail("a lane has arrived and does not wait", *lane, nullptr);
    lane->returned = s.blocks[lane->place.rank]->left = true;
    yield(s);
    std::abort();
}

/* Every lane waits and nobody is left to come: which lanes stand where, one line a run of equals. */
[[noreturn]] void stuck(const Scheduler &s) {
    std::fprintf(stderr, "lanes wait for others that do not come:\n");
    for (size_t i = 0; i < s.lanes.size(); i++) {
        const Lane &l = s.lanes[i];
        size_t last = i;
        while (last + 1 < s.lanes.size()) {
            const Lane &n = s.lanes[last + 1];
            if (n.place.block != l.place.block || n.returned != l.returned || (!l.returned && !same(n.site, l.site)))
                break;
            last++;
        }
        describe(l.place, s.lanes[last].place.thread, l.returned ? nullptr : &l.site);
        i = last;
    }
    std::abort();
}

void set_turns(Scheduler &s, size_t count) {
    s.turns.resize(count);
    for (size_t i = 0; i < count; i++)
        s.turns[i] = static_cast<unsigned>(s.order == 1 ? count - 1 - i : i);
    uint64_t state = s.order;
    for (size_t i = count; s.order > 1 && i > 1; i--) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        std::swap(s.turns[i - 1], s.turns[(state >> 33) % i]);
    }
}

void run_cluster(Scheduler &s, unsigned first_block, unsigned blocks, unsigned threads, unsigned cluster) {
    const size_t count = static_cast<size_t>(cluster) * threads;
    for (unsigned rank = 0; rank < cluster; rank++) {
        Block &b = *s.blocks[rank];
        b.whole = Meeting{};
        std::fill_n(b.parts, threads, Meeting{});
        std::fill_n(b.votes, VOTES, false);
        b.arrays.clear();
        b.used = 0;
        b.left = false;
    }
    s.all = Meeting{};
    for (size_t i = 0; i < count; i++) {
        Lane &l = s.lanes[i];
        const unsigned rank = static_cast<unsigned>(i / threads);
        l.place = {static_cast<unsigned>(i % threads), threads, first_block + rank, blocks, rank, cluster};
        l.waits = nullptr;
        l.returned = l.arrived = false;
        char *stack = s.stacks + i * STACK_BYTES;
        std::memcpy(stack, &CANARY, sizeof CANARY);
        start_context(&l.context, stack, entry);
    }
    for (size_t left = count; left > 0;) {
        bool moved = false;
        for (size_t turn = 0; turn < count; turn++) {
            Lane &l = s.lanes[s.turns[turn]];
            if (l.returned || (l.waits && l.waits->round == l.round))
                continue;
            l.waits = nullptr;
            s.current = &l;
            switch_context(&s.home, &l.context);
            moved = true;
            left -= l.returned;
        }
        if (!moved)
            stuck(s);
    }
    for (size_t i = 0; i < count; i++)
        if (std::memcmp(s.stacks + i * STACK_BYTES, &CANARY, sizeof CANARY) != 0) {
            std::fprintf(stderr, "a lane's stack of %d bytes has overflowed\n", STACK_BYTES);
            std::abort();
        }
}

} // namespace

const Place &place() {
    return scheduler().current->place;
}

bool meet(const Site &site, bool vote) {
    Scheduler &s = scheduler();
    Block &b = *s.blocks[s.current->place.rank];
    const unsigned round = b.whole.round;
    if (b.whole.arrived == 0)
        b.votes[(round + 1) % VOTES] = false;
    b.votes[round % VOTES] |= vote;
    arrive(s, b.whole, static_cast<int>(s.current->place.threads), site);
    return b.votes[round % VOTES];
}

void arrive_cluster(const Site &site) {
    Scheduler &s = scheduler();
    Lane *lane = s.current;
    if (lane->arrived)
        fail("a lane arrives twice and has not waited", *lane, &site);
    lane->cluster_round = join(s, s.all, static_cast<int>(lane->place.cluster * lane->place.threads), site);
    lane->arrived = true;
}

void wait_cluster(const Site &site) {
    Scheduler &s = scheduler();
    Lane *lane = s.current;
    if (!lane->arrived)
        fail("a lane waits and has not arrived", *lane, &site);
    lane->arrived = false;
    wait(s, s.all, lane->cluster_round, site);
}

void exchange(const Site &site, const void *mine, void *theirs) {
    Scheduler &s = scheduler();
    Lane *lane = s.current;
    const unsigned own = lane->place.thread % WARP_LANES, other = partner(site, own);
    const unsigned warp = lane->place.thread - own, first = static_cast<unsigned>(__builtin_ctz(site.mask));
    const bool inside = other < WARP_LANES && warp + other < lane->place.threads;
    if (!(site.mask >> own & 1) || !inside || !(site.mask >> other & 1) || site.bytes > MAX_EXCHANGE)
        fail("a shuffle beyond its lanes, or of too much", *lane, &site);
    Meeting &m = s.blocks[lane->place.rank]->parts[warp + first];
    const unsigned buffer = m.round % BUFFERS;
    std::memcpy(lane->slots[buffer], mine, site.bytes);
    arrive(s, m, __builtin_popcount(site.mask), site);
    std::memcpy(theirs, s.lanes[lane->place.rank * lane->place.threads + warp + other].slots[buffer], site.bytes);
}

void *shared_array(unsigned rank, const void *key, size_t bytes) {
    const Scheduler &s = scheduler();
    Block &b = *s.blocks[rank];
    if (b.left && rank != s.current->place.rank) {
        const Site site = {"shared_of", 0, static_cast<int>(rank), bytes, __FILE__, __LINE__};
        fail("shared memory of a block that is no longer there", *s.current, &site);
    }
    for (const Array &a : b.arrays)
        if (a.key == key)
            return b.shared + a.start;
    if (b.used + bytes > SHARED_BYTES) {
        std::fprintf(stderr, "a block has %d bytes of shared memory: no room for %zu beside %zu\n", SHARED_BYTES, bytes,
                     b.used);
        std::abort();
    }
    b.arrays.push_back({key, b.used, bytes});
    b.used += (bytes + 15) / 16 * 16;
    return std::memset(b.shared + b.arrays.back().start, 0xff, bytes);
}

void run(unsigned blocks, unsigned threads, unsigned cluster, void (*body)(const void *), const void *argument) {
    Scheduler &s = scheduler();
    const size_t count = static_cast<size_t>(cluster) * threads;
    if (s.running || !blocks || !threads || threads > MAX_THREADS || !cluster || cluster > MAX_CLUSTER ||
        blocks % cluster) {
        std::fprintf(stderr, "no launch of %u blocks of %u lanes in clusters of %u\n", blocks, threads, cluster);
        std::abort();
    }
    if (s.stack_count < count) {
        if (s.stacks)
            munmap(s.stacks, s.stack_count * STACK_BYTES);
        void *p = mmap(nullptr, count * STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) {
            std::perror("mmap of the lanes' stacks");
            std::abort();
        }
        s.stacks = static_cast<char *>(p);
        s.stack_count = count;
    }
    if (s.lanes.size() != count)
        s.lanes.resize(count);
    while (s.blocks.size() < cluster)
        s.blocks.emplace_back(new Block);
    set_turns(s, count);
    s.body = body;
    s.argument = argument;
    s.running = true;
    for (unsigned i = 0; i < blocks; i += cluster)
        run_cluster(s, s.order == 1 ? blocks - cluster - i : i, blocks, threads, cluster);
    s.running = false;
}

bool set_order(unsigned order) {
    scheduler().order = order;
    return true;
}

} // namespace xent_host
