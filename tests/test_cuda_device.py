"""xent.cuda on a real GPU: the CPU's tests with the device behind what they call, and what only a device has.

Arrays go there and back through PyTorch, whose tensors the calls get.
"""

import gc
import itertools
import sys

import cases
import numpy as np
import oracle
import pytest

import xent
import xent.cuda
from xent import losses
from xent._core import Options

if not xent.cuda.is_available():
    pytest.skip(f"needs a CUDA device ({xent.cuda._why_not()})", allow_module_level=True)

torch = pytest.importorskip("torch", reason="needs PyTorch, for arrays on the CUDA device")

import test_accuracy  # noqa: E402
import test_edges  # noqa: E402
import test_losses  # noqa: E402
from test_accuracy import (  # noqa: E402, F401
    test_class_axis_first_does_not_saturate,
    test_confident_rows_keep_their_digits,
    test_extreme_magnitudes,
    test_issue_example,
    test_kl_is_never_negative,
    test_long_rows,
    test_long_sums_do_not_saturate,
    test_near_equal_long_rows,
    test_near_equal_rows,
    test_pointwise,
    test_rel_entr_keeps_its_digits_near_one,
)
from test_edges import (  # noqa: E402, F401
    test_one_row,
    test_reductions_of_an_empty_batch,
    test_terms_add_up,
    test_unnormalised_targets,
)

CPU = losses.evaluate_loss
BFLOAT16 = cases.DTYPES["bfloat16"]


def there(a):
    """An array on the GPU, of the same strides where PyTorch has such."""
    a = np.asarray(a)
    if any(step < 0 for step in a.strides):
        a = a.copy()
    if a.dtype == BFLOAT16:
        return torch.from_numpy(a.view(np.int16).copy(order="K")).view(torch.bfloat16).cuda()
    return torch.from_numpy(np.array(a, order="K")).cuda()


def back(a):
    if isinstance(a, tuple):
        return tuple(map(back, a))
    a = a.cpu()
    return (a.view(torch.int16).numpy().view(BFLOAT16) if a.dtype == torch.bfloat16 else a.numpy())[()]


def floats(a):
    a = np.asarray(a)
    return a if a.dtype in cases.DTYPES.values() else a.astype(np.float64)


class Face:
    """Stands where a test of the CPU says `xent` or `xent.ufuncs`."""

    def __init__(self):
        self.ufuncs = self

    def info(self):
        return {"isas": ["cuda"], "isa": "cuda"}

    def set_isa(self, isa):
        assert isa == "cuda"

    def set_num_threads(self, n):
        pass

    def __getattr__(self, name):
        if name not in cases.NAMES:
            raise AttributeError(name)
        # The element-wise ones are ufuncs in xent itself.
        function = getattr(xent.cuda if cases.SECOND[name] == "point" else xent, name)

        def call(logits, target=None, **options):
            operands = [floats(logits)]
            if target is not None:
                operands.append(np.asarray(target) if cases.SECOND[name] == "labels" else floats(target))
            options = {key: there(a) if key == "where" else a for key, a in options.items()}
            return back(function(*map(there, operands), **options))

        return call


def evaluate_loss(operation, logits, target, given):
    """What xent.losses hands to the kernels."""
    plain = ("operands", "labels", "axis", "dtype", "label_smoothing", "beta", "ignore_index", "reduction")
    options = {option: getattr(given, option) for option in plain}
    for option in ("where", "weight", "pos_weight", "sample_weight", "temperature"):
        array = getattr(given, option)
        if array is not None:
            options[option] = there(array) if np.ndim(array) else array
    target = np.asarray(target) if given.labels or np.asarray(target).dtype.kind in "iu" else floats(target)
    return back(CPU(operation, there(floats(logits)), there(target), Options(given.caller, **options)))


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch):
    face = Face()
    for module in (test_accuracy, test_edges, test_losses):
        monkeypatch.setattr(module, "xent", face)
    monkeypatch.setattr(test_accuracy, "ISAS", ["cuda"])
    monkeypatch.setattr(losses, "evaluate_loss", evaluate_loss)
    yield
    torch.cuda.synchronize()  # what a test broke fails there


@pytest.fixture
def isa():
    return "cuda"


