"""Flat and one-hot actions, and the native actions that the environment receives."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from dreamset.core.errors import UserError
from dreamset.environments.actions import adapt_actions, choices, numbers, one_hot


def test_continuous_action_is_a_float32_vector_and_gets_the_native_shape(native: Callable[..., Any]) -> None:
    inner = native(action_space=spaces.Box(np.array([[-2.0], [-3.0]]), np.array([[2.0], [np.inf]]), dtype=np.float64))
    environment = adapt_actions(inner, "Task-v0")
    assert environment.action_space == spaces.Box(np.float32([-2, -3]), np.float32([2, np.inf]), dtype=np.float32)
    environment.reset()
    environment.step(np.array([0.5, -1.0], np.float32))
    (received,) = inner.received
    assert (received.dtype, received.tolist()) == (np.float64, [[0.5], [-1.0]])
    assert choices(environment) is None


def test_one_hot_row_becomes_an_integer(native: Callable[..., Any]) -> None:
    inner = native(action_space=spaces.Discrete(3, start=5))
    environment = TimeLimit(adapt_actions(inner, "Task-v0"), 10)
    assert environment.action_space == spaces.Box(0.0, 1.0, (3,), np.float32)
    environment.reset()
    for index in (0, 2, 1):
        environment.step(one_hot(index, 3))
    environment.step(np.array([1e-5, 0.99999, 0], np.float32))  # as a network's arithmetic leaves it
    assert inner.received == [5, 7, 6, 6]
    assert all(isinstance(action, int) for action in inner.received)
    assert choices(environment) == spaces.Discrete(3, start=5)


@pytest.mark.parametrize("row", [[0.4, 0.6, 0.0], [1, 1, 0], [0, 0, 0], [0, 2, 0], [0, 1], [np.nan, 0, 1]])
def test_row_that_is_not_one_hot_is_refused(row: list[float]) -> None:
    with pytest.raises(ValueError, match="one-hot row of 3 numbers") as caught:
        numbers(spaces.Discrete(3), np.array(row, np.float32))
    assert str(np.array(row, np.float32).tolist()) in str(caught.value)


def test_one_hot_rows_of_an_episode_become_integers() -> None:
    rows = np.eye(4, dtype=np.float32)[[3, 0, 1]]
    actual = numbers(spaces.Discrete(4, start=-1), rows)
    assert (actual.dtype, actual.tolist()) == (np.int64, [2, -1, 0])


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([2, 3]), spaces.Box(0, 9, (1,), np.int64)])
def test_unsupported_action_spaces_are_refused(native: Callable[..., Any], space: spaces.Space[Any]) -> None:
    with pytest.raises(UserError, match=r"Task-v0 takes actions from") as caught:
        adapt_actions(native(action_space=space), "Task-v0")
    assert str(space) in str(caught.value)
