"""What a kill looks like from inside a stage."""

import pytest

from dreamset.core.records import SequenceBatch
from dreamset.datasets.prefetch import Prefetcher


class Killed(BaseException):
    """Nothing below a test may catch it."""


def kill_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """Raises ``Killed`` in place of the next batch, once so many have been drawn."""
    sample, drawn = Prefetcher.sample, [0]

    def interrupted(self: Prefetcher) -> SequenceBatch:
        if drawn[0] == batches:
            raise Killed
        drawn[0] += 1
        return sample(self)

    monkeypatch.setattr(Prefetcher, "sample", interrupted)
