"""What pyproject.toml cannot say: the C library under kernels/, and the two Cython modules in front of it."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib
from setuptools.command.build_py import build_py

SOURCES = sorted(glob("kernels/*.c"))
HEADERS = sorted(glob("kernels/**/*.h", recursive=True) + glob("kernels/*.def"))
INCLUDE_DIRS = ["kernels/include", "kernels"]

# Apple's clang has no OpenMP of its own; the library is serial without it.
OPENMP = [] if sys.platform == "darwin" else ["-fopenmp"]
# No fast-math: NaN and infinities have meaning here. The two -fno- flags give up errno and trapping only.
CFLAGS = [
    *["-O3", "-std=c11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"],
    *["-fvisibility=hidden", "-fPIC", "-Wall", "-Wextra"],
    *OPENMP,
]


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


class BuildPackage(build_py):
    """build_py, and the C header for xent.get_include(); an editable install points at kernels/include instead."""

    HEADER = Path("kernels", "include", "xent.h")

    def run(self):
        super().run()
        if not self.editable_mode:
            target = self._header()
            self.mkpath(str(target.parent))
            self.copy_file(str(self.HEADER), str(target))

    def get_outputs(self, include_bytecode=True):
        header = [] if self.editable_mode else [str(self._header())]
        return super().get_outputs(include_bytecode) + header

    def _header(self):
        return Path(self.build_lib, "xent", "include", "xent.h")


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
            extension("_core", link_args=OPENMP, depends=[*SOURCES, *HEADERS]),
            extension("_ufuncs"),
        ],
        include_path=["src"],
    ),
    cmdclass={"build_clib": BuildKernels, "build_py": BuildPackage},
)
