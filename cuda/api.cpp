/* api.cpp: the C interface: a request, checked whole before anything is queued, becomes a job, a plan and its launches.
 * */
#include "../kernels/check.h"
#include "launch.h"
#include "table.h"

#include <atomic>
#include <cmath>
#include <cstdio>

namespace xent {

/* ---- devices ---- */
static thread_local char message[512] = "no error";

#if defined(XENT_CUDA_HOST)

enum { HOST_MULTIPROCESSORS = 4 };

static xent_status facts_of(int device, device_facts *facts) {
    *facts = {HOST_MULTIPROCESSORS, xent_host::clusters()};
    snprintf(message, sizeof message, "the host stands for device 0 alone");
    return device == 0 ? XENT_OK : XENT_ERR_DEVICE;
}

struct on_device {
    xent_status status;
    explicit on_device(int device) : status(device == 0 ? XENT_OK : XENT_ERR_DEVICE) {
    }
};

static xent_status copy_here(void *to, const void *from, size_t bytes, void *) {
    memcpy(to, from, bytes);
    return XENT_OK;
}

#else

xent_status said(cudaError_t e) {
    if (e == cudaSuccess)
        return XENT_OK;
    snprintf(message, sizeof message, "%s (%d): %s", cudaGetErrorName(e), int(e), cudaGetErrorString(e));
    (void)cudaGetLastError(); /* or the next call of someone else reports it again */
    switch (e) {
    case cudaErrorInvalidDevice:
    case cudaErrorNoDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInsufficientDriver:
        return XENT_ERR_DEVICE;
    default:
        return XENT_ERR_CUDA;
    }
}

/* The calling thread's current device, for a while. */
struct on_device {
    int before = -1, now;
    xent_status status;
    explicit on_device(int device) : now(device), status(said(cudaGetDevice(&before))) {
        if (status == XENT_OK && before != now)
            status = said(cudaSetDevice(now));
    }
    ~on_device() {
        if (before >= 0 && before != now)
            (void)cudaSetDevice(before);
    }
    on_device(const on_device &) = delete;
    on_device &operator=(const on_device &) = delete;
};

enum { KNOWN_DEVICES = 64, FIRST_WITH_CLUSTERS = 90 };

static xent_status facts_of(int device, device_facts *facts) {
    static std::atomic<device_facts> known[KNOWN_DEVICES];
    const bool keeps = device >= 0 && device < KNOWN_DEVICES;
    *facts = keeps ? known[device].load(std::memory_order_relaxed) : device_facts();
    if (facts->multiprocessors > 0)
        return XENT_OK;
    int made_for = 0;
    xent_status s = said(cudaDeviceGetAttribute(&facts->multiprocessors, cudaDevAttrMultiProcessorCount, device));
    if (s != XENT_OK)
        return s;
    const on_device guard(device);
    s = guard.status != XENT_OK ? guard.status : kernels_COMMON_F32()->start_note.load(&made_for);
    facts->clusters = made_for >= FIRST_WITH_CLUSTERS;
    if (s == XENT_OK && keeps)
        known[device].store(*facts, std::memory_order_relaxed);
    return s;
}

static xent_status copy_here(void *to, const void *from, size_t bytes, void *stream) {
    const xent_status s =
        said(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, static_cast<cudaStream_t>(stream)));
    return s != XENT_OK ? s : said(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)));
}

#endif

