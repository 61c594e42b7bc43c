"""What bench/gpu.py times, what each row must move, and what it is to reach. Nothing here needs a GPU or a library."""

from __future__ import annotations

from dataclasses import dataclass

WORKING_SET = 1 << 30  # bytes that pass before any of them is seen again: far beyond every cache
ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
LABEL = 8
FEW_ROWS = (64, 128_256)


@dataclass(frozen=True)
class Operation:
    name: str  # of xent.cuda
    second: str  # "", "labels" or "probs"
    value: bool
    rows: bool  # one value a row and class

    @property
    def reads_only(self) -> bool:
        return not self.rows


OPERATIONS = {
    short: Operation(*rest)
    for short, *rest in (
        ("logsumexp", "logsumexp", "", True, False),
        ("log_softmax", "log_softmax", "", False, True),
        ("softmax", "softmax", "", False, True),
        ("ce", "cross_entropy_with_labels", "labels", True, False),
        ("ce+grad", "cross_entropy_with_labels_value_and_grad", "labels", True, True),
        ("kl", "kl_div", "probs", True, False),
        ("kl+grad", "kl_div_value_and_grad", "probs", True, True),
    )
}


@dataclass(frozen=True)
class Case:
    operation: str
    classes: int
    dtype: str
    rows: int = 0  # 0: as many as fill the working set
    compiled: bool = False  # torch.compile takes seconds a shape, so not for all

    @property
    def what(self) -> Operation:
        return OPERATIONS[self.operation]

    @property
    def bytes_a_row(self) -> int:
        """Each input and each output once."""
        item = ITEMSIZE[self.dtype]
        whole = 1 + (self.what.second == "probs") + self.what.rows
        return item * (whole * self.classes + self.what.value) + LABEL * (self.what.second == "labels")

    @property
    def row_count(self) -> int:
        return self.rows or -(-WORKING_SET // self.bytes_a_row)

    @property
    def bytes(self) -> int:
        return self.row_count * self.bytes_a_row

    @property
    def sets(self) -> int:
        """How many sets of buffers are gone through in turn."""
        return max(1, -(-WORKING_SET // self.bytes))

    @property
    def label(self) -> str:
        return f"{self.operation} {self.row_count}x{self.classes} {self.dtype}"


def target(case: Case) -> float | None:
    """The multiple of the copy bandwidth that a case is to reach, on an H200; None where it is only reported."""
    if case.dtype == "float64" or case.operation == "kl+grad":
        return None
    if (case.row_count, case.classes) == FEW_ROWS:
        return 0.85
    if case.what.reads_only:
        return 1.02 if case.classes >= 4096 else None
    limits = ((32, 0.90), (1024, 0.95), (8192, 0.98), (262_144, 1.00))
    return next((reach for classes, reach in limits if case.classes <= classes), None)


# How many times as fast as each peer; 0.97 is 3 % behind.
AHEAD = {
    ("torch", "ce"): 2.0,
    ("torch", "ce+grad"): 3.0,
    ("torch", "kl"): 4.5,
    ("torch.compile", ""): 0.97,
    ("liger", ""): 0.97,
    ("quack", ""): 0.97,
}


def ahead(peer: str, operation: str) -> float | None:
    return AHEAD.get((peer, operation), AHEAD.get((peer, "")))


# By importance: the bench stops when its time is up.
CASES = [
    *(Case(op, 32_768, "bfloat16", compiled=True) for op in ("ce", "ce+grad", "kl", "softmax")),
    *(Case(op, 4096, "float32", compiled=True) for op in ("ce", "ce+grad", "kl", "softmax", "log_softmax")),
    *(Case(op, 128_256, d, rows=64) for op in ("softmax", "ce+grad", "logsumexp") for d in ("float32", "bfloat16")),
    *(Case("softmax", c, "float32") for c in (8, 32, 256, 1024, 8192, 32_768, 131_072, 262_144)),
    *(Case("softmax", c, "bfloat16") for c in (10, 32, 256, 1024, 8192, 131_072, 262_144)),
    *(Case("ce+grad", c, "bfloat16") for c in (1000, 8192, 50_256, 50_257, 131_072, 262_144)),
    *(Case("ce+grad", c, "float32") for c in (10, 1000, 32_768, 50_256, 50_257, 131_072)),
    *(Case(op, c, "float32") for op in ("logsumexp", "ce", "kl") for c in (32_768, 131_072)),
    *(Case(op, c, "bfloat16") for op in ("logsumexp", "ce", "kl") for c in (4096, 131_072)),
    *(Case("softmax", 4096, d) for d in ("float16", "float64")),
    *(Case(op, 32_768, "float64") for op in ("logsumexp", "ce+grad", "kl")),
    *(Case("kl+grad", c, d) for c in (1000, 32_768) for d in ("float32", "bfloat16")),
    *(Case("log_softmax", c, "bfloat16") for c in (32, 1024, 8192, 32_768)),
]


def verdicts(rows: list[dict[str, object]]) -> list[str]:
    """The rows that miss what they are to reach, in a line each."""
    missed = []
    by_label = {str(row["case"]): row for row in rows}
    for row in rows:
        reach, aim = row["x copy"], row["target"]
        if isinstance(reach, float) and isinstance(aim, float) and reach < aim:
            missed.append(f"{row['case']}: {reach:.2f} of copy, target {aim:.2f}")
        for peer, times in dict(row["peers"]).items():  # type: ignore[call-overload]
            wanted = ahead(peer, str(row["operation"]))
            if wanted is not None and times < wanted:
                missed.append(f"{row['case']}: {times:.2f}x {peer}, target {wanted:.2f}x")
    for label, row in by_label.items():
        if "x50257 " not in label:
            continue
        even = next((r for r in rows if same_but_even(row, r)), None)
        if even and float(row["x copy"]) < 0.9 * float(even["x copy"]):  # type: ignore[arg-type]
            missed.append(f"{label}: {row['x copy']:.2f} of copy, {even['x copy']:.2f} with 50256 classes")
    return missed


def same_but_even(odd: dict[str, object], row: dict[str, object]) -> bool:
    return (row["operation"], row["dtype"], row["classes"]) == (odd["operation"], odd["dtype"], 50_256)


def table(rows: list[dict[str, object]], peers: list[str]) -> str:
    """Rows of the bench as text."""
    head = ["operation", "rows", "classes", "dtype", "us", "GB/s", "x copy", "target", "error, eps"]
    lines = [[*head, *(f"x {peer}" for peer in peers)]]
    for row in rows:
        aim = row["target"]
        cells = [str(row["operation"]), str(row["rows"]), str(row["classes"]), str(row["dtype"])]
        cells += [f"{row['us']:.1f}", f"{row['GB/s']:.0f}", f"{row['x copy']:.2f}", "" if aim is None else f"{aim:.2f}"]
        cells += [f"{row['error']:.2g}"]
        found: dict[str, float] = dict(row["peers"])  # type: ignore[call-overload]
        cells += [f"{found[peer]:.2f}" if peer in found else "" for peer in peers]
        lines.append(cells)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)
