"""What tests compile is compiled once, for all processes and runs, and kept under build/tests (`make clean`).

A directory's name holds a digest of what it was made of: the sources, the compiler with all that it predefines (its
version, the processor), the settings. It is used once it is whole.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "build" / "tests"
# What an outer make passes down, its flags and its job server, is not meant for a make below.
MAKES_OWN = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CFLAGS", "CXXFLAGS", "LDFLAGS", "CPPFLAGS")


def environment():
    return {name: value for name, value in os.environ.items() if name not in MAKES_OWN}


def digest(compiler, settings, sources):
    """Of files, and of the files of directories but for what is built there."""
    made_of = hashlib.blake2b(repr([*map(str, compiler), *map(str, settings)]).encode(), digest_size=8)
    for flags in ([], ["-march=native"]):
        command = [*compiler, *flags, "-dM", "-E", "-x", "c", os.devnull]
        made_of.update(subprocess.run(command, capture_output=True, check=False, env=environment()).stdout)
    for source in sources:
        for file in sorted(f for f in (source.rglob("*") if source.is_dir() else [source]) if f.is_file()):
            if not {"build", "__pycache__"} & set(file.relative_to(ROOT).parts):
                made_of.update(f"{file.relative_to(ROOT)} {file.stat().st_size} ".encode() + file.read_bytes())
    return made_of.hexdigest()


def directory(name, make, *, compiler, settings=(), sources):
    """A directory in which make(directory) has built; whoever comes while another builds waits."""
    at = KEPT / f"{name}-{digest(compiler, settings, sources)}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with open(KEPT / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (at / "whole").exists():
            for old in KEPT.glob(f"{name}-" + "[0-9a-f]" * 16):
                shutil.rmtree(old)
            at.mkdir()
            make(at)
            (at / "whole").touch()
    return at
