"""The names that a person chose reach the reports, and are not among the settings of a stage."""

from pathlib import Path

import pytest
import yaml

from dreamset.pipeline import cli
from dreamset.pipeline.config.compose import composed
from dreamset.pipeline.stages import resolve, train_world_model
from dreamset.pipeline.tracking import labels

PARAMS = {
    "preset": "tiny",
    "dataset": "pendulum_state",
    "objectives": ["reconstruction", "reward_only"],
    "seeds": [0, 1],
    "finetune": [],
    "overrides": ["behavior.horizon=3"],
}


@pytest.fixture
def resolved(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    resolve.run(tmp_path / "params.yaml", tmp_path / "resolved")
    return tmp_path / "resolved"


def test_labels_separate_chosen_parts_from_overridden_values() -> None:
    chosen = composed(["preset=tiny", "dataset=pendulum_state", "behavior.horizon=3"]).labels
    assert chosen.overrides == ["behavior.horizon=3"]
    expected = {"preset": "tiny", "dataset": "pendulum_state", "objective": "reconstruction", "reward": "predicted"}
    assert expected.items() <= chosen.choices.items()
    assert "adaptation" not in chosen.choices  # null
    assert labels.Labels.of(chosen.plain()) == chosen


def test_manifest_has_the_labels_of_every_resolved_file(resolved: Path) -> None:
    found = resolve.read_labels(resolved / "train_world_model/reward_only-1.yaml")
    assert found.choices["objective"] == "reward_only"
    assert found.choices["preset"] == "tiny"
    assert found.overrides == ["behavior.horizon=3"]
    assert resolve.read_labels(resolved / "compare.yaml").choices["dataset"] == "pendulum_state"
    resolve.run(resolved.parent / "params.yaml", resolved, if_changed=True)
    assert resolve.read_labels(resolved / "train_world_model/reward_only-1.yaml") == found


def test_resolved_file_without_a_manifest_has_empty_labels(tmp_path: Path) -> None:
    assert resolve.read_labels(tmp_path / "stage.yaml") == labels.Labels()


def test_name_of_a_preset_is_no_setting_of_a_stage(resolved: Path) -> None:
    assert all("preset" not in path.read_text() for path in resolved.rglob("*.yaml"))


@pytest.mark.parametrize("how", ["resolved", "overrides"])
def test_stage_runs_with_its_labels(resolved: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(train_world_model, "run", lambda _: seen.append(labels.current()))
    file = resolved / "train_world_model/reconstruction-0.yaml"
    overrides = ["preset=tiny", "dataset=pendulum_state", "behavior.horizon=3"]
    cli.main(["train-world-model", *(["--resolved", str(file)] if how == "resolved" else overrides)])
    assert seen[0].choices["preset"] == "tiny"
    assert seen[0].overrides == ["behavior.horizon=3"]
    assert labels.current() == labels.Labels()
