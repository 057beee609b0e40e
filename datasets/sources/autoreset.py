"""Recordings of environments that reset themselves when an episode ends, as vector environments do."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.rows import Flags

_MOST_ZEROS = 0.1  # share of rewards of 0 from which a row without reward says nothing


class Autoreset(StrEnum):
    """When the environment reset itself, in the words of Gymnasium."""

    NEXT_STEP = "next_step"  # the row after an end has the final observation; its action was ignored
    SAME_STEP = "same_step"  # the observation after the last step is the first one of the next episode
    DISABLED = "disabled"  # it did not: the observation after the last step is the final one

    @classmethod
    def checked(cls, value: str | None) -> "Autoreset | None":
        """The setting ``autoreset``; null looks for signs of ``same_step``.

        Raises:
            UserError: if the value is unknown.
        """
        try:
            return None if value is None else cls(value)
        except ValueError:
            allowed = ", ".join(cls)
            raise UserError(f"autoreset is {value!r}; allowed: {allowed} or null; fix the ingest settings") from None


@dataclass(frozen=True, slots=True)
class Span:
    """The steps of one episode in consecutive rows."""

    start: int
    stop: int  # exclusive
    reset_row: bool = False  # row ``stop`` has the final observation, and no step

    @property
    def observed(self) -> slice:
        """The rows of its observations."""
        return slice(self.start, self.stop + self.reset_row)


def spans(is_end: Flags, *, reset_rows: bool) -> list[Span]:
    """Cuts rows after every end; with ``reset_rows``, the row after an end has that episode's final observation."""
    episodes, start, rows = [], 0, len(is_end)
    for end in np.flatnonzero(is_end).tolist():
        if end >= start:  # a flag that is still set in the reset row ends nothing
            has_row = reset_rows and end + 1 < rows
            episodes.append(Span(start, end + 1, has_row))
            start = end + 1 + has_row
    return [*episodes, Span(start, rows)] if start < rows else episodes


def looks_like_reset_rows(starts: Sequence[int], rewards: Array) -> bool:
    """Whether rewards are 0 in the rows ``starts`` after ends, and rarely elsewhere: they may be reset rows."""
    first = np.isin(np.arange(len(rewards)), starts)
    return len(starts) > 1 and not rewards[first].any() and bool(np.mean(rewards[~first] == 0) < _MOST_ZEROS)
