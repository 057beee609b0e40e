"""Arrays [episodes, steps, ...]: one entry of the first axis is an episode."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.npz import ArrayHeader
from dreamset.datasets.sources.tables import ALL_ROWS, Table


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """A table of one entry of the first axis of every array of ``whole``."""

    whole: Table
    entry: int

    @property
    def path(self) -> Path:
        """The file."""
        return self.whole.path

    @property
    def place(self) -> str:
        """The file and the entry."""
        return f"{self.whole.place}[{self.entry}]"

    @property
    def name(self) -> str:
        """The file's name and the entry."""
        return f"{self.whole.name}[{self.entry}]"

    def headers(self, where: str) -> Mapping[str, ArrayHeader]:
        """Headers without the first axis."""
        return {name: ArrayHeader(h.shape[1:], h.dtype) for name, h in self.whole.headers(where).items()}

    def read(self, columns: Collection[str], where: str, rows: slice = ALL_ROWS) -> dict[str, Array]:
        """The rows of this entry."""
        values = self.whole.read(columns, where, slice(self.entry, self.entry + 1))
        for name, array in values.items():
            if array.ndim < 2:
                raise UserError(f"{where}: {name!r} has one axis, expected [episodes, steps, ...]; fix the settings")
        return {name: array[0][rows] for name, array in values.items()}
