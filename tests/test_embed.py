"""The C library by itself: kernels/ built with make alone, and used from C programs that know nothing of Python."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import built
import header
import pytest

import xent

ROOT = Path(__file__).resolve().parents[1]
KERNELS = ROOT / "kernels"
EMBED = ROOT / "tests" / "embed"

CC = shlex.split(os.environ.get("CC", "cc"))
CXX = shlex.split(os.environ.get("CXX", "c++"))
ARM_CC, QEMU, ARM_ROOT = "aarch64-linux-gnu-gcc", "qemu-aarch64", "/usr/aarch64-linux-gnu"
SANITIZE = ["-Og", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# Of GCC: the instruction sets' long files compile in less than half the time. Nothing there outlives its scope by
# address, and an object's end is what the address sanitizer watches, too.
SANITIZE_SOONER = [
    *["-fno-sanitize-address-use-after-scope", "-fno-sanitize=object-size"],
    "--param=asan-instrumentation-with-call-threshold=0",
]
PEDANTIC = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]

GROUPS = [
    "worked examples",
    "every operation against its definition",
    "edge values",
    "near-equal rows",
    "labels out of range",
    "refused requests",
    "gradients",
    "storage",
    "16-bit floats",
    "threads",
    "rows in pieces",
    "contiguous rows",
    "fork",
]


def need(*tools):
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")


def run(*command, **options):
    """The standard output of a command that must succeed."""
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, **options)
    assert done.returncode == 0, f"{shlex.join(command)}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def make_library(build, compiler, *settings):
    """Other targets than all of it may be among the settings."""
    settings = [f"CC={shlex.join(compiler)}", *settings]
    run("make", "-C", KERNELS, f"-j{os.cpu_count() or 1}", f"BUILD={build}", *settings, env=built.environment())


def built_library(name, compiler, *settings):
    """The directory of libxent.a and libxent.so."""
    return built.directory(
        f"libxent-{name}",
        lambda build: make_library(build, compiler, *settings),
        compiler=compiler,
        settings=settings,
        sources=[KERNELS],
    )


def build_program(build, compiler, *arguments, name="embed"):
    flags = ["-std=c11", "-O2", *PEDANTIC, f"-I{xent.get_include()}"]
    run(*compiler, *flags, EMBED / f"{name}.c", *arguments, "-o", build / name)
    return build / name


def works(directory, flags, compiler=CC):
    """Whether the compiler takes the flags and what it then makes runs."""
    source = directory / "probe.c"
    source.write_text("int main(void) { return 0; }\n")
    built = subprocess.run([*compiler, *flags, source, "-o", directory / "probe"], capture_output=True)
    return built.returncode == 0 and subprocess.run([directory / "probe"], capture_output=True).returncode == 0


def check_report(output, openmp):
    """Every group of checks passed on every instruction set that the program found; returns their names."""
    *lines, last = output.splitlines()
    isas = list(dict.fromkeys(line.split()[1].rstrip(":") for line in lines))
    assert lines == [f"ok {isa}: {group}" for isa in isas for group in GROUPS]
    assert last == f"ok all: {len(isas)} instruction sets, OpenMP {'on' if openmp else 'off'}"
    return isas


def check_random_calls(calls, program, *arguments, **options):
    """Calls at random, between pages that may not be touched: many are done and many are refused."""
    output = run(program, *arguments, calls, 6, **options)
    counts = re.fullmatch(r"(\d+) requests: (\d+) done; as many rows in pieces: (\d+) done\n", output)
    made, done, pieces = map(int, counts.groups())
    assert made == calls
    assert 0.3 * calls < done < 0.7 * calls
    assert 0.15 * calls < pieces < 0.5 * calls


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The directory of libxent.a and libxent.so, built as the README says; what is compiled so by setup.py is there."""
    need("make", CC[0])
    openmp = works(tmp_path_factory.mktemp("libxent"), ["-fopenmp"])
    make_library("../build/kernels", CC, "CFLAGS=-O3", f"OPENMP={int(openmp)}")
    return ROOT / "build" / "kernels", openmp


def test_static_library(library, tmp_path):
    build, openmp = library
    program = build_program(tmp_path, CC, build / "libxent.a", *["-fopenmp"][:openmp], "-lm")
    assert "baseline" in check_report(run(program), openmp)


def test_little_stack(library, tmp_path):
    """128 KiB, which is what musl gives a thread: the program's own and the helpers'."""
    build, openmp = library
    program = build_program(tmp_path, CC, build / "libxent.a", *["-fopenmp"][:openmp], "-lm")
    check_report(run("sh", "-c", 'ulimit -s 128 && exec "$0"', program), openmp)


def test_random_calls(library, tmp_path):
    build, openmp = library
    arguments = [build / "libxent.a", *["-fopenmp"][:openmp], "-lm"]
    check_random_calls(30000, build_program(tmp_path, CC, *arguments, name="random"))


