"""What other people's programs and libraries do with an installed xent: `make embed` runs them beside the wheel.

The compilers are the caller's ($CC, $CXX). Nothing here looks at the source tree but for the examples themselves and,
where a program takes libxent's sources into its own build, kernels/.
"""

import ctypes
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import header
import numpy as np
import pytest

import xent
from xent import config, kernels

if os.environ.get("XENT_EMBED") != "required":
    pytest.skip("make embed runs these against the wheel", allow_module_level=True)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CC = shlex.split(os.environ.get("CC", "cc"))
CXX = shlex.split(os.environ.get("CXX", "c++"))
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]


def need(*tools):
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")


def run(*command, **options):
    """The standard output of a command that must succeed, away from any build settings of make's."""
    command = [str(part) for part in command]
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "CFLAGS", "LDFLAGS")}
    environment |= options.pop("env", {})
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, **options)
    assert done.returncode == 0, f"{shlex.join(command)}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def python(code, *arguments, **options):
    return run(sys.executable, "-W", "error", "-c", code, *arguments, **options)


def test_it_is_the_installed_package_that_is_tested():
    assert ROOT not in Path(xent.__file__).resolve().parents or "site-packages" in xent.__file__
    for directory in (xent.get_include(), xent.get_library_dir(), config.cmakedir(), config.pkgconfigdir()):
        assert Path(xent.__file__).parent in Path(directory).parents


