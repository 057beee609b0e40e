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
    provenance: Mapping[str, Any]  # plain json values: format, dataset id, hash of the files, reference scores, ...


class Source(Protocol):
    """Recorded episodes in a foreign format, each of which can be read on its own and from any thread."""

    @property
    def episode_count(self) -> int:
        """How many episodes there are."""

    def describe(self) -> SourceDescription:
        """What each episode holds."""

    def read(self, number: int) -> RawEpisode:
        """Episode ``number``, counted from 0 in a fixed order.

        Raises:
            UserError: naming the file and the episode, if it cannot be read; other episodes still can.
        """


def read_all(source: Source) -> Iterator[RawEpisode]:
    """Every episode in order, one at a time in memory."""
    return (source.read(number) for number in range(source.episode_count))
