"""Threads change the time, never a bit; a row does not know what lies beside it; a forked child never hangs."""

import ctypes.util
import multiprocessing
import os
import platform
import shlex
import shutil
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cases
import numpy as np
import pytest

import xent
from xent import losses

threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is what one of these tests is about")

needs_openmp = pytest.mark.skipif(not xent.info()["openmp"], reason="this build has no OpenMP")


def run(code, **env):
    """A fresh interpreter, away from the sources; a hang fails here instead of stopping the suite."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **env},
        check=False,
    )


def output_of(code, **env):
    done = run(code, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bits(results):
    return [np.ascontiguousarray(r).tobytes() for r in cases.as_tuple(results)]


SHAPES = {"short rows": (60_000, 10), "rows": (700, 1000), "few long rows": (3, 250_000), "one long row": (1, 900_000)}


def big_operands(name, rows, classes, dtype, rng):
    """As cases.operands, quickly."""
    x = rng.standard_normal((rows, classes), dtype=np.float32).astype(dtype)
    second = cases.SECOND[name]
    t = rng.random((rows, classes), dtype=np.float32)
    t /= t.sum(axis=1, keepdims=True)
    if second == "self":
        return (t.astype(dtype),)
    if second == "":
        return (x,)
    if second == "labels":
        return (x, rng.integers(classes, size=rows))
    return (x, {"probs": t, "unit": t, "logits": x[::-1] + t, "log_probs": np.log(t + 1e-9)}[second].astype(dtype))


@needs_openmp
@pytest.mark.parametrize("what", SHAPES)
@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_bits_do_not_depend_on_threads(name, what, rng):
    for dtype in ("f8", "f4"):
        args = big_operands(name, *SHAPES[what], dtype, rng)
        for turned in (False, True):
            views = tuple(np.asfortranarray(a) if turned and a.ndim == 2 else a for a in args)
            xent.set_num_threads(1)
            expected = bits(getattr(xent, name)(*views))
            for threads in (2, 3, 8):
                xent.set_num_threads(threads)
                assert bits(getattr(xent, name)(*views)) == expected, (dtype, turned, threads)


@needs_openmp
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "terms", "per_class"])
@pytest.mark.parametrize("what", SHAPES)
def test_reductions_do_not_depend_on_threads(what, reduction, rng):
    rows, classes = SHAPES[what]
    x, t = big_operands("cross_entropy", rows, classes, "f4", rng)
    y = rng.integers(classes, size=rows)
    keep = (rng.random(classes) < 0.9)[None, :]
    sw = rng.random(rows)
    grad = {"return_grad": True} if reduction in ("none", "sum", "mean") else {}
    calls = [
        lambda: losses.cross_entropy(x, y, reduction=reduction, **grad),
        lambda: losses.cross_entropy(x, y, weight=np.linspace(1, 2, classes), ignore_index=1, reduction=reduction),
        lambda: losses.cross_entropy(x, t, where=keep, label_smoothing=0.1, reduction=reduction, **grad),
        lambda: losses.kl_div(x, t, sample_weight=sw, reduction=reduction, **grad),
        lambda: losses.kl_div(x, t, target_kind="logits", temperature=2.0, reduction=reduction),
        lambda: losses.nll(x, y, sample_weight=sw, reduction=reduction, **grad),
        lambda: losses.js_div(x, t, sample_weight=sw, reduction=reduction, **grad),
        lambda: losses.binary_cross_entropy(x, t, pos_weight=np.linspace(1, 2, classes), reduction=reduction, **grad),
        lambda: losses.distillation(x, t, y, temperature=2.0, alpha=0.5, reduction=reduction, **grad),
    ]
    for i, call in enumerate(calls):
        xent.set_num_threads(1)
        expected = bits(call())
        for threads in (2, 8):
            xent.set_num_threads(threads)
            assert bits(call()) == expected, (i, threads)


@pytest.mark.parametrize("classes", [1, 2, 3, 7, 10, 16, 31, 33, 64, 100, 1000])
@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_a_row_alone_and_in_any_batch(name, classes, rng, isa):
    for dtype in cases.DTYPES:
        rows = 37
        args = cases.operands(name, "random", rows, classes, dtype, rng)
        whole = cases.as_tuple(getattr(xent, name)(*args))
        for part in (slice(0, 1), slice(5, 6), slice(36, 37), slice(1, 18), slice(20, 37), slice(3, 36, 3)):
            piece = cases.as_tuple(getattr(xent, name)(*(a[part] for a in args)))
            assert bits(piece) == bits(tuple(w[part] for w in whole)), (dtype, part)
        turned = tuple(np.asfortranarray(a) for a in args)
        columns = cases.as_tuple(getattr(xent, name)(*turned))
        for part in (slice(0, 1), slice(7, 8), slice(36, 37), slice(2, 19), slice(3, 36, 3)):
            # Views, so that the class axis stays as it is.
            piece = cases.as_tuple(getattr(xent, name)(*(a[part] for a in turned)))
            assert bits(piece) == bits(tuple(w[part] for w in columns)), (dtype, part, "columns")


@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_columns_of_a_large_batch(name, rng, isa):
    """Class axes that are not last are written many rows wide where there are many rows, with the same bits."""
    for dtype in cases.DTYPES:
        args = tuple(np.asfortranarray(a) for a in cases.operands(name, "random", 1000, 40, dtype, rng))
        whole = cases.as_tuple(getattr(xent, name)(*args))
        for part in (slice(0, 1), slice(100, 130), slice(215, 230), slice(999, 1000)):
            piece = cases.as_tuple(getattr(xent, name)(*(a[part] for a in args)))
            assert bits(piece) == bits(tuple(w[part] for w in whole)), (dtype, part)


@pytest.mark.parametrize("shift", [0, 4])
@pytest.mark.parametrize(("rows", "classes"), [(4208, 1000), (200_000, 21)])
def test_columns_that_stream(rows, classes, shift, rng, isa):
    """Outputs too large for a cache are written past it: whole vectors, and the labels' places among them."""
    x = np.asfortranarray(rng.standard_normal((rows, classes), np.float32) * 3)
    y = rng.integers(0, classes, rows)
    room = np.full(x.nbytes + 128, 0xA5, np.uint8)
    start = -room.ctypes.data % 64 + shift
    out = room[start : start + x.nbytes].view(np.float32).reshape(classes, rows).T
    names = ("log_softmax", "softmax", "cross_entropy_with_labels_value_and_grad")
    for name, args in zip(names, ((x,), (x,), (x, y)), strict=True):
        op = getattr(xent.ufuncs, name)
        result = op(*args, out=(None, out) if len(args) == 2 else out)
        assert cases.as_tuple(result)[-1] is out
        for part in (slice(0, 20), slice(2000, 2030), slice(rows - 8, rows)):
            piece = cases.as_tuple(op(*(a[part] for a in args)))
            assert bits(piece[-1]) == bits(out[part]), (name, part)
        assert (room[:start] == 0xA5).all()
        assert (room[start + x.nbytes :] == 0xA5).all()


