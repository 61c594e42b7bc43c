/* interface.cpp: what the tests ask of the machine, in C. A fault is a status and a text, no end of the process. */
#include "machine.h"
#include "host_launch.h"

#include <fstream>
#include <mutex>
#include <sstream>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

std::mutex mutex; /* launches run one at a time */
std::string fault;
std::map<std::string, std::string> paths;
std::map<std::string, std::unique_ptr<ptx::Program>> programs;
std::map<std::string, ptx::Counts> counts;

ptx::Program &program(const std::string &unit) {
    auto &found = programs[unit];
    if (!found) {
        std::ifstream file(paths[unit]);
        std::stringstream text;
        if (!(text << file.rdbuf()))
            throw ptx::Fault("no PTX of " + unit);
        found = std::make_unique<ptx::Program>(text.str());
    }
    return *found;
}

template <class F> xent_status said(F f) {
    const std::lock_guard<std::mutex> lock(mutex);
    try {
        f();
        return XENT_OK;
    } catch (const ptx::Fault &e) {
        fault = e.what();
        return XENT_ERR_CUDA;
    }
}

} // namespace

xent_status ptx::launch(const char *unit, const char *mangled_type, const void *arguments, size_t bytes, int64_t blocks,
                        int threads, int cluster) {
    const std::string name = std::string("_Z") + mangled_type + "vNT_4argsE";
    return said([&] {
        run(program(unit), name, arguments, bytes, blocks, uint32_t(threads), uint32_t(cluster), counts[name]);
    });
}

/* Another machine's turns have no meaning here: lanes that need an order are a fault in any. */
namespace xent_host {
bool set_order(unsigned) {
    return false;
}
} // namespace xent_host

/* Where the PTX of a unit is. */
EXPORT void xent_ptx_unit(const char *unit, const char *path) {
    paths[unit] = path;
}

/* The text of the last fault, which is then forgotten. */
EXPORT const char *xent_ptx_fault(void) {
    static thread_local std::string told;
    told.swap(fault);
    fault.clear();
    return told.c_str();
}

EXPORT void xent_ptx_direction(int direction) {
    ptx::set_direction(ptx::Direction(direction));
}

/* Global memory is what was added since it was last cleared. */
EXPORT void xent_ptx_clear(void) {
    ptx::global_memory().clear();
}
EXPORT void xent_ptx_add(void *begin, size_t bytes, int use) {
    ptx::global_memory().add(reinterpret_cast<uintptr_t>(begin), bytes, ptx::Use(use));
}

/* Runs a function of a text, and forgets what ran before: for the tests of the machine itself. */
EXPORT int xent_ptx_run(const char *text, const char *function, const void *arguments, size_t bytes, int64_t blocks,
                        int threads, int cluster) {
    return said([&] {
        static std::unique_ptr<ptx::Program> one;
        counts.clear();
        one = std::make_unique<ptx::Program>(text);
        run(*one, function, arguments, bytes, blocks, uint32_t(threads), uint32_t(cluster), counts[function]);
    });
}

/* The arithmetic instructions, a line each: the name, then the bytes of its result and operands (0: a predicate). */
EXPORT const char *xent_ptx_known(void) {
    static std::string text;
    text.clear();
    for (const auto &[name, known] : ptx::all_known()) {
        text += name;
        for (uint8_t bytes : known.bytes)
            text += ' ' + std::to_string(bytes);
        text += '\n';
    }
    return text.c_str();
}

/* What ran since the last call, a line each: a kernel's "kernel launches blocks threads bytes squares name", and below
 * it, of each instruction, "times-issued lanes bytes-of-global-memory name". */
EXPORT const char *xent_ptx_counts(void) {
    static thread_local std::string told;
    const std::lock_guard<std::mutex> lock(mutex);
    std::ostringstream text;
    for (const auto &[name, c] : counts) {
        if (!c.function)
            continue;
        text << "kernel " << c.launches << ' ' << c.blocks << ' ' << c.threads << ' ' << c.bytes << ' '
             << c.bytes_squared << ' ' << name << '\n';
        for (size_t k = 0; k < c.issued.size(); k++) {
            const ptx::Instruction &i = c.function->code[k];
            const bool moves = i.access.space == ptx::Space::GLOBAL && i.access.count;
            if (c.issued[k])
                text << c.issued[k] << ' ' << c.lanes[k] << ' ' << (moves ? i.access.whole() : 0) << ' ' << i.name
                     << '\n';
        }
    }
    counts.clear();
    told = text.str();
    return told.c_str();
}
