"""Threads change the time, never a bit; a row does not know what lies beside it; a forked child never hangs."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

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
    keep = rng.random(classes) < 0.9
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
    for dtype in ("f8", "f4", "f2"):
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
    for wrong in (-1, -100):
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
        import os, numpy as np, xent
        x = np.zeros((4000, 1000), np.float32)
        before = len(os.listdir("/proc/self/task"))
        xent.logsumexp(x)
        print(len(os.listdir("/proc/self/task")) - before)
    """
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("threads are counted in /proc, which this system lacks")
    # NumPy's own BLAS threads are not xent's.
    assert output_of(code, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1") == "0"
    assert output_of(code, OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="1") == "1"
    tiny = code.replace("(4000, 1000)", "(8, 10)")
    assert output_of(tiny, OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="1") == "0"


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
