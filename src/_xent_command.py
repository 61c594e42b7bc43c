"""What the xent command imports first: Ctrl-C is one line and status 130 even while NumPy and xent are imported."""

import contextlib
import os
import signal
import sys
from types import FrameType


def interrupted(number: int, frame: FrameType | None) -> None:
    """The line, and the end by the signal itself, as a shell's loop expects."""
    signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        os.write(2, b"xent: interrupted\n")
    os.kill(os.getpid(), number)


def heed() -> None:
    # What was ignored (nohup, a background job) stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupted)


def main() -> int:
    heed()
    from xent.cli import main

    return main()


# python -m xent: Python imports the package before its __main__, and the package imports this before NumPy.
_ARGV = getattr(sys, "argv", [])
if _ARGV[:1] == ["-m"] and sys.orig_argv[-len(_ARGV)].removeprefix("-m").partition(".")[0] == "xent":
    heed()
