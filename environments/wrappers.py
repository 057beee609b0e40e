"""Wrappers that give any Gymnasium environment named observations, true-state infos and a sensible reward scale."""

from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Observation = dict[str, NDArray[Any]]
Action = NDArray[np.float32]
Environment = gymnasium.Env[Any, Action]  # its observations are dictionaries
StateEnvironment = gymnasium.Env[NDArray[Any], Action]


class ActionRepeat(gymnasium.Wrapper[NDArray[Any], Action, NDArray[Any], Action]):
    """Takes each action ``repeat`` times and returns the mean reward, so that the reward's scale does not change."""

    def __init__(self, env: StateEnvironment, repeat: int) -> None:
        super().__init__(env)
        if repeat < 1:
            raise ValueError(f"action repeat must be at least 1, got {repeat}")
        self.repeat = repeat

    def step(self, action: Action) -> tuple[NDArray[Any], SupportsFloat, bool, bool, dict[str, Any]]:
        """One agent step; stops early when the episode ends."""
        rewards: list[float] = []
        for _ in range(self.repeat):
            observation, reward, terminated, truncated, info = self.env.step(action)
            rewards.append(float(reward))
            if terminated or truncated:
                break
        return observation, float(np.mean(rewards)), terminated, truncated, info


class RescaleReward(gymnasium.RewardWrapper[NDArray[Any], Action]):
    """Maps rewards linearly so that ``low`` becomes 0 and ``high`` becomes 1."""

    def __init__(self, env: StateEnvironment, *, low: float, high: float) -> None:
        super().__init__(env)
        if not low < high:
            raise ValueError(f"the reward's low must be below its high, got {low} and {high}")
        self.low, self.high = low, high

    def reward(self, reward: SupportsFloat) -> float:
        """The rescaled reward."""
        return (float(reward) - self.low) / (self.high - self.low)


class NamedState(gymnasium.Wrapper[Any, Action, Any, Action]):
    """Names the vector observation ``state`` and repeats it in ``info["state"]``, where probes look for the truth."""

    def __init__(self, env: StateEnvironment) -> None:
        super().__init__(env)
        self.observation_space = spaces.Dict({"state": env.observation_space})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The first observation; ``info`` holds the true state and nothing else."""
        state, _ = self.env.reset(seed=seed, options=options)
        return self._observe(state), {"state": np.asarray(state)}

    def step(self, action: Action) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step; ``info`` holds the true state and nothing else."""
        state, reward, terminated, truncated, _ = self.env.step(action)
        return self._observe(state), reward, terminated, truncated, {"state": np.asarray(state)}

    def _observe(self, state: NDArray[Any]) -> Observation:
        return {"state": state}


class CentralFrame(NamedState):
    """Replaces the observation by the ``image`` of the middle of the rendered frame.

    The frame must be square. Its central half is reduced to ``size`` x ``size`` by block means, an area filter
    that needs no imaging library.
    """

    def __init__(self, env: StateEnvironment, *, size: int) -> None:
        super().__init__(env)
        self.size = size
        self.observation_space = spaces.Dict({"image": spaces.Box(0, 255, (size, size, 3), np.uint8)})

    def _observe(self, state: NDArray[Any]) -> Observation:  # noqa: ARG002 - the state stays out of the observation
        return {"image": central_frame(np.asarray(self.env.render()), self.size)}


def central_frame(frame: NDArray[Any], size: int) -> NDArray[np.uint8]:
    """The central half of a square frame [W, W, 3], reduced to [size, size, 3] by block means.

    Raises:
        ValueError: if the frame is not square or its half is not a multiple of ``size``.
    """
    width = frame.shape[0]
    block, remainder = divmod(width // 2, size)
    if frame.shape[1] != width or remainder or not block:
        raise ValueError(f"a frame of {frame.shape} cannot be reduced to {size}: render {8 * size} x {8 * size} pixels")
    edge = (width - block * size) // 2
    middle = frame[edge : edge + block * size, edge : edge + block * size].astype(np.uint16)
    rows = middle.reshape(size, block, block * size, 3).sum(axis=1)
    total = rows.reshape(size, size, block, 3).sum(axis=2)
    mean: NDArray[np.uint8] = ((total + block * block // 2) // (block * block)).astype(np.uint8)
    return mean
