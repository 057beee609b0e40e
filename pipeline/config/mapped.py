"""Overrides that are written as a mapping, in Hydra's syntax.

A mapping is what ``dvc exp run -S +overrides.behavior.horizon=10`` writes into params.yaml, and what yaml invites to
write: ``overrides: {behavior.horizon: 10}``.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dreamset.pipeline.config.compose import values
from dreamset.pipeline.config.mistakes import literal


def in_hydra_syntax(overrides: Mapping[str, Any], others: Sequence[str]) -> list[str]:
    """One override per value of a mapping whose keys may be nested, dotted or both.

    A mapping is entered where it names a section. It is a value where the setting holds no mapping, such as the names
    of columns in ``{dataset.source.observations: {image: rgb}}``.

    Args:
        overrides: the mapping.
        others: overrides that the mapping does not repeat, such as the dataset.

    Raises:
        UserError: if a choice in either of them does not exist.
    """
    choices = [f"{key}={literal(value)}" for key, value in overrides.items() if not isinstance(value, Mapping)]
    nested = any(isinstance(value, Mapping) for value in overrides.values())
    defaults = values([*others, *choices]) if nested else {}
    return [f"{key}={literal(value)}" for key, value in _entries(overrides, defaults)]


def _entries(node: Mapping[str, Any], defaults: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        key = f"{section}{name}"
        if isinstance(value, Mapping) and value and key not in defaults:
            yield from _entries(value, defaults, f"{key}.")
        else:
            yield key, value
