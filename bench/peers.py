"""The table of peers: which library computes which operation, how, on arrays that it likes best.

Each is imported when a run first needs it, and only if it is installed. Results are in the logits' layout; what a
library has no word for has no entry. Conversions of the operands are left out of the timing. Where a library can write
into an array that is there already, it does; the pages of what it allocates all the same are kept by the process
(run.py), so that nobody pays for page faults.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from bench.cases import DTYPES, HALVES, TEMPERATURE, Data, Operation

Call: TypeAlias = Callable[[], Any]


def as_dict(operation: Operation) -> Callable[[Any], dict[str, Any]]:
    """How a call's result becomes arrays by name ("value", "array") to be compared."""
    names = operation.arrays

    def array(part: Any) -> Any:
        if str(getattr(part, "dtype", "")) == "torch.bfloat16":
            part = part.float()
        return np.asarray(part)

    def convert(result: Any) -> dict[str, Any]:
        parts = result if len(names) > 1 else (result,)
        return {name: array(part) for name, part in zip(names, parts, strict=True)}

    return convert


def numpy_calls(operation: Operation, data: Data, threads: int) -> Call | None:
    """What people write by hand."""
    x, second, axis = data.x, data.second(operation), data.axis

    def log_softmax(a: Any) -> Any:
        a = a - a.max(axis=axis, keepdims=True)
        return a - np.log(np.exp(a).sum(axis=axis, keepdims=True))

    def softmax(a: Any) -> Any:
        e = np.exp(a - a.max(axis=axis, keepdims=True))
        return e / e.sum(axis=axis, keepdims=True)

    def logsumexp() -> Any:
        m = x.max(axis=axis, keepdims=True)
        return (m + np.log(np.exp(x - m).sum(axis=axis, keepdims=True))).squeeze(axis)

    def at_label(a: Any) -> Any:
        return np.take_along_axis(a, np.expand_dims(second, axis), axis)

    def ce_labels_grad() -> Any:
        log_p, index = log_softmax(x), np.expand_dims(second, axis)
        value = -np.take_along_axis(log_p, index, axis).squeeze(axis)
        grad = np.exp(log_p)
        np.put_along_axis(grad, index, np.take_along_axis(grad, index, axis) - 1, axis)
        return value, grad

    def ce_soft_grad() -> Any:
        log_p = log_softmax(x)
        return -(second * log_p).sum(axis=axis), np.exp(log_p) - second

    def kl_logits(scale: float) -> Any:
        log_t = log_softmax(second if scale == 1 else second / x.dtype.type(scale))
        log_p = log_softmax(x if scale == 1 else x / x.dtype.type(scale))
        return (np.exp(log_t) * (log_t - log_p)).sum(axis=axis)

    def kl_logits_grad() -> Any:
        log_t, log_p = log_softmax(second), log_softmax(x)
        t = np.exp(log_t)
        return (t * (log_t - log_p)).sum(axis=axis), np.exp(log_p) - t

    def kl() -> Any:
        # 0 log 0 is 0; float16 and peaked rows have such probabilities.
        log_t = np.log(second, where=second > 0, out=np.zeros_like(second))
        return (second * (log_t - log_softmax(x))).sum(axis=axis)

    def softmax_entropy() -> Any:
        log_p = log_softmax(x)
        return -(np.exp(log_p) * log_p).sum(axis=axis)

    return {
        "logsumexp": logsumexp,
        "log_softmax": lambda: log_softmax(x),
        "softmax": lambda: softmax(x),
        "ce_labels": lambda: -at_label(log_softmax(x)).squeeze(axis),
        "ce_soft": lambda: -(second * log_softmax(x)).sum(axis=axis),
        "kl": kl,
        "kl_logits": lambda: kl_logits(1),
        "distill": lambda: kl_logits(TEMPERATURE),
        "ce_labels_grad": ce_labels_grad,
        "ce_soft_grad": ce_soft_grad,
        "kl_logits_grad": kl_logits_grad,
        "softmax_entropy": softmax_entropy,
    }.get(operation.name)


def scipy_calls(operation: Operation, data: Data, threads: int) -> Call | None:
    special = importlib.import_module("scipy.special")
    x, second, axis = data.x, data.second(operation), data.axis
    return {
        "logsumexp": lambda: special.logsumexp(x, axis=axis),
        "log_softmax": lambda: special.log_softmax(x, axis=axis),
        "softmax": lambda: special.softmax(x, axis=axis),
        "kl": lambda: special.rel_entr(second, special.softmax(x, axis=axis)).sum(axis=axis),
    }.get(operation.name)


