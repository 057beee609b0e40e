"""Tables, verdicts and picture of the offline suite from its two CSV files.

    python -m benchmarks.offline_suite.report

Every score is the interquartile mean over seeds and episodes with a stratified bootstrap interval: seeds are drawn with
replacement first, episodes within them second, so that it tells what another training would give.
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
from dreamset.core.errors import UserError
from dreamset.core.files import write_text

OURS, BASELINE = "dreamset", "baseline"  # groups
RIVALS = ("d3rlpy", "cloning")  # groups that our best method is compared with
MODEL_FIGURES = {  # column of runs.csv -> significant digits and head
    "imagined_return": (3, "imagined"),
    "real_return": (3, "real"),
    "reward_error_h1": (2, "reward error +1"),
    "reward_error_h5": (2, "+5"),
    "reward_error_h15": (2, "+15"),
    "probe_r2": (3, "probe R²"),
}
FOLDER = Path(__file__).parent
TABLES, PICTURE = "tables.md", "returns.png"


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the tables and the picture."""
    options = _parser().parse_args(arguments)
    try:
        runs, episodes = read(options.results)
        suite = Suite.read(options.suite)
    except UserError as error:
        sys.exit(f"error: {error}")
    with tqdm(total=runs.groupby(["task", "method"]).ngroups, desc="bootstrap") as bar:
        shown = board(
            runs,
            episodes,
            tasks=list(suite.tasks),
            methods=list(suite.methods),
            confidence=options.confidence,
            resamples=options.resamples,
            on_score=bar.update,
        )
    budgets = {str(task): float(rows["budget_cpu_seconds"].max()) for task, rows in runs.groupby("task")}
    write_text(options.output / TABLES, markdown(shown, runs, budgets, confidence=options.confidence))
    figure.draw(shown, options.output / PICTURE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of runs.csv and episodes.csv")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder (default: beside this script)")
    parser.add_argument("--suite", type=Path, default=SUITE, help="gives tasks and methods their order")
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=10_000, help="of the bootstrap (default: %(default)s)")
    return parser


def markdown(shown: Board, runs: pd.DataFrame, budgets: Mapping[str, float], *, confidence: float) -> str:
    """All tables in one text; ``budgets`` are the peers' CPU seconds by task."""
    parts = [
        f"Interquartile mean of the returns over seeds and episodes, {100 * confidence:.0f} % interval in brackets; "
        "bold: the highest of a task among those that learn.",
        score_table(shown),
        "The best Dreamset method of each task (by the same episodes, so the choice favours it, as it favours the best "
        "rival) against the other groups: *above* where its interval lies above every interval of the group, *below* "
        "where one of the group's lies above it.",
        verdict_table(shown),
        "What the models know, mean over seeds. Imagined: the return after the first 5 rows of the evaluation's "
        "episodes, as the model expects it of its policy; real: as it was. Reward error: squared, after so many steps "
        "without observations. Probe R²: of a linear probe from features to the true state. Rewards are in each task's "
        "own units.",
        model_table(shown, runs),
        "CPU seconds of training on one thread, mean over seeds. Of ours: world model, with its validation, and "
        "behaviour; a world model that several methods share counts in each of them.",
        cost_table(shown, budgets),
    ]
    return "\n\n".join(parts) + "\n"


def score_table(shown: Board) -> str:
    """Methods in rows, tasks in columns."""
    learned = {task: [score for score in shown.of_task(task) if score.group != BASELINE] for task in shown.tasks}
    tops = {task: best(scores).estimate.value for task, scores in learned.items() if scores}
    rows = []
    for method in shown.methods:
        found = [shown.scores.get((task, method)) for task in shown.tasks]
        rows.append([method, *("" if score is None else _cell(score, tops) for score in found)])
    return table(["method", *shown.tasks], rows)


def _cell(score: Score, tops: Mapping[str, float]) -> str:
    is_top = score.group != BASELINE and score.estimate.value == tops[score.task]
    return _told(score, mark="**" if is_top else "")


def _told(score: Score, *, mark: str = "") -> str:
    estimate = score.estimate
    return f"{mark}{estimate.value:.1f}{mark} ({estimate.low:.1f} to {estimate.high:.1f})"


def verdict_table(shown: Board) -> str:
    """The best of ours on each task against each other group, whose best is named."""
    rows = []
    for task in shown.tasks:
        ours = [score for score in shown.of_task(task) if score.group == OURS]
        if ours:
            winner = best(ours)
            verdicts = (_verdict(winner, shown.of_task(task), group) for group in RIVALS)
            rows.append([task, f"{winner.method} {_told(winner)}", *verdicts])
    return table(["task", f"best of {OURS}", *(f"against {group}" for group in RIVALS)], rows)


def _verdict(ours: Score, of_task: Sequence[Score], group: str) -> str:
    rivals = [score for score in of_task if score.group == group]
    if not rivals:
        return ""
    first = best(rivals)
    return f"{compared(ours, rivals)}: {first.method} {_told(first)}"


def model_table(shown: Board, runs: pd.DataFrame) -> str:
    """What explains the scores of the methods that have a world model."""
    rows = []
    means = runs.groupby(["task", "method"])[list(MODEL_FIGURES)].mean()
    for task in shown.tasks:
        for score in shown.of_task(task):
            figures = means.loc[(task, score.method)]
            if figures.notna().all():
                shown_figures = (f"{figures[name]:.{digits}g}" for name, (digits, _) in MODEL_FIGURES.items())
                rows.append([task, score.method, *shown_figures])
    return table(["task", "method", *(head for _, head in MODEL_FIGURES.values())], rows)


def cost_table(shown: Board, budgets: Mapping[str, float]) -> str:
    """CPU seconds of every method that learns."""
    seconds = {key: score.cpu_seconds for key, score in shown.scores.items() if math.isfinite(score.cpu_seconds)}
    methods = [method for method in shown.methods if any(learned == method for _, learned in seconds)]
    rows = [[method, *(_whole(seconds.get((task, method), math.nan)) for task in shown.tasks)] for method in methods]
    given = ["budget of d3rlpy", *(_whole(budgets[task]) for task in shown.tasks)]
    return table(["method", *shown.tasks], [given, *rows])


def _whole(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    main()
