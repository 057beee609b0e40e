"""The registry on a real MLflow server: SQLite behind it, REST in between, artifacts through the server."""

import math
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline import cli
from dreamset.pipeline.artifacts.saved_models import model_digest
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.registry import catalog, retrieval
from dreamset.pipeline.registry.registration import registration
from dreamset.pipeline.stages import learn_behavior, train_world_model
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.tracking import address as tracking_address
from dreamset.pipeline.tracking import delivery, reporting
from tests.pipeline.conftest import TINY
from tests.pipeline.registered import rewrite, world_model

pytestmark = pytest.mark.slow

FAMILY = "pendulum_state.world_model"
MODEL = Path("runs/world_model/reconstruction-0/model")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address and folder of a server on loopback."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        str(folder / "a"),
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        _await(f"http://127.0.0.1:{port}/health", process, folder / "log.txt")
        yield f"http://127.0.0.1:{port}", folder
    finally:
        process.terminate()
        process.wait(timeout=30)


def _await(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


def test_model_is_registered_on_a_server_and_downloaded(
    server: tuple[str, Path],
    workspace: Path,  # noqa: ARG001 - the working folder
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address, folder = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("DREAMSET_TRACKING", "foreground")
    config = compose(TINY)
    train_world_model.run(stages.train_world_model(config))
    learn_behavior.run(stages.learn_behavior(config))
    assert not list(reporting.OUTBOX.glob("*.jsonl"))
    digest = model_digest(MODEL)
    shutil.rmtree("runs")

    client = delivery.client_of(address)
    version = catalog.version(client, FAMILY, alias="champion")
    assert (version.number, version.digest) == (1, digest)
    policy = catalog.version(client, "pendulum_state.policy")
    assert [(o.version.run, o.digest) for o in catalog.origins(client, policy) if o.version] == [(version.run, digest)]

    reused = stages.train_world_model(compose([*TINY, "world_model=from_registry", "world_model_training.updates=0"]))
    assert reused["start"]["digest"] == digest
    train_world_model.run(reused)
    train_world_model.run(reused)  # adds nothing
    assert [v.tags.get("parent") for v in catalog.versions(client, FAMILY)] == [None, f"{FAMILY}/1"]
    assert not Path("tracking/mlflow.db").exists()

    capsys.readouterr()
    for arguments in (["list"], ["show", "pendulum_state.policy"], ["export", f"{FAMILY}/1", "out"]):
        cli.main(["models", *arguments])
    cli.main(["models", "import", "out", "copy.world_model"])
    output = capsys.readouterr().out
    assert f"{FAMILY}/1" in output
    assert catalog.version(client, "copy.world_model", alias="champion").digest == digest

    shutil.rmtree(retrieval.CACHE)
    (stored,) = folder.glob(f"a/*/models/{version.tags['logged_model']}/artifacts")
    rewrite(stored, kind="policy")
    with pytest.raises(UserError, match="were changed or damaged"):
        retrieval.from_registry(FAMILY, version=1)


def test_registration_waits_for_an_unreachable_server(
    server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    address, _ = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("DREAMSET_TRACKING", "foreground")
    folder = world_model(Path("model"), dataset="patience")
    with reporting.stage_run("train") as run:
        run.model(registration(folder, {}), folder)
    assert "1 run(s) in tracking/outbox are not sent yet" in caplog.text
    digest = model_digest(folder)
    shutil.rmtree(folder)
    (log_file,) = reporting.OUTBOX.glob("*.jsonl")
    log_file.write_text(log_file.read_text().replace("http://127.0.0.1:9", address))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert model_digest(retrieval.from_registry("patience.world_model")) == digest


def test_server_with_a_password_gets_reports_without_figures_that_are_not_finite(
    server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in (tracking_address.USER, tracking_address.PASSWORD):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    address = server[0].replace("http://", "http://anna:s3cret@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("DREAMSET_TRACKING", "foreground")
    with reporting.stage_run("diverged", experiment="finite") as run:
        run.parameters({"server": address})
        run.metrics({"loss": math.nan, "norm": math.inf, "kl": 1.0})
    assert not list(reporting.OUTBOX.glob("*.jsonl"))
    client = delivery.client_of(address)
    (sent,) = client.search_runs([client.get_experiment_by_name("finite").experiment_id])
    assert sent.info.status == "FINISHED"
    assert sent.data.metrics == {"kl": 1.0}
    assert sent.data.params["server"] == server[0].replace("http://", "http://***@")
    assert "s3cret" not in "".join(capfd.readouterr())
