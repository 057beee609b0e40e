"""The figure of the benchmark: one panel per task, ways of acting from left to right, one colour per world model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.acting.benchmark import PREDICTED
from benchmarks.acting.scores import Result, Table
from benchmarks.papers import draw_on_papers
from dreamset.pipeline.report.style import new_figure, series_style

COLUMNS = 2  # panels beside each other
SPREAD = 0.7  # width that the models of one way share; neighbouring ways are 1 apart


def draw(tables: Sequence[Table], path: Path) -> None:
    """Writes the figure on light paper and, beside it, on dark paper."""
    draw_on_papers(lambda: plot(tables), path)


def plot(tables: Sequence[Table]) -> Figure:
    """Filled marks maximise the predicted reward, empty ones the pessimistic one; lines are intervals."""
    models = list(dict.fromkeys(model for table in tables for model in table.models))
    columns = min(COLUMNS, len(tables))
    lines = -(-len(tables) // columns)
    figure = new_figure(5.6 * columns, 3.1 * lines + 0.7)
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    places = {model: (number + 0.5) / len(models) - 0.5 for number, model in enumerate(models)}
    for axes, table in zip(panels, tables, strict=False):
        _panel(axes, table, places)
    for unused in panels[len(tables) :]:
        unused.remove()
    _legend(figure, models, tables, columns=2 * columns + 1)
    return figure


def _panel(axes: Axes, table: Table, places: Mapping[str, float]) -> None:
    for level, line in zip(table.references, (":", "--"), strict=True):
        axes.axhline(level, color=mpl.rcParams["text.color"], linewidth=0.8, linestyle=line, alpha=0.6)
    for result in table.results:
        _mark(axes, result, table.ways.index(result.way) + SPREAD * places[result.model], list(places))
    axes.set_xticks(range(len(table.ways)), [way.replace("_", "\n+ ") for way in table.ways])
    axes.set_xlim(-0.5, len(table.ways) - 0.5)
    axes.grid(visible=False, axis="x")
    axes.set(title=table.task, ylabel="return")


def _mark(axes: Axes, result: Result, place: float, models: Sequence[str]) -> None:
    style, estimate = series_style(models.index(result.model)), result.estimate
    predicted = result.reward == PREDICTED
    shifted = place + (-0.25 if predicted else 0.25) * SPREAD / len(models)
    axes.plot([shifted] * 2, [estimate.low, estimate.high], color=style.color, linewidth=2, alpha=0.45)
    paper = mpl.rcParams["axes.facecolor"]
    axes.plot(
        shifted,
        estimate.value,
        style.marker,
        color=style.color,
        markerfacecolor=style.color if predicted else paper,
        markersize=5.5,
    )


def _legend(figure: Figure, models: Sequence[str], tables: Sequence[Table], *, columns: int) -> None:
    ink, paper = mpl.rcParams["text.color"], mpl.rcParams["axes.facecolor"]
    line = mpl.lines.Line2D
    handles = []
    for number, model in enumerate(models):
        style = series_style(number)
        handles.append(line([], [], color=style.color, marker=style.marker, linestyle="", label=model))
    if any(result.reward != PREDICTED for table in tables for result in table.results):
        handles.append(
            line([], [], color=ink, markerfacecolor=paper, marker="o", linestyle="", label="empty: with pessimism")
        )
    handles.append(line([], [], color=ink, linestyle=":", linewidth=0.8, label="random policy"))
    handles.append(line([], [], color=ink, linestyle="--", linewidth=0.8, label="scripted expert"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(columns, len(handles)), frameon=False)
