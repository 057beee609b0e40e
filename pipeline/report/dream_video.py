"""A dream beside reality as a video, an animation or a figure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v2 as iio
import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from dreamset.core.files import save_with
from dreamset.pipeline.evaluation.dream_errors import Dream
from dreamset.pipeline.progress import progress
from dreamset.pipeline.report.captions import text_width, with_captions
from dreamset.pipeline.report.dream_panels import draw_panel, figure_panels, vector_panels
from dreamset.pipeline.report.frames import as_rgb
from dreamset.pipeline.report.style import DARK, SCHEMES, STYLE, image_panel, new_figure, save_figure, series_style
from dreamset.pipeline.report.videos import FRAMES_PER_SECOND

Pixels = NDArray[np.uint8]

CELL, LARGEST = 256, 512  # width in pixels of a column; images are enlarged to about the one and reduced to the other
GAP, ABOVE, CURVES, TICKS, LEFT = 18, 20, 110, 30, 34  # pixels around and in the panels
BORDER = 4
OBSERVING, DREAMING = series_style(0).color, series_style(1).color
WRONG = 0.5  # error of a pixel that is drawn brightest
COLUMNS = ("truth", "dream", f"error (dark: none, bright: {WRONG} and more)")
GOAL = "goal"  # a further column, if the policy acts towards a goal
STRIP = (0, 1, 2, 5, 10, 15, 20, 30, 45)  # steps after the last observation in a figure
BLACK = {key: "black" if value == DARK else value for key, value in SCHEMES["dark"].items()}
DPI = 100
COLORS = 128  # of an animation


@dataclass(frozen=True, slots=True)
class _Box:
    """A panel's pixels on the canvas, and where each row is."""

    top: int
    bottom: int
    left: int
    right: int
    columns: NDArray[np.int64]  # [T] x of each row


