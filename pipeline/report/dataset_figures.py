"""Figures of a dataset: a histogram of returns and contact sheets."""

from pathlib import Path

import matplotlib as mpl
import numpy as np

from dreamset.datasets import Store
from dreamset.pipeline.report.style import STYLE, image_panel, new_figure, save_figure


def return_histogram(store: Store, path: Path) -> None:
    """A histogram of the returns of episodes, with training and validation in different colours."""
    with mpl.rc_context(STYLE):
        figure = new_figure(6, 3.2)
        axes = figure.subplots()
        bins = np.histogram_bin_edges(store.returns, bins=min(30, max(5, len(store.returns) // 5)))
        values = [store.returns[store.split(name)] for name in store.info["splits"]]
        labels = [f"{name} ({len(v)})" for name, v in zip(store.info["splits"], values, strict=True)]
        axes.hist(values, bins=list(bins), stacked=True, label=labels)
        axes.axvline(float(store.returns.mean()), color="black", linewidth=1, label=f"mean {store.returns.mean():.1f}")
        axes.set(xlabel="return of an episode", ylabel="episodes", title=f"{store.path.name}: returns")
        axes.legend(frameon=False)
        save_figure(figure, path)


def contact_sheet(store: Store, name: str, path: Path, *, episodes: int = 6, frames: int = 10) -> None:
    """Evenly spaced frames (columns) of episodes (rows), from the lowest to the highest return."""
    order = np.argsort(store.returns)
    selected = order[np.linspace(0, len(order) - 1, min(episodes, len(order))).round().astype(int)]
    with mpl.rc_context(STYLE):
        figure = new_figure(frames * 0.9, len(selected) * 0.95 + 0.3)
        grid = figure.subplots(len(selected), frames, squeeze=False)
        for row, episode in zip(grid, selected, strict=True):
            images = store.read(int(episode))[name]
            steps = np.linspace(0, len(images) - 1, frames).round().astype(int)
            for axes, step in zip(row, steps, strict=True):
                image_panel(axes, images[step], str(step) if episode == selected[0] else "")
            row[0].set_ylabel(f"{store.returns[episode]:.1f}", rotation=0, labelpad=14, va="center")
        figure.suptitle(f"{store.path.name}: {name}; return on the left, step above", fontsize=9)
        save_figure(figure, path)
