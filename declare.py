"""What repeats the C library's functions, made before anything is compiled: `python declare.py`, as setup.py runs it.

awk makes xent.h of kernels/ops.def and its template (kernels/declare.awk); from xent.h come functions.h, the .pxd files
and the stubs that name each operation; those of the losses from losses.py. All of it goes into src/xent, beside the
templates, and git ignores it.

A template `NAME.in` is NAME but for blocks between `@each KIND@` and `@end@`, which are written for each item of that
kind (items()). `@FIELD@` is a field of the item; a line whose field is None is left out, one whose field is a list is
written for each entry. `@a|b|c@` is a for an operation that gives one value a row, b for one that gives a value a
class, c for one that gives both. Entries of __all__ are sorted.
"""

import ast
import itertools
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
KERNELS, PACKAGE = ROOT / "kernels", ROOT / "src" / "xent"
HEADER = PACKAGE / "include" / "xent.h"
WIDTH = 120


def write(path, text):
    """Only where it differs, so that what was compiled from it is not compiled again."""
    path.parent.mkdir(exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def header():
    awk = shutil.which(os.environ.get("AWK", "awk"))
    if awk is None:
        sys.exit("xent.h is made by awk, which is not on the PATH; AWK=... names another one")
    sources = [KERNELS / "declare.awk", KERNELS / "ops.def", KERNELS / "include" / "xent.h.in"]
    done = subprocess.run([awk, "-f", *sources], stdout=subprocess.PIPE, check=False)
    return done.stdout.decode() if done.returncode == 0 else sys.exit("awk could not make xent.h")


# ---- xent.h as data ------------------------------------------------------------------------------------------------


def function(declaration):
    result, name, arguments = re.fullmatch(r"(.*?)(\w+)\((.*)\)", declaration).groups()
    types = ", ".join(re.sub(r"(?<=[ *])\w+$", "", argument).strip() for argument in arguments.split(", "))
    arguments = "" if arguments == "void" else arguments
    bare = name.removeprefix("xent_")
    return {
        "c_name": name,
        "bare": bare,
        # As Cython spells it.
        "signature": re.sub(r"const (\w+)", r"\1 const", f"{result}({types})"),
        "linked": f"{result}{name}({arguments})",
        "imported": f"{result}{bare}({arguments})",
    }


def operation(function, docs):
    """What Python calls the operands of xent_NAME_f64, and what it gives."""
    name = function["bare"].removesuffix("_f64")
    labels = "labels," in function["linked"]
    first, second = docs["operands"](name, "labels" if labels else "any" if " *t," in function["linked"] else "none")
    return {
        "name": name,
        "first": first,
        "second": second or None,
        "check_labels": "check_labels" if labels else None,
        "result": int("*value)" not in function["linked"]) + ("*value, " in function["linked"]),
    }


def items(text):
    """The items of each kind by their fields, in the header's order, but with the operations' functions last."""
    code = " ".join(re.sub(r"/\*.*?\*/|^#.*?$", "", text, flags=re.DOTALL | re.MULTILINE).split())
    functions = [function(found) for found in re.findall(r"XENT_API ([^;]*);", code)]
    docs = runpy.run_path(str(PACKAGE / "_docs.py"))
    of_operations = [f for f in functions if re.search(r"_b?f\d+$", f["bare"])]
    elements, rows = (
        [operation(f, docs) for f in of_operations if re.search(rf"_f64\(.* size_t {extent},", f["linked"])]
        for extent in ("n", "classes")
    )
    bodies = {kind: re.findall(rf"typedef {kind} \w+ {{ ([^}}]*) }} (\w+);", code) for kind in ("enum", "struct")}
    return {
        "function": [f for f in functions if f not in of_operations] + of_operations,
        "enumeration": [{"name": name, "member": re.findall(r"\bXENT_\w+", body)} for body, name in bodies["enum"]],
        "structure": [{"name": name, "member": re.findall(r"([^;]+);\s*", body)} for body, name in bodies["struct"]],
        "operation": rows + elements,
        "operation of rows": rows,
        "operation of elements": elements,
    }


# ---- losses.py as data ---------------------------------------------------------------------------------------------

# What an option takes that is no array. Those that name derivatives are overloads().
OPTION_TYPES = {
    "axis": "SupportsIndex",
    "ignore_index": "SupportsIndex",
    "label_smoothing": "float",
    "beta": "float",
    "alpha": "float",
    "scale_by_temperature_squared": "bool",
    "target_kind": 'Literal["probs", "log_probs", "logits"]',
    "reduction": 'Literal["none", "sum", "mean", "terms", "per_class"]',
    "grad_of": 'Literal["logits", "target"]',
    "dtype": "DTypeLike",
}
# Beside derivatives, which terms have none of.
OF_ROWS = {"reduction": 'Literal["none", "sum", "mean"]'}


def overloads(loss):
    """Its calls: for each set of derivatives that can be asked for, and for flags that are any bool."""
    a = loss.args
    names = [argument.arg for argument in (*a.args, *a.kwonlyargs)]
    given = [*[None] * (len(a.args) - len(a.defaults)), *a.defaults, *a.kw_defaults]
    defaults = {name: ast.unparse(value).replace("'", '"') for name, value in zip(names, given, strict=True) if value}
    flags = [name for name in names if name.startswith("return_")]
    for wanted in (*itertools.product((False, True), repeat=len(flags)), ()):
        types = OPTION_TYPES | dict.fromkeys(flags, "bool")
        types |= {flag: f"Literal[{is_wanted}]" for flag, is_wanted in zip(flags, wanted, strict=False)}
        types |= OF_ROWS if any(wanted) or not wanted else {}
        parameters = []
        for name in names:
            parameters.append(f"{name}: {types.get(name, 'ArrayLike')}")
            if name in defaults and types.get(name) != "Literal[True]":
                parameters[-1] += f"{' | None' * (defaults[name] == 'None')} = {defaults[name]}"
        parameters.insert(len(a.args), "*")
        result = f"tuple[{', '.join(['Any'] + ['_Floats'] * sum(wanted))}]" if any(wanted) else "Any"
        yield {"name": loss.name, "parameter": parameters, "result": result}


def losses(text):
    public = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
    return {"loss": [{"name": node.name} for node in public], "call": [c for node in public for c in overloads(node)]}


# ---- templates -----------------------------------------------------------------------------------------------------


def fill(line, item):
    """The lines, none to several, that a line of a block is for an item."""
    names = re.findall(r"@(\w+)@", line)
    if any(item[name] is None for name in names):
        return []
    line = re.sub(r"@([^@|]*)\|([^@|]*)\|([^@|]*)@", lambda m: m[1 + item["result"]], line)
    for name in names:
        if isinstance(item[name], list):
            return [line.replace(f"@{name}@", part) for part in item[name]]
        line = line.replace(f"@{name}@", item[name])
    return [line]


def wrap(line):
    """A declaration that is too long has its arguments on a line of their own."""
    return line if len(line) <= WIDTH else re.sub(r"^( *)([^\"(]*\()(.*)(\).*)$", r"\1\2\n\1    \3\n\1\4", line)


def expand(template, kinds):
    def block(found):
        lines = found[2].splitlines()
        return "".join(f"{wrap(part)}\n" for item in kinds[found[1]] for line in lines for part in fill(line, item))

    def in_order(found):
        return "".join(sorted(found[0].splitlines(keepends=True)))

    text = re.sub(r"^@each ([\w ]+)@\n(.*?)^@end@\n", block, template, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(?<=^__all__ = \[\n).*?(?=^\])", in_order, text, flags=re.MULTILINE | re.DOTALL)


def main():
    text = header()
    write(HEADER, text)
    kinds = items(text) | losses((PACKAGE / "losses.py").read_text(encoding="utf-8"))
    for template in sorted(PACKAGE.glob("*.in")):
        write(template.with_suffix(""), expand(template.read_text(encoding="utf-8"), kinds))


if __name__ == "__main__":
    main()