def test_sleeping_helpers_are_woken(library, tmp_path):
    """The archive's inner functions are hidden, not gone: a job of which one unit waits until a helper has another."""
    build, openmp = library
    if not openmp:
        pytest.skip("needs OpenMP")
    arguments = [f"-I{KERNELS}", build / "libxent.a", "-fopenmp", "-lm"]
    assert run(build_program(tmp_path, CC, *arguments, name="wake"), 40) == "40 jobs, each with a helper\n"


def test_clang(tmp_path):
    """The other compiler: its pragmas, its intrinsics and its OpenMP are not GCC's."""
    need("make", "clang")
    openmp = works(tmp_path, ["-fopenmp"], ["clang"])
    build = built_library("clang", ["clang"], f"OPENMP={int(openmp)}")
    program = build_program(tmp_path, ["clang"], build / "libxent.a", *["-fopenmp"][:openmp], "-lm")
    assert "baseline" in check_report(run(program), openmp)


def test_shared_library_without_openmp(tmp_path):
    need("make", CC[0])
    # What is looked at is one thread and linking, so the values' own optimisation can be left out.
    build = built_library("shared", CC, "CFLAGS=-O1", "OPENMP=0")
    program = build_program(tmp_path, CC, f"-L{build}", "-lxent", f"-Wl,-rpath,{build}", "-lm")
    assert "baseline" in check_report(run(program), openmp=False)


def test_sanitizers(tmp_path):
    need("make", CC[0])
    if not works(tmp_path, SANITIZE):
        pytest.skip("the compiler cannot build or run with -fsanitize=address,undefined")
    flags = [*SANITIZE, *SANITIZE_SOONER] if works(tmp_path, [*SANITIZE, *SANITIZE_SOONER]) else SANITIZE
    openmp = works(tmp_path, ["-fopenmp"])
    build = built_library("sanitized", CC, f"CFLAGS={shlex.join(flags)}", f"OPENMP={int(openmp)}")
    arguments = [*SANITIZE, build / "libxent.a", *["-fopenmp"][:openmp], "-lm"]
    program = build_program(tmp_path, CC, *arguments)
    # The library never allocates (test_symbols), and looking for leaks needs ptrace, which containers may forbid.
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    check_report(run(program, env=environment), openmp)
    check_random_calls(5000, build_program(tmp_path, CC, *arguments, name="random"), env=environment)


def test_no_address_is_made_of_nothing(library, tmp_path):
    """Clang finds pointers that are formed from NULL, GCC does not: all but the instruction sets' long files."""
    build, _ = library
    need("clang")
    sanitize = ["-O1", "-g", "-fsanitize=undefined", "-fno-sanitize-recover=all"]
    if not works(tmp_path, sanitize, ["clang"]):
        pytest.skip("clang cannot build or run with -fsanitize=undefined")
    sources = [file for file in KERNELS.rglob("*.c") if not file.name.startswith("isa_")]
    objects = sorted(build.rglob("isa_*.o"))
    include = [f"-I{build / 'include'}", f"-I{KERNELS}"]
    program = build_program(tmp_path, ["clang"], *sanitize, *include, *sources, *objects, "-lm", name="random")
    check_random_calls(5000, program)


def test_64_bit_arm(tmp_path):
    need("make", ARM_CC, "aarch64-linux-gnu-ar", QEMU)
    build = built_library("arm", [ARM_CC], "AR=aarch64-linux-gnu-ar")
    arguments = [build / "libxent.a", "-fopenmp", "-lm"]
    program = build_program(tmp_path, [ARM_CC], *arguments)
    assert check_report(run(QEMU, "-L", ARM_ROOT, program), openmp=True) == ["neon", "baseline"]
    program = build_program(tmp_path, [ARM_CC], *arguments, name="random")
    check_random_calls(2000, QEMU, "-L", ARM_ROOT, program)


@pytest.mark.parametrize(("compiler", "language"), [(CC, "c"), (CXX, "c++")], ids=["C11", "C++17"])
def test_header_by_itself(compiler, language):
    need(compiler[0])
    standard = {"c": "c11", "c++": "c++17"}[language]
    options = [f"-std={standard}", *PEDANTIC, f"-I{xent.get_include()}", "-fsyntax-only"]
    run(*compiler, "-x", language, *options, EMBED / "header.c")


def test_header_is_the_packages(library):
    build, _ = library
    assert (build / "include" / "xent.h").read_bytes() == Path(xent.get_include(), "xent.h").read_bytes()


