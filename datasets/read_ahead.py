"""Reads a few episodes ahead in threads: decodes one while another is checked and written."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from dreamset.core.errors import UserError

T = TypeVar("T")


def read_ahead(read: Callable[[int], T], count: int, *, workers: int) -> Generator[T | UserError, None, None]:
    """Yields ``read(0)`` to ``read(count - 1)`` in order.

    If the caller keeps no result, at most ``workers + 1`` results are in memory. A ``UserError`` is yielded as a value,
    so that the other episodes can still be read; any other error is raised. Closing the generator waits for running
    reads.
    """
    if workers < 1:
        raise UserError(f"workers is {workers}; allowed: 1 or more; fix the ingest settings")
    with ThreadPoolExecutor(workers, thread_name_prefix="read") as pool:
        numbers = iter(range(count))
        waiting = deque(pool.submit(read, number) for number in islice(numbers, workers))
        while waiting:
            result = _outcome(waiting.popleft())
            waiting.extend(pool.submit(read, number) for number in islice(numbers, 1))
            yield result


def _outcome(future: Future[T]) -> T | UserError:
    try:
        return future.result()
    except UserError as error:
        return error
