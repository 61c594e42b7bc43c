"""The xent command: losses of .npy and .npz files, what they relate to, a demo, and what this build is.

STATUS says what it exits with: from 2 on there is no result, and one line on stderr says why.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import itertools
import json
import math
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

import numpy as np

import _xent_command
import xent
from xent import losses
from xent._files import (
    FORMATS,
    STANDARD,
    Array,
    OutputError,
    Result,
    UserError,
    json_parts,
    parse_out,
    plain_json,
    read_array,
    reason,
    write_result,
)
from xent.compat._shared import is_float

REDUCTIONS = ("none", "sum", "mean", "terms", "per_class")
TARGET_KINDS = ("probs", "log_probs", "logits")
SHOWN = 20
BLOCK = 1 << 25  # bytes of the logits that are worked on at a time, where the result has a value for each row
SAMPLE, SCAN = 1000, 1 << 22  # rows, and elements at most, that are looked at for what they are
NEAR = 0.05  # rows whose sums are this close to 1 are meant to sum to 1

STATUS = """\
exit status:
  0  done
  1  done, but the result holds NaN, or the demo found a disagreement; a line on stderr says where from
  2  an argument, a file or a value is wrong; nothing was written
  3  the result could not be written (a full disk, a closed pipe); a file that --out names is as it was
  70 a fault of xent itself
  130, 143  interrupted, terminated; a file that --out names is as it was
"""


class Stopped(BaseException):
    """A signal, by its number, that ends the command, once what is half written is gone."""


# ---------------------------------------------------------------------------------------------------------------------
# What is said, and to whom


def printable(text: str) -> str:
    """text in one line of a terminal: names of files and arrays may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def complain(text: str) -> None:
    # With stderr closed or full there is no one to tell; the exit status is left.
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"xent: {printable(text)}", file=sys.stderr, flush=True)


def require_stdout() -> None:
    if sys.stdout is None:
        raise OutputError("standard output: is closed")


