/* arrays.h: arrays on a GPU as the module sees them. Array is somebody's, taken by DLPack or __cuda_array_interface__; Owned
 * is one of ours, for the libraries that can take memory but not be asked for it, and a producer of both protocols.
 */
#ifndef XENT_CUDA_ARRAYS_H
#define XENT_CUDA_ARRAYS_H

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <xent.h>

#include "dlpack.h"
#include "runtime.h"

namespace py = pybind11;

using Extents = std::vector<ptrdiff_t>;

struct Dtype {
    xent_dtype id; /* XENT_NO_DTYPE: one that no operation takes */
    std::string name;
    dlpack::DataType dlpack;
    std::string typestr; /* "": __cuda_array_interface__ has none */

    ptrdiff_t size() const {
        return dlpack.bits / 8;
    }
};

inline const Dtype KNOWN_DTYPES[] = {
    {XENT_F16, "float16", {dlpack::FLOAT, 16, 1}, "<f2"}, {XENT_BF16, "bfloat16", {dlpack::BFLOAT, 16, 1}, ""},
    {XENT_F32, "float32", {dlpack::FLOAT, 32, 1}, "<f4"}, {XENT_F64, "float64", {dlpack::FLOAT, 64, 1}, "<f8"},
    {XENT_BOOL, "bool", {dlpack::BOOL, 8, 1}, "|b1"},     {XENT_I8, "int8", {dlpack::INT, 8, 1}, "|i1"},
    {XENT_I16, "int16", {dlpack::INT, 16, 1}, "<i2"},     {XENT_I32, "int32", {dlpack::INT, 32, 1}, "<i4"},
    {XENT_I64, "int64", {dlpack::INT, 64, 1}, "<i8"},     {XENT_U8, "uint8", {dlpack::UINT, 8, 1}, "|u1"},
    {XENT_U16, "uint16", {dlpack::UINT, 16, 1}, "<u2"},   {XENT_U32, "uint32", {dlpack::UINT, 32, 1}, "<u4"},
    {XENT_U64, "uint64", {dlpack::UINT, 64, 1}, "<u8"},
};

/* The dtype of which something is true, or NULL. */
template <class F> const Dtype *find_dtype(F is_it) {
    const Dtype *found = std::find_if(std::begin(KNOWN_DTYPES), std::end(KNOWN_DTYPES), is_it);
    return found != std::end(KNOWN_DTYPES) ? found : nullptr;
}

inline Dtype dtype_of(dlpack::DataType type) {
    const auto is_it = [&](auto &known) { return known.dlpack.code == type.code && known.dlpack.bits == type.bits; };
    if (const Dtype *known = find_dtype(is_it))
        return *known;
    const std::string code = std::to_string(type.code), bits = std::to_string(type.bits);
    return {XENT_NO_DTYPE,
            type.code == dlpack::COMPLEX ? "complex" + bits : "of DLPack's type code " + code + ", " + bits + " bits",
            type, ""};
}

inline py::tuple as_tuple(const Extents &extents) {
    return py::cast(extents);
}

inline ptrdiff_t times(ptrdiff_t a, ptrdiff_t b) {
    ptrdiff_t product;
    if (__builtin_mul_overflow(a, b, &product))
        throw py::buffer_error("an array whose shape and strides reach beyond all memory");
    return product;
}

inline Extents compact(const Extents &shape, ptrdiff_t itemsize) {
    Extents strides(shape.size());
    ptrdiff_t step = itemsize;
    for (size_t d = shape.size(); d-- > 0;) {
        strides[d] = step;
        step = times(step, std::max<ptrdiff_t>(shape[d], 1));
    }
    return strides;
}

/* Offsets to its elements are numbers, whatever a producer says. Returns the elements' bytes. */
inline ptrdiff_t check_extent(const Extents &shape, const Extents &strides, ptrdiff_t itemsize) {
    ptrdiff_t bytes = itemsize, reach = itemsize;
    for (size_t d = 0; d < shape.size(); d++) {
        if (shape[d] == 0)
            return 0;
        bytes = times(bytes, shape[d]);
        const ptrdiff_t step = times(shape[d] - 1, strides[d]);
        if (step == PTRDIFF_MIN || __builtin_add_overflow(reach, step < 0 ? -step : step, &reach))
            throw py::buffer_error("an array whose shape and strides reach beyond all memory");
    }
    return bytes;
}

