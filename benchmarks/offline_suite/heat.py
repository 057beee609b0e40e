"""Draws the suite as a heat map, on light and on dark paper: the best of Dreamset, of d3rlpy, cloning and the data.

    python -m benchmarks.offline_suite.heat

Cells have the interquartile mean of the returns, the method and a bootstrap interval. Colours show the same score on a
scale where 0 is the random policy and 100 the scripted expert of the task.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from tqdm import tqdm

from benchmarks.offline_suite.report import results_of
from benchmarks.offline_suite.run import RESULTS
from benchmarks.offline_suite.scores import Board, Score, board
from benchmarks.offline_suite.suite import SUITE
from benchmarks.papers import draw_on_papers
from benchmarks.reports import report_parser
from dreamset.pipeline.evaluation.statistics import interquartile_mean
from dreamset.pipeline.report.style import new_figure

OUTPUT = Path(__file__).parents[2] / "docs" / "assets"
FIGURE = "offline_suite_heat.png"
COLORS = mpl.colormaps["cividis"]  # looks alike to readers with and without colour blindness
EQUAL_CONTRAST = 0.179  # the luminance to which black and white have the same contrast
WORST, EXPERT = 0.0, 100.0  # normalised scores at the ends of the colours


# (heading, group, the only method or None for the best one of the group)
CONTENDERS = (
    ("best of Dreamset", "dreamset", None),
    ("best of d3rlpy", "d3rlpy", None),
    ("cloning", "cloning", "cloning"),
    ("the data", "baseline", "dataset"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes both images."""
    options = _parser().parse_args(arguments)
    runs, episodes, suite = results_of(options.results, options.suite)
    shown = contenders(runs, episodes, list(suite.methods))
    with tqdm(total=len(shown) * len(CONTENDERS), desc="bootstrap") as bar:
        scores = board(
            only(runs, shown),
            episodes,
            tasks=list(suite.tasks),
            methods=list(suite.methods),
            confidence=options.confidence,
            resamples=options.resamples,
            on_score=bar.update,
        )
    ends, confidence = references(runs), options.confidence
    draw_on_papers(lambda: plot(scores, shown, ends, confidence=confidence), options.output / FIGURE)


def _parser() -> argparse.ArgumentParser:
    parser = report_parser(__doc__, results=RESULTS, output=OUTPUT, content="the images")
    parser.add_argument("--suite", type=Path, default=SUITE, help="yaml file with the order of tasks and methods")
    return parser


def contenders(runs: pd.DataFrame, episodes: pd.DataFrame, order: Sequence[str]) -> dict[str, list[str | None]]:
    """Task -> the method in each column; None where no method of the group served the task.

    Of equal methods, the first in ``order`` is shown, as in the tables.
    """
    scores = episodes.groupby(["task", "method"])["return"].agg(lambda values: interquartile_mean(values.to_numpy()))
    table: dict[str, list[str | None]] = {}
    for task, of_task in runs.groupby("task"):
        groups = of_task.groupby("method")["group"].first().to_dict()
        names = sorted(groups, key=lambda name: (order.index(name) if name in order else len(order), name))
        table[str(task)] = [
            max(
                (name for name in names if groups[name] == group and alone in (None, name)),
                key=lambda name: scores[task, name],
                default=None,
            )
            for _, group, alone in CONTENDERS
        ]
    return table


def only(runs: pd.DataFrame, shown: Mapping[str, Sequence[str | None]]) -> pd.DataFrame:
    """The rows of the methods that are shown, because an interval takes seconds."""
    kept = [method in shown[task] for task, method in zip(runs["task"], runs["method"], strict=True)]
    return runs[kept]


def references(runs: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Task -> mean returns of the random policy and of the scripted expert."""
    rows = runs.dropna(subset=["reference_low", "reference_high"]).groupby("task").first()
    return {str(task): (float(row["reference_low"]), float(row["reference_high"])) for task, row in rows.iterrows()}


def normalized(value: float, ends: tuple[float, float]) -> float:
    """A return on the scale where 0 and 100 are the two reference policies."""
    low, high = ends
    return 100 * (value - low) / (high - low)


def plot(
    scores: Board,
    shown: Mapping[str, Sequence[str | None]],
    ends: Mapping[str, tuple[float, float]],
    *,
    confidence: float = 0.95,
) -> Figure:
    """Tasks in rows and contenders in columns.

    Args:
        scores: of all methods that are shown.
        shown: see ``contenders``.
        ends: the two reference returns of each task.
        confidence: of the intervals.
    """
    figure = new_figure(9.5, 1.2 + 0.56 * len(scores.tasks))
    axes = figure.subplots()
    cells = [[scores.scores.get((task, method or "")) for method in shown[task]] for task in scores.tasks]
    colors = [
        [np.nan if cell is None else normalized(cell.estimate.value, ends[task]) for cell in row]
        for task, row in zip(scores.tasks, cells, strict=True)
    ]
    image = axes.imshow(colors, cmap=COLORS, vmin=WORST, vmax=EXPERT, aspect="auto")
    for line, (row, shades) in enumerate(zip(cells, colors, strict=True)):
        for place, (cell, shade) in enumerate(zip(row, shades, strict=True)):
            if cell is not None:
                named = CONTENDERS[place][2] is None
                _write(axes, (place, line), cell, shade, cell.method if named else "")
    _label(axes, scores.tasks)
    bar = figure.colorbar(image, ax=axes, pad=0.015, aspect=30, extend="both")
    bar.set_label("normalised score: 0 random policy, 100 scripted expert")
    bar.outline.set_visible(False)  # type: ignore[operator]
    title = f"Interquartile mean of the returns, {100 * confidence:.0f} % interval"
    figure.suptitle(title, fontsize=11, fontweight="bold")
    return figure


def _write(axes: Axes, place: tuple[int, int], score: Score, shade: float, name: str) -> None:
    """The estimate, its interval and the name of the method, in the ink with more contrast."""
    estimate, (x, y) = score.estimate, place
    background = _luminance(COLORS(Normalize(WORST, EXPERT, clip=True)(shade)))
    ink = "black" if background > EQUAL_CONTRAST else "white"
    below = f"{estimate.low:.1f} to {estimate.high:.1f}\n{name}".rstrip()
    axes.text(x, y, f"{estimate.value:.1f}", fontsize=11, ha="center", va="bottom", fontweight="bold", color=ink)
    axes.text(x, y + 0.03, below, fontsize=7, ha="center", va="top", linespacing=1.25, color=ink)


def _luminance(color: tuple[float, ...]) -> float:
    """Relative luminance of an sRGB colour, as in the contrast rule of WCAG."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color[:3]]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def _label(axes: Axes, tasks: Sequence[str]) -> None:
    axes.set_xticks(range(len(CONTENDERS)), [heading for heading, _, _ in CONTENDERS], fontsize=10)
    axes.set_yticks(range(len(tasks)), tasks, fontsize=10)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    paper = mpl.rcParams["axes.facecolor"]  # gaps between the cells
    for edge in np.arange(len(CONTENDERS) + 1) - 0.5:
        axes.axvline(edge, color=paper, linewidth=3)
    for edge in np.arange(len(tasks) + 1) - 0.5:
        axes.axhline(edge, color=paper, linewidth=3)


if __name__ == "__main__":
    main()
