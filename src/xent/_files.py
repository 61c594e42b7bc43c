"""Files of the xent command: arrays in; results out, whole or not at all."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import secrets
import stat
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

FORMATS = ("npy", "npz", "csv", "json")
NPY, ZIP = b"\x93NUMPY", b"PK"  # what the two kinds of file start with
STANDARD = "-"
PIECE = 1 << 24  # bytes that are handed to the system at a time, so that an interrupt is heard in between
NAMES = 20  # of an archive's arrays, in a message


class UserError(Exception):
    """Something that the caller can put right; the command prints it as one line."""

    status = 2


class OutputError(UserError):
    """A result that could not be written: a full disk, a closed pipe."""

    status = 3


def reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


# ---------------------------------------------------------------------------------------------------------------------
# In


def split_spec(spec: str) -> tuple[str, str | None]:
    """FILE:NAME is an array of an archive; a file whose own name is the whole of spec is that file."""
    if os.path.exists(spec):
        return spec, None
    # Names of files and of arrays may both hold colons: the shortest part that is a file decides.
    for at, character in enumerate(spec):
        if at and character == ":" and os.path.exists(spec[:at]) and not os.path.isdir(spec[:at]):
            return spec[:at], spec[at + 1 :]
    path, colon, name = spec.rpartition(":")
    if colon and path.lower().endswith((".npz", ".zip")):
        return path, name
    return spec, None


class Stream:
    """What is read of a pipe, with the bytes that were looked at put back. NumPy would seek in the pipe itself."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self.start, self.rest = start, rest

    def read(self, size: int = 0, /) -> bytes:  # NumPy always says how much
        taken, self.start = self.start[:size], self.start[size:]
        return taken + self.rest.read(size - len(taken))


def load_member(file: BinaryIO, shown: str, name: str | None) -> Array:
    with np.load(file, allow_pickle=False) as archive:
        if not archive.files:
            raise UserError(f"{shown}: holds no arrays")
        names = ", ".join([*archive.files[:NAMES], *["..."][: len(archive.files) > NAMES]])
        if name is None:
            if len(archive.files) != 1:
                raise UserError(f"{shown}: say which array, as in {shown}:NAME; it holds {names}")
            name = archive.files[0]
        elif name not in archive.files:
            raise UserError(f"{shown}: no array {name!r} in it; it holds {names}")
        array = archive[name]
    if not isinstance(array, np.ndarray):
        raise UserError(f"{shown}: {name} is not an array")
    return array


def read_open(file: BinaryIO, path: str | None, shown: str, name: str | None) -> Array:
    start = file.read(len(NPY))
    if not start:
        raise UserError(f"{shown}: is empty")
    if start == NPY:
        if name is not None:
            raise UserError(f"{shown}: is a single array, without names")
        if path is not None and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
            return mapped.view(np.ndarray)
        # A Stream for standard input too: NumPy would read a real file past Python's buffer.
        return np.lib.format.read_array(Stream(start, file), allow_pickle=False)
    if not start.startswith(ZIP):
        raise UserError(f"{shown}: not a .npy or .npz file")
    if path is not None and file.seekable():
        file.seek(0)
        return load_member(file, shown, name)
    # The names of a zip archive stand at its end.
    return load_member(io.BytesIO(start + file.read()), shown, name)


def read_array(spec: str) -> Array:
    """The array that spec names: a .npy file, memory-mapped; a member of a .npz file; either of them from a pipe."""
    path, name = split_spec(spec)
    shown = "standard input" if spec == STANDARD else path
    try:
        with warnings.catch_warnings():
            # NumPy warns of headers that Python 2 wrote, and reads them.
            warnings.simplefilter("ignore")
            if spec == STANDARD:
                if sys.stdin is None:
                    raise UserError("standard input: is closed")
                return read_open(sys.stdin.buffer, None, shown, None)
            with open(path, "rb") as file:
                return read_open(file, path, shown, name)
    except UserError:
        raise
    except (OSError, MemoryError) as error:
        raise UserError(f"{shown}: {reason(error)}") from error
    except Exception as error:
        # In a damaged file NumPy's header parser, zipfile and zlib raise nearly anything, tokenize.TokenError included.
        raise UserError(f"{spec}: {damage(error)}") from error


def damage(error: Exception) -> str:
    text = reason(error)
    if "Object arrays" in text or "Python objects" in text:
        return "holds pickled Python objects, which are never loaded"
    # NumPy and zipfile quote what they could not read, which may be a screen full.
    return f"damaged: {text if len(text) <= 200 else text[:200] + '...'}"


# ---------------------------------------------------------------------------------------------------------------------
# Out


@dataclass(frozen=True)
class Result:
    """A loss, in blocks along its first axis: one after the other they are an array of `shape`."""

    name: str
    reduction: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Iterable[Array]
    columns: str = "class"  # what a second axis goes through

    def record(self) -> dict[str, Any]:
        return {"loss": self.name, "reduction": self.reduction, "dtype": str(self.dtype), "shape": list(self.shape)}


@dataclass(frozen=True)
class Output:
    """Where a result goes."""

    shown: str  # as it was typed
    format: str
    descriptor: int | None = None  # /dev/stdout, /dev/fd/63: already open, and not to be truncated or replaced
    special: bool = False  # a FIFO or a device: written as it is
    path: str = ""

    @property
    def is_stdout(self) -> bool:
        return self.descriptor == 1


