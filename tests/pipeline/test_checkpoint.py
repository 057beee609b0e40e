"""Checkpoints survive damage and a full disk: the last two are kept, each with its checksum."""

import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from dreamset.core.errors import UserError
from dreamset.pipeline.stages import train_world_model
from dreamset.pipeline.training import checkpoint
from dreamset.pipeline.training.checkpoint import Checkpoint
from tests.pipeline.killing import Killed, kill_after

Configure = Callable[..., dict[str, Any]]

FOLDER = Path("checkpoints")


def state(number: int) -> dict[str, Any]:
    return {"update": number, "weights": torch.full((1000,), float(number))}


def saved(*numbers: int) -> Checkpoint:
    made = Checkpoint(FOLDER)
    for number in numbers:
        made.save(state(number))
    return made


def update(of: Checkpoint) -> int | None:
    loaded = of.load()
    return None if loaded is None else int(loaded["update"])


def flip(path: Path) -> None:
    """One flipped bit among the weights, which PyTorch reads without complaint."""
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((8,), 3.0).numpy().tobytes())] ^= 1
    path.write_bytes(bytes(content))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_without_a_checkpoint_there_is_no_state() -> None:
    assert update(Checkpoint(FOLDER)) is None


def test_the_last_two_states_are_kept() -> None:
    assert update(saved(1, 2, 3)) == 3
    assert sorted(path.name for path in FOLDER.iterdir()) == ["2", "3"]


def test_a_process_that_resumes_continues_the_numbers() -> None:
    saved(1, 2)
    assert update(saved(3)) == 3
    assert sorted(path.name for path in FOLDER.iterdir()) == ["2", "3"]


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
def test_a_damaged_state_gives_way_to_the_one_before_it_with_a_warning(
    damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    saved(1, 2, 3)
    damage(FOLDER / "3/state.pt")
    assert update(Checkpoint(FOLDER)) == 2
    (warning,) = caplog.records
    assert warning.getMessage().startswith("checkpoints/3/state.pt is damaged (")
    assert "the training resumes from checkpoints/2/state.pt" in warning.getMessage()
    caplog.clear()
    assert update(saved(4)) == 4  # the damaged state is gone, so the good one is kept beside the new one
    assert sorted(path.name for path in FOLDER.iterdir()) == ["2", "3"]
    assert not caplog.records


def test_a_flipped_bit_is_found_by_the_checksum_alone() -> None:
    saved(3)
    flip(FOLDER / "1/state.pt")
    assert torch.load(FOLDER / "1/state.pt", weights_only=True)["update"] == 3
    with pytest.raises(UserError, match="it differs from its checksum"):
        Checkpoint(FOLDER).load()


def test_damage_of_every_state_is_one_line_that_names_the_folder_to_delete() -> None:
    saved(1, 2)
    for name in ("1", "2"):
        truncate(FOLDER / name / "state.pt")
    with pytest.raises(UserError) as error:
        Checkpoint(FOLDER).load()
    message = str(error.value)
    assert message.startswith("checkpoints/2/state.pt is damaged (")
    assert message.endswith("delete the folder checkpoints to train from scratch")
    assert "\n" not in message
    shutil.rmtree(FOLDER)
    assert update(Checkpoint(FOLDER)) is None


def test_the_single_file_of_earlier_releases_is_read_and_refused_if_damaged() -> None:
    FOLDER.mkdir()
    torch.save(state(7), FOLDER / "state.pt")
    assert update(Checkpoint(FOLDER)) == 7
    assert update(saved(8)) == 8
    shutil.rmtree(FOLDER / "1")
    truncate(FOLDER / "state.pt")
    with pytest.raises(UserError, match="delete the folder checkpoints"):
        Checkpoint(FOLDER).load()


def test_a_state_that_the_device_cannot_load_is_kept_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    saved(1)

    def no_gpu(*_: object, **__: object) -> None:
        raise RuntimeError("Attempting to deserialize object\non a CUDA device")

    with monkeypatch.context() as patch, pytest.raises(UserError) as error:
        patch.setattr(torch, "load", no_gpu)
        Checkpoint(FOLDER).load()
    expected = (
        "checkpoints/1/state.pt cannot be loaded (Attempting to deserialize object on a CUDA device); use the device"
    )
    assert str(error.value).startswith(expected)
    assert update(Checkpoint(FOLDER)) == 1


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 2 kB: PyTorch sees the same failed writes as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_the_earlier_states_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    kept = saved(1, 2)
    with full_disk():
        kept.save(state(3))
        kept.save(state(4))
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [
        "checkpoints: no checkpoint can be written"
    ]
    assert update(kept) == 2
    assert sorted(path.name for path in FOLDER.iterdir()) == ["1", "2"]
    kept.save(state(5))
    assert update(kept) == 5
    with full_disk():
        kept.save(state(6))
    assert len(caplog.records) == 2


def test_a_slow_disk_gets_fewer_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, written = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    slow = Checkpoint(FOLDER)
    monkeypatch.setattr(slow, "_write", lambda _: (written.append(clock[0]), clock.__setitem__(0, clock[0] + 4.0)))
    for second in range(300):
        clock[0] = max(clock[0], float(second))
        slow.save_if_due(lambda: state(0))
    assert written == [30.0, 154.0, 278.0]  # 4 seconds of writing: every 4 x 30 seconds


def test_a_training_resumes_from_the_checkpoint_before_a_damaged_one_to_the_same_bytes(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = Path("runs/world_model/reconstruction-0/model/model.safetensors")
    config = configure("train_world_model")
    train_world_model.run(config)
    uninterrupted = weights.read_bytes()
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 4)
        train_world_model.run(config)
    (folder,) = Path(".checkpoints").iterdir()
    truncate(folder / "4/state.pt")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 2)  # one too few, because the fourth update is repeated
        train_world_model.run(config)
    train_world_model.run(config)
    assert weights.read_bytes() == uninterrupted
    assert not list(Path(".checkpoints").iterdir())


def test_outputs_that_cannot_be_written_keep_the_whole_training(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("train_world_model")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no room is left"):
        patch.setattr(train_world_model, "save_model", full)
        train_world_model.run(config)
    assert not Path("runs/world_model/reconstruction-0").exists()
    with monkeypatch.context() as patch:
        kill_after(patch, 0)  # no update is repeated
        train_world_model.run(config)
    assert Path("runs/world_model/reconstruction-0/metrics.json").exists()
    assert not list(Path(".checkpoints").iterdir())
