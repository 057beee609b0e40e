"""Columns that hold the observation after each step, and with it the final observation of every episode."""

from collections.abc import Mapping

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.columns import Headers
from dreamset.datasets.sources.rows import Flags
from dreamset.datasets.sources.tables import Table

_BLOCK_BYTES = 1 << 26  # read at once from each column

Arrivals = Mapping[str, str]  # column of an observation -> column of the same observation after the step


def continues(table: Table, headers: Headers, arrivals: Arrivals, rows: int) -> Flags:
    """[rows] whether the observation after step t is that of row t + 1; False in the last row.

    Raises:
        UserError: if a column is missing or its rows have another shape than those of its observation.
    """
    _require_alike(headers, arrivals, table.place)
    follows = np.ones(rows, bool)
    follows[-1:] = False
    names = {*arrivals, *arrivals.values()}
    row_bytes = max(int(np.prod(headers[name].shape[1:])) * headers[name].dtype.itemsize for name in names)
    block = max(1, _BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, rows - 1, block):
        stop = min(start + block, rows - 1)
        values = table.read(sorted(names), table.place, slice(start, stop + 1))
        for observed, arrived in arrivals.items():
            follows[start:stop] &= equal_rows(values[arrived][:-1], values[observed][1:])
    return follows


def completed(
    values: Mapping[str, Array], arrivals: Arrivals, where: str, *, trusted: bool, remedy: str
) -> Mapping[str, Array]:
    """The values without the columns of arrivals; if ``trusted``, each observation gets the last arrival as a last row.

    An observation that has one row more than its arrivals has its final row already.

    Raises:
        UserError: if an arrival differs from the following observation; ends with ``remedy``.
    """
    done = {name: column for name, column in values.items() if name not in arrivals.values()}
    for observed, arrived in arrivals.items():
        before, after = values[observed], values[arrived]
        if before.shape[1:] != after.shape[1:] or len(before) - len(after) not in (0, 1):
            raise UserError(
                f"{where}: {arrived!r} has shape {list(after.shape)}, {observed!r} has {list(before.shape)}; "
                f"allowed: equal shapes; fix the ingest settings or the file"
            )
        wrong = np.flatnonzero(~equal_rows(after[: len(before) - 1], before[1:]))
        if wrong.size:
            raise UserError(
                f"{where}: {arrived!r} at step {wrong[0]} differs from the following observation, so the flag of an "
                f"episode's end is missing; {remedy}"
            )
        if trusted and len(before) == len(after):
            done[observed] = np.concatenate([before, after[-1:]])
    return done


def equal_rows(first: Array, second: Array) -> Flags:
    """[rows] whether the rows are equal in float32; NaN equals NaN, and rows of different shapes differ."""
    if first.shape != second.shape:
        return np.zeros(len(first), bool)
    if first.dtype.kind == "f" or second.dtype.kind == "f":
        with np.errstate(over="ignore"):
            first, second = first.astype(np.float32), second.astype(np.float32)
    differs = (first != second) & ~((first != first) & (second != second))  # only NaN differs from itself
    alike: Flags = ~differs.any(axis=tuple(range(1, differs.ndim)))
    return alike


def _require_alike(headers: Headers, arrivals: Arrivals, place: str) -> None:
    for observed, arrived in arrivals.items():
        for name in (observed, arrived):
            if name not in headers:
                raise UserError(f"{place}: {name!r} is missing; available: {sorted(headers)}; fix the ingest settings")
        if headers[arrived].shape != headers[observed].shape:
            got, needed = list(headers[arrived].shape), list(headers[observed].shape)
            raise UserError(
                f"{place}: {arrived!r} has shape {got}, {observed!r} has {needed}; allowed: equal shapes; "
                f"fix the ingest settings or the file"
            )
