"""Where xent's header and library are is known only when it is installed."""

import shlex

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

import xent
from xent import config


def extension(name, *link):
    return Extension(
        f"xent_embedder.{name}",
        [f"xent_embedder/{name}.pyx"],
        include_dirs=[xent.get_include(), np.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
        extra_compile_args=["-fopenmp"],
        extra_link_args=["-fopenmp", *link],
    )


setup(
    packages=["xent_embedder"],
    ext_modules=cythonize(
        [extension("linked", *shlex.split(config.libs())), extension("imported"), extension("multinomial")]
    ),
)
