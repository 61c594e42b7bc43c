"""The command as a process: full disks, closed descriptors, pipes, links, permissions, signals."""

import contextlib
import gzip
import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest

import xent
from xent import losses

XENT = [sys.executable, "-m", "xent"]
# A binary format and a text; the other two are like them.
SUFFIXES = ["npy", "json", *(pytest.param(s, marks=pytest.mark.slow) for s in ("npz", "csv"))]
KL = "loss kl_div x.npy y.npy --target-kind logits"
ROWS = f"{KL} --reduction none"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with logits x and y of 20,000 rows, so that a result is larger than any buffer."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 20000, 4))
    np.save("x.npy", x)
    np.save("y.npy", y)
    return x, y


def run(command, shell="", before="true", **options):
    """`xent command` by way of a shell, as it is typed; `shell` follows it. Limits and the like are set by the shell
    `before`: Python must not fork by itself in a process in which other libraries have threads."""
    options = {"capture_output": True, "timeout": 120, "cwd": os.getcwd(), **options}
    environment = {**os.environ, **options.pop("env", {})}
    line = f"{before} && {shlex.join(options.pop('xent', XENT))} {command} {shell}"
    done = subprocess.run(["bash", "-c", line], env=environment, **options)
    for stream in (done.stdout, done.stderr):
        assert b"Traceback" not in (stream or b"")
        assert b"Exception ignored" not in (stream or b"")
    return done


