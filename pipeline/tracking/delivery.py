"""Sends the outbox's log files to their receivers: in order, and each line once.

In MLflow each stage has a run of its own in the experiment ``dreamset-stages``, and its main figures are on its row in
the experiment ``dreamset`` (``rows``). The other receivers are in ``writers``. ``reporting`` starts this module once
for each receiver, as ``python -m dreamset.pipeline.tracking.delivery OUTBOX RECEIVER``.
"""

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from dreamset.core.files import write_text
from dreamset.pipeline.registry import catalog
from dreamset.pipeline.registry.logged import Runs
from dreamset.pipeline.tracking import address, embedded, experiments, names, notes, outbox, place, rows
from dreamset.pipeline.tracking.outbox import MLFLOW, Line, LogFile
from dreamset.pipeline.tracking.rows import LARGEST_BATCH
from dreamset.pipeline.tracking.writers.sending import Writing

LINGER_SECONDS = 10.0  # waiting time for the next stage, because loading MLflow takes seconds
ROUND_SECONDS = 0.5  # between two looks at the outbox
FAILED_SECONDS = 5.0  # the same after a failure
SETTLE_SECONDS = 30.0  # longest time that ``settle`` waits
SENT_BY = "mlflow.dreamset.outbox"  # tag, hidden by MLflow's pages, with the name of the outbox file

log = logging.getLogger(__name__)

# MLflow reads these when it is imported: no usage reports, no addresses in the output, and seconds instead of minutes
# until a server that does not answer is an error.
for _variable, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}.items():
    os.environ.setdefault(_variable, _value)


class Receiver(Protocol):
    """Gets the reports of log files."""

    def place(self, log_file: LogFile) -> str | None:
        """Where the reports of a file go. After a failure, later files for the same place wait."""
        ...

    def send(self, log_file: LogFile, *, live: bool) -> None:
        """Sends the new lines, and finishes the file after its last one. Not live: files of running stages may wait."""
        ...

    def close(self) -> None:
        """Nothing more is sent by this process."""
        ...


