"""Converts descriptions of saved models that earlier releases wrote to the format of this release."""

from collections.abc import Callable, Mapping
from typing import Any

from dreamset.core.errors import UserError
from dreamset.moved import current_name

FORMAT_VERSION = 3

Description = dict[str, Any]


def _kind_and_parent(value: Description) -> Description:
    """Version 1 to 2: adds the kind, and to the lineage the parent from which the training started, if any."""
    is_policy = "feature_size" in value["lineage"]
    added = {"generation": None, "parent": None} | ({"world_model": None} if is_policy else {})
    return value | {
        "format_version": 2,
        "kind": "policy" if is_policy else "world_model",
        "lineage": added | value["lineage"],
    }


def _moved_classes(value: Description) -> Description:
    """Version 2 to 3: replaces the old names of classes by the current ones."""
    return value | {"format_version": 3, "architecture": _renamed(value["architecture"])}


def _renamed(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: current_name(str(item)) if key == "_target_" else _renamed(item) for key, item in node.items()}
    return [_renamed(item) for item in node] if isinstance(node, list) else node


# format version -> the conversion to the next version
MIGRATIONS: dict[int, Callable[[Description], Description]] = {1: _kind_and_parent, 2: _moved_classes}


def migrated(value: Description, *, where: object, made_by: str) -> Description:
    """A description in the format of this release, converted version by version.

    Raises:
        UserError: if its version is newer than this release, or no conversion from it exists.
    """
    while (version := value.get("format_version")) != FORMAT_VERSION:
        if type(version) is int and version > FORMAT_VERSION:
            raise UserError(
                f"{where} has format version {version}, which a newer release wrote; allowed: up to {FORMAT_VERSION}; "
                "update dreamset"
            )
        if type(version) is not int or version not in MIGRATIONS:
            raise UserError(
                f"{where} has format version {version!r}; allowed: {min(MIGRATIONS, default=FORMAT_VERSION)} "
                f"to {FORMAT_VERSION}; run `{made_by}` again"
            )
        value = MIGRATIONS[version](value)
    return value
