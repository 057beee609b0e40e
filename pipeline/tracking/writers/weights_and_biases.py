"""Writes a run to Weights & Biases: to its service, or to files for it (``WANDB_MODE=offline``)."""

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from dreamset.pipeline.tracking.writers.base import Described
from dreamset.pipeline.tracking.writers.written import Run

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read at import

import wandb

LONGEST = 128  # characters of names and groups
LONGEST_TAG = 64


class WandB:
    """A run per stage. Its group has all stages and seeds of the same choices; its job type is the stage.

    Calls are numbered, so that those that the service has got already are left out after an interruption.
    """

    def __init__(self, root: Path, run: Run, described: Described, destination: Mapping[str, str]) -> None:
        options: dict[str, Any] = dict(destination)
        online = options.get("mode", "online") == "online"
        self._run = wandb.init(
            **options,
            id=sha256(run.parts[0].encode()).hexdigest()[:16],
            resume="allow" if online else None,
            name=f"{run.name} · {described.stage}"[:LONGEST],
            group=described.group[:LONGEST],
            job_type=described.stage,
            tags=sorted({str(value)[:LONGEST_TAG] for name, value in described.identity.items() if name != "seed"}),
            config={**described.identity, **described.tags},
            dir=str(root.parent.absolute()),  # the package has a process with a working folder of its own
            reinit="create_new",
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                x_disable_meta=True,
                x_disable_stats=True,  # the load of the sending process
                x_save_requirements=False,
            ),
        )
        self.folder = Path(self._run.dir).parent.absolute()
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")
        self._call, self._arrived = run.calls, self._run.step

    def scalars(self, values: Mapping[str, float], step: int, at: int) -> None:  # noqa: ARG002 - the service has its own
        """Figures at a step."""
        self._log({**values, "step": step})

    def parameters(self, values: Mapping[str, Any]) -> None:
        """What a person chose."""
        self._run.config.update(dict(values), allow_val_change=True)

    def image(self, name: str, path: Path, at: int) -> None:  # noqa: ARG002
        """A PNG file."""
        try:
            image = wandb.Image(str(path))
        except OSError as error:  # Pillow's error of an unknown format
            raise ValueError(f"{path.name}: {error}") from error
        self._log({name: image})

    def video(self, name: str, path: Path, at: int) -> None:  # noqa: ARG002
        """An MP4 file."""
        self._log({name: wandb.Video(str(path), format="mp4")})

    def flush(self) -> None:
        """Nothing to do: another process of the package has the data already."""

    def close(self, status: str, note: str, at: int) -> None:  # noqa: ARG002
        """Ends the run, and waits until the service has it."""
        self._run.notes = note
        self._run.finish(exit_code=0 if status == "FINISHED" else 1)

    def abandon(self) -> None:
        """Ends the run as failed. The next delivery goes on with it."""
        self._run.finish(exit_code=1)

    def _log(self, values: Mapping[str, Any]) -> None:
        if self._call >= self._arrived:
            self._run.log(dict(values), step=self._call)
        self._call += 1
