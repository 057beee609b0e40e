"""What every reader of a trajectory format offers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets.episode import RawEpisode


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """The columns that every episode of a source has, and where they come from."""

    observations: Mapping[str, ArraySpec]
    privileged: Mapping[str, ArraySpec]
    action: ActionSpec
    provenance: Mapping[str, Any]  # plain json values: format, dataset id, hash of the file, ...


class Source(Protocol):
    """Recorded episodes in a foreign format."""

    @property
    def episode_count(self) -> int:
        """How many episodes ``episodes`` yields."""

    def describe(self) -> SourceDescription:
        """What each episode holds."""

    def episodes(self) -> Iterator[RawEpisode]:
        """Every episode in a fixed order, one at a time in memory."""
