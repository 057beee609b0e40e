"""Figures of benchmarks on light and on dark paper."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from dreamset.pipeline.report.style import SCHEMES, STYLE, save_figure


def draw_on_papers(plot: Callable[[], Figure], path: Path) -> None:
    """Writes the figure on light paper and, with ``_dark`` at the end of its name, on dark paper."""
    for scheme, name in (("light", path.stem), ("dark", f"{path.stem}_dark")):
        with mpl.rc_context({**STYLE, **SCHEMES[scheme]}):
            save_figure(plot(), path.with_stem(name))
