"""Computes scores of methods on tasks from the CSV files."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dreamset.core.errors import UserError
from dreamset.pipeline.evaluation.statistics import Estimate, bootstrap, interquartile_mean


@dataclass(frozen=True, slots=True)
class Score:
    """The score of a method on a task, over all seeds and episodes."""

    task: str
    method: str
    group: str
    seeds: int
    estimate: Estimate  # of the interquartile mean of returns
    cpu_seconds: float  # of training, mean over seeds; NaN without training


@dataclass(frozen=True, slots=True)
class Board:
    """All scores; not every method serves every task."""

    tasks: Sequence[str]
    methods: Sequence[str]
    scores: Mapping[tuple[str, str], Score]  # (task, method) -> score

    def of_task(self, task: str) -> list[Score]:
        """The task's scores in the order of the methods."""
        return [self.scores[task, method] for method in self.methods if (task, method) in self.scores]


def read(folder: Path, *, made_by: str = "benchmarks.offline_suite.run") -> tuple[pd.DataFrame, pd.DataFrame]:
    """``runs.csv`` and ``episodes.csv``, which the module ``made_by`` writes.

    Raises:
        UserError: if a file is missing, or the rows of a task come from different datasets.
    """
    runs, episodes = read_files(folder, made_by=made_by)
    digests = runs.groupby("task")["dataset_digest"].nunique()
    mixed = sorted(digests.index[digests > 1])
    if mixed:
        where = folder / "runs.csv"
        raise UserError(f"{where}: the rows of {', '.join(mixed)} come from different datasets; run them again")
    return runs, episodes


def read_files(folder: Path, *, made_by: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same for results whose rows come from different datasets.

    Raises:
        UserError: if a file is missing.
    """
    paths = folder / "runs.csv", folder / "episodes.csv"
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise UserError(f"{', '.join(missing)} does not exist; run `python -m {made_by}` first")
    runs, episodes = map(pd.read_csv, paths)
    return runs, episodes


def board(
    runs: pd.DataFrame,
    episodes: pd.DataFrame,
    *,
    tasks: Sequence[str],
    methods: Sequence[str],
    confidence: float,
    resamples: int,
    on_score: Callable[[], object] = lambda: None,
) -> Board:
    """All scores.

    Args:
        runs: see ``read``.
        episodes: see ``read``.
        tasks: the order of tasks; unnamed tasks come last.
        methods: the order of methods; unnamed methods come last.
        confidence: confidence of the intervals.
        resamples: resamples of the bootstrap.
        on_score: called after each score.
    """
    scores = {}
    returns = dict(iter(episodes.groupby(["task", "method"])))
    for key, rows in runs.groupby(["task", "method"]):
        task, method = map(str, key)
        groups = [group["return"].to_numpy(np.float64) for _, group in returns[task, method].groupby("seed")]
        scores[task, method] = Score(
            task=task,
            method=method,
            group=rows["group"].iloc[0],
            seeds=len(groups),
            estimate=bootstrap(groups, interquartile_mean, confidence=confidence, resamples=resamples),
            cpu_seconds=float(rows["cpu_seconds"].mean()),
        )
        on_score()
    return Board(_in_order(runs["task"], tasks), _in_order(runs["method"], methods), scores)


def _in_order(present: Iterable[str], order: Sequence[str]) -> list[str]:
    return sorted(set(present), key=lambda name: (order.index(name) if name in order else len(order), name))


def best(scores: Sequence[Score]) -> Score:
    """The score with the highest estimate."""
    return max(scores, key=lambda score: score.estimate.value)


def position(estimate: Estimate, other: Estimate) -> str:
    """Whether the interval of ``estimate`` lies ``above`` or ``below`` that of ``other``, or ``overlaps`` it."""
    if estimate.low > other.high:
        return "above"
    return "below" if estimate.high < other.low else "overlaps"


def compared(ours: Score, rivals: Sequence[Score]) -> str:
    """The position of Dreamset's interval: ``above`` all rivals, ``below`` one of them, or ``overlaps``."""
    if all(ours.estimate.low > rival.estimate.high for rival in rivals):
        return "above"
    if any(ours.estimate.high < rival.estimate.low for rival in rivals):
        return "below"
    return "overlaps"
