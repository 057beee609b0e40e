"""Writes shards and their manifest; used for new stores and for extending one."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamset.core.files import file_sha256
from dreamset.core.spec import ArraySpec, DataSpec, VectorStatistics
from dreamset.datasets.episode import Array, Episode
from dreamset.datasets.index import EpisodeIndex, split_codes
from dreamset.datasets.layout import ALIGNMENT, FORMAT_VERSION, column_specs, columns_of, shard_name
from dreamset.datasets.seen import Seen
from dreamset.datasets.shard import open_shard, write_shard
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.splits import TRAIN
from dreamset.datasets.statistics import RunningMoments, describe_values
from dreamset.datasets.store import Store
from dreamset.datasets.windows import Indices

_BLOCK = 1 << 20  # numbers of patch features that are converted at once


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
            self.rows += store.lengths[first : first + entry["episodes"]].tolist()
            self.returns += store.returns[first : first + entry["episodes"]].tolist()
        if len(self.rows) != episodes:
            raise ValueError(f"{store.path}: its shards end after {len(self.rows)} episodes, not after {episodes}")

    def add(self, episode: Episode) -> None:
        """Adds an episode; writes the shard if it is full."""
        self.rows.append(episode.rows)
        self.returns.append(float(episode.reward.sum(dtype=np.float64)))
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
        entries = self.shards.entries()
        statistics, seen = self._read_back(entries)
        spec = DataSpec(
            observations=self.description.observations,
            action=self.description.action,
            privileged=self.description.privileged,
            statistics=statistics,
        )
        return {
            "format_version": FORMAT_VERSION,
            "alignment": ALIGNMENT,
            "spec": spec.to_json(),
            "counts": {
                "episodes": len(rows),
                "rows": int(rows.sum()),
                "transitions": int(rows.sum()) - len(rows),
            },
            "splits": list(self.splits),
            "index_sha256": EpisodeIndex(rows, returns, codes).write(self.folder),
            "episode_statistics": {
                name: {
                    "episodes": len(numbers),
                    "return": describe_values(returns[numbers]),
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
        """Moments of the training rows and ranges of all rows.

        The shards are read back because the split is known only now, and kept shards of an earlier store count too.
        """
        specs = self.shards.specs
        names = _described_columns(self.description)
        moments = {name: RunningMoments(_statistics_size(specs[column])) for name, column in names.items()}
        seen = Seen(self.description.observations, self.description.action)
        training = np.zeros(len(self.shards.rows), bool)
        training[self.splits.get(TRAIN, np.arange(0))] = True
        first = 0
        for entry in entries:
            episodes = entry["episodes"]
            shard = open_shard(self.folder / entry["file"], specs, episodes=episodes, rows=entry["rows"])
            seen.update(shard.columns)
            training_rows = np.repeat(training[first : first + episodes], self.shards.rows[first : first + episodes])
            for name, column in names.items():
                for rows in _blocks(shard.columns[column], training_rows, specs[column]):
                    moments[name].update(rows)
            first += episodes
        return {name: running.result() for name, running in moments.items()}, seen


def _statistics_size(spec: ArraySpec) -> int:
    """How many means and deviations describe a column: one for each element of a vector, one for all patches."""
    return 1 if spec.is_patches else spec.size


def _blocks(values: Any, chosen: NDArray[np.bool_], spec: ArraySpec) -> Iterator[Array]:
    """The chosen rows of a column as blocks for ``RunningMoments``; patches a few at a time, because they are large."""
    count = len(chosen) if not spec.is_patches else max(1, _BLOCK // spec.size)
    for first in range(0, len(chosen), count):
        rows = values[first : first + count][chosen[first : first + count]]
        if len(rows):
            yield rows.reshape(-1, _statistics_size(spec))


def _described_columns(description: SourceDescription) -> dict[str, str]:
    """Name and column of everything that has statistics: vectors and patch features, privileged ones included."""
    columns = column_specs(description)
    names: dict[str, str] = {}
    for group, prefix in ((description.observations, ""), (description.privileged, "privileged.")):
        names |= {
            name: prefix + name
            for name in group
            if columns[prefix + name].dtype == "float32" or columns[prefix + name].is_patches
        }
    return names
