"""A store in which the missing actions are filled in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.datasets.episode import Array, RawEpisode
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.store import Store
from dreamset.datasets.store_source import StoreSource
from dreamset.datasets.writer import write_store

LABELLED = "labelled"  # in the provenance


@dataclass(frozen=True, slots=True)
class LabelledSource:
    """The episodes of a store; those without actions get the actions of ``label``."""

    source: StoreSource
    label: Callable[[int], Array]  # number of an episode -> [N, A] in the environment's units
    facts: Mapping[str, Any]  # for the provenance: plain json values

    @property
    def episode_count(self) -> int:
        """How many episodes there are."""
        return self.source.episode_count

    def describe(self) -> SourceDescription:
        """That of the store, with what is known of the labels."""
        description = self.source.describe()
        return replace(description, provenance={**description.provenance, LABELLED: dict(self.facts)})

    def read(self, number: int) -> RawEpisode:
        """The episode with actions."""
        raw = self.source.read(number)
        return raw if raw.actions is not None else replace(raw, actions=self.label(number))


def write_labelled(
    store: Store, output: Path, label: Callable[[int], Array], facts: Mapping[str, Any], on_episode: Callable[[], None]
) -> Store:
    """Writes ``store`` with the actions of ``label``. Every episode keeps its split, its marks and its compression."""
    splits = {name: np.asarray(store.split(name, acted=None)) for name in store.info["splits"]}
    return write_store(
        LabelledSource(StoreSource(store.path), label, facts),
        output,
        splits=lambda _: splits,
        compression=store.info.get("compression"),
        workers=1,  # the labels use all cores
        on_episode=lambda _: on_episode(),
    )
