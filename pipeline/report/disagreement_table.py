"""The disagreement of a world model's ensemble about the episodes of a store, as a table."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dreamset.datasets import Store
from dreamset.datasets.card import short
from dreamset.pipeline.evaluation.disagreement import EpisodeScore
from dreamset.pipeline.report.tables import columns

HEAD = ("episode", "split", "transitions", "return", "disagreement", "highest", "in row")


def rows(store: Store, scores: Sequence[EpisodeScore]) -> list[dict[str, Any]]:
    """One row per episode, in the order of the store."""
    splits = {int(episode): split for split in store.info["splits"] for episode in store.split(split, acted=None)}
    return [
        {
            "episode": episode,
            "split": splits[episode],
            "transitions": int(store.lengths[episode]) - 1,
            "return": float(store.returns[episode]),
            "disagreement": score.mean,
            "highest": score.highest,
            "highest_row": score.highest_row,
        }
        for episode, score in enumerate(scores)
    ]


def text(store: Store, scores: Sequence[EpisodeScore], *, most: int) -> str:
    """The mean over all transitions, and the episodes of the ``most`` highest and lowest scores."""
    means = np.array([score.mean for score in scores])
    order = np.argsort(-means, kind="stable")
    described = rows(store, scores)
    shown = order if len(order) <= 2 * most else [*order[:most], *order[-most:]]
    cells = [_cells(described[episode]) for episode in shown]
    if len(shown) < len(order):
        cells.insert(most, ["..."] + [""] * (len(HEAD) - 1))
    overall = np.average(means, weights=store.lengths - 1)
    mean = f"mean disagreement about {int((store.lengths - 1).sum())} transitions: {short(float(overall))}"
    return f"{mean}\n{columns(HEAD, cells, right={0, 2, 3, 4, 5, 6})}"


def _cells(row: dict[str, Any]) -> list[str]:
    return [short(value) if isinstance(value, float) else str(value) for value in row.values()]
