"""When the action and the reward of a row took place, in formats that leave it to the writer."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.recorded import FinalTransition
from dreamset.datasets.sources.rows import Flags, ends_terminally


class Alignment(StrEnum):
    """Where row t of a column belongs."""

    FOLLOWS = "follows"  # after observation t: the action taken at it, and the reward that this action earned
    PRECEDES = "precedes"  # before it: the action that led to observation t, and the reward received on arriving

    @classmethod
    def checked(cls, value: str) -> "Alignment":
        """The setting.

        Raises:
            UserError: if there is no such choice.
        """
        try:
            return cls(value)
        except ValueError:
            raise UserError(f"alignment is {value!r}; allowed: {' or '.join(cls)}; fix the ingest settings") from None


@dataclass(frozen=True, slots=True)
class TimeRule:
    """Finds the N transitions in columns that may have N or N + 1 rows.

    ``observations  o0 o1 o2 o3``      N + 1 = 4 rows; filling, such as zeros or NaN, is written as a dot
    ``follows       a0 a1 a2   ``      N rows, or with filling at the end ``a0 a1 a2 .``
    ``precedes       . a0 a1 a2``      N + 1 rows, with filling at the start

    If all columns follow and have as many rows as the observations, it has to be told whether their last row is
    filling. If it is not, nobody recorded where the last action led, and ``final`` says what becomes of it.
    """

    action: Alignment
    reward: Alignment
    filled_last_row: bool
    final: FinalTransition

    @classmethod
    def checked(cls, alignment: str | Mapping[str, str], *, filled_last_row: bool, final_transition: str) -> "TimeRule":
        """By the ingest settings; ``alignment`` is one word for both columns, or ``{action: word, reward: word}``.

        Raises:
            UserError: if a setting has no such choice.
        """
        words = {"action": alignment, "reward": alignment} if isinstance(alignment, str) else dict(alignment)
        if set(words) != {"action", "reward"}:
            raise UserError(f"alignment names {sorted(words)}, expected action and reward; fix the ingest settings")
        action, reward = (Alignment.checked(words[column]) for column in ("action", "reward"))
        return cls(action, reward, filled_last_row, FinalTransition.checked(final_transition))

    def lacks_arrival(self, observations: int, *others: int) -> bool:
        """Whether an episode with so many rows of each ends with an action whose outcome is not there."""
        recorded = self.filled_last_row or Alignment.PRECEDES in (self.action, self.reward)
        return not recorded and min(others) == observations

    def transitions(self, observations: int, *others: int) -> int:
        """How many transitions are recorded in so many rows of each."""
        return observations if self.lacks_arrival(observations, *others) else observations - 1

    def is_terminated(self, terminal: Flags, where: str) -> bool:
        """Whether the last flag is set, be it in the last row or, as filling follows, in the one before.

        Raises:
            UserError: if an earlier one is.
        """
        if self.filled_last_row and len(terminal) > 1:
            terminal = np.append(terminal[:-2], terminal[-2:].any())
        return ends_terminally(terminal, where)


def transition_rows(values: Array, alignment: Alignment, *, observations: int, transitions: int, place: str) -> Array:
    """[transitions] of a column, without its filling.

    Raises:
        UserError: if it does not have the rows that ``alignment`` needs.
    """
    allowed = {observations} if alignment is Alignment.PRECEDES else {transitions, observations}
    if len(values) not in allowed:
        needed = " or ".join(map(str, sorted(allowed)))
        raise UserError(
            f"{place} has {len(values)} rows for {observations} observations, expected {needed} if it {alignment}; "
            f"fix the setting 'alignment', or drop the episode"
        )
    return values[1:] if alignment is Alignment.PRECEDES else values[:transitions]