/* ---- a job ---- */
/* The operands; and neighbouring batch dimensions that every operand steps through evenly become one. */
static xent_status set_operands(const xent_request *req, const op_entry &op, job *j) {
    const bool value_rows = op.value != VALUE_NONE && req->reduction == XENT_NONE;
    const struct {
        operand *o;
        const xent_view &view;
        bool used, per_row, has_classes;
    } all[] = {{&j->x, req->logits, true, true, true},
               {&j->t, req->target, op.target != XENT_TARGET_NONE, true, true},
               {&j->value, req->value, value_rows, true, false},
               {&j->out, req->out, op.emit != EMIT_NONE, req->reduction != XENT_PER_CLASS, true},
               {&j->where, req->where, true, true, true},
               {&j->weight, req->sample_weight, true, true, false},
               {&j->temperature, req->temperature, true, true, false},
               {&j->class_weight, req->class_weight, true, false, true},
               {&j->pos_weight, req->pos_weight, true, false, true}};
    for (const auto &a : all)
        if (a.used) {
            a.o->data = static_cast<char *>(a.view.data);
            a.o->dtype = a.view.dtype;
            a.o->size = xent_dtype_size(a.view.dtype);
            /* of one class a stride means nothing */
            a.o->cs = a.has_classes && j->classes > 1 ? a.view.class_stride : a.o->size;
        }
    for (int d = 0; d < req->ndim; d++) {
        if (req->shape[d] == 1)
            continue;
        const int last = j->ndim - 1;
        bool join = j->ndim > 0;
        for (const auto &a : all)
            if (join && a.o->data && a.per_row)
                join = a.o->rs[last] == a.view.strides[d] * req->shape[d];
        const int at = join ? last : j->ndim;
        if (at >= MAX_NDIM)
            return XENT_ERR_SHAPE;
        j->shape[at] = join ? j->shape[at] * req->shape[d] : req->shape[d];
        for (const auto &a : all)
            a.o->rs[at] = a.o->data && a.per_row ? a.view.strides[d] : 0;
        j->ndim = at + 1;
    }
    return XENT_OK;
}

static bool is_native(const operand &o, int stored) {
    return !o.data || o.dtype == stored;
}
static bool is_contiguous(const operand &o) {
    return !o.data || o.cs == o.size;
}

struct prepared {
    job j;
    facts f;
    plan p;
    const op_kernels *kernels;
    const common_kernels *common;
};

