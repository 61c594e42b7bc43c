"""xent.kernels and xent.config: the C functions that other people's code gets from an installed xent."""

import ctypes
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cases
import header
import numpy as np
import pytest

import xent
from xent import config, kernels

SUFFIXES = {"f8": "f64", "f4": "f32", "f2": "f16", "bfloat16": "bf16"}
REALS = {"f64": "double", "f32": "float", "f16": "uint16_t", "bf16": "uint16_t"}
ROWS, CLASSES = 37, 21


def pointer(a):
    return a.ctypes.data_as(ctypes.c_void_p)


def operands(case, rng):
    """Arguments of the Python callable that are right for any operation."""
    x = 3 * rng.standard_normal((ROWS, CLASSES))
    probabilities = rng.dirichlet(np.ones(CLASSES), ROWS)
    if case.name == "entropy" or case.name == "rel_entr":
        x = probabilities
    elif case.name.startswith("nll") or case.name == "kl_pointwise":
        x = np.log(probabilities)
    second = {
        "labels": lambda: rng.integers(CLASSES, size=ROWS),
        "logits": lambda: rng.standard_normal((ROWS, CLASSES)).astype(case.type),
        "log_probs": lambda: np.log(rng.dirichlet(np.ones(CLASSES), ROWS)).astype(case.type),
    }
    more = lambda: rng.dirichlet(np.ones(CLASSES), ROWS).astype(case.type)  # noqa: E731
    x = x.astype(case.type)
    return (x,) if case.operands in ("", "self") else (x, second.get(case.operands, more)())


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.id)
def test_function_is_the_operation_of_its_name(case, rng):
    """To the last bit, for each operation and dtype."""
    inputs = operands(case, rng)
    expected = getattr(xent, case.name)(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    outputs = [np.full_like(e, 7) for e in expected]
    extents = [ROWS * CLASSES] if case.operands == "point" else [ROWS, CLASSES]
    arrays = [np.ascontiguousarray(a, np.int64) if a.dtype.kind == "i" else a for a in inputs]
    function = ctypes.CFUNCTYPE(ctypes.c_int)(kernels.address(f"{case.name}_{SUFFIXES[case.dtype]}"))
    assert function(*map(pointer, arrays), *map(ctypes.c_size_t, extents), *map(pointer, outputs)) == 0
    for got, want in zip(outputs, expected, strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))


# ---- the lists of functions: xent.h, kernels.pxd twice, xent.kernels ----


def cython_spelling(kind):
    """The type of one argument or result as Cython writes it in a signature."""
    pointed = re.fullmatch(r"const (\w+) \*", kind)
    return f"{pointed[1]} const *" if pointed else kind


def cython_signature(function):
    arguments = ", ".join(cython_spelling(kind) for kind, _ in function.arguments)
    result = cython_spelling(function.result)
    return f"{result}{'' if result.endswith('*') else ' '}({arguments or 'void'})"


def declared(pxd, pattern):
    text = Path(xent.__file__).with_name(pxd).read_text(encoding="utf-8")
    found = re.findall(pattern, text, re.MULTILINE | re.DOTALL)
    return [" ".join(part.split()).replace("( ", "(").replace(" )", ")") for part in found]


def test_signatures_are_the_headers():
    wanted = {f.name.removeprefix("xent_"): cython_signature(f) for f in header.functions()}
    assert {name: kernels.signature(name) for name in kernels.names()} == wanted


def test_pxds_declare_what_the_header_declares():
    """One line a function, in the header's order: those to be linked, and those that are imported."""
    wanted = [str(f).replace("(void)", "()") for f in header.functions()]
    linked = declared("_xent_h.pxd", r"^    ((?:const )?\w+ \*?xent_\w+\(.*?\))$")
    imported = declared("kernels.pxd", r"^cdef ((?:const )?\w+ \*?\w+\(.*?\)) noexcept nogil$")
    assert sorted(linked) == sorted(wanted)
    assert sorted(imported) == sorted(re.sub(r"\bxent_(\w+\()", r"\1", line) for line in wanted)


@pytest.mark.parametrize("suffix", REALS)
def test_functions_are_the_operations(suffix):
    """Each operation in each dtype, and nothing else, takes rows."""
    real = REALS[suffix]
    found = {f.name for f in header.functions() if f.name.endswith(f"_{suffix}")}
    assert found == {f"xent_{name}_{suffix}" for name in cases.NAMES}
    for function in header.functions():
        if function.name.endswith(f"_{suffix}"):
            assert function.arguments[0] == (f"const {real} *", "x")


def test_header_states_the_accuracy_that_is_tested():
    """The comment before each float function holds its budgets in float and double, and those of its gradient."""
    text = Path(xent.get_include(), "xent.h").read_text(encoding="utf-8")
    assert cases.with_budgets(text) == text


def test_no_such_function():
    for call in (kernels.address, kernels.signature):
        with pytest.raises(ValueError, match="no function 'softmax'"):
            call("softmax")


# ---- where things are ----


def ask(*options):
    done = subprocess.run(
        [sys.executable, "-m", "xent.config", *options], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.rstrip("\n")


def test_directories_hold_what_they_should():
    package = Path(xent.__file__).parent
    for option, file in {
        "includedir": "xent.h",
        "libdir": "libxent.a",
        "pkgconfigdir": "xent.pc",
        "cmakedir": "xent-config.cmake",
    }.items():
        directory = Path(ask(f"--{option}"))
        assert (directory / file).is_file()
        assert package.resolve() in directory.parents
    assert (package / "kernels.pxd").is_file()


def test_flags():
    cflags, libs = shlex.split(ask("--cflags")), shlex.split(ask("--libs"))
    assert cflags == [f"-I{xent.get_include()}"]
    assert libs[:2] == [f"-L{xent.get_library_dir()}", "-lxent"]
    assert libs[-1] == "-lm"
    assert bool({"-fopenmp", "-lgomp", "-lomp"} & set(libs)) == xent.info()["openmp"]
    assert shlex.split(ask("--cflags", "--libs")) == [*cflags, *libs]


def test_version_is_the_same_everywhere():
    version = ".".join(str(header.number(f"VERSION_{part}")) for part in ("MAJOR", "MINOR", "PATCH"))
    assert version == xent.__version__ == xent.info()["version"] == ask("--version")
    assert f"Version: {version}\n" in Path(config.pkgconfigdir(), "xent.pc").read_text(encoding="utf-8")
    assert f'"{version}"' in Path(config.cmakedir(), "xent-config-version.cmake").read_text(encoding="utf-8")
    assert header.number("ABI_VERSION") == xent.info()["abi"]


def test_config_wants_to_know_what(capsys):
    assert config.main([]) == 2
    assert "say what is wanted" in capsys.readouterr().err
