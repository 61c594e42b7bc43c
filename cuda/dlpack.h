/* dlpack.h: the structs of the DLPack protocol, by hand from its specification (ABI version 1, and the one before it, which
 * had no version in it), and the two directions of it: taking a capsule from a producer, making one for a consumer.
 *
 * A capsule is taken in one step: everything in it is looked at first, and only a tensor that is fit for use gets its
 * capsule renamed. Until then the capsule still owns the tensor, so whatever goes wrong, its own destructor frees it, once;
 * from then on Taken does, once.
 */
#ifndef XENT_DLPACK_H
#define XENT_DLPACK_H

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>

#include <pybind11/pybind11.h>

namespace dlpack {
namespace py = pybind11;

enum DeviceType : int32_t { CPU = 1, CUDA = 2, CUDA_HOST = 3, CUDA_MANAGED = 13 };
enum TypeCode : uint8_t { INT = 0, UINT = 1, FLOAT = 2, BFLOAT = 4, COMPLEX = 5, BOOL = 6 };
constexpr uint64_t READ_ONLY = 1;        /* among the flags */
constexpr uint32_t MAJOR = 1, MINOR = 1; /* of the specification that this file was written from */

struct Version {
    uint32_t major, minor;
};

struct Device {
    int32_t type; /* 32 bits wide, so not the enum itself */
    int32_t id;
};

struct DataType {
    uint8_t code, bits;
    uint16_t lanes;
};

struct Tensor {
    void *data;
    Device device;
    int32_t ndim;
    DataType dtype;
    int64_t *shape;
    int64_t *strides; /* in elements; NULL: rows are compact, in C order */
    uint64_t byte_offset;
};

/* Of either kind: what a capsule that holds one is named, and that of one which was taken. */
struct Managed {
    static constexpr const char *FRESH = "dltensor", *USED = "used_dltensor";
    Tensor tensor;
    void *manager;
    void (*deleter)(Managed *);
};

struct ManagedVersioned {
    static constexpr const char *FRESH = "dltensor_versioned", *USED = "used_dltensor_versioned";
    Version version;
    void *manager;
    void (*deleter)(ManagedVersioned *);
    uint64_t flags;
    Tensor tensor;
};

/* Both sides compile these on their own: what counts is where things lie. */
static_assert(sizeof(Tensor) == 48 && offsetof(Tensor, device) == 8 && offsetof(Tensor, ndim) == 16 &&
              offsetof(Tensor, dtype) == 20 && offsetof(Tensor, shape) == 24 && offsetof(Tensor, byte_offset) == 40);
static_assert(sizeof(Managed) == 64 && offsetof(Managed, manager) == 48 && offsetof(Managed, deleter) == 56);
static_assert(sizeof(ManagedVersioned) == 80 && offsetof(ManagedVersioned, manager) == 8 &&
              offsetof(ManagedVersioned, flags) == 24 && offsetof(ManagedVersioned, tensor) == 32);

template <class M> constexpr bool HAS_VERSION = std::is_same_v<M, ManagedVersioned>;

/* A tensor whose capsule we have used: to be freed when the last who needs it is gone. */
struct Taken {
    Tensor tensor;
    bool read_only;
    std::shared_ptr<void> owner;
};

/* A producer's deleter may be Python code, and may be called while an exception is on its way. */
template <class M> void release(M *managed) {
    if (!managed->deleter)
        return;
    py::gil_scoped_acquire gil;
    py::error_scope keep;
    managed->deleter(managed);
}

inline std::string words(Device device) {
    return "(" + std::to_string(device.type) + ", " + std::to_string(device.id) + ")";
}

inline void check(const Tensor &t, Device promised) {
    if (t.device.type != promised.type || t.device.id != promised.id)
        throw py::buffer_error("__dlpack__ gave a tensor on device " + words(t.device) + ", __dlpack_device__ said " +
                               words(promised));
    if (t.ndim < 0 || (t.ndim > 0 && !t.shape))
        throw py::buffer_error("a DLPack tensor of " + std::to_string(t.ndim) + " dimensions" +
                               (t.ndim > 0 ? " without a shape" : ""));
    if (t.dtype.lanes != 1)
        throw py::buffer_error("a DLPack tensor with " + std::to_string(t.dtype.lanes) +
                               " lanes an element; only 1 can be read");
    if (t.dtype.bits == 0 || t.dtype.bits % 8 != 0)
        throw py::buffer_error("a DLPack tensor of " + std::to_string(t.dtype.bits) + "-bit elements, not whole bytes");
    bool empty = false;
    for (int32_t d = 0; d < t.ndim; d++) {
        if (t.shape[d] < 0)
            throw py::buffer_error("a DLPack tensor with extent " + std::to_string(t.shape[d]) + " in dimension " +
                                   std::to_string(d));
        empty = empty || t.shape[d] == 0;
    }
    if (!t.data && !empty)
        throw py::buffer_error("a DLPack tensor with elements but without data");
}

template <class M> Taken take_as(PyObject *capsule, Device promised) {
    auto *managed = static_cast<M *>(PyCapsule_GetPointer(capsule, M::FRESH));
    bool read_only = false;
    if (!managed)
        throw py::error_already_set();
    if constexpr (HAS_VERSION<M>) {
        const Version &version = managed->version;
        if (version.major != MAJOR)
            throw py::buffer_error("a DLPack tensor of version " + std::to_string(version.major) + "." +
                                   std::to_string(version.minor) + " cannot be read; version " + std::to_string(MAJOR) +
                                   " and the unversioned one can");
        read_only = (managed->flags & READ_ONLY) != 0;
    }
    check(managed->tensor, promised);
    if (PyCapsule_SetName(capsule, M::USED) != 0)
        throw py::error_already_set();
    return {managed->tensor, read_only, std::shared_ptr<void>(managed, release<M>)};
}

/* The tensor in a fresh capsule; BufferError for anything else. */
inline Taken take(py::handle capsule, Device promised) {
    PyObject *c = capsule.ptr();
    if (PyCapsule_IsValid(c, ManagedVersioned::FRESH))
        return take_as<ManagedVersioned>(c, promised);
    if (PyCapsule_IsValid(c, Managed::FRESH))
        return take_as<Managed>(c, promised);
    if (!PyCapsule_CheckExact(c))
        throw py::buffer_error("__dlpack__ returned no capsule but " + std::string(py::str(py::type::of(capsule))));
    const char *name = PyCapsule_GetName(c);
    if (!name)
        PyErr_Clear();
    throw py::buffer_error(std::string("a DLPack capsule named ") + (name ? name : "NULL") +
                           " holds no tensor to take; \"dltensor\" and \"dltensor_versioned\" do");
}

/* What a producer asks __dlpack__ for: the newest version first, and again without where the producer is too old to know
 * the keyword. Only the TypeError that says so is an answer to that; any other is the producer's own. */
inline py::object ask(py::handle producer, int64_t stream) {
    py::object method = producer.attr("__dlpack__");
    try {
        return method(py::arg("stream") = stream, py::arg("max_version") = py::make_tuple(MAJOR, MINOR));
    } catch (py::error_already_set &error) {
        if (!error.matches(PyExc_TypeError) ||
            std::string(py::str(error.value())).find("max_version") == std::string::npos)
            throw;
    }
    return method(py::arg("stream") = stream);
}

/* ---- the producer's side ---- */

/* A tensor on its way out: it, its extents, and what keeps its memory. */
template <class M> struct Parcel {
    M managed;
    std::shared_ptr<void> memory;
    std::unique_ptr<int64_t[]> extents;
};

/* A capsule of its name; whoever renames it must call the deleter, else its destructor does. The deleter may be called by any
 * thread, with or without the GIL. */
template <class M> py::capsule make(const Tensor &tensor, std::shared_ptr<void> memory) {
    auto parcel = std::make_unique<Parcel<M>>();
    const auto n = static_cast<size_t>(tensor.ndim);
    parcel->extents = std::make_unique<int64_t[]>(2 * n + 1); /* one more: shape is never NULL, not even of a scalar */
    std::copy_n(tensor.shape, n, parcel->extents.get());
    std::copy_n(tensor.strides, n, parcel->extents.get() + n);
    parcel->memory = std::move(memory);
    parcel->managed.tensor = tensor;
    parcel->managed.tensor.shape = parcel->extents.get();
    parcel->managed.tensor.strides = parcel->extents.get() + n;
    parcel->managed.manager = parcel.get();
    parcel->managed.deleter = [](M *managed) { delete static_cast<Parcel<M> *>(managed->manager); };
    if constexpr (HAS_VERSION<M>)
        parcel->managed.version = {MAJOR, MINOR};
    PyObject *capsule = PyCapsule_New(&parcel->managed, M::FRESH, [](PyObject *c) {
        if (!PyCapsule_IsValid(c, M::FRESH))
            return; /* somebody took it */
        auto *managed = static_cast<M *>(PyCapsule_GetPointer(c, M::FRESH));
        managed->deleter(managed);
    });
    if (!capsule)
        throw py::error_already_set();
    parcel.release();
    return py::reinterpret_steal<py::capsule>(capsule);
}

} // namespace dlpack
#endif
