"""The xent command: losses of .npy and .npz files, what they relate to, a demo, and what this build is.

Exit status: 0 done, 1 the demo found a disagreement, 2 bad arguments, files or values (one line on stderr says which).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

import xent
from xent import losses

REDUCTIONS = ("none", "sum", "mean", "terms", "per_class")
TARGET_KINDS = ("probs", "log_probs", "logits")
FORMATS = (".npy", ".npz", ".csv", ".json")
NPY, ZIP = b"\x93NUMPY", b"PK"  # what the two kinds of file start with
SHOWN = 20


class UserError(Exception):
    """Something that the caller can put right; main prints it as one line."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse would print the usage as well, which buries the reason.
        raise UserError(f"{message} (see {self.prog} --help)")


def reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def split_spec(spec: str) -> tuple[str, str | None]:
    """file.npz:name is a member; any other colon belongs to the file's name."""
    path, colon, name = spec.rpartition(":")
    if colon and path.lower().endswith(".npz") and not os.path.exists(spec):
        return path, name
    return spec, None


def read_member(archive: Any, path: str, name: str | None) -> np.ndarray:
    if not archive.files:
        raise UserError(f"{path}: holds no arrays")
    names = ", ".join(archive.files)
    if name is None:
        if len(archive.files) != 1:
            raise UserError(f"{path}: say which array, as in {path}:NAME; it holds {names}")
        name = archive.files[0]
    elif name not in archive.files:
        raise UserError(f"{path}: no array {name!r} in it; it holds {names}")
    array = archive[name]
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: {name} is not an array")
    return array


def read_array(spec: str) -> np.ndarray:
    """The array that spec names: a .npy file, memory-mapped, or a member of a .npz file."""
    path, name = split_spec(spec)
    try:
        with open(path, "rb") as file:
            start = file.read(len(NPY))
            if start == NPY:
                if name is not None:
                    raise UserError(f"{path}: is a single array, without names")
                mapped: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
                return mapped.view(np.ndarray)
            if not start.startswith(ZIP):
                raise UserError(f"{path}: not a .npy or .npz file")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return read_member(archive, path, name)
    except UserError:
        raise
    except (OSError, MemoryError) as error:
        raise UserError(f"{path}: {reason(error)}") from error
    except Exception as error:
        # In a damaged file NumPy's header parser, zipfile and zlib raise nearly anything, tokenize.TokenError included.
        raise UserError(f"{spec}: {damage(error)}") from error


def damage(error: Exception) -> str:
    text = reason(error)
    if "Object arrays" in text or "Python objects" in text:
        return "holds pickled Python objects, which are never loaded"
    return f"damaged: {text}"


def check_out(out: str, inputs: Sequence[str]) -> None:
    if Path(out).suffix.lower() not in FORMATS:
        raise UserError(f"--out {out}: the name must end in one of {', '.join(FORMATS)}")
    for spec in inputs:
        path = split_spec(spec)[0]
        # The inputs are mapped: to write over one would change it while it is read.
        if os.path.exists(out) and os.path.exists(path) and os.path.samefile(out, path):
            raise UserError(f"--out {out}: is one of the inputs")


