"""The outbox: one log file for each run of a stage, which stays until every receiver has got all of its reports.

MLflow is a receiver of each file; the first line names the others (``writers``). A receiver has a process, a lock and
marks of its own here, so that one that fails or is slow holds back none of the others.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

MLFLOW = "mlflow"

Line = dict[str, Any]


class LogFile:
    """The reports of one run of a stage: json lines, and a mark for each receiver that has got all of them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """No other log file has it."""
        return self.path.stem

    def opening(self) -> Line | None:
        """The first line; None if it is not written yet."""
        with self.path.open(encoding="utf-8") as file:
            first = file.readline()
        return dict(json.loads(first)) if first.endswith("\n") else None

    def lines(self, start: int = 0) -> list[Line]:
        """The whole lines from a byte on, each with its length as ``bytes``."""
        with self.path.open("rb") as file:
            file.seek(start)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        return [{**json.loads(line), "bytes": len(line)} for line in whole.splitlines(keepends=True)]

    def is_ended(self) -> bool:
        """Whether its stage has ended, and so has released the lock."""
        try:
            with FileLock(self.path.with_suffix(".lock"), blocking=False):
                return True
        except Timeout:
            return False

    def writers(self) -> Mapping[str, Mapping[str, Any]]:
        """The receivers beside MLflow, each with its destination."""
        opening = self.opening()
        return {} if opening is None else opening.get("writers", {})

    def awaits(self, receiver: str) -> bool:
        """Whether a receiver has still to get some of the reports."""
        return (receiver == MLFLOW or receiver in self.writers()) and not self._mark(receiver).exists()

    def finish(self, receiver: str) -> None:
        """Marks that a receiver has got all reports. After the last receiver the file is removed."""
        self._mark(receiver).touch()
        with suppress(FileNotFoundError):  # the process of another receiver removes it at the same time
            if not any(self.awaits(other) for other in (MLFLOW, *self.writers())):
                self.path.unlink()  # before its marks, without which it would be sent again
        if not self.path.exists():
            shutil.rmtree(self.path.with_suffix(".files"), ignore_errors=True)
            for path in self.path.parent.glob(f"{self.name}.*"):
                path.unlink(missing_ok=True)

    def _mark(self, receiver: str) -> Path:
        return self.path.with_suffix(f".{receiver}-done")


def waiting(outbox: Path, receiver: str) -> Iterator[LogFile]:
    """The log files from which a receiver has still to get reports, the oldest first."""
    for path in sorted(outbox.glob("*.jsonl")):
        try:
            log_file = LogFile(path)
            if log_file.awaits(receiver):
                yield log_file
        except FileNotFoundError:  # the process of another receiver has just removed it
            continue


def receivers(outbox: Path) -> list[str]:
    """MLflow, and the writers that have still to get reports."""
    found = set[str]()
    for path in outbox.glob("*.jsonl"):
        with suppress(FileNotFoundError):
            found |= LogFile(path).writers().keys()
    return [MLFLOW, *sorted(name for name in found if any(waiting(outbox, name)))]


def lock(outbox: Path, receiver: str) -> FileLock:
    """Held by the process that sends to a receiver; not blocking."""
    return FileLock(outbox / _named("delivery", receiver, "lock"), blocking=False)


def failure(outbox: Path, receiver: str) -> Path:
    """The file that says why a receiver could not get the reports; missing if it did."""
    return outbox / _named("failure", receiver, "txt")


def _named(name: str, receiver: str, suffix: str) -> str:
    return f"{name}.{suffix}" if receiver == MLFLOW else f"{name}-{receiver}.{suffix}"
