"""Where a stage that is started by hand reads and writes.

Beside a DVC pipeline it replaces nothing of the pipeline. Results get a folder of their own, per dataset and preset; so
do a recording and a store whose settings differ from the pipeline's. With or without a pipeline, a recording and a
store of another preset than an earlier one have a folder of that preset. Later stages with the same overrides read in
the folders of manual runs first, then in the usual ones. A folder that a person sets in ``paths`` is used as given.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dreamset.core.files import file_sha256
from dreamset.pipeline.artifacts.description import DESCRIPTION, WEIGHTS, model_digest
from dreamset.pipeline.config.compose import Composition, Config
from dreamset.pipeline.config.mistakes import override_key
from dreamset.pipeline.stages import provenance, resolve
from dreamset.pipeline.stages.table import SHARED, STAGES, Stage, StageConfig

PIPELINE = Path("dvc.yaml")
RESOLVED = Path("resolved")
SHOWN = 3  # settings that differ, at most
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
    moved = found
    if stage.name not in SHARED or _differs(stage, found, composition.config["choices"]["preset"]):
        folders = Folders.of(composition)
        moved = found | {key: folders.own(found[key]) for key in stage.writes}
    if told:
        _tell_output(stage, found, moved)
    return moved


def inputs(stage: Stage, composition: Composition, *, told: bool = True) -> StageConfig:
    """As ``settings``, but only the folders that the stage reads are changed."""
    usual = stage(composition.config)
    folders = Folders.of(composition)
    found = usual | {key: folders.existing(usual[key]) for key in stage.reads}
    if told:
        for key in stage.reads:
            _tell_input(usual[key], found[key], folders, composition)
        _warn_of_other_recording(stage, folders, composition)
        if "world_model" in stage.reads:
            _warn_of_other_model(found, composition)
        if "policy" in stage.reads:
            _warn_of_other_policy(found)
    return found


def is_of_pipeline(stage: Stage, settings: StageConfig) -> bool:
    """Whether the output is one of the pipeline's, which DVC checks for changes."""
    return _resolved(stage, settings) is not None


@dataclass(frozen=True, slots=True)
class Folders:
    """Pairs of a usual folder and the folder of manual runs, relative to the working folder."""

    pairs: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, composition: Composition) -> "Folders":
        """The folders of ``paths`` that the overrides do not set."""
        choices, given = composition.config["choices"], {override_key(text) for text in composition.overrides}
        preset = choices["preset"] or "none"
        paths = {key: path for key, path in composition.config["paths"].items() if f"paths.{key}" not in given}
        data = [paths[key] for key in ("recordings", "stores", "cards") if key in paths]
        pairs = [(path, str(Path(path).parent / "manual" / preset / Path(path).name)) for path in data]
        if "runs" in paths and _has_pipeline():
            pairs.append((paths["runs"], f"{paths['runs']}/manual/{choices['dataset']}-{preset}"))
        return cls(pairs)

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


def _differs(stage: Stage, found: StageConfig, preset: str | None) -> bool:
    """Whether the output of this name is the pipeline's or another preset's, and was made with other settings.

    Beside a pipeline, an output of which nothing is known was made by the pipeline with earlier params.yaml.
    """
    made, earlier_preset = _made(stage, found)
    if made is None and _has_pipeline():
        return Path(found["output"]).exists()
    may_replace = earlier_preset == preset and not is_of_pipeline(stage, found)
    return made is not None and not may_replace and bool(provenance.changes(stage, made, found))


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
    elif isinstance(usual, str) and folders.own(usual) != usual and Path(usual).exists() and _has_pipeline():
        log.warning("reads %s of the pipeline; no manual run has made %s", usual, folders.own(usual))
    if isinstance(found, str):
        _warn_of_other_preset(found, composition.config["choices"]["preset"])


def _paths(part: Config) -> str:
    return ", ".join(value for value in part.values() if isinstance(value, str) and Path(value).exists())


def _warn_of_other_preset(model: str, preset: str | None) -> None:
    """Warns if the model was trained with another preset than this stage has."""
    folder = Path(model) if Path(model).name != "model" else Path(model).parent
    stage = MADE_BY.get(folder.parent.name)
    if stage is None:
        return
    _, made = _made(STAGES[stage], {"output": str(folder)})
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


def _warn_of_other_recording(stage: Stage, folders: Folders, composition: Composition) -> None:
    """Warns if the episodes that the stage reads were recorded with other settings than those of its overrides."""
    if not {"store", "source"} & set(stage.reads):
        return
    collect = SHARED["collect"]
    wanted = collect(composition.config)
    wanted["output"] = folders.existing(wanted["output"])
    made, preset = _made(collect, wanted)
    if made is None or wanted["recording"] is None:
        return
    differing = provenance.changes(collect, made, wanted | {"source_path": made.get("source_path")})
    if differing:
        log.warning(
            "%s was recorded with %s; repeat its settings (preset=%s), or run `dreamset collect` and `dreamset ingest` "
            "with the overrides of this stage first",
            *(wanted["output"], "; ".join(differing[:SHOWN]), preset),
        )


def _made(stage: Stage, settings: Config) -> tuple[StageConfig | None, str | None]:
    """The settings and the preset by which the present output was made; None if nothing tells."""
    resolved = _resolved(stage, settings)
    if resolved is not None:
        return resolved, resolve.read_labels(RESOLVED / _file(stage, settings["output"])).choices.get("preset")
    by_hand = provenance.read(Path(settings["output"]))
    return (None, None) if by_hand is None else (by_hand.settings, by_hand.preset)


def _warn_of_other_policy(found: StageConfig) -> None:
    """Warns if the policy was learned in another world model, whose features mean something else."""
    model, policy = Path(found["world_model"]), Path(found["policy"])
    model = model if model.name == "model" else model / "model"
    try:
        learned_in = json.loads((policy / DESCRIPTION).read_text())["lineage"]["world_model"]["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # the stage says what is wrong
    if (model / WEIGHTS).exists() and model_digest(model) != learned_in:
        log.warning(
            "%s was learned in another world model than %s; run `dreamset learn-behavior` with the same overrides "
            "first",
            *(policy, model),
        )


def _store_digest(store: Path) -> str | None:
    """The digest of a store as ``datasets.Store`` has it, which loads PyTorch; None if there is no store."""
    manifest = store / "dataset.json"
    return file_sha256(manifest) if manifest.exists() else None


def _tell_output(stage: Stage, usual: StageConfig, moved: StageConfig) -> None:
    output = moved["output"]
    if output != usual["output"]:
        log.warning("writes %s, and %s stays as it is", output, usual["output"])
    elif _resolved(stage, usual) is not None and Path(output).exists():
        name = stage.name if stage.name in SHARED else f"{stage.name}@{Path(output).name}"
        log.warning("replaces %s of the pipeline; `dvc checkout %s` brings it back", output, name)
    earlier = provenance.read(Path(output))
    differing = [] if earlier is None else provenance.changes(stage, earlier.settings, moved)
    if differing:
        log.warning("replaces %s, which was made with %s", output, "; ".join(differing[:SHOWN]))
