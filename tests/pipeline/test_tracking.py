"""Tracking: one row per trained and evaluated policy, and no effect of an unreachable server on training."""

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
from dreamset.datasets import Store
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


def runs_of(client: MlflowClient) -> tuple[list[Run], list[Run]]:
    """Rows and runs of stages."""
    entities = [client.get_experiment_by_name(name) for name in (reporting.ROWS, reporting.STAGES)]
    rows, stages = (client.search_runs([entity.experiment_id]) for entity in entities)
    return rows, stages


def test_each_objective_has_one_row_with_the_main_metrics_of_all_stages(
    client: MlflowClient, configure: Configure
) -> None:
    for objective in ("reconstruction", "reward_only"):
        train_world_model.run(configure("train_world_model", f"objective={objective}"))
        learn_behavior.run(configure("learn_behavior", f"objective={objective}"))
        evaluate.run(configure("evaluate", f"objective={objective}"))
    rows, stages = runs_of(client)
    expected = [f"pendulum_state · {name} · dreamer_v1 · s0" for name in ("reconstruction", "reward_only")]
    assert sorted(row.info.run_name for row in rows) == expected
    assert len(stages) == 6
    assert all(run.info.status == "FINISHED" for run in [*rows, *stages])
    assert not any("mlflow.parentRunId" in run.data.tags for run in [*rows, *stages])
    for row in rows:
        own = [stage for stage in stages if stage.data.tags["dreamset.row"] == row.info.run_id]
        assert sorted(stage.info.run_name for stage in own) == ["evaluate", "learn_behavior", "train_world_model"]
        assert {"validation/reward_error_h5", "evaluation/return_iqm", "imagination/reward"} <= row.data.metrics.keys()
        assert row.data.metrics["comparison/return_iqm"] == row.data.metrics["evaluation/return_iqm"]
        assert [m.step for m in client.get_metric_history(row.info.run_id, "validation/kl")] == [3, 6]
        assert {file.path for file in client.list_artifacts(row.info.run_id)} == {"media", "settings"}
        assert {file.path for file in client.list_artifacts(row.info.run_id, "settings")} == {
            f"settings/{stage}.yaml" for stage in ("train_world_model", "learn_behavior", "evaluate")
        }
        assert row.data.params["objective"] == row.data.tags["objective"]
        assert row.data.params["horizon"] == "5"
        assert not any("_target_" in name or "checkpoints" in name for name in row.data.params)
        assert "**Registered:** [pendulum_state.world_model/" in row.data.tags["mlflow.note.content"]
    names = [set(row.data.metrics) for row in rows]
    assert names[0] == names[1]
    assert len({row.data.tags["mlflow.runColor"] for row in rows}) == 2


def test_row_shows_columns_and_size_of_its_dataset(client: MlflowClient, configure: Configure) -> None:
    train_world_model.run(configure("train_world_model"))
    (row,), _ = runs_of(client)
    dataset = row.inputs.dataset_inputs[0].dataset
    columns = json.loads(dataset.schema)["mlflow_colspec"]
    assert {"name": "action", "type": "float32 [1]", "required": True} in columns
    store = Store.open(Path("data/stores/pendulum_state"))
    assert {column["name"] for column in columns} >= store.spec.observations.keys()
    assert json.loads(dataset.profile)["episodes"] == len(store.returns)
    assert json.loads(dataset.profile)["mean_return"] == pytest.approx(store.returns.mean(), abs=1e-3)


def test_changed_behavior_is_a_row_of_its_own_that_shares_the_world_model(
    client: MlflowClient, configure: Configure
) -> None:
    train_world_model.run(configure("train_world_model"))
    learn_behavior.run(configure("learn_behavior"))
    evaluate.run(configure("evaluate"))
    (first,), _ = runs_of(client)
    learn_behavior.run(configure("learn_behavior", "behavior.horizon=3"))
    (changed, before), stages = runs_of(client)
    assert len(stages) == 4
    assert before.data.metrics == first.data.metrics
    assert changed.data.params["horizon"] == "3"
    assert changed.data.params["updates"] == before.data.params["updates"]
    trained = {name: value for name, value in before.data.metrics.items() if name.startswith("validation/")}
    assert trained.items() <= changed.data.metrics.items()
    assert not any(name.startswith("evaluation/") for name in changed.data.metrics)
    media = {file.path for file in client.list_artifacts(before.info.run_id, "media/world_model")}
    assert media == {file.path for file in client.list_artifacts(changed.info.run_id, "media/world_model")} != set()
    assert not client.list_artifacts(changed.info.run_id, "media/evaluation")
    evaluate.run(configure("evaluate"))
    assert "comparison/return_iqm" in client.get_run(changed.info.run_id).data.metrics
    assert len(runs_of(client)[0]) == 2


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
    _, stages = runs_of(client)
    assert stages[0].data.metrics == {"seen": 1.0}
    assert (tracking_artifacts(stages[0]) / "kept.txt").read_text() == "as it was"
    assert {path.name for path in reporting.OUTBOX.iterdir()} <= {"delivery.lock"}


def tracking_artifacts(run: Run) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://"))


def test_line_that_mlflow_refuses_does_not_affect_other_lines(
    client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    with reporting.stage_run("picky") as run:
        run.metrics({"a name; with a forbidden * sign": 1.0})
        run.parameters({"kept": 1})
    _, stages = runs_of(client)
    assert stages[0].data.params == {"kept": "1"}
    assert stages[0].info.status == "FINISHED"
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
    _, stages = runs_of(client)
    assert len(stages) == 1
    assert [m.value for m in client.get_metric_history(stages[0].info.run_id, "seen")] == [1.0, 2.0]


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
    _, stages = runs_of(client)
    assert (stages[0].info.status, stages[0].data.metrics) == ("KILLED", {"seen": 1.0})


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
    _, stages = runs_of(client)
    assert stages[0].info.status == status
    assert stages[0].data.metrics == {"seen": 1.0}


def test_processes_may_create_the_store_at_the_same_time(warm: Path) -> None:
    code = (
        "from dreamset.pipeline.tracking import reporting\n"
        "lineage = dict.fromkeys(('dataset', 'objective', 'generation', 'dataset_digest'), 'same') | {'seed': 0}\n"
        "place = reporting.Place('train_world_model', 'key', lineage | {'key': 'key'}, resumed=True)\n"
        "with reporting.stage_run('train_world_model', at=place) as run:\n"
        "    run.metrics({'one': 1.0})\n"
        "    run.dataset(reporting.DatasetReference('data', 'digest', 'here'))\n"
    )
    environment = os.environ | {"DREAMSET_TRACKING": "foreground"}
    processes = [
        subprocess.Popen([warm / "python", "-P", "-c", code], env=environment, stderr=subprocess.PIPE) for _ in range(3)
    ]
    errors = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], json.dumps(errors)
    rows, stages = runs_of(delivery.client_of(embedded.uri()))
    assert [run.info.status for run in (*rows, *stages)] == ["FINISHED"] * 4


def test_metrics_beyond_one_request_are_all_sent(client: MlflowClient) -> None:
    with reporting.stage_run("many") as run:
        for step in range(delivery.LARGEST_BATCH + 10):
            run.metrics({"value": float(step)}, step)
    _, stages = runs_of(client)
    history = client.get_metric_history(stages[0].info.run_id, "value")
    assert [point.value for point in history] == [float(step) for step in range(delivery.LARGEST_BATCH + 10)]
