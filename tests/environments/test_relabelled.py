"""A relabelled environment gives the rewards of its relabelled recording."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamset.environments import pendulum
from dreamset.environments.relabelled import RelabelledReward, make
from dreamset.environments.rollouts import record_episode
from tests.environments.conftest import Counter

Arrays = Mapping[str, NDArray[Any]]


def everything(
    *, observations: Arrays, privileged: Arrays, actions: NDArray[Any], rewards: NDArray[Any]
) -> NDArray[Any]:
    """Every argument determines one digit."""
    before, after = observations["count"][:-1, 0], observations["count"][1:, 0]
    return before + 1e4 * after + 1e-2 * privileged["state"][1:, 0] + 1e8 * actions[:, 0] + 1e-3 * rewards


def test_reward_function_gets_the_rows_before_and_after_each_step() -> None:
    environment = RelabelledReward(Counter(), everything)
    for episode in range(2):
        environment.reset()
        for step in range(5):
            action = np.array([step + 7], np.float32)
            observation, reward, *_ = environment.step(action)
            count = 1000 * episode + step
            assert observation["count"] == count + 1
            state = -float(environment.env.get_wrapper_attr("count"))
            assert state == -(count + 1)
            expected = count + 1e4 * (count + 1) + 1e-2 * state + 1e8 * (step + 7) + 1e-3 * (count + 1.5)
            np.testing.assert_allclose(reward, expected, rtol=1e-12)


def test_rewards_equal_those_of_the_relabelled_recording() -> None:
    environment = make(environment=lambda: pendulum.make(image_size=None, episode_steps=30), reward=pendulum.spinning)
    episode = record_episode(environment, pendulum.random, generator=np.random.default_rng(0), seed=0)
    environment.close()
    relabelled = pendulum.spinning(privileged=episode.infos)
    np.testing.assert_array_equal(episode.rewards, relabelled)
    np.testing.assert_allclose(relabelled, np.abs(episode.observations["state"][1:, 2]) / 8, rtol=1e-12)
    assert 0 <= relabelled.min() < relabelled.max() <= 1


def test_info_missing_at_reset_is_zero_in_the_first_row() -> None:
    class Late(Counter):
        def reset(self, **settings: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
            return super().reset(**settings)[0], {}

    def first_row(*, privileged: Arrays, **_: object) -> NDArray[Any]:
        return privileged["state"][:1, 0]

    environment = RelabelledReward(Late(), first_row)
    environment.reset()
    action = np.zeros(1, np.float32)
    assert [environment.step(action)[1] for _ in range(3)] == [0.0, -1.0, -2.0]
