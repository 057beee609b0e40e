"""The curves of a dream beside reality: vectors, reward, error and uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from dreamset.pipeline.evaluation.dream_errors import Dream
from dreamset.pipeline.report.style import series_style

Values = NDArray[np.floating]

MOST_ELEMENTS = 6  # of a vector
DREAM, ERROR, UNSURE = series_style(1), series_style(4), series_style(5)  # distinct on white and on black paper
GOAL = series_style(2)


@dataclass(frozen=True, slots=True)
class Curve:
    """Values from row 0 on; they may end before the dream does."""

    values: Values
    label: str
    color: str | None  # None: that of the text
    line: Any = "-"


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves over the rows of a dream that share an axis."""

    title: str
    curves: Sequence[Curve]
    band: tuple[Values, Values] | None = None  # around the dream
    level: float | None = None  # the threshold of the error


def vector_panels(dream: Dream) -> list[Panel]:
    """The first elements of each vector, true and dreamed; the band holds all dreams."""
    return [
        Panel(
            f"{name} {element}",
            [
                Curve(dream.truth[name][:, element], "truth", None),
                Curve(dream.prediction[name][:, element], "dream", DREAM.color, DREAM.line),
                *_goal(dream, name, element),
            ],
            band=(low[:, element], high[:, element]),
        )
        for name, (low, high) in dream.band.items()
        for element in range(min(low.shape[1], MOST_ELEMENTS))
    ]


def _goal(dream: Dream, name: str, element: int) -> list[Curve]:
    if name not in dream.goal:
        return []
    return [Curve(np.full(dream.rows, dream.goal[name][element]), "goal", GOAL.color, ":")]


def figure_panels(dream: Dream) -> list[Panel]:
    """Reward, error and uncertainty, as far as they are known."""
    real = Curve(_from_row_1(dream.reward), "real", None)
    predicted = dream.predicted_reward
    panels = []
    if predicted is not None:
        dreamed = Curve(_from_row_1(predicted), "dreamed", DREAM.color, DREAM.line)
        panels.append(Panel("reward", [real, dreamed]))
    error = Curve(dream.mean_error, "error", ERROR.color)
    panels.append(Panel("error", [error], level=dream.threshold))
    if dream.uncertainty is not None:
        panels.append(Panel(dream.measure, [Curve(dream.uncertainty, "", UNSURE.color)]))
    return panels


def _from_row_1(reward: Values) -> Values:
    """Rewards without that of row 0, which nothing led to."""
    return np.concatenate([[np.nan], reward[1:]])


def draw_panel(axes: Axes, panel: Panel, dream: Dream) -> list[Any]:
    """Draws a panel, and returns what grows with time: the curves and the band."""
    rows = np.arange(dream.rows)
    growing: list[Any] = []
    if panel.band is not None:
        growing.append(axes.fill_between(rows, *panel.band, color=DREAM.color, alpha=0.35, linewidth=0))
    for curve in panel.curves:
        color = axes.xaxis.label.get_color() if curve.color is None else curve.color
        growing += axes.plot(
            rows[: len(curve.values)], curve.values, linestyle=curve.line, color=color, linewidth=1.4, label=curve.label
        )
    axes.set_xlim(-0.5, dream.rows - 0.5)
    low, high = axes.get_ylim()
    if panel.level is not None:
        axes.axhline(panel.level, color="gray", linestyle="--", linewidth=1, label="threshold")
        low, high = 0, max(high, 1.1 * panel.level)
    axes.set_ylim(low, high)
    axes.axvline(dream.context - 0.5, color="gray", linestyle=":", linewidth=1)
    axes.set_title(panel.title, loc="left", fontsize=9, pad=4)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(
            loc="lower right",
            bbox_to_anchor=(1.02, 0.96),
            ncols=3,
            frameon=False,
            fontsize=7,
            borderaxespad=0,
            handlelength=1.6,
            columnspacing=0.8,
        )
    return growing
