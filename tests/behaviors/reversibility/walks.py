"""Random walks in small worlds, whose irreversible steps are known."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamset.behaviors.base import Experience

CELLS = 10
DOOR = 4  # passed to the right only
Step = Callable[[NDArray[np.int64], NDArray[np.bool_]], NDArray[np.int64]]  # cells, whether to go right -> next cells


def corridor(cell: NDArray[np.int64], right: NDArray[np.bool_]) -> NDArray[np.int64]:
    """To the right, or nowhere: nothing can be undone."""
    return np.minimum(cell + right, CELLS - 1)


def ring(cell: NDArray[np.int64], right: NDArray[np.bool_]) -> NDArray[np.int64]:
    """To both sides of a ring: everything can be undone."""
    return (cell + np.where(right, 1, -1)) % CELLS


def wheel(cell: NDArray[np.int64], right: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A ring in one direction: no step leads back, but the way round does."""
    return (cell + right) % CELLS


def rooms(cell: NDArray[np.int64], right: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Two rooms to walk in freely, with a door from the first to the second that opens in one direction."""
    moved = np.clip(cell + np.where(right, 1, -1), 0, CELLS - 1)
    return np.where((cell > DOOR) & (moved <= DOOR), cell, moved)


def walks(step: Step, *, seed: int, count: int = 16, length: int = 16) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Cells [count, length] of walks that begin anywhere, and whether each row was reached by a step to the right."""
    generator = np.random.default_rng(seed)
    cells = [generator.integers(CELLS, size=count)]
    right = generator.random((count, length)) < 0.5
    for t in range(1, length):
        cells.append(step(cells[-1], right[:, t]))
    return np.stack(cells, axis=1), right


def one_hot(cells: NDArray[np.int64]) -> Tensor:
    """Features [..., CELLS] of cells [...]."""
    return torch.from_numpy(np.eye(CELLS, dtype=np.float32)[cells])


def experience(step: Step, *, seed: int, count: int = 16, length: int = 16) -> Experience[Tensor]:
    """Recorded walks with two discrete actions: left and right."""
    cells, right = walks(step, seed=seed, count=count, length=length)
    features = one_hot(cells)
    action = torch.from_numpy(np.stack([~right, right], axis=-1).astype(np.float32))
    is_first = torch.zeros(count, length, dtype=torch.bool)
    return Experience(features, features, action, is_first)


def auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The probability that a positive has a higher score than a negative, by counting all pairs."""
    difference = scores[positive][:, None] - scores[~positive][None]
    return float((difference > 0).mean() + (difference == 0).mean() / 2)
