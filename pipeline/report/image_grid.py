"""Figures of images in rows and columns, with texts beside the images and never over them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from dreamset.pipeline.report.style import STYLE, image_panel

GAP, MARGIN, BETWEEN = 0.07, 0.12, 0.3  # inches between images, around the figure, and between groups
LINE = 0.145  # inches of a line of small text
HEADINGS = MARGIN + 1.8 * LINE  # inches from the upper border to the headings of groups
WIDEST, HIGHEST = 3.2, 2.0  # inches of an image
TITLE, SMALL = 10, 8  # font sizes
CHARACTER = {TITLE: 0.115, SMALL: 0.085}  # inches that a character takes at most
ROOM = 10.0  # inches of images side by side


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring columns below a heading."""

    heading: str
    columns: int


@dataclass(frozen=True)
class Grid:
    """What a figure of images shows. All images have one shape."""

    title: str
    labels: Sequence[str]  # left of each row
    images: Sequence[Sequence[NDArray[Any]]]  # [rows][columns], [H, W, C] each; a row may be shorter than others
    texts: Sequence[Sequence[str]]  # [rows][columns], above each image
    groups: Sequence[Group] = ()  # of all columns; a dashed line separates them

    @cached_property
    def panel(self) -> tuple[float, float]:
        """Width and height in inches of each image."""
        return panel_size(self.images[0][0].shape)

    @cached_property
    def cell(self) -> float:
        """Width in inches of a column: of its images or of the texts above them."""
        return max(self.panel[0], CHARACTER[SMALL] * longest_line(text for row in self.texts for text in row))

    @cached_property
    def columns(self) -> list[float]:
        """Inches from the left border of the figure to each column."""
        left = MARGIN + CHARACTER[SMALL] * longest_line(self.labels) + GAP
        sizes = [group.columns for group in self.groups] or [max(map(len, self.images))]
        group_of = [number for number, size in enumerate(sizes) for _ in range(size)]
        return [left + place * (self.cell + GAP) + BETWEEN * group for place, group in enumerate(group_of)]

    @cached_property
    def rows(self) -> list[float]:
        """Inches from the upper border of the figure to each row of images."""
        above = [LINE * max(text.count("\n") + 1 if text else 0 for text in texts) + GAP for texts in self.texts]
        top = HEADINGS + (1.4 * LINE if self.groups else 0.0)
        return [top + sum(above[: row + 1]) + row * self.panel[1] for row in range(len(above))]

    @cached_property
    def starts(self) -> list[int]:
        """The first column of each group."""
        return [sum(group.columns for group in self.groups[:number]) for number in range(len(self.groups))]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches, with room for every text."""
        ends = [self.columns[-1] + self.cell, MARGIN + CHARACTER[TITLE] * len(self.title)]
        starts = zip(self.starts, self.groups, strict=True)
        ends += [self.columns[first] + CHARACTER[TITLE] * len(group.heading) for first, group in starts]
        return max(ends) + MARGIN, self.rows[-1] + self.panel[1] + MARGIN


def longest_line(texts: Iterable[str]) -> int:
    """Characters of the longest line of texts."""
    return max(len(line) for text in texts for line in text.split("\n"))


def panel_size(shape: Sequence[int]) -> tuple[float, float]:
    """Width and height in inches of an image of shape [H, W, C]."""
    aspect = shape[1] / shape[0]
    width = min(0.95 * math.sqrt(aspect), WIDEST)
    height = min(width / aspect, HIGHEST)
    return height * aspect, height


def most_columns(shape: Sequence[int], wanted: int) -> int:
    """The number of images of a shape that fit side by side: at most ``wanted``, at least two."""
    return max(2, min(wanted, int(ROOM / panel_size(shape)[0])))


def grid_figure(grid: Grid) -> Figure:
    """The figure of a grid, large enough for all texts."""
    total_width, total_height = grid.size
    width, height = grid.panel
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=grid.size)
        _text(figure, MARGIN, MARGIN, grid.title, size=TITLE, fontweight="bold", va="top")
        for label, images, texts, top in zip(grid.labels, grid.images, grid.texts, grid.rows, strict=True):
            _text(figure, grid.columns[0] - GAP, top + height / 2, label, ha="right", va="center")
            for column, image, text in zip(grid.columns, images, texts, strict=False):
                left = column + (grid.cell - width) / 2
                box = (left / total_width, 1 - (top + height) / total_height)
                axes = figure.add_axes((*box, width / total_width, height / total_height))
                image_panel(axes, image, "")
                axes.spines[:].set(visible=True, color="gray", linewidth=0.5)
                _text(figure, left + width / 2, top - GAP / 2, text, ha="center", va="bottom")
        _add_groups(figure, grid)
    return figure


def _add_groups(figure: Figure, grid: Grid) -> None:
    """The headings of the groups, and a dashed line between two groups."""
    total_width, total_height = grid.size
    for first, group in zip(grid.starts, grid.groups, strict=True):
        _text(figure, grid.columns[first], HEADINGS, group.heading, size=TITLE, va="top")
        if first:
            place = (grid.columns[first] - (BETWEEN + GAP) / 2) / total_width
            ends = [MARGIN / total_height, 1 - HEADINGS / total_height]
            look = {"color": mpl.rcParams["text.color"], "linestyle": "--", "linewidth": 1}
            figure.add_artist(Line2D([place] * 2, ends, transform=figure.transFigure, **look))


def _text(figure: Figure, x: float, y: float, text: str, *, size: int = SMALL, **settings: Any) -> None:
    """Text at inches from the left and the upper border."""
    width, height = figure.get_size_inches()
    figure.text(x / width, 1 - y / height, text, fontsize=size, parse_math=False, **settings)
