"""Writes tables and figure of the benchmark from its two CSV files, and replaces the results in README.md.

    python -m benchmarks.imitation.report

Every score is the interquartile mean over seeds and episodes with a bootstrap interval. The bootstrap first draws seeds
with replacement, then episodes within them, so that the interval covers other demonstrations and other trainings.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.imitation import figure
from benchmarks.imitation.plan import BENCHMARK, Benchmark
from benchmarks.imitation.run import RESULTS, SEEDS
from benchmarks.offline_suite.report import table
from benchmarks.offline_suite.scores import read_files
from benchmarks.reports import insert, report_parser, run_report
from benchmarks.reversibility.scores import compared, written
from dreamset.core.files import write_text
from dreamset.pipeline.evaluation.statistics import Estimate, bootstrap, coverage_note, interquartile_mean

FOLDER = Path(__file__).parent
TEXT, TABLES, FIGURE = "README.md", "tables.md", "returns.png"
BEGIN = "<!-- written by benchmarks.imitation.report -->"
PICTURE = """<picture>
  <source media="(prefers-color-scheme: dark)" srcset="returns_dark.png">
  <img src="returns.png" alt="Returns of every method against the number of demonstrations, with 95 % intervals">
</picture>"""
PAIRS = (  # method, and the one that it is compared with
    ("ldp", "cloning"),
    ("ldp_action_free", "ldp"),
    ("ldp_suboptimal", "ldp"),
    ("ldp_both", "ldp"),
)

Cell = tuple[str, str, int]  # task, method, number of demonstrations


@dataclass(frozen=True, slots=True)
class Scores:
    """The score of every method with every number of demonstrations that is measured."""

    benchmark: Benchmark
    of: Mapping[Cell, Estimate]
    references: Mapping[str, tuple[float, float]]  # task -> mean returns of random actions and of the expert
    seeds: int  # the fewest of any cell; 0 if nothing is measured

    @property
    def tasks(self) -> list[str]:
        """The tasks with any score."""
        return [task for task in self.benchmark.tasks if any(cell[0] == task for cell in self.of)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the tables, the results in the README and the figure, on light and on dark paper."""
    content = "the tables and the figure"
    parser = report_parser(__doc__, results=RESULTS, output=FOLDER, content=content, benchmark=BENCHMARK)
    run_report(parser, write, arguments)


def write(options: argparse.Namespace) -> None:
    """Writes all outputs.

    Raises:
        UserError: if results are missing or damaged, or the README lacks the marks.
    """
    scores = read(options.results, Benchmark.read(options.benchmark), options.confidence, options.resamples)
    insert(options.output / TEXT, summary(scores), begin=BEGIN)
    write_text(options.output / TABLES, markdown(scores))
    figure.draw(scores.benchmark, scores.of, scores.references, options.output / FIGURE)


def read(folder: Path, benchmark: Benchmark, confidence: float, resamples: int) -> Scores:
    """The scores from ``runs.csv`` and ``episodes.csv``.

    Raises:
        UserError: if a file is missing.
    """
    runs, episodes = read_files(folder, made_by="benchmarks.imitation.run")
    returns = dict(iter(episodes.groupby(["task", "method"])))
    of, references, seeds = {}, {}, []
    for (task, method), rows in tqdm(runs.groupby(["task", "method"]), desc="bootstrap"):
        first = rows.iloc[0]
        groups = [seed["return"].to_numpy(np.float64) for _, seed in returns[task, method].groupby("seed")]
        cell = (str(task), str(first["group"]), int(first["demonstrations"]))
        of[cell] = bootstrap(groups, interquartile_mean, confidence=confidence, resamples=resamples)
        references[str(task)] = (float(first["reference_low"]), float(first["reference_high"]))
        seeds.append(len(groups))
    return Scores(benchmark, of, references, min(seeds, default=0))


def summary(scores: Scores) -> str:
    """What was measured, and how the methods compare."""
    parts = [PICTURE, coverage(scores), comparisons(scores), coverage_note(scores.seeds) if scores.seeds else ""]
    return "\n\n".join(filter(None, parts))


def coverage(scores: Scores) -> str:
    """How many cells of every task are measured."""
    benchmark = scores.benchmark
    planned = len(benchmark.methods) * len(benchmark.demonstrations)
    counts = (f"{sum(cell[0] == task for cell in scores.of)} of {planned} of `{task}`" for task in benchmark.tasks)
    return f"Measured so far, with at least {scores.seeds} of {len(SEEDS)} seeds: {', '.join(counts)}."


def comparisons(scores: Scores) -> str:
    """One row per task and pair of methods, one column per number of demonstrations."""
    counts = scores.benchmark.demonstrations
    rows = [
        [task, f"{one} against {other}", *(_compared(scores, task, one, other, count) for count in counts)]
        for task in scores.tasks
        for one, other in PAIRS
    ]
    return table(["task", "methods", *(f"{count} demonstrations" for count in counts)], rows) if rows else ""


def _compared(scores: Scores, task: str, one: str, other: str, count: int) -> str:
    pair = scores.of.get((task, one, count)), scores.of.get((task, other, count))
    if pair[0] is None or pair[1] is None:
        return "not measured"
    verdict = compared(*pair) or "one seed"
    return f"{verdict}: {pair[0].value:.1f} and {pair[1].value:.1f}"


def markdown(scores: Scores) -> str:
    """All scores in one text: a table for each task."""
    parts, counts = [], scores.benchmark.demonstrations
    for task in scores.tasks:
        rows = [
            [method, *(written(scores.of.get((task, method, count)), 1) for count in counts)]
            for method in scores.benchmark.methods
        ]
        low, high = scores.references[task]
        parts += [f"# {task}", table(["method", *(f"{count} demonstrations" for count in counts)], rows)]
        parts.append(f"Random actions return {low:.1f}, the expert {high:.1f}.")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
