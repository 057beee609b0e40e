"""Operations on opaque states: frozen dataclasses of tensors, possibly nested.

Only the model reads a state's fields, and only the controller reads its memory's. All other code uses this module:
apply a function to every tensor, stack states, list the tensors by name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

S = TypeVar("S")


def map_state(function: Callable[..., Tensor], *states: S) -> S:
    """Applies ``function`` to every tensor; with several states, to the corresponding tensors of all of them."""
    values = {
        field.name: _mapped(function, [getattr(state, field.name) for state in states]) for field in _fields(states[0])
    }
    result: S = replace(states[0], **values)  # type: ignore[type-var]
    return result


def _mapped(function: Callable[..., Tensor], values: Sequence[Any]) -> Any:
    return function(*values) if isinstance(values[0], Tensor) else map_state(function, *values)


def _fields(state: object) -> Any:
    if not is_dataclass(state):
        raise TypeError(f"a state must be a dataclass of tensors, got {type(state).__name__}")
    return fields(state)


def stack_states(states: Sequence[S], dim: int = 0) -> S:
    """Stacks states into one state with a new axis ``dim``."""
    return map_state(lambda *tensors: torch.stack(tensors, dim=dim), *states)


def state_count(state: object) -> int:
    """N, the length of the first axis of a state [N, ...]."""
    return int(next(iter(named_tensors(state).values())).shape[0])


def named_tensors(state: object) -> dict[str, Tensor]:
    """Every tensor by the name of its field; a nested tensor has its own field's name, without a prefix.

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
    """A copy of ``state`` with the tensors of ``named`` in its fields: the inverse of ``named_tensors``."""
    values = {
        field.name: named[field.name]
        if isinstance(value := getattr(state, field.name), Tensor)
        else with_tensors(value, named)
        for field in _fields(state)
    }
    result: S = replace(state, **values)  # type: ignore[type-var]
    return result
