"""What pyproject.toml cannot say: the C library under kernels/, and the two Cython modules in front of it."""

import os
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib

SOURCES = sorted(glob("kernels/*.c"))
HEADERS = sorted(glob("kernels/**/*.h", recursive=True) + glob("kernels/*.def"))
INCLUDE_DIRS = ["kernels/include", "kernels"]

# Apple's clang has no OpenMP of its own: XENT_LIBOMP names the directory of one (of Homebrew's libomp, say); without it
# the library is serial there.
LIBOMP = os.environ.get("XENT_LIBOMP")
if sys.platform == "darwin":
    OPENMP = ["-Xpreprocessor", "-fopenmp", f"-I{LIBOMP}/include"] if LIBOMP else []
    OPENMP_LIBS = [f"-L{LIBOMP}/lib", "-lomp"] if LIBOMP else []
else:
    OPENMP = OPENMP_LIBS = ["-fopenmp"]
# No fast-math: NaN and infinities have meaning here. The two -fno- flags give up errno and trapping only.
CFLAGS = [
    *["-O3", "-std=c11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"],
    *["-fvisibility=hidden", "-fPIC", "-Wall", "-Wextra", "-g0"],
    *OPENMP,
]


# _core exports nothing of the library, so that another module's own libxent cannot be mistaken for it.
HIDE = [] if sys.platform == "darwin" else ["-Wl,--exclude-libs,ALL"]

LIBRARY = "libxent.a"
SHIPPED = {
    "kernels/include/xent.h": "include/xent.h",
    LIBRARY: f"lib/{LIBRARY}",
    "kernels/xent.pc.in": "lib/pkgconfig/xent.pc",
    "kernels/cmake/xent-config.cmake.in": "lib/cmake/xent/xent-config.cmake",
    "kernels/cmake/xent-config-version.cmake.in": "lib/cmake/xent/xent-config-version.cmake",
}


class BuildKernels(build_clib):
    """build_clib, one compiler process a core: an instruction set's file takes long enough to matter."""

    def build_libraries(self, libraries):
        compile_some = self.compiler.compile

        def compile_all(sources, **options):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                parts = list(pool.map(lambda source: compile_some([source], **options), sources))
            return [obj for part in parts for obj in part]

        self.compiler.compile = compile_all
        super().build_libraries(libraries)

    def run(self):
        super().run()
        ship(Path(self.build_clib), package_dir(self))


def package_dir(command):
    """Where the package is put together; an editable install is the source tree itself."""
    build_py = command.get_finalized_command("build_py")
    return Path("src" if build_py.editable_mode else build_py.build_lib, "xent")


def ship(built, package):
    """What C and Cython code builds with: header, static library, xent.pc and the CMake package."""
    header = Path("kernels", "include", "xent.h")
    numbers = [
        re.search(rf"^#define XENT_VERSION_{part} (\d+)", header.read_text(encoding="utf-8"), re.MULTILINE)[1]
        for part in ("MAJOR", "MINOR", "PATCH")
    ]
    libs = [*OPENMP_LIBS, "-lm"]
    values = {
        "VERSION": ".".join(numbers),
        "UP": "../..",
        # There is no shared library beside it that would bring these.
        "LIBS": " ".join(libs),
        "LIBS_PRIVATE": "",
        "LINK": ";".join(libs),
    }
    for source, target in SHIPPED.items():
        target = package / target
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.endswith(".in"):
            text = Path(source).read_text(encoding="utf-8")
            target.write_text(re.sub(r"@(\w+)@", lambda name: values[name[1]], text), encoding="utf-8")
        else:
            shutil.copyfile(built / source if source == LIBRARY else source, target)


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


setup(
    libraries=[
        (
            "xent",
            {
                "sources": SOURCES,
                "obj_deps": {"": HEADERS},
                "include_dirs": INCLUDE_DIRS,
                "cflags": CFLAGS,
            },
        )
    ],
    ext_modules=cythonize(
        [
            # _core alone calls the library, so that a process has one copy of its state (threads, instruction set).
            extension("_core", link_args=[*OPENMP_LIBS, *HIDE], depends=[*SOURCES, *HEADERS, "src/xent/functions.h"]),
            extension("_ufuncs"),
        ],
        include_path=["src"],
    ),
    cmdclass={"build_clib": BuildKernels},
)