@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_columns_start_anywhere_in_a_line(name, rng, isa):
    """The first group of rows is shorter, so that the others are whole lines: no row and no bit is lost to it."""
    for dtype in (*cases.DTYPES, "f2"):
        for classes in (5, 40):
            whole = [np.asfortranarray(a) for a in cases.operands(name, "random", 256, classes, dtype, rng)]
            expected = [np.ascontiguousarray(r) for r in cases.as_tuple(getattr(xent, name)(*whole))]
            for start, rows in ((1, 15), (2, 3), (3, 100), (4, 252), (7, 64), (12, 96), (15, 49)):
                part = slice(start, start + rows)
                got = cases.as_tuple(getattr(xent, name)(*(a[part] for a in whole)))
                assert bits(got) == bits(tuple(e[part] for e in expected)), (dtype, classes, start, rows)


@pytest.mark.parametrize("reduction", ["sum", "mean", "per_class"])
def test_columns_start_anywhere_and_are_summed(reduction, rng, isa):
    """Images, channels first: the sums over all positions are the same wherever the array begins."""
    x = rng.standard_normal((3, 6, 16, 16)).astype(np.float32) * 3
    t = np.exp(x - np.logaddexp.reduce(x, axis=1, keepdims=True)).astype(np.float32)
    expected = losses.cross_entropy(x, t, axis=1, reduction=reduction)
    exact = -(t * (x.astype(float) - np.logaddexp.reduce(x.astype(float), axis=1, keepdims=True)))
    exact = exact.sum(axis=(0, 2, 3)) if reduction == "per_class" else exact.sum() / (768 if reduction == "mean" else 1)
    np.testing.assert_allclose(expected, exact, rtol=1e-6)
    for shift in range(4, 64, 4):
        room = [np.empty(a.nbytes + 128, np.uint8) for a in (x, t)]
        moved = []
        for space, a in zip(room, (x, t), strict=True):
            start = -space.ctypes.data % 64 + shift
            moved.append(space[start : start + a.nbytes].view(np.float32).reshape(a.shape))
            moved[-1][...] = a
        assert bits(losses.cross_entropy(*moved, axis=1, reduction=reduction)) == bits(expected), shift