class Clip:
    """The frames of a video, one per row: images or vectors above, curves that grow below.

    Titles and axes are drawn once, with and without curves. A frame shows the curves up to its row.
    """

    def __init__(self, dream: Dream, head: Sequence[str]) -> None:
        self.dream, self.head = dream, list(head)
        self.images = [name for name in dream.prediction if name not in dream.band]
        self.columns = (*COLUMNS, GOAL) if any(name in dream.goal for name in self.images) else COLUMNS
        self.edges = {name: _shown_shape(dream.prediction[name]) for name in self.images}
        self.cell = max([CELL, *(width for _, width in self.edges.values())])
        self.empty, self.full, self.boxes, self.tops = self._drawn()
        heads = [*self.head, *(self._words(row) for row in range(dream.rows))]
        self.width = max(map(text_width, ([text] for text in heads)))

    def __len__(self) -> int:
        return self.dream.rows

    def frame(self, row: int) -> Pixels:
        """The frame [H, W, 3] of a row; all have the same even size."""
        canvas = self.empty.copy()
        for box in self.boxes:
            x = box.columns[row]
            canvas[box.top : box.bottom, box.left : x + 1] = self.full[box.top : box.bottom, box.left : x + 1]
            canvas[box.top : box.bottom, x] = 200
        for name, top in self.tops.items():
            for column, image in enumerate(self._row_of(name, row)):
                left = GAP + column * (self.cell + GAP) + (self.cell - image.shape[1]) // 2
                canvas[top : top + len(image), left : left + image.shape[1]] = image
        captioned = with_captions(canvas, [*self.head, self._words(row)], [""], least_width=self.width)
        return captioned[: len(captioned) // 2 * 2, : captioned.shape[1] // 2 * 2]

    def _words(self, row: int) -> str:
        over = "" if row < len(self.dream.reward) else "; reality is over, or not known"
        return f"step {row}: {self.dream.phase(row)}{over}"

    def _row_of(self, name: str, row: int) -> list[Pixels]:
        """Truth, dream, error and goal of an image, enlarged; the dream has a border in the colour of the phase."""
        dream, known = self.dream.prediction[name][row], _is_known(self.dream, name, row)
        shape = self.edges[name]
        shown = _enlarged(as_rgb(dream), shape)
        color = OBSERVING if row < self.dream.context else DREAMING
        shown[:BORDER] = shown[-BORDER:] = _rgb(color)
        shown[:, :BORDER] = shown[:, -BORDER:] = _rgb(color)
        goal = [_enlarged(as_rgb(self.dream.goal[name]), shape)] if name in self.dream.goal else []
        if not known:
            return [np.full_like(shown, 60), shown, np.full_like(shown, 60), *goal]
        truth = self.dream.truth[name][row]
        return [_enlarged(as_rgb(truth), shape), shown, _enlarged(wrong(truth, dream), shape), *goal]

    def _drawn(self) -> tuple[Pixels, Pixels, list[_Box], dict[str, int]]:
        """The canvas without and with curves, the panels' boxes, and the top of each image."""
        rows = [vector_panels(self.dream), figure_panels(self.dream)]
        panels = [(panel, number % 3) for part in rows for number, panel in enumerate(part)]
        lines = sum(-(-len(part) // 3) for part in rows)
        heights = [height + ABOVE + GAP for height, _ in self.edges.values()]
        width = len(self.columns) * (self.cell + GAP) + GAP
        height = sum(heights) + lines * (ABOVE + CURVES + TICKS)
        with mpl.rc_context({**STYLE, **BLACK, "font.size": 8}):
            figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
            canvas = FigureCanvasAgg(figure)
            tops, top = {}, 0
            for name, extent in zip(self.images, heights, strict=True):
                tops[name] = top + ABOVE
                for column, title in enumerate(self.columns):
                    label = title if len(self.images) == 1 else f"{name}: {title}"
                    x = GAP + column * (self.cell + GAP) + (self.cell - self.edges[name][1]) // 2
                    figure.text(x / width, 1 - (top + ABOVE - 5) / height, label, fontsize=9)
                top += extent
            growing, axes_of = [], []
            for number, (panel, column) in enumerate(panels):
                if number and column == 0:
                    top += ABOVE + CURVES + TICKS
                left = GAP + column * (self.cell + GAP) + LEFT
                bottom = 1 - (top + ABOVE + CURVES) / height
                axes = figure.add_axes((left / width, bottom, (self.cell - LEFT) / width, CURVES / height))
                axes.margins(y=0.12)
                growing += draw_panel(axes, panel, self.dream)
                axes_of.append(axes)
            full = _pixels(canvas)
            boxes = [_box(axes, height, self.dream.rows) for axes in axes_of]
            for artist in growing:
                artist.set_visible(False)
            return _pixels(canvas), full, boxes, tops


def _pixels(canvas: FigureCanvasAgg) -> Pixels:
    canvas.draw()
    pixels: Pixels = np.array(canvas.buffer_rgba())[..., :3].copy()
    return pixels


def _box(axes: Any, height: int, rows: int) -> _Box:
    extent = axes.get_window_extent()
    xs = axes.transData.transform(np.stack([np.arange(rows), np.zeros(rows)], axis=1))[:, 0]
    top, bottom = round(height - extent.y1), round(height - extent.y0)
    return _Box(top, bottom, round(extent.x0) + 1, round(extent.x1), np.rint(xs).astype(np.int64))


def _is_known(dream: Dream, name: str, row: int) -> bool:
    """Whether reality goes on, and has the observation, which a model that does not read it can do without."""
    return name in dream.truth and row < len(dream.reward)


def _shown_shape(images: NDArray[Any]) -> tuple[int, int]:
    """Height and width of images [T, H, W, C] on the canvas: whole multiples, or every kth pixel of large ones."""
    height, width = images.shape[1:3]
    longest = max(height, width)
    if longest > LARGEST:
        step = -(-longest // LARGEST)
        return -(-height // step), -(-width // step)
    factor = max(1, CELL // longest)
    return height * factor, width * factor


def _enlarged(image: NDArray[Any], shape: tuple[int, int]) -> Pixels:
    """An image [H, W, 3] in [0, 1] at another size, by the nearest pixel."""
    rows, columns = (np.arange(new) * old // new for new, old in zip(shape, image.shape, strict=False))
    pixels: Pixels = (image[rows][:, columns] * 255).round().astype(np.uint8)
    return pixels


def _rgb(color: str) -> NDArray[np.uint8]:
    return (np.array(mpl.colors.to_rgb(color)) * 255).astype(np.uint8)


def wrong(truth: NDArray[Any], dream: NDArray[Any]) -> NDArray[np.float32]:
    """Where two images [..., C] in [0, 1] differ, as colours [..., 3]: the mean over the channels, black for none."""
    error = np.abs(as_rgb(dream) - as_rgb(truth)).mean(-1) / WRONG
    colors: NDArray[np.float32] = mpl.colormaps["inferno"](error.clip(0, 1))[..., :3].astype(np.float32)
    return colors


def write_mp4(path: Path, count: int, frame: Callable[[int], Pixels]) -> None:
    """Writes H.264, one frame at a time. Sides must be even."""

    def write(beside: Path) -> None:
        writer: Any = iio.get_writer(beside, fps=FRAMES_PER_SECOND, codec="libx264", macro_block_size=1)
        with writer:
            for row in _drawing(count):
                writer.append_data(frame(row))

    save_with(path, write)


def write_gif(path: Path, count: int, frame: Callable[[int], Pixels], *, milliseconds: int = 100) -> None:
    """Writes an endless animation. All frames share their colours, those of a few frames, so that nothing flickers."""
    some = sorted({0, count // 3, 2 * count // 3, count - 1})
    palette = Image.fromarray(np.concatenate([frame(row) for row in some])).quantize(COLORS)

    def indexed(row: int) -> Image.Image:
        return Image.fromarray(frame(row)).quantize(palette=palette, dither=Image.Dither.NONE)

    rest = (indexed(row) for row in _drawing(count) if row)
    save_with(
        path,
        lambda beside: indexed(0).save(
            beside, format="GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0
        ),
    )


def _drawing(count: int) -> Any:
    return progress(range(count), description="draw the dream", total=count, delay=2, unit="frame")


def save_video(dream: Dream, head: Sequence[str], path: Path) -> None:
    """Writes an mp4."""
    clip = Clip(dream, head)
    write_mp4(path, len(clip), clip.frame)


def save_animation(dream: Dream, head: Sequence[str], path: Path) -> None:
    """Writes a gif."""
    clip = Clip(dream, head)
    write_gif(path, len(clip), clip.frame)


def save_strip(dream: Dream, head: Sequence[str], path: Path) -> None:
    """Writes a png: some frames of each image above all curves."""
    images = [name for name in dream.prediction if name not in dream.band]
    shown = [dream.context - 1 + step for step in STRIP if dream.context - 1 + step < dream.rows]
    lines = [panels for panels in (vector_panels(dream), figure_panels(dream)) if panels]
    curve_rows = sum(-(-len(panels) // 3) for panels in lines)
    heights = [4.2 if name in dream.goal else 3.2 for name in images] + [1.9] * curve_rows
    with mpl.rc_context(STYLE):
        figure = new_figure(10, sum(heights) + 0.3 * len(head))
        parts = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
        for name, part in zip(images, parts, strict=False):
            _draw_strip(part, dream, name, shown)
        below = iter(parts[len(images) :])
        for panels in lines:
            for first in range(0, len(panels), 3):
                grid = next(below).subplots(1, 3)
                for axes in grid[len(panels) - first :]:
                    axes.set_visible(False)
                for axes, panel in zip(grid, panels[first : first + 3], strict=False):
                    draw_panel(axes, panel, dream)
                    axes.set_xlabel("step; open loop after the dotted line", fontsize=7)
        figure.suptitle("\n".join(head), fontsize=9)
        save_figure(figure, path)


def _draw_strip(part: Any, dream: Dream, name: str, shown: Sequence[int]) -> None:
    """Truth, dream and error (rows) in some steps (columns); only the dream where the truth is not known.

    The goal, if there is one, has a row of its own below the first step.
    """
    labels = ("truth", "dream", "error", *([GOAL] if name in dream.goal else []))
    grid = part.subplots(len(labels), len(shown), squeeze=False)
    for column, axes in enumerate(grid[3] if name in dream.goal else []):
        image_panel(axes, dream.goal[name], "")
        axes.set_visible(column == 0)
    for column, row in enumerate(shown):
        prediction, known = dream.prediction[name][row], _is_known(dream, name, row)
        truth = dream.truth[name][row] if known else np.ones_like(prediction)
        title = f"step {row}" if row < dream.context else f"+{row - dream.context + 1}"
        for axes, image in zip(grid[:3, column], (truth, prediction, wrong(truth, prediction)), strict=True):
            image_panel(axes, image, title if axes is grid[0 if known else 1, column] else "")
            axes.set_visible(known or image is prediction)
    for axes, label in zip(grid[:, 0], labels, strict=True):
        axes.set_ylabel(label)


FORMATS: dict[str, Callable[[Dream, Sequence[str], Path], None]] = {
    ".mp4": save_video,
    ".gif": save_animation,
    ".png": save_strip,
}
