"""The figure of the benchmark: a row per world; AUC, harm and success against the quality of the data."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.papers import draw_on_papers
from benchmarks.reversibility.benchmark import OBSERVATIONS, Benchmark
from benchmarks.reversibility.scores import Scores, in_order
from dreamset.pipeline.report.style import new_figure, series_style

SPREAD = 0.5  # width that the series of one quality share; neighbouring qualities are 1 apart
Series = Mapping[str, tuple[str, str]]  # label -> method and column
AUC: Series = {
    "psi, observations": (OBSERVATIONS, "psi_auc_visited"),
    "phi, observations": (OBSERVATIONS, "phi_auc_visited"),
    "psi, features": ("term", "psi_auc_visited"),
    "phi, features": ("term", "phi_auc_visited"),
}
HARM = {"turf": "ruined cells per episode", "push": "deadlocked episodes"}


def draw(scores: Scores, benchmark: Benchmark, path: Path) -> None:
    """Writes the figure on light paper and, beside it, on dark paper."""
    draw_on_papers(lambda: plot(scores, benchmark), path)


def plot(scores: Scores, benchmark: Benchmark) -> Figure:
    """Marks are means over seeds, lines intervals."""
    policies = [name for name in benchmark.methods if name != OBSERVATIONS]
    figure = new_figure(11, 2.9 * len(scores.worlds) + 0.4)
    panels = figure.subplots(len(scores.worlds), 3, squeeze=False)
    for line, world in zip(panels, scores.worlds, strict=True):
        qualities = in_order(
            list(scores.runs["quality"]), list(dict.fromkeys(task.quality for task in benchmark.tasks.values()))
        )
        columns = (
            ("AUC against the exact truth", AUC),
            *((column, _of(policies, column)) for column in ("harm", "success")),
        )
        for axes, (label, series) in zip(line, columns, strict=True):
            _panel(axes, scores, world, qualities, series)
            axes.set_ylim(-0.03, None if label == "harm" else 1.03)
            axes.set(title=world, ylabel=HARM.get(world, label) if label == "harm" else label)
        line[0].axhline(0.5, color=mpl.rcParams["text.color"], linewidth=0.8, linestyle=":", alpha=0.6)
    for column in (0, 1):  # harm and success have the same policies
        panels[-1][column].legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    return figure


def _of(policies: Sequence[str], column: str) -> Series:
    return {name.replace("_", " "): (name, column) for name in policies}


def _panel(axes: Axes, scores: Scores, world: str, qualities: Sequence[str], series: Series) -> None:
    for number, (label, (method, column)) in enumerate(series.items()):
        style, shift = series_style(number), SPREAD * ((number + 0.5) / len(series) - 0.5)
        estimates = [scores.of(world, quality, method, column) for quality in qualities]
        known = [(place + shift, one) for place, one in enumerate(estimates) if one is not None]
        for place, one in known:
            axes.plot([place] * 2, [one.low, one.high], color=style.color, linewidth=2, alpha=0.45)
        places, values = [place for place, _ in known], [one.value for _, one in known]
        axes.plot(places, values, style.marker, color=style.color, markersize=5.5, label=label)
    axes.set_xticks(range(len(qualities)), qualities)
    axes.set_xlim(-0.5, len(qualities) - 0.5)
    axes.grid(visible=False, axis="x")
