"""What pyproject.toml cannot say: the C library under kernels/, the two Cython modules in front of it, and, where it is
asked for, the CUDA module.

XENT_CUDA       0, the default: no CUDA. 1: xent._cuda, or an error. auto: xent._cuda where there is an nvcc.
CUDA_HOME       where the toolkit is, if nvcc on the PATH is not the one.
XENT_CUDA_ARCHS compute capabilities, as "80 90"; native: those of this machine's GPUs. Without it those of 80, 90, 100
                and 120 that nvcc knows, and PTX of the newest for what comes after them.
XENT_OPENMP     1, the default: threads, or an error where the compiler has no OpenMP. 0: one thread a call.
XENT_CFLAGS     more flags for the C library, after its own.
MAX_JOBS        how many compilers at a time; as many as there are processors, otherwise.
"""

import ctypes
import os
import re
import shlex
import shutil
import subprocess
import sys
from glob import glob
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext

# xent.h and what repeats it, before anything is compiled.
if subprocess.run([sys.executable, "declare.py"], check=False).returncode:
    sys.exit("declare.py could not make xent.h and the files that follow it")

SOURCES = sorted(glob("kernels/*.c") + glob("kernels/*/*.c"))
INCLUDE_DIRS = ["src/xent/include", "kernels"]
HEADERS = sorted(glob("src/xent/include/*.h") + glob("kernels/**/*.h", recursive=True) + glob("kernels/*.def"))

# Apple's clang has no OpenMP of its own: XENT_LIBOMP names the directory of one (of Homebrew's libomp, say); without it
# the library is serial there.
LIBOMP = os.environ.get("XENT_LIBOMP")
if os.environ.get("XENT_OPENMP", "1") not in ("0", "1"):
    sys.exit(f"XENT_OPENMP={os.environ['XENT_OPENMP']} is neither 0 nor 1")
if os.environ.get("XENT_OPENMP") == "0" or (sys.platform == "darwin" and not LIBOMP):
    OPENMP, OPENMP_LIBS = {"OPENMP": "0"}, []
elif sys.platform == "darwin":
    OPENMP_LIBS = [f"-L{LIBOMP}/lib", "-lomp"]
    flags = f"-Xpreprocessor -fopenmp -I{LIBOMP}/include"
    OPENMP = {"OPENMP": "1", "THREADS": flags, "NEEDS": shlex.join([*OPENMP_LIBS, "-lm"])}
else:
    OPENMP, OPENMP_LIBS = {"OPENMP": "1"}, ["-fopenmp"]

# _core exports nothing of the library, so that another module's own libxent cannot be mistaken for it.
HIDE = [] if sys.platform == "darwin" else ["-Wl,--exclude-libs,ALL"]


def make(directory, *targets, build, **settings):
    """make in a directory of C or CUDA. What it builds stays in `build`, so that the next time has it."""
    program = shutil.which(os.environ.get("MAKE", "make"))
    if program is None:
        sys.exit("xent's C library is built by make, which is not on the PATH")
    jobs = os.environ.get("MAX_JOBS") or os.cpu_count()
    # Under a make of its own it would wait for that one's jobs.
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS")}
    # make splits at spaces, which the way to here may have.
    settings = [f"{name}={value}" for name, value in {"BUILD": os.path.relpath(build, directory), **settings}.items()]
    command = [program, "-C", directory, f"-j{jobs}", *settings, *targets]
    if subprocess.run(command, env=environment, check=False).returncode:
        sys.exit(f"{directory} could not be built: {shlex.join(command)}")


# ---- CUDA ----------------------------------------------------------------------------------------------------------


def find_nvcc():
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    return shutil.which("nvcc", path=str(Path(home, "bin")) if home else None)


def wanted_nvcc():
    """The compiler to build the CUDA module with; None to build without."""
    wanted = os.environ.get("XENT_CUDA", "0")
    if wanted not in ("0", "1", "auto"):
        sys.exit(f"XENT_CUDA={wanted} is neither 0, 1 nor auto")
    nvcc = None if wanted == "0" else find_nvcc()
    if wanted == "1" and nvcc is None:
        sys.exit("XENT_CUDA=1, and there is no nvcc in CUDA_HOME/bin or on the PATH")
    if wanted == "auto" and nvcc is None:
        print("xent: no nvcc in CUDA_HOME/bin or on the PATH, so the CUDA module is left out")
    return nvcc