def say(text: str) -> None:
    """Print text; what the output's encoding lacks is escaped."""
    require_stdout()
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def give_up_stdout() -> None:
    """Without this the interpreter would flush at exit what cannot be written, and complain in its own way."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def interruptible(call: Callable[[], Any]) -> Any:
    """call() on a thread of its own: a kernel may run for minutes, and the main thread hears Ctrl-C in the meantime."""
    if threading.current_thread() is not threading.main_thread():
        return call()
    done: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(call())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        # Not for ever: a signal that another thread receives does not wake this one.
        thread.join(0.1)
    if failed:
        raise failed[0]
    return done[0]


# ---------------------------------------------------------------------------------------------------------------------
# Losses. The parser and the call are made from the signatures in xent.losses.


def as_whole(text: str) -> int:
    """An int of 64 bits; longer ones are no axis and no label."""
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text.strip()) or not -(2**63) <= (value := int(text)) < 2**63:
        raise argparse.ArgumentTypeError(f"{short(text)!r} is no whole number of 64 bits")
    return value


def as_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{short(text)!r} is no number") from None


def short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def as_number_or_file(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


FILE = {"metavar": "FILE"}
OPTIONS: dict[str, dict[str, Any]] = {
    "reduction": {
        "choices": REDUCTIONS,
        "help": "none: one value a sample; sum; mean over samples (the default); terms: one value a sample and class; "
        "per_class: summed over samples, one value a class",
    },
    "axis": {"type": as_whole, "help": "the class axis (default: the last)"},
    "target_kind": {"choices": TARGET_KINDS, "help": "what TARGET holds (default: probs)"},
    "temperature": {
        "type": as_number_or_file,
        "metavar": "T",
        "help": "divides the logits: a number, or a file of one a sample",
    },
    "alpha": {"type": as_number, "metavar": "A", "help": "the teacher's share, from 0 to 1; needed with LABELS"},
    "beta": {"type": as_number, "metavar": "B", "help": "the weight of the first operand in the mean, from 0 to 1"},
    "scale_by_temperature_squared": {
        "action": argparse.BooleanOptionalAction,
        "help": "whether the teacher's part is multiplied by the temperature squared (default: it is)",
    },
    "label_smoothing": {"type": as_number, "metavar": "A", "help": "in [0, 1]; default 0"},
    "ignore_index": {"type": as_whole, "metavar": "LABEL", "help": "rows with this label do not count"},
    "weight": {**FILE, "help": "an array of one weight a class"},
    "pos_weight": {**FILE, "help": "an array of one weight a class, for its positive part"},
    "sample_weight": {**FILE, "help": "an array of one weight a sample"},
    "where": {
        **FILE,
        "help": "a bool array of as many dimensions as the logits: false takes a class out; a mask of rows is saved "
        "as mask[:, None]",
    },
}
DTYPE: dict[str, Any] = {
    "choices": ["bfloat16"],
    "help": "the type of two-byte values that a .npy file has no name for",
}
NOT_HERE = ("return_grad", "return_hess", "grad_of", "out", "dtype")  # options of xent.losses that are for programs

OPERANDS = {
    "logits": "the prediction",
    "log_probs": "the log-probabilities, taken as they are",
    "other_logits": "the other logits",
    "student_logits": "the prediction",
    "teacher_logits": "the teacher's logits",
    "labels": "integer labels, one a sample",
}
TARGETS = {
    "cross_entropy": "integer labels, or probabilities in floating point",
    "kl_div": "what --target-kind says",
    "binary_cross_entropy": "0 or 1 for each class, or how much of it",
}
SUMMARIES = {
    "cross_entropy": "cross-entropy of logits with labels or probabilities",
    "kl_div": "Kullback-Leibler divergence KL(target, softmax of logits)",
    "nll": "negative log-likelihood of labels under log-probabilities",
    "binary_cross_entropy": "cross-entropy of classes that are each present or not",
    "js_div": "Jensen-Shannon divergence of two arrays of logits",
    "distillation": "divergence from a teacher, softened, beside the loss under labels",
}
EXAMPLES = {
    "cross_entropy": (
        "x.npy labels.npy",
        "all.npz:x all.npz:labels --ignore-index -100 --reduction none --out losses.csv",
        "x.npy labels.npy --weight class_weights.npy --label-smoothing 0.1 --json",
    ),
    "kl_div": (
        "x.npy y.npy --target-kind logits --temperature 2",
        "x.npy probs.npy --reduction per_class",
        "- y.npy --target-kind logits --reduction none --out - --format csv < x.npy",
    ),
    "nll": ("log_probs.npy labels.npy --reduction sum",),
    "binary_cross_entropy": ("x.npy present.npy --pos-weight class_weights.npy",),
    "js_div": ("x.npy y.npy --reduction none --out js.npy",),
    "distillation": ("x.npy y.npy labels.npy --temperature 2 --alpha 0.7", "x.npy y.npy --temperature 4"),
}


def operands_of(name: str) -> dict[str, bool]:
    """Each operand of a loss, and whether it may be left out."""
    parameters = inspect.signature(getattr(losses, name)).parameters.values()
    return {p.name: p.default is not p.empty for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}


def options_of(name: str) -> dict[str, bool]:
    """Each option of a loss that the command has, and whether it is required."""
    parameters = inspect.signature(getattr(losses, name)).parameters.values()
    return {p.name: p.default is p.empty for p in parameters if p.kind is p.KEYWORD_ONLY and p.name in OPTIONS}


def as_typed(name: str, text: str, specs: dict[str, str]) -> str:
    """A message of xent.losses in the command's words: the subcommand in front, options with their dashes, the files
    of the operands and of the options that it speaks of."""
    text = re.sub(rf"^(?:{name}: )?", "", text)
    files = {operand: f"{operand} {specs[operand]}" for operand in operands_of(name) if operand in specs}
    for option in options_of(name):
        flag = "--" + option.replace("_", "-")
        # A word of English, too: an option where it stands as the subject, or with its value.
        words = rf"(?<![\w-]){option}(?!\w)" if "_" in option or option == "alpha" else rf"^{option}\b|\b{option}(?==)"
        text, count = re.subn(words, flag, text)
        if count and option in specs:
            files[option] = f"{flag} {specs[option]}"
    return f"loss {name}: {text} ({', '.join(files.values())})"


def read_arrays(specs: dict[str, str], dtype: str | None) -> dict[str, Array]:
    """The arrays of a command. NumPy files know no bfloat16: it comes back as two bytes that mean nothing."""
    if list(specs.values()).count(STANDARD) > 1:
        raise UserError("standard input (-) can be read once only")
    arrays = {name: read_array(spec) for name, spec in specs.items()}
    nameless = [name for name, array in arrays.items() if array.dtype == np.dtype("V2")]
    if dtype is None:
        for name in nameless:
            raise UserError(
                f"{specs[name]}: two-byte values without a type; if they are bfloat16, say --dtype bfloat16"
            )
        return arrays
    if not nameless:
        kinds = ", ".join(f"{specs[name]} holds {array.dtype}" for name, array in arrays.items())
        raise UserError(f"--dtype {dtype}: is for files of two-byte values without a type; {kinds}")
    try:
        import ml_dtypes  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise UserError(f"--dtype {dtype}: needs the package ml_dtypes") from error
    return arrays | {name: arrays[name].view(ml_dtypes.bfloat16) for name in nameless}


def call_loss(name: str, arrays: dict[str, Array], options: dict[str, Any], specs: dict[str, str]) -> Array:
    try:
        return np.asarray(interruptible(lambda: getattr(losses, name)(**arrays, **options)))
    except (TypeError, ValueError, IndexError, OverflowError, MemoryError, RuntimeError) as error:
        raise UserError(as_typed(name, reason(error), specs)) from error


def in_blocks(name: str, arrays: dict[str, Array], options: dict[str, Any], specs: dict[str, str]) -> Result:
    """The loss; where it has a value for each row, a block of rows at a time, so that neither operands nor result need
    fit in memory. A row's bits do not depend on its batch. Sums are one call: it reads the mapped files as it goes."""
    reduction = options.get("reduction", "mean")
    logits = next(iter(arrays.values()))
    # What a result's second axis goes through: classes only where terms have them last.
    last = options.get("axis", -1) in (-1, logits.ndim - 1)
    columns = "class" if reduction == "terms" and last else "sample"
    rows = 1 if logits.ndim > 1 and options.get("axis", -1) % logits.ndim == 0 else 0
    sides = slices_of(arrays, logits, rows)
    divisible = reduction == "none" or (reduction == "terms" and rows == 0)
    length = logits.shape[rows] if divisible and sides else 0
    step = max(1, BLOCK * length // max(1, logits.nbytes))
    if step >= length:
        value = call_loss(name, arrays, options, specs)
        return Result(name, reduction, value.shape, value.dtype, [value], columns)

    def block(start: int) -> Array:
        cut = slice(start, start + step)
        parts = {operand: arrays[operand][(slice(None),) * axis + (cut,)] for operand, axis in sides.items()}
        try:
            return call_loss(name, arrays | parts, options, specs)
        except UserError as error:
            if isinstance(error.__cause__, MemoryError):
                raise
            # Positions in a message are those in the files: the whole call finds them.
            return call_loss(name, arrays, options, specs)[cut]

    first = block(0)
    blocks = itertools.chain([first], map(block, range(step, length, step)))
    return Result(name, reduction, (length, *first.shape[1:]), first.dtype, blocks, columns)


def slices_of(arrays: dict[str, Array], logits: Array, rows: int) -> dict[str, int]:
    """The axis along which each operand is cut with the rows of the logits; none where they cannot be."""
    sides: dict[str, int] = {}
    if logits.ndim < 2:
        return sides
    for operand, array in arrays.items():
        if operand in ("weight", "pos_weight"):
            continue
        axis = rows if array.ndim == logits.ndim else 0
        if array.ndim > logits.ndim:
            return {}
        if array.ndim >= logits.ndim - 1 and array.ndim and array.shape[axis] != 1:
            if array.shape[axis] != logits.shape[rows]:
                return {}
            sides[operand] = axis
    return sides


def row_of(array: Array, index: tuple[int, ...], axis: int) -> tuple[Array, Callable[[int], tuple[int, ...]]]:
    """The row of an operand that goes with a row of the batch, and where in the operand its classes stand."""
    moved = np.moveaxis(array, axis, -1)
    own = index[len(index) - moved.ndim + 1 :]
    own = tuple(0 if n == 1 else i for i, n in zip(own, moved.shape[:-1], strict=True))
    at = axis % array.ndim
    return moved[own], lambda c: (*own[:at], int(c), *own[at:])


def first_nan(result: Result) -> tuple[int, ...] | None:
    start = 0
    for block in result.blocks:
        found = np.isnan(block)
        if found.any():
            at = np.unravel_index(int(found.argmax()), found.shape)
            return tuple(int(i) + start * (k == 0) for k, i in enumerate(at))
        start += len(block) if block.ndim else 0
    return None


def why_nan(name: str, arrays: dict[str, Array], options: dict[str, Any], specs: dict[str, str]) -> str:
    """Where the NaN of a result comes from: the first row that has one, and what it holds."""
    index = first_nan(in_blocks(name, arrays, {**options, "reduction": "none"}, specs))
    if index is None:
        if options.get("reduction", "mean") == "mean":
            return "no row is NaN, but none counts, or the weights of those that do sum to 0: nothing to divide by"
        return "no row is NaN: infinite rows of both signs meet in the sum"
    axis = options.get("axis", -1)
    rows: dict[str, tuple[Array, Callable[[int], tuple[int, ...]]]] = {}
    logits = next(iter(arrays.values()))
    for operand, array in arrays.items():
        if not is_float(array):
            continue
        if operand in ("weight", "pos_weight"):
            rows[operand] = row_of(array, (), 0)
        elif array.ndim >= logits.ndim:
            rows[operand] = row_of(array, index, axis)
        else:  # one value a row, as a class axis of one
            rows[operand] = row_of(array[..., None], index, -1)
    shown = np.ones(logits.shape[axis], bool)
    if "where" in arrays:
        shown = np.broadcast_to(row_of(arrays["where"], index, axis)[0], shown.shape)

    def first(operand: str, wrong: Callable[[Array], Array]) -> tuple[str, Any] | None:
        row, place = rows[operand]
        found = wrong(row) & (shown if row.size == shown.size else True)
        if not found.any():
            return None
        at = place(int(found.argmax()))
        return str(at[: arrays[operand].ndim]), row[found.argmax()]

    where = f"the first is row {index if len(index) > 1 else index[0]}: " if index else ""
    for operand in rows:
        if found := first(operand, np.isnan):
            return f"{where}{specs[operand]} holds NaN at {found[0]}"
    probabilities = name == "kl_div" and options.get("target_kind", "probs") == "probs"
    if probabilities and "target" in rows and (found := first("target", lambda row: row < 0)):
        return (
            f"{where}{specs['target']} was taken as probabilities and holds {found[1]!s} at {found[0]}; for logits say "
            "--target-kind logits, for logarithms of probabilities --target-kind log_probs"
        )
    for operand in [operand for operand in list(operands_of(name))[:2] if operand in rows]:
        if found := first(operand, np.isposinf):
            return f"{where}{specs[operand]} holds +inf at {found[0]}"
        if (rows[operand][0] == -np.inf)[shown].all() and not (operand == "target" and probabilities):
            return f"{where}{specs[operand]} holds -inf in every class of it"
    return f"{where}infinite values meet in it"


def doubts(name: str, arrays: dict[str, Array], options: dict[str, Any], specs: dict[str, str]) -> Iterator[str]:
    """What an operand looks like that it was not taken as, by its first rows: the number may be right all the same."""
    if name == "binary_cross_entropy" or "where" in arrays:
        return  # rows need not sum to anything
    axis = options.get("axis", -1)
    for operand in operands_of(name):
        array = arrays.get(operand)
        if array is None or operand == "labels" or not is_float(array) or array.shape[axis] < 2:
            continue
        moved = np.atleast_2d(np.moveaxis(array, axis, -1))
        batch, classes = moved.shape[:-1], moved.shape[-1]
        some = np.arange(min(math.prod(batch), SAMPLE, 1 + SCAN // classes))
        sample = moved[np.unravel_index(some, batch)].astype(np.float64).reshape(-1, classes)
        sample = sample[np.isfinite(sample).all(axis=1)]
        if not len(sample):
            continue
        kind = options.get("target_kind", "probs") if operand == "target" else operand
        sums, low, high = sample.sum(axis=1), sample.min(), sample.max()
        if kind == "log_probs":
            sums = np.exp(xent.logsumexp(sample))
        worst = sums[np.abs(sums - 1).argmax()]
        far = abs(worst - 1)
        looks = f"{specs[operand]}, taken as"
        if kind.endswith("logits") and low >= 0 and high <= 1 and far <= 1e-3:
            yield f"{looks} logits, looks like probabilities: its first rows sum to 1; their logits are np.log of them"
        elif kind == "probs" and (low < 0 or far > NEAR):
            found = f"holds {low:.6g}" if low < 0 else f"has a row that sums to {worst:.6g}"
            yield f"{looks} probabilities, {found}" + ("; see --target-kind" if name == "kl_div" else "")
        elif kind == "log_probs" and far > NEAR:
            yield f"{looks} log-probabilities, has a row whose exponentials sum to {worst:.6g}"


def show_result(result: Array) -> None:
    if result.ndim == 0:
        say(str(result[()]))
        return
    say(f"{result.dtype}, shape {result.shape}")
    if result.ndim > 1:
        say(np.array2string(result, threshold=SHOWN, max_line_width=100, floatmode="unique"))
        return
    # A long result shows its first and last values.
    n, half = len(result), SHOWN // 2
    for i in range(n) if n <= SHOWN else [*range(half), None, *range(n - half, n)]:
        say("... (--out FILE or --json has them all)" if i is None else f"{i:{len(str(n))}}  {result[i]!s}")


def run_loss(args: argparse.Namespace) -> int:
    name: str = args.loss
    given = {word: getattr(args, word) for word in (*operands_of(name), *options_of(name))}
    given = {word: value for word, value in given.items() if value is not None}
    choices = ("reduction", "target_kind")  # other strings are the names of files
    specs = {word: value for word, value in given.items() if isinstance(value, str) and word not in choices}
    options = {word: value for word, value in given.items() if word not in specs}
    if args.out is None and args.format is not None:
        raise UserError("--format: goes with --out")
    out = None if args.out is None else parse_out(args.out, args.format, list(specs.values()))
    if out is None or args.json:
        require_stdout()
    if out is not None and out.is_stdout and args.json:
        raise UserError(f"--json prints to standard output, where --out {args.out} goes")
    arrays = read_arrays(specs, args.dtype)
    logits = next(iter(arrays.values()))
    dimensions = {"none": logits.ndim - 1, "terms": logits.ndim}.get(options.get("reduction", "mean"), 0)
    if out is not None and out.format == "csv" and dimensions > 2:
        raise UserError(f"--out {args.out}: a .csv holds at most 2 dimensions, the result has {dimensions}")

    result = in_blocks(name, arrays, options, specs)
    nans = 0

    def watched(blocks: Iterable[Array]) -> Iterator[Array]:
        nonlocal nans
        for block in blocks:
            nans += int(np.count_nonzero(np.isnan(block)))
            yield block

    result = dataclasses.replace(result, blocks=watched(result.blocks))
    if out is None and args.json:
        for part in json_parts(result):
            print(part, end="")
    elif out is None:
        show_result(join(result))
    else:
        scalar = None if result.shape else join(result)
        write_result(out, result if scalar is None else dataclasses.replace(result, blocks=[scalar]))
        if args.json:
            value = {} if scalar is None else {"value": plain_json(scalar.astype(np.float64).item())}
            say(json.dumps({**result.record(), **value, "out": args.out}))
        elif sys.stdout is not None and not out.is_stdout:
            say(f"{args.out}: {result.dtype}, shape {result.shape}" if scalar is None else str(scalar[()]))
    if nans:
        sys.stdout.flush() if sys.stdout is not None else None
        count = f"{nans} of {math.prod(result.shape)} values are NaN" if result.shape else "the result is NaN"
        complain(f"loss {name}: {count}: {interruptible(lambda: why_nan(name, arrays, options, specs))}")
        return 1
    for doubt in doubts(name, arrays, options, specs):
        complain(f"loss {name}: note: {doubt}")
    return 0


def join(result: Result) -> Array:
    blocks = list(result.blocks)
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


# ---------------------------------------------------------------------------------------------------------------------
# The other commands


def run_explain(args: argparse.Namespace) -> int:
    require_stdout()
    arrays = read_arrays({"input": args.input, "target": args.target}, args.dtype)
    try:
        found = interruptible(lambda: xent.explain(**arrays, axis=args.axis, ignore_index=args.ignore_index))
    except (TypeError, ValueError, IndexError, OverflowError, MemoryError, RuntimeError) as error:
        text = re.sub(r"^(?:explain: )?axis (-?\d+)", r"explain: --axis \1", reason(error))
        text = text if text.startswith("explain:") else f"explain: {text}"
        raise UserError(f"{text} (input {args.input}, target {args.target})") from error
    say(json.dumps(plain_json(found.to_dict()), indent=1) if args.json else str(found))
    return 0


def settle_isa() -> None:
    """XENT_ISA is read at the first call, which says what is wrong with it."""
    try:
        xent.logsumexp(np.zeros(1))
    except RuntimeError as error:
        raise UserError(reason(error)) from error


def run_info(args: argparse.Namespace) -> int:
    settle_isa()
    info = xent.info()
    if args.json:
        say(json.dumps(info, indent=1))
        return 0
    width = max(len(name) for name in info)
    for name, value in info.items():
        say(f"{name:{width}}  {', '.join(map(str, value)) if isinstance(value, list | tuple) else value}")
    return 0


def run_demo(args: argparse.Namespace) -> int:
    from xent import demo  # it builds large arrays, and only this command needs it

    require_stdout()
    settle_isa()
    status = demo.main()
    if status:
        sys.stdout.flush()
        complain("demo: what xent and NumPy compute disagrees, where it says so above")
    return status


# ---------------------------------------------------------------------------------------------------------------------
# Arguments


class Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        # An abbreviation would be another option's name tomorrow.
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def _print_message(self, message: str, file: Any = None) -> None:
        # Help and version. argparse would look over an error here, and take stderr where stdout is closed.
        say(message.removesuffix("\n"))

    def error(self, message: str) -> NoReturn:
        # argparse would print the usage as well, which buries the reason.
        raise UserError(f"{message} (see {self.prog} --help)")


def examples(*lines: str) -> str:
    return "\n".join(["examples:", *(f"  xent {line}" for line in lines), "", STATUS])


def add_loss(parsers: Any, name: str) -> None:
    parser: argparse.ArgumentParser = parsers.add_parser(
        name,
        help=SUMMARIES[name],
        description=f"{SUMMARIES[name][0].upper()}{SUMMARIES[name][1:]}. Values in nats.\n"
        "A file is .npy, .npz of one array, or .npz:NAME; a pipe will do, and - is standard input.",
        epilog=examples(*(f"loss {name} {line}" for line in EXAMPLES[name])),
    )
    for operand, optional in operands_of(name).items():
        parser.add_argument(
            operand,
            metavar=operand.upper(),
            nargs="?" if optional else None,
            help=TARGETS.get(name, "the target") if operand == "target" else OPERANDS[operand],
        )
    for option, required in options_of(name).items():
        parser.add_argument("--" + option.replace("_", "-"), dest=option, required=required, **OPTIONS[option])
    parser.add_argument("--dtype", **DTYPE)
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="write the whole result: .npy, .npz (as loss), .csv (with a line of names) or .json; what FILE held stays "
        "until the new one is whole; - is standard output",
    )
    parser.add_argument("--format", choices=FORMATS, help="of --out, where its name does not say")
    parser.add_argument(
        "--json", action="store_true", help="print JSON, the whole result if there is no --out; inf and nan as strings"
    )
    parser.set_defaults(run=run_loss, loss=name)


def make_parser() -> Parser:
    parser = Parser(
        prog="xent",
        description="Softmax losses of arrays in .npy and .npz files.",
        epilog=examples("loss kl_div x.npy y.npy --target-kind logits", "explain x.npy y.npy", "info", "demo"),
    )
    parser.add_argument("--version", action="version", version=f"xent {xent.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    loss = commands.add_parser(
        "loss",
        help="compute a loss of two files",
        description="A loss of two files; xent loss LOSS --help says more of each.",
        epilog=examples(*(f"loss {name} {lines[0]}" for name, lines in EXAMPLES.items())),
    )
    kinds = loss.add_subparsers(title="losses", required=True, metavar="LOSS")
    for name in SUMMARIES:
        add_loss(kinds, name)

    explain = commands.add_parser(
        "explain",
        help="say what two files hold and how the losses of several libraries on them relate",
        description="What two arrays look like, and how the losses of each library relate to KL(target, prediction).",
        epilog=examples("explain x.npy y.npy", "explain all.npz:x all.npz:labels --json"),
    )
    explain.add_argument("input", metavar="INPUT", help="the prediction: .npy, .npz, .npz:NAME or a pipe")
    explain.add_argument(
        "target", metavar="TARGET", help="the target: probabilities, their logarithms, logits or labels"
    )
    axis = "the class axis (default: the last, or the only one along which rows sum to 1)"
    explain.add_argument("--axis", type=as_whole, help=axis)
    explain.add_argument("--ignore-index", type=as_whole, help="rows with this label do not count")
    explain.add_argument("--dtype", **DTYPE)
    explain.add_argument("--json", action="store_true", help="as JSON")
    explain.set_defaults(run=run_explain)

    info = commands.add_parser("info", help="version, instruction set, threads", epilog=examples("info", "info --json"))
    info.add_argument("--json", action="store_true", help="as JSON")
    info.set_defaults(run=run_info)
    demo = commands.add_parser(
        "demo", help="losses and speed on logits that ship with the package", epilog=examples("demo")
    )
    demo.set_defaults(run=run_demo)
    return parser


# ---------------------------------------------------------------------------------------------------------------------
# The process


def run_command(argv: Sequence[str] | None) -> int:
    try:
        args = make_parser().parse_args(argv)
    except SystemExit as done:  # --help, --version
        return int(done.code or 0)
    status: int = args.run(args)
    return status


def guarded(run: Callable[[], int]) -> int:
    """run()'s status; whatever goes wrong in it is one line on stderr and a status of its own."""
    try:
        with warnings.catch_warnings():
            # A line like all else, and not the place in the source and its text.
            warnings.showwarning = lambda message, *args, **options: complain(f"warning: {message}")
            status = run()
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except UserError as error:
        complain(str(error))
        if isinstance(error, OutputError):
            give_up_stdout()
        return error.status
    except KeyboardInterrupt:
        complain("interrupted")
        return 128 + signal.SIGINT
    except OSError as error:
        # Whatever opens a file says so by itself; what is left is what was printed.
        complain(f"standard output: {reason(error)}")
        give_up_stdout()
        return OutputError.status
    except MemoryError as error:
        complain(f"out of memory: {reason(error)}")
        return UserError.status
    except Exception as error:
        complain(f"a fault of xent, please report it: {type(error).__name__}: {reason(error)}")
        return 70


def stop(number: int, frame: FrameType | None) -> None:
    # A second signal ends the process at once, in the middle of tidying up.
    signal.signal(number, signal.SIG_DFL)
    raise Stopped(number)


def as_process(run: Callable[[], int]) -> int:
    """guarded(run) for a process's main function: it heeds signals and survives closed descriptors."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Else the next file to be opened would be it, and get what somebody prints.
            os.open(os.devnull, os.O_RDWR)
    heeded = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # What was ignored (nohup, a background job) stays so.
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler, _xent_command.interrupted):
            signal.signal(number, stop)
            heeded.append(number)
    try:
        status = guarded(run)
        for number in heeded:
            signal.signal(number, signal.SIG_DFL)  # nothing is left to tidy up
        return status
    except Stopped as stopped:
        (number,) = stopped.args
        complain("interrupted" if number == signal.SIGINT else signal.strsignal(number) or "stopped")
        # By the signal itself, as a shell's loop expects; and without waiting for a kernel that still runs.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return 128 + int(number)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status; without argv, the one that started the process."""
    if argv is None:
        return as_process(lambda: run_command(None))
    return guarded(lambda: run_command(argv))


if __name__ == "__main__":
    sys.exit(main())
