"""The colour, marker and line of each objective on the page, as ``report/style.py`` assigns them."""

from dreamset.pipeline.report.style import series_marks

DASHES = ("", "7 4", "8 3 2 3", "2 3", "10 2", "6 2 2 2 2 2", "1 2")


def color_class(position: int) -> str:
    """The class of a series' colour in page.css."""
    return f"s{series_marks(position)[0]}"


def dashes(position: int) -> str:
    """The pattern of a series' line."""
    return DASHES[series_marks(position)[2]]


def marker(position: int, x: float, y: float, size: float = 4.5) -> str:
    """The outline of a series' marker: circle, square, triangle, diamond, inverted triangle, plus, cross."""
    s = size
    circle = f"M{x - s:.1f} {y:.1f}a{s} {s} 0 1 0 {2 * s} 0a{s} {s} 0 1 0 {-2 * s} 0z"
    square = f"M{x - s:.1f} {y - s:.1f}h{2 * s}v{2 * s}h{-2 * s}z"
    triangle = f"M{x:.1f} {y - s - 1:.1f}l{s + 1} {2 * s + 1}h{-2 * s - 2}z"
    diamond = f"M{x:.1f} {y - s - 1.5:.1f}l{s + 1.5} {s + 1.5}l{-s - 1.5} {s + 1.5}l{-s - 1.5} {-s - 1.5}z"
    inverted = f"M{x:.1f} {y + s + 1:.1f}l{s + 1} {-2 * s - 1}h{-2 * s - 2}z"
    plus = f"M{x - 2:.1f} {y - s - 1:.1f}h4v{s - 1}h{s - 1}v4h{1 - s}v{s - 1}h-4v{1 - s}h{1 - s}v-4h{s - 1}z"
    cross = (
        f"M{x - s:.1f} {y - s:.1f}l{s} {s - 2}l{s} {2 - s}l{2 - s} {s}l{s - 2} {s}"
        f"l{-s} {2 - s}l{-s} {s - 2}l{s - 2} {-s}z"
    )
    return (circle, square, triangle, diamond, inverted, plus, cross)[series_marks(position)[1]]


def arrow(x: float, y: float, *, up: bool) -> str:
    """The outline of an arrow at the border of the axes."""
    return f"M{x - 5:.1f} {y:.1f}h10l-5 {-7 if up else 7}z"
