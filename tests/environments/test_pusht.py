"""PushT, which needs its package: pip install "dreamset[pusht]"."""

import numpy as np
import pytest

from dreamset.environments import pusht
from dreamset.environments.recorder import record_numbered
from dreamset.environments.wrappers import time_limit

pytest.importorskip("gym_pusht", reason='gym_pusht is not installed: pip install "dreamset[pusht]"')


def test_goal_shows_the_block_exactly_where_it_counts() -> None:
    environment = pusht.make(image_size=96)
    observation, info = environment.reset(seed=3)
    np.testing.assert_allclose(observation["goal.state"], [*pusht.AT_GOAL, 256, 256, np.pi / 4], atol=1e-4)
    green = (observation["image"].astype(int)[..., 1] - observation["image"].astype(int)[..., 0]) > 60
    assert green.sum() > 50  # the goal is drawn where no block covers it
    at_goal = observation["goal.image"].astype(int)
    assert ((at_goal[..., 1] - at_goal[..., 0]) > 60).sum() == 0
    assert (at_goal[green].max(axis=-1) < 200).mean() > 0.9  # the block covers what was green
    assert 0 < info["distance"] <= 1
    assert not info["is_success"]


def test_first_observation_depends_on_the_seed_only() -> None:
    environment, other = pusht.make(image_size=32), pusht.make(image_size=32)
    rows = [environment.reset(seed=seed)[0] for seed in (1, 2, 1)] + [other.reset(seed=1)[0]]
    for row in (rows[2], rows[3]):
        for name, values in rows[0].items():
            np.testing.assert_array_equal(values, row[name])
    assert not np.array_equal(rows[0]["state"], rows[1]["state"])


def test_block_at_the_goal_is_the_success_and_ends_the_episode() -> None:
    environment = pusht.make(image_size=None)
    environment.reset(seed=0)
    world = environment.unwrapped
    world.block.angle = np.pi / 4  # type: ignore[attr-defined]
    world.block.position = (256, 256)  # type: ignore[attr-defined]
    _, reward, terminated, _, info = environment.step(np.array([20, 20], np.float32))
    assert (reward, terminated, info["is_success"]) == (1.0, True, True)
    assert info["distance"] < 0.05


def test_frames_have_no_mark_of_the_action() -> None:
    environment = pusht.make(image_size=96)
    environment.reset(seed=0)
    frame = environment.step(np.array([250, 60], np.float32))[0]["image"].astype(int)
    assert ((frame[..., 0] > 200) & (frame[..., 1] < 100)).sum() == 0  # the package would draw a red cross


def test_wandering_moves_the_block_in_every_episode_and_ends_by_the_time_limit() -> None:
    environment = pusht.make(image_size=None, episode_steps=60)
    assert time_limit(environment) == 60
    episodes = [record_numbered(environment, pusht.wander, seed=0, number=number) for number in range(4)]
    for episode in episodes:
        assert (len(episode.rewards), episode.terminated, episode.total_reward) == (60, False, 0)
        assert np.abs(np.diff(episode.observations["state"][:, 2:4], axis=0)).sum() > 20