# ---- C ----


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Logits and labels in a file, and what the program prints of them when it agrees with Python to the last bit."""
    rng = np.random.default_rng(6)
    logits = (3 * rng.standard_normal((301, 57))).astype(np.float32)
    labels = rng.integers(57, size=301)
    file = tmp_path_factory.mktemp("data") / "rows"
    file.write_bytes(logits.tobytes() + labels.astype(np.int64).tobytes())
    values = [*xent.cross_entropy_with_labels(logits, labels), xent.logsumexp(logits.ravel())]
    return [file, *logits.shape], [float(v) for v in values]


def check(program, data, **options):
    arguments, expected = data
    assert [float.fromhex(line) for line in run(program, *arguments, **options).split()] == expected


def test_c_by_pkg_config(tmp_path, data):
    need(CC[0], "pkg-config")
    environment = {"PKG_CONFIG_PATH": run(sys.executable, "-m", "xent.config", "--pkgconfigdir").strip()}
    assert run("pkg-config", "--modversion", "xent", env=environment).strip() == xent.__version__
    flags = shlex.split(run("pkg-config", "--cflags", "--libs", "xent", env=environment))
    run(*CC, *STRICT, HERE / "program.c", *flags, "-o", tmp_path / "program")
    check(tmp_path / "program", data)


def test_c_by_our_own_flags(tmp_path, data):
    need(CC[0])
    flags = shlex.split(run(sys.executable, "-m", "xent.config", "--cflags", "--libs"))
    run(*CC, *STRICT, HERE / "program.c", *flags, "-o", tmp_path / "program")
    check(tmp_path / "program", data)


def cmake(source, build, *settings):
    need("cmake", CC[0])
    run("cmake", "-S", source, "-B", build, f"-DCMAKE_C_COMPILER={CC[0]}", *settings)
    run("cmake", "--build", build, "--parallel", os.cpu_count() or 1)
    return build / "program"


def test_c_by_find_package(tmp_path, data):
    directory = run(sys.executable, "-m", "xent.config", "--cmakedir").strip()
    check(cmake(HERE / "find_package", tmp_path, f"-Dxent_DIR={directory}"), data)


def test_find_package_of_a_later_version_fails(tmp_path):
    need("cmake", CC[0])
    text = (HERE / "find_package" / "CMakeLists.txt").read_text().replace("xent 0.1 ", "xent 0.2 ")
    (tmp_path / "CMakeLists.txt").write_text(text)
    command = ["cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-Dxent_DIR={config.cmakedir()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode != 0
    assert xent.__version__ in done.stderr


@pytest.fixture(scope="module")
def kernels_copy(tmp_path_factory):
    """kernels/ elsewhere, so that nothing else of the tree is there."""
    copy = tmp_path_factory.mktemp("their") / "libxent"
    return shutil.copytree(ROOT / "kernels", copy, ignore=shutil.ignore_patterns("build"))


@pytest.fixture(scope="module")
def built_by_cmake(kernels_copy, tmp_path_factory):
    """A program that took kernels/ into its build."""
    build = tmp_path_factory.mktemp("build")
    # The results' bits do not depend on how much a compiler optimises.
    settings = [f"-DKERNELS={kernels_copy}", "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_C_FLAGS_RELEASE=-O1 -DNDEBUG"]
    settings += ["-DXENT_INSTALL=ON", "-DCMAKE_INSTALL_LIBDIR=lib/somewhere"]
    return cmake(HERE / "add_subdirectory", build, *settings), build


def test_c_by_add_subdirectory(built_by_cmake, data):
    program, build = built_by_cmake
    check(program, data)
    assert not list(build.rglob("libxent.so*")), "the shared library was built, which nobody wants here"


def test_c_by_add_subdirectory_to_debug_without_openmp(kernels_copy, tmp_path, data):
    """Nothing optimised and one thread: the same bits."""
    settings = [f"-DKERNELS={kernels_copy}", "-DCMAKE_BUILD_TYPE=Debug", "-DXENT_OPENMP=OFF"]
    program = cmake(HERE / "add_subdirectory", tmp_path, *settings)
    check(program, data)
    if shutil.which("ldd"):
        loaded = run("ldd", program)
        assert "libc." in loaded
        assert "omp" not in loaded


def test_install_by_cmake(built_by_cmake, tmp_path, data):
    """Both libraries installed, moved elsewhere, and found by CMake, which takes the shared one, or the static one."""
    _, build = built_by_cmake
    run("cmake", "--build", build, "--target", "xent_shared")
    run("cmake", "--install", build, "--prefix", tmp_path / "first")
    moved = (tmp_path / "first").rename(tmp_path / "second")
    assert (moved / "include" / "xent.h").read_bytes() == Path(xent.get_include(), "xent.h").read_bytes()
    package = f"-Dxent_DIR={moved / 'lib' / 'somewhere' / 'cmake' / 'xent'}"
    shared = cmake(HERE / "find_package", tmp_path / "shared", package)
    static = cmake(HERE / "find_package", tmp_path / "static", package, "-DBUILD_SHARED_LIBS=OFF")
    check(shared, data)
    check(static, data)
    environment = {"PKG_CONFIG_PATH": moved / "lib" / "somewhere" / "pkgconfig"}
    if shutil.which("pkg-config"):
        flags = shlex.split(run("pkg-config", "--cflags", "--libs", "xent", env=environment))
        run(*CC, *STRICT, HERE / "program.c", *flags, "-o", tmp_path / "program")
        check(tmp_path / "program", data, env={"LD_LIBRARY_PATH": moved / "lib" / "somewhere"})
    if shutil.which("readelf"):
        assert f"libxent.so.{header.number('ABI_VERSION')}" in run("readelf", "-d", shared)
        assert "libxent" not in run("readelf", "-d", static)


# ---- C++, and the other OpenMP ----


def another_openmp():
    """Flags that link a program with an OpenMP runtime that is not the one libxent was built with; its file's name."""
    if (
        shutil.which("clang++")
        and not subprocess.run(
            ["clang++", "-fopenmp", "-x", "c++", "-", "-o", os.devnull],
            input="int main() {}",
            text=True,
            capture_output=True,
        ).returncode
    ):
        return ["clang++"], ["-fopenmp=libomp"], "libomp"
    found = list(Path(sys.prefix).glob("lib/libiomp5.so"))
    if found and shutil.which(CXX[0]):
        return CXX, ["-fopenmp", f"-Wl,-rpath,{found[0].parent}", "-Wl,--no-as-needed", str(found[0])], "libiomp5"
    pytest.skip("needs another OpenMP runtime: clang++ with libomp, or the package intel-openmp")


