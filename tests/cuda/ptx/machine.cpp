/* machine.cpp: how lanes run, meet and wait. */
#include "machine.h"

#include <algorithm>
#include <cstring>
#include <cxxabi.h>

namespace ptx {
namespace {

enum : uint32_t { NOWHERE = ~0u };

template <class F> void each_lane(uint32_t lanes, F f) {
    for (; lanes; lanes &= lanes - 1)
        f(unsigned(__builtin_ctz(lanes)));
}

void make_ready(Warp &w, uint32_t pc, uint32_t lanes) {
    for (Group &g : w.ready)
        if (g.pc == pc) {
            g.lanes |= lanes;
            return;
        }
    w.ready.push_back({pc, lanes});
}
void stop(Warp &w, Kind kind, uint32_t pc, uint32_t lanes) {
    for (Stop &s : w.stopped)
        if (s.pc == pc) {
            s.lanes |= lanes;
            return;
        }
    w.stopped.push_back({kind, pc, lanes});
}

/* "3, 5 to 31" */
std::string lanes_text(uint32_t lanes) {
    std::string text;
    for (unsigned l = 0; l < LANES; l++)
        if (lanes >> l & 1) {
            unsigned last = l;
            while (last + 1 < LANES && (lanes >> (last + 1) & 1))
                last++;
            text += (text.empty() ? "" : ", ") + std::to_string(l) + (last > l ? " to " + std::to_string(last) : "");
            l = last;
        }
    return text;
}
std::string readable(const std::string &name) {
    if (name.compare(0, 2, "_Z") != 0)
        return name;
    int status = 0;
    char *found = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
    const std::string text = found ? found : name;
    free(found);
    return text;
}
std::string who(const Warp &w, uint32_t lanes) {
    return "block " + std::to_string(w.block->index) + ", warp " + std::to_string(w.number) + ", lanes " +
           lanes_text(lanes);
}

} // namespace

/* ---- faults ---- */
void Launch::fail(const Warp &w, uint32_t lanes, const std::string &why) const {
    const Instruction &i = function.code[w.pc];
    std::string values;
    for (Operand o : i.from)
        if (o.bytes && lanes) {
            char text[24];
            snprintf(text, sizeof text, " %#llx",
                     static_cast<unsigned long long>(w.get(o, unsigned(__builtin_ctz(lanes)))));
            values += text;
        }
    throw Fault("PTX: " + why + "\n  " + who(w, lanes) + ": " + i.text + " (" + values.substr(values.empty() ? 0 : 1) +
                ")\n  in " + readable(function.name));
}
/* Where the lanes of a cluster are, for the text of a fault. */
std::string Launch::standing() const {
    std::string text;
    int lines = 0;
    for (const Block &b : running)
        for (const Warp &w : b.warps) {
            for (const Stop &s : w.stopped)
                if (lines++ < 16)
                    text +=
                        "\n  " + who(w, s.lanes) + ": " + function.code[s.pc].text + " (" + std::to_string(s.pc) + ")";
            if (w.returned && lines++ < 16)
                text += "\n  " + who(w, w.returned) + ": returned";
        }
    return text + "\n  in " + readable(function.name);
}

/* ---- lanes of a warp ---- */
void Launch::finish(Warp &w, uint32_t lanes) {
    if (w.arrived & lanes)
        fail(w, w.arrived & lanes, "returns, has arrived at the cluster's barrier and not waited there");
    w.returned |= lanes;
}

/* Lanes come to a shuffle: those whose whole mask has come exchange, the rest wait. */
void Launch::shuffle(Warp &w, uint32_t pc, uint32_t lanes) {
    const Instruction &i = function.code[pc];
    for (size_t k = 0; k < w.stopped.size(); k++)
        if (w.stopped[k].pc == pc) {
            lanes |= w.stopped[k].lanes;
            w.stopped.erase(w.stopped.begin() + ptrdiff_t(k));
            break;
        }
    const uint32_t *values = w.lanes_of<uint32_t>(i.from[0]), *distances = w.lanes_of<uint32_t>(i.from[1]);
    const uint32_t *limits = w.lanes_of<uint32_t>(i.from[2]), *masks = w.lanes_of<uint32_t>(i.from[3]);
    while (lanes) {
        const uint32_t mask = masks[__builtin_ctz(lanes)];
        uint32_t same = 0;
        each_lane(lanes, [&](unsigned l) { same |= uint32_t(masks[l] == mask) << l; });
        lanes &= ~same;
        if (same & ~mask)
            fail(w, same & ~mask, "a lane that is not in its own mask");
        if (mask & ~w.present)
            fail(w, same, "a mask with lanes that the block does not have");
        if (mask & w.returned)
            fail(w, same, "a mask with lanes that have returned (" + lanes_text(mask & w.returned) + ")");
        if (same != mask) {
            stop(w, Kind::SHUFFLE, pc, same);
            continue;
        }
        uint32_t found[LANES], inside = 0;
        each_lane(same, [&](unsigned l) {
            const uint32_t segment = limits[l] >> 8 & 31u, limit = limits[l] & 31u, b = distances[l] & 31u;
            const uint32_t first = l & segment, last = first | (limit & ~segment);
            uint32_t from = l;
            bool is_in = false;
            switch (i.shuffle) {
            case Shuffle::UP:
                from = l - b;
                is_in = int(from) >= int(last);
                break;
            case Shuffle::DOWN:
                from = l + b;
                is_in = from <= last;
                break;
            case Shuffle::BUTTERFLY:
                from = l ^ b;
                is_in = from <= last;
                break;
            case Shuffle::INDEX:
                from = first | (b & ~segment);
                is_in = from <= last;
                break;
            }
            from = is_in ? from : l;
            if (!(same >> from & 1))
                fail(w, 1u << l, "takes the value of lane " + std::to_string(from) + ", which is not in the mask");
            found[l] = values[from];
            inside |= uint32_t(is_in) << l;
        });
        uint32_t *to = w.lanes_of<uint32_t>(i.to[0]);
        each_lane(same, [&](unsigned l) { to[l] = found[l]; });
        if (i.to.size() > 1)
            w.bits(i.to[1]) = (w.bits(i.to[1]) & ~same) | inside;
        make_ready(w, pc + 1, same);
    }
}

void Launch::arrive(Warp &w, uint32_t lanes) {
    if (w.arrived & lanes)
        fail(w, w.arrived & lanes, "arrives at the cluster's barrier twice, without a wait between");
    w.arrived |= lanes;
    each_lane(lanes, [&](unsigned l) { w.arrivals[l]++; });
    arrived += uint32_t(__builtin_popcount(lanes));
    if (arrived == cluster * threads) {
        arrived = 0;
        generation++;
    }
}
void Launch::wait(Warp &w, uint32_t pc, uint32_t lanes) {
    if (lanes & ~w.arrived)
        fail(w, lanes & ~w.arrived, "waits at the cluster's barrier, where it has not arrived");
    stop(w, Kind::WAIT, pc, lanes);
}

void Launch::count_flight(Warp &w, const Instruction &i, uint32_t lanes) const {
    if (w.wanted && i.leads) {
        counts.bytes += double(w.flying_bytes);
        counts.bytes_squared += double(w.flying_bytes) * double(w.flying_bytes);
        w.flying.clear();
        w.flying_bytes = 0;
        w.wanted = false;
    }
    const bool loads = i.kind == Kind::LOAD && i.access.space == Space::GLOBAL && lanes != 0;
    uint32_t used = 0;
    for (const Warp::Flying &f : w.flying)
        for (Operand o : i.from)
            used |= f.at == o.at ? f.lanes & lanes : 0;
    if (!w.flying.empty()) /* places that become other registers' */
        for (Operand o : i.to) {
            for (Warp::Flying &f : w.flying)
                f.lanes &= f.at == o.at ? ~lanes : ~0u;
            const auto gone = [](const Warp::Flying &f) { return f.lanes == 0; };
            w.flying.erase(std::remove_if(w.flying.begin(), w.flying.end(), gone), w.flying.end());
        }
    if (loads || (used && i.moves))
        for (Operand o : i.to)
            w.flying.push_back({o.at, loads ? lanes : used});
    if (loads)
        w.flying_bytes += uint64_t(__builtin_popcount(lanes)) * i.access.whole();
    w.wanted = w.wanted || (used && !i.moves);
}

/* These lanes, until they are behind those at `until` no more, or no longer together. */
void Launch::go_on(Warp &w, Group g, uint32_t until) {
    while (g.pc < until) {
        const Instruction &i = function.code[g.pc];
        w.pc = g.pc;
        uint32_t lanes = g.lanes;
        if (i.guarded)
            lanes &= i.unless ? ~w.bits(i.guard) : w.bits(i.guard);
        counts.issued[g.pc]++;
        counts.lanes[g.pc] += uint64_t(__builtin_popcount(lanes));
        count_flight(w, i, lanes);
        const uint32_t others = g.lanes & ~lanes;
        switch (i.kind) {
        case Kind::COMPUTE:
        case Kind::LOAD:
        case Kind::STORE:
            if (lanes)
                i.act(w, i, lanes);
            g.pc++;
            continue;
        case Kind::BRANCH:
            if (others && lanes) {
                make_ready(w, i.target, lanes);
                make_ready(w, g.pc + 1, others);
                return;
            }
            g.pc = lanes ? i.target : g.pc + 1;
            continue;
        default:
            break;
        }
        if (others)
            make_ready(w, g.pc + 1, others);
        if (!lanes)
            return;
        switch (i.kind) {
        case Kind::RETURN:
            finish(w, lanes);
            return;
        case Kind::SHUFFLE:
            shuffle(w, g.pc, lanes);
            return;
        case Kind::ARRIVE:
            arrive(w, lanes);
            make_ready(w, g.pc + 1, lanes);
            return;
        case Kind::WAIT:
            wait(w, g.pc, lanes);
            return;
        default: /* a barrier */
            stop(w, i.kind, g.pc, lanes);
            return;
        }
    }
    make_ready(w, g.pc, g.lanes);
}

/* Until all of them wait for someone, or have returned. */
void Launch::advance(Warp &w) {
    while (!w.ready.empty()) {
        const auto first = std::min_element(w.ready.begin(), w.ready.end(),
                                            [](const Group &a, const Group &b) { return a.pc < b.pc; });
        const Group g = *first;
        w.ready.erase(first);
        uint32_t until = NOWHERE;
        for (const Group &other : w.ready)
            until = std::min(until, other.pc);
        go_on(w, g, until);
    }
}

/* ---- those of a block, and of a cluster ---- */
/* The block's barrier, if all are there. */
bool Launch::release(Block &b) {
    uint32_t place = NOWHERE;
    bool any = false, all = true;
    for (Warp &w : b.warps) {
        uint32_t there = 0;
        for (const Stop &s : w.stopped)
            if (s.kind == Kind::BARRIER || s.kind == Kind::VOTE) {
                if (place != NOWHERE && place != s.pc)
                    throw Fault("PTX: lanes of a block at different barriers" + standing());
                place = s.pc;
                there |= s.lanes;
                if (s.kind == Kind::VOTE)
                    any = any || (w.bits(function.code[s.pc].from[0]) & s.lanes) != 0;
            }
        all = all && there == w.present;
    }
    if (!all)
        return false;
    b.epoch++;
    for (Warp &w : b.warps) {
        if (const Instruction &i = function.code[place]; i.kind == Kind::VOTE)
            w.bits(i.to[0]) = any ? w.present : 0;
        w.stopped.clear();
        make_ready(w, place + 1, w.present);
    }
    return true;
}

/* Lanes at the cluster's barrier that all others have come to. */
bool Launch::release_waiting(Block &b) {
    bool any = false;
    for (Warp &w : b.warps)
        for (size_t k = 0; k < w.stopped.size();) {
            Stop &s = w.stopped[k];
            uint32_t free = 0;
            if (s.kind == Kind::WAIT)
                each_lane(s.lanes, [&](unsigned l) { free |= uint32_t(w.arrivals[l] <= generation) << l; });
            if (free) {
                any = true;
                w.arrived &= ~free;
                make_ready(w, s.pc + 1, free);
                s.lanes &= ~free;
            }
            if (s.lanes)
                k++;
            else
                w.stopped.erase(w.stopped.begin() + ptrdiff_t(k));
        }
    return any;
}

void Launch::start(uint64_t first) {
    generation = arrived = 0;
    const size_t warps = (threads + LANES - 1) / LANES;
    size_t file = 0;
    for (uint32_t rank = 0; rank < cluster; rank++) {
        Block &b = running[rank];
        b.launch = this;
        b.rank = rank;
        b.index = first + rank;
        b.epoch = 0;
        b.shared.start(shared_bytes);
        b.warps.assign(warps, Warp());
        for (size_t n = 0; n < warps; n++) {
            Warp &w = b.warps[n];
            w.block = &b;
            w.number = uint32_t(n);
            w.registers = registers.data() + file++ * function.file;
            const uint32_t there = std::min<uint32_t>(LANES, threads - uint32_t(n) * LANES);
            w.present = there == LANES ? ~0u : (1u << there) - 1;
            w.ready.push_back({0, w.present});
            for (const auto &[to, which] : function.specials)
                for (unsigned l = 0; l < LANES; l++) {
                    const uint64_t all[] = {w.number * LANES + l, threads, b.index, blocks, b.index / cluster,
                                            blocks / cluster,     rank,    cluster, 0,      1};
                    w.put(to, l, all[size_t(which)]);
                }
        }
    }
}

void Launch::run_cluster(uint64_t first) {
    start(first);
    for (bool moved = true; moved;) {
        moved = false;
        for (Block &b : running) {
            for (Warp &w : b.warps)
                if (!w.ready.empty()) {
                    moved = true;
                    advance(w);
                }
            moved = release(b) || moved;
        }
        for (Block &b : running)
            moved = release_waiting(b) || moved;
    }
    for (const Block &b : running)
        for (const Warp &w : b.warps)
            if (w.returned != w.present)
                throw Fault("PTX: lanes wait for others that do not come" + standing());
}

Launch::Launch(const Function &f, std::vector<uint8_t> given, uint64_t blocks, uint32_t threads, uint32_t cluster,
               uint32_t shared_bytes, Counts &counts)
    : counts(counts), blocks(blocks), threads(threads), cluster(cluster), shared_bytes(shared_bytes),
      registers(size_t(cluster) * ((threads + LANES - 1) / LANES) * f.file, 0xa5), function(f),
      parameters(std::move(given)), running(cluster) {
    counts.function = &f;
    counts.launches++;
    counts.blocks += blocks;
    counts.threads += blocks * threads;
    counts.issued.resize(f.code.size());
    counts.lanes.resize(f.code.size());
}

/* Constants stay where they are, whoever's registers these become. */
void Launch::set_constants() {
    for (size_t at = 0; at < registers.size(); at += function.file) {
        Warp w;
        w.registers = registers.data() + at;
        for (const auto &[to, value] : function.constants) {
            if (to.bytes == 0)
                w.bits(to) = value ? ~0u : 0;
            for (unsigned l = 0; l < LANES; l++)
                w.put(to, l, value);
        }
    }
}

void Launch::run() {
    set_constants();
    for (uint64_t first = 0; first < blocks; first += cluster)
        run_cluster(first);
}

void run(Program &program, const std::string &name, const void *arguments, size_t bytes, int64_t blocks,
         uint32_t threads, uint32_t cluster, Counts &counts) {
    const Function &f = program.function(name);
    const auto refuse = [&](const std::string &why) {
        throw Fault("PTX: a launch of " + std::to_string(blocks) + " blocks of " + std::to_string(threads) +
                    " threads in clusters of " + std::to_string(cluster) + ": " + why + "\n  in " + readable(name));
    };
    if (blocks <= 0 || blocks > INT32_MAX)
        refuse("no such grid");
    if (threads == 0 || threads > 1024 || (f.threads && threads != f.threads))
        refuse("compiled for " + std::to_string(f.threads));
    if (cluster == 0 || cluster > 8 || blocks % cluster) /* 8: what every device with clusters has */
        refuse("no such clusters");
    if (bytes != f.parameter_bytes)
        refuse(std::to_string(bytes) + " bytes of parameters, not " + std::to_string(f.parameter_bytes));
    const auto *given = static_cast<const uint8_t *>(arguments);
    Launch(f, {given, given + bytes}, uint64_t(blocks), threads, cluster, program.shared_bytes, counts).run();
}

} // namespace ptx
