"""From the outbox of ``tracking`` to MLflow, in order, each line once.

One root run per trained world model, so that the chart view, which lists root runs only, has one row per objective;
each stage is a child run. DVC may skip stages, so a later stage finds its root by the ``lineage`` key that the
model's own files carry. Run by ``tracking`` as ``python -m dreamset.pipeline.tracking.delivery OUTBOX``.
"""

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dreamset.core.files import write_text
from dreamset.pipeline.registry import catalog

LINGER_SECONDS = 10.0  # the next stage starts within this time, and MLflow takes seconds to load
ROUND_SECONDS = 0.5
SETTLE_SECONDS = 30.0
LARGEST_BATCH = 1000  # MLflow takes at most this many metrics in one request
EMBEDDED = Path("tracking")
LINEAGE = "dreamset.lineage"
# MLflow draws colours by run id and often twice the same; roots take these in turn.
RUN_COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")

Line = dict[str, Any]

log = logging.getLogger(__name__)

# Read by MLflow when it is imported: no usage reports.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")


def main(arguments: Sequence[str]) -> None:
    """Sends until nothing has come for a while; ends at once if another process sends already."""
    outbox = Path(arguments[0])
    with suppress(Timeout), FileLock(outbox / "delivery.lock", blocking=False):
        if hasattr(os, "nice"):
            os.nice(10)  # the training comes first
        last = time.monotonic()
        while time.monotonic() - last < LINGER_SECONDS:
            if deliver(outbox):
                last = time.monotonic()
            time.sleep(ROUND_SECONDS)


def deliver_all(outbox: Path) -> None:
    """Sends what is there now."""
    with FileLock(outbox / "delivery.lock"):
        deliver(outbox)


def deliver(outbox: Path) -> bool:
    """One round over all letters, the oldest first. Returns whether one is still being written."""
    writing = False
    for path in sorted(outbox.glob("*.jsonl")):
        letter = Letter(path)
        try:
            letter.send()
        except Exception as error:  # the server is away: the letters stay
            write_text(outbox / "failure.txt", " ".join(str(error).split())[:300])
            return not letter.abandoned
        writing |= not letter.complete
    (outbox / "failure.txt").unlink(missing_ok=True)
    return writing


def settle(outbox: Path) -> None:
    """Sends what finished stages have left, or lets the process that is at it do so, for up to half a minute.

    What is asked of the registry next then knows of them. A server that is away is the asker's to notice.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    while any(map(_is_ended, outbox.glob("*.jsonl"))) and time.monotonic() < deadline:
        with suppress(Timeout), FileLock(outbox / "delivery.lock", blocking=False):
            deliver(outbox)
            return
        time.sleep(ROUND_SECONDS)


class Letter:
    """One stage's report: the file, how far it was sent, and the runs that it went to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.complete = False
        self.abandoned = False  # nobody writes it any more
        self._state_file = path.with_suffix(".state")
        self._state: dict[str, Any] = {"sent": 0, "run": None, "root": None, "uri": None}
        if self._state_file.exists():
            self._state = json.loads(self._state_file.read_text(encoding="utf-8"))

    def send(self) -> None:
        """Sends the lines that were not sent yet; removes the letter when its last one is.

        Raises:
            Exception: whatever MLflow raises while the server cannot be reached; sent lines stay sent.
        """
        self.abandoned = _is_ended(self.path)  # asked first: what is read afterwards is then all there will be
        lines = self._unsent()
        for kind, group in groupby(lines, key=lambda line: line["kind"]):
            self._send_group(kind, list(group))
        self.complete = bool(lines) and lines[-1]["kind"] == "finish"
        if self.abandoned and not self.complete:
            if self._state["run"] is not None:
                self._finish([{"status": "KILLED", "at": int(time.time() * 1000)}])
            self.complete = True
        if self.complete:
            self._remove()

    def _unsent(self) -> list[Line]:
        with self.path.open("rb") as file:
            file.seek(self._state["sent"])
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        return [{**json.loads(line), "bytes": len(line)} for line in whole.splitlines(keepends=True)]

    def _send_group(self, kind: str, lines: list[Line]) -> None:
        try:
            SENDERS[kind](self, lines)
        except Exception as error:
            self._client.search_experiments(max_results=1)  # raises if it is the server
            log.warning("%s: MLflow refuses %s: %s", self.path.name, kind, " ".join(str(error).split())[:300])
        self._state["sent"] += sum(line["bytes"] for line in lines)
        write_text(self._state_file, json.dumps(self._state))

    def _open(self, lines: list[Line]) -> None:
        (line,) = lines
        self._state["uri"] = line["uri"] or embedded_uri()
        client = self._client
        experiment = _experiment(client, line["experiment"], line["uri"])
        root, lineage, at = line["root"], line["lineage"], line["at"]
        if root is None or lineage is None:
            self._state["run"] = _create(client, experiment, line["stage"], {}, at)
            return
        found = None if line["new_root"] else _find_root(client, experiment, lineage)
        self._state["root"] = found or _create_root(client, experiment, root, lineage, at)
        tags = {"mlflow.parentRunId": self._state["root"], LINEAGE: lineage}
        self._state["run"] = _create(client, experiment, line["stage"], tags, at)

    def _metrics(self, lines: list[Line]) -> None:
        from mlflow.entities import Metric

        for run_id in (self._state["run"], self._state["root"]):
            rows = [
                Metric(name, value, line["at"], line["step"])
                for line in lines
                if run_id in self._runs(line)
                for name, value in line["values"].items()
            ]
            for start in range(0, len(rows), LARGEST_BATCH):
                self._client.log_batch(run_id, metrics=rows[start : start + LARGEST_BATCH])

    def _parameters(self, lines: list[Line]) -> None:
        from mlflow.entities import Param

        for line in lines:
            rows = [Param(name, value) for name, value in line["values"].items()]
            for run_id in self._runs(line):
                for start in range(0, len(rows), 100):
                    self._client.log_batch(run_id, params=rows[start : start + 100])

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
            entity = Dataset(values["name"], values["digest"][:36], "local", source)
            inputs = [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])]
            for run_id in self._runs(line):
                self._client.log_inputs(run_id, inputs)

    def _model(self, lines: list[Line]) -> None:
        for line in lines:
            catalog.register(self._client, self._state["run"], catalog.Registration(**line["values"]))

    def _measured(self, lines: list[Line]) -> None:
        for line in lines:
            catalog.measure(self._client, line["digest"], line["values"])

    def _finish(self, lines: list[Line]) -> None:
        for line in lines:
            for run_id in self._runs({"on_root": True}):
                self._client.set_terminated(run_id, line["status"], line["at"])

    def _runs(self, line: Mapping[str, Any]) -> list[str]:
        """The stage's own run, and the root if the line is for both."""
        names = ("run", "root") if line.get("on_root") else ("run",)
        return [self._state[name] for name in names if self._state[name] is not None]

    @property
    def _client(self) -> Any:
        return client_of(self._state["uri"])

    def _remove(self) -> None:
        shutil.rmtree(self.path.with_suffix(".files"), ignore_errors=True)
        for path in (self.path, self._state_file, self.path.with_suffix(".lock")):
            path.unlink(missing_ok=True)