@pytest.mark.parametrize("classes", [3, 10, 37, 1000])
@pytest.mark.parametrize("name", cases.ROW_NAMES)
def test_alignment(name, classes, rng, isa):
    for dtype in ("f8", "f4"):
        args = cases.operands(name, "random", 5, classes, dtype, rng)
        expected = bits(getattr(xent, name)(*args))
        for shift in (1, 4, 8, 12, 20, 36, 60):
            moved = []
            for a in args:
                raw = np.empty(a.nbytes + 128, np.uint8)
                start = (-raw.ctypes.data) % 64 + shift
                view = raw[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
                view[...] = a
                moved.append(view)
            assert bits(getattr(xent, name)(*moved)) == expected, (dtype, shift)


# ---- how many threads ----------------------------------------------------------------------------------------------


def test_set_and_get():
    xent.set_num_threads(3)
    assert xent.get_num_threads() == (3 if xent.info()["openmp"] else 1)
    xent.set_num_threads(0)
    assert xent.get_num_threads() >= 1
    if xent.info()["openmp"]:
        xent.set_num_threads(2**31 - 1)  # a limit, which may be more than a call would ever use
        assert xent.get_num_threads() == xent.info()["threads"] == 2**31 - 1
        xent.set_num_threads(0)
    for wrong in (-1, -100, 2**31, 2**100):
        with pytest.raises(ValueError, match=str(wrong)):
            xent.set_num_threads(wrong)
    for wrong in (1.5, "two", None):
        with pytest.raises(TypeError):
            xent.set_num_threads(wrong)


@needs_openmp
def test_omp_num_threads():
    for n in ("1", "3"):
        assert output_of("import xent; print(xent.get_num_threads())", OMP_NUM_THREADS=n) == n


@needs_openmp
def test_helpers_round_as_their_caller_does(rng):
    """Rounding is a thread's own: set in the caller, it must not depend on who does a row."""
    code = """
        import ctypes, ctypes.util, sys, time
        import numpy as np, xent
        libm = ctypes.CDLL(ctypes.util.find_library("m"))
        x = np.random.default_rng(0).standard_normal((4000, 500))
        xent.set_num_threads(4)
        nearest = xent.logsumexp(x).tobytes()
        for mode in (0x400, 0x800, 0):  # x86's FE_DOWNWARD, FE_UPWARD, FE_TONEAREST
            assert libm.fesetround(mode) == 0
            xent.set_num_threads(1)
            expected = xent.logsumexp(x).tobytes()
            assert (expected == nearest) == (mode == 0), "rounding has no effect: the test is empty"
            xent.set_num_threads(4)
            for _ in range(20):
                assert xent.logsumexp(x).tobytes() == expected, mode
                time.sleep(0.001)
        print("same")
    """
    if platform.machine() not in ("x86_64", "AMD64") or ctypes.util.find_library("m") is None:
        pytest.skip("knows the rounding modes of x86 only")
    assert output_of(code) == "same"


@needs_openmp
def test_threadpoolctl(rng):
    xent.set_num_threads(0)
    assert any(i["user_api"] == "openmp" for i in threadpoolctl.threadpool_info())
    before = xent.get_num_threads()
    with threadpoolctl.threadpool_limits(limits=1, user_api="openmp"):
        assert xent.get_num_threads() == 1
    assert xent.get_num_threads() == before


@needs_openmp
def test_one_thread_starts_no_thread():
    code = """
        import os, time, numpy as np, xent
        x = np.zeros((4000, 1000), np.float32)
        before = len(os.listdir("/proc/self/task"))
        xent.logsumexp(x)
        time.sleep(0.5)  # callers do not wait until all have started
        print(len(os.listdir("/proc/self/task")) - before)
    """
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("threads are counted in /proc, which this system lacks")
    # NumPy's own BLAS threads are not xent's. One that is added to the helpers opens their region.
    for threads, started in (("1", "0"), ("2", "2"), ("4", "4")):
        assert output_of(code, OMP_NUM_THREADS=threads, OPENBLAS_NUM_THREADS="1") == started
    tiny = code.replace("(4000, 1000)", "(8, 10)")
    assert output_of(tiny, OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="1") == "0"


@needs_openmp
@pytest.mark.parametrize("how", ["xent", "OpenMP"])
def test_no_more_threads_than_there_is_use_for(how):
    """libgomp ends the process where the system refuses it a thread: as many as an int says are never asked for."""
    most = 2**31 - 1 if how == "xent" else 100_000
    code = f"""
        import os, time, numpy as np, xent
        if {how!r} == "xent":
            xent.set_num_threads({most})
        assert xent.get_num_threads() == {most}
        x = np.zeros((200_000, 100), np.float32)
        before = len(os.listdir("/proc/self/task"))
        value = xent.logsumexp(x)
        assert (value == np.float32(np.log(100))).all()
        time.sleep(0.5)
        print(len(os.listdir("/proc/self/task")) - before <= max(16, os.cpu_count()))
    """
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("threads are counted in /proc, which this system lacks")
    settings = {"OMP_NUM_THREADS": str(most)} if how == "OpenMP" else {}
    assert output_of(code, OPENBLAS_NUM_THREADS="1", **settings) == "True"


# ---- concurrency and fork ------------------------------------------------------------------------------------------


def test_python_threads(rng):
    """Many Python threads at once, over shared inputs, large enough for OpenMP and small enough not to be."""
    for shape in ((9, 12), (3000, 300)):
        x = rng.standard_normal(shape)
        y = rng.integers(shape[1], size=shape[0])
        t = cases.softmax64(x)

        def work(i, x=x, y=y, t=t):
            if i % 3 == 0:
                return bits(xent.kl_div_with_logits_value_and_grad(x, t))
            if i % 3 == 1:
                return bits(losses.cross_entropy(x, y, reduction="per_class"))
            with pytest.raises(IndexError):
                xent.cross_entropy_with_labels(x, y + x.shape[1])
            return bits(xent.log_softmax(x))

        expected = [work(i) for i in range(3)]
        with ThreadPoolExecutor(8) as pool:
            for i, got in enumerate(pool.map(work, range(48))):
                assert got == expected[i % 3]


FORK = """
    import os, signal, sys, warnings
    import numpy as np, xent
    warnings.simplefilter("ignore")  # a fork beside running threads is the point
    xent.set_num_threads(4)
    x = np.random.default_rng(0).standard_normal((4000, 500))
    before = xent.log_softmax(x)
    for generation in range(3):
        pid = os.fork()
        if pid == 0:
            signal.alarm(30)
            good = xent.log_softmax(x).tobytes() == before.tobytes()
            inner = os.fork()
            if inner == 0:
                signal.alarm(20)
                os._exit(0 if xent.logsumexp(x).shape == (4000,) else 1)
            good = good and os.waitpid(inner, 0)[1] == 0
            os._exit(0 if good else 1)
        status = os.waitpid(pid, 0)[1]
        if status:
            sys.exit(f"child ended with status {status}")
        if xent.log_softmax(x).tobytes() != before.tobytes():
            sys.exit("the parent's answer changed")
    print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_after_a_parallel_region():
    assert output_of(FORK) == "done"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_beside_no_thread_of_ours():
    """Python 3.12 and newer warn of a fork in a process with other threads, which they count after it."""
    code = """
        import os, time
        import numpy as np, xent
        tasks = lambda: len(os.listdir("/proc/self/task"))
        x, alone = np.zeros((4000, 500)), tasks()
        for threads in (2, 4):
            xent.set_num_threads(threads)
            xent.logsumexp(x)
            assert tasks() > alone
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            assert tasks() == alone, tasks()
            os.waitpid(pid, 0)
        print("done")
    """
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("threads are counted in /proc, which this system lacks")
    if not xent.info()["openmp"]:
        pytest.skip("this build has no OpenMP")
    assert output_of(code, OPENBLAS_NUM_THREADS="1") == "done"


POOL = """
    import multiprocessing, warnings
    import numpy as np, xent
    warnings.simplefilter("ignore")
    xent.set_num_threads(4)

    def work(seed):
        x = np.random.default_rng(seed).standard_normal((3000, 400))
        return float(xent.logsumexp(x).sum())

    if __name__ == "__main__":
        here = [work(i) for i in range(4)]
        with multiprocessing.get_context("fork").Pool(2) as pool:
            there = pool.map_async(work, range(4)).get(timeout=60)
        print(here == there)
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_multiprocessing_fork_pool():
    assert output_of(POOL) == "True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_while_another_thread_computes():
    code = """
        import os, signal, threading, warnings
        import numpy as np, xent
        warnings.simplefilter("ignore")
        xent.set_num_threads(2)
        x = np.zeros((3000, 400))
        stop = threading.Event()

        def busy():
            while not stop.is_set():
                xent.softmax(x)

        worker = threading.Thread(target=busy)
        worker.start()
        bad = 0
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                signal.alarm(30)
                xent.softmax(x)
                os._exit(0)
            bad |= os.waitpid(pid, 0)[1]
        stop.set()
        worker.join()
        print(bad)
    """
    assert output_of(code) == "0"


# ---- the team itself, from C ---------------------------------------------------------------------------------------

KERNELS = Path(__file__).resolve().parents[1] / "kernels"

TEAM = r"""
#include "threads.c"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { UNITS = 257, CALLERS = 6, CALLS = 150, MOST = 6 };

typedef struct tally {
    int done[UNITS];
} tally;

static void doze(void) {
    nanosleep(&(struct timespec){0, 200000}, NULL);
}

static void count(void *ctx, ptrdiff_t u) {
    if (u >= UNITS - 2) /* the others are through before, asleep even */
        doze();
    ((tally *)ctx)->done[u]++;
}

static void call(int threads) {
    tally t = {{0}};
    xent_parallel_for(UNITS, threads, count, &t);
    for (int u = 0; u < UNITS; u++)
        if (t.done[u] != 1) {
            fprintf(stderr, "unit %d of %d was done %d times\n", u, UNITS, t.done[u]);
            abort();
        }
}

static _Thread_local bool at_home;

static void who(void *ctx, ptrdiff_t u) {
    (void)u;
    doze();
    if (!at_home)
        atomic_store((atomic_bool *)ctx, true);
}

/* Until a helper has come: if none ever does, the alarm ends this. */
static void until_helped(void) {
    atomic_bool helped = false;
    at_home = true;
    while (!atomic_load(&helped))
        xent_parallel_for(8, 2, who, &helped);
    at_home = false;
}

/* Sizes that differ from call to call and from caller to caller: the region ends and begins under running jobs. */
static void *calls(void *first) {
    for (int i = 0; i < CALLS; i++) {
        call(1 + (i / 8 + *(int *)first) % MOST);
        if (i % 32 == 0)
            doze(); /* so that helpers go to sleep */
    }
    return NULL;
}

static void together(void) {
    pthread_t thread[CALLERS];
    int first[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        first[i] = i;
        if (pthread_create(&thread[i], NULL, calls, &first[i]))
            abort();
    }
    for (int i = 0; i < CALLERS; i++)
        pthread_join(thread[i], NULL);
}

static void in_the_callers_region(void) {
#pragma omp parallel num_threads(3)
    {
#ifdef _OPENMP
        if (omp_in_parallel() && xent_threads_for(1e12, 0) != 1)
            abort();
#endif
        call(4); /* nobody asks for this, and it works */
    }
}

static void in_forks(int generations, bool helpers) {
    if (generations == 0)
        return;
    for (int i = 0; i < 3; i++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            alarm(60);
            if (helpers)
                until_helped();
            call(4);
            in_forks(generations - 1, helpers);
            exit(0); /* runs the destructor */
        }
        if (waitpid(child, &status, 0) != child || status != 0)
            abort();
        call(3);
    }
}

void call_all(void) {
    for (int threads = 1; threads <= MOST; threads++)
        call(threads);
}

int main(int argc, char **argv) {
    bool helpers = argc > 2 && strcmp(argv[2], "helped") == 0;
    if (helpers)
        until_helped();
    call(2);
    together();
    if (argc > 1) { /* what ThreadSanitizer cannot follow */
        in_the_callers_region();
        in_forks(atoi(argv[1]), helpers);
    }
    together();
    puts("done");
    return 0;
}
"""


def team_program(directory, *flags):
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"needs a C compiler, {compiler[0]} is not there")
    source, program = directory / "team.c", directory / "team"
    source.write_text(TEAM)
    command = [
        *compiler,
        "-std=c11",
        "-O1",
        "-g",
        "-Wall",
        "-Wextra",
        f"-I{KERNELS}",
        f"-I{xent.get_include()}",
        source,
        *flags,
        "-lm",
        "-o",
        program,
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    return program, built


def ran(program, *arguments, **env):
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=120, env={**os.environ, **env}, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout.strip()


@needs_openmp
@pytest.mark.parametrize(
    ("settings", "helped"),
    [
        ({}, True),
        ({"OMP_WAIT_POLICY": "passive"}, True),
        ({"OMP_WAIT_POLICY": "active"}, True),
        ({"OMP_PROC_BIND": "spread", "OMP_PLACES": "cores"}, True),
        ({"OMP_THREAD_LIMIT": "2"}, True),
        # OpenMP may give the region fewer threads than were asked for, or one.
        ({"OMP_DYNAMIC": "true"}, False),
        ({"OMP_MAX_ACTIVE_LEVELS": "0"}, False),
    ],
    ids=lambda value: ",".join(f"{k}={v}" for k, v in value.items()) or "default" if isinstance(value, dict) else "",
)
def test_every_unit_is_done_once(settings, helped, tmp_path):
    program, built = team_program(tmp_path, "-Werror", "-fopenmp")
    assert built.returncode == 0, built.stderr
    assert ran(program, "2", *(["helped"] if helped else []), **settings) == "done"


def test_every_unit_is_done_once_without_openmp(tmp_path):
    program, built = team_program(tmp_path, "-Werror", "-Wno-unknown-pragmas", "-lpthread")
    assert built.returncode == 0, built.stderr
    assert ran(program, "2") == "done"


@needs_openmp
def test_no_data_race(tmp_path):
    """ThreadSanitizer sees every lock and atomic here: none is hidden in the OpenMP runtime, which it cannot follow."""
    program, built = team_program(tmp_path, "-fopenmp", "-fsanitize=thread")
    if built.returncode != 0:
        pytest.skip(f"the compiler has no ThreadSanitizer: {built.stderr[:200]}")
    assert ran(program, TSAN_OPTIONS="halt_on_error=1") == "done"


UNLOAD = r"""
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
    for (int i = 0; i < 20; i++) {
        void *library = dlopen(argv[argc - 1], RTLD_NOW);
        if (!library)
            return 2;
        ((void (*)(void))dlsym(library, "call_all"))();
        if (dlclose(library))
            return 3;
    }
    puts("done");
    return 0;
}
"""


@needs_openmp
def test_the_library_can_be_unloaded(tmp_path):
    """Helpers may not be left asleep in code that is gone. The program holds on to OpenMP's runtime: libgomp lets its
    idle threads go without waiting until they are gone, so that it cannot be unloaded itself."""
    library, _ = team_program(tmp_path, "-fopenmp", "-fPIC", "-shared", "-Dmain=unused_main")
    source, program = tmp_path / "unload.c", tmp_path / "unload"
    source.write_text(UNLOAD)
    compiler = shlex.split(os.environ.get("CC", "cc"))
    subprocess.run([*compiler, source, "-fopenmp", "-Wl,--no-as-needed", "-ldl", "-o", program], check=True)
    assert ran(program, library) == "done"