static const op_kernels *kernels_of(int op, int stored) {
    switch (op) {
#define XENT_ONE(REDUCE, M)                                                                                            \
    if (stored == XENT_##M)                                                                                            \
        return kernels_##REDUCE##_##M(op);
#define OP(name, REDUCE, TARGET, VALUE, EMIT)                                                                          \
    case OP_##name:                                                                                                    \
        XENT_ARITHMETICS(XENT_ONE, REDUCE)                                                                             \
        break;
#include "../kernels/ops.def"
#undef OP
#undef XENT_ONE
    }
    return nullptr;
}

static xent_status prepare(const xent_request *req, int device, prepared *out) {
    facts &f = out->f = facts();
    xent_status s = !req || req->struct_size != sizeof *req ? XENT_ERR_OPTION : xent_check(req, XENT_ON_DEVICE);
    if (s == XENT_OK)
        s = facts_of(device, &f);
    if (s != XENT_OK)
        return s;
    const op_entry &op = ops[req->op];
    job &j = out->j = job();
    j.rows = 1;
    for (int d = 0; d < req->ndim; d++)
        j.rows *= req->shape[d];
    j.classes = req->classes;
    s = set_operands(req, op, &j);
    if (s != XENT_OK)
        return s;
    for (int d = 0; d < j.ndim; d++)
        j.by_shape[d] = divider_of(j.shape[d]);
    j.has_labels = xent_has_labels(&op, req->target.dtype);
    j.has_ignore = req->has_ignore_index != 0;
    j.ignore_index = req->ignore_index;
    j.smooths = req->label_smoothing > 0.0;
    j.label_smoothing = req->label_smoothing;
    j.unsmoothed = 1.0 - req->label_smoothing;
    j.uniform = j.classes > 0 ? req->label_smoothing / double(j.classes) : 0.0;
    j.grad_scale = req->grad_scale;
    xent_mix(req->beta, &j.mixture);
    j.tau = xent_dtype_eps(req->target.dtype, req->compute == XENT_F32) * (4.0 + std::sqrt(double(j.classes)));
    j.divisor = req->reduction == XENT_MEAN ? double(j.rows) : 1.0;
    j.weighs_by_label = j.has_labels && j.class_weight.data;

    const bool folds = xent_folds(op.reduce);
    const bool reads_x = folds || op.target == XENT_TARGET_POINT;
    const bool reads_t = reads_target(op) && !j.has_labels;
    const operand none = {};
    const operand &x = reads_x ? j.x : none, &t = reads_t ? j.t : none;
    const operand &o = req->reduction == XENT_PER_CLASS ? none : j.out;
    /* Quick arithmetic, where all that is as long as a row has 16 bits. */
    int stored = req->compute;
    const int half = req->logits.dtype;
    if (stored == XENT_F32 && (half == XENT_F16 || half == XENT_BF16) && is_native(x, half) && is_native(t, half) &&
        is_native(j.out, half))
        stored = half;
    const bool by_class = op.target == XENT_TARGET_PROBS && (j.has_labels || j.smooths || j.class_weight.data);
    const bool simple = !j.where.data && !by_class && !j.pos_weight.data && is_native(x, stored) &&
                        is_native(t, stored) && is_native(o, stored);
    const bool packed = is_contiguous(x) && is_contiguous(t) && is_contiguous(o);
    f.op = &op;
    f.is_f64 = stored == XENT_F64;
    f.rows = j.rows;
    f.classes = j.classes;
    f.access = !simple ? ANY : packed ? PACKS : STRIDED;
    f.contiguous = packed;
    f.reduction = req->reduction;
    f.has_labels = j.has_labels;
    f.weighs = j.weight.data || j.where.data || j.has_ignore || j.weighs_by_label;
    f.scales = j.class_weight.data && op.target == XENT_TARGET_PROBS && stored != XENT_F64;
    j.weighs = j.weight.data || j.class_weight.data;
    /* As in kernels/math/js_again.h: 64 eps of a divergence is at least this much in the largest class. */
    j.js_gap =
        std::fmin(std::sqrt(512.0 * xent_dtype_eps(req->compute, req->compute == XENT_F32) * double(j.classes)), 0.1);
    out->kernels = kernels_of(req->op, stored);
    out->common = stored == XENT_F64 ? kernels_COMMON_F64() : kernels_COMMON_F32();
    f.state_reals = out->kernels->state_reals;
    f.result_reals = out->kernels->result_reals;
    const plan &p = out->p = make_plan(f);
    j.pieces = p.row_pieces.count;
    j.piece = p.row_pieces.classes;
    j.by_rows = divider_of(j.rows);
    j.by_tiles = divider_of(ceil_div(j.classes, CLASSES_A_BLOCK));
    j.split = p.split;
    j.chunks = p.chunks;
    j.chunk_rows = p.chunk_rows;
    j.to_workspace = p.sums;
    return XENT_OK;
}

/* ---- launches ---- */
/* A request's kernels, queued in order; none after one that failed. */
struct queue {
    prepared &r;
    void *stream;
    xent_status status;

    template <class ARGS> void launch(const kernel<ARGS> &k, const ARGS &a, int64_t blocks) {
        if (status == XENT_OK)
            status = k.launch(a, blocks, stream);
    }
    void launch_rows(regime which, mode_kind mode, int64_t blocks) {
        r.j.mode = mode;
        launch(r.kernels->at[which], r.j, blocks);
    }
};

/* Numbers in two parts, one a row, to one. */
static void add_rows(queue &q, void *partials, void *to, int dtype, const void *divisor) {
    const prepared &r = q.r;
    q.launch(r.common->add_up, {r.j.values, r.j.rows, partials, XENT_NO_DTYPE, nullptr, 0.0}, r.p.sum_blocks);
    q.launch(r.common->add_up, {partials, r.p.sum_blocks, to, dtype, divisor, r.j.divisor}, 1);
}

static void queue_rows(queue &q) {
    const plan &p = q.r.p;
    if (!p.split) {
        q.launch_rows(p.rows, p.per_class ? MODE_RESULTS : MODE_ALL, p.blocks);
        return;
    }
    const int64_t rows = blocks_for(q.r.j.rows, 1);
    q.launch_rows(p.rows, MODE_FOLD, p.blocks);
    q.launch_rows(MERGE, MODE_ALL, rows);
    if (q.r.f.op->reduce == REDUCE_JS)
        for (mode_kind mode : {MODE_FOLD_JS, MODE_FOLD_GAP, MODE_FOLD_JS}) { /* the last two of rows that are near */
            q.launch_rows(p.rows, mode, p.blocks);
            q.launch_rows(MERGE_JS, mode, rows);
        }
    if (q.r.f.op->emit != EMIT_NONE && !p.per_class)
        q.launch_rows(p.rows, MODE_EMIT, p.blocks);
}

static xent_status queue_all(prepared &r, const xent_request *req, char *workspace, void *stream) {
    job &j = r.j;
    const plan &p = r.p;
    queue q = {r, stream, XENT_OK};
    void *partials = p.sums ? workspace + p.partial_sums : nullptr;
    if (j.has_labels) {
        j.notes = reinterpret_cast<note *>(workspace);
        q.launch(r.common->start_note, j, 1);
    }
    j.states = p.split ? workspace + p.states : nullptr;
    j.results = workspace + p.results;
    j.values = p.sums || p.weighs ? workspace + p.values : nullptr;
    if (r.f.scales) {
        j.class_scale = reinterpret_cast<const double *>(workspace + p.class_scale);
        q.launch(r.common->scale_classes, j, 1);
    }
    if (p.weighs) {
        void *total = workspace + p.total_weight;
        q.launch(r.common->weigh_rows, j, blocks_for(j.rows, team<WARP, 256>::groups));
        add_rows(q, partials, total, XENT_NO_DTYPE, nullptr);
        j.total_weight = total;
    }
    if ((j.classes > 0 || r.f.op->value != VALUE_NONE) && j.rows > 0)
        queue_rows(q);
    if (p.per_class && j.classes > 0) {
        if (j.rows > 0) {
            j.partials = workspace + p.class_partials;
            q.launch_rows(CLASS_SUMS, MODE_ALL, p.class_blocks);
        }
        q.launch(r.common->class_totals, j, blocks_for(j.classes, class_block::lanes));
    }
    if (p.sums)
        add_rows(q, partials, req->value.data, req->value.dtype, j.total_weight);
    return q.status;
}

static xent_status load_all() {
    int made_for;
    xent_status s = XENT_OK;
    const auto load = [&](const auto &kernel) {
        if (s == XENT_OK && kernel.load)
            s = kernel.load(&made_for);
    };
    for (const common_kernels *c : {kernels_COMMON_F32(), kernels_COMMON_F64()}) {
        load(c->weigh_rows);
        load(c->class_totals);
        load(c->scale_classes);
        load(c->start_note);
        load(c->add_up);
    }
    for (int op = 0; op < OPERATIONS; op++)
        for (int stored : {XENT_F16, XENT_BF16, XENT_F32, XENT_F64})
            for (const kernel<job> &k : kernels_of(op, stored)->at)
                load(k);
    return s;
}

} // namespace xent

