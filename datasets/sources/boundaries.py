"""Finds episodes in files without a convention: one per file, one per group, or in sequence."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.sources.folder import natural_order
from dreamset.datasets.sources.rows import flags, one_per_row
from dreamset.datasets.sources.segments import Piece
from dreamset.datasets.sources.tables import ALL_ROWS, HDF5Table, Table, open_table, subgroups


class Boundaries(Protocol):
    """Finds the episodes of a file."""

    @property
    def columns(self) -> Collection[str]:
        """Columns that only mark boundaries."""

    def pieces(self, file: Path, columns: Collection[str]) -> list[Piece]:
        """The rows of each episode; ``columns`` have one row per step. Raises a ``UserError`` for a damaged file."""


@dataclass(frozen=True, slots=True)
class WholeFiles:
    """Every file is an episode."""

    columns: Collection[str] = ()

    def pieces(self, file: Path, columns: Collection[str]) -> list[Piece]:  # noqa: ARG002
        """One."""
        return [Piece(open_table(file), ALL_ROWS)]


@dataclass(frozen=True, slots=True)
class Groups:
    """Every group directly below ``parent`` in an HDF5 file is an episode; group 2 comes before group 10."""

    parent: str
    columns: Collection[str] = ()

    def pieces(self, file: Path, columns: Collection[str]) -> list[Piece]:  # noqa: ARG002
        """One for each group."""
        groups = sorted(subgroups(file, self.parent), key=natural_order)
        if not groups:
            raise UserError(f"{file}: no groups below {self.parent or '/'!r}; fix the setting 'boundaries'")
        return [Piece(HDF5Table(file, group), ALL_ROWS) for group in groups]


@dataclass(frozen=True, slots=True)
class Ends:
    """Episodes in sequence; one of ``columns`` is set in the last row of each, except that of the last episode."""

    columns: Sequence[str]

    def pieces(self, file: Path, columns: Collection[str]) -> list[Piece]:
        """Slices of the rows."""
        table = open_table(file)
        rows = _rows(table, {*columns, *self.columns})
        values = table.read(self.columns, table.place)
        marks = [flags(values[column], f"{table.place}: {column!r}") for column in self.columns]
        stops = np.union1d(np.flatnonzero(np.logical_or.reduce(marks)) + 1, [rows])
        return _slices(table, np.diff(stops, prepend=0))


@dataclass(frozen=True, slots=True)
class Lengths:
    """Episodes in sequence; the column ``lengths`` has the number of rows of each."""

    lengths: str

    @property
    def columns(self) -> Collection[str]:
        """The lengths."""
        return (self.lengths,)

    def pieces(self, file: Path, columns: Collection[str]) -> list[Piece]:
        """Slices of the rows."""
        table = open_table(file)
        rows = _rows(table, columns)
        place = f"{table.place}: {self.lengths!r}"
        lengths = one_per_row(table.read([self.lengths], table.place)[self.lengths], place).astype(np.float64)
        if (lengths < 1).any() or (lengths % 1 != 0).any() or lengths.sum() != rows:
            raise UserError(
                f"{place} sums to {lengths.sum():g}, expected positive whole numbers that sum to {rows} rows; "
                f"fix the setting 'boundaries' or the file"
            )
        return _slices(table, lengths.astype(np.int64))


_KINDS: Mapping[str, Callable[[Any], Boundaries]] = {
    "groups": lambda parent: Groups(str(parent)),
    "ends": lambda columns: Ends([columns] if isinstance(columns, str) else list(columns)),
    "lengths": lambda column: Lengths(str(column)),
}


def checked_boundaries(setting: Mapping[str, Any] | None) -> Boundaries:
    """From the setting ``boundaries``: null, ``{groups: parent}``, ``{ends: columns}`` or ``{lengths: column}``.

    Raises:
        UserError: if it is none of these.
    """
    if setting is None:
        return WholeFiles()
    kinds = list(setting)
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        raise UserError(f"boundaries names {kinds}; allowed: null or one of {sorted(_KINDS)}; fix the settings")
    return _KINDS[kinds[0]](setting[kinds[0]])


def _rows(table: Table, columns: Iterable[str]) -> int:
    """The common number of rows of all columns."""
    headers = table.headers(table.place)
    rows = {}
    for column in sorted(columns):
        if column not in headers or not headers[column].shape:
            raise UserError(f"{table.place}: {column!r} is missing; available: {sorted(headers)}; fix the settings")
        rows[column] = headers[column].shape[0]
    if len(set(rows.values())) > 1:
        raise UserError(f"{table.place}: the columns have different numbers of rows, {rows}; fix the file")
    return next(iter(rows.values()))


def _slices(table: Table, lengths: np.ndarray[Any, np.dtype[np.int64]]) -> list[Piece]:
    stops = np.cumsum(lengths).tolist()
    return [Piece(table, slice(start, stop)) for start, stop in zip([0, *stops], stops, strict=False) if stop > start]
