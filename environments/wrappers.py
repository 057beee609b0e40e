"""Wrappers for action repeat, seeding, reward scale and named observations."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

Observation = dict[str, NDArray[Any]]
Action = NDArray[np.float32]
Environment = gymnasium.Env[Any, Action]  # observations are dictionaries
StateEnvironment = gymnasium.Env[NDArray[Any], Action]


def mean(rewards: Sequence[float]) -> float:
    """The mean reward."""
    return float(np.mean(rewards))


def time_limit(environment: gymnasium.Env[Any, Any]) -> int | None:
    """Agent steps until the time limit; None if no wrapper has one, because the environment may have its own."""
    limits, repeat, layer = [], 1, environment
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, ActionRepeat):
            repeat *= layer.repeat
        elif isinstance(layer, TimeLimit):
            limits.append(math.ceil(layer._max_episode_steps / repeat))  # Gymnasium has no public name for it
        layer = layer.env
    return min(limits, default=None)


class ActionRepeat(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Repeats each action ``repeat`` times.

    By default the reward is the mean, which keeps the scale of rewards; ``combine=sum`` keeps the return.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], repeat: int, *, combine: Callable[[Sequence[float]], float] = mean
    ) -> None:
        super().__init__(env)
        if repeat < 1:
            raise ValueError(f"action repeat must be at least 1, got {repeat}")
        self.repeat = repeat
        self.combine = combine

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One agent step; stops early if the episode ends."""
        rewards: list[float] = []
        for part in self.parts(action):
            observation, reward, terminated, truncated, info = self.env.step(part)
            rewards.append(float(reward))
            if terminated or truncated:
                break
        return observation, self.combine(rewards), terminated, truncated, info

    def parts(self, action: Any) -> Sequence[Any]:
        """The environment's actions of one agent step."""
        return [action] * self.repeat


class OwnRandomness(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Isolates the random state of environments that use NumPy's global generator or their action space.

    Otherwise the episodes of some suites would depend on other draws of the process, not only on the seed.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._state = np.random.RandomState(0).get_state(legacy=False)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Seeds all random sources of the environment."""
        if seed is not None:
            self._state = np.random.RandomState(seed).get_state(legacy=False)
            for part in (self.env, self.unwrapped):  # a wrapper may have its own action space
                part.action_space.seed(seed)
        with self._swapped():
            return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step."""
        with self._swapped():
            return self.env.step(action)

    @contextmanager
    def _swapped(self) -> Iterator[None]:
        outside = np.random.get_state(legacy=False)  # noqa: NPY002 - it is theirs
        np.random.set_state(self._state)  # noqa: NPY002
        try:
            yield
        finally:
            self._state = np.random.get_state(legacy=False)  # noqa: NPY002
            np.random.set_state(outside)  # noqa: NPY002


class RescaleReward(gymnasium.RewardWrapper[NDArray[Any], Action]):
    """Maps rewards linearly: ``low`` to 0, ``high`` to 1."""

    def __init__(self, env: StateEnvironment, *, low: float, high: float) -> None:
        super().__init__(env)
        if not low < high:
            raise ValueError(f"the reward's low must be below its high, got {low} and {high}")
        self.low, self.high = low, high

    def reward(self, reward: SupportsFloat) -> float:
        """The rescaled reward."""
        return (float(reward) - self.low) / (self.high - self.low)


class NamedState(gymnasium.Wrapper[Any, Action, Any, Action]):
    """Names the vector observation ``state`` and adds it to ``info["state"]`` as ground truth for probes."""

    def __init__(self, env: StateEnvironment) -> None:
        super().__init__(env)
        self.observation_space = spaces.Dict({"state": env.observation_space})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The first observation; ``info`` has only the true state."""
        state, _ = self.env.reset(seed=seed, options=options)
        return self._observe(state), {"state": np.asarray(state)}

    def step(self, action: Action) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step; ``info`` has only the true state."""
        state, reward, terminated, truncated, _ = self.env.step(action)
        return self._observe(state), reward, terminated, truncated, {"state": np.asarray(state)}

    def _observe(self, state: NDArray[Any]) -> Observation:
        return {"state": state}


class CentralFrame(NamedState):
    """Replaces the observation by an ``image``: the central half of the rendered frame.

    The frame must be square. Its central half is shrunk to ``size`` x ``size`` by means of blocks.
    """

    def __init__(self, env: StateEnvironment, *, size: int) -> None:
        super().__init__(env)
        self.size = size
        self.observation_space = spaces.Dict({"image": spaces.Box(0, 255, (size, size, 3), np.uint8)})

    def _observe(self, state: NDArray[Any]) -> Observation:  # noqa: ARG002 - the state is not observed
        return {"image": central_frame(np.asarray(self.env.render()), self.size)}


def central_frame(frame: NDArray[Any], size: int) -> NDArray[np.uint8]:
    """The central half of a square frame [W, W, 3], shrunk to [size, size, 3] by means of blocks.

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
