"""Draw what runs measured and bring the README up to date: python -m bench.report [results.json ...].

A roofline and the ratios to the peers of each run and thread count, PNG beside the results; the README's part between
its two bench markers. Several runs are of several instruction sets.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from bench import cases
from bench.cases import HALVES
from bench.costs import FRESH_SHAPE
from bench.limits import SMALLEST
from bench.peers import PEERS
from bench.run import RESULTS, geometric_mean
from bench.targets import DISTURBED, REALS, best_peer

LONG = "512x32000"
README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
COLORS = {"xent": "#1b6ca8", "numpy": "#8c8c8c", "scipy": "#7a9e3f", "torch": "#d9692b", "jax": "#8e5ea2"}
COLORS |= {"onnxruntime": "#c9a227", "sklearn": "#5aa9a3"}

Row: TypeAlias = dict[str, Any]


def rows_of(report: dict[str, Any], threads: int) -> list[Row]:
    """Those that xent has a time for."""
    rows = (row for process in report["processes"] if process["threads"] == threads for row in process["rows"])
    return [row for row in rows if "xent" in row["seconds"]]


def is_whole(report: dict[str, Any]) -> bool:
    """Not quick, and not of some rows only."""
    have = {(row["operation"], row["dtype"], row["shape"]) for row in rows_of(report, 1)}
    return not report["quick"] and all(
        (operation, dtype, shape) in have for operation in cases.OPERATIONS for dtype in REALS for shape in cases.SHAPES
    )


def newest_whole_runs(folder: Path) -> list[Path]:
    """One of each instruction set, the last to be run first. The names begin with the date."""
    newest: dict[str, Path] = {}
    for path in sorted(folder.glob("*.json"), reverse=True):
        report = json.loads(path.read_text(encoding="utf-8"))
        if is_whole(report):
            newest.setdefault(report["isa"], path)
    return list(newest.values())


def panels_of(figure: Any, rows: list[Row]) -> dict[str, Any]:
    """One panel a dtype of the run."""
    dtypes = list(dict.fromkeys(row["dtype"] for row in rows))
    return dict(zip(dtypes, figure.subplots(1, len(dtypes), sharey=True, squeeze=False)[0], strict=True))


def label(report: dict[str, Any], dtype: str, threads: int) -> str:
    return f"{dtype}, {report['isa']}, {threads} thread{'s' * (threads > 1)}"


def plain_ticks(axis: Any, minor: tuple[float, ...] = (2.0, 5.0)) -> None:
    """0.2, not 2 x 10^-1."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, *minor)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


def peer_times(row: Row) -> dict[str, float]:
    """The peers that computed the same."""
    return {name: row["seconds"][name] for name in PEERS if name in row["seconds"] and name not in row["wrong"]}


def fraction(row: Row) -> float:
    return float(max(row["limit"].values()) / row["seconds"]["xent"])


def save(figure: Any, path: Path) -> None:
    # White on purpose: a transparent plot would lose its black on a dark page.
    figure.savefig(path, dpi=110, facecolor="white")


