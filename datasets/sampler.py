"""Samples batches of windows from a store."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.records import SequenceBatch
from dreamset.core.spec import DataSpec
from dreamset.datasets.batches import Columns, copy_windows, empty_batch, partial_marks
from dreamset.datasets.store import Store
from dreamset.datasets.strategies import UNIFORM_WINDOWS, Strategy, WindowDraw
from dreamset.datasets.stream import BatchStream
from dreamset.datasets.windows import EpisodeSlice, WindowIndex


class WindowSampler:
    """Samples windows of a split by a strategy.

    Args:
        store: the dataset.
        split: name of the split.
        length: rows T of a window.
        crossing: whether a window may cross the ends of episodes; the model resets its state at ``is_first``. Otherwise
            episodes shorter than a window are excluded (``excluded``).
        strategy: the probability of each window.
        privileged: whether rows have the privileged columns, which only probes read.
        acted: whether to sample episodes with actions or those without; None: all (``Store.split``).

    Raises:
        UserError: if the split does not exist or has no window.
    """

    def __init__(
        self,
        store: Store,
        *,
        split: str,
        length: int,
        crossing: bool = False,
        strategy: Strategy = UNIFORM_WINDOWS,
        privileged: bool = True,
        acted: bool | None = True,
    ) -> None:
        self._store = store
        self._spec = store.spec if privileged else replace(store.spec, privileged={})
        self._episodes = store.split(split, acted=acted)
        self._index = WindowIndex(store.lengths[self._episodes], length, crossing=crossing)
        self._draw = WindowDraw(strategy, self._index, store.returns[self._episodes])

    @property
    def spec(self) -> DataSpec:
        """Specification of a row."""
        return self._spec

    @property
    def length(self) -> int:
        """Rows of a window."""
        return self._index.window

    @property
    def marks(self) -> list[str]:
        """The marks that some of the episodes lack, which every batch therefore has."""
        return partial_marks(self._store, self._episodes)

    @property
    def windows(self) -> int:
        """How many different windows there are."""
        return self._index.total

    @property
    def excluded(self) -> int:
        """How many episodes of the split are too short for a window."""
        return self._index.excluded

    def fill(self, columns: Columns, generator: np.random.Generator) -> None:
        """Samples a window for every row of ``columns``."""
        size = len(next(iter(columns.values())))
        first_rows = self._draw.first_rows(size, generator).tolist()
        copy_windows(self._store, map(self._slices, first_rows), columns)

    def _slices(self, first_row: int) -> Iterator[EpisodeSlice]:
        """The window's slices, with episode numbers of the store instead of positions in the split."""
        for place, start, stop in self._index.slices(first_row):
            yield EpisodeSlice(int(self._episodes[place]), start, stop)


class SequenceSampler(BatchStream):
    """Samples batches of windows from one split of a store, with replacement.

    ``crossing``, ``strategy`` and ``acted`` are those of ``WindowSampler``; by default all windows inside one episode
    are equally likely. ``seed`` and ``rank`` are those of ``BatchStream``.
    """

    def __init__(
        self,
        store: Store,
        *,
        split: str,
        batch_size: int,
        length: int,
        seed: int,
        rank: int = 0,
        crossing: bool = False,
        strategy: Strategy = UNIFORM_WINDOWS,
        acted: bool | None = True,
    ) -> None:
        super().__init__(store.spec, batch_size=batch_size, length=length, seed=seed, rank=rank)
        self._source = WindowSampler(
            store, split=split, length=length, crossing=crossing, strategy=strategy, acted=acted
        )
        self.marks = self._source.marks

    @property
    def windows(self) -> int:
        """How many different windows there are."""
        return self._source.windows

    @property
    def excluded(self) -> int:
        """How many episodes of the split are too short for a window."""
        return self._source.excluded

    def fill(self, number: int, columns: Columns) -> None:
        """See ``BatchStream``."""
        self._source.fill(columns, self._generator(number))


def sequences(
    store: Store, *, split: str, length: int, batch_size: int, limit: int | None = None, acted: bool | None = True
) -> Iterator[SequenceBatch]:
    """The first ``length`` rows of at most ``limit`` episodes that have so many; ``acted`` is that of ``Store.split``.

    Raises:
        UserError: immediately, if no episode is long enough.
    """
    episodes = store.split(split, acted=acted)
    WindowIndex(store.lengths[episodes], length)  # raises if no episode is long enough
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; allowed: 1 or more")
    long_enough = episodes[store.lengths[episodes] >= length][:limit].tolist()
    parts = [long_enough[first : first + batch_size] for first in range(0, len(long_enough), batch_size)]
    return (_starts(store, part, length) for part in parts)


def whole_episodes(store: Store, *, split: str, shortest: int, limit: int) -> Iterator[SequenceBatch]:
    """The first ``limit`` episodes with actions and at least ``shortest`` rows, complete, one by one: [1, T, ...]."""
    episodes = store.split(split)
    for number in episodes[store.lengths[episodes] >= shortest][:limit].tolist():
        yield episode(store, number)


def episode(store: Store, number: int) -> SequenceBatch:
    """One episode, complete, with or without actions: [1, T, ...]."""
    return _starts(store, [number], int(store.lengths[number]))


def _starts(store: Store, episodes: list[int], length: int) -> SequenceBatch:
    marks = partial_marks(store, np.array(episodes))
    batch, columns = empty_batch(store.spec, len(episodes), length, marks=marks)
    copy_windows(store, ([EpisodeSlice(number, 0, length)] for number in episodes), columns)
    return batch
