/* program.h: PTX as it is run: its text is read once, every operand becomes the place of a register, every constant a
 * register that is set before a warp starts, and every instruction the function that does it. */
#ifndef XENT_PTX_PROGRAM_H
#define XENT_PTX_PROGRAM_H

#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace ptx {

enum { LANES = 32 };

/* What a device would do something undefined at, or what this machine does not know. */
struct Fault : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Warp;
struct Instruction;
using Action = void (*)(Warp &, const Instruction &, uint32_t lanes);

/* A register: `at` bytes into its warp's file, where its lanes lie side by side; of a predicate, which has no bytes,
 * all are bits of one word. */
struct Operand {
    uint32_t at;
    uint8_t bytes;
};

enum class Kind : uint8_t { COMPUTE, LOAD, STORE, BRANCH, RETURN, SHUFFLE, BARRIER, VOTE, ARRIVE, WAIT };
enum class Space : uint8_t { GENERIC, GLOBAL, SHARED, CLUSTER, PARAM };
enum class Shuffle : uint8_t { UP, DOWN, BUTTERFLY, INDEX };

/* What one does to memory: `count` neighbours of `bytes` each. */
struct Access {
    Space space;
    uint8_t bytes, count;
    bool extends_sign;
    int64_t offset; /* from the address in the first source */
    uint32_t whole() const {
        return uint32_t(bytes) * count;
    }
};

struct Instruction {
    Action act = nullptr; /* COMPUTE, LOAD, STORE */
    Kind kind = Kind::COMPUTE;
    bool guarded = false, unless = false; /* done where the guard is true; or unless it is */
    Shuffle shuffle = {};
    Operand guard = {};
    std::vector<Operand> to, from;
    Access access = {};
    uint32_t target = 0; /* of a branch */
    bool leads = false;  /* a basic block begins here */
    bool moves = false;  /* another name for its operand: ptxas leaves nothing of it */
    std::string name, text;
};

enum class Special : uint8_t { THREAD, THREADS, BLOCK, BLOCKS, CLUSTER, CLUSTERS, RANK, RANKS, ZERO, ONE };

struct Function {
    std::string name;
    uint32_t threads = 0; /* .maxntid; 0: it does not say */
    uint32_t parameter_bytes = 0;
    std::vector<Instruction> code;
    uint32_t file = 0; /* bytes of a warp's registers */
    struct Constant {
        Operand to;
        uint64_t value;
    };
    std::vector<Constant> constants;
    std::vector<std::pair<Operand, Special>> specials;
};

/* A file of PTX. A function of it is read when it is first asked for. */
class Program {
    std::string text;
    std::map<std::string, std::pair<size_t, size_t>> entries; /* where the text of each begins and ends */
    std::unordered_map<std::string, uint32_t> shared;         /* addresses of __shared__ arrays */
    std::unordered_map<std::string, std::unique_ptr<Function>> read;

  public:
    uint32_t shared_bytes = 0; /* of a block */

    explicit Program(std::string text);
    const Function &function(const std::string &name);
};

/* An arithmetic instruction: what does it, and how wide its operands are (0: predicates), the result's first. */
struct Known {
    Action act;
    std::vector<uint8_t> bytes;
};
/* By their whole names. */
const std::unordered_map<std::string, Known> &all_known();

/* Bytes of a warp's register: lines of this machine's caches. */
constexpr uint32_t register_bytes(uint8_t bytes) {
    return bytes ? bytes * uint32_t(LANES) : 64;
}
/* registers.cpp's */
void share_registers(Function &);

/* memory.cpp's */
void load(Warp &, const Instruction &, uint32_t lanes);
void store(Warp &, const Instruction &, uint32_t lanes);
void atomic_min_s64(Warp &, const Instruction &, uint32_t lanes);
void own_shared_to_generic(Warp &, const Instruction &, uint32_t lanes);
void map_generic_to_rank(Warp &, const Instruction &, uint32_t lanes);
void map_shared_to_rank(Warp &, const Instruction &, uint32_t lanes);
/* arithmetic.cpp's: a register's halves or quarters as registers, and back */
void unpack(Warp &, const Instruction &, uint32_t lanes);
void pack(Warp &, const Instruction &, uint32_t lanes);

/* In which direction an approximate instruction is wrong, by as much as its documentation allows. APART: up or down, by
 * the bits of its argument, so that what is divided by each other is off in opposite directions. */
enum class Direction { NONE, UP, DOWN, APART };
void set_direction(Direction);

} // namespace ptx

#endif
