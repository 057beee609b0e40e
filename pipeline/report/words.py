"""Figures and names as text."""

import math


def number(value: float | None, digits: int) -> str:
    """A figure with a fixed number of decimals; ``-`` if it was not measured."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    """A duration in words, with two units at most: ``42 s``, ``1 min 44 s``, ``2 h 5 min``."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def shortened(name: str, longest: int = 22) -> str:
    """A name that fits beside axes."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
