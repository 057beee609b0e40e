"""Reads Minari's Arrow and Parquet layouts: one folder per episode, with one file and one column per leaf.

Every column has one row per observation: actions, rewards and flags end with a padding row of zeros.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.minari.columns import field_layout, leaf_field, leaf_values
from dreamset.datasets.sources.minari.metadata import MinariMetadata
from dreamset.datasets.sources.minari.parts import opened_part
from dreamset.datasets.sources.minari.storage import Layout, LeafPath, episode_numbers

_NUMBER = re.compile(r"0|[1-9][0-9]*")
_UNFILLED = ("observations", "infos")  # columns without a padding row


class ArrowStorage:
    """The folder of all episodes; opens one episode at a time."""

    def __init__(self, metadata: MinariMetadata) -> None:
        self._folder = metadata.folder
        self._ending = metadata.layout
        self._row_shapes = metadata.row_shapes
        self.where = str(self._folder)
        stored_numbers = [int(entry.name) for entry in self._folder.iterdir() if _NUMBER.fullmatch(entry.name)]
        self.numbers = episode_numbers(stored_numbers, metadata.total_episodes, self.where)

    def episode(self, number: int) -> "ArrowEpisode":
        """Opens an episode."""
        file = self._part(number)
        where = f"episode_{number} of {file}"
        if not file.is_file():
            raise UserError(f"{where}: no such file; copy or download the dataset again")
        if self._part(number, 1).exists():
            raise UserError(
                f"{where}: the episode has several parts, which is not supported; load and write it with Minari"
            )
        return ArrowEpisode(file, where, self._row_shapes)

    def fingerprint(self) -> Mapping[str, Any]:
        """The pattern of the files, and one checksum of all names, sizes and contents."""
        files = [file for file in map(self._part, self.numbers) if file.is_file()]
        entries = [(file.parent.name, file.stat().st_size, file_sha256(file)) for file in files]
        return {
            "file": f"*/part-0.{self._ending}",
            "sha256": hashlib.sha256(json.dumps(entries).encode()).hexdigest(),
        }

    def _part(self, number: int, part: int = 0) -> Path:
        return self._folder / str(number) / f"part-{part}.{self._ending}"


@dataclass(frozen=True, slots=True)
class ArrowEpisode:
    """The file of one episode."""

    file: Path
    where: str
    row_shapes: Mapping[LeafPath, tuple[int, ...]]  # arrays are stored flat; the metadata have their shapes

    def read(self, paths: Collection[LeafPath]) -> dict[LeafPath, Array]:
        """The values of the leaves, without padding."""
        with opened_part(self.file, self.where) as part:
            leaves = {path: leaf_field(part.schema, path, self.where) for path in paths}
            table = part.load([names for names, _ in leaves.values()])
            table.validate(full=True)  # before any offset is used
            self._check_rows(table.num_rows)
            return {path: self._unfilled(path, table, names, field) for path, (names, field) in leaves.items()}

    def layout(self, path: LeafPath) -> Layout:
        """How a leaf is stored."""
        with opened_part(self.file, self.where) as part:
            return field_layout(leaf_field(part.schema, path, self.where)[1], self.row_shapes.get(path))

    def infos(self) -> Mapping[LeafPath, Layout]:
        """The fields below the column ``infos``."""
        with opened_part(self.file, self.where) as part:
            index = part.schema.get_field_index("infos")
            return {} if index < 0 else dict(self._below(part.schema.field(index)))

    def _below(self, infos: pa.Field) -> Iterator[tuple[LeafPath, Layout]]:
        if not pa.types.is_struct(infos.type):
            raise UserError(
                f"{self.where}: 'infos' is an array, expected named arrays; copy or download the dataset again"
            )
        stack: list[tuple[LeafPath, pa.Field]] = [((field.name,), field) for field in infos.type]
        while stack:
            path, field = stack.pop()
            if pa.types.is_struct(field.type):
                stack += [((*path, child.name), child) for child in field.type]
            else:
                yield path, field_layout(field, None)

    def _unfilled(self, path: LeafPath, table: pa.Table, names: LeafPath, field: pa.Field) -> Array:
        values = leaf_values(table, names, f"{self.where}: {'/'.join(path)!r}")
        shape = field_layout(field, self.row_shapes.get(path)).row_shape
        if values.ndim > 1:
            values = values.reshape(len(values), *shape)
        return values if path[0] in _UNFILLED else values[:-1]

    def _check_rows(self, rows: int) -> None:
        """Checks the number of rows against the metadata; all columns have the same number of rows."""
        steps = self._recorded_steps()
        if rows < 1 or (steps is not None and rows != steps + 1):
            needed = "at least 2" if steps is None else f"{steps + 1} for the {steps} steps of its metadata"
            raise UserError(f"{self.where}: has {rows} rows, expected {needed}; copy or download the dataset again")

    def _recorded_steps(self) -> int | None:
        written = self.file.parent / "metadata.json"
        if not written.is_file():
            return None
        try:
            return int(json.loads(written.read_text(encoding="utf-8"))["total_steps"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"{self.where}: {written.name} has no valid 'total_steps' ({error!r}); copy it again"
            ) from error
