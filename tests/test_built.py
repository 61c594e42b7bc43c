"""What is compiled once is compiled again when anything of it is another."""

import shutil
import threading

import built
import pytest

CC = ["cc"]
pytestmark = pytest.mark.skipif(shutil.which(CC[0]) is None, reason="needs cc")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setattr(built, "ROOT", tmp_path)
    monkeypatch.setattr(built, "KEPT", tmp_path / "build" / "tests")
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "a.c").write_text("int a;\n")
    return tmp_path / "sources"


def test_once_for_what_it_is_made_of(tree):
    made = []

    def build(name="lib", settings=("-O1",), compiler=CC):
        return built.directory(name, made.append, compiler=compiler, settings=settings, sources=[tree])

    first = build()
    assert build() == first
    assert made == [first]
    (tree / "build").mkdir()
    (tree / "build" / "a.o").write_text("what is built there is no source")
    assert build() == first
    assert build(name="lib-other").exists()
    assert first.exists()
    (tree / "a.c").write_text("int b;\n")
    second = build()
    assert build(settings=("-O2",)) not in (first, second)
    assert build(compiler=[*CC, "-DNDEBUG"]) != second
    assert len(made) == 5
    # Of each name the newest is kept.
    assert len(list(built.KEPT.glob("lib-????????????????"))) == 1


def test_what_was_not_finished_is_made_again(tree):
    def fail(directory):
        (directory / "half").touch()
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        built.directory("lib", fail, compiler=CC, sources=[tree])
    at = built.directory("lib", lambda d: (d / "all").touch(), compiler=CC, sources=[tree])
    assert sorted(f.name for f in at.iterdir()) == ["all", "whole"]


def test_whoever_comes_second_waits(tree):
    made, go = [], threading.Event()

    def slowly(directory):
        made.append(directory)
        go.wait(10)

    def build():
        found.append(built.directory("lib", slowly, compiler=CC, sources=[tree]))

    found = []
    both = [threading.Thread(target=build) for _ in range(2)]
    for thread in both:
        thread.start()
    go.set()
    for thread in both:
        thread.join()
    assert len(made) == 1
    assert found == made * 2
