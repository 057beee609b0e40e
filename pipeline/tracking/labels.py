"""What a person chose for a run, for display only: preset, parts and overrides.

A stage's settings hold values, not the names by which a person chose them. These names must not be among the settings,
because another name for the same values would rerun the stage. They reach the reports by their own way: ``dreamset``
sets them around a stage with ``labelled``, from the composition or from the manifest of the resolved files.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Labels:
    """The choices behind a run."""

    choices: Mapping[str, str] = field(
        default_factory=dict
    )  # group -> name, e.g. preset -> small; null ones are absent
    overrides: Sequence[str] = ()  # of other parts and of values, in Hydra's syntax, e.g. behavior.horizon=10

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of ``plain``."""
        return cls(dict(plain.get("choices", {})), list(plain.get("overrides", ())))

    def plain(self) -> dict[str, Any]:
        """Plain values, for json."""
        return {"choices": dict(self.choices), "overrides": list(self.overrides)}


_CURRENT: ContextVar[Labels] = ContextVar("labels", default=Labels())  # noqa: B039 - frozen


def current() -> Labels:
    """The labels of the stage that is running; empty if it was started as a function."""
    return _CURRENT.get()


@contextmanager
def labelled(labels: Labels) -> Iterator[None]:
    """Sets the labels for a block."""
    token = _CURRENT.set(labels)
    try:
        yield
    finally:
        _CURRENT.reset(token)
