"""Checkpoints: an interrupted training resumes, but only with the same settings and inputs.

Checkpoints lie outside DVC's outputs, because DVC deletes outputs when a stage starts. The folder is named after a
digest of settings and inputs, so a training with other settings starts from scratch.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from dreamset.core.files import save_with

SECONDS = 30.0


class Resumable(Protocol):
    """Anything whose state a checkpoint can restore."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over the state."""


class Checkpoint:
    """One file per training. It is written at most every ``SECONDS`` and removed on success."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.pt"
        self._written = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The last complete state, or None."""
        if not self.path.exists():
            return None
        state: dict[str, Any] = torch.load(self.path, weights_only=True)
        return state

    def restore(self, training: Resumable) -> bool:
        """Loads the last complete state into ``training``; returns whether there is one."""
        state = self.load()
        if state is not None:
            training.load_state_dict(state)
        return state is not None

    def save_if_due(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Writes the state if the last write is at least ``SECONDS`` ago."""
        if time.monotonic() - self._written >= SECONDS:
            self.save(state())

    def save(self, state: Mapping[str, Any]) -> None:
        """Writes the state now."""
        save_with(self.path, lambda path: torch.save(dict(state), path))
        self._written = time.monotonic()

    def remove(self) -> None:
        """Removes the checkpoint, once the outputs of the training are written."""
        shutil.rmtree(self.path.parent, ignore_errors=True)
