"""Stages that are started by hand beside a pipeline replace nothing of it, and find their own outputs."""

import hashlib
import json
import logging
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dreamset.datasets import Store
from dreamset.pipeline import cli
from dreamset.pipeline.artifacts.saved_models import model_digest
from dreamset.pipeline.config.compose import composed
from dreamset.pipeline.stages import manual, provenance, resolve, table

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


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A folder in which the pipeline of ``PARAMS`` has run; its outputs are empty folders."""
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "params.yaml").write_text(yaml.safe_dump(dict(PARAMS)))
    (folder / "dvc.yaml").write_text((root / "dvc.yaml").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        resolve.run(Path("params.yaml"), Path("resolved"))
        make("data/recordings/pendulum_state", "data/stores/pendulum_state")
        make(f"runs/{MODEL}", "runs/behavior/reconstruction-0/model")
    return folder


@pytest.fixture
def pipeline(resolved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder is a copy of that folder."""
    shutil.copytree(resolved, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


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
    assert recording == "data/manual/tiny/recordings/pendulum_state"
    make(f"{recording}/pendulum/mixed-state-v0")
    ingest = settings("ingest", other)
    assert Path(ingest["source"]["path"]).is_relative_to(recording)
    assert ingest["output"] == "data/manual/tiny/stores/pendulum_state"
    assert ingest["card"] == "data/manual/tiny/cards/pendulum_state"
    assert settings("train_world_model", other)["store"] == "data/stores/pendulum_state"
    make(ingest["output"])
    assert settings("train_world_model", other)["store"] == ingest["output"]


@pytest.mark.usefixtures("pipeline")
def test_data_of_another_dataset_than_that_of_the_pipeline_are_in_the_usual_folder() -> None:
    assert made_by_hand("collect", ["dataset=cartpole"])["output"] == "data/recordings/cartpole"
    assert settings("collect", ["dataset=cartpole"])["output"] == "data/recordings/cartpole"


@pytest.mark.usefixtures("pipeline")
def test_data_that_the_pipeline_made_before_it_took_another_dataset_are_kept() -> None:
    make("data/recordings/cartpole")
    assert settings("collect", ["dataset=cartpole"])["output"] == "data/manual/small/recordings/cartpole"


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


@pytest.mark.parametrize("stage", ["learn_behavior", "evaluate", "finetune"])
@pytest.mark.parametrize("overrides", [("world_model=dreamer_v3",), ()])
@pytest.mark.usefixtures("pipeline")
def test_world_model_of_another_generation_is_a_warning_with_the_way_back(
    stage: str, overrides: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    world_model(f"runs/{MODEL}")
    settings(stage, [*SAME, *overrides])
    said = f"runs/{MODEL} is a world model of dreamer_v1, but this stage has world_model=dreamer_v3"
    assert (said in caplog.text) == bool(overrides)


@pytest.mark.parametrize("stage", ["learn_behavior", "finetune"])
@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.usefixtures("pipeline")
def test_store_that_changed_since_the_training_is_a_warning_with_both_digests(
    stage: str, changed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = Path("data/stores/pendulum_state/dataset.json")
    manifest.write_text("now")
    now = hashlib.sha256(b"now").hexdigest()
    world_model(f"runs/{MODEL}", dataset_digest="a" * 64 if changed else now)
    settings(stage)
    said = f"was trained on another state of data/stores/pendulum_state (aaaaaaaaaaaa, now {now[:12]})"
    assert (said in caplog.text) == changed


def made_by_hand(stage: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Runs a stage as far as its folders and their ``run.yaml`` go, and returns its settings."""
    chosen = settings(stage, overrides)
    labels = composed(overrides).labels
    provenance.write(table.STAGES[stage], chosen, labels, overrides, [])
    if stage == "collect":
        Path(chosen["output"], chosen["recording"]["dataset_id"]).mkdir(parents=True, exist_ok=True)
    return chosen


def spin(overrides: Sequence[str]) -> list[str]:
    """The same preset with the data set that relabels pendulum_state."""
    return ["dataset=pendulum_spin", *(text for text in overrides if text.startswith("preset="))]


def test_recording_of_another_preset_is_kept_and_the_chain_of_each_preset_finds_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    small, tiny = ["dataset=pendulum_state", "preset=small_state_v3"], list(SAME)
    for overrides in (small, tiny):
        for stage in ("collect", "ingest"):
            made_by_hand(stage, overrides)
        made_by_hand("ingest", spin(overrides))
    assert "writes data/manual/tiny/recordings/pendulum_state, and data/recordings/pendulum_state stays" in caplog.text
    for overrides, folder in ((small, "data"), (tiny, "data/manual/tiny")):
        assert settings("train_world_model", overrides)["store"] == f"{folder}/stores/pendulum_state"
        assert settings("ingest", spin(overrides))["source"]["path"] == f"{folder}/stores/pendulum_state"
        assert settings("train_world_model", spin(overrides))["store"] == f"{folder}/stores/pendulum_spin"


def test_recording_that_the_same_preset_replaces_is_told_with_both_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    made_by_hand("collect", SAME)
    made_by_hand("collect", SAME)
    assert not caplog.records
    assert made_by_hand("collect", [*SAME, "collection.episodes=3"])["output"] == "data/recordings/pendulum_state"
    said = "replaces data/recordings/pendulum_state, which was made with dataset.recording.episodes=12, now 3"
    assert said in caplog.text


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.usefixtures("pipeline")
def test_data_of_another_recording_are_a_warning_with_both_values(
    by_hand: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if by_hand:
        Path("dvc.yaml").unlink()
        shutil.rmtree("resolved")
        made_by_hand("collect", SAME)
    settings("train_world_model")
    assert "was recorded with" not in caplog.text
    settings("train_world_model", ["preset=small_state", "dataset=pendulum_state"])
    said = "data/recordings/pendulum_state was recorded with dataset.recording.episodes=12, now 200"
    assert said in caplog.text
    assert "repeat its settings (preset=tiny), or run `dreamset collect`" in caplog.text


def test_model_of_another_preset_is_a_warning_without_a_pipeline_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    made_by_hand("train_world_model", SAME)
    settings("learn_behavior", SAME)
    assert not caplog.records
    settings("learn_behavior", ["preset=small_state", "dataset=pendulum_state"])
    assert f"runs/{MODEL} was trained with preset=tiny, but this stage has preset=small_state" in caplog.text


@pytest.mark.parametrize("stage", ["evaluate", "finetune"])
@pytest.mark.parametrize("retrained", [False, True])
@pytest.mark.usefixtures("pipeline")
def test_policy_of_another_world_model_is_a_warning(
    stage: str, retrained: bool, caplog: pytest.LogCaptureFixture
) -> None:
    world_model(f"runs/{MODEL}")
    Path(f"runs/{MODEL}/model.safetensors").write_bytes(b"weights")
    lineage = {"world_model": {"digest": model_digest(Path(f"runs/{MODEL}"))}}
    policy = "runs/behavior/reconstruction-0/model"
    Path(policy, "model.json").write_text(json.dumps({"lineage": lineage}))
    if retrained:
        Path(f"runs/{MODEL}/model.safetensors").write_bytes(b"other weights")
    settings(stage)
    said = f"{policy} was learned in another world model than runs/{MODEL}; run `dreamset learn-behavior`"
    assert (said in caplog.text) == retrained


def test_run_by_hand_says_in_its_output_how_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DREAMSET_TRACKING", "off")
    Path("walks").mkdir()
    for number in range(2):
        np.savez(f"walks/{number}.npz", state=np.full((9, 2), number, np.float32), action=np.zeros((9, 1)))
    overrides = ["dataset=npz_folder", "preset=tiny", "dataset.name=walks", "dataset.source.path=walks"]
    overrides += [
        "dataset.source.observations={state: state}",
        "dataset.source.terminal=null",
        "dataset.source.reward=null",
    ]
    cli.main(["ingest", *overrides])
    capsys.readouterr()
    text = Path("data/stores/walks/run.yaml").read_text()
    made = yaml.safe_load(text)
    assert text.startswith("# How this folder was made.\ncommand: ")
    assert shlex.split(made["command"]) == ["dreamset", "ingest", *overrides]
    assert made["choices"]["preset"] == "tiny"
    assert made["read"] == {"walks": None}
    assert made["settings"]["source"]["observations"] == {"state": "state"}
    assert Store.open("data/stores/walks").info["counts"]["episodes"] == 2


@pytest.mark.usefixtures("pipeline")
def test_output_of_the_pipeline_gets_no_file_of_a_run_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table.Stage, "run", lambda _stage, _config: ())
    cli.main(["ingest", *SAME])  # has the settings of the pipeline, so it writes there
    assert list(Path("data/stores/pendulum_state").iterdir()) == []
    cli.main(["ingest", *SAME, "dataset.split.seed=5"])
    assert [path.name for path in Path("data/manual/tiny/stores/pendulum_state").iterdir()] == ["run.yaml"]


@pytest.mark.usefixtures("pipeline")
def test_planning_a_sweep_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world_model(f"runs/{MODEL}")
    planned = manual.settings(table.STAGES["learn_behavior"], composed([*SAME, "world_model=dreamer_v3"]), told=False)
    assert caplog.text == ""
    assert planned == settings("learn_behavior", [*SAME, "world_model=dreamer_v3"])
