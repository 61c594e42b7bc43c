"""The binary interface beside its record in tests/embed/abi.txt: names, types, sizes, offsets, numbers, their order.

Whoever changes it sees this fail. A change that old programs would not survive raises XENT_ABI_VERSION; then, as after
one that only adds, `python tests/test_abi.py >tests/embed/abi.txt` records what is meant.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import header
import pytest

import xent
from xent import ufuncs

RECORD = Path(__file__).parent / "embed" / "abi.txt"
CC = shlex.split(os.environ.get("CC", "cc"))


def layout(directory):
    """What a compiler makes of the header: sizes and offsets in bytes, and the numbers of the enumerators."""
    lines = ["#include <stdio.h>", "#include <xent.h>", "int main(void) {"]
    for name, fields in header.structures().items():
        lines.append(f'printf("struct {name}: %zu bytes\\n", sizeof({name}));')
        for declaration, field in fields:
            lines.append(f'printf("    %zu  {declaration}\\n", offsetof({name}, {field}));')
    for name, enumerators in header.enumerations().items():
        lines.append(f'printf("enum {name}: %zu bytes\\n", sizeof({name}));')
        lines += [f'printf("    %d  {enumerator}\\n", {enumerator});' for enumerator in enumerators]
    source, program = Path(directory, "layout.c"), Path(directory, "layout")
    source.write_text("\n".join([*lines, "return 0;", "}", ""]))
    subprocess.run([*CC, f"-I{xent.get_include()}", source, "-o", program], check=True)
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout


def interface(directory):
    functions = "".join(f"{function};\n" for function in header.functions())
    # States of rows hold the numbers of operations.
    operations = "".join(f"    {i}  {name}\n" for i, name in enumerate(ufuncs.__all__))
    return f"ABI version {header.number('ABI_VERSION')}\n\n{functions}\n{layout(directory)}operations:\n{operations}"


def test_nothing_changed_unnoticed(tmp_path):
    if shutil.which(CC[0]) is None:
        pytest.skip(f"needs {CC[0]}")
    if sys.maxsize < 2**63 - 1:
        pytest.skip("the record is of a machine with pointers of 64 bits")
    assert interface(tmp_path) == RECORD.read_text(encoding="utf-8")


def test_the_record_is_of_this_version():
    assert RECORD.read_text(encoding="utf-8").startswith(f"ABI version {xent.info()['abi']}\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(interface(scratch), end="")
