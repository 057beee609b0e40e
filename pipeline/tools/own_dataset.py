"""A dataset configuration of one's own, from what ``dreamset data inspect`` recognises."""

import re
from pathlib import Path
from typing import Any

import yaml

from dreamset.core.errors import UserError
from dreamset.core.files import write_text
from dreamset.datasets.recognition import Recognized
from dreamset.pipeline.config.groups import config_folders, groups

FOLDER = Path("configs/dataset")


def save(found: Recognized | None, path: Path, name: str) -> str:
    """Writes ``configs/dataset/NAME.yaml`` in the working folder, and returns what to do next.

    Args:
        found: the format of the data; None if it is unknown.
        path: of the data, for the message.
        name: of the dataset and of the file.

    Raises:
        UserError: if the format is unknown, the name is no plain name or taken, or the file would not be found here.
    """
    if found is None:
        raise UserError(
            f"{path}: the format is not recognised; copy a file that `dreamset list dataset` names to {FOLDER}, and "
            "name your columns there"
        )
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name, re.IGNORECASE):
        raise UserError(f"--save is {name!r}; allowed: letters, digits, - and _; choose a plain name")
    if FOLDER.parent.resolve() not in config_folders():
        raise UserError("configurations of this folder are not used, because it is no project; run `dreamset init .`")
    if name in groups()["dataset"]:
        raise UserError(f"a dataset named {name} exists already and is not overwritten; choose another name")
    file = FOLDER / f"{name}.yaml"
    file.parent.mkdir(exist_ok=True)
    about = f"# {found.name[0].upper()}{found.name[1:]}. All further settings are as in the dataset {found.dataset}."
    text = yaml.safe_dump(_nested(found, name), sort_keys=False, allow_unicode=True)
    write_text(file, f"{about}\n{text}")
    return f"wrote {file}; check it, then:\n  dreamset ingest dataset={name}"


def _nested(found: Recognized, name: str) -> dict[str, Any]:
    settings: dict[str, Any] = {"defaults": [found.dataset, "_self_"]}
    for key, value in {**found.settings, "name": name}.items():
        section, _, last = key.rpartition(".")
        (settings.setdefault(section, {}) if section else settings)[last] = value
    return settings
