"""xent.cuda. Without a GPU: its module against a CUDA that is none (fake_gpu/), with arrays made to measure. With one:
the operations against the oracle, on the device."""

import ctypes
import gc
import inspect
import subprocess
import sys
import types

import cases
import numpy as np
import pytest
from fake_gpu import arrays, libraries

import xent
import xent.cuda
from xent import losses

DTYPES = ["f8", "f4", "f2", "bfloat16"]


@pytest.fixture(scope="session")
def native():
    path = arrays.build()
    return arrays.load(path), arrays.Gpu(path)


@pytest.fixture
def gpu(native, monkeypatch):
    """xent.cuda on the CUDA that is none."""
    module, gpu = native
    monkeypatch.setattr(xent.cuda, "_cuda", module)
    monkeypatch.setattr(xent.cuda, "_prepared", set())
    monkeypatch.setattr(xent.cuda, "_available", False)
    gpu.reset()
    gpu.native = module
    yield gpu
    gpu.reset()
    module.drain()
    gc.collect()
    assert gpu.allocations == 0


@pytest.fixture
def torch(gpu, monkeypatch):
    module = libraries.torch()
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


@pytest.fixture
def cupy(gpu, monkeypatch):
    module = libraries.cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def host(result):
    """A result's values, wherever it lives."""
    if isinstance(result, tuple):
        return tuple(map(host, result))
    if hasattr(result, "data"):
        return result.data.copy()
    capsule = result.__dlpack__()
    return arrays.read(capsule, cases.DTYPES.get(result.dtype, result.dtype)).copy()


def assert_same(result, expected):
    for got, wanted in zip(cases.as_tuple(host(result)), cases.as_tuple(expected), strict=True):
        assert got.shape == np.shape(wanted)
        assert got.dtype == np.asarray(wanted).dtype
        assert got.tobytes() == np.asarray(wanted).tobytes()


# ---- what there is -------------------------------------------------------------------------------------------------


def test_an_operation_each():
    assert [n for n in xent.cuda.__all__ if n in cases.NAMES] == cases.NAMES
    for name in cases.ROW_NAMES:
        cpu = inspect.signature(getattr(xent, name)).parameters
        ours = inspect.signature(getattr(xent.cuda, name)).parameters
        more = [*cpu, "stream"] + ["check_labels"] * (cases.SECOND[name] == "labels")
        assert list(ours) == more
        assert all(ours[p] == cpu[p] for p in cpu)
        assert getattr(xent.cuda, name).__doc__.count("\n") > 4


def test_operations_are_the_table(gpu):
    assert gpu.native.operations() == cases.declared_operations()


def test_not_built(monkeypatch):
    monkeypatch.setattr(xent.cuda, "_cuda", None)
    monkeypatch.setattr(xent.cuda, "_available", False)
    assert xent.cuda.is_built() is False
    assert xent.cuda.is_available() is False
    assert xent.cuda.device_info() == []
    for call in (
        lambda: xent.cuda.logsumexp(arrays.Array([1.0])),
        lambda: xent.logsumexp(arrays.Array([1.0])),
        lambda: losses.cross_entropy(arrays.Array([[1.0]]), arrays.Array([0])),
        lambda: xent.cuda.device_info(0),
        lambda: xent.cuda.prepare(),
    ):
        with pytest.raises(RuntimeError, match="built without its CUDA part; `make cuda`"):
            call()


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"devices": 0, "driver": 0}, "no NVIDIA driver was found"),
        ({"devices": 0, "driver": 12040}, r"too old: it goes up to CUDA 12\.4, and .* built with CUDA 13\.0"),
        ({"devices": 0}, "no GPU for this process: cudaErrorFake"),
    ],
)
def test_no_gpu(gpu, answers, reason):
    gpu.set(**answers)
    assert xent.cuda.is_built() is True
    assert xent.cuda.is_available() is False
    assert xent.cuda.device_info() == []
    with pytest.raises(RuntimeError, match=reason):
        xent.logsumexp(arrays.Array([1.0]))
    with pytest.raises(RuntimeError, match=reason):
        xent.cuda.prepare()


def test_a_gpu(gpu):
    assert xent.cuda.is_available() is True
    assert [info["name"] for info in xent.cuda.device_info()] == ["Fake GPU 0", "Fake GPU 1"]
    assert xent.cuda.device_info(1)["capability"] == (9, 0)
    with pytest.raises(RuntimeError, match="cudaErrorFake"):
        xent.cuda.device_info(2)


