"""Columns with one value per row: rewards, flags and ends of episodes."""

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array

Flags = NDArray[np.bool_]


def one_per_row(values: Array, place: str) -> Array:
    """[rows] of values that are stored as [rows] or [rows, 1].

    Raises:
        UserError: if a row has several values, or they are not numbers.
    """
    if values.dtype.kind not in "fiub" or values.shape[1:] not in ((), (1,)):
        got = f"{values.dtype}{list(values.shape[1:])}"
        raise UserError(f"{place} holds {got} per row, expected one number; fix the ingest settings or the file")
    return values.reshape(len(values))


def flags(values: Array, place: str) -> Flags:
    """[rows] booleans from any numeric dtype; NaN, which some formats use as padding, is false."""
    is_set: Flags = one_per_row(values, place).astype(np.float64) > 0.5
    return is_set


def no_discount(values: Array, place: str) -> Flags:
    """[rows] whether the discount is 0, which marks a true end in formats without a flag."""
    zero: Flags = one_per_row(values, place).astype(np.float64) == 0
    return zero


def ends_terminally(terminal: Flags, where: str) -> bool:
    """Whether the last row of an episode is a true end.

    Raises:
        UserError: if an earlier row is one: then the rows are several episodes, or the flag means something else.
    """
    early = np.flatnonzero(terminal[:-1])
    if early.size:
        raise UserError(
            f"{where}: is terminal at row {early[0]} of {len(terminal)}; allowed: only in the last row; "
            f"split or drop the episode"
        )
    return bool(terminal[-1:].any())


def require_transition(transitions: int, where: str) -> None:
    """Raises a ``UserError`` for an episode with fewer than two observations."""
    if transitions < 1:
        raise UserError(f"{where}: has fewer than two observations, expected at least one transition; drop it")