/* ---- the interface ---- */
using namespace xent;

void xent_cuda_launch_init(xent_cuda_launch *launch) {
    *launch = xent_cuda_launch();
    launch->struct_size = sizeof *launch;
}

xent_status xent_cuda_workspace_size(const xent_request *req, int device, size_t *size) {
    prepared r;
    const xent_status s = prepare(req, device, &r);
    *size = s == XENT_OK ? r.p.size : 0;
    return s;
}

xent_status xent_cuda_run(const xent_request *req, const xent_cuda_launch *launch) {
    prepared r;
    if (!launch || launch->struct_size != sizeof *launch)
        return XENT_ERR_OPTION;
    const xent_status s = prepare(req, launch->device, &r);
    if (s != XENT_OK)
        return s;
    if (r.p.size > (launch->workspace ? launch->workspace_size : 0) ||
        (r.p.size > 0 && uintptr_t(launch->workspace) % 256))
        return XENT_ERR_SCRATCH;
    const on_device guard(launch->device);
    if (guard.status != XENT_OK)
        return guard.status;
    return queue_all(r, req, static_cast<char *>(launch->workspace), launch->stream);
}

xent_status xent_cuda_prepare(int device) {
    device_facts facts;
    const xent_status s = facts_of(device, &facts);
    if (s != XENT_OK)
        return s;
    const on_device guard(device);
    return guard.status != XENT_OK ? guard.status : load_all();
}

