"""Writes tables and figure of the benchmark of acting from its two CSV files, and replaces the results in README.md.

    python -m benchmarks.acting.report

Every score is the interquartile mean over seeds and episodes with a bootstrap interval. The bootstrap first draws seeds
with replacement, then episodes within them, so that the interval covers other trainings.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from benchmarks.acting import figure
from benchmarks.acting.benchmark import BENCHMARK, EXACT, PREDICTED, Benchmark
from benchmarks.acting.run import RESULTS, SEEDS
from benchmarks.acting.scores import ACTOR, Result, Table, read, tables
from benchmarks.offline_suite.report import interval
from benchmarks.offline_suite.report import table as as_markdown
from benchmarks.offline_suite.scores import position
from benchmarks.reports import insert, measured, report_parser, run_report
from dreamset.core.files import write_text
from dreamset.pipeline.evaluation.statistics import coverage_note

FOLDER = Path(__file__).parent
TEXT, TABLES, FIGURE = "README.md", "tables.md", "returns.png"
BEGIN = "<!-- written by benchmarks.acting.report -->"
MODEL_FIGURES = {  # column of runs.csv -> significant digits and heading
    "probe_r2": (3, "probe R²"),
    "reward_error_h1": (2, "reward error +1"),
    "reward_error_h5": (2, "+5"),
    "reward_error_h15": (2, "+15"),
    "world_model_cpu_seconds": (3, "CPU seconds: world model"),
    "behavior_cpu_seconds": (3, "policy"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the tables, the results in the README and the figure, on light and on dark paper."""
    run_report(_parser(), write, arguments)


def write(options: argparse.Namespace) -> None:
    """Writes all outputs.

    Raises:
        UserError: if results are missing or damaged, or the README lacks the marks.
    """
    benchmark = Benchmark.read(options.benchmark)
    runs, episodes = read(options.results)
    with tqdm(desc="bootstrap", total=runs.groupby(["task", "method"]).ngroups) as bar:
        of_tasks = tables(
            runs,
            episodes,
            benchmark,
            confidence=options.confidence,
            resamples=options.resamples,
            on_score=bar.update,
        )
    insert(options.output / TEXT, summary(of_tasks, runs, benchmark), begin=BEGIN)
    write_text(options.output / TABLES, markdown(of_tasks, runs, confidence=options.confidence))
    figure.draw(of_tasks, options.output / FIGURE)


def _parser() -> argparse.ArgumentParser:
    content = "the tables and the figure"
    return report_parser(__doc__, results=RESULTS, output=FOLDER, content=content, benchmark=BENCHMARK)


def summary(of_tasks: Sequence[Table], runs: pd.DataFrame, benchmark: Benchmark) -> str:
    """What was measured, and the verdicts."""
    few = min((result.seeds for table in of_tasks for result in table.results if result.model != EXACT), default=0)
    parts = [coverage(runs, benchmark), verdict_table(of_tasks), coverage_note(few) if few else ""]
    return "\n\n".join(filter(None, parts))


def coverage(runs: pd.DataFrame, benchmark: Benchmark) -> str:
    """How many rows of every task are measured."""
    exact = {name: len(task.simulated) for name, task in benchmark.tasks.items()}  # which need one seed
    planned = {name: (len(benchmark.methods(name)) - one) * len(SEEDS) + one for name, one in exact.items()}
    return measured(runs, planned)


