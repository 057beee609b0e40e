"""Help pages of stages: examples that compose, and the settings that the stage reads."""

import shlex

import pytest

from dreamset.pipeline import cli
from dreamset.pipeline.commands.adapt import ADAPT
from dreamset.pipeline.config.compose import combinations, composed
from dreamset.pipeline.config.documented import documented_settings
from dreamset.pipeline.config.mistakes import dotted_keys
from dreamset.pipeline.stages.table import STAGES
from dreamset.pipeline.tools.stage_help import EXAMPLES, settings_of


def test_every_documented_setting_exists_and_has_its_default() -> None:
    raw = composed(["preset=paper"]).raw
    settings = {setting.key: setting for setting in documented_settings()}
    assert set(settings) <= set(dotted_keys(raw))
    assert settings["validation.every"].default == "5000"
    assert settings["validation.every"].meaning == "updates between validations"
    assert settings["world_model_training.batch.length"].default == "50"
    assert settings["validation"].default == ""


@pytest.mark.parametrize("name", sorted(STAGES))
def test_listed_settings_are_those_that_the_stage_reads(name: str) -> None:
    listed = {setting.key.partition(".")[0] for setting in settings_of(STAGES[name])}
    assert ("evaluation" in listed) == (name in ("evaluate", "finetune"))
    assert ("validation" in listed) == (name in ("train_world_model", "evaluate", "finetune"))
    assert ("seed" in listed) == (name in ("train_world_model", "learn_behavior", "finetune"))


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in EXAMPLES.items() for text in texts])
def test_examples_of_stages_compose(name: str, text: str) -> None:
    assert name in STAGES
    for overrides in combinations([part for part in shlex.split(text) if part != "-m"]):
        composed(overrides)


def test_help_of_a_stage_shows_examples_choices_and_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    with pytest.raises(SystemExit):
        cli.main(["train-world-model", "--help"])
    page = capsys.readouterr().out
    assert "\n  dreamset train-world-model preset=tiny\n" in page
    assert "objective=NAME" in page
    assert "\n  validation.every=5000\n      updates between validations\n" in page


@pytest.mark.parametrize("command", ["show", "compare", "export", "init", "resolve", "adapt", "list", "doctor"])
def test_help_of_every_command_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    page = capsys.readouterr().out
    assert "\nexamples" in page
    assert f"dreamset {command}" in page.partition("\nexamples")[2]
    assert command != "adapt" or all(text in " ".join(page.split()) for text in ADAPT)
