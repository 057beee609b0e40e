"""The first stage: composes the configuration once and writes one resolved file per stage and objective.

A stage's file also holds a digest of the code that the stage depends on. DVC reruns a stage when its own file changes,
so a setting or an edit of code reruns what it changes and nothing else.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, field_validator, model_validator

from dreamset.core.errors import UserError
from dreamset.core.files import file_sha256, replaced_folder, write_text
from dreamset.pipeline.config.checks import checked
from dreamset.pipeline.config.compose import Composition, Config, composed, require_effect
from dreamset.pipeline.config.dependencies import SETTINGS, ImportPath, starting_points
from dreamset.pipeline.config.groups import config_folders
from dreamset.pipeline.config.mapped import in_hydra_syntax
from dreamset.pipeline.config.mistakes import dotted_values, literal
from dreamset.pipeline.config.settings import Section, Seed, Text
from dreamset.pipeline.config.trust import TARGET
from dreamset.pipeline.files import digest, write_json
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.stages.settings import StageSettings
from dreamset.pipeline.tracking.labels import Labels

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+")  # 1e-05, which PyYAML takes for text
MANIFEST = "manifest.json"  # in the folder: the inputs and the checksums of its files


class Params(Section):
    """What ``dvc repro`` runs."""

    preset: Text
    dataset: Text
    objectives: Annotated[list[Text], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    finetune: list[Text]
    overrides: list[Text]  # in Hydra's syntax; the file may have a mapping, or nothing

    @field_validator("overrides", mode="before")
    @classmethod
    def _listed(cls, overrides: object) -> object:
        if not isinstance(overrides, list):
            raise ValueError("a mapping such as {behavior.horizon: 10}, or a list such as [behavior.horizon=10]")
        return overrides

    @field_validator("objectives", "seeds")
    @classmethod
    def _different(cls, names: list[object]) -> list[object]:
        if len(set(names)) != len(names):
            raise ValueError("each at most once")
        return names

    @model_validator(mode="after")
    def _fine_tuned_are_trained(self) -> Self:
        unknown = [name for name in self.finetune if name not in self.objectives]
        if unknown:
            raise ValueError(f"in finetune only names of objectives; add {', '.join(unknown)} to objectives")
        return self


@dataclass(frozen=True, slots=True)
class StageFile:
    """The settings of one run of a stage, the starting points of its code, and the choices behind it."""

    name: str  # relative to the folder
    settings: Config
    starting_points: Sequence[str]
    labels: Labels


def run(params: Path, output: Path, *, if_changed: bool = False) -> list[str]:
    """Reads ``params.yaml`` and writes the folder of resolved files.

    Args:
        params: the file with the user's choices.
        output: the folder. It is not written if nothing in it would change.
        if_changed: keep the existing settings, with the models that they are pinned to, unless choices, configurations
            or the code that composes them have changed. The digests of code are always computed again.

    Returns:
        the added, removed and changed files, each with the keys that differ.

    Raises:
        UserError: if a choice, an override or the file itself is wrong. The folder is then as before.
    """
    choices = read_params(params)
    modules = ImportPath()
    inputs = _inputs(choices, modules)
    before = _read_manifest(output)
    keep = if_changed and before.get("inputs") == inputs
    files = list(_kept(output, before) if keep else _composed(choices))
    old = _settings(output, before)
    new = {file.name: {**file.settings, "code": modules.digest(file.starting_points)} for file in files}
    if new != old or not keep:
        _write(output, inputs, files, new)
    return _differences(old, new)


def _composed(choices: Params) -> Iterator[StageFile]:
    base = [*_parts(choices), *choices.overrides]
    settings: dict[str, Config] = {}
    for objective, composition in _compositions(base, choices.objectives).items():
        settings[objective] = composition.config
        online = stages.ONLINE if objective in choices.finetune else {}
        for seed in choices.seeds:
            config = composition.config | {"seed": seed}
            for stage, describe in (stages.PER_OBJECTIVE | online).items():
                name = f"{stage}/{stages.run_key(objective, seed)}.yaml"
                yield _stage_file(name, stage, describe(config), config, composition.labels)
    shared = composed(base)
    config = shared.config
    for stage, describe in stages.SHARED.items():
        yield _stage_file(f"{stage}.yaml", stage, describe(config), config, shared.labels)
    compared = stages.compare(config, choices.objectives, choices.seeds, different_settings(settings))
    yield _stage_file("compare.yaml", "compare", compared, config, shared.labels)


def _parts(choices: Params) -> list[str]:
    return [f"dataset={choices.dataset}", f"preset={choices.preset}"]


def different_settings(settings: Mapping[str, Config]) -> dict[str, dict[str, str]]:
    """The settings in which objectives differ, as text: key -> objective -> value. A part has the name of its class."""
    texts = {objective: _texts(config) for objective, config in settings.items()}
    keys = sorted(set().union(*texts.values()))
    table = {key: {name: values[key] for name, values in texts.items() if key in values} for key in keys}
    return {key: row for key, row in table.items() if len(row) < len(texts) or len(set(row.values())) > 1}


def _texts(config: Config) -> dict[str, str]:
    texts = {}
    for key, value in dotted_values({name: part for name, part in config.items() if name != "choices"}):
        part, _, last = key.rpartition(".")
        if last == TARGET:
            texts[part] = str(value).rpartition(".")[2]
        elif last != "_partial_":
            texts[key] = literal(value)
    return texts


def _stage_file(name: str, stage: str, settings: Config, config: Config, labels: Labels) -> StageFile:
    return StageFile(name, settings, starting_points(stage, settings, config), labels)


def _inputs(choices: Params, modules: ImportPath) -> str:
    """A digest of everything that the settings are composed from: choices, yaml files and code."""
    yamls = [
        f"{path.relative_to(folder)} {file_sha256(path)}"
        for folder in config_folders()
        for path in sorted(folder.rglob("*.yaml"))
    ]
    return digest(choices.model_dump_json(), *yamls, modules.digest([__name__, *SETTINGS]))


def _read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest; empty if a file of the folder was changed or is missing."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        intact = all(file_sha256(folder / name) == entry["sha256"] for name, entry in manifest["files"].items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
    return manifest if intact else {}


def _settings(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Config]:
    return {name: read_resolved(folder / name) for name in manifest.get("files", {})}


def _kept(folder: Path, manifest: Mapping[str, Any]) -> Iterator[StageFile]:
    for name, settings in _settings(folder, manifest).items():
        del settings["code"]
        entry = manifest["files"][name]
        yield StageFile(name, settings, entry["starting_points"], Labels.of(entry.get("labels", {})))


def _write(output: Path, inputs: str, files: Sequence[StageFile], new: Mapping[str, Config]) -> None:
    with replaced_folder(output) as new_folder:
        entries = {}
        for file in files:
            write_resolved(new_folder / file.name, new[file.name])
            entries[file.name] = {
                "sha256": file_sha256(new_folder / file.name),
                "starting_points": list(file.starting_points),
                "labels": file.labels.plain(),
            }
        write_json(new_folder / MANIFEST, {"inputs": inputs, "files": entries})


def _differences(old: Mapping[str, Config], new: Mapping[str, Config]) -> list[str]:
    """One line per file that differs, with the keys that differ."""
    lines = [f"{name}: {'removed' if name in old else 'added'}" for name in sorted(old.keys() ^ new.keys())]
    for name in sorted(old.keys() & new.keys()):
        keys = [key for key in sorted(old[name] | new[name]) if old[name].get(key) != new[name].get(key)]
        lines += [f"{name}: {', '.join(keys)}"] if keys else []
    return lines


def _compositions(base: Sequence[str], objectives: Sequence[str]) -> dict[str, Composition]:
    """One composition per objective. An override must have an effect for at least one of them."""
    compositions = {objective: composed([*base, f"objective={objective}"]) for objective in objectives}
    without_effect = [composition.without_effect for composition in compositions.values()]
    everywhere = set.intersection(*(set(keys) for keys in without_effect))
    require_effect({key: instead for key, instead in without_effect[0].items() if key in everywhere})
    return compositions


def read_params(path: Path) -> Params:
    """The user's choices, with the overrides in Hydra's syntax.

    Raises:
        UserError: if the file is missing, or is no valid yaml, or a choice is wrong.
    """
    try:
        params = yaml.load(path.read_text(), Loader=_ParamsLoader)  # noqa: S506 - it is a SafeLoader
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run from the project's folder") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid yaml: {' '.join(str(error).split())}") from None
    if not isinstance(params, dict) or not isinstance(params.get("overrides", []), Mapping | None):
        return checked(Params, params, where=str(path))
    overrides = params["overrides"] or {}
    choices = checked(Params, params | {"overrides": []}, where=str(path))
    others = [*_parts(choices), f"objective={choices.objectives[0]}"]
    return choices.model_copy(update={"overrides": in_hydra_syntax(overrides, others)})


class _ParamsLoader(yaml.SafeLoader):
    """Reads numbers as Hydra and DVC do."""


_ParamsLoader.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+0123456789"))


def read_labels(path: Path) -> Labels:
    """The choices behind a resolved file, from the manifest of its folder; empty without one."""
    for folder in list(path.parents)[:2]:
        entry = _read_manifest(folder).get("files", {}).get(path.relative_to(folder).as_posix(), {})
        if "labels" in entry:
            return Labels.of(entry["labels"])
    return Labels()


def read_place(path: Path) -> tuple[int, int] | None:
    """The place of a resolved file among all files of its folder, in the order in which DVC runs them; from 1.

    None if the file belongs to no intact folder.
    """
    for folder in list(path.parents)[:2]:
        names = _read_manifest(folder).get("files", {})
        if path.relative_to(folder).as_posix() in names:
            ordered = [name for name in _in_order(read_resolved(folder / "compare.yaml")) if name in names]
            return ordered.index(path.relative_to(folder).as_posix()) + 1, len(ordered)
    return None


def _in_order(compared: Config) -> Iterator[str]:
    """The names of all files that a folder may have, in the order of dvc.yaml."""
    keys = [stages.run_key(objective, seed) for objective in compared["objectives"] for seed in compared["seeds"]]
    for stage in (*stages.STAGES, stages.COMPARE.name):
        alone = stage in stages.SHARED or stage == stages.COMPARE.name
        yield from [f"{stage}.yaml"] if alone else [f"{stage}/{key}.yaml" for key in keys]


def write_resolved(path: Path, config: Mapping[str, Any]) -> None:
    """Writes a resolved file. Equal settings give equal bytes."""
    write_text(path, as_yaml(config))


def as_yaml(config: Mapping[str, Any]) -> str:
    """The text of a resolved file."""
    return yaml.safe_dump(dict(config), sort_keys=True, width=120)


def read_resolved(path: Path, settings: type[StageSettings] = StageSettings) -> dict[str, Any]:
    """A file that ``write_resolved`` wrote, checked if the stage's ``settings`` are given."""
    try:
        config = yaml.load(path.read_text(), Loader=LOADER)  # noqa: S506 - both are safe
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run `dreamset resolve` first") from None
    if settings is not StageSettings:
        return checked(settings, config, where=str(path)).plain()
    assert isinstance(config, dict)
    return config