@pytest.mark.parametrize("kind", ["static", "shared"])
def test_cpp_beside_another_openmp(kind, tmp_path, request):
    need(CC[0])
    compiler, openmp, runtime = another_openmp()
    if kind == "static":
        libxent = [Path(xent.get_library_dir(), "libxent.a"), "-lm"]
    else:  # with the OpenMP runtime that it was linked with, so that there are two in the process
        archive = Path(xent.get_library_dir(), "libxent.a")
        whole = ["-Wl,--whole-archive", archive, "-Wl,--no-whole-archive"]
        run(*CC, "-shared", *whole, "-fopenmp", "-lm", "-o", tmp_path / "libxent.so")
        libxent = [tmp_path / "libxent.so", f"-Wl,-rpath,{tmp_path}"]
    program = tmp_path / "beside"
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{xent.get_include()}"]
    run(*compiler, *flags, HERE / "beside.cpp", *openmp, *libxent, "-o", program)
    loaded = run("ldd", program)
    assert runtime in loaded
    assert ("libgomp" in loaded) == (kind == "shared")
    assert run(program) == "3 threads, OpenMP in libxent on\n"


# ---- Cython ----


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    """The package of tests/embed/cython_package, built by pip as its own pyproject says."""
    pytest.importorskip("Cython")
    need(CC[0])
    source = tmp_path_factory.mktemp("source") / "package"
    shutil.copytree(HERE / "cython_package", source)
    target = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*install, "--target", target, source)
    sys.path.insert(0, str(target))
    yield pytest.importorskip("xent_embedder")
    sys.path.remove(str(target))


@pytest.mark.parametrize("module", ["linked", "imported"])
def test_cython_in_its_own_prange(embedder, module):
    __import__(f"xent_embedder.{module}")
    rng = np.random.default_rng(7)
    for classes in (3, 57, 5000):
        x = (3 * rng.standard_normal((200, classes))).astype(np.float32)
        labels = rng.integers(classes, size=200)
        for threads in (1, 3):
            got = getattr(embedder, module).losses(x, labels, threads)
            np.testing.assert_array_equal(got, xent.cross_entropy_with_labels(x, labels))
    with pytest.raises(ValueError, match="1 rows"):
        getattr(embedder, module).losses(x[:2], np.array([0, classes]), 1)


def test_cython_imports_pythons_own_library(embedder):
    """Its instruction set is chosen from Python; the linked module has its own copy of libxent, and its own choice."""
    from xent_embedder import imported, linked

    x = np.random.default_rng(8).standard_normal((100, 100)).astype(np.float32)
    labels = np.arange(100)
    best = linked.losses(x, labels, 1)
    xent.set_isa("baseline")
    baseline = xent.cross_entropy_with_labels(x, labels)
    np.testing.assert_array_equal(imported.losses(x, labels, 2), baseline)
    np.testing.assert_array_equal(linked.losses(x, labels, 2), best)


def test_cython_with_states_a_thread(embedder):
    from xent_embedder import imported

    x = 3 * np.random.default_rng(9).standard_normal((3, 100_003))
    x[1, 99_999] = 700.0
    whole = xent.logsumexp(x)
    for pieces in (1, 2, 7):
        np.testing.assert_allclose(imported.logsumexp(x, pieces, 2), whole, rtol=4e-16, atol=0)


def test_every_function_is_there_for_cython(embedder, tmp_path):
    """One module that imports each function: Cython compares each signature with the capsule's."""
    names = kernels.names()
    listing = ", ".join(names)
    tests = "\n".join(f"    assert <size_t>&{name} != 0" for name in names)
    (tmp_path / "every.pyx").write_text(
        f"from xent.kernels cimport {listing}\n\ndef check():\n{tests}\n    return {len(names)}\n"
    )
    code = (
        "import sys, xent; from setuptools import Extension, setup; from Cython.Build import cythonize; "
        "setup(script_args=['-q', 'build_ext', '--inplace'], ext_modules=cythonize("
        "[Extension('every', ['every.pyx'], include_dirs=[xent.get_include()])], language_level=3, quiet=True))"
    )
    run(sys.executable, "-c", code, cwd=tmp_path)
    assert int(python("import every; print(every.check())", cwd=tmp_path)) == len(names)


