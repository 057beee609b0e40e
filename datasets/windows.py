"""Enumerates windows of rows by arithmetic on episode lengths, without reading any file."""

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
    """All windows of ``window`` rows over a sequence of episodes.

    A window belongs to the episode of its last row. The windows of an episode are numbered from 0 by first row, so the
    last window ends with the episode. Without ``crossing``, a window lies inside one episode, and episodes shorter than
    a window have none. With ``crossing``, a window may begin in an earlier episode and contain whole short episodes.
    Every row is then in ``window`` windows, except the first and last ``window - 1`` rows of the sequence, which are in
    fewer.

    Memory and set-up time are O(episodes).

    Raises:
        UserError: if there is no window at all.
    """

    def __init__(self, lengths: Sequence[int] | Indices, window: int, *, crossing: bool = False) -> None:
        rows = np.asarray(lengths, np.int64)
        if window < 1:
            raise UserError(f"batch.length is {window}; allowed: 1 or more")
        self.window = window
        self._ends: Indices = np.cumsum(rows)  # [episodes] number of rows up to the end of each episode
        begins = self._ends - rows
        self._lowest: Indices = np.maximum(begins - window + 1, 0) if crossing else begins
        self.counts: Indices = np.maximum(self._ends - window - self._lowest + 1, 0)  # [episodes] windows per episode
        self.total = int(self.counts.sum())
        self.excluded = 0 if crossing else int((rows < window).sum())  # episodes without a window
        if not self.total:
            raise UserError(_no_window(rows, window, crossing))

    def first_rows(self, episodes: Indices, numbers: Indices) -> Indices:
        """The first rows of windows, counted over all episodes in sequence.

        Args:
            episodes: [n] the episode of each window.
            numbers: [n] the number of each window in its episode.

        Raises:
            IndexError: if an episode has no window with the number.
        """
        outside = (numbers < 0) | (numbers >= self.counts[episodes])
        if outside.any():
            episode, number = episodes[outside][0], numbers[outside][0]
            raise IndexError(f"window {number} of episode {episode}, which has {self.counts[episode]}")
        return self._lowest[episodes] + numbers

    def slices(self, first_row: int) -> Iterator[EpisodeSlice]:
        """The window that begins at ``first_row``, as non-empty slices of episodes in order."""
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
            f"the episodes have {rows.sum()} rows in total, fewer than a window of {window}; "
            f"lower batch.length to {rows.sum()} or ingest more episodes"
        )
    longest = rows.max(initial=0)
    return (
        f"no episode has {window} rows, the longest has {longest}; "
        f"lower batch.length to {longest} or ingest longer episodes"
    )
