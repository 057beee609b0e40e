"""Writes shards and their manifest; used for new stores and for extending one."""

import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.core.files import file_sha256
from dreamset.core.spec import DataSpec, VectorStatistics
from dreamset.datasets.episode import Episode
from dreamset.datasets.index import EpisodeIndex, split_codes
from dreamset.datasets.layout import (
    ALIGNMENT,
    DEMONSTRATION_EPISODES,
    FORMAT_VERSION,
    UNACTED_EPISODES,
    UNACTED_VERSION,
    column_specs,
    columns_of,
    shard_name,
)
from dreamset.datasets.seen import Seen
from dreamset.datasets.shard import open_shard, write_shard
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.splits import TRAIN
from dreamset.datasets.statistics import RunningMoments, describe_values
from dreamset.datasets.store import Store
from dreamset.datasets.windows import Indices


class ShardWriter:
    """Writes episodes into shards; keeps one shard and a few numbers per episode in memory."""

    def __init__(
        self,
        folder: Path,
        description: SourceDescription,
        hashing: ThreadPoolExecutor,
        *,
        compression: str | None,
        shard_bytes: int,
    ) -> None:
        self.specs = column_specs(description)
        self.rows: list[int] = []  # of every episode
        self.returns: list[float] = []
        self.acted: list[bool] = []
        self.demonstration: list[bool] = []
        self._folder = folder
        self._hashing = hashing
        self._compression = compression
        self._shard_bytes = shard_bytes
        self._buffer: list[Episode] = []
        self._buffered_bytes = 0
        self._entries: list[dict[str, Any]] = []
        self._checksums: list[Future[str]] = []

    def adopt(self, store: Store, episodes: int) -> None:
        """Takes over the shards with the first ``episodes`` of a store, by hard links if possible.

        Raises:
            ValueError: if the last of these episodes is not the last one of a shard.
        """
        for entry in store.info["shards"]:
            if len(self.rows) >= episodes:
                break
            first = len(self.rows)
            _link_or_copy(store.path / entry["file"], self._folder / entry["file"])
            self._entries.append({key: entry[key] for key in ("file", "episodes", "rows", "bytes")})
            self._checksums.append(_known(entry["sha256"]))
            adopted = slice(first, first + entry["episodes"])
            self.rows += store.lengths[adopted].tolist()
            self.returns += store.returns[adopted].tolist()
            self.acted += store.acted[adopted].tolist()
            self.demonstration += store.demonstration[adopted].tolist()
        if len(self.rows) != episodes:
            raise ValueError(f"{store.path}: its shards end after {len(self.rows)} episodes, not after {episodes}")

    def add(self, episode: Episode) -> None:
        """Adds an episode; writes the shard if it is full."""
        self.rows.append(episode.rows)
        self.returns.append(float(episode.reward.sum(dtype=np.float64)))
        self.acted.append(episode.acted)
        self.demonstration.append(episode.demonstration)
        self._buffer.append(episode)
        self._buffered_bytes += sum(values.nbytes for values in columns_of(episode).values())
        if self._buffered_bytes >= self._shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Writes the episodes in memory as one shard."""
        if not self._buffer:
            return
        path = self._folder / shard_name(len(self._entries))
        write_shard(path, self.specs, self._buffer, compression=self._compression)
        rows = sum(episode.rows for episode in self._buffer)
        entry = {"file": path.name, "episodes": len(self._buffer), "rows": rows, "bytes": path.stat().st_size}
        self._entries.append(entry)
        self._checksums.append(self._hashing.submit(file_sha256, path))
        self._buffer, self._buffered_bytes = [], 0

    def entries(self) -> list[dict[str, Any]]:
        """The entries of the shards in ``dataset.json``."""
        return [
            {**entry, "sha256": checksum.result()}
            for entry, checksum in zip(self._entries, self._checksums, strict=True)
        ]


def _link_or_copy(source: Path, target: Path) -> None:
    """Shards never change, so two stores may share them; copies where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _known(checksum: str) -> Future[str]:
    future: Future[str] = Future()
    future.set_result(checksum)
    return future


