"""A strategy that samples only the first training episodes, to simulate smaller datasets."""

from dataclasses import dataclass

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.strategies import Candidates, Floats, Strategy


@dataclass(frozen=True)
class FirstEpisodes(Strategy):
    """Samples uniformly from windows of the first ``share`` of the episodes, at least one.

    The store, including its held-out episodes, is the same for every share.
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"FirstEpisodes: share is {self.share}; allowed: above 0, up to 1")

    def log_weights(self, candidates: Candidates) -> Floats:
        """See ``Strategy``."""
        logs = np.log(candidates.windows.astype(np.float64))
        logs[max(1, round(self.share * len(logs))) :] = -np.inf
        return logs
