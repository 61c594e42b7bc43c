/* memory.h: which bytes there are, who may touch them, and who has. */
#ifndef XENT_PTX_MEMORY_H
#define XENT_PTX_MEMORY_H

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

namespace ptx {

/* ---- global memory: arrays that were made known ---- */
enum class Use {
    OPERAND, /* read only */
    RESULT,  /* written; what is read of it was written before */
    BOTH     /* a result in the place of an operand */
};

struct Buffer {
    uintptr_t begin, end;
    Use use;
    std::vector<bool> written;
};

class GlobalMemory {
    std::map<uintptr_t, Buffer> buffers; /* by their ends */

  public:
    void clear() {
        buffers.clear();
    }
    void add(uintptr_t begin, size_t bytes, Use use);
    /* The buffer that holds all of it, or null. */
    Buffer *find(uintptr_t at, size_t bytes);
};
GlobalMemory &global_memory();

/* ---- shared memory of a block ---- */
/* A lane when it touches memory. What it did is seen by whoever has met it at a barrier since. */
struct Toucher {
    uint32_t block, thread; /* in the cluster, in the block */
    uint32_t epoch;         /* barriers that its block has passed */
    uint32_t arrivals;      /* its own at the cluster's barrier */
    uint32_t waits;         /* ... and how often it has waited there for all others */
};

class SharedMemory {
    struct Touch {
        Toucher who;
        uint8_t bytes; /* of the word, as bits */
    };
    struct Word {
        uint8_t written = 0; /* bytes, as bits */
        std::vector<Touch> reads, writes;
    };
    std::vector<uint8_t> bytes;
    std::vector<Word> words;
    static bool sees(const Toucher &later, const Toucher &sooner);
    static const Touch *unseen(const std::vector<Touch> &, uint8_t bytes, const Toucher &);

  public:
    void start(size_t size);
    size_t size() const {
        return bytes.size();
    }
    uint8_t *at(size_t offset) {
        return bytes.data() + offset;
    }
    /* What is wrong with an access, or null; else it is noted. */
    const char *read(size_t offset, size_t count, const Toucher &);
    const char *write(size_t offset, size_t count, const Toucher &);
};

} // namespace ptx

#endif
