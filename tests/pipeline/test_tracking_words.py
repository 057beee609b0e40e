"""What a person reads in MLflow: names, parameters, metrics and descriptions; and the load of the machine."""

import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.report.metrics import METRICS
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.tracking import labels, names, notes, place, system

IDENTITY: Mapping[str, Any] = {
    "dataset": "robot",
    "objective": "contrastive",
    "generation": "dreamer_v3",
    "preset": "small_v3",
    "preset_tells_generation": True,
    "seed": 0,
    "adapted_from": None,
    "fine_tuned": False,
}


@pytest.mark.parametrize(
    ("changes", "overrides", "expected"),
    [
        ({}, [], "robot · contrastive · small_v3 · s0"),
        ({"preset_tells_generation": False}, [], "robot · contrastive · small_v3 · dreamer_v3 · s0"),
        ({"preset": None}, [], "robot · contrastive · dreamer_v3 · s0"),
        ({}, ["behavior.horizon=10", "reward=mean_disagreement"], "… · s0 · horizon=10 · reward=mean_disagreement"),
        ({"adapted_from": "robot.world_model/3"}, [], "… · s0 · adapted from robot.world_model/3"),
        ({"fine_tuned": True}, ["world_model_training.updates=9"], "… · s0 · updates=9 · fine-tuned"),
        ({}, ["+behavior.name='a \"b\"'"], "… · s0 · name=a b"),
    ],
)
def test_name_of_a_row_tells_its_choices(changes: dict[str, Any], overrides: list[str], expected: str) -> None:
    assert names.row_name({**IDENTITY, **changes}, overrides) == expected.replace("…", "robot · contrastive · small_v3")


def test_long_name_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "LONGEST_NAME", 12)
    assert names.row_name(IDENTITY, []) == "robot · con…"


def test_equal_keys_of_both_trainings_have_different_short_names() -> None:
    keys = ("world_model_training.updates=1", "behavior_training.updates=1", "finetuning.updates=1")
    assert len({names.short_override(key) for key in keys}) == 3
    assert names.short_override("evaluation.episodes=6") == "evaluation.episodes=6"
    assert names.short_override("reward/weight=strong") == "weight=strong"


def test_each_override_concerns_one_stage() -> None:
    overrides = ["network.hidden=8", "behavior.horizon=3", "reward=predicted", "evaluation.episodes=2", "seed=1"]
    by_stage = {stage: names.of_stage(stage, overrides) for stage in place_stages()}
    assert by_stage == {
        "train_world_model": ["network.hidden=8"],
        "learn_behavior": ["behavior.horizon=3", "reward=predicted"],
        "finetune": [],
        "evaluate": ["evaluation.episodes=2"],
    }


def place_stages() -> list[str]:
    return [*stages.PER_OBJECTIVE, *stages.ONLINE]


def test_parameters_are_what_a_person_chooses_without_plumbing() -> None:
    config = compose(["preset=tiny", "dataset=pendulum_state", "behavior.horizon=3", "behavior.lambda_=0.5"])
    overrides = ["behavior.horizon=3", "behavior.lambda_=0.5", "network.hidden=9"]
    settings = stages.learn_behavior(config)
    by_class = names.parameters("learn_behavior", settings, {}, overrides)
    assert by_class == {
        "behavior": "ImaginationActorCritic",
        "reward": "PredictedReward",
        "horizon": 3,
        "discount": settings["behavior"]["discount"],
        "behavior_updates": settings["training"]["updates"],
        "behavior_batch": settings["training"]["batch"]["size"],
        "behavior_seed": 0,
        "lambda_": "0.5",
    }
    by_choice = names.parameters("learn_behavior", settings, {"behavior": "dreamer_v1", "reward": "predicted"}, [])
    assert (by_choice["behavior"], by_choice["reward"]) == ("dreamer_v1", "predicted")


def test_every_parameter_is_in_the_settings_of_its_stage_and_belongs_to_one_stage() -> None:
    config = compose(["preset=tiny", "dataset=pendulum_state"])
    of_row = [*names.FIRST]
    for stage in place_stages():
        found = names.parameters(stage, stages.STAGES[stage](config), {"acting": "actor"}, [])
        assert found.keys() == names.PARAMETERS[stage].keys()
        of_row += found
    assert len(set(of_row)) == len(of_row)


def test_headline_metrics_come_first_and_costs_last_in_the_order_of_sections() -> None:
    values = {"cost/updates": 1.0, "evaluation/return_iqm": 2.0, "gradient_norm/a": 3.0, "validation/probe_r2": 4.0}
    shown = names.row_metrics(values)
    assert shown == {
        "comparison/return_iqm": 2.0,
        "comparison/probe_r2": 4.0,
        "workload/updates": 1.0,
        "evaluation/return_iqm": 2.0,
        "gradient_norm/a": 3.0,
        "validation/probe_r2": 4.0,
    }
    written = {f"{entry.pattern.partition('/')[0]}/any": 0.0 for entry in METRICS}
    families = {name.partition("/")[0] for name in names.stage_metrics(written)}
    assert sorted({*families, names.HEADLINES})[0] == names.HEADLINES
    assert sorted(families)[-1] == "workload"
    assert names.stage_metrics(values).keys() == {name.replace("cost", "workload") for name in values}
    assert names.stored_metrics(names.stage_metrics(written)) == written


