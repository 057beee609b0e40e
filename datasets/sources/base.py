"""The interface of readers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets.episode import RawEpisode


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """The columns of every episode of a source, and their provenance."""

    observations: Mapping[str, ArraySpec]
    privileged: Mapping[str, ArraySpec]
    action: ActionSpec
    provenance: Mapping[str, Any]  # plain json values: format, dataset id, hash of the files, reference scores, ...
    doubts: Sequence[str] = ()  # what looks wrong but may be meant: one sentence each, with the setting that changes it


class Source(Protocol):
    """Recorded episodes in some format; each can be read separately and from any thread."""

    @property
    def episode_count(self) -> int:
        """Number of episodes."""

    def describe(self) -> SourceDescription:
        """Columns and provenance."""

    def read(self, number: int) -> RawEpisode:
        """Episode ``number``, from 0 in a fixed order.

        Raises:
            UserError: if the episode is unreadable; names file and episode. Other episodes stay readable.
        """


def read_all(source: Source) -> Iterator[RawEpisode]:
    """Reads every episode in order; one is in memory at a time."""
    return (source.read(number) for number in range(source.episode_count))
