"""Several columns side by side as one vector."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.npz import ArrayHeader
from dreamset.datasets.sources.tables import ALL_ROWS, Table

Named: TypeAlias = str | Sequence[str]  # one column, or several side by side
Joins: TypeAlias = Mapping[str, tuple[str, ...]]  # name of a joined column -> names of its parts


@dataclass(frozen=True, slots=True)
class JoinedTable:
    """A table with further columns, each made of several columns of ``table`` side by side."""

    table: Table
    joins: tuple[tuple[str, tuple[str, ...]], ...]  # name of the new column -> names of its parts

    @property
    def path(self) -> Path:
        """The file."""
        return self.table.path

    @property
    def place(self) -> str:
        """The place of ``table``."""
        return self.table.place

    @property
    def name(self) -> str:
        """The name of ``table``."""
        return self.table.name

    def headers(self, where: str) -> Mapping[str, ArrayHeader]:
        """Those of ``table``, and of each new column if all its parts exist."""
        headers = dict(self.table.headers(where))
        for name, parts in self.joins:
            present = [headers[part] for part in parts if part in headers]
            if len(present) == len(parts):
                headers[name] = _header(present, f"{where}: {name!r}")
        return headers

    def read(self, columns: Collection[str], where: str, rows: slice = ALL_ROWS) -> dict[str, Array]:
        """Rows of columns of both kinds."""
        joins = dict(self.joins)
        values = self.table.read(stored_columns(columns, joins), where, rows)
        return {
            name: _side_by_side({part: values[part] for part in joins[name]}, where) if name in joins else values[name]
            for name in columns
        }


def joined_name(columns: Named) -> str:
    """The name of one column, or of several side by side."""
    return columns if isinstance(columns, str) else " + ".join(columns)


def joins_among(settings: Iterable[Named]) -> Joins:
    """The joined columns among the settings of columns, by name.

    Raises:
        UserError: if a setting is an empty list.
    """
    joins = {joined_name(columns): tuple(columns) for columns in settings if not isinstance(columns, str)}
    if not all(joins.values()):
        raise UserError("a list of columns is empty; name one column or more; fix the ingest settings")
    return joins


def stored_columns(names: Iterable[str], joins: Joins) -> list[str]:
    """The columns of the file that ``names`` consist of."""
    return sorted({part for name in names for part in joins.get(name, (name,))})


def parts_of(pairs: Mapping[str, str], joins: Joins) -> dict[str, str]:
    """Pairs of stored columns, from pairs of columns that may be joined.

    Raises:
        UserError: if the columns of a pair have different numbers of parts.
    """
    parts: dict[str, str] = {}
    for first, second in pairs.items():
        left, right = joins.get(first, (first,)), joins.get(second, (second,))
        if len(left) != len(right):
            raise UserError(
                f"next_observations joins {len(right)} columns for the {len(left)} of {first!r}; allowed: one column "
                f"for each; fix the ingest settings"
            )
        parts |= dict(zip(left, right, strict=True))
    return parts


def with_joins(table: Table, joins: Joins) -> Table:
    """The table with the joined columns, if there are some."""
    return JoinedTable(table, tuple(joins.items())) if joins else table


def _header(parts: Sequence[ArrayHeader], place: str) -> ArrayHeader:
    """The header of the parts side by side."""
    if any(len(part.shape) > 2 for part in parts):
        raise UserError(f"{place}: only numbers and vectors can stand side by side; name images one by one")
    size = sum(part.shape[1] if len(part.shape) == 2 else 1 for part in parts)
    return ArrayHeader((*parts[0].shape[:1], size), np.result_type(*(part.dtype for part in parts)))


def _side_by_side(parts: Mapping[str, Array], where: str) -> Array:
    rows = {name: len(values) for name, values in parts.items()}
    if len(set(rows.values())) > 1:
        raise UserError(
            f"{where}: columns side by side have different numbers of rows, {rows}; fix or drop the episode"
        )
    for name, values in parts.items():
        if values.dtype.kind not in "fiub":
            raise UserError(f"{where}: {name!r} holds {values.dtype}, expected numbers; omit the column")
    flat = [values.reshape(len(values), math.prod(values.shape[1:])) for values in parts.values()]
    return np.concatenate(flat, axis=1)