def torch_calls(operation: Operation, data: Data, threads: int) -> Call | None:
    torch = importlib.import_module("torch")
    functional = importlib.import_module("torch.nn.functional")
    torch.set_num_threads(threads)
    graph = operation.name.endswith("_grad")
    torch.set_grad_enabled(graph)

    def tensor(a: Any) -> Any:
        # NumPy's bfloat16 is not torch's, their bits are the same.
        if a.dtype.name == "bfloat16":
            return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(a)

    dim = data.axis
    x = tensor(data.x)
    operand = data.second(operation)
    second: Any = None if operand is None else tensor(operand)

    def classes_second(a: Any) -> Any:
        # cross_entropy wants the classes there. Of the two views that bring a first axis there, the one with a batch of
        # one is not copied.
        return a.unsqueeze(0) if dim == 0 else a.movedim(dim, 1)

    if operation.second == "labels":
        target = second.unsqueeze(0) if dim == 0 else second
    elif operation.second == "probs":
        target = classes_second(second)
    value, array = tensor(data.new_value()), tensor(data.new_array())

    def with_grad(loss: Callable[[Any], Any]) -> Call:
        leaf = x.clone().requires_grad_()

        def call() -> Any:
            leaf.grad = None
            rows = loss(leaf)
            rows.sum().backward()
            return rows.detach(), leaf.grad

        return call

    def kl_logits(a: Any, scale: float) -> Any:
        a, b = (a, second) if scale == 1 else (a / scale, second / scale)
        log_p, t = functional.log_softmax(a, dim), functional.log_softmax(b, dim)
        return functional.kl_div(log_p, t, reduction="none", log_target=True).sum(dim)

    def cross_entropy(a: Any) -> Any:
        return functional.cross_entropy(classes_second(a), target, reduction="none").view(data.shape.rows)

    def softmax_entropy() -> Any:
        log_p = functional.log_softmax(x, dim)
        return -(log_p.exp() * log_p).sum(dim)

    calls: dict[str, Call] = {
        "logsumexp": lambda: torch.logsumexp(x, dim, out=value),
        "log_softmax": lambda: torch.log_softmax(x, dim, out=array),
        "softmax": lambda: torch.softmax(x, dim, out=array),
        "ce_labels": lambda: cross_entropy(x),
        "ce_soft": lambda: cross_entropy(x),
        "kl": lambda: functional.kl_div(functional.log_softmax(x, dim), second, reduction="none").sum(dim),
        "kl_logits": lambda: kl_logits(x, 1),
        "distill": lambda: kl_logits(x, TEMPERATURE),
        "softmax_entropy": softmax_entropy,
    }
    if operation.name in ("ce_labels_grad", "ce_soft_grad"):
        return with_grad(cross_entropy)
    if operation.name == "kl_logits_grad":
        return with_grad(lambda leaf: kl_logits(leaf, 1))
    return calls.get(operation.name)


def jax_calls(operation: Operation, data: Data, threads: int) -> Call | None:
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    jnp, nn, axis = jax.numpy, jax.nn, data.axis

    def ce_labels(x: Any, labels: Any) -> Any:
        return -jnp.take_along_axis(nn.log_softmax(x, axis), jnp.expand_dims(labels, axis), axis).squeeze(axis)

    def ce_soft(x: Any, t: Any) -> Any:
        return -(t * nn.log_softmax(x, axis)).sum(axis)

    def kl(x: Any, t: Any) -> Any:
        return (jax.scipy.special.xlogy(t, t) - t * nn.log_softmax(x, axis)).sum(axis)

    def kl_logits(x: Any, y: Any) -> Any:
        log_t = nn.log_softmax(y, axis)
        return (jnp.exp(log_t) * (log_t - nn.log_softmax(x, axis))).sum(axis)

    def softmax_entropy(x: Any) -> Any:
        log_p = nn.log_softmax(x, axis)
        return -(jnp.exp(log_p) * log_p).sum(axis)

    def with_grad(loss: Callable[..., Any]) -> Callable[..., Any]:
        def summed(x: Any, second: Any) -> Any:
            rows = loss(x, second)
            return rows.sum(), rows

        def call(x: Any, second: Any) -> Any:
            (_, rows), grad = jax.value_and_grad(summed, has_aux=True)(x, second)
            return rows, grad

        return call

    functions: dict[str, Callable[..., Any]] = {
        "logsumexp": lambda x: nn.logsumexp(x, axis),
        "log_softmax": lambda x: nn.log_softmax(x, axis),
        "softmax": lambda x: nn.softmax(x, axis),
        "ce_labels": ce_labels,
        "ce_soft": ce_soft,
        "kl": kl,
        "kl_logits": kl_logits,
        "distill": lambda x, y: kl_logits(x / TEMPERATURE, y / TEMPERATURE),
        "ce_labels_grad": with_grad(ce_labels),
        "ce_soft_grad": with_grad(ce_soft),
        "kl_logits_grad": with_grad(kl_logits),
        "softmax_entropy": softmax_entropy,
    }
    if operation.name not in functions:
        return None
    compiled = jax.jit(functions[operation.name])
    operands = [jnp.asarray(a) for a in (data.x, data.second(operation)) if a is not None]
    return lambda: jax.block_until_ready(compiled(*operands))


