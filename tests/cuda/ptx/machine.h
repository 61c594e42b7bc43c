/* machine.h: what a launch is while it runs. A cluster's blocks run together, one cluster after the other; a warp's
 * lanes run in step wherever they are at the same place, those that are furthest behind first. */
#ifndef XENT_PTX_MACHINE_H
#define XENT_PTX_MACHINE_H

#include "memory.h"
#include "program.h"

namespace ptx {

/* Lanes at one place; stopped ones wait there for others. */
struct Group {
    uint32_t pc, lanes;
};
struct Stop {
    Kind kind;
    uint32_t pc, lanes;
};

struct Block;

struct Warp {
    Block *block = nullptr;
    uint32_t number = 0; /* in its block */
    uint8_t *registers = nullptr;
    std::vector<Group> ready;
    std::vector<Stop> stopped;
    uint32_t present = 0, returned = 0;
    uint32_t arrived = 0;          /* at the cluster's barrier, and yet to wait */
    uint32_t arrivals[LANES] = {}; /* at that barrier, so far */
    uint32_t pc = 0;               /* of what is being done */
    /* Of Counts: registers whose loads no lane of these has used, all their bytes, and whether one is used now. */
    struct Flying {
        uint32_t at, lanes;
    };
    std::vector<Flying> flying;
    uint64_t flying_bytes = 0;
    bool wanted = false;

    template <class T> T *lanes_of(Operand o) {
        return reinterpret_cast<T *>(registers + o.at);
    }
    uint32_t &bits(Operand o) {
        return *reinterpret_cast<uint32_t *>(registers + o.at);
    }
    uint64_t get(Operand o, unsigned lane) const;
    void put(Operand o, unsigned lane, uint64_t value);
};

class Launch;

struct Block {
    Launch *launch = nullptr;
    uint32_t rank = 0;
    uint64_t index = 0; /* in the grid */
    uint32_t epoch = 0; /* barriers that it has passed */
    SharedMemory shared;
    std::vector<Warp> warps;
};

/* What a kernel did, in all launches since it was last asked: of each instruction, how often a warp issued it and for
 * how many lanes in all. */
struct Counts {
    const Function *function = nullptr;
    uint64_t launches = 0, blocks = 0, threads = 0;
    std::vector<uint64_t> issued, lanes;
    /* Bytes that are on their way to a warp's lanes at the end of the basic block in which one of them is first used (a
     * compiler has put all loads of a block before their uses): their sum, and that of their squares. */
    double bytes = 0, bytes_squared = 0;
};

class Launch {
    Counts &counts;
    const uint64_t blocks; /* of the grid */
    const uint32_t threads, cluster, shared_bytes;
    std::vector<uint8_t> registers;
    uint32_t generation = 0, arrived = 0; /* of the cluster's barrier */

    void set_constants();
    void run_cluster(uint64_t first);
    void start(uint64_t first);
    void advance(Warp &);
    void go_on(Warp &, Group, uint32_t until);
    void shuffle(Warp &, uint32_t pc, uint32_t lanes);
    bool release(Block &);
    bool release_waiting(Block &);
    void arrive(Warp &, uint32_t lanes);
    void wait(Warp &, uint32_t pc, uint32_t lanes);
    void finish(Warp &, uint32_t lanes);
    void count_flight(Warp &, const Instruction &, uint32_t lanes) const;
    std::string standing() const;

  public:
    const Function &function;
    std::vector<uint8_t> parameters;
    std::vector<Block> running; /* a cluster's */

    Launch(const Function &, std::vector<uint8_t> parameters, uint64_t blocks, uint32_t threads, uint32_t cluster,
           uint32_t shared_bytes, Counts &);
    void run();
    /* Ends with a Fault that says who did what where, of `lanes` of a warp. */
    [[noreturn]] void fail(const Warp &, uint32_t lanes, const std::string &why) const;
};

/* A grid of `blocks` in clusters of `cluster`. */
void run(Program &, const std::string &function, const void *arguments, size_t bytes, int64_t blocks, uint32_t threads,
         uint32_t cluster, Counts &);

} // namespace ptx

#endif
