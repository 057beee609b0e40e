"""Figures of open-loop predictions beside the truth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from dreamset.pipeline.report.frames import difference
from dreamset.pipeline.report.image_grid import Grid, Group, grid_figure, most_columns
from dreamset.pipeline.report.style import STYLE, new_figure, save_figure, series_style

Images = NDArray[np.float32]  # [..., H, W, C] in [0, 1]

HORIZONS = (1, 2, 5, 10, 15, 20, 30, 45)  # steps after the last observation
MOST_OBSERVED = 3  # images of observed steps
OBSERVING, OPEN_LOOP = "observing", "open loop: no observations"


def open_loop_strip(
    truth: Images, prediction: Images, context: int, path: Path, *, title: str, episodes: Sequence[str]
) -> None:
    """The first episode: truth, prediction and their difference at some observed steps and at increasing horizons.

    Args:
        truth: recorded images, [B, T, H, W, C].
        prediction: those of the model.
        context: rows that the model observes. A line separates them from the others.
        path: of the PNG file.
        title: of the figure.
        episodes: what each episode is called.
    """
    observed, predicted = _shown_steps(truth.shape[1], context, truth.shape[2:])
    rows = {
        "truth": truth[0],
        "model": prediction[0],
        "difference\n(grey: none)": difference(truth[0], prediction[0]),
    }
    steps = [*observed, *predicted]
    texts = [f"step {step}" if step < context else f"step {step}\n+{step - context + 1}" for step in steps]
    grid = Grid(
        title=f"{title} · {episodes[0]}",
        labels=list(rows),
        images=[[images[step] for step in steps] for images in rows.values()],
        texts=[texts, *([""] * len(steps) for _ in range(len(rows) - 1))],
        groups=[Group(OBSERVING, len(observed)), Group(OPEN_LOOP, len(predicted))] if predicted else (),
    )
    save_figure(grid_figure(grid), path)


def _shown_steps(rows: int, context: int, shape: Sequence[int]) -> tuple[list[int], list[int]]:
    """Observed and predicted steps: the last one of each, and others as far as there is room."""
    room = most_columns(shape, MOST_OBSERVED + len(HORIZONS))
    observed = _spread(list(range(context)), min(MOST_OBSERVED, room // 3 or 1))
    predicted = [context - 1 + horizon for horizon in HORIZONS if context - 1 + horizon < rows]
    return observed, _spread(predicted, room - len(observed))


def _spread(values: list[int], most: int) -> list[int]:
    """At most so many values, evenly spaced, with the last one."""
    count = min(most, len(values))
    places = np.linspace(len(values) - 1, 0, count).round().astype(int)[::-1]
    return [values[place] for place in places]


def open_loop_lines(
    truth: NDArray[Any],
    prediction: NDArray[Any],
    context: int,
    path: Path,
    *,
    title: str,
    episodes: Sequence[str],
    most: int = 6,
) -> None:
    """Elements of a standardised vector (rows) in a few episodes (columns). A line marks where observing ends.

    Args:
        truth: recorded values, [B, T, elements].
        prediction: those of the model.
        context: rows that the model observes.
        path: of the PNG file.
        title: of the figure.
        episodes: what each column is called.
        most: the number of elements that are shown, from the first one.
    """
    truth, prediction = (values.reshape(*values.shape[:2], -1) for values in (truth, prediction))
    count = min(truth.shape[-1], most)
    left_out = f" · elements 0 to {count - 1} of {truth.shape[-1]}" if count < truth.shape[-1] else ""
    with mpl.rc_context(STYLE):
        width = max(2.6 * len(truth) + 0.8, 0.11 * len(title + left_out) + 0.3)
        figure = new_figure(width, 1.35 * count + 1.3)
        grid = figure.subplots(count, len(truth), squeeze=False, sharex=True, sharey="row")
        for element, row in enumerate(grid):
            for axes, true, predicted in zip(row, truth[..., element], prediction[..., element], strict=True):
                _draw_pair(axes, true, predicted, context)
            row[0].set_ylabel(f"element {element}\n(std. deviations)")
        for axes, name in zip(grid[0], episodes, strict=True):
            axes.set_title(f"{name}\n", fontsize=9)
            _mark_end(axes, context, truth.shape[1])
        for axes in grid[-1]:
            axes.set_xlabel("step")
        figure.suptitle(title + left_out, fontsize=10, fontweight="bold")
        figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        save_figure(figure, path)


def _draw_pair(axes: Axes, truth: NDArray[Any], prediction: NDArray[Any], context: int) -> None:
    model: Any = series_style(1)
    axes.plot(truth, color="black", linewidth=1.2, label="truth")
    axes.plot(prediction, color=model.color, linestyle=model.line, linewidth=1.2, label="model")
    axes.axvline(context - 0.5, color="gray", linestyle=":", linewidth=1.2, label="observing ends")


def _mark_end(axes: Axes, context: int, rows: int) -> None:
    """A word above the line on which observing ends, on the side where there is more room."""
    early = context <= rows / 2
    word, side = ("open loop →", "left") if early else ("← observing", "right")
    axes.annotate(word, (context - 0.5, 1.02), xycoords=("data", "axes fraction"), fontsize=8, ha=side, va="bottom")
