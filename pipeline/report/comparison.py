"""The contents of a comparison, which the tables, figures and pages show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dreamset.pipeline.config.settings import Evaluation


@dataclass(frozen=True, slots=True)
class Comparison:
    """Objectives that were trained on the same data and evaluated in the same way."""

    dataset: str
    preset: str | None  # None: unknown
    seeds: Sequence[int]
    evaluation: Evaluation
    summary: pd.DataFrame  # one row per objective
    horizons: pd.DataFrame  # objective, seed, horizon, reward_error, probe_r2
    returns: Mapping[str, Sequence[NDArray[np.float64]]]  # objective -> of every episode, one array per seed
    references: Mapping[str, float]  # label -> return
    runs: Path  # folder of the results of all stages
    card: Path | None = None  # folder of the dataset card
    rewarded: bool = True  # whether any reward of the data is not 0
    data: Sequence[tuple[str, str]] = ()  # facts about the store: label and text
    different_settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # key -> objective -> value

    @property
    def objectives(self) -> list[str]:
        """In the order in which they were chosen."""
        return [str(name) for name in self.summary["objective"]]

    @property
    def title(self) -> str:
        """What was compared, in one line."""
        preset = "" if self.preset is None else f" · {self.preset}"
        return f"{self.dataset}{preset} · {seeds_in_words(self.seeds)}"

    @property
    def reward_error(self) -> str:
        """The column of the reward error at the longest of the usual horizons that was measured."""
        return reward_error_of(self.summary)

    def rows(self) -> list[dict[str, float]]:
        """The summary as one mapping per objective."""
        return [{str(name): value for name, value in row.items()} for row in self.summary.to_dict("records")]


def reward_error_of(summary: pd.DataFrame) -> str:
    """The column of the reward error at the longest of the usual horizons that a summary has."""
    columns = [f"reward_error_h{horizon}" for horizon in (15, 5, 1)]
    return next((name for name in columns if name in summary and summary[name].notna().any()), columns[0])


def seeds_in_words(seeds: Sequence[int]) -> str:
    """``seed 0`` or ``seeds 0, 1, 2``."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
