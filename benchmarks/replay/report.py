"""Writes tables and figure of the benchmark from its two CSV files, and replaces the results in README.md.

    python -m benchmarks.replay.report

Every score is the interquartile mean over seeds and episodes with a bootstrap interval. The bootstrap first draws seeds
with replacement, then episodes within them, so that the interval covers other trainings.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.offline_suite.report import table
from benchmarks.offline_suite.scores import read as read_checked
from benchmarks.replay import figure
from benchmarks.replay.plan import BENCHMARK, BUDGETS, Benchmark, Claim
from benchmarks.replay.run import RESULTS, SEEDS
from benchmarks.reports import insert, report_parser, run_report
from dreamset.core.files import write_text
from dreamset.pipeline.evaluation.statistics import Estimate, bootstrap, coverage_note, interquartile_mean

FOLDER = Path(__file__).parent
TEXT, TABLES, FIGURE = "README.md", "tables.md", "returns.png"
BEGIN = "<!-- written by benchmarks.replay.report -->"
NOT_MEASURED = "not measured"
PICTURE = """<picture>
  <source media="(prefers-color-scheme: dark)" srcset="returns_dark.png">
  <img src="returns.png" alt="Returns of every method against updates and against CPU seconds, with 95 % intervals">
</picture>"""

Cell = tuple[str, str, str, float]  # task, method, kind of budget, amount


@dataclass(frozen=True, slots=True)
class Scores:
    """The score of every method at every budget that is measured."""

    benchmark: Benchmark
    of: Mapping[Cell, Estimate]
    updates: Mapping[Cell, float]  # mean over seeds
    seeds: int  # the fewest of any cell

    def at(self, task: str, method: str, kind: str, amount: float) -> Estimate | None:
        """The score of a cell; None if it is not measured."""
        return self.of.get((task, method, kind, float(amount)))

    @property
    def tasks(self) -> list[str]:
        """The tasks with any score."""
        return [task for task in self.benchmark.tasks if any(cell[0] == task for cell in self.of)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the tables, the results in the README and the figure, on light and on dark paper."""
    run_report(_parser(), write, arguments)


def write(options: argparse.Namespace) -> None:
    """Writes all outputs.

    Raises:
        UserError: if results are missing or damaged, or the README lacks the marks.
    """
    scores = read(options.results, Benchmark.read(options.benchmark), options.confidence, options.resamples)
    insert(options.output / TEXT, summary(scores), begin=BEGIN)
    write_text(options.output / TABLES, markdown(scores))
    figure.draw(scores.benchmark, scores.of, options.output / FIGURE)


def _parser() -> argparse.ArgumentParser:
    content = "the tables and the figure"
    return report_parser(__doc__, results=RESULTS, output=FOLDER, content=content, benchmark=BENCHMARK)


def read(folder: Path, benchmark: Benchmark, confidence: float, resamples: int) -> Scores:
    """The scores from ``runs.csv`` and ``episodes.csv``.

    Raises:
        UserError: if a file is missing, or the rows of a task come from different datasets.
    """
    runs, episodes = read_checked(folder, made_by="benchmarks.replay.run")
    points = runs[runs["method"] != runs["group"]]  # without the rows that mark a job as complete
    returns = dict(iter(episodes.groupby(["task", "method"])))
    of, updates, seeds = {}, {}, [0]
    for (task, method), rows in tqdm(points.groupby(["task", "method"]), desc="bootstrap"):
        first = rows.iloc[0]
        cell = (str(task), str(first["group"]), str(first["budget"]), float(first["amount"]))
        groups = [seed["return"].to_numpy(np.float64) for _, seed in returns[task, method].groupby("seed")]
        of[cell] = bootstrap(groups, interquartile_mean, confidence=confidence, resamples=resamples)
        updates[cell] = float(rows["updates"].mean())
        seeds.append(len(groups))
    return Scores(benchmark, of, updates, min(seeds[1:], default=0))


def summary(scores: Scores) -> str:
    """What was measured, and which claims hold."""
    parts = [PICTURE, coverage(scores), claims_table(scores), sentences(scores)]
    parts.append(coverage_note(scores.seeds) if scores.seeds else "")
    return "\n\n".join(filter(None, parts))


def coverage(scores: Scores) -> str:
    """How many methods of every task are measured."""
    methods = scores.benchmark.methods
    counts = [
        f"{sum(any(cell[:2] == (task, method) for cell in scores.of) for method in methods)} of {len(methods)} methods "
        f"of `{task}`"
        for task in scores.benchmark.tasks
    ]
    return f"Measured so far, with at least {scores.seeds} of {len(SEEDS)} seeds: {', '.join(counts)}."


def claims_table(scores: Scores) -> str:
    """One row per claim and task, at the largest budget of both kinds."""
    rows = [
        [task, claim.text, *(cell(scores, task, claim, kind) for kind in BUDGETS)]
        for claim in scores.benchmark.claims
        for task in scores.tasks
    ]
    last = {kind: max(scores.benchmark.budgets[kind]) for kind in BUDGETS}
    heads = [f"{last['updates']:g} updates each", f"{last['seconds']:g} CPU seconds each"]
    return table(["task", "claim", *heads], rows) if rows else ""


def cell(scores: Scores, task: str, claim: Claim, kind: str) -> str:
    """The verdict on a claim with both scores."""
    amount = max(scores.benchmark.budgets[kind])
    more, less = (scores.at(task, method, kind, amount) for method in (claim.more, claim.less))
    if more is None or less is None:
        return NOT_MEASURED
    return f"{verdict(more, less)}: {more.value:.1f} and {less.value:.1f}"


def verdict(more: Estimate, less: Estimate) -> str:
    """``holds`` or ``reversed`` if the intervals do not overlap, otherwise ``open``."""
    if more.low > less.high:
        return "holds"
    return "reversed" if more.high < less.low else "open"


def sentences(scores: Scores) -> str:
    """Which claims hold, which do not, in words."""
    found: dict[str, list[str]] = {"holds": [], "reversed": [], "open": []}
    for claim in scores.benchmark.claims:
        for task in scores.tasks:
            for kind in BUDGETS:
                result = cell(scores, task, claim, kind).partition(":")[0]
                if result in found:
                    found[result].append(f"{claim.text} ({task}, equal {kind})")
    heads = {"holds": "Holds", "reversed": "The opposite holds", "open": "Not decided by these intervals"}
    return "\n".join(f"- **{heads[name]}:** {'; '.join(entries)}." for name, entries in found.items() if entries)


def markdown(scores: Scores) -> str:
    """All scores in one text: a table for each task and kind of budget."""
    parts = []
    for task in scores.tasks:
        for kind in BUDGETS:
            amounts = scores.benchmark.budgets[kind]
            rows = [
                [method, *(_score(scores, (task, method, kind, float(amount))) for amount in amounts)]
                for method in scores.benchmark.methods
                if any(scores.at(task, method, kind, amount) for amount in amounts)
            ]
            unit = "updates" if kind == "updates" else "CPU seconds"
            title = "return" if kind == "updates" else "return (mean number of updates)"
            parts += [f"# {task}: {title} after {unit}", table(["method", *(f"{a:g}" for a in amounts)], rows)]
    return "\n\n".join(parts) + "\n"


def _score(scores: Scores, key: Cell) -> str:
    estimate = scores.of.get(key)
    if estimate is None:
        return ""
    text = f"{estimate.value:.1f} ({estimate.low:.1f} to {estimate.high:.1f})"
    return text if key[2] == "updates" else f"{text}, {scores.updates[key]:.0f}"


if __name__ == "__main__":
    main()
