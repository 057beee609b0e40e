"""Plots: histograms, contact sheets, open-loop predictions, comparisons and learning curves."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dreamset.core.files import save_with
from dreamset.datasets import Store
from dreamset.pipeline.report.frames import as_rgb

Images = NDArray[np.float32]  # [..., H, W, C] in [0, 1]

COLORS = [mpl.colormaps["tab10"](index) for index in range(10)]

STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 9,
    "svg.hashsalt": "dreamset",
}


def _save(figure: Figure, path: Path) -> None:
    # without metadata, equal figures give equal files
    save_with(path, lambda beside: figure.savefig(beside, dpi=120, metadata={"Software": None}))


def _figure(width: float, height: float) -> Figure:
    with mpl.rc_context(STYLE):
        return Figure(figsize=(width, height), layout="constrained")


def return_histogram(store: Store, path: Path) -> None:
    """A histogram of the returns of episodes, with training and validation in different colours."""
    with mpl.rc_context(STYLE):
        figure = _figure(6, 3.2)
        axes = figure.subplots()
        bins = np.histogram_bin_edges(store.returns, bins=min(30, max(5, len(store.returns) // 5)))
        values = [store.returns[store.split(name)] for name in store.info["splits"]]
        labels = [f"{name} ({len(v)})" for name, v in zip(store.info["splits"], values, strict=True)]
        axes.hist(values, bins=list(bins), stacked=True, label=labels)
        axes.axvline(float(store.returns.mean()), color="black", linewidth=1, label=f"mean {store.returns.mean():.1f}")
        axes.set(xlabel="return of an episode", ylabel="episodes", title=f"{store.path.name}: returns")
        axes.legend(frameon=False)
        _save(figure, path)


def contact_sheet(store: Store, name: str, path: Path, *, episodes: int = 6, frames: int = 10) -> None:
    """Evenly spaced frames (columns) of episodes (rows), from the lowest to the highest return."""
    order = np.argsort(store.returns)
    selected = order[np.linspace(0, len(order) - 1, min(episodes, len(order))).round().astype(int)]
    with mpl.rc_context(STYLE):
        figure = _figure(frames * 0.9, len(selected) * 0.95 + 0.3)
        grid = figure.subplots(len(selected), frames, squeeze=False)
        for row, episode in zip(grid, selected, strict=True):
            images = store.read(int(episode))[name]
            steps = np.linspace(0, len(images) - 1, frames).round().astype(int)
            for axes, step in zip(row, steps, strict=True):
                _image(axes, images[step], str(step) if episode == selected[0] else "")
            row[0].set_ylabel(f"{store.returns[episode]:.1f}", rotation=0, labelpad=14, va="center")
        figure.suptitle(f"{store.path.name}: {name}; return on the left, step above", fontsize=9)
        _save(figure, path)


def _image(axes: Axes, image: NDArray[Any], title: str) -> None:
    axes.imshow(as_rgb(image), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.set_title(title, fontsize=8, pad=2)


def open_loop_strip(truth: Images, prediction: Images, context: int, path: Path) -> None:
    """The first episode at increasing horizons, with the truth above the open-loop prediction."""
    horizons = [0, *(h for h in (1, 2, 5, 10, 15, 20, 30, 45) if context - 1 + h < truth.shape[1])]
    with mpl.rc_context(STYLE):
        figure = _figure(len(horizons) * 1.0, 2.3)
        grid = figure.subplots(2, len(horizons), squeeze=False)
        for row, part, label in zip(grid, (truth, prediction), ("truth", "model"), strict=True):
            for axes, horizon in zip(row, horizons, strict=True):
                _image(axes, part[0, context - 1 + horizon], f"+{horizon}" if label == "truth" else "")
            row[0].set_ylabel(label)
        figure.suptitle("steps after the last observation", fontsize=9)
        _save(figure, path)


def open_loop_lines(truth: NDArray[Any], prediction: NDArray[Any], context: int, path: Path, *, most: int = 6) -> None:
    """Elements of a vector (rows) in a few episodes (columns). A line marks the end of the context."""
    elements = min(truth.shape[-1], most)
    with mpl.rc_context(STYLE):
        figure = _figure(2.6 * len(truth), 1.5 * elements + 0.4)
        grid = figure.subplots(elements, len(truth), squeeze=False, sharex=True)
        for element, row in enumerate(grid):
            for axes, true, predicted in zip(row, truth[..., element], prediction[..., element], strict=True):
                axes.plot(true, color="black", linewidth=1, label="truth")
                axes.plot(predicted, color=COLORS[3], linewidth=1, label="model")
                axes.axvline(context - 0.5, color="gray", linestyle=":", linewidth=1)
            row[0].set_ylabel(f"element {element}")
        grid[0][0].legend(frameon=False, fontsize=7)
        figure.suptitle("standardised observation, open loop after the dotted line", fontsize=9)
        _save(figure, path)


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
    colors = {name: COLORS[index % len(COLORS)] for index, name in enumerate(summary["objective"])}
    with mpl.rc_context(STYLE):
        figure = _figure(10, 6.4)
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
        _save(figure, path)


def online_curve(evaluations: pd.DataFrame, path: Path, *, title: str) -> None:
    """Returns with intervals against environment steps, beside imagined returns, the offline policy and the data."""
    steps = evaluations["environment_steps"]
    with mpl.rc_context(STYLE):
        figure = _figure(6, 3.6)
        axes = figure.subplots()
        axes.plot(steps, evaluations["return_iqm"], marker="o", color=COLORS[0], label="return (IQM)")
        axes.fill_between(steps, evaluations["return_iqm_low"], evaluations["return_iqm_high"], alpha=0.2)
        if "imagined_return" in evaluations:
            axes.plot(steps, evaluations["imagined_return"], color=COLORS[1], linestyle=":", label="imagined")
        first = evaluations.iloc[0]
        for value, label, style in (
            (first["return_iqm"], "offline policy", "--"),
            (first["dataset_return"], "offline data, mean", ":"),
        ):
            axes.axhline(value, color="gray", linestyle=style, linewidth=1, label=label)
        axes.set(xlabel="steps in the environment", ylabel="return of an episode", title=title)
        axes.legend(frameon=False)
        _save(figure, path)


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
