"""The command line: what it prints, what it writes, and one line with status 2 for whatever is wrong."""

import json
import subprocess
import sys
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
        got = np.loadtxt("r.csv", delimiter=",")
    else:
        got = np.load(f"r{suffix}")
        got = got["loss"] if suffix == ".npz" else got
    np.testing.assert_array_equal(np.float32(got), expected)


def test_infinite_values_are_valid_json(here, capsys):
    np.save("x.npy", np.array([[0.0, -np.inf]]))
    np.save("labels.npy", np.array([1]))
    result_of(f"{CE} --reduction none --out r.json", capsys)
    with open("r.json") as file:
        assert json.load(file, parse_constant=pytest.fail)["value"] == ["inf"]


def test_a_long_result_shows_its_ends(here, capsys):
    lines = result_of(f"{CE} --reduction none", capsys).splitlines()
    assert lines[0] == "float32, shape (30,)"
    assert lines[11] == "..."
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
        "empty.npy": "not a .npy or .npz file",
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
    complaint(f"{KL.format('y.npy')} --axis 5", capsys)
    complaint(f"{CE} --ignore-index 99999999999999999999", capsys)


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
