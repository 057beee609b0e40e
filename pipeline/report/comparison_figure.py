"""The figure of the comparison: four panels, on light or on dark paper."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dreamset.pipeline.report.comparison import Comparison
from dreamset.pipeline.report.style import SCHEMES, STYLE, SeriesStyle, new_figure, save_figure, series_style
from dreamset.pipeline.report.words import shortened

LOWEST_R2 = -0.25  # of the axis; lower values are arrows at its border
SHORT = 120  # seconds; shorter trainings are shown in seconds
ROOM = 4  # objectives for which the figure has its usual height; each further one adds to it

Styles = Mapping[str, SeriesStyle]


def draw(comparison: Comparison, path: Path, *, scheme: str = "light") -> None:
    """Returns with intervals, cost, and reward error and probe R² against the horizon.

    Args:
        comparison: what to show.
        path: of the PNG file.
        scheme: a key of ``SCHEMES``: the colours of paper and ink.
    """
    styles = {name: series_style(index) for index, name in enumerate(comparison.objectives)}
    with mpl.rc_context({**STYLE, **SCHEMES[scheme], "axes.titlesize": 9.5}):
        more = max(0, len(styles) - ROOM)
        figure = new_figure(10, 6.8 + 0.3 * more)
        figure.set_facecolor(mpl.rcParams["figure.facecolor"])
        above, below = figure.subplots(2, 2, height_ratios=(1 + 0.1 * more, 1))
        figure.suptitle(comparison.title, fontsize=11, fontweight="bold")
        _returns(above[0], comparison, styles)
        _cost(above[1], comparison.summary, styles)
        error, probe = below
        errors, scores = comparison.horizons["reward_error"], comparison.horizons["probe_r2"]
        _against_horizon(error, comparison.horizons, "reward_error", styles)
        error.set(ylabel="squared error", title="error of the predicted reward (lower is better)")
        if (errors > 0).any():
            error.set(yscale="log")
        _against_horizon(probe, comparison.horizons, "probe_r2", styles)
        probe.set(ylim=(LOWEST_R2, 1.05), ylabel="$R^2$", title="true state from features (higher is better)")
        _mark_below(probe, comparison.horizons, styles)
        for axes, values in ((above[0], comparison.summary["return_iqm"]), (error, errors), (probe, scores)):
            if not values.notna().any():
                axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", fontsize=11)
        _legend(figure, *error.get_legend_handles_labels())
        save_figure(figure, path)


def _legend(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """The names of all lines below the axes, in as many columns as have room."""
    if not names:
        return
    short = [shortened(name, 40) for name in names]
    columns = max(1, min(4, 150 // (max(map(len, short)) + 8)))
    figure.legend(handles, short, loc="outside lower center", ncols=columns, frameon=False)


def _returns(axes: Axes, comparison: Comparison, styles: Styles) -> None:
    generator = np.random.default_rng(0)
    for place, row in enumerate(comparison.rows()):
        style = styles[str(row["objective"])]
        values = np.concatenate([*comparison.returns[str(row["objective"])], np.empty(0)])
        axes.scatter(values, place + generator.uniform(-0.25, 0.25, len(values)), s=6, alpha=0.35, color=style.color)
        interval = [[row["return_iqm"] - row["return_iqm_low"]], [row["return_iqm_high"] - row["return_iqm"]]]
        axes.errorbar(
            row["return_iqm"], place, xerr=interval, fmt=style.marker, color=style.color, capsize=6, markersize=7
        )
    _rows(axes, list(styles))
    axes.margins(x=0.05)
    _references(axes, comparison.references)
    axes.set_xlabel("return")
    title = f"return: dots are episodes; mark: IQM with {comparison.interval}"
    axes.set_title(title, pad=6 + 11 * len(comparison.references))


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """One row for each objective, the first one on top."""
    axes.set_yticks(range(len(names)), [shortened(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def _references(axes: Axes, references: Mapping[str, float]) -> None:
    """Lines with labels above the axes, each on a level of its own, so that none covers another or a dot."""
    for level, (label, value) in enumerate(sorted(references.items(), key=lambda pair: pair[1])):
        axes.axvline(value, color="gray", linestyle="--", linewidth=1, zorder=0)
        place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8}
        axes.annotate(f"{label} {value:.1f}", (value, 1), (0, 2 + 11 * level), ha="center", **place)


def _against_horizon(axes: Axes, horizons: pd.DataFrame, column: str, styles: Styles) -> None:
    for name, rows in horizons.groupby("objective", sort=False):
        style = styles[str(name)]
        curve = rows.groupby("horizon")[column].agg(["mean", "min", "max"]).dropna()
        places = np.log1p(curve.index.to_numpy(float))
        line: Any = style.line
        axes.plot(places, curve["mean"], marker=style.marker, linestyle=line, color=style.color, label=str(name))
        axes.fill_between(places, curve["min"], curve["max"], color=style.color, alpha=0.15)
    ticks = _apart(sorted({int(horizon) for horizon in horizons["horizon"]}))
    axes.set_xticks([math.log1p(tick) for tick in ticks], [str(tick) for tick in ticks])
    axes.set_xlabel("steps after the last observation (logarithmic)")


def _apart(horizons: Sequence[int]) -> list[int]:
    """The horizons whose labels have room on the logarithmic axis."""
    if not horizons:
        return []
    least, kept = math.log1p(horizons[-1]) / 14, list[int]()
    for horizon in horizons:
        if not kept or math.log1p(horizon) - math.log1p(kept[-1]) >= least:
            kept.append(horizon)
    return kept


def _mark_below(axes: Axes, horizons: pd.DataFrame, styles: Styles) -> None:
    """An arrow at the lower border for each mean that lies below the axis."""
    below = 0
    for name, rows in horizons.groupby("objective", sort=False):
        means = rows.groupby("horizon")["probe_r2"].mean()
        for horizon in means.index[means < LOWEST_R2]:
            place = math.log1p(horizon) + 0.05 * (below % 3 - 1)
            axes.plot(place, LOWEST_R2 + 0.05, marker=7, color=styles[str(name)].color, markersize=8)
            below += 1
    if below:
        axes.annotate("▾ lies below", (0.02, 0.03), xycoords="axes fraction", fontsize=8)


def _cost(axes: Axes, summary: pd.DataFrame, styles: Styles) -> None:
    places, parts = range(len(styles)), ("train_seconds", "behavior_seconds")
    seconds = [summary[part].fillna(0.0) if part in summary else summary["seeds"] * 0.0 for part in parts]
    short = float((seconds[0] + seconds[1]).max()) < SHORT
    model, behavior = (part if short else part / 60 for part in seconds)
    colors = [style.color for style in styles.values()]
    axes.barh(places, model, color=colors)
    axes.barh(places, behavior, left=model, color=colors, alpha=0.45)
    _rows(axes, [""] * len(styles))  # those of the returns, which stand on the left
    axes.set_xlim(0, 1.08 * max(float((model + behavior).max()), 1e-9))
    unit = "seconds" if short else "minutes"
    axes.set(xlabel=f"{unit} of training", title="cost: world model (dark), then policy (light)")
