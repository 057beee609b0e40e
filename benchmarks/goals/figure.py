"""The figure of the benchmark: a line of panels per task, success against trajectories and against change of looks."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.goals.benchmark import Benchmark, Row
from benchmarks.goals.scores import Scores
from benchmarks.papers import draw_on_papers
from dreamset.pipeline.report.style import new_figure, series_style

LINES = (":", "-.", "--")  # of the baselines


def draw(scores: Scores, benchmark: Benchmark, path: Path) -> None:
    """Writes the figure on light paper and, beside it, on dark paper."""
    draw_on_papers(lambda: plot(scores, benchmark), path)


def plot(scores: Scores, benchmark: Benchmark) -> Figure:
    """Lines are means over seeds and goals, bands intervals, and horizontal lines baselines."""
    figure = new_figure(9.6, 2.9 * len(scores.tasks) + 0.9)
    panels = figure.subplots(len(scores.tasks), 2, squeeze=False, sharey=True)
    most = max(benchmark.trajectories)
    for (amounts, looks), task in zip(panels, scores.tasks, strict=True):
        _panel(amounts, scores, benchmark, benchmark.trajectories, lambda one, x, task=task: Row(task, one, int(x)))
        _panel(looks, scores, benchmark, benchmark.severities, lambda one, x, task=task: Row(task, one, most, x))
        for axes in (amounts, looks):
            _baselines(axes, scores, benchmark, task)
            axes.set_ylim(-3, 103)
        amounts.set(title=task, xlabel="recorded trajectories", ylabel="success, %", xscale="log")
        amounts.set_xticks(benchmark.trajectories, map(str, benchmark.trajectories), minor=False)
        amounts.minorticks_off()
        looks.set(title=f"{task}: other looks", xlabel="severity")
    _legend(figure, benchmark)
    return figure


def _panel(
    axes: Axes, scores: Scores, benchmark: Benchmark, places: Sequence[float], row_at: Callable[[str, float], Row]
) -> None:
    for number, method in enumerate(benchmark.methods):
        style = series_style(number)
        known = [(place, one) for place in places if (one := scores.success(row_at(method, place))) is not None]
        if not known:
            continue
        at = [place for place, _ in known]
        value, low, high = ([100 * getattr(one, name) for _, one in known] for name in ("value", "low", "high"))
        axes.fill_between(at, low, high, color=style.color, alpha=0.12, linewidth=0)
        axes.plot(at, value, color=style.color, marker=style.marker, linestyle=style.line, markersize=5, label=method)


def _baselines(axes: Axes, scores: Scores, benchmark: Benchmark, task: str) -> None:
    for name, line in zip(benchmark.baselines, LINES, strict=False):
        estimate = scores.success(Row(task, name))
        if estimate is not None:
            axes.axhline(
                100 * estimate.value, color=mpl.rcParams["text.color"], linestyle=line, linewidth=0.9, alpha=0.6
            )


def _legend(figure: Figure, benchmark: Benchmark) -> None:
    line, handles = mpl.lines.Line2D, []
    for number, method in enumerate(benchmark.methods):
        style, label = series_style(number), method.replace("_", " ")
        handles.append(line([], [], color=style.color, marker=style.marker, linestyle=style.line, label=label))
    for name, dashes in zip(benchmark.baselines, LINES, strict=False):
        ink = mpl.rcParams["text.color"]
        handles.append(line([], [], color=ink, linestyle=dashes, linewidth=0.9, label=name.replace("_", " ")))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
