"""Dumps of d3rlpy 2."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Lost, align
from dreamset.datasets.sources.base import read_all
from dreamset.datasets.sources.d3rlpy import D3rlpySource

LENGTHS = (4, 3)


def episode(number: int, rows: int) -> dict[str, Any]:
    """The counting episode: action and reward t belong to observation t."""
    count = 1000.0 * number + np.arange(rows)
    return {
        "observations": np.stack([count, -count], axis=1).astype(np.float32),
        "actions": (np.arange(rows)[:, None] / 10).astype(np.float32),
        "rewards": (count[:, None] + 0.5).astype(np.float32),
        "terminated": number % 2 == 0,
    }


def dump(path: Path, episodes: list[dict[str, Any]]) -> Path:
    """The layout of ``ReplayBuffer.dump``, version 2.1."""
    with h5py.File(path, "w") as file:
        file["columns"], file["num_episodes"], file["version"] = list(episodes[0]), len(episodes), "2.1"
        for number, columns in enumerate(episodes):
            for name, value in columns.items():
                parts = value if isinstance(value, tuple) else ()
                for part, array in enumerate(parts):
                    file[f"{name}_{number}_{part}"] = array
                if not parts:
                    file[f"{name}_{number}"] = value
    return path


@pytest.fixture
def buffer(tmp_path: Path) -> Path:
    return dump(tmp_path / "buffer.h5", [episode(number, rows) for number, rows in enumerate(LENGTHS)])


def test_every_transition_with_an_outcome_is_read_and_the_last_is_counted_as_lost(buffer):
    source = D3rlpySource(buffer)
    assert source.episode_count == 2
    for number, raw in enumerate(read_all(source)):
        count = 1000.0 * number + np.arange(LENGTHS[number])
        assert raw.observations["state"].tolist() == np.stack([count, -count], axis=1).tolist()
        assert raw.actions[:, 0].tolist() == [np.float32(t / 10) for t in range(LENGTHS[number] - 1)]
        assert raw.rewards.tolist() == (count[:-1] + 0.5).tolist()
        assert raw.terminated is False
        assert raw.lost == Lost(1, count[-1] + 0.5, number == 0)
        align(raw, source.describe())


def test_last_observation_can_be_repeated_which_keeps_the_true_end(buffer):
    source = D3rlpySource(buffer, final_transition="repeat")
    assert [raw.terminated for raw in read_all(source)] == [True, False]
    assert source.read(1).observations["state"][:, 0].tolist() == [1000, 1001, 1002, 1002]
    assert source.read(1).rewards.tolist() == [1000.5, 1001.5, 1002.5]


def test_tuples_of_observations_are_columns_of_their_own(tmp_path):
    episodes = []
    for number, rows in enumerate(LENGTHS):
        frames = np.zeros((rows, 3, 8, 8), np.uint8)
        frames[:, 0, 0, 0] = np.arange(rows) + 10 * number
        columns = episode(number, rows)
        episodes.append({**columns, "observations": (frames, columns["observations"])})
    source = D3rlpySource(
        dump(tmp_path / "a.h5", episodes), observations=["observations_0"], privileged=["observations_1"]
    )
    assert source.describe().observations["observations_0"].shape == (8, 8, 3)
    raw = source.read(1)
    assert raw.observations["observations_0"][:, 0, 0, 0].tolist() == [10, 11, 12]
    assert raw.privileged["observations_1"][:, 0].tolist() == [1000, 1001, 1002]


def test_whole_numbers_are_discrete_actions_once_their_number_is_set(tmp_path):
    episodes = [{**episode(number, 3), "actions": np.array([[2], [0], [1]])} for number in range(2)]
    path = dump(tmp_path / "a.h5", episodes)
    with pytest.raises(UserError, match="'actions' contains integers: set discrete to the number of choices"):
        D3rlpySource(path)
    assert D3rlpySource(path, discrete=3).read(0).actions.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_further_columns_and_settings_are_in_the_provenance(tmp_path):
    episodes = [{**episode(number, 3), "embeddings": np.zeros((3, 2))} for number in range(3)]
    provenance = D3rlpySource(dump(tmp_path / "a.h5", episodes), episodes=2).describe().provenance
    assert (provenance["format"], provenance["episodes"], provenance["final_transition"]) == ("d3rlpy", 2, "drop")
    assert list(provenance["ignored_columns"]) == ["embeddings"]


def replaced(name: str, value: Any) -> Any:
    def tamper(file: h5py.File) -> None:
        del file[name]
        if value is not None:
            file[name] = value

    return tamper


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (replaced("rewards_1", None), "'rewards_1' is missing"),
        (replaced("rewards_1", np.zeros((2, 1))), r"different numbers of rows, \{'actions': 3, 'observations': 3, 're"),
        (replaced("rewards_1", h5py.ExternalLink("/etc/passwd", "/x")), "'rewards_1' is an external link"),
        (replaced("terminated_1", np.zeros(3, bool)), r"'terminated' holds bool\[3\], expected one number"),
        (replaced("terminated_1", "yes"), "'terminated' holds object"),
        (replaced("observations_1", np.zeros((3, 5))), r"'observations' holds float64\[5\] per row"),
    ],
)
def test_damaged_episode_is_named_and_others_stay_readable(buffer, tamper, message):
    with h5py.File(buffer, "a") as file:
        tamper(file)
    source = D3rlpySource(buffer)
    assert len(source.read(0).rewards) == 3
    with pytest.raises(UserError, match=rf"^episode 1 of .*buffer\.h5: .*{message}"):
        source.read(1)


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (replaced("num_episodes", None), "is no dump of d3rlpy 2; for a dump of d3rlpy 1 use dataset=hdf5_folder"),
        (replaced("num_episodes", 0), "'num_episodes' is 0"),
        (replaced("num_episodes", "two"), "'num_episodes' holds object"),
        (replaced("observations_0", None), "'observations_0' is missing; the file is incomplete"),
    ],
)
def test_file_that_is_no_dump_is_refused(buffer, tamper, message):
    with h5py.File(buffer, "a") as file:
        tamper(file)
    with pytest.raises(UserError, match=message):
        D3rlpySource(buffer)
