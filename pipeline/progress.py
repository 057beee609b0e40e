"""Progress of long loops: a bar in a terminal, whole lines in a log file."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

from dreamset.pipeline.report.metrics import label, metric

T = TypeVar("T")
QUIET = "DREAMSET_QUIET"  # environment variable: no announcements and no progress, only results and warnings
BAR = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, {remaining} left, {rate_fmt}{postfix}"
LINE = "{desc}: {n_fmt} of {total_fmt}{unit}s ({percentage:.0f}%), {remaining} left, {rate_fmt}{postfix}"
WITHOUT_TOTAL = "{desc}: {n_fmt}{unit}s, {elapsed} so far, {rate_fmt}{postfix}"
LOG_SECONDS = 10.0  # between two lines of a log file
DRAW_SECONDS = 0.2  # between two drawings in a terminal: five per second cost a training nothing

_PLACE: ContextVar[str] = ContextVar("place", default="")


def quiet() -> bool:
    """Whether progress is not shown: ``DREAMSET_QUIET`` is set to anything but 0."""
    return os.environ.get(QUIET, "0") not in ("", "0")


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Puts the place of the running stage in the pipeline, such as ``[3/11] ``, before all descriptions in a block."""
    token = _PLACE.set(place)
    try:
        yield
    finally:
        _PLACE.reset(token)


@contextmanager
def counter(
    *, description: str, total: int | None = None, delay: float = 0, unit: str = "episode"
) -> Iterator[Callable[[], None]]:
    """A progress bar, shown after ``delay`` seconds. Each call of the yielded function adds one."""
    with progress(range(0), description=description, total=total, delay=delay, unit=unit) as bar:

        def count() -> None:
            bar.update()

        yield count


@contextmanager
def byte_counter(*, description: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar of bytes. The yielded function takes the bytes so far and the total, or None if it is unknown."""
    with tqdm(
        desc=f"{_PLACE.get()}{description}",
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        delay=0.1,
        leave=True,
        **_display(),
    ) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def progress(
    items: Iterable[T],
    *,
    description: str,
    total: int | None = None,
    initial: int = 0,
    delay: float = 0,
    unit: str = "episode",
) -> "tqdm[T]":
    """A progress bar with speed and remaining time. Outside of a terminal it writes a line every ten seconds."""
    interactive = sys.stderr.isatty()
    with_total = BAR if interactive else LINE
    return tqdm(
        items,
        desc=f"{_PLACE.get()}{description}",
        total=total,
        initial=initial,
        delay=delay,
        unit=f" {unit}",
        bar_format=WITHOUT_TOTAL if total is None else with_total,
        **_display(),
    )


def show_figures(bar: "tqdm[T]", figures: Mapping[str, float]) -> None:
    """Puts figures at the end of a bar, each with its label, from the next time that the bar is drawn."""
    texts = [f"{label(name)} {value:.{metric(name).digits}f}" for name, value in figures.items()]
    bar.set_postfix_str("; ".join(texts), refresh=False)


class WholeLines:
    """A text stream for a bar that is written into a file: each drawing becomes a line, without control characters.

    The first drawing is left out, because nothing is done yet.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawings = 0

    def write(self, text: str) -> None:
        """Writes a drawing as a line."""
        line = text.strip()
        if not line:
            return
        self._drawings += 1
        if self._drawings > 1:
            self._stream.write(f"{line}\n")

    def flush(self) -> None:
        """Flushes the stream."""
        self._stream.flush()


def _display() -> dict[str, Any]:
    """How often and where bars are drawn."""
    if quiet():
        return {"disable": True}
    if sys.stderr.isatty():
        return {"mininterval": DRAW_SECONDS, "maxinterval": DRAW_SECONDS, "dynamic_ncols": True}
    return {"mininterval": LOG_SECONDS, "maxinterval": 3 * LOG_SECONDS, "file": WholeLines(sys.stderr)}