struct Array {
    char *data = nullptr;
    int device = 0;
    Dtype dtype;
    Extents shape, strides; /* bytes */
    bool read_only = false;
    std::shared_ptr<void> owner;

    int ndim() const {
        return static_cast<int>(shape.size());
    }
    /* What xent._core fills a request with: data, shape, strides (addresses), bytes an element, dimensions, dtype, device,
     * whether it is read-only. Valid as long as this is. */
    py::tuple fields() const {
        return py::make_tuple(reinterpret_cast<uintptr_t>(data), reinterpret_cast<uintptr_t>(shape.data()),
                              reinterpret_cast<uintptr_t>(strides.data()), dtype.size(), ndim(), int(dtype.id), device,
                              read_only);
    }
};

inline std::string type_name(py::handle object) {
    const py::handle type = py::type::handle_of(object);
    const auto module = py::str(type.attr("__module__")).cast<std::string>();
    const auto name = py::str(type.attr("__qualname__")).cast<std::string>();
    return module == "builtins" ? name : module + "." + name;
}

inline Array from_dlpack(py::handle producer, int64_t stream, const std::string &who) {
    const auto pair = producer.attr("__dlpack_device__")().cast<py::sequence>();
    const dlpack::Device device{pair[0].cast<int32_t>(), pair[1].cast<int32_t>()};
    if (device.type != dlpack::CUDA && device.type != dlpack::CUDA_MANAGED)
        throw py::type_error(
            who + " is a " + type_name(producer) +
            (device.type == dlpack::CPU || device.type == dlpack::CUDA_HOST
                 ? " in CPU memory, not on a CUDA GPU"
                 : " on a device of DLPack's type " + std::to_string(device.type) + ", not on a CUDA GPU"));
    const dlpack::Taken taken = dlpack::take(dlpack::ask(producer, stream), device);
    const dlpack::Tensor &t = taken.tensor;
    Array a;
    a.device = device.id;
    a.dtype = dtype_of(t.dtype);
    a.read_only = taken.read_only;
    a.owner = taken.owner;
    a.shape.assign(t.shape, t.shape + t.ndim);
    if (t.strides)
        for (int32_t d = 0; d < t.ndim; d++)
            a.strides.push_back(times(static_cast<ptrdiff_t>(t.strides[d]), a.dtype.size()));
    else
        a.strides = compact(a.shape, a.dtype.size());
    check_extent(a.shape, a.strides, a.dtype.size());
    a.data = t.data ? static_cast<char *>(t.data) + t.byte_offset : nullptr;
    return a;
}