def main(arguments: Sequence[str]) -> None:
    """Sends until no stage has written for a while. Ends at once if another process already sends to the receiver."""
    folder, receiver = Path(arguments[0]), arguments[1]
    logging.basicConfig(level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(address.MaskedFormatter("%(asctime)s %(levelname)s: %(message)s"))
    with suppress(Timeout), outbox.lock(folder, receiver), closing(_receiver(receiver)) as sender:
        if hasattr(os, "nice"):
            os.nice(10)  # training has priority
        last = time.monotonic()
        while time.monotonic() - last < LINGER_SECONDS:
            if deliver(folder, receiver, sender, live=True):
                last = time.monotonic()
            time.sleep(FAILED_SECONDS if outbox.failure(folder, receiver).exists() else ROUND_SECONDS)


def deliver_all(folder: Path) -> None:
    """Sends all lines for all receivers that are in the outbox now; to MLflow also those of running stages."""
    for receiver in outbox.receivers(folder):
        lock = outbox.lock(folder, receiver)
        with FileLock(lock.lock_file), closing(_receiver(receiver)) as sender:
            deliver(folder, receiver, sender, live=False)


def deliver(folder: Path, receiver: str, sender: Receiver, *, live: bool) -> bool:
    """Sends the new lines of all log files, the oldest file first. Returns whether a stage is still writing.

    After a failure, the later log files for the same place stay, too. Those for other places are sent.
    """
    writing, failures = False, dict[str | None, str]()
    for log_file in outbox.waiting(folder, receiver):
        if sender.place(log_file) in failures:
            continue
        ended = log_file.is_ended()
        try:
            sender.send(log_file, live=live)
        except Exception as error:  # the server is unreachable, for example
            failures[sender.place(log_file)] = reason(error)
        writing |= not ended
    failure = outbox.failure(folder, receiver)
    if failures:
        write_text(failure, next(iter(failures.values())))
    else:
        failure.unlink(missing_ok=True)
    return writing


def settle(folder: Path) -> None:
    """Sends the reports of finished stages to MLflow, or waits up to half a minute for the process that sends them.

    Afterwards the registry includes these stages. The caller reports an unreachable server.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    while any(log_file.is_ended() for log_file in outbox.waiting(folder, MLFLOW)) and time.monotonic() < deadline:
        with suppress(Timeout), outbox.lock(folder, MLFLOW):
            deliver(folder, MLFLOW, Mlflow(), live=False)
            return
        time.sleep(ROUND_SECONDS)


def _receiver(name: str) -> Receiver:
    return Mlflow() if name == MLFLOW else Writing(name)


class Mlflow:
    """The receiver of all log files. What it has sent of each file is on disk, so a process may stop at any time."""

    def place(self, log_file: LogFile) -> str | None:
        """The server that gets the reports, as it is stored; None for the embedded store and for an empty file."""
        return MlflowReports(log_file).address

    def send(self, log_file: LogFile, *, live: bool) -> None:  # noqa: ARG002 - unfinished files are sent in any case
        """Sends the new lines.

        Raises:
            Exception: any MLflow error while the server is unreachable. Lines that were sent are not sent again.
        """
        MlflowReports(log_file).send()

    def close(self) -> None:
        """Nothing to do."""


class MlflowReports:
    """The reports of one log file for MLflow: how much of it was sent, and the runs that got it."""

    def __init__(self, log_file: LogFile) -> None:
        self.log_file = log_file
        self.path = log_file.path
        self._state_file = self.path.with_suffix(".state")
        self._state: dict[str, Any] = {"sent": 0, "run": None, "row": None, "uri": None, "finished": False}
        if self._state_file.exists():
            self._state |= json.loads(self._state_file.read_text(encoding="utf-8"))

    @property
    def address(self) -> str | None:
        """The server that gets the reports, as it is stored; None for the embedded store and for an empty file."""
        if self._state["uri"] is not None:
            return str(self._state["uri"])
        opening = self.log_file.opening()
        return None if opening is None else opening.get("uri")

    def send(self) -> None:
        """Sends the new lines, and finishes the file after its last line."""
        abandoned = self.log_file.is_ended()  # checked before reading, so that no later line is missed
        lines = self.log_file.lines(self._state["sent"])
        for kind, group in groupby(lines, key=lambda line: line["kind"]):
            self._send_group(kind, list(group))
        if abandoned and not self._state["finished"] and self._state["run"] is not None:
            self._finish([{"status": "KILLED", "at": int(1000 * self.path.stat().st_mtime)}])
        if abandoned or self._state["finished"]:
            self.log_file.finish(MLFLOW)

    def _send_group(self, kind: str, lines: list[Line]) -> None:
        try:
            SENDERS[kind](self, lines)
        except Exception as error:
            self._client.search_experiments(max_results=1)  # raises if the server is the cause
            log.warning("%s: MLflow refuses %s: %s", self.path.name, kind, reason(error))
        self._state["finished"] = kind == "finish"
        self._state["sent"] += sum(line["bytes"] for line in lines)
        write_text(self._state_file, json.dumps(self._state))

    def _open(self, lines: list[Line]) -> None:
        (line,) = lines
        self._state["uri"] = line["uri"] or embedded.uri()
        client, wanted = self._client, place.wanted(line)
        tags = {SENT_BY: self.path.stem, **line.get("tags", {}), **({} if wanted is None else place.tags_of(wanted))}
        name = (
            experiments.STAGES if line["experiment"] == experiments.ROWS else line["experiment"]
        )  # an earlier release
        experiment = _experiment(client, name, line["uri"])
        run = self._state["run"] = _create_once(client, experiment, line["stage"], tags, line["at"])
        if wanted is None:
            return
        table = _experiment(client, experiments.ROWS, line["uri"])
        if wanted["stage"] == line["stage"]:
            wanted["stages_at"] = experiment
            row = rows.place(client, table, wanted, run=run, by=self.path.stem, at=line["at"])
            self._state |= {"row": row, "stage": line["stage"]}
        else:  # a second run of the stage, which has the models only
            found = [row for row in rows.of_lineage(client, table, wanted["lineage"]) if row.has(wanted)]
            for latest in found[:1]:
                client.set_tag(run, rows.ROW, latest.id)
                client.set_tag(run, "row", latest.run.info.run_name)

    def _metrics(self, lines: list[Line]) -> None:
        from mlflow.entities import Metric

        shown_by = {self._state["run"]: names.stage_metrics, self._state["row"]: names.row_metrics}
        for run_id in self._runs({"on_row": True}):
            points = [
                Metric(name, value, line["at"], line["step"])
                for line in lines
                if run_id in self._runs(line)
                for name, value in shown_by[run_id](line["values"]).items()
            ]
            for start in range(0, len(points), LARGEST_BATCH):
                self._client.log_batch(run_id, metrics=points[start : start + LARGEST_BATCH])

    def _parameters(self, lines: list[Line]) -> None:
        from mlflow.entities import Param

        for line in lines:
            values = [Param(name, value) for name, value in line["values"].items()]
            for run_id in self._runs(line):
                for start in range(0, len(values), 100):
                    self._client.log_batch(run_id, params=values[start : start + 100])

    def _artifact(self, lines: list[Line]) -> None:
        for line in lines:
            path = Path(line["path"])
            log_files = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            for run_id in self._runs(line):
                log_files(run_id, str(path), line["folder"])

    def _dataset(self, lines: list[Line]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        for line in lines:
            values = line["values"]
            source = json.dumps({"uri": values["source"]})
            described = (json.dumps(values[key]) if values.get(key) else None for key in ("schema", "profile"))
            entity = Dataset(values["name"], values["digest"][:36], "local", source, *described)
            inputs = [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])]
            for run_id in self._runs(line):
                self._client.log_inputs(run_id, inputs)

    def _model(self, lines: list[Line]) -> None:
        for line in lines:
            wanted = catalog.Registration(**line["values"])
            own = self._state["run"]
            runs = Runs(own, self._state["row"] or self._client.get_run(own).data.tags.get(rows.ROW, own))
            with self._files(line) as files:
                registered = catalog.register(self._client, runs, wanted, files)
            if self._state["row"] is not None:
                known = {"model": wanted.digest, "version": registered.reference}
                rows.update(self._client, self._state["row"], self._state["stage"], **known)

    @contextmanager
    def _files(self, line: Line) -> Iterator[Path]:
        """The folder of a model's files. Earlier releases sent them as artifacts of the run before."""
        if "path" in line:
            yield Path(line["path"])
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(self._client.download_artifacts(self._state["run"], catalog.FOLDER, folder))

    def _note(self, lines: list[Line]) -> None:
        for line in lines:
            tags = self._client.get_run(self._state["run"]).data.tags
            text = notes.of_run(line["lines"], tags, line["command"])
            self._client.set_tag(self._state["run"], experiments.NOTE, text)

    def _measured(self, lines: list[Line]) -> None:
        for line in lines:
            run = self._state["run"]
            catalog.measure(self._client, line["digest"], line["values"], line.get("conditions"), run=run)

    def _finish(self, lines: list[Line]) -> None:
        run, row = self._state["run"], self._state["row"]
        for line in lines:
            if run is not None:
                self._client.set_terminated(run, line["status"], line["at"])
            if row is not None:
                rows.finish(self._client, row, self._state["stage"], run, line["status"])

    def _runs(self, line: Mapping[str, Any]) -> list[str]:
        """Ids of the runs that a line is for: the stage's run, and its row if the line is for both."""
        both = line.get("on_row") or line.get("on_root")  # the second in files of earlier releases
        ids = (self._state["run"], self._state["row"] if both else None)
        return [run_id for run_id in ids if run_id is not None]

    @property
    def _client(self) -> Any:
        return client_of(address.usable(self._state["uri"]))


SENDERS: dict[str, Callable[[MlflowReports, list[Line]], None]] = {
    "open": MlflowReports._open,
    "metrics": MlflowReports._metrics,
    "parameters": MlflowReports._parameters,
    "artifact": MlflowReports._artifact,
    "dataset": MlflowReports._dataset,
    "model": MlflowReports._model,
    "measured": MlflowReports._measured,
    "note": MlflowReports._note,
    "finish": MlflowReports._finish,
}


def reason(error: Exception) -> str:
    """An error as one line without secrets."""
    return address.masked(" ".join(str(error).split()))[:400]


@cache
def client_of(uri: str) -> Any:
    """A client of an MLflow server or store. A SQLite store is created on first use.

    Raises:
        UnreachableError: if no server answers.
        UserError: if a SQLite store is damaged or of another version.
    """
    address.require_answer(uri)
    from mlflow import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # repeated requests; the last one raises
    embedded.prepare(uri)
    return MlflowClient(address.without_user(uri))


def make_run(client: Any, experiment: str, name: str) -> str:
    """Creates a run at once, without the outbox, and returns its id."""
    place = _experiment(client, experiment, address.configured())
    return str(client.create_run(place, start_time=int(time.time() * 1000), run_name=name).info.run_id)


def _experiment(client: Any, name: str, uri: str | None) -> str:
    return experiments.experiment(client, name, embedded_store=not uri)


def _create_once(client: Any, experiment: str, name: str, tags: Mapping[str, str], at: int) -> str:
    """The run that was created for an outbox file, also by a delivery that was killed afterwards."""
    found = client.search_runs([experiment], f"tags.`{SENT_BY}` = '{tags[SENT_BY]}'", max_results=1)
    run = found[0] if found else client.create_run(experiment, start_time=at, run_name=name, tags=dict(tags))
    return str(run.info.run_id)


if __name__ == "__main__":
    main(sys.argv[1:])
