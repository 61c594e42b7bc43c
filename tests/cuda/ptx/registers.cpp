/* registers.cpp: PTX has a register for every value. Those of a function that are never needed at once share a place
 * here, so that a warp's registers stay in this machine's caches. */
#include "program.h"

#include <algorithm>
#include <queue>

namespace ptx {
namespace {

using Bits = std::vector<uint64_t>;

bool has(const Bits &b, uint32_t n) {
    return b[n / 64] >> n % 64 & 1;
}
void add(Bits &b, uint32_t n) {
    b[n / 64] |= uint64_t(1) << n % 64;
}
struct BasicBlock {
    uint32_t begin, end;
    std::vector<uint32_t> next;
    Bits uses, sets, at_begin, at_end; /* before they are set; of all lanes; needed */
};

/* Registers, but for those that hold constants. Lanes of a warp may be at different places; each has its own part of
 * every register, so that what is needed of it is what its own way through the code needs. */
class Sharing {
    Function &f;
    std::unordered_map<uint32_t, uint32_t> numbers; /* by place */
    std::vector<Operand> registers;
    std::vector<BasicBlock> blocks;

    template <class G> void each_used(const Instruction &i, G g) {
        if (i.guarded)
            g(i.guard);
        for (const Operand &o : i.from)
            g(o);
    }
    template <class G> void if_register(const Operand &o, G g) {
        if (const auto found = numbers.find(o.at); found != numbers.end())
            g(found->second);
    }

    void find_registers() {
        std::unordered_map<uint32_t, bool> fixed;
        for (const Function::Constant &c : f.constants)
            fixed[c.to.at] = true;
        for (const auto &[o, which] : f.specials)
            fixed[o.at] = true;
        const auto note = [&](const Operand &o) {
            if (!fixed.count(o.at) && numbers.emplace(o.at, uint32_t(registers.size())).second)
                registers.push_back(o);
        };
        for (const Instruction &i : f.code) {
            each_used(i, note);
            for (const Operand &o : i.to)
                note(o);
        }
    }

    void find_blocks() {
        const auto size = uint32_t(f.code.size());
        std::unordered_map<uint32_t, uint32_t> starting;
        for (uint32_t at = 0; at < size; at++) {
            if (at == 0 || f.code[at].leads) {
                starting[at] = uint32_t(blocks.size());
                const Bits none((registers.size() + 63) / 64);
                blocks.push_back({at, at, {}, none, none, none, none});
            }
            BasicBlock &b = blocks.back();
            b.end = at + 1;
            const Instruction &i = f.code[at];
            each_used(i, [&](const Operand &o) {
                if_register(o, [&](uint32_t n) {
                    if (!has(b.sets, n))
                        add(b.uses, n);
                });
            });
            if (!i.guarded)
                for (const Operand &o : i.to)
                    if_register(o, [&](uint32_t n) { add(b.sets, n); });
        }
        for (BasicBlock &b : blocks) {
            const Instruction &last = f.code[b.end - 1];
            if (last.kind == Kind::BRANCH)
                b.next.push_back(starting.at(last.target));
            if (b.end < size && (last.guarded || (last.kind != Kind::BRANCH && last.kind != Kind::RETURN)))
                b.next.push_back(starting.at(b.end));
        }
    }

    void find_needs() {
        for (bool more = true; more;) {
            more = false;
            for (auto b = blocks.rbegin(); b != blocks.rend(); ++b)
                for (size_t w = 0; w < b->uses.size(); w++) {
                    for (uint32_t next : b->next)
                        b->at_end[w] |= blocks[next].at_begin[w];
                    const uint64_t needed = b->uses[w] | (b->at_end[w] & ~b->sets[w]);
                    more = more || needed != b->at_begin[w];
                    b->at_begin[w] = needed;
                }
        }
    }

    struct Span {
        uint32_t begin = ~0u, end = 0, number = 0;
        void reach(uint32_t at) {
            begin = std::min(begin, at);
            end = std::max(end, at);
        }
    };
    std::vector<Span> spans() {
        std::vector<Span> all(registers.size());
        for (uint32_t n = 0; n < all.size(); n++)
            all[n].number = n;
        for (const BasicBlock &b : blocks) {
            for (uint32_t n = 0; n < all.size(); n++) {
                if (has(b.at_begin, n))
                    all[n].reach(b.begin);
                if (has(b.at_end, n))
                    all[n].reach(b.end - 1);
            }
            for (uint32_t at = b.begin; at < b.end; at++) {
                const auto reach = [&](const Operand &o) { if_register(o, [&](uint32_t n) { all[n].reach(at); }); };
                each_used(f.code[at], reach);
                for (const Operand &o : f.code[at].to)
                    reach(o);
            }
        }
        std::sort(all.begin(), all.end(), [](const Span &a, const Span &b) { return a.begin < b.begin; });
        return all;
    }

  public:
    explicit Sharing(Function &f) : f(f) {
        find_registers();
        find_blocks();
        find_needs();
    }

    /* A register takes the place of one that is needed no longer: of its own width, because lanes are computed one by
     * one. */
    void share() {
        std::unordered_map<uint32_t, uint32_t> places;
        uint32_t file = 0;
        const auto place = [&](uint8_t bytes) {
            const uint32_t at = file;
            file += register_bytes(bytes);
            return at;
        };
        for (Function::Constant &c : f.constants)
            places[c.to.at] = place(c.to.bytes);
        for (auto &[o, which] : f.specials)
            places[o.at] = place(o.bytes);
        struct Taken {
            uint32_t end, at;
            uint8_t bytes;
            bool operator<(const Taken &other) const {
                return end > other.end;
            }
        };
        std::priority_queue<Taken> taken;
        std::map<uint8_t, std::vector<uint32_t>> free;
        for (const Span &s : spans()) {
            for (; !taken.empty() && taken.top().end < s.begin; taken.pop())
                free[taken.top().bytes].push_back(taken.top().at);
            const Operand &o = registers[s.number];
            std::vector<uint32_t> &same = free[o.bytes];
            uint32_t at;
            if (same.empty()) {
                at = place(o.bytes);
            } else {
                at = same.back();
                same.pop_back();
            }
            places[o.at] = at;
            taken.push({s.end, at, o.bytes});
        }
        const auto move = [&](Operand &o) { o.at = places.at(o.at); };
        for (Function::Constant &c : f.constants)
            move(c.to);
        for (auto &[o, which] : f.specials)
            move(o);
        for (Instruction &i : f.code) {
            if (i.guarded)
                move(i.guard);
            for (Operand &o : i.from)
                move(o);
            for (Operand &o : i.to)
                move(o);
        }
        f.file = file;
    }
};

} // namespace

void share_registers(Function &f) {
    Sharing(f).share();
}

} // namespace ptx
