"""The store: a dataset that is read at memory speed through maps of its own HDF5 files."""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256
from dreamset.core.spec import DataSpec
from dreamset.datasets.episode import Array
from dreamset.datasets.layout import MANIFEST, column_specs, read_manifest
from dreamset.datasets.shard import Shard, open_shard
from dreamset.datasets.windows import Indices


class Store:
    """A checked dataset folder; episodes are numbered from 0 in the order of the source."""

    def __init__(self, path: Path, info: Mapping[str, Any]) -> None:
        self.path = path
        self.info = info  # the content of dataset.json
        self.spec = DataSpec.from_json(info["spec"])
        self.digest = hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()
        self._shards = [self._open_shard(entry) for entry in info["shards"]]
        self.lengths: Indices = _joined([shard.lengths for shard in self._shards], np.int64)  # [episodes] rows
        self.returns: NDArray[np.float64] = _joined([shard.returns for shard in self._shards], np.float64)  # [episodes]
        self._offsets: Indices = _joined([shard.offsets for shard in self._shards], np.int64)
        self._shard_of = np.repeat(np.arange(len(self._shards)), [len(shard.lengths) for shard in self._shards])
        self._splits = {name: np.asarray(episodes, np.int64) for name, episodes in info["splits"].items()}
        self._check_splits()

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """The store in folder ``path``.

        Raises:
            UserError: if it is missing, incomplete, of another version or not what ``dataset.json`` says.
        """
        folder = Path(path)
        info = read_manifest(folder)
        try:
            return cls(folder, info)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder / MANIFEST}: incomplete ({error!r}); run the ingest stage again") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return Store.open, (self.path,)  # another process maps the same files instead of receiving a copy

    @property
    def columns(self) -> list[str]:
        """Names of the columns, as ``read`` returns them."""
        return list(self._specs)

    def split(self, name: str) -> Indices:
        """Ascending episode numbers of a split.

        Raises:
            UserError: if there is no such split.
        """
        if name not in self._splits:
            raise UserError(f"{self.path}: no split named {name!r}, available are {sorted(self._splits)}; choose one")
        return self._splits[name]

    def read(self, episode: int, start: int = 0, stop: int | None = None) -> dict[str, Array]:
        """Rows ``start`` to ``stop`` of every column of an episode: read-only views, nothing is copied."""
        rows = int(self.lengths[episode])
        end = rows if stop is None else stop
        if not 0 <= start <= end <= rows:
            raise IndexError(f"rows {start} to {end} of episode {episode}, which has {rows}")
        first = int(self._offsets[episode])
        columns = self._shards[self._shard_of[episode]].columns
        return {name: values[first + start : first + end] for name, values in columns.items()}

    def verify(self) -> None:
        """Reads every byte and compares it with the checksums.

        Raises:
            UserError: naming the first shard that differs.
        """
        for entry in self.info["shards"]:
            found = file_sha256(self.path / entry["file"])
            if found != entry["sha256"]:
                raise UserError(
                    f"{self.path / entry['file']}: its checksum is {found[:12]}..., {MANIFEST} says "
                    f"{entry['sha256'][:12]}...; restore the file or run the ingest stage again"
                )

    @cached_property
    def _specs(self) -> Mapping[str, Any]:
        return column_specs(self.spec)

    def _open_shard(self, entry: Mapping[str, Any]) -> Shard:
        name = str(entry["file"])
        if Path(name).name != name:
            raise UserError(f"{self.path / MANIFEST}: shard {name!r} lies outside the folder, which is refused")
        return open_shard(self.path / name, self._specs, episodes=int(entry["episodes"]), rows=int(entry["rows"]))

    def _check_splits(self) -> None:
        numbers = np.concatenate([np.zeros(0, np.int64), *self._splits.values()])
        if not np.array_equal(np.sort(numbers), np.arange(len(self.lengths))):
            raise UserError(
                f"{self.path / MANIFEST}: the splits do not share out its {len(self.lengths)} episodes, each to one "
                f"split; run the ingest stage again"
            )


def _joined(parts: list[Array], dtype: type[Any]) -> NDArray[Any]:
    joined = np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype)
    joined.flags.writeable = False
    return joined
