"""The first stage: composes the configuration once and writes one resolved file per stage and objective.

A stage's file also holds a digest of the code that the stage depends on. DVC reruns a stage when its own file changes,
so a setting or an edit of code reruns what it changes and nothing else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dreamset.core.errors import UserError
from dreamset.core.files import replaced_folder, write_text
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.dependencies import ImportPath, with_code
from dreamset.pipeline.stages import table as stages

KEYS = {"preset": str, "dataset": str, "objectives": list, "seeds": list, "finetune": list, "overrides": list}


def run(params: Path, output: Path) -> None:
    """Reads ``params.yaml`` and writes the folder of resolved files.

    Raises:
        UserError: if a choice, an override or the file itself is wrong; the folder is as it was then.
    """
    choices = read_params(params)
    base = [f"dataset={choices['dataset']}", f"preset={choices['preset']}", *choices["overrides"]]
    modules = ImportPath()
    with replaced_folder(output) as fresh:
        for objective in choices["objectives"]:
            composed = compose([*base, f"objective={objective}"])
            online = stages.ONLINE if objective in choices["finetune"] else {}
            for seed in choices["seeds"]:
                config = composed | {"seed": seed}
                for stage, describe in (stages.PER_OBJECTIVE | online).items():
                    name = stages.item_name(objective, seed)
                    write_resolved(fresh / stage / f"{name}.yaml", with_code(stage, describe(config), config, modules))
        config = compose(base)
        for stage, describe in stages.SHARED.items():
            write_resolved(fresh / f"{stage}.yaml", with_code(stage, describe(config), config, modules))
        compare = stages.compare(config, choices["objectives"], choices["seeds"])
        write_resolved(fresh / "compare.yaml", with_code("compare", compare, config, modules))


def read_params(path: Path) -> dict[str, Any]:
    """The user's choices, checked."""
    try:
        params = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run from the project's folder") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid yaml: {' '.join(str(error).split())}") from None
    if not isinstance(params, dict) or set(params) != set(KEYS):
        found = sorted(params) if isinstance(params, dict) else type(params).__name__
        raise UserError(f"{path} must have exactly the keys {sorted(KEYS)}, it has {found}")
    for key, kind in KEYS.items():
        if not isinstance(params[key], kind):
            raise UserError(f"{path}: {key} must be a {kind.__name__}, got {params[key]!r}")
    for key in ("objectives", "seeds"):
        if not params[key] or len(set(params[key])) != len(params[key]):
            raise UserError(f"{path}: {key} must name at least one and none twice, got {params[key]}")
    unknown = [name for name in params["finetune"] if name not in params["objectives"]]
    if unknown:
        raise UserError(f"{path}: finetune names {unknown}, but objectives are {params['objectives']}; add them there")
    if not all(isinstance(seed, int) for seed in params["seeds"]):
        raise UserError(f"{path}: seeds must be whole numbers, got {params['seeds']}")
    return params


def write_resolved(path: Path, config: Mapping[str, Any]) -> None:
    """Equal configurations give equal bytes."""
    write_text(path, yaml.safe_dump(dict(config), sort_keys=True, width=120))


def read_resolved(path: Path) -> dict[str, Any]:
    """A file that ``write_resolved`` wrote."""
    try:
        config = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run `dreamset resolve` first") from None
    assert isinstance(config, dict)
    return config
