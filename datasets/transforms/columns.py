"""Which columns there are, and what they are called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from dreamset.core.errors import UserError
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.transforms.base import EpisodeTransform

T = TypeVar("T")


@dataclass(frozen=True)
class SelectColumns(EpisodeTransform):
    """The named ``observations`` and ``privileged`` columns and no others; a column may change sides."""

    observations: Sequence[str]
    privileged: Sequence[str] = ()

    def columns(self, description: SourceDescription) -> SourceDescription:
        """The chosen ones."""
        known = {**description.privileged, **description.observations}
        for name in (*self.observations, *self.privileged):
            if name not in known:
                raise UserError(f"SelectColumns: {name!r} does not exist; available: {sorted(known)}; fix it")
        if not self.observations:
            raise UserError("SelectColumns: no observation is left to learn from; name at least one")
        return replace(
            description,
            observations={name: known[name] for name in self.observations},
            privileged={name: known[name] for name in self.privileged},
        )

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """The episode with the chosen columns."""
        known = {**raw.privileged, **raw.observations}
        return replace(
            raw,
            observations={name: known[name] for name in self.observations if name in known},
            privileged={name: known[name] for name in self.privileged if name in known},
        )


@dataclass(frozen=True)
class RenameColumns(EpisodeTransform):
    """``names``: old name -> new name."""

    names: Mapping[str, str]

    def columns(self, description: SourceDescription) -> SourceDescription:
        """The same columns by their new names."""
        known = [*description.observations, *description.privileged]
        for name in self.names:
            if name not in known:
                raise UserError(f"RenameColumns: {name!r} does not exist; available: {sorted(known)}; fix it")
        if len(self._renamed(dict.fromkeys(known))) < len(set(known)):  # a column may be on both sides
            raise UserError(f"RenameColumns: {dict(self.names)} gives two columns one name; choose another")
        return replace(
            description,
            observations=self._renamed(description.observations),
            privileged=self._renamed(description.privileged),
        )

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """The episode under the new names."""
        return replace(raw, observations=self._renamed(raw.observations), privileged=self._renamed(raw.privileged))

    def _renamed(self, columns: Mapping[str, T]) -> dict[str, T]:
        return {self.names.get(name, name): value for name, value in columns.items()}
