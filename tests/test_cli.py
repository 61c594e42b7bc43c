"""The command line in this process: what it prints and writes, and a line with a status for whatever is wrong.

tests/test_cli_process.py has what needs a process of its own: full disks, closed descriptors, pipes, signals.
"""

import csv
import inspect
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
import zipfile

import numpy as np
import pytest

import xent
from xent import cli, demo, losses


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with logits x and y, labels, and archives of them; (x, y, labels)."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(2, 30, 4)).astype(np.float32)
    labels = rng.integers(0, 4, 30)
    for name, array in (("x", x), ("y", y), ("labels", labels)):
        np.save(f"{name}.npy", array)
    np.savez("all.npz", x=x, y=y, labels=labels)
    np.savez_compressed("one.npz", y)
    return x, y, labels


def run(command, capsys):
    status = cli.main(command.split())
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def result_of(command, capsys):
    status, out, err = run(command, capsys)
    assert (status, err) == (0, "")
    return out


def complaint(command, capsys):
    status, out, err = run(command, capsys)
    assert (status, out) == (2, "")
    assert err.startswith("xent: ")
    assert err.count("\n") == 1
    return err


KL = "loss kl_div x.npy {} --target-kind logits"
CE = "loss cross_entropy x.npy labels.npy"


@pytest.mark.parametrize("target", ["y.npy", "one.npz", "all.npz:y"])
def test_loss_reads_every_kind_of_file(here, capsys, target):
    x, y, _ = here
    assert result_of(KL.format(target), capsys) == f"{losses.kl_div(x, y, target_kind='logits')!s}\n"


def test_loss_passes_every_option_on(here, capsys):
    x, y, labels = here
    rng = np.random.default_rng(8)
    weight, sample_weight, where = rng.random(4), rng.random(30), rng.random((30, 4)) < 0.8
    np.savez("w.npz", weight=weight, sample_weight=sample_weight, where=where)
    shared = {"sample_weight": sample_weight, "where": where}
    files = "--sample-weight w.npz:sample_weight --where w.npz:where"
    only = "--weight w.npz:weight --ignore-index 2 --label-smoothing 0.1 --reduction sum"
    out = result_of(f"{CE} {files} {only}", capsys)
    expected = losses.cross_entropy(
        x, labels, weight=weight, ignore_index=2, label_smoothing=0.1, reduction="sum", **shared
    )
    assert out == f"{expected!s}\n"
    out = result_of(f"{KL.format('y.npy')} {files} --temperature 2.5 --axis 1", capsys)
    assert out == f"{losses.kl_div(x, y, target_kind='logits', temperature=2.5, axis=1, **shared)!s}\n"


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".json"])
@pytest.mark.parametrize("reduction", ["mean", "none", "terms", "per_class"])
def test_out_holds_the_whole_result(here, capsys, reduction, suffix):
    x, _, labels = here
    expected = losses.cross_entropy(x, labels, reduction=reduction)
    result_of(f"{CE} --reduction {reduction} --out r{suffix}", capsys)
    if suffix == ".json":
        with open("r.json") as file:
            record = json.load(file)
        assert record["shape"] == list(np.shape(expected))
        got = np.array(record["value"])
    elif suffix == ".csv":
        with open("r.csv", newline="") as file:
            names, *lines = csv.reader(file)
        assert names == ([f"class_{c}" for c in range(4)] if reduction == "terms" else ["cross_entropy"])
        got = np.array(lines, float).reshape(np.shape(expected))
    else:
        got = np.load(f"r{suffix}")
        got = got["loss"] if suffix == ".npz" else got
    # Exactly, and not only once it is rounded to float32 again.
    np.testing.assert_array_equal(got, expected, strict=suffix in (".npy", ".npz"))


def test_infinite_values_are_valid_json(here, capsys):
    np.save("x.npy", np.array([[0.0, -np.inf]]))
    np.save("labels.npy", np.array([1]))
    result_of(f"{CE} --reduction none --out r.json", capsys)
    with open("r.json") as file:
        assert json.load(file, parse_constant=pytest.fail)["value"] == ["inf"]


def test_a_long_result_shows_its_ends(here, capsys):
    lines = result_of(f"{CE} --reduction none", capsys).splitlines()
    assert lines[0] == "float32, shape (30,)"
    assert lines[11].startswith("... ")
    assert [line.split()[0] for line in (*lines[1:11], *lines[12:])] == [str(i) for i in (*range(10), *range(20, 30))]


