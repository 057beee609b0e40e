"""Which row a stage belongs to: no row is overwritten, and a killed delivery ends with the same rows."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from dreamset.pipeline.tracking import delivery, embedded, reporting, rows
from dreamset.pipeline.tracking.labels import Labels, labelled
from tests.pipeline.reported import LINEAGE, PRESET


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("DREAMSET_TRACKING", "foreground")
    monkeypatch.setenv("DREAMSET_SYSTEM_METRICS", "off")
    Path("tracking").mkdir()
    client: MlflowClient = delivery.client_of(embedded.uri())
    return client


def record(
    stage: str,
    key: str,
    metrics: Mapping[str, float],
    *,
    overrides: tuple[str, ...] = (),
    lineage: Mapping[str, Any] = LINEAGE,
    error: type[Exception] | None = None,
    seconds: float = 0.0,
    **place: Any,
) -> None:
    """Runs a stage that reports some metrics."""
    at = reporting.Place(stage, key, lineage, **place)
    with labelled(Labels(PRESET, overrides)), reporting.stage_run(stage, at=at) as run:
        run.parameters({f"{stage}_key": key}, on_row=True)
        for step, (name, value) in enumerate(metrics.items()):
            run.headline({name: value}, step)
        time.sleep(seconds)
        if error is not None:
            raise error


def rows_of(client: MlflowClient, experiment: str = reporting.ROWS) -> list[Run]:
    """The oldest first."""
    entity = client.get_experiment_by_name(experiment)
    assert entity is not None
    runs: list[Run] = client.search_runs([entity.experiment_id], order_by=["start_time ASC"])
    return runs


def names(client: MlflowClient) -> list[str]:
    return sorted(row.info.run_name for row in rows_of(client))


def test_stages_of_one_model_share_a_row_whose_name_tells_the_choices(client: MlflowClient) -> None:
    record("train_world_model", "of-training", {"validation/kl": 1.0}, overrides=("behavior.horizon=10", "seed=3"))
    assert names(client) == ["robot · contrastive · small · s3"]
    record("learn_behavior", "b", {"imagination/reward": 2.0}, overrides=("behavior.horizon=10",))
    record("evaluate", "e", {"evaluation/return_iqm": 3.0}, overrides=("behavior.horizon=10",))
    (row,) = rows_of(client)
    assert row.info.run_name == "robot · contrastive · small · s3 · horizon=10"
    assert {"validation/kl", "imagination/reward", "comparison/return_iqm"} <= row.data.metrics.keys()
    expected = {"dataset": "robot", "objective": "contrastive", "generation": "dreamer_v2", "preset": "small"}
    assert expected.items() <= row.data.tags.items()
    assert {run.data.tags["row"] for run in rows_of(client, reporting.STAGES)} == {row.info.run_name}
    assert list(row.data.params)[:5] == ["dataset", "objective", "preset", "generation", "seed"]


def test_evaluation_with_other_episodes_keeps_the_earlier_figures(client: MlflowClient) -> None:
    record("train_world_model", "of-training", {"validation/kl": 1.0})
    record("learn_behavior", "b", {"imagination/reward": 2.0})
    record("evaluate", "e", {"evaluation/return_iqm": 3.0, "evaluation/old": 0.0})
    record("evaluate", "other", {"evaluation/return_iqm": 4.0}, overrides=("evaluation.episodes=6",))
    first, second = rows_of(client)
    assert [row.data.metrics["comparison/return_iqm"] for row in (first, second)] == [3.0, 4.0]
    assert len(client.get_metric_history(second.info.run_id, "comparison/return_iqm")) == 1
    assert "evaluation/old" not in second.data.metrics
    assert second.data.metrics["imagination/reward"] == 2.0
    assert second.data.params["learn_behavior_key"] == "b"
    assert second.info.run_name == f"{first.info.run_name} · evaluation.episodes=6"
    assert f"[{first.info.run_name}](#/experiments/" in second.data.tags["mlflow.note.content"]


def test_fork_has_the_history_of_the_shared_stages(client: MlflowClient) -> None:
    with reporting.stage_run("train_world_model", at=reporting.Place("train_world_model", "t", LINEAGE)) as run:
        for step in range(rows.LARGEST_BATCH + 5):
            run.headline({"loss/kl": float(step)}, step)
    record("learn_behavior", "b", {})
    record("learn_behavior", "c", {})
    for row in rows_of(client):
        history = client.get_metric_history(row.info.run_id, "loss/kl")
        assert [(point.step, point.value) for point in history] == [(n, float(n)) for n in range(len(history))]
        assert len(history) == rows.LARGEST_BATCH + 5


def test_evaluation_joins_the_row_of_its_own_policy(client: MlflowClient) -> None:
    record("train_world_model", "of-training", {})
    for key in ("b", "c"):
        record("learn_behavior", key, {})
    first, second = rows_of(client)
    rows.update(client, first.info.run_id, "learn_behavior", model="policy-b")
    rows.update(client, second.info.run_id, "learn_behavior", model="policy-c")
    record("evaluate", "e", {"evaluation/return_iqm": 1.0}, policy="policy-b")
    record("evaluate", "f", {"evaluation/return_iqm": 2.0}, policy="policy-c")
    assert [row.data.metrics["comparison/return_iqm"] for row in rows_of(client)] == [1.0, 2.0]


def test_policy_that_no_row_knows_gets_a_row_with_the_world_model_only(client: MlflowClient) -> None:
    record("train_world_model", "of-training", {"validation/kl": 1.0})
    record("learn_behavior", "b", {"imagination/reward": 2.0})
    rows.update(client, rows_of(client)[0].info.run_id, "learn_behavior", model="policy-b")
    record("evaluate", "e", {"evaluation/return_iqm": 1.0}, policy="of an earlier release")
    other = next(row for row in rows_of(client) if "evaluation/return_iqm" in row.data.metrics)
    assert other.data.metrics["validation/kl"] == 1.0
    assert "imagination/reward" not in other.data.metrics
    record("evaluate", "e", {}, lineage=LINEAGE | {"key": "unknown"}, policy="any")
    assert len(rows_of(client)) == 3


def test_training_from_scratch_gets_a_row_and_a_resumed_one_keeps_its_row(client: MlflowClient) -> None:
    record("train_world_model", "of-training", {"loss/kl": 1.0})
    record("train_world_model", "of-training", {"loss/reward": 1.0}, resumed=True)
    assert len(rows_of(client)) == 1
    record("train_world_model", "of-training", {"loss/kl": 1.0})
    name = "robot · contrastive · small · s3"
    assert names(client) == [name, f"{name} (2)"]


def test_repeated_stage_is_a_new_row_unless_the_first_attempt_failed(client: MlflowClient) -> None:
    record("train_world_model", "of-training", {})
    with pytest.raises(ZeroDivisionError):
        record("learn_behavior", "b", {}, error=ZeroDivisionError)
    assert rows_of(client)[0].info.status == "FAILED"
    record("learn_behavior", "b", {"imagination/reward": 1.0})
    assert [row.info.status for row in rows_of(client)] == ["FINISHED"]
    record("learn_behavior", "b", {"imagination/reward": 2.0})
    assert [row.data.metrics["imagination/reward"] for row in rows_of(client)] == [1.0, 2.0]


def test_duration_of_a_row_is_the_sum_of_its_stages(client: MlflowClient) -> None:
    record("train_world_model", "of-training", {}, seconds=0.1)
    time.sleep(0.3)  # between two commands
    record("learn_behavior", "b", {}, seconds=0.05)
    record("learn_behavior", "c", {}, seconds=0.02)
    stages = [run.info.end_time - run.info.start_time for run in rows_of(client, reporting.STAGES)]
    first, second = (row.info.end_time - row.info.start_time for row in rows_of(client))
    assert min(stages) > 0
    assert first == stages[0] + stages[1]
    assert second == stages[0] + stages[2]


@pytest.mark.parametrize("step", ["_copied", "_describe", "refresh_note"])
def test_delivery_killed_midway_through_a_fork_leaves_one_row(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("away")

    record("train_world_model", "of-training", {"validation/kl": 1.0})
    record("learn_behavior", "b", {})
    with monkeypatch.context() as broken:
        broken.setattr(rows, step, fail)
        broken.setattr(type(client), "search_experiments", fail)
        record("learn_behavior", "c", {"imagination/reward": 1.0})
        assert (reporting.OUTBOX / "failure.txt").exists()
    delivery.deliver_all(reporting.OUTBOX)
    assert len(rows_of(client)) == 2
    assert len(rows_of(client, reporting.STAGES)) == 3
    fork = next(row for row in rows_of(client) if "imagination/reward" in row.data.metrics)
    assert (fork.data.metrics["validation/kl"], fork.info.status) == (1.0, "FINISHED")
    assert len(client.get_metric_history(fork.info.run_id, "validation/kl")) == 1


def test_rows_of_one_objective_have_one_colour_and_objectives_differ(client: MlflowClient) -> None:
    for key, objective in (("a", "contrastive"), ("b", "reward_only"), ("c", "contrastive")):
        lineage = LINEAGE | {"key": key, "objective": objective}
        record("train_world_model", key, {}, lineage=lineage)
    colors = [row.data.tags["mlflow.runColor"] for row in rows_of(client)]
    assert colors[0] == colors[2] != colors[1]


def test_outbox_file_of_an_earlier_release_is_delivered_to_a_row(client: MlflowClient) -> None:
    reporting.OUTBOX.mkdir()
    opening = {"kind": "open", "at": 1000, "stage": "train_world_model", "experiment": "dreamset", "uri": None}
    lines = [
        opening | {"root": "contrastive (seed 3)", "lineage": "of-training", "new_root": True},
        {"kind": "metrics", "at": 2000, "values": {"validation/kl": 1.0}, "step": 5, "on_root": True},
        {"kind": "dataset", "at": 2000, "values": {"name": "robot", "digest": "d", "source": "s"}, "on_root": True},
        {"kind": "finish", "at": 3000, "status": "FINISHED"},
    ]
    (reporting.OUTBOX / "1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    delivery.deliver_all(reporting.OUTBOX)
    (row,) = rows_of(client)
    assert (row.info.run_name, row.data.metrics) == ("contrastive · s3", {"validation/kl": 1.0})
    assert (row.info.start_time, row.info.end_time, row.info.status) == (1000, 3000, "FINISHED")
    assert row.data.tags["objective"] == "contrastive"
    assert "dataset" not in row.data.tags


def test_experiments_describe_themselves_and_a_written_description_stays(client: MlflowClient) -> None:
    record("train_world_model", "of-training", {})
    found = {entity.name: entity for entity in client.search_experiments()}
    assert found.keys() == {reporting.ROWS, reporting.STAGES, reporting.DATASETS, reporting.COMPARISONS}
    for entity in found.values():
        note = entity.tags["mlflow.note.content"]
        assert all(f"[{name}](#/experiments/{other.experiment_id})" in note for name, other in found.items())
    client.set_experiment_tag(found[reporting.ROWS].experiment_id, "mlflow.note.content", "mine")
    delivery.experiments._described.cache_clear()
    record("learn_behavior", "b", {})
    assert client.get_experiment_by_name(reporting.ROWS).tags["mlflow.note.content"] == "mine"


def test_fork_has_the_results_of_shared_stages_but_not_the_load_of_the_machine(client: MlflowClient) -> None:
    record("train_world_model", "of-training", {"validation/kl": 1.0, "system/cpu_utilization_percentage": 50.0})
    record("learn_behavior", "b", {})
    record("learn_behavior", "c", {})
    first, fork = (row.data.metrics for row in rows_of(client))
    assert first["system/cpu_utilization_percentage"] == 50.0
    assert fork["validation/kl"] == 1.0
    assert not any(name.startswith("system/") for name in fork)
