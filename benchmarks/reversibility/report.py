"""Writes tables and figure of the benchmark of reversibility from its CSV files, and the results in README.md.

    python -m benchmarks.reversibility.report

Every score is a mean over training seeds with a bootstrap interval, which draws seeds with replacement.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.offline_suite.report import table as as_markdown
from benchmarks.reports import insert, measured, report_parser, run_report
from benchmarks.reversibility import figure
from benchmarks.reversibility.benchmark import BENCHMARK, OBSERVATIONS, Benchmark
from benchmarks.reversibility.run import RESULTS, SEEDS
from benchmarks.reversibility.scores import Scores, compared, in_order, written
from dreamset.core.files import write_text
from dreamset.pipeline.evaluation.statistics import coverage_note

FOLDER = Path(__file__).parent
TEXT, TABLES, FIGURE = "README.md", "tables.md", "scores.png"
BEGIN = "<!-- written by benchmarks.reversibility.report -->"
PLAIN = "plain"  # the method without the estimators
ESTIMATORS = {  # heading -> method and column
    f"{symbol}, {source}": (method, f"{symbol}_auc")
    for method, source in ((OBSERVATIONS, "observations"), ("term", "features"))
    for symbol in ("psi", "phi")
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
    scores = Scores.read(options.results, confidence=options.confidence, resamples=options.resamples)
    insert(options.output / TEXT, summary(scores, benchmark), begin=BEGIN)
    write_text(options.output / TABLES, markdown(scores, benchmark))
    figure.draw(scores, benchmark, options.output / FIGURE)


def _parser() -> argparse.ArgumentParser:
    content = "the tables and the figure"
    return report_parser(__doc__, results=RESULTS, output=FOLDER, content=content, benchmark=BENCHMARK)


def summary(scores: Scores, benchmark: Benchmark) -> str:
    """What was measured, the estimators and the policies."""
    seeds = scores.seeds()
    note = "With one training seed there are no intervals." if seeds == 1 else coverage_note(seeds)
    parts = [
        coverage(scores.runs, benchmark),
        estimator_table(scores, benchmark, "visited"),
    ]
    return "\n\n".join(filter(None, [*parts, verdict_table(scores, benchmark), note]))


def coverage(runs: pd.DataFrame, benchmark: Benchmark) -> str:
    """How many rows of every task are measured."""
    return measured(runs, dict.fromkeys(benchmark.tasks, len(benchmark.methods) * len(SEEDS)))


def markdown(scores: Scores, benchmark: Benchmark) -> str:
    """All tables in one text."""
    parts = [
        f"Means over training seeds, {100 * scores.confidence:.0f} % interval in brackets.",
        "# Estimators against the exact truth",
        "Area under the ROC curve: the probability that an irreversible action has a higher score than a reversible "
        "one. 0.5 is chance. Every action in every state that the recorded episodes visited:",
        estimator_table(scores, benchmark, "visited"),
        "Every action in states drawn from all that can be reached, each seen as the first row of an episode:",
        estimator_table(scores, benchmark, "reachable"),
        "# Policies",
        "Harm: ruined cells of grass per episode (turf), or the share of episodes that end deadlocked (push).",
        policy_table(scores, benchmark),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def estimator_table(scores: Scores, benchmark: Benchmark, where: str) -> str:
    """One row per dataset: AUC of psi and phi, the mean psi of reversible actions, and the share of the others."""
    rows = []
    for world, quality in _datasets(scores, benchmark):
        estimates = [scores.of(world, quality, method, f"{name}_{where}") for method, name in ESTIMATORS.values()]
        others = [
            scores.of(world, quality, "term", f"{name}_{where}") for name in ("psi_reversible", "irreversible_share")
        ]
        if any(estimates):
            rows.append([world, quality, *map(written, [*estimates, *others])])
    heads = [f"AUC of {name}" for name in ESTIMATORS]
    ends = ["mean psi of reversible actions, features", "irreversible actions"]
    return as_markdown(["world", "data", *heads, *ends], rows) if rows else ""


def verdict_table(scores: Scores, benchmark: Benchmark) -> str:
    """One row per dataset and method: harm and success, against the plain policy."""
    rows = []
    for world, quality in _datasets(scores, benchmark):
        for method in _policies(benchmark):
            cells = []
            for column in ("harm", "success"):
                own, plain = (scores.of(world, quality, name, column) for name in (method, PLAIN))
                against = "" if method == PLAIN else compared(own, plain)
                cells += [written(own), against]
            if cells[0]:
                rows.append([world, quality, method.replace("_", " "), *cells])
    heads = ["harm", "against plain", "success", "against plain"]
    return as_markdown(["world", "data", "policy", *heads], rows) if rows else ""


def policy_table(scores: Scores, benchmark: Benchmark) -> str:
    """The same with returns and CPU seconds."""
    rows = []
    for world, quality in _datasets(scores, benchmark):
        for method in _policies(benchmark):
            columns = ("harm", "success", "return_mean", "world_model_cpu_seconds", "behavior_cpu_seconds")
            cells = [written(scores.of(world, quality, method, column)) for column in columns]
            if cells[0]:
                rows.append([world, quality, method.replace("_", " "), *cells])
    heads = ["harm", "success", "return", "CPU seconds: world model", "policy"]
    return as_markdown(["world", "data", "policy", *heads], rows) if rows else ""


def _datasets(scores: Scores, benchmark: Benchmark) -> list[tuple[str, str]]:
    names = in_order(list(scores.runs["task"]), list(benchmark.tasks))
    return [(benchmark.tasks[name].world, benchmark.tasks[name].quality) for name in names]


def _policies(benchmark: Benchmark) -> list[str]:
    return [name for name in benchmark.methods if name != OBSERVATIONS]


if __name__ == "__main__":
    main()