def write(name, data):
    with open(name, "wb") as file:
        file.write(data)


def test_a_bad_file_is_one_line(here, capsys):
    with open("x.npy", "rb") as file:
        good = file.read()
    with open("one.npz", "rb") as file:
        archive = bytearray(file.read())
    archive[120] ^= 255
    np.save("objects.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    np.savez("objects.npz", np.array([{}, 1], dtype=object))
    with zipfile.ZipFile("text.npz", "w") as file:
        file.writestr("a.txt", "hello")
    with zipfile.ZipFile("none.npz", "w"):
        pass
    for name, data in {
        "empty.npy": b"",
        "junk.npy": b"hello there" * 20,
        "cut.npy": good[:200],
        "header.npy": good[:20],
        "syntax.npy": good.replace(b"{'d", b"((("),
        "cut.npz": bytes(archive[:100]),
        "flipped.npz": bytes(archive),
    }.items():
        write(name, data)
    reasons = {
        "nope.npy": "No such file",
        ".": "Is a directory",
        "objects.npy": "pickled Python objects",
        "objects.npz": "pickled Python objects",
        "empty.npy": "is empty",
        "junk.npy": "not a .npy or .npz file",
        "cut.npy": "damaged",
        "header.npy": "damaged",
        "syntax.npy": "damaged",
        "cut.npz": "damaged",
        "flipped.npz": "damaged",
        "text.npz": "not an array",
        "none.npz": "no arrays",
        "all.npz": "x, y, labels",
        "all.npz:z": "x, y, labels",
    }
    for target, reason in reasons.items():
        err = complaint(KL.format(target), capsys)
        assert target.partition(":")[0] in err
        assert reason in err


def test_bad_values_are_one_line(here, capsys):
    np.save("labels.npy", np.full(30, 4))
    assert "4" in complaint(CE, capsys)
    np.save("text.npy", np.array(["a"]))
    complaint(KL.format("text.npy"), capsys)
    np.save("short.npy", np.zeros((29, 4), np.float32))
    err = complaint(KL.format("short.npy"), capsys)
    assert "29" in err
    assert "30" in err
    for number in ("99999999999999999999", "9" * 5000, "1.5", "1_0"):
        for command in (f"{KL.format('y.npy')} --axis", "explain x.npy y.npy --axis", f"{CE} --ignore-index"):
            err = complaint(f"{command} {number}", capsys)
            assert command.split()[-1] in err
            assert len(err) < 200


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (f"{KL.format('y.npy')} --axis 5", "loss kl_div: --axis 5"),
        (f"{KL.format('y.npy')} --axis -9223372036854775808", "--axis -9223372036854775808"),
        ("explain x.npy y.npy --axis 5", "explain: --axis 5"),
        (f"{KL.format('y.npy')} --temperature -1", "loss kl_div: --temperature must"),
        (f"{KL.format('y.npy')} --temperature nope.npy", "nope.npy: No such file"),
        (f"{KL.format('y.npy')} --target_kind logits", "--target_kind"),
        ("loss kl_div x.npy y.npy --target-kind logit", "--target-kind"),
        (f"{CE} --label-smoothing 2", "loss cross_entropy: --label-smoothing must"),
        (f"{CE} --label-smoothing much", "--label-smoothing: 'much' is no number"),
        ("loss cross_entropy x.npy y.npy --ignore-index 2", "--ignore-index goes with labels"),
        (f"{CE} --weight x.npy", "--weight"),
        (f"{CE} --sample-weight y.npy", "--sample-weight"),
        (f"{CE} --where y.npy", "--where must be bools"),
        ("loss distillation x.npy y.npy labels.npy --temperature 2", "--alpha"),
        ("loss distillation x.npy y.npy --temperature 2 --ignore-index 1", "--ignore-index goes with labels"),
        ("loss distillation x.npy y.npy", "--temperature"),
        (f"{CE} --format csv", "--format: goes with --out"),
        (f"{CE} --out - --format csv --json", "--json"),
        ("loss kl_div - -", "standard input"),
        ("explain - -", "standard input"),
        (f"{CE} --reduc none", "--reduc"),
        (f"{KL.format('y.npy')} --reduction terms --out nowhere/r.npy", "nowhere/r.npy: No such file"),
        (f"{CE} --out .", "--out .: "),
        (f"{CE} --out . --format npy", "Is a directory"),
        (f"{CE} --dtype bfloat16", "x.npy holds float32"),
    ],
)
def test_messages_name_the_call_and_the_option_as_typed(here, capsys, command, words):
    err = complaint(command, capsys)
    assert words in err
    assert not re.search(r"target_kind(?! logits)|label_smoothing|ignore_index|sample_weight", err)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "loss",
        "loss focal x.npy y.npy",
        "loss kl_div x.npy",
        f"{CE} --reduction median",
        f"{CE} --temperature 2",
        f"{CE} --axis last",
        f"{CE} --out r.txt",
        f"{CE} --out x.npy",
        f"{CE} --out nowhere/r.npy",
    ],
)
def test_bad_arguments_are_one_line(here, capsys, command):
    complaint(command, capsys)


