/* call.h: one xent_request from arrays of any strides: which axis holds the classes, what broadcasts with what, which results
 * there are. What is wrong with them is said in the words of the CPU's callables.
 */
#ifndef XENT_CUDA_CALL_H
#define XENT_CUDA_CALL_H

#include <cstring>
#include <optional>
#include <string_view>

#include <xent_cuda.h>

#include "arrays.h"

struct Operation {
    std::string_view name;
    xent_target target;
    bool has_value, has_emit;
};

constexpr bool is_something(std::string_view what) {
    return what != "NONE";
}

constexpr Operation OPERATIONS[] = {
#define OP(name, R, T, V, E) {#name, XENT_TARGET_##T, is_something(#V), is_something(#E)},
#include <ops.def>
#undef OP
};

inline std::string words(const Extents &shape) {
    return py::repr(as_tuple(shape)).cast<std::string>();
}

[[noreturn]] inline void raise(py::handle type, py::object value) {
    PyErr_SetObject(type.ptr(), value.ptr());
    throw py::error_already_set();
}

[[noreturn]] inline void fail(xent_status status, const std::string &what) {
    switch (status) {
    case XENT_ERR_CUDA:
    case XENT_ERR_DEVICE:
        throw std::runtime_error(what + ": " + xent_cuda_error());
    case XENT_ERR_DTYPE:
        throw py::type_error(what + ": an operand has a dtype that the operation does not take on a GPU");
    case XENT_ERR_SHAPE:
        throw py::value_error(what +
                              ": the operands' strides need more than four loops over the batch; make one of them "
                              "contiguous");
    case XENT_ERR_OPTION:
        throw py::value_error(what + ": an option does not go with the operation, or its value is out of range, or an "
                                     "array does not lie at a multiple of its element's size");
    case XENT_ERR_REDUCTION:
        throw py::value_error(what + ": the reduction does not go with the operation");
    default:
        PyErr_SetString(PyExc_SystemError, (what + ": status " + std::to_string(status)).c_str());
        throw py::error_already_set();
    }
}

/* `axis` counted from the front. */
inline int place(ptrdiff_t axis, int ndim, const std::string &op) {
    if (axis < -ndim || axis >= ndim) {
        py::object type = py::module_::import("numpy").attr("exceptions").attr("AxisError");
        raise(type, type(axis, ndim, op));
    }
    return static_cast<int>(axis < 0 ? axis + ndim : axis);
}

inline Extents without(const Extents &extents, int axis) {
    Extents rest = extents;
    rest.erase(rest.begin() + axis);
    return rest;
}

/* Broadcast `shape` with `other`, in place; false where they differ. */
inline bool widen(Extents &shape, const Extents &other) {
    if (other.size() > shape.size())
        shape.insert(shape.begin(), other.size() - shape.size(), 1);
    for (size_t i = 1; i <= other.size(); i++) {
        ptrdiff_t &mine = shape[shape.size() - i];
        const ptrdiff_t theirs = other[other.size() - i];
        if (mine == 1)
            mine = theirs;
        else if (theirs != 1 && theirs != mine)
            return false;
    }
    return true;
}

/* The strides that walk `shape` over an operand of extents `own`; false if it does not broadcast. */
inline bool stretch(const Extents &shape, const Extents &own, const Extents &strides, Extents &walk) {
    if (own.size() > shape.size())
        return false;
    walk.assign(shape.size(), 0);
    for (size_t i = 1; i <= own.size(); i++) {
        if (own[own.size() - i] == shape[shape.size() - i])
            walk[shape.size() - i] = strides[own.size() - i];
        else if (own[own.size() - i] != 1)
            return false;
    }
    return true;
}

struct Options {
    std::string caller, first, second; /* for messages */
    bool labels;
    ptrdiff_t axis;
    bool keepdims;
    double label_smoothing;
    std::optional<int64_t> ignore_index;
    std::string reduction;
    std::optional<std::string> dtype;
};

