"""The values that the rows of a store hold: ranges of the columns, rewards and true ends, for ``dataset.json``."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets.episode import Array
from dreamset.datasets.layout import ACTION, IS_FIRST, IS_TERMINAL, REWARD

_ON_BOUND = 1e-6  # relative to the range of the action: the distance at which a value counts as clipped


class Range:
    """The lowest and the highest value of each element of a column, updated by blocks of rows."""

    def __init__(self, size: int) -> None:
        self._low: NDArray[np.float64] = np.full(size, np.inf)
        self._high: NDArray[np.float64] = np.full(size, -np.inf)

    def update(self, rows: Array) -> None:
        """Adds a block of rows, [rows, ...] with ``size`` elements per row."""
        if len(rows):
            flat = rows.reshape(len(rows), -1)
            self._low = np.minimum(self._low, flat.min(axis=0))
            self._high = np.maximum(self._high, flat.max(axis=0))

    def result(self) -> dict[str, list[float]]:
        """``low`` and ``high`` of each element; 0 without any row."""
        return {"low": _finite(self._low), "high": _finite(self._high)}

    def constant(self) -> bool:
        """Whether no element changes."""
        return bool((self._low == self._high).all())


class Seen:
    """What the rows of a store hold, updated shard by shard."""

    def __init__(self, columns: Mapping[str, ArraySpec], action: ActionSpec) -> None:
        self._action = action
        self._actions = Range(action.size)
        self._rewards = Range(1)
        large = {name for name, spec in columns.items() if spec.is_image or spec.is_patches}
        self._vectors = {name: Range(spec.size) for name, spec in columns.items() if name not in large}
        self._large = {name: Range(spec.size) for name, spec in columns.items() if name in large}
        self._acted, self._on_bound = 0, 0  # transitions with actions, values on a bound
        self._rewarded, self._reward, self._true_ends = 0, 0.0, 0

    def update(self, columns: Mapping[str, Any], *, acted: NDArray[np.bool_] | None = None) -> None:
        """Adds the rows of a shard.

        Of images and their patch features, a few rows are read; of actions, the rows of ``acted`` (None: all).
        """
        arrived = ~columns[IS_FIRST][:]  # action and reward of a first row are padding
        taken = arrived if acted is None else arrived & acted
        actions, rewards = columns[ACTION][:][taken], columns[REWARD][:][arrived]
        self._actions.update(actions)
        self._acted += len(actions)
        self._on_bound += int(self._count_on_bound(actions))
        self._rewards.update(rewards)
        self._rewarded += int(np.count_nonzero(rewards))
        self._reward += float(rewards.sum(dtype=np.float64))
        self._true_ends += int(np.count_nonzero(columns[IS_TERMINAL][:]))
        for name, values in self._vectors.items():
            values.update(columns[name][:])
        for name, values in self._large.items():
            values.update(_few(columns[name]))

    def result(self) -> dict[str, Any]:
        """Plain json."""
        return {
            "vectors": {name: values.result() for name, values in self._vectors.items()},
            "constant_images": [name for name, values in self._large.items() if values.constant()],
            "action": {
                **self._actions.result(),
                "share_on_bounds": self._on_bound / max(self._acted * self._action.size, 1),
            },
            "reward": {
                "low": self._rewards.result()["low"][0],
                "high": self._rewards.result()["high"][0],
                "sum": self._reward,
                "nonzero": self._rewarded,
            },
            "true_ends": self._true_ends,
        }

    def _count_on_bound(self, actions: Array) -> int:
        if not self._action.bounded:
            return 0
        low, high = np.array(self._action.low), np.array(self._action.high)
        values, near = actions.astype(np.float64), _ON_BOUND * (high - low)
        return int(np.count_nonzero((values <= low + near) | (values >= high - near)))


def _few(values: Any) -> Array:
    """The first row, the middle one and the last one."""
    rows: Array = np.stack([values[row] for row in (0, len(values) // 2, len(values) - 1)])
    return rows


def _finite(values: NDArray[np.float64]) -> list[float]:
    numbers: list[float] = np.where(np.isfinite(values), values, 0.0).tolist()
    return numbers
