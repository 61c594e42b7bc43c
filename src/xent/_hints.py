"""What a refusal says beside what is wrong: the way to what was meant. Read only once a call has failed."""

import difflib
import inspect
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

# The loss that an operation belongs to: the longest of these names that the operation's begins with.
_LOSSES = ("binary_cross_entropy", "cross_entropy", "js_div", "kl_div", "nll")

# Other names for what is an option here.
_NAMED = {
    "axis": ("dim", "axes", "class_axis"),
    "keepdims": ("keepdim", "keep_dims", "keepaxis"),
    "where": ("mask",),
    "weight": ("weights", "class_weight", "class_weights"),
    "sample_weight": ("sample_weights",),
    "pos_weight": ("pos_weights",),
    "ignore_index": ("ignore_class", "ignore_label", "padding_idx"),
    "label_smoothing": ("smoothing",),
    "temperature": ("T", "tau", "temp"),
}
_RENAMED = {other: here for here, others in _NAMED.items() for other in others}
# Names of the operands, in words.
_FIRST = "input inputs x a pred prediction predictions y_pred scores logits log_probs log_predictions probs student"
_SECOND = "target targets labels label y y_true other other_logits teacher teacher_logits reference"
_OF_SCIPY = {"logsumexp": ("b", "return_sign"), "entropy": ("pk", "qk", "base")}
_OF_UFUNCS = ("casting", "order", "subok", "signature", "sig")
_REDUCTION = ("reduction", "size_average", "reduce", "normalize")
_LOGITS = "the prediction is logits, and log-probabilities are logits too, so there is nothing to say"
# What other libraries call the reductions; None is Keras' and Gluon's.
_CALLED: dict[str, tuple[str | None, ...]] = {
    "mean": ("batchmean", "elementwise_mean", "average", "avg", "auto", "sum_over_batch_size"),
    "sum": ("total",),
    "none": ("no", "off", None),
}
_REDUCTIONS = {other: here for here, others in _CALLED.items() for other in others}


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def refuse_call(name: str, signature: inspect.Signature, given: int, named: dict[str, Any]) -> NoReturn:
    """TypeError for a call of a callable or loss, which has `signature`, with `given` arguments by their place and the
    keywords `named`."""
    parameters = signature.parameters.values()
    options = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    operands = [p.name for p in parameters if p.name not in options]
    required = [p.name for p in parameters if p.default is p.empty]
    if given > len(operands):
        plural = "argument" if len(operands) == 1 else "arguments"
        raise TypeError(
            f"{name}() takes {len(operands)} positional {plural}, {_listed(operands)}, but {given} were given; "
            f"{', '.join(options)} are keywords"
        )
    for word, value in named.items():
        if word in operands[:given]:
            raise TypeError(f"{name}() got {word} twice, by its place and by its name")
        if word not in operands and word not in options:
            raise TypeError(f"{name}() has no argument {word!r}: {_way(name, operands, options, word, value)}")
    missing = [p for p in required if p not in operands[:given] and p not in named]
    raise TypeError(
        f"{name}() needs {_listed(required)}; {_listed(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    )


def _way(name: str, operands: Sequence[str], options: Sequence[str], word: str, value: Any) -> str:
    here = _RENAMED.get(word, word)
    if here in options:
        return f"it is {here} here"
    way = (_way_of_loss if "reduction" in options else _way_of_callable)(name, operands, here, value)
    if way is not None:
        return way
    if len(operands) > 1 and word in _SECOND.split():
        return f"the second operand is {operands[1]} here" + (f", the third {operands[2]}" if operands[2:] else "")
    if word in _FIRST.split():
        return f"the first operand is {operands[0]} here"
    close = difflib.get_close_matches(word, [*operands, *options], 1)
    meant = f"perhaps {close[0]}; " if close else ""
    return f"{meant}it takes {', '.join([*operands, *options])}"


def _way_of_callable(name: str, operands: Sequence[str], word: str, value: Any) -> str | None:
    from xent import losses

    loss = next((loss for loss in _LOSSES if name.startswith(loss)), None)
    of_loss = list(inspect.signature(getattr(losses, loss)).parameters) if loss else []
    if word in _OF_SCIPY.get(name, ()):
        also = ", and logsumexp(logits + np.log(b)) is the same for b >= 0" if word == "b" else ""
        return f"xent.compat.scipy.{name} takes it{also}"
    if word == "log_target":
        return (
            "kl_div_with_log_probs takes log-probabilities as the target, xent.losses.kl_div says "
            "target_kind='log_probs', and xent.compat.torch.kl_div takes log_target itself"
        )
    if word in ("from_logits", "log_input"):
        return _LOGITS
    if word == "temperature" and loss is None:
        return f"{name}({operands[0]} / temperature)"
    if word in _REDUCTION and loss:
        way = f"xent.losses.{loss} takes reduction="
        mean = ", whose 'mean' over the rows is what is called 'batchmean' elsewhere"
        return way + mean if value == "batchmean" else way
    if word == "weight" and loss:
        takes = [f"{option}=" for option in ("weight", "sample_weight") if option in of_loss]
        return f"xent.losses.{loss} takes {' (one a class) and '.join(takes)} (one a row)"
    if word in of_loss and word not in operands:
        return f"xent.losses.{loss} takes it"
    if word in _OF_UFUNCS:
        return f"xent.ufuncs.{name} takes it"
    if word in ("stream", "check_labels"):
        return f"xent.cuda.{name} takes it"
    if word in ("labels", "label") and name == "cross_entropy":
        return "cross_entropy_with_labels takes labels"
    return None


def _way_of_loss(name: str, operands: Sequence[str], word: str, value: Any) -> str | None:
    import xent

    if word in _REDUCTION:
        return "reduction= says it: 'mean', 'sum', or 'none' for one value a row"
    if word == "log_target" and name == "kl_div":
        return "target_kind='log_probs' says it"
    if word == "log_target" and operands[1] == "target":
        return "the target is probabilities: np.exp(target)"
    if word in ("from_logits", "log_input", "from_sigmoid", "log_target"):
        if name == "nll":
            return "the prediction is log-probabilities; xent.losses.cross_entropy takes logits"
        if name == "binary_cross_entropy":
            return "the prediction is logits; those of probabilities p are np.log(p) - np.log1p(-p)"
        return _LOGITS
    if word in ("target_kind", "sparse", "sparse_label") and name in ("cross_entropy", "nll"):
        labels = "labels are integers, one a row"
        return labels if name == "nll" else f"{labels}; a floating target is probabilities"
    if word == "base":
        return "values are in nats: divide them by np.log(base)"
    if word == "eps":
        return "nothing needs it: no logarithm is taken of a 0"
    if word == "keepdims":
        return "reduction='none' has one value a row, and np.expand_dims puts the class axis back"
    if word == "out":
        takes = f"; xent.{name} takes out=" if hasattr(xent, name) else ""
        return f"a loss returns new arrays{takes}"
    if word in ("stream", "check_labels"):
        return f"xent.cuda.using({word}=...) says it for all calls inside"
    if word == "temperature":
        if name == "nll":
            return "nll(xent.log_softmax(logits / temperature), labels)"
        return f"{name}({operands[0]} / temperature, {operands[1]})"
    if word in operands or word in _FIRST.split() + _SECOND.split():
        return None
    if word == "weight":
        return "it has no class weights: sample_weight= weighs rows, and reduction='terms' has what classes could weigh"
    others = [f for f in xent.losses.__all__ if word in inspect.signature(getattr(xent.losses, f)).parameters]
    return f"{_listed(others)} of xent.losses {'take' if others[1:] else 'takes'} it" if others else None


def bad_reduction(name: str, reductions: Sequence[str], given: Any) -> str:
    """What a loss says of a reduction that it does not know."""
    text = f"{name}: reduction must be one of {', '.join(reductions)}, got {given!r}"
    word = given.lower() if isinstance(given, str) else None
    meant = _REDUCTIONS.get(word) if word is not None or given is None else None
    if meant == "mean":
        return f"{text}: 'mean' divides by rows, and not by classes too, as 'batchmean' does elsewhere"
    if meant is None and word is not None:
        meant = next(iter(difflib.get_close_matches(word, reductions, 1)), None)
    return f"{text}: {meant!r} is meant?" if meant else text


_NAMES = "OUST"  # kinds of dtypes in which classes go by their names
_CODES = (
    "give each class an integer code from 0 to C - 1, as np.unique({0}, return_inverse=True)[1] does, or {0}.cat.codes "
    "for pandas' categories"
)


def labels_dtype(op: str, name: str, dtype: Any, kind: str) -> str:
    """Why an array of `dtype`, which NumPy reads as one of `kind`, is no labels, and how to have some."""
    text = f"{op}: {name} must be integers, one a row, not {dtype}"
    if kind == "f":
        return f"{text}: {name}.astype(int) where they are whole numbers"
    if kind == "b":
        return f"{text}: {name}.astype(int) where False and True are classes 0 and 1"
    return f"{text}: {_CODES.format(name)}" if kind in _NAMES else text


def operand_dtype(op: str, name: str, dtype: np.dtype[Any], given: Any = None) -> str:
    """Why an array of `dtype`, which came as one of `given`, is no operand, and how to have one."""
    if dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None:
        # NumPy's file format has no name for the types of others.
        return (
            f"{op}: {name} of dtype {dtype} holds 16 bits of no type; bfloat16 from a .npy file looks so, and "
            f"{name}.view(ml_dtypes.bfloat16) is what was saved"
        )
    shown = dtype if given is None else given
    return (
        f"{op}: {name} of dtype {shown} is not supported; float16, bfloat16, float32, float64, integers and bools are"
    )


def neither_labels_nor_probs(op: str, name: str, dtype: Any, kind: str) -> str:
    """Why an array of `dtype`, which NumPy reads as one of `kind`, is no target where it may be either."""
    text = f"{op}: {name} must be labels (integers) or probabilities (floating), not {dtype}"
    return f"{text}: {_CODES.format(name)}" if kind in _NAMES else text


def label_out_of_range(
    op: str, name: str, label: Any, at: tuple[int, ...], classes: int, ignore_index: int | None
) -> str:
    place, held = at[0] if len(at) == 1 else at, f"0 to {classes - 1}" if classes else "none"
    text = f"{op}: label {label} at {place} is out of range for {classes} classes: {name} may hold {held}"
    if ignore_index is None:
        return text
    text += f", and ignore_index, {ignore_index}"
    if ignore_index < 0 and label.dtype.kind == "u":
        signed = str(label.dtype).removeprefix("u")
        text += f", which {label.dtype} cannot hold; {name}.view(np.{signed}) gives back what was negative"
    return text


def two_shapes(op: str, student: Any, teacher: Any) -> str:
    return (
        f"{op}: student_logits of shape {student.shape} and dtype {student.dtype} and teacher_logits of shape "
        f"{teacher.shape} and dtype {teacher.dtype} are to have one shape"
    )


def not_one_a_row(op: str, labels: Any, shape: tuple[int, ...], batch: tuple[int, ...]) -> str:
    return (
        f"{op}: labels of shape {labels.shape} and dtype {labels.dtype} do not match student_logits of shape {shape}: "
        f"one label a row is an array of shape {batch}"
    )


def fewer_dimensions(
    op: str, operands: Sequence[str], x_shape: tuple[int, ...], t_shape: tuple[int, ...], dtype: Any
) -> str:
    """What a loss says of a target that NumPy would stretch over the rows without a word."""
    name = operands[1]
    whole = getattr(dtype, "kind", "") in "iu"
    if op == "cross_entropy":
        labels = f"Labels are integers: {name}.astype(int)"
    else:
        labels = "Labels are for cross_entropy" + ("" if whole else f", as integers: {name}.astype(int)")
    return (
        f"{op}: {name} of shape {t_shape} and dtype {dtype} has fewer dimensions than {operands[0]} {x_shape}. "
        f"{labels}. One row that is meant for all rows has their dimensions, too: {name}[None, :]"
    )


def one_number_a_row(op: str, x_shape: tuple[int, ...], t_shape: tuple[int, ...], dtype: Any) -> str:
    """What a target that could be labels is told, where its shape is none for rows of classes."""
    cast = "" if getattr(dtype, "kind", "") in "iu" else ", once they are integers (.astype(int))"
    return (
        f"{op}: shapes {x_shape} of logits and {t_shape} of target do not match: the target, of dtype {dtype}, holds "
        f"one number a row. If these are labels, xent.cross_entropy_with_labels takes them{cast}"
    )


def masked_where(op: str) -> str:
    """A mask is itself hidden in places: whether that means in or out, the caller has to say."""
    return (
        f"{op}: where is a masked array; where.filled(False) leaves out what is masked, where.filled(True) takes it in"
    )
