"""The table of stages: the command line, resolve and dvc.yaml have its rows, and every row checks what it is given."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from dreamset.core.errors import UserError
from dreamset.pipeline import cli
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.stages import resolve
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.stages.settings import LearnBehavior, TrainWorldModel

TABLE = [*stages.STAGES.values(), stages.COMPARE]
TINY = ["preset=tiny", "dataset=pendulum_state"]


@pytest.fixture(scope="module")
def pipeline(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    return loaded


def test_dvc_has_the_stages_of_the_table_and_the_one_that_resolves(pipeline: dict[str, Any]) -> None:
    assert pipeline.keys() == {"resolve", *(stage.name for stage in TABLE)}


@pytest.mark.parametrize("stage", TABLE, ids=lambda stage: stage.name)
def test_dvc_runs_a_stage_by_its_command_from_its_resolved_file(stage: stages.Stage, pipeline: dict[str, Any]) -> None:
    shared = stage.name in stages.SHARED or stage is stages.COMPARE
    file = f"resolved/{stage.name}.yaml" if shared else f"resolved/{stage.name}/${{key}}.yaml"
    assert pipeline[stage.name]["cmd"] == f"dreamset {stage.command} --resolved {file}"
    assert file in pipeline[stage.name]["deps"]


@pytest.mark.parametrize("stage", TABLE, ids=lambda stage: stage.name)
def test_a_stage_has_a_module_with_a_function_that_runs_it(stage: stages.Stage) -> None:
    assert callable(importlib.import_module(f"dreamset.pipeline.stages.{stage.name}").run)


def test_params_of_dvc_are_the_keys_of_params(root: Path, pipeline: dict[str, Any]) -> None:
    assert set(pipeline["resolve"]["params"]) == set(resolve.Params.model_fields)
    resolve.read_params(root / "params.yaml")


@pytest.mark.parametrize("stage", stages.STAGES.values(), ids=lambda stage: stage.name)
def test_settings_of_a_stage_survive_their_file(stage: stages.Stage, tmp_path: Path) -> None:
    config = stage(compose(TINY))
    resolve.write_resolved(tmp_path / "stage.yaml", config)
    assert resolve.read_resolved(tmp_path / "stage.yaml", stage.settings) == config
    assert stage.settings.of(**config).plain() == config


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("size: 4", "size: 0", "training.batch.size is 0; allowed: 1 or more"),
        ("updates: 4", "updatse: 4", "training.updatse is unknown; did you mean training.updates?"),
        ("device: auto", "device: gpu", "device is 'gpu'; allowed: 'auto', 'cpu' or 'cuda'"),
        ("seed: 0\n", "", "seed is missing"),
        ("seed: 0\n", "seed: 0\nsede: 0\n", "sede is unknown; did you mean seed?"),
    ],
)
def test_a_resolved_file_that_was_edited_wrongly_is_refused(
    old: str, new: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "stage.yaml"
    resolve.write_resolved(path, stages.learn_behavior(compose(TINY)))
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(SystemExit):
        cli.main(["learn-behavior", "--resolved", str(path)])
    message = capsys.readouterr().err.strip()
    assert message.startswith(f"dreamset: error: {path}: {expected}")
    assert "\n" not in message


def test_settings_are_read_by_attribute_and_cannot_change() -> None:
    settings = TrainWorldModel.of(**stages.train_world_model(compose(TINY)))
    assert settings.training.batch.size == 4
    assert settings.validation.probe_decoder.depth == 2
    with pytest.raises(ValidationError, match="frozen"):
        settings.seed = 3  # type: ignore[misc]


def test_a_whole_number_and_the_same_with_a_fraction_resolve_to_the_same_file() -> None:
    whole, fraction = (stages.learn_behavior(compose([f"behavior_training.clip_norm={text}"])) for text in ("7", "7.0"))
    assert resolve.as_yaml(whole) == resolve.as_yaml(fraction)
    assert LearnBehavior.of(**whole) == LearnBehavior.of(**fraction)


def test_an_override_for_one_objective_alone_is_no_mistake(root: Path, tmp_path: Path) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text())
    written = tmp_path / "params.yaml"
    written.write_text(yaml.safe_dump(params | {"overrides": ["weights.contrastive=2"]}))
    resolve.run(written, tmp_path / "resolved")
    found = yaml.safe_load((tmp_path / "resolved/train_world_model/contrastive-0.yaml").read_text())
    assert found["objective"]["weight"] == 2
    written.write_text(yaml.safe_dump(params | {"objectives": ["reward_only"], "overrides": ["weights.contrastive=2"]}))
    with pytest.raises(UserError, match=r"weights\.contrastive is set, but nothing reads it"):
        resolve.run(written, tmp_path / "resolved")
