"""From a store to batches of windows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dreamset.core.errors import UserError
from dreamset.core.records import SequenceBatch
from dreamset.datasets.layout import ACTION, IS_FIRST, IS_LAST, IS_TERMINAL, PRIVILEGED, REWARD
from dreamset.datasets.store import Store
from dreamset.datasets.windows import WindowIndex


class SequenceSampler:
    """Draws windows uniformly, with replacement, from all windows of a split that stay inside one episode."""

    def __init__(self, store: Store, *, split: str, batch_size: int, length: int, seed: int) -> None:
        self._store = store
        self._episodes = store.split(split)
        self._index = WindowIndex(store.lengths[self._episodes], length)
        self._batch_size = _at_least_one(batch_size)
        self._length = length
        self._generator = np.random.default_rng(seed)

    @property
    def windows(self) -> int:
        """How many different windows there are."""
        return self._index.total

    def sample(self) -> SequenceBatch:
        """The next batch, in memory of its own."""
        numbers = self._generator.integers(self._index.total, size=self._batch_size)
        episodes, starts = self._index.locate(numbers)
        windows = zip(self._episodes[episodes].tolist(), starts.tolist(), strict=True)
        return _gather(self._store, list(windows), self._length)

    def state_dict(self) -> dict[str, Any]:
        """What a later sampler needs to continue with the very next batch; plain json values."""
        return {"generator": self._generator.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where ``state`` was taken."""
        self._generator.bit_generator.state = state["generator"]


def sequences(
    store: Store, *, split: str, length: int, batch_size: int, limit: int | None = None
) -> Iterator[SequenceBatch]:
    """The first ``length`` rows of each episode that has as many, in order, of at most ``limit`` episodes.

    Raises:
        UserError: at once, if no episode is long enough.
    """
    episodes = store.split(split)
    WindowIndex(store.lengths[episodes], length)  # says so if no episode is long enough
    chosen = episodes[store.lengths[episodes] >= length][:limit].tolist()
    size = _at_least_one(batch_size)
    parts = [chosen[first : first + size] for first in range(0, len(chosen), size)]
    return (_gather(store, [(episode, 0) for episode in part], length) for part in parts)


def _gather(store: Store, windows: Sequence[tuple[int, int]], length: int) -> SequenceBatch:
    """Copies windows, given as (episode, first row), from the maps into fresh memory, once."""
    parts = [store.read(episode, start, start + length) for episode, start in windows]
    return _batch(store, {name: torch.from_numpy(np.stack([part[name] for part in parts])) for name in parts[0]})


def _batch(store: Store, columns: Mapping[str, Tensor]) -> SequenceBatch:
    return SequenceBatch(
        observations={name: columns[name] for name in store.spec.observations},
        action=columns[ACTION],
        reward=columns[REWARD],
        is_first=columns[IS_FIRST],
        is_last=columns[IS_LAST],
        is_terminal=columns[IS_TERMINAL],
        privileged={name: columns[PRIVILEGED + name] for name in store.spec.privileged},
    )


def _at_least_one(batch_size: int) -> int:
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}, allowed is 1 or more; set `batch.size` of the training")
    return batch_size
