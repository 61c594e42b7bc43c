/* module.cpp: xent._cuda, what xent.cuda needs of C++: arrays by DLPack, streams, and requests, which xent._core fills, run on a
 * GPU. No policy: whose memory a result is and which stream a call runs on is for xent.cuda to say.
 */
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <xent_cuda.h>

#include "arrays.h"

namespace {

/* Never destroyed: what waits at the process's end belongs to libraries that are no longer there. */
runtime::Waiting &waiting = *new runtime::Waiting;

void check(xent_status status, const std::string &caller) {
    switch (status) {
    case XENT_OK:
        return;
    case XENT_ERR_CUDA:
    case XENT_ERR_DEVICE:
        throw std::runtime_error(caller + ": " + xent_cuda_error());
    case XENT_ERR_DTYPE:
        throw py::type_error(caller + ": an operand has a dtype that the operation does not take on a GPU");
    case XENT_ERR_SHAPE:
        throw py::value_error(caller +
                              ": the operands' strides need more than four loops over the batch; make one of them "
                              "contiguous");
    case XENT_ERR_OPTION:
        throw py::value_error(caller + ": an option does not go with the operation, or its value is out of range, or "
                                       "an array does not lie at a multiple of its element's size");
    case XENT_ERR_REDUCTION:
        throw py::value_error(caller + ": the reduction does not go with the operation");
    default:
        PyErr_SetString(PyExc_SystemError, (caller + ": status " + std::to_string(status)).c_str());
        throw py::error_already_set();
    }
}

/* Others may run meanwhile. */
template <class F> xent_status without_gil(F call) {
    py::gil_scoped_release others;
    return call();
}

/* What a request runs on. */
struct Launch : xent_cuda_launch {
    Launch(int device, int64_t stream, uintptr_t workspace, size_t workspace_size) {
        xent_cuda_launch_init(this);
        this->device = device;
        this->stream = runtime::handle(stream);
        this->workspace = reinterpret_cast<void *>(workspace);
        this->workspace_size = workspace_size;
    }
};

const xent_request *request_at(uintptr_t address) {
    return reinterpret_cast<const xent_request *>(address);
}

size_t workspace_size(uintptr_t request, int device, const std::string &caller) {
    size_t size = 0;
    check(xent_cuda_workspace_size(request_at(request), device, &size), caller);
    return size;
}

void run(uintptr_t request, const Launch &launch, const std::string &caller) {
    check(without_gil([&] { return xent_cuda_run(request_at(request), &launch); }), caller);
}

/* Waits for the stream: (row, label) of the first label out of range, or None. */
py::object bad_label(const Launch &launch, const std::string &caller) {
    int64_t row = 0, label = 0;
    const xent_status status = without_gil([&] { return xent_cuda_check_labels(&launch, &row, &label); });
    if (status == XENT_ERR_LABEL)
        return py::make_tuple(row, label);
    check(status, caller);
    return py::none();
}

void prepare(int device) {
    check(without_gil([&] { return xent_cuda_prepare(device); }), "prepare");
}

py::tuple device_count() {
    int driver = 0, runtime = 0;
    const int count = xent_cuda_device_count(&driver, &runtime);
    return py::make_tuple(count, driver, runtime, count > 0 ? "" : xent_cuda_error());
}

py::dict device_info(int device) {
    xent_cuda_device info{};
    info.struct_size = sizeof info;
    check(xent_cuda_device_info(device, &info), "device_info");
    py::dict dict;
    dict["name"] = info.name;
    dict["capability"] = py::make_tuple(info.major, info.minor);
    dict["multiprocessors"] = info.multiprocessors;
    dict["shared_bytes_per_block"] = info.shared_per_block;
    dict["l2_bytes"] = info.l2_bytes;
    dict["memory_bytes"] = info.memory_bytes;
    dict["clock_khz"] = info.clock_khz;
    dict["memory_clock_khz"] = info.memory_clock_khz;
    dict["memory_bus_bits"] = info.memory_bus_bits;
    return dict;
}

void hold(int device, int64_t stream, const std::vector<const Array *> &arrays) {
    std::vector<std::shared_ptr<void>> owners;
    for (const Array *array : arrays)
        owners.push_back(array->owner);
    waiting.hold(device, stream, std::move(owners));
}

std::vector<std::string> operations() {
    return {
#define OP(name, R, T, V, E) #name,
#include <ops.def>
#undef OP
    };
}

} // namespace

