"""Descriptions of saved models that earlier releases wrote, brought up to this release's format."""

from collections.abc import Callable, Mapping
from typing import Any

from dreamset.core.errors import UserError
from dreamset.moved import current_name

FORMAT_VERSION = 3

Description = dict[str, Any]


def _kind_and_descent(value: Description) -> Description:
    """1 to 2: the kind is named, and the lineage says which model the training started from, if from one."""
    is_policy = "feature_size" in value["lineage"]
    added = {"generation": None, "parent": None} | ({"world_model": None} if is_policy else {})
    return value | {
        "format_version": 2,
        "kind": "policy" if is_policy else "world_model",
        "lineage": added | value["lineage"],
    }


def _moved_classes(value: Description) -> Description:
    """2 to 3: classes are named by the modules that they are in now."""
    return value | {"format_version": 3, "architecture": _renamed(value["architecture"])}


def _renamed(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: current_name(str(item)) if key == "_target_" else _renamed(item) for key, item in node.items()}
    return [_renamed(item) for item in node] if isinstance(node, list) else node


# format version -> what makes the next one of it
MIGRATIONS: dict[int, Callable[[Description], Description]] = {1: _kind_and_descent, 2: _moved_classes}


def migrated(value: Description, *, where: object, made_by: str) -> Description:
    """A description in this release's format, one version after the other.

    Raises:
        UserError: if its version is newer than this release, or one that nothing leads on from.
    """
    while (version := value.get("format_version")) != FORMAT_VERSION:
        if type(version) is int and version > FORMAT_VERSION:
            raise UserError(
                f"{where} has format version {version}, written by a newer release; this one reads up to version "
                f"{FORMAT_VERSION}; update dreamset"
            )
        if type(version) is not int or version not in MIGRATIONS:
            raise UserError(
                f"{where} has format version {version!r}, this release reads {min(MIGRATIONS, default=FORMAT_VERSION)} "
                f"to {FORMAT_VERSION}; run `{made_by}` again"
            )
        value = MIGRATIONS[version](value)
    return value
