/* runtime.h: the little of the CUDA runtime that the Python module needs by itself: whose stream waits for whose, and how long
 * an array must live that a queued kernel reads.
 *
 * Streams are numbered as DLPack numbers them: 1 is the legacy default stream, 2 the per-thread one, anything else a
 * cudaStream_t; 0, which would be ambiguous, never gets here. 1 and 2 are what CUDA itself casts to cudaStreamLegacy and
 * cudaStreamPerThread, so that every number is a handle.
 */
#ifndef XENT_CUDA_RUNTIME_H
#define XENT_CUDA_RUNTIME_H

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <cuda_runtime_api.h>

namespace runtime {

inline void check(cudaError_t error, const char *call) {
    if (error == cudaSuccess)
        return;
    cudaGetLastError(); /* reported here, so nobody else need find it */
    throw std::runtime_error(std::string(call) + ": " + cudaGetErrorName(error) + " (" + std::to_string(int(error)) +
                             "): " + cudaGetErrorString(error));
}

inline cudaStream_t handle(int64_t stream) {
    return reinterpret_cast<cudaStream_t>(static_cast<intptr_t>(stream));
}

/* The thread's current device, put back as it was. */
class OnDevice {
    int before = -1;

  public:
    explicit OnDevice(int device) {
        int current = -1;
        check(cudaGetDevice(&current), "cudaGetDevice");
        if (current != device) {
            check(cudaSetDevice(device), "cudaSetDevice");
            before = current;
        }
    }
    ~OnDevice() {
        if (before >= 0)
            cudaSetDevice(before);
    }
    OnDevice(const OnDevice &) = delete;
    OnDevice &operator=(const OnDevice &) = delete;
};

/* Another stream's capture forbids queries and allocations to every thread that does not ask to be left out of it. */
class OutsideCaptures {
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;

  public:
    OutsideCaptures() {
        cudaThreadExchangeStreamCaptureMode(&mode);
    }
    ~OutsideCaptures() {
        cudaThreadExchangeStreamCaptureMode(&mode);
    }
    OutsideCaptures(const OutsideCaptures &) = delete;
    OutsideCaptures &operator=(const OutsideCaptures &) = delete;
};

inline bool is_capturing(int64_t stream) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    check(cudaStreamIsCapturing(handle(stream), &status), "cudaStreamIsCapturing");
    return status != cudaStreamCaptureStatusNone;
}

class Event {
    struct Destroy {
        void operator()(cudaEvent_t event) const {
            cudaEventDestroy(event); /* CUDA waits with that until it has happened */
        }
    };
    std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, Destroy> event;

  public:
    Event() {
        cudaEvent_t created = nullptr;
        check(cudaEventCreateWithFlags(&created, cudaEventDisableTiming), "cudaEventCreateWithFlags");
        event.reset(created);
    }
    void record(int64_t stream) {
        check(cudaEventRecord(event.get(), handle(stream)), "cudaEventRecord");
    }
    void hold_back(int64_t stream) const {
        check(cudaStreamWaitEvent(handle(stream), event.get(), 0), "cudaStreamWaitEvent");
    }
    /* After an error nothing runs any more that could still read: that counts as passed. */
    bool passed() const {
        const cudaError_t status = cudaEventQuery(event.get());
        if (status != cudaSuccess)
            cudaGetLastError();
        return status != cudaErrorNotReady;
    }
    void wait() const {
        if (cudaEventSynchronize(event.get()) != cudaSuccess)
            cudaGetLastError();
    }
};

/* What is queued on `later` from now on runs after what is queued on `sooner` by now. The host does not wait. */
inline void order(int device, int64_t sooner, int64_t later) {
    if (sooner == later)
        return;
    OnDevice guard(device);
    Event event;
    event.record(sooner);
    event.hold_back(later);
}

/* Owners of arrays that a queued kernel reads, where the library that they came from does not know of that stream. They are
 * let go once an event behind the kernel has passed, which later calls look for. */
class Waiting {
    struct Held {
        Event event;
        std::vector<std::shared_ptr<void>> owners;
    };
    std::mutex mutex;
    std::deque<Held> queue;

  public:
    void hold(int device, int64_t stream, std::vector<std::shared_ptr<void>> owners) {
        OnDevice guard(device);
        Held held{Event(), std::move(owners)};
        held.event.record(stream);
        std::lock_guard<std::mutex> lock(mutex);
        queue.push_back(std::move(held));
    }

    /* Owners are let go outside of the lock: theirs is foreign code. */
    void sweep(bool to_the_end = false) {
        std::deque<Held> passed;
        {
            std::lock_guard<std::mutex> lock(mutex);
            if (queue.empty())
                return;
            OutsideCaptures outside;
            std::deque<Held> still;
            for (Held &held : queue) {
                if (to_the_end)
                    held.event.wait();
                (to_the_end || held.event.passed() ? passed : still).push_back(std::move(held));
            }
            queue = std::move(still);
        }
    }

    size_t size() {
        std::lock_guard<std::mutex> lock(mutex);
        return queue.size();
    }
};

} // namespace runtime
#endif
