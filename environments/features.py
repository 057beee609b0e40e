"""Adds patch features to the observations of any environment, as ``PatchFeatures`` of the transforms does."""

from collections.abc import Callable
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.core.spec import GOAL_PREFIX
from dreamset.environments.wrappers import Action, Environment, Observation
from dreamset.vision.base import PatchEncoder, label, require_colour


def make(
    *, environment: Callable[[], Environment], encoder: PatchEncoder, image: str = "image", name: str = "patches"
) -> Environment:
    """The environment with the features of ``image`` as the observation ``name``."""
    return Featured(environment(), encoder, image=image, name=name)


class PatchSpace(spaces.Box):
    """Patch features [P, C], with the encoder that computes them: ``NAME:DIGEST``."""

    def __init__(self, encoder: PatchEncoder) -> None:
        super().__init__(-np.inf, np.inf, encoder.shape, np.float16)
        self.encoder = label(encoder)


class Featured(gymnasium.Wrapper[Any, Action, Any, Action]):
    """Adds the observation ``name``, and ``goal.NAME`` if there is a goal with an image.

    The goal's features are computed again only if its image changes.

    Args:
        env: the environment.
        encoder: the encoder of the dataset; a model refuses any other.
        image: the observation that it reads.
        name: of the new observation.
    """

    def __init__(self, env: Environment, encoder: PatchEncoder, *, image: str = "image", name: str = "patches") -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        offered = env.observation_space.spaces
        if image not in offered or offered[image].dtype != np.uint8 or name in offered:
            raise UserError(
                f"environment with features: image is {image!r} and name is {name!r}, but it has the observations "
                f"{', '.join(sorted(offered))}; change image or name in dataset.environment"
            )
        require_colour(encoder, offered[image].shape or ())
        self.encoder, self.image, self.name = encoder, image, name
        self.with_goal = GOAL_PREFIX + image in offered
        names = [name, *([GOAL_PREFIX + name] if self.with_goal else [])]
        self.observation_space = spaces.Dict({**offered, **{added: PatchSpace(encoder) for added in names}})
        self._goal = np.empty(0, np.uint8)  # the last image of a goal, and its features
        self._goal_features = np.empty(0, np.float16)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The first observation with its features."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._featured(observation), info

    def step(self, action: Action) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._featured(observation), reward, terminated, truncated, info

    def _featured(self, observation: Observation) -> Observation:
        added = {self.name: self._features(observation[self.image])}
        if self.with_goal:
            added[GOAL_PREFIX + self.name] = self._features_of_goal(observation[GOAL_PREFIX + self.image])
        return {**observation, **added}

    def _features_of_goal(self, image: NDArray[np.uint8]) -> NDArray[np.float16]:
        if not np.array_equal(image, self._goal):
            self._goal = np.array(image)  # a copy: an environment may draw into the same array again
            self._goal_features = self._features(image)
        return self._goal_features

    def _features(self, image: NDArray[Any]) -> NDArray[np.float16]:
        features: NDArray[np.float16] = self.encoder.features(image[None])[0]
        return features
