"""Which windows of rows exist: arithmetic on episode lengths, no file in sight."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError

Indices = NDArray[np.int64]


class WindowIndex:
    """All windows of ``window`` rows that stay inside one episode, numbered from 0 to ``total - 1``.

    Memory and set-up are O(episodes), whatever the number of rows; drawing a number uniformly draws a window uniformly.
    """

    def __init__(self, lengths: Sequence[int] | Indices, window: int) -> None:
        rows = np.asarray(lengths, np.int64)
        if window < 1:
            raise UserError(f"a window of {window} rows is asked for, allowed is 1 or more; set batch.length")
        longest = int(rows.max(initial=0))
        if longest < window:
            raise UserError(
                f"no episode has {window} rows, the longest has {longest}; "
                f"lower batch.length to {longest} or ingest longer episodes"
            )
        self._ends = np.cumsum(np.maximum(rows - window + 1, 0))  # [episodes] windows up to and with each episode
        self.total = int(self._ends[-1])

    def locate(self, number: int | Indices) -> tuple[Indices, Indices]:
        """Episode and first row of each numbered window."""
        numbers = np.asarray(number, np.int64)
        if numbers.size and not (numbers.min() >= 0 and numbers.max() < self.total):
            raise IndexError(f"window numbers {numbers.min()} to {numbers.max()} are not within 0 to {self.total - 1}")
        episode = np.searchsorted(self._ends, numbers, side="right")
        before = np.where(episode > 0, self._ends[episode - 1], 0)
        return episode.astype(np.int64), numbers - before
