"""What the reader asks of a Minari dataset's files, whichever of Minari's layouts they have."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import Array

LeafPath = tuple[str, ...]  # such as ("observations", "body", "speed"); an entry of a Tuple is called _index_<number>

_MOST_EPISODES = 1 << 22  # more is a damaged count


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of one leaf are stored, found without reading them."""

    row_shape: tuple[int, ...]  # () for encoded images, whose shape is inside them
    dtype: np.dtype[Any]
    jpeg: bool
    unfit: str | None = None  # why it has no row of numbers for every observation, if so

    @property
    def form(self) -> str:
        """What episodes must agree in."""
        if self.jpeg:
            return "JPEG images"
        kind = "images of " if self.dtype == np.uint8 and len(self.row_shape) == 3 else ""
        return f"{kind}shape {self.row_shape}"


class StoredEpisode(Protocol):
    """One episode, whose every mistake is a ``UserError`` that starts with ``where``."""

    @property
    def where(self) -> str:
        """Episode and file, for messages: "episode_12 of /data/main_data.hdf5"."""

    def layout(self, path: LeafPath) -> Layout:
        """How a leaf is stored."""

    def infos(self) -> Mapping[LeafPath, Layout]:
        """Every leaf below ``infos``, by its path below that; none if nothing was recorded."""

    def read(self, paths: Collection[LeafPath]) -> dict[LeafPath, Array]:
        """The leaves with their rows on the first axis and nothing added to them.

        Encoded images come as objects, each an array of bytes, or as rows of equally many bytes.
        """


class MinariStorage(Protocol):
    """The files of a dataset; any number of threads may read."""

    @property
    def where(self) -> str:
        """The file or folder, for messages."""

    @property
    def numbers(self) -> Sequence[int]:
        """Of the episodes, ascending."""

    def episode(self, number: int) -> StoredEpisode:
        """One of ``numbers``; ``UserError`` if it is missing or cannot be opened."""

    def fingerprint(self) -> Mapping[str, Any]:
        """What the files are called and a checksum of their content, for the provenance."""


def episode_numbers(found: Iterable[int], promised: int, where: str) -> list[int]:
    """All numbers that are there or should be: an episode that is missing is found out when it is read.

    Raises:
        UserError: if there is none, or the metadata promise an impossible number of episodes.
    """
    if promised > _MOST_EPISODES:
        raise UserError(f"{where}: the metadata speak of {promised} episodes, at most {_MOST_EPISODES} are possible")
    present = set(found)
    if not present:
        raise UserError(f"{where}: holds no episodes; it is no Minari dataset or an empty one, copy or record it again")
    return sorted(present.union(range(promised)))
