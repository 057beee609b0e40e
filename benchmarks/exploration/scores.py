"""Scores of the collectors from the CSV files: visited cells along the steps, and returns with and without episodes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from benchmarks.exploration.benchmark import BASELINE, COLLECTION, FEW_SHOT, ZERO_SHOT, Benchmark, Row
from benchmarks.exploration.plan import UNTRAINED
from benchmarks.offline_suite.scores import Board, board
from dreamset.pipeline.evaluation.statistics import Estimate, bootstrap, mean

VISITED = "cells visited, %"


@dataclass(frozen=True, slots=True)
class Curve:
    """The visited share of the cells, in percent, along the steps of one collector."""

    steps: Sequence[int]  # at the end of each episode
    shares: Sequence[Estimate]  # mean over seeds; without an interval, NaN, if there is one seed
    seeds: int


@dataclass(frozen=True, slots=True)
class Scores:
    """All scores of a task."""

    task: str
    rewards: Sequence[str]
    collectors: Sequence[str]  # with a row; the explorer is the first learner
    curves: Mapping[str, Curve]  # by collector
    board: Board  # returns by method

    def measures(self) -> dict[str, Callable[[str], Estimate | None]]:
        """Name of a measure -> estimate of a collector, None if it has not been measured."""
        found: dict[str, Callable[[str], Estimate | None]] = {VISITED: self.visited}
        for reward in self.rewards:
            for phase in (ZERO_SHOT, FEW_SHOT):
                found[f"{reward}, {phase.replace('_', '-')}"] = partial(self.returns, reward=reward, phase=phase)
        return found

    def visited(self, collector: str) -> Estimate | None:
        """The visited cells after the last episode, in percent."""
        return self.curves[collector].shares[-1] if collector in self.curves else None

    def returns(self, collector: str, reward: str, phase: str) -> Estimate | None:
        """The returns of the policy that was learned from the collector's episodes."""
        score = self.board.scores.get((self.task, Row(self.task, collector, 0, phase, reward).method))
        return None if score is None else score.estimate

    def untrained(self, reward: str) -> Estimate | None:
        """The returns of random actions."""
        return self.returns(UNTRAINED, reward, BASELINE)

    @property
    def seeds(self) -> int:
        """The least number of seeds of a score, baselines apart."""
        return min(
            [curve.seeds for curve in self.curves.values()]
            + [score.seeds for score in self.board.scores.values() if score.group != UNTRAINED]
        )


def scores(
    runs: pd.DataFrame,
    episodes: pd.DataFrame,
    benchmark: Benchmark,
    *,
    confidence: float,
    resamples: int,
    on_score: Callable[[], object] = lambda: None,
) -> list[Scores]:
    """The scores of every task that has a row, in the order of the benchmark, as are its collectors and rewards."""
    made = []
    for task, chosen in benchmark.tasks.items():
        own = runs[runs["task"] == task]
        played = own[own["phase"] != COLLECTION]
        returns = board(
            played,
            episodes,
            tasks=[task],
            methods=(),
            confidence=confidence,
            resamples=resamples,
            on_score=on_score,
        )
        curves = {}
        for collector, rows in own[own["phase"] == COLLECTION].groupby("collector"):
            steps = chosen.steps * np.arange(1, 1 + chosen.episodes.all)
            curves[str(collector)] = _curve(rows, steps.tolist(), confidence=confidence, resamples=resamples)
            on_score()
        collectors = [name for name in benchmark.collectors if name in set(own["collector"])]
        if collectors:
            made.append(Scores(task, list(chosen.rewards), collectors, curves, returns))
    return made


def _curve(rows: pd.DataFrame, steps: Sequence[int], *, confidence: float, resamples: int) -> Curve:
    shares = 100 * np.array([np.array(text.split(), np.float64) for text in rows["coverages"]])  # [seeds, episodes]
    if len(shares) == 1:
        return Curve(steps, [Estimate(float(share), np.nan, np.nan) for share in shares[0]], 1)
    estimates = [
        bootstrap([seed[None] for seed in column], mean, confidence=confidence, resamples=resamples)
        for column in shares.T
    ]
    return Curve(steps, estimates, len(shares))
