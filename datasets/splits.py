"""Splits into training and validation: once and by episode, because neighbouring windows share rows."""

from collections.abc import Hashable, Sequence

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


def split_kinds(kinds: Sequence[Hashable], *, validation_fraction: float, seed: int) -> dict[str, Indices]:
    """Ascending episode numbers of both splits, drawn within each kind of episodes.

    The validation split then has every kind of which there are two episodes or more. A lone one is for training.

    Raises:
        UserError: if no kind has two episodes, or the fraction is not between 0 and 1.
    """
    different = dict.fromkeys(kinds)
    if len(different) < 2:
        return split_episodes(len(kinds), validation_fraction=validation_fraction, seed=seed)
    parts: dict[str, list[Indices]] = {TRAIN: [], VALIDATION: []}
    for kind in different:
        numbers = np.flatnonzero([other == kind for other in kinds])
        if len(numbers) == 1:
            parts[TRAIN].append(numbers)
            continue
        drawn = split_episodes(len(numbers), validation_fraction=validation_fraction, seed=seed)
        for name, places in drawn.items():
            parts[name].append(numbers[places])
    if not parts[VALIDATION]:
        raise UserError(
            f"each of the {len(kinds)} episodes is the only one of its kind (with or without actions, demonstration or "
            f"not), so none is left to validate on; record or ingest more episodes"
        )
    return {name: np.sort(np.concatenate(numbers)) for name, numbers in parts.items()}


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