/* Version 3 of the interface of Numba and CuPy: a dict, whose memory lives as long as the object. */
inline Array from_interface(py::handle producer, int64_t stream, const std::string &who) {
    const auto dict = producer.attr("__cuda_array_interface__").cast<py::dict>();
    for (const char *key : {"shape", "typestr", "data", "version"})
        if (!dict.contains(key))
            throw py::buffer_error(who + ": its __cuda_array_interface__ has no \"" + key + "\"");
    if (dict.contains("mask") && !dict["mask"].is_none())
        throw py::buffer_error(who + " has a mask in its __cuda_array_interface__; pass `where` instead");
    Array a;
    const auto typestr = dict["typestr"].cast<std::string>();
    /* Whatever it says of the order, but for '>'. */
    const auto is_it = [&](auto &known) {
        return typestr.size() > 1 && typestr[0] != '>' && known.typestr == known.typestr[0] + typestr.substr(1);
    };
    const Dtype *known = find_dtype(is_it);
    if (!known)
        throw py::type_error(who + " of dtype " + typestr + " is not supported on a GPU");
    a.dtype = *known;
    a.shape = dict["shape"].cast<Extents>();
    for (ptrdiff_t extent : a.shape)
        if (extent < 0)
            throw py::buffer_error(who + ": its __cuda_array_interface__ has a negative extent");
    if (dict.contains("strides") && !dict["strides"].is_none())
        a.strides = dict["strides"].cast<Extents>();
    else
        a.strides = compact(a.shape, a.dtype.size());
    if (a.strides.size() != a.shape.size())
        throw py::buffer_error(who + ": its __cuda_array_interface__ has " + std::to_string(a.strides.size()) +
                               " strides for " + std::to_string(a.shape.size()) + " dimensions");
    const bool is_empty = check_extent(a.shape, a.strides, a.dtype.size()) == 0;
    const auto data = dict["data"].cast<py::tuple>();
    a.data = reinterpret_cast<char *>(data[0].cast<uintptr_t>());
    a.read_only = data[1].cast<bool>();
    if (is_empty)
        runtime::check(cudaGetDevice(&a.device), "cudaGetDevice"); /* no element, so no address to ask about */
    else {
        cudaPointerAttributes about{};
        runtime::check(cudaPointerGetAttributes(&about, a.data), "cudaPointerGetAttributes");
        if (about.type != cudaMemoryTypeDevice && about.type != cudaMemoryTypeManaged)
            throw py::type_error(who + " is a " + type_name(producer) + " whose memory is not on a CUDA GPU");
        a.device = about.device;
    }
    if (dict.contains("stream") && !dict["stream"].is_none()) {
        const auto from = dict["stream"].cast<int64_t>();
        if (from == 0)
            throw py::buffer_error(who +
                                   ": stream 0 in a __cuda_array_interface__ is ambiguous: 1 is the legacy default "
                                   "stream, 2 the per-thread one");
        if (stream != -1)
            runtime::order(a.device, from, stream);
    }
    /* The dict's memory is the object's. */
    a.owner = std::shared_ptr<void>(producer.inc_ref().ptr(), [](void *object) {
        py::gil_scoped_acquire gil;
        py::error_scope keep;
        Py_DECREF(static_cast<PyObject *>(object));
    });
    return a;
}

/* `who` names the operation and the operand in messages. Safe to read on `stream` from now on; -1: it is already. */
inline Array import_array(py::handle producer, int64_t stream, const std::string &who) {
    try {
        if (py::hasattr(producer, "__dlpack__") && py::hasattr(producer, "__dlpack_device__"))
            return from_dlpack(producer, stream, who);
        if (py::hasattr(producer, "__cuda_array_interface__"))
            return from_interface(producer, stream, who);
    } catch (const py::cast_error &) {
        throw py::buffer_error(who + ": " + type_name(producer) +
                               " holds something else than its array protocol says there is");
    }
    throw py::type_error(who + " is a " + type_name(producer) +
                         ", which has neither __dlpack__ nor __cuda_array_interface__: not an array on a CUDA GPU");
}

/* A stream of the module's own on each device, to give memory back on: the streams that it was used on may be gone. */
inline int64_t undertaker(int device) {
    static std::mutex mutex;
    static std::map<int, cudaStream_t> streams;
    std::lock_guard<std::mutex> lock(mutex);
    cudaStream_t &stream = streams[device];
    if (!stream)
        runtime::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    return static_cast<int64_t>(reinterpret_cast<intptr_t>(stream));
}

/* Memory from CUDA's own pool. It is given back behind what made it and behind the streams it was handed out to. */
class Memory {
    const int device;
    void *pointer = nullptr;
    std::unique_ptr<runtime::Event> made;
    std::vector<int64_t> consumers;
    bool anybody = false; /* it was handed out without a word about a stream */
    std::mutex mutex;

  public:
    const int64_t stream; /* that made it */

    Memory(int device, size_t bytes, int64_t stream) : device(device), stream(stream) {
        runtime::OnDevice guard(device);
        runtime::check(cudaMallocAsync(&pointer, std::max<size_t>(bytes, 1), runtime::handle(stream)),
                       "cudaMallocAsync");
    }
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;

    ~Memory() {
        try {
            runtime::OutsideCaptures outside;
            runtime::OnDevice guard(device);
            if (!made) { /* never finished: whoever made it still has its stream */
                runtime::check(cudaFreeAsync(pointer, runtime::handle(stream)), "cudaFreeAsync");
                return;
            }
            if (anybody)
                runtime::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
            const int64_t last = undertaker(device);
            made->hold_back(last);
            for (int64_t consumer : consumers)
                runtime::order(device, consumer, last);
            runtime::check(cudaFreeAsync(pointer, runtime::handle(last)), "cudaFreeAsync");
        } catch (const std::runtime_error &) {
            /* The process or the context is at its end, and the memory with it. */
        }
    }