class Call {
    struct Operand {
        std::optional<Array> array;
        Extents strides; /* over the batch */
    };

    const Operation &op;
    const std::string name, first, second;
    xent_request req{};
    Extents batch, full; /* full: with the class axis in its place */
    ptrdiff_t classes = 1;
    Dtype result, of_values; /* the second: of one value a row, or of their sum */
    std::optional<Extents> value_extents, out_extents;
    int axis = 0;
    bool keepdims;
    Operand x, t, where, class_weight, pos_weight, sample_weight, temperature, value, out;

    static const Operation &find(const std::string &name) {
        for (const Operation &op : OPERATIONS)
            if (op.name == name)
                return op;
        throw py::key_error("no operation is called " + name);
    }

    static int reduction_of(const std::string &name) {
        return name == "sum" ? XENT_SUM : name == "mean" ? XENT_MEAN : name == "per_class" ? XENT_PER_CLASS : XENT_NONE;
    }

    bool is_scalar() const {
        return req.reduction == XENT_SUM || req.reduction == XENT_MEAN;
    }

    static void fill(xent_view &view, Operand &operand, ptrdiff_t class_stride) {
        static char nothing; /* the address of an array without elements that has none of its own */
        const Array &a = *operand.array;
        view.data = a.data ? a.data : &nothing;
        view.dtype = static_cast<uint8_t>(a.dtype.id);
        view.strides = operand.strides.data();
        view.class_stride = class_stride;
    }

    void check_device(const Operand &operand, const std::string &what) const {
        if (operand.array && !operand.array->is_empty() && operand.array->device != x.array->device)
            throw py::value_error(name + ": " + what + " is on GPU " + std::to_string(operand.array->device) +
                                  ", the first operand on GPU " + std::to_string(x.array->device) +
                                  "; a call runs on one of them");
    }

    void check_dtypes(const Options &o) const {
        const auto refuse = [&](const std::string &what, const Dtype &dtype) {
            throw py::type_error(o.caller + ": " + what + " of dtype " + dtype.name +
                                 " is not supported on a GPU; float16, bfloat16, float32 and float64 are");
        };
        if (!x.array->dtype.is_float())
            refuse(o.first, x.array->dtype);
        if (t.array && o.labels && !t.array->dtype.is_integer())
            throw py::type_error(
                o.caller + ": " + o.second + " must be integers, one a row, not " + t.array->dtype.name +
                (t.array->dtype.is_float() ? ": " + o.second + ".astype(int) where they are whole numbers"
                                           : std::string()));
        if (t.array && !o.labels && !t.array->dtype.is_float())
            refuse(o.second, t.array->dtype);
        if (where.array && where.array->dtype.id != XENT_BOOL)
            throw py::type_error(name + ": where must be bools, not " + where.array->dtype.name);
        const std::pair<const Operand *, const char *> weights[] = {
            {&class_weight, "weight"},
            {&pos_weight, "pos_weight"},
            {&sample_weight, "sample_weight"},
            {&temperature, "temperature"},
        };
        for (const auto &[operand, option] : weights)
            if (operand->array && operand->array->dtype.id != XENT_F32 && operand->array->dtype.id != XENT_F64)
                throw py::type_error(o.caller + ": " + option + " must be float32 or float64 on a GPU, not " +
                                     operand->array->dtype.name);
    }

    void set_result_dtype(const Options &o) {
        xent_dtype id = x.array->dtype.id;
        if (o.dtype) {
            id = dtype_named(*o.dtype).id;
            if (id < XENT_F16 || id > XENT_F64)
                throw py::type_error(name + ": dtype=" + *o.dtype +
                                     " is not supported; float16, bfloat16, float32 and float64 are");
        } else if (t.array && !o.labels && t.array->dtype.id != id) {
            /* The narrowest float that holds every value of both. */
            id = std::max({id, t.array->dtype.id, XENT_F32});
        }
        result = dtype_of(known_dtype(id));
        /* A sum over rows is no longer what 16 bits hold. */
        of_values = is_scalar() && !o.dtype && result.size == 2 ? dtype_of(known_dtype(XENT_F32)) : result;
    }

