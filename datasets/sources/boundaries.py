"""Finds episodes in files without a convention: one per file, group or folder, or in sequence."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.arrivals import Arrivals, continues
from dreamset.datasets.sources.autoreset import Autoreset, spans
from dreamset.datasets.sources.batched import BatchEntry
from dreamset.datasets.sources.files import open_table, tables_at
from dreamset.datasets.sources.folder import natural_order
from dreamset.datasets.sources.rows import Flags, flags, one_per_row
from dreamset.datasets.sources.segments import Piece
from dreamset.datasets.sources.tables import ALL_ROWS, HDF5_ENDINGS, HDF5Table, Table, subgroups


class Boundaries(Protocol):
    """Finds the episodes of a file."""

    @property
    def columns(self) -> Collection[str]:
        """Columns that only mark boundaries."""

    def places(self, path: Path) -> list[Path]:
        """The files and folders at ``path`` that hold episodes, in order."""

    def pieces(self, file: Path, columns: Collection[str]) -> list[Piece]:
        """The rows of each episode; ``columns`` have one row per step. Raises a ``UserError`` for a damaged file."""


class _InFiles:
    """Boundaries within the files of a folder, or within a single file."""

    __slots__ = ()

    def places(self, path: Path) -> list[Path]:
        """Every table."""
        return tables_at(path)


@dataclass(frozen=True, slots=True)
class WholeFiles(_InFiles):
    """Every file is an episode."""

    columns: Collection[str] = ()

    def pieces(self, file: Path, columns: Collection[str]) -> list[Piece]:  # noqa: ARG002
        """One."""
        return [Piece(open_table(file), ALL_ROWS)]


@dataclass(frozen=True, slots=True)
class Folders:
    """Every folder directly below ``parent`` in the dataset's folder is an episode; its files hold the columns."""

    parent: str
    columns: Collection[str] = ()

    def places(self, path: Path) -> list[Path]:
        """The folders; folder 2 comes before folder 10."""
        parent = path / self.parent
        if not parent.is_dir():
            raise UserError(f"{parent}: no such folder; fix the path or the setting 'boundaries'")
        folders = [entry for entry in parent.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
        if not folders:
            raise UserError(f"{parent}: contains no folders of episodes; fix the setting 'boundaries'")
        return sorted(folders, key=lambda folder: natural_order(folder.name))

    def pieces(self, file: Path, columns: Collection[str]) -> list[Piece]:  # noqa: ARG002
        """One."""
        return [Piece(open_table(file), ALL_ROWS)]


@dataclass(frozen=True, slots=True)
class Groups(_InFiles):
    """Every group directly below ``parent`` in an HDF5 file is an episode; group 2 comes before group 10."""

    parent: str
    columns: Collection[str] = ()

    def pieces(self, file: Path, columns: Collection[str]) -> list[Piece]:  # noqa: ARG002
        """One for each group."""
        if file.suffix not in HDF5_ENDINGS:
            raise UserError(f"{file}: only HDF5 files have groups; fix the setting 'boundaries'")
        groups = sorted(subgroups(file, self.parent), key=natural_order)
        if not groups:
            raise UserError(f"{file}: no groups below {self.parent or '/'!r}; fix the setting 'boundaries'")
        return [Piece(HDF5Table(file, group), ALL_ROWS) for group in groups]


@dataclass(frozen=True, slots=True)
class Ends(_InFiles):
    """Episodes in sequence; one of ``columns`` is set in the last row of each, except that of the last episode.

    An episode also ends where the observation after a step, by ``arrivals``, is not that of the following row. With
    ``reset_rows``, the row after a flag has the final observation of the episode before.
    """

    columns: Sequence[str]
    reset_rows: bool = False
    arrivals: Arrivals = field(default_factory=dict)

    def pieces(self, file: Path, columns: Collection[str]) -> list[Piece]:
        """Slices of the rows."""
        table = open_table(file)
        rows = _rows(table, {*columns, *self.columns})
        is_end = np.zeros(rows, bool)
        for column, values in table.read(self.columns, table.place).items():
            is_end |= flags(values, f"{table.place}: {column!r}")
        if self.arrivals:
            is_end |= ~continues(table, table.headers(table.place), self.arrivals, rows)
        return [Piece(table, span.observed, span.reset_row) for span in spans(is_end, reset_rows=self.reset_rows)]


@dataclass(frozen=True, slots=True)
class Lengths(_InFiles):
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


@dataclass(frozen=True, slots=True)
class Every(_InFiles):
    """Episodes in sequence, of ``length`` rows each; the last one may be shorter."""

    length: int
    columns: Collection[str] = ()

    def pieces(self, file: Path, columns: Collection[str]) -> list[Piece]:
        """Slices of the rows."""
        table = open_table(file)
        rows = _rows(table, columns)
        starts = range(0, rows, self.length)
        return [Piece(table, slice(start, min(start + self.length, rows))) for start in starts]


@dataclass(frozen=True, slots=True)
class Batch(_InFiles):
    """Arrays [episodes, steps, ...]: every entry of the first axis is an episode."""

    columns: Collection[str] = ()

    def pieces(self, file: Path, columns: Collection[str]) -> list[Piece]:
        """One for each entry."""
        table = open_table(file)
        return [Piece(BatchEntry(table, entry), ALL_ROWS) for entry in range(_rows(table, columns))]


@dataclass(frozen=True, slots=True)
class Stops(_InFiles):
    """Episodes in sequence; the column ``stops`` has the number of rows up to and with the last one of each."""

    stops: str

    @property
    def columns(self) -> Collection[str]:
        """The stops."""
        return (self.stops,)

    def pieces(self, file: Path, columns: Collection[str]) -> list[Piece]:
        """Slices of the rows."""
        table = open_table(file)
        rows = _rows(table, columns)
        place = f"{table.place}: {self.stops!r}"
        stops = one_per_row(table.read([self.stops], table.place)[self.stops], place).astype(np.float64)
        lengths = np.diff(stops, prepend=0)
        if (lengths < 1).any() or (stops % 1 != 0).any() or stops[-1:].tolist() != [rows]:
            raise UserError(
                f"{place} ends at {stops[-1:].sum():g}, expected ascending whole numbers, the last of them {rows}, the "
                f"number of rows; fix the setting 'boundaries' or the file"
            )
        return _slices(table, lengths.astype(np.int64))


@dataclass(frozen=True, slots=True)
class Changes(_InFiles):
    """Episodes in sequence; one begins wherever one of ``columns``, such as a number of the episode, changes."""

    columns: Sequence[str]

    def pieces(self, file: Path, columns: Collection[str]) -> list[Piece]:
        """Slices of the rows."""
        table = open_table(file)
        rows = _rows(table, {*columns, *self.columns})
        values = table.read(self.columns, table.place)
        begins = [_changes(values[column], f"{table.place}: {column!r}") for column in self.columns]
        starts = np.flatnonzero(np.logical_or.reduce(begins))
        if len(starts) > max(rows / 2, 1):
            raise UserError(
                f"{table.place}: {self.columns} change in {len(starts)} of {rows} rows, but episodes have two rows or "
                f"more; sort the rows by episode and step, or fix the setting 'boundaries'"
            )
        return _slices(table, np.diff(starts, append=rows))


_KINDS: Mapping[str, Callable[[Any, Arrivals], Boundaries]] = {
    "batch": lambda value, _: Batch() if value is True else _refused("batch", value, "true"),
    "breaks": lambda columns, arrivals: Ends(_names("breaks", columns), arrivals=_needed(arrivals)),
    "changes": lambda columns, _: Changes(_names("changes", columns)),
    "ends": lambda columns, _: Ends(_names("ends", columns)),
    "every": lambda length, _: Every(_whole(length)),
    "folders": lambda parent, _: Folders(str(parent)),
    "groups": lambda parent, _: Groups(str(parent)),
    "lengths": lambda column, _: Lengths(str(column)),
    "stops": lambda column, _: Stops(str(column)),
}


def checked_boundaries(
    setting: Mapping[str, Any] | None, *, arrivals: Arrivals | None = None, autoreset: Autoreset | None = None
) -> Boundaries:
    """From the setting ``boundaries``: null or one of ``_KINDS`` with its value.

    Raises:
        UserError: if it is none of these, or does not fit the settings ``next_observations`` and ``autoreset``.
    """
    if setting is not None and (len(setting) != 1 or not set(setting) <= set(_KINDS)):
        raise UserError(
            f"boundaries names {', '.join(setting)}; allowed: null or one of {', '.join(sorted(_KINDS))}; "
            "fix the settings"
        )
    boundaries: Boundaries = WholeFiles()
    for kind, value in (setting or {}).items():
        boundaries = _KINDS[kind](value, arrivals or {})
    if autoreset is not Autoreset.NEXT_STEP:
        return boundaries
    if not isinstance(boundaries, Ends) or boundaries.arrivals:
        raise UserError(f"autoreset is {autoreset}, but boundaries is {setting}; allowed: {{ends: columns}}")
    return replace(boundaries, reset_rows=True)


def _names(kind: str, columns: Any) -> list[str]:
    if isinstance(columns, str):
        return [columns]
    if not isinstance(columns, Sequence):
        _refused(kind, columns, "a column or a list of columns")
    return [str(column) for column in columns]


def _whole(length: Any) -> int:
    valid = isinstance(length, int) and length > 1
    return int(length) if valid else _refused("every", length, "a whole number of rows above 1")


def _needed(arrivals: Arrivals) -> Arrivals:
    if not arrivals:
        raise UserError("boundaries names breaks, but next_observations is empty; set it, or other boundaries")
    return arrivals


def _refused(kind: str, value: Any, allowed: str) -> NoReturn:
    raise UserError(f"boundaries has {kind}: {value!r}; allowed: {allowed}; fix the settings")


def _changes(values: Array, place: str) -> Flags:
    """[rows] whether a row is the first one or its value differs from the one before."""
    if values.ndim != 1 and values.shape[1:] != (1,):
        raise UserError(f"{place} holds {list(values.shape[1:])} per row, expected one value; fix the settings")
    column = values.reshape(len(values))
    missing = np.flatnonzero(
        column == "" if column.dtype.kind == "U" else column != column
    )  # only NaN differs from itself
    if missing.size:
        raise UserError(f"{place} has no value in row {missing[0]}; fill it in, or fix the setting 'boundaries'")
    begins: Flags = np.ones(len(column), bool)
    begins[1:] = column[1:] != column[:-1]
    return begins


def _rows(table: Table, columns: Iterable[str]) -> int:
    """The common number of rows of all columns."""
    headers = table.headers(table.place)
    rows = {}
    for column in sorted(columns):
        if column not in headers:
            raise UserError(f"{table.place}: {column!r} is missing; available: {sorted(headers)}; fix the settings")
        if not headers[column].shape:
            table.read([column], table.place)  # raises, with the reason
            raise UserError(f"{table.place}: {column!r} is a single value, expected one row per step; omit it")
        rows[column] = headers[column].shape[0]
    if len(set(rows.values())) > 1:
        raise UserError(f"{table.place}: the columns have different numbers of rows, {rows}; fix the file")
    return next(iter(rows.values()))


def _slices(table: Table, lengths: np.ndarray[Any, np.dtype[np.int64]]) -> list[Piece]:
    stops = np.cumsum(lengths).tolist()
    return [Piece(table, slice(start, stop)) for start, stop in zip([0, *stops], stops, strict=False) if stop > start]
