"""Transforms that mark episodes: without actions, as demonstrations or as other data."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources.base import Source, SourceDescription
from dreamset.datasets.transforms.base import with_transform
from dreamset.datasets.transforms.selection import by_return, returns_of


@dataclass(frozen=True, slots=True)
class Marked:
    """A source in which the actions of some episodes are removed, and some are no demonstrations."""

    source: Source
    description: SourceDescription
    unacted: Collection[int] = ()  # episodes without actions
    others: Collection[int] = ()  # episodes that are no demonstrations

    @property
    def episode_count(self) -> int:
        """Number of episodes; all are kept."""
        return self.source.episode_count

    def describe(self) -> SourceDescription:
        """The source's description, with the transform in the provenance."""
        return self.description

    def read(self, number: int) -> RawEpisode:
        """The marked episode; what the source has marked stays marked."""
        raw = self.source.read(number)
        actions = None if number in self.unacted else raw.actions
        return replace(raw, actions=actions, demonstration=raw.demonstration and number not in self.others)


@dataclass(frozen=True)
class WithoutActions:
    """Removes the actions of all episodes except ``keep`` of them, drawn from ``seed``."""

    keep: int = 0
    seed: int = 0

    def __call__(self, source: Source) -> Source:
        """The source without these actions; they are not even checked."""
        if not 0 <= self.keep <= source.episode_count:
            raise UserError(f"WithoutActions: keep is {self.keep}; allowed: 0 to {source.episode_count}")
        order = np.random.default_rng(self.seed).permutation(source.episode_count).tolist()
        description = with_transform(source.describe(), self, kept=sorted(order[: self.keep]))
        return Marked(source, description, unacted=frozenset(order[self.keep :]))


@dataclass(frozen=True)
class Demonstrations:
    """Marks ``episodes`` as demonstrations and all others as other data.

    By default, the demonstrations are those with the highest returns, for which every episode is read once. With a
    ``seed``, they are drawn at random. Unreadable episodes are never chosen by return.
    """

    episodes: int
    seed: int | None = None

    def __call__(self, source: Source) -> Source:
        """The source with the marks."""
        if not 0 <= self.episodes <= source.episode_count:
            raise UserError(f"Demonstrations: episodes is {self.episodes}; allowed: 0 to {source.episode_count}")
        order = (
            by_return(returns_of(source))
            if self.seed is None
            else np.random.default_rng(self.seed).permutation(source.episode_count)
        )
        chosen = frozenset(order[: self.episodes].tolist())
        description = with_transform(source.describe(), self, chosen=sorted(chosen))
        return Marked(source, description, others=frozenset(range(source.episode_count)) - chosen)
