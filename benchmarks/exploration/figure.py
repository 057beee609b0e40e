"""The figure of the benchmark: a line of panels per task, visited cells first, then the returns for each reward."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.exploration.benchmark import FEW_SHOT, ZERO_SHOT
from benchmarks.exploration.scores import Scores
from benchmarks.papers import draw_on_papers
from dreamset.pipeline.report.style import new_figure, series_style

PHASES = {ZERO_SHOT: "zero-shot", FEW_SHOT: "few-shot"}
SPREAD = 0.5  # width that the collectors of one phase share; the phases are 1 apart


def draw(tasks: Sequence[Scores], path: Path) -> None:
    """Writes the figure on light paper and, beside it, on dark paper."""
    draw_on_papers(lambda: plot(tasks), path)


def plot(tasks: Sequence[Scores]) -> Figure:
    """Curves with bands, and marks with lines, are estimates with their intervals."""
    collectors = list(dict.fromkeys(name for task in tasks for name in task.collectors))
    columns = 1 + max(len(task.rewards) for task in tasks)
    figure = new_figure(3.7 * columns, 2.9 * len(tasks) + 0.5)
    for line, task in zip(figure.subplots(len(tasks), columns, squeeze=False), tasks, strict=True):
        _visited(line[0], task, collectors)
        for axes, reward in zip(line[1:], task.rewards, strict=False):
            _returns(axes, task, reward, collectors)
        for unused in line[1 + len(task.rewards) :]:
            unused.remove()
    untrained = any(task.untrained(reward) for task in tasks for reward in task.rewards)
    _legend(figure, collectors, untrained=untrained)
    return figure


def _visited(axes: Axes, task: Scores, collectors: Sequence[str]) -> None:
    for collector, curve in task.curves.items():
        style = series_style(collectors.index(collector))
        low, high = ([getattr(share, end) for share in curve.shares] for end in ("low", "high"))
        axes.fill_between(curve.steps, low, high, color=style.color, alpha=0.15, linewidth=0)
        values = [share.value for share in curve.shares]
        axes.plot(curve.steps, values, color=style.color, linestyle=style.line, marker=style.marker, markersize=3)
    axes.set_ylim(bottom=0)
    axes.set(title=f"{task.task}: visited cells", xlabel="steps in the environment", ylabel="% of the cells")


def _returns(axes: Axes, task: Scores, reward: str, collectors: Sequence[str]) -> None:
    untrained = task.untrained(reward)
    if untrained is not None:
        axes.axhline(untrained.value, color=mpl.rcParams["text.color"], linewidth=0.8, linestyle=":", alpha=0.6)
    for place, phase in enumerate(PHASES):
        for number, collector in enumerate(collectors):
            estimate, style = task.returns(collector, reward, phase), series_style(number)
            if estimate is not None:
                at = place + SPREAD * ((number + 0.5) / len(collectors) - 0.5)
                axes.plot([at] * 2, [estimate.low, estimate.high], color=style.color, linewidth=2, alpha=0.45)
                axes.plot(at, estimate.value, style.marker, color=style.color, markersize=5.5)
    axes.set_xticks(range(len(PHASES)), list(PHASES.values()))
    axes.set_xlim(-0.5, len(PHASES) - 0.5)
    axes.grid(visible=False, axis="x")
    axes.set(title=f"{task.task}: {reward}", ylabel="return")


def _legend(figure: Figure, collectors: Sequence[str], *, untrained: bool) -> None:
    line, handles = mpl.lines.Line2D, []
    for number, collector in enumerate(collectors):
        style = series_style(number)
        handles.append(line([], [], color=style.color, marker=style.marker, linestyle=style.line, label=collector))
    if untrained:
        ink = mpl.rcParams["text.color"]
        handles.append(line([], [], color=ink, linestyle=":", linewidth=0.8, label="random policy"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
