"""Checkpoints: an interrupted training resumes, but only with the same settings and inputs.

Checkpoints lie outside DVC's outputs, because DVC deletes outputs when a stage starts. The folder is named after a
digest of settings and inputs, so a training with other settings starts from scratch.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256, replaced_folder, write_text

log = logging.getLogger(__name__)

SECONDS = 30.0  # least time between two checkpoints
KEPT = 2  # checkpoints: if the last one is damaged, the one before it is used
LONGEST_REASON = 200  # characters
STATE, CHECKSUM = "state.pt", "state.sha256"
ONLINE = "online"  # beside the states: episodes that a fine-tuning has collected


class Resumable(Protocol):
    """Anything whose state a checkpoint can restore."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over the state."""


class Checkpoint:
    """The last two states of a training: numbered folders, each with a state and its checksum.

    A state is written at most every ``SECONDS``; if writing takes N > 1 seconds, at most every N ``SECONDS``. The
    interval changes no result, so it is no setting: another value would rerun the stage. ``remove`` follows success.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written, self._cost = time.monotonic(), 0.0
        self._failing = False

    def load(self) -> dict[str, Any] | None:
        """The last complete state, or None. A damaged state is skipped with a warning, and removed.

        Raises:
            UserError: if there are states, but all of them are damaged, or the intact one is of another device.
        """
        for unfinished in self.folder.glob(".*.new-*"):  # of a process that was killed while it wrote
            shutil.rmtree(unfinished, ignore_errors=True)
        damaged: dict[Path, str] = {}
        for path in self._states():
            finding = self._damage(path)
            if finding is None:
                for wrong, reason in damaged.items():
                    log.warning("%s is damaged (%s); the training resumes from %s", wrong, reason, path)
                    shutil.rmtree(wrong.parent, ignore_errors=True)
                return self._read(path)
            damaged[path] = finding
        if damaged:
            wrong, reason = next(iter(damaged.items()))
            raise UserError(f"{wrong} is damaged ({reason}); delete the folder {self.folder} to train from scratch")
        return None

    def _damage(self, path: Path) -> str | None:
        """What is wrong with the file; None if it is as written, or of an earlier release, which wrote no checksum."""
        if path.parent == self.folder:
            return None
        try:
            intact = file_sha256(path) == path.with_name(CHECKSUM).read_text()
        except OSError as error:
            return str(error.strerror)
        return None if intact else "it differs from its checksum"

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True)
        except Exception as error:  # of a file without a checksum in many ways, of another file if a GPU is missing
            raise UserError(
                f"{path} cannot be loaded ({_one_line(error)}); use the device on which the training began, or delete "
                f"the folder {self.folder} to train from scratch"
            ) from error
        return state

    def restore(self, training: Resumable) -> bool:
        """Loads the last complete state into ``training``; returns whether there is one."""
        state = self.load()
        if state is not None:
            training.load_state_dict(state)
        return state is not None

    def save_if_due(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Writes the state if the last write is long enough ago."""
        if time.monotonic() - self._written >= SECONDS * max(1.0, self._cost):
            self.save(state())

    def save(self, state: Mapping[str, Any]) -> None:
        """Writes the state now. If that fails, a warning says so, the earlier states stay, and the training goes on."""
        began = time.monotonic()
        try:
            self._write(state)
            self._failing = False
        except (OSError, RuntimeError) as error:  # PyTorch reports a full disk as a RuntimeError
            if not self._failing:  # one warning, not one per attempt
                log.warning(
                    "%s: no checkpoint can be written (%s); the training goes on, but an interruption would lose the "
                    "updates since the last one; free space",
                    self.folder,
                    _one_line(error),
                )
            self._failing = True
        self._written = time.monotonic()
        self._cost = self._written - began

    def remove(self) -> None:
        """Removes the checkpoints, once the outputs of the training are written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, state: Mapping[str, Any]) -> None:
        numbers = self._numbers()
        with replaced_folder(self.folder / str(max(numbers, default=0) + 1)) as folder:
            torch.save(dict(state), folder / STATE)
            write_text(folder / CHECKSUM, file_sha256(folder / STATE))
        for number in self._numbers()[:-KEPT]:
            shutil.rmtree(self.folder / str(number), ignore_errors=True)

    def _states(self) -> Iterator[Path]:
        """Files of states, the last one first. Earlier releases wrote one file, without a checksum."""
        yield from (self.folder / str(number) / STATE for number in reversed(self._numbers()))
        if (self.folder / STATE).exists():
            yield self.folder / STATE

    def _numbers(self) -> list[int]:
        return sorted(int(path.name) for path in self.folder.glob("*") if path.name.isdigit())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:LONGEST_REASON]
