"""Draw what a run measured and bring the README up to date: python -m bench.report [results.json].

A roofline and the ratios to the peers, PNG beside the results; the README's part between its two bench markers.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from bench import cases
from bench.limits import SMALLEST
from bench.run import DISTURBED, RESULTS, geometric_mean

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
COLORS = {"xent": "#1b6ca8", "numpy": "#8c8c8c", "scipy": "#7a9e3f", "torch": "#d9692b", "jax": "#8e5ea2"}
COLORS |= {"onnxruntime": "#c9a227", "sklearn": "#5aa9a3"}

Row: TypeAlias = dict[str, Any]


def rows_of(report: dict[str, Any], threads: int) -> list[Row]:
    return [row for process in report["processes"] if process["threads"] == threads for row in process["rows"]]


def panels_of(figure: Any, rows: list[Row]) -> dict[str, Any]:
    """One panel a dtype of the run."""
    dtypes = list(dict.fromkeys(row["dtype"] for row in rows))
    return dict(zip(dtypes, figure.subplots(1, len(dtypes), sharey=True, squeeze=False)[0], strict=True))


def plain_ticks(axis: Any, minor: tuple[float, ...] = (2.0, 5.0)) -> None:
    """0.2, not 2 x 10^-1."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, *minor)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


def peer_times(row: Row) -> dict[str, float]:
    """The peers that computed the same: no yardsticks, no wrong results."""
    return {
        name: seconds
        for name, seconds in row["seconds"].items()
        if name in row["error_eps"] and not name.startswith("xent") and name not in row["wrong"]
    }


def fraction(row: Row) -> float:
    return float(max(row["limit"].values()) / row["seconds"]["xent"])


def roofline(report: dict[str, Any], threads: int, path: Path) -> None:
    """Speed over the work a byte: each row at its exps and logs a byte, under the roofs of its own size and dtype."""
    from matplotlib.figure import Figure

    process = next(p for p in report["processes"] if p["threads"] == threads)
    timed = [row for row in rows_of(report, threads) if row["shape"] != cases.TINY]
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    panels = panels_of(figure, timed)
    for dtype, panel in panels.items():
        rate = process["rates_ns"]["exp"]["f64" if dtype == "float64" else "f32"]
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
        for entry, style in ((reads[0], ":"), (reads[-1], "--")):
            roof = np.minimum(span * entry["read"], 1 / rate)
            panel.plot(span, roof, style, color="black", lw=1, label=f"reading {entry['bytes'] / 1e6:.3g} MB, or exp")
        for shape in dict.fromkeys(row["shape"] for _, _, row in points):
            chosen = [p for p in points if p[2]["shape"] == shape]
            panel.plot([p[0] for p in chosen], [p[1] for p in chosen], "o", ms=5, label=shape)
        panel.set(xscale="log", yscale="log", title=f"{dtype}, {threads} thread(s)", xlabel="exp a byte moved")
        plain_ticks(panel.xaxis)
        plain_ticks(panel.yaxis)
        panel.grid(True, which="both", alpha=0.2)
    first = next(iter(panels.values()))
    first.set_ylabel("10⁹ exp a second")
    first.legend(fontsize=7)
    figure.savefig(path, dpi=130)


def ratios(report: dict[str, Any], threads: int, path: Path) -> None:
    """Each peer's time over xent's, an operation, the geometric mean over shapes, and the range."""
    from matplotlib.figure import Figure

    every = [row for row in rows_of(report, threads) if not row["operation"].endswith("_fresh")]
    operations = list(dict.fromkeys(row["operation"] for row in every))
    figure = Figure(figsize=(12, 1 + 0.6 * len(operations)), layout="constrained")
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
                    at, label = i - 0.4 + (k + 0.5) * height, name
                    panel.barh(at, geometric_mean(of) - 1, height, left=1, color=COLORS[name], label=label)
                    panel.plot([min(of), max(of)], [at, at], color="black", lw=0.8)
        panel.axvline(1, color="black", lw=1)
        panel.set(xscale="log", title=f"{dtype}, {threads} thread(s)", xlabel="time of the peer over xent's")
        panel.set_yticks(range(len(operations)), operations)
        plain_ticks(panel.xaxis, ())
        panel.grid(True, axis="x", which="both", alpha=0.2)
        found, labels = panel.get_legend_handles_labels()
        if labels:
            by_name = dict(zip(labels, found, strict=True))
            panel.legend(by_name.values(), by_name.keys(), fontsize=7)
    next(iter(panels.values())).invert_yaxis()
    figure.savefig(path, dpi=130)


