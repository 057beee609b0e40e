"""A puck that glides to a goal: thrust in two directions, walls, and a fixed or random goal per episode.

Like ``pendulum`` it needs no download and no graphics driver: NumPy renders the frames.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.environments.rollouts import Policy
from dreamset.environments.wrappers import Action, Environment, Observation

STEP = 0.1  # seconds
THRUST = 2.0  # acceleration at full action
DRAG = 0.5  # share of the speed per second
BOUNCE = 0.5  # share of the speed after a collision; walls are at -1 and 1
START = 0.9  # puck and goal start within +-0.9
HALF_REWARD = 0.3  # distance from the goal at which the reward is 0.5

VIEW = 1.4  # frames show -VIEW to VIEW in both directions
VIDEO_SIZE = 128  # for frames that are not observations
PUCK = (0.35, np.array([0.13, 0.34, 0.68]))  # radius and colour
GOAL = (0.4, np.array([0.98, 0.62, 0.2]))


def make(*, image_size: int | None, goal: Sequence[float] | None = None, episode_steps: int = 100) -> Environment:
    """The task: rewards from 0 (far) to 1 (at the goal) per step; actions are two thrusts from -1 to 1.

    Args:
        image_size: edge of the ``image`` observation in pixels, or None for the ``state`` vector (position, velocity,
            goal: two numbers each).
        goal: two coordinates from -1 to 1, or None for a random goal in every episode.
        episode_steps: steps per episode; episodes always end by truncation.

    Raises:
        UserError: if the goal is not on the table.
    """
    if goal is not None and (len(goal) != 2 or max(map(abs, goal)) > 1):
        raise UserError(f"dataset.environment.goal is {list(goal)}; allowed: two coordinates from -1 to 1, or null")
    return TimeLimit(Puck(image_size, goal), max_episode_steps=episode_steps)


class Puck(gymnasium.Env[Observation, Action]):
    """The table; ``info["state"]`` is always the true state."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / STEP)}  # noqa: RUF012 - Gymnasium's own form
    render_mode = "rgb_array"

    def __init__(self, image_size: int | None, goal: Sequence[float] | None = None) -> None:
        self.image_size = image_size
        self.fixed_goal = goal
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        farthest = np.repeat([1.0, THRUST / DRAG, 1.0], 2).astype(np.float32)  # drag limits the speed
        state = spaces.Box(-farthest, farthest, dtype=np.float32)
        image = spaces.Box(0, 255, (image_size or 1, image_size or 1, 3), np.uint8)
        named: dict[str, spaces.Space[Any]] = {"state": state} if image_size is None else {"image": image}
        self.observation_space: spaces.Space[Any] = spaces.Dict(named)
        self.position, self.velocity, self.goal = np.zeros((3, 2))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Places the puck at rest and the goal, both at random."""
        super().reset(seed=seed, options=options)
        self.position, self.goal = self.np_random.uniform(-START, START, (2, 2))
        self.velocity = np.zeros(2)
        if self.fixed_goal is not None:
            self.goal = np.asarray(self.fixed_goal, np.float64)
        return self._observe()

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Moves the puck; the reward depends on the position on arrival."""
        thrust = THRUST * np.clip(np.asarray(action, np.float64), -1, 1)
        self.velocity = self.velocity + (thrust - DRAG * self.velocity) * STEP
        self.position = self.position + self.velocity * STEP
        outside = np.abs(self.position) > 1
        self.velocity = np.where(outside, -BOUNCE * self.velocity, self.velocity)
        self.position = np.clip(self.position, -1, 1)
        distance = np.linalg.norm(self.position - self.goal)
        observation, info = self._observe()
        return observation, float(1 / (1 + (distance / HALF_REWARD) ** 2)), False, False, info

    def render(self) -> NDArray[np.uint8]:
        """The table from above, [128, 128, 3]."""
        return drawn(self.position, self.goal, size=VIDEO_SIZE)

    def _observe(self) -> tuple[Observation, dict[str, Any]]:
        state = np.concatenate([self.position, self.velocity, self.goal]).astype(np.float32)
        if self.image_size is None:
            return {"state": state}, {"state": state}
        return {"image": drawn(self.position, self.goal, size=self.image_size)}, {"state": state}


def drawn(position: NDArray[np.floating], goal: NDArray[np.floating], *, size: int) -> NDArray[np.uint8]:
    """Renders puck and goal as antialiased discs on white, [size, size, 3]."""
    pixel = 2 * VIEW / size
    across = (np.arange(size) + 0.5) * pixel - VIEW
    image = np.ones((size, size, 3))
    for centre, (radius, colour) in ((goal, GOAL), (position, PUCK)):  # the puck covers the goal
        distance = np.hypot(across - centre[0], -across[:, None] - centre[1])  # x to the right, y upwards
        covered = np.clip((radius - distance) / pixel + 0.5, 0, 1)[..., None]
        image += covered * (colour - image)
    return np.rint(255 * image).astype(np.uint8)


def glide(state: NDArray[np.floating]) -> Action:
    """A proportional-derivative law, slightly overdamped.

    Args:
        state: position, velocity and goal.
    """
    position, velocity, goal = np.asarray(state, np.float64).reshape(3, 2)
    return np.clip(4.0 * (goal - position) - 3.0 * velocity, -1, 1).astype(np.float32)


def scripted(environment: Environment, generator: np.random.Generator) -> Policy:  # noqa: ARG001
    """A policy that follows ``glide``."""

    def act(_: Observation, info: Mapping[str, Any]) -> Action:
        return glide(info["state"])

    return act
