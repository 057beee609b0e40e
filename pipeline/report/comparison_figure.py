"""The figure of the comparison."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from dreamset.pipeline.report.style import STYLE, new_figure, save_figure, series_style


def comparison(
    summary: pd.DataFrame,
    episodes: Mapping[str, NDArray[np.float64]],
    horizons: pd.DataFrame,
    references: Mapping[str, float],
    path: Path,
) -> None:
    """Four panels: returns with intervals, reward error and probe R^2 against the horizon, cost.

    Args:
        summary: one row per objective, from the stage ``compare``.
        episodes: returns of every episode, by objective.
        horizons: columns objective, horizon, reward_error, probe_r2.
        references: returns to draw as lines, by label.
        path: of the PNG file.
    """
    colors = {name: series_style(index).color for index, name in enumerate(summary["objective"])}
    with mpl.rc_context(STYLE):
        figure = new_figure(10, 6.4)
        returns, error, probe, cost = figure.subplots(2, 2).flat
        _returns(returns, summary, episodes, references, colors)
        _against_horizon(error, horizons, "reward_error", colors)
        error.set(ylabel="squared error", title="reward prediction, open loop (lower is better)")
        if (horizons["reward_error"] > 0).any():
            error.set(yscale="log")
        _against_horizon(probe, horizons, "probe_r2", colors)
        probe.set(ylim=(min(0.0, max(-1.0, float(horizons["probe_r2"].min()))), 1.02), ylabel="$R^2$")
        probe.set_title("true state from features, linear probe (higher is better)")
        _cost(cost, summary, colors)
        error.legend(frameon=False)
        save_figure(figure, path)


def _returns(
    axes: Axes,
    summary: pd.DataFrame,
    episodes: Mapping[str, NDArray[np.float64]],
    references: Mapping[str, float],
    colors: Mapping[str, Any],
) -> None:
    generator = np.random.default_rng(0)
    for position, row in enumerate(summary.itertuples()):
        name = str(row.objective)
        values = episodes[name]
        axes.scatter(
            position + generator.uniform(-0.18, 0.18, len(values)), values, s=6, alpha=0.35, color=colors[name]
        )
        interval = [[row.return_iqm - row.return_iqm_low], [row.return_iqm_high - row.return_iqm]]  # type: ignore[operator]
        axes.errorbar(position, row.return_iqm, interval, fmt="o", color=colors[name], capsize=6, markersize=7)  # type: ignore[arg-type]
    for label, value in references.items():
        axes.axhline(value, color="gray", linestyle="--", linewidth=1)
        axes.annotate(label, (1, value), xycoords=("axes fraction", "data"), fontsize=8, ha="right", va="bottom")
    axes.set_xticks(range(len(summary)), [str(name).replace("_", "_\n") for name in summary["objective"]])
    axes.margins(y=0.12)
    axes.set(ylabel="return", title="return: interquartile mean, interval, episodes")


def _against_horizon(axes: Axes, horizons: pd.DataFrame, column: str, colors: Mapping[str, Any]) -> None:
    for name, rows in horizons.groupby("objective", sort=False):
        curve = rows.groupby("horizon")[column].agg(["mean", "min", "max"])
        axes.plot(curve.index, curve["mean"], marker="o", color=colors[str(name)], label=str(name))
        axes.fill_between(curve.index, curve["min"], curve["max"], color=colors[str(name)], alpha=0.15)
    axes.set_xscale("symlog", linthresh=1)
    ticks: Iterable[int] = sorted(set(horizons["horizon"]))
    axes.set_xticks(list(ticks), [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("steps after the last observation")


def _cost(axes: Axes, summary: pd.DataFrame, colors: Mapping[str, Any]) -> None:
    names = list(summary["objective"])
    model, behavior = summary["train_seconds"] / 60, summary["behavior_seconds"] / 60
    axes.barh(names, model, color=[colors[name] for name in names], label="world model")
    axes.barh(names, behavior, left=model, color=[colors[name] for name in names], alpha=0.45, label="behavior (light)")
    axes.invert_yaxis()
    axes.set(xlabel="minutes of training", title="cost: world model, then behavior (light)")
