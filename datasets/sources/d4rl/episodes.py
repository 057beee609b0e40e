"""Cuts the flat arrays of a D4RL file into episodes."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.sources.rows import Flags


@dataclass(frozen=True, slots=True)
class EpisodeRows:
    """The rows of one episode."""

    start: int
    stop: int  # exclusive
    terminal: bool  # the last row's action led to a true end

    @property
    def slice(self) -> slice:
        """The rows as a slice."""
        return slice(self.start, self.stop)

    def __len__(self) -> int:
        return self.stop - self.start


def cut(terminals: Flags, timeouts: Flags, *, episode_length: int | None) -> list[EpisodeRows]:
    """The episodes: each ends at a flagged row, after ``episode_length`` rows, or at the end of the file.

    Raises:
        UserError: if ``episode_length`` is less than two.
    """
    if episode_length is not None and episode_length < 2:
        raise UserError(f"episode_length is {episode_length}; allowed: 2 or more, or null; fix the ingest settings")
    rows = len(terminals)
    ends = np.flatnonzero(terminals | timeouts) + 1
    borders = np.union1d(ends, [0, rows]).tolist()
    step = episode_length or max(rows, 1)
    return [
        EpisodeRows(first, min(first + step, stop), bool(terminals[min(first + step, stop) - 1]))
        for start, stop in pairwise(borders)
        for first in range(start, stop, step)
    ]
