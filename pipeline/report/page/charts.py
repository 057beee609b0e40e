"""Charts as inline SVG, whose colours follow the reader's light or dark scheme.

Series differ in colour, marker and line, and carry their names beside their last point.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dreamset.pipeline.report.page import drawing, marks
from dreamset.pipeline.report.page.drawing import (
    LABEL_HEIGHT,
    WIDTH,
    Axis,
    Frame,
    Point,
    Scale,
    Stop,
    short_number,
    value_text,
)
from dreamset.pipeline.report.page.html import escape
from dreamset.pipeline.report.words import shortened

Places = Literal["linear", "logarithmic"]  # of the values along x; the logarithmic ones are those of 1 + x


@dataclass(frozen=True, slots=True)
class Series:
    """A curve with a band."""

    name: str
    position: int  # of the objective in the comparison: its colour, marker and line
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    scale: Scale = "linear",
    limits: tuple[float | None, float | None] = (None, None),
    x_places: Places = "linear",
    x_ticks: Sequence[float] | None = None,
    guide: Series | None = None,
) -> str:
    """Curves with bands, markers and direct labels; empty without any finite value.

    Args:
        series: the curves; values that are not finite, or not positive on a logarithmic axis, are left out.
        title: above the chart.
        x_label: below it.
        y_label: of the vertical axis.
        scale: of the vertical axis.
        limits: of the vertical axis. A value beyond them is drawn at the border as an arrow.
        x_places: how the values along x are spaced.
        x_ticks: values along x that are marked; None: round values.
        guide: a line in grey with a band, with which the curves are compared; the caption explains it.
    """
    series = [cleaned for one in series if (cleaned := _cleaned(one, scale)).x]
    if not series:
        return ""
    place = (lambda x: math.log1p(x)) if x_places == "logarithmic" else float
    frame = Frame(height=max(300, 74 + LABEL_HEIGHT * len(series)))
    vertical = _vertical(series, scale, limits, frame)
    xs = [place(x) for one in [*series, *([guide] if guide else [])] for x in one.x]
    horizontal = frame.horizontal(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1)

    def at(x: float) -> float:
        return horizontal(place(x))

    marked = [(at(x), short_number(x)) for x in (x_ticks or drawing.ticks(horizontal))]
    parts = [frame.grid(title, x_label, y_label, marked, vertical)]
    parts += [_guide(guide, at, vertical)] if guide else []
    parts += [_curve(one, at, vertical) for one in series]
    parts.append(drawing.name_labels([(one.name, one.position, vertical.at(one.y[-1])) for one in series], frame))
    described = f"{title}. {y_label} against {x_label}: {', '.join(one.name for one in series)}."
    return drawing.svg(parts, frame, title, described, _stops(series, at, x_label))


def _cleaned(series: Series, scale: Scale) -> Series:
    def usable(value: float) -> bool:
        return math.isfinite(value) and (scale == "linear" or value > 0)

    keep = [index for index, y in enumerate(series.y) if usable(y)]

    def kept(values: Sequence[float] | None) -> list[float] | None:
        if values is None:
            return None
        return [values[i] if usable(values[i]) else series.y[i] for i in keep]

    x, y = [series.x[i] for i in keep], [series.y[i] for i in keep]
    return replace(series, x=x, y=y, low=kept(series.low), high=kept(series.high))


def _vertical(series: Sequence[Series], scale: Scale, limits: tuple[float | None, float | None], frame: Frame) -> Axis:
    values = [v for one in series for part in (one.y, one.low or (), one.high or ()) for v in part]
    low, high = min(values), max(values)
    if scale == "linear":
        margin = 0.06 * (high - low) or 0.5
        low, high = low - margin, high + margin
    else:
        low, high = low / 1.25, high * 1.25
    low = low if limits[0] is None else limits[0]
    high = high if limits[1] is None else limits[1]
    return frame.vertical(low, high if high > low else low + 1, scale)


def _curve(series: Series, at: Callable[[float], float], vertical: Axis) -> str:
    points = [(at(x), vertical.at(y)) for x, y in zip(series.x, series.y, strict=True)]
    parts = [_band(series, at, vertical)] if len(points) > 1 else []
    dashes = marks.dashes(series.position)
    parts.append(f'<path class="curve" stroke-dasharray="{dashes}" d="M{_path(points)}"/>')
    sparse = len(points) <= 12
    for index, ((x, y), value) in enumerate(zip(points, series.y, strict=True)):
        outside = value != vertical.clip(value)
        if sparse or outside or index == len(points) - 1:
            up = value > vertical.high
            shape = marks.arrow(x, y, up=up) if outside else marks.marker(series.position, x, y)
            parts.append(f'<path class="mark" d="{shape}"/>')
    return f'<g class="{marks.color_class(series.position)}">{"".join(parts)}</g>'


def _band(series: Series, at: Callable[[float], float], vertical: Axis) -> str:
    if series.low is None or series.high is None or list(series.low) == list(series.high):
        return ""
    edge = [(at(x), vertical.at(v)) for x, v in zip(series.x, series.high, strict=True)]
    back = [(at(x), vertical.at(v)) for x, v in zip(series.x, series.low, strict=True)]
    return f'<path class="band" d="M{_path([*edge, *reversed(back)])}Z"/>'


def _path(points: Sequence[Point]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _guide(guide: Series, at: Callable[[float], float], vertical: Axis) -> str:
    points = [(at(x), vertical.at(y)) for x, y in zip(guide.x, guide.y, strict=True)]
    return f'<g class="guide">{_band(guide, at, vertical)}<path class="reference" d="M{_path(points)}"/></g>'


def _stops(series: Sequence[Series], at: Callable[[float], float], x_label: str) -> list[Stop]:
    """One stop for each x, with the values of all series there."""
    stops: list[Stop] = []
    for x in sorted({x for one in series for x in one.x}):
        lines = [f"{one.name}: {_value(one, list(one.x).index(x))}" for one in series if x in one.x]
        stops.append((at(x), None, "\n".join([f"{x_label}: {value_text(x)}", *lines])))
    return stops


def _value(series: Series, index: int) -> str:
    low, high = (series.y[index] if part is None else part[index] for part in (series.low, series.high))
    bounds = f" ({value_text(low)} to {value_text(high)})" if low != high else ""
    return f"{value_text(series.y[index])}{bounds}"


@dataclass(frozen=True, slots=True)
class Group:
    """The values of one objective, with an estimate and its interval."""

    name: str
    position: int
    values: Sequence[float]
    estimate: float
    low: float
    high: float

    @property
    def words(self) -> str:
        """The estimate with its interval."""
        if not math.isfinite(self.estimate):
            return "not measured"
        return f"{self.estimate:.1f} ({self.low:.1f} to {self.high:.1f})"


def dot_chart(groups: Sequence[Group], references: Sequence[tuple[str, float]], *, title: str, x_label: str) -> str:
    """A row for each group: every value as a dot, and the estimate with its interval. References are vertical lines."""
    numbers = [v for g in groups for v in (*g.values, g.low, g.high, g.estimate) if math.isfinite(v)]
    if not numbers:
        return ""
    numbers += [value for _, value in references]
    margin = 0.06 * (max(numbers) - min(numbers)) or 0.5
    step = max(26.0, min(52.0, 200 / len(groups)))
    axis = Frame(left=182, right=WIDTH - 132).horizontal(min(numbers) - margin, max(numbers) + margin)
    above, levels = _references_above(references, axis)
    top = 30 + 13 * levels
    frame = Frame(height=int(top + step * len(groups) + 44), left=182, right=WIDTH - 132, top=top)
    parts = [f'<text class="title" x="8" y="16">{escape(title)}</text>', above]
    parts += [_upright(axis(value), frame) for _, value in references]
    parts.append(frame.ticks_below([(axis(value), short_number(value)) for value in drawing.ticks(axis)], x_label))
    stops: list[Stop] = []
    for index, group in enumerate(groups):
        y = top + step * (index + 0.5)
        parts.append(_row(group, y, step, axis))
        if math.isfinite(group.estimate):
            stops.append((axis(group.estimate), y, f"{group.name}\n{group.words}\n{len(group.values)} episodes"))
    described = f"{title}: {', '.join(f'{group.name} {group.words}' for group in groups)}."
    return drawing.svg(parts, frame, title, described, stops)


def _references_above(references: Sequence[tuple[str, float]], axis: Axis) -> tuple[str, int]:
    """The names of references above their lines, on as many levels as needed, and the number of levels."""
    parts, ends = [], list[float]()  # the right end of each level
    for name, value in sorted(references, key=lambda pair: pair[1]):
        text = f"{name} {short_number(value)}"
        width = 6.2 * len(text)
        x = min(max(axis(value), axis.first - 40 + width / 2), WIDTH - 4 - width / 2)
        level = next((level for level, end in enumerate(ends) if end < x - width / 2 - 6), len(ends))
        ends[level : level + 1] = [x + width / 2]
        parts.append(f'<text class="tick" x="{x:.1f}" y="{36 + 13 * level}" text-anchor="middle">{escape(text)}</text>')
    return "".join(parts), len(ends)


def _upright(x: float, frame: Frame) -> str:
    return f'<line class="reference" x1="{x:.1f}" x2="{x:.1f}" y1="{frame.top}" y2="{frame.floor}"/>'


def _row(group: Group, y: float, step: float, axis: Axis) -> str:
    name = f'<text class="series" x="{axis.first - 8}" y="{y + 4:.1f}" text-anchor="end">'
    parts = [f"{name}{escape(shortened(group.name))}</text>"]
    for index, value in enumerate(v for v in group.values if math.isfinite(v)):
        offset = 0.34 * step * (((index * 0.618034) % 1) - 0.5) * 2  # evenly spread, the same in every drawing
        parts.append(f'<circle class="point" cx="{axis(value):.1f}" cy="{y + offset:.1f}" r="2.2"/>')
    if math.isfinite(group.estimate):
        low, high = axis(group.low), axis(group.high)
        caps = f"M{low:.1f} {y - 6:.1f}v12M{high:.1f} {y - 6:.1f}v12"
        parts.append(f'<path class="curve" d="M{low:.1f} {y:.1f}H{high:.1f}{caps}"/>')
        parts.append(f'<path class="mark" d="{marks.marker(group.position, axis(group.estimate), y, 6)}"/>')
    parts.append(f'<text class="tick" x="{axis.last + 8}" y="{y + 4:.1f}">{escape(group.words)}</text>')
    return f'<g class="{marks.color_class(group.position)}">{"".join(parts)}</g>'


def scatter(groups: Sequence[tuple[str, int, Sequence[Point]]], *, title: str, x_label: str, y_label: str) -> str:
    """Points (x, y) of each objective on equal axes, with the line on which x equals y."""
    finite = [
        (name, position, [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)])
        for name, position, points in groups
    ]
    numbers = [v for _, _, points in finite for point in points for v in point]
    if not numbers:
        return ""
    margin = 0.06 * (max(numbers) - min(numbers)) or 0.5
    low, high = min(numbers) - margin, max(numbers) + margin
    frame = Frame(height=max(340, 74 + LABEL_HEIGHT * len(groups)))
    horizontal, vertical = frame.horizontal(low, high), frame.vertical(low, high)
    marked = [(horizontal(value), short_number(value)) for value in drawing.ticks(horizontal)]
    parts = [frame.grid(title, x_label, y_label, marked, vertical)]
    parts.append(f'<path class="reference" d="M{frame.left} {frame.floor}L{frame.right} {frame.top}"/>')
    stops: list[Stop] = []
    for name, position, points in finite:
        places = [(horizontal(x), vertical(y)) for x, y in points]
        shapes = "".join(f'<path class="mark" d="{marks.marker(position, *place, 3.2)}"/>' for place in places)
        parts.append(f'<g class="{marks.color_class(position)}">{shapes}</g>')
        for place, (x, y) in zip(places, points, strict=True):
            stops.append((*place, f"{name}\n{x_label} {value_text(x)}\n{y_label} {value_text(y)}"))
    names = [(name, position, float(frame.top)) for name, position, points in finite if points]
    parts.append(drawing.name_labels(names, frame))
    return drawing.svg(parts, frame, title, f"{title}: {y_label} against {x_label}.", stops)
