"""A point in a plane with goals: a small environment, and random walks in it as a source."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets import RawEpisode
from dreamset.datasets.sources import SourceDescription

STEP, NEAR, PIXELS = 0.2, 0.25, 16
SPECS = {"state": ArraySpec((2,), "float32"), "image": ArraySpec((PIXELS, PIXELS, 3), "uint8")}

Array = NDArray[Any]


def shown(place: Array) -> dict[str, Array]:
    """What is observed at a place: its coordinates, and an image with a white square."""
    image = np.zeros((PIXELS, PIXELS, 3), np.uint8)
    row, column = ((place + 1) / 2 * (PIXELS - 4)).round().astype(int)
    image[row : row + 4, column : column + 4] = 255
    return {"state": place.astype(np.float32), "image": image}


class Plane(gymnasium.Env[dict[str, Array], Array]):
    """x' = clip(x + STEP a). The reward is 1 near the goal, which ends the episode."""

    steps = 0  # of all environments

    def __init__(self, observations: Sequence[str], *, goals: bool) -> None:
        names = [*observations, *(f"goal.{name}" for name in observations if goals)]
        self.names = names
        self.observation_space = spaces.Dict({name: self._space(name.removeprefix("goal.")) for name in names})
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)

    @staticmethod
    def _space(name: str) -> spaces.Box:
        image = SPECS[name].is_image
        return spaces.Box(0 if image else -1, 255 if image else 1, SPECS[name].shape, SPECS[name].dtype)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Array], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.place, self.goal = self.np_random.uniform(-1, 1, (2, 2))
        return self._observation(), self._info()

    def step(self, action: Array) -> tuple[dict[str, Array], float, bool, bool, dict[str, Any]]:
        Plane.steps += 1
        self.place = np.clip(self.place + STEP * np.asarray(action), -1, 1)
        info = self._info()
        return self._observation(), float(info["is_success"]), bool(info["is_success"]), False, info

    def _observation(self) -> dict[str, Array]:
        both = {**shown(self.place), **{f"goal.{name}": value for name, value in shown(self.goal).items()}}
        return {name: both[name] for name in self.names}

    def _info(self) -> dict[str, Any]:
        distance = float(np.linalg.norm(self.place - self.goal))
        return {"distance": distance, "is_success": distance < NEAR, "state": self.place.copy()}


def make(
    *, observations: Sequence[str] = ("state", "image"), goals: bool = True, limit: int | None = 20
) -> gymnasium.Env[Any, Any]:
    environment = Plane(observations, goals=goals)
    return environment if limit is None else TimeLimit(environment, max_episode_steps=limit)


@dataclass(frozen=True)
class Walks:
    """Random walks of 30 steps without goals and without rewards."""

    episode_count: int = 12
    observations: Sequence[str] = ("state", "image")

    def describe(self) -> SourceDescription:
        action = ActionSpec(2, discrete=False, low=(-1.0, -1.0), high=(1.0, 1.0))
        observed = {name: SPECS[name] for name in self.observations}
        return SourceDescription(observed, {"state": SPECS["state"]}, action, {"format": "walks"})

    def read(self, number: int) -> RawEpisode:
        draws = np.random.default_rng(number)
        actions = draws.uniform(-1, 1, (30, 2)).astype(np.float32)
        places = [draws.uniform(-1, 1, 2)]
        for action in actions:
            places.append(np.clip(places[-1] + STEP * action, -1, 1))
        rows = [shown(place) for place in places]
        observed = {name: np.stack([row[name] for row in rows]) for name in self.observations}
        states = np.stack(places).astype(np.float32)
        return RawEpisode(f"walk {number}", observed, actions, np.zeros(30, np.float32), False, {"state": states})
