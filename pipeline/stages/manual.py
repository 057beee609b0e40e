"""Where a stage that is started by hand reads and writes in a folder with a DVC pipeline.

There it replaces nothing of the pipeline. Results get a folder of their own, per dataset and preset; so do a recording
and a store whose settings differ from the pipeline's. Later stages with the same overrides read there first, then what
the pipeline made. A folder whose setting in ``paths`` a person gives is used as given. Without a pipeline nothing is
moved.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dreamset.core.files import file_sha256
from dreamset.pipeline.config.compose import Composition, Config
from dreamset.pipeline.config.mistakes import override_key
from dreamset.pipeline.stages import resolve
from dreamset.pipeline.stages.table import SHARED, Stage, StageConfig

PIPELINE = Path("dvc.yaml")
RESOLVED = Path("resolved")
DESCRIPTION = "model.json"  # in the folder of a saved model
FROM_REGISTRY = "from_registry"  # a choice that may be of any generation
MADE_BY = {"world_model": "train_world_model", "behavior": "learn_behavior"}  # folder of a saved model -> its stage

log = logging.getLogger(__name__)


def settings(stage: Stage, composition: Composition, *, told: bool = True) -> StageConfig:
    """The settings of a stage that is started by hand, with the folders that it reads and writes.

    Args:
        stage: of the table.
        composition: of the person's overrides.
        told: whether lines say which folders differ from the usual ones, what does not match, and what is replaced.
    """
    found = inputs(stage, composition, told=told)
    if not _has_pipeline():
        return found
    moved = found
    if stage.name not in SHARED or _differs(stage, found):
        folders = Folders.of(composition)
        moved = found | {key: folders.own(found[key]) for key in stage.writes}
    if told:
        _tell_output(stage, found, moved)
    return moved


def inputs(stage: Stage, composition: Composition, *, told: bool = True) -> StageConfig:
    """As ``settings``, but only the folders that the stage reads are changed."""
    found = usual = stage(composition.config)
    if _has_pipeline():
        folders = Folders.of(composition)
        found = usual | {key: folders.existing(usual[key]) for key in stage.reads}
        for key in stage.reads if told else ():
            _tell_input(usual[key], found[key], folders, composition)
    if told and "world_model" in stage.reads:
        _warn_of_other_model(found, composition)
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


def _warn_of_other_model(found: StageConfig, composition: Composition) -> None:
    """Warns if the world model is of another generation than the choices, or of another state of the data."""
    folder = Path(found["world_model"])
    folder = folder if folder.name == "model" else folder / "model"  # fine-tuning reads what lies beside it, too
    try:
        lineage = json.loads((folder / DESCRIPTION).read_text())["lineage"]
        made, digest = lineage["generation"], lineage["dataset_digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # the stage says what is wrong
    chosen = composition.config["choices"]["world_model"]
    if chosen not in (made, FROM_REGISTRY):
        log.warning(
            "%s is a world model of %s, but this stage has world_model=%s; choose world_model=%s, or run `dreamset "
            "train-world-model` with the same overrides first",
            *(folder, made, chosen, made),
        )
    now = _store_digest(Path(found["store"])) if "store" in found else None
    if now not in (None, digest) and lineage.get("dataset") == found["dataset"]:
        log.warning(
            "%s was trained on another state of %s (%s, now %s); run `dreamset train-world-model` again, or ingest the "
            "earlier data again",
            *(folder, found["store"], str(digest)[:12], str(now)[:12]),
        )


def _store_digest(store: Path) -> str | None:
    """The digest of a store as ``datasets.Store`` has it, which loads PyTorch; None if there is no store."""
    manifest = store / "dataset.json"
    return file_sha256(manifest) if manifest.exists() else None


def _tell_output(stage: Stage, usual: StageConfig, moved: StageConfig) -> None:
    if moved["output"] != usual["output"]:
        log.warning("writes %s, and %s stays as it is", moved["output"], usual["output"])
    elif _resolved(stage, usual) is not None and Path(usual["output"]).exists():
        name = stage.name if stage.name in SHARED else f"{stage.name}@{Path(usual['output']).name}"
        log.warning("replaces %s of the pipeline; `dvc checkout %s` brings it back", usual["output"], name)
