"""Splits into training and validation: once and by episode, because neighbouring windows share rows."""

from collections.abc import Sequence

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.windows import Indices

TRAIN, VALIDATION = "train", "validation"


def split_episodes(episodes: int, *, validation_fraction: float, seed: int) -> dict[str, Indices]:
    """Ascending episode numbers of both splits; each split has at least one episode.

    Raises:
        UserError: if there are too few episodes, or the fraction is not between 0 and 1.
    """
    if not 0 < validation_fraction < 1:
        raise UserError(f"validation_fraction is {validation_fraction}; allowed: more than 0 and less than 1; fix it")
    if episodes < 2:
        raise UserError(
            f"the dataset has {episodes} episode(s), expected 2 or more: one to train on and one to validate on; "
            f"record or ingest more episodes"
        )
    held_out = min(max(round(validation_fraction * episodes), 1), episodes - 1)
    order = np.random.default_rng(seed).permutation(episodes)
    return {TRAIN: np.sort(order[held_out:]), VALIDATION: np.sort(order[:held_out])}


def declared_splits(declared: Sequence[str | None]) -> dict[str, Indices]:
    """Ascending episode numbers of both splits, from the split of every episode.

    Raises:
        UserError: if an episode has none, or a split has no episode.
    """
    undeclared = sum(split is None for split in declared)
    if undeclared:
        raise UserError(f"{undeclared} of {len(declared)} episodes are in no split, others are; declare all or none")
    splits = {name: np.flatnonzero([split == name for split in declared]) for name in (TRAIN, VALIDATION)}
    for name, numbers in splits.items():
        if not len(numbers):
            raise UserError(
                f"the split {name!r} that the data declare has no episode; fix it, or set dataset.source.splits to null"
            )
    return splits
