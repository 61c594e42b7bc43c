/* memory.cpp: loads and stores, and what may be wrong with them. */
#include "machine.h"

#include <algorithm>
#include <cstring>

namespace ptx {

/* ---- global memory ---- */
void GlobalMemory::add(uintptr_t begin, size_t bytes, Use use) {
    buffers[begin + bytes] = {begin, begin + bytes, use, std::vector<bool>(use == Use::RESULT ? bytes : 0)};
}
Buffer *GlobalMemory::find(uintptr_t at, size_t bytes) {
    const auto found = buffers.lower_bound(at + bytes);
    return found != buffers.end() && found->second.begin <= at ? &found->second : nullptr;
}
GlobalMemory &global_memory() {
    static GlobalMemory all;
    return all;
}

/* ---- shared memory ---- */
void SharedMemory::start(size_t size) {
    bytes.assign(size, 0xff); /* NaN in every format */
    words.assign((size + 3) / 4, Word());
}

/* Whether the sooner one's access has happened before what the later one does now. */
bool SharedMemory::sees(const Toucher &later, const Toucher &sooner) {
    if (later.block == sooner.block && (later.thread == sooner.thread || later.epoch > sooner.epoch))
        return true;
    return later.waits > sooner.arrivals;
}
const SharedMemory::Touch *SharedMemory::unseen(const std::vector<Touch> &touches, uint8_t bytes, const Toucher &who) {
    for (const Touch &t : touches)
        if ((t.bytes & bytes) && !sees(who, t.who))
            return &t;
    return nullptr;
}

template <class F> static const char *each_word(size_t offset, size_t count, F f) {
    const char *wrong = nullptr;
    for (size_t at = offset; at < offset + count && !wrong;) {
        const size_t end = std::min(offset + count, at / 4 * 4 + 4);
        wrong = f(at / 4, uint8_t((1u << (end - at / 4 * 4)) - (1u << at % 4)));
        at = end;
    }
    return wrong;
}
const char *SharedMemory::read(size_t offset, size_t count, const Toucher &who) {
    return each_word(offset, count, [&](size_t at, uint8_t touched) -> const char * {
        Word &w = words[at];
        if ((w.written & touched) != touched)
            return "reads shared memory that nobody wrote";
        if (unseen(w.writes, touched, who))
            return "reads shared memory that another lane wrote, and has not met it since (a race)";
        w.reads.push_back({who, touched});
        return nullptr;
    });
}
const char *SharedMemory::write(size_t offset, size_t count, const Toucher &who) {
    return each_word(offset, count, [&](size_t at, uint8_t touched) -> const char * {
        Word &w = words[at];
        if (unseen(w.writes, touched, who))
            return "writes shared memory that another lane wrote, and has not met it since (a race)";
        if (unseen(w.reads, touched, who))
            return "writes shared memory that another lane read, and has not met it since (a race)";
        const auto known = [&](const Touch &t) { return (t.bytes & ~touched) == 0; };
        w.reads.erase(std::remove_if(w.reads.begin(), w.reads.end(), known), w.reads.end());
        w.writes.erase(std::remove_if(w.writes.begin(), w.writes.end(), known), w.writes.end());
        w.writes.push_back({who, touched});
        w.written |= touched;
        return nullptr;
    });
}

/* ---- accesses ---- */
namespace {

/* An address in a cluster's shared memory: where in the block's, below the block's rank, plus 1: without one it is the
 * own block's. A generic address of it has a bit besides. */
const uint64_t SHARED_WINDOW = uint64_t(1) << 62;
enum { RANK_SHIFT = 24, OFFSETS = (1 << RANK_SHIFT) - 1 };

uint32_t rank_of(const Warp &w, uint64_t address) {
    const uint32_t known = uint32_t(address) >> RANK_SHIFT;
    return known ? known - 1 : w.block->rank;
}
uint64_t at_rank(uint64_t address, uint64_t rank) {
    return (address & OFFSETS) | (rank + 1) << RANK_SHIFT;
}

struct Place {
    const Instruction &i;
    uint64_t address;
    bool writes;
};

uint8_t *in_shared(Warp &w, unsigned lane, const Place &p, uint32_t rank, uint64_t offset) {
    Launch &launch = *w.block->launch;
    const uint32_t bytes = p.i.access.whole();
    if (rank >= launch.running.size())
        launch.fail(w, 1u << lane, "shared memory of a block that its cluster does not have");
    Block &owner = launch.running[rank];
    if (offset >= owner.shared.size() || owner.shared.size() - offset < bytes)
        launch.fail(w, 1u << lane,
                    "beyond the block's " + std::to_string(owner.shared.size()) + " bytes of shared memory");
    if (&owner != w.block)
        for (const Warp &other : owner.warps)
            if (other.returned)
                launch.fail(w, 1u << lane, "shared memory of a block whose lanes return");
    const bool waits = (w.arrived >> lane & 1) == 0;
    const Toucher who = {w.block->rank, w.number * LANES + lane, w.block->epoch, w.arrivals[lane],
                         w.arrivals[lane] - (waits ? 0 : 1)};
    if (const char *wrong = p.writes ? owner.shared.write(offset, bytes, who) : owner.shared.read(offset, bytes, who))
        launch.fail(w, 1u << lane, wrong);
    return owner.shared.at(offset);
}

uint8_t *in_global(Warp &w, unsigned lane, const Place &p) {
    Launch &launch = *w.block->launch;
    const uint32_t bytes = p.i.access.whole();
    Buffer *b = global_memory().find(p.address, bytes);
    if (!b)
        launch.fail(w, 1u << lane, std::to_string(bytes) + " bytes outside every array");
    if (p.writes && b->use == Use::OPERAND)
        launch.fail(w, 1u << lane, "writes an operand");
    if (b->use == Use::RESULT) {
        const auto first = b->written.begin() + ptrdiff_t(p.address - b->begin);
        if (p.writes)
            std::fill(first, first + bytes, true);
        else if (std::find(first, first + bytes, false) != first + bytes)
            launch.fail(w, 1u << lane, "reads memory that nobody wrote");
    }
    return reinterpret_cast<uint8_t *>(p.address);
}

/* Where a lane's access goes: it is aligned, and allowed. */
uint8_t *locate(Warp &w, const Instruction &i, unsigned lane, bool writes) {
    Launch &launch = *w.block->launch;
    const Access &a = i.access;
    const uint32_t bytes = a.whole();
    const Place p = {i, w.get(i.from[0], lane) + uint64_t(a.offset), writes};
    if (p.address % bytes)
        launch.fail(w, 1u << lane, "misaligned: not a multiple of " + std::to_string(bytes));
    switch (a.space) {
    case Space::SHARED:
        return in_shared(w, lane, p, w.block->rank, p.address);
    case Space::PARAM:
        if (writes || p.address >= launch.parameters.size() || launch.parameters.size() - p.address < bytes)
            launch.fail(w, 1u << lane, "beyond the parameters");
        return launch.parameters.data() + p.address;
    case Space::GENERIC:
        if (!(p.address & SHARED_WINDOW))
            break;
        [[fallthrough]];
    case Space::CLUSTER:
        return in_shared(w, lane, p, rank_of(w, p.address), p.address & OFFSETS);
    case Space::GLOBAL:
        break;
    }
    return in_global(w, lane, p);
}

uint64_t element(const uint8_t *at, const Access &a) {
    uint64_t v = 0;
    memcpy(&v, at, a.bytes);
    const unsigned unused = 64 - 8 * a.bytes;
    return a.extends_sign ? uint64_t(int64_t(v << unused) >> unused) : v;
}

} // namespace

uint64_t Warp::get(Operand o, unsigned lane) const {
    uint64_t v = 0;
    memcpy(&v, registers + o.at + size_t(lane) * o.bytes, o.bytes);
    return v;
}
void Warp::put(Operand o, unsigned lane, uint64_t v) {
    memcpy(registers + o.at + size_t(lane) * o.bytes, &v, o.bytes);
}

void load(Warp &w, const Instruction &i, uint32_t lanes) {
    for (uint32_t rest = lanes; rest; rest &= rest - 1) {
        const auto l = unsigned(__builtin_ctz(rest));
        const uint8_t *from = locate(w, i, l, false);
        for (size_t k = 0; k < i.to.size(); k++)
            w.put(i.to[k], l, element(from + k * i.access.bytes, i.access));
    }
}
void store(Warp &w, const Instruction &i, uint32_t lanes) {
    for (uint32_t rest = lanes; rest; rest &= rest - 1) {
        const auto l = unsigned(__builtin_ctz(rest));
        uint8_t *to = locate(w, i, l, true);
        for (size_t k = 1; k < i.from.size(); k++) {
            const uint64_t v = w.get(i.from[k], l);
            memcpy(to + (k - 1) * i.access.bytes, &v, i.access.bytes);
        }
    }
}
void atomic_min_s64(Warp &w, const Instruction &i, uint32_t lanes) {
    for (uint32_t rest = lanes; rest; rest &= rest - 1) {
        const auto l = unsigned(__builtin_ctz(rest));
        const auto before = int64_t(element(locate(w, i, l, false), i.access));
        const int64_t after = std::min(before, int64_t(w.get(i.from[1], l)));
        memcpy(locate(w, i, l, true), &after, sizeof after);
        w.put(i.to[0], l, uint64_t(before));
    }
}

template <class F> static void each_lane(Warp &w, const Instruction &i, uint32_t lanes, F f) {
    for (uint32_t rest = lanes; rest; rest &= rest - 1) {
        const auto l = unsigned(__builtin_ctz(rest));
        w.put(i.to[0], l, f(l));
    }
}
void own_shared_to_generic(Warp &w, const Instruction &i, uint32_t lanes) {
    each_lane(w, i, lanes, [&](unsigned l) { return SHARED_WINDOW | at_rank(w.get(i.from[0], l), w.block->rank); });
}
void map_generic_to_rank(Warp &w, const Instruction &i, uint32_t lanes) {
    each_lane(w, i, lanes, [&](unsigned l) {
        const uint64_t generic = w.get(i.from[0], l);
        if (!(generic & SHARED_WINDOW))
            w.block->launch->fail(w, 1u << l, "no address of shared memory");
        return SHARED_WINDOW | at_rank(generic, w.get(i.from[1], l));
    });
}
void map_shared_to_rank(Warp &w, const Instruction &i, uint32_t lanes) {
    each_lane(w, i, lanes, [&](unsigned l) { return at_rank(w.get(i.from[0], l), w.get(i.from[1], l)); });
}

} // namespace ptx
