/* isa.c: the choice of instruction set. */
#include <stdatomic.h>
#include <stdlib.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "isa.h"

int xent_abi_version(void) {
    return XENT_ABI_VERSION;
}

/* Best first. */
typedef struct candidate {
    const isa_entry *entry;
    bool (*runs)(void);
} candidate;

static bool always(void) {
    return true;
}

#if defined(__x86_64__)
static bool has_f16c(void) { /* of which __builtin_cpu_supports knows nothing in some versions of Clang */
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma") &&
           has_f16c();
}
static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}
#endif

static const candidate candidates[] = {
#if defined(__x86_64__)
    {&xent_isa_avx512_entry, has_avx512},
    {&xent_isa_avx2_entry, has_avx2},
#elif defined(__aarch64__)
    {&xent_isa_neon_entry, always},
#endif
    {&xent_isa_baseline_entry, always},
};

enum { CANDIDATES = sizeof candidates / sizeof candidates[0] };

const char *xent_isa_name(int i) {
    for (int c = 0; i >= 0 && c < CANDIDATES; c++)
        if (candidates[c].runs() && i-- == 0)
            return candidates[c].entry->name;
    return NULL;
}

static const isa_entry *isa_by_name(const char *name) { /* NULL: the best */
    for (int c = 0; c < CANDIDATES; c++)
        if ((!name || strcmp(candidates[c].entry->name, name) == 0) && candidates[c].runs())
            return candidates[c].entry;
    return NULL;
}

/* The only state of this library besides the thread count. Set once or by xent_set_isa; two threads that race to set it
 * first set the same. */
static _Atomic(const isa_entry *) current;

const isa_entry *xent_current_isa(void) {
    const isa_entry *e = atomic_load_explicit(&current, memory_order_acquire);
    if (!e) {
        const char *name = getenv("XENT_ISA");
        e = isa_by_name(name && *name ? name : NULL);
        if (e)
            atomic_store_explicit(&current, e, memory_order_release);
    }
    return e;
}

const char *xent_get_isa(void) {
    const isa_entry *e = xent_current_isa();
    return e ? e->name : NULL;
}

xent_status xent_set_isa(const char *name) {
    const isa_entry *e = isa_by_name(name);
    if (!e)
        return XENT_ERR_ISA;
    atomic_store_explicit(&current, e, memory_order_release);
    return XENT_OK;
}
