"""Stores as sources, for merging, splitting, filtering and exporting stores."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.episode import RawEpisode, from_arrivals
from dreamset.datasets.layout import ACTION, IS_TERMINAL, PRIVILEGED, REWARD
from dreamset.datasets.sources.base import Source, SourceDescription
from dreamset.datasets.store import Store


class StoreSource:
    """The episodes of a store in the form before alignment.

    Args:
        path: of the store.
        keep_split: whether every episode declares its split, so that it stays in training or validation.
    """

    def __init__(self, path: str | Path, *, keep_split: bool = False) -> None:
        self.store = Store.open(path)
        self._splits: dict[int, str] = {}
        if keep_split:
            names = self.store.info["splits"]
            self._splits = {number: name for name in names for number in self.store.split(name, acted=None).tolist()}

    @property
    def episode_count(self) -> int:
        """How many episodes there are."""
        return len(self.store.lengths)

    def describe(self) -> SourceDescription:
        """The store's columns, with the provenance of the store's source and what its reader left out."""
        spec, info = self.store.spec, self.store.info
        lost = {"lost": info["lost"]} if info.get("lost", {}).get("transitions") else {}
        doubts = tuple(info.get("doubts", ()))
        return SourceDescription(spec.observations, spec.privileged, spec.action, {**info["source"], **lost}, doubts)

    def read(self, number: int) -> RawEpisode:
        """The episode, as views into the store."""
        rows = self.store.read(number)
        raw = from_arrivals(
            f"episode {number} of {self.store.path}",
            observations={name: rows[name] for name in self.store.spec.observations},
            action=rows[ACTION],
            reward=rows[REWARD],
            terminated=bool(rows[IS_TERMINAL][-1]),
            privileged={name: rows[PRIVILEGED + name] for name in self.store.spec.privileged},
        )
        actions = raw.actions if self.store.acted[number] else None
        demonstration = bool(self.store.demonstration[number])
        return replace(raw, actions=actions, demonstration=demonstration, split=self._splits.get(number))


@dataclass(frozen=True, slots=True)
class Concatenated:
    """Several sources in sequence; they must have the same columns."""

    sources: Sequence[Source]
    names: Sequence[str]  # for messages

    def __post_init__(self) -> None:
        first = self.sources[0].describe()
        for source, name in zip(self.sources[1:], self.names[1:], strict=True):
            other = source.describe()
            for part in ("observations", "privileged", "action"):
                if getattr(other, part) != getattr(first, part):
                    raise UserError(
                        f"{name}: its {part} are {getattr(other, part)}, those of {self.names[0]} are "
                        f"{getattr(first, part)}; ingest both with the same columns"
                    )

    @property
    def episode_count(self) -> int:
        """Number of episodes of all sources."""
        return sum(source.episode_count for source in self.sources)

    def describe(self) -> SourceDescription:
        """The common columns, the provenance of every source and the doubts of all readers."""
        descriptions = [source.describe() for source in self.sources]
        first = descriptions[0]
        parts = [dict(description.provenance) for description in descriptions]
        provenance = {"format": "merged", "parts": parts} | _shared_references(parts)
        doubts = tuple(dict.fromkeys(doubt for description in descriptions for doubt in description.doubts))
        return SourceDescription(first.observations, first.privileged, first.action, provenance, doubts)

    def read(self, number: int) -> RawEpisode:
        """The episode; numbers continue from source to source."""
        ends = np.cumsum([source.episode_count for source in self.sources])
        which = int(np.searchsorted(ends, number, side="right"))
        before = int(ends[which - 1]) if which else 0
        return self.sources[which].read(number - before)


def _shared_references(parts: Sequence[dict[str, object]]) -> dict[str, object]:
    """Reference scores that all parts with actions agree on."""
    acted = [part for part in parts if part.get("acted", True)] or parts
    names = ("ref_min_score", "ref_max_score")
    return {name: acted[0][name] for name in names if name in acted[0] and len({part.get(name) for part in acted}) == 1}
