"""The table of stages: command line, resolve and dvc.yaml have its stages, and all settings are typed."""

import importlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from dreamset.core.errors import UserError
from dreamset.pipeline import cli
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.dependencies import SETTINGS, ImportPath, starting_points
from dreamset.pipeline.stages import resolve
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.stages.settings import LearnBehavior, TrainWorldModel

TABLE = [*stages.STAGES.values(), stages.COMPARE]
TINY = ["preset=tiny", "dataset=pendulum_state"]


@pytest.fixture(scope="module")
def pipeline(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    return loaded


def test_dvc_has_the_stages_of_the_table_and_resolve(pipeline: dict[str, Any]) -> None:
    assert pipeline.keys() == {"resolve", *(stage.name for stage in TABLE)}


@pytest.mark.parametrize("stage", TABLE, ids=lambda stage: stage.name)
def test_dvc_runs_each_stage_from_its_resolved_file(stage: stages.Stage, pipeline: dict[str, Any]) -> None:
    shared = stage.name in stages.SHARED or stage is stages.COMPARE
    file = f"resolved/{stage.name}.yaml" if shared else f"resolved/{stage.name}/${{key}}.yaml"
    assert pipeline[stage.name]["cmd"] == f"dreamset {stage.command} --resolved {file}"
    assert file in pipeline[stage.name]["deps"]


@pytest.mark.parametrize("stage", TABLE, ids=lambda stage: stage.name)
def test_each_stage_has_a_module_with_a_function_run(stage: stages.Stage) -> None:
    assert callable(importlib.import_module(f"dreamset.pipeline.stages.{stage.name}").run)


def test_the_params_of_dvc_are_the_keys_of_params_yaml(root: Path, pipeline: dict[str, Any]) -> None:
    assert set(pipeline["resolve"]["params"]) == set(resolve.Params.model_fields)
    resolve.read_params(root / "params.yaml")


@pytest.mark.parametrize("stage", stages.STAGES.values(), ids=lambda stage: stage.name)
def test_settings_are_the_same_after_writing_and_reading_their_file(stage: stages.Stage, tmp_path: Path) -> None:
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
def test_a_wrong_value_in_a_resolved_file_is_refused_by_key(
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


def test_settings_are_frozen_attributes() -> None:
    settings = TrainWorldModel.of(**stages.train_world_model(compose(TINY)))
    assert settings.training.batch.size == 4
    assert settings.validation.probe_decoder.depth == 2
    with pytest.raises(ValidationError, match="frozen"):
        settings.seed = 3  # type: ignore[misc]


def test_7_and_7_point_0_resolve_to_the_same_file() -> None:
    whole, fraction = (stages.learn_behavior(compose([f"behavior_training.clip_norm={text}"])) for text in ("7", "7.0"))
    assert resolve.as_yaml(whole) == resolve.as_yaml(fraction)
    assert LearnBehavior.of(**whole) == LearnBehavior.of(**fraction)


def test_an_override_that_only_one_objective_reads_is_allowed(root: Path, tmp_path: Path) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text()) | {"objectives": ["contrastive", "reward_only"]}
    written = tmp_path / "params.yaml"
    written.write_text(yaml.safe_dump(params | {"overrides": ["weights.contrastive=2"]}))
    resolve.run(written, tmp_path / "resolved")
    resolved = yaml.safe_load((tmp_path / "resolved/train_world_model/contrastive-0.yaml").read_text())
    assert resolved["objective"]["weight"] == 2
    written.write_text(yaml.safe_dump(params | {"objectives": ["reward_only"], "overrides": ["weights.contrastive=2"]}))
    with pytest.raises(UserError, match=r"weights\.contrastive is set, but nothing reads it"):
        resolve.run(written, tmp_path / "resolved")


@pytest.mark.parametrize("stage", stages.STAGES.values(), ids=lambda stage: stage.name)
@pytest.mark.parametrize("overrides", [(), ("preset=small_state_v3",), ("finetuning.train_ratio=1",)])
def test_the_text_of_the_settings_is_that_of_their_plain_values(stage: stages.Stage, overrides: Sequence[str]) -> None:
    """Checkpoints and lineages of earlier releases are named after a digest of this text."""
    config = stage(compose([*TINY, *overrides]))
    assert "code" not in config
    for plain in (config, config | {"code": "1" * 64}):
        assert stage.settings.of(**plain).text() == yaml.safe_dump(plain, sort_keys=True)


@pytest.mark.parametrize("stage", TABLE, ids=lambda stage: stage.name)
def test_a_stage_refuses_wrong_settings_before_it_does_anything(stage: stages.Stage) -> None:
    config = settings_of(stage)
    config["dataste"] = config.pop("dataset")
    with pytest.raises(UserError, match=r"^settings of the stage \(\w+\): dataste is unknown; did you mean dataset\?$"):
        stage.run(config)
    assert not list(Path.cwd().iterdir())


def test_an_edit_of_the_settings_composes_again_and_reruns_no_stage() -> None:
    """The schema only checks values, and all values are in the resolved files."""
    modules, config = ImportPath(), compose(TINY)
    for stage in TABLE:
        code = modules.reachable(starting_points(stage.name, settings_of(stage), config))
        assert f"dreamset.pipeline.stages.{stage.name}" in code
        assert not code.keys() & {*SETTINGS}
    assert {*SETTINGS} <= modules.reachable([resolve.__name__, *SETTINGS]).keys()


def settings_of(stage: stages.Stage) -> dict[str, Any]:
    config = compose(TINY)
    return stages.compare(config, ["reconstruction"], [0]) if stage is stages.COMPARE else stage(config)


def test_the_table_loads_without_pytorch_and_hydra() -> None:
    code = "import sys, dreamset.pipeline.stages.table; print(sorted({'torch', 'hydra'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
