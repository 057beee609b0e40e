"""Reports of a stage for MLflow and the chosen ``writers``: written to an outbox on disk, and sent by other processes.

A slow or unreachable tracking server therefore never delays training, and no report is lost. No stage waits until
MLflow is loaded. ``delivery`` sends the outbox, in one process for each receiver. The environment variable
``DREAMSET_TRACKING`` states when:

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
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from filelock import FileLock, Timeout

from dreamset.core.errors import UserError
from dreamset.core.files import write_text
from dreamset.pipeline.files import finite
from dreamset.pipeline.registry.catalog import Registration
from dreamset.pipeline.tracking import address, labels, names, outbox, place, system, writers
from dreamset.pipeline.tracking.experiments import COMPARISONS as COMPARISONS
from dreamset.pipeline.tracking.experiments import DATASETS as DATASETS
from dreamset.pipeline.tracking.experiments import ROWS as ROWS
from dreamset.pipeline.tracking.experiments import STAGES as STAGES
from dreamset.pipeline.tracking.place import Place as Place

if TYPE_CHECKING:  # stages without a dataset do not load the readers
    from dreamset.datasets import Store
    from dreamset.pipeline.stages.settings import StageSettings

OUTBOX = Path("tracking/outbox")
MODES = ("background", "foreground", "off")
LONGEST_VALUE = 6000  # characters of a parameter's value: the most that MLflow stores

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DatasetReference:
    """A dataset as MLflow shows it: as the input of a run."""

    name: str
    digest: str
    source: str
    schema: Mapping[str, Any] = field(default_factory=dict)  # as MLflow stores it
    profile: Mapping[str, Any] = field(default_factory=dict)


def reference(store: "Store", name: str) -> DatasetReference:
    """The reference to a store, with the type and the shape of each column and with its counts."""
    arrays = {**store.spec.observations, **store.spec.privileged}
    columns = [{"name": column, "type": f"{array.dtype} {list(array.shape)}"} for column, array in arrays.items()]
    columns.append({"name": "action", "type": f"float32 [{store.spec.action.size}]"})
    schema = {"mlflow_colspec": [column | {"required": True} for column in columns]}
    profile = {**store.info["counts"], "mean_return": round(store.mean_return, 3)}
    return DatasetReference(name, store.digest, str(store.path), schema, profile)


@dataclass(slots=True)
class StageRun:
    """Reports of one stage. Each call appends one line to the stage's log file and returns at once.

    Another thread may call ``headline`` at the same time.
    """

    log_file: Path | None  # in the outbox; None: nothing is recorded
    _file: TextIO | None = None
    _lock: FileLock | None = None
    _artifact_count: int = field(default=0)
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Metrics of the stage's own run; a value that is not finite is left out, here and below."""
        self._write("metrics", values=finite(values), step=step)

    def headline(self, values: Mapping[str, float], step: int = 0) -> None:
        """The main metrics, by which rows are compared: for the stage's run and its row."""
        self._write("metrics", values=finite(values), step=step, on_row=True)

    def settings(self, stage: str, settings: "StageSettings") -> None:
        """What a person chooses as parameters, and all settings as ``settings/<stage>.yaml``."""
        chosen = labels.current()
        self.parameters(names.parameters(stage, settings.plain(), chosen.choices, chosen.overrides), on_row=True)
        if self.log_file is not None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{stage}.yaml"
                write_text(path, settings.text())
                self.artifacts(path, folder="settings", on_row=True)

    def parameters(self, values: Mapping[str, Any], *, on_row: bool = False) -> None:
        """Parameters. MLflow's cannot change, so each name belongs to one stage if they are set ``on_row``."""
        texts = {name: str(value)[:LONGEST_VALUE] for name, value in values.items()}
        self._write("parameters", values=texts, on_row=on_row)

    def note(self, *lines: str) -> None:
        """The description of a run that is no row, in Markdown paragraphs. How to reproduce it is added."""
        self._write("note", lines=lines, command=place.command(labels.current()))

    def artifacts(self, *paths: Path, folder: str | None = None, on_row: bool = False) -> None:
        """Files or folders for the run, with their present content."""
        for path in paths:
            copy = self._copied(path)
            if copy is not None:
                target = folder if path.is_file() else folder or path.name
                self._write("artifact", path=str(copy.absolute()), folder=target, on_row=on_row)

    def dataset(self, reference: DatasetReference) -> None:
        """The dataset, as input of the run and of its row."""
        self._write("dataset", values=asdict(reference), on_row=True)

    def model(self, registration: Registration, folder: Path) -> None:
        """A model for the registry, with the present content of its folder."""
        copy = self._copied(folder)
        if copy is not None:
            self._write("model", values=asdict(registration), path=str(copy.absolute()))

    def measured(self, digest: str, figures: Mapping[str, float], *, conditions: str) -> None:
        """Figures that this stage measured for a model that an earlier stage registered.

        Args:
            digest: of the model.
            figures: by their names.
            conditions: a digest of all that the figures depend on besides the model.
        """
        self._write("measured", digest=digest, values=finite(figures), conditions=conditions)

    def _copied(self, path: Path) -> Path | None:
        """A copy of a file or folder in the outbox; None if nothing is recorded, or it cannot be copied."""
        if self.log_file is None:
            return None
        self._artifact_count += 1
        try:
            return snapshot(path, self.log_file.with_suffix(".files") / str(self._artifact_count - 1))
        except OSError as error:
            log.warning("tracking: %s is not recorded: %s", path, error)
            return None

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
        with self._writing:
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
def stage_run(stage: str, *, experiment: str = STAGES, at: Place | None = None) -> Iterator[StageRun]:
    """An MLflow run for a stage, ended as FINISHED, FAILED or KILLED.

    Args:
        stage: name of the run.
        experiment: MLflow experiment.
        at: the row that the stage belongs to; None for a run without a row.

    Raises:
        UserError: if ``DREAMSET_TRACKING``, ``DREAMSET_WRITERS`` or ``DREAMSET_SYSTEM_METRICS`` has an unknown value.
    """
    tracking_mode, samples, chosen = mode(), system.enabled(), writers.chosen()
    run = StageRun(None if tracking_mode == "off" else OUTBOX / f"{time.time_ns():020d}-{os.getpid()}.jsonl")
    if run.recorded:
        described = {
            "row": None if at is None else at.plain(),
            "tags": place.tags(labels.current()),
            "writers": chosen,
        }
        run.open(stage=stage, experiment=experiment, uri=address.configured(), **described)
    if run.recorded and tracking_mode == "background":
        with suppress(OSError):  # at the end it is tried again
            send_in_background()
    if run.recorded:
        for advice in filter(None, map(writers.missing, chosen)):
            log.warning("tracking: %s", advice)
    try:
        with system.sampled(run.headline) if samples and run.recorded and at is not None else nullcontext():
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


