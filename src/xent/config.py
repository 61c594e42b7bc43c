"""Where an installed xent keeps what C and Cython code builds with: ``python -m xent.config --cflags --libs``."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import xent
from xent._files import UserError, reason
from xent.cli import Parser, as_process, guarded, say


def pkgconfigdir() -> str:
    """The directory of ``xent.pc``, for PKG_CONFIG_PATH."""
    return str(Path(xent.get_library_dir(), "pkgconfig"))


def cmakedir() -> str:
    """The directory of the CMake package, for ``find_package(xent)``: xent_DIR."""
    return str(Path(xent.get_library_dir(), "cmake", "xent"))


def cflags() -> str:
    """What a compiler needs to find ``xent.h``."""
    return shlex.quote(f"-I{xent.get_include()}")


def libs() -> str:
    """What a program or module is linked with."""
    for line in Path(pkgconfigdir(), "xent.pc").read_text(encoding="utf-8").splitlines():
        name, _, flags = line.partition(":")
        if name == "Libs":
            parts = [part.replace("${libdir}", xent.get_library_dir()) for part in flags.split()]
            return shlex.join(parts)
    raise RuntimeError(f"{pkgconfigdir()}/xent.pc has no Libs")


def main(argv: list[str] | None = None) -> int:
    """Print what is asked for, in the order in which it is; the exit status is that of the xent command."""
    return as_process(lambda: run(argv)) if argv is None else guarded(lambda: run(argv))


def run(argv: list[str] | None) -> int:
    parser = Parser(prog="python -m xent.config", description=__doc__)
    answers: dict[str, Callable[[], str]] = {
        "cflags": cflags,
        "libs": libs,
        "includedir": xent.get_include,
        "libdir": xent.get_library_dir,
        "cmakedir": cmakedir,
        "pkgconfigdir": pkgconfigdir,
        "version": lambda: xent.__version__,
    }
    for name, answer in answers.items():
        text = (answer.__doc__ or "Its version.").splitlines()[0].replace("``", "")
        parser.add_argument(f"--{name}", action="append_const", dest="wanted", const=name, help=text)
    try:
        wanted = parser.parse_args(argv).wanted
    except SystemExit as done:  # --help
        return int(done.code or 0)
    if not wanted:
        parser.error("say what is wanted")
    try:
        found = [answers[name]() for name in wanted]
    except (OSError, RuntimeError) as error:
        raise UserError(f"{getattr(error, 'filename', None) or 'xent.config'}: {reason(error)}") from error
    line = " ".join(found)
    try:
        line.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"{line}: standard output's encoding, {error.encoding}, lacks a letter of it") from error
    say(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
