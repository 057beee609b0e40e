"""Cuts the flat arrays of a D4RL file into episodes."""

from collections.abc import Sequence
from dataclasses import dataclass

from dreamset.core.errors import UserError
from dreamset.datasets.sources.autoreset import Span, spans
from dreamset.datasets.sources.rows import Flags


@dataclass(frozen=True, slots=True)
class EpisodeRows:
    """The rows of one episode."""

    span: Span
    terminal: bool  # the last step led to a true end
    flagged: bool  # a flag, not a limit on the rows, ended the episode

    @property
    def start(self) -> int:
        """The first row."""
        return self.span.start

    @property
    def stop(self) -> int:
        """The row after the last step."""
        return self.span.stop

    def __len__(self) -> int:
        return self.stop - self.start


def cut(
    terminals: Flags, timeouts: Flags, *, breaks: Flags | None, episode_length: int | None, reset_rows: bool
) -> list[EpisodeRows]:
    """The episodes: each ends at a flagged row, after ``episode_length`` rows, or at the end of the file.

    Args:
        terminals: [rows] true ends.
        timeouts: [rows] other ends.
        breaks: [rows] where the next row belongs to another episode although no flag says so; None: nowhere.
        episode_length: Maximum number of steps; None: unlimited.
        reset_rows: Whether the row after a flag has the final observation of the episode before.

    Raises:
        UserError: if ``episode_length`` is less than two.
    """
    if episode_length is not None and episode_length < 2:
        raise UserError(f"episode_length is {episode_length}; allowed: 2 or more, or null; fix the ingest settings")
    flags = terminals | timeouts
    whole = spans(flags if breaks is None else flags | breaks, reset_rows=reset_rows)
    parts = [part for span in whole for part in _limited(span, episode_length or len(flags))]
    return [EpisodeRows(part, bool(terminals[part.stop - 1]), bool(flags[part.stop - 1])) for part in parts]


def overwritten(episodes: Sequence[EpisodeRows], follows: Flags) -> frozenset[EpisodeRows]:
    """The flagged episodes whose last arrival is the observation of the next row, so of the next episode.

    If there are any, the last flagged episode counts as one, because nothing shows whether it is.

    Args:
        episodes: All episodes in order.
        follows: [rows] whether the observation after a step is that of the next row.
    """
    flagged = [rows for rows in episodes if rows.flagged]
    equal = {rows for rows in flagged if follows[rows.stop - 1]}
    return frozenset(equal | {flagged[-1]} if equal else equal)


def _limited(span: Span, length: int) -> list[Span]:
    starts = range(span.start, span.stop, length)
    return [
        Span(start, min(start + length, span.stop), span.reset_row and start + length >= span.stop) for start in starts
    ]
