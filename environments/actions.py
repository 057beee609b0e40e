"""Converts actions of models, flat float32 rows, to actions of the environment.

A discrete action is a one-hot row in a model and an integer in the environment. Recordings store the integer, as every
reader of Minari datasets expects.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.environments.wrappers import Action, Environment

_ROUNDING = 1e-3  # one-hot rows from a network have rounding errors


class FlatAction(gymnasium.ActionWrapper[Any, Action, Any]):
    """Takes continuous actions as one float32 vector, whatever the environment's shape and precision."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        assert isinstance(env.action_space, spaces.Box)
        self.native = env.action_space
        self.action_space = spaces.Box(_bound(self.native.low), _bound(self.native.high), dtype=np.float32)

    def action(self, action: Action) -> NDArray[Any]:
        """The action in the environment's shape and precision."""
        return np.asarray(action, self.native.dtype).reshape(self.native.shape)


class OneHotAction(gymnasium.ActionWrapper[Any, Action, int]):
    """Takes discrete actions as one-hot rows."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        assert isinstance(env.action_space, spaces.Discrete)
        self.one_hot_choices = env.action_space
        self.action_space = spaces.Box(0.0, 1.0, (int(env.action_space.n),), np.float32)

    def action(self, action: Action) -> int:
        """The action as an integer."""
        return int(numbers(self.one_hot_choices, action))


def _bound(values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # bounds beyond float32 become infinite
        return values.astype(np.float32).ravel()


def adapt_actions(env: gymnasium.Env[Any, Any], name: str) -> Environment:
    """An environment that takes flat float32 rows.

    Raises:
        UserError: if the action space is neither a float Box nor Discrete.
    """
    space = env.action_space
    if isinstance(space, spaces.Discrete):
        return OneHotAction(env)
    if isinstance(space, spaces.Box) and space.dtype is not None and space.dtype.kind == "f":
        return FlatAction(env)
    raise UserError(
        f"{name} takes actions from {space}; supported: Discrete and Box with float numbers; wrap the environment, "
        f"for example with gymnasium.wrappers.TransformAction"
    )


def choices(environment: Environment) -> spaces.Discrete | None:
    """The discrete space behind the environment's one-hot rows; None if actions are continuous."""
    if not environment.has_wrapper_attr("one_hot_choices"):
        return None
    space = environment.get_wrapper_attr("one_hot_choices")
    assert isinstance(space, spaces.Discrete)
    return space


def one_hot(index: int, count: int) -> Action:
    """The one-hot row of ``index`` among ``count``."""
    row = np.zeros(count, np.float32)
    row[index] = 1
    return row


def numbers(space: spaces.Discrete, rows: Action) -> NDArray[np.int64]:
    """One-hot rows [..., n] as integers [...] of ``space``.

    Raises:
        ValueError: if a row is not one-hot.
    """
    index = np.argmax(rows, axis=-1)
    if np.shape(rows)[-1] != space.n or not np.allclose(rows, np.eye(int(space.n))[index], rtol=0, atol=_ROUNDING):
        raise ValueError(f"an action must be a one-hot row of {space.n} numbers, got {np.asarray(rows).tolist()}")
    return np.asarray(index + space.start, np.int64)
