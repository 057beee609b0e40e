"""Means over training seeds with intervals, from the rows of ``runs.csv``."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.offline_suite.scores import read as read_checked
from dreamset.pipeline.evaluation.statistics import Estimate, bootstrap, mean


@dataclass(frozen=True, slots=True)
class Scores:
    """All rows, and how intervals are made."""

    runs: pd.DataFrame
    confidence: float
    resamples: int

    @classmethod
    def read(cls, folder: Path, *, confidence: float, resamples: int) -> "Scores":
        """The rows of a folder.

        Raises:
            UserError: if a file is missing, or the rows of a task come from different datasets.
        """
        runs, _ = read_checked(folder, made_by="benchmarks.reversibility.run")
        return cls(runs, confidence, resamples)

    @property
    def worlds(self) -> list[str]:
        """Those with rows."""
        return list(dict.fromkeys(self.runs["world"]))

    def of(self, world: str, quality: str, method: str, column: str) -> Estimate | None:
        """The mean of a column over seeds, with an interval; None if it has not been measured.

        One seed has no interval: its bounds are NaN.
        """
        rows = self.runs
        chosen = (rows["world"] == world) & (rows["quality"] == quality) & (rows["method"] == method)
        values = rows.loc[chosen, column].dropna().to_numpy(np.float64)
        if not values.size:
            return None
        if values.size == 1:
            return Estimate(float(values[0]), math.nan, math.nan)
        return bootstrap(values[:, None], mean, confidence=self.confidence, resamples=self.resamples)

    def seeds(self) -> int:
        """The least number of seeds of a cell."""
        return int(self.runs.groupby(["task", "method"])["seed"].nunique().min())


def written(estimate: Estimate | None, digits: int = 2) -> str:
    """An estimate with its interval, or nothing."""
    if estimate is None:
        return ""
    value, low, high = (f"{number:.{digits}f}" for number in (estimate.value, estimate.low, estimate.high))
    return value if low == high or math.isnan(estimate.low) else f"{value} ({low} to {high})"


def compared(one: Estimate | None, other: Estimate | None) -> str:
    """Whether the interval of ``one`` lies ``above`` or ``below`` that of ``other``, or ``overlaps`` it."""
    if one is None or other is None or math.isnan(one.low) or math.isnan(other.low):
        return ""  # not measured, or without an interval
    if one.low > other.high:
        return "above"
    return "below" if one.high < other.low else "overlaps"


def in_order(present: Sequence[str], order: Sequence[str]) -> list[str]:
    """The names that are present, in the order of the benchmark."""
    return [name for name in order if name in set(present)]