    void refuse_class_axis(int x_axis) const {
        const Extents &own = x.array->shape, &given = t.array->shape;
        if (given == own)
            throw py::value_error(
                name + ": " + second + " of dtype " + t.array->dtype.name + ", integers, and of the own shape " +
                words(own) + " of " + first +
                " look like a one-hot encoding; pass one label a row, or to cross_entropy the one-hot "
                "rows as floating-point probabilities");
        Extents kept = own;
        kept[static_cast<size_t>(x_axis)] = 1;
        if (own.size() > 1 && given == kept)
            throw py::value_error(name + ": " + second + " of shape " + words(given) + " keep the class axis of " +
                                  first + " " + words(own) + "; pass one label a row, as " + second + ".squeeze(" +
                                  std::to_string(x_axis) + ") does");
    }

    void set_rows(const Options &o) {
        const Array &a = *x.array;
        if (a.ndim() == 0)
            throw py::value_error(name + ": " + first + " must have at least one dimension, the class axis");
        if (t.array && !o.labels && t.array->ndim() == 0)
            throw py::value_error(name + ": " + second + " must have at least one dimension, the class axis");
        const int x_axis = place(o.axis, a.ndim(), name);
        classes = a.shape[static_cast<size_t>(x_axis)];
        const Extents x_batch = without(a.shape, x_axis);
        Extents t_batch;
        int t_axis = 0;
        batch = x_batch;
        if (t.array && o.labels) {
            t_batch = t.array->shape;
            if (t.array->ndim() == a.ndim())
                refuse_class_axis(x_axis);
            if (!widen(batch, t_batch))
                throw py::value_error(name + ": " + second + " of shape " + words(t_batch) + " and dtype " +
                                      t.array->dtype.name + " do not match " + first + " of shape " + words(a.shape) +
                                      ": " + words(t_batch) + " does not broadcast with " + words(x_batch) +
                                      ", what is left of the latter without their class axis");
        } else if (t.array) {
            t_axis = place(o.axis, t.array->ndim(), name);
            t_batch = without(t.array->shape, t_axis);
            if (t.array->shape[static_cast<size_t>(t_axis)] != classes || !widen(batch, t_batch))
                throw py::value_error(name + ": shapes " + words(a.shape) + " of " + first + " and " +
                                      words(t.array->shape) + " of " + second +
                                      " do not match (axis=" + std::to_string(o.axis) +
                                      ": the class axes must be of one length, the others must broadcast)");
        }
        axis = place(o.axis, static_cast<int>(batch.size()) + 1, name);
        full = batch;
        full.insert(full.begin() + axis, classes);
        stretch(batch, x_batch, without(a.strides, x_axis), x.strides);
        fill(req.logits, x, a.strides[static_cast<size_t>(x_axis)]);
        if (t.array) {
            stretch(batch, t_batch, o.labels ? t.array->strides : without(t.array->strides, t_axis), t.strides);
            fill(req.target, t, o.labels ? 0 : t.array->strides[static_cast<size_t>(t_axis)]);
        }
    }

    /* No rows to reduce: the last axis of what broadcasts stands where a row's classes do. */
    void set_elements() {
        full = x.array->shape;
        if (!widen(full, t.array->shape))
            throw py::value_error(name + ": shapes " + words(x.array->shape) + " and " + words(t.array->shape) +
                                  " do not broadcast");
        axis = static_cast<int>(full.size()) - 1;
        classes = full.empty() ? 1 : full.back();
        batch = full.empty() ? full : without(full, axis);
        for (Operand *operand : {&x, &t}) {
            stretch(full, operand->array->shape, operand->array->strides, operand->strides);
            const ptrdiff_t step = full.empty() ? 0 : operand->strides.back();
            operand->strides.resize(batch.size());
            fill(operand == &x ? req.logits : req.target, *operand, step);
        }
    }

