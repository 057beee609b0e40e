"""A stacked environment shows the same images as a stacked recording."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources import SourceDescription
from dreamset.datasets.transforms import StackFrames
from dreamset.environments import pendulum
from dreamset.environments.rollouts import record_episode
from dreamset.environments.stacked import StackedFrames, make
from dreamset.environments.wrappers import time_limit
from tests.environments.conftest import Counter

ACTION = np.zeros(1, np.float32)


def counts(observation: Mapping[str, np.ndarray]) -> list[int]:
    """The counts that the stack shows, oldest first; every image is filled with its count."""
    image = observation["image"]
    assert (image == image[:1, :1]).all()
    return [int(value) for value in image[0, 0]]


def test_stack_holds_the_last_images_and_begins_with_the_first_of_its_episode() -> None:
    environment = StackedFrames(Counter(), 3)
    for first in (0, 1000 % 256):
        observation, _ = environment.reset()
        assert counts(observation) == [first] * 3
        assert counts(environment.step(ACTION)[0]) == [first, first, first + 1]
        assert counts(environment.step(ACTION)[0]) == [first, first + 1, first + 2]
        observation, *_ = environment.step(ACTION)
        assert counts(observation) == [first + 1, first + 2, first + 3]
        assert set(observation) == {"count", "image"}
        assert observation["count"].shape == (1,)
        assert environment.observation_space.contains(observation)


def test_images_that_the_environment_overwrites_keep_their_place() -> None:
    class Reusing(Counter):
        canvas = np.zeros((2, 2, 1), np.uint8)

        def _rows(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
            observation, info = super()._rows()
            self.canvas[:] = observation["image"]
            return {**observation, "image": self.canvas}, info

    environment = StackedFrames(Reusing(), 2)
    environment.reset()
    environment.step(ACTION)
    assert counts(environment.step(ACTION)[0]) == [1, 2]


def test_stacked_environment_equals_its_stacked_recording() -> None:
    def plain() -> Any:
        return pendulum.make(image_size=8, episode_steps=6)

    environment = make(environment=plain, count=3)
    assert time_limit(environment) == 6
    recorded, stacked = (
        record_episode(env, pendulum.random, generator=np.random.default_rng(0), seed=0)
        for env in (plain(), environment)
    )
    raw = RawEpisode("episode_0", dict(recorded.observations), recorded.actions, recorded.rewards, False, {})
    np.testing.assert_array_equal(stacked.observations["image"], StackFrames(3).apply(raw).observations["image"])
    np.testing.assert_array_equal(stacked.rewards, recorded.rewards)
    action = ActionSpec(1, discrete=False, low=(-2.0,), high=(2.0,))
    description = StackFrames(3).columns(SourceDescription({"image": ArraySpec((8, 8, 3), "uint8")}, {}, action, {}))
    assert description.observations["image"].shape == environment.observation_space["image"].shape
    environment.close()


def test_environment_without_images_is_refused() -> None:
    class Vectors(Counter):
        observation_space = spaces.Dict({"count": Counter.observation_space["count"]})

    with pytest.raises(UserError, match="there is no image among count; remove the stack"):
        StackedFrames(Vectors(), 3)
    with pytest.raises(UserError, match="count is 0; allowed: 1 or more"):
        StackedFrames(Counter(), 0)
