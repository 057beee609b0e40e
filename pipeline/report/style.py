"""How all figures look: fonts and grid, and colours, markers and lines that colour-blind readers can tell apart."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dreamset.core.files import save_with
from dreamset.pipeline.report.frames import as_rgb

STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 9,
    "svg.hashsalt": "dreamset",
}

DARK, PALE = "#0d1117", "#e6edf3"
SCHEMES: dict[str, dict[str, str]] = {  # paper and ink, for pages in light and in dark colours
    "light": {},
    "dark": {
        "figure.facecolor": DARK,
        "axes.facecolor": DARK,
        "savefig.facecolor": DARK,
        "axes.edgecolor": PALE,
        "axes.labelcolor": PALE,
        "axes.titlecolor": PALE,
        "text.color": PALE,
        "xtick.color": PALE,
        "ytick.color": PALE,
    },
}


@dataclass(frozen=True, slots=True)
class SeriesStyle:
    """How one series, such as an objective, is drawn in every figure and table."""

    color: str  # hexadecimal
    marker: str  # of matplotlib
    line: str | tuple[int, tuple[int, ...]]  # of matplotlib


# The palette of Okabe and Ito (2008), without black and with its yellow last, because yellow is faint on white. Markers
# and lines differ, too, so that no reader and no printer depends on the colours.
SERIES = (
    SeriesStyle("#0072B2", "o", "-"),
    SeriesStyle("#D55E00", "s", "--"),
    SeriesStyle("#009E73", "^", "-."),
    SeriesStyle("#CC79A7", "D", ":"),
    SeriesStyle("#56B4E9", "v", (0, (5, 1))),
    SeriesStyle("#E69F00", "P", (0, (3, 1, 1, 1))),
    SeriesStyle("#F0E442", "X", (0, (1, 1))),
)


def series_marks(index: int) -> tuple[int, int, int]:
    """The places in ``SERIES`` of colour, marker and line, for the series with this position in the comparison.

    Where there are more series than colours, the next ones have the same colours with other markers and lines.
    """
    lap, color = divmod(index, len(SERIES))
    return color, (color + lap) % len(SERIES), (color + 2 * lap) % len(SERIES)


def series_style(index: int) -> SeriesStyle:
    """The style of the series with this position in the comparison."""
    color, marker, line = (SERIES[place] for place in series_marks(index))
    return SeriesStyle(color.color, marker.marker, line.line)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    with mpl.rc_context(STYLE):
        return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure. Equal figures give equal files, because no metadata are written.

    ``Figure.savefig`` would write the same bytes, but draw everything twice, the first time for the layout only.
    """
    figure.set_dpi(120)
    save_with(path, lambda beside: FigureCanvasAgg(figure).print_png(beside, metadata={"Software": None}))


def image_panel(axes: Axes, image: NDArray[Any], title: str) -> None:
    """One frame [H, W, C] without ticks."""
    axes.imshow(as_rgb(image))
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.set_title(title, fontsize=8, pad=2)
