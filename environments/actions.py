"""Actions as models give them, flat float32 rows, turned into what the environment takes.

A choice is a one-hot row; the number of the choice is what the environment gets and what a recording stores, so that
every reader of Minari datasets understands it.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.environments.wrappers import Action, Environment

_ROUNDING = 1e-3  # a one-hot row that went through a network's arithmetic is not exactly zeros and a one


class FlatAction(gymnasium.ActionWrapper[Any, Action, Any]):
    """Continuous actions as one float32 vector, whatever the shape and precision of the environment's own."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        assert isinstance(env.action_space, spaces.Box)
        self.native = env.action_space
        self.action_space = spaces.Box(_bound(self.native.low), _bound(self.native.high), dtype=np.float32)

    def action(self, action: Action) -> NDArray[Any]:
        """In the environment's shape and precision."""
        return np.asarray(action, self.native.dtype).reshape(self.native.shape)


class OneHotAction(gymnasium.ActionWrapper[Any, Action, int]):
    """A choice among n as a row of n numbers with a single one."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        assert isinstance(env.action_space, spaces.Discrete)
        self.one_hot_choices = env.action_space
        self.action_space = spaces.Box(0.0, 1.0, (int(env.action_space.n),), np.float32)

    def action(self, action: Action) -> int:
        """The number of the choice."""
        return int(numbers(self.one_hot_choices, action))


def _bound(values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # beyond float32 there is no bound
        return values.astype(np.float32).ravel()


def adapt_actions(env: gymnasium.Env[Any, Any], name: str) -> Environment:
    """An environment that takes flat float32 rows.

    Raises:
        UserError: if the action space is neither a Box of fractions nor a choice.
    """
    space = env.action_space
    if isinstance(space, spaces.Discrete):
        return OneHotAction(env)
    if isinstance(space, spaces.Box) and space.dtype is not None and space.dtype.kind == "f":
        return FlatAction(env)
    raise UserError(
        f"{name} takes actions from {space}; supported: Discrete and Box with float numbers; wrap the environment "
        f"in one that translates, e.g. with gymnasium.wrappers.TransformAction"
    )


def choices(environment: Environment) -> spaces.Discrete | None:
    """What the environment's one-hot rows choose among; None if its actions are continuous."""
    if not environment.has_wrapper_attr("one_hot_choices"):
        return None
    found = environment.get_wrapper_attr("one_hot_choices")
    assert isinstance(found, spaces.Discrete)
    return found


def one_hot(index: int, count: int) -> Action:
    """The row that chooses ``index``, counted from 0, among ``count``."""
    row = np.zeros(count, np.float32)
    row[index] = 1
    return row


def numbers(space: spaces.Discrete, rows: Action) -> NDArray[np.int64]:
    """One-hot rows [..., n] as numbers of ``space`` [...].

    Raises:
        ValueError: if a row is not one-hot.
    """
    index = np.argmax(rows, axis=-1)
    if np.shape(rows)[-1] != space.n or not np.allclose(rows, np.eye(int(space.n))[index], rtol=0, atol=_ROUNDING):
        raise ValueError(f"an action must be a one-hot row of {space.n} numbers, got {np.asarray(rows).tolist()}")
    return np.asarray(index + space.start, np.int64)
