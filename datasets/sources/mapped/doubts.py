"""What looks wrong in files that are read by a mapping: the settings may not match them."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dreamset.core.errors import UserError
from dreamset.datasets.sources import doubts
from dreamset.datasets.sources.autoreset import looks_like_reset_rows
from dreamset.datasets.sources.boundaries import Boundaries, Ends, WholeFiles
from dreamset.datasets.sources.mapped.columns import MappedColumns
from dreamset.datasets.sources.rows import flags, one_per_row
from dreamset.datasets.sources.segments import Piece, first_rows


@dataclass(frozen=True, slots=True)
class Suspect:
    """The readable episodes of a source and the settings that found them."""

    place: str
    columns: MappedColumns
    boundaries: Boundaries
    pieces: Sequence[Piece]

    def doubts(self) -> Iterator[str]:
        """Doubts about boundaries, alignment and the roles of the columns; unreadable files raise none."""
        for check in (self._of_boundaries, self._of_alignment, self._of_columns):
            with suppress(UserError):  # reading the episode reports it
                yield from check()

    def has_reset_rows(self) -> bool:
        """Whether the first file that is cut at flags looks as if the environment reset itself in the next step."""
        reward, table = self.columns.reward, self.pieces[0].table
        if not isinstance(self.boundaries, Ends) or reward is None:
            return False
        starts = [piece.rows.start for piece in self.pieces[1:] if piece.table == table]
        with suppress(UserError):  # reading the episode reports it
            rewards = table.read([reward], table.place)[reward]
            return looks_like_reset_rows(starts, one_per_row(rewards, f"{table.place}: {reward!r}"))
        return False

    def _of_boundaries(self) -> Iterator[str]:
        remedy = "set dataset.source.boundaries, such as {ends: [done]} or {every: 1000}"
        if self._is_uncut():
            yield doubts.one_long_episode(self.place, remedy)

    def _is_uncut(self) -> bool:
        """Whether no file holds two episodes, and neither several files nor flags mark their ends."""
        if isinstance(self.boundaries, WholeFiles):
            return len(self.pieces) == 1
        if not isinstance(self.boundaries, Ends) or len(self.pieces) > len({p.table.path for p in self.pieces}):
            return False
        table, columns = self.pieces[0].table, self.boundaries.columns
        marks = table.read(columns, table.place)
        return not any(flags(marks[column], f"{table.place}: {column!r}").any() for column in columns)

    def _of_alignment(self) -> Sequence[str]:
        pieces, columns = self.pieces[: doubts.EXAMPLES], self.columns
        if columns.preceding:
            return doubts.unpadded_first_rows(self.place, first_rows(pieces, columns.preceding))
        if columns.action is None:
            return []
        names = [columns.action.column, *filter(None, [columns.reward])]
        return doubts.padded_first_rows(self.place, columns.action.column, first_rows(pieces, names, 2))

    def _of_columns(self) -> Iterator[str]:
        headers, columns = self.pieces[0].table.headers(self.pieces[0].table.place), self.columns
        if not set(columns.names) <= set(headers):
            return
        shapes = {column: headers[column].shape or (0,) for column in columns.names}
        after = {name: f"next_{column}" for name, column in {**columns.observations, **columns.privileged}.items()}
        observed, transitions = columns.transitions({column: shape[0] for column, shape in shapes.items()})
        if observed == transitions and not columns.arrivals and set(after.values()) <= set(headers):
            yield doubts.unused_arrivals(self.place, after)
        if columns.action is None:
            return
        steps = math.prod(shapes[columns.action.column][1:])
        for column in columns.observations.values():
            shape = shapes[column][1:]
            if steps > 1 and len(shape) in (2, 4) and shape[0] - steps in (0, 1):
                yield doubts.flattened_batch(self.place, column, columns.action.column)
