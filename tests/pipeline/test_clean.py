"""``dreamset clean`` removes abandoned checkpoints, and nothing else."""

import os
import time
from pathlib import Path

import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline import cli
from dreamset.pipeline.tools import clean
from dreamset.pipeline.training.checkpoint import Checkpoint

DAY = 24 * 3600


def training(name: str, *, days: float) -> Path:
    folder = Path(".checkpoints") / name
    Checkpoint(folder).save({"update": 1})
    age(folder, days)
    return folder


def age(folder: Path, days: float) -> None:
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (time.time() - days * DAY,) * 2)


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    cli.main(["clean", *arguments])
    return capsys.readouterr().out


def test_only_old_trainings_are_listed_and_none_is_removed(capsys: pytest.CaptureFixture[str]) -> None:
    oldest, old, new = training("a", days=40), training("b", days=20), training("c", days=13)
    lines = run(capsys=capsys).splitlines()
    assert [line.split()[0] for line in lines[:-1]] == [str(oldest), str(old)]
    assert "last written 40 days ago" in lines[0]
    assert "--force" in lines[-1]
    assert oldest.exists()
    assert old.exists()
    assert new.exists()


def test_force_removes_what_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    old, new = training("a", days=20), training("b", days=1)
    assert "removed" in run("--force", capsys=capsys)
    assert not old.exists()
    assert new.exists()
    assert "nothing to remove" in run("--force", capsys=capsys)
    assert not run("--force", "--days", "0.5", capsys=capsys).startswith("nothing")
    assert not new.exists()


def test_one_new_file_keeps_a_training() -> None:
    folder = training("a", days=20)
    (folder / "1/state.sha256").touch()
    assert not clean.abandoned(Path(".checkpoints"), days=14)


@pytest.mark.parametrize("name", ["not_finite", "online"])
def test_what_a_training_leaves_without_a_checkpoint_counts(name: str) -> None:
    folder = Path(".checkpoints/a") / name
    folder.mkdir(parents=True)
    age(folder.parent, 20)
    assert [each.folder for each in clean.abandoned(Path(".checkpoints"), days=14)] == [folder.parent]


def test_another_folder_is_refused_and_stays(capsys: pytest.CaptureFixture[str]) -> None:
    results = Path("runs/world_model/model")
    results.mkdir(parents=True)
    age(Path("runs"), 20)
    with pytest.raises(SystemExit):
        cli.main(["clean", "runs", "--force"])
    assert "runs/world_model holds no checkpoint of a training; name the folder" in capsys.readouterr().err
    assert results.exists()


def test_a_missing_folder_has_nothing_and_a_negative_age_is_refused() -> None:
    assert clean.abandoned(Path("nowhere"), days=14) == []
    for days in (-1.0, float("nan")):
        with pytest.raises(UserError, match="allowed: 0 or more"):
            clean.abandoned(Path("nowhere"), days=days)


def test_a_training_that_was_killed_in_its_first_checkpoint_counts() -> None:
    folder = Path(".checkpoints/a")
    (folder / ".1.new-0123abcd").mkdir(parents=True)
    age(folder, 20)
    assert [each.folder for each in clean.abandoned(Path(".checkpoints"), days=14)] == [folder]
