"""Aligns actions and rewards in formats that do not define their time."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.recorded import FinalTransition
from dreamset.datasets.sources.rows import Flags, ends_terminally


class Alignment(StrEnum):
    """The time of row t of a column."""

    FOLLOWS = "follows"  # after observation t: the action taken there, and the reward for it
    PRECEDES = "precedes"  # before observation t: the action that led there, and the reward on arrival

    @classmethod
    def checked(cls, value: str) -> "Alignment":
        """From the setting.

        Raises:
            UserError: if the value is unknown.
        """
        try:
            return cls(value)
        except ValueError:
            raise UserError(f"alignment is {value!r}; allowed: {' or '.join(cls)}; fix the ingest settings") from None


@dataclass(frozen=True, slots=True)
class TimeRule:
    """Finds the N transitions in columns that may have N or N + 1 rows.

    ``observations  o0 o1 o2 o3``      N + 1 = 4 rows; a dot is padding, such as zeros or NaN
    ``follows       a0 a1 a2   ``      N rows, or with padding at the end ``a0 a1 a2 .``
    ``precedes       . a0 a1 a2``      N + 1 rows, with padding at the start

    If all columns follow and have as many rows as the observations, ``filled_last_row`` states whether the last row is
    padding. If it is not, the outcome of the last action was not recorded, and ``final`` sets how to treat that action.
    """

    action: Alignment
    reward: Alignment
    filled_last_row: bool
    final: FinalTransition

    @classmethod
    def checked(cls, alignment: str | Mapping[str, str], *, filled_last_row: bool, final_transition: str) -> "TimeRule":
        """From the ingest settings; ``alignment`` is one word for both columns, or ``{action: word, reward: word}``.

        Raises:
            UserError: if a value is unknown.
        """
        words = {"action": alignment, "reward": alignment} if isinstance(alignment, str) else dict(alignment)
        if set(words) != {"action", "reward"}:
            raise UserError(
                f"alignment has the keys {sorted(words)}, expected action and reward; fix the ingest settings"
            )
        action, reward = (Alignment.checked(words[column]) for column in ("action", "reward"))
        return cls(action, reward, filled_last_row, FinalTransition.checked(final_transition))

    def lacks_arrival(self, observations: int, *others: int) -> bool:
        """Whether the outcome of the last action is missing, given the numbers of rows.

        Without a column of actions or rewards, the last row is the final observation.
        """
        recorded = self.filled_last_row or Alignment.PRECEDES in (self.action, self.reward)
        return bool(others) and not recorded and min(others) == observations

    def transitions(self, observations: int, *others: int) -> int:
        """Number of recorded transitions, given the numbers of rows."""
        return observations if self.lacks_arrival(observations, *others) else observations - 1

    def is_terminated(self, terminal: Flags, where: str) -> bool:
        """Whether the flag is set in the last row or, if that row is padding, in the row before.

        Raises:
            UserError: if an earlier flag is set.
        """
        if self.filled_last_row and len(terminal) > 1:
            terminal = np.append(terminal[:-2], terminal[-2:].any())
        return ends_terminally(terminal, where)


def transition_rows(values: Array, alignment: Alignment, *, observations: int, transitions: int, place: str) -> Array:
    """[transitions] of a column, without padding.

    Raises:
        UserError: if the number of rows does not match ``alignment``.
    """
    allowed = {observations} if alignment is Alignment.PRECEDES else {transitions, observations}
    if len(values) not in allowed:
        needed = " or ".join(map(str, sorted(allowed)))
        raise UserError(
            f"{place} has {len(values)} rows for {observations} observations, expected {needed} if it {alignment}; "
            f"fix the setting 'alignment', or drop the episode"
        )
    return values[1:] if alignment is Alignment.PRECEDES else values[:transitions]