@pytest.mark.parametrize(
    ("found", "instead", "complaint"),
    [
        ("@function softmax@\n", "", "ops.def has softmax, and ./include/xent.h.in does not describe it"),
        ("@function softmax@", "@function softmin@", "./include/xent.h.in:{line}: ops.def has no operation softmin"),
        ("@functions double f64@", "@functions f64@", "./include/xent.h.in:{line}: @functions f64@ is neither"),
    ],
)
def test_header_and_list_of_operations_go_together(found, instead, complaint, tmp_path):
    need("make", "awk")
    text = (KERNELS / "include" / "xent.h.in").read_text(encoding="utf-8")
    assert text.count(found) == 1
    copy = shutil.copytree(KERNELS, tmp_path / "kernels", ignore=shutil.ignore_patterns("*.[ch]", "build"))
    template = copy / "include" / "xent.h.in"
    template.write_text(text.replace(found, instead), encoding="utf-8")
    command = ["make", "-C", copy, "OPENMP=0", "build/include/xent.h"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert complaint.format(line=text[: text.index(found)].count("\n") + 1) in done.stderr
    assert not (copy / "build" / "include" / "xent.h").exists()


def test_symbols(library):
    """Nothing of Python's is needed, nothing but the header's functions is offered, and no function breaks its word."""
    build, _ = library
    need("nm")
    wanted = {line.split()[-1] for line in run("nm", "-u", build / "libxent.a").splitlines() if " U " in line}
    assert {"memcpy", "memset"} <= wanted, "nm's output is not understood"
    assert not [name for name in wanted if re.match(r"_?Py", name)]
    allocate = {"malloc", "calloc", "realloc", "free", "aligned_alloc", "posix_memalign"}
    speak = {"printf", "fprintf", "puts", "fputs", "putchar", "fwrite", "perror", "stderr", "stdout", "write"}
    stop = {"exit", "_exit", "abort", "__assert_fail", "__errno_location"}
    assert not wanted & (allocate | speak | stop)

    offered = {line.split()[-1] for line in run("nm", "-D", "--defined-only", build / "libxent.so").splitlines()}
    assert offered == {function.name for function in header.functions()}
    assert all(name.startswith("xent_") for name in offered)


def test_shared_library_needs_no_python(library):
    build, _ = library
    need("readelf")
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", build / "libxent.so"))
    assert any(name.startswith("libc.") for name in needed), "readelf's output is not understood"
    assert not [name for name in needed if "python" in name]


def test_install(library, tmp_path):
    """make install, and moved elsewhere: xent.pc finds its way, the program the shared library of its version."""
    _, openmp = library
    need("pkg-config", "readelf")
    install = ["install", f"DESTDIR={tmp_path / 'stage'}", "PREFIX=/opt/xent"]
    make_library("../build/kernels", CC, "CFLAGS=-O3", f"OPENMP={int(openmp)}", *install)
    place = (tmp_path / "stage" / "opt" / "xent").rename(tmp_path / "moved")
    files = {str(file.relative_to(place)) for file in place.rglob("*") if not file.is_dir()}
    package = {f"lib/cmake/xent/xent-config{version}.cmake" for version in ("", "-version")}
    libraries = {"lib/libxent.a", "lib/libxent.so", f"lib/libxent.so.{header.number('ABI_VERSION')}"}
    assert files == {"include/xent.h", "lib/pkgconfig/xent.pc"} | libraries | package
    environment = os.environ | {"PKG_CONFIG_PATH": str(place / "lib" / "pkgconfig")}
    flags = shlex.split(run("pkg-config", "--cflags", "--libs", "xent", env=environment))
    assert [Path(flag[2:]).resolve() for flag in flags if flag.startswith("-I")] == [place.resolve() / "include"]
    program = tmp_path / "random"
    run(*CC, "-std=c11", EMBED / "random.c", *flags, f"-Wl,-rpath,{place / 'lib'}", "-lm", "-o", program)
    assert f"libxent.so.{header.number('ABI_VERSION')}" in run("readelf", "-d", program)
    check_random_calls(500, program)

    # The archive alone, by whatever compiler there is: it names the runtime of the compiler that made it.
    for file in (place / "lib").glob("libxent.so*"):
        file.unlink()
    flags = shlex.split(run("pkg-config", "--static", "--cflags", "--libs", "xent", env=environment))
    assert "-fopenmp" not in flags
    assert ("-lgomp" in flags or "-lomp" in flags) == openmp
    for compiler in (CC, *([["clang"]] if shutil.which("clang") else [])):
        run(*compiler, "-std=c11", EMBED / "random.c", *flags, "-lm", "-o", program)
        check_random_calls(500, program)


def test_without_omp_h_the_last_line_says_so(tmp_path):
    """A compiler that has everything but OpenMP's header."""
    need("make", CC[0])
    (tmp_path / "omp.h").write_text("#error there is none\n")
    compiler = f"{shlex.join(CC)} -I{tmp_path}"
    command = ["make", "-C", str(KERNELS), f"BUILD={tmp_path}", f"CC={compiler}", str(tmp_path / "storage.o")]
    done = subprocess.run(command, capture_output=True, text=True, env=built.environment())
    assert done.returncode != 0
    assert "has no OpenMP" in done.stderr.splitlines()[-1]
    assert "OPENMP=0" in done.stderr.splitlines()[-1]


def test_build_again_only_what_changed(tmp_path):
    need("make", CC[0])

    def built(*settings):
        run("make", "-C", KERNELS, f"BUILD={tmp_path}", f"CC={shlex.join(CC)}", *settings, tmp_path / "storage.o")
        return (tmp_path / "storage.o").stat().st_mtime_ns

    first = built()
    assert built() == first
    other_flags = built("CFLAGS=-O1")
    assert other_flags > first
    assert built("CFLAGS=-O1") == other_flags
