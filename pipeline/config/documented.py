"""The settings of ``configs/config.yaml`` with the defaults and the meanings that stand beside them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dreamset.pipeline.config.groups import config_folders

_ENTRY = re.compile(r"(?P<indent> *)(?P<name>\w+):(?: (?P<value>[^#]*?))?(?: *# (?P<meaning>.*))?")


@dataclass(frozen=True, slots=True)
class Setting:
    """One entry of the file."""

    key: str  # dotted
    default: str  # as in the file; empty for a section
    meaning: str  # the comment beside it; may be empty


def documented_settings() -> Iterator[Setting]:
    """All entries below ``defaults`` of ``config.yaml``, in their order, without those of Hydra itself."""
    sections: list[tuple[int, str]] = []  # indentation and name of the sections around a line
    lines = (config_folders()[-1] / "config.yaml").read_text().splitlines()
    for match in filter(None, map(_ENTRY.fullmatch, lines)):
        indent = len(match["indent"])
        sections = [section for section in sections if section[0] < indent] + [(indent, match["name"])]
        key = ".".join(name for _, name in sections)
        if key.partition(".")[0] not in ("defaults", "hydra"):
            default = re.sub(r"^[&*]batch$", "", match["value"] or "")
            yield Setting(key, default, match["meaning"] or "")