    char *data() const {
        return static_cast<char *>(pointer);
    }
    /* What is queued on its stream by now makes its contents. */
    void finish() {
        runtime::OnDevice guard(device);
        made = std::make_unique<runtime::Event>();
        made->record(stream);
    }
    void hand_to(int64_t consumer) {
        if (made && consumer != stream) {
            runtime::OnDevice guard(device);
            made->hold_back(consumer);
        }
        std::lock_guard<std::mutex> lock(mutex);
        if (std::find(consumers.begin(), consumers.end(), consumer) == consumers.end())
            consumers.push_back(consumer);
    }
    void hand_to_anybody() {
        std::lock_guard<std::mutex> lock(mutex);
        anybody = true;
    }
};

class Owned {
    std::shared_ptr<Memory> memory;
    Array array;

  public:
    Owned(const Extents &shape, const std::string &dtype, int device, int64_t stream) {
        const Dtype *known = find_dtype([&](auto &each) { return each.name == dtype; });
        array.dtype = known ? *known : Dtype{XENT_NO_DTYPE, dtype, {dlpack::UINT, 8, 1}, ""};
        array.device = device;
        array.shape = shape;
        array.strides = compact(shape, array.dtype.size());
        const ptrdiff_t bytes = check_extent(shape, array.strides, array.dtype.size());
        memory = std::make_shared<Memory>(device, static_cast<size_t>(bytes), stream);
        array.data = memory->data();
        array.owner = memory;
    }

    const Array &view() const {
        return array;
    }
    void finish() {
        memory->finish();
    }
    /* A scalar from the host, which the copy has read when it returns: it is in pageable memory, and not captured, as nothing
     * is allocated in a capture. */
    void set(double value) {
        runtime::OnDevice guard(array.device);
        runtime::check(
            cudaMemcpyAsync(array.data, &value, sizeof value, cudaMemcpyHostToDevice, runtime::handle(memory->stream)),
            "cudaMemcpyAsync");
    }

    py::tuple dlpack_device() const {
        return py::make_tuple(int32_t(dlpack::CUDA), array.device);
    }

    py::capsule dlpack(const py::object &stream, const py::object &max_version, const py::object &dl_device,
                       const py::object &copy) {
        if (!dl_device.is_none() && !dl_device.equal(dlpack_device()))
            throw py::buffer_error("an array on CUDA GPU " + std::to_string(array.device) +
                                   " is not exported to device " + py::str(dl_device).cast<std::string>());
        if (!copy.is_none() && copy.cast<bool>())
            throw py::buffer_error("this array is exported without a copy only");
        const int64_t to = stream.is_none() ? 1 : stream.cast<int64_t>();
        if (to == 0 || to < -1)
            throw py::value_error(
                "stream " + std::to_string(to) +
                " is none: 1 is the legacy default stream, 2 the per-thread one, -1 asks for no wait");
        if (to > 0)
            memory->hand_to(to);
        else
            memory->hand_to_anybody();
        std::vector<int64_t> shape(array.shape.begin(), array.shape.end()), strides;
        for (ptrdiff_t step : array.strides)
            strides.push_back(step / array.dtype.size());
        const dlpack::Tensor tensor{
            array.data, {dlpack::CUDA, array.device}, array.ndim(), array.dtype.dlpack, shape.data(), strides.data(),
            0};
        const bool versioned = !max_version.is_none() && max_version.cast<py::tuple>()[0].cast<uint32_t>() >= 1;
        return versioned ? dlpack::make<dlpack::ManagedVersioned>(tensor, memory)
                         : dlpack::make<dlpack::Managed>(tensor, memory);
    }

    py::dict interface() const {
        if (array.dtype.typestr.empty())
            throw py::attribute_error("__cuda_array_interface__ has no name for " + array.dtype.name +
                                      "; __dlpack__ has");
        memory->hand_to_anybody();
        py::dict dict;
        dict["shape"] = as_tuple(array.shape);
        dict["typestr"] = array.dtype.typestr;
        dict["data"] = py::make_tuple(reinterpret_cast<uintptr_t>(array.data), false);
        dict["strides"] = py::none();
        dict["version"] = 3;
        dict["stream"] = memory->stream;
        return dict;
    }
};

#endif
