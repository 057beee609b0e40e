"""The figure of the comparison: four panels, on light or on dark paper."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dreamset.pipeline.report.comparison import Comparison
from dreamset.pipeline.report.style import SCHEMES, STYLE, SeriesStyle, new_figure, save_figure, series_style

LOWEST_R2 = -0.25  # of the axis; lower values are arrows at its border
SHORT = 120  # seconds; shorter trainings are shown in seconds

Styles = Mapping[str, SeriesStyle]


def draw(comparison: Comparison, path: Path, *, scheme: str = "light") -> None:
    """Returns with intervals, reward error and probe R² against the horizon, and cost.

    Args:
        comparison: what to show.
        path: of the PNG file.
        scheme: a key of ``SCHEMES``: the colours of paper and ink.
    """
    styles = {name: series_style(index) for index, name in enumerate(comparison.objectives)}
    with mpl.rc_context({**STYLE, **SCHEMES[scheme]}):
        figure = new_figure(10, 6.8)
        figure.set_facecolor(mpl.rcParams["figure.facecolor"])
        returns, error, probe, cost = figure.subplots(2, 2).flat
        figure.suptitle(comparison.title, fontsize=11, fontweight="bold")
        _returns(returns, comparison, styles)
        _against_horizon(error, comparison.horizons, "reward_error", styles)
        error.set(ylabel="squared error", title="error of the predicted reward (lower is better)")
        if (comparison.horizons["reward_error"] > 0).any():
            error.set(yscale="log")
        _against_horizon(probe, comparison.horizons, "probe_r2", styles)
        probe.set(ylim=(LOWEST_R2, 1.05), ylabel="$R^2$", title="true state from features (higher is better)")
        _mark_below(probe, comparison.horizons, styles)
        _cost(cost, comparison.summary, styles)
        if error.get_legend_handles_labels()[0]:
            error.legend(frameon=False)
        save_figure(figure, path)


def _returns(axes: Axes, comparison: Comparison, styles: Styles) -> None:
    generator = np.random.default_rng(0)
    for position, row in enumerate(comparison.rows()):
        style = styles[str(row["objective"])]
        values = np.concatenate(comparison.returns[str(row["objective"])])
        axes.scatter(position + generator.uniform(-0.18, 0.18, len(values)), values, s=6, alpha=0.35, color=style.color)
        interval = [[row["return_iqm"] - row["return_iqm_low"]], [row["return_iqm_high"] - row["return_iqm"]]]
        axes.errorbar(
            position, row["return_iqm"], interval, fmt=style.marker, color=style.color, capsize=6, markersize=7
        )
    axes.set_xlim(-0.5, len(styles) - 0.5)
    _references(axes, comparison.references)
    axes.set_xticks(range(len(styles)), [name.replace("_", "_\n") for name in styles])
    axes.margins(y=0.12)
    confidence = f"{100 * comparison.evaluation.confidence:.0f} %"
    axes.set(ylabel="return", title=f"return: dots are episodes; mark: IQM with {confidence} interval")


def _references(axes: Axes, references: Mapping[str, float]) -> None:
    """Lines with labels right of the axes, where they cover no dot; labels of equal values are moved apart."""
    low, high = axes.get_ylim()
    floor = -np.inf
    for label, value in sorted(references.items(), key=lambda pair: pair[1]):
        axes.axhline(value, color="gray", linestyle="--", linewidth=1, zorder=0)
        floor = max(value, floor + 0.045 * (high - low))
        place = {"xycoords": ("axes fraction", "data"), "fontsize": 8, "va": "center", "annotation_clip": False}
        axes.annotate(f" {label}", (1, floor), **place)  # type: ignore[arg-type]


def _against_horizon(axes: Axes, horizons: pd.DataFrame, column: str, styles: Styles) -> None:
    ticks: Iterable[int] = sorted(set(horizons["horizon"]))
    order = {horizon: index for index, horizon in enumerate(ticks)}
    for name, rows in horizons.groupby("objective", sort=False):
        style = styles[str(name)]
        curve = rows.groupby("horizon")[column].agg(["mean", "min", "max"]).dropna()
        places = [order[int(horizon)] for horizon in curve.index]
        line: Any = style.line
        axes.plot(places, curve["mean"], marker=style.marker, linestyle=line, color=style.color, label=str(name))
        axes.fill_between(places, curve["min"], curve["max"], color=style.color, alpha=0.15)
    axes.set_xticks(list(order.values()), [str(tick) for tick in ticks])
    axes.set_xlabel("steps after the last observation (not to scale)")


def _mark_below(axes: Axes, horizons: pd.DataFrame, styles: Styles) -> None:
    """An arrow at the lower border for each mean that lies below the axis."""
    order = {horizon: index for index, horizon in enumerate(sorted(set(horizons["horizon"])))}
    below = 0
    for name, rows in horizons.groupby("objective", sort=False):
        means = rows.groupby("horizon")["probe_r2"].mean()
        for horizon in means.index[means < LOWEST_R2]:
            offset = 0.08 * (below % 3 - 1)
            axes.plot(order[horizon] + offset, LOWEST_R2 + 0.05, marker=7, color=styles[str(name)].color, markersize=8)
            below += 1
    if below:
        axes.annotate("▾ lies below", (0.02, 0.03), xycoords="axes fraction", fontsize=8)


def _cost(axes: Axes, summary: pd.DataFrame, styles: Styles) -> None:
    names, parts = list(summary["objective"]), ("train_seconds", "behavior_seconds")
    seconds = [summary[part].fillna(0.0) if part in summary else summary["seeds"] * 0.0 for part in parts]
    short = float((seconds[0] + seconds[1]).max()) < SHORT
    model, behavior = (part if short else part / 60 for part in seconds)
    colors = [styles[name].color for name in names]
    axes.barh(names, model, color=colors)
    axes.barh(names, behavior, left=model, color=colors, alpha=0.45)
    axes.invert_yaxis()
    axes.margins(x=0.08)
    unit = "seconds" if short else "minutes"
    axes.set(xlabel=f"{unit} of training", title="cost: world model (dark), then policy (light)")
