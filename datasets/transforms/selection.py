"""Which episodes are taken."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources.base import Source, SourceDescription
from dreamset.datasets.transforms.base import with_transform


@dataclass(frozen=True, slots=True)
class EpisodeSubset:
    """Some episodes of a source, in the order of ``numbers``."""

    source: Source
    numbers: Sequence[int]
    description: SourceDescription

    @property
    def episode_count(self) -> int:
        """How many are chosen."""
        return len(self.numbers)

    def describe(self) -> SourceDescription:
        """That of the source, with the choice in its provenance."""
        return self.description

    def read(self, number: int) -> RawEpisode:
        """The chosen episode of that number."""
        return self.source.read(self.numbers[number])


@dataclass(frozen=True)
class TopReturns:
    """The ``percent`` of the episodes with the highest returns, at least one, in their old order.

    Every episode is read once to learn its return. Episodes that cannot be read stay in, so that the ingest reports
    or quarantines them.
    """

    percent: float

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 100:
            raise UserError(f"TopReturns: percent is {self.percent}; allowed: more than 0 and up to 100; fix it")

    def __call__(self, source: Source) -> Source:
        """The better part of the source."""
        returns = np.array([_return(source, number) for number in range(source.episode_count)])
        known = np.flatnonzero(np.isfinite(returns))
        count = max(1, round(len(known) * self.percent / 100))
        best = known[np.argsort(-returns[known], kind="stable")[:count]]
        taken = np.sort(np.concatenate([best, np.flatnonzero(~np.isfinite(returns))])).astype(int)
        lowest = float(returns[best].min()) if len(best) else None
        description = with_transform(
            source.describe(), self, of=source.episode_count, taken=len(taken), lowest_return=lowest
        )
        return EpisodeSubset(source, taken.tolist(), description)


@dataclass(frozen=True)
class Subsample:
    """``episodes`` of them, drawn without replacement from ``seed``, in their old order."""

    episodes: int
    seed: int = 0

    def __call__(self, source: Source) -> Source:
        """The drawn part of the source."""
        if not 1 <= self.episodes <= source.episode_count:
            raise UserError(
                f"Subsample: {self.episodes} episodes are asked for; allowed: 1 to {source.episode_count}; fix it"
            )
        drawn = np.random.default_rng(self.seed).permutation(source.episode_count)[: self.episodes]
        return EpisodeSubset(
            source, np.sort(drawn).tolist(), with_transform(source.describe(), self, of=source.episode_count)
        )


def _return(source: Source, number: int) -> float:
    try:
        return float(source.read(number).rewards.sum(dtype=np.float64))
    except UserError:
        return float("nan")
