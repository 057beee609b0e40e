"""Plays blocks of actions in any environment, as ``ActionBlocks`` of the transforms joins recorded ones."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from dreamset.core.errors import UserError
from dreamset.environments.actions import choices
from dreamset.environments.wrappers import Action, ActionRepeat, Environment


def make(*, environment: Callable[[], Environment], steps: int = 5) -> Environment:
    """The environment with ``steps`` actions in one."""
    return ActionBlocks(environment(), steps)


class ActionBlocks(ActionRepeat):
    """An action is a block of ``steps`` actions side by side, which are played in order.

    Rewards are summed, and the observation is that after the block. A block stops where the episode ends; the rest of
    its actions is ignored.
    """

    def __init__(self, env: Environment, steps: int = 5) -> None:
        if steps < 1:
            raise UserError(f"environment in blocks: steps is {steps}; allowed: 1 or more")
        if choices(env) is not None or not isinstance(env.action_space, spaces.Box):
            raise UserError(
                f"environment in blocks: the actions are from {env.unwrapped.action_space}; allowed: continuous ones; "
                "remove the blocks from dataset.environment and from dataset.transforms"
            )
        super().__init__(env, steps, combine=sum)
        low, high = (np.tile(bound.ravel(), steps) for bound in (env.action_space.low, env.action_space.high))
        self.action_space = spaces.Box(low, high, dtype=np.float32)

    def parts(self, action: Action) -> Sequence[Any]:
        """The actions of a block [steps * A], in order."""
        return list(np.reshape(action, (self.repeat, -1)))