def one_line(done, status, *words):
    assert done.returncode == status
    err = done.stderr.decode()
    assert err.startswith("xent: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    return err


def left():
    return sorted(name for name in os.listdir() if name.endswith(".part"))


def earlier(name):
    with open(name, "wb") as file:
        file.write(b"earlier")


def content(name):
    with open(name, "rb") as file:
        return file.read()


# ---- a disk that fills up, a process that is stopped: what was there is still there ----


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_grows_too_large_is_an_error(here, suffix):
    earlier(f"r.{suffix}")

    # bash counts in KiB
    done = run(f"{ROWS} --out r.{suffix}", before="ulimit -f 48")
    one_line(done, 3, f"--out r.{suffix}", "File too large")
    assert content(f"r.{suffix}") == b"earlier"
    assert left() == []


@pytest.fixture
def small_disk(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path], capture_output=True)
    if mounted.returncode:
        pytest.skip("waits for the right to mount a file system")
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_an_error(here, small_disk, suffix):
    path = small_disk / f"r.{suffix}"
    earlier(path)
    one_line(run(f"{ROWS} --out {path}"), 3, f"--out {path}", "No space left on device")
    assert content(path) == b"earlier"
    assert os.listdir(small_disk) == [path.name]
    # What fits is written there.
    assert run(f"{KL} --out {path}").returncode == 0
    assert content(path) != b"earlier"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_dev_full_is_an_error(here, suffix):
    one_line(run(f"{ROWS} --out /dev/full --format {suffix}"), 3, "/dev/full", "No space left on device")
    one_line(run(f"{KL} --out /dev/full --format {suffix}"), 3, "/dev/full", "No space left on device")


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "Terminated"), (signal.SIGHUP, "Hangup")]
)
def test_a_signal_leaves_the_earlier_file(here, number, words):
    rng = np.random.default_rng(4)
    np.save("x.npy", rng.normal(size=(400000, 8)))  # seconds of JSON
    earlier("r.json")
    command = [*XENT, "loss", "js_div", "x.npy", "x.npy", "--reduction", "terms", "--out", "r.json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not any(os.path.getsize(name) for name in left()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    # By the signal itself: a shell's loop ends with it.
    assert (process.returncode, out, err.decode()) == (-number, b"", f"xent: {words}\n")
    assert content("r.json") == b"earlier"
    assert left() == []


def test_ctrl_c_while_a_pipe_is_waited_for(here):
    os.mkfifo("pipe")
    process = subprocess.Popen([*XENT, *shlex.split("loss js_div pipe y.npy")], stderr=subprocess.PIPE)
    # The other end opens once the command has come to its file.
    with open("pipe", "wb"):
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (-signal.SIGINT, b"xent: interrupted\n")


@pytest.mark.parametrize(
    "command", [[os.path.join(sysconfig.get_path("scripts"), "xent")], XENT, [sys.executable, "-m", "xent.config"]]
)
def test_ctrl_c_while_numpy_is_imported(tmp_path, command):
    """What the command imports first heeds it: here a NumPy that takes its time."""
    (tmp_path / "numpy.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [*command, "info"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert process.stdout.readline() == b"importing\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (-signal.SIGINT, b"", b"xent: interrupted\n")


def test_only_the_command_heeds_ctrl_c_by_itself(tmp_path):
    """A program that imports xent keeps Python's own handler, be it a module that was started with -m."""
    (tmp_path / "own.py").write_text(
        "import signal, xent\nprint(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    )
    for arguments in (["own.py"], ["-m", "own"], ["-m", "own", "-m", "xent"], ["-c", "import own", "xent"]):
        done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, check=True)
        assert done.stdout == b"True\n", arguments


def test_a_signal_that_is_ignored_stays_so(here):
    done = run(f"{KL} --json", before="trap '' INT")
    assert done.returncode == 0
    source = (
        "import signal; from xent import cli; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        "cli.as_process(lambda: 0); print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    )
    assert subprocess.run([sys.executable, "-c", source], capture_output=True, check=True).stdout == b"True\n"


# ---- what --out names ----


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_permissions_are_an_ordinary_files(here):
    for mask in (0o022, 0o077, 0o002):
        with contextlib.suppress(FileNotFoundError):
            os.unlink("r.npy")
        done = run(f"{ROWS} --out r.npy", before=f"umask {mask:o}")
        assert done.returncode == 0
        assert mode("r.npy") == 0o666 & ~mask
    os.chmod("r.npy", 0o640)
    assert run(f"{ROWS} --out r.npy").returncode == 0
    assert mode("r.npy") == 0o640


def test_owner_stays_where_root_writes(here):
    if os.geteuid() != 0:
        pytest.skip("waits for root")
    earlier("r.npy")
    os.chown("r.npy", 12345, 54321)
    os.chmod("r.npy", 0o600)
    assert run(f"{ROWS} --out r.npy").returncode == 0
    status = os.stat("r.npy")
    assert (status.st_uid, status.st_gid, mode("r.npy")) == (12345, 54321, 0o600)


def test_what_may_not_be_read_or_written(here):
    refused = XENT
    if os.geteuid() == 0:
        # Root without the capability to pass over permissions is like anyone else.
        refused = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *XENT]
        if shutil.which("setpriv") is None or subprocess.run([*refused, "--version"], capture_output=True).returncode:
            pytest.skip("waits for setpriv, where it may give capabilities up")
    earlier("r.npy")
    os.chmod("r.npy", 0o444)
    one_line(run(f"{ROWS} --out r.npy", xent=refused), 2, "--out r.npy: Permission denied")
    assert content("r.npy") == b"earlier"
    os.mkdir("closed", 0o555)
    one_line(run(f"{ROWS} --out closed/r.npy", xent=refused), 2, "--out closed/r.npy: Permission denied in")
    os.chmod("x.npy", 0)
    one_line(run(KL, xent=refused), 2, "x.npy: Permission denied")


def test_a_symbolic_link_stays_one(here):
    x, y = here
    os.mkdir("elsewhere")
    earlier("elsewhere/there.npy")
    os.symlink("elsewhere/there.npy", "link.npy")
    os.symlink("elsewhere/new.npy", "dangling.npy")
    expected = losses.kl_div(x, y, target_kind="logits", reduction="none")
    for name in ("link.npy", "dangling.npy"):
        assert run(f"{ROWS} --out {name}").returncode == 0
        assert os.path.islink(name)
        np.testing.assert_array_equal(np.load(name), expected)
    assert sorted(os.listdir("elsewhere")) == ["new.npy", "there.npy"]
    os.symlink("x.npy", "input.npy")
    one_line(run(f"{ROWS} --out input.npy"), 2, "is one of the inputs")
    os.symlink("round.npy", "round.npy")
    one_line(run(f"{ROWS} --out round.npy"), 2, "Too many levels")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_pipe_as_out(here, suffix):
    x, y = here
    expected = losses.kl_div(x, y, target_kind="logits", reduction="none")
    os.mkfifo(f"pipe.{suffix}")
    done = run(f"{ROWS} --out pipe.{suffix}", f"& cat pipe.{suffix} > got.{suffix}; wait $!")
    assert done.returncode == 0, done.stderr
    assert stat.S_ISFIFO(os.stat(f"pipe.{suffix}").st_mode)
    for shell in (f"--out /dev/stdout --format {suffix} > also.{suffix}", f"--out - --format {suffix} > also.{suffix}"):
        done = run(ROWS, shell)
        assert (done.returncode, done.stderr) == (0, b"")
    with open(f"captured.{suffix}", "wb") as file:
        file.write(run(f"{ROWS} --out /dev/stdout --format {suffix}").stdout)
    for name in ("got", "also", "captured"):
        name = f"{name}.{suffix}"
        if suffix == "json":
            got = np.array(json.loads(content(name))["value"])
        elif suffix == "csv":
            got = np.loadtxt(name, skiprows=1)
        else:
            got = np.load(name)
            got = got["loss"] if suffix == "npz" else got
        np.testing.assert_array_equal(got, expected)


def test_standard_output_is_added_to_and_not_replaced(here):
    assert run(
        f"{KL} --out /dev/stdout --format csv", "> log.csv && " + shlex.join([*XENT, "--version"]) + " >> log.csv"
    )
    assert run(f"{KL} --out /dev/stdout --format csv", ">> log.csv").returncode == 0
    lines = content("log.csv").decode().splitlines()
    assert len(lines) == 5
    assert lines[2].startswith("xent ")
    assert lines[:2] == lines[3:]


def test_a_device_is_written_and_not_replaced(here):
    done = run(f"{ROWS} --out /dev/null --format npy")
    assert (done.returncode, done.stderr) == (0, b"")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


# ---- pipes as input ----


def test_pipes_as_input(here):
    x, y = here
    expected = f"{losses.kl_div(x, y, target_kind='logits')!s}\n".encode()
    np.savez("all.npz", x=x, y=y)
    kind = "--target-kind logits"
    for command, shell in {
        f"loss kl_div <(cat x.npy) y.npy {kind}": "",
        f"loss kl_div <(cat x.npy) <(cat y.npy) {kind}": "",
        f"loss kl_div x.npy <(cat all.npz):y {kind}": "",
        f"loss kl_div - y.npy {kind}": "< x.npy",
        f"loss kl_div /dev/stdin y.npy {kind}": "< x.npy",
        # A byte, and the rest later.
        f"loss kl_div x.npy - {kind}": "< <(head -c 1 y.npy; sleep .2; tail -c +2 y.npy)",
    }.items():
        done = run(command, shell)
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, b"")
    os.mkfifo("pipe.npy")
    done = run(f"loss kl_div pipe.npy y.npy {kind}", "& cat x.npy > pipe.npy; wait $!")
    assert (done.returncode, done.stdout) == (0, expected)
    one_line(run(f"loss kl_div x.npy - {kind}", "< /dev/null"), 2, "standard input: is empty")
    one_line(run(f"loss kl_div x.npy - {kind}", "<&-"), 2, "standard input: is closed")
    one_line(run(f"loss kl_div x.npy <(head -c 1000 y.npy) {kind}"), 2, "damaged")
    one_line(run(f"loss kl_div x.npy <(echo hello) {kind}"), 2, "not a .npy or .npz file")


