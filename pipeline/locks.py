"""Locks on outputs, so that two processes never write the same folder at the same time."""

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dreamset.core import disk
from dreamset.core.errors import UserError
from dreamset.core.files import recover

if sys.platform != "win32":
    import fcntl


@contextmanager
def writing(outputs: Iterable[Path]) -> Iterator[None]:
    """Holds the locks of all ``outputs``, and first tidies up what a killed process left beside them.

    A lock is an advisory lock on the file ``.NAME.lock`` beside the output. The system releases it when its process
    ends, however it ends, so a lock is never stale. It does not bind processes of other machines if the file system
    does not share locks, and there are none on Windows.

    Raises:
        UserError: if another process holds a lock; it names the process.
    """
    with ExitStack() as held:
        for output in sorted(path.absolute() for path in outputs):
            held.enter_context(_locked(output))
            recover(output)
        yield


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    path = output.with_name(f".{output.name}.lock")
    with disk.naming(output.parent):
        output.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquired(path, output)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while the lock is held; whoever waits for this file finds that it is gone
        os.close(descriptor)


def _acquired(path: Path, output: Path) -> int:
    """The descriptor of the locked file."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(descriptor)
            os.close(descriptor)
            raise UserError(
                f"{output} is being written by {owner}; wait until it has finished, or stop it, then run the same "
                "command again"
            ) from None
        except OSError:  # a file system without locks
            return descriptor
        if _is_at(descriptor, path):
            _sign(descriptor)
            return descriptor
        os.close(descriptor)  # its last owner has removed it


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    owner = {"process": os.getpid(), "machine": socket.gethostname(), "since": time.time()}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(owner).encode(), 0)


def _owner(descriptor: int) -> str:
    """The process that has signed the file, in words."""
    try:
        owner = json.loads(os.pread(descriptor, 1000, 0))
        minutes = max(0.0, time.time() - float(owner["since"])) / 60
        return f"process {int(owner['process'])} on {owner['machine']}, for {minutes:.0f} min"
    except (ValueError, KeyError, TypeError):
        return "another process"