def test_out_leaves_the_inputs_alone(here, capsys):
    x, _, _ = here
    complaint(f"{CE} --out x.npy", capsys)
    np.testing.assert_array_equal(np.load("x.npy"), x)


def test_info(capsys):
    text = result_of("info", capsys)
    record = json.loads(result_of("info --json", capsys))
    assert record["isa"] == xent.info()["isa"]
    assert all(name in text for name in record)


def test_module_and_version():
    done = subprocess.run([sys.executable, "-m", "xent", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"xent {xent.__version__}\n"


def test_demo(capsys, monkeypatch):
    monkeypatch.setattr(demo, "COPIES", 20)
    out = result_of("demo", capsys)
    assert "not timed" not in out
    assert len(out.splitlines()) <= 40
    assert max(map(len, out.splitlines())) <= 100


def test_demo_reports_a_disagreement(capsys, monkeypatch):
    monkeypatch.setattr(demo, "COPIES", 20)
    monkeypatch.setattr(demo, "plain_softmax", lambda x: np.full_like(x, 0.1))
    status, out, _ = run("demo", capsys)
    assert status == 1
    assert "not timed" in out


# ---- every loss and its options ----


def test_every_loss_is_there_with_its_options():
    assert set(cli.SUMMARIES) == set(losses.__all__) == set(cli.EXAMPLES)
    for name in cli.SUMMARIES:
        parameters = inspect.signature(getattr(losses, name)).parameters
        assert {*cli.operands_of(name), *cli.options_of(name), *cli.NOT_HERE} >= set(parameters)


@pytest.fixture
def more(here):
    """The files that the examples of --help speak of, beside those of `here`."""
    x, y, labels = here
    rng = np.random.default_rng(9)
    files = {
        "log_probs": xent.log_softmax(x),
        "probs": xent.softmax(y),
        "present": (rng.random((30, 4)) < 0.5),
        "class_weights": rng.random(4) + 0.5,
        "temperatures": rng.random(30) + 0.5,
    }
    for name, array in files.items():
        np.save(f"{name}.npy", array)
    return {"x": x, "y": y, "labels": labels, **files}


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "terms", "per_class"])
def test_each_loss_gives_what_its_function_gives(more, capsys, reduction):
    m = more
    calls = {
        "cross_entropy x.npy labels.npy --label-smoothing .1": losses.cross_entropy(
            m["x"], m["labels"], label_smoothing=0.1, reduction=reduction
        ),
        "kl_div x.npy probs.npy": losses.kl_div(m["x"], m["probs"], reduction=reduction),
        "nll log_probs.npy labels.npy --weight class_weights.npy --ignore-index 1": losses.nll(
            m["log_probs"], m["labels"], weight=m["class_weights"], ignore_index=1, reduction=reduction
        ),
        "binary_cross_entropy x.npy present.npy --pos-weight class_weights.npy": losses.binary_cross_entropy(
            m["x"], m["present"], pos_weight=m["class_weights"], reduction=reduction
        ),
        "js_div x.npy y.npy --temperature temperatures.npy": losses.js_div(
            m["x"], m["y"], temperature=m["temperatures"], reduction=reduction
        ),
        "distillation x.npy y.npy labels.npy --temperature 2 --alpha .25": losses.distillation(
            m["x"], m["y"], m["labels"], temperature=2.0, alpha=0.25, reduction=reduction
        ),
        "distillation x.npy y.npy --temperature 2 --no-scale-by-temperature-squared": losses.distillation(
            m["x"], m["y"], temperature=2.0, scale_by_temperature_squared=False, reduction=reduction
        ),
    }
    for command, expected in calls.items():
        record = json.loads(result_of(f"loss {command} --reduction {reduction} --json", capsys))
        assert record["loss"] == command.split()[0]
        assert (record["reduction"], record["dtype"]) == (reduction, str(expected.dtype))
        assert record["shape"] == list(expected.shape)
        np.testing.assert_array_equal(np.array(record["value"]), expected)
        result_of(f"loss {command} --reduction {reduction} --out r.csv", capsys)
        with open("r.csv", newline="") as file:
            names, *lines = csv.reader(file)
        assert names == ([f"class_{c}" for c in range(4)] if reduction == "terms" else [record["loss"]])
        # Exactly, and not only once it is rounded to the dtype again.
        np.testing.assert_array_equal(np.array(lines, float).reshape(expected.shape), expected)
    assert {command.split()[0] for command in calls} == set(losses.__all__)


