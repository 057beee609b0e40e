"""Endless sequences of batches in which batch k is a function of k."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.records import SequenceBatch
from dreamset.core.spec import DataSpec
from dreamset.datasets.batches import Columns, empty_batch


class BatchStream(ABC):
    """Batches 0, 1, 2, ...: batch k depends only on the data, the settings, ``seed``, ``rank`` and k.

    The state is therefore the number of the next batch. Processes of different ``rank`` use independent random numbers;
    rank 0 draws the same batches as a single process.
    """

    marks: Collection[str] = ()  # of the episodes, that every batch has; see ``batches.empty_batch``

    def __init__(
        self, spec: DataSpec, *, batch_size: int, length: int, seed: int, rank: int = 0, goals: bool = False
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; allowed: 1 or more; set `batch.size` of the training")
        self.spec = spec
        self.batch_size = batch_size
        self.length = length
        self.goals = goals  # whether each sequence has a goal
        self.next_number = 0
        self._key = np.random.SeedSequence(seed).generate_state(2, np.uint64)
        self._rank = rank

    @abstractmethod
    def fill(self, number: int, columns: Columns) -> None:
        """Writes batch ``number`` into ``columns``; must be thread-safe."""

    def batch(self, number: int, *, pinned: bool = False) -> SequenceBatch:
        """Batch ``number`` in its own memory, page-locked if ``pinned``; does not change ``next_number``."""
        batch, columns = empty_batch(
            self.spec, self.batch_size, self.length, marks=self.marks, pinned=pinned, goals=self.goals
        )
        self.fill(number, columns)
        return batch

    def sample(self) -> SequenceBatch:
        """The next batch, in its own memory."""
        batch = self.batch(self.next_number)
        self.next_number += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The state from which an equal stream continues with the next batch; plain json values."""
        return {"next_number": self.next_number}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where ``state`` was taken."""
        self.next_number = state["next_number"]

    def _generator(self, number: int, source: int = 0) -> np.random.Generator:
        """The random numbers for one source's rows of one batch.

        Philox encrypts a counter of four words under the seed's key and increments only the lowest word. The other
        words hold source, batch and rank, so their random numbers never overlap.
        """
        return np.random.Generator(np.random.Philox(key=self._key, counter=[0, source, number, self._rank]))
