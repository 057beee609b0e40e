"""Reports of a stage for MLflow: written to an outbox on disk, and sent by a separate process.

A slow or unreachable tracking server therefore never delays training, and no report is lost. No stage waits until
MLflow is loaded. ``delivery`` sends the outbox. The environment variable ``DREAMSET_TRACKING`` states when:

- ``background`` (default): a detached process sends while the stages run, and ends a few seconds after the last one;
- ``foreground``: each stage sends before it ends, for CI jobs and containers that are torn down when the command exits;
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
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from filelock import FileLock, Timeout

from dreamset.core.errors import UserError
from dreamset.pipeline.files import finite
from dreamset.pipeline.registry.catalog import Registration
from dreamset.pipeline.tracking import address

if TYPE_CHECKING:  # stages without a dataset do not load the readers
    from dreamset.datasets import Store

OUTBOX = Path("tracking/outbox")
OBJECTIVES, DATASETS, COMPARISONS = "dreamset", "dreamset-datasets", "dreamset-comparisons"  # MLflow experiments
MODES = ("background", "foreground", "off")
LONGEST_VALUE = 6000  # characters of a parameter's value: the most that MLflow stores

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DatasetReference:
    """A dataset as MLflow shows it: as the input of a run."""

    name: str
    digest: str
    source: str


def reference(store: "Store", name: str) -> DatasetReference:
    """The reference to a store."""
    return DatasetReference(name, store.digest, str(store.path))


def root_name(lineage: Mapping[str, Any]) -> str:
    """Name of the root run of a model."""
    return f"{lineage['objective']} (seed {lineage['seed']})"


@dataclass(slots=True)
class StageRun:
    """Reports of one stage. Each call appends one line to the stage's log file and returns at once."""

    log_file: Path | None  # in the outbox; None: nothing is recorded
    _file: TextIO | None = None
    _lock: FileLock | None = None
    _artifact_count: int = field(default=0)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Metrics of the stage's own run; a value that is not finite is left out, here and below."""
        self._write("metrics", values=finite(values), step=step)

    def headline(self, values: Mapping[str, float], step: int = 0) -> None:
        """The main metrics, by which objectives are compared: for the stage's run and its root run."""
        self._write("metrics", values=finite(values), step=step, on_root=True)

    def parameters(self, config: Mapping[str, Any], *, on_root: bool = False) -> None:
        """The resolved configuration. MLflow's parameters cannot change, so only one stage may set ``on_root``."""
        values = {name: str(value)[:LONGEST_VALUE] for name, value in flatten(config)}
        self._write("parameters", values=values, on_root=on_root)

    def artifacts(self, *paths: Path, folder: str | None = None, on_root: bool = False) -> None:
        """Files or folders for the run, with their present content."""
        for path in paths:
            if self.log_file is not None:
                try:
                    copy = snapshot(path, self.log_file.with_suffix(".files") / str(self._artifact_count))
                except OSError as error:
                    log.warning("tracking: %s is not recorded: %s", path, error)
                    continue
                finally:
                    self._artifact_count += 1
                place = folder if path.is_file() else folder or path.name
                self._write("artifact", path=str(copy.absolute()), folder=place, on_root=on_root)

    def dataset(self, reference: DatasetReference) -> None:
        """The dataset, as input of the run and of its root run."""
        values = {"name": reference.name, "digest": reference.digest, "source": reference.source}
        self._write("dataset", values=values, on_root=True)

    def model(self, registration: Registration) -> None:
        """A model for the registry. Its files must have been reported as artifacts before."""
        self._write("model", values=asdict(registration))

    def measured(self, digest: str, figures: Mapping[str, float], *, conditions: str) -> None:
        """Figures that this stage measured for a model that an earlier stage registered.

        Args:
            digest: of the model.
            figures: by their names.
            conditions: a digest of all that the figures depend on besides the model.
        """
        self._write("measured", digest=digest, values=finite(figures), conditions=conditions)

    def open(self, **description: Any) -> None:
        """Creates the log file. Its lock shows the sending process that the stage is still writing."""
        if self.log_file is None:
            return
        try:
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.log_file.with_suffix(".lock"))
            self._lock.acquire()
            self._file = self.log_file.open("w", encoding="utf-8", buffering=1)  # whole lines
        except OSError as error:
            self._give_up(error)
            return
        self._write("open", **description)

    def finish(self, status: str) -> None:
        """Ends the run with an MLflow status."""
        self._write("finish", status=status)
        if self._file is not None:
            with suppress(OSError):  # whole lines are written already
                self._file.close()
        if self._lock is not None:
            self._lock.release()

    def _write(self, kind: str, **content: Any) -> None:
        if self._file is None:
            return
        line = {"kind": kind, "at": int(time.time() * 1000), **content}
        try:
            self._file.write(address.masked(json.dumps(line)) + "\n")
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        log.warning("tracking: the outbox cannot be written, so the rest of this stage is not recorded: %s", error)
        with suppress(OSError):
            if self._file is not None:
                self._file.close()
        self._file = self.log_file = None

    @property
    def recorded(self) -> bool:
        """Whether the outbox has all reports so far."""
        return self.log_file is not None


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
        root: name of the root run of this stage; None makes the stage's run a root run itself.
        lineage: key by which stages in other processes find the same root run.
        new_root: create a root run even if one with this key exists; for a training from scratch.

    Raises:
        UserError: if ``DREAMSET_TRACKING`` is not one of its three values.
    """
    tracking_mode = mode()
    run = StageRun(None if tracking_mode == "off" else OUTBOX / f"{time.time_ns():020d}-{os.getpid()}.jsonl")
    run.open(
        stage=stage,
        experiment=experiment,
        root=root,
        lineage=lineage,
        new_root=new_root,
        uri=address.configured(),
    )
    if run.recorded and tracking_mode == "background":
        with suppress(OSError):  # at the end it is tried again
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
        if run.recorded:
            try:
                _send(tracking_mode)
            except OSError as error:
                log.warning("tracking: the reports stay in %s, because it cannot be sent: %s", OUTBOX, error)


def mode() -> str:
    """The value of ``DREAMSET_TRACKING``: when the outbox is sent."""
    value = os.environ.get("DREAMSET_TRACKING", MODES[0])
    if value not in MODES:
        raise UserError(f"DREAMSET_TRACKING is {value!r}; allowed: {', '.join(MODES)}; change the variable")
    return value


def _send(tracking_mode: str) -> None:
    if tracking_mode == "background":
        send_in_background()
    else:
        from dreamset.pipeline.tracking.delivery import deliver_all

        deliver_all(OUTBOX)
    failure = OUTBOX / "failure.txt"
    if failure.exists():
        waiting = len(list(OUTBOX.glob("*.jsonl")))
        log.warning(
            "tracking: %d run(s) in %s are not sent yet (%s); the next stage or `dreamset ui` sends them",
            waiting,
            OUTBOX,
            failure.read_text(encoding="utf-8"),
        )


def send_in_background() -> None:
    """Starts the sending process, unless one is running."""
    if delivering():
        return
    with (OUTBOX / "delivery.log").open("a") as output:
        subprocess.Popen(  # noqa: S603 - a module of this package; -P keeps the clone's folder names off its path
            [sys.executable, "-P", "-m", "dreamset.pipeline.tracking.delivery", str(OUTBOX)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C ends the stage, but not the sending of its reports
        )


def delivering() -> bool:
    """Whether a sending process is running."""
    try:
        with FileLock(OUTBOX / "delivery.lock", blocking=False):
            return False
    except Timeout:
        return True


def snapshot(path: Path, folder: Path) -> Path:
    """Links each file, or copies it to another disk. Files are replaced by renaming, so the links keep the content."""
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
    """Every value with its nested keys, joined by dots."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
