"""``dreamset ui``: MLflow's pages for the embedded store, or their addresses on the user's server."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from dreamset.core.errors import UserError
from dreamset.pipeline.registry import retrieval
from dreamset.pipeline.tracking import address, embedded, experiments, views

APP = "dreamset"  # MLflow's server with ``start_page``, by the name of its entry point; the page's address, too
LOG = embedded.FOLDER / "ui.log"  # what the server writes
START_SECONDS = 300.0  # a busy machine takes minutes
STOP_SECONDS = 10.0
ASK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Pages:
    """The addresses of the pages, and what has to be done for them."""

    base: str  # of the server
    experiment: str  # id of the experiment of rows
    command: tuple[str, ...]  # serves the pages; empty if a server does already
    running: bool = False  # whether an earlier ``dreamset ui`` serves them

    @property
    def text(self) -> str:
        """The addresses, one a line. Our own server has a start page, which sets up the browser."""
        start = f"{self.base}/{APP}" if self.command or self.running else self.base
        return (
            f"  rows    {views.table(start, self.experiment)}\n"
            f"  charts  {views.chart(start, self.experiment)}\n"
            f"  models  {views.models(start)}"
        )


def prepare(port: int) -> Pages:
    """The addresses of the pages, and the command that serves them. Reports of finished stages are sent first.

    Raises:
        UserError: if the port is in use, the store cannot be opened, or no server answers.
    """
    uri = address.configured()
    with retrieval.connection(make=True) as client:  # two processes must not create a store at the same time
        rows = experiments.experiment(client, experiments.ROWS, embedded_store=uri is None)
        _save_view(client, rows)
        here = client.get_experiment(rows)
    if uri is not None and uri.startswith(("http://", "https://")):
        return Pages(address.masked(address.without_user(uri)), rows, ())
    base = f"http://127.0.0.1:{port}"
    refusal = _refusal(port)
    if refusal is not None:
        if _serves(base, here):
            return Pages(base, rows, (), running=True)
        raise UserError(f"--port {port} cannot be used ({refusal}); choose another port")
    # the address may hold a password, which a command line would show; without background jobs the server is two
    # processes instead of ten, and starts in seconds
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri or embedded.uri()
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    command = (sys.executable, "-m", "mlflow", "server", "--app-name", APP, "--host", "127.0.0.1", "--port", str(port))
    return Pages(base, rows, (*command, "--workers", "1"))


@contextlib.contextmanager
def serving(pages: Pages) -> Iterator[subprocess.Popen[bytes]]:
    """The server's process, once its pages answer. It ends with the block.

    Raises:
        UserError: if the server ends before it answers, or does not answer within minutes.
    """
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("wb") as log:
        # a session of its own, so that Ctrl-C reaches this process alone, which then ends the server
        process = subprocess.Popen(pages.command, stdout=log, stderr=log, start_new_session=True)  # noqa: S603
    try:
        _wait(process, pages.base)
        yield process
    finally:
        _stop(process)


def _save_view(client: Any, experiment: str) -> None:
    """Saves the view; a person who may only read on a server gets MLflow's own columns."""
    from mlflow.exceptions import MlflowException

    with contextlib.suppress(MlflowException):
        views.save(client, experiment)


def _wait(process: subprocess.Popen[bytes], base: str) -> None:
    end = time.monotonic() + START_SECONDS
    while not _answers(base):
        if process.poll() is not None:
            raise UserError(f"the MLflow server ended with exit code {process.returncode}; {LOG} says why")
        if time.monotonic() > end:
            raise UserError(f"the MLflow server did not answer within {START_SECONDS:.0f} s; {LOG} may say why")
        time.sleep(0.2)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the server and its worker."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
            return


def _answers(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/health", timeout=ASK_SECONDS) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


def _serves(base: str, here: Any) -> bool:
    """Whether the server has this project's experiment: another project's has another folder of artifacts."""
    query = urlencode({"experiment_name": here.name})
    try:
        address = f"{base}/api/2.0/mlflow/experiments/get-by-name?{query}"
        with urllib.request.urlopen(address, timeout=ASK_SECONDS) as answer:  # noqa: S310
            there = json.load(answer)["experiment"]
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return (there.get("experiment_id"), there.get("artifact_location")) == (here.experiment_id, here.artifact_location)


def _refusal(port: int) -> OSError | OverflowError | None:
    """Why the port cannot be used; None if it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            return error
    return None
