"""Writes tables, verdicts and figure of the offline suite from its two CSV files.

    python -m benchmarks.offline_suite.report

Every score is the interquartile mean over seeds and episodes with a bootstrap interval. The bootstrap first draws seeds
with replacement, then episodes within them, so that the interval covers other trainings.
"""

import argparse
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from benchmarks.offline_suite import figure
from benchmarks.offline_suite.run import RESULTS
from benchmarks.offline_suite.scores import Board, Score, best, board, compared, read
from benchmarks.offline_suite.suite import SUITE, Suite
from benchmarks.reports import report_parser
from dreamset.core.errors import UserError
from dreamset.core.files import write_text
from dreamset.pipeline.evaluation.statistics import Estimate, coverage_note

OURS, BASELINE = "dreamset", "baseline"  # groups
RIVALS = ("d3rlpy", "cloning")  # groups to compare the best Dreamset method with
MODEL_FIGURES = {  # column of runs.csv -> significant digits and heading
    "imagined_return": (3, "imagined"),
    "real_return": (3, "real"),
    "reward_error_h1": (2, "reward error +1"),
    "reward_error_h5": (2, "+5"),
    "reward_error_h15": (2, "+15"),
    "probe_r2": (3, "probe R²"),
}
FOLDER = Path(__file__).parent
TABLES, FIGURE = "tables.md", "returns.png"


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the tables and the figure."""
    options = _parser().parse_args(arguments)
    runs, episodes, suite = results_of(options.results, options.suite)
    with tqdm(total=runs.groupby(["task", "method"]).ngroups, desc="bootstrap") as bar:
        scores = board(
            runs,
            episodes,
            tasks=list(suite.tasks),
            methods=list(suite.methods),
            confidence=options.confidence,
            resamples=options.resamples,
            on_score=bar.update,
        )
    budgets = {str(task): float(rows["budget_cpu_seconds"].max()) for task, rows in runs.groupby("task")}
    write_text(options.output / TABLES, markdown(scores, runs, budgets, confidence=options.confidence))
    figure.draw(scores, options.output / FIGURE)


def results_of(results: Path, suite: Path) -> tuple[pd.DataFrame, pd.DataFrame, Suite]:
    """The runs, their episodes, and the suite that orders them; ends the program with one line if they are damaged."""
    try:
        return *read(results), Suite.read(suite)
    except UserError as error:
        sys.exit(f"error: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = report_parser(__doc__, results=RESULTS, output=FOLDER, content="the tables and the figure")
    parser.add_argument("--suite", type=Path, default=SUITE, help="yaml file with the order of tasks and methods")
    return parser


def markdown(results: Board, runs: pd.DataFrame, budgets: Mapping[str, float], *, confidence: float) -> str:
    """All tables in one text; ``budgets`` are the CPU seconds of d3rlpy's methods by task."""
    parts = [
        f"Interquartile mean of the returns over seeds and episodes, {100 * confidence:.0f} % interval in brackets; "
        "bold: the highest of a task among methods that learn.",
        score_table(results),
        coverage_note(min(score.seeds for score in results.scores.values() if score.group != BASELINE)),
        "The best Dreamset method of each task against the other groups: *above* if its interval lies above every "
        "interval of the group, *below* if an interval of the group lies above it. The best methods are selected by "
        "the same episodes, which favours both sides.",
        verdict_table(results),
        "Metrics of the world models, mean over seeds; an empty cell was not recorded. Imagined and real: predicted "
        "and actual return after the first 5 rows of the evaluation episodes. Reward error: squared open-loop error "
        "after 1, 5 and 15 steps. Probe R²: of a linear probe from features to the true state. Rewards are in each "
        "task's own units.",
        model_table(results, runs),
        "CPU seconds of training on one thread, mean over seeds. For Dreamset: world model, its validation, and "
        "behaviour; a world model that several methods share counts for each of them.",
        cost_table(results, budgets),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def score_table(results: Board) -> str:
    """Methods in rows, tasks in columns."""
    learned = {task: [score for score in results.of_task(task) if score.group != BASELINE] for task in results.tasks}
    tops = {task: best(scores).estimate.value for task, scores in learned.items() if scores}
    rows = []
    for method in results.methods:
        of_tasks = [results.scores.get((task, method)) for task in results.tasks]
        rows.append([method, *("" if score is None else _cell(score, tops) for score in of_tasks)])
    return table(["method", *results.tasks], rows)


def _cell(score: Score, tops: Mapping[str, float]) -> str:
    is_top = score.group != BASELINE and score.estimate.value == tops[score.task]
    return interval(score.estimate, mark="**" if is_top else "")


def interval(estimate: Estimate, *, mark: str = "") -> str:
    """The estimate and its interval."""
    return f"{mark}{estimate.value:.1f}{mark} ({estimate.low:.1f} to {estimate.high:.1f})"


def verdict_table(results: Board) -> str:
    """The best Dreamset method of each task against the best method of each other group."""
    rows = []
    for task in results.tasks:
        ours = [score for score in results.of_task(task) if score.group == OURS]
        if ours:
            winner = best(ours)
            verdicts = (_verdict(winner, results.of_task(task), group) for group in RIVALS)
            rows.append([task, f"{winner.method} {interval(winner.estimate)}", *verdicts])
    return table(["task", f"best of {OURS}", *(f"against {group}" for group in RIVALS)], rows)


def _verdict(ours: Score, of_task: Sequence[Score], group: str) -> str:
    rivals = [score for score in of_task if score.group == group]
    if not rivals:
        return ""
    first = best(rivals)
    return f"{compared(ours, rivals)}: {first.method} {interval(first.estimate)}"


def model_table(results: Board, runs: pd.DataFrame) -> str:
    """Metrics of the methods with a world model."""
    rows = []
    means = runs.groupby(["task", "method"])[list(MODEL_FIGURES)].mean()
    for task in results.tasks:
        for score in results.of_task(task):
            figures = means.loc[(task, score.method)]
            if figures.notna().any():
                cells = (_significant(figures[name], digits) for name, (digits, _) in MODEL_FIGURES.items())
                rows.append([task, score.method, *cells])
    return table(["task", "method", *(head for _, head in MODEL_FIGURES.values())], rows)


def cost_table(results: Board, budgets: Mapping[str, float]) -> str:
    """CPU seconds of training per method."""
    seconds = {key: score.cpu_seconds for key, score in results.scores.items() if math.isfinite(score.cpu_seconds)}
    methods = [method for method in results.methods if any(learned == method for _, learned in seconds)]
    rows = [[method, *(_whole(seconds.get((task, method), math.nan)) for task in results.tasks)] for method in methods]
    given = ["budget of d3rlpy", *(_whole(budgets[task]) for task in results.tasks)]
    return table(["method", *results.tasks], [given, *rows])


def _whole(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else ""


def _significant(value: float, digits: int) -> str:
    return f"{value:.{digits}g}" if math.isfinite(value) else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    main()