PYBIND11_MODULE(_cuda, m, py::mod_gil_not_used()) {
    m.doc() = "The C++ part of xent.cuda.";
    m.def("operations", &operations);
    m.def("device_count", &device_count,
          "(devices, driver version, runtime version, what CUDA said if there are none)");
    m.def("device_info", &device_info, py::arg("device"));
    m.def("prepare", &prepare, py::arg("device"));
    m.def("workspace_size", &workspace_size, py::arg("request"), py::arg("device"), py::arg("caller"));
    m.def("run", &run, py::arg("request"), py::arg("launch"), py::arg("caller"));
    m.def("bad_label", &bad_label, py::arg("launch"), py::arg("caller"));
    m.def("is_capturing", &runtime::is_capturing, py::arg("stream"));
    m.def("hold", &hold, py::arg("device"), py::arg("stream"), py::arg("arrays"));
    m.def("sweep", [] { waiting.sweep(); });
    m.def("drain", [] { waiting.sweep(true); });
    m.def("waiting", [] { return waiting.size(); });

    py::class_<Launch>(m, "Launch", py::module_local(), "Where a request runs.")
        .def(py::init<int, int64_t, uintptr_t, size_t>(), py::arg("device"), py::arg("stream"), py::arg("workspace"),
             py::arg("workspace_size"));

    py::class_<Array>(m, "Array", py::module_local(), "An array on a GPU, taken from whoever has it.")
        .def(py::init(&import_array), py::arg("producer"), py::arg("stream"), py::arg("who"))
        .def_property_readonly("fields", &Array::fields)
        .def_readonly("device", &Array::device)
        .def_property_readonly("dtype", [](const Array &a) { return a.dtype.name; })
        .def_property_readonly("shape", [](const Array &a) { return as_tuple(a.shape); })
        .def_property_readonly("strides", [](const Array &a) { return as_tuple(a.strides); })
        .def_property_readonly("data", [](const Array &a) { return reinterpret_cast<uintptr_t>(a.data); });

    py::class_<Owned>(m, "DeviceArray", py::module_local(),
                      "A result on a GPU, for a library that can take memory but not be asked for it: it speaks DLPack "
                      "and __cuda_array_interface__.")
        .def(py::init<const Extents &, const std::string &, int, int64_t>(), py::arg("shape"), py::arg("dtype"),
             py::arg("device"), py::arg("stream"))
        .def("_view", &Owned::view)
        .def("_set", &Owned::set, py::arg("value"))
        .def("_finish", &Owned::finish)
        .def_property_readonly("dtype", [](const Owned &a) { return a.view().dtype.name; })
        .def_property_readonly("shape", [](const Owned &a) { return as_tuple(a.view().shape); })
        .def_property_readonly("ndim", [](const Owned &a) { return a.view().ndim(); })
        .def_property_readonly("device", [](const Owned &a) { return a.view().device; })
        .def_property_readonly("__cuda_array_interface__", &Owned::interface)
        .def("__dlpack_device__", &Owned::dlpack_device)
        .def("__dlpack__", &Owned::dlpack, py::kw_only(), py::arg("stream") = py::none(),
             py::arg("max_version") = py::none(), py::arg("dl_device") = py::none(), py::arg("copy") = py::none())
        .def("__repr__", [](const Owned &a) {
            return "<xent DeviceArray of " + a.view().dtype.name + ", shape " +
                   py::repr(as_tuple(a.view().shape)).cast<std::string>() + ", GPU " + std::to_string(a.view().device) +
                   ">";
        });
}