# ---- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["random", "offset", "peaked", "wide"])
@pytest.mark.parametrize("case", cases.ROW_CASES, ids=lambda c: c.id)
def test_rows(case, kind, rng):
    for arrays, wide in cases.device_rows(case, kind, rng):
        refs = oracle.evaluate(case.name, *(a[:5] for a in arrays), wide=wide)
        for layout, views, _ in test_accuracy.layouts(arrays):
            results = cases.as_tuple(back(getattr(xent, case.name)(*map(there, views))))
            for output, (got, ref, allowed) in enumerate(zip(results, refs, case.budgets, strict=True)):
                assert got.dtype == case.type
                measured = oracle.worst(got[:5], ref, cases.subnormal_steps(case.name, case.type))
                assert measured <= allowed, (case.id, kind, arrays[0].shape, layout, output, measured)
            if kind == "random" and layout == "C":
                # The other rows, by the device itself: a row's bits do not depend on its place.
                last = cases.as_tuple(back(getattr(xent, case.name)(*(there(a[-3:]) for a in arrays))))
                for got, alone in zip(results, last, strict=True):
                    assert got[-3:].tobytes() == alone.tobytes()


@pytest.mark.parametrize("name", cases.ROW_NAMES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_alignment_changes_no_bit(name, dtype, rng):
    classes = 515
    arrays = cases.operands(name, "random", 7, classes, cases.DTYPES.get(dtype, dtype), rng)
    expected = cases.as_tuple(back(getattr(xent.cuda, name)(*map(there, arrays))))
    for shifts in itertools.islice(itertools.product(range(3), repeat=2), 1, None):
        shifted = []
        for a, shift in zip(map(there, arrays), shifts, strict=False):
            room = torch.empty(a.numel() + shift, dtype=a.dtype, device="cuda")
            shifted.append(room[shift:].view(a.shape).copy_(a))
        for got, wanted in zip(cases.as_tuple(back(getattr(xent.cuda, name)(*shifted))), expected, strict=True):
            assert got.tobytes() == wanted.tobytes(), shifts


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "bfloat16"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "per_class"])
def test_losses_as_on_the_cpu(reduction, dtype, rng, monkeypatch):
    """Every option at once, against the CPU's result, which the oracle's tests have checked."""
    rows, classes = 700, 301
    x = cases.logits("random", rows, classes, cases.DTYPES[dtype], rng)
    labels = rng.integers(classes, size=rows)
    t = cases.second("probs", "random", x, rng)
    y = cases.second("logits", "random", x, rng)
    sample, where = rng.random(rows), rng.random(x.shape) < 0.9
    weight, temperature = rng.random(classes), rng.random(rows) + 0.5
    calls = [
        (losses.cross_entropy, labels, {"weight": weight, "ignore_index": int(labels[0]), "label_smoothing": 0.1}),
        (losses.cross_entropy, labels, {"weight": weight}),
        (losses.cross_entropy, t, {"weight": weight}),
        (losses.kl_div, t, {"temperature": temperature}),
        (losses.kl_div, y, {"temperature": temperature, "target_kind": "logits"}),
        (losses.js_div, y, {"temperature": temperature}),
        (losses.nll, labels, {"weight": weight}),
        (losses.binary_cross_entropy, t, {"weight": weight, "pos_weight": weight}),
    ]
    for function, target, options in calls:
        options |= {"reduction": reduction, "sample_weight": sample, "where": where}
        options["return_grad"] = reduction != "per_class"
        got = cases.as_tuple(function(x, target, **options))
        with monkeypatch.context() as plain:
            plain.setattr(losses, "evaluate_loss", CPU)
            expected = cases.as_tuple(function(x, target, **options))
        eps = float(cases.finfo(cases.DTYPES[dtype]).eps)
        for value, wanted in zip(got, expected, strict=True):
            assert value.dtype == wanted.dtype
            scale = np.abs(wanted.astype(np.float64)).max()
            np.testing.assert_allclose(value.astype("f8"), wanted.astype("f8"), rtol=8 * eps, atol=4 * eps * scale)


