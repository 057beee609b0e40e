"""The first stage: composes the configuration once and writes one resolved file per stage and objective.

DVC reruns a stage when its own file changes, so a setting reruns what it changes and nothing else.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, field_validator, model_validator

from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder, write_text
from dreamset.pipeline.config.checks import checked
from dreamset.pipeline.config.compose import Composition, composed, require_effect
from dreamset.pipeline.config.settings import Section, Text, Whole
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.stages.settings import StageSettings


class Params(Section):
    """What ``dvc repro`` runs."""

    preset: Text
    dataset: Text
    objectives: Annotated[list[Text], Field(min_length=1)]
    seeds: Annotated[list[Whole], Field(min_length=1)]
    finetune: list[Text]
    overrides: list[Text]

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
            raise ValueError(f"in finetune what objectives has, too; {', '.join(unknown)} is not there, add it")
        return self


def run(params: Path, output: Path) -> None:
    """Reads ``params.yaml`` and writes the folder of resolved files.

    Raises:
        UserError: if a choice, an override or the file itself is wrong; the folder is as it was then.
    """
    choices = read_params(params)
    base = [f"dataset={choices.dataset}", f"preset={choices.preset}", *choices.overrides]
    with replaced_folder(output) as fresh:
        for objective, composition in _compositions(base, choices.objectives).items():
            online = stages.ONLINE if objective in choices.finetune else {}
            for seed in choices.seeds:
                config = composition.config | {"seed": seed}
                for stage, describe in (stages.PER_OBJECTIVE | online).items():
                    name = stages.item_name(objective, seed)
                    write_resolved(fresh / stage / f"{name}.yaml", describe(config))
        config = composed(base).config
        for stage, describe in stages.SHARED.items():
            write_resolved(fresh / f"{stage}.yaml", describe(config))
        write_resolved(fresh / "compare.yaml", stages.compare(config, choices.objectives, choices.seeds))


def _compositions(base: Sequence[str], objectives: Sequence[str]) -> dict[str, Composition]:
    """One for each objective. An override may be for one of them alone, but not for none."""
    found = {objective: composed([*base, f"objective={objective}"]) for objective in objectives}
    without_effect = [composition.without_effect for composition in found.values()]
    everywhere = set.intersection(*(set(keys) for keys in without_effect))
    require_effect({key: instead for key, instead in without_effect[0].items() if key in everywhere})
    return found


def read_params(path: Path) -> Params:
    """The user's choices, checked."""
    try:
        params = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run from the project's folder") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid yaml: {' '.join(str(error).split())}") from None
    return checked(Params, params, where=str(path))


def write_resolved(path: Path, config: Mapping[str, Any]) -> None:
    """Equal configurations give equal bytes."""
    write_text(path, as_yaml(config))


def as_yaml(config: Mapping[str, Any]) -> str:
    """As a resolved file has it."""
    return yaml.safe_dump(dict(config), sort_keys=True, width=120)


def read_resolved(path: Path, settings: type[StageSettings] = StageSettings) -> dict[str, Any]:
    """A file that ``write_resolved`` wrote, checked where the stage's ``settings`` are given."""
    try:
        config = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run `dreamset resolve` first") from None
    if settings is not StageSettings:
        return checked(settings, config, where=str(path)).plain()
    assert isinstance(config, dict)
    return config