def test_headline_has_the_return_with_its_interval_first() -> None:
    metrics = {"validation/probe_r2": 0.5, "evaluation/return_iqm": 2.0, "comparison/return_iqm": 2.0, "loss/kl": 1.0}
    assert notes.headline(metrics) == "return (IQM) **2.0** · probe R² **0.500**"
    bounds = {"evaluation/return_iqm_low": 1.0, "evaluation/return_iqm_high": 3.25}
    assert notes.headline(metrics | bounds).startswith("return (IQM) **2.0** (interval 1.0 to 3.2) · ")


@pytest.mark.parametrize(
    ("imagined", "real", "warned"),
    [(72.9, 23.7, True), (88.0, 86.2, False), (-100.0, -900.0, True), (-900.0, -100.0, False), (10.0, 20.0, False)],
)
def test_imagined_return_far_above_the_real_one_is_explained(imagined: float, real: float, warned: bool) -> None:
    metrics = {"evaluation/imagined_return": imagined, "evaluation/real_return": real}
    assert ("exploits errors" in notes.exploitation(metrics)) == warned
    assert notes.exploitation({}) == ""


def test_command_that_reproduces_a_stage_is_the_one_that_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = labels.Labels({"preset": "small", "dataset": "robot"}, ["behavior.horizon=10", "reward=predicted"])
    monkeypatch.setattr(sys, "argv", ["/bin/dreamset", "evaluate", "preset=small", "a=[1, 2]"])
    assert place.command(chosen) == "dreamset evaluate preset=small 'a=[1, 2]'"
    monkeypatch.setattr(sys, "argv", ["/bin/dreamset", "evaluate", "--resolved", "resolved/evaluate/a-0.yaml"])
    overrides = '\'overrides=["behavior.horizon=10", "reward=predicted"]\''
    assert place.command(chosen) == f"dvc exp run -S preset=small -S dataset=robot -S {overrides}"
    monkeypatch.setattr(sys, "argv", ["/bin/pytest"])
    assert place.command(chosen) is None


@pytest.mark.parametrize(
    ("present", "form"),
    [
        ("", '\'overrides=["behavior.horizon=10", "reward=predicted"]\''),
        ("[seed=1]", '\'overrides=["behavior.horizon=10", "reward=predicted"]\''),
        ("{seed: 1}", "'+overrides={behavior.horizon: 10, reward: predicted}'"),
    ],
)
def test_command_that_reproduces_a_stage_has_the_form_of_params_yaml(
    present: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(f"overrides: {present}\n")
    monkeypatch.setattr(sys, "argv", ["/bin/dreamset", "evaluate", "--resolved", "resolved/evaluate/a-0.yaml"])
    chosen = labels.Labels({}, ["behavior.horizon=10", "reward=predicted"])
    assert place.command(chosen) == f"dvc exp run -S {form}"


def test_only_the_last_command_of_the_whole_pipeline_is_shown() -> None:
    shown = notes.reproduction(["dvc exp run -S a", None, "dvc exp run -S a -S b", "dreamset evaluate"], {})
    assert shown.split("```")[1].split("\n") == ["", "dvc exp run -S a -S b", "dreamset evaluate", ""]


def test_commit_of_the_working_folder_and_its_changes_are_tags(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *who, *arguments], capture_output=True, text=True, check=True).stdout.strip()

    assert "commit" not in place.tags(labels.Labels())
    git("init", "-q")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD")
    assert place.commit() == {"commit": head, "dirty": "false", "mlflow.source.git.commit": head}
    (tmp_path / "file").write_text("b")
    assert place.commit()["dirty"] == "true"


def test_load_is_sampled_until_the_stage_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(system, "SECONDS", 0.01)
    samples, enough = [], threading.Event()

    def report(values: Mapping[str, float], number: int) -> None:
        samples.append((number, values))
        if number == 2:
            enough.set()

    with system.sampled(report):
        assert enough.wait(20)
    ended = len(samples)
    assert [number for number, _ in samples] == list(range(ended))
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= samples[0][1].keys()
    assert 0 < samples[0][1]["system/system_memory_usage_percentage"] < 100
    assert not [thread for thread in threading.enumerate() if thread.name == "system-metrics"]


def test_load_that_cannot_be_read_costs_the_stage_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> None:
        raise PermissionError("/proc")

    monkeypatch.setattr(system.psutil, "virtual_memory", forbidden)
    monkeypatch.setattr(system, "FIRST_SECONDS", 0.0)
    with system.sampled(lambda *_: pytest.fail("a sample")):
        for thread in threading.enumerate():
            if thread.name == "system-metrics":
                thread.join(20)


def test_variable_switches_the_load_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert system.enabled()
    monkeypatch.setenv(system.VARIABLE, "off")
    assert not system.enabled()
    monkeypatch.setenv(system.VARIABLE, "no")
    with pytest.raises(UserError, match="DREAMSET_SYSTEM_METRICS is 'no'; allowed: on, off; change the variable"):
        system.enabled()
