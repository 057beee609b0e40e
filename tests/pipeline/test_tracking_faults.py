"""Faults of the tracking service cost a stage one line, and passwords in addresses appear nowhere."""

import errno
import http.server
import logging
import math
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline import cli
from dreamset.pipeline.tracking import address, delivery, embedded, reporting, ui

SECRET = "http://anna:s3cret@127.0.0.1:9/mlflow?api_token=t0ken&x=1"
MASKED = "http://***@127.0.0.1:9/mlflow?api_token=***&x=1"
STORE = Path("tracking/mlflow.db")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    delivery.client_of(f"sqlite:///{folder / 'mlflow.db'}")
    return folder / "mlflow.db"


@pytest.fixture
def store(template: Path) -> Path:
    """A store in the working folder."""
    STORE.parent.mkdir()
    shutil.copy(template, STORE)
    return STORE


@pytest.fixture(autouse=True)
def _foreground(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stages send before they end. User name and password of an address do not stay in the environment."""
    monkeypatch.setenv("DREAMSET_TRACKING", "foreground")
    for name in (address.USER, address.PASSWORD):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    address._answering.clear()
    yield
    delivery.client_of.cache_clear()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at http://anna:s3cret@host:5000/a.", "at http://***@host:5000/a."),
        ("postgresql+psycopg://anna:p@ss@db/x", "postgresql+psycopg://***@db/x"),
        ("https://host/a?api_token=t0ken&x=1#f", "https://host/a?api_token=***&x=1#f"),
        ("https://host/a?x=1&Signature=abc and", "https://host/a?x=1&Signature=*** and"),
        ('{"uri": "http://anna:s3cret@host", "b": "c@d"}', '{"uri": "http://***@host", "b": "c@d"}'),
        ("mail anna@host about http://host/a?page=2", "mail anna@host about http://host/a?page=2"),
    ],
)
def test_secrets_of_addresses_are_masked(text: str, expected: str) -> None:
    assert address.masked(text) == expected
    assert address.masked(expected) == expected


def test_log_messages_with_tracebacks_are_masked() -> None:
    try:
        raise ValueError(f"cannot reach {SECRET}")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "failed: %s", (SECRET,), sys.exc_info())
    text = address.MaskedFormatter("%(message)s").format(record)
    assert text.count(MASKED) == 2
    assert "s3cret" not in text


def test_secrets_reach_no_file_message_and_parameter(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(address.VARIABLE, SECRET)
    with reporting.stage_run("secretive") as run:
        run.parameters({"source": SECRET})
    with pytest.raises(SystemExit):
        cli.main(["models", "list"])
    texts = [path.read_text() for path in reporting.OUTBOX.rglob("*") if path.is_file()]
    everything = "\n".join([*texts, *caplog.messages, *capsys.readouterr()])
    assert "s3cret" not in everything
    assert "t0ken" not in everything
    assert everything.count(f"no server answers at {MASKED}") == 3  # in a file, of the stage, of the command
    assert f'"source": "{MASKED}"' in everything


def test_stored_address_is_completed_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(address.VARIABLE, SECRET)
    assert address.usable(MASKED) == SECRET
    assert address.usable("sqlite:///a.db") == "sqlite:///a.db"
    monkeypatch.setenv(address.VARIABLE, "http://elsewhere")
    with pytest.raises(address.UnreachableError, match="set MLFLOW_TRACKING_URI to this address with its password"):
        address.usable(MASKED)


def test_mlflow_gets_user_and_password_from_variables_unless_the_user_set_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert address.without_user("https://an%40na:s3cret@host:5000/a") == "https://host:5000/a"
    assert (os.environ[address.USER], os.environ[address.PASSWORD]) == ("an@na", "s3cret")
    monkeypatch.setenv(address.PASSWORD, "own")
    address.without_user("https://b:c@host")
    assert (os.environ[address.USER], os.environ[address.PASSWORD]) == ("an@na", "own")
    assert address.without_user("postgresql://a:b@db/x") == "postgresql://a:b@db/x"


def test_silent_server_is_given_up_before_mlflow_asks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("mlflow.MlflowClient", lambda _: pytest.fail("MLflow asks the server"))
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(address.UnreachableError, match=rf"no server answers at {uri} \(timed out\)"):
            delivery.client_of(uri)


def test_any_answer_of_a_server_counts_and_is_asked_for_once() -> None:
    asked: list[str] = []

    class Forbidding(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers.get('Authorization')}")
            self.send_error(403)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Forbidding) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for _ in range(2):
            address.require_answer(f"http://anna:s3cret@127.0.0.1:{server.server_port}/prefix/")
        server.shutdown()
    assert asked == ["/prefix/health None"]


def test_tracking_folder_that_cannot_be_made_costs_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    Path("tracking").write_text("a file in its place")
    Path("artifact").touch()
    reached = False
    with reporting.stage_run("robust") as run:
        run.metrics({"seen": 1.0})
        run.artifacts(Path("artifact"))
        reached = True
    assert reached
    (warning,) = warnings(caplog)
    assert warning.startswith("tracking: the outbox cannot be written, so the rest of this stage is not recorded: ")


def test_full_disk_costs_one_warning(
    store: Path,  # noqa: ARG001 - it exists
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reporting, "_link", full)
    Path("artifact").touch()
    with reporting.stage_run("robust") as run:
        run.artifacts(Path("artifact"))
        run.metrics({"seen": 1.0})
    (warning,) = warnings(caplog)
    assert "No space left on device" in warning


def test_outbox_that_cannot_be_sent_keeps_the_reports(caplog: pytest.LogCaptureFixture) -> None:
    (reporting.OUTBOX / "delivery.lock").mkdir(parents=True)
    with reporting.stage_run("robust") as run:
        run.metrics({"seen": 1.0})
    (warning,) = warnings(caplog)
    assert warning.startswith("tracking: the reports stay in tracking/outbox, because it cannot be sent: ")
    (log_file,) = reporting.OUTBOX.glob("*.jsonl")
    assert '"seen": 1.0' in log_file.read_text()


def test_absent_server_does_not_hold_back_the_reports_for_another_one(
    store: Path,  # noqa: ARG001 - it exists
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, uri in (("first", SECRET), ("second", ""), ("third", SECRET), ("fourth", "")):
        monkeypatch.setenv(address.VARIABLE, uri)
        with reporting.stage_run(name):
            pass
    client = delivery.client_of(embedded.uri())
    experiment = client.get_experiment_by_name(reporting.STAGES)
    assert {run.info.run_name for run in client.search_runs([experiment.experiment_id])} == {"second", "fourth"}
    waiting = [path.read_text() for path in sorted(reporting.OUTBOX.glob("*.jsonl"))]
    assert ["first" in waiting[0], "third" in waiting[1]] == [True, True]
    assert (reporting.OUTBOX / "failure.txt").exists()


def rewrite(store: Path, statement: str) -> None:
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute(statement)


def test_store_of_another_version_is_not_touched_and_the_remedy_is_named(
    store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(store)) as connection:
        ((head,),) = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    older = embedded._scripts().get_revision(head).down_revision
    for revision, remedy in ((older, "mlflow db upgrade sqlite:////"), ("f" * 12, "pip install --upgrade mlflow")):
        rewrite(store, f"UPDATE alembic_version SET version_num = '{revision}'")
        before = store.read_bytes()
        with pytest.raises(UserError) as caught:
            delivery.client_of(embedded.uri())
        message = str(caught.value)
        assert f"of another version of MLflow ({revision}; the installed one needs {head})" in message
        assert remedy in message
        assert "\n" not in message
        with reporting.stage_run("patient") as run:
            run.metrics({"seen": 1.0})
        assert f"({revision}; the installed one needs {head})" in warnings(caplog)[-1]
        assert store.read_bytes() == before


def test_damaged_store_is_named_with_the_command_that_moves_it_away(store: Path) -> None:
    rewrite(store, "DELETE FROM alembic_version")
    with pytest.raises(UserError, match=r"its creation was interrupted\); move it away: `mv .*mlflow\.db "):
        delivery.client_of(embedded.uri())
    rewrite(store, "DROP TABLE alembic_version")
    with pytest.raises(UserError, match="its creation was interrupted"):
        delivery.client_of(embedded.uri())
    store.write_bytes(b"no database at all" * 100)
    with pytest.raises(UserError, match=r"is damaged \(file is not a database\)"):
        delivery.client_of(embedded.uri())


def test_kill_while_the_store_is_created_leaves_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os, signal\n"
        "import alembic.command\n"
        "from dreamset.pipeline.tracking import delivery, embedded\n"
        "alembic.command.upgrade = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "delivery.client_of(embedded.uri())\n"
    )
    killed = subprocess.run([sys.executable, "-P", "-c", code], timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert Path("tracking").is_dir()
    assert not STORE.exists()
    STORE.touch()  # as SQLite itself leaves it
    monkeypatch.setattr(embedded, "_create", embedded._create.__wrapped__)  # type: ignore[attr-defined] # not a copy
    delivery.client_of(embedded.uri())
    embedded.require_schema(STORE)


def test_figures_that_are_not_finite_are_left_out_of_deliveries(store: Path) -> None:  # noqa: ARG001 - it exists
    with reporting.stage_run("diverged") as run:
        run.metrics({"loss": math.nan, "norm": math.inf, "step": 1.0}, 1)
        run.metrics({"loss": 2.0}, 2)
    client = delivery.client_of(embedded.uri())
    experiment = client.get_experiment_by_name(reporting.STAGES)
    (sent,) = client.search_runs([experiment.experiment_id])
    assert sent.info.status == "FINISHED"
    assert [point.value for point in client.get_metric_history(sent.info.run_id, "loss")] == [2.0]
    assert sent.data.metrics == {"loss": 2.0, "step": 1.0}


def test_ui_reports_a_used_port_a_damaged_store_and_a_silent_server(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"--port {port} cannot be used .*; choose another port"):
            ui.prepare(port)
    pages = ui.prepare(port)
    assert pages.base == f"http://127.0.0.1:{port}"
    assert pages.command[1:4] == ("-m", "mlflow", "server")
    assert os.environ.pop("MLFLOW_BACKEND_STORE_URI") == embedded.uri()
    delivery.client_of.cache_clear()
    store.write_bytes(b"no database at all" * 100)
    with pytest.raises(UserError, match="is damaged"):
        ui.prepare(port)
    monkeypatch.setenv(address.VARIABLE, SECRET)
    with pytest.raises(UserError, match="no server answers at") as caught:
        ui.prepare(port)
    assert "s3cret" not in str(caught.value)
