"""The picture of the suite: one small panel per task, one interval per method."""

from collections.abc import Collection, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.offline_suite.scores import Board, Score
from dreamset.core.files import save_with
from dreamset.pipeline.figures import COLORS, STYLE

COLUMNS = 3
GROUP_COLORS = {"dreamset": COLORS[0], "d3rlpy": COLORS[1], "cloning": COLORS[2], "baseline": COLORS[7]}


def draw(shown: Board, path: Path) -> None:
    """Horizontal intervals of the interquartile mean, methods from top to bottom in the same order everywhere."""
    tasks, methods = shown.tasks, shown.methods
    columns = min(COLUMNS, len(tasks))
    rows = -(-len(tasks) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.6 + 3.2 * columns, rows * (0.9 + 0.21 * len(methods)) + 0.3), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes, task in zip(panels.flat, tasks, strict=False):
            _panel(axes, shown.of_task(task), methods, task)
        for axes in panels.flat[len(tasks) :]:
            axes.set_visible(False)
        _legend(figure, {score.group for score in shown.scores.values()})
        # without the metadata equal figures are equal files
        save_with(path, lambda beside: figure.savefig(beside, dpi=120, metadata={"Software": None}))


def _panel(axes: Axes, scores: Sequence[Score], methods: Sequence[str], task: str) -> None:
    for score in scores:
        place, color = methods.index(score.method), GROUP_COLORS.get(score.group, "black")
        axes.plot([score.estimate.low, score.estimate.high], [place, place], color=color, linewidth=4, alpha=0.4)
        axes.plot(score.estimate.value, place, "o", color=color, markersize=5)
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.5)  # shared, so that it must not be inverted once per panel
    axes.set(title=task, xlabel="return")


def _legend(figure: Figure, present: Collection[str]) -> None:
    groups = [group for group in GROUP_COLORS if group in present]
    handles = [
        mpl.lines.Line2D([], [], color=GROUP_COLORS[group], marker="o", linewidth=4, alpha=0.6, label=group)
        for group in groups
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(groups), frameon=False)
