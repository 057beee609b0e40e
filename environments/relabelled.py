"""Rewards any environment with the function that relabels its recordings."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, SupportsFloat

import gymnasium
import numpy as np
from numpy.typing import NDArray

from dreamset.environments.wrappers import Action, Environment, Observation

Arrays = Mapping[str, NDArray[Any]]


class RewardFunction(Protocol):
    """A reward function for ``RelabelReward``; reward t must depend on transition t only."""

    def __call__(
        self, *, observations: Arrays, privileged: Arrays, actions: NDArray[Any], rewards: NDArray[Any]
    ) -> NDArray[Any]:
        """Rewards [N] of N transitions; observations and privileged columns are [N + 1, ...]."""


def make(*, environment: Callable[[], Environment], reward: RewardFunction) -> Environment:
    """The environment with rewards of ``reward``, so that a policy is evaluated on its training task."""
    return RelabelledReward(environment(), reward)


class RelabelledReward(gymnasium.Wrapper[Observation, Action, Observation, Action]):
    """Rewards every step by a function of the rows before and after; ``info`` provides the privileged columns."""

    def __init__(self, env: Environment, function: RewardFunction) -> None:
        super().__init__(env)
        self.function = function
        self._observation: Observation = {}
        self._info: dict[str, Any] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The first row."""
        self._observation, self._info = self.env.reset(seed=seed, options=options)
        return self._observation, self._info

    def step(self, action: Action) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step, with the reward of the function."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        (relabelled,) = self.function(
            observations=_two_rows(self._observation, observation),
            privileged=_two_rows(self._info, info),
            actions=np.asarray(action)[None],
            rewards=np.asarray([reward], np.float64),
        )
        self._observation, self._info = observation, info
        return observation, float(relabelled), terminated, truncated, info


def _two_rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Stacks two rows; infos that exist only after a step are zero in the first row, as in a recording."""
    return {name: np.stack([before.get(name, np.zeros_like(value)), value]) for name, value in after.items()}