def test_columns_of_a_table_say_what_they_are(here, capsys):
    np.save("cube.npy", np.zeros((2, 3, 4)))
    for command, names in (
        ("x.npy y.npy --reduction terms --axis 1", [f"class_{c}" for c in range(4)]),
        ("x.npy y.npy --reduction terms --axis 0", [f"sample_{c}" for c in range(4)]),
        ("cube.npy cube.npy --reduction none", [f"sample_{c}" for c in range(3)]),
    ):
        result_of(f"loss js_div {command} --out r.csv", capsys)
        with open("r.csv", newline="") as file:
            assert next(csv.reader(file)) == names


def helps():
    commands = ["", "loss", "explain", "info", "demo", *(f"loss {name}" for name in cli.SUMMARIES)]
    return [f"{command} --help".strip() for command in commands]


@pytest.mark.parametrize("command", helps())
def test_help_has_the_statuses_and_examples_that_run(more, capsys, monkeypatch, command):
    text = result_of(command, capsys)
    for status in ("0 ", "1 ", "2 ", "3 ", "70", "130, 143"):
        assert re.search(rf"^  {status} ", text, re.M)
    lines = re.findall(r"^  xent (.*)$", text[text.index("examples:") :], re.M)
    assert lines
    for line in lines:
        if line == "demo":  # has tests of its own, and takes seconds
            continue
        line, _, source = line.partition(" < ")
        if source:
            with open(source, "rb") as file:
                monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(file.read())))
            line = line.replace("--out -", "--out r.csv")  # what goes to a descriptor, capsys does not see
        result_of(line, capsys)


# ---- a wrong answer without a word ----


def test_labels_as_floats_are_refused(more, capsys):
    np.save("square.npy", 3 * np.eye(4))
    np.save("floats.npy", np.arange(4.0))
    np.save("labels.npy", more["labels"].astype(float))
    for command in ("loss cross_entropy square.npy floats.npy", CE):
        assert "target.astype(int)" in complaint(command, capsys)
        assert "target[None, :]" in complaint(command, capsys)
    for command in (
        "loss nll x.npy labels.npy",
        "loss distillation x.npy y.npy labels.npy --temperature 1 --alpha .5",
    ):
        assert "labels.astype(int)" in complaint(command, capsys)
    for loss, operand in (("kl_div", "target"), ("js_div", "other_logits"), ("binary_cross_entropy", "target")):
        assert f"{operand}[None, :]" in complaint(f"loss {loss} square.npy floats.npy", capsys)
    np.save("row.npy", np.full((1, 4), 0.25))
    result_of("loss cross_entropy square.npy row.npy", capsys)


def test_labels_where_probabilities_belong_are_refused(here, capsys):
    np.save("square.npy", np.eye(4))
    np.save("ints.npy", np.arange(4))
    for loss in ("kl_div", "js_div"):
        assert "Labels are for cross_entropy." in complaint(f"loss {loss} square.npy ints.npy", capsys)
    assert "see cross_entropy" in complaint("loss binary_cross_entropy square.npy ints.npy", capsys)


