"""Where a stage that is started by hand reads and writes in a folder with a DVC pipeline.

There it replaces nothing of the pipeline. Results get a folder of their own, per dataset and preset; so do a recording
and a store whose settings differ from the pipeline's. Later stages with the same overrides read there first, then what
the pipeline made. A folder whose setting in ``paths`` a person gives is used as given. Without a pipeline nothing is
moved.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dreamset.pipeline.config.compose import Composition, Config
from dreamset.pipeline.config.mistakes import override_key
from dreamset.pipeline.stages import resolve
from dreamset.pipeline.stages.table import SHARED, Stage, StageConfig

PIPELINE = Path("dvc.yaml")
RESOLVED = Path("resolved")
MADE_BY = {"world_model": "train_world_model", "behavior": "learn_behavior"}  # folder of a saved model -> its stage

log = logging.getLogger(__name__)


def settings(stage: Stage, composition: Composition) -> StageConfig:
    """The settings of a stage that is started by hand, with the folders that it reads and writes.

    Each folder that differs from the usual one is told in a line, and so is each output of DVC that is replaced.
    """
    found = inputs(stage, composition)
    if not _has_pipeline():
        return found
    moved = found
    if stage.name not in SHARED or _differs(stage, found):
        folders = Folders.of(composition)
        moved = found | {key: folders.own(found[key]) for key in stage.writes}
    _tell_output(stage, found, moved)
    return moved


def inputs(stage: Stage, composition: Composition) -> StageConfig:
    """As ``settings``, but only the folders that the stage reads are changed."""
    usual = stage(composition.config)
    if not _has_pipeline():
        return usual
    folders = Folders.of(composition)
    found = usual | {key: folders.existing(usual[key]) for key in stage.reads}
    for key in stage.reads:
        _tell_input(usual[key], found[key], folders, composition)
    return found


@dataclass(frozen=True, slots=True)
class Folders:
    """Pairs of a usual folder and the folder of manual runs, relative to the working folder."""

    pairs: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, composition: Composition) -> "Folders":
        """The folders of ``paths`` that the overrides do not set."""
        choices, given = composition.config["choices"], {override_key(text) for text in composition.overrides}
        name = "-".join(choices[group] for group in ("dataset", "preset") if choices[group] is not None)
        paths = {key: path for key, path in composition.config["paths"].items() if f"paths.{key}" not in given}
        runs = [(paths["runs"], f"{paths['runs']}/manual/{name}")] if "runs" in paths else []
        data = [paths[key] for key in ("recordings", "stores", "cards") if key in paths]
        return cls([*runs, *((path, str(Path(path).parent / "manual" / name / Path(path).name)) for path in data)])

    def own(self, path: str) -> str:
        """The path of manual runs that corresponds to a usual path; another path as it is."""
        for usual, own in self.pairs:
            if Path(path).is_relative_to(usual):
                return str(own / Path(path).relative_to(usual))
        return path

    def existing(self, value: Any) -> Any:
        """A path, or a part with paths among its arguments; the path of manual runs if it exists."""
        if isinstance(value, dict):
            return {key: self.existing(argument) for key, argument in value.items()}
        return self.own(value) if isinstance(value, str) and Path(self.own(value)).exists() else value


def _has_pipeline() -> bool:
    """Whether DVC runs the stages of this package in the working folder."""
    try:
        stages = yaml.safe_load(PIPELINE.read_text())["stages"]
        return any(str(stage.get("cmd", "")).startswith("dreamset ") for stage in stages.values())
    except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError):
        return False


def _differs(stage: Stage, found: StageConfig) -> bool:
    """Whether the pipeline's output of this name was made with other settings."""
    made = _resolved(stage, found)
    return made is not None and {key: value for key, value in made.items() if key != "code"} != found


def _resolved(stage: Stage, wanted: Config) -> StageConfig | None:
    """The pipeline's settings for the same output; None if the pipeline has no such output."""
    path = RESOLVED / _file(stage, wanted["output"])
    made = resolve.read_resolved(path) if path.exists() else {}
    return made if made.get("output") == wanted["output"] else None


def _file(stage: Stage, output: str) -> str:
    return f"{stage.name}.yaml" if stage.name in SHARED else f"{stage.name}/{Path(output).name}.yaml"


def _tell_input(usual: Any, found: Any, folders: Folders, composition: Composition) -> None:
    if found != usual:
        log.warning("reads %s, which an earlier manual run made", found if isinstance(found, str) else _paths(found))
    elif isinstance(usual, str) and folders.own(usual) != usual and Path(usual).exists():
        log.warning("reads %s of the pipeline; no manual run has made %s", usual, folders.own(usual))
        _warn_of_other_preset(usual, composition.config["choices"]["preset"])


def _paths(part: Config) -> str:
    return ", ".join(value for value in part.values() if isinstance(value, str) and Path(value).exists())


def _warn_of_other_preset(model: str, preset: str | None) -> None:
    """Warns if the pipeline trained the model with another preset than this stage has."""
    folder = Path(model) if Path(model).name != "model" else Path(model).parent
    stage = MADE_BY.get(folder.parent.name)
    if stage is None:
        return
    made = resolve.read_labels(RESOLVED / stage / f"{folder.name}.yaml").choices.get("preset")
    if made not in (None, preset):
        log.warning(
            "%s was trained with preset=%s, but this stage has preset=%s; choose preset=%s, or run `dreamset %s` with "
            "preset=%s first",
            *(model, made, preset, made, stage.replace("_", "-"), preset),
        )


def _tell_output(stage: Stage, usual: StageConfig, moved: StageConfig) -> None:
    if moved["output"] != usual["output"]:
        log.warning("writes %s, and %s stays as it is", moved["output"], usual["output"])
    elif _resolved(stage, usual) is not None and Path(usual["output"]).exists():
        name = stage.name if stage.name in SHARED else f"{stage.name}@{Path(usual['output']).name}"
        log.warning("replaces %s of the pipeline; `dvc checkout %s` brings it back", usual["output"], name)