def parse_out(out: str, form: str | None, inputs: Sequence[str]) -> Output:
    """--out, checked before anything is computed for it."""
    suffix = os.path.splitext(out)[1].lower()[1:]
    if form is None:
        if suffix not in FORMATS:
            ends = ", ".join("." + name for name in FORMATS)
            raise UserError(f"--out {out}: the name must end in one of {ends}; for any other, say --format")
        form = suffix
    found = re.fullmatch(r"/dev/std(?:out|err)|/(?:dev|proc/self)/fd/(\d{1,9})", out)
    if out == STANDARD or found:
        number = int(found[1]) if found and found[1] else 2 if out == "/dev/stderr" else 1
        if number == 1 and sys.stdout is None:
            raise OutputError(f"--out {out}: standard output is closed")
        return Output(out, form, descriptor=number)
    try:
        try:
            status = os.stat(out)
        except FileNotFoundError:
            status = None
        # A symbolic link stays, and what it points to is replaced.
        path = os.path.realpath(out)
        if out.endswith("/") or (status is not None and stat.S_ISDIR(status.st_mode)):
            raise UserError(f"--out {out}: Is a directory")
        if status is not None and not stat.S_ISREG(status.st_mode):
            return Output(out, form, special=True, path=path)
        for spec in inputs:
            source = split_spec(spec)[0]
            if status is not None and os.path.exists(source) and os.path.samefile(path, source):
                raise UserError(f"--out {out}: is one of the inputs")
        directory = os.path.dirname(path)
        os.stat(directory)
        if status is not None and not os.access(path, os.W_OK):
            raise UserError(f"--out {out}: Permission denied")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise UserError(f"--out {out}: Permission denied in {directory}, where it is written before it is renamed")
    except OSError as error:
        raise UserError(f"--out {out}: {reason(error)}") from error
    return Output(out, form, path=path)


@contextlib.contextmanager
def beside(path: str) -> Iterator[BinaryIO]:
    """A new file that takes path's place once all of it is on the disk; until then path is what it was."""
    directory = os.path.dirname(path)
    temporary = os.path.join(directory, f".xent-{secrets.token_hex(8)}.part")
    try:
        old: os.stat_result | None = os.stat(path)
    except FileNotFoundError:
        old = None
    try:
        # An ordinary file's permissions, by the umask; those of the file that it replaces, where there is one.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(temporary, flags, 0o666 if old is None else 0o600)
        with open(descriptor, "wb") as file:
            if old is not None:
                mine = os.fstat(descriptor)
                if (mine.st_uid, mine.st_gid) != (old.st_uid, old.st_gid):
                    # Only root may give a file away; anyone else's result is their own.
                    with contextlib.suppress(PermissionError):
                        os.chown(descriptor, old.st_uid, old.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
            yield file
            file.flush()
            os.fsync(descriptor)
            if os.fstat(descriptor).st_size != file.tell():
                raise OSError(0, "the file came out shorter than what was written")
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    # The renaming is kept across a crash as well, where the file system has that to offer.
    with contextlib.suppress(OSError):
        held = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(held)
        finally:
            os.close(held)


def opened(out: Output) -> AbstractContextManager[BinaryIO]:
    if out.descriptor is not None:
        return open(os.dup(out.descriptor), "wb")
    return open(out.path, "wb") if out.special else beside(out.path)


def write_result(out: Output, result: Result) -> None:
    try:
        with opened(out) as file:
            WRITERS[out.format](file, result)
    except OSError as error:
        raise OutputError(f"--out {out.shown}: {reason(error)}") from error


def write_npy(file: IO[bytes], result: Result) -> None:
    # Not np.save: it writes through a C stream, whose last error (a full disk) it does not look at.
    descr = np.lib.format.dtype_to_descr(result.dtype)
    header = {"descr": descr, "fortran_order": False, "shape": result.shape}
    np.lib.format.write_array_header_1_0(file, header)
    for block in result.blocks:
        data = np.ascontiguousarray(block).reshape(-1).view(np.uint8)
        for start in range(0, len(data), PIECE):
            file.write(data[start : start + PIECE].data)


def write_npz(file: BinaryIO, result: Result) -> None:
    # A date of its own (zip's first), so that equal results are equal files.
    with (
        zipfile.ZipFile(file, "w") as archive,
        archive.open(zipfile.ZipInfo("loss.npy"), "w", force_zip64=True) as part,
    ):
        write_npy(part, result)


def exact(block: Array) -> Any:
    """Python's numbers, whose repr reads back as the same value in any floating dtype that held it."""
    return block.astype(np.float64).tolist()


def write_csv(file: BinaryIO, result: Result) -> None:
    """A line of names, then one value a line, or one sample a line and one class a column."""
    shape = result.shape
    columns = [f"{result.columns}_{c}" for c in range(shape[1])] if len(shape) == 2 else [result.name]
    file.write((",".join(columns) + "\n").encode())
    for block in result.blocks:
        for item in exact(np.atleast_1d(block)):
            line = ",".join(map(repr, item)) if isinstance(item, list) else repr(item)
            file.write(f"{line}\n".encode())


def plain_json(value: Any) -> Any:
    """JSON has no inf and nan: they become the strings that float() reads back."""
    if isinstance(value, dict):
        return {key: plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def json_parts(result: Result) -> Iterator[str]:
    yield json.dumps(result.record())[:-1] + ', "value": '
    yield "[" if result.shape else ""
    separator = ""
    for block in result.blocks:
        for item in exact(np.atleast_1d(block)):
            yield separator + json.dumps(plain_json(item))
            separator = ", "
    yield "]}\n" if result.shape else "}\n"


def write_json(file: BinaryIO, result: Result) -> None:
    file.writelines(part.encode() for part in json_parts(result))


WRITERS: dict[str, Callable[[BinaryIO, Result], None]] = {
    "npy": write_npy,
    "npz": write_npz,
    "csv": write_csv,
    "json": write_json,
}
