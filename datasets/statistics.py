"""Statistics of a dataset: running moments of vectors, distributions of returns and lengths."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamset.core.spec import VectorStatistics
from dreamset.datasets.episode import Array

_CONSTANT = 1e-7  # relative to the mean; a smaller spread is float32 rounding


class RunningMoments:
    """Mean and standard deviation per element in float64, updated by blocks of rows (Chan et al. 1979)."""

    def __init__(self, size: int) -> None:
        self._count = 0
        self._mean = np.zeros(size)
        self._squares = np.zeros(size)  # sum of squared distances from the mean

    def update(self, rows: Array) -> None:
        """Adds a block of at least one row, [rows, size]."""
        block = rows.astype(np.float64)
        mean = block.mean(axis=0)
        total = self._count + len(block)
        shift = mean - self._mean
        self._squares += ((block - mean) ** 2).sum(axis=0) + shift**2 * (self._count * len(block) / total)
        self._mean += shift * (len(block) / total)
        self._count = total

    def result(self) -> VectorStatistics:
        """Mean and standard deviation; 1 for constant elements, so that division is safe."""
        std = np.sqrt(self._squares / max(self._count, 1))
        std[std <= _CONSTANT * np.abs(self._mean)] = 1.0
        return VectorStatistics(tuple(self._mean.tolist()), tuple(std.tolist()))


def describe_values(values: NDArray[np.generic]) -> dict[str, Any]:
    """Mean, standard deviation, extremes and quartiles, as plain json."""
    numbers = values.astype(np.float64)
    return {
        "mean": float(numbers.mean()),
        "std": float(numbers.std()),
        "min": float(numbers.min()),
        "max": float(numbers.max()),
        "quartiles": [float(q) for q in np.quantile(numbers, (0.25, 0.5, 0.75))],
    }
