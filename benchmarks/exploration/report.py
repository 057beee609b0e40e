"""Writes tables and figure of the benchmark of exploration from its two CSV files, and the results in README.md.

    python -m benchmarks.exploration.report

Returns are interquartile means over seeds and episodes with a bootstrap interval, which first draws seeds with
replacement, then episodes within them. Visited cells are means over seeds, and their bootstrap draws seeds.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from benchmarks.exploration import figure
from benchmarks.exploration.benchmark import BENCHMARK, COLLECTION, FEW_SHOT, ZERO_SHOT, Benchmark
from benchmarks.exploration.run import RESULTS, SEEDS
from benchmarks.exploration.scores import Scores, scores
from benchmarks.offline_suite.report import interval, table
from benchmarks.offline_suite.scores import position, read_files
from benchmarks.reports import insert, measured, report_parser, run_report
from dreamset.core.files import write_text
from dreamset.pipeline.evaluation.statistics import Estimate, coverage_note

FOLDER = Path(__file__).parent
TEXT, TABLES, FIGURE = "README.md", "tables.md", "exploration.png"
BEGIN = "<!-- written by benchmarks.exploration.report -->"
MODEL_FIGURES = {  # column of runs.csv -> significant digits and heading
    "probe_r2": (3, "probe R²"),
    "reward_error_h1": (2, "reward error +1"),
    "reward_error_h5": (2, "+5"),
    "reward_error_h15": (2, "+15"),
    "cpu_seconds": (3, "CPU seconds"),
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
    runs, episodes = read_files(options.results, made_by="benchmarks.exploration.run")
    with tqdm(desc="bootstrap", total=runs.groupby(["task", "method"]).ngroups) as bar:
        tasks = scores(
            runs, episodes, benchmark, confidence=options.confidence, resamples=options.resamples, on_score=bar.update
        )
    insert(options.output / TEXT, summary(tasks, runs, benchmark), begin=BEGIN)
    write_text(options.output / TABLES, markdown(tasks, runs, confidence=options.confidence))
    figure.draw(tasks, options.output / FIGURE)


def _parser() -> argparse.ArgumentParser:
    content = "the tables and the figure"
    return report_parser(__doc__, results=RESULTS, output=FOLDER, content=content, benchmark=BENCHMARK)


def summary(tasks: Sequence[Scores], runs: pd.DataFrame, benchmark: Benchmark) -> str:
    """What was measured, and the explorer against every other collector."""
    note = coverage_note(min(task.seeds for task in tasks)) if tasks else ""
    return "\n\n".join(filter(None, [coverage(runs, benchmark), verdict_table(tasks, benchmark), note]))


def coverage(runs: pd.DataFrame, benchmark: Benchmark) -> str:
    """How many rows of every task are measured."""
    collected = len(SEEDS) * len(benchmark.collectors)
    rewards = {name: len(task.rewards) for name, task in benchmark.tasks.items()}
    return measured(runs, {name: collected * (1 + 2 * count) + count for name, count in rewards.items()})


def verdict_table(tasks: Sequence[Scores], benchmark: Benchmark) -> str:
    """Measures in rows; the position of the explorer's interval, and the estimate, in the columns of the others."""
    explorer, *others = benchmark.collectors
    rows = []
    for task in tasks:
        for name, of in task.measures().items():
            own = of(explorer)
            cells = [_against(own, of(other)) for other in others]
            rows.append([task.task, name, shown(own), *cells])
    return table(["task", "measure", explorer, *(f"against {other}" for other in others)], rows)


def _against(own: Estimate | None, other: Estimate | None) -> str:
    """The other's estimate, after the position of the explorer's interval if both have one."""
    if own is None or other is None or math.isnan(own.low + other.low):
        return shown(other)
    return f"{position(own, other)}: {interval(other)}"


def shown(estimate: Estimate | None) -> str:
    """The estimate and its interval, if there are any."""
    if estimate is None:
        return ""
    return f"{estimate.value:.1f} (one seed)" if math.isnan(estimate.low) else interval(estimate)


def markdown(tasks: Sequence[Scores], runs: pd.DataFrame, *, confidence: float) -> str:
    """All tables in one text."""
    parts = []
    for task in tasks:
        own = runs[runs["task"] == task.task]
        parts += [
            f"# {task.task}",
            f"The share of visited cells in percent, mean over seeds, {100 * confidence:.0f} % interval in brackets.",
            coverage_table(task),
            "Interquartile mean of the returns over seeds and episodes. Zero-shot: learned from the collected episodes "
            "alone. Few-shot: after further episodes of the task.",
            return_table(task),
            "The world models that were trained on the collected episodes, mean over seeds: a linear probe from "
            "features to the true state, squared open-loop errors of the reward, and CPU seconds of model and policy.",
            model_table(task, own),
            "Returns in the task's own reward while collecting, and CPU seconds of the collection, mean over seeds.",
            collection_table(task, own),
        ]
    return "\n\n".join(parts) + "\n"


def coverage_table(task: Scores) -> str:
    """Collectors in rows, steps in columns, four of them."""
    rows, steps = [], [0]
    for collector in task.collectors:
        if collector in task.curves:
            curve = task.curves[collector]
            chosen = [round(len(curve.steps) * quarter / 4) - 1 for quarter in (1, 2, 3, 4)]
            steps = [curve.steps[number] for number in chosen]
            rows.append([collector, *(shown(curve.shares[number]) for number in chosen)])
    return table(["collector", *(f"{count} steps" for count in steps)], rows)


def return_table(task: Scores) -> str:
    """Collectors in rows, rewards and phases in columns; the random policy last."""
    columns = [(reward, phase) for reward in task.rewards for phase in (ZERO_SHOT, FEW_SHOT)]
    rows = [[name, *(shown(task.returns(name, *column)) for column in columns)] for name in task.collectors]
    random = [shown(task.untrained(reward)) if phase == ZERO_SHOT else "" for reward, phase in columns]
    heads = [f"{reward}, {phase.replace('_', '-')}" for reward, phase in columns]
    return table(["data of", *heads], [*rows, ["random policy", *random]])


def model_table(task: Scores, runs: pd.DataFrame) -> str:
    """Collectors and rewards in rows, figures of the world model in columns."""
    rows = []
    of_policies = runs[runs["phase"] == ZERO_SHOT].groupby(["collector", "reward"])[list(MODEL_FIGURES)].mean()
    for collector in task.collectors:
        for reward in task.rewards:
            if (collector, reward) in of_policies.index:
                means = of_policies.loc[(collector, reward)]
                cells = (f"{means[name]:.{digits}g}" for name, (digits, _) in MODEL_FIGURES.items())
                rows.append([collector, reward, *("" if cell == "nan" else cell for cell in cells)])
    return table(["data of", "reward", *(heading for _, heading in MODEL_FIGURES.values())], rows)


def collection_table(task: Scores, runs: pd.DataFrame) -> str:
    """Collectors in rows."""
    means = runs[runs["phase"] == COLLECTION].groupby("collector")[["return_mean", "updates", "cpu_seconds"]].mean()
    rows = []
    for collector in task.collectors:
        if collector in means.index:
            cells = (f"{value:.3g}" for value in means.loc[collector])
            rows.append([collector, *("" if cell == "nan" else cell for cell in cells)])
    return table(["collector", "return", "updates while collecting", "CPU seconds"], rows)


if __name__ == "__main__":
    main()
