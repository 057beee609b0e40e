"""Columns with one value per row: rewards, flags and what they say of an episode's end."""

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array

Flags = NDArray[np.bool_]


def one_per_row(values: Array, place: str) -> Array:
    """[rows] of values that are stored as [rows] or [rows, 1].

    Raises:
        UserError: if there are more per row, or these are no numbers.
    """
    if values.dtype.kind not in "fiub" or values.shape[1:] not in ((), (1,)):
        got = f"{values.dtype}{list(values.shape[1:])}"
        raise UserError(f"{place} holds {got} per row, expected one number; fix the ingest settings or the file")
    return values.reshape(len(values))


def flags(values: Array, place: str) -> Flags:
    """[rows] of truth values in any numeric dtype; NaN, as in the filling of an arrival that is not there, is false."""
    is_set: Flags = one_per_row(values, place).astype(np.float64) > 0.5
    return is_set


def no_discount(values: Array, place: str) -> Flags:
    """[rows] of whether a discount is 0, which in formats without a flag marks a true end."""
    zero: Flags = one_per_row(values, place).astype(np.float64) == 0
    return zero


def ends_terminally(terminal: Flags, where: str) -> bool:
    """Whether the last of an episode's rows is a true end.

    Raises:
        UserError: if an earlier one is, since then these are several episodes, or the flag means something else.
    """
    early = np.flatnonzero(terminal[:-1])
    if early.size:
        raise UserError(
            f"{where}: is terminal at row {early[0]} of {len(terminal)}; allowed: only the last row; "
            f"split or drop the episode"
        )
    return bool(terminal[-1:].any())


def require_transition(transitions: int, where: str) -> None:
    """Raises ``UserError`` for an episode of a single observation, or of none."""
    if transitions < 1:
        raise UserError(f"{where}: holds no two observations, expected at least one transition; drop it")
