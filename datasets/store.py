"""The store: a dataset in memory-mapped HDF5 files, read at the speed of memory."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256, user_path
from dreamset.core.spec import DataSpec
from dreamset.datasets.episode import Array
from dreamset.datasets.index import EpisodeIndex, Marks, read_index
from dreamset.datasets.layout import INDEX, MANIFEST, column_specs, read_manifest
from dreamset.datasets.shard import Shard, open_shard
from dreamset.datasets.windows import Indices

_MOST_MAPPED = 512  # shards: each map keeps a file open, and 1024 open files are a common limit


class Store:
    """An open dataset folder; episodes are numbered from 0 in the order of the source."""

    def __init__(self, path: Path, info: Mapping[str, Any]) -> None:
        self.path = path
        self.info = info  # the content of dataset.json
        self.spec = DataSpec.from_json(info["spec"])
        self.digest = _manifest_digest(path)
        for spec in self._specs.values():
            np.dtype(spec.dtype)  # raises here if the dtype is invalid
        index = read_index(path, info["index_sha256"])
        self.lengths: Indices = index.rows  # [episodes] rows
        self.first_rows: Indices = np.cumsum(index.rows) - index.rows  # [episodes] number of rows before the episode
        self.returns: NDArray[np.float64] = index.returns  # [episodes]
        self.acted: Marks = index.acted  # [episodes] whether the actions are known; otherwise they are zeros
        self.demonstration: Marks = index.demonstration  # [episodes] whether the episode is worth imitating
        self._splits = {name: np.flatnonzero(index.split == code) for code, name in enumerate(info["splits"])}
        self._entries = tuple(self._checked_entry(entry) for entry in info["shards"])
        episodes = [int(entry["episodes"]) for entry in self._entries]
        self._shard_of = np.repeat(np.arange(len(episodes)), episodes)
        self._check_counts(index)
        self._offsets = _offsets_in_shards(self.lengths, episodes)
        self._shards: OrderedDict[int, Shard] = OrderedDict()
        self._lock = Lock()
        self.from_disk = True  # whether the last batch was read at disk speed; affects only the way of reading

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """The store in folder ``path``.

        Raises:
            UserError: if it is missing, incomplete, of another version or does not match ``dataset.json``.
        """
        folder = user_path(path)
        info = read_manifest(folder)
        try:
            return cls(folder, info)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder / MANIFEST}: incomplete ({error!r}); run the ingest stage again") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return Store.open, (self.path,)  # another process opens the same files instead of receiving a copy

    def __repr__(self) -> str:
        splits = ", ".join(f"{len(episodes)} {name}" for name, episodes in self._splits.items())
        columns = ", ".join(self.columns)
        unacted = int((~self.acted).sum())
        without = f", {unacted} without actions" if unacted else ""
        rows = self.lengths.sum()
        return f"Store({str(self.path)!r}: {len(self)} episodes ({splits}{without}), {rows} rows; {columns})"

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.lengths)

    def __getitem__(self, episode: int) -> dict[str, Array]:
        """All rows of an episode, as ``read`` returns them; negative numbers count from the last episode.

        Raises:
            IndexError: if there is no such episode; a loop over the store ends there.
        """
        if not -len(self) <= episode < len(self):
            raise IndexError(f"episode {episode} of {self.path}, which has {len(self)}")
        return self.read(episode % len(self))

    @property
    def columns(self) -> list[str]:
        """Names of the columns, as ``read`` returns them."""
        return list(self._specs)

    @property
    def mean_return(self) -> float:
        """The mean return of the episodes with actions, since those without often have no rewards; else of all."""
        return float(self.returns[self.acted].mean() if self.acted.any() else self.returns.mean())

    def split(self, name: str, *, acted: bool | None = True) -> Indices:
        """Ascending numbers of a split's episodes: of those with actions, without them, or of all if ``acted`` is None.

        Raises:
            UserError: if there is no such split, or all its episodes lack the actions that are asked for.
        """
        if name not in self._splits:
            raise UserError(f"{self.path}: no split named {name!r}; available: {sorted(self._splits)}")
        episodes = self._splits[name]
        if acted is None:
            return episodes
        if acted and len(episodes) and not self.acted[episodes].any():
            raise UserError(
                f"{self.path}: none of the {len(episodes)} episodes of the split {name!r} has actions, which are "
                f"needed here; label them with `dreamset data label-actions`, or add episodes with actions to "
                f"dataset.source"
            )
        numbers: Indices = episodes[self.acted[episodes] == acted]
        return numbers

    def require_actions(self, by: str) -> None:
        """Raises a ``UserError`` if some episode has no actions; ``by`` names what needs them, such as ``scoring``."""
        unacted = int((~self.acted).sum())
        if unacted:
            raise UserError(
                f"{self.path}: {unacted} of {len(self)} episodes have no actions, which {by} needs; label them with "
                f"`dreamset data label-actions`, or choose a store with actions only"
            )

    def read(self, episode: int, start: int = 0, stop: int | None = None) -> dict[str, Array]:
        """Rows ``start`` to ``stop`` of every column of an episode: read-only views.

        Nothing is copied unless the store is compressed.
        """
        rows = int(self.lengths[episode])
        end = rows if stop is None else stop
        if not 0 <= start <= end <= rows:
            raise IndexError(f"rows {start} to {end} of episode {episode}, which has {rows}")
        first = int(self._offsets[episode])
        columns = self._shard(int(self._shard_of[episode])).columns
        return {name: values[first + start : first + end] for name, values in columns.items()}

    def will_need(self, episode: int, start: int, stop: int) -> None:
        """Announces that these rows will be read, so that the disk serves many windows at once."""
        first = int(self._offsets[episode])
        self._shard(int(self._shard_of[episode])).will_need(first + start, first + stop)

    def verify(self, on_shard: Callable[[], None] = lambda: None) -> None:
        """Reads every byte and compares it with the checksums; ``on_shard`` is called after each shard.

        Raises:
            UserError: if a shard differs; names the first one.
        """
        for entry in self.info["shards"]:
            checksum = file_sha256(self.path / entry["file"])
            if checksum != entry["sha256"]:
                raise UserError(
                    f"{self.path / entry['file']}: its checksum is {checksum[:12]}..., {MANIFEST} says "
                    f"{entry['sha256'][:12]}...; restore the file or run the ingest stage again"
                )
            on_shard()

    @cached_property
    def _specs(self) -> Mapping[str, Any]:
        return column_specs(self.spec)

    def _shard(self, number: int) -> Shard:
        """Maps a shard on first use and closes the least recently used shard if too many are mapped."""
        with self._lock:
            if number not in self._shards:
                entry = self._entries[number]
                if _manifest_digest(self.path) != self.digest:
                    raise UserError(
                        f"{self.path}: was replaced by another dataset while it was being read; start again"
                    )
                path = self.path / entry["file"]
                shard = open_shard(path, self._specs, episodes=int(entry["episodes"]), rows=int(entry["rows"]))
                mine = self._shard_of == number
                if not np.array_equal(shard.lengths, self.lengths[mine]):
                    raise UserError(f"{path}: its episodes are not those of {INDEX}; run the ingest stage again")
                self._shards[number] = shard
                if len(self._shards) > _MOST_MAPPED:
                    self._shards.popitem(last=False)
            self._shards.move_to_end(number)
            return self._shards[number]

    def _checked_entry(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        name = str(entry["file"])
        if Path(name).name != name:
            raise UserError(f"{self.path / MANIFEST}: shard {name!r} lies outside the folder, which is refused")
        path = self.path / name
        if not isinstance(entry["sha256"], str):
            raise TypeError(f"checksum of {name}")
        if not path.is_file():
            raise UserError(f"{path}: no such file; copy the whole dataset again or run the ingest stage again")
        if path.stat().st_size != entry["bytes"]:
            raise UserError(
                f"{path}: has {path.stat().st_size} bytes, {MANIFEST} says {entry['bytes']}; it was truncated or "
                f"changed, copy it again or run the ingest stage again"
            )
        return entry

    def _check_counts(self, index: EpisodeIndex) -> None:
        rows = sum(int(entry["rows"]) for entry in self._entries)
        episodes = len(self.lengths)
        columns = (self._shard_of, self.returns, index.split, self.acted, self.demonstration)
        fits = all(len(values) == episodes for values in columns) and int(self.lengths.sum()) == rows
        if not fits or index.split.max(initial=0) >= max(len(self._splits), 1):
            raise UserError(
                f"{self.path / MANIFEST}: its shards and splits do not assign each of the {episodes} episodes of "
                f"{INDEX} to exactly one split; run the ingest stage again"
            )


def _manifest_digest(folder: Path) -> str:
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def _offsets_in_shards(lengths: Indices, episodes: Sequence[int]) -> Indices:
    """The first row of each episode within its shard."""
    ends = np.cumsum(lengths)
    firsts = np.cumsum([0, *episodes])[:-1]
    before = np.concatenate([[0], ends])[firsts]  # number of rows before each shard
    offsets: Indices = ends - lengths - np.repeat(before, episodes)
    return offsets
