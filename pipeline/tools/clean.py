"""``dreamset clean``: removes the checkpoints of trainings that nobody has continued."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dreamset.core.disk import size_in_words
from dreamset.core.errors import UserError
from dreamset.pipeline.training.checkpoint import ONLINE, STATE
from dreamset.pipeline.training.failed_update import FOLDER as NOT_FINITE

DAY = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The checkpoints of one training."""

    folder: Path
    days: float  # since anything in it was written
    size: int  # bytes

    @property
    def line(self) -> str:
        """In words."""
        return f"{self.folder}  {size_in_words(self.size)}, last written {self.days:.0f} days ago"


def abandoned(folder: Path, *, days: float) -> list[Abandoned]:
    """The trainings below ``folder`` whose checkpoints are at least ``days`` old, the oldest first.

    A training that finishes removes its checkpoints, and one that runs writes them every 30 seconds.

    Raises:
        UserError: if the folder holds something else, or ``days`` is negative.
    """
    if not days >= 0:
        raise UserError(f"--days is {days:g}; allowed: 0 or more")
    if not folder.exists():
        return []
    found = [_examined(training) for training in folder.iterdir() if training.is_dir()]
    return sorted((each for each in found if each.days >= days), key=lambda each: -each.days)


def _examined(training: Path) -> Abandoned:
    if not any(_signs(training)):
        raise UserError(f"{training} holds no checkpoint of a training; name the folder of `paths.checkpoints`")
    files = [path.lstat() for path in (training, *training.rglob("*"))]
    written = max(file.st_mtime for file in files)
    return Abandoned(training, max(0.0, time.time() - written) / DAY, sum(file.st_size for file in files))


def _signs(training: Path) -> Iterator[Path]:
    """What only folders of checkpoints have: states, whole or half, traces of a failed update, collected episodes."""
    for pattern in (STATE, f"*/{STATE}", ".*.new-*", NOT_FINITE, ONLINE):
        yield from training.glob(pattern)


def remove(found: list[Abandoned]) -> None:
    """Removes the folders."""
    for each in found:
        shutil.rmtree(each.folder)
