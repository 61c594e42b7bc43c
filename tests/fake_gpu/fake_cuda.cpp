/* A CUDA that is none: its memory is the host's, its kernels are libxent's, and its streams run at once. What was asked of it
 * is written down in order, for the tests to read; what it answers is theirs to set. */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <string>

#include <xent_cuda.h>

#include "cuda_runtime_api.h"

namespace {

std::recursive_mutex mutex;
std::string notes;
std::set<void *> memory;
thread_local int current_device = 0;
int next_event = 100, next_stream = 5000;

template <class... Values> void note(const char *format, Values... values) {
    char line[200];
    snprintf(line, sizeof line, format, values...);
    std::lock_guard<std::recursive_mutex> lock(mutex);
    notes += line;
    notes += '\n';
}

long number(const void *handle) {
    return static_cast<long>(reinterpret_cast<intptr_t>(handle));
}

} // namespace

extern "C" {
#pragma GCC visibility push(default)
int fake_devices = 2, fake_driver = 13000, fake_runtime = 13000;
int fake_capturing = 0; /* the stream that is */
int fake_events_pending = 0;
int fake_pointer_type = cudaMemoryTypeDevice, fake_pointer_device = 0;
int fake_fail_run = 0;
size_t fake_workspace = 64;
int fake_bad_label = 0;
int64_t fake_bad_row = 0, fake_bad_value = 0;
xent_status (*fake_kernels)(xent_request *) = nullptr; /* xent_run and xent_scratch_size */
xent_status (*fake_scratch)(const xent_request *, size_t *) = nullptr;

const char *fake_notes(void) {
    return notes.c_str();
}
void fake_forget(void) {
    notes.clear();
}
size_t fake_allocations(void) {
    return memory.size();
}
#pragma GCC visibility pop
}

cudaError_t cudaGetDevice(int *device) {
    *device = current_device;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= fake_devices)
        return cudaErrorInvalidDevice;
    note("device %d", device);
    current_device = device;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void) {
    return cudaSuccess;
}

const char *cudaGetErrorName(cudaError_t error) {
    return error == cudaErrorInvalidDevice ? "cudaErrorInvalidDevice" : "cudaErrorFake";
}

const char *cudaGetErrorString(cudaError_t) {
    return "as the test asked for";
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    *event = reinterpret_cast<cudaEvent_t>(static_cast<intptr_t>(next_event++));
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t) {
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    note("record %ld on %ld", number(event), number(stream));
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t) {
    return fake_events_pending ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    note("wait for %ld", number(event));
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    note("%ld waits for %ld", number(stream), number(event));
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status) {
    *status = number(stream) == fake_capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    *stream = reinterpret_cast<cudaStream_t>(static_cast<intptr_t>(next_stream++));
    return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *) {
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *) {
    *attributes = {static_cast<cudaMemoryType>(fake_pointer_type), fake_pointer_device};
    return cudaSuccess;
}

cudaError_t cudaMallocAsync(void **pointer, size_t size, cudaStream_t stream) {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    *pointer = std::malloc(size);
    memory.insert(*pointer);
    note("allocate %zu on %ld", size, number(stream));
    return cudaSuccess;
}

cudaError_t cudaFreeAsync(void *pointer, cudaStream_t stream) {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    if (!memory.erase(pointer))
        std::abort(); /* never allocated, or freed twice */
    std::free(pointer);
    note("free on %ld", number(stream));
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind, cudaStream_t) {
    std::memcpy(to, from, size);
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void) {
    note("synchronize");
    return cudaSuccess;
}

/* ---- xent_cuda.h ---- */

void xent_cuda_launch_init(xent_cuda_launch *launch) {
    *launch = xent_cuda_launch{};
    launch->struct_size = sizeof *launch;
}

xent_status xent_cuda_workspace_size(const xent_request *, int, size_t *size) {
    *size = fake_workspace;
    return XENT_OK;
}

xent_status xent_cuda_run(const xent_request *request, const xent_cuda_launch *launch) {
    if (launch->struct_size != sizeof *launch || request->struct_size != sizeof *request ||
        launch->workspace_size < fake_workspace || (fake_workspace > 0 && !launch->workspace))
        return XENT_ERR_SCRATCH;
    note("run on GPU %d, stream %ld", launch->device, number(launch->stream));
    if (fake_fail_run)
        return static_cast<xent_status>(fake_fail_run);
    xent_request copy = *request;
    xent_status status = fake_scratch(&copy, &copy.scratch_size);
    if (status != XENT_OK)
        return status;
    copy.scratch = std::malloc(copy.scratch_size + 1);
    status = fake_kernels(&copy);
    std::free(copy.scratch);
    fake_bad_label = status == XENT_ERR_LABEL;
    fake_bad_row = copy.bad_row;
    fake_bad_value = copy.bad_label;
    return fake_bad_label ? XENT_OK : status;
}

xent_status xent_cuda_prepare(int device) {
    if (device < 0 || device >= fake_devices)
        return XENT_ERR_DEVICE;
    note("prepare %d", device);
    return XENT_OK;
}

xent_status xent_cuda_check_labels(const xent_cuda_launch *launch, int64_t *bad_row, int64_t *bad_label) {
    note("check labels on %ld", number(launch->stream));
    *bad_row = fake_bad_row;
    *bad_label = fake_bad_value;
    return fake_bad_label ? XENT_ERR_LABEL : XENT_OK;
}

const char *xent_cuda_error(void) {
    return "cudaErrorFake (999): as the test asked for";
}

int xent_cuda_device_count(int *driver_version, int *runtime_version) {
    *driver_version = fake_driver;
    *runtime_version = fake_runtime;
    return fake_devices;
}

xent_status xent_cuda_device_info(int device, xent_cuda_device *info) {
    if (device < 0 || device >= fake_devices)
        return XENT_ERR_DEVICE;
    snprintf(info->name, sizeof info->name, "Fake GPU %d", device);
    info->major = 9;
    info->minor = 0;
    info->multiprocessors = 132;
    return XENT_OK;
}
