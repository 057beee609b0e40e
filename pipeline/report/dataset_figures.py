"""Figures of a dataset: returns, lengths, rewards, actions and contact sheets of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray

from dreamset.core.spec import ActionSpec
from dreamset.datasets import Store
from dreamset.datasets.card import short
from dreamset.pipeline.report.image_grid import Grid, grid_figure, most_columns
from dreamset.pipeline.report.style import SCHEMES, STYLE, new_figure, save_figure, series_style

MOST_READ = 100  # episodes whose rows are read
MOST_ELEMENTS = 40  # of an action
EPISODES, FRAMES = 6, 10  # of a contact sheet
LEAST_SPAN = 10  # transitions on the axis of lengths
WIDTH, HEIGHT = 6.0, 3.2  # inches of a histogram


@dataclass(frozen=True, slots=True)
class Transitions:
    """Rewards [N] and actions [N, A] of evenly spaced episodes: of those with actions, if there are any."""

    rewards: NDArray[Any]
    actions: NDArray[Any]
    extent: str  # how many transitions, and of how many episodes if not of all

    @classmethod
    def of(cls, store: Store) -> Self:
        """The transitions of at most ``MOST_READ`` episodes."""
        known = np.flatnonzero(store.acted) if store.acted.any() else np.arange(len(store))
        count = min(MOST_READ, len(known))
        numbers = known[np.linspace(0, len(known) - 1, count).round().astype(int)]
        rows = (store.read(int(number)) for number in numbers)  # one at a time: compressed images are copied
        pairs = [(episode["reward"][1:], episode["action"][1:]) for episode in rows]  # nothing leads to the first row
        rewards, actions = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        part = "" if count == len(store) else f" in {count} of {len(store)} episodes"
        return cls(rewards, actions, f"{len(rewards)} transitions{part}")


def return_histogram(store: Store, path: Path, *, scheme: str = "light") -> None:
    """The returns of all episodes, with the splits in different colours."""
    bins = np.histogram_bin_edges(store.returns, bins=min(30, max(5, len(store) // 5)))
    labels = {"xlabel": "return of an episode (sum of its rewards)", "title": f"{_name(store)}: returns"}
    _split_histogram(store, store.returns, bins, path, scheme, **labels)


def disagreement_histogram(store: Store, disagreement: Sequence[float], path: Path, *, scheme: str = "light") -> None:
    """The mean disagreement of an ensemble about each episode, with the splits in different colours."""
    values = np.asarray(disagreement, np.float64)
    bins = np.histogram_bin_edges(values, bins=min(30, max(5, len(store) // 5)))
    labels = {"xlabel": "mean disagreement about an episode", "title": f"{_name(store)}: disagreement"}
    _split_histogram(store, values, bins, path, scheme, **labels)


def length_histogram(store: Store, path: Path, *, scheme: str = "light") -> None:
    """The lengths of all episodes, with the splits in different colours."""
    lengths = store.lengths - 1
    low, high = int(lengths.min()), int(lengths.max())
    if high - low < LEAST_SPAN:
        low, high = max(0, low - LEAST_SPAN // 2), high + LEAST_SPAN // 2
    width = -(-(high - low + 1) // 30)
    bins = np.arange(low, high + 1 + width, width) - 0.5
    labels = {"xlabel": "length of an episode (transitions)", "title": f"{_name(store)}: lengths"}
    _split_histogram(store, lengths, bins, path, scheme, **labels)


def _split_histogram(
    store: Store, values: NDArray[Any], bins: NDArray[Any], path: Path, scheme: str, *, xlabel: str, title: str
) -> None:
    with mpl.rc_context({**STYLE, **SCHEMES[scheme]}):
        figure = new_figure(WIDTH, HEIGHT)
        axes = figure.subplots()
        axes.set_axisbelow(True)  # bars cover the grid
        floor = np.zeros(len(bins) - 1)
        for index, split in enumerate(store.info["splits"]):
            of_split = values[store.split(split, acted=None)]
            counts, _ = np.histogram(of_split, bins)
            color, hatch = series_style(index).color, "/" * (3 * index)
            label = f"{split} ({len(of_split)} episodes)"
            axes.stairs(floor + counts, bins, baseline=floor, fill=True, color=color, label=label)
            if hatch:  # so that the splits differ without colours
                ink = {"edgecolor": mpl.rcParams["axes.facecolor"], "linewidth": 0.0}
                axes.stairs(floor + counts, bins, baseline=floor, fill=True, hatch=hatch, facecolor="none", **ink)
            floor = floor + counts
        mean = float(values.mean())
        axes.axvline(mean, color=mpl.rcParams["text.color"], linestyle="--", linewidth=1, label=f"mean {short(mean)}")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(y=0.12)
        axes.set(xlabel=xlabel, ylabel="episodes", title=title)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        save_figure(figure, path)


def reward_histogram(store: Store, transitions: Transitions, path: Path, *, scheme: str = "light") -> None:
    """Rewards on a logarithmic count, because rare rewards matter."""
    with mpl.rc_context({**STYLE, **SCHEMES[scheme]}):
        figure = new_figure(WIDTH, HEIGHT)
        axes = figure.subplots()
        axes.set_axisbelow(True)  # bars cover the grid
        counts, bins = np.histogram(transitions.rewards, bins=50)
        axes.stairs(counts, bins, fill=True, color=series_style(0).color)
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(bottom=0.7)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel=f"reward ({transitions.extent})", ylabel="transitions (logarithmic)")
        axes.set_title(f"{_name(store)}: rewards")
        save_figure(figure, path)


def action_figure(store: Store, transitions: Transitions, path: Path, *, scheme: str = "light") -> None:
    """The range of each element of a continuous action, or the share of each choice."""
    spec = store.spec.action
    shown = min(spec.size, MOST_ELEMENTS)
    more = "" if shown == spec.size else f", the first {shown} of {spec.size}"
    with mpl.rc_context({**STYLE, **SCHEMES[scheme]}):
        figure = new_figure(WIDTH, 1.7 + 0.22 * shown)
        axes = figure.subplots()
        axes.set_axisbelow(True)  # bars cover the grid
        (_choices if spec.discrete else _ranges)(axes, spec, transitions.actions, shown)
        axes.set_ylim(shown - 0.5, -0.5)
        axes.set_title(f"{_name(store)}: actions{more}")
        axes.set_xlabel(f"{axes.get_xlabel()} ({transitions.extent})")
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower center", ncols=4, frameon=False)
        save_figure(figure, path)


def _choices(axes: Axes, spec: ActionSpec, actions: NDArray[Any], shown: int) -> None:
    del spec
    axes.barh(range(shown), 100 * actions.mean(0)[:shown], color=series_style(0).color)
    axes.set_yticks(range(shown))
    axes.set(xlabel="share in %", ylabel="choice")


def _ranges(axes: Axes, spec: ActionSpec, actions: NDArray[Any], shown: int) -> None:
    """Median, middle 90 % and extremes; as a share of the allowed range if there is one."""
    low, high = np.array(spec.low, float), np.array(spec.high, float)
    values = 100 * (actions - low) / np.where(high > low, high - low, 1.0) if spec.bounded else actions
    least, few, half, many, most = np.quantile(values, [0, 0.05, 0.5, 0.95, 1], axis=0)[:, :shown]
    places, ink = np.arange(shown), mpl.rcParams["text.color"]
    if spec.bounded:
        axes.axvspan(0, 100, color="gray", alpha=0.18, linewidth=0, label="allowed")
    axes.hlines(places, least, most, color=ink, linewidth=1, label="seen")
    axes.hlines(places, few, many, color=series_style(4).color, linewidth=6, label="middle 90 %")
    axes.plot(half, places, linestyle="none", marker="|", markersize=8, color=ink, label="median")
    names = [f"{number}: {low[number]:.4g} to {high[number]:.4g}" for number in places]
    axes.set_yticks(places, names if spec.bounded else [str(number) for number in places])
    axes.set_ylabel("element: range" if spec.bounded else "element")
    axes.set_xlabel("% of the allowed range" if spec.bounded else "in the units of the data")


def contact_sheet(store: Store, name: str, path: Path, *, scheme: str = "light") -> None:
    """Evenly spaced frames (columns) of episodes (rows), from the lowest to the highest return."""
    order = np.argsort(store.returns, kind="stable")
    selected = order[np.linspace(0, len(order) - 1, min(EPISODES, len(order))).round().astype(int)]
    most = most_columns(store.spec.observations[name].shape, FRAMES)
    steps = [_evenly(int(store.lengths[episode]), most) for episode in selected]
    texts = [[f"step {step}" for step in row] for row in steps]
    equal = all(row == texts[0] for row in texts)
    grid = Grid(
        title=f"{_name(store)} · {name} · from the lowest to the highest return",
        labels=[f"episode {episode}\nreturn {short(store.returns[episode])}" for episode in selected],
        images=[_images(store, int(episode), name, row) for episode, row in zip(selected, steps, strict=True)],
        texts=[row if number == 0 or not equal else [""] * len(row) for number, row in enumerate(texts)],
    )
    with mpl.rc_context({**STYLE, **SCHEMES[scheme]}):
        save_figure(grid_figure(grid), path)


def _evenly(rows: int, most: int) -> list[int]:
    """At most so many steps of an episode, with the first and the last one."""
    steps: list[int] = np.linspace(0, rows - 1, min(most, rows)).round().astype(int).tolist()
    return steps


def _images(store: Store, episode: int, name: str, steps: Sequence[int]) -> list[NDArray[Any]]:
    images = store.read(episode)[name]
    return [images[step] for step in steps]


def _name(store: Store) -> str:
    return store.path.resolve().name
