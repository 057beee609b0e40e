"""The figure of the benchmark: returns against the number of demonstrations, one panel per task."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.imitation.plan import Benchmark
from benchmarks.papers import draw_on_papers
from dreamset.pipeline.evaluation.statistics import Estimate
from dreamset.pipeline.report.style import new_figure, series_style

Scores = Mapping[tuple[str, str, int], Estimate]
References = Mapping[str, tuple[float, float]]


def draw(benchmark: Benchmark, scores: Scores, references: References, path: Path) -> None:
    """Writes the figure on light paper and, beside it, on dark paper."""
    draw_on_papers(lambda: plot(benchmark, scores, references), path)


def plot(benchmark: Benchmark, scores: Scores, references: References) -> Figure:
    """A line per method; bars are intervals, dotted lines the returns of random actions and of the expert."""
    tasks = [task for task in benchmark.tasks if any(cell[0] == task for cell in scores)]
    figure = new_figure(5.6 * max(len(tasks), 1), 4.2)
    for axes, task in zip(figure.subplots(1, max(len(tasks), 1), squeeze=False)[0], tasks, strict=False):
        _panel(axes, benchmark, scores, references[task], task)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure


def _panel(axes: Axes, benchmark: Benchmark, scores: Scores, reference: tuple[float, float], task: str) -> None:
    for number, method in enumerate(benchmark.methods):
        measured = [(count, scores.get((task, method, count))) for count in benchmark.demonstrations]
        points = [(count, estimate) for count, estimate in measured if estimate is not None]
        if not points:
            continue
        style, counts = series_style(number), [count for count, _ in points]
        values = [estimate.value for _, estimate in points]
        axes.plot(counts, values, style.marker, linestyle=style.line, color=style.color, label=method, linewidth=1.5)
        for count, estimate in points:
            axes.plot([count] * 2, [estimate.low, estimate.high], color=style.color, linewidth=2, alpha=0.35)
    for value in reference:
        axes.axhline(value, linestyle=":", linewidth=1, color="0.5")
    axes.set(title=task, xlabel="demonstrations", ylabel="return", xscale="log")
    axes.set_xticks(list(benchmark.demonstrations), labels=[str(count) for count in benchmark.demonstrations])
    axes.minorticks_off()
