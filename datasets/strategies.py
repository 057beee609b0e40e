"""Sampling strategies: draw an episode by weight, then one of its windows.

Every strategy defines P(episode). "Episodes" are those of the split with at least one window, in the split's order. A
window belongs to the episode of its last row (``windows.py``).
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
    """The episodes to weigh, oldest first."""

    windows: Indices  # [episodes] at least 1 each
    returns: Floats  # [episodes]


class Strategy(ABC):
    """Weighs episodes and chooses windows in them."""

    @abstractmethod
    def log_weights(self, candidates: Candidates) -> Floats:
        """[episodes] ln P(episode), up to a constant; logarithms keep products of weights from underflow."""

    def choose(self, windows: Indices, generator: np.random.Generator) -> Indices:
        """[n] the window within each drawn episode, given the episodes' numbers of windows; here uniform."""
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
    """All episodes are equally likely, whatever their length: P(episode) = 1 / episodes."""

    def log_weights(self, candidates: Candidates) -> Floats:
        """See ``Strategy``."""
        return np.zeros(len(candidates.windows))


@dataclass(frozen=True)
class ByReturn(Strategy):
    """Prefers high returns: P(episode) ~ exp(g / temperature), g = (return - lowest) / (highest - lowest).

    The best episode is exp(1 / temperature) times as likely as the worst, whatever the scale of the rewards. If all
    returns are equal, all episodes are equally likely.
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
    """Prefers recent episodes: P(episode) ~ 2 ** (-newer / half_life); ``newer`` is the number of later episodes."""

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

    If ``UniformWindows`` is a factor, the other factors weigh each window instead of each episode.
    """

    factors: Sequence[Strategy]

    def __post_init__(self) -> None:
        if not self.factors or any(isinstance(factor, Ends) for factor in self.factors):
            raise UserError(
                "a product needs at least one factor, and Ends cannot be a factor; put Ends around the product"
            )

    def log_weights(self, candidates: Candidates) -> Floats:
        """See ``Strategy``."""
        logs = np.stack([factor.log_weights(candidates) for factor in self.factors])  # [factors, episodes]
        return np.asarray(logs.sum(axis=0), np.float64)


@dataclass(frozen=True)
class Ends(Strategy):
    """Takes the episode's last window in a share of the draws, so that ends of episodes are not rare.

    P(episode) is that of ``episodes``. If that strategy is uniform within an episode of n windows, the last window has
    probability share + (1 - share) / n, and every other window (1 - share) / n.
    """

    share: float
    episodes: Strategy = UNIFORM_WINDOWS

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UserError(f"Ends: share is {self.share}; allowed: 0 to 1")

    def log_weights(self, candidates: Candidates) -> Floats:
        """See ``Strategy``."""
        return self.episodes.log_weights(candidates)

    def choose(self, windows: Indices, generator: np.random.Generator) -> Indices:
        """See ``Strategy``."""
        chosen = self.episodes.choose(windows, generator)
        return np.where(generator.random(len(windows)) < self.share, windows - 1, chosen)


class WindowDraw:
    """Draws windows by a strategy, with replacement; O(episodes) memory, O(log episodes) per draw."""

    def __init__(self, strategy: Strategy, index: WindowIndex, returns: Floats) -> None:
        self._strategy = strategy
        self._index = index
        self._episodes = np.flatnonzero(index.counts)
        candidates = Candidates(index.counts[self._episodes], np.asarray(returns, np.float64)[self._episodes])
        logs = strategy.log_weights(candidates)
        cumulative = np.cumsum(np.exp(logs - logs.max()))
        self._cumulative = cumulative / cumulative[-1]  # ends at exactly 1; draws are below 1

    def first_rows(self, size: int, generator: np.random.Generator) -> Indices:
        """[size] the first row of each drawn window, counted over all episodes in sequence."""
        drawn = np.searchsorted(self._cumulative, generator.random(size), side="right")
        episodes = self._episodes[drawn]
        return self._index.first_rows(episodes, self._strategy.choose(self._index.counts[episodes], generator))


def _require_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise UserError(f"{name} is {value}; allowed: a positive number")
