"""Operations on states that nobody looks into: frozen dataclasses of tensors, nested or not.

A state belongs to the model that made it, a memory to its controller. What others may do with one is in this module:
apply a function to all tensors, stack, flatten by name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

S = TypeVar("S")


def map_state(function: Callable[..., Tensor], *states: S) -> S:
    """``function`` applied to each tensor; of several states to the tensors that correspond."""
    changed = {
        field.name: _mapped(function, [getattr(state, field.name) for state in states]) for field in _fields(states[0])
    }
    made: S = replace(states[0], **changed)  # type: ignore[type-var]
    return made


def _mapped(function: Callable[..., Tensor], values: Sequence[Any]) -> Any:
    return function(*values) if isinstance(values[0], Tensor) else map_state(function, *values)


def _fields(state: object) -> Any:
    if not is_dataclass(state):
        raise TypeError(f"a state is a dataclass of tensors, got {type(state).__name__}")
    return fields(state)


def stack_states(states: Sequence[S], dim: int = 0) -> S:
    """One state with a new axis ``dim``."""
    return map_state(lambda *tensors: torch.stack(tensors, dim=dim), *states)


def state_count(state: object) -> int:
    """N of a state [N, ...]."""
    return int(next(iter(named_tensors(state).values())).shape[0])


def named_tensors(state: object) -> dict[str, Tensor]:
    """Every tensor by the name of its field; nested fields by their own names.

    Raises:
        ValueError: if two fields share a name.
    """
    pairs = list(_leaves(state))
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError(f"{type(state).__name__} has two tensors of one name: {sorted(name for name, _ in pairs)}")
    return named


def _leaves(state: object) -> Iterator[tuple[str, Tensor]]:
    for field in _fields(state):
        value = getattr(state, field.name)
        if isinstance(value, Tensor):
            yield field.name, value
        else:
            yield from _leaves(value)


def with_tensors(state: S, named: Mapping[str, Tensor]) -> S:
    """A state like ``state`` that holds the tensors of ``named``: the inverse of ``named_tensors``."""
    changed = {
        field.name: named[field.name]
        if isinstance(value := getattr(state, field.name), Tensor)
        else with_tensors(value, named)
        for field in _fields(state)
    }
    made: S = replace(state, **changed)  # type: ignore[type-var]
    return made