xent_status xent_cuda_check_labels(const xent_cuda_launch *launch, int64_t *bad_row, int64_t *bad_label) {
    note n;
    if (!launch || launch->struct_size != sizeof *launch)
        return XENT_ERR_OPTION;
    if (!launch->workspace || launch->workspace_size < sizeof n)
        return XENT_ERR_SCRATCH;
    const on_device guard(launch->device);
    xent_status s = guard.status;
    if (s == XENT_OK)
        s = copy_here(&n, launch->workspace, sizeof n, launch->stream);
    if (s != XENT_OK || n.bad_row == INT64_MAX)
        return s;
    alignas(8) char label[8] = {};
    const place_in_batch at = find_row(n.shape, n.ndim, n.bad_row);
    s = copy_here(label, n.labels.data + offset_of(n.labels, at), size_t(n.labels.size), launch->stream);
    if (s != XENT_OK)
        return s;
    *bad_row = n.bad_row;
    *bad_label = load_label(label, n.labels.dtype);
    return XENT_ERR_LABEL;
}

const char *xent_cuda_error(void) {
    return message;
}

#if defined(XENT_CUDA_HOST)

int xent_cuda_device_count(int *driver_version, int *runtime_version) {
    if (driver_version)
        *driver_version = 0;
    if (runtime_version)
        *runtime_version = 0;
    return 1;
}

xent_status xent_cuda_device_info(int device, xent_cuda_device *info) {
    if (!info || info->struct_size != sizeof *info)
        return XENT_ERR_OPTION;
    *info = xent_cuda_device();
    info->struct_size = sizeof *info;
    snprintf(info->name, sizeof info->name, "host");
    device_facts facts;
    const xent_status s = facts_of(device, &facts);
    info->multiprocessors = facts.multiprocessors;
    return s;
}

#else

int xent_cuda_device_count(int *driver_version, int *runtime_version) {
    int count = 0, driver = 0, runtime = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess)
        driver = 0;
    if (cudaRuntimeGetVersion(&runtime) != cudaSuccess)
        runtime = 0;
    if (driver_version)
        *driver_version = driver;
    if (runtime_version)
        *runtime_version = runtime;
    return said(cudaGetDeviceCount(&count)) == XENT_OK ? count : 0;
}

xent_status xent_cuda_device_info(int device, xent_cuda_device *info) {
    if (!info || info->struct_size != sizeof *info)
        return XENT_ERR_OPTION;
    cudaDeviceProp prop;
    const xent_status s = said(cudaGetDeviceProperties(&prop, device));
    if (s != XENT_OK)
        return s;
    const struct {
        cudaDeviceAttr which;
        int *to;
    } each[] = {{cudaDevAttrClockRate, &info->clock_khz},
                {cudaDevAttrMemoryClockRate, &info->memory_clock_khz},
                {cudaDevAttrGlobalMemoryBusWidth, &info->memory_bus_bits},
                {cudaDevAttrMaxSharedMemoryPerBlockOptin, &info->shared_per_block}};
    *info = xent_cuda_device();
    info->struct_size = sizeof *info;
    snprintf(info->name, sizeof info->name, "%s", prop.name);
    info->major = prop.major;
    info->minor = prop.minor;
    info->multiprocessors = prop.multiProcessorCount;
    info->l2_bytes = prop.l2CacheSize;
    info->memory_bytes = prop.totalGlobalMem;
    for (const auto &e : each) {
        const xent_status t = said(cudaDeviceGetAttribute(e.to, e.which, device));
        if (t != XENT_OK)
            return t;
    }
    return XENT_OK;
}

#endif
