"""A family of broken environments: the pendulum of the tiny dataset, each with one fault."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from dreamset.environments import pendulum

FAULTY_STEP = 3


class Broken(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Behaves until the step ``FAULTY_STEP``, which shows the fault."""

    def __init__(self, fault: str, episode_steps: int) -> None:
        super().__init__(pendulum.make(image_size=None, episode_steps=episode_steps))
        self.fault = fault
        self.count = 0
        self.reset_count = 0
        if fault in SPACES:
            observation, action = SPACES[fault]
            self.observation_space = observation or self.observation_space
            self.action_space = action or self.action_space

    def reset(self, **options: Any) -> Any:
        self.count = 0
        self.reset_count += 1
        assert self.fault not in SPACES, "an episode has begun"
        if self.fault == "reset raises":
            raise LookupError("no such\nlevel")
        return self.env.reset(**options)

    def step(self, action: Any) -> Any:
        self.count += 1
        returned = self.env.step(action)
        return FAULTS[self.fault](*returned) if self.count == FAULTY_STEP and self.fault in FAULTS else returned

    def render(self) -> Any:
        if self.fault == "render raises":
            raise OSError("no display")
        return None if self.fault == "render is None" else self.env.render()


def _raise(*_: Any) -> Any:
    raise ZeroDivisionError("the motor is off")


def _hang(*_: Any) -> Any:
    while True:
        with suppress(Exception):  # as a driver that tries again for ever
            time.sleep(100)


def _dawdle(*returned: Any) -> Any:
    time.sleep(0.3)
    return returned


def _observing(observation: Any) -> Callable[..., Any]:
    return lambda _, *rest: (observation, *rest)


def _rewarding(reward: float | None) -> Callable[..., Any]:
    return lambda observation, _, *rest: (observation, reward, *rest)


FAULTS: dict[str, Callable[..., Any]] = {
    "step raises": _raise,
    "step hangs": _hang,
    "step is slow": _dawdle,
    "nan reward": _rewarding(math.nan),
    "no reward": _rewarding(None),
    "nan observation": _observing({"state": np.full(3, np.nan, np.float32)}),
    "lost observation": _observing({"position": np.zeros(3, np.float32)}),
    "long observation": _observing({"state": np.zeros(4, np.float32)}),
    "bytes": _observing({"state": np.zeros(3, np.uint8)}),
    "bare observation": _observing(np.zeros(3, np.float32)),
    "four values": lambda *returned: returned[:4],
}


def _state(shape: int, dtype: Any = np.float32, name: str = "state") -> spaces.Dict:
    return spaces.Dict({name: spaces.Box(0, 1, (shape,), dtype)})


SPACES: dict[str, tuple[spaces.Space[Any] | None, spaces.Space[Any] | None]] = {
    "other name": (_state(3, name="position"), None),
    "other shape": (_state(4), None),
    "other dtype": (_state(3, np.uint8), None),
    "other action": (None, spaces.Box(-1, 1, (2,))),
    "choices": (None, spaces.Discrete(3)),
}


def make(fault: str, episode_steps: int = 10) -> gymnasium.Env[Any, Any]:
    """A new environment with this fault."""
    if fault == "cannot be made":
        raise ConnectionRefusedError("simulator is not running")
    if fault == "no environment":
        return None  # type: ignore[return-value]
    return Broken(fault, episode_steps)
