"""From a source to a store: checks, aligns, splits and describes the episodes while they stream by."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256, replaced_folder
from dreamset.core.spec import DataSpec
from dreamset.datasets.episode import Episode, align
from dreamset.datasets.layout import (
    ALIGNMENT,
    FORMAT_VERSION,
    MANIFEST,
    column_specs,
    columns_of,
    shard_name,
    write_manifest,
)
from dreamset.datasets.shard import write_shard
from dreamset.datasets.sources.base import Source, SourceDescription, read_all
from dreamset.datasets.splits import TRAIN, split_episodes
from dreamset.datasets.statistics import RunningMoments, describe_values
from dreamset.datasets.store import Store
from dreamset.datasets.windows import Indices


def write_store(
    source: Source,
    path: str | Path,
    *,
    validation_fraction: float = 0.1,
    seed: int = 0,
    shard_bytes: int = 64 << 20,
    on_episode: Callable[[int], None] | None = None,
) -> Store:
    """Writes every episode of ``source`` into the folder ``path`` and opens it.

    Memory is bounded by one shard and one episode. An existing store at ``path`` is replaced when the new one is
    complete, and kept if anything fails. ``on_episode`` hears how many episodes are done. Equal input gives equal
    bytes.

    Raises:
        UserError: if an episode is not what the source promised, or ``path`` holds something that is no store.
    """
    target = Path(path)
    _require_replaceable(target)
    description = source.describe()
    splits = split_episodes(source.episode_count, validation_fraction=validation_fraction, seed=seed)
    with replaced_folder(target) as folder:
        draft = _Draft(folder, description, training=set(splits[TRAIN].tolist()), shard_bytes=shard_bytes)
        for done, raw in enumerate(read_all(source), start=1):
            draft.add(align(raw, description))
            if on_episode:
                on_episode(done)
        draft.flush()
        settings = {"validation_fraction": validation_fraction, "seed": seed}
        write_manifest(folder, {**draft.manifest(splits), "split_settings": settings})
    return Store.open(target)


class _Draft:
    """A store in the making: the shards that are written, one shard of episodes in memory, and running figures."""

    def __init__(self, folder: Path, description: SourceDescription, *, training: set[int], shard_bytes: int) -> None:
        self._folder = folder
        self._description = description
        self._training = training
        self._shard_bytes = shard_bytes
        self._specs = column_specs(description)
        self._moments = _vector_moments(description)
        self._buffer: list[Episode] = []
        self._buffered_bytes = 0
        self._shards: list[dict[str, Any]] = []
        self._rows: list[int] = []
        self._returns: list[float] = []

    def add(self, episode: Episode) -> None:
        if len(self._rows) in self._training:
            for name, values in {**episode.observations, **episode.privileged}.items():
                if name in self._moments:
                    self._moments[name].update(values)
        self._rows.append(episode.rows)
        self._returns.append(float(episode.reward.sum(dtype=np.float64)))
        self._buffer.append(episode)
        self._buffered_bytes += sum(values.nbytes for values in columns_of(episode).values())
        if self._buffered_bytes >= self._shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Writes what is in memory as one shard."""
        if not self._buffer:
            return
        path = self._folder / shard_name(len(self._shards))
        write_shard(path, self._specs, self._buffer)
        rows = sum(episode.rows for episode in self._buffer)
        entry = {"file": path.name, "episodes": len(self._buffer), "rows": rows, "sha256": file_sha256(path)}
        self._shards.append(entry)
        self._buffer, self._buffered_bytes = [], 0

    def manifest(self, splits: dict[str, Indices]) -> dict[str, Any]:
        """The content of ``dataset.json``."""
        episodes = len(self._rows)
        spec = DataSpec(
            observations=self._description.observations,
            action=self._description.action,
            privileged=self._description.privileged,
            statistics={name: moments.result() for name, moments in self._moments.items()},
        )
        rows = sum(self._rows)
        return {
            "format_version": FORMAT_VERSION,
            "alignment": ALIGNMENT,
            "spec": spec.to_json(),
            "counts": {"episodes": episodes, "rows": rows, "transitions": rows - episodes},
            "splits": {name: numbers.tolist() for name, numbers in splits.items()},
            "episode_statistics": {name: self._episode_statistics(numbers) for name, numbers in splits.items()},
            "source": self._description.provenance,
            "shards": self._shards,
        }

    def _episode_statistics(self, episodes: Indices) -> dict[str, Any]:
        return {
            "episodes": len(episodes),
            "return": describe_values(np.array(self._returns)[episodes]),
            "length": describe_values(np.array(self._rows)[episodes] - 1),  # in transitions
        }


def _vector_moments(description: SourceDescription) -> dict[str, RunningMoments]:
    specs: Iterable[Any] = (*description.observations.items(), *description.privileged.items())
    return {name: RunningMoments(spec.size) for name, spec in specs if spec.dtype == "float32"}


def _require_replaceable(path: Path) -> None:
    empty = path.is_dir() and not any(path.iterdir())
    if path.exists() and not empty and not (path / MANIFEST).is_file():
        raise UserError(f"{path}: exists and is no Dreamset dataset, so it is not replaced; choose another path")
