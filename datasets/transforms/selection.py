"""Transforms that select episodes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources.base import Source, SourceDescription
from dreamset.datasets.sources.scanning import counted
from dreamset.datasets.transforms.base import with_transform
from dreamset.datasets.windows import Indices


@dataclass(frozen=True, slots=True)
class EpisodeSubset:
    """Selected episodes of a source, in the order of ``numbers``."""

    source: Source
    numbers: Sequence[int]
    description: SourceDescription

    @property
    def episode_count(self) -> int:
        """Number of selected episodes."""
        return len(self.numbers)

    def describe(self) -> SourceDescription:
        """The source's description, with the selection in the provenance."""
        return self.description

    def read(self, number: int) -> RawEpisode:
        """A selected episode, by its position in ``numbers``."""
        return self.source.read(self.numbers[number])


@dataclass(frozen=True)
class TopReturns:
    """The ``percent`` of the episodes with the highest returns, at least one, in their original order.

    Reads every episode once for its return. Unreadable episodes are kept, so that ingestion reports or quarantines
    them.
    """

    percent: float

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 100:
            raise UserError(f"TopReturns: percent is {self.percent}; allowed: above 0, up to 100")

    def __call__(self, source: Source) -> Source:
        """The source with the best episodes only."""
        returns = returns_of(source)
        ranked = by_return(returns)
        best = ranked[: max(1, round(len(ranked) * self.percent / 100))]
        taken = np.sort(np.concatenate([best, np.flatnonzero(~np.isfinite(returns))])).astype(int)
        lowest = float(returns[best].min()) if len(best) else None
        description = with_transform(
            source.describe(), self, of=source.episode_count, taken=len(taken), lowest_return=lowest
        )
        return EpisodeSubset(source, taken.tolist(), description)


@dataclass(frozen=True)
class Subsample:
    """``episodes`` random episodes, drawn without replacement from ``seed``, in their original order."""

    episodes: int
    seed: int = 0

    def __call__(self, source: Source) -> Source:
        """The source with the drawn episodes only."""
        if not 1 <= self.episodes <= source.episode_count:
            raise UserError(f"Subsample: episodes is {self.episodes}; allowed: 1 to {source.episode_count}")
        drawn = np.random.default_rng(self.seed).permutation(source.episode_count)[: self.episodes]
        return EpisodeSubset(
            source, np.sort(drawn).tolist(), with_transform(source.describe(), self, of=source.episode_count)
        )


def returns_of(source: Source) -> NDArray[np.float64]:
    """The return of every episode, for which each is read once; NaN if it is unreadable."""
    return np.array([_return(source, number) for number in counted(range(source.episode_count))], np.float64)


def by_return(returns: NDArray[np.float64]) -> Indices:
    """The episodes with a finite return, the highest first; of equal ones, the earlier first."""
    known = np.flatnonzero(np.isfinite(returns))
    ranked: Indices = known[np.argsort(-returns[known], kind="stable")]
    return ranked


def _return(source: Source, number: int) -> float:
    try:
        return float(source.read(number).rewards.sum(dtype=np.float64))
    except UserError:
        return float("nan")
