"""From a source to a store: checks, aligns, splits and describes the episodes while they stream by."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256, replaced_folder
from dreamset.core.spec import DataSpec, VectorStatistics
from dreamset.datasets.duplicates import Fingerprints
from dreamset.datasets.episode import Episode, align
from dreamset.datasets.index import EpisodeIndex, split_codes
from dreamset.datasets.layout import (
    ALIGNMENT,
    FORMAT_VERSION,
    MANIFEST,
    column_specs,
    columns_of,
    shard_name,
    write_manifest,
)
from dreamset.datasets.read_ahead import read_ahead
from dreamset.datasets.shard import open_shard, write_shard
from dreamset.datasets.sources.base import Source, SourceDescription
from dreamset.datasets.splits import TRAIN, split_episodes
from dreamset.datasets.statistics import RunningMoments, describe_values
from dreamset.datasets.store import Store
from dreamset.datasets.windows import Indices

ON_INVALID = ("error", "quarantine")


def write_store(
    source: Source,
    path: str | Path,
    *,
    validation_fraction: float = 0.1,
    seed: int = 0,
    splits: Callable[[Sequence[int]], Mapping[str, Indices]] | None = None,
    on_invalid: str = "error",
    compression: str | None = None,
    shard_bytes: int = 64 << 20,
    workers: int = 2,
    on_episode: Callable[[int], None] | None = None,
) -> Store:
    """Writes every episode of ``source`` into the folder ``path`` and opens it.

    Memory is bounded by one shard and ``workers + 1`` episodes. An existing store at ``path`` is replaced when the new
    one is complete, and kept if anything fails. Equal input gives equal bytes, whatever the number of workers.

    Args:
        source: where the episodes come from.
        path: the store's folder.
        validation_fraction: share of the episodes that validates, drawn from ``seed``.
        seed: of the split.
        splits: instead of a drawn split, a function from the kept episodes' numbers in the source to named lists of
            positions among them.
        on_invalid: ``error`` stops at the first invalid episode, ``quarantine`` leaves such episodes out and lists
            each with its reason in ``dataset.json``.
        compression: lossless compression by name (``compression.FILTERS``); None keeps columns that can be mapped.
        shard_bytes: size at which a shard is closed.
        workers: threads that read and decode episodes.
        on_episode: hears how many episodes are done.

    Raises:
        UserError: if an episode is not what the source promised, or ``path`` holds something that is no store.
    """
    if on_invalid not in ON_INVALID:
        raise UserError(f"on_invalid is {on_invalid!r}, allowed are {' or '.join(ON_INVALID)}; mend the settings")
    target = Path(path)
    _require_replaceable(target)
    description = source.describe()
    drawn: dict[str, Any] = {"validation_fraction": validation_fraction, "seed": seed}
    with replaced_folder(target) as folder, ThreadPoolExecutor(1, thread_name_prefix="checksum") as hashing:
        shards = _ShardWriter(folder, description, hashing, compression=compression, shard_bytes=shard_bytes)
        kept, quarantined = _write_valid(source, description, shards, workers, on_invalid, on_episode or _nobody)
        shards.flush()
        if splits is None:
            shares = split_episodes(len(kept), validation_fraction=validation_fraction, seed=seed)
        else:
            shares, drawn = dict(splits(kept)), {"given": True}
        written = _Written(folder, description, shards, shares)
        write_manifest(
            folder,
            {
                **written.manifest(),
                "split_settings": drawn,
                "compression": compression,
                "quarantined": quarantined,
            },
        )
    return Store.open(target)


def _write_valid(
    source: Source,
    description: SourceDescription,
    shards: "_ShardWriter",
    workers: int,
    on_invalid: str,
    on_episode: Callable[[int], None],
) -> tuple[list[int], list[dict[str, Any]]]:
    """Numbers of the episodes that were kept, and those that were not, with reasons."""
    fingerprints = Fingerprints()
    kept: list[int] = []
    quarantined: list[dict[str, Any]] = []

    def read(number: int) -> tuple[Episode, str]:
        raw = source.read(number)
        return align(raw, description), raw.name

    with closing(read_ahead(read, source.episode_count, workers=workers)) as results:
        for number in range(source.episode_count):
            try:
                episode = _only_new(next(results), fingerprints)
            except UserError as error:
                if on_invalid == "error":
                    raise
                quarantined.append({"episode": number, "reason": str(error)})
            else:
                shards.add(episode)
                kept.append(number)
                del episode  # it need not stay in memory while the next one is awaited
            on_episode(number + 1)
    _require_some(kept, quarantined)
    return kept, quarantined


def _only_new(result: tuple[Episode, str] | UserError, fingerprints: Fingerprints) -> Episode:
    if isinstance(result, UserError):
        raise result
    episode, name = result
    fingerprints.add(episode, name)
    return episode


def _require_some(kept: Sequence[int], quarantined: Sequence[Mapping[str, Any]]) -> None:
    if quarantined and not kept:
        raise UserError(f"all {len(quarantined)} episodes are invalid; the first: {quarantined[0]['reason']}")


class _ShardWriter:
    """Closed shards, one shard of episodes in memory, and a few numbers per episode."""

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

    def add(self, episode: Episode) -> None:
        self.rows.append(episode.rows)
        self.returns.append(float(episode.reward.sum(dtype=np.float64)))
        self._buffer.append(episode)
        self._buffered_bytes += sum(values.nbytes for values in columns_of(episode).values())
        if self._buffered_bytes >= self._shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Writes what is in memory as one shard."""
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
        """What ``dataset.json`` says of each shard."""
        return [
            {**entry, "sha256": checksum.result()}
            for entry, checksum in zip(self._entries, self._checksums, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Written:
    """All shards on disk, waiting for their manifest."""

    folder: Path
    description: SourceDescription
    shards: _ShardWriter
    splits: Mapping[str, Indices]

    def manifest(self) -> dict[str, Any]:
        """The content of ``dataset.json``; writes the index beside it."""
        rows, returns = np.array(self.shards.rows, np.int64), np.array(self.shards.returns, np.float64)
        codes = split_codes(self.splits, len(rows))
        entries = self.shards.entries()
        spec = DataSpec(
            observations=self.description.observations,
            action=self.description.action,
            privileged=self.description.privileged,
            statistics=self._vector_statistics(entries),
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
            "source": self.description.provenance,
            "shards": entries,
        }

    def _vector_statistics(self, entries: Sequence[Mapping[str, Any]]) -> dict[str, VectorStatistics]:
        """Moments over the training episodes' rows, read back shard by shard: only now the split is known."""
        specs = self.shards.specs
        names = _vector_columns(self.description)
        moments = {name: RunningMoments(specs[column].size) for name, column in names.items()}
        training = np.zeros(len(self.shards.rows), bool)
        training[self.splits.get(TRAIN, np.arange(0))] = True
        first = 0
        for entry in entries if moments else ():
            episodes = entry["episodes"]
            shard = open_shard(self.folder / entry["file"], specs, episodes=episodes, rows=entry["rows"])
            chosen = np.repeat(training[first : first + episodes], self.shards.rows[first : first + episodes])
            for name, column in names.items():
                rows = shard.columns[column][:][chosen]
                if len(rows):
                    moments[name].update(rows)
            first += episodes
        return {name: running.result() for name, running in moments.items()}


def _vector_columns(description: SourceDescription) -> dict[str, str]:
    """Every vector observation and privileged vector, and its column's name in the file."""
    columns = column_specs(description)
    names: dict[str, str] = {}
    for group, prefix in ((description.observations, ""), (description.privileged, "privileged.")):
        names |= {name: prefix + name for name in group if columns[prefix + name].dtype == "float32"}
    return names


def _nobody(_episodes: int) -> None:
    """Nobody listens to the progress."""


def _require_replaceable(path: Path) -> None:
    empty = path.is_dir() and not any(path.iterdir())
    if path.exists() and not empty and not (path / MANIFEST).is_file():
        raise UserError(f"{path}: exists and is no Dreamset dataset, so it is not replaced; choose another path")
