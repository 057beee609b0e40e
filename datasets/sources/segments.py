"""Episodes within streams of rows that are cut into files without regard to where an episode ends."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.columns import Headers, headers_of
from dreamset.datasets.sources.rows import Flags
from dreamset.datasets.sources.tables import Table


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one file."""

    table: Table
    rows: slice

    def lengths(self, columns: Collection[str]) -> dict[str, int]:
        """How many of the rows each column has.

        Raises:
            UserError: if a column is missing or the file is damaged.
        """
        headers = self.table.headers(self.table.place)
        missing = [column for column in columns if column not in headers or not headers[column].shape]
        if missing:
            raise UserError(f"{self.table.place}: {missing[0]!r} is missing; available: {sorted(headers)}")
        return {column: len(range(*self.rows.indices(headers[column].shape[0]))) for column in columns}


@dataclass(frozen=True, slots=True)
class MarkedTable:
    """A file with the flags of its rows."""

    table: Table
    is_first: Flags  # [rows]
    is_last: Flags  # [rows]


@dataclass(frozen=True, slots=True)
class Segment:
    """An episode, or the part of it that is there."""

    pieces: tuple[Piece, ...]
    rows: int
    has_first: bool  # otherwise its beginning is missing
    has_last: bool  # otherwise it was abandoned, or its end is missing

    @property
    def place(self) -> str:
        """Its first file."""
        return self.pieces[0].table.place

    def read(self, columns: Collection[str], where: str) -> dict[str, Array]:
        """The columns' rows of all pieces.

        Raises:
            UserError: if a file is damaged or the pieces do not fit each other.
        """
        parts = [piece.table.read(columns, where, piece.rows) for piece in self.pieces]
        return {column: _joined([part[column] for part in parts], f"{where}: {column!r}") for column in columns}


@dataclass(frozen=True, slots=True)
class Damage:
    """Stands for the episodes of a file that cannot be read."""

    table: Table
    reason: str  # starts with the file


def marked_table(table: Table, mark: Callable[[Table], tuple[Flags, Flags]]) -> MarkedTable | Damage:
    """A file with what ``mark`` reads of it: the flags is_first and is_last."""
    try:
        is_first, is_last = mark(table)
        _require_rows(table, len(is_first))
    except UserError as error:
        return Damage(table, str(error))
    return MarkedTable(table, is_first, is_last)


def _require_rows(table: Table, rows: int) -> None:
    """Rows that are missing in one column only would shift it against the others."""
    for name, header in table.headers(table.place).items():
        if header.shape and header.shape[0] != rows:
            raise UserError(f"{table.place}: {name!r} has {header.shape[0]} rows, the flags {rows}; copy it again")


@dataclass(frozen=True, slots=True)
class Segments:
    """What streams of rows were cut into, in their order."""

    entries: Sequence[Segment | Damage]
    single_rows: int  # segments without a transition, which are left out

    @classmethod
    def of(cls, found: Sequence[Segment | Damage], limit: int | None) -> "Segments":
        """Those that have a transition, at most ``limit``."""
        entries = [entry for entry in found if isinstance(entry, Damage) or entry.rows > 1]
        return cls(entries[:limit], len(found) - len(entries))

    def segment(self, number: int) -> Segment:
        """One of ``entries``.

        Raises:
            UserError: if its file is damaged.
        """
        entry = self.entries[number]
        if isinstance(entry, Damage):
            raise UserError(f"episode {number} of {entry.reason}")
        return entry

    @property
    def files(self) -> set[Path]:
        """Where the entries are."""
        segments = [entry for entry in self.entries if isinstance(entry, Segment)]
        damaged = [entry.table.path for entry in self.entries if isinstance(entry, Damage)]
        return {piece.table.path for segment in segments for piece in segment.pieces} | set(damaged)

    @property
    def provenance(self) -> dict[str, int]:
        """How many there are, and how many are incomplete and in what way."""
        segments = [entry for entry in self.entries if isinstance(entry, Segment)]
        return {
            "episodes": len(self.entries),
            "episodes_without_beginning": sum(not segment.has_first for segment in segments),
            "episodes_without_end": sum(not segment.has_last for segment in segments),
            "episodes_over_several_files": sum(len(segment.pieces) > 1 for segment in segments),
            "left_out_single_rows": self.single_rows,
            "unreadable_files": len(self.entries) - len(segments),
        }


def segments_of(
    files: Sequence[MarkedTable | Damage], continues: Callable[[MarkedTable, MarkedTable], bool]
) -> list[Segment | Damage]:
    """The segments of files in order; only where the next file ``continues`` one can an episode span both."""
    found: list[Segment | Damage] = []
    chain: list[MarkedTable] = []
    for file in files:
        if isinstance(file, Damage):
            found.extend((*_cut(chain), file))
            chain = []
        elif chain and not continues(chain[-1], file):
            found.extend(_cut(chain))
            chain = [file]
        else:
            chain.append(file)
    return found + _cut(chain)


def readable_headers(files: Sequence[MarkedTable | Damage], where: str) -> dict[Table, Headers]:
    """Of the files without damage, those with the most common columns first.

    Raises:
        UserError: if there are none.
    """
    tables = [file.table for file in files if isinstance(file, MarkedTable)]
    if not tables:
        reasons = [file.reason for file in files if isinstance(file, Damage)]
        raise UserError(f"{where}: no file can be read; the first one: {reasons[0]}")
    return headers_of(tables, where)


def _cut(chain: Sequence[MarkedTable]) -> list[Segment | Damage]:
    """The segments of files that follow each other: one begins at every first row and after every last row."""
    if not chain:
        return []
    is_first = np.concatenate([marked.is_first for marked in chain])
    is_last = np.concatenate([marked.is_last for marked in chain])
    begins = is_first.copy()
    begins[1:] |= is_last[:-1]
    starts = np.union1d([0], np.flatnonzero(begins)).astype(int).tolist()
    stops = [*starts[1:], len(begins)]
    return [
        Segment(tuple(_pieces(chain, start, stop)), stop - start, bool(is_first[start]), bool(is_last[stop - 1]))
        for start, stop in zip(starts, stops, strict=True)
        if stop > start
    ]


def _pieces(chain: Sequence[MarkedTable], start: int, stop: int) -> Iterator[Piece]:
    offset = 0
    for marked in chain:
        rows = len(marked.is_first)
        first, last = max(start - offset, 0), min(stop - offset, rows)
        if first < last:
            yield Piece(marked.table, slice(first, last))
        offset += rows


def _joined(parts: Sequence[Array], place: str) -> Array:
    shapes = sorted({part.shape[1:] for part in parts})
    if len(shapes) > 1:
        raise UserError(f"{place} has rows of shapes {shapes} in files that belong together; copy the dataset again")
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
