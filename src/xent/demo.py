"""xent demo: the losses of a student against its teacher on real logits, then the speed beside plain NumPy."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from importlib import resources
from typing import Any

import numpy as np

import xent
from xent import losses

COPIES = 500
BAR = 36
KL = partial(losses.kl_div, target_kind="logits")


def load_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The shipped logits: teacher and student, (899, 10) float32 each, and the labels (899,)."""
    with (resources.files("xent") / "data" / "digits.npz").open("rb") as file, np.load(file) as arrays:
        return arrays["teacher"], arrays["student"], arrays["labels"]


# What people write by hand, once more here so that it can be timed and compared.
def plain_logsumexp(x: np.ndarray) -> Any:
    m = x.max(axis=-1, keepdims=True)
    return (m + np.log(np.exp(x - m).sum(axis=-1, keepdims=True)))[..., 0]


def plain_log_softmax(x: np.ndarray) -> Any:
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def plain_softmax(x: np.ndarray) -> Any:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def plain_label_loss(x: np.ndarray, labels: np.ndarray) -> Any:
    return -plain_log_softmax(x)[np.arange(len(x)), labels].mean()


def plain_soft_loss(x: np.ndarray, t: np.ndarray) -> Any:
    return -(t * plain_log_softmax(x)).sum(axis=-1).mean()


def plain_kl_terms(x: np.ndarray, y: np.ndarray) -> Any:
    log_t = plain_log_softmax(y)
    return np.exp(log_t) * (log_t - plain_log_softmax(x))


def plain_kl(x: np.ndarray, y: np.ndarray) -> Any:
    return plain_kl_terms(x, y).sum(axis=-1).mean()


def plain_kl_per_class(x: np.ndarray, y: np.ndarray) -> Any:
    return plain_kl_terms(x, y).sum(axis=0, dtype=np.float64)


def plain_kl_grad(x: np.ndarray, y: np.ndarray) -> Any:
    log_t, log_p = plain_log_softmax(y), plain_log_softmax(x)
    t = np.exp(log_t)
    return (t * (log_t - log_p)).sum(axis=-1).mean(), (np.exp(log_p) - t) / len(x)


def seconds(call: Callable[[], Any], budget: float = 0.4) -> float:
    """The shortest of at least three runs; other programs can only make a run longer."""
    best, spent, runs = float("inf"), 0.0, 0
    while runs < 3 or (spent < budget and runs < 20):
        start = time.perf_counter()
        call()
        took = time.perf_counter() - start
        best, spent, runs = min(best, took), spent + took, runs + 1
    return best


def difference(a: Any, b: Any) -> float:
    """The largest of |a - b| / max |b| over an array or a tuple of arrays."""
    if isinstance(a, tuple):
        return max(difference(p, q) for p, q in zip(a, b, strict=True))
    return float(np.max(np.abs(np.asarray(a, np.float64) - b)) / np.max(np.abs(b)))


def bar(value: float, largest: float) -> str:
    return ("#" if value >= 0 else "-") * round(BAR * abs(value) / largest)


def show_losses(teacher: np.ndarray, student: np.ndarray, labels: np.ndarray) -> None:
    def both(loss: Callable[..., Any], target: np.ndarray) -> str:
        mean, total = (loss(student, target, reduction=how) for how in ("mean", "sum"))
        return f"{mean:10.6f} {total:12.4f}"

    soft = xent.softmax(teacher)
    print(f"{'':45}{'mean':>10} {'sum':>12}")
    print(f"{'cross-entropy of the student with the labels':45}{both(losses.cross_entropy, labels)}")
    print(f"{'  with the softmax of the teacher':45}{both(losses.cross_entropy, soft)}")
    print(f"{'KL(teacher, student)':45}{both(KL, teacher)}")

    rows, classes = (KL(student, teacher, reduction=how) for how in ("none", "per_class"))
    largest = float(np.abs(classes).max())
    print(f"\n{'KL of the first rows':37}    KL of each class, summed over rows")
    print(f"{'row':>3} {'label':>6} {'teacher':>8} {'student':>8} {'KL':>8}")
    for c, value in enumerate(classes):
        row = f"{c:3} {labels[c]:6} {teacher[c].argmax():8} {student[c].argmax():8} {rows[c]:8.5f}"
        print(f"{row}    {c} {value:9.4f} {bar(float(value), largest)}".rstrip())
    print(f"... {len(rows)} rows, the smallest {rows.min():.3g}, the largest {rows.max():.3g}")


