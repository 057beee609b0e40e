"""Progress of readers while they look through many files, which they do before the first episode is read."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_ON_ITEM: ContextVar[Callable[[], None] | None] = ContextVar("on_item", default=None)


@contextmanager
def counting(on_item: Callable[[], None]) -> Iterator[None]:
    """Calls ``on_item`` for every item that readers look at within the block."""
    token = _ON_ITEM.set(on_item)
    try:
        yield
    finally:
        _ON_ITEM.reset(token)


def counted(items: Iterable[T]) -> Iterator[T]:
    """The items, each of which counts as progress."""
    on_item = _ON_ITEM.get()
    for item in items:
        yield item
        if on_item is not None:
            on_item()
