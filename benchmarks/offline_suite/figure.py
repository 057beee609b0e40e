"""The figure of the suite: one panel per task, one interval per method."""

from collections.abc import Collection, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.offline_suite.scores import Board, Score
from dreamset.core.files import save_with
from dreamset.pipeline.report.style import SERIES, STYLE

COLUMNS = 3
GROUPS = ("dreamset", "d3rlpy", "cloning", "baseline")
GROUP_COLORS = {group: style.color for group, style in zip(GROUPS, SERIES, strict=False)}


def draw(scores: Board, path: Path) -> None:
    """Writes the figure; without metadata, equal figures give equal files."""
    with mpl.rc_context(STYLE):
        figure = plot(scores)
        save_with(path, lambda beside: figure.savefig(beside, dpi=120, metadata={"Software": None}))


def plot(board: Board) -> Figure:
    """Plots horizontal intervals of the interquartile mean, with methods in one order from top to bottom."""
    scores = [board.of_task(task) for task in board.tasks]
    columns = min(COLUMNS, len(scores))
    lines = [max(map(len, scores[first : first + columns])) for first in range(0, len(scores), columns)]
    heights = [0.9 + 0.21 * count for count in lines]
    figure = Figure(figsize=(4.2 * columns, sum(heights) + 0.3), layout="constrained")
    panels = figure.subplots(len(lines), columns, squeeze=False, height_ratios=heights).flat
    for number, (task, of_task) in enumerate(zip(board.tasks, scores, strict=True)):
        _panel(panels[number], of_task, task, lines[number // columns])
    for unused in panels[len(scores) :]:
        unused.remove()
    _legend(figure, {score.group for score in board.scores.values()})
    return figure


def _panel(axes: Axes, scores: Sequence[Score], task: str, lines: int) -> None:
    for place, score in enumerate(scores):
        color = GROUP_COLORS.get(score.group, "black")
        axes.plot([score.estimate.low, score.estimate.high], [place, place], color=color, linewidth=4, alpha=0.4)
        axes.plot(score.estimate.value, place, "o", color=color, markersize=5)
    axes.set_yticks(range(len(scores)), [score.method for score in scores])
    axes.set_ylim(lines - 0.5, -0.5)  # the same in all panels of a row, for equal distances
    axes.set(title=task, xlabel="return")


def _legend(figure: Figure, present: Collection[str]) -> None:
    groups = [group for group in GROUP_COLORS if group in present]
    handles = [
        mpl.lines.Line2D([], [], color=GROUP_COLORS[group], marker="o", linewidth=4, alpha=0.6, label=group)
        for group in groups
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(groups), frameon=False)
