"""Parquet and CSV files as tables with one row per step."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.npz import ArrayHeader
from dreamset.datasets.sources.tables import ALL_ROWS, PathTable

PARQUET_ENDING, CSV_ENDING = ".parquet", ".csv"

_LARGEST_CSV = 4 << 30  # bytes; a CSV file is read as a whole
_DELIMITERS = ",;\t"
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


@dataclass(frozen=True, slots=True)
class ParquetTable(PathTable):
    """A parquet file. Lists of equal lengths are vectors."""

    def headers(self, where: str) -> Mapping[str, ArrayHeader]:
        """Shape and dtype of every column; the first row gives the length of lists."""
        with _translated(self.path, where):
            file = pq.ParquetFile(self.path)
            rows = file.metadata.num_rows
            first = next(file.iter_batches(batch_size=1), None) if rows else None
            example = file.schema_arrow.empty_table() if first is None else pa.Table.from_batches([first])
        return _headers(example, rows)

    def read(self, columns: Collection[str], where: str, rows: slice = ALL_ROWS) -> dict[str, Array]:
        """Decodes the row groups that contain the rows; caches the last two."""
        with _translated(self.path, where):
            changed, names = _changed(self.path), tuple(columns)
            starts = _row_groups(self.path, changed)
            start, stop, _ = rows.indices(starts[-1])
            parts = [
                _read_group(self.path, changed, group, names).slice(max(start - first, 0), stop - max(start, first))
                for group, (first, after) in enumerate(pairwise(starts))
                if first < stop and start < after
            ]
            table = pa.concat_tables(parts) if parts else _read_group(self.path, changed, 0, names).slice(0, 0)
        return {column: _array(table.column(column), f"{where}: {column!r}") for column in columns}


@dataclass(frozen=True, slots=True)
class CSVTable(PathTable):
    """A CSV file with the names of the columns in its first line; the delimiter is a comma, semicolon or tab."""

    def headers(self, where: str) -> Mapping[str, ArrayHeader]:
        """Shape and dtype of every column; reads the whole file."""
        with _translated(self.path, where):
            table = _read_csv(self.path, _changed(self.path))
        return _headers(table.slice(0, 1), len(table))

    def read(self, columns: Collection[str], where: str, rows: slice = ALL_ROWS) -> dict[str, Array]:
        """Reads the whole file; caches the last two."""
        with _translated(self.path, where):
            table = _read_csv(self.path, _changed(self.path))
            _require_columns(table.column_names, columns)
        start, stop, _ = rows.indices(len(table))
        return {
            column: _array(table.column(column).slice(start, stop - start), f"{where}: {column!r}")
            for column in columns
        }


@lru_cache(maxsize=64)
def _row_groups(path: Path, changed: int) -> tuple[int, ...]:  # noqa: ARG001 (part of the key)
    """The first row of every row group, and the number of rows."""
    metadata = pq.read_metadata(path)
    rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return (0, *np.cumsum(rows).tolist()) if rows else (0, 0)


@lru_cache(maxsize=2)
def _read_group(path: Path, changed: int, group: int, columns: tuple[str, ...]) -> pa.Table:  # noqa: ARG001
    file = pq.ParquetFile(path)
    _require_columns(file.schema_arrow.names, columns)
    if not file.num_row_groups:
        return file.schema_arrow.empty_table().select(columns)
    return file.read_row_group(group, columns=list(columns))


@lru_cache(maxsize=2)
def _read_csv(path: Path, changed: int) -> pa.Table:  # noqa: ARG001
    size = path.stat().st_size
    if size > _LARGEST_CSV:
        raise UserError(
            f"has {size >> 20} MiB and would be read as a whole; allowed: {_LARGEST_CSV >> 20} MiB; convert it to "
            f"parquet, which is read in parts, or split it"
        )
    with path.open(encoding="utf-8", errors="replace") as file:
        header = file.readline(1 << 20)
    delimiter = max(_DELIMITERS, key=header.count)
    table = pa.csv.read_csv(path, parse_options=pa.csv.ParseOptions(delimiter=delimiter))
    return table.rename_columns([name.strip() for name in table.column_names])


def _require_columns(names: Collection[str], columns: Collection[str]) -> None:
    missing = [column for column in columns if column not in names]
    if missing:
        raise UserError(f"{missing[0]!r} is missing; available: {sorted(names)}")


def _headers(example: pa.Table, rows: int) -> dict[str, ArrayHeader]:
    """Headers from a table with the first row; object dtype for columns that hold no numbers."""
    headers = {}
    for name in example.column_names:
        try:
            first = _array(example.column(name), name)
            headers[name] = ArrayHeader((rows, *first.shape[1:]), first.dtype)
        except UserError:
            headers[name] = ArrayHeader((rows,), np.dtype(object))
    return headers


def _array(column: pa.ChunkedArray, place: str) -> Array:
    """[rows, ...] of a column of numbers, text, or lists of numbers; missing numbers are NaN.

    Raises:
        UserError: if lists have different lengths, or the values are neither numbers nor text.
    """
    values = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    shape = [len(values)]
    while any(is_list(values.type) for is_list in _LISTS):
        sizes = pc.unique(pc.list_value_length(values)).to_pylist()
        if len(sizes) > 1 or None in sizes:
            raise UserError(f"{place} holds lists of different lengths; drop or fix the episode, or omit the column")
        shape.append(sizes[0] if sizes else 0)
        values = values.flatten()
    return _flat(values, place).reshape(shape)


def _flat(values: pa.Array, place: str) -> Array:
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.dictionary_decode()
        kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array(values.fill_null("").to_pylist(), dtype=str)
    if pa.types.is_null(kind) or pa.types.is_decimal(kind) or (pa.types.is_boolean(kind) and values.null_count):
        values = values.cast(pa.float64())
    elif not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise UserError(f"{place} holds {kind}, expected numbers; omit the column")
    array: Array = values.to_numpy(zero_copy_only=False)
    return array


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


@contextmanager
def _translated(path: Path, where: str) -> Iterator[None]:
    """Turns errors about a file into a ``UserError`` of one line that starts with ``where``."""
    if not path.is_file():
        raise UserError(f"{where}: no such file; check the path, or copy or download the dataset again")
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{where}: unreadable, truncated or not {path.suffix[1:]} ({reason}); copy it again") from error
