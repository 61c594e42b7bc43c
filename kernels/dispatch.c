/* dispatch.c: the table of operations, the choice of instruction set, and the public entry points. */
#include <stdatomic.h>
#include <stdlib.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "internal.h"
#include "plan.h"

static const op_entry ops[] = {
#define OP(name, R, T, V, E) {#name, REDUCE_##R, XENT_TARGET_##T, VALUE_##V, EMIT_##E},
#include "ops.def"
#undef OP
};

static const xent_op_info infos[] = {
#define OP(name, R, T, V, E) {#name, XENT_TARGET_##T, VALUE_##V != VALUE_NONE, EMIT_##E != EMIT_NONE},
#include "ops.def"
#undef OP
};

enum { OPS = sizeof ops / sizeof ops[0] };

const op_entry *xent_op_at(int op) {
    return op >= 0 && op < OPS ? &ops[op] : NULL;
}

const xent_op_info *xent_ops(int *count) {
    if (count)
        *count = OPS;
    return infos;
}

int xent_find_op(const char *name) {
    for (int i = 0; name && i < OPS; i++)
        if (strcmp(ops[i].name, name) == 0)
            return i;
    return -1;
}

int xent_abi_version(void) {
    return XENT_ABI_VERSION;
}

const char *xent_strerror(xent_status status) {
    switch (status) {
    case XENT_OK:
        return "success";
    case XENT_ERR_OP:
        return "no such operation, or none that can be done this way";
    case XENT_ERR_DTYPE:
        return "an operand has a dtype that the operation does not take";
    case XENT_ERR_NULL:
        return "an operand that the operation needs is missing";
    case XENT_ERR_SHAPE:
        return "an extent is negative or huge, or there are too many dimensions";
    case XENT_ERR_OPTION:
        return "an option does not go with the operation, or its value is out of range";
    case XENT_ERR_REDUCTION:
        return "the reduction does not go with the operation";
    case XENT_ERR_LABEL:
        return "a label is out of range";
    case XENT_ERR_SCRATCH:
        return "the scratch is too small";
    case XENT_ERR_ISA:
        return "the instruction set is unknown, or not supported by this processor or build";
    case XENT_ERR_REQUEST:
        return "the request is not one that xent_request_init of this version has filled";
    case XENT_ERR_STATE:
        return "the states are none, or not of this operation, dtype and version";
    case XENT_ERR_CUDA:
        return "a CUDA call failed";
    case XENT_ERR_DEVICE:
        return "no such CUDA device, or one that this build has no code for";
    }
    return "unknown status";
}

/* ---- instruction sets, best first ---- */
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

/* ---- requests ---- */
void xent_request_init(xent_request *req) {
    if (!req)
        return;
    memset(req, 0, sizeof *req);
    req->struct_size = sizeof *req;
    req->grad_scale = 1.0;
}

xent_status xent_scratch_size(const xent_request *req, size_t *size) {
    xent_job job;
    xent_status status = xent_make_job(req, &job);
    if (status != XENT_OK)
        return status;
    if (!size)
        return XENT_ERR_NULL;
    *size = xent_job_scratch(&job, req);
    return XENT_OK;
}

xent_status xent_run(xent_request *req) {
    const isa_entry *isa = xent_current_isa();
    xent_job job;
    xent_status status;
    if (!isa)
        return XENT_ERR_ISA;
    status = xent_make_job(req, &job);
    if (status != XENT_OK)
        return status;
    /* before labels and weights are read: callers may ask for the size only then */
    if (xent_job_scratch(&job, req) > (req->scratch ? req->scratch_size : 0))
        return XENT_ERR_SCRATCH;
    status = xent_read_job(req, &job);
    if (status != XENT_OK)
        return status;
    xent_do_job(&job, req, isa);
    return XENT_OK;
}

/* ---- without scratch, or with less ---- */
void xent_do_with_what_there_is(xent_job *job, xent_request *req, const isa_entry *isa) {
    job->shares_no_row = xent_job_scratch(job, req) > (req->scratch ? req->scratch_size : 0);
    xent_do_job(job, req, isa);
}

xent_status xent_run_with_what_there_is(xent_request *req) {
    const isa_entry *isa = xent_current_isa();
    xent_job job;
    xent_status status;
    if (!isa)
        return XENT_ERR_ISA;
    status = xent_make_job(req, &job);
    if (status == XENT_OK)
        status = xent_read_job(req, &job);
    if (status == XENT_OK)
        xent_do_with_what_there_is(&job, req, isa);
    return status;
}
