"""Charts as inline SVG, whose colours follow the reader's light or dark scheme.

Series differ in colour, marker and line, and carry their names beside their last point.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from dreamset.pipeline.report.page.html import escape

WIDTH, HEIGHT = 580, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 196, 30, 44
DASHES = ("", "7 4", "8 3 2 3", "2 3", "10 2", "6 2 2 2 2 2", "1 2")
LABEL_HEIGHT = 15  # least distance of two labels

Scale = Literal["linear", "log"]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """A curve with a band."""

    name: str
    position: int  # of the objective in the comparison: its colour, marker and line
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps values to pixels."""

    low: float
    high: float
    scale: Scale
    first: float  # pixel of ``low``
    last: float  # pixel of ``high``

    def __call__(self, value: float) -> float:
        """The pixel of a value, which may lie outside of the axis."""
        low, high, value = (_scaled(self.scale, v) for v in (self.low, self.high, value))
        return self.first + (value - low) / (high - low) * (self.last - self.first)

    def clip(self, value: float) -> float:
        """The value, or the nearest end of the axis."""
        return min(max(value, self.low), self.high)


def _scaled(scale: Scale, value: float) -> float:
    return value if scale == "linear" else math.log10(max(value, 1e-300))


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    scale: Scale = "linear",
    limits: tuple[float | None, float | None] = (None, None),
    x_ticks: Sequence[float] | None = None,
) -> str:
    """Curves with bands, markers and direct labels; empty without any finite value.

    Args:
        series: the curves; values that are not finite, or not positive on a logarithmic axis, are left out.
        title: above the chart.
        x_label: below it.
        y_label: of the vertical axis.
        scale: of the vertical axis.
        limits: of the vertical axis. A value beyond them is drawn at the border as an arrow.
        x_ticks: places at equal distances, for values that are not evenly spaced; None: a linear axis.
    """
    series = [cleaned for one in series if (cleaned := _cleaned(one, scale)).x]
    if not series:
        return ""
    place = _places(x_ticks)
    vertical = _vertical(series, scale, limits)
    xs = [place(x) for one in series for x in one.x]
    horizontal = Axis(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, "linear", LEFT, WIDTH - RIGHT)
    ticks = [(place(x), _number(x)) for x in x_ticks] if x_ticks else [(v, _number(v)) for v in _ticks(horizontal)]
    parts = [_frame(title, x_label, y_label, vertical, [(horizontal(x), text) for x, text in ticks])]
    for one in series:
        points = [(horizontal(place(x)), vertical(vertical.clip(y))) for x, y in zip(one.x, one.y, strict=True)]
        parts.append(_curve(one, points, horizontal, vertical, place))
    parts.append(_labels(series, vertical))
    return _svg(parts, title, f"{title}. {y_label} against {x_label}: {', '.join(one.name for one in series)}.")


def _places(ticks: Sequence[float] | None) -> Callable[[float], float]:
    if ticks is None:
        return float
    order = {value: float(index) for index, value in enumerate(ticks)}
    return lambda x: order[x]


def _cleaned(series: Series, scale: Scale) -> Series:
    def usable(value: float) -> bool:
        return math.isfinite(value) and (scale == "linear" or value > 0)

    keep = [index for index, y in enumerate(series.y) if usable(y)]

    def kept(values: Sequence[float] | None) -> list[float] | None:
        if values is None:
            return None
        return [values[i] if usable(values[i]) else series.y[i] for i in keep]

    x, y = [series.x[i] for i in keep], [series.y[i] for i in keep]
    return Series(series.name, series.position, x, y, kept(series.low), kept(series.high))


def _vertical(series: Sequence[Series], scale: Scale, limits: tuple[float | None, float | None]) -> Axis:
    values = [v for one in series for part in (one.y, one.low or (), one.high or ()) for v in part]
    low, high = min(values), max(values)
    if scale == "linear":
        margin = 0.06 * (high - low) or 0.5
        low, high = low - margin, high + margin
    else:
        low, high = low / 1.25, high * 1.25
    low = low if limits[0] is None else limits[0]
    high = high if limits[1] is None else limits[1]
    return Axis(low, high if high > low else low + 1, scale, HEIGHT - BOTTOM, TOP)


