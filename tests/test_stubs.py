"""The stubs say what the package has. Types themselves are mypy's and stubtest's business."""

import ast
import inspect
from pathlib import Path

import cases
import pytest

import xent
from xent import losses

PACKAGE = Path(xent.__file__).parent
ROOT = Path(__file__).parents[1]


def definitions(name):
    tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def names(node):
    a = node.args
    return [arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs)]


def test_typed():
    assert (PACKAGE / "py.typed").exists()


@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_callables(name):
    assert names(definitions("__init__.pyi")[name]) == list(inspect.signature(getattr(xent, name)).parameters)


@pytest.mark.parametrize(
    "name",
    ["info", "set_isa", "set_num_threads", "get_num_threads", "get_include", "get_library_dir", "enable_bfloat16"],
)
def test_functions(name):
    assert names(definitions("__init__.pyi")[name]) == list(inspect.signature(getattr(xent, name)).parameters)
    assert getattr(xent, name).__doc__


@pytest.mark.parametrize("name", ["cross_entropy", "kl_div", "nll", "binary_cross_entropy", "js_div", "distillation"])
def test_losses(name):
    function = getattr(losses, name)
    stub = PACKAGE / "losses.pyi"
    if stub.exists():
        assert names(definitions("losses.pyi")[name]) == list(inspect.signature(function).parameters)
    else:
        assert set(inspect.signature(function).parameters) <= set(function.__annotations__)
    assert len(function.__doc__) > 500


def test_what_is_made_is_no_source():
    """What declare.py writes beside its templates is neither committed nor in an sdist."""
    made = {template.stem for template in (ROOT / "src" / "xent").glob("*.in")}
    if not made:
        pytest.skip("there is no src/ beside an installed package")
    assert {f"/src/xent/{name}" for name in made} <= set((ROOT / ".gitignore").read_text().splitlines())
    assert {f"src/xent/{name}" for name in made} <= set((ROOT / "MANIFEST.in").read_text().split())


def test_import_is_light():
    """Nothing but NumPy: the frameworks are what xent is used instead of."""
    import subprocess
    import sys

    code = (
        "import sys, xent; print(*sorted({m.split('.')[0] for m in sys.modules} & {'scipy','pandas','torch','dask'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not done.stdout.strip()


def test_explain_is_reexported():
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    imported = {alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert "explain" in imported


def test_what_is_imported_late_is_shown():
    """dir() and so tab completion name it, and it is there by its name alone, at no cost to the import."""
    import subprocess
    import sys

    code = """
import sys, xent
late = ["xent.compat", "xent.config", "xent.kernels", "xent._explain", "xent.cuda", "xent._foreign", "xent._hints"]
print(*[m for m in late if m in sys.modules] or ["none"])
wanted = {"explain", "compat", "kernels", "config", "cuda", "losses", "ufuncs", "softmax"}
print(*sorted(wanted - set(dir(xent))) or ["none"])
print(*[n for n in dir(xent) if n.startswith("_") and not n.startswith("__")] or ["none"])
print(xent.compat.torch.KLDivLoss.__name__, xent.kernels.address("softmax_f32") != 0, callable(xent.config.cflags))
print(callable(xent.explain), xent.cuda.is_built() in (True, False), all(hasattr(xent, n) for n in dir(xent)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:5] == ["none", "none", "none", "KLDivLoss True True", "True True True"]
    with pytest.raises(AttributeError, match="no attribute 'softmaxx'"):
        xent.softmaxx  # noqa: B018