def onnx_calls(operation: Operation, data: Data, threads: int) -> Call | None:
    kinds = {"logsumexp": "ReduceLogSumExp", "log_softmax": "LogSoftmax", "softmax": "Softmax"}
    if operation.name not in kinds or data.dtype in HALVES:
        return None
    onnx = importlib.import_module("onnx")
    runtime = importlib.import_module("onnxruntime")
    helper, element = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype(DTYPES[data.dtype])
    out = data.new_value() if operation.value else data.new_array()
    # Attributes rather than an input for the axes: opset 17 has both operators in that form.
    options = {"axes": [data.axis], "keepdims": 0} if operation.value else {"axis": data.axis}
    graph = helper.make_graph(
        [helper.make_node(kinds[operation.name], ["x"], ["out"], **options)],
        operation.name,
        [helper.make_tensor_value_info("x", element, data.x.shape)],
        [helper.make_tensor_value_info("out", element, out.shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = runtime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for bind, name, array in ((binding.bind_input, "x", data.x), (binding.bind_output, "out", out)):
        bind(name, "cpu", 0, DTYPES[data.dtype], array.shape, array.ctypes.data)

    def call() -> Any:
        session.run_with_iobinding(binding)
        return out

    return call


def sklearn_calls(operation: Operation, data: Data, threads: int) -> Call | None:
    if operation.name not in ("ce_labels", "ce_labels_grad") or data.dtype in HALVES or len(data.shape.dims) != 2:
        return None
    if data.axis != -1:
        return None
    losses = importlib.import_module("sklearn._loss")
    loss = losses.HalfMultinomialLoss(n_classes=data.shape.classes)
    x, labels, value, array = data.x, data.labels.astype(data.x.dtype), data.new_value(), data.new_array()
    if operation.name == "ce_labels":
        return lambda: loss.loss(labels, x, loss_out=value, n_threads=threads)
    return lambda: loss.loss_gradient(labels, x, loss_out=value, gradient_out=array, n_threads=threads)


@dataclass(frozen=True)
class Peer:
    name: str
    needs: tuple[str, ...]  # modules
    calls: Callable[[Operation, Data, int], Call | None]
    # The most elements of 16 bits: NumPy converts them one by one, seconds a call, and is never first.
    most_halves: float = math.inf
    threaded: bool = True  # uses more than one
    held: bool = True  # knows no better instruction set than it is told to, or than it was compiled for

    def takes(self, data: Data) -> bool:
        return data.dtype not in HALVES or data.shape.size <= self.most_halves

    @property
    def installed(self) -> bool:
        return all(importlib.util.find_spec(module) for module in self.needs)

    @property
    def version(self) -> str:
        return str(importlib.import_module(self.needs[0]).__version__)


PEERS = {
    p.name: p
    for p in (
        Peer("numpy", ("numpy",), numpy_calls, most_halves=5e6, threaded=False),
        Peer("scipy", ("scipy",), scipy_calls, most_halves=5e6, threaded=False),
        Peer("torch", ("torch",), torch_calls),
        Peer("jax", ("jax",), jax_calls, held=False),
        Peer("onnxruntime", ("onnxruntime", "onnx"), onnx_calls, held=False),
        Peer("sklearn", ("sklearn",), sklearn_calls),
    )
}


def held_to(isa: str) -> dict[str, str]:
    """Environment that keeps NumPy and PyTorch to an instruction set that is not the machine's best."""
    umath = importlib.import_module("numpy._core._multiarray_umath")
    beyond = ("AVX512", "X86_V4") if isa == "avx2" else ("",)
    features = [name for name in umath.__cpu_dispatch__ if name.startswith(beyond) and umath.__cpu_features__.get(name)]
    return {
        "ATEN_CPU_CAPABILITY": "avx2" if isa == "avx2" else "default",
        "NPY_DISABLE_CPU_FEATURES": " ".join(features),
    }


def plain_call(operation: Operation, data: Data, threads: int) -> Call:
    """xent's, as one would write it."""
    xent = importlib.import_module("xent")
    xent.set_num_threads(threads)
    operands = [a for a in (data.x, data.second(operation)) if a is not None]
    options: dict[str, Any] = {} if data.axis == -1 else {"axis": data.axis}
    if operation.xent == "losses.kl_div":
        options |= {"target_kind": "logits", "temperature": TEMPERATURE, "reduction": "none"}
        return lambda: xent.losses.kl_div(*operands, **options)
    function = getattr(xent, operation.xent)
    return lambda: function(*operands, **options)


def out_call(operation: Operation, data: Data, threads: int) -> Call | None:
    """xent's, into the same result again; None where there is no out=."""
    if "." in operation.xent:
        return None
    outs = [data.new_value()] * operation.value + [data.new_array()] * operation.writes
    out = outs[0] if len(outs) == 1 else tuple(outs)
    xent = importlib.import_module("xent")
    xent.set_num_threads(threads)
    operands = [a for a in (data.x, data.second(operation)) if a is not None]
    function = getattr(xent, operation.xent)
    if data.axis == -1:
        return lambda: function(*operands, out=out)
    return lambda: function(*operands, axis=data.axis, out=out)
