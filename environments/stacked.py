"""Stacks the images of any environment, as ``StackFrames`` of the transforms does to recordings."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.environments.wrappers import Action, Environment, Observation


def make(*, environment: Callable[[], Environment], count: int) -> Environment:
    """The environment with every image and the ``count`` - 1 before it as channels of one image."""
    return StackedFrames(environment(), count)


class StackedFrames(gymnasium.Wrapper[Any, Action, Any, Action]):
    """Images [H, W, count C] of the last ``count`` steps, oldest first; other observations are unchanged.

    The first image of an episode takes the place of those before it.
    """

    def __init__(self, env: Environment, count: int) -> None:
        super().__init__(env)
        if count < 1:
            raise UserError(f"stacked environment: count is {count}; allowed: 1 or more")
        assert isinstance(env.observation_space, spaces.Dict)
        self.count = count
        names = {name for name, space in env.observation_space.items() if _is_image(space)}
        if not names:
            raise UserError(
                f"stacked environment: there is no image among {', '.join(sorted(env.observation_space))}; remove the "
                "stack from dataset.environment"
            )
        self._last: dict[str, deque[NDArray[np.uint8]]] = {name: deque(maxlen=count) for name in names}
        self.observation_space = spaces.Dict(
            {
                name: _stacked_space(space, count) if name in names else space
                for name, space in env.observation_space.items()
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The first observation, with its own image in every place."""
        observation, info = self.env.reset(seed=seed, options=options)
        for name, frames in self._last.items():
            frames.extend([np.array(observation[name])] * self.count)
        return self._stacked(observation), info

    def step(self, action: Action) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        for name, frames in self._last.items():
            frames.append(np.array(observation[name]))  # a copy: an environment may draw into the same array again
        return self._stacked(observation), reward, terminated, truncated, info

    def _stacked(self, observation: Mapping[str, NDArray[Any]]) -> Observation:
        images = {name: np.concatenate(list(frames), axis=-1) for name, frames in self._last.items()}
        return {**observation, **images}


def _is_image(space: spaces.Space[Any]) -> bool:
    return space.dtype == np.uint8 and space.shape is not None and len(space.shape) == 3


def _stacked_space(space: spaces.Space[Any], count: int) -> spaces.Box:
    assert space.shape is not None
    return spaces.Box(0, 255, (*space.shape[:2], count * space.shape[2]), np.uint8)