def test_unreadable_files(here):
    one_line(run("loss kl_div nope.npy y.npy"), 2, "nope.npy: No such file or directory")
    one_line(run("loss kl_div /proc/self/mem y.npy"), 2, "/proc/self/mem: Input/output error")
    one_line(run("loss kl_div . y.npy"), 2, ".: Is a directory")


# ---- closed and full standard streams, encodings, environment ----

COMMANDS = [KL, f"{ROWS} --json", "--help"]
MORE = [f"{KL} --json", "explain x.npy y.npy", "info", "info --json", "--version", "loss kl_div --help", "demo"]


@pytest.mark.parametrize("command", COMMANDS + [pytest.param(more, marks=pytest.mark.slow) for more in MORE])
def test_closed_and_full_output(here, command):
    one_line(run(command, ">&-"), 3, "standard output: is closed")
    if command != "demo":  # which computes for a second first
        one_line(run(command, "> /dev/full"), 3, "standard output: No space left on device")
        assert run(command, ">&- 2>&-").returncode == 3
        assert run(command, "> /dev/full 2> /dev/full").returncode == 3


def test_a_reader_that_goes(here):
    done = run(f"{ROWS} --json", "| head -c 10; exit ${PIPESTATUS[0]}")
    one_line(done, 3, "standard output: Broken pipe")
    done = run(f"{ROWS} --out /dev/stdout --format csv", "| head -c 10; exit ${PIPESTATUS[0]}")
    one_line(done, 3, "--out /dev/stdout: Broken pipe")


def test_errors_keep_their_status_where_nobody_hears_them(here):
    for shell in ("2>&-", "2> /dev/full"):
        done = run("loss kl_div nope.npy y.npy", shell)
        assert (done.returncode, done.stdout) == (2, b"")


def test_out_does_not_need_standard_output(here):
    assert run(f"{ROWS} --out r.npy", "<&- >&- 2>&-").returncode == 0
    assert len(np.load("r.npy")) == 20000


