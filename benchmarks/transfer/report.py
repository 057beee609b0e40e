"""Writes tables and figure of the transfer benchmark from its two CSV files.

    python -m benchmarks.transfer.report

Replaces the text between the two marks in details.md beside this script. Scores are those of the offline suite:
interquartile means over seeds and episodes, with intervals from a bootstrap over both.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from benchmarks.offline_suite.report import interval, table
from benchmarks.offline_suite.scores import Board, Score, board, read
from benchmarks.reports import insert, report_parser, run_report
from benchmarks.transfer import figure
from benchmarks.transfer.experiments import BENCHMARK, Benchmark, Curve, Experiment
from benchmarks.transfer.run import RESULTS

FOLDER = Path(__file__).parent
TEXT, FIGURE = "details.md", "returns.png"
BEGIN = "<!-- written by benchmarks.transfer.report -->"
REACHED = 0.95  # a score reaches another one from this share on
AMOUNTS: Mapping[str, Callable[[int], str]] = {
    "updates": "{} updates".format,
    "share": "{} %".format,
}  # format of the values of an axis


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes tables and figure."""
    run_report(_parser(), write, arguments)


def write(options: argparse.Namespace) -> None:
    """Writes all outputs.

    Raises:
        UserError: if results are missing or damaged, or the text lacks the marks.
    """
    benchmark = Benchmark.read(options.benchmark)
    results = Results.read(options.results, benchmark, resamples=options.resamples, confidence=options.confidence)
    insert(options.output / TEXT, results.markdown(confidence=options.confidence), begin=BEGIN)
    figure.draw(benchmark, results.board, options.output / FIGURE)


def _parser() -> argparse.ArgumentParser:
    return report_parser(__doc__, results=RESULTS, output=FOLDER, content="details.md", benchmark=BENCHMARK)


