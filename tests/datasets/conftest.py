"""Counting episodes: every value encodes its episode and step, so that any misalignment shows.

In episode e, observation t is 1000 e + t, the action taken there is that + 0.25 and the reward that it earns + 0.5.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets import RawEpisode, Store, write_store
from dreamset.datasets.sources import SourceDescription

IMAGE = (2, 3, 1)


def counting_episode(number: int, transitions: int, *, terminated: bool = True) -> RawEpisode:
    steps = 1000.0 * number + np.arange(transitions + 1, dtype=np.float32)
    return RawEpisode(
        name=f"episode_{number} of counter",
        observations={
            "state": np.stack([steps, -steps], axis=1),
            "image": np.broadcast_to(steps[:, None, None, None] % 256, (transitions + 1, *IMAGE)).astype(np.uint8),
        },
        actions=steps[:-1, None] + np.float32(0.25),
        rewards=steps[:-1] + np.float32(0.5),
        terminated=terminated,
        privileged={"clock": steps[:, None] * 2},
    )


@dataclass(frozen=True)
class CounterSource:
    """A source in memory; ``change`` edits episodes on read."""

    lengths: Sequence[int]  # in transitions
    change: Callable[[int, RawEpisode], RawEpisode] = field(default=lambda _number, episode: episode)

    @property
    def episode_count(self) -> int:
        return len(self.lengths)

    def describe(self) -> SourceDescription:
        return SourceDescription(
            observations={"state": ArraySpec((2,), "float32"), "image": ArraySpec(IMAGE, "uint8")},
            privileged={"clock": ArraySpec((1,), "float32")},
            action=ActionSpec(1, discrete=False, low=(0.0,), high=(float("inf"),)),
            provenance={"format": "counter", "lengths": list(self.lengths)},
        )

    def read(self, number: int) -> RawEpisode:
        return self.change(number, counting_episode(number, self.lengths[number], terminated=number % 2 == 0))


def with_nan(wanted: int) -> Callable[[int, RawEpisode], RawEpisode]:
    """Puts a NaN into observation ``state`` of one episode, step 3, element 1."""

    def change(number: int, episode: RawEpisode) -> RawEpisode:
        if number != wanted:
            return episode
        state = episode.observations["state"].copy()
        state[3, 1] = np.nan
        return replace(episode, observations={**episode.observations, "state": state})

    return change


@pytest.fixture
def counter_source() -> type[CounterSource]:
    return CounterSource


@pytest.fixture
def counter_episode() -> Callable[..., RawEpisode]:
    return counting_episode


@pytest.fixture
def nan_in() -> Callable[[int], Callable[[int, RawEpisode], RawEpisode]]:
    return with_nan


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., Store]:
    def make(*lengths: int, name: str = "store", **settings: Any) -> Store:
        return write_store(CounterSource(lengths), tmp_path / name, **settings)

    return make


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes episodes with the real Minari library and returns the dataset's folder."""
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))

    def write(
        episodes: Sequence[dict[str, Any]],
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        *,
        jpeg_encoding: bool = False,
        data_format: str = "hdf5",
    ) -> Path:
        buffers = [minari.data_collector.EpisodeBuffer(id=number, **episode) for number, episode in enumerate(episodes)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Minari misses an author and an environment
            minari.create_dataset_from_buffers(
                "counter/test-v0",
                buffers,
                observation_space=observation_space,
                action_space=action_space,
                data_format=data_format,
                jpeg_encoding=jpeg_encoding,
                algorithm_name="counting",
            )
        return tmp_path / "minari" / "counter" / "test-v0"

    return write


@pytest.fixture
def record_counter(record: Callable[..., Path]) -> Callable[..., Path]:
    """Counting episodes of a Box(1) observation in float64; ``changes`` replaces parts of every episode."""

    def write(*lengths: int, **changes: Any) -> Path:
        episodes = [{**minari_episode(number, length), **changes} for number, length in enumerate(lengths)]
        space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
        return record(episodes, space, gymnasium.spaces.Box(-10.0, 1e6, (1,), np.float32))

    return write


def minari_episode(number: int, transitions: int) -> dict[str, Any]:
    """Even episodes have a true end, odd ones a time limit."""
    steps = 1000.0 * number + np.arange(transitions + 1)
    last = np.arange(transitions) == transitions - 1
    return {
        "observations": steps[:, None],
        "actions": (steps[:-1, None] + 0.25).astype(np.float32),
        "rewards": (steps[:-1] + 0.5).tolist(),
        "terminations": (last & (number % 2 == 0)).tolist(),
        "truncations": (last & (number % 2 == 1)).tolist(),
    }


@pytest.fixture
def minari_counter() -> Callable[[int, int], dict[str, Any]]:
    return minari_episode
