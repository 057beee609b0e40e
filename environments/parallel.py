"""Recording with several processes; their number changes neither the episodes nor their order."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from dreamset.core.errors import UserError
from dreamset.environments.recorder import record_episodes, record_numbered
from dreamset.environments.rollouts import PolicyFactory, RecordedEpisode
from dreamset.environments.wrappers import Environment

MakeEnvironment = Callable[[], Environment]


def record(
    make: MakeEnvironment, make_policy: PolicyFactory, *, episodes: int, seed: int, workers: int = 1
) -> Generator[RecordedEpisode, None, None]:
    """Records episodes 0, 1, ... with ``workers`` processes, each with its own environment; 1 uses this process.

    Worker w of W records the episodes w, w + W, ... and waits until each episode is taken, so that one episode per
    worker is in memory. The processes are spawned: ``make`` and ``make_policy`` must be importable, and a calling
    script needs ``if __name__ == "__main__"``. The processes end with the iterator, also if it is closed early.

    Raises:
        UserError: if ``workers`` is below 1, or a worker fails or dies.
    """
    if workers < 1:
        raise UserError(f"dataset.recording.workers is {workers}; allowed: 1 (this process) or more")
    if workers == 1:
        return _record_here(make, make_policy, episodes=episodes, seed=seed)
    return _record_apart(make, make_policy, episodes=episodes, seed=seed, workers=min(workers, episodes))


def _record_here(
    make: MakeEnvironment, make_policy: PolicyFactory, *, episodes: int, seed: int
) -> Generator[RecordedEpisode, None, None]:
    environment = make()
    try:
        yield from record_episodes(environment, make_policy, episodes=episodes, seed=seed)
    finally:
        environment.close()


def _record_apart(
    make: MakeEnvironment, make_policy: PolicyFactory, *, episodes: int, seed: int, workers: int
) -> Generator[RecordedEpisode, None, None]:
    spawn = multiprocessing.get_context("spawn")
    started: list[tuple[BaseProcess, Connection]] = []
    try:
        for first in range(workers):
            receiver, sender = spawn.Pipe(duplex=False)
            numbers = range(first, episodes, workers)
            worker = spawn.Process(target=_work, args=(sender, make, make_policy, seed, numbers), daemon=True)
            with _interrupts_held():
                worker.start()
            sender.close()  # only the worker holds the other end, so that its death closes the pipe
            started.append((worker, receiver))
        for number in range(episodes):
            yield _take(*started[number % workers], number)
    finally:
        for process, receiver in started:
            receiver.close()
            process.terminate()
        for process, _ in started:
            process.join()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Blocks Ctrl-C in processes started within; the parent ends them."""
    resource_tracker.ensure_running()  # otherwise the first start runs it and unblocks interrupts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(sender: Connection, make: MakeEnvironment, make_policy: PolicyFactory, seed: int, numbers: range) -> None:
    """Runs a worker: sends episodes, or the first error."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(BrokenPipeError):  # the parent is gone
        try:
            environment = make()
            for number in numbers:
                sender.send(record_numbered(environment, make_policy, seed=seed, number=number))
        except UserError as error:
            sender.send(error)
        except BrokenPipeError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            sender.send(UserError(f"{reason}; run with dataset.recording.workers=1 for the traceback"))


def _end_with_parent() -> None:
    """Ends this process if the parent is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _take(worker: BaseProcess, receiver: Connection, number: int) -> RecordedEpisode:
    try:
        received = receiver.recv()
    except (EOFError, OSError):  # before or within a message
        worker.join()
        raise UserError(
            f"recording: the worker of episode {number} died with exit code {worker.exitcode} (-9: killed, usually for "
            f"lack of memory); record with fewer workers, or with dataset.recording.workers=1 for the traceback"
        ) from None
    if isinstance(received, UserError):
        raise UserError(f"recording: the worker of episode {number} failed: {received}")
    assert isinstance(received, RecordedEpisode)
    return received
