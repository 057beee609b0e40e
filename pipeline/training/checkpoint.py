"""Checkpoints: training goes on where it was killed, and only if nothing that matters has changed.

They live outside DVC's outputs, which DVC deletes when a stage starts, in a folder named after a digest of the
resolved configuration and of the inputs; another setting never finds them.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from dreamset.core.files import save_with

SECONDS = 30.0


class Checkpoint:
    """One file per training, written at most every ``SECONDS`` and removed on success."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.pt"
        self._written = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The last complete state, or None."""
        if not self.path.exists():
            return None
        state: dict[str, Any] = torch.load(self.path, weights_only=True)
        return state

    def save_if_due(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Writes the state if enough time has passed since the last time."""
        if time.monotonic() - self._written >= SECONDS:
            self.save(state())

    def save(self, state: Mapping[str, Any]) -> None:
        """Writes the state now."""
        save_with(self.path, lambda path: torch.save(dict(state), path))
        self._written = time.monotonic()

    def remove(self) -> None:
        """The training is complete and its outputs are written."""
        shutil.rmtree(self.path.parent, ignore_errors=True)
