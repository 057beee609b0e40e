"""The interface to a Minari dataset's files, common to all layouts."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.images import image_axes
from dreamset.datasets.episode import Array

LeafPath = tuple[str, ...]  # such as ("observations", "body", "speed"); entries of a Tuple are named _index_<number>

_MOST_EPISODES = 1 << 22  # more means a damaged count


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of the rows of one leaf, known without reading them."""

    row_shape: tuple[int, ...]  # () for encoded images, which contain their shape
    dtype: np.dtype[Any]
    jpeg: bool
    unfit: str | None = None  # why it is not one numeric row per observation; None if it is

    @property
    def form(self) -> str:
        """The properties in which episodes must agree."""
        if self.jpeg:
            return "JPEG images"
        kind = "images of " if image_axes(self.dtype.name, self.row_shape) else ""
        return f"{kind}shape {self.row_shape}"


class StoredEpisode(Protocol):
    """One episode; every error is a ``UserError`` that starts with ``where``."""

    @property
    def where(self) -> str:
        """Episode and file, for messages: "episode_12 of /data/main_data.hdf5"."""

    def layout(self, path: LeafPath) -> Layout:
        """How a leaf is stored."""

    def infos(self) -> Mapping[LeafPath, Layout]:
        """Every leaf below ``infos``, by relative path; empty without infos."""

    def read(self, paths: Collection[LeafPath]) -> dict[LeafPath, Array]:
        """The values of the leaves, with rows on the first axis and without padding.

        Encoded images are objects, each an array of bytes, or rows of equal length.
        """


class MinariStorage(Protocol):
    """The files of a dataset; thread-safe."""

    @property
    def where(self) -> str:
        """The file or folder, for messages."""

    @property
    def numbers(self) -> Sequence[int]:
        """The numbers of all episodes, ascending."""

    def episode(self, number: int) -> StoredEpisode:
        """Opens one of ``numbers``; raises a ``UserError`` if it is missing or unreadable."""

    def fingerprint(self) -> Mapping[str, Any]:
        """Names and checksum of the files, for the provenance."""


def episode_numbers(stored: Iterable[int], promised: int, where: str) -> list[int]:
    """All stored and all promised numbers; a missing episode is reported when it is read.

    Raises:
        UserError: if there are no episodes, or the promised number is impossible.
    """
    if promised > _MOST_EPISODES:
        raise UserError(f"{where}: the metadata promise {promised} episodes; allowed: at most {_MOST_EPISODES}")
    present = set(stored)
    if not present:
        raise UserError(f"{where}: contains no episodes; it is empty or not a Minari dataset, copy or record it again")
    return sorted(present.union(range(promised)))
