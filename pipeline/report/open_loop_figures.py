"""Figures of open-loop predictions beside the truth."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from dreamset.pipeline.report.style import STYLE, image_panel, new_figure, save_figure, series_style

Images = NDArray[np.float32]  # [..., H, W, C] in [0, 1]


def open_loop_strip(truth: Images, prediction: Images, context: int, path: Path) -> None:
    """The first episode at increasing horizons, with the truth above the open-loop prediction."""
    horizons = [0, *(h for h in (1, 2, 5, 10, 15, 20, 30, 45) if context - 1 + h < truth.shape[1])]
    with mpl.rc_context(STYLE):
        figure = new_figure(len(horizons) * 1.0, 2.3)
        grid = figure.subplots(2, len(horizons), squeeze=False)
        for row, part, label in zip(grid, (truth, prediction), ("truth", "model"), strict=True):
            for axes, horizon in zip(row, horizons, strict=True):
                image_panel(axes, part[0, context - 1 + horizon], f"+{horizon}" if label == "truth" else "")
            row[0].set_ylabel(label)
        figure.suptitle("steps after the last observation", fontsize=9)
        save_figure(figure, path)


def open_loop_lines(truth: NDArray[Any], prediction: NDArray[Any], context: int, path: Path, *, most: int = 6) -> None:
    """Elements of a vector (rows) in a few episodes (columns). A line marks the end of the context."""
    elements = min(truth.shape[-1], most)
    with mpl.rc_context(STYLE):
        figure = new_figure(2.6 * len(truth), 1.5 * elements + 0.4)
        grid = figure.subplots(elements, len(truth), squeeze=False, sharex=True)
        for element, row in enumerate(grid):
            for axes, true, predicted in zip(row, truth[..., element], prediction[..., element], strict=True):
                axes.plot(true, color="black", linewidth=1, label="truth")
                axes.plot(predicted, color=series_style(1).color, linewidth=1, label="model")
                axes.axvline(context - 0.5, color="gray", linestyle=":", linewidth=1)
            row[0].set_ylabel(f"element {element}")
        grid[0][0].legend(frameon=False, fontsize=7)
        figure.suptitle("standardised observation, open loop after the dotted line", fontsize=9)
        save_figure(figure, path)
