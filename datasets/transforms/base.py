"""The interface of transforms."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import Any, Protocol

from dreamset.datasets.episode import RawEpisode, check
from dreamset.datasets.sources.base import Source, SourceDescription


class Transform(Protocol):
    """Turns a source into another one."""

    def __call__(self, source: Source) -> Source:
        """The source as seen through the transform."""


class EpisodeTransform(ABC):
    """A transform of single episodes; subclasses are frozen dataclasses of their settings."""

    def columns(self, description: SourceDescription) -> SourceDescription:
        """The columns after the transform.

        Raises:
            UserError: if the transform does not fit the columns.
        """
        return description

    def accepts(self, description: SourceDescription) -> SourceDescription:
        """The columns that a recorded episode must match before ``apply``; by default those of the source."""
        return description

    def facts(self) -> Mapping[str, Any]:
        """What the provenance says beside the settings, or in place of them; by default nothing."""
        return {}

    @abstractmethod
    def apply(self, raw: RawEpisode) -> RawEpisode:
        """The episode after the transform."""

    def __call__(self, source: Source) -> Source:
        """The source with ``apply`` on every episode."""
        before = source.describe()
        after = with_transform(self.columns(before), self, **self.facts())
        return _Transformed(source, self, self.accepts(before), after)


@dataclass(frozen=True, slots=True)
class _Transformed:
    source: Source
    transform: EpisodeTransform
    before: SourceDescription
    after: SourceDescription

    @property
    def episode_count(self) -> int:
        return self.source.episode_count

    def describe(self) -> SourceDescription:
        return self.after

    def read(self, number: int) -> RawEpisode:
        raw = self.source.read(number)
        check(raw, self.before)  # transforms rely on valid episodes, and messages must name the recorded steps
        return self.transform.apply(raw)


def transformed(source: Source, transforms: Sequence[Transform]) -> Source:
    """The source after all transforms, applied in order."""
    for transform in transforms:
        source = transform(source)
    return source


def with_transform(description: SourceDescription, transform: Any, **facts: Any) -> SourceDescription:
    """The description with the transform, its settings and ``facts`` added to the provenance."""
    assert is_dataclass(transform)
    settings = {"transform": type(transform).__name__, **asdict(transform), **facts}  # type: ignore[arg-type]
    before = description.provenance.get("transforms", [])
    return replace(description, provenance={**description.provenance, "transforms": [*before, settings]})
