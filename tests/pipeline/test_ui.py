"""``dreamset ui``: the addresses it prints, the view behind them, and the server it runs."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline.registry import retrieval
from dreamset.pipeline.tracking import experiments, names, ui, views

SERVER = """
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""


@contextmanager
def answering(experiment: dict[str, str]) -> Iterator[int]:
    """A server that knows one experiment; yields its port."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"experiment": experiment}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def free_port() -> int:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return int(server.server_address[1])


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The experiment of rows in a new store of the working folder."""
    monkeypatch.chdir(tmp_path)
    with retrieval.connection(make=True) as client:
        number = experiments.experiment(client, experiments.ROWS, embedded_store=True)
        location = client.get_experiment(number).artifact_location
        yield {"experiment_id": number, "artifact_location": location}


def test_page_opens_the_rows_with_the_saved_view_whose_columns_are_metrics_of_rows(rows: dict[str, str]) -> None:
    pages = ui.prepare(free_port())
    fragment = urlsplit(urlsplit(views.table(pages.base, pages.experiment)).fragment)
    assert fragment.path == f"/experiments/{rows['experiment_id']}/runs"
    asked = parse_qs(fragment.query)
    assert asked["workflowType"] == ["machine_learning"]
    with retrieval.connection() as client:
        tags = client.get_experiment(pages.experiment).tags
    state = json.loads(tags[f"mlflow.sharedViewState.{asked['viewStateShareKey'][0]}"])
    headlines = {"evaluation/return_iqm": 1.0, "validation/reward_error_h15": 2.0, "validation/probe_r2": 3.0}
    known = {f"metrics.`{name}`" for name in names.row_metrics(headlines)}
    known |= {f"params.`{name}`" for name in names.FIRST}
    assert set(state["selectedColumns"]) <= known
    assert state["orderByKey"] in state["selectedColumns"]
    assert state["orderByAsc"] is False


def test_view_is_written_once(rows: dict[str, str]) -> None:
    class Counting:
        def __init__(self) -> None:
            self.tags: dict[str, str] = {}
            self.writes = 0

        def get_experiment(self, _: str) -> "Counting":
            return self

        def set_experiment_tag(self, _: str, key: str, value: str) -> None:
            self.tags[key] = value
            self.writes += 1

    client = Counting()
    views.save(client, rows["experiment_id"])
    views.save(client, rows["experiment_id"])
    assert client.writes == 1


def test_port_of_our_own_pages_is_told_from_that_of_another_project(rows: dict[str, str]) -> None:
    with answering(rows) as port:
        pages = ui.prepare(port)
        assert pages.running
        assert not pages.command
    with (
        answering({**rows, "artifact_location": "file:///elsewhere"}) as port,
        pytest.raises(UserError, match=rf"--port {port} cannot be used .*; choose another port"),
    ):
        ui.prepare(port)


def test_server_answers_inside_the_block_and_is_gone_after_it(rows: dict[str, str]) -> None:  # noqa: ARG001 - its folder
    port = free_port()
    pages = ui.Pages(f"http://127.0.0.1:{port}", "1", (sys.executable, "-c", SERVER, str(port)))
    with ui.serving(pages) as process:
        assert ui._answers(pages.base)
    assert process.returncode is not None
    assert not ui._answers(pages.base)


def test_server_that_ends_at_once_is_an_error_that_names_its_log(rows: dict[str, str]) -> None:  # noqa: ARG001
    pages = ui.Pages(f"http://127.0.0.1:{free_port()}", "1", (sys.executable, "-c", "raise SystemExit('no disk')"))
    with pytest.raises(UserError, match=r"exit code 1; tracking/ui\.log says why"), ui.serving(pages):
        pass
    assert "no disk" in ui.LOG.read_text()