def show_identity(teacher: np.ndarray, student: np.ndarray) -> bool:
    x, y = student.astype(np.float64), teacher.astype(np.float64)
    soft = xent.softmax(y)
    cross = float(losses.cross_entropy(x, soft))
    entropy = float(xent.entropy(soft).mean())
    kl = float(KL(x, y))
    gap = abs(cross - entropy - kl) / np.spacing(cross)
    print("\ncross-entropy - entropy of the target = KL, in float64:")
    print(f"  {cross:.15f} - {entropy:.15f} = {cross - entropy:.15f}")
    print(f"  {'KL':>37} = {kl:.15f}   (apart by {gap:.0f} ULP of the cross-entropy)")
    return bool(gap <= 8)


def show_speed(teacher: np.ndarray, student: np.ndarray, labels: np.ndarray) -> bool:
    x, y = (np.tile(a, (COPIES, 1)) for a in (student, teacher))
    k = np.tile(labels, COPIES)
    t = plain_softmax(y)
    one, two = x.nbytes, 2 * x.nbytes
    # name, bytes that must be read and written, xent, NumPy, what they are called with
    cases: list[tuple[str, int, Callable[..., Any], Callable[..., Any], tuple[np.ndarray, ...]]] = [
        ("logsumexp", one, xent.logsumexp, plain_logsumexp, (x,)),
        ("log_softmax", two, xent.log_softmax, plain_log_softmax, (x,)),
        ("softmax", two, xent.softmax, plain_softmax, (x,)),
        ("cross-entropy, labels", one, losses.cross_entropy, plain_label_loss, (x, k)),
        ("cross-entropy, soft", two, losses.cross_entropy, plain_soft_loss, (x, t)),
        ("KL", two, KL, plain_kl, (x, y)),
        ("KL per class", two, partial(KL, reduction="per_class"), plain_kl_per_class, (x, y)),
        ("KL and gradient", 3 * one, partial(KL, return_grad=True), plain_kl_grad, (x, y)),
    ]
    size = f"{len(x):,} rows of {x.shape[1]}, {x.dtype}, {one / 1e6:.0f} MB an array"
    print(f"\nThe same logits {COPIES} times over: {size}")
    print(f"  {'':22} {'xent':>9} {'':>10} {'NumPy':>10} {'ratio':>8}   largest difference")
    agree = True
    for name, moved, fast, plain, given in cases:
        apart = difference(fast(*given), plain(*given))
        agree = agree and apart < 2e-5
        if apart < 2e-5:
            a, b = seconds(partial(fast, *given)), seconds(partial(plain, *given))
            times = f"{a * 1e3:6.1f} ms {moved / a / 1e9:5.1f} GB/s {b * 1e3:7.1f} ms {b / a:7.1f}x"
            print(f"  {name:22} {times}   {apart:.0e}")
        else:
            print(f"  {name:22} not timed: xent and NumPy differ by {apart:.1e} of the largest value")
    print("  (shortest of several runs; GB/s counts each array that must be read or written once)")
    return agree


def main() -> int:
    """Print the demo; 0 when the identity holds and every timed result agrees with NumPy's, else 1."""
    teacher, student, labels = load_digits()
    info = xent.info()
    threads = xent.get_num_threads()
    print(f"xent {xent.__version__}, {info['isa']}, threads: {threads}, NumPy {np.__version__}; values in nats")
    right = [f"{np.mean(a.argmax(axis=1) == labels):.1%}" for a in (teacher, student)]
    print(f"{len(labels)} handwritten digits, 10 classes: a teacher ({right[0]} right) and a student ({right[1]})\n")
    show_losses(teacher, student, labels)
    holds = show_identity(teacher, student)
    agree = show_speed(teacher, student, labels)
    return 0 if holds and agree else 1
