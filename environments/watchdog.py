"""Interrupts calls of an environment that do not return."""

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

INTERRUPTION = signal.SIGUSR2  # SIGALRM is left to environments and test runners
GRACE_SECONDS = 10.0  # from the first interruption to the end of the process

STDERR = 2  # the stream of the process, whatever sys.stderr is


class Expired(BaseException):
    """Raised in a call that takes too long. Handlers of ``Exception`` in the called code do not catch it."""


@dataclass(frozen=True, slots=True)
class _Call:
    deadline: float
    last_words: Callable[[], str]


class Watchdog:
    """Watches calls of the main thread from a thread of its own, which starts with the first call.

    A call that takes too long is interrupted by a signal, which ends Python code and waiting system calls. Compiled
    code does not see the signal. If it does not return soon after, the process prints one line and the stack, and ends.
    That needs code that releases Python's lock, as simulators and drivers do; code that holds the lock goes on.
    """

    def __init__(self, grace: float = GRACE_SECONDS) -> None:
        self.grace = grace
        self._call: _Call | None = None
        self._started = False

    @contextmanager
    def watch(self, seconds: float, last_words: Callable[[], str]) -> Iterator[None]:
        """Interrupts the block after ``seconds``. Threads other than the main one are not watched.

        Args:
            seconds: until the interruption.
            last_words: the line to print if the process must be ended.

        Raises:
            Expired: within the block.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._start()
        outer = self._call
        self._call = _Call(time.monotonic() + seconds, last_words)
        try:
            yield
        finally:
            self._call = outer

    def _start(self) -> None:
        if not self._started:
            self._started = True
            signal.signal(INTERRUPTION, self._interrupt)
            threading.Thread(target=self._run, daemon=True, name="watchdog").start()

    def _run(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        while True:
            call = self._call
            late = -1.0 if call is None else time.monotonic() - call.deadline
            if call is not None and late > self.grace:
                _end(call.last_words())
            if late > 0:
                signal.pthread_kill(main, INTERRUPTION)
            time.sleep(min(max(-late, 0.05), 1.0))

    def _interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        call = self._call
        if call is not None and time.monotonic() > call.deadline:
            raise Expired


def _end(last_words: str) -> None:
    with suppress(OSError):
        os.write(STDERR, f"\ndreamset: error: {last_words}\n".encode())
        faulthandler.dump_traceback(STDERR)
    os._exit(2)


WATCHDOG = Watchdog()
