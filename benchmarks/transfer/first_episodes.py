"""A part of the training episodes, as if no more had been recorded."""

from dataclasses import dataclass

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.strategies import Candidates, Floats, Strategy


@dataclass(frozen=True)
class FirstEpisodes(Strategy):
    """The first ``share`` of the episodes, at least one; all their windows are equally likely, others never drawn.

    The store, and with it what is held out, stays the same for every share.
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"the share of episodes is {self.share}; allowed: more than 0 and up to 1; fix it")

    def log_weights(self, candidates: Candidates) -> Floats:
        """See ``Strategy``."""
        logs = np.log(candidates.windows.astype(np.float64))
        logs[max(1, round(self.share * len(logs))) :] = -np.inf
        return logs