def roofline(report: dict[str, Any], threads: int, path: Path) -> None:
    """Speed over the work a byte: each row at its exps and logs a byte, under the roofs of its own size and dtype."""
    from matplotlib.figure import Figure

    process = next(p for p in report["processes"] if p["threads"] == threads)
    timed = [row for row in rows_of(report, threads) if row["shape"] != cases.TINY]
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    panels = panels_of(figure, timed)
    for dtype, panel in panels.items():
        rate = process["rates"]["exp"]["f64" if dtype == "float64" else "f32"]["ns"]
        rows = [row for row in timed if row["dtype"] == dtype]
        # Computing is counted in exps: a log is as many of them as it takes the time of.
        points = []
        for row in rows:
            moved = row["read"] + row["written"]
            exps = row["limit"]["compute"] / (rate * 1e-9)
            points.append((exps / moved, exps / row["seconds"]["xent"] * 1e-9, row))
        span = np.geomspace(min(p[0] for p in points) / 1.6, max(p[0] for p in points) * 1.6, 60)
        reads = sorted(
            (m for m in process["bandwidth_gb_s"] if m.get("read") and m["bytes"] > SMALLEST), key=lambda m: m["bytes"]
        )
        for entry, style in ((reads[0], ":"), (reads[-1], "--")) if reads else ():
            roof = np.minimum(span * entry["read"], 1 / rate)
            panel.plot(span, roof, style, color="black", lw=1, label=f"reading {entry['bytes'] / 1e6:.3g} MB, or exp")
        for shape in dict.fromkeys(row["shape"] for _, _, row in points):
            chosen = [p for p in points if p[2]["shape"] == shape]
            panel.plot([p[0] for p in chosen], [p[1] for p in chosen], "o", ms=5, label=shape)
        panel.set(xscale="log", yscale="log", title=label(report, dtype, threads), xlabel="exp a byte moved")
        plain_ticks(panel.xaxis)
        plain_ticks(panel.yaxis)
        panel.grid(True, which="both", alpha=0.2)
    first = next(iter(panels.values()))
    first.set_ylabel("10⁹ exp a second")
    first.legend(fontsize=7)
    save(figure, path)


def ratios(report: dict[str, Any], threads: int, path: Path) -> None:
    """Each peer's time over xent's, an operation, the geometric mean over shapes, and the range."""
    from matplotlib.figure import Figure

    every = rows_of(report, threads)
    operations = list(dict.fromkeys(row["operation"] for row in every))
    figure = Figure(figsize=(13, 1 + 0.6 * len(operations)), layout="constrained")
    panels = panels_of(figure, every)
    for dtype, panel in panels.items():
        rows = [row for row in every if row["dtype"] == dtype]
        names = [name for name in COLORS if any(name in peer_times(row) for row in rows)]
        height = 0.8 / max(1, len(names))
        for k, name in enumerate(names):
            for i, operation in enumerate(operations):
                of = [peer_times(r)[name] / r["seconds"]["xent"] for r in rows if r["operation"] == operation
                      and name in peer_times(r)]  # fmt: skip
                if of:
                    at = i - 0.4 + (k + 0.5) * height
                    panel.barh(at, geometric_mean(of) - 1, height, left=1, color=COLORS[name], label=name)
                    panel.plot([min(of), max(of)], [at, at], color="black", lw=0.8)
        panel.axvline(1, color="black", lw=1)
        panel.set(xscale="log", title=label(report, dtype, threads), xlabel="time of the peer over xent's")
        panel.set_yticks(range(len(operations)), operations)
        plain_ticks(panel.xaxis, ())
        panel.grid(True, axis="x", which="both", alpha=0.2)
        found, labels = panel.get_legend_handles_labels()
        if labels:
            by_name = dict(zip(labels, found, strict=True))
            panel.legend(by_name.values(), by_name.keys(), fontsize=7)
    next(iter(panels.values())).invert_yaxis()
    save(figure, path)


def compared(rows: list[Row]) -> str:
    """The best peer's time over xent's: the mean of some rows, and the worst with its peer and shape."""
    ratios = [(best[1] / row["seconds"]["xent"], best[0], row["shape"]) for row in rows if (best := best_peer(row))]
    if not ratios:
        return "- | -"
    worst, name, shape = min(ratios)
    return f"{geometric_mean([ratio for ratio, _, _ in ratios]):.1f} | {worst:.2f} ({name}, {shape})"


def errors(rows: list[Row]) -> str:
    """The largest error of xent, and of whoever is fastest beside it."""
    ours = max(row["error_eps"]["xent"] for row in rows)
    theirs = max((row["error_eps"][best[0]] for row in rows if (best := best_peer(row))), default=None)
    return f"{ours:.2g} | " + ("-" if theirs is None else f"{theirs:.2g}" if theirs < 100 else f"{theirs:.0e}")


