"""Where Minari keeps its datasets on this machine."""

import os
import re
from pathlib import Path

from dreamset.core.errors import UserError

ROOT_VARIABLE = "MINARI_DATASETS_PATH"
_DATASET_ID = re.compile(r"(?:[\w-]+/)*[\w-]+-v\d+", re.ASCII)


def datasets_root() -> Path:
    """Minari's own rule: MINARI_DATASETS_PATH, or a folder in the home directory."""
    chosen = os.environ.get(ROOT_VARIABLE)
    return Path(chosen) if chosen else Path.home() / ".minari" / "datasets"


def checked_id(dataset_id: str) -> str:
    """The id itself.

    Raises:
        UserError: if it is none.
    """
    if not _DATASET_ID.fullmatch(dataset_id):
        raise UserError(f"{dataset_id!r} is no Minari dataset id, which look like D4RL/door/human-v2; fix dataset_id")
    return dataset_id


def local_folder(dataset_id: str) -> Path | None:
    """The dataset's folder below Minari's root, if it is there."""
    folder = datasets_root() / checked_id(dataset_id)
    return folder if (folder / "data").is_dir() else None


def require_one(path: str | Path | None, dataset_id: str | None) -> None:
    """Raises ``UserError`` unless exactly one is given."""
    if (path is None) == (dataset_id is None):
        given = "neither is" if path is None else "both are"
        raise UserError(
            f"a Minari dataset is named by its path or by its dataset_id, and {given} given; set one of them"
        )


def dataset_folder(path: str | Path | None, dataset_id: str | None) -> Path:
    """The folder of a dataset that is named by its folder or by its id; nothing is downloaded.

    Raises:
        UserError: if both or neither are given, or a dataset of that id is not on this machine.
    """
    require_one(path, dataset_id)
    if path is not None:
        return Path(path)
    assert dataset_id is not None
    folder = local_folder(dataset_id)
    if folder is None:
        raise UserError(
            f"{dataset_id}: no such dataset in {datasets_root()}; fetch it with the stage 'collect' or with "
            f"'minari download {dataset_id}', or set {ROOT_VARIABLE} to where it is"
        )
    return folder
