"""The bench without its clock: its cases, references and targets, and the report of a small run that was recorded."""

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import oracle
import pytest

from bench import cases, costs, limits, report, run, targets
from bench.peers import PEERS, numpy_calls, plain_call

HERE = Path(__file__).parent
RECORDED = HERE / "bench.json"
SMALL = cases.Shape("small", (6, 7))
OPERATIONS = list(cases.OPERATIONS.values())


@pytest.fixture
def recorded():
    return json.loads(RECORDED.read_text(encoding="utf-8"))


def named(operation):
    return operation.name


def result_of(call, operation):
    result = call()
    return dict(zip(operation.arrays, result if len(operation.arrays) > 1 else (result,), strict=True))


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_every_operation_has_a_reference_that_the_oracle_confirms(operation):
    data = cases.Data(SMALL, "float64")
    found = cases.reference(operation, data, cases.sampled_rows(SMALL))
    assert tuple(found) == operation.arrays
    x, second = data.x, data.second(operation)
    if operation.name == "distill":
        # Halves are exact.
        name, x, second = "kl_div_with_logits", x / cases.TEMPERATURE, second / cases.TEMPERATURE
    else:
        name = operation.xent
    for (value, scale), exact in zip(found.values(), oracle.evaluate(name, x, second), strict=True):
        off = np.abs((value - exact.hi) - exact.lo)
        assert np.all(off <= 16 * np.finfo(np.longdouble).eps * (1 + exact.scale)), named(operation)
        np.testing.assert_allclose(scale.astype(float), exact.scale, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_the_check_passes_what_is_right_and_nothing_else(operation, dtype):
    data = cases.Data(SMALL, dtype)
    which = cases.sampled_rows(SMALL)
    wanted = cases.reference(operation, data, which)
    got = result_of(plain_call(operation, data, 1), operation)
    assert cases.largest_error(got, wanted, data, which) <= run.XENT_ERROR
    by_hand = result_of(numpy_calls(operation, data, 1), operation)
    assert cases.largest_error(by_hand, wanted, data, which, slack=1.0) <= run.PEER_ERROR[dtype]
    for name in got:
        for wrong in (got[name] * (1 + 40 * float(np.finfo(dtype).eps)) + 40 * float(np.finfo(dtype).eps), math.nan):
            spoilt = {**got, name: got[name].copy()}
            spoilt[name][-1] = wrong[-1] if isinstance(wrong, np.ndarray) else wrong
            assert not cases.largest_error(spoilt, wanted, data, which) <= run.XENT_ERROR


@pytest.mark.parametrize(
    "shape", [cases.Shape("long", (3, 40)), cases.Shape("first", (40, 3), 0)], ids=lambda s: s.name
)
@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_a_row_that_repeats_its_values_has_the_same_reference(operation, shape, monkeypatch):
    monkeypatch.setattr(cases, "LONGEST_PERIOD", 10)
    assert shape.repeats == 4
    data = cases.Data(shape, "float64")
    which = cases.sampled_rows(shape)
    short = cases.reference(operation, data, which)
    for a in (data.x, data.y, data.t, data.labels):
        assert a is not None  # made, while rows still repeat
    monkeypatch.setattr(cases, "LONGEST_PERIOD", 1000)
    for name, (whole, _) in cases.reference(operation, data, which).items():
        part = whole[:, :10] if name == "array" else whole
        np.testing.assert_allclose(short[name][0].astype(float), part.astype(float), rtol=1e-14, atol=1e-16)


def test_targets_name_rows_that_exist():
    for target in targets.TARGETS:
        assert set() < set(target.operations) <= set(cases.OPERATIONS), target
        assert set() < set(target.dtypes) <= set(cases.DTYPES) | set(cases.HALVES), target
        assert set() < set(target.shapes) <= set(cases.SHAPES), target
        assert set() < set(target.peers) <= set(PEERS), target
        assert target.threads in (1, 2)
        assert target.measure in targets._measures([]), target
    for shapes in (cases.QUICK_SHAPES, costs.MEMORY_SHAPES, (costs.FRESH_SHAPE, report.LONG, cases.TINY)):
        assert set(shapes) <= set(cases.SHAPES)
    assert set(cases.QUICK_OPERATIONS) <= set(cases.OPERATIONS)


def row(seconds=1.0, operation="kl", dtype="float32", shape="512x32000", threads=1, memory=0.3, compute=0.5, **peers):
    return {
        "operation": operation, "dtype": dtype, "shape": shape, "threads": threads, "wrong": [], "failed": {},
        "seconds": {"xent": seconds, **peers}, "limit": {"memory": memory, "compute": compute},
    }  # fmt: skip


def verdicts(*rows, isa="avx512"):
    return {(v.target, v.what): v for v in targets.of_report({"isa": isa, "processes": [{"rows": list(rows)}]})}


def test_verdicts_compare_with_the_best_peer_that_is_right():
    behind = row(torch=4.0, jax=2.5, numpy=9.0)
    found = verdicts(behind)
    assert {target for target, _ in found} == {"never behind", "divergences 3x"}
    missed = found["divergences 3x", "kl float32 512x32000, 1 thread"]
    assert not missed.met
    assert missed.reached == 2.5
    assert str(missed).endswith("2.5 against 3, missed, 0.83 of it (jax)")
    assert verdicts({**behind, "wrong": ["jax"]})["divergences 3x", "kl float32 512x32000, 1 thread"].met
    failed = verdicts({**behind, "seconds": {"jax": 1.0}, "failed": {"xent": "TypeError"}})
    assert not any(v.met for v in failed.values())


def test_verdicts_take_means_over_shapes():
    rows = [row(operation="logsumexp", shape=shape, torch=2.0 + 3.0 * (i % 2)) for i, shape in enumerate(cases.SHAPES)]
    mean = verdicts(*rows)["3x in the mean", "logsumexp float32, all shapes"]
    assert mean.met
    assert mean.reached == pytest.approx(math.sqrt(10))
    assert not any(target == "3x in the mean" for target, _ in verdicts(*rows[1:]))


def test_verdicts_compare_rows_with_their_partners():
    logsumexp = {"operation": "logsumexp"}
    rows = [row(1.0, **logsumexp), row(0.4, threads=2, memory=0.1, **logsumexp), row(1.1, dtype="float16", **logsumexp)]
    found = verdicts(*rows)
    assert found["1.8x on two threads", "logsumexp float32 512x32000, 2 threads"].reached == pytest.approx(2.5)
    assert not found["16 bits no slower than float32", "logsumexp float16 512x32000, 1 thread"].met
    assert not any(target.startswith("16 bits") for target, _ in verdicts(*rows, isa="baseline"))
    bound_by_memory = [rows[0], row(0.4, threads=2, memory=0.3, **logsumexp)]
    assert not any(target.startswith("1.8x") for target, _ in verdicts(*bound_by_memory))


def test_verdicts_on_a_recorded_run(recorded):
    found = [*targets.of_report(recorded), *costs.verdicts(recorded["costs"])]
    names = {v.target for v in found}
    assert {"never behind", "0.6 of reading", "0.7 of exp and log in cache", "64 KB a thread"} <= names
    assert {"NumPy's time and 20 ms", "1.5x np.vecdot", "2.0x np.vecdot", "no thread for a tiny call"} <= names
    text = run.summary(recorded)
    for verdict in found:
        assert (f"  {verdict}" in text.splitlines()) is not verdict.met


def test_the_readme_has_its_markers_once():
    text = report.README.read_text(encoding="utf-8")
    assert text.count(report.BEGIN) == text.count(report.END) == 1
    assert text.index(report.BEGIN) < text.index(report.END)


def test_a_recorded_run_is_rendered(recorded, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n", encoding="utf-8")
    reports, counts = report.load([RECORDED])
    images = [
        tmp_path / "img" / f"{kind}-avx512-{threads}.png" for kind in ("ratios", "roofline") for threads in (1, 2)
    ]
    report.rewrite(readme, reports, counts, images)
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("above\n")
    assert text.endswith("below\n")
    assert "old" not in text
    assert [image.name for image in images if f"](img/{image.name})" in text] == [
        "ratios-avx512-1.png",
        "roofline-avx512-1.png",
    ]
    long = next(r for r in report.rows_of(recorded, 1) if (r["operation"], r["shape"]) == ("kl", report.LONG))
    assert f"| `kl` | float32 | {long['seconds']['xent'] / long['elements'] * 1e9:.3g} |" in text
    assert f"{recorded['costs']['import']['xent'] * 1e3:.0f} ms" in text
    # Rendered again it is the same: what is between the markers is replaced.
    report.rewrite(readme, reports, counts, images)
    assert readme.read_text(encoding="utf-8") == text


def test_a_recorded_run_is_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="plots are drawn with matplotlib, of the bench extra")
    images = report.draw_all(*report.load([RECORDED]), tmp_path / "img")
    assert [image.name for image in images] == ["ratios-avx512-1.png", "roofline-avx512-1.png"]
    assert all(image.read_bytes().startswith(b"\x89PNG") for image in images)


def test_a_readme_without_markers_is_left_alone(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("nothing", encoding="utf-8")
    with pytest.raises(ValueError, match="bench:begin"):
        report.rewrite(readme, *report.load([RECORDED]), [])
    assert readme.read_text(encoding="utf-8") == "nothing"


def test_disturbed_processes_are_left_out(recorded, tmp_path, capsys):
    for entry in recorded["processes"][0]["rows"]:
        entry["other_work"] = 0.5
    disturbed = tmp_path / "disturbed.json"
    disturbed.write_text(json.dumps(recorded), encoding="utf-8")
    assert report.load([disturbed]) == ([], {"avx512": []})
    assert "others took 50%" in capsys.readouterr().err


def test_only_whole_runs_are_reported(recorded, tmp_path):
    (tmp_path / "20260101T000000-avx512-quick.json").write_text(json.dumps(recorded), encoding="utf-8")
    assert report.newest_whole_runs(tmp_path) == []
    rows = [
        row(operation=operation, dtype=dtype, shape=shape)
        for operation in cases.OPERATIONS
        for dtype in targets.REALS
        for shape in cases.SHAPES
    ]
    for stamp, isa in (("20260102", "avx2"), ("20260103", "avx512"), ("20260104", "avx512")):
        whole = {"isa": isa, "quick": False, "processes": [{"threads": 1, "rows": rows}]}
        (tmp_path / f"{stamp}T000000-{isa}.json").write_text(json.dumps(whole), encoding="utf-8")
    assert [path.name[:8] for path in report.newest_whole_runs(tmp_path)] == ["20260104", "20260102"]
    rows.pop()
    (tmp_path / "20260105T000000-avx512.json").write_text(
        json.dumps({"isa": "avx512", "quick": False, "processes": [{"threads": 1, "rows": rows}]}), encoding="utf-8"
    )
    assert report.newest_whole_runs(tmp_path)[0].name[:8] == "20260104"


@pytest.mark.skipif(shutil.which(os.environ.get("CC", "cc")) is None, reason="limits.c is compiled, and there is no cc")
def test_functions_that_set_limits_are_right(isa):
    library = limits.build(isa)
    for kind in ("exp", "log"):
        for real in ("f32", "f64"):
            names = limits.functions(library, kind, real)
            assert names
            for name in names:
                # Fast because wrong would be no limit; far better than asked for would be no fair one.
                assert 0.5 <= limits.largest_error(library, name) <= limits.LIMIT_ULP, name
