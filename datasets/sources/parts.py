"""Several sources as one dataset: demonstrations, other data and recordings without actions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources.actions import UNKNOWN_SPACE
from dreamset.datasets.sources.base import Source, SourceDescription
from dreamset.datasets.store_source import Concatenated
from dreamset.datasets.transforms.base import Transform, transformed
from dreamset.datasets.transforms.marks import Marked


@dataclass(frozen=True)
class Part:
    """One source of several."""

    source: Source
    transforms: Sequence[Transform] = ()  # of this part alone
    acted: bool = True  # false: its actions are left out, if it has any
    demonstration: bool = True  # false: it is not worth imitating

    def marked(self, name: str) -> Source:
        """The source with its transforms and marks, which the provenance shows."""
        source = transformed(self.source, self.transforms)
        before = source.describe()
        unacted = not self.acted or before.action == UNKNOWN_SPACE
        marks = {"part": name, "acted": not unacted, "demonstration": self.demonstration}
        description = replace(
            before,
            action=UNKNOWN_SPACE if unacted else before.action,
            provenance={**before.provenance, **marks},
        )
        every = range(source.episode_count)
        return Marked(source, description, every if unacted else (), () if self.demonstration else every)


class Parts:
    """The episodes of several sources, part after part.

    Args:
        parts: Name and settings of each part: ``source``, the node of a reader, and if wanted ``transforms``, a list;
            ``acted: false``, to leave out the actions; ``demonstration: false``, for data that are not worth imitating.
            All parts need the same columns; parts without actions take the action space of the others.

    Raises:
        UserError: if there is no part, a part has an unknown setting, or the columns differ.
    """

    def __init__(self, parts: Mapping[str, Mapping[str, Any]]) -> None:
        if not parts:
            raise UserError("dataset.source.parts is empty; name one part or more, each with a source")
        sources = [_checked(name, settings).marked(name) for name, settings in parts.items()]
        known = [source.describe().action for source in sources if source.describe().action != UNKNOWN_SPACE]
        if known:
            sources = [_with_space(source, known[0]) for source in sources]
        self._joined = Concatenated(sources, [f"part {name!r} of dataset.source.parts" for name in parts])

    @property
    def episode_count(self) -> int:
        """Number of episodes of all parts."""
        return self._joined.episode_count

    def describe(self) -> SourceDescription:
        """The common columns and the provenance of every part."""
        return self._joined.describe()

    def read(self, number: int) -> RawEpisode:
        """The episode; numbers continue from part to part."""
        return self._joined.read(number)


def _checked(name: str, settings: Mapping[str, Any]) -> Part:
    allowed = [field.name for field in fields(Part)]
    unknown = sorted(settings.keys() - set(allowed))
    if unknown or "source" not in settings:
        problem = f"has the unknown settings {unknown}" if unknown else "has no source"
        raise UserError(f"dataset.source.parts.{name} {problem}; allowed: {', '.join(allowed)}; fix the part")
    return Part(**settings)


def _with_space(source: Source, action: ActionSpec) -> Source:
    """The source; if its action space is unknown, with this one."""
    description = source.describe()
    if description.action != UNKNOWN_SPACE:
        return source
    return Marked(source, replace(description, action=action))
