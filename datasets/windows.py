"""Which windows of rows exist: arithmetic on episode lengths, no file in sight."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError

Indices = NDArray[np.int64]


class EpisodeSlice(NamedTuple):
    """Rows ``start`` to ``stop`` of one episode."""

    episode: int
    start: int
    stop: int


class WindowIndex:
    """All windows of ``window`` rows over episodes that are laid end to end in the given order.

    A window belongs to the episode that holds its last row; the windows of an episode are numbered from 0 in the order
    of their first rows, so the last one ends at the episode's last row. Without ``crossing`` a window stays inside its
    episode, and episodes shorter than a window have none. With it a window may begin in an earlier episode and hold
    whole short ones, so that every row is in some window, and in exactly ``window`` of them unless it is one of the
    first or last ``window - 1`` rows of all.

    Memory and set-up are O(episodes), whatever the number of rows.

    Raises:
        UserError: if there is no window at all.
    """

    def __init__(self, lengths: Sequence[int] | Indices, window: int, *, crossing: bool = False) -> None:
        rows = np.asarray(lengths, np.int64)
        if window < 1:
            raise UserError(f"a window of {window} rows is asked for; allowed: 1 or more; set batch.length")
        self.window = window
        self._ends: Indices = np.cumsum(rows)  # [episodes] rows up to and with each episode
        begins = self._ends - rows
        self._lowest: Indices = np.maximum(begins - window + 1, 0) if crossing else begins
        self.counts: Indices = np.maximum(self._ends - window - self._lowest + 1, 0)  # [episodes] windows of each
        self.total = int(self.counts.sum())
        self.excluded = 0 if crossing else int((rows < window).sum())  # episodes that no window reaches
        if not self.total:
            raise UserError(_no_window(rows, window, crossing))

    def first_rows(self, episodes: Indices, numbers: Indices) -> Indices:
        """Where windows begin, as rows of all episodes laid end to end.

        Args:
            episodes: [n] the windows' episodes.
            numbers: [n] which of the episode's windows each is.

        Raises:
            IndexError: if an episode has no window of that number.
        """
        outside = (numbers < 0) | (numbers >= self.counts[episodes])
        if outside.any():
            episode, number = episodes[outside][0], numbers[outside][0]
            raise IndexError(f"window {number} of episode {episode}, which has {self.counts[episode]}")
        return self._lowest[episodes] + numbers

    def slices(self, first_row: int) -> Iterator[EpisodeSlice]:
        """The parts of the window that begins at ``first_row``, in order, none of them empty."""
        row, stop = first_row, first_row + self.window
        while row < stop:
            episode = bisect_right(self._ends, row)
            begin = int(self._ends[episode - 1]) if episode else 0
            end = min(int(self._ends[episode]), stop)
            yield EpisodeSlice(episode, row - begin, end - begin)
            row = end


def _no_window(rows: Indices, window: int, crossing: bool) -> str:
    if crossing:
        return (
            f"the episodes have {rows.sum()} rows together, a window of {window} is asked for; "
            f"lower batch.length to {rows.sum()} or ingest more episodes"
        )
    longest = rows.max(initial=0)
    return (
        f"no episode has {window} rows, the longest has {longest}; "
        f"lower batch.length to {longest} or ingest longer episodes"
    )
