"""What a stage reports for MLflow: written to an outbox on disk, sent by a process of its own.

So a slow or absent tracking server never holds a training up, nothing is lost while it is away, and no stage waits
for MLflow to load. ``delivery`` reads the outbox; ``DREAMSET_TRACKING`` says when:

- ``background`` (default): a detached process sends while the stages run, and ends a few seconds after the last one;
- ``foreground``: each stage sends before it ends, for machines that stop when the command does;
- ``off``: nothing is recorded.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from filelock import FileLock, Timeout

from dreamset.core.errors import UserError
from dreamset.pipeline.registry.catalog import Registration

if TYPE_CHECKING:  # a stage without a dataset loads no reader of one
    from dreamset.datasets import Store

OUTBOX = Path("tracking/outbox")
OBJECTIVES, DATASETS, COMPARISONS = "dreamset", "dreamset-datasets", "dreamset-comparisons"
MODES = ("background", "foreground", "off")
LONGEST_VALUE = 6000  # characters of a parameter that MLflow keeps

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DatasetReference:
    """What MLflow shows as the run's input."""

    name: str
    digest: str
    source: str


def reference(store: "Store", name: str) -> DatasetReference:
    """A store as MLflow shows it."""
    return DatasetReference(name, store.digest, str(store.path))


def root_name(lineage: Mapping[str, Any]) -> str:
    """How the root run of a model is called."""
    return f"{lineage['objective']} (seed {lineage['seed']})"


@dataclass(slots=True)
class StageRun:
    """What a stage may report; each call appends one line to the stage's letter and returns at once."""

    letter: Path | None  # None: nothing is recorded
    _file: TextIO | None = None
    _lock: FileLock | None = None
    _kept: int = field(default=0)  # artifacts so far

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Curves of the stage's own run."""
        self._write("metrics", values=dict(values), step=step)

    def headline(self, values: Mapping[str, float], step: int = 0) -> None:
        """Figures that objectives are compared by: on the stage's run and on the root."""
        self._write("metrics", values=dict(values), step=step, on_root=True)

    def parameters(self, config: Mapping[str, Any], *, on_root: bool = False) -> None:
        """The resolved configuration, flat. A parameter can never change, so the root takes one stage's only."""
        values = {name: str(value)[:LONGEST_VALUE] for name, value in flatten(config)}
        self._write("parameters", values=values, on_root=on_root)

    def artifacts(self, *paths: Path, folder: str | None = None, on_root: bool = False) -> None:
        """Files or folders, kept with the run as they are now."""
        for path in paths:
            if self.letter is not None:
                kept = snapshot(path, self.letter.with_suffix(".files") / str(self._kept))
                self._kept += 1
                place = folder if path.is_file() else folder or path.name
                self._write("artifact", path=str(kept.absolute()), folder=place, on_root=on_root)

    def dataset(self, reference: DatasetReference) -> None:
        """The dataset as the run's input."""
        values = {"name": reference.name, "digest": reference.digest, "source": reference.source}
        self._write("dataset", values=values, on_root=True)

    def model(self, registration: Registration) -> None:
        """A model among the artifacts that were handed over before, for the registry."""
        self._write("model", values=asdict(registration))

    def measured(self, digest: str, figures: Mapping[str, float]) -> None:
        """What this stage found about a model that an earlier one registered."""
        self._write("measured", digest=digest, values=dict(figures))

    def open(self, **description: Any) -> None:
        """Starts the letter; its lock tells the delivery that somebody is still writing."""
        if self.letter is None:
            return
        try:
            self.letter.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.letter.with_suffix(".lock"))
            self._lock.acquire()
            self._file = self.letter.open("w", encoding="utf-8", buffering=1)  # a line is written whole
        except OSError as error:
            self._give_up(error)
        self._write("open", **description)

    def finish(self, status: str) -> None:
        """Ends the run."""
        self._write("finish", status=status)
        if self._file is not None:
            self._file.close()
        if self._lock is not None:
            self._lock.release()

    def _write(self, kind: str, **content: Any) -> None:
        if self._file is None:
            return
        line = {"kind": kind, "at": int(time.time() * 1000), **content}
        try:
            self._file.write(json.dumps(line) + "\n")
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        log.warning("tracking is off for the rest of this stage: %s", error)
        self._file = self.letter = None


@contextmanager
def stage_run(
    stage: str,
    *,
    experiment: str = OBJECTIVES,
    root: str | None = None,
    lineage: str | None = None,
    new_root: bool = False,
) -> Iterator[StageRun]:
    """An MLflow run for a stage, ended as FINISHED, FAILED or KILLED.

    Args:
        stage: name of the run.
        experiment: MLflow experiment.
        root: name of the root run that this stage belongs to; without one the stage's run is itself a root.
        lineage: key by which stages of other processes find the same root.
        new_root: start a root even if there is one with that key: a training from scratch.

    Raises:
        UserError: if ``DREAMSET_TRACKING`` is none of its three values.
    """
    chosen = mode()
    letter = None if chosen == "off" else OUTBOX / f"{time.time_ns():020d}-{os.getpid()}.jsonl"
    run = StageRun(letter)
    run.open(
        stage=stage,
        experiment=experiment,
        root=root,
        lineage=lineage,
        new_root=new_root,
        uri=os.environ.get("MLFLOW_TRACKING_URI"),
    )
    if chosen == "background":
        send_in_background()
    try:
        yield run
    except KeyboardInterrupt:
        run.finish("KILLED")
        raise
    except BaseException:
        run.finish("FAILED")
        raise
    else:
        run.finish("FINISHED")
    finally:
        _hand_over(chosen)


def mode() -> str:
    """When the outbox is sent."""
    chosen = os.environ.get("DREAMSET_TRACKING", MODES[0])
    if chosen not in MODES:
        raise UserError(f"DREAMSET_TRACKING is {chosen!r}, allowed are {', '.join(MODES)}; change the variable")
    return chosen


def _hand_over(chosen: str) -> None:
    if chosen == "foreground":
        from dreamset.pipeline.tracking.delivery import deliver_all

        deliver_all(OUTBOX)
    elif chosen == "background":
        send_in_background()
    failure = OUTBOX / "failure.txt"
    if chosen != "off" and failure.exists():
        waiting = len(list(OUTBOX.glob("*.jsonl")))
        log.warning(
            "tracking: %d run(s) wait in %s (%s); the next stage or `dreamset ui` sends them",
            waiting,
            OUTBOX,
            failure.read_text(encoding="utf-8"),
        )


def send_in_background() -> None:
    """Starts the sending process; a second one sees the first at work and ends at once."""
    if delivering():
        return
    with (OUTBOX / "delivery.log").open("a") as output:
        subprocess.Popen(  # noqa: S603 - our own module; -P keeps the clone's folder names off its path
            [sys.executable, "-P", "-m", "dreamset.pipeline.tracking.delivery", str(OUTBOX)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C ends the stage, not what it still has to say
        )


def delivering() -> bool:
    """Whether a sending process is at work."""
    try:
        with FileLock(OUTBOX / "delivery.lock", blocking=False):
            return False
    except Timeout:
        return True


def snapshot(path: Path, folder: Path) -> Path:
    """A hard link to each file, or a copy on another disk: later changes are renames and leave it as it is."""
    folder.mkdir(parents=True)
    target = folder / path.name
    if path.is_dir():
        shutil.copytree(path, target, copy_function=_link)
    else:
        _link(str(path), str(target))
    return target


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested keys joined by dots."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
