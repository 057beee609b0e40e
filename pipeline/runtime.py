"""What every stage needs around its own work: parts built from configuration, progress."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from tqdm import tqdm

from dreamset.core.errors import UserError

T = TypeVar("T")


def build_part(node: Mapping[str, Any], *arguments: object, **named: object) -> Any:
    """What ``_target_`` names, with nested parts built first.

    Raises:
        UserError: if the target or one of its arguments is wrong, or if the part itself refuses.
    """
    try:
        return instantiate(dict(node), *arguments, _convert_="all", **named)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise UserError(f"configuration: {' '.join(str(error).split())}") from error


@contextmanager
def counter(*, description: str, total: int | None = None) -> Iterator[Callable[[], None]]:
    """A bar that is moved by calling what it yields."""
    with progress(range(0), description=description, total=total) as bar:

        def count() -> None:
            bar.update()

        yield count


@contextmanager
def byte_counter(*, description: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar of bytes that appears with the first call of what it yields: bytes done, bytes in all if known."""
    with tqdm(desc=description, unit="B", unit_scale=True, unit_divisor=1024, delay=0.1, leave=True) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def progress(items: Iterable[T], *, description: str, total: int | None = None, initial: int = 0) -> "tqdm[T]":
    """A bar with speed and time left; one line every ten seconds where nobody watches."""
    watched = sys.stderr.isatty()
    return tqdm(
        items,
        desc=description,
        total=total,
        initial=initial,
        mininterval=0.2 if watched else 10.0,
        maxinterval=0.2 if watched else 30.0,
        dynamic_ncols=watched,
    )