def test_the_command_refuses_in_the_words_of_the_losses(here, capsys):
    """One rule for both: what is said is what the function says, with options as they are typed, and files."""
    x, _, labels = here
    bad = {
        "floats": labels.astype(float),
        "names": np.array(["a", "b", "c"] * 10),
        "large": labels + 4,
        "short": x[:29],
        "narrow": x[:, :3],
        "counts": np.arange(120.0).reshape(30, 4),
        "column": labels[:, None],
        "row": np.full(4, 0.25),
        "mask": labels > 1,
        "zero": np.zeros(30),
    }
    for name, array in bad.items():
        np.save(f"{name}.npy", array)
    arrays = bad | {"x": x, "labels": labels}
    flags = {
        "sample_weight": "--sample-weight",
        "where": "--where",
        "temperature": "--temperature",
        "weight": "--weight",
    }
    calls = [("nll", "x", second, {}) for second in ("floats", "names", "large", "short", "column", "row")]
    calls += [("cross_entropy", "x", second, {}) for second in bad if second != "mask"]
    calls += [
        (f, "x", second, {}) for f in ("kl_div", "js_div") for second in ("floats", "short", "narrow", "row", "labels")
    ]
    calls += [("kl_div", "x", "counts", {}), ("distillation", "x", "narrow", {"temperature": "2"})]
    calls += [("binary_cross_entropy", "x", second, {}) for second in ("floats", "labels", "names", "narrow")]
    calls += [("cross_entropy", "x", "labels", {"where": "mask"}), ("kl_div", "x", "x", {"temperature": "zero"})]
    calls += [("nll", "x", "labels", {option: "row"}) for option in ("where", "sample_weight")]
    calls += [("nll", "x", "labels", {"weight": "labels"}), ("nll", "x", "labels", {"axis": "2"})]
    for loss, first, second, options in calls:
        with pytest.raises((TypeError, ValueError, IndexError)) as caught:
            getattr(losses, loss)(
                arrays[first],
                arrays[second],
                **{
                    k: float(v) if k == "temperature" and v not in arrays else int(v) if k == "axis" else arrays[v]
                    for k, v in options.items()
                },
            )
        said = str(caught.value).removeprefix(f"{loss}: ").replace("(axis=", "(--axis=")
        for option in options:
            said = re.sub(rf"^{option}\b", f"--{option.replace('_', '-')}", said)
        typed = " ".join(f"{flags.get(k, '--' + k)} {v + '.npy' if v in arrays else v}" for k, v in options.items())
        err = complaint(f"loss {loss} {first}.npy {second}.npy {typed}", capsys)
        assert err.startswith(f"xent: loss {loss}: {' '.join(said.split())} ("), (err, said)
        for name in (first, second, *(v for v in options.values() if v in arrays)):
            assert f" {name}.npy" in err


def test_a_mask_of_rows_is_not_stretched_over_the_classes(here, capsys):
    square = 3 * np.eye(4)
    np.save("square.npy", square)
    np.save("labels.npy", np.arange(4))
    mask = np.array([True, False, True, True])
    np.save("mask.npy", mask)
    command = "loss cross_entropy square.npy labels.npy --where mask.npy"
    assert "mask[:, None]" in complaint(command, capsys)
    np.save("mask.npy", mask[:, None])
    kept = np.arange(4)[mask]
    assert result_of(command, capsys) == f"{losses.cross_entropy(square[kept], kept)!s}\n"


def nan_line(command, capsys):
    status, out, err = run(command, capsys)
    assert status == 1
    assert out
    assert err.startswith("xent: loss ")
    assert err.count("\n") == 1
    return err