def plain_json(value: Any) -> Any:
    """JSON has no inf and nan: they become the strings that float() reads back."""
    if isinstance(value, dict):
        return {key: plain_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_json(item) for item in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def write_result(out: str, result: np.ndarray, record: dict[str, Any]) -> None:
    suffix = Path(out).suffix.lower()
    if suffix == ".csv" and result.ndim > 2:
        raise UserError(f"--out {out}: a .csv holds at most 2 dimensions, the result has {result.ndim}")
    try:
        with open(out, "wb") as file:
            if suffix == ".npy":
                np.save(file, result)
            elif suffix == ".npz":
                np.savez(file, loss=result)
            elif suffix == ".csv":
                digits = {2: 5, 4: 9}.get(result.dtype.itemsize, 17)
                np.savetxt(file, np.atleast_1d(result), fmt=f"%.{digits}g", delimiter=",")
            else:
                file.write((json.dumps({**record, "value": plain_json(result.tolist())}) + "\n").encode())
    except OSError as error:
        raise UserError(f"--out {out}: {reason(error)}") from error


def show_result(result: np.ndarray) -> None:
    if result.ndim == 0:
        print(result[()])
        return
    print(f"{result.dtype}, shape {result.shape}")
    if result.ndim > 1:
        print(np.array2string(result, threshold=SHOWN, max_line_width=100))
        return
    # A long result shows its first and last values; --out has them all.
    n, half = len(result), SHOWN // 2
    for i in range(n) if n <= SHOWN else [*range(half), None, *range(n - half, n)]:
        print("..." if i is None else f"{i:{len(str(n))}}  {result[i]!s}")


def run_loss(args: argparse.Namespace) -> int:
    files = {"weight": getattr(args, "weight", None), "sample_weight": args.sample_weight, "where": args.where}
    specs = [args.logits, args.target, *(spec for spec in files.values() if spec is not None)]
    if args.out is not None:
        check_out(args.out, specs)
    options: dict[str, Any] = {name: read_array(spec) for name, spec in files.items() if spec is not None}
    options |= {name: getattr(args, name) for name in args.options}
    logits, target = read_array(args.logits), read_array(args.target)
    try:
        result = np.asarray(getattr(losses, args.loss)(logits, target, **options))
    except (TypeError, ValueError, IndexError, OverflowError, MemoryError) as error:
        raise UserError(reason(error)) from error
    if args.out is not None:
        record = {"loss": args.loss, "reduction": args.reduction, "dtype": str(result.dtype), "shape": result.shape}
        write_result(args.out, result, record)
    if args.out is None or result.ndim == 0:
        show_result(result)
    else:
        print(f"{args.out}: {result.dtype}, shape {result.shape}")
    return 0


def run_explain(args: argparse.Namespace) -> int:
    arrays = read_array(args.input), read_array(args.target)
    try:
        found = xent.explain(*arrays, axis=args.axis)
    except (TypeError, ValueError, IndexError, MemoryError) as error:
        raise UserError(reason(error)) from error
    print(json.dumps(plain_json(found.to_dict()), indent=1) if args.json else found)
    return 0


def run_info(args: argparse.Namespace) -> int:
    info = xent.info()
    if args.json:
        print(json.dumps(info, indent=1))
        return 0
    width = max(len(name) for name in info)
    for name, value in info.items():
        print(f"{name:{width}}  {', '.join(map(str, value)) if isinstance(value, list | tuple) else value}")
    return 0


def run_demo(args: argparse.Namespace) -> int:
    from xent import demo  # it builds large arrays, and only this command needs it

    return demo.main()


def add_loss(parsers: Any, name: str, summary: str, target: str, own: tuple[str, ...]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = parsers.add_parser(name, help=summary, description=f"{summary}. Values in nats.")
    parser.add_argument("logits", metavar="LOGITS", help="the prediction: .npy, .npz or .npz:NAME")
    parser.add_argument("target", metavar="TARGET", help=f"the target: {target}")
    parser.add_argument(
        "--reduction",
        choices=REDUCTIONS,
        default="mean",
        help="none: one value a sample; sum; mean over samples (the default); terms: one value a sample and class; "
        "per_class: summed over samples, one value a class",
    )
    parser.add_argument("--axis", type=int, default=-1, help="the class axis (default: the last)")
    parser.add_argument("--sample-weight", metavar="FILE", help="an array of one weight a sample")
    parser.add_argument("--where", metavar="FILE", help="a bool array of the logits' shape: false takes a class out")
    parser.add_argument("--out", metavar="FILE", help="write the whole result: .npy, .npz (as loss), .csv or .json")
    parser.set_defaults(run=run_loss, loss=name, options=("reduction", "axis", *own))
    return parser


def make_parser() -> Parser:
    parser = Parser(prog="xent", description="Softmax losses of arrays in .npy and .npz files.")
    parser.add_argument("--version", action="version", version=f"xent {xent.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    loss = commands.add_parser("loss", help="compute a loss of two files")
    kinds = loss.add_subparsers(title="losses", required=True, metavar="LOSS")
    cross = add_loss(
        kinds,
        "cross_entropy",
        "cross-entropy of logits with labels or probabilities",
        "integer labels, or probabilities in floating point",
        ("ignore_index", "label_smoothing"),
    )
    cross.add_argument("--ignore-index", type=int, metavar="LABEL", help="rows with this label do not count")
    cross.add_argument("--label-smoothing", type=float, default=0.0, metavar="A", help="in [0, 1]; default 0")
    cross.add_argument("--weight", metavar="FILE", help="an array of one weight a class")
    divergence = add_loss(
        kinds,
        "kl_div",
        "Kullback-Leibler divergence KL(target, softmax of logits)",
        "what --target-kind says",
        ("target_kind", "temperature"),
    )
    divergence.add_argument("--target-kind", choices=TARGET_KINDS, default="probs", help="default: probs")
    divergence.add_argument("--temperature", type=float, default=1.0, metavar="T", help="divides the logits; default 1")

    explain = commands.add_parser(
        "explain",
        help="say what two files hold and how the losses of several libraries on them relate",
        description="What two arrays look like, and how the losses of each library relate to KL(target, prediction).",
    )
    explain.add_argument("input", metavar="INPUT", help="the prediction: .npy, .npz or .npz:NAME")
    explain.add_argument(
        "target", metavar="TARGET", help="the target: probabilities, their logarithms, logits or labels"
    )
    explain.add_argument("--axis", type=int, default=-1, help="the class axis (default: the last)")
    explain.add_argument("--json", action="store_true", help="as JSON")
    explain.set_defaults(run=run_explain)

    info = commands.add_parser("info", help="version, instruction set, threads")
    info.add_argument("--json", action="store_true", help="as JSON")
    info.set_defaults(run=run_info)
    demo = commands.add_parser("demo", help="losses and speed on logits that ship with the package")
    demo.set_defaults(run=run_demo)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    try:
        args = make_parser().parse_args(argv)
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"xent: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone, as in `xent demo | head`; without this the interpreter would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