def test_the_real_module_says_why():
    """Whatever this machine has: built or not, GPU or not, nothing but a sentence."""
    code = """
import xent.cuda
built, available = xent.cuda.is_built(), xent.cuda.is_available()
assert not available or built
if not available:
    try:
        xent.cuda.prepare()
    except RuntimeError as error:
        assert str(error).startswith("prepare: ") and "\\n" not in str(error), error
    else:
        raise AssertionError
print(built, available, len(xent.cuda.device_info()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    built, available, devices = done.stdout.split()
    assert built == str(xent.cuda.is_built())
    assert (available == "True") == (int(devices) > 0)


def test_xent_does_not_load_it():
    code = "import sys, xent; assert 'xent.cuda' not in sys.modules; xent.cuda; assert 'xent.cuda' in sys.modules"
    subprocess.run([sys.executable, "-c", code], timeout=120, check=True)


# ---- DLPack: taking ------------------------------------------------------------------------------------------------


def test_versions_are_asked_for(gpu):
    new, old = arrays.Array([1.0, 2.0]), arrays.OldArray([1.0, 2.0])
    assert_same(xent.cuda.logsumexp(new), xent.logsumexp([1.0, 2.0]))
    assert_same(xent.cuda.logsumexp(old), xent.logsumexp([1.0, 2.0]))
    assert new.asked == [(1, (1, 1))]
    assert old.asked == [(1, "none")]
    # One that knows the keyword and has no versions yet, as JAX.
    unversioned = arrays.Array([1.0, 2.0], versioned=False)
    assert_same(xent.cuda.logsumexp(unversioned), xent.logsumexp([1.0, 2.0]))
    xent.cuda._cuda.drain()
    assert new.deleted == old.deleted == unversioned.deleted == [1]


def test_only_the_keyword_is_tried_again(gpu):
    class Broken(arrays.Array):
        calls = 0

        def __dlpack__(self, **options):
            self.calls += 1
            raise TypeError("no tensor today")

    a = Broken([1.0])
    with pytest.raises(TypeError, match="no tensor today"):
        xent.cuda.logsumexp(a)
    assert a.calls == 1

    class Refusing(arrays.Array):
        def __dlpack__(self, **options):
            raise BufferError("max_version: never heard of")

    with pytest.raises(BufferError, match="never heard of"):
        xent.cuda.logsumexp(Refusing([1.0]))


def test_the_device_is_asked_first(gpu):
    order = []

    class Asked(arrays.Array):
        def __dlpack_device__(self):
            order.append("device")
            return super().__dlpack_device__()

        def __dlpack__(self, **options):
            order.append("tensor")
            return super().__dlpack__(**options)

    gpu.native.Array(Asked([1.0]), 1, "test")
    assert order == ["device", "tensor"]


X = np.arange(6.0).reshape(2, 3) / 8

WRONG = {
    "major version": ({"version": (2, 0)}, BufferError, r"version 2\.0 cannot be read"),
    "another device": ({"device": (2, 1)}, BufferError, r"device \(2, 1\), __dlpack_device__ said \(2, 0\)"),
    "another kind of device": ({"device": (1, 0)}, BufferError, r"device \(1, 0\)"),
    "lanes": ({"dtype": arrays.DLDataType(2, 64, 2)}, BufferError, "2 lanes"),
    "no lanes": ({"dtype": arrays.DLDataType(2, 64, 0)}, BufferError, "0 lanes"),
    "bits": ({"dtype": arrays.DLDataType(2, 4, 1)}, BufferError, "4-bit"),
    "dimensions": ({"ndim": -1}, BufferError, "-1 dimensions"),
    "no shape": ({"shape": None}, BufferError, "without a shape"),
    "no data": ({"data": None}, BufferError, "without data"),
    "negative extent": ({"shape": (ctypes.c_int64 * 2)(2, -3)}, BufferError, "extent -3 in dimension 1"),
    "beyond memory": ({"shape": (ctypes.c_int64 * 2)(2**62, 2**62)}, BufferError, "beyond all memory"),
    "strides beyond memory": ({"strides": (ctypes.c_int64 * 2)(2**62, 1)}, BufferError, "beyond all memory"),
    "complex": ({"dtype": arrays.DLDataType(5, 64, 1)}, TypeError, "complex64"),
    "an unknown type": ({"dtype": arrays.DLDataType(17, 8, 1)}, TypeError, "type code 17"),
}


@pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "unversioned"])
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_with_a_tensor(gpu, wrong, versioned):
    fields, error, message = WRONG[wrong]
    if wrong == "major version" and not versioned:
        fields, error, message = {"dtype": arrays.DLDataType(2, 64, 3)}, BufferError, "3 lanes"
    a = arrays.Array(X, versioned=versioned, **fields)
    with pytest.raises(error, match=message):
        xent.cuda.logsumexp(a)
    gc.collect()
    assert a.deleted == [1]
    assert "run" not in "".join(gpu.notes())


@pytest.mark.parametrize("name", [b"used_dltensor_versioned", b"used_dltensor", b"tensor", b""])
def test_what_is_wrong_with_a_capsule(gpu, name):
    class Named(arrays.Array):
        def __dlpack__(self, **options):
            parcel = arrays.Parcel(self.data)
            self.parcels.append(parcel)
            return parcel.capsule(name)

    a = Named(X)
    with pytest.raises(BufferError, match="holds no tensor to take"):
        xent.cuda.logsumexp(a)
    assert a.deleted == [0]  # it was not ours


def test_no_capsule(gpu):
    class Nothing(arrays.Array):
        def __dlpack__(self, **options):
            return None

    with pytest.raises(BufferError, match="returned no capsule"):
        xent.cuda.logsumexp(Nothing(X))


@pytest.mark.parametrize("versioned", [True, False])
def test_a_capsule_is_used_once(gpu, versioned):
    class Again(arrays.Array):
        capsule = None

        def __dlpack__(self, **options):
            self.capsule = self.capsule or super().__dlpack__(**options)
            return self.capsule

    a = Again(X, versioned=versioned)
    taken = gpu.native.Array(a, 1, "test")
    assert arrays.name_of(a.capsule) == (b"used_dltensor_versioned" if versioned else b"used_dltensor")
    with pytest.raises(BufferError, match="used_dltensor"):
        gpu.native.Array(a, 1, "test")
    del a.capsule
    gc.collect()
    assert a.deleted == [0]
    del taken
    assert a.deleted == [1]


def test_a_deleter_may_be_missing(gpu):
    a = arrays.Array(X, deleter=False)
    assert_same(xent.cuda.logsumexp(a), xent.logsumexp(X))
    gpu.native.drain()


def test_a_deleter_keeps_the_error_that_is_on_its_way(gpu):
    """The second operand is refused while the first one is held: its deleter runs as the exception passes."""
    a, b = arrays.Array(X), arrays.Array(X, version=(9, 9))
    with pytest.raises(BufferError, match=r"9\.9"):
        xent.cuda.cross_entropy(a, b)
    gc.collect()
    assert a.deleted == b.deleted == [1]


LAYOUTS = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "negative": lambda a: a[::-1, ::-1],
    "every second": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "one class repeated": lambda a: np.broadcast_to(a[:, :1], a.shape),
    "no rows": lambda a: a[:0],
    "no classes": lambda a: a[:, :0],
}


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(gpu, layout, versioned, rng):
    x = LAYOUTS[layout](rng.standard_normal((4, 6)))
    for name in ("logsumexp", "softmax"):
        result = getattr(xent.cuda, name)(arrays.Array(x, versioned=versioned))
        assert_same(result, getattr(xent, name)(x))


def test_a_tensor_without_strides_is_compact(gpu):
    x = np.arange(24.0).reshape(2, 3, 4)
    taken = gpu.native.Array(arrays.Array(x, strides=None), 1, "test")
    assert taken.strides == x.strides
    assert_same(xent.cuda.logsumexp(arrays.Array(x, strides=None), axis=1), xent.logsumexp(x, axis=1))
    scalar = gpu.native.Array(arrays.Array(np.array(1.0), strides=None, shape=None), 1, "test")
    assert (scalar.shape, scalar.strides) == ((), ())


def test_a_byte_offset_counts(gpu):
    x = np.arange(8.0)
    part = arrays.Array(x[:3], byte_offset=16)
    assert gpu.native.Array(part, 1, "test").data == x.ctypes.data + 16
    assert_same(xent.cuda.logsumexp(part), xent.logsumexp(x[2:5]))


@pytest.mark.parametrize("what", ["none", "shape"])
def test_empty_tensors_need_no_data(gpu, what):
    x = np.empty((0, 3) if what == "none" else (3, 0))
    assert_same(xent.cuda.log_softmax(arrays.Array(x, data=None)), xent.log_softmax(x))
    assert_same(xent.cuda.logsumexp(arrays.Array(x, data=None)), xent.logsumexp(x))


def test_managed_memory_is_on_a_gpu(gpu):
    class Managed(arrays.Array):
        def __dlpack_device__(self):
            return (13, 0)

    assert_same(xent.logsumexp(Managed(X, device=(13, 0))), xent.logsumexp(X))


@pytest.mark.parametrize(("kind", "says"), [(10, "type 10"), (8, "type 8"), (14, "type 14")])
def test_other_devices_are_refused(gpu, kind, says):
    class Elsewhere(arrays.Array):
        def __dlpack_device__(self):
            return (kind, 0)

    for call in (xent.logsumexp, xent.cuda.logsumexp):
        with pytest.raises(TypeError, match=says):
            call(Elsewhere([1.0]))


def test_cpu_arrays_are_not_taken(gpu):
    with pytest.raises(TypeError, match=r"numpy\.ndarray in CPU memory"):
        xent.cuda.logsumexp(X)
    with pytest.raises(TypeError, match=r"logits is a numpy\.ndarray in CPU memory, target is on a GPU"):
        xent.cross_entropy(X, arrays.Array(X))
    with pytest.raises(TypeError, match=r"target is a numpy\.ndarray in CPU memory"):
        xent.cross_entropy(arrays.Array(X), X)
    with pytest.raises(TypeError, match="labels is a list"):
        xent.cross_entropy_with_labels(arrays.Array(X), [0, 1])
    with pytest.raises(TypeError, match=r"where is a numpy\.ndarray in CPU memory"):
        xent.logsumexp(arrays.Array(X), where=X > 0)
    with pytest.raises(TypeError, match=r"where is a .*Array on a GPU, and is needed in CPU memory"):
        xent.logsumexp(X, where=arrays.Array(X > 0))
    with pytest.raises(TypeError, match=r"weight is a numpy\.ndarray in CPU memory"):
        losses.cross_entropy(arrays.Array(X), arrays.Array([0, 1]), weight=[1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="out must be a plain array"):
        xent.softmax(X, out=arrays.Array(X.copy()))


def test_one_device_throughout(gpu):
    with pytest.raises(ValueError, match="target is on GPU 1, the first operand on GPU 0"):
        xent.cross_entropy(arrays.Array(X), arrays.Array(X, 1))
    with pytest.raises(ValueError, match="out is on GPU 1"):
        xent.softmax(arrays.Array(X), out=arrays.Array(X.copy(), 1))
    xent.cross_entropy(arrays.Array(X, 1), arrays.Array(X, 1))
    notes = gpu.notes()
    assert "run on GPU 1, stream 1" in notes
    # The thread's device is what it was.
    assert [n for n in notes if n.startswith("device")][-1] == "device 0"


# ---- __cuda_array_interface__ --------------------------------------------------------------------------------------


def test_the_second_protocol(gpu, rng):
    x = rng.standard_normal((3, 5)).astype(np.float32)
    for layout in (x, x.T, x[:, ::-1]):
        assert_same(xent.logsumexp(arrays.Interface(layout)), xent.logsumexp(layout))
    labels = np.array([0, 4, 2])
    result = xent.cross_entropy_with_labels(arrays.Interface(x), arrays.Interface(labels))
    assert_same(result, xent.cross_entropy_with_labels(x, labels))
    assert_same(xent.logsumexp(arrays.Interface(x, strides=None)), xent.logsumexp(x))
    assert_same(xent.logsumexp(arrays.Interface(x[:0], data=(0, False))), xent.logsumexp(x[:0]))
    assert_same(xent.logsumexp(arrays.Interface(x), where=arrays.Interface(x > 0)), xent.logsumexp(x, where=x > 0))


def test_its_stream_is_waited_for(gpu):
    xent.cuda.logsumexp(arrays.Interface(X, stream=1))
    assert not any(note.startswith("1 waits") for note in gpu.notes())  # it is the one that the call runs on
    xent.cuda.logsumexp(arrays.Interface(X, stream=44))
    notes = gpu.notes()
    (record,) = (n for n in notes if n.endswith("on 44"))
    event = record.split()[1]
    assert notes.index(record) < notes.index(f"1 waits for {event}") < notes.index("run on GPU 0, stream 1")
    with pytest.raises(BufferError, match="stream 0"):
        xent.cuda.logsumexp(arrays.Interface(X, stream=0))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"mask": object()}, BufferError, "mask"),
        ({"typestr": "<c16"}, TypeError, "<c16"),
        ({"typestr": ">f8"}, TypeError, ">f8"),
        ({"strides": (8,)}, BufferError, "1 strides for 2 dimensions"),
        ({"shape": (2, -3)}, BufferError, "negative extent"),
        ({"shape": (2**62, 2**62), "strides": None}, BufferError, "beyond all memory"),
    ],
)
def test_what_is_wrong_with_an_interface(gpu, fields, error, message):
    with pytest.raises(error, match=message):
        xent.cuda.logsumexp(arrays.Interface(X, **fields))


def test_an_interface_with_a_key_missing(gpu):
    interface = arrays.Interface(X).__cuda_array_interface__
    for key in ("shape", "typestr", "data", "version"):
        rest = {k: v for k, v in interface.items() if k != key}
        with pytest.raises(BufferError, match=f'no "{key}"'):
            xent.cuda.logsumexp(types.SimpleNamespace(__cuda_array_interface__=rest))


def test_memory_that_is_no_gpus(gpu):
    gpu.set(pointer_type=1)
    with pytest.raises(TypeError, match="not on a CUDA GPU"):
        xent.cuda.logsumexp(arrays.Interface(X))


def test_the_object_lives_as_long_as_its_memory_is_read(gpu):
    gpu.set(events_pending=1)
    a = arrays.Interface(X)
    before = sys.getrefcount(a)
    xent.cuda.logsumexp(a)
    assert sys.getrefcount(a) == before + 1
    gpu.set(events_pending=0)
    gpu.native.sweep()
    assert sys.getrefcount(a) == before


# ---- values: the way there and back --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_operations(gpu, name, dtype, rng):
    """The fake's kernels are the CPU's: what comes back is the CPU's to the bit, by either door."""
    operands = cases.operands(name, "random", 5, 7, cases.DTYPES[dtype], rng)
    expected = getattr(xent, name)(*operands)
    assert_same(getattr(xent.cuda, name)(*map(arrays.Array, operands)), expected)
    assert_same(getattr(xent, name)(*map(arrays.Array, operands)), expected)