def test_a_nan_comes_with_its_reason(here, capsys):
    x, y, _ = here
    at = tuple(np.argwhere(y < 0)[0].tolist())
    err = nan_line("loss kl_div x.npy y.npy", capsys)
    assert f"y.npy was taken as probabilities and holds {y[at]!s} at {at};" in err
    assert "--target-kind logits" in err
    changed = x.copy()
    changed[17, 2] = np.nan
    np.save("z.npy", changed)
    err = nan_line("loss kl_div z.npy y.npy --target-kind logits --reduction none", capsys)
    assert "1 of 30 values are NaN: the first is row 17: z.npy holds NaN at (17, 2)" in err
    changed[17, 2] = np.inf
    np.save("z.npy", changed)
    assert "the result is NaN: the first is row 17: z.npy holds +inf at (17, 2)" in nan_line(
        "loss cross_entropy z.npy labels.npy", capsys
    )
    changed[17] = -np.inf
    np.save("z.npy", changed)
    assert "row 17: z.npy holds -inf in every class" in nan_line("loss js_div y.npy z.npy", capsys)
    np.save("labels.npy", np.full(30, 3))
    assert "nothing to divide by" in nan_line(f"{CE} --ignore-index 3", capsys)
    # What does not count is not the reason.
    changed = x.copy()
    changed[:12] = np.nan
    changed[12, 1] = np.nan
    changed[20, 0] = np.inf
    np.save("z.npy", changed)
    labels = np.zeros(30, int)
    labels[:12] = 3
    where = np.ones((30, 4), bool)
    where[12, 1] = False
    np.save("labels.npy", labels)
    np.save("where.npy", where)
    command = "loss cross_entropy z.npy labels.npy --ignore-index 3 --where where.npy"
    assert "row 20: z.npy holds +inf at (20, 0)" in nan_line(command, capsys)
    assert "row 12: z.npy holds NaN at (12, 1)" in nan_line(command.partition(" --where")[0], capsys)
    weights = np.ones(30)
    weights[4] = np.nan
    np.save("weights.npy", weights)
    assert "row 4: weights.npy holds NaN at (4,)" in nan_line(f"{CE} --sample-weight weights.npy", capsys)
    np.save("one.npy", np.array([0.5, np.nan]))
    np.save("label.npy", np.array(0))
    assert run("loss nll one.npy label.npy", capsys)[:2] == (0, "-0.5\n")
    np.save("label.npy", np.array(1))
    assert "the result is NaN: one.npy holds NaN at (1,)" in nan_line(
        "loss nll one.npy label.npy --weight one.npy", capsys
    )
    np.save("z.npy", np.moveaxis(changed.reshape(5, 6, 4), -1, 0))
    np.save("labels.npy", np.full((5, 6), 1))
    err = nan_line("loss cross_entropy z.npy labels.npy --axis 0 --reduction per_class", capsys)
    assert "row (0, 0): z.npy holds NaN at (0, 0, 0)" in err


def test_counts_as_probabilities_are_refused(more, capsys):
    np.save("counts.npy", np.arange(120.0).reshape(30, 4))
    status, _, err = run("loss kl_div x.npy counts.npy", capsys)
    assert status == 2
    assert "counts.sum" in err


def test_operands_that_look_like_something_else_are_noted(more, capsys):
    np.save("uniform.npy", np.full((30, 4), 0.25, np.float32))
    for command, words in {
        "loss kl_div probs.npy y.npy --target-kind logits": "probs.npy, taken as logits, looks like probabilities",
        "loss kl_div x.npy probs.npy --target-kind logits": "probs.npy, taken as logits, looks like probabilities",
        "loss js_div x.npy probs.npy": "probs.npy, taken as logits, looks like probabilities",
        "loss distillation x.npy probs.npy --temperature 1": "probs.npy, taken as logits, looks like probabilities",
        "loss cross_entropy x.npy y.npy": "y.npy, taken as probabilities, holds -",
        "loss kl_div x.npy y.npy --target-kind log_probs": "y.npy, taken as log-probabilities, has a row",
        "loss nll x.npy labels.npy": "x.npy, taken as log-probabilities, has a row",
    }.items():
        status, out, err = run(command, capsys)
        assert status == 0
        assert float(out) == float(out)
        assert err.startswith(f"xent: {' '.join(command.split()[:2])}: note: {words}")
        assert err.count("\n") == 1
    for command in (
        "loss kl_div x.npy probs.npy",
        "loss kl_div log_probs.npy log_probs.npy --target-kind log_probs",
        "loss kl_div log_probs.npy uniform.npy",
        "loss nll log_probs.npy labels.npy",
    ):
        result_of(command, capsys)


def test_a_result_with_nan_is_written_all_the_same(here, capsys):
    x, y, _ = here
    status, _, err = run("loss kl_div x.npy y.npy --reduction none --out r.npy", capsys)
    assert status == 1
    assert "probabilities" in err
    np.testing.assert_array_equal(np.load("r.npy"), losses.kl_div(x, y, reduction="none"))


# ---- files ----


def test_names_with_colons_and_archives_of_any_name(here, capsys):
    x, y, _ = here
    expected = f"{losses.kl_div(x, y, target_kind='logits')!s}\n"
    shutil.copy("all.npz", "run.zip")
    shutil.copy("all.npz", "run")
    shutil.copy("y.npy", "y:1.npy")
    np.savez("a:b.npz", **{"y:1": y})
    for target in ("run.zip:y", "run:y", "y:1.npy", "a:b.npz:y:1", "./run.zip:y"):
        assert result_of(KL.format(target), capsys) == expected
    for target in ("run.zip", "run", "run.zip:z"):
        assert "x, y, labels" in complaint(KL.format(target), capsys)
    assert "nope.zip: No such file" in complaint(KL.format("nope.zip:y"), capsys)


