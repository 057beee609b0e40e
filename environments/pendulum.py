"""Pendulum swing-up, a task without downloads and graphics drivers."""

import os
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from dreamset.environments.rollouts import Policy
from dreamset.environments.wrappers import (
    Action,
    ActionRepeat,
    CentralFrame,
    Environment,
    NamedState,
    Observation,
    RescaleReward,
)

# The reward is about -pi^2 per step when hanging and 0 when upright; -8 maps the average random step to about 0.25.
ZERO_REWARD = -8.0
FULL_SPEED = 8.0  # maximum of Pendulum-v1


def make(
    *,
    image_size: int | None,
    action_repeat: int = 2,
    episode_steps: int = 100,
    mass: float = 1.0,
    length: float = 1.0,
    hanging: bool = False,
) -> Environment:
    """``Pendulum-v1`` with rewards of about 0 (hanging) to 1 (upright) per agent step.

    Args:
        image_size: edge of the ``image`` observation in pixels, or None for the ``state`` vector (cos, sin, speed).
        action_repeat: environment steps per agent step.
        episode_steps: agent steps per episode; episodes always end by truncation.
        mass: mass of the pole.
        length: length of the pole; frames always show the default length.
        hanging: whether episodes begin with the pole almost at rest below, where random torques leave it, instead of at
            any angle.
    """
    # pygame renders into memory; the dummy driver makes it work without a display.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    base = gymnasium.make("Pendulum-v1", render_mode="rgb_array", max_episode_steps=action_repeat * episode_steps + 1)
    base.unwrapped.m, base.unwrapped.l = mass, length  # type: ignore[attr-defined]
    # The pole reaches 125 of 500 pixels from the centre, so the central half of the frame shows it entirely.
    base.unwrapped.screen_dim = 8 * (image_size or 32)  # type: ignore[attr-defined]
    started = Hanging(base) if hanging else base
    scaled = RescaleReward(ActionRepeat(started, action_repeat), low=ZERO_REWARD, high=0.0)
    named = NamedState(scaled) if image_size is None else CentralFrame(scaled, size=image_size)
    return TimeLimit(named, max_episode_steps=episode_steps)


class Hanging(gymnasium.Wrapper[NDArray[np.float32], Action, NDArray[np.float32], Action]):
    """Begins every episode within 0.1 rad and 0.1 rad/s of the pole's rest."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """The first observation."""
        _, info = self.env.reset(seed=seed, options={"x_init": 0.1, "y_init": 0.1, **(options or {})})
        state = self.unwrapped.state  # type: ignore[attr-defined]
        self.unwrapped.state = state + np.array([np.pi, 0.0])  # type: ignore[attr-defined]
        return self.unwrapped._get_obs(), info  # type: ignore[attr-defined]


def spinning(*, privileged: Mapping[str, NDArray[Any]], **_: object) -> NDArray[np.float64]:
    """Reward of another task: the share of the maximum speed on arrival, in either direction, [N].

    Args:
        privileged: ``state`` [N + 1, 3]. The other arguments of a reward function are not used.
    """
    speed: NDArray[np.float64] = np.abs(privileged["state"][1:, 2].astype(np.float64)) / FULL_SPEED
    return speed


def swing_up(state: NDArray[np.floating], *, length: float = 1.0) -> Action:
    """Energy shaping far from the top, a proportional-derivative law near it.

    Both are independent of the mass, which scales the whole energy; the gains work up to a ``mass * length`` of 2.4.

    Args:
        state: cosine and sine of the angle from upright, and the angular speed.
        length: length of the pole.
    """
    angle, speed = np.arctan2(state[1], state[0]), float(state[2])
    if np.cos(angle) > 0.9 and abs(speed) < 3:
        torque = -(12 * angle + 2.5 * speed)
    else:
        energy = speed**2 / 6 + 5 / length * (np.cos(angle) - 1)  # 0: just enough to reach the top
        torque = 2 * np.sign(speed if abs(speed) > 1e-3 else 1.0) * np.sign(-energy)
    return np.array([np.clip(torque, -2, 2)], np.float32)


class NoisySwingUp:
    """The scripted controller, interrupted by held random torques in a share ``randomness`` of the time."""

    def __init__(
        self, generator: np.random.Generator, *, randomness: float, longest_hold: int = 6, length: float = 1.0
    ) -> None:
        self.generator = generator
        self.randomness = randomness
        self.length = length
        self.longest_hold = longest_hold
        self._left = 0
        self._torque: Action | None = None

    def __call__(self, observation: Observation, info: Mapping[str, Any]) -> Action:  # noqa: ARG002
        """A torque for the true state."""
        if self._left == 0:
            self._left = int(self.generator.integers(1, self.longest_hold + 1))
            random = self.generator.random() < self.randomness
            self._torque = self.generator.uniform(-2, 2, 1).astype(np.float32) if random else None
        self._left -= 1
        return swing_up(info["state"], length=self.length) if self._torque is None else self._torque


def mixture(environment: Environment, generator: np.random.Generator) -> Policy:
    """A policy with a uniformly drawn share of random actions per episode: D4RL's "mixed" quality."""
    return NoisySwingUp(generator, randomness=float(generator.random()), length=_length(environment))


def scripted(environment: Environment, generator: np.random.Generator) -> Policy:  # noqa: ARG001
    """The scripted controller: the upper reference score."""
    length = _length(environment)
    return lambda _, info: swing_up(info["state"], length=length)


def random(environment: Environment, generator: np.random.Generator) -> Policy:  # noqa: ARG001
    """Independent uniform torques: the lower reference score."""
    return lambda _, __: generator.uniform(-2, 2, 1).astype(np.float32)


def _length(environment: Environment) -> float:
    return float(environment.unwrapped.l)  # type: ignore[attr-defined]
