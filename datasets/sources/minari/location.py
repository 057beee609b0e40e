"""Finds Minari datasets on this machine."""

import os
import re
from pathlib import Path

from dreamset.core.errors import UserError
from dreamset.core.files import user_path

ROOT_VARIABLE = "MINARI_DATASETS_PATH"
_DATASET_ID = re.compile(r"(?:[\w-]+/)*[\w-]+-v\d+", re.ASCII)


def datasets_root() -> Path:
    """Minari's folder: MINARI_DATASETS_PATH, or a folder in the home directory."""
    override = os.environ.get(ROOT_VARIABLE)
    return user_path(override) if override else Path.home() / ".minari" / "datasets"


def checked_id(dataset_id: str) -> str:
    """The id, if it is valid.

    Raises:
        UserError: if it is not valid.
    """
    if not _DATASET_ID.fullmatch(dataset_id):
        raise UserError(f"{dataset_id!r} is not a Minari dataset id such as D4RL/door/human-v2; fix dataset_id")
    return dataset_id


def local_folder(dataset_id: str) -> Path | None:
    """The dataset's folder below Minari's root; None if it does not exist."""
    folder = datasets_root() / checked_id(dataset_id)
    return folder if (folder / "data").is_dir() else None


def require_one(path: str | Path | None, dataset_id: str | None) -> None:
    """Raises a ``UserError`` unless exactly one is given."""
    if (path is None) == (dataset_id is None):
        given = "neither is" if path is None else "both are"
        raise UserError(f"a Minari dataset is named by path or by dataset_id, but {given} given; set one of them")


def dataset_folder(path: str | Path | None, dataset_id: str | None) -> Path:
    """The folder of a dataset, named by folder or id; downloads nothing.

    Raises:
        UserError: if both or neither are given, or the dataset is not on this machine.
    """
    require_one(path, dataset_id)
    if path is not None:
        return user_path(path)
    assert dataset_id is not None
    folder = local_folder(dataset_id)
    if folder is None:
        raise UserError(
            f"{dataset_id}: no such dataset in {datasets_root()}; fetch it with the stage 'collect' or with "
            f"'minari download {dataset_id}', or set {ROOT_VARIABLE} to the folder that contains it"
        )
    return folder
