"""The figure of the benchmark: returns against updates and against CPU seconds, one row of panels per task."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.papers import draw_on_papers
from benchmarks.replay.plan import BUDGETS, Benchmark
from dreamset.pipeline.evaluation.statistics import Estimate
from dreamset.pipeline.report.style import new_figure, series_style

LABELS = {"updates": "updates", "seconds": "CPU seconds of learning"}


def draw(benchmark: Benchmark, scores: Mapping[tuple[str, str, str, float], Estimate], path: Path) -> None:
    """Writes the figure on light paper and, beside it, on dark paper."""
    draw_on_papers(lambda: plot(benchmark, scores), path)


def plot(benchmark: Benchmark, scores: Mapping[tuple[str, str, str, float], Estimate]) -> Figure:
    """A line per method; bars are intervals."""
    tasks = [task for task in benchmark.tasks if any(cell[0] == task for cell in scores)]
    figure = new_figure(11.2, 3.4 * len(tasks) + 0.8)
    panels = figure.subplots(len(tasks), len(BUDGETS), squeeze=False)
    for line, task in zip(panels, tasks, strict=True):
        for axes, kind in zip(line, BUDGETS, strict=True):
            _panel(axes, benchmark, scores, task, kind)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure


def _panel(
    axes: Axes, benchmark: Benchmark, scores: Mapping[tuple[str, str, str, float], Estimate], task: str, kind: str
) -> None:
    for number, method in enumerate(benchmark.methods):
        measured = [(amount, scores.get((task, method, kind, float(amount)))) for amount in benchmark.budgets[kind]]
        points = [(amount, estimate) for amount, estimate in measured if estimate is not None]
        if not points:
            continue
        style, amounts = series_style(number), [amount for amount, _ in points]
        values = [estimate.value for _, estimate in points]
        axes.plot(amounts, values, style.marker, linestyle=style.line, color=style.color, label=method, linewidth=1.5)
        for amount, estimate in points:
            axes.plot([amount] * 2, [estimate.low, estimate.high], color=style.color, linewidth=2, alpha=0.35)
    axes.set(title=task, xlabel=LABELS[kind], ylabel="return")
