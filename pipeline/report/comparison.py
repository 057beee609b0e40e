"""The contents of a comparison, which the tables, figures and pages show."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dreamset.pipeline.config.settings import Evaluation
from dreamset.pipeline.report.calibration import Calibration
from dreamset.pipeline.report.headline import records
from dreamset.pipeline.report.metrics import is_reward_term

LOOK_AHEAD = 15  # steps that policies look ahead in imagination, as published

_ERROR = re.compile(r"reward_error_h(\d+)")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Objectives that were trained on the same data and evaluated in the same way."""

    dataset: str
    preset: str | None  # None: unknown
    seeds: Sequence[int]
    evaluation: Evaluation
    summary: pd.DataFrame  # one row per objective
    horizons: pd.DataFrame  # objective, seed, horizon, reward_error, probe_r2
    returns: Mapping[str, Sequence[NDArray[np.float64]]]  # objective -> of every episode, one array per evaluated seed
    references: Mapping[str, float]  # label -> return
    runs: Path  # folder of the results of all stages
    card: Path | None = None  # folder of the dataset card
    rewarded: bool = True  # whether any reward of the data is not 0
    data: Sequence[tuple[str, str]] = ()  # facts about the store: label and text
    different_settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # key -> objective -> value
    calibration: Mapping[str, Calibration] = field(default_factory=dict)  # by objective
    origin: Sequence[tuple[str, str]] = ()  # facts about how it was made: label and text
    commands: Sequence[str] = ()  # that make it again

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
    def interval(self) -> str:
        """The name of the intervals, such as ``95 % interval``."""
        return f"{100 * self.evaluation.confidence:.0f} % interval"

    @property
    def reward_error(self) -> str:
        """The column of the reward error by which objectives are compared."""
        return reward_error_of(self.summary)

    @property
    def horizon(self) -> int:
        """The horizon of that column."""
        return int(self.reward_error.rpartition("_h")[2])

    def rows(self) -> list[dict[str, Any]]:
        """The summary as one mapping per objective."""
        return records(self.summary)


def error_horizons(summary: pd.DataFrame) -> list[int]:
    """The horizons at which a summary has a reward error, in order."""
    found = [match for match in map(_ERROR.fullmatch, map(str, summary.columns)) if match]
    return sorted(int(match[1]) for match in found if summary[match[0]].notna().any())


def reward_terms(figures: pd.DataFrame) -> list[str]:
    """The columns of the terms of the reward functions, in order; none if there is only one."""
    names = [str(name) for name in figures.columns if is_reward_term(str(name)) and figures[name].notna().any()]
    return names if len(names) > 1 else []


def reward_error_of(summary: pd.DataFrame) -> str:
    """The column of the reward error at the longest horizon that policies look ahead; otherwise, at the shortest."""
    horizons = error_horizons(summary)
    near = [horizon for horizon in horizons if horizon <= LOOK_AHEAD]
    return f"reward_error_h{max(near) if near else min(horizons, default=LOOK_AHEAD)}"


def seeds_in_words(seeds: Sequence[int]) -> str:
    """``seed 0`` or ``seeds 0, 1, 2``."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
