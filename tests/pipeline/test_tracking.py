"""Tracking: one root run per objective, stages as child runs, and no effect of an unreachable server on training."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from dreamset.core.errors import UserError
from dreamset.pipeline.stages import evaluate, learn_behavior, train_world_model
from dreamset.pipeline.tracking import delivery, embedded, reporting

Configure = Callable[..., dict[str, Any]]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """The embedded store of the working folder; stages send before they end."""
    monkeypatch.setenv("DREAMSET_TRACKING", "foreground")
    Path("tracking").mkdir()
    client: MlflowClient = delivery.client_of(embedded.uri())
    return client


def runs_of(client: MlflowClient, experiment: str = reporting.OBJECTIVES) -> tuple[list[Run], list[Run]]:
    """Roots and children."""
    entity = client.get_experiment_by_name(experiment)
    assert entity is not None
    runs = client.search_runs([entity.experiment_id])
    roots = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return roots, [run for run in runs if run not in roots]


def test_each_objective_has_one_root_run_with_main_metrics_of_all_stages(
    client: MlflowClient, configure: Configure
) -> None:
    for objective in ("reconstruction", "reward_only"):
        train_world_model.run(configure("train_world_model", f"objective={objective}"))
        learn_behavior.run(configure("learn_behavior", f"objective={objective}"))
        evaluate.run(configure("evaluate", f"objective={objective}"))
    roots, children = runs_of(client)
    assert sorted(root.info.run_name for root in roots) == ["reconstruction (seed 0)", "reward_only (seed 0)"]
    assert len(children) == 6
    assert all(run.info.status == "FINISHED" for run in [*roots, *children])
    for root in roots:
        own = [child for child in children if child.data.tags["mlflow.parentRunId"] == root.info.run_id]
        assert sorted(child.info.run_name for child in own) == ["evaluate", "learn_behavior", "train_world_model"]
        assert {"validation/reward_error_h5", "evaluation/return_iqm", "imagination/reward"} <= root.data.metrics.keys()
        assert [m.step for m in client.get_metric_history(root.info.run_id, "validation/kl")] == [3, 6]
        assert root.inputs.dataset_inputs[0].dataset.name == "pendulum_state"
        assert {file.path for file in client.list_artifacts(root.info.run_id)} == {"media"}
        assert root.data.params["objective_name"] in root.info.run_name
    names = [set(root.data.metrics) for root in roots]
    assert names[0] == names[1]


def test_later_stage_finds_the_root_run_of_its_model(client: MlflowClient, configure: Configure) -> None:
    train_world_model.run(configure("train_world_model"))
    learn_behavior.run(configure("learn_behavior"))
    learn_behavior.run(configure("learn_behavior", "behavior.horizon=3"))
    roots, children = runs_of(client)
    assert len(roots) == 1
    assert len(children) == 3


def test_reports_reach_an_unreachable_server_once_it_is_back(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    artifact = tmp_path / "kept.txt"
    artifact.write_text("as it was")
    with reporting.stage_run("patient") as run:
        run.metrics({"seen": 1.0})
        run.artifacts(artifact)
    assert sum("1 run(s) in tracking/outbox are not sent yet" in record.message for record in caplog.records) == 1
    artifact.unlink()
    (log_file,) = reporting.OUTBOX.glob("*.jsonl")
    log_file.write_text(log_file.read_text().replace('"http://127.0.0.1:9"', "null"))  # the server is back
    delivery.deliver_all(reporting.OUTBOX)
    roots, _ = runs_of(client)
    assert roots[0].data.metrics == {"seen": 1.0}
    assert (tracking_artifacts(roots[0]) / "kept.txt").read_text() == "as it was"
    assert {path.name for path in reporting.OUTBOX.iterdir()} <= {"delivery.lock"}


def tracking_artifacts(run: Run) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://"))


def test_line_that_mlflow_refuses_does_not_affect_other_lines(
    client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    with reporting.stage_run("picky") as run:
        run.metrics({"a name; with a forbidden * sign": 1.0})
        run.parameters({"kept": 1})
    roots, _ = runs_of(client)
    assert roots[0].data.params == {"kept": "1"}
    assert roots[0].info.status == "FINISHED"
    assert any("MLflow refuses metrics" in record.message for record in caplog.records)


def test_interrupted_delivery_sends_each_line_once(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("away")

    with monkeypatch.context() as broken:
        broken.setitem(delivery.SENDERS, "parameters", fail)
        broken.setattr(type(client), "search_experiments", fail)
        with reporting.stage_run("twice") as run:
            run.metrics({"seen": 1.0})
            run.parameters({"kept": 1})
            run.metrics({"seen": 2.0}, 1)
        assert (reporting.OUTBOX / "failure.txt").read_text() == "away"
    delivery.deliver_all(reporting.OUTBOX)
    roots, _ = runs_of(client)
    assert len(roots) == 1
    assert [m.value for m in client.get_metric_history(roots[0].info.run_id, "seen")] == [1.0, 2.0]


def test_background_process_marks_a_killed_stage(client: MlflowClient) -> None:
    code = (
        "import os, signal\n"
        "from dreamset.pipeline.tracking import reporting\n"
        "with reporting.stage_run('shot') as run:\n"
        "    run.metrics({'seen': 1.0})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"DREAMSET_TRACKING": "background"}
    shot = subprocess.run([sys.executable, "-P", "-c", code], env=environment, timeout=60)
    assert shot.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while list(reporting.OUTBOX.glob("*.jsonl")):
        assert time.monotonic() < deadline, (reporting.OUTBOX / "delivery.log").read_text()
        time.sleep(0.1)
    roots, _ = runs_of(client)
    assert (roots[0].info.status, roots[0].data.metrics) == ("KILLED", {"seen": 1.0})


def test_tracking_off_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMSET_TRACKING", "off")
    with reporting.stage_run("silent") as run:
        run.metrics({"seen": 1.0})
        run.artifacts(Path("nowhere"))
    assert not Path("tracking").exists()


def test_unknown_tracking_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMSET_TRACKING", "sometimes")
    with pytest.raises(UserError, match="DREAMSET_TRACKING is 'sometimes'"), reporting.stage_run("any"):
        pass


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_failed_or_interrupted_run_is_marked(client: MlflowClient, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), reporting.stage_run("broken") as run:
        run.metrics({"seen": 1.0})
        raise error
    roots, _ = runs_of(client)
    assert roots[0].info.status == status
    assert roots[0].data.metrics == {"seen": 1.0}


def test_processes_may_create_the_store_at_the_same_time() -> None:
    code = (
        "from dreamset.pipeline.tracking import reporting\n"
        "with reporting.stage_run('together', root='root', lineage='same') as run:\n"
        "    run.metrics({'one': 1.0})\n"
        "    run.dataset(reporting.DatasetReference('data', 'digest', 'here'))\n"
    )
    environment = os.environ | {"DREAMSET_TRACKING": "foreground"}
    processes = [
        subprocess.Popen([sys.executable, "-P", "-c", code], env=environment, stderr=subprocess.PIPE) for _ in range(3)
    ]
    errors = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], json.dumps(errors)
    roots, children = runs_of(delivery.client_of(embedded.uri()))
    assert [run.info.status for run in (*roots, *children)] == ["FINISHED"] * 4


def test_metrics_beyond_one_request_are_all_sent(client: MlflowClient) -> None:
    with reporting.stage_run("many") as run:
        for step in range(delivery.LARGEST_BATCH + 10):
            run.metrics({"value": float(step)}, step)
    roots, _ = runs_of(client)
    history = client.get_metric_history(roots[0].info.run_id, "value")
    assert [point.value for point in history] == [float(step) for step in range(delivery.LARGEST_BATCH + 10)]
