/* module.cpp: xent._cuda, what xent.cuda needs of C++: arrays by DLPack, calls, streams. No policy: whose memory a result is
 * and which stream a call runs on is for xent.cuda to say.
 */
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "call.h"

namespace {

/* Never destroyed: what waits at the process's end belongs to libraries that are no longer there. */
runtime::Waiting &waiting = *new runtime::Waiting;

void prepare(int device) {
    xent_status status;
    {
        py::gil_scoped_release others;
        status = xent_cuda_prepare(device);
    }
    if (status != XENT_OK)
        fail(status, "prepare");
}

py::tuple device_count() {
    int driver = 0, runtime = 0;
    const int count = xent_cuda_device_count(&driver, &runtime);
    return py::make_tuple(count, driver, runtime, count > 0 ? "" : xent_cuda_error());
}

py::dict device_info(int device) {
    xent_cuda_device info{};
    info.struct_size = sizeof info;
    const xent_status status = xent_cuda_device_info(device, &info);
    if (status != XENT_OK)
        fail(status, "device_info");
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
    std::vector<std::string> names;
    for (const Operation &op : OPERATIONS)
        names.emplace_back(op.name);
    return names;
}

} // namespace

PYBIND11_MODULE(_cuda, m, py::mod_gil_not_used()) {
    m.doc() = "The C++ part of xent.cuda.";
    m.def("operations", &operations);
    m.def("device_count", &device_count,
          "(devices, driver version, runtime version, what CUDA said if there are none)");
    m.def("device_info", &device_info, py::arg("device"));
    m.def("prepare", &prepare, py::arg("device"));
    m.def("is_capturing", &runtime::is_capturing, py::arg("stream"));
    m.def("hold", &hold, py::arg("device"), py::arg("stream"), py::arg("arrays"));
    m.def("sweep", [] { waiting.sweep(); });
    m.def("drain", [] { waiting.sweep(true); });
    m.def("waiting", [] { return waiting.size(); });

    py::class_<Array>(m, "Array", py::module_local(), "An array on a GPU, taken from whoever has it.")
        .def(py::init(&import_array), py::arg("producer"), py::arg("stream"), py::arg("who"))
        .def("overlaps", &Array::overlaps)
        .def_readonly("device", &Array::device)
        .def_readonly("read_only", &Array::read_only)
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
            return "<xent DeviceArray of " + a.view().dtype.name + ", shape " + words(a.view().shape) + ", GPU " +
                   std::to_string(a.view().device) + ">";
        });

    py::class_<Call>(m, "Call", py::module_local(), "One operation on arrays.")
        .def(py::init([](const std::string &operation, const Array &logits, const Array *target, const Array *where,
                         const Array *weight, const Array *pos_weight, const Array *sample_weight,
                         const Array *temperature, std::string caller, std::string first, std::string second,
                         bool labels, ptrdiff_t axis, bool keepdims, double label_smoothing,
                         std::optional<int64_t> ignore_index, std::string reduction, std::optional<std::string> dtype) {
                 const Options options{
                     std::move(caller), std::move(first), std::move(second),    labels,          axis, keepdims,
                     label_smoothing,   ignore_index,     std::move(reduction), std::move(dtype)};
                 return std::make_unique<Call>(operation, options, logits, target, where, weight, pos_weight,
                                               sample_weight, temperature);
             }),
             py::arg("operation"), py::arg("logits"), py::arg("target").none(true), py::kw_only(),
             py::arg("where").none(true), py::arg("weight").none(true), py::arg("pos_weight").none(true),
             py::arg("sample_weight").none(true), py::arg("temperature").none(true), py::arg("caller"),
             py::arg("first"), py::arg("second"), py::arg("labels"), py::arg("axis"), py::arg("keepdims"),
             py::arg("label_smoothing"), py::arg("ignore_index"), py::arg("reduction"), py::arg("dtype"))
        .def_property_readonly("device", &Call::device)
        .def("dtype", &Call::dtype, py::arg("is_value"))
        .def_property_readonly("value_shape",
                               [](const Call &c) -> py::object {
                                   return c.value_shape() ? py::object(as_tuple(*c.value_shape())) : py::none();
                               })
        .def_property_readonly("out_shape",
                               [](const Call &c) -> py::object {
                                   return c.out_shape() ? py::object(as_tuple(*c.out_shape())) : py::none();
                               })
        .def("can_write", &Call::can_write, py::arg("array"), py::arg("is_value"))
        .def("check_out", &Call::check_out, py::arg("array"), py::arg("is_value"))
        .def("set_value", &Call::set_value, py::arg("array"))
        .def("set_out", &Call::set_out, py::arg("array"))
        .def("workspace_size", &Call::workspace_size)
        .def("run", &Call::run, py::arg("stream"), py::arg("workspace"), py::arg("size"))
        .def("check_labels", &Call::check_labels, py::arg("stream"), py::arg("workspace"), py::arg("size"));
}