@pytest.mark.parametrize("shape", [(), (4,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("name", [c for c in cases.NAMES if cases.SECOND[c] == "point"])
def test_elementwise(gpu, name, shape, rng):
    x, t = rng.random(shape), rng.random(shape[1:])
    assert_same(getattr(xent.cuda, name)(arrays.Array(x), arrays.Array(t)), getattr(xent, name)(x, t))


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (2, 1), None])
@pytest.mark.parametrize("name", ["logsumexp", "softmax", "kl_div", "cross_entropy_value_and_grad"])
def test_axes(gpu, name, axis, keepdims, rng):
    x, t = rng.standard_normal((2, 2, 3, 4)) if axis is None else rng.standard_normal((2, 3, 4, 5)), None
    t = cases.softmax64(rng.standard_normal(x.shape))
    where = rng.random(x.shape) < 0.8
    operands = (x,) if cases.SECOND[name] == "" else (x, t)
    expected = getattr(xent, name)(*operands, axis=axis, keepdims=keepdims, where=where)
    given = map(arrays.Standard, operands)
    assert_same(getattr(xent, name)(*given, axis=axis, keepdims=keepdims, where=arrays.Standard(where)), expected)


def test_labels_with_several_axes(gpu, rng):
    x, labels = rng.standard_normal((4, 2, 3)), rng.integers(6, size=4)
    expected = xent.cross_entropy_with_labels_value_and_grad(x, labels, axis=(1, 2))
    result = xent.cross_entropy_with_labels_value_and_grad(arrays.Standard(x), arrays.Standard(labels), axis=(1, 2))
    assert_same(result, expected)


def test_several_axes_that_one_stride_walks(gpu):
    """Nothing is copied, so that no library is needed that could; a mask that lies otherwise needs one."""
    x = np.arange(24.0).reshape(2, 3, 4)
    for axis in (None, (1, 2), (0, 1)):
        for name in ("logsumexp", "softmax") if axis != (0, 1) else ("logsumexp",):
            assert_same(getattr(xent, name)(arrays.Array(x), axis=axis), getattr(xent, name)(x, axis=axis))
    shown = np.array([True, True, False])[:, None]
    with pytest.raises(TypeError, match="__array_namespace__"):
        xent.logsumexp(arrays.Array(x), axis=(1, 2), where=arrays.Array(shown))
    expected = xent.logsumexp(x, axis=(1, 2), where=shown)
    assert_same(xent.logsumexp(arrays.Standard(x), axis=(1, 2), where=arrays.Standard(shown)), expected)


def test_several_axes_need_a_library(gpu):
    with pytest.raises(TypeError, match="__array_namespace__"):
        xent.logsumexp(arrays.Array(np.arange(24.0).reshape(2, 3, 4)), axis=(0, 2))


def test_mixed_dtypes_and_broadcasting(gpu, rng):
    x, t = rng.standard_normal((3, 1, 5)).astype("f4"), cases.softmax64(rng.standard_normal((4, 5)))
    assert_same(xent.kl_div(arrays.Array(x), arrays.Array(t)), xent.kl_div(x, t))
    labels = rng.integers(5, size=(4,)).astype("i2")
    got = xent.cross_entropy_with_labels(arrays.Array(x), arrays.Array(labels))
    assert_same(got, xent.cross_entropy_with_labels(x, labels))
    assert_same(xent.softmax(arrays.Array(x), dtype=np.float64), xent.softmax(x, dtype=np.float64))
    assert_same(xent.softmax(arrays.Array(x), dtype="float16"), xent.softmax(x, dtype="float16"))


LOSSES = {
    "cross_entropy": "labels",
    "kl_div": "probs",
    "nll": "labels",
    "binary_cross_entropy": "unit",
    "js_div": "logits",
}


@pytest.mark.parametrize(
    ("reduction", "return_grad"),
    [("none", False), ("sum", True), ("mean", False), ("mean", True), ("terms", False), ("per_class", False)],
)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses(gpu, loss, reduction, return_grad, rng):
    x = cases.logits("random", 6, 5, "f8", rng)
    target = cases.second(LOSSES[loss], "random", x, rng)
    options = {"reduction": reduction, "return_grad": return_grad, "axis": 0}
    weights = {"sample_weight": rng.random(6), "where": rng.random((5, 6)) < 0.7}
    if loss in ("cross_entropy", "nll", "binary_cross_entropy"):
        weights["weight"] = rng.random(5)
    if loss == "binary_cross_entropy":
        weights["pos_weight"] = rng.random(5)
    if loss in ("cross_entropy", "nll"):
        options["ignore_index"] = int(target[1])
    if loss == "cross_entropy":
        options["label_smoothing"] = 0.25
    if loss in ("kl_div", "js_div"):
        weights["temperature"] = rng.random(6) + 0.5
    x, target = x.T, target.T
    function = getattr(losses, loss)
    on_gpu = {name: arrays.Array(a) for name, a in weights.items()}
    expected = function(x, target, **options, **weights)
    assert_same(function(arrays.Array(x), arrays.Array(target), **options, **on_gpu), expected)
    assert_same(function(arrays.Array(x), arrays.Array(target), **options), function(x, target, **options))


@pytest.mark.parametrize("dtype", [None, "float32", "float64", "float16"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "terms", "per_class"])
@pytest.mark.parametrize("half", ["f2", "bfloat16"])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_16_bits(gpu, loss, half, reduction, dtype, rng):
    """A sum over rows is float32, all else keeps the dtype, and `dtype` decides otherwise."""
    x = cases.logits("random", 6, 5, cases.DTYPES[half], rng)
    target = cases.second(LOSSES[loss], "random", x, rng)
    function = getattr(losses, loss)
    for grad in [False] + [True] * (reduction in ("none", "sum", "mean")):
        options = {"reduction": reduction, "return_grad": grad, "dtype": dtype}
        assert_same(function(arrays.Array(x), arrays.Array(target), **options), function(x, target, **options))


@pytest.mark.parametrize("kind", ["probs", "log_probs", "logits"])
def test_numbers_are_taken_from_the_host(gpu, kind, rng):
    x = cases.logits("random", 4, 5, "f8", rng)
    target = cases.second(kind, "random", x, rng)
    options = {"target_kind": kind, "temperature": 2.5, "sample_weight": 3, "reduction": "none"}
    result = losses.kl_div(arrays.Array(x), arrays.Array(target), **options)
    assert_same(result, losses.kl_div(x, target, **options))
    with pytest.raises(ValueError, match="temperature must be positive"):
        losses.kl_div(arrays.Array(x), arrays.Array(target), temperature=-1.0)


def test_binary_targets_are_not_looked_at(gpu):
    with pytest.raises(TypeError, match="the target is floating, not int64"):
        losses.binary_cross_entropy(arrays.Array(X), arrays.Array(X.astype(int)))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "terms", "per_class"])
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_distillation(torch, axis, labelled, reduction, rng):
    """Composed on the GPU: the CPU's values, though not its very bits."""
    student, teacher = rng.standard_normal((2, 6, 5))
    labels = rng.integers(5, size=6) if labelled else None
    tensor = torch.Tensor
    for weights in (
        {},
        {"sample_weight": rng.random(6)},
        {"where": rng.random((6, 5)) < 0.6},
        {"where": np.ones((1, 5), bool)},
    ):
        options = {"temperature": 3.0, "reduction": reduction, "return_grad": reduction in ("none", "sum", "mean")}
        where = weights.get("where")
        if axis == 0 and where is not None:
            weights["where"] = where.T if where.ndim == 2 else where[:, None]
        if labelled:
            options |= {"alpha": 0.25, "ignore_index": int(labels[2])}
        x, y = (student, teacher) if axis == 1 else (student.T, teacher.T)
        expected = losses.distillation(x, y, labels, axis=axis, **options, **weights)
        given = [None if a is None else tensor(a) for a in (x, y, labels)]
        result = losses.distillation(*given, axis=axis, **options, **{k: tensor(w) for k, w in weights.items()})
        for got, wanted in zip(cases.as_tuple(host(result)), cases.as_tuple(expected), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("temperature", [1e-200, 1e-44, 1e-30, 1e-13, 1e4, 1e13, 1e20, 1e38, 1e200, 1e250])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "terms", "per_class"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_distillation_at_any_temperature(torch, dtype, reduction, temperature, rng):
    """As the CPU, which looks at the logits: no power of T overflows or underflows on the way."""
    student, teacher = (3 * rng.standard_normal((2, 6, 5))).astype(dtype)
    labels = rng.integers(5, size=6)
    for alpha, given in ((None, None), (0.25, labels)):
        options = {"temperature": temperature, "reduction": reduction, "alpha": alpha}
        options["return_grad"] = reduction in ("none", "sum", "mean")
        expected = losses.distillation(student, teacher, given, **options)
        tensors = [None if a is None else torch.Tensor(a) for a in (student, teacher, given)]
        result = losses.distillation(*tensors, **options)
        for got, wanted in zip(cases.as_tuple(host(result)), cases.as_tuple(expected), strict=True):
            assert got.dtype == wanted.dtype
            differs = np.ndim(wanted) > 1 or reduction == "per_class"  # terms and gradients: see cuda.distillation
            eps = max(float(np.finfo(dtype).eps), 1e-8 if differs and temperature > 1 else 0.0)
            finite = np.isfinite(wanted)
            np.testing.assert_array_equal(got[~finite], np.asarray(wanted)[~finite])
            got, wanted = np.where(finite, got, 0).astype(float), np.where(finite, wanted, 0).astype(float)
            np.testing.assert_allclose(got, wanted, rtol=16 * eps, atol=8 * eps * np.abs(wanted).max())


@pytest.mark.parametrize(("first", "second"), [("f2", "f4"), ("f8", "f2"), ("f2", "f2")])
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("dtype", [None, "float32", "float64", "float16"])
def test_distillation_of_two_dtypes(torch, first, second, reduction, dtype, rng):
    student, teacher = rng.standard_normal((6, 5)).astype(first), rng.standard_normal((6, 5)).astype(second)
    labels = rng.integers(5, size=6)
    options = {"temperature": 2.0, "alpha": 0.5, "reduction": reduction, "return_grad": True, "dtype": dtype}
    expected = losses.distillation(student, teacher, labels, **options)
    result = losses.distillation(*map(torch.Tensor, (student, teacher, labels)), **options)
    for got, wanted in zip(host(result), expected, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-6 if got.dtype != np.float16 else 2e-3, atol=1e-3)


def test_distillation_of_nothing(torch):
    none = torch.Tensor(np.empty((0, 3)))
    assert np.isnan(host(losses.distillation(none, none, temperature=2.0)))
    x = torch.Tensor(X)
    masked = losses.distillation(x, x, temperature=2.0, where=torch.Tensor(np.zeros((2, 3), bool)))
    assert np.isnan(host(masked))
    weights = torch.Tensor(np.ones(2))
    value = losses.distillation(x, x, temperature=torch.Tensor(np.full(2, 2.0)), sample_weight=weights)
    assert host(value) == 0.0
    with pytest.raises(TypeError, match="teacher_logits is in CPU memory"):
        losses.distillation(x, X, temperature=2.0)
    with pytest.raises(ValueError, match=r"student_logits of shape \(2, 3\) .*teacher_logits of shape \(2, 2\)"):
        losses.distillation(x, torch.Tensor(X[:, :2]), temperature=2.0)
    with pytest.raises(TypeError, match="temperature is an array in CPU memory"):
        losses.distillation(x, x, temperature=[1.0, 2.0])


# ---- what is wrong with a call: the CPU's words --------------------------------------------------------------------

A = arrays.Array
MISTAKES = {
    "axis": lambda x, f: f.logsumexp(x(X), axis=2),
    "axes": lambda x, f: f.logsumexp(x(X), axis=(0, 0)),
    "scalar": lambda x, f: f.logsumexp(x(np.array(1.0))),
    "scalar target": lambda x, f: f.cross_entropy(x(X), x(np.array(1.0))),
    "classes": lambda x, f: f.cross_entropy(x(X), x(X[:, :2])),
    "batch": lambda x, f: f.cross_entropy(x(X), x(np.ones((3, 3)))),
    "batch, several axes": lambda x, f: f.cross_entropy(x(X[None]), x(np.ones((1, 2, 2))), axis=(1, 2)),
    "labels": lambda x, f: f.cross_entropy_with_labels(x(X), x(np.zeros(3, int))),
    "one-hot": lambda x, f: f.cross_entropy_with_labels(x(X), x(np.zeros((2, 3), int))),
    "one-hot, several axes": lambda x, f: f.cross_entropy_with_labels(x(X), x(np.zeros((2, 3), int)), axis=None),
    "column": lambda x, f: f.cross_entropy_with_labels(x(X), x(np.zeros((2, 1), int))),
    "row": lambda x, f: f.cross_entropy_with_labels(x(X), x(np.zeros((1, 3), int)), axis=0),
    "many labels": lambda x, f: f.cross_entropy_with_labels(x(X), x(np.array([1, 2])), axis=None),
    "several axes' labels": lambda x, f: f.cross_entropy_with_labels(x(X[None]), x(np.zeros(3, int)), axis=(0, 2)),
    "several axes' column": lambda x, f: f.cross_entropy_with_labels(
        x(X[None]), x(np.zeros((1, 2, 1), int)), axis=(0, 2)
    ),
    "where": lambda x, f: f.logsumexp(x(X), where=x(np.ones((2, 2), bool))),
    "where's dtype": lambda x, f: f.logsumexp(x(X), where=x(np.ones((2, 3)))),
    "float labels": lambda x, f: f.cross_entropy_with_labels(x(X), x(np.zeros(2))),
    "dtype": lambda x, f: f.logsumexp(x(X), dtype="int32"),
    "pair": lambda x, f: f.cross_entropy_value_and_grad(x(X), x(X), out=x(X)),
    "a number for a row": lambda x, f: f.cross_entropy(x(X[0]), x(np.array(1.0)), axis=None),
    "likely labels": lambda x, f: f.cross_entropy(x(X), x(np.zeros(2))),
    "a keyword of others": lambda x, f: f.logsumexp(x(X), dim=1),
    "no operand": lambda x, f: f.cross_entropy(x(X)),
    "twice": lambda x, f: f.logsumexp(x(X), logits=x(X)),
    "three": lambda x, f: f.cross_entropy_value_and_grad(x(X), x(X), out=(None, None, None)),
}
LOSS_MISTAKES = {
    "weight": lambda x: losses.cross_entropy(x(X), x(np.array([0, 1])), weight=x(np.ones(2))),
    "pos_weight": lambda x: losses.binary_cross_entropy(x(X), x(X), pos_weight=x(np.ones((1, 3)))),
    "sample_weight": lambda x: losses.cross_entropy(x(X), x(np.array([0, 1])), sample_weight=x(np.ones(3))),
    "temperature": lambda x: losses.kl_div(x(X), x(X), temperature=x(np.ones(3))),
    "target of one row": lambda x: losses.kl_div(x(X), x(X[0])),
    "labels that are floats": lambda x: losses.cross_entropy(x(X), x(np.array([0.5, 1.0]))),
    "mask of classes": lambda x: losses.js_div(x(X), x(X), where=x(X[0] > 0)),
    "mask of too many": lambda x: losses.nll(x(X), x(np.array([0, 1])), where=x(np.ones((2, 2), bool))),
    "mask of numbers": lambda x: losses.kl_div(x(X), x(X), where=x(X)),
    "reduction": lambda x: losses.kl_div(x(X), x(X), reduction="batchmean"),
    "ignore_index": lambda x: losses.cross_entropy(x(X), x(X), ignore_index=1),
    "bool target": lambda x: losses.cross_entropy(x(X), x(X > 1)),
    "labels' shape": lambda x: losses.distillation(x(X), x(X), x(np.zeros(3, int)), temperature=1.0, alpha=0.5),
    "alpha": lambda x: losses.distillation(x(X), x(X), temperature=1.0, alpha=0.5),
}


def error_of(call, *arguments):
    """What it raises, whatever that is: to be compared."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call(*arguments)
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(gpu, mistake):
    expected = error_of(MISTAKES[mistake], np.asarray, xent)
    assert error_of(MISTAKES[mistake], arrays.Standard, xent) == expected
    assert error_of(MISTAKES[mistake], arrays.Standard, xent.cuda) == expected
    assert not [note for note in gpu.notes() if note.startswith("run")]


@pytest.mark.parametrize("mistake", LOSS_MISTAKES)
def test_mistakes_in_losses(gpu, mistake):
    assert error_of(LOSS_MISTAKES[mistake], A) == error_of(LOSS_MISTAKES[mistake], np.asarray)
    assert not [note for note in gpu.notes() if note.startswith("run")]


def random_call(rng):
    """(name, operands, options) of a call with axes, broadcasting, masks and layouts as they come; most are right."""
    name = cases.ROW_NAMES[rng.integers(len(cases.ROW_NAMES))]
    ndim = int(rng.integers(1, 5))
    shape = tuple(map(int, rng.integers(1, 4, size=ndim)))
    axes = tuple(int(a) for a in rng.permutation(ndim)[: rng.integers(1, ndim + 1)])
    axis = [axes[0], axes[0] - ndim, axes, None][rng.integers(4)]
    if axis is None:
        axes = tuple(range(ndim))
    elif not isinstance(axis, tuple):
        axes = axes[:1]

    def stretched(shape, share):
        """A shape that broadcasts to this one, and now and then does not."""
        return tuple(1 if rng.random() < share else n + (rng.random() < 0.06) for n in shape)

    def laid(a):
        return [a, np.asfortranarray(a), a[..., ::-1] if a.ndim else a][rng.integers(3)]

    batch = tuple(n for d, n in enumerate(shape) if d not in axes)
    operands = [laid(rng.random(shape))]
    if cases.SECOND[name] == "labels":
        operands.append(rng.integers(np.prod([shape[d] for d in axes]), size=stretched(batch, 0.2)))
    elif xent._core.TABLE[name].operands[1]:
        pairs = enumerate(zip(shape, stretched(shape, 0.2), strict=True))
        operands.append(laid(rng.random([n if d in axes else m for d, (n, m) in pairs])))
    options = {"axis": axis, "keepdims": bool(rng.random() < 0.3)}
    if rng.random() < 0.5:
        options["where"] = laid(rng.random(stretched(shape, 0.3)) < 0.7)
    return name, operands, options


def test_random_calls(gpu, rng):
    """The CPU's bits, or its error in its words."""
    there, refused, same = arrays.Standard, 0, 0
    for _ in range(500):
        name, operands, options = random_call(rng)
        given = tuple(map(there, operands)), options | {k: there(v) for k, v in options.items() if k == "where"}
        try:
            expected = getattr(xent, name)(*operands, **options)
        except ValueError:
            wrong = [
                error_of(lambda o, k, name=name: getattr(xent, name)(*o, **k), *call)
                for call in ((operands, options), given)
            ]
            assert wrong[0] == wrong[1]
            refused += 1
            continue
        assert_same(getattr(xent, name)(*given[0], **given[1]), expected)
        same += 1
    assert min(refused, same) > 20


def test_what_only_some_functions_take(gpu):
    with pytest.raises(TypeError, match=r"logsumexp\(\) has no argument 'check_labels'"):
        xent.cuda.logsumexp(A(X), check_labels=True)
    with pytest.raises(
        TypeError, match=r"takes 1 positional argument, logits, but 2 were given; .*, stream are keywords"
    ):
        xent.cuda.logsumexp(A(X), A(X))


def test_more_dimensions_than_there_may_be(gpu):
    """DLPack has no limit of its own."""
    extents = (ctypes.c_int64 * 66)(*[1] * 65, 3)
    a = A(np.zeros(3), ndim=66, shape=extents, strides=None)
    with pytest.raises(ValueError, match="66 dimensions are more than the 65 that there may be"):
        xent.logsumexp(a)
    most = A(np.zeros(3), ndim=65, shape=(ctypes.c_int64 * 65)(*[1] * 64, 3), strides=None)
    labels = A(np.zeros(1, int), ndim=65, shape=(ctypes.c_int64 * 65)(*[1] * 63, 2, 1), strides=None)
    with pytest.raises(ValueError, match="66 dimensions are more than the 65"):
        xent.cross_entropy_with_labels(most, labels)


def test_dtypes_that_are_not_computed(gpu):
    with pytest.raises(TypeError, match="logits of dtype int64 is not supported on a GPU"):
        xent.logsumexp(A([[1, 2]]))
    with pytest.raises(TypeError, match="target of dtype bool is not supported on a GPU"):
        xent.cross_entropy(A(X), A(X > 1))
    with pytest.raises(TypeError, match="weight must be float32 or float64 on a GPU, not float16"):
        losses.cross_entropy(A(X), A(np.array([0, 1])), weight=A(np.ones(3, "f2")))


def test_what_the_kernels_report(gpu):
    for status, error in ((2, TypeError), (4, ValueError), (5, ValueError), (6, ValueError), (8, SystemError)):
        gpu.set(fail_run=status)
        with pytest.raises(error, match="logsumexp: "):
            xent.logsumexp(A(X))
    gpu.set(fail_run=12)
    with pytest.raises(RuntimeError, match=r"logsumexp: cudaErrorFake \(999\)"):
        xent.logsumexp(A(X))


# ---- out -----------------------------------------------------------------------------------------------------------


def test_out(gpu, rng):
    x, t = rng.standard_normal((2, 3, 4))
    a = A(x)
    value, rows = A(np.empty(3)), A(np.empty((4, 3)).T)
    assert xent.softmax(a, out=rows) is rows
    assert_same(rows, xent.softmax(x))
    assert xent.logsumexp(a, out=(value,)) is value
    assert_same(value, xent.logsumexp(x))
    result = xent.cross_entropy_value_and_grad(a, A(t), out=(value, rows))
    assert result == (value, rows)
    assert_same(result, xent.cross_entropy_value_and_grad(x, t))
    result = xent.cross_entropy_value_and_grad(a, A(t), out=(None, rows))
    assert_same(result, xent.cross_entropy_value_and_grad(x, t))
    single = A(np.empty((3, 4), np.float32))
    assert_same(xent.softmax(a, out=single), xent.softmax(x, out=np.empty((3, 4), np.float32)))
    kept = A(np.empty((3, 1)))
    assert_same(xent.logsumexp(a, keepdims=True, out=kept), xent.logsumexp(x, keepdims=True))


def test_out_that_does_not_fit(gpu):
    read_only = A(np.empty((2, 3)), flags=1)
    with pytest.raises(ValueError, match="output array is read-only"):
        xent.softmax(A(X), out=read_only)
    with pytest.raises(ValueError, match=r"out has shape \(3, 2\), the result has \(2, 3\)"):
        xent.softmax(A(X), out=A(np.empty((3, 2))))
    with pytest.raises(TypeError, match="cannot cast float64, the result, to int64"):
        xent.softmax(A(X), out=A(np.empty((2, 3), int)))
    assert not [note for note in gpu.notes() if note.startswith("run")]
    # A read-only operand is nobody's business.
    assert_same(xent.softmax(A(X, flags=1)), xent.softmax(X))


def test_out_in_place(torch):
    x = X.copy()
    tensor = torch.Tensor(x)
    xent.softmax(tensor, out=tensor)
    assert_same(tensor, xent.softmax(X))
    assert ("copy", 0) not in torch.library.notes


@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_out_that_overlaps(library, request):
    module = request.getfixturevalue(library)
    array = getattr(module, "Tensor", None) or module.ndarray
    x = np.arange(12.0)
    xent.softmax(array(x[:9].reshape(3, 3)), out=array(x[3:].reshape(3, 3)))
    assert_same(array(x[3:].reshape(3, 3)), xent.softmax(np.arange(9.0).reshape(3, 3)))
    assert ("copy", 0) in module.library.notes
    whole = array(np.empty((2, 3)))
    assert xent.softmax(array(X), axis=None, out=whole) is whole
    assert_same(whole, xent.softmax(X, axis=None))


@pytest.mark.parametrize("library", ["torch", "cupy"])
@pytest.mark.parametrize("axis", [None, (0, 2)])
def test_several_axes(library, axis, request, rng):
    module = request.getfixturevalue(library)
    array = getattr(module, "Tensor", None) or module.ndarray
    x = rng.standard_normal((2, 3, 4))
    for name in ("logsumexp", "log_softmax"):
        assert_same(getattr(xent, name)(array(x), axis=axis), getattr(xent, name)(x, axis=axis))


def test_out_that_nobody_can_copy_into(gpu):
    x = np.arange(12.0)
    before = x.copy()
    with pytest.raises(TypeError, match="out, a Array, overlaps an operand"):
        xent.softmax(A(x[:9].reshape(3, 3)), out=A(x[3:].reshape(3, 3)))
    assert x.tobytes() == before.tobytes()


def test_out_of_jax(gpu):
    jax = type("Array", (arrays.Standard,), {"__module__": "jaxlib._jax"})
    with pytest.raises(TypeError, match="JAX, which nobody may write to"):
        xent.softmax(A(X), out=jax(X.copy()))


# ---- labels --------------------------------------------------------------------------------------------------------


def test_labels_are_checked_when_asked(gpu):
    x = np.zeros((2, 2, 3))
    labels = np.array([[0, 1], [7, -1]])
    for name in ("cross_entropy_with_labels", "nll"):
        on_gpu = error_of(lambda name=name: getattr(xent.cuda, name)(A(x), A(labels), check_labels=True))
        assert on_gpu == error_of(getattr(xent, name), x, labels)
    gpu.notes()
    xent.cuda.cross_entropy_with_labels(A(x), A(labels))
    assert not [note for note in gpu.notes() if note.startswith("check")]
    with xent.cuda.using(check_labels=True), pytest.raises(IndexError, match=r"label 7 at \(1, 0\)"):
        losses.cross_entropy(A(x), A(labels))
    xent.cuda.cross_entropy_with_labels(A(x), A(labels % 3), check_labels=True)
    assert "check labels on 1" in gpu.notes()
    with xent.cuda.using(check_labels=True):
        xent.logsumexp(A(x))  # has none
    assert "check labels on 1" not in gpu.notes()


def test_labels_in_one_dimension(gpu):
    with pytest.raises(IndexError, match="label 3 at 1 is out of range for 3 classes"):
        xent.cuda.cross_entropy_with_labels(A(X), A(np.array([0, 3])), check_labels=True)
    with pytest.raises(IndexError, match=r"label 5 at \(\) is out of range for 3 classes"):
        xent.cuda.cross_entropy_with_labels(A(X[0]), A(np.array(5)), check_labels=True)


# ---- streams -------------------------------------------------------------------------------------------------------


class Stream:
    """One of cuda.core, with the protocol that others are taking up."""

    def __init__(self, handle):
        self.handle = handle

    def __cuda_stream__(self):
        return (0, self.handle)


@pytest.mark.parametrize(
    ("stream", "number"),
    [
        (None, 1),
        (1, 1),
        (2, 2),
        (77, 77),
        (np.int64(77), 77),
        (Stream(77), 77),
        (Stream(0), 1),
        (types.SimpleNamespace(cuda_stream=77), 77),
        (types.SimpleNamespace(cuda_stream=0), 1),
        (types.SimpleNamespace(ptr=77), 77),
        (types.SimpleNamespace(handle=ctypes.c_void_p(77)), 77),
        (types.SimpleNamespace(handle=ctypes.c_void_p(0)), 1),
    ],
    ids=["none", "legacy", "per thread", "int", "np.int64", "own", "own 0", "torch", "torch 0", "ptr", "c", "c 0"],
)
def test_stream_numbers(gpu, stream, number):
    a, old = A(X), arrays.OldArray(X)
    xent.cuda.cross_entropy(a, old, stream=stream)
    assert (a.asked[0][0], old.asked[0][0]) == (number, number)
    assert f"run on GPU 0, stream {number}" in gpu.notes()


def test_using_a_stream(gpu):
    a = A(X)
    with xent.cuda.using(stream=55):
        losses.cross_entropy(a, A(X))
        xent.logsumexp(a)
        xent.cuda.logsumexp(a, stream=66)
    xent.logsumexp(a)
    assert [asked[0] for asked in a.asked] == [55, 55, 66, 1]


@pytest.mark.parametrize("stream", [0, -1])
def test_streams_that_are_none(gpu, stream):
    a = A(X)
    with pytest.raises(ValueError, match="is no stream: 1 is the legacy default stream"):
        xent.cuda.logsumexp(a, stream=stream)
    for wrong in ("1", 1.0, True):
        with pytest.raises(TypeError, match="stream must be an int or a stream"):
            xent.cuda.logsumexp(a, stream=wrong)
    with pytest.raises(ValueError, match="no stream"), xent.cuda.using(stream=stream):
        pass
    assert a.asked == []


def test_operands_live_until_the_kernels_are_done(gpu):
    """Of a library that does not know of the stream, and would use the memory again."""
    gpu.set(events_pending=1)
    a, t, where = A(X), A(X), A(X > 0)
    xent.cuda.cross_entropy(a, t, where=where, stream=55)
    gc.collect()
    assert a.deleted == t.deleted == where.deleted == [0]
    assert gpu.native.waiting() == 1
    notes = gpu.notes()
    assert any(
        note.startswith("record") and note.endswith("on 55") for note in notes[notes.index("run on GPU 0, stream 55") :]
    )
    xent.cuda.logsumexp(A(X))  # looks, and finds it not done
    assert a.deleted == [0]
    gpu.set(events_pending=0)
    b = A(X)
    xent.cuda.logsumexp(b)
    assert a.deleted == t.deleted == where.deleted == [1]
    gpu.native.drain()
    assert b.deleted == [1]
    assert gpu.native.waiting() == 0


def test_nothing_is_held_of_a_call_that_is_refused(gpu):
    gpu.set(events_pending=1)
    a = A(X)
    with pytest.raises(ValueError, match="does not broadcast"):
        xent.logsumexp(a, where=A(np.ones(7, bool)))
    gc.collect()
    assert a.deleted == [1]
    assert gpu.native.waiting() == 0


def test_a_launch_that_fails_may_have_queued_something(gpu):
    gpu.set(events_pending=1, fail_run=12)
    a = A(X)
    with pytest.raises(RuntimeError):
        xent.logsumexp(a)
    gc.collect()
    assert a.deleted == [0]
    gpu.set(events_pending=0)
    gpu.native.sweep()
    assert a.deleted == [1]


# ---- captures ------------------------------------------------------------------------------------------------------


def test_captures(torch, gpu):
    tensor, labels = torch.Tensor(X), torch.Tensor(np.array([0, 1]))
    torch.library.streams[0] = 99
    gpu.set(capturing=99)
    with pytest.raises(RuntimeError, match=r"not loaded yet.*prepare\(0\) before the capture"):
        xent.softmax(tensor)
    gpu.set(capturing=0)
    xent.cuda.prepare(0)
    gpu.set(capturing=99)
    gpu.notes()
    assert_same(xent.softmax(tensor), xent.softmax(X))
    assert_same(losses.kl_div(tensor, tensor, temperature=2.0), losses.kl_div(X, X, temperature=2.0))
    # Neither an allocation of ours nor a wait nor an event.
    assert set(gpu.notes()) == {"run on GPU 0, stream 99"}
    with pytest.raises(RuntimeError, match="check_labels=True waits for the GPU"):
        xent.cuda.cross_entropy_with_labels(tensor, labels, check_labels=True)
    assert gpu.notes() == []


def test_captures_of_others(gpu):
    xent.cuda.prepare(0)
    gpu.set(capturing=99)
    with pytest.raises(RuntimeError, match="cannot allocate while the stream is captured"):
        xent.cuda.softmax(A(X), stream=99)
    xent.cuda.softmax(A(X), stream=98)
    gpu.set(workspace=0)
    out = A(np.empty((2, 3)))
    xent.cuda.softmax(A(X), out=out, stream=99)
    assert_same(out, xent.softmax(X))


# ---- libraries -----------------------------------------------------------------------------------------------------


def test_torch_on_its_current_stream(torch, gpu):
    torch.library.streams[0] = 11
    x, t = torch.Tensor(X.astype(np.float32)), torch.Tensor(X.astype(np.float32))
    result = xent.cross_entropy_value_and_grad(x, t)
    assert all(isinstance(r, torch.Tensor) for r in result)
    assert_same(result, xent.cross_entropy_value_and_grad(x.data, t.data))
    assert x.asked == t.asked == [(-1, (1, 1))]  # ordered already
    assert "run on GPU 0, stream 11" in gpu.notes()
    assert {note[0] for note in torch.library.notes} == {"allocate"}
    assert all(note[3] == 11 for note in torch.library.notes)
    gc.collect()
    assert x.deleted == t.deleted == [1]  # PyTorch's allocator knows its own stream


def test_torch_on_another_stream(torch, gpu):
    torch.library.streams[0] = 11
    x, t = torch.Tensor(X), torch.Tensor(X)
    result = xent.cuda.kl_div(x, t, stream=torch.cuda.Stream(22))
    assert x.asked == t.asked == [(22, (1, 1))]
    assert "run on GPU 0, stream 22" in gpu.notes()
    notes = torch.library.notes
    # Results and workspace belong to the stream of the call; the operands are noted as read there.
    assert {note[3] for note in notes if note[0] == "allocate"} == {22}
    assert [note[1:] for note in notes if note[0] == "record_stream"] == [(id(x), 22), (id(t), 22)]
    assert torch.library.streams[0] == 11
    assert_same(result, xent.kl_div(X, X))


def test_torch_default_stream(torch, gpu):
    x = torch.Tensor(X)
    xent.logsumexp(x)
    assert "run on GPU 0, stream 1" in gpu.notes()
    torch.library.streams[0] = 11
    xent.cuda.logsumexp(x, stream=1)
    assert x.asked == [(-1, (1, 1)), (1, (1, 1))]
    assert {note[3] for note in torch.library.notes if note[0] == "allocate"} == {0}


def test_torch_on_another_device(torch, gpu):
    torch.library.streams[1] = 33
    x = torch.Tensor(X, 1)
    result = xent.softmax(x)
    assert result.number == 1
    assert "run on GPU 1, stream 33" in gpu.notes()
    assert torch.library.device == 0
    assert_same(losses.kl_div(x, x, temperature=2.0), losses.kl_div(X, X, temperature=2.0))


def test_torch_layout_and_dtypes(torch):
    x = np.asfortranarray(X.astype(np.float32))
    result = xent.softmax(torch.Tensor(x), axis=0)
    assert result.data.strides == x.strides
    assert_same(xent.softmax(torch.Tensor(x), dtype=torch.float64), xent.softmax(x, dtype="f8"))
    with pytest.raises(TypeError, match="dtype=int64 is not supported"):
        xent.softmax(torch.Tensor(x), dtype=torch.int64)
    labels = torch.Tensor(np.array([0, 1]))
    assert_same(losses.cross_entropy(torch.Tensor(x), labels), losses.cross_entropy(x, labels.data))


def test_cupy_on_its_current_stream(cupy, gpu):
    cupy.library.streams[0] = 11
    x = cupy.ndarray(X)
    result = losses.kl_div(x, x, temperature=2.0, reduction="none")
    assert isinstance(result, cupy.ndarray)
    assert_same(result, losses.kl_div(X, X, temperature=2.0, reduction="none"))
    assert x.asked == [(-1, (1, 1))] * 2
    assert {note[3] for note in cupy.library.notes} == {11}
    gc.collect()
    assert x.deleted == [1, 1]


@pytest.mark.parametrize("old", [False, True], ids=["", "before 14"])
@pytest.mark.parametrize(("stream", "current"), [(22, 22), (1, 0), (2, 2)])
def test_cupy_on_another_stream(cupy, gpu, stream, current, old):
    if old:
        del cupy.cuda.Stream.from_external
    cupy.library.streams[0] = 11
    gpu.set(events_pending=1)
    x = cupy.ndarray(X)
    result = xent.cuda.softmax(x, stream=stream)
    assert x.asked == [(stream, (1, 1))]
    assert {note[3] for note in cupy.library.notes} == {current}
    gc.collect()
    assert x.deleted == [0]  # its pool would give the memory to stream 11
    gpu.set(events_pending=0)
    gpu.native.sweep()
    assert x.deleted == [1]
    assert_same(result, xent.softmax(X))


def test_cupy_keeps_the_layout(cupy):
    x = np.asfortranarray(X)
    assert xent.softmax(cupy.ndarray(x), axis=0).data.strides == x.strides
    b = X.astype(cases.DTYPES["bfloat16"])
    assert_same(xent.softmax(cupy.ndarray(b)), xent.softmax(b))


def test_cupy_on_another_device(cupy, gpu):
    x = cupy.ndarray(X, 1)
    result = xent.softmax(x)
    assert result.number == 1
    assert cupy.library.device == 0


def test_one_librarys_logits_and_anothers_labels(torch, cupy, gpu):
    torch.library.streams[0], cupy.library.streams[0] = 11, 12
    gpu.set(events_pending=1)
    x, labels = torch.Tensor(X), cupy.ndarray(np.array([0, 1]))
    result = xent.cross_entropy_with_labels(x, labels)
    assert isinstance(result, torch.Tensor)
    assert (x.asked[0][0], labels.asked[0][0]) == (-1, 11)
    gc.collect()
    assert (x.deleted, labels.deleted) == ([1], [0])


def test_a_library_of_the_standard(gpu):
    """As JAX: it takes over memory of ours, ordered behind what made it, and gives it back in its own time."""
    result = xent.softmax(arrays.Standard(X))
    assert isinstance(result, arrays.Standard)
    assert_same(result, xent.softmax(X))
    notes = gpu.notes()
    made = notes.index("allocate 48 on 1")
    run = notes.index("run on GPU 0, stream 1")
    waits = [note for note in notes[run:] if note.startswith("77 waits for")]
    event = waits[0].split()[-1]
    ready = f"record {event} on 1"
    assert made < run < notes.index(ready) < notes.index(f"77 waits for {event}")
    gc.collect()
    # Its memory is free behind what its new owner had queued.
    later = notes[notes.index(f"77 waits for {event}") :]
    (last,) = {n.split()[2] for n in later if n.startswith("free")} - {"1"}
    assert f"{last} waits for {event}" in later
    (theirs,) = (n.split()[1] for n in later if n.startswith("record") and n.endswith("on 77"))
    assert later.index(f"{last} waits for {theirs}") < later.index(f"free on {last}")


# ---- DLPack: giving ------------------------------------------------------------------------------------------------


def give(gpu):
    result = xent.cuda.softmax(A(X))
    assert isinstance(result, xent.cuda._cuda.DeviceArray)
    gpu.notes()
    return result


def test_a_result_of_ours(gpu):
    given = give(gpu)
    assert (given.shape, given.ndim, given.dtype, given.device) == ((2, 3), 2, "float64", 0)
    assert given.__dlpack_device__() == (2, 0)
    assert repr(given) == "<xent DeviceArray of float64, shape (2, 3), GPU 0>"
    for max_version, name in ((None, b"dltensor"), ((0, 8), b"dltensor"), ((1, 0), b"dltensor_versioned")):
        capsule = given.__dlpack__(stream=1, max_version=max_version)
        assert arrays.name_of(capsule) == name
        np.testing.assert_array_equal(arrays.read(capsule, "f8"), xent.softmax(X))
    assert not any("waits" in note for note in gpu.notes())  # it was made on that stream


def test_a_result_of_ours_is_an_operand(gpu):
    given = give(gpu)
    assert_same(xent.cuda.logsumexp(given), xent.logsumexp(xent.softmax(X)))
    gpu.notes()
    xent.cuda.logsumexp(given, stream=44)
    assert any(note.startswith("44 waits for") for note in gpu.notes())


def test_streams_of_a_consumer(gpu):
    given = give(gpu)
    given.__dlpack__(stream=88)
    assert any(note.startswith("88 waits for") for note in gpu.notes())
    for stream in (1, None, -1):
        given.__dlpack__(stream=stream)
        assert not any("waits" in note for note in gpu.notes())
    for stream in (0, -2):
        with pytest.raises(ValueError, match=f"stream {stream} is none"):
            given.__dlpack__(stream=stream)


def test_what_a_consumer_may_not_ask(gpu):
    given = give(gpu)
    with pytest.raises(BufferError, match=r"not exported to device \(1, 0\)"):
        given.__dlpack__(dl_device=(1, 0))
    with pytest.raises(BufferError, match="without a copy"):
        given.__dlpack__(copy=True)
    assert arrays.name_of(given.__dlpack__(dl_device=(2, 0), copy=False)) == b"dltensor"
    with pytest.raises(TypeError):
        given.__dlpack__(1)


@pytest.mark.parametrize("max_version", [None, (1, 0)])
@pytest.mark.parametrize("taken", [False, True])
def test_memory_of_a_result_is_freed_once(gpu, taken, max_version):
    result = xent.cuda.softmax(A(X))
    owner = result.__dlpack__(stream=1, max_version=max_version)
    if taken:
        owner = consumed(gpu, owner)
    del result
    gc.collect()
    assert gpu.allocations == 1
    del owner
    gc.collect()
    assert gpu.allocations == 0


def consumed(gpu, capsule):
    producer = types.SimpleNamespace(__dlpack__=lambda **options: capsule, __dlpack_device__=lambda: (2, 0))
    return gpu.native.Array(producer, 1, "test")


def test_memory_that_went_to_anybody_waits_for_everybody(gpu):
    result = xent.cuda.softmax(A(X))
    interface = result.__cuda_array_interface__
    assert interface["shape"] == (2, 3)
    assert (interface["typestr"], interface["version"], interface["strides"], interface["stream"]) == (
        "<f8",
        3,
        None,
        1,
    )
    gpu.notes()
    del result
    gc.collect()
    assert "synchronize" in gpu.notes()


def test_bfloat16_has_no_interface(gpu):
    result = xent.cuda.softmax(A(X.astype(cases.DTYPES["bfloat16"])))
    assert not hasattr(result, "__cuda_array_interface__")
    assert_same(result, xent.softmax(X.astype(cases.DTYPES["bfloat16"])))