def grouped(rows: list[Row], *keys: str) -> dict[tuple[str, ...], list[Row]]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def by_operation(rows: list[Row]) -> str:
    lines = [
        f"| operation | dtype | ns an element, {LONG} | of the limit | best peer's time over ours, mean | at worst "
        "| largest error, eps | the best peer's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (operation, dtype), group in grouped(rows, "operation", "dtype").items():
        long = next((r for r in group if r["shape"] == LONG), None)
        speed = f"{long['seconds']['xent'] / long['elements'] * 1e9:.3g} | {fraction(long):.2f}" if long else "- | -"
        lines.append(f"| `{operation}` | {dtype} | {speed} | {compared(group)} | {errors(group)} |")
    return "\n".join(lines)


def by_shape(rows: list[Row]) -> str:
    lines = ["| shape | dtype | best peer's time over ours, mean over the operations | at worst |", "|---|---|---|---|"]
    for (shape, dtype), group in grouped(rows, "shape", "dtype").items():
        ratios = [(best[1] / row["seconds"]["xent"], row["operation"]) for row in group if (best := best_peer(row))]
        if ratios:
            worst, operation = min(ratios)
            mean = geometric_mean([ratio for ratio, _ in ratios])
            lines.append(f"| {shape} | {dtype} | {mean:.1f} | {worst:.2f} (`{operation}`) |")
    return "\n".join(lines)


def halves(rows: list[Row]) -> str:
    """Speeds of the 16-bit types beside float32's, on long rows."""
    groups = grouped([row for row in rows if row["shape"] == LONG], "operation")
    dtypes = [dtype for dtype in ("float32", *HALVES) if any(row["dtype"] == dtype for row in rows)]
    lines = [f"| operation, ns an element, {LONG} | " + " | ".join(dtypes) + " |", "|---" * (len(dtypes) + 1) + "|"]
    for (operation,), group in groups.items():
        times = {row["dtype"]: row["seconds"]["xent"] / row["elements"] * 1e9 for row in group}
        cells = (f"{times[dtype]:.3g}" if dtype in times else "-" for dtype in dtypes)
        lines.append(f"| `{operation}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def costs_text(costs: dict[str, Any]) -> str:
    """What a call costs beside its arithmetic, in a paragraph."""
    if not costs:
        return ""
    fresh, reused = (costs["page_faults"][name] for name in ("fresh", "reused"))
    calls = [row for row in costs["calls"] if row["dtype"] == "float32"]
    logsumexp = next(row["seconds"] for row in calls if row["operation"] == "logsumexp")
    memory = max(
        entry["bytes"] / measured["threads"] for measured in costs["memory"] for entry in measured["most"].values()
    )
    names = (("callable", "`xent.logsumexp`"), ("gufunc", "`xent.ufuncs.logsumexp`"), ("vecdot", "`np.vecdot`"))
    called = ", ".join(f"{text} {logsumexp[key] * 1e9:.0f} ns" for key, text in names)
    return (
        f"A call on {cases.TINY} float32: {called}. `import xent` takes {costs['import']['xent'] * 1e3:.0f} ms, "
        f"{costs['import']['numpy'] * 1e3:.0f} of them NumPy's. No operation touched more than {memory / 1024:.0f} KB "
        "a thread beyond its operands and results. A fresh result costs its pages: `log_softmax` of "
        f"{FRESH_SHAPE} float32 takes {fresh['seconds'] * 1e3:.1f} ms, and {reused['seconds'] * 1e3:.1f} ms with a "
        "reused `out=`, as all else here."
    )


def about(report: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in report["versions"].items() if name not in ("python", "xent"))
    python = report["versions"]["python"]
    held = f" NumPy and PyTorch are held to {report['isa']} too." if report["held"] else ""
    return f"{report['processor']}, {report['isa']}, {report['date'][:10]}; Python {python}, {versions}.{held}"


def section(reports: list[dict[str, Any]], counts: dict[str, list[int]], images: list[str]) -> str:
    """The first report at length, of the others what differs: one thread, float32 and float64."""
    text = [
        "Measured by `make bench`: xent and its peers (NumPy by hand, SciPy, PyTorch, JAX, onnxruntime, scikit-learn) "
        "in turn in one process, results checked first, buffers and pages reused, the shortest of the repeats. The "
        "limit is the machine's own, measured in the same run: bytes over bandwidth at that size, or exp and log over "
        "their rates in cache, whichever takes longer. Means are geometric, over all shapes but the tiny one. eps is "
        "that of the dtype, times the sum of the absolute values of the terms added.",
    ]
    for report in reports:
        isa, first = report["isa"], report is reports[0]
        for threads in counts[isa]:
            rows = [row for row in rows_of(report, threads) if row["shape"] != cases.TINY]
            reals = [row for row in rows if row["dtype"] in REALS]
            body = by_operation(reals)
            title = f"{isa}, {threads} thread{'s' * (threads > 1)}"
            if threads == counts[isa][0]:
                text.append(about(report))
            if first and threads == counts[isa][0]:
                text += [f"{title}:", body, folded(f"{title}, by shape", by_shape(reals))]
                if len(rows) > len(reals):
                    text.append(folded(f"{title}, 16 bits", halves(rows)))
            else:
                text.append(folded(title, body))
        if first:
            text.append(costs_text(report["costs"]))
    text.append("\n".join(f"![{Path(image).stem.replace('-', ' ')}]({image})" for image in images))
    return "\n\n".join(part for part in text if part)


def undisturbed(report: dict[str, Any]) -> list[int]:
    """The thread counts whose figures say something."""
    counts = []
    for process in report["processes"]:
        taken = float(np.mean([row["other_work"] for row in process["rows"]]))
        if taken > DISTURBED:
            what = f"{report['isa']}, {process['threads']} thread(s)"
            print(f"{what} left out: others took {taken:.0%} of the processors", file=sys.stderr)
        else:
            counts.append(process["threads"])
    return counts


def load(sources: list[Path]) -> tuple[list[dict[str, Any]], dict[str, list[int]]]:
    """The runs that have undisturbed figures, and the thread counts that have, by instruction set."""
    reports = [json.loads(source.read_text(encoding="utf-8")) for source in sources]
    counts = {report["isa"]: undisturbed(report) for report in reports}
    return [report for report in reports if counts[report["isa"]]], counts


def draw_all(reports: list[dict[str, Any]], counts: dict[str, list[int]], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for report in reports:
        for threads in counts[report["isa"]]:
            for draw in (ratios, roofline):
                images.append(folder / f"{draw.__name__}-{report['isa']}-{threads}.png")
                draw(report, threads, images[-1])
    return images


def rewrite(readme: Path, reports: list[dict[str, Any]], counts: dict[str, list[int]], images: list[Path]) -> None:
    """The README's part between its markers, with the plots of the first report and its first thread count."""
    text = readme.read_text(encoding="utf-8")
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if len(marked.findall(text)) != 1:
        raise ValueError(f"{readme.name} needs {BEGIN} and {END}, once each")
    first = reports[0]["isa"]
    shown = [os.path.relpath(i, readme.parent) for i in images if i.stem.endswith(f"-{first}-{counts[first][0]}")]
    body = f"{BEGIN}\n{section(reports, counts, shown)}\n{END}"
    readme.write_text(marked.sub(lambda _: body, text), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument(
        "results", nargs="*", type=Path, help="default: the newest whole run of each instruction set in bench/results/"
    )
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--images", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    sources = args.results or newest_whole_runs(RESULTS)
    if not sources:
        print("no whole run in bench/results/: make bench makes one", file=sys.stderr)
        return 1
    reports, counts = load(sources)
    if not reports:
        print("no run is undisturbed: --resume times its disturbed rows anew", file=sys.stderr)
        return 1
    images = draw_all(reports, counts, args.images)
    try:
        rewrite(args.readme, reports, counts, images)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{', '.join(source.name for source in sources)}: {len(images)} plots, {args.readme.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