# ---- SciPy, Numba, ctypes, cffi ----


def windows(image, size):
    return np.lib.stride_tricks.sliding_window_view(np.pad(image, size // 2, mode="symmetric"), (size, size))


def test_scipy_low_level_callable(embedder):
    scipy = pytest.importorskip("scipy")
    ndimage = pytest.importorskip("scipy.ndimage")
    from xent_embedder import imported

    image = np.random.default_rng(10).standard_normal((40, 50))
    function = scipy.LowLevelCallable.from_cython(imported, "soft_maximum")
    got = ndimage.generic_filter(image, function, size=3)
    np.testing.assert_allclose(got, xent.logsumexp(windows(image, 3), axis=(-2, -1)), rtol=1e-15)


def test_scipy_low_level_callable_by_numba():
    """A callback without a compiler: xent's function inside one that Numba makes."""
    scipy = pytest.importorskip("scipy")
    ndimage = pytest.importorskip("scipy.ndimage")
    numba = pytest.importorskip("numba")
    double_p, types = ctypes.POINTER(ctypes.c_double), numba.types
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, double_p, ctypes.c_size_t, ctypes.c_size_t, double_p)
    logsumexp = prototype(kernels.address("logsumexp_f64"))

    @numba.cfunc(types.intc(types.CPointer(types.double), types.intp, types.CPointer(types.double), types.voidptr))
    def soft_maximum(window, count, result, unused):
        return logsumexp(window, 1, count, result) == 0

    image = np.random.default_rng(10).standard_normal((40, 50))
    got = ndimage.generic_filter(image, scipy.LowLevelCallable(soft_maximum.ctypes), size=3)
    np.testing.assert_allclose(got, xent.logsumexp(windows(image, 3), axis=(-2, -1)), rtol=1e-15)


def test_numba():
    numba = pytest.importorskip("numba")
    from numba.extending import get_cython_function_address

    float_p, label_p = ctypes.POINTER(ctypes.c_float), ctypes.POINTER(ctypes.c_int64)
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, float_p, label_p, ctypes.c_size_t, ctypes.c_size_t, float_p)
    address = get_cython_function_address("xent.kernels", "cross_entropy_with_labels_f32")
    assert address == kernels.address("cross_entropy_with_labels_f32")
    loss = prototype(address)

    @numba.njit(parallel=True, nogil=True)
    def losses(x, labels):
        out = np.empty(len(x), np.float32)
        for i in numba.prange(len(x)):
            if loss(x[i].ctypes, labels[i:].ctypes, 1, x.shape[1], out[i:].ctypes) != 0:
                out[i] = np.nan
        return out

    rng = np.random.default_rng(11)
    x, labels = rng.standard_normal((100, 300)).astype(np.float32), rng.integers(300, size=100)
    np.testing.assert_array_equal(losses(x, labels), xent.cross_entropy_with_labels(x, labels))


def pointer(a, type):
    return a.ctypes.data_as(ctypes.POINTER(type))


def test_ctypes():
    double_p = ctypes.POINTER(ctypes.c_double)
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, double_p, double_p, ctypes.c_size_t, ctypes.c_size_t, double_p, double_p)
    loss = prototype(kernels.address("kl_div_value_and_grad_f64"))
    strerror = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_int)(kernels.address("strerror"))
    rng = np.random.default_rng(12)
    x, t = rng.standard_normal((20, 30)), rng.dirichlet(np.ones(30), 20)
    value, grad = np.empty(20), np.empty((20, 30))
    status = loss(
        *(pointer(a, ctypes.c_double) for a in (x, t)), 20, 30, *(pointer(a, ctypes.c_double) for a in (value, grad))
    )
    assert (status, strerror(status)) == (0, b"success")
    for got, want in zip((value, grad), xent.kl_div_value_and_grad(x, t), strict=True):
        np.testing.assert_array_equal(got, want)