def markdown(of_tasks: Sequence[Table], runs: pd.DataFrame, *, confidence: float) -> str:
    """All tables in one text."""
    parts = []
    for table in of_tasks:
        own = runs[runs["task"] == table.task]
        low, high = table.references
        parts += [
            f"# {table.task}",
            f"Interquartile mean of the returns over seeds and episodes, {100 * confidence:.0f} % interval in "
            f"brackets; bold: the highest of each world model. The random policy returns {low:.1f}, the scripted "
            f"expert {high:.1f}, the data {own['dataset_return'].mean():.1f}.",
            score_table(table),
            "Imagined return / real return after the first 5 rows, mean over seeds. A planner imagines that it plans "
            "in every row. Where the imagined one is far higher, acting exploits errors of the model.",
            cell_table(table, own, _imagined_and_real),
            "Decisions per CPU second of one thread, of the seed that other programs disturbed least. "
            f"{own['parallel_episodes'].max():.0f} episodes were played side by side, and each row of each episode "
            "counts.",
            cell_table(table, own, lambda rows: f"{rows['decisions_per_cpu_second'].max():.0f}"),
            "The world models, mean over seeds: a linear probe from features to the true state, squared open-loop "
            "errors of the reward, and training on one thread.",
            model_table(table, own),
        ]
    return "\n\n".join(filter(None, parts)) + "\n"


def verdict_table(of_tasks: Sequence[Table]) -> str:
    """One row per task and world model: its actor, planning in the same model, and the best model of the task."""
    rows = []
    for table in of_tasks:
        bests = [table.best(model) for model in table.learned]
        for best in bests:
            leader = max(bests, key=lambda result: result.estimate.value)
            actor, planned = table.of(best.model, reward=PREDICTED, way=ACTOR), table.planned(best.model)
            against = position(planned.estimate, actor.estimate) if planned and actor else ""
            of_best = "" if best == leader else position(best.estimate, leader.estimate)
            weak = [part for part, is_weak in (("actor", against == "above"), ("model", of_best == "below")) if is_weak]
            cells = [interval(actor.estimate) if actor else "", f"{against}: {named(planned)}" if against else ""]
            cells += [f"{of_best}: {named(best)}" if of_best else "the best", " and ".join(weak)]
            rows.append([table.task, best.model, *cells])
    heads = ["planning against the actor", "best way against the best model", "weak part"]
    return as_markdown(["task", "world model", "actor", *heads], rows)


def named(result: Result) -> str:
    """The way of acting with its score."""
    return f"{label(result.way, result.reward)} {interval(result.estimate)}"


def label(way: str, reward: str) -> str:
    """A way of acting in words."""
    return way.replace("_", " + ") + ("" if reward == PREDICTED else f", {reward}")


def score_table(table: Table) -> str:
    """Ways of acting in rows, world models in columns."""
    tops = [table.best(model) for model in table.models]

    def cell(result: Result) -> str:
        return interval(result.estimate, mark="**" if result in tops else "")

    return _table(table, cell)


def cell_table(table: Table, runs: pd.DataFrame, write: Callable[[pd.DataFrame], str]) -> str:
    """The same with a text from the rows of ``runs.csv`` that a cell stands for."""

    def cell(result: Result) -> str:
        chosen = (runs["model"] == result.model) & (runs["reward"] == result.reward) & (runs["way"] == result.way)
        return write(runs[chosen])

    return _table(table, cell)


def _table(table: Table, write: Callable[[Result], str]) -> str:
    rows = []
    for reward, way in dict.fromkeys((result.reward, result.way) for result in table.results):
        cells = (table.of(model, reward=reward, way=way) for model in table.models)
        rows.append([label(way, reward), *("" if cell is None else write(cell) for cell in cells)])
    return as_markdown(["acting", *table.models], rows)


def _imagined_and_real(rows: pd.DataFrame) -> str:
    imagined, real = rows["imagined_return"].mean(), rows["real_return"].mean()
    return f"{imagined:.1f} / {real:.1f}" if math.isfinite(imagined) else ""


def model_table(table: Table, runs: pd.DataFrame) -> str:
    """World models in rows."""
    rows = []
    for model in table.learned:
        means = runs[runs["model"] == model][list(MODEL_FIGURES)].mean()
        cells = (f"{means[name]:.{digits}g}" for name, (digits, _) in MODEL_FIGURES.items())
        rows.append([model, *("" if cell == "nan" else cell for cell in cells)])
    return as_markdown(["world model", *(heading for _, heading in MODEL_FIGURES.values())], rows)


if __name__ == "__main__":
    main()