def test_bfloat16(here, capsys):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x, y, _ = here
    small = x.astype(ml_dtypes.bfloat16)
    np.save("b.npy", small)
    np.savez("b.npz", small)
    assert np.load("b.npy").dtype == "V2"
    for name in ("b.npy", "b.npz"):
        command = f"loss kl_div {name} y.npy --target-kind logits"
        assert "--dtype bfloat16" in complaint(command, capsys)
        out = result_of(f"{command} --dtype bfloat16", capsys)
        assert out == f"{losses.kl_div(small, y, target_kind='logits')!s}\n"
    assert "--dtype bfloat16" in complaint("explain b.npy y.npy", capsys)
    expected = losses.cross_entropy(small, here[2], reduction="none")
    for suffix in ("npy", "json", "csv"):
        result_of(f"loss cross_entropy b.npy labels.npy --dtype bfloat16 --reduction none --out r.{suffix}", capsys)
    np.testing.assert_array_equal(np.load("r.npy").view(expected.dtype), expected)
    np.testing.assert_array_equal(np.loadtxt("r.csv", skiprows=1), expected.astype(float))
    with open("r.json") as file:
        np.testing.assert_array_equal(json.load(file)["value"], expected.astype(float))


def test_extreme_values_are_written_in_full(here, capsys):
    values = np.array([0.1, 1 / 3, 5e-324, 1.7976931348623157e308, np.inf, np.pi])
    np.save("log.npy", -values[:, None])
    np.save("labels.npy", np.zeros(6, int))
    for suffix in ("csv", "json"):
        result_of(f"loss nll log.npy labels.npy --reduction none --out r.{suffix}", capsys)
    with open("r.csv") as file:
        assert [float(line) for line in file.read().splitlines()[1:]] == values.tolist()
    with open("r.json") as file:
        assert [float(value) for value in json.load(file)["value"]] == values.tolist()


def test_a_terms_table_is_printed_in_full(here, capsys):
    x, y, _ = here
    out = result_of(f"{KL.format('y.npy')} --reduction terms", capsys)
    shown = np.array(re.findall(r"-?\d+\.\d+(?:e[+-]?\d+)?", out), np.float32)
    terms = losses.kl_div(x, y, target_kind="logits", reduction="terms")
    np.testing.assert_array_equal(shown, np.concatenate([terms[:3], terms[-3:]]).reshape(-1))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("reduction", ["none", "terms"])
