"""The binary interface beside its record in tests/embed/abi.txt: names, types, sizes, offsets, numbers, their order.

Whoever changes it sees this fail. A change that old programs would not survive raises XENT_ABI_VERSION; then, as after
one that only adds, `python tests/test_abi.py >tests/embed/abi.txt` records what is meant. Of the operations, which
kernels/ops.def lists, the record is a digest: those that it knows keep their numbers, names and functions, and new ones
may follow them.
"""

import hashlib
import os
import re
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


def of_operations(functions):
    """The functions of each operation, in the order of the operations' numbers, which states of rows hold."""
    return [[f for f in functions if re.fullmatch(rf"xent_{name}_b?f\d+", f.name)] for name in ufuncs.__all__]


def digest(operations):
    lines = "".join(f"{number} {f};\n" for number, functions in enumerate(operations) for f in functions)
    return f"operations 0 to {len(operations) - 1}: {hashlib.sha256(lines.encode()).hexdigest()}"


def interface(directory, count):
    """Of the first `count` operations, or of as many as there are."""
    functions = header.functions()
    operations = of_operations(functions)
    general = "".join(f"{f};\n" for f in functions if not any(f in of_one for of_one in operations))
    version = header.number("ABI_VERSION")
    return f"ABI version {version}\n\n{general}\n{layout(directory)}{digest(operations[:count])}\n"


def test_nothing_changed_unnoticed(tmp_path):
    if shutil.which(CC[0]) is None:
        pytest.skip(f"needs {CC[0]}")
    if sys.maxsize < 2**63 - 1:
        pytest.skip("the record is of a machine with pointers of 64 bits")
    record = RECORD.read_text(encoding="utf-8")
    assert interface(tmp_path, int(re.search(r"^operations 0 to (\d+)", record, re.MULTILINE)[1]) + 1) == record


def test_an_operation_in_the_midst_is_noticed():
    """It would take the number of one that was there."""
    operations = of_operations(header.functions())
    assert all(len(functions) == 4 for functions in operations)
    first, second, *others = operations
    assert len({digest(order) for order in (operations, [second, first, *others], [first, *others, second])}) == 3


def test_the_record_is_of_this_version():
    assert RECORD.read_text(encoding="utf-8").startswith(f"ABI version {xent.info()['abi']}\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(interface(scratch, len(ufuncs.__all__)), end="")
