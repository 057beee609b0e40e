"""Any kind of environment stays aligned through adaptation, Minari, ingestion and sampling."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamset.core.errors import UserError
from dreamset.core.records import SequenceBatch
from dreamset.datasets import MinariSource, SequenceSampler, Store, sequences, write_store
from dreamset.environments.actions import choices, one_hot
from dreamset.environments.gym import adapt
from dreamset.environments.recorder import record_episodes, write_minari
from dreamset.environments.rollouts import Policy
from dreamset.environments.wrappers import Environment

EPISODES = 6
ROWS = {True: 8, False: 6}  # of episodes that terminate and of those that are truncated
CHOICES = spaces.Discrete(5, start=2)


def bare(count: int) -> np.ndarray:
    return np.array([count], np.float64)


def several(count: int) -> dict[str, Any]:
    return {
        "arm": {"count": np.array([count], np.float64)},
        "phase": count % 3,
        "view": np.full((3, 4, 6), count % 256, np.uint8),
        "mission": "count",
    }


COUNT = spaces.Box(-np.inf, np.inf, (1,), np.float64)
SEVERAL = spaces.Dict(
    {
        "arm": spaces.Dict({"count": COUNT}),
        "phase": spaces.Discrete(3),
        "view": spaces.Box(0, 255, (3, 4, 6), np.uint8),
        "mission": spaces.Text(9),
    }
)
CONTINUOUS = spaces.Box(-1e5, 1e5, (2, 1), np.float64)


def pursue(environment: Environment, generator: np.random.Generator) -> Policy:  # noqa: ARG001
    """At count c the action is c + 0.25 and its negative, or the choice c modulo their number."""
    space = choices(environment)

    def act(observation: dict[str, np.ndarray], info: dict[str, np.ndarray]) -> np.ndarray:  # noqa: ARG001
        count = info["count"] if "count" in info else info["state"][0]
        if space is not None:
            return one_hot(int(count) % 5, 5)
        return np.array([count + 0.25, -count - 0.25], np.float32)

    return act


def expected_action(count: torch.Tensor, size: int) -> torch.Tensor:
    if size == 5:
        return torch.nn.functional.one_hot(count.long() % 5, 5).float()
    return torch.stack([count + 0.25, -count - 0.25], dim=-1)


@pytest.fixture(params=["bare", "several"])
def observed(request: pytest.FixtureRequest) -> tuple[Callable[[int], Any], spaces.Space[Any], dict[str, Any]]:
    if request.param == "bare":
        return bare, COUNT, {}
    return several, SEVERAL, {"observations": ["arm.count", "phase", "view"]}


@pytest.fixture(params=["continuous", "discrete"])
def action_space(request: pytest.FixtureRequest) -> spaces.Space[Any]:
    return CONTINUOUS if request.param == "continuous" else CHOICES


@pytest.fixture
def recording(native: Callable[..., Any], observed: Any, action_space: Any, tmp_path: Path) -> Path:
    show, space, settings = observed
    inner = native(show, space, action_space, info=lambda count: {"double": 2.0 * count})
    environment = adapt(inner, "Counter-v0", infos=["double"], **settings)
    episodes = record_episodes(environment, pursue, episodes=EPISODES, seed=0)
    described = {"reference": None, "description": "counts", "algorithm": "pursue"}
    return write_minari(tmp_path / "recordings", "counter/test-v0", environment, episodes, **described)


@pytest.fixture
def store(recording: Path, tmp_path: Path) -> Store:
    """In an unnamed recording the info of the same name is the ground truth."""
    return write_store(MinariSource(recording), tmp_path / "store", validation_fraction=0.5)


def assert_aligned(batch: SequenceBatch) -> None:
    """Checks the time rule row by row by the counts."""
    (count,) = (value[..., 0] for name, value in batch.observations.items() if name in ("state", "arm.count"))
    first = count % 1000 == 0
    terminates = (count // 1000) % 2 == 0
    last = count % 1000 == torch.where(terminates, ROWS[True] - 1.0, ROWS[False] - 1.0)
    assert torch.equal(batch.is_first, first)
    assert torch.equal(batch.is_last, last)
    assert torch.equal(batch.is_terminal, last & terminates)
    acted = expected_action(count - 1, batch.action.shape[-1])
    assert torch.equal(batch.action, torch.where(first[..., None], 0, acted))
    assert torch.equal(batch.reward, torch.where(first, 0, count + 0.5))
    assert torch.equal(batch.privileged["double"][..., 0], torch.where(first, 0, 2 * count))
    truth = batch.privileged["state" if "state" in batch.privileged else "infos.state"]
    assert torch.equal(truth[..., 0], count)
    if "view" in batch.observations:
        image = (count % 256).to(torch.uint8)[..., None, None, None]
        assert torch.equal(batch.observations["view"], image.expand(*count.shape, 4, 6, 3))
        phase = torch.nn.functional.one_hot(count.long() % 3, 3)
        assert torch.equal(batch.observations["phase"], phase.float())
        assert torch.equal(truth[..., 1:], phase.float())


def test_rows_of_every_kind_of_environment_are_aligned(store: Store) -> None:
    for split in ("train", "validation"):
        for batch in sequences(store, split=split, length=ROWS[False], batch_size=EPISODES):
            assert_aligned(batch)
        sampler = SequenceSampler(store, split=split, batch_size=16, length=4, seed=0)
        for _ in range(3):
            assert_aligned(sampler.sample())
    ends = [int(store.read(episode)["is_terminal"].sum()) for episode in range(EPISODES)]
    assert ends == [1, 0] * (EPISODES // 2)
    assert store.lengths.tolist() == [ROWS[True], ROWS[False]] * (EPISODES // 2)


def test_minari_itself_reads_the_recording(
    recording: Path, action_space: spaces.Space[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(recording.parents[1]))
    dataset = minari.load_dataset("counter/test-v0")
    if isinstance(action_space, spaces.Discrete):
        assert dataset.action_space == CHOICES
    for episode in dataset.iterate_episodes():
        steps = np.arange(len(episode.rewards))
        count = 1000 * episode.id + steps
        if isinstance(action_space, spaces.Discrete):
            assert episode.actions.dtype == np.int64
            assert episode.actions.tolist() == (2 + count % 5).tolist()
        assert all(dataset.action_space.contains(action) for action in episode.actions)
        assert episode.rewards.tolist() == (count + 1.5).tolist()
        assert episode.terminations.tolist() == ((steps == steps[-1]) & (episode.id % 2 == 0)).tolist()
        assert episode.truncations.tolist() == ((steps == steps[-1]) & (episode.id % 2 == 1)).tolist()


def test_environment_of_images_only_is_recorded_without_infos(native: Callable[..., Any], tmp_path: Path) -> None:
    space = spaces.Box(0, 255, (3, 4, 6), np.uint8)
    environment = adapt(native(lambda count: several(count)["view"], space, CHOICES), "Counter-v0")

    def blind(*_: Any) -> Policy:
        return lambda observation, _: one_hot(int(observation["image"][0, 0, 0]) % 5, 5)

    episodes = record_episodes(environment, blind, episodes=2, seed=0)
    described = {"reference": None, "description": "counts", "algorithm": "blind"}
    folder = write_minari(tmp_path, "counter/test-v0", environment, episodes, **described)
    with h5py.File(folder / "data" / "main_data.hdf5") as file:
        assert "infos" not in file["episode_0"]
    description = MinariSource(folder).describe()
    assert (set(description.observations), dict(description.privileged)) == ({"image"}, {})


def test_bad_dataset_id_is_refused_before_anything_is_recorded(native: Callable[..., Any], tmp_path: Path) -> None:
    def episodes() -> Iterator[Any]:
        pytest.fail("an episode was recorded")
        yield

    described = {"reference": None, "description": "counts", "algorithm": "none"}
    with pytest.raises(UserError, match=r"recording\.dataset_id 'no version'"):
        write_minari(tmp_path, "no version", adapt(native(), "Counter-v0"), episodes(), **described)
