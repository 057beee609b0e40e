"""MLflow, at arm's length: it records what stages report, decides nothing and never stops a training.

One root run per trained world model, so that the chart view, which lists root runs only, has one row per objective;
each stage is a child run. Stages run in separate processes and DVC may skip some of them, so a later stage finds its
root by the ``lineage`` key that the model's own files carry.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

FLUSH_SECONDS = 5.0
LARGEST_BATCH = 1000  # MLflow takes at most this many metrics in one request
EMBEDDED = Path("tracking")
LINEAGE = "dreamset.lineage"
OBJECTIVES, DATASETS, COMPARISONS = "dreamset", "dreamset-datasets", "dreamset-comparisons"

Row = tuple[str, float, int, int]  # name, value, milliseconds, step
# MLflow draws colours by run id and often twice the same; roots take these in turn.
RUN_COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")

log = logging.getLogger(__name__)

# Read by MLflow when it is imported: no usage reports.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")


@dataclass(frozen=True, slots=True)
class DatasetReference:
    """What MLflow shows as the run's input."""

    name: str
    digest: str
    source: str


@dataclass(slots=True)
class StageRun:
    """What a stage may report. Every call is harmless if tracking is away."""

    client: Any
    run_ids: tuple[str, ...]  # the stage's own run, then the root if there is one
    working: bool = True
    _buffer: dict[str, list[Row]] = field(default_factory=dict)  # by run
    _flushed: float = field(default_factory=time.monotonic)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Curves of the stage's own run; sent in batches."""
        self._add(self.run_ids[:1], values, step)

    def headline(self, values: Mapping[str, float], step: int = 0) -> None:
        """Figures that objectives are compared by: on the stage's run and on the root; sent in batches."""
        self._add(self.run_ids, values, step)

    def _add(self, run_ids: tuple[str, ...], values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        for run_id in run_ids:
            self._buffer.setdefault(run_id, []).extend((name, value, now, step) for name, value in values.items())
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Sends what is buffered."""
        buffer, self._buffer, self._flushed = self._buffer, {}, time.monotonic()
        for run_id, rows in buffer.items():
            self._try(self._send, run_id, rows)

    def parameters(self, config: Mapping[str, Any], *, on_root: bool = False) -> None:
        """The resolved configuration, flat. A parameter can never change, so the root takes one stage's only."""
        from mlflow.entities import Param

        flat = [Param(name, str(value)[:6000]) for name, value in flatten(config)]
        for run_id in self.run_ids if on_root else self.run_ids[:1]:
            for start in range(0, len(flat), 100):
                self._try(self.client.log_batch, run_id, params=flat[start : start + 100])

    def artifacts(self, *paths: Path, folder: str | None = None, on_root: bool = False) -> None:
        """Files or folders, kept with the run."""
        run_ids = self.run_ids if on_root else self.run_ids[:1]
        for run_id in run_ids:
            for path in paths:
                if path.is_dir():
                    self._try(self.client.log_artifacts, run_id, str(path), folder or path.name)
                else:
                    self._try(self.client.log_artifact, run_id, str(path), folder)

    def dataset(self, reference: DatasetReference) -> None:
        """The dataset as the run's input. Two processes may register it at the same moment, so a clash is retried."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        entity = Dataset(reference.name, reference.digest[:36], "local", f'{{"uri": "{reference.source}"}}')
        inputs = [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])]
        for run_id in self.run_ids:
            self._try(self.client.log_inputs, run_id, inputs, tries=5)

    def finish(self, status: str) -> None:
        """Ends the stage's run, and the root's for now."""
        self.flush()
        for run_id in self.run_ids:
            self._try(self.client.set_terminated, run_id, status)

    def _send(self, run_id: str, rows: list[Row]) -> None:
        from mlflow.entities import Metric

        for start in range(0, len(rows), LARGEST_BATCH):
            batch = [Metric(name, value, at, step) for name, value, at, step in rows[start : start + LARGEST_BATCH]]
            self.client.log_batch(run_id, metrics=batch)

    def _try(self, call: Callable[..., object], *arguments: Any, tries: int = 1, **named: Any) -> None:
        if not self.working:
            return
        for attempt in range(tries):
            try:
                call(*arguments, **named)
                return
            except Exception as error:
                if attempt + 1 == tries:
                    self.working = False
                    _warn(error)
                time.sleep(0.05 * 2**attempt)


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
    """
    run = _open(stage, experiment, root, lineage, new_root=new_root)
    try:
        yield run
    except KeyboardInterrupt:
        run.finish("KILLED")
        raise
    except BaseException:
        run.finish("FAILED")
        raise
    run.finish("FINISHED")


def _open(stage: str, experiment: str, root: str | None, lineage: str | None, *, new_root: bool) -> StageRun:
    try:
        client = connect()
        experiment_id = _experiment(client, experiment)
        if root is None or lineage is None:
            return StageRun(client, (_create(client, experiment_id, stage, {}),))
        found = None if new_root else _find_root(client, experiment_id, lineage)
        root_id = found or _create_root(client, experiment_id, root, lineage)
        child = _create(client, experiment_id, stage, {"mlflow.parentRunId": root_id, LINEAGE: lineage})
        return StageRun(client, (child, root_id))
    except Exception as error:
        _warn(error)
        return StageRun(None, (), working=False)


def connect() -> Any:
    """A client of ``MLFLOW_TRACKING_URI`` or, without it, of the embedded store, which is made on first use.

    Processes that open a fresh SQLite store at the same time break it for good, so the first one holds a lock.
    """
    from mlflow import MlflowClient

    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return MlflowClient(uri)
    EMBEDDED.mkdir(exist_ok=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    with FileLock(EMBEDDED / ".lock"):
        client = MlflowClient(embedded_uri())
        client.search_experiments(max_results=1)
    return client


def embedded_uri() -> str:
    """The SQLite store below the working folder."""
    return f"sqlite:///{(EMBEDDED / 'mlflow.db').resolve()}"


def _experiment(client: Any, name: str) -> str:
    with FileLock(EMBEDDED / ".lock") if EMBEDDED.exists() else _nothing():
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = None if os.environ.get("MLFLOW_TRACKING_URI") else (EMBEDDED / "artifacts" / name).resolve().as_uri()
        return str(client.create_experiment(name, artifact_location=location))


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _create(client: Any, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
    return str(client.create_run(experiment_id, run_name=name, tags=dict(tags)).info.run_id)


def _create_root(client: Any, experiment_id: str, name: str, lineage: str) -> str:
    before = [run for run in client.search_runs([experiment_id]) if "mlflow.parentRunId" not in run.data.tags]
    color = RUN_COLORS[len(before) % len(RUN_COLORS)]
    return _create(client, experiment_id, name, {LINEAGE: lineage, "mlflow.runColor": color})


def _find_root(client: Any, experiment_id: str, lineage: str) -> str | None:
    """The latest root run of the same model."""
    runs = client.search_runs([experiment_id], f"tags.`{LINEAGE}` = '{lineage}'", order_by=["start_time DESC"])
    roots = [run.info.run_id for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return roots[0] if roots else None


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested keys joined by dots."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _warn(error: Exception) -> None:
    log.warning("tracking is off for the rest of this stage: %s", " ".join(str(error).split())[:300])