def test_names_that_the_terminal_lacks(here):
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    np.savez("ü.npz", **{"ä": here[0], "\x1b[31m\n": here[1]})
    done = run(f"{ROWS} --out ö.npy", env=ascii_only)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"\\xf6.npy: float64, shape (20000,)\n"
    one_line(run("loss kl_div ü.npz y.npy", env=ascii_only), 2, "\\xfc.npz", "\\xe4")
    assert "\x1b" not in one_line(run("loss kl_div ü.npz y.npy"), 2)
    # Bytes that are no UTF-8.
    done = run(f"{ROWS} --out $'\\xff.npy'")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\xff.npy" in os.listdir(b".")
    one_line(run("loss kl_div $'\\xfe\\n.npy' y.npy"), 2, "No such file")


@pytest.mark.parametrize("command", [KL, "explain x.npy y.npy", "info", "demo"])
def test_an_unknown_instruction_set(here, command):
    done = run(command, env={"XENT_ISA": "foo"})
    one_line(done, 2, "XENT_ISA=foo")
    assert done.stdout == b""


def test_standard_error_is_for_words_and_output_for_values(here):
    x, y = here
    done = run("loss kl_div x.npy y.npy")
    one_line(done, 1, "--target-kind logits")
    assert done.stdout == b"nan\n"
    done = run(KL)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (
        0, f"{losses.kl_div(x, y, target_kind='logits')!s}\n", b"",
    )  # fmt: skip


@pytest.mark.slow
def test_rows_in_blocks_need_no_memory_for_all(tmp_path, monkeypatch):
    """Operands and a result of 400 MB each, in a process that may hold 300."""
    monkeypatch.chdir(tmp_path)
    shape = (1 << 18, 384)
    for name in ("x.npy", "y.npy"):
        np.lib.format.open_memmap(name, "w+", np.float32, shape)  # zeros, that take no disk
    limit = f"ulimit -d {300 << 10}"  # KiB
    done = run("loss js_div x.npy y.npy --reduction terms --out r.npy", before=limit, env={"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    result = np.load("r.npy", mmap_mode="r")
    assert (result.shape, result.dtype) == (shape, np.float32)
    assert not result[::100000].any()


def test_the_commands_of_the_readme_run(tmp_path, monkeypatch):
    readme = Path(__file__).parents[1] / "README.md"
    section = readme.read_text(encoding="utf-8").partition("## On the command line")[2].partition("\n## ")[0]
    commands = section.split("```")[1].removeprefix("sh\n")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    student, teacher = rng.normal(size=(2, 10, 3))
    labels = rng.integers(0, 3, 10)
    for name, array in (("student", student), ("teacher", teacher), ("labels", labels)):
        np.save(f"{name}.npy", array)
    with open("teacher.npy", "rb") as file, gzip.open("teacher.npy.gz", "wb") as packed:
        packed.write(file.read())
    np.savez("run.npz", logits=student, labels=labels)
    script = f'set -eo pipefail\nxent() {{ {shlex.join(XENT)} "$@"; }}\n{commands}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    first = json.loads(done.stdout.splitlines()[0])
    assert first["value"] == losses.kl_div(student, teacher, target_kind="logits")
    expected = losses.cross_entropy(student, labels, ignore_index=-100, reduction="none")
    np.testing.assert_array_equal(np.loadtxt("losses.csv", skiprows=1), expected)


# ---- python -m xent.config ----


def test_config_says_what_is_wrong_in_a_line():
    config = [sys.executable, "-m", "xent.config"]
    for shell, status, words in (
        ("--libs >&-", 3, "standard output: is closed"),
        ("--libs > /dev/full", 3, "No space left on device"),
        ("--help > /dev/full", 3, "No space left on device"),
        ("--library", 2, "--library"),
        ("", 2, "say what is wanted"),
    ):
        done = subprocess.run(["bash", "-c", f"{shlex.join(config)} {shell}"], capture_output=True, timeout=60)
        one_line(done, status, words)


def test_config_without_its_files_is_a_line(tmp_path):
    source = f"import xent, sys; xent.get_library_dir = lambda: {str(tmp_path)!r}; from xent import config;"
    done = subprocess.run(
        [sys.executable, "-c", source + "sys.exit(config.main(['--libs']))"], capture_output=True, timeout=60
    )
    one_line(done, 2, f"{tmp_path}/pkgconfig/xent.pc: No such file or directory")
    assert xent.get_library_dir() != str(tmp_path)
