"""Reading a few episodes ahead, in threads: decoding one while another is checked and written."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from dreamset.core.errors import UserError

T = TypeVar("T")


def read_ahead(read: Callable[[int], T], count: int, *, workers: int) -> Generator[T | UserError, None, None]:
    """``read(0)`` to ``read(count - 1)`` in order; at most ``workers + 1`` results are in memory at a time.

    So it is if the caller keeps none. What a person did wrong comes as a value, so that the others can still be read;
    any other error is raised. Closing it waits for what has begun.
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
