"""The end of a stage's help page: examples, and the settings that it reads with defaults and meanings."""

import shutil
import textwrap
from collections.abc import Iterator

from dreamset.pipeline.config.documented import Setting, documented_settings
from dreamset.pipeline.config.groups import groups
from dreamset.pipeline.stages.table import SHARED, Stage

EXAMPLES = {  # stage -> what may follow its command
    "collect": ("dataset=pendulum_state", "dataset=pendulum_pixels collection.episodes=50"),
    "ingest": ("dataset=pendulum_state", "dataset=minari dataset.id=D4RL/door/human-v2"),
    "train_world_model": (
        "preset=tiny",
        "objective=contrastive seed=1",
        "-m objective=contrastive,reward_only seed=0,1",
    ),
    "learn_behavior": ("preset=tiny", "behavior.horizon=10", "preset=small_v3 objective=contrastive"),
    "evaluate": ("preset=tiny", "objective=contrastive evaluation.episodes=50"),
    "finetune": ("preset=tiny", "finetuning.environment_steps=5000"),
}
LONGEST_DEFAULT = 32


def notes(stage: Stage) -> str:
    """Examples and settings of a stage, as wide as the terminal."""
    width = min(shutil.get_terminal_size().columns, 120)
    examples = [f"  dreamset {stage.command} {text}" for text in EXAMPLES[stage.name]]
    choices = [f"  {name}=NAME" for name in _groups(stage)]
    lines = [line for setting in settings_of(stage) for line in _described(setting, width)]
    head = "settings that it reads (presets and parts change these defaults; `dreamset show` prints the values):"
    names = ", ".join(text.strip() for text in choices)
    groups_of_stage = textwrap.wrap(f"choices (see `dreamset list GROUP`): {names}", width, subsequent_indent="  ")
    return "\n".join(["examples:", *examples, "", *groups_of_stage, "", *textwrap.wrap(head, width), *lines])


def settings_of(stage: Stage) -> list[Setting]:
    """The entries of ``config.yaml`` that the stage reads."""
    sections = _sections(stage)
    return [setting for setting in documented_settings() if setting.default and _belongs(setting.key, sections)]


def _sections(stage: Stage) -> set[str]:
    """The keys of the configuration that hold the stage's settings."""
    return {stage.sources.get(name, name) for name in stage.settings.model_fields}


def _groups(stage: Stage) -> list[str]:
    tops = {key.partition(".")[0] for key in _sections(stage)} | {"preset"}
    tops |= set() if stage.name in SHARED else {"objective"}  # it names the folder, even if nothing else reads it
    return [name for name in groups() if name in tops]


def _belongs(key: str, sections: set[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _described(setting: Setting, width: int) -> Iterator[str]:
    default = setting.default if len(setting.default) <= LONGEST_DEFAULT else "(see `dreamset show`)"
    yield f"  {setting.key}={default}"
    yield from textwrap.wrap(setting.meaning, width, initial_indent="      ", subsequent_indent="      ")
