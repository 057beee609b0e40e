"""Writes tables and figure of the benchmark of goals from its CSV files, and the results in README.md.

    python -m benchmarks.goals.report

Every rate of success is a mean over training seeds and goals with a bootstrap interval over both.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.goals import figure
from benchmarks.goals.benchmark import BENCHMARK, Benchmark, Row
from benchmarks.goals.plan import UNSEEDED
from benchmarks.goals.run import RESULTS, SEEDS
from benchmarks.goals.scores import Scores, written
from benchmarks.offline_suite.report import table as as_markdown
from benchmarks.reports import insert, measured, report_parser, run_report
from dreamset.core.files import write_text
from dreamset.pipeline.evaluation.statistics import coverage_note

FOLDER = Path(__file__).parent
TEXT, TABLES, FIGURE = "README.md", "tables.md", "success.png"
BEGIN = "<!-- written by benchmarks.goals.report -->"
COSTS = {  # column -> heading
    "distance_left": "distance left, %",
    "decisions_per_cpu_second": "decisions per CPU second",
    "world_model_cpu_seconds": "CPU seconds: world model",
    "behavior_cpu_seconds": "policy",
}
PERCENT = ("distance_left",)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the tables, the results in the README and the figure, on light and on dark paper."""
    run_report(_parser(), write, arguments)


def write(options: argparse.Namespace) -> None:
    """Writes all outputs.

    Raises:
        UserError: if results are missing or damaged, or the README lacks the marks.
    """
    benchmark = Benchmark.read(options.benchmark)
    scores = Scores.read(options.results, confidence=options.confidence, resamples=options.resamples)
    insert(options.output / TEXT, summary(scores, benchmark), begin=BEGIN)
    write_text(options.output / TABLES, markdown(scores, benchmark))
    figure.draw(scores, benchmark, options.output / FIGURE)


def _parser() -> argparse.ArgumentParser:
    content = "the tables and the figure"
    return report_parser(__doc__, results=RESULTS, output=FOLDER, content=content, benchmark=BENCHMARK)


def summary(scores: Scores, benchmark: Benchmark) -> str:
    """What was measured, and the success of every method with the most trajectories."""
    parts = [coverage(scores.runs, benchmark), success_table(scores, benchmark), coverage_note(scores.seeds())]
    return "\n\n".join(filter(None, parts))


def coverage(runs: pd.DataFrame, benchmark: Benchmark) -> str:
    """How many rows of every task are measured."""
    planned = {
        task: sum(1 if row.method in UNSEEDED else len(SEEDS) for row in benchmark.rows(task))
        for task in benchmark.tasks
    }
    return measured(runs, planned)


def markdown(scores: Scores, benchmark: Benchmark) -> str:
    """All tables in one text."""
    parts = [
        f"Success in percent of 50 goals, {100 * scores.confidence:.0f} % interval over seeds and goals in brackets.",
        "# Numbers of trajectories",
        amount_table(scores, benchmark),
        "# Other looks",
        "With the most trajectories, recorded with the plain look. Severity 0 is the plain look.",
        look_table(scores, benchmark),
        "# Cost",
        "With the most trajectories. Distance left: at the end of an episode, of that at its start.",
        cost_table(scores, benchmark),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def success_table(scores: Scores, benchmark: Benchmark) -> str:
    """One row per method and baseline, one column per task."""
    rows = []
    for method in (*benchmark.methods, *benchmark.baselines):
        cells = [written(scores.success(_best(benchmark, task, method))) for task in scores.tasks]
        if any(cells):
            rows.append([method.replace("_", " "), *cells])
    return as_markdown(["success, %", *scores.tasks], rows) if rows else ""


def amount_table(scores: Scores, benchmark: Benchmark) -> str:
    """One row per task and method, one column per number of trajectories."""
    rows = [
        [task, method.replace("_", " "), *cells]
        for task in scores.tasks
        for method in benchmark.methods
        if any(cells := [written(scores.success(Row(task, method, count))) for count in benchmark.trajectories])
    ]
    return as_markdown(["task", "method", *map(str, benchmark.trajectories)], rows) if rows else ""


def look_table(scores: Scores, benchmark: Benchmark) -> str:
    """One row per task and method, one column per severity."""
    most = max(benchmark.trajectories)
    rows = [
        [task, method.replace("_", " "), *cells]
        for task in scores.tasks
        for method in benchmark.methods
        if any(cells := [written(scores.success(Row(task, method, most, one))) for one in benchmark.severities])
    ]
    return as_markdown(["task", "method", *(f"{one:g}" for one in benchmark.severities)], rows) if rows else ""


def cost_table(scores: Scores, benchmark: Benchmark) -> str:
    """One row per task and method or baseline."""
    rows = []
    for task in scores.tasks:
        for method in (*benchmark.methods, *benchmark.baselines):
            row = _best(benchmark, task, method)
            if scores.success(row) is not None:
                figures = {column: scores.mean(row, column) for column in COSTS}
                rows.append([task, method.replace("_", " "), *(_number(*figure) for figure in figures.items())])
    return as_markdown(["task", "method", *COSTS.values()], rows) if rows else ""


def _number(column: str, value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{100 * value:.0f}" if column in PERCENT else f"{value:.3g}"


def _best(benchmark: Benchmark, task: str, method: str) -> Row:
    """The row with the most trajectories and the plain look."""
    return Row(task, method) if method in benchmark.baselines else Row(task, method, max(benchmark.trajectories))


if __name__ == "__main__":
    main()
