"""Two processes never write the same output at the same time."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline import locks
from dreamset.pipeline.locks import writing
from dreamset.pipeline.stages.table import STAGES, Stage

WRITER = """
import sys, time
from pathlib import Path
from dreamset.pipeline.locks import writing
with writing([Path(sys.argv[1])]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def writer(output: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the lock until its input ends."""
    command = [sys.executable, "-c", WRITER, str(output)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process


def test_the_second_writer_is_told_which_process_writes(tmp_path: Path) -> None:
    with writer(tmp_path / "store") as other, pytest.raises(UserError) as error, writing([tmp_path / "store"]):
        pass
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'store'} is being written by process {other.pid} on ")
    assert "for 0 min; wait until it has finished" in message


def test_other_outputs_are_free(tmp_path: Path) -> None:
    with writer(tmp_path / "store"), writing([tmp_path / "other", tmp_path / "store2"]):
        assert (tmp_path / ".other.lock").exists()


def test_a_killed_writer_leaves_no_lock(tmp_path: Path) -> None:
    with writer(tmp_path / "store") as other:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        assert (tmp_path / ".store.lock").exists()
        with writing([tmp_path / "store"]):
            pass


def test_no_file_remains(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), writing([tmp_path / "a/store", tmp_path / "b/card"]):
        raise RuntimeError
    assert not list((tmp_path / "a").iterdir())
    assert not list((tmp_path / "b").iterdir())


def test_a_failed_second_lock_releases_the_first(tmp_path: Path) -> None:
    with writer(tmp_path / "b"):
        with pytest.raises(UserError), writing([tmp_path / "a", tmp_path / "b"]):
            pass
        with writing([tmp_path / "a"]):
            pass


def test_a_lock_file_that_its_owner_removed_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [False, True]
    path = tmp_path / ".store.lock"
    monkeypatch.setattr(locks, "_is_at", lambda *_: answers.pop(0))
    with writing([tmp_path / "store"]):
        assert path.exists()
    assert not answers


def test_leftovers_are_tidied_up_under_the_lock(tmp_path: Path) -> None:
    (tmp_path / ".store.new-0123abcd").mkdir()
    with writing([tmp_path / "store"]):
        assert [item.name for item in tmp_path.iterdir()] == [".store.lock"]


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_every_stage_locks_what_it_writes(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []

    @contextmanager
    def recorded(outputs: Iterator[Path]) -> Iterator[None]:
        held.extend(outputs)
        raise UserError("stopped")
        yield

    monkeypatch.setattr(locks, "writing", recorded)
    monkeypatch.setattr(stage.settings, "of", lambda **_: None)  # other settings do not matter here
    with pytest.raises(UserError, match="stopped"):
        stage.run({key: str(tmp_path / key) for key in stage.writes})
    assert held == [tmp_path / key for key in stage.writes]