def test_cffi():
    cffi = pytest.importorskip("cffi")
    ffi = cffi.FFI()
    ffi.cdef("typedef int (*softmax_t)(const float *x, size_t rows, size_t classes, float *out);")
    softmax = ffi.cast("softmax_t", kernels.address("softmax_f32"))
    x = np.random.default_rng(13).standard_normal((20, 30)).astype(np.float32)
    want = xent.softmax(x)
    data = ffi.from_buffer("float[]", x, require_writable=True)
    assert softmax(data, 20, 30, data) == 0
    np.testing.assert_array_equal(x, want)


# ---- scikit-learn's multinomial loss ----


@pytest.fixture(scope="module")
def both_losses(embedder):
    loss = pytest.importorskip("sklearn._loss.loss")
    from xent_embedder.multinomial import Multinomial

    def make(classes):
        ours, theirs = loss.HalfMultinomialLoss(n_classes=classes), loss.HalfMultinomialLoss(n_classes=classes)
        ours.closs = Multinomial()
        return ours, theirs

    return make


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [3, 10, 200])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_multinomial_loss(both_losses, dtype, classes, weighted, n_threads):
    ours, theirs = both_losses(classes)
    rng = np.random.default_rng(classes)
    y = rng.integers(classes, size=500).astype(dtype)
    raw = (4 * rng.standard_normal((500, classes))).astype(dtype)
    weight = rng.uniform(0.1, 2, 500).astype(dtype) if weighted else None
    arguments = {"y_true": y, "raw_prediction": raw, "sample_weight": weight, "n_threads": n_threads}
    tolerance = {"rtol": 40 * float(np.finfo(dtype).eps), "atol": 40 * float(np.finfo(dtype).eps)}
    np.testing.assert_allclose(ours.loss(**arguments), theirs.loss(**arguments), **tolerance)
    np.testing.assert_allclose(ours.gradient(**arguments), theirs.gradient(**arguments), **tolerance)
    for got, want in zip(ours.loss_gradient(**arguments), theirs.loss_gradient(**arguments), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, **tolerance)
    in_fortran_order = ours.gradient(y, np.asfortranarray(raw), weight, n_threads=n_threads)
    np.testing.assert_allclose(in_fortran_order, theirs.gradient(**arguments), **tolerance)
    assert ours(y, raw, weight) == pytest.approx(theirs(y, raw, weight), rel=tolerance["rtol"])
    with pytest.raises(ValueError, match="y_true has"):
        ours.loss(y + 1, raw, weight)


def test_multinomial_fit(both_losses):
    """A regression fitted by scikit-learn's own code over either loss: the same steps, the same coefficients."""
    linear = pytest.importorskip("sklearn.linear_model._linear_loss")
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(14)
    x = rng.standard_normal((400, 8))
    y = (x @ rng.standard_normal((8, 5)) + rng.gumbel(size=(400, 5))).argmax(axis=1).astype(float)
    fits = []
    for base_loss in both_losses(5):
        loss = linear.LinearModelLoss(base_loss=base_loss, fit_intercept=True)
        start = loss.init_zero_coef(x).ravel(order="F")
        options = {"gtol": 1e-9, "ftol": 1e-15}
        fits.append(
            optimize.minimize(
                loss.loss_gradient, start, jac=True, method="L-BFGS-B", args=(x, y, None, 1e-3), options=options
            )
        )
    assert [fit.success for fit in fits] == [True, True]
    np.testing.assert_allclose(fits[0].x, fits[1].x, rtol=1e-5, atol=1e-6)


# ---- one process with the others' OpenMP ----