def test_distillation_as_on_the_cpu(rng, monkeypatch):
    monkeypatch.setattr(losses, "evaluate_loss", CPU)  # tensors come by themselves here
    x, y = rng.standard_normal((2, 33, 1001))
    labels, sample_weight = rng.integers(1001, size=33), rng.random(33)
    options = {"temperature": 2.0, "alpha": 0.3, "ignore_index": int(labels[0]), "return_grad": True}
    for reduction in ("none", "sum", "mean"):
        expected = losses.distillation(x, y, labels, reduction=reduction, sample_weight=sample_weight, **options)
        on_gpu = {"sample_weight": there(sample_weight), "reduction": reduction}
        got = back(losses.distillation(*map(there, (x, y, labels)), **on_gpu, **options))
        for value, wanted in zip(got, expected, strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-12, atol=1e-15)


def test_the_same_bits_every_time(rng):
    x, labels = there(rng.standard_normal((3001, 1003)).astype("f4")), there(rng.integers(1003, size=3001))
    for reduction in ("sum", "mean", "per_class"):
        operation = "cross_entropy_terms" if reduction == "per_class" else "cross_entropy_with_labels"
        options = {"caller": "test", "labels": True, "reduction": reduction}
        runs = {back(CPU(operation, x, labels, **options)).tobytes() for _ in range(5)}
        assert len(runs) == 1, reduction


def test_rows_beyond_two_to_the_31(rng):
    """Offsets in 64 bits: a batch of more than 2^31 elements, whose last rows are looked at."""
    rows, classes = 2**21 + 5, 1030
    x = torch.zeros((rows, classes), dtype=torch.bfloat16, device="cuda")
    tail = rng.standard_normal((3, classes)).astype(BFLOAT16)
    x[-3:] = there(tail)
    out = torch.empty_like(x)
    assert xent.cuda.log_softmax(x, out=out) is out
    assert back(out[-3:]).tobytes() == back(xent.cuda.log_softmax(there(tail))).tobytes()
    assert torch.equal(out[0], xent.cuda.log_softmax(x[:1])[0])


# ---- labels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int64", "int32", "int16", "uint8"])
def test_labels_out_of_range(dtype):
    x = torch.randn(1000, 37, device="cuda")
    labels = torch.randint(37, (1000,), device="cuda").to(getattr(torch, dtype))
    good = xent.cuda.cross_entropy_with_labels(x, labels, check_labels=True)
    labels[500] = 37
    labels[700] = 99
    value, gradient = xent.cuda.cross_entropy_with_labels_value_and_grad(x, labels)
    bad = torch.zeros(1000, dtype=torch.bool, device="cuda")
    bad[500] = bad[700] = True
    assert torch.equal(value.isnan(), bad)
    assert torch.equal(gradient.isnan().all(1), bad)
    assert torch.equal(value[~bad], good[~bad])
    with pytest.raises(IndexError, match="label 37 at 500 is out of range for 37 classes"):
        xent.cuda.cross_entropy_with_labels(x, labels, check_labels=True)


# ---- streams, captures, libraries ----------------------------------------------------------------------------------


