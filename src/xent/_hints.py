"""What a refusal says beside what is wrong: the way to what was meant. Read only once a call has failed."""

import difflib
import inspect
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

OPTIONS = ("axis", "keepdims", "where", "out", "dtype")

# The loss that an operation belongs to: the longest of these names that the operation's begins with.
_LOSSES = ("binary_cross_entropy", "cross_entropy", "js_div", "kl_div", "nll")

# Other names for what is an option here.
_RENAMED = {
    "dim": "axis",
    "axes": "axis",
    "keepdim": "keepdims",
    "keep_dims": "keepdims",
    "keepaxis": "keepdims",
    "mask": "where",
}
_FIRST = (
    "input",
    "inputs",
    "x",
    "a",
    "pred",
    "prediction",
    "predictions",
    "y_pred",
    "scores",
    "logits",
    "log_probs",
    "probs",
)
_SECOND = ("target", "targets", "labels", "label", "y", "y_true", "other", "other_logits", "teacher", "reference")
_WEIGHTS = ("weights", "class_weight", "class_weights", "sample_weights")
_OF_UFUNCS = ("casting", "order", "subok", "signature", "sig")


def refuse_call(name: str, operands: Sequence[str], given: int, named: dict[str, Any]) -> NoReturn:
    """TypeError for a call of ``xent.<name>`` with `given` arguments by their place and the keywords `named`."""
    needs = " and ".join(operands)
    if given > len(operands):
        plural = "argument" if len(operands) == 1 else "arguments"
        raise TypeError(
            f"{name}() takes {len(operands)} positional {plural}, {needs}, but {given} were given; "
            f"{', '.join(OPTIONS)} are keywords"
        )
    for word, value in named.items():
        if word in operands[:given]:
            raise TypeError(f"{name}() got {word} twice, by its place and by its name")
        if word not in operands:
            raise TypeError(f"{name}() has no argument {word!r}: {_way(name, operands, word, value)}")
    missing = [operand for operand in operands[given:] if operand not in named]
    raise TypeError(f"{name}() needs {needs}; {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")


def _loss_of(name: str) -> str | None:
    return next((loss for loss in _LOSSES if name.startswith(loss)), None)


def _way(name: str, operands: Sequence[str], word: str, value: Any) -> str:
    from xent import losses

    loss = _loss_of(name)
    of_loss = list(inspect.signature(getattr(losses, loss)).parameters) if loss else []
    if word in _RENAMED:
        return f"it is {_RENAMED[word]} here"
    if word == "b" and name == "logsumexp":
        return "xent.compat.scipy.logsumexp takes it, and logsumexp(logits + np.log(b)) is the same for b >= 0"
    if word == "return_sign" and name == "logsumexp":
        return "xent.compat.scipy.logsumexp takes it"
    if word in ("pk", "qk", "base") and name == "entropy":
        return "xent.compat.scipy.entropy takes it"
    if word == "log_target":
        return (
            "kl_div_with_log_probs takes log-probabilities as the target, xent.losses.kl_div says "
            "target_kind='log_probs', and xent.compat.torch.kl_div takes log_target itself"
        )
    if word in ("from_logits", "log_input"):
        return "the prediction is logits, and log-probabilities are logits too, so there is nothing to say"
    if word == "temperature" and loss is None:
        return f"{name}({operands[0]} / temperature)"
    if word in ("reduction", "size_average", "reduce") and loss:
        way = f"xent.losses.{loss} takes reduction="
        return way + ", whose 'mean' over the rows is what is called 'batchmean' elsewhere" * bool(value == "batchmean")
    if word in _WEIGHTS and loss:
        takes = [f"{option}=" for option in ("weight", "sample_weight") if option in of_loss]
        return f"xent.losses.{loss} takes {' (one a class) and '.join(takes)} (one a row)"
    if word in of_loss and word not in operands:
        return f"xent.losses.{loss} takes it"
    if word in _OF_UFUNCS:
        return f"xent.ufuncs.{name} takes it"
    if word in ("stream", "check_labels"):
        return f"xent.cuda.{name} takes it"
    if word in ("labels", "label") and f"{name}_with_labels" == "cross_entropy_with_labels":
        return "cross_entropy_with_labels takes labels"
    if len(operands) > 1 and word in _SECOND:
        return f"the second operand is {operands[1]} here"
    if word in _FIRST:
        return f"the first operand is {operands[0]} here"
    close = difflib.get_close_matches(word, [*operands, *OPTIONS], 1)
    meant = f"perhaps {close[0]}; " if close else ""
    return f"{meant}it takes {', '.join([*operands, *OPTIONS])}"


def labels_dtype(op: str, name: str, dtype: Any, kind: str) -> str:
    """Why an array of `dtype`, which NumPy reads as one of `kind`, is no labels, and how to have some."""
    text = f"{op}: {name} must be integers, one a row, not {dtype}"
    if kind == "f":
        return f"{text}: {name}.astype(int) where they are whole numbers"
    if kind == "b":
        return f"{text}: {name}.astype(int) where False and True are classes 0 and 1"
    if kind in "OUST":
        return (
            f"{text}: give each class an integer code from 0 to C - 1, as np.unique({name}, return_inverse=True)[1] "
            f"does, or {name}.cat.codes for pandas' categories"
        )
    return text


def operand_dtype(op: str, name: str, dtype: np.dtype[Any]) -> str:
    """Why an array of `dtype` is no operand, and how to have one."""
    if dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None:
        # NumPy's file format has no name for the types of others.
        return (
            f"{op}: {name} of dtype {dtype} holds 16 bits of no type; bfloat16 from a .npy file looks so, and "
            f"{name}.view(ml_dtypes.bfloat16) is what was saved"
        )
    return (
        f"{op}: {name} of dtype {dtype} is not supported; float16, bfloat16, float32, float64, integers and bools are"
    )


def one_number_a_row(op: str, x_shape: tuple[int, ...], t_shape: tuple[int, ...], dtype: Any) -> str:
    """What a target that could be labels is told, where its shape is none for rows of classes."""
    cast = "" if getattr(dtype, "kind", "") in "iu" else ", once they are integers (.astype(int))"
    return (
        f"{op}: shapes {x_shape} and {t_shape} do not match: the target, of dtype {dtype}, holds one number a row. "
        f"If these are labels, xent.cross_entropy_with_labels takes them{cast}"
    )


def masked_where(op: str) -> str:
    """A mask is itself hidden in places: whether that means in or out, the caller has to say."""
    return (
        f"{op}: where is a masked array; where.filled(False) leaves out what is masked, where.filled(True) takes it in"
    )