SENDERS: dict[str, Callable[[Letter, list[Line]], None]] = {
    "open": Letter._open,
    "metrics": Letter._metrics,
    "parameters": Letter._parameters,
    "artifact": Letter._artifact,
    "dataset": Letter._dataset,
    "model": Letter._model,
    "measured": Letter._measured,
    "finish": Letter._finish,
}


def _is_ended(letter: Path) -> bool:
    """Whether nobody writes it any more."""
    try:
        with FileLock(letter.with_suffix(".lock"), blocking=False):
            return True
    except Timeout:
        return False


@cache
def client_of(uri: str) -> Any:
    """A client; MLflow makes a fresh SQLite store on first use."""
    from mlflow import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    return MlflowClient(uri)


def make_run(client: Any, experiment: str, name: str) -> str:
    """A run outside the outbox, for somebody who waits for it: its id."""
    place = _experiment(client, experiment, os.environ.get("MLFLOW_TRACKING_URI"))
    return _create(client, place, name, {}, int(time.time() * 1000))


def embedded_uri() -> str:
    """The SQLite store below the working folder."""
    return f"sqlite:///{(EMBEDDED / 'mlflow.db').resolve()}"


def _experiment(client: Any, name: str, uri: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = None if uri else (EMBEDDED / "artifacts" / name).resolve().as_uri()
    return str(client.create_experiment(name, artifact_location=location))


def _create(client: Any, experiment: str, name: str, tags: Mapping[str, str], at: int) -> str:
    return str(client.create_run(experiment, start_time=at, run_name=name, tags=dict(tags)).info.run_id)


def _create_root(client: Any, experiment: str, name: str, lineage: str, at: int) -> str:
    before = [run for run in client.search_runs([experiment]) if "mlflow.parentRunId" not in run.data.tags]
    color = RUN_COLORS[len(before) % len(RUN_COLORS)]
    return _create(client, experiment, name, {LINEAGE: lineage, "mlflow.runColor": color}, at)


def _find_root(client: Any, experiment: str, lineage: str) -> str | None:
    """The latest root run of the same model."""
    runs = client.search_runs([experiment], f"tags.`{LINEAGE}` = '{lineage}'", order_by=["start_time DESC"])
    roots = [run.info.run_id for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return roots[0] if roots else None


if __name__ == "__main__":
    main(sys.argv[1:])