def test_blocks_of_rows_give_the_bits_of_the_whole(here, capsys, monkeypatch, axis, reduction):
    rng = np.random.default_rng(11)
    logits = rng.normal(size=(9, 6, 7))
    batch = tuple(np.delete(logits.shape, axis))
    labels = rng.integers(0, logits.shape[axis], batch)
    where = rng.random((1, 6, 7)) < 0.9
    arrays = {"logits": logits, "labels": labels, "where": where, "weight": rng.random(logits.shape[axis])}
    arrays |= {"target": rng.normal(size=(9, 6, 7)), "per_row": rng.random(batch) + 0.5, "last": rng.random(batch[1:])}
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    calls = {
        "cross_entropy logits.npy labels.npy --where where.npy --weight weight.npy --sample-weight last.npy": (
            losses.cross_entropy(
                logits, labels, where=where, weight=arrays["weight"], sample_weight=arrays["last"], axis=axis,
                reduction=reduction,
            )
        ),
        "kl_div logits.npy target.npy --target-kind logits --temperature per_row.npy": losses.kl_div(
            logits, arrays["target"], target_kind="logits", temperature=arrays["per_row"], axis=axis,
            reduction=reduction,
        ),
    }  # fmt: skip
    seen = []
    evaluate = cli.call_loss
    monkeypatch.setattr(cli, "call_loss", lambda *args: seen.append(args) or evaluate(*args))
    monkeypatch.setattr(cli, "BLOCK", logits.nbytes // 4)
    for command, expected in calls.items():
        seen.clear()
        result_of(f"loss {command} --axis {axis} --reduction {reduction} --out r.npy", capsys)
        np.testing.assert_array_equal(np.load("r.npy"), expected, strict=True)
        assert (len(seen) > 2) == (reduction == "none" or axis > 0)


def test_errors_in_a_block_name_the_place_in_the_file(here, capsys, monkeypatch):
    x, _, labels = here
    labels[23] = 7
    np.save("labels.npy", labels)
    whole = complaint(f"{CE} --reduction none", capsys)
    assert "label 7 at 23" in whole
    monkeypatch.setattr(cli, "BLOCK", 64)
    assert complaint(f"{CE} --reduction none", capsys) == whole
    np.save("short.npy", np.zeros((29, 4), np.float32))
    assert "29" in complaint(f"{KL.format('short.npy')} --reduction none", capsys)
    changed = x.copy()
    changed[17, 2] = np.nan
    np.save("z.npy", changed)
    monkeypatch.setattr(cli, "SCAN", 8)
    assert "(17, 2)" in nan_line("loss js_div z.npy y.npy --reduction none", capsys)


def test_an_error_after_the_first_block_leaves_the_earlier_file(here, capsys, monkeypatch):
    labels = here[2]
    result_of(f"{CE} --reduction none --out r.npy", capsys)
    with open("r.npy", "rb") as file:
        earlier = file.read()
    labels[29] = 7
    np.save("labels.npy", labels)
    monkeypatch.setattr(cli, "BLOCK", 64)
    complaint(f"{CE} --reduction none --out r.npy", capsys)
    with open("r.npy", "rb") as file:
        assert file.read() == earlier
    assert not [name for name in os.listdir() if name.endswith(".part")]


def test_a_fault_of_its_own_is_a_line_too(here, capsys, monkeypatch):
    def broken(*args):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(cli, "in_blocks", broken)
    status, _, err = run(CE, capsys)
    assert (status, err) == (70, "xent: a fault of xent, please report it: ZeroDivisionError: oh\n")


@pytest.mark.filterwarnings("always")
def test_a_warning_is_a_line_too(here, capsys, monkeypatch):
    evaluate = cli.in_blocks

    def warns(*args):
        warnings.warn("oh\nno", stacklevel=1)
        return evaluate(*args)

    monkeypatch.setattr(cli, "in_blocks", warns)
    assert run(CE, capsys)[2] == "xent: warning: oh\\nno\n"


def test_damaged_headers_and_bytes_are_one_line(here, capsys):
    """Whatever stands in a file: a result, or one line."""
    rng = np.random.default_rng(12)
    with open("y.npy", "rb") as file:
        good = file.read()
    header = b"{'descr': '%s', 'fortran_order': %s, 'shape': %s, }"
    headers = [
        header % (b"<f4", b"False", shape)
        for shape in (
            b"(10000000000000, 4)", b"(-30, -4)", b"(99999999999999999999999, 4)", b"(30, 4.0)", b"30", b"()", b"None",
            b"(" * 500 + b")" * 500, b"(0, 4)", b"(30, 0)", b"[30, 4]", b"(True, 4)", b"(30, 2**70)",
        )
    ]  # fmt: skip
    headers += [header % (descr, b"False", b"(30, 4)") for descr in (b"|O", b"<x9", b"<f16", b"<M8[s]", b"|V0", b"|S0")]
    headers += [b"", b"0" * 70000, b"{'a': 1}", b"\xff" * 40, header % (b"<f4", b"7", b"(30, 4)")]
    files = []
    for text in headers:
        length = len(text) + 1
        start = b"\x93NUMPY\x02\x00" + length.to_bytes(4, "little") + text + b"\n"
        files.append(start + good[128:])
    files.append(b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + good[128:])
    files.append(b"\x93NUMPY\x09\x00" + good[8:])
    with open("one.npz", "rb") as file:
        archive = file.read()
    for source in (good, archive):
        for _ in range(150):
            changed = bytearray(source)
            for at in rng.integers(0, min(len(source), 200), rng.integers(1, 4)):
                changed[at] = rng.integers(256)
            files.append(bytes(changed[: rng.integers(1, len(source))] if rng.random() < 0.3 else changed))
    statuses = set()
    for data in files:
        write("f.npy", data)
        status, _, err = run(KL.format("f.npy"), capsys)
        statuses.add(status)
        assert status in (0, 1, 2), err
        assert err.count("\n") == (status != 0)
        assert len(err) < 500
    assert statuses >= {0, 2}


def test_ctrl_c_is_heard_while_a_kernel_runs():
    begun, end = threading.Event(), threading.Event()

    def kernel():
        begun.set()
        end.wait(60)

    def press():
        begun.wait(60)
        signal.raise_signal(signal.SIGINT)  # for this thread, and not the one that waits

    presser = threading.Thread(target=press)
    presser.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        cli.interruptible(kernel)
    assert time.monotonic() - start < 30
    end.set()
    presser.join()
