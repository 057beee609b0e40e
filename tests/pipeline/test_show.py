"""``dreamset show`` prints the settings of a stage, and the file or override that set each value."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from dreamset import __version__
from dreamset.pipeline import cli
from dreamset.pipeline.commands.stages import STAGES
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.stages import resolve
from dreamset.pipeline.stages import table as stages

OVERRIDES = ["preset=small_v2", "objective=contrastive", "behavior_training.updates=7"]


def show(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    cli.main(["show", *arguments])
    return capsys.readouterr().out


def origins(text: str) -> dict[str, str]:
    """Dotted key -> the comment after its value."""
    sources, above = {}, [""]
    for line in text.splitlines():
        indent = (len(line) - len(line.lstrip())) // 2
        name, _, rest = line.strip().partition(":")
        above = [*above[: indent + 1], f"{above[indent]}{name}."]
        if rest:
            sources[above[-1].removesuffix(".")] = rest.partition(" # ")[2]
    return sources


@pytest.fixture
def configs(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "configs", tmp_path / "configs")


@pytest.mark.parametrize("command", STAGES)
def test_show_prints_exactly_what_resolve_writes(
    command: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params | {"finetune": ["reconstruction"], "preset": "tiny"}))
    resolve.run(tmp_path / "params.yaml", tmp_path / "resolved")
    name = STAGES[command].name
    files = [tmp_path / "resolved" / file for file in (f"{name}.yaml", f"{name}/reconstruction-0.yaml")]
    (file,) = [file for file in files if file.exists()]
    assert show(capsys, command, "preset=tiny") == file.read_text()


@pytest.mark.usefixtures("configs")
def test_origins_are_comments_on_the_same_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    for command, stage in STAGES.items():
        text = show(capsys, command, "--origin", *OVERRIDES)
        printed = yaml.safe_load(text)
        assert len(printed.pop("code")) == 64
        assert printed == stage(compose(OVERRIDES))
        lines = [line for line in text.splitlines() if not line.endswith(":")]
        assert all(re.search(r" # \S", line) for line in lines)


def test_origins_in_the_package_are_named_without_the_place_of_its_installation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sources = origins(show(capsys, "evaluate", "--origin"))
    assert sources["device"] == "configs/config.yaml of the package"


@pytest.mark.usefixtures("configs")
def test_each_value_names_the_file_or_override_that_set_it(capsys: pytest.CaptureFixture[str]) -> None:
    sources = origins(show(capsys, "learn-behavior", *OVERRIDES, "--origin"))
    assert sources["training.updates"] == "behavior_training.updates=7"
    assert sources["training.optimizers.actor.lr"] == "configs/preset/small_v2.yaml"
    assert sources["training.optimizers.actor.eps"] == "configs/config.yaml"
    assert sources["training.batch.size"] == "configs/preset/small.yaml"
    assert sources["behavior.critic.hidden"] == "configs/preset/small_v2.yaml: network.hidden"
    assert sources["behavior.lambda_"] == "configs/behavior/dreamer_v2.yaml"
    sources = origins(show(capsys, "train-world-model", *OVERRIDES, "network.hidden=64", "--origin"))
    assert sources["world_model.encoder.hidden"] == "network.hidden=64: network.hidden"
    assert sources["objective_name"] == "objective=contrastive"
    assert sources["objective.min_std"] == "configs/objective/contrastive.yaml"
    assert sources["world_model.dynamics.cell.update_bias"] == "configs/world_model/dynamics/cell/layer_norm_gru.yaml"
    assert sources["training.optimizer.lr"] == "configs/preset/small.yaml"
    sources = origins(show(capsys, "finetune", "size=dreamer_v2", "behavior_training=dreamer_v3", "--origin"))
    assert sources["finetuning.batch.size"] == "configs/behavior_training/dreamer_v3.yaml: behavior_training.batch.size"
    assert sources["objective.hidden"] == "configs/size/dreamer_v2.yaml: network.hidden"


@pytest.mark.usefixtures("configs")
def test_editing_the_named_file_changes_the_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Editing the value in the named file changes the settings of the stage."""
    before = origins(show(capsys, "learn-behavior", "preset=small_v3", "--origin"))
    path = tmp_path / before["training.optimizers.critic.lr"]
    path.write_text(path.read_text().replace("critic: {lr: 2.0e-3}", "critic: {lr: 5.0e-3}"))
    config = stages.learn_behavior(compose(["preset=small_v3"]))
    assert config["training"]["optimizers"]["critic"]["lr"] == 5e-3


def test_show_refuses_unknown_keys_as_stages_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["show", "learn-behavior", "imagination.horizn=3"])
    assert stop.value.code == 2
    assert "did you mean imagination.horizon?" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--origin", "preset=tiny"], ["preset=tiny", "--origin"]])
@pytest.mark.usefixtures("configs")
def test_options_stand_before_or_after_overrides(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "# configs/preset/tiny.yaml" in show(capsys, "evaluate", *arguments)


def test_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["show", "evaluate", "--orgin"])
    assert stop.value.code == 2
    assert "--orgin is unknown; see `dreamset show --help`" in capsys.readouterr().err


def test_version_is_the_package_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"dreamset {__version__}\n"
