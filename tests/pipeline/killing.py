"""Interrupts a stage as a kill would."""

import pytest

from dreamset.core.records import SequenceBatch
from dreamset.datasets.prefetch import Prefetcher


class Killed(BaseException):
    """A kill; only tests may catch it."""


def kill_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """Raises ``Killed`` instead of the next batch after ``batches`` batches."""
    sample, drawn = Prefetcher.sample, [0]

    def interrupted(self: Prefetcher) -> SequenceBatch:
        if drawn[0] == batches:
            raise Killed
        drawn[0] += 1
        return sample(self)

    monkeypatch.setattr(Prefetcher, "sample", interrupted)
