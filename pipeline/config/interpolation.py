"""Follows interpolations: the key from which a value comes, and the keys that are read."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

REFERENCE = re.compile(
    r"\$\{([A-Za-z_][\w.]*)\}"
)  # such as ${network.hidden}; resolvers such as ${oc.env:HOME} refer to no key


def source_key(raw: Mapping[str, Any], key: str) -> str:
    """The key from which the value of ``key`` comes, through any number of interpolations; else ``key`` itself.

    Args:
        raw: the composed configuration with its interpolations.
        key: a dotted key.
    """
    names = key.split(".")
    node: Any = raw
    for depth, name in enumerate(names, start=1):
        node = node.get(name) if isinstance(node, Mapping) else None
        whole = REFERENCE.fullmatch(node) if isinstance(node, str) else None
        if whole:
            return source_key(raw, ".".join([whole[1], *names[depth:]]))
    return key


def read_keys(raw: Mapping[str, Any], roots: Iterable[str]) -> set[str]:
    """All keys that interpolations in the sections ``roots`` read, directly or through other interpolations."""
    read: set[str] = set()
    waiting = {key for root in roots for key in _references(raw.get(root))}
    while waiting:
        key = waiting.pop()
        read.add(key)
        waiting |= set(_references(_at(raw, key))) - read
    return read


def is_read(key: str, read: Iterable[str]) -> bool:
    """Whether ``read`` contains ``key``, a section that contains it, or a key below it."""
    return any(f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.") for other in read)


def _references(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield from REFERENCE.findall(node)
    elif isinstance(node, Mapping):
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, Sequence):
        for value in node:
            yield from _references(value)


def _at(raw: Mapping[str, Any], key: str) -> object:
    node: Any = raw
    for name in source_key(raw, key).split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node