def table(report: dict[str, Any], threads: int) -> str:
    """One line an operation and dtype: speed, limit and the best peer, over all shapes but the tiny one."""
    lines = [
        "| operation | dtype | ns an element, 512x32000 | of the limit | best peer's time over ours, mean | at worst |",
        "|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows_of(report, threads):
        if row["shape"] != cases.TINY and not row["operation"].endswith("_fresh"):
            groups.setdefault((row["operation"], row["dtype"]), []).append(row)
    for (operation, dtype), rows in groups.items():
        long = next((r for r in rows if r["shape"] == "512x32000"), None)
        speed = f"{long['seconds']['xent'] / long['elements'] * 1e9:.3g} | {fraction(long):.2f}" if long else "- | -"
        best = [(min(peer_times(r).items(), key=lambda p: p[1]), r) for r in rows if peer_times(r)]
        compared = "- | -"
        if best:
            worst, name, shape = min((p[1] / r["seconds"]["xent"], p[0], r["shape"]) for p, r in best)
            mean = geometric_mean([p[1] / r["seconds"]["xent"] for p, r in best])
            compared = f"{mean:.1f} | {worst:.2f} ({name}, {shape})"
        lines.append(f"| `{operation}` | {dtype} | {speed} | {compared} |")
    return "\n".join(lines)


def page_faults(report: dict[str, Any], threads: int) -> str:
    """What a fresh result costs, where the run has both rows."""
    key = {row["operation"]: row for row in rows_of(report, threads) if
           row["shape"] == cases.FRESH_SHAPE and row["dtype"] == "float32"}  # fmt: skip
    if not {"log_softmax", "log_softmax_fresh"} <= key.keys():
        return ""
    reused, fresh = (key[name]["seconds"]["xent"] * 1e3 for name in ("log_softmax", "log_softmax_fresh"))
    return (
        f"A fresh result costs its pages: `log_softmax` of {cases.FRESH_SHAPE} float32 takes {fresh:.1f} ms, "
        f"and {reused:.1f} ms with a reused `out=`, as everywhere else here.\n\n"
    )


def section(report: dict[str, Any], counts: list[int], images: list[str]) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in report["versions"].items() if name not in ("python", "xent"))
    text = (
        f"{report['processor']}, {report['isa']}, {report['date'][:10]}; Python {report['versions']['python']}, "
        f"{versions}. One run, xent and its peers in turn, buffers reused, the shortest of the repeats. The limit is "
        "the machine's own, measured in the same run: bytes over bandwidth at that size, or exp and log over their "
        "rates in cache, whichever takes longer. The mean is geometric, over all shapes but the tiny one.\n\n"
    )
    for threads in counts:
        text += f"{threads} thread{'s' if threads > 1 else ''}:\n\n{table(report, threads)}\n\n"
    text += page_faults(report, counts[0])
    return text + "\n".join(f"![{Path(image).stem.replace('-', ' ')}]({image})" for image in images)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument(
        "results", nargs="?", type=Path, help="default: the newest in bench/results/ that is no quick run"
    )
    parser.add_argument("--readme", type=Path, default=README)
    args = parser.parse_args(arguments)
    source = args.results
    if source is None:
        # The names begin with the date.
        found = sorted(p for p in RESULTS.glob("*.json") if not p.stem.endswith("-quick"))
        if not found:
            print("no results: python -m bench.run makes them", file=sys.stderr)
            return 1
        source = found[-1]
    report = json.loads(source.read_text(encoding="utf-8"))
    readme = args.readme.read_text(encoding="utf-8")
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if len(marked.findall(readme)) != 1:
        print(f"{args.readme.name} needs {BEGIN} and {END}, once each", file=sys.stderr)
        return 1
    images, counts = [], []
    for process in report["processes"]:
        if (process["other_work"] or 0) > DISTURBED:
            print(f"{process['threads']} thread(s) left out: others took {process['other_work']:.0%} of the processors")
        else:
            counts.append(process["threads"])
    if not counts:
        return 1
    RESULTS.mkdir(exist_ok=True)
    for threads in counts:
        for draw in (roofline, ratios):
            image = RESULTS / f"{draw.__name__}-{threads}-threads.png"
            draw(report, threads, image)
            images.append(f"bench/results/{image.name}")
    body = f"{BEGIN}\n{section(report, counts, images)}\n{END}"
    args.readme.write_text(marked.sub(lambda _: body, readme), encoding="utf-8")
    print(f"{source.name}: {len(images)} plots, {args.readme.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
