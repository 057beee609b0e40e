"""Merging and splitting stores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder
from dreamset.datasets.sources.base import Source
from dreamset.datasets.store import Store
from dreamset.datasets.store_source import Concatenated, StoreSource
from dreamset.datasets.transforms.selection import EpisodeSubset
from dreamset.datasets.windows import Indices
from dreamset.datasets.writer import write_store


def merge(stores: Sequence[Path], output: Path, *, on_episode: Callable[[int], None]) -> Store:
    """Writes all episodes of several stores into one store. Each episode keeps its split.

    Raises:
        UserError: if their columns differ, or two stores contain the same episode.
    """
    sources = [StoreSource(path) for path in stores]
    merged: Source = Concatenated(sources, [str(path) for path in stores])
    splits: dict[str, list[int]] = {}
    before = 0
    for source in sources:
        for name in source.store.info["splits"]:
            splits.setdefault(name, []).extend((source.store.split(name, acted=None) + before).tolist())
        before += source.episode_count
    return write_store(
        merged,
        output,
        splits=lambda _: {name: np.array(numbers, np.int64) for name, numbers in splits.items()},
        on_episode=on_episode,
    )


def split(
    path: Path, shares: Mapping[str, float], output: Path, *, seed: int, on_episode: Callable[[int], None]
) -> dict[str, Store]:
    """Distributes the episodes at random over several stores, in sub-folders of ``output``.

    Each episode goes to exactly one store and keeps its split. No episode is validation data in one store and training
    data in another.

    Raises:
        UserError: if the shares do not sum to one, or a store would get no episode.
    """
    source = StoreSource(path)
    if not abs(sum(shares.values()) - 1) <= 1e-6 or min(shares.values()) <= 0:  # this form also refuses NaN
        raise UserError(f"the shares are {dict(shares)}; allowed: positive numbers that sum to 1; fix them")
    order = np.random.default_rng(seed).permutation(source.episode_count)
    bounds = np.rint(np.cumsum([0.0, *shares.values()]) * source.episode_count).astype(int)
    with replaced_folder(output) as folder:
        for name, first, last in zip(shares, bounds[:-1], bounds[1:], strict=True):
            note = {"part": name, "share": shares[name], "seed": seed, "of": source.store.digest}
            _write_part(source, np.sort(order[first:last]), folder / name, note, on_episode)
    return {name: Store.open(output / name) for name in shares}


def _write_part(
    source: StoreSource, numbers: Indices, output: Path, note: Mapping[str, Any], on_episode: Callable[[int], None]
) -> None:
    if not len(numbers):
        raise UserError(f"{source.store.path}: too few episodes for the part {note['part']!r}; choose a larger share")
    description = source.describe()
    provenance = {**description.provenance, "split": note}
    store = source.store
    splits = {name: np.flatnonzero(np.isin(numbers, store.split(name, acted=None))) for name in store.info["splits"]}
    part = EpisodeSubset(source, numbers.tolist(), replace(description, provenance=provenance))
    write_store(part, output, splits=lambda _: splits, on_episode=on_episode)