BESIDE = """
import importlib, os, sys
import numpy as np
order, libraries = sys.argv[1].split(","), {}
for name in order:
    libraries[name] = importlib.import_module(name)
xent = libraries["xent"]
x = np.random.default_rng(15).standard_normal((400, 2000)).astype(np.float32)
want = np.log(np.exp(x.astype(np.float64)).sum(axis=1))
def ours():
    np.testing.assert_allclose(xent.logsumexp(x), want, rtol=1e-6)
def theirs():
    if "sklearn" in libraries:
        from sklearn._loss.loss import HalfMultinomialLoss
        loss = HalfMultinomialLoss(n_classes=2000)
        got = loss.loss(np.zeros(400, np.float32), x, n_threads=3)
        np.testing.assert_allclose(got, want - x[:, 0], rtol=1e-5)
    if "torch" in libraries:
        torch = libraries["torch"]
        torch.set_num_threads(3)
        np.testing.assert_allclose(torch.logsumexp(torch.from_numpy(x), 1).numpy(), want, rtol=1e-6)
xent.set_num_threads(3)
for turn in range(20):
    ours()
    theirs()
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    for done in [pool.submit(f) for f in (ours, theirs) * 10]:
        done.result()
from threadpoolctl import threadpool_info
runtimes = {os.path.basename(lib["filepath"]) for lib in threadpool_info() if lib["user_api"] == "openmp"}
print(len(runtimes), flush=True)
pid = os.fork()
if pid == 0:
    ours()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
ours()
"""


@pytest.mark.parametrize("order", ["xent,sklearn,torch", "torch,sklearn,xent", "sklearn,xent"])
def test_beside_other_libraries(order):
    """Each wheel brings an OpenMP runtime: all work, in turns, at the same time and, for xent, after a fork."""
    for name in (*order.split(","), "threadpoolctl"):
        pytest.importorskip(name)
    # Python warns of a fork beside torch's threads, which is right: here only xent goes on in the child.
    runtimes = run(sys.executable, "-W", "ignore::DeprecationWarning", "-c", BESIDE, order)
    assert int(runtimes) >= 1


# ---- the README's examples, as they stand there ----


def example(language):
    """The one block in that language of the section `In your own library`."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("\n## In your own library\n")[1].split("\n## ")[0]
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return block


def test_readme_c(tmp_path):
    need(CC[0], "sh")
    (tmp_path / "example.c").write_text(example("c"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run("sh", "-e", "-c", example("sh"), cwd=tmp_path, env={"PATH": path})
    assert run(tmp_path / "a.out") == re.search(r"// (success: .*)", example("c"))[1] + "\n"


def test_readme_cython(tmp_path):
    pytest.importorskip("Cython")
    need(CC[0])
    (tmp_path / "example.pyx").write_text(example("cython"))
    code = (
        "import xent; from setuptools import Extension, setup; from Cython.Build import cythonize; "
        "setup(script_args=['-q', 'build_ext', '--inplace'], ext_modules=cythonize([Extension('example', "
        "['example.pyx'], include_dirs=[xent.get_include()], extra_compile_args=['-fopenmp'], "
        "extra_link_args=['-fopenmp'])], quiet=True))"
    )
    run(sys.executable, "-c", code, cwd=tmp_path)
    code = (
        "import example, numpy as np; out = np.empty(2, 'f4'); x = np.array([[2, 1, -1], [0.5, 2.5, 0]], 'f4'); "
        "example.loss_of_each(x, np.array([0, 1]), out); print(out.round(6))"
    )
    assert python(code, cwd=tmp_path) == "[0.349012 0.196734]\n"
    assert (
        "ValueError: a label"
        in subprocess.run(
            [sys.executable, "-c", code.replace("[0, 1])", "[0, 3])")], cwd=tmp_path, capture_output=True, text=True
        ).stderr
    )


def test_readme_numba():
    pytest.importorskip("numba")
    printed = re.search(r"^print\(.*\)  # (.*)$", example("python"), re.MULTILINE)[1]
    assert run(sys.executable, "-c", example("python")) == printed + "\n"
