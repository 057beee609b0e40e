"""How likely each window is: an episode is drawn by weight, then one of its windows.

Every strategy states P(episode). "Episodes" are those of the split that have at least one window, in the split's order,
and a window belongs to the episode that holds its last row (``windows.py``).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.datasets.windows import Indices, WindowIndex

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The episodes that a strategy weighs, oldest first."""

    windows: Indices  # [episodes] at least 1 each
    returns: Floats  # [episodes]


class Strategy(ABC):
    """Weighs episodes and chooses windows in them."""

    @abstractmethod
    def log_weights(self, candidates: Candidates) -> Floats:
        """[episodes] ln P(episode), up to a constant: logarithms, so that no product of weights can vanish."""

    def choose(self, windows: Indices, generator: np.random.Generator) -> Indices:
        """[n] which window of drawn episodes that have ``windows`` [n] of them: here each equally likely."""
        return generator.integers(windows)


@dataclass(frozen=True)
class UniformWindows(Strategy):
    """All windows are equally likely: P(episode) = its windows / all windows."""

    def log_weights(self, candidates: Candidates) -> Floats:
        """See ``Strategy``."""
        return np.log(candidates.windows.astype(np.float64))


UNIFORM_WINDOWS = UniformWindows()  # the default


@dataclass(frozen=True)
class UniformEpisodes(Strategy):
    """All episodes are equally likely, however long: P(episode) = 1 / episodes."""

    def log_weights(self, candidates: Candidates) -> Floats:
        """See ``Strategy``."""
        return np.zeros(len(candidates.windows))


@dataclass(frozen=True)
class ByReturn(Strategy):
    """Good episodes are likelier: P(episode) ~ exp(g / temperature), g = (return - lowest) / (highest - lowest).

    The best episode is exp(1 / temperature) times as likely as the worst, whatever the scale of the rewards; equal
    returns are equally likely.
    """

    temperature: float

    def __post_init__(self) -> None:
        _require_positive("temperature", self.temperature)

    def log_weights(self, candidates: Candidates) -> Floats:
        """See ``Strategy``."""
        above: Floats = candidates.returns - candidates.returns.min()
        return above * (1 / (float(above.max()) or 1.0) / self.temperature)


@dataclass(frozen=True)
class ByRecency(Strategy):
    """New episodes are likelier: P(episode) ~ 2 ** (-newer / half_life), with ``newer`` the episodes after it."""

    half_life: float  # in episodes

    def __post_init__(self) -> None:
        _require_positive("half_life", self.half_life)

    def log_weights(self, candidates: Candidates) -> Floats:
        """See ``Strategy``."""
        newer = np.arange(len(candidates.windows), dtype=np.float64)[::-1]
        return newer * (-math.log(2) / self.half_life)


@dataclass(frozen=True)
class Product(Strategy):
    """P(episode) ~ the product of the factors' probabilities; all windows of an episode are equally likely.

    With ``UniformWindows`` among the factors the others weigh each window rather than each episode.
    """

    factors: Sequence[Strategy]

    def __post_init__(self) -> None:
        if not self.factors or any(isinstance(factor, Ends) for factor in self.factors):
            raise UserError("a product needs one or more factors, none of them Ends; put Ends around the product")

    def log_weights(self, candidates: Candidates) -> Floats:
        """See ``Strategy``."""
        logs = np.stack([factor.log_weights(candidates) for factor in self.factors])  # [factors, episodes]
        return np.asarray(logs.sum(axis=0), np.float64)


@dataclass(frozen=True)
class Ends(Strategy):
    """A share of the draws takes the episode's last window, so that rare ends are seen often enough.

    P(episode) is that of ``episodes``. In an episode of n windows, the last has probability share + (1 - share) / n
    under a strategy that is uniform in the episode, every other (1 - share) / n.
    """

    share: float
    episodes: Strategy = UNIFORM_WINDOWS

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UserError(f"the share of ends is {self.share}; allowed: 0 to 1")

    def log_weights(self, candidates: Candidates) -> Floats:
        """See ``Strategy``."""
        return self.episodes.log_weights(candidates)

    def choose(self, windows: Indices, generator: np.random.Generator) -> Indices:
        """See ``Strategy``."""
        chosen = self.episodes.choose(windows, generator)
        return np.where(generator.random(len(windows)) < self.share, windows - 1, chosen)


class WindowDraw:
    """Draws windows of an index by a strategy, with replacement: O(episodes) memory, O(log episodes) per draw."""

    def __init__(self, strategy: Strategy, index: WindowIndex, returns: Floats) -> None:
        self._strategy = strategy
        self._index = index
        self._episodes = np.flatnonzero(index.counts)
        candidates = Candidates(index.counts[self._episodes], np.asarray(returns, np.float64)[self._episodes])
        logs = strategy.log_weights(candidates)
        cumulative = np.cumsum(np.exp(logs - logs.max()))
        self._cumulative = cumulative / cumulative[-1]  # ends at exactly 1, which no draw reaches

    def first_rows(self, size: int, generator: np.random.Generator) -> Indices:
        """[size] where drawn windows begin, as rows of all episodes laid end to end."""
        drawn = np.searchsorted(self._cumulative, generator.random(size), side="right")
        episodes = self._episodes[drawn]
        return self._index.first_rows(episodes, self._strategy.choose(self._index.counts[episodes], generator))


def _require_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise UserError(f"{name} is {value}; allowed: any number above 0")
