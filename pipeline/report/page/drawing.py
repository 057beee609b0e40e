"""What all charts share: axes, ticks, frames, markers and the text that appears at a value."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from dreamset.pipeline.report.page.html import escape
from dreamset.pipeline.report.page.marks import color_class, marker
from dreamset.pipeline.report.words import shortened

WIDTH = 580
LABEL_HEIGHT = 15  # least distance of two labels

Scale = Literal["linear", "log"]
Point = tuple[float, float]
Stop = tuple[float, float | None, str]  # x, y or None for all y, and the text that appears there, in lines


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

    def at(self, value: float) -> float:
        """The pixel of a value, or of the nearest end of the axis."""
        return self(self.clip(value))


def _scaled(scale: Scale, value: float) -> float:
    return value if scale == "linear" else math.log10(max(value, 1e-300))


@dataclass(frozen=True, slots=True)
class Frame:
    """The place of the axes in a drawing, in pixels."""

    height: int = 300
    left: int = 58
    right: int = WIDTH - 204  # what follows is room for names
    top: int = 30
    bottom: int = 44

    @property
    def floor(self) -> int:
        """The lower end of the axes."""
        return self.height - self.bottom

    def horizontal(self, low: float, high: float) -> Axis:
        """A linear axis from left to right."""
        return Axis(low, high, "linear", self.left, self.right)

    def vertical(self, low: float, high: float, scale: Scale = "linear") -> Axis:
        """An axis from the floor up."""
        return Axis(low, high, scale, self.floor, self.top)

    def grid(self, title: str, x_label: str, y_label: str, x: Sequence[tuple[float, str]], vertical: Axis) -> str:
        """Title, axes with ticks and labels, and horizontal grid lines.

        Args:
            title: above the axes.
            x_label: below them.
            y_label: beside them.
            x: pixels and texts of the ticks.
            vertical: the vertical axis.
        """
        parts = [_text("title", self.left, 16, title, "start")]
        for value in ticks(vertical):
            y = vertical(value)
            parts.append(f'<line class="gridline" x1="{self.left}" x2="{self.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(_text("tick", self.left - 6, y + 4, short_number(value), "end"))
        parts += [self.ticks_below(x, x_label), f'<path class="axis" d="M{self.left} {self.top}V{self.floor}"/>']
        parts.append(
            f'<text class="tick" transform="translate(13 {(self.floor + self.top) / 2}) rotate(-90)" '
            f'text-anchor="middle">{escape(y_label)}</text>'
        )
        return "".join(parts)

    def ticks_below(self, x: Sequence[tuple[float, str]], x_label: str) -> str:
        """The lower axis with its ticks and its label. Ticks too near to the one before have no text."""
        parts, last = [], -math.inf
        for place, text in x:
            parts.append(
                f'<line class="axis" x1="{place:.1f}" x2="{place:.1f}" y1="{self.floor}" y2="{self.floor + 4}"/>'
            )
            if place - last >= 7 * len(text) + 4:
                parts.append(_text("tick", place, self.floor + 16, text, "middle"))
                last = place
        parts.append(f'<path class="axis" d="M{self.left} {self.floor}H{self.right}"/>')
        parts.append(_text("tick", (self.left + self.right) / 2, self.height - 8, x_label, "middle"))
        return "".join(parts)


def _text(kind: str, x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def ticks(axis: Axis) -> list[float]:
    """Round values on an axis: four to seven, or fewer on a logarithmic axis of many decades."""
    if axis.scale == "log":
        first, last = math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high))
        steps = (1, 2, 5) if last - first <= 2 else (1,)
        values = [t for e in range(first, last + 1) for s in steps if axis.low <= (t := s * 10.0**e) <= axis.high]
        if len(values) > 1:
            return values
    raw = (axis.high - axis.low) / 5
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * s for s in (1, 2, 2.5, 5, 10) if size * s >= raw)
    start = math.ceil(axis.low / step - 1e-9)
    return [k * step for k in range(start, start + 12) if k * step <= axis.high + 1e-9 * step]


def value_text(value: float) -> str:
    """A value with four digits."""
    return f"{value:.4g}"


def short_number(value: float) -> str:
    """The value of a tick, in few characters."""
    if value and (abs(value) < 0.001 or abs(value) >= 100_000):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return value_text(value)


def name_labels(names: Sequence[tuple[str, int, float]], frame: Frame) -> str:
    """Names of series right of the axes with their markers, moved apart where they would overlap.

    Args:
        names: name, position in the comparison, and the pixel of each label.
        frame: of the axes.
    """
    ordered = sorted(names, key=lambda one: one[2])
    places = spread([y for _, _, y in ordered], LABEL_HEIGHT, frame.top, frame.floor + 12)
    parts = []
    for (name, position, _), y in zip(ordered, places, strict=True):
        shape = marker(position, frame.right + 14, y, 3.5)
        text = _text("series", frame.right + 22, y + 4, shortened(name), "start")
        parts.append(f'<g class="{color_class(position)}"><path class="mark" d="{shape}"/>{text}</g>')
    return "".join(parts)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending places at least ``gap`` apart, near the given ones and between ``low`` and ``high`` where they fit."""
    result: list[float] = []
    for place in places:
        result.append(max(place, low if not result else result[-1] + gap))
    ceiling = high
    for index in reversed(range(len(result))):
        result[index] = min(result[index], ceiling)
        ceiling = result[index] - gap
    return result


def svg(parts: Iterable[str], frame: Frame, title: str, description: str, stops: Sequence[Stop]) -> str:
    """A drawing. The script of the page shows the text of the stop nearest to the pointer, or chosen by arrow keys."""
    places = [[round(x, 1), None if y is None else round(y, 1), text] for x, y, text in sorted(stops, key=_order)]
    data = escape(json.dumps(places, separators=(",", ":"), ensure_ascii=False), quote=True)
    return (
        f'<svg viewBox="0 0 {WIDTH} {frame.height}" role="img" tabindex="0" aria-label="{escape(title, quote=True)}" '
        f'data-stops="{data}" data-axes="{frame.top},{frame.floor}"><desc>{escape(description)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def _order(stop: Stop) -> Point:
    return stop[0], stop[1] or 0