def test_a_call_runs_behind_what_is_on_its_stream():
    """The operand is made on the current stream by work that is still going on; the result is used behind it."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        x = torch.randn(4096, 4096, device="cuda")
        for _ in range(20):
            x = torch.nn.functional.normalize(x @ x.T, dim=1) * 30
        found = xent.softmax(x)
        total = found.sum(1)
    stream.synchronize()
    torch.testing.assert_close(total, torch.ones_like(total))


def test_another_stream_waits_and_operands_outlive_the_call():
    side = torch.cuda.Stream()
    x = torch.randn(4096, 4096, device="cuda")
    busy = x
    for _ in range(20):
        busy = torch.nn.functional.normalize(busy @ x, dim=1) * 30
    copy = busy.clone()
    result = xent.cuda.log_softmax(busy, stream=side)
    del busy
    torch.empty_like(copy).fill_(float("nan"))  # would be in the operand's memory, had it been let go
    side.synchronize()
    assert torch.equal(result, xent.cuda.log_softmax(copy))


def test_a_capture():
    x = torch.randn(512, 1000, device="cuda")
    labels = torch.randint(1000, (512,), device="cuda")
    xent.cuda.prepare(0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value, gradient = CPU(
            "cross_entropy_with_labels_value_and_grad", x, labels, caller="test", labels=True, reduction="mean"
        )
        with pytest.raises(RuntimeError, match="captured"):
            xent.cuda.cross_entropy_with_labels(x, labels, check_labels=True)
    for _ in range(3):
        x.normal_()
        graph.replay()
        expected = CPU(
            "cross_entropy_with_labels_value_and_grad", x, labels, caller="test", labels=True, reduction="mean"
        )
        assert torch.equal(value, expected[0])
        assert torch.equal(gradient, expected[1])


def test_out_in_place():
    x = torch.randn(333, 1001, device="cuda")
    expected = xent.softmax(x)
    assert xent.softmax(x, out=x) is x
    assert torch.equal(x, expected)


def test_tensors_that_want_a_gradient_are_not_taken():
    x = torch.randn(3, 4, device="cuda", requires_grad=True)
    with pytest.raises(BufferError, match="require gradient"):
        xent.softmax(x)


def test_cupy(rng):
    cupy = pytest.importorskip("cupy", reason="needs CuPy")
    x = rng.standard_normal((100, 70)).astype("f4")
    expected = back(xent.softmax(there(x)))
    found = xent.softmax(cupy.asarray(x))
    assert isinstance(found, cupy.ndarray)
    assert cupy.asnumpy(found).tobytes() == expected.tobytes()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        found = xent.softmax(cupy.asarray(x))
    stream.synchronize()
    assert cupy.asnumpy(found).tobytes() == expected.tobytes()
    strided = cupy.asarray(np.repeat(x, 2, axis=1))[::-1, ::2]
    assert cupy.asnumpy(xent.softmax(strided)).tobytes() == expected[::-1].tobytes()
    labels = cupy.asarray(rng.integers(70, size=100))
    assert isinstance(
        CPU("cross_entropy_with_labels", cupy.asarray(x), labels, caller="test", labels=True), cupy.ndarray
    )


def test_jax(rng):
    jax = pytest.importorskip("jax", reason="needs JAX")
    if not any(device.platform == "gpu" for device in jax.devices()):
        pytest.skip("needs a JAX that sees the CUDA device")
    x = rng.standard_normal((100, 70)).astype("f4")
    expected = back(xent.softmax(there(x)))
    operand = jax.numpy.asarray(x) * 2 / 2
    found = xent.softmax(operand)
    assert isinstance(found, jax.Array)
    del operand
    gc.collect()
    again = xent.softmax(jax.numpy.log(found))
    assert np.asarray(found).tobytes() == expected.tobytes()
    np.testing.assert_allclose(np.asarray(again), expected, rtol=1e-5)


def test_numba(rng):
    numba = pytest.importorskip("numba.cuda", reason="needs Numba's CUDA target")
    x = rng.standard_normal((100, 70)).astype("f4")
    found = xent.softmax(numba.to_device(x))
    assert isinstance(found, xent.cuda._cuda.DeviceArray)
    assert back(torch.from_dlpack(found)).tobytes() == back(xent.softmax(there(x))).tobytes()


def test_memory_is_given_back():
    """Results of ours: a thousand of them take no more than a few."""

    class Plain:
        def __init__(self, tensor):
            self.tensor = tensor

        def __dlpack_device__(self):
            return self.tensor.__dlpack_device__()

        def __dlpack__(self, **options):
            return self.tensor.__dlpack__(**options)

    x = Plain(torch.randn(1024, 1024, device="cuda"))
    xent.cuda.softmax(x)
    torch.cuda.synchronize()
    before = torch.cuda.mem_get_info()[0]
    for _ in range(1000):
        xent.cuda.softmax(x)
    torch.cuda.synchronize()
    assert before - torch.cuda.mem_get_info()[0] < 512 << 20


def test_another_device():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs a second CUDA device")
    x = torch.randn(33, 100, device="cuda:1")
    assert torch.cuda.current_device() == 0
    found = xent.softmax(x)
    assert found.device == x.device
    torch.testing.assert_close(found, torch.softmax(x, -1))
    assert torch.cuda.current_device() == 0


def test_the_runtime_is_not_shared_badly():
    """Our own CUDA runtime, linked in, beside PyTorch's: neither leaves an error for the other."""
    assert "torch" in sys.modules
    with pytest.raises(ValueError, match="does not broadcast"):
        xent.logsumexp(torch.zeros(3, 4, device="cuda"), where=torch.ones(7, dtype=torch.bool, device="cuda"))
    torch.cuda.synchronize()
    assert float(torch.ones(3, device="cuda").sum()) == 3.0