def _ticks(axis: Axis) -> list[float]:
    """Four to seven round values on an axis."""
    if axis.scale == "log":
        first, last = math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high))
        steps = (1, 2, 5) if last - first <= 2 else (1,)
        return [t for e in range(first, last + 1) for s in steps if axis.low <= (t := s * 10.0**e) <= axis.high]
    raw = (axis.high - axis.low) / 5
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * s for s in (1, 2, 2.5, 5, 10) if size * s >= raw)
    first = math.ceil(axis.low / step - 1e-9)
    return [k * step for k in range(first, first + 12) if k * step <= axis.high + 1e-9 * step]


def _number(value: float) -> str:
    if value and (abs(value) < 0.001 or abs(value) >= 100_000):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"


def _frame(title: str, x_label: str, y_label: str, vertical: Axis, x_ticks: Sequence[tuple[float, str]]) -> str:
    right, floor, middle = WIDTH - RIGHT, HEIGHT - BOTTOM, (HEIGHT - BOTTOM + TOP) / 2
    parts = [f'<text class="title" x="{LEFT}" y="16">{escape(title)}</text>']
    for value in _ticks(vertical):
        y = vertical(value)
        parts.append(f'<line class="gridline" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    for x, text in x_ticks:
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{escape(text)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{floor}H{right}"/>')
    parts.append(
        f'<text class="tick" x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>'
    )
    parts.append(
        f'<text class="tick" transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    return "".join(parts)


def _curve(
    series: Series, points: Sequence[Point], horizontal: Axis, vertical: Axis, place: Callable[[float], float]
) -> str:
    color = f"s{series.position % len(DASHES)}"
    parts = []
    if series.low is not None and series.high is not None and len(points) > 1:
        edge = [(horizontal(place(x)), vertical(vertical.clip(v))) for x, v in zip(series.x, series.high, strict=True)]
        back = [(horizontal(place(x)), vertical(vertical.clip(v))) for x, v in zip(series.x, series.low, strict=True)]
        outline = "L".join(f"{x:.1f} {y:.1f}" for x, y in [*edge, *reversed(back)])
        parts.append(f'<path class="band" d="M{outline}Z"/>')
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    parts.append(f'<path class="curve" stroke-dasharray="{DASHES[series.position % len(DASHES)]}" d="M{path}"/>')
    sparse = len(points) <= 12
    for index, ((x, y), value) in enumerate(zip(points, series.y, strict=True)):
        outside = value != vertical.clip(value)
        if sparse or outside or index == len(points) - 1:
            shape = _arrow(x, y, up=value > vertical.high) if outside else marker(series.position, x, y)
            name = f"{series.name}: {_number(series.x[index])}, {_number(value)}"
            parts.append(f'<path class="mark" d="{shape}"><title>{escape(name)}</title></path>')
    return f'<g class="{color}">{"".join(parts)}</g>'


def _arrow(x: float, y: float, *, up: bool) -> str:
    tip = -7 if up else 7
    return f"M{x - 5:.1f} {y:.1f}h10l-5 {tip}z"


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
    return (circle, square, triangle, diamond, inverted, plus, cross)[position % 7]


def _labels(series: Sequence[Series], vertical: Axis) -> str:
    """The names of the series beside their last points, moved apart where they would overlap."""
    placed: list[str] = []
    floor = TOP - 4.0
    for one in sorted(series, key=lambda one: vertical(vertical.clip(one.y[-1]))):
        floor = max(vertical(vertical.clip(one.y[-1])) + 4, floor + LABEL_HEIGHT)
        color = f"s{one.position % len(DASHES)}"
        shape = marker(one.position, WIDTH - RIGHT + 14, floor - 4, 3.5)
        placed.append(
            f'<g class="{color}"><path class="mark" d="{shape}"/>'
            f'<text class="series" x="{WIDTH - RIGHT + 22}" y="{floor:.1f}">{escape(_short(one.name))}</text></g>'
        )
    return "".join(placed)


def _short(name: str, longest: int = 23) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


@dataclass(frozen=True, slots=True)
class Group:
    """The values of one objective, with an estimate and its interval."""

    name: str
    position: int
    values: Sequence[float]
    estimate: float
    low: float
    high: float


def dot_chart(groups: Sequence[Group], references: Sequence[tuple[str, float]], *, title: str, y_label: str) -> str:
    """Every value as a dot, the estimate with its interval, and references as lines labelled at the right."""
    numbers = [v for g in groups for v in (*g.values, g.low, g.high, g.estimate) if math.isfinite(v)]
    numbers += [value for _, value in references]
    if not numbers:
        return ""
    margin = 0.06 * (max(numbers) - min(numbers)) or 0.5
    vertical = Axis(min(numbers) - margin, max(numbers) + margin, "linear", HEIGHT - BOTTOM, TOP)
    step = (WIDTH - RIGHT - LEFT) / len(groups)
    centers = [LEFT + step * (index + 0.5) for index in range(len(groups))]
    longest = max(4, int(step / 7))
    ticks = [(x, _short(group.name, longest)) for x, group in zip(centers, groups, strict=True)]
    parts = [_frame(title, "objective", y_label, vertical, ticks), _references(references, vertical)]
    for x, group in zip(centers, groups, strict=True):
        parts.append(_group(group, x, step, vertical))
    return _svg(parts, title, f"{title}: {', '.join(f'{g.name} {_number(g.estimate)}' for g in groups)}.")


def _references(references: Sequence[tuple[str, float]], vertical: Axis) -> str:
    parts, floor = [], TOP - 4.0
    for name, value in sorted(references, key=lambda pair: -pair[1]):
        y, right = vertical(value), WIDTH - RIGHT
        floor = max(y + 4, floor + LABEL_HEIGHT)
        parts.append(f'<line class="reference" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{right + 6}" y="{floor:.1f}">{escape(name)} {_number(value)}</text>')
    return "".join(parts)


def _group(group: Group, x: float, step: float, vertical: Axis) -> str:
    spread = min(0.3 * step, 34)
    parts = []
    for index, value in enumerate(v for v in group.values if math.isfinite(v)):
        offset = spread * (((index * 0.618034) % 1) - 0.5) * 2  # evenly spread, the same in every drawing
        parts.append(f'<circle class="point" cx="{x + offset:.1f}" cy="{vertical(value):.1f}" r="2.2"/>')
    if math.isfinite(group.estimate):
        low, high = vertical(group.low), vertical(group.high)
        caps = f"M{x - 7:.1f} {low:.1f}h14M{x - 7:.1f} {high:.1f}h14"
        parts.append(f'<path class="curve" d="M{x:.1f} {low:.1f}V{high:.1f}{caps}"/>')
        words = f"{group.name}: {_number(group.estimate)}, interval {_number(group.low)} to {_number(group.high)}"
        shape = marker(group.position, x, vertical(group.estimate), 6)
        parts.append(f'<path class="mark" d="{shape}"><title>{escape(words)}</title></path>')
    return f'<g class="s{group.position % len(DASHES)}">{"".join(parts)}</g>'


def scatter(groups: Sequence[tuple[str, int, Sequence[Point]]], *, title: str, x_label: str, y_label: str) -> str:
    """Points (x, y) of each objective on equal axes, with the line on which x equals y."""
    numbers = [v for _, _, points in groups for point in points for v in point if math.isfinite(v)]
    if not numbers:
        return ""
    margin = 0.06 * (max(numbers) - min(numbers)) or 0.5
    low, high = min(numbers) - margin, max(numbers) + margin
    vertical = Axis(low, high, "linear", HEIGHT - BOTTOM, TOP)
    horizontal = Axis(low, high, "linear", LEFT, WIDTH - RIGHT)
    ticks = [(horizontal(value), _number(value)) for value in _ticks(horizontal)]
    parts = [_frame(title, x_label, y_label, vertical, ticks)]
    parts.append(f'<path class="reference" d="M{LEFT} {HEIGHT - BOTTOM}L{WIDTH - RIGHT} {TOP}"/>')
    for name, position, points in groups:
        marks = "".join(
            f'<path class="mark" d="{marker(position, horizontal(x), vertical(y), 3.2)}"/>'
            for x, y in points
            if math.isfinite(x) and math.isfinite(y)
        )
        parts.append(f'<g class="s{position % len(DASHES)}">{marks}<title>{escape(name)}</title></g>')
    names = [Series(name, position, [0.0], [points[-1][1]]) for name, position, points in groups if points]
    parts.append(_labels([one for one in names if math.isfinite(one.y[0])], vertical))
    return _svg(parts, title, f"{title}: {y_label} against {x_label}.")


def _svg(parts: Sequence[str], title: str, description: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">'
        f"<desc>{escape(description)}</desc>{''.join(parts)}</svg>"
    )
