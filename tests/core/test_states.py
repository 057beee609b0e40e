"""Operations on opaque states keep the structure of the state."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from dreamset.core.states import map_state, named_tensors, stack_states, state_count, with_tensors


@dataclass(frozen=True)
class Inner:
    depth: Tensor


@dataclass(frozen=True)
class Outer:
    width: Tensor
    inner: Inner


@dataclass(frozen=True)
class RepeatedName:
    depth: Tensor
    inner: Inner


def state(value: float, count: int = 2) -> Outer:
    return Outer(torch.full((count, 3), value), Inner(torch.full((count,), -value)))


def test_map_state_applies_the_function_to_nested_tensors_too() -> None:
    doubled = map_state(lambda tensor: 2 * tensor, state(1.5))
    assert doubled.width.tolist() == [[3.0] * 3] * 2
    assert doubled.inner.depth.tolist() == [-3.0, -3.0]


def test_map_state_passes_corresponding_tensors_of_several_states() -> None:
    difference = map_state(lambda one, other: one - other, state(5.0), state(2.0))
    assert difference.width.unique().tolist() == [3.0]
    assert difference.inner.depth.unique().tolist() == [-3.0]


def test_stack_states_adds_the_requested_axis() -> None:
    states = [state(float(number)) for number in range(4)]
    assert stack_states(states).width.shape == (4, 2, 3)
    assert stack_states(states, dim=1).inner.depth.tolist() == [[0.0, -1.0, -2.0, -3.0]] * 2


def test_with_tensors_is_the_inverse_of_named_tensors() -> None:
    named = named_tensors(state(4.0))
    assert list(named) == ["width", "depth"]
    back = with_tensors(state(0.0), {name: value + 1 for name, value in named.items()})
    assert back.width.unique().tolist() == [5.0]
    assert back.inner.depth.unique().tolist() == [-3.0]
    assert state_count(state(0.0, count=7)) == 7


def test_named_tensors_refuses_two_tensors_of_one_name() -> None:
    with pytest.raises(ValueError, match="RepeatedName has two tensors of one name"):
        named_tensors(RepeatedName(torch.zeros(1), Inner(torch.zeros(1))))


def test_named_tensors_refuses_a_state_that_is_no_dataclass() -> None:
    with pytest.raises(TypeError, match="got dict"):
        named_tensors({"width": torch.zeros(1)})
