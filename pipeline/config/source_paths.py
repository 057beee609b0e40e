"""The files and folders that the source of a dataset reads."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dreamset.pipeline.config.trust import TARGET


def source_paths(source: Mapping[str, Any]) -> list[str]:
    """The path of a source or, if it joins other sources, the path of each, in order and once."""
    return list(dict.fromkeys(_paths(source)))


def _paths(node: object) -> Iterator[str]:
    if isinstance(node, Mapping):
        if TARGET in node and "path" in node:
            yield from [node["path"]] if isinstance(node["path"], str) else []
            return
        for value in node.values():
            yield from _paths(value)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for value in node:
            yield from _paths(value)
