"""Rates of success with intervals, from the rows of ``runs.csv`` and ``episodes.csv``."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.goals.benchmark import Row
from benchmarks.offline_suite.scores import read_files
from dreamset.core.errors import UserError
from dreamset.pipeline.evaluation.statistics import Estimate, bootstrap, mean


@dataclass(frozen=True)
class Scores:
    """All rows, and how intervals are made."""

    runs: pd.DataFrame
    episodes: pd.DataFrame
    confidence: float
    resamples: int

    @classmethod
    def read(cls, folder: Path, *, confidence: float, resamples: int) -> "Scores":
        """The rows of a folder.

        Raises:
            UserError: if a file is missing, or equal data of a task come from different recordings.
        """
        runs, episodes = read_files(folder, made_by="benchmarks.goals.run")
        learned = runs[runs["trajectories"] > 0]
        digests = learned.groupby(["task", "dataset", "trajectories"])["dataset_digest"].nunique()
        mixed = sorted({str(key[0]) for key in digests.index[digests > 1]})
        if mixed:
            where = folder / "runs.csv"
            raise UserError(f"{where}: the rows of {', '.join(mixed)} come from different recordings; run them again")
        return cls(runs, episodes, confidence, resamples)

    @property
    def tasks(self) -> list[str]:
        """Those with rows."""
        return list(dict.fromkeys(self.runs["task"]))

    def success(self, row: Row) -> Estimate | None:
        """The rate of success with its interval over seeds and goals; None if it has not been measured."""
        groups = self._returns.get((row.task, row.name))
        if groups is None:
            return None
        return bootstrap(groups, mean, confidence=self.confidence, resamples=self.resamples)

    def mean(self, row: Row, column: str) -> float:
        """The mean of a column over seeds; NaN if it has not been measured."""
        chosen = (self.runs["task"] == row.task) & (self.runs["method"] == row.name)
        return float(self.runs.loc[chosen, column].mean())

    def seeds(self) -> int:
        """The least number of seeds of a learned row; 1 without any."""
        learned = self.runs[self.runs["trajectories"] > 0]
        return int(learned.groupby(["task", "method"])["seed"].nunique().min()) if len(learned) else 1

    @cached_property
    def _returns(self) -> dict[tuple[str, str], Sequence[NDArray[np.float64]]]:
        return {
            (str(task), str(method)): [group["return"].to_numpy(np.float64) for _, group in rows.groupby("seed")]
            for (task, method), rows in self.episodes.groupby(["task", "method"])
        }


def written(estimate: Estimate | None) -> str:
    """A rate in percent with its interval, or nothing."""
    if estimate is None:
        return ""
    value, low, high = (f"{100 * number:.0f}" for number in (estimate.value, estimate.low, estimate.high))
    return value if low == high else f"{value} ({low} to {high})"
