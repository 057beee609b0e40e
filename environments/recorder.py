"""Records episodes into a local Minari dataset."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import minari
import numpy as np
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from dreamset.core.disk import require_hdf5_room
from dreamset.core.errors import UserError
from dreamset.core.variables import environment_variable
from dreamset.environments.actions import choices, numbers
from dreamset.environments.rollouts import PolicyFactory, RecordedEpisode, record_episode
from dreamset.environments.wrappers import Environment

CHUNK = 50  # episodes in memory before they are written
_DATA_FILE = "data/main_data.hdf5"


def record_episodes(
    environment: Environment, make_policy: PolicyFactory, *, episodes: int, seed: int
) -> Iterator[RecordedEpisode]:
    """Records episodes in this process; ``parallel.py`` does the same with several processes."""
    return (record_numbered(environment, make_policy, seed=seed, number=number) for number in range(episodes))


def record_numbered(environment: Environment, make_policy: PolicyFactory, *, seed: int, number: int) -> RecordedEpisode:
    """Records episode ``number`` with its own generator, so that it is independent of other episodes.

    Environment seeds are below 2^19; evaluation uses seeds above.
    """
    generator = np.random.default_rng([seed, number])
    reset_seed = int(generator.integers(2**19))
    return record_episode(environment, make_policy, generator=generator, seed=reset_seed)


def write_minari(
    root: Path,
    dataset_id: str,
    environment: Environment,
    episodes: Iterator[RecordedEpisode],
    *,
    reference: tuple[float, float] | None,
    description: str,
    algorithm: str,
) -> Path:
    """Streams episodes into a new Minari dataset below ``root`` and returns its folder.

    Frames are stored uncompressed (``jpeg_encoding=False``). An observation dictionary with one entry is stored as that
    entry. One-hot actions are stored as integers. ``infos`` holds the true state as ``state`` and the infos selected by
    the environment's factory; other infos (texts, renderings, debugging values) are not recorded.

    Raises:
        DiskError: if there is no room for the next episodes. HDF5 would crash when it closes the file.
    """
    _check_id(dataset_id)
    assert isinstance(environment.observation_space, spaces.Dict)
    inner = dict(environment.observation_space.spaces)
    single = next(iter(inner)) if len(inner) == 1 else None
    discrete = choices(environment)
    space = environment.observation_space if single is None else inner[single]
    with environment_variable("MINARI_DATASETS_PATH", str(root.resolve())), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Minari's advice on publishing datasets
        dataset: minari.MinariDataset | None = None
        for chunk in _chunks(_buffers(episodes, single, discrete), CHUNK):
            require_hdf5_room(root / dataset_id / _DATA_FILE, values=_bytes(chunk), groups=len(chunk))
            if dataset is not None:
                dataset.storage.update_episodes(chunk)
                continue
            dataset = minari.create_dataset_from_buffers(
                dataset_id,
                chunk,
                observation_space=space,
                action_space=environment.action_space if discrete is None else discrete,
                data_format="hdf5",
                jpeg_encoding=False,
                algorithm_name=algorithm,
                author="Dreamset",
                description=description,
            )
        if dataset is not None and reference is not None:
            dataset.storage.update_metadata({"ref_min_score": reference[0], "ref_max_score": reference[1]})
    return root / dataset_id


def _check_id(dataset_id: str) -> None:
    """Validates the id before the recording starts."""
    try:
        minari.dataset.minari_dataset.parse_dataset_id(dataset_id)
    except ValueError as error:
        raise UserError(f"dataset.recording.dataset_id {dataset_id!r}: {error}") from None


def _buffers(
    episodes: Iterator[RecordedEpisode], single: str | None, discrete: spaces.Discrete | None
) -> Iterator[EpisodeBuffer]:
    for index, episode in enumerate(episodes):
        steps = len(episode.rewards)
        ends = np.arange(steps) == steps - 1
        yield EpisodeBuffer(
            id=index,
            seed=episode.seed,
            observations=episode.observations if single is None else episode.observations[single],
            actions=episode.actions if discrete is None else numbers(discrete, episode.actions),
            rewards=episode.rewards.tolist(),
            terminations=(ends & episode.terminated).tolist(),
            truncations=(ends & (not episode.terminated)).tolist(),
            infos=episode.infos or None,
        )


def _bytes(chunk: list[EpisodeBuffer]) -> int:
    """The bytes of all values of these episodes."""
    arrays = (array for item in chunk for array in _leaves([item.observations, item.actions, item.infos]))
    return sum(array.nbytes for array in arrays) + 10 * sum(len(item.rewards) for item in chunk)  # and two flags


def _leaves(node: Any) -> Iterator[np.ndarray[Any, Any]]:
    """The arrays of nested dictionaries."""
    if isinstance(node, dict | list | tuple):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _leaves(child)
    elif node is not None:
        yield np.asarray(node)


def _chunks(items: Iterator[EpisodeBuffer], size: int) -> Iterator[list[EpisodeBuffer]]:
    chunk: list[EpisodeBuffer] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
