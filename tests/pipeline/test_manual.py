"""Stages that are started by hand beside a pipeline replace nothing of it, and find their own outputs."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from dreamset.pipeline.config.compose import composed
from dreamset.pipeline.stages import manual, resolve, table

PARAMS: Mapping[str, Any] = {
    "preset": "tiny",
    "dataset": "pendulum_state",
    "objectives": ["reconstruction"],
    "seeds": [0],
    "finetune": [],
    "overrides": [],
}
SAME = ("preset=tiny", "dataset=pendulum_state")
OWN = "runs/manual/pendulum_state-tiny"
MODEL = "world_model/reconstruction-0/model"


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """A folder in which the pipeline of ``PARAMS`` has run; its outputs are empty folders."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(dict(PARAMS)))
    (tmp_path / "dvc.yaml").write_text((root / "dvc.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    resolve.run(Path("params.yaml"), Path("resolved"))
    make("data/recordings/pendulum_state", "data/stores/pendulum_state")
    make(f"runs/{MODEL}", "runs/behavior/reconstruction-0/model")


def make(*folders: str) -> None:
    for folder in folders:
        Path(folder).mkdir(parents=True)


def settings(stage: str, overrides: Sequence[str] = SAME) -> dict[str, Any]:
    return manual.settings(table.STAGES[stage], composed(overrides))


@pytest.mark.parametrize("stage", ["train_world_model", "learn_behavior", "evaluate", "finetune"])
@pytest.mark.usefixtures("pipeline")
def test_manual_run_writes_beside_the_results_of_a_pipeline(stage: str) -> None:
    output = Path(settings(stage)["output"])
    assert output.is_relative_to(OWN)
    assert output.name == "reconstruction-0"


@pytest.mark.parametrize("stage", sorted(table.STAGES))
def test_without_a_pipeline_nothing_is_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    make(OWN + "/" + MODEL)
    assert settings(stage) == table.STAGES[stage](composed(SAME).config)
    assert not caplog.records


def test_dvc_file_of_other_stages_is_no_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text("stages: {train: {cmd: python train.py}}")
    assert settings("learn_behavior")["output"] == "runs/behavior/reconstruction-0"


@pytest.mark.usefixtures("pipeline")
def test_manual_run_reads_its_own_models_first_and_then_those_of_the_pipeline(caplog: pytest.LogCaptureFixture) -> None:
    assert settings("learn_behavior")["world_model"] == f"runs/{MODEL}"
    assert f"reads runs/{MODEL} of the pipeline" in caplog.text
    make(f"{OWN}/{MODEL}")
    caplog.clear()
    assert settings("learn_behavior")["world_model"] == f"{OWN}/{MODEL}"
    assert f"reads {OWN}/{MODEL}, which an earlier manual run made" in caplog.text
    evaluation = settings("evaluate")
    assert (evaluation["world_model"], evaluation["policy"]) == (
        f"{OWN}/{MODEL}",
        "runs/behavior/reconstruction-0/model",
    )


@pytest.mark.usefixtures("pipeline")
def test_given_folder_of_runs_is_used_as_given(caplog: pytest.LogCaptureFixture) -> None:
    make(f"{OWN}/{MODEL}")
    given = settings("learn_behavior", [*SAME, "paths.runs=elsewhere"])
    assert (given["world_model"], given["output"]) == (f"elsewhere/{MODEL}", "elsewhere/behavior/reconstruction-0")
    caplog.clear()
    assert settings("learn_behavior", [*SAME, "paths.runs=runs"])["output"] == "runs/behavior/reconstruction-0"
    assert "`dvc checkout learn_behavior@reconstruction-0` brings it back" in caplog.text


@pytest.mark.usefixtures("pipeline")
def test_model_of_another_preset_is_a_warning_with_the_way_back(caplog: pytest.LogCaptureFixture) -> None:
    settings("learn_behavior")
    assert "was trained with preset" not in caplog.text
    settings("learn_behavior", ["preset=small_state_v3", "dataset=pendulum_state"])
    assert f"runs/{MODEL} was trained with preset=tiny, but this stage has preset=small_state_v3" in caplog.text
    assert "run `dreamset train-world-model` with preset=small_state_v3 first" in caplog.text


@pytest.mark.parametrize("stage", ["collect", "ingest"])
@pytest.mark.usefixtures("pipeline")
def test_recording_and_store_with_the_settings_of_the_pipeline_stay_where_they_are(stage: str) -> None:
    assert settings(stage) == table.STAGES[stage](composed(SAME).config)


@pytest.mark.usefixtures("pipeline")
def test_chain_from_another_recording_stays_beside_the_data_of_the_pipeline() -> None:
    other = [*SAME, "collection.episodes=3"]
    recording = settings("collect", other)["output"]
    assert recording == "data/manual/pendulum_state-tiny/recordings/pendulum_state"
    make(f"{recording}/pendulum/mixed-state-v0")
    ingest = settings("ingest", other)
    assert Path(ingest["source"]["path"]).is_relative_to(recording)
    assert ingest["output"] == "data/manual/pendulum_state-tiny/stores/pendulum_state"
    assert ingest["card"] == "data/manual/pendulum_state-tiny/cards/pendulum_state"
    assert settings("train_world_model", other)["store"] == "data/stores/pendulum_state"
    make(ingest["output"])
    assert settings("train_world_model", other)["store"] == ingest["output"]


@pytest.mark.usefixtures("pipeline")
def test_data_of_another_dataset_than_that_of_the_pipeline_are_in_the_usual_folder() -> None:
    assert settings("collect", ["dataset=cartpole"])["output"] == "data/recordings/cartpole"


@pytest.mark.usefixtures("pipeline")
def test_lines_are_told_at_a_level_that_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    settings("train_world_model")
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert f"writes {OWN}/world_model/reconstruction-0, and runs/world_model/reconstruction-0 stays" in caplog.text


def world_model(folder: str, **lineage: str) -> None:
    """A description of a world model, as far as these checks read it."""
    made = {"dataset": "pendulum_state", "generation": "dreamer_v1", "dataset_digest": "a" * 64, **lineage}
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / "model.json").write_text(json.dumps({"lineage": made}))


@pytest.mark.parametrize("overrides", [("world_model=dreamer_v3",), ()])
@pytest.mark.usefixtures("pipeline")
def test_world_model_of_another_generation_is_a_warning_with_the_way_back(
    overrides: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    world_model(f"runs/{MODEL}")
    settings("learn_behavior", [*SAME, *overrides])
    said = f"runs/{MODEL} is a world model of dreamer_v1, but this stage has world_model=dreamer_v3"
    assert (said in caplog.text) == bool(overrides)


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.usefixtures("pipeline")
def test_store_that_changed_since_the_training_is_a_warning_with_both_digests(
    changed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = Path("data/stores/pendulum_state/dataset.json")
    manifest.write_text("now")
    now = hashlib.sha256(b"now").hexdigest()
    world_model(f"runs/{MODEL}", dataset_digest="a" * 64 if changed else now)
    settings("learn_behavior")
    said = f"was trained on another state of data/stores/pendulum_state (aaaaaaaaaaaa, now {now[:12]})"
    assert (said in caplog.text) == changed


@pytest.mark.usefixtures("pipeline")
def test_planning_a_sweep_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world_model(f"runs/{MODEL}")
    planned = manual.settings(table.STAGES["learn_behavior"], composed([*SAME, "world_model=dreamer_v3"]), told=False)
    assert caplog.text == ""
    assert planned == settings("learn_behavior", [*SAME, "world_model=dreamer_v3"])
