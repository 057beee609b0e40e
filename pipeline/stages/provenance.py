"""``run.yaml``: how a stage that was started by hand made the folder in which this file lies.

A person reads the command, the choices and the inputs there. A later stage compares its settings with those in the
file. The outputs of the pipeline have none: their settings are in ``resolved/``, and DVC would see a change.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from dreamset.core.files import file_sha256, write_text
from dreamset.pipeline.config.mistakes import dotted_values, yaml_text
from dreamset.pipeline.stages.table import Stage, StageConfig
from dreamset.pipeline.tracking.labels import Labels
from dreamset.pipeline.tracking.place import commit

FILE = "run.yaml"
DESCRIPTIONS = ("dataset.json", "model.json")  # the file of a store or a model that changes when anything in it does
WIDTH = 4096  # so that a command stays on one line
WITHOUT = ("code", "output", "card")  # settings that do not change what a stage makes


@dataclass(frozen=True, slots=True)
class Provenance:
    """The settings that made a folder, and the preset that they came from."""

    settings: StageConfig
    preset: str | None


def write(stage: Stage, settings: StageConfig, labels: Labels, overrides: Sequence[str], inputs: Sequence[str]) -> None:
    """Writes the file into the output of a stage that has run.

    Args:
        stage: of the table.
        settings: with which it ran.
        labels: the choices behind them.
        overrides: as the person typed them.
        inputs: the paths that the stage has read.
    """
    plain = {
        "command": shlex.join(["dreamset", stage.command, *overrides]),
        "choices": dict(labels.choices),
        "overrides": list(labels.overrides),
        "read": {path: _digest(Path(path)) for path in inputs},
        "dreamset": version("dreamset"),
        **{name: value for name, value in commit().items() if name in ("commit", "dirty")},
        "settings": dict(settings),
    }
    text = yaml.safe_dump(plain, sort_keys=False, width=WIDTH, allow_unicode=True)
    write_text(Path(settings["output"]) / FILE, f"# How this folder was made.\n{text}")


def read(folder: Path) -> Provenance | None:
    """What ``write`` wrote; None if there is no such file."""
    try:
        plain = yaml.safe_load((folder / FILE).read_text())
        return Provenance(dict(plain["settings"]), plain["choices"].get("preset"))
    except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError, ValueError):
        return None


def changes(stage: Stage, before: StageConfig, now: StageConfig) -> list[str]:
    """The settings that differ in what a stage makes, each as ``dataset.recording.episodes=12, now 200``."""
    old, new = _by_key(stage, before), _by_key(stage, now)
    return [
        f"{key}={yaml_text(old.get(key))}, now {yaml_text(new.get(key))}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def _by_key(stage: Stage, settings: StageConfig) -> Mapping[str, Any]:
    named = {stage.sources.get(key, key): value for key, value in settings.items() if key not in WITHOUT}
    return dict(dotted_values(named))


def _digest(path: Path) -> str | None:
    files = [path / name for name in DESCRIPTIONS if (path / name).is_file()]
    return file_sha256(files[0]) if files else None
