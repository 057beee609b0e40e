"""Progress bars."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


@contextmanager
def counter(*, description: str, total: int | None = None, delay: float = 0) -> Iterator[Callable[[], None]]:
    """A progress bar, shown after ``delay`` seconds. Each call of the yielded function adds one."""
    with progress(range(0), description=description, total=total, delay=delay) as bar:

        def count() -> None:
            bar.update()

        yield count


@contextmanager
def byte_counter(*, description: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar of bytes. The yielded function takes the bytes so far and the total, or None if it is unknown."""
    with tqdm(desc=description, unit="B", unit_scale=True, unit_divisor=1024, delay=0.1, leave=True) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def progress(
    items: Iterable[T], *, description: str, total: int | None = None, initial: int = 0, delay: float = 0
) -> "tqdm[T]":
    """A progress bar with speed and remaining time. Outside of a terminal it writes a line every ten seconds."""
    interactive = sys.stderr.isatty()
    return tqdm(
        items,
        desc=description,
        total=total,
        initial=initial,
        delay=delay,
        mininterval=0.2 if interactive else 10.0,
        maxinterval=0.2 if interactive else 30.0,
        dynamic_ncols=interactive,
    )