def native_archs():
    """The compute capabilities of this machine's GPUs, from the driver itself."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        sys.exit("XENT_CUDA_ARCHS=native, and there is no NVIDIA driver on this machine")
    devices, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(devices)) != 0 or devices.value == 0:
        sys.exit("XENT_CUDA_ARCHS=native, and the NVIDIA driver has no GPU for this process")
    found = set()
    for device in range(devices.value):  # a device is its number; 75 and 76 are its capability
        driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
        driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
        found.add(10 * major.value + minor.value)
    return " ".join(map(str, sorted(found)))


def wanted_archs():
    archs = os.environ.get("XENT_CUDA_ARCHS", "")
    return native_archs() if archs == "native" else " ".join(archs.replace(",", " ").split())


def toolkit(nvcc):
    """(include directories, library directories) of the toolkit, as nvcc itself would use them."""
    plan = subprocess.run([nvcc, "--dryrun", "-c", "any.cu"], capture_output=True, text=True, check=False).stderr
    flags = [shlex.split(line) for line in re.findall(r"^#\$ (?:INCLUDES|LIBRARIES)=(.*)$", plan, flags=re.MULTILINE)]
    words = [word for line in flags for word in line]
    include_dirs, library_dirs = ([word[2:] for word in words if word.startswith(flag)] for flag in ("-I", "-L"))
    if not include_dirs or not library_dirs:
        sys.exit(f"{nvcc} does not say where its headers and libraries are:\n{plan}")
    return include_dirs, library_dirs


NVCC = wanted_nvcc()
ARCHS = wanted_archs() if NVCC else ""
CUDA_SOURCES = sorted(glob("cuda/*.[chu]*") + glob("cuda/*/*.h"))


class BuildExtensions(build_ext):
    """build_ext, and first the CUDA kernels, which make builds: it needs neither Python nor setuptools for them."""

    def build_extension(self, ext):
        if ext.name == "xent._cuda":
            import pybind11

            include_dirs, library_dirs = toolkit(NVCC)
            ext.include_dirs += [pybind11.get_include(), *include_dirs]
            ext.library_dirs += library_dirs
            ext.extra_objects = [self.kernels()]
        super().build_extension(ext)

    def kernels(self):
        """The library of the kernels. Its objects stay where they are, so that the next build has them."""
        build = Path("build", "cuda", ARCHS.replace(" ", "-") or "all")
        make("cuda", build=build, NVCC=NVCC, **({"XENT_CUDA_ARCHS": ARCHS} if ARCHS else {}))
        return str(build / "libxent_cuda.a")


def cuda_extension():
    return Extension(
        "xent._cuda",
        ["cuda/module.cpp"],
        include_dirs=["cuda", *INCLUDE_DIRS],
        # The runtime is linked in: a process with PyTorch or CuPy in it has one or two of its own already.
        libraries=["cudart_static", "rt", "pthread", "dl"],
        depends=[*CUDA_SOURCES, *HEADERS],
        extra_compile_args=["-std=c++17", "-O2", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"],
        extra_link_args=["-Wl,-S", "-Wl,--exclude-libs,ALL"],
        language="c++",
    )


class BuildKernels(build_clib):
    """The library by its own Makefile, and beside the package's modules what C and Cython code builds with."""

    def run(self):
        flags = ["-O3", *filter(None, map(os.environ.get, ("CFLAGS", "ARCHFLAGS", "XENT_CFLAGS")))]
        build_py = self.get_finalized_command("build_py")
        # An editable install is the source tree itself.
        package = Path("src" if build_py.editable_mode else build_py.build_lib, "xent")
        settings = {"CFLAGS": " ".join(flags), "DESTDIR": "", "PREFIX": os.path.relpath(package, "kernels"), **OPENMP}
        make("kernels", "install-archive", build="build/kernels", **settings)
        # Where build_ext looks for it: where it is made there may be a shared library, which a linker would prefer.
        self.build_clib = str(package / "lib")


def extension(name, link_args=(), **options):
    return Extension(
        f"xent.{name}",
        [f"src/xent/{name}.pyx"],
        include_dirs=[*INCLUDE_DIRS, np.get_include()],
        define_macros=[
            ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
            ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),
        ],
        extra_compile_args=["-O2", "-fvisibility=hidden"],
        # Debug information would be most of the file.
        extra_link_args=[*link_args, "-Wl,-S"],
        **options,
    )


DEPENDS = [*SOURCES, *HEADERS, "src/xent/functions.h"]

setup(
    libraries=[("xent", {"sources": SOURCES})],
    ext_modules=[
        *cythonize(
            [
                # _core alone calls the library, so that a process has one copy of its state (threads, instruction set).
                extension("_core", link_args=[*OPENMP_LIBS, *HIDE], depends=DEPENDS),
                extension("_ufuncs"),
            ],
            include_path=["src"],
        ),
        *([cuda_extension()] if NVCC else []),
    ],
    # What pyproject.toml would ask of everybody, only this module needs.
    setup_requires=["pybind11>=2.13"] if NVCC else [],
    cmdclass={"build_clib": BuildKernels, "build_ext": BuildExtensions},
)