    void set_where() {
        Extents walk;
        const Array &mask = *where.array;
        if (!stretch(full, mask.shape, mask.strides, walk))
            throw py::value_error(name + ": where of shape " + words(mask.shape) + " does not broadcast to " +
                                  words(full));
        where.strides = without(walk, axis);
        fill(req.where, where, walk[static_cast<size_t>(axis)]);
    }

    void set_class_weight(xent_view &view, Operand &operand, const char *option) {
        const Extents &shape = operand.array->shape;
        if (shape.size() != 1 || shape[0] != classes)
            throw py::value_error(name + ": " + option + " has shape " + words(shape) + ", expected (" +
                                  std::to_string(classes) + ",), one a class");
        fill(view, operand, operand.array->strides[0]);
    }

    void set_row_option(xent_view &view, Operand &operand, const char *option) {
        const Array &a = *operand.array;
        if (!stretch(batch, a.shape, a.strides, operand.strides))
            throw py::value_error(name + ": " + option + " of shape " + words(a.shape) + " does not broadcast to " +
                                  words(batch));
        fill(view, operand, 0);
    }

    void set_results() {
        if (op.has_value) {
            value_extents = is_scalar() ? Extents{} : batch;
            if (keepdims)
                value_extents->insert(value_extents->begin() + axis, 1);
        }
        if (op.has_emit)
            out_extents = req.reduction == XENT_PER_CLASS ? Extents{classes} : full;
    }

    xent_cuda_launch launch_on(int64_t stream, uintptr_t workspace, size_t size) const {
        xent_cuda_launch launch;
        xent_cuda_launch_init(&launch);
        launch.device = device();
        launch.stream = runtime::handle(stream);
        launch.workspace = reinterpret_cast<void *>(workspace);
        launch.workspace_size = size;
        return launch;
    }

  public:
    Call(const std::string &operation, const Options &o, const Array &logits, const Array *target, const Array *mask,
         const Array *weight, const Array *pos, const Array *sample, const Array *divisor)
        : op(find(operation)), name(o.caller), first(o.first), second(o.second), keepdims(o.keepdims) {
        const auto given = [](const Array *a) { return a ? std::optional<Array>(*a) : std::nullopt; };
        x.array = logits;
        t.array = given(target);
        where.array = given(mask);
        class_weight.array = given(weight);
        pos_weight.array = given(pos);
        sample_weight.array = given(sample);
        temperature.array = given(divisor);
        check_dtypes(o);
        check_device(t, o.second);
        check_device(where, "where");
        check_device(class_weight, "weight");
        check_device(pos_weight, "pos_weight");
        check_device(sample_weight, "sample_weight");
        check_device(temperature, "temperature");
        req.reduction = reduction_of(o.reduction);
        set_result_dtype(o);

        req.struct_size = sizeof req;
        req.grad_scale = 1.0;
        req.op = static_cast<int>(&op - OPERATIONS);
        req.compute = result.id == XENT_F64 ? XENT_F64 : XENT_F32;
        req.label_smoothing = o.label_smoothing;
        req.has_ignore_index = o.ignore_index.has_value();
        req.ignore_index = o.ignore_index.value_or(0);
        if (op.target == XENT_TARGET_POINT)
            set_elements();
        else
            set_rows(o);
        if (batch.size() > XENT_MAX_NDIM)
            throw py::value_error(name + ": " + std::to_string(batch.size() + 1) + " dimensions are more than the " +
                                  std::to_string(XENT_MAX_NDIM + 1) + " that there may be");
        req.ndim = static_cast<int>(batch.size());
        req.shape = batch.data();
        req.classes = classes;
        if (where.array)
            set_where();
        if (class_weight.array)
            set_class_weight(req.class_weight, class_weight, "weight");
        if (pos_weight.array)
            set_class_weight(req.pos_weight, pos_weight, "pos_weight");
        if (sample_weight.array)
            set_row_option(req.sample_weight, sample_weight, "sample_weight");
        if (temperature.array)
            set_row_option(req.temperature, temperature, "temperature");
        set_results();
    }
    Call(const Call &) = delete; /* the request points into it */
    Call &operator=(const Call &) = delete;

