"""Writes tables and figure of the fine-tuning benchmark from its two CSV files.

    python -m benchmarks.finetuning.report

Replaces the text between the two marks in details.md beside this script. Scores are those of the offline suite:
interquartile means over seeds and episodes, with intervals from a bootstrap over both.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from benchmarks.finetuning.plan import BENCHMARK, Benchmark
from benchmarks.finetuning.run import RESULTS
from benchmarks.offline_suite.report import interval, table
from benchmarks.offline_suite.scores import Board, Score, board, read
from benchmarks.reports import insert, report_parser, run_report
from dreamset.core.files import save_with
from dreamset.pipeline.report.style import SERIES, STYLE

FOLDER = Path(__file__).parent
TEXT, FIGURE = "details.md", "returns.png"
BEGIN = "<!-- written by benchmarks.finetuning.report -->"


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes tables and figure."""
    run_report(_parser(), write, arguments)


def write(options: argparse.Namespace) -> None:
    """Writes all outputs.

    Raises:
        UserError: if results are missing or damaged, or the text lacks the marks.
    """
    curves = Curves.read(options.results, resamples=options.resamples, confidence=options.confidence)
    insert(options.output / TEXT, curves.markdown(confidence=options.confidence), begin=BEGIN)
    draw(curves, options.output / FIGURE)


def _parser() -> argparse.ArgumentParser:
    return report_parser(__doc__, results=RESULTS, output=FOLDER, content="details.md")


@dataclass(frozen=True, slots=True)
class Curves:
    """Scores at every evaluation, by task and variant."""

    board: Board
    runs: pd.DataFrame  # rows of evaluations only
    variants: Sequence[str]

    @classmethod
    def read(cls, folder: Path, *, resamples: int, confidence: float) -> "Curves":
        """Reads ``runs.csv`` and ``episodes.csv`` of a folder."""
        runs, episodes = read(folder, made_by="benchmarks.finetuning.run")
        points = runs[runs["method"].str.contains("@")]
        benchmark = Benchmark.read(BENCHMARK)
        with tqdm(total=points.groupby(["task", "method"]).ngroups, desc="bootstrap") as bar:
            scores = board(
                points,
                episodes,
                tasks=list(benchmark.tasks),
                methods=(),
                confidence=confidence,
                resamples=resamples,
                on_score=bar.update,
            )
        return cls(scores, points, [name for name in benchmark.variants if name in set(points["group"])])

    def of(self, task: str, variant: str) -> dict[int, Score]:
        """Environment steps, mean over seeds -> score."""
        own = self.runs[(self.runs["task"] == task) & (self.runs["group"] == variant)]
        steps = own.groupby("method")["environment_steps"].mean().sort_values()
        return {round(mean): self.board.scores[task, str(method)] for method, mean in steps.items()}

    def markdown(self, *, confidence: float) -> str:
        """All tables in one text."""
        return (
            "\n\n".join(
                [
                    f"Interquartile mean of the returns over seeds and episodes, {100 * confidence:.0f} % interval in "
                    f"brackets, for the default settings of the stage (`{self.variants[0]}`):",
                    self.improvement_table(),
                    "The dip: the largest drop of an evaluation's mean return below that of the offline policy, within "
                    "the steps that all variants share; mean over seeds, every seed in brackets. 0: no drop.",
                    self.dip_table(),
                    "CPU seconds on one thread, evaluation included, mean over seeds:",
                    self.cost_table(),
                ]
            )
            + "\n"
        )

    def improvement_table(self) -> str:
        """Tasks in rows: before, after, and whether the intervals overlap."""
        rows = []
        for task in self.board.tasks:
            curve = self.of(task, self.variants[0])
            first, (steps, last) = curve[0], list(curve.items())[-1]
            intervals = "apart" if last.estimate.low > first.estimate.high else "overlap"
            rows.append(
                [task, str(last.seeds), interval(first.estimate), str(steps), interval(last.estimate), intervals]
            )
        return table(["task", "seeds", "offline policy", "steps", "after fine-tuning", "intervals"], rows)

    def dip_table(self) -> str:
        """Variants in rows, tasks in columns."""
        rows = []
        for variant in self.variants:
            cells = (self._dips(task, variant) for task in self.board.tasks)
            rows.append([variant, *(_spread(dips) for dips in cells)])
        return table(["", *self.board.tasks], rows)

    def _dips(self, task: str, variant: str) -> list[float]:
        """The dip of each seed."""
        own = self.runs[self.runs["task"] == task]
        shared = own.groupby("group")["due"].max().min()
        points = own[(own["group"] == variant) & (own["due"] <= shared)]
        dips = []
        for _, rows in points.groupby("seed"):
            ordered = rows.sort_values("due")["return_mean"]
            dips.append(float(ordered.iloc[0] - ordered.min()))
        return dips

    def cost_table(self) -> str:
        """Variants in rows, tasks in columns."""
        seconds = self.runs.groupby(["group", "task"])["cpu_seconds"].mean()
        rows = []
        for variant in self.variants:
            of_tasks = [seconds.get((variant, task)) for task in self.board.tasks]
            rows.append([variant, *("" if value is None else f"{value:.0f}" for value in of_tasks)])
        return table(["", *self.board.tasks], rows)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    each = ", ".join(f"{value:.1f}" for value in values)
    return f"{sum(values) / len(values):.1f} ({each})"


def draw(curves: Curves, path: Path) -> None:
    """Writes the figure: a panel per task, a curve with intervals per variant."""
    with mpl.rc_context(STYLE):
        tasks = curves.board.tasks
        figure = Figure(figsize=(4.8 * len(tasks), 3.6), layout="constrained")
        for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
            _panel(axes, curves, task)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        # without metadata, equal figures give equal files
        save_with(path, lambda beside: figure.savefig(beside, dpi=120, metadata={"Software": None}))


def _panel(axes: Axes, curves: Curves, task: str) -> None:
    for variant, color in zip(curves.variants, (style.color for style in SERIES), strict=False):
        points = {steps: score.estimate for steps, score in curves.of(task, variant).items()}
        if points:
            steps, estimates = list(points), list(points.values())
            axes.fill_between(steps, [p.low for p in estimates], [p.high for p in estimates], color=color, alpha=0.12)
            axes.plot(steps, [p.value for p in estimates], "o-", color=color, markersize=3, label=variant)
    first = next(iter(curves.of(task, curves.variants[0]).values()))
    axes.axhline(first.estimate.value, color="0.45", linestyle="--", linewidth=1)
    axes.set(title=task, xlabel="steps in the environment", ylabel="return")


if __name__ == "__main__":
    main()