def require_variables() -> None:
    """Checks the variables that choose what is recorded, before a stage begins its work.

    Raises:
        UserError: if ``DREAMSET_TRACKING``, ``DREAMSET_WRITERS`` or ``DREAMSET_SYSTEM_METRICS`` has an unknown value.
    """
    mode(), system.enabled(), writers.chosen()


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
    for receiver in outbox.receivers(OUTBOX):
        failure = outbox.failure(OUTBOX, receiver)
        if failure.exists():
            log.warning(
                "tracking: %d run(s) in %s are not sent yet (%s); the next stage%s sends them",
                len(list(outbox.waiting(OUTBOX, receiver))),
                OUTBOX,
                failure.read_text(encoding="utf-8"),
                " or `dreamset ui`" if receiver == outbox.MLFLOW else "",
            )


def send_in_background() -> None:
    """Starts a sending process for each receiver, unless one is running."""
    for receiver in outbox.receivers(OUTBOX):
        if delivering(receiver):
            continue
        with (OUTBOX / "delivery.log").open("a") as output:
            subprocess.Popen(  # noqa: S603 - a module of this package; -P keeps the clone's folder names off its path
                [sys.executable, "-P", "-m", "dreamset.pipeline.tracking.delivery", str(OUTBOX), receiver],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C ends the stage, but not the sending of its reports
            )


def delivering(receiver: str = outbox.MLFLOW) -> bool:
    """Whether a process is sending to a receiver."""
    try:
        with outbox.lock(OUTBOX, receiver):
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
