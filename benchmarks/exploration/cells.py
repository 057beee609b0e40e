"""Which states an agent has visited: the share of the cells of a grid over the state space."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamset.datasets import Store


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a grid.

    Args:
        column: the observation that holds the coordinate.
        elements: one element is the coordinate itself; two are cosine and sine of an angle.
        bins: number of cells along the axis.
        low: the end of the first cell; values below it count for this cell.
        high: the end of the last cell; values above it count for this cell.
    """

    column: str
    elements: tuple[int, ...]
    bins: int
    low: float = -np.pi
    high: float = np.pi

    def cells(self, observations: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
        """The number of the cell of each row, [N]."""
        values = observations[self.column][:, list(self.elements)].astype(np.float64)
        coordinate = values[:, 0] if len(self.elements) == 1 else np.arctan2(values[:, 1], values[:, 0])
        shares = (coordinate - self.low) / (self.high - self.low)
        return np.clip(np.floor(shares * self.bins), 0, self.bins - 1).astype(np.int64)


def coverage(episodes: Iterable[Mapping[str, NDArray[Any]]], grid: Sequence[Axis]) -> list[float]:
    """The share of all cells that were visited until the end of each episode."""
    visited = np.zeros([axis.bins for axis in grid], bool)
    shares = []
    for observations in episodes:
        visited[tuple(axis.cells(observations) for axis in grid)] = True
        shares.append(float(visited.mean()))
    return shares


def coverage_of(store: Store, grid: Sequence[Axis]) -> list[float]:
    """The same for the episodes of a store, in their order."""
    return coverage((store.read(number) for number in range(len(store.lengths))), grid)
