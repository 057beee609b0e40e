"""Scores of every way of acting, from the CSV files: interquartile means over seeds and episodes with intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.acting.benchmark import EXACT, PREDICTED, Benchmark
from benchmarks.offline_suite.scores import read as read_checked
from dreamset.pipeline.evaluation.statistics import Estimate, bootstrap, interquartile_mean

ACTOR = "actor"  # the way that does not plan


@dataclass(frozen=True, slots=True)
class Result:
    """One way of acting in the world models of one objective, over all seeds and episodes."""

    model: str
    reward: str
    way: str
    seeds: int
    estimate: Estimate  # of the interquartile mean of returns


@dataclass(frozen=True, slots=True)
class Table:
    """All results of a task."""

    task: str
    models: Sequence[str]
    ways: Sequence[str]
    results: Sequence[Result]
    references: tuple[float, float]  # mean returns of the random policy and of the scripted expert

    @property
    def learned(self) -> list[str]:
        """The world models, without the exact dynamics."""
        return [model for model in self.models if model != EXACT]

    def of(self, model: str, *, reward: str, way: str) -> Result | None:
        """The result of one cell; None if it has not been measured."""
        cells = (r for r in self.results if (r.model, r.reward, r.way) == (model, reward, way))
        return next(cells, None)

    def planned(self, model: str) -> Result | None:
        """The best of the ways that plan with the predicted reward."""
        planned = [r for r in self.results if r.model == model and r.reward == PREDICTED and r.way != ACTOR]
        return max(planned, key=lambda result: result.estimate.value, default=None)

    def best(self, model: str) -> Result:
        """The best of all ways of acting in a world model, which may be a system."""
        return max((r for r in self.results if r.model == model), key=lambda result: result.estimate.value)


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``runs.csv`` and ``episodes.csv``.

    Raises:
        UserError: if a file is missing, or the rows of a task come from different datasets.
    """
    return read_checked(folder, made_by="benchmarks.acting.run")


def tables(
    runs: pd.DataFrame,
    episodes: pd.DataFrame,
    benchmark: Benchmark,
    *,
    confidence: float,
    resamples: int,
    on_score: Callable[[], object] = lambda: None,
) -> list[Table]:
    """One table per task that has rows, in the order of the benchmark, as are its models, rewards and ways."""
    returns = dict(iter(episodes.groupby(["task", "method"])))
    made = []
    for task in benchmark.tasks:
        rows = runs[runs["task"] == task]
        results = []
        for method in benchmark.methods(task):
            if (rows["method"] == method.name).any():
                groups = [seed["return"].to_numpy(np.float64) for _, seed in returns[task, method.name].groupby("seed")]
                estimate = bootstrap(groups, interquartile_mean, confidence=confidence, resamples=resamples)
                results.append(Result(method.model, method.reward, method.way, len(groups), estimate))
                on_score()
        if results:
            ends = rows[["reference_low", "reference_high"]].iloc[0]
            models, ways = (list(dict.fromkeys(getattr(r, name) for r in results)) for name in ("model", "way"))
            made.append(Table(task, models, ways, results, (float(ends.iloc[0]), float(ends.iloc[1]))))
    return made
