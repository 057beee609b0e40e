"""Folders are replaced in one step, and what a killed process left is tidied up."""

import subprocess
import sys
from pathlib import Path

import pytest

from dreamset.core import files
from dreamset.core.files import recover, replaced_folder


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


def content(path: Path) -> str:
    return (path / "file").read_text()


def names(path: Path) -> list[str]:
    return sorted(item.name for item in path.iterdir())


def replace(path: Path) -> None:
    with replaced_folder(path) as new:
        (new / "file").write_text("new")


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_is_replaced_and_nothing_stays_beside_it(
    exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanges:
        monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    replace(folder(tmp_path / "store", "old"))
    assert content(tmp_path / "store") == "new"
    assert names(tmp_path) == ["store"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges names")
def test_the_name_always_has_a_folder_while_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path / "store", "old")
    seen = []
    monkeypatch.setattr(files, "_remove", lambda left: seen.append((content(path), content(left))))
    monkeypatch.setattr(Path, "rename", lambda *_: pytest.fail("a rename leaves a moment without a folder"))
    replace(path)
    assert seen == [("new", "old")]


def test_a_folder_that_was_moved_aside_is_put_back(tmp_path: Path) -> None:
    folder(tmp_path / ".store.old-0123abcd", "old")
    folder(tmp_path / ".store.new-0123abcd", "half")
    recover(tmp_path / "store")
    assert content(tmp_path / "store") == "old"
    assert names(tmp_path) == ["store"]


def test_leftovers_go_and_everything_else_stays(tmp_path: Path) -> None:
    kept = {
        "store",
        ".other.new-0123abcd",
        ".store.lock",
        ".store.new-name",
        "store.new-0123abcd",
        ".store.2.new-0123abcd",
    }
    for name in (*kept, ".store.old-0123abcd", ".store.new-0123abcd"):
        folder(tmp_path / name, name)
    recover(tmp_path / "store")
    assert set(names(tmp_path)) == kept
    assert content(tmp_path / "store") == "store"


def test_a_name_with_special_characters_is_no_pattern(tmp_path: Path) -> None:
    folder(tmp_path / ".a.new-0123abcd", "a")
    folder(tmp_path / ".[ab].new-0123abcd", "ab")
    recover(tmp_path / "[ab]")
    assert names(tmp_path) == [".a.new-0123abcd"]


KILLED = """
import os, signal, sys
from pathlib import Path
from dreamset.core import files
if sys.argv[2] == "plain":
    files._exchanged = lambda *_: False
point = int(sys.argv[3])
calls = 0
def traced(frame, event, argument):
    global calls
    if frame.f_code.co_filename == files.__file__ and event == "line":
        calls += 1
        if calls == point:
            os.kill(os.getpid(), signal.SIGKILL)
    return traced
sys.settrace(traced)
with files.replaced_folder(Path(sys.argv[1])) as new:
    (new / "file").write_text("new")
"""


@pytest.mark.parametrize("way", ["exchange", "plain"])
def test_a_kill_in_any_line_leaves_the_old_or_the_new_folder(way: str, tmp_path: Path) -> None:
    endings = []
    for point in range(1, 200, 7):
        path = folder(tmp_path / f"store{point}", "old")
        code = subprocess.run([sys.executable, "-c", KILLED, path, way, str(point)], check=False).returncode
        recover(path)
        endings.append(content(path))
        assert [name for name in names(tmp_path) if f"store{point}" in name.split(".")] == [path.name]
        if code == 0:
            break
    assert endings == sorted(endings, reverse=True)  # old, then new
    assert {"old", "new"} == set(endings)
