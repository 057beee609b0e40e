"""Rows stay aligned from the environment through Minari and the store to a batch."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
import torch

from dreamset.core import disk
from dreamset.core.disk import DiskError
from dreamset.core.records import SequenceBatch
from dreamset.datasets import MinariSource, SequenceSampler, Store, sequences, write_store
from dreamset.datasets.sources.base import read_all
from dreamset.environments import pendulum, recorder
from dreamset.environments.recorder import record_episodes, write_minari

EPISODES = 6
TERMINATED_ROWS, TRUNCATED_ROWS = 8, 6  # one more than the counter's steps


def chase(observation: dict[str, np.ndarray], info: dict[str, np.ndarray]) -> np.ndarray:  # noqa: ARG001
    """The action at count c is c + 0.25; the true state is -c."""
    return (-info["state"] + 0.25).astype(np.float32)


def write(folder: Path, environment: gymnasium.Env[Any, Any], episodes: Any, **settings: Any) -> Path:
    options = {"reference": None, "description": "counts", "algorithm": "chase"} | settings
    return write_minari(folder, "counter/test-v0", environment, episodes, **options)


@pytest.fixture
def recording(tmp_path: Path, counter: Callable[..., gymnasium.Env[Any, Any]]) -> Path:
    environment = counter()
    episodes = record_episodes(environment, lambda *_: chase, episodes=EPISODES, seed=0)
    return write(tmp_path / "recordings", environment, episodes, reference=(-1.0, 2.0))


@pytest.fixture
def store(recording: Path, tmp_path: Path) -> Store:
    return write_store(MinariSource(recording), tmp_path / "store", validation_fraction=0.5)


def assert_aligned(batch: SequenceBatch) -> None:
    """Checks the time rule row by row by the counts."""
    count = batch.observations["count"][..., 0]
    step = count % 1000
    terminates = (count // 1000) % 2 == 0
    first = step == 0
    last = step == torch.where(terminates, TERMINATED_ROWS - 1.0, TRUNCATED_ROWS - 1.0)
    assert torch.equal(batch.is_first, first)
    assert torch.equal(batch.is_last, last)
    assert torch.equal(batch.is_terminal, last & terminates)
    assert torch.equal(batch.action[..., 0], torch.where(first, 0, count - 1 + 0.25))  # chosen one count before
    assert torch.equal(batch.reward, torch.where(first, 0, count + 0.5))  # received on arrival
    assert torch.equal(batch.privileged["state"][..., 0], -count)
    image = (count % 256).to(torch.uint8)[..., None, None, None]
    assert torch.equal(batch.observations["image"], image.expand_as(batch.observations["image"]))
    assert torch.equal(count[:, 1:], count[:, :-1] + 1)  # windows do not jump


@pytest.mark.parametrize("split", ["train", "validation"])
def test_sampled_windows_are_aligned(store: Store, split: str) -> None:
    sampler = SequenceSampler(store, split=split, batch_size=32, length=4, seed=0)
    starts = set()
    for _ in range(4):
        batch = sampler.sample()
        assert_aligned(batch)
        starts |= set(batch.observations["count"][:, 0, 0].tolist())
    episodes = store.split(split).tolist()
    rows = {episode: TERMINATED_ROWS if episode % 2 == 0 else TRUNCATED_ROWS for episode in episodes}
    assert starts == {1000 * episode + row for episode in episodes for row in range(rows[episode] - 4 + 1)}


def test_both_kinds_of_end_are_recorded(store: Store) -> None:
    for split in ("train", "validation"):
        for batch in sequences(store, split=split, length=TRUNCATED_ROWS, batch_size=EPISODES):
            assert_aligned(batch)
    ends = {
        (int(store.read(episode)["is_last"].sum()), int(store.read(episode)["is_terminal"].sum()))
        for episode in range(EPISODES)
    }
    assert ends == {(1, 1), (1, 0)}
    assert store.lengths.tolist() == [TERMINATED_ROWS, TRUNCATED_ROWS] * (EPISODES // 2)


def test_chunks_join_into_one_dataset(
    tmp_path: Path, counter: Callable[..., gymnasium.Env[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "CHUNK", 4)
    environment = counter()
    episodes = record_episodes(environment, lambda *_: chase, episodes=10, seed=0)
    folder = write(tmp_path, environment, episodes)
    firsts = [episode.observations["count"][0, 0] for episode in read_all(MinariSource(folder))]
    assert firsts == [1000 * episode for episode in range(10)]


def test_frames_are_stored_exactly_with_reference_scores(recording: Path) -> None:
    with h5py.File(recording / "data" / "main_data.hdf5") as file:
        image = file["episode_1/observations/image"][:]
    np.testing.assert_array_equal(image[:, 0, 0, 0], 1000 % 256 + np.arange(TRUNCATED_ROWS))
    metadata = json.loads((recording / "data" / "metadata.json").read_text())
    assert (metadata["ref_min_score"], metadata["ref_max_score"]) == (-1.0, 2.0)
    assert metadata["algorithm_name"] == "chase"


def test_single_observation_is_stored_without_a_dictionary(tmp_path: Path) -> None:
    environment = pendulum.make(image_size=None, episode_steps=5)
    episodes = record_episodes(environment, pendulum.mixture, episodes=2, seed=0)
    folder = write(tmp_path, environment, episodes)
    source = MinariSource(folder)
    recorded = list(record_episodes(environment, pendulum.mixture, episodes=2, seed=0))
    assert set(source.describe().observations) == {"state"}
    for raw, episode in zip(read_all(source), recorded, strict=True):
        np.testing.assert_array_equal(raw.observations["state"], episode.observations["state"])
        np.testing.assert_array_equal(raw.actions, episode.actions)


@pytest.mark.parametrize("before", [None, "/somewhere/else"])
def test_minari_environment_variable_is_restored(
    tmp_path: Path,
    counter: Callable[..., gymnasium.Env[Any, Any]],
    monkeypatch: pytest.MonkeyPatch,
    before: str | None,
) -> None:
    name = "MINARI_DATASETS_PATH"
    monkeypatch.setenv(name, before or "")
    if before is None:
        monkeypatch.delenv(name)
    environment = counter()
    episodes = record_episodes(environment, lambda *_: chase, episodes=2, seed=0)
    write(tmp_path, environment, episodes)
    assert os.environ.get(name) == before


def test_recording_ends_before_a_file_that_would_not_fit(
    tmp_path: Path, counter: Callable[..., gymnasium.Env[Any, Any]], full_disk: Any
) -> None:
    environment = counter()
    folder, written = tmp_path / "recordings", tmp_path / "recordings/counter/test-v0/data/main_data.hdf5"

    def record() -> Path:
        return write(folder, environment, record_episodes(environment, lambda *_: chase, episodes=EPISODES, seed=0))

    with full_disk(100_000), pytest.raises(DiskError, match=f"^{tmp_path}: a file would exceed the size limit"):
        record()
    assert not written.exists()  # HDF5 would crash when it closes a file that it cannot write
    assert record() == folder / "counter/test-v0"


def test_room_for_a_recording_is_an_upper_bound(
    recording: Path, counter: Callable[..., gymnasium.Env[Any, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    required: list[int] = []
    monkeypatch.setattr(disk, "require_room", lambda _file, growth: required.append(growth))
    environment = counter()
    write(tmp_path / "again", environment, record_episodes(environment, lambda *_: chase, episodes=EPISODES, seed=0))
    size = (recording / "data/main_data.hdf5").stat().st_size
    assert size < sum(required) < 10 * size
