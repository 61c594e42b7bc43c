"""xent.h as data: its functions, enumerations and structures, read from the text that ships."""

import re
from dataclasses import dataclass
from pathlib import Path

import xent


@dataclass(frozen=True)
class Function:
    name: str
    result: str
    arguments: tuple[tuple[str, str], ...]  # (type, name)

    def __str__(self):
        arguments = ", ".join(f"{kind}{'' if kind.endswith('*') else ' '}{name}" for kind, name in self.arguments)
        return f"{self.result}{'' if self.result.endswith('*') else ' '}{self.name}({arguments or 'void'})"


def text():
    """The header without its comments."""
    whole = Path(xent.get_include(), "xent.h").read_text(encoding="utf-8")
    return re.sub(r"/\*.*?\*/", "", whole, flags=re.DOTALL)


def _split(declaration):
    """A declaration's type, pointers included, and its name."""
    kind, name = re.fullmatch(r"(.*?)(\w+)", " ".join(declaration.split())).groups()
    return kind.strip(), name


def functions():
    found = []
    for result, arguments in re.findall(r"^XENT_API ([^;(]*)\(([^;]*)\);", text(), re.MULTILINE):
        kind, name = _split(result)
        pairs = () if arguments == "void" else tuple(_split(a) for a in arguments.split(","))
        found.append(Function(name, kind, pairs))
    return found


def enumerations():
    """Their enumerators, by their names."""
    bodies = re.findall(r"typedef enum \w+ \{([^}]*)\} (\w+);", text())
    return {name: re.findall(r"\bXENT_\w+", body) for body, name in bodies}


def structures():
    """Their fields as (declaration, name), by their names."""
    bodies = re.findall(r"typedef struct \w+ \{([^}]*)\} (\w+);", text())
    return {
        name: [(" ".join(field.split()), _split(field)[1]) for field in body.split(";") if field.strip()]
        for body, name in bodies
    }


def number(name):
    return int(re.search(rf"^#define XENT_{name} (\d+)$", text(), re.MULTILINE)[1])