@dataclass(frozen=True, slots=True)
class ManifestBuilder:
    """Computes the manifest once all shards are on disk."""

    folder: Path
    description: SourceDescription
    shards: ShardWriter
    splits: Mapping[str, Indices]

    def manifest(self) -> dict[str, Any]:
        """The content of ``dataset.json``; also writes the index."""
        rows, returns = np.array(self.shards.rows, np.int64), np.array(self.shards.returns, np.float64)
        codes = split_codes(self.splits, len(rows))
        index = EpisodeIndex(
            rows, returns, codes, *(np.array(marks, bool) for marks in (self.shards.acted, self.shards.demonstration))
        )
        entries = self.shards.entries()
        statistics, seen = self._read_back(entries)
        spec = DataSpec(
            observations=self.description.observations,
            action=self.description.action,
            privileged=self.description.privileged,
            statistics=statistics,
        )
        return {
            "format_version": FORMAT_VERSION if index.acted.all() else UNACTED_VERSION,
            "alignment": ALIGNMENT,
            "spec": spec.to_json(),
            "counts": {
                "episodes": len(rows),
                "rows": int(rows.sum()),
                "transitions": int(rows.sum()) - len(rows),
                **_marked(index),
            },
            "splits": list(self.splits),
            "index_sha256": index.write(self.folder),
            "episode_statistics": {
                name: {
                    "episodes": len(numbers),
                    "return": describe_values(returns[_rewarded(index, numbers)]),
                    "length": describe_values(rows[numbers] - 1),  # in transitions
                }
                for name, numbers in self.splits.items()
                if len(numbers)
            },
            "seen": seen.result(),
            "source": self.description.provenance,
            "shards": entries,
        }

    def _read_back(self, entries: Sequence[Mapping[str, Any]]) -> tuple[dict[str, VectorStatistics], Seen]:
        """Moments of the training rows and ranges of all rows; of actions, those that are known.

        The shards are read back because the split is known only now, and kept shards of an earlier store count too.
        """
        specs = self.shards.specs
        names = _vector_columns(self.description)
        moments = {name: RunningMoments(specs[column].size) for name, column in names.items()}
        seen = Seen(self.description.observations, self.description.action)
        training = np.zeros(len(self.shards.rows), bool)
        training[self.splits.get(TRAIN, np.arange(0))] = True
        first = 0
        for entry in entries:
            episodes = entry["episodes"]
            shard = open_shard(self.folder / entry["file"], specs, episodes=episodes, rows=entry["rows"])
            of_shard = slice(first, first + episodes)
            lengths = self.shards.rows[of_shard]
            seen.update(shard.columns, acted=np.repeat(self.shards.acted[of_shard], lengths))
            training_rows = np.repeat(training[of_shard], lengths)
            for name, column in names.items():
                rows = shard.columns[column][:][training_rows]
                if len(rows):
                    moments[name].update(rows)
            first += episodes
        return {name: running.result() for name, running in moments.items()}, seen


def _rewarded(index: EpisodeIndex, numbers: Indices) -> Indices:
    """The episodes with actions, since those without often have no rewards; all if none has actions."""
    acted: Indices = numbers[index.acted[numbers]]
    return acted if len(acted) else numbers


def _marked(index: EpisodeIndex) -> dict[str, int]:
    """How many episodes have no actions and how many are demonstrations; nothing if all episodes are both."""
    if index.acted.all() and index.demonstration.all():
        return {}
    return {
        UNACTED_EPISODES: int((~index.acted).sum()),
        DEMONSTRATION_EPISODES: int(index.demonstration.sum()),
    }


def _vector_columns(description: SourceDescription) -> dict[str, str]:
    """Name and column of every vector observation and privileged vector."""
    columns = column_specs(description)
    names: dict[str, str] = {}
    for group, prefix in ((description.observations, ""), (description.privileged, "privileged.")):
        names |= {name: prefix + name for name in group if columns[prefix + name].dtype == "float32"}
    return names
