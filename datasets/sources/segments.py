"""Finds episodes in streams of rows whose files may begin and end within an episode."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.columns import Headers, headers_of
from dreamset.datasets.sources.rows import Flags
from dreamset.datasets.sources.tables import Table, kept_open


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one file."""

    table: Table
    rows: slice
    reset_row: bool = False  # the last row has only the final observation; its action and reward mean nothing

    def first(self, rows: int) -> slice:
        """The first ``rows`` rows."""
        start = self.rows.start or 0
        return slice(start, start + rows)

    @property
    def last_row(self) -> slice:
        """The last of the rows."""
        return slice(-1, None) if self.rows.stop is None else slice(self.rows.stop - 1, self.rows.stop)


def first_rows(pieces: Iterable[Piece], columns: Collection[str], rows: int = 1) -> list[dict[str, Array]]:
    """The first rows of the columns, of all readable pieces."""
    starts = []
    with kept_open():
        for piece in pieces:
            with suppress(UserError):  # reading the episode reports it
                starts.append(piece.table.read(columns, piece.table.place, piece.first(rows)))
    return starts


@dataclass(frozen=True, slots=True)
class MarkedTable:
    """A file and the flags of its rows."""

    table: Table
    is_first: Flags  # [rows]
    is_last: Flags  # [rows]


@dataclass(frozen=True, slots=True)
class Segment:
    """An episode, or the recorded part of one."""

    pieces: tuple[Piece, ...]
    rows: int
    has_first: bool  # otherwise the beginning is missing
    has_last: bool  # otherwise the episode was abandoned, or the end is missing

    @property
    def place(self) -> str:
        """The first file."""
        return self.pieces[0].table.place

    def read(self, columns: Collection[str], where: str) -> dict[str, Array]:
        """The rows of the columns, from all pieces.

        Raises:
            UserError: if a file is damaged or the pieces do not match.
        """
        parts = [piece.table.read(columns, where, piece.rows) for piece in self.pieces]
        return {column: _joined([part[column] for part in parts], f"{where}: {column!r}") for column in columns}


@dataclass(frozen=True, slots=True)
class Damage:
    """Stands for the episodes of an unreadable file."""

    table: Table
    reason: str  # starts with the file


def marked_table(table: Table, mark: Callable[[Table], tuple[Flags, Flags]]) -> MarkedTable | Damage:
    """A file with its flags is_first and is_last, as read by ``mark``."""
    try:
        is_first, is_last = mark(table)
        _require_rows(table, len(is_first))
    except UserError as error:
        return Damage(table, str(error))
    return MarkedTable(table, is_first, is_last)


def _require_rows(table: Table, rows: int) -> None:
    """Rows missing in a single column would misalign it."""
    for name, header in table.headers(table.place).items():
        if header.shape and header.shape[0] != rows:
            raise UserError(f"{table.place}: {name!r} has {header.shape[0]} rows, the flags {rows}; copy it again")


@dataclass(frozen=True, slots=True)
class Segments:
    """The episodes of streams of rows, in order."""

    entries: Sequence[Segment | Damage]
    single_rows: int  # number of segments without a transition, which are skipped

    @classmethod
    def of(cls, segments: Sequence[Segment | Damage], limit: int | None) -> "Segments":
        """The segments with a transition, at most ``limit``."""
        entries = [entry for entry in segments if isinstance(entry, Damage) or entry.rows > 1]
        return cls(entries[:limit], len(segments) - len(entries))

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
        """The files of all entries."""
        segments = [entry for entry in self.entries if isinstance(entry, Segment)]
        damaged = [entry.table.path for entry in self.entries if isinstance(entry, Damage)]
        return {piece.table.path for segment in segments for piece in segment.pieces} | set(damaged)

    @property
    def provenance(self) -> dict[str, int]:
        """Counts of all episodes and of the incomplete ones."""
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
    """The segments of files in order; an episode spans two files only if the second ``continues`` the first."""
    segments: list[Segment | Damage] = []
    chain: list[MarkedTable] = []
    for file in files:
        if isinstance(file, Damage):
            segments.extend((*_cut(chain), file))
            chain = []
        elif chain and not continues(chain[-1], file):
            segments.extend(_cut(chain))
            chain = [file]
        else:
            chain.append(file)
    return segments + _cut(chain)


def readable_headers(files: Sequence[MarkedTable | Damage], where: str) -> dict[Table, Headers]:
    """The headers of undamaged files, those with the most common columns first.

    Raises:
        UserError: if all files are damaged.
    """
    tables = [file.table for file in files if isinstance(file, MarkedTable)]
    if not tables:
        reasons = [file.reason for file in files if isinstance(file, Damage)]
        raise UserError(f"{where}: no file is readable; the first error: {reasons[0]}")
    return headers_of(tables, where)


def _cut(chain: Sequence[MarkedTable]) -> list[Segment | Damage]:
    """The segments of consecutive files: one begins at every first row and after every last row."""
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
        raise UserError(
            f"{place} has rows of different shapes {shapes} in the files of one episode; copy the dataset again"
        )
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
