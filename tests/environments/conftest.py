"""A counting environment: every value encodes its episode and step."""

from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

TERMINATED_STEPS, TRUNCATED_STEPS = 7, 5


class Counter(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """Episode e counts on from 1000 e, one a step; reward and image show the count, the true state its negative.

    Every other episode terminates, the rest are cut by a time limit; with ``by_seed`` the seed decides instead.
    """

    observation_space = spaces.Dict(
        {
            "count": spaces.Box(-np.inf, np.inf, (1,), np.float32),
            "image": spaces.Box(0, 255, (2, 2, 1), np.uint8),
        }
    )
    action_space = spaces.Box(0.0, 1e5, (1,), np.float32)

    def __init__(self, *, by_seed: bool = False) -> None:
        self.by_seed = by_seed
        self.episode = -1
        self.count = self.left = 0
        self.closed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.episode = int(seed or 0) if self.by_seed else self.episode + 1
        self.count = 1000 * self.episode
        self.terminates = self.episode % 2 == 0
        self.left = TERMINATED_STEPS if self.terminates else TRUNCATED_STEPS
        return self._rows()

    def step(
        self,
        action: np.ndarray,  # noqa: ARG002 - actions are recorded, the count goes on alike
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        assert self.left > 0, "stepped beyond the end"
        self.count += 1
        self.left -= 1
        observation, info = self._rows()
        done = self.left == 0
        return observation, self.count + 0.5, done and self.terminates, done and not self.terminates, info

    def close(self) -> None:
        self.closed = True

    def _rows(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        image = np.full((2, 2, 1), self.count % 256, np.uint8)
        observation = {"count": np.array([self.count], np.float32), "image": image}
        return observation, {"state": np.array([-self.count], np.float64)}


@pytest.fixture
def counter() -> Callable[..., Counter]:
    return Counter


class NativeCounter(gymnasium.Env[Any, Any]):
    """Counts like ``Counter``, in whatever spaces it is given, as an environment of a suite might have them.

    ``show`` makes the native observation of a count; the image is filled with it; native actions are remembered.
    """

    metadata: ClassVar = {"render_modes": ["rgb_array"]}

    def __init__(
        self,
        show: Callable[[int], Any],
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        info: Callable[[int], dict[str, Any]] = lambda count: {"noise": count},
    ) -> None:
        self.show = show
        self.observation_space = observation_space
        self.action_space = action_space
        self.info = info
        self.counter = Counter()
        self.received: list[Any] = []
        self.render_mode = "rgb_array"

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.counter.reset(seed=seed)
        return self.show(self.counter.count), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.received.append(action)
        _, reward, terminated, truncated, _ = self.counter.step(action)
        return self.show(self.counter.count), reward, terminated, truncated, self.info(self.counter.count)

    def render(self) -> Any:
        return np.full((6, 10, 3), self.counter.count % 256, np.uint8)


def vector(count: int) -> np.ndarray:
    return np.array([[count, -count]], np.float64)


VECTOR = spaces.Box(-np.inf, np.inf, (1, 2), np.float64)
CONTINUOUS = spaces.Box(-1e5, 1e5, (2, 1), np.float64)


@pytest.fixture
def native() -> Callable[..., NativeCounter]:
    def make(
        show: Callable[[int], Any] = vector,
        observation_space: spaces.Space[Any] = VECTOR,
        action_space: spaces.Space[Any] = CONTINUOUS,
        **settings: Any,
    ) -> NativeCounter:
        return NativeCounter(show, observation_space, action_space, **settings)

    return make