@dataclass(frozen=True, slots=True)
class Results:
    """Scores of the finished experiments."""

    benchmark: Benchmark
    board: Board
    runs: pd.DataFrame

    @classmethod
    def read(cls, folder: Path, benchmark: Benchmark, *, resamples: int, confidence: float) -> "Results":
        """Reads ``runs.csv`` and ``episodes.csv`` of a folder."""
        runs, episodes = read(folder, made_by="benchmarks.transfer.run")
        with tqdm(total=runs.groupby(["task", "method"]).ngroups, desc="bootstrap") as bar:
            scores = board(
                runs,
                episodes,
                tasks=list(benchmark.pairs),
                methods=[*benchmark.baselines, *(experiment.name for experiment in benchmark.experiments)],
                confidence=confidence,
                resamples=resamples,
                on_score=bar.update,
            )
        return cls(benchmark, scores, runs)

    def markdown(self, *, confidence: float) -> str:
        """All tables in one text."""
        parts = [
            f"Interquartile mean of the returns over seeds and episodes, {100 * confidence:.0f} % interval in "
            "brackets. The recorded episodes and uniformly drawn actions:",
            self.baseline_table(),
        ]
        for curve in self.benchmark.curves:
            parts += [
                f"**{curve.pair}**, pretrained and trained with {curve.objective}, by {curve.axis}:",
                self.curve_table(curve),
                f"The smallest budget ({curve.axis}) with which reuse reaches at least {100 * REACHED:.0f} % of the "
                "return from scratch in the same row, also as a percentage of the budget from scratch:",
                self.budget_table(curve),
            ]
        parts += [
            "**Objectives** of the pretraining; all else is equal within a column. Models from scratch also use the "
            "objective of the row:",
            self.objective_table(lambda experiment: _cell(self.score(experiment))),
            "R² of a linear probe from features to the true state on held-out episodes, for the same world models, "
            "mean over seeds:",
            self.objective_table(lambda experiment: self.mean(experiment, "probe_r2", "{:.2f}")),
            "CPU seconds on one thread, mean over seeds: pretraining, training on the new data (both with validation), "
            "and behaviour.",
            self.cost_table(),
        ]
        return "\n\n".join(parts) + "\n"

    def score(self, experiment: Experiment) -> Score | None:
        """The score of an experiment; None if it has not run."""
        return self.board.scores.get((experiment.pair, experiment.name))

    def mean(self, experiment: Experiment, column: str, form: str) -> str:
        """The mean of a column over seeds; empty without values."""
        rows = (self.runs["task"] == experiment.pair) & (self.runs["method"] == experiment.name)
        value = float(self.runs.loc[rows, column].mean())
        return "" if pd.isna(value) else form.format(value)

    def baseline_table(self) -> str:
        """Baselines in rows, pairs in columns."""
        scores, pairs = self.board.scores, list(self.benchmark.pairs)
        rows = [[name, *(_cell(scores.get((pair, name))) for pair in pairs)] for name in self.benchmark.baselines]
        return table(["", *pairs], rows)

    def curve_table(self, curve: Curve) -> str:
        """Starts in rows, the axis in columns."""
        experiments = curve.of(self.benchmark.experiments)
        values = sorted({getattr(experiment, curve.axis) for experiment in experiments})
        rows = []
        for start, own in _grouped(experiments, lambda experiment: experiment.start).items():
            at = {getattr(experiment, curve.axis): self.score(experiment) for experiment in own}
            rows.append([start, *(_cell(at.get(value)) for value in values)])
        return table(["", *(AMOUNTS[curve.axis](value) for value in values)], rows)

    def budget_table(self, curve: Curve) -> str:
        """Amounts from scratch in rows; in columns the smallest amount that each kind of reuse needs."""
        experiments = [experiment for experiment in curve.of(self.benchmark.experiments) if self.score(experiment)]
        reuses = _grouped([e for e in experiments if self._reuses(e)], lambda experiment: experiment.start)
        rows = []
        for scratch in sorted((e for e in experiments if not self._reuses(e)), key=lambda e: getattr(e, curve.axis)):
            cells = [self._least(own, scratch, curve.axis) for own in reuses.values()]
            rows.append([AMOUNTS[curve.axis](getattr(scratch, curve.axis)), _cell(self.score(scratch)), *cells])
        return table(["from scratch", "return", *reuses], rows)

    def _least(self, reuses: Sequence[Experiment], scratch: Experiment, axis: str) -> str:
        needed = REACHED * self._value(scratch)
        amounts = [getattr(experiment, axis) for experiment in reuses if self._value(experiment) >= needed]
        if not amounts:
            return "not reached"
        return f"{AMOUNTS[axis](min(amounts))}, {100 * min(amounts) / getattr(scratch, axis):.0f} %"

    def _value(self, experiment: Experiment) -> float:
        return self.board.scores[experiment.pair, experiment.name].estimate.value

    def _reuses(self, experiment: Experiment) -> bool:
        return self.benchmark.starts[experiment.start].reuses

    def objective_table(self, cell: Callable[[Experiment], str]) -> str:
        """Objectives in rows; pairs and starts in columns."""
        experiments = objective_experiments(self.benchmark)
        columns = list(dict.fromkeys((experiment.pair, experiment.start) for experiment in experiments))
        rows = []
        for objective, own in _grouped(experiments, lambda experiment: experiment.objective).items():
            cells = {(experiment.pair, experiment.start): cell(experiment) for experiment in own}
            rows.append([objective, *(cells.get(column, "") for column in columns)])
        return table(["", *(f"{pair}, {start}" for pair, start in columns)], rows)

    def cost_table(self) -> str:
        """CPU seconds of the experiments of all curves."""
        rows = []
        for curve in self.benchmark.curves:
            for experiment in curve.of(self.benchmark.experiments):
                names = ("pretraining_cpu_seconds", "world_model_cpu_seconds", "behavior_cpu_seconds")
                seconds = [self.mean(experiment, name, "{:.0f}") for name in names]
                what = [experiment.pair, experiment.start, str(experiment.share), str(experiment.updates)]
                rows.append([*what, *seconds])
        head = ["pair", "start", "% of the episodes", "updates", "pretraining", "world model", "behaviour"]
        return table(head, rows)


def objective_experiments(benchmark: Benchmark) -> list[Experiment]:
    """The experiments that compare objectives, pair by pair."""
    return [e for where in benchmark.objectives for e in benchmark.experiments if e.within(where)]


def _grouped(experiments: Iterable[Experiment], key: Callable[[Experiment], str]) -> dict[str, list[Experiment]]:
    groups: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        groups.setdefault(key(experiment), []).append(experiment)
    return groups


def _cell(score: Score | None) -> str:
    return "" if score is None else interval(score.estimate)


if __name__ == "__main__":
    main()
