"""Transforms that select and rename columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from dreamset.core.errors import UserError
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.sources.codecs import without_doubts
from dreamset.datasets.transforms.base import EpisodeTransform

T = TypeVar("T")


@dataclass(frozen=True)
class SelectColumns(EpisodeTransform):
    """Keeps only the named ``observations`` and ``privileged`` columns; a column may change its role."""

    observations: Sequence[str]
    privileged: Sequence[str] = ()

    def columns(self, description: SourceDescription) -> SourceDescription:
        """The selected columns."""
        known = {**description.privileged, **description.observations}
        for name in (*self.observations, *self.privileged):
            if name not in known:
                raise UserError(f"SelectColumns: {name!r} does not exist; available: {sorted(known)}")
        if not self.observations:
            raise UserError("SelectColumns: no observation is selected; name at least one")
        return replace(
            description,
            observations={name: known[name] for name in self.observations},
            privileged={name: known[name] for name in self.privileged},
            doubts=without_doubts(description.doubts, known.keys() - {*self.observations, *self.privileged}),
        )

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """The episode with the selected columns."""
        known = {**raw.privileged, **raw.observations}
        return replace(
            raw,
            observations={name: known[name] for name in self.observations if name in known},
            privileged={name: known[name] for name in self.privileged if name in known},
        )


@dataclass(frozen=True)
class RenameColumns(EpisodeTransform):
    """Renames columns; ``names`` maps old names to new names."""

    names: Mapping[str, str]

    def columns(self, description: SourceDescription) -> SourceDescription:
        """The same columns under new names."""
        known = [*description.observations, *description.privileged]
        for name in self.names:
            if name not in known:
                raise UserError(f"RenameColumns: {name!r} does not exist; available: {sorted(known)}")
        if len(self._renamed(dict.fromkeys(known))) < len(set(known)):  # a column may be an observation and privileged
            raise UserError(f"RenameColumns: {dict(self.names)} gives two columns the same name; choose another")
        return replace(
            description,
            observations=self._renamed(description.observations),
            privileged=self._renamed(description.privileged),
        )

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """The episode with the new names."""
        return replace(raw, observations=self._renamed(raw.observations), privileged=self._renamed(raw.privileged))

    def _renamed(self, columns: Mapping[str, T]) -> dict[str, T]:
        return {self.names.get(name, name): value for name, value in columns.items()}