    int device() const {
        return x.array->device;
    }
    std::string dtype(bool is_value) const {
        return (is_value ? of_values : result).name;
    }
    const std::optional<Extents> &value_shape() const {
        return value_extents;
    }
    const std::optional<Extents> &out_shape() const {
        return out_extents;
    }

    /* Whether a result can be written there while the operands are read: nowhere that they lie, but for one value an element
     * in that element's own place. */
    bool can_write(const Array &a, bool is_value) const {
        for (const Operand *operand :
             {&x, &t, &where, &class_weight, &pos_weight, &sample_weight, &temperature, &value, &out})
            if (operand->array && operand->array->overlaps(a) &&
                (is_value || (operand != &x && operand != &t) || !operand->array->is_same_place(a)))
                return false;
        return true;
    }

    void check_out(const Array &a, bool is_value) const {
        check_device({a, {}}, "out");
        const Extents &shape = is_value ? *value_extents : *out_extents;
        if (a.shape != shape)
            throw py::value_error(name + ": out has shape " + words(a.shape) + ", the result has " + words(shape));
        if (a.read_only)
            throw py::value_error(name + ": output array is read-only");
        if (!a.dtype.is_float())
            throw py::type_error(name + ": cannot cast " + dtype(is_value) + ", the result, to " + a.dtype.name +
                                 ", out's, with rule 'same_kind'");
    }

    void set_value(const Array &a) {
        check_out(a, true);
        value.array = a;
        if (is_scalar())
            value.strides.assign(batch.size(), 0);
        else
            value.strides = keepdims ? without(a.strides, axis) : a.strides;
        fill(req.value, value, 0);
    }

    void set_out(const Array &a) {
        check_out(a, false);
        out.array = a;
        if (out_extents->empty()) { /* of two scalars */
            fill(req.out, out, 0);
            return;
        }
        const int at = req.reduction == XENT_PER_CLASS ? 0 : axis;
        if (req.reduction == XENT_PER_CLASS)
            out.strides.assign(batch.size(), 0);
        else
            out.strides = without(a.strides, at);
        fill(req.out, out, a.strides[static_cast<size_t>(at)]);
    }

    size_t workspace_size() const {
        size_t size = 0;
        const xent_status status = xent_cuda_workspace_size(&req, device(), &size);
        if (status != XENT_OK)
            fail(status, name);
        return size;
    }

    void run(int64_t stream, uintptr_t workspace, size_t size) const {
        const xent_cuda_launch launch = launch_on(stream, workspace, size);
        xent_status status;
        {
            py::gil_scoped_release others;
            runtime::OnDevice guard(device());
            status = xent_cuda_run(&req, &launch);
        }
        if (status != XENT_OK)
            fail(status, name);
    }

    /* Waits for the stream. */
    void check_labels(int64_t stream, uintptr_t workspace, size_t size) const {
        const xent_cuda_launch launch = launch_on(stream, workspace, size);
        int64_t row = 0, label = 0;
        xent_status status;
        {
            py::gil_scoped_release others;
            runtime::OnDevice guard(device());
            status = xent_cuda_check_labels(&launch, &row, &label);
        }
        if (status == XENT_ERR_LABEL) {
            Extents at(batch.size());
            for (size_t d = batch.size(); d-- > 0; row /= batch[d])
                at[d] = static_cast<ptrdiff_t>(row % batch[d]);
            const py::object number = py::module_::import("numpy").attr("dtype")(t.array->dtype.name).attr("type");
            const py::object ignored = req.has_ignore_index ? py::object(py::int_(req.ignore_index)) : py::none();
            const py::object text = py::module_::import("xent._hints").attr("label_out_of_range");
            throw py::index_error(
                text(name, second, number(label), py::tuple(py::cast(at)), classes, ignored).cast<std::string>());
        }
        if (status != XENT_OK)
            fail(status, name);
    }
};

#endif
