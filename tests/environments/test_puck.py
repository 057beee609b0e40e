"""The puck: dynamics, frames and rewards."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.environments import policies, puck
from dreamset.environments.rollouts import PolicyFactory, RecordedEpisode, record_episode

RIGHT = np.array([1.0, 0.0], np.float32)


def table(position: tuple[float, float], goal: tuple[float, float] = (0.0, 0.0)) -> puck.Puck:
    environment = puck.Puck(image_size=32)
    environment.reset(seed=0)
    environment.position, environment.goal = np.array(position), np.array(goal)
    return environment


def play(make_policy: PolicyFactory, seed: int) -> RecordedEpisode:
    environment = puck.make(image_size=None)
    return record_episode(environment, make_policy, generator=np.random.default_rng(seed), seed=seed)


@pytest.mark.parametrize("image_size", [None, 32])
def test_puck_passes_the_gymnasium_checks(image_size: int | None) -> None:
    check_env(puck.make(image_size=image_size).unwrapped, skip_render_check=True)


def test_constant_thrust_approaches_terminal_speed() -> None:
    environment = table((-1.0, 0.5))
    for steps in range(1, 8):
        state = environment.step(RIGHT)[4]["state"]
        speeds = puck.THRUST / puck.DRAG * (1 - (1 - puck.DRAG * puck.STEP) ** np.arange(1, steps + 1))
        assert state == pytest.approx([-1 + puck.STEP * speeds.sum(), 0.5, speeds[-1], 0, 0, 0], abs=1e-6)


def test_thrust_is_clipped() -> None:
    once, more = table((0.0, 0.0)), table((0.0, 0.0))
    np.testing.assert_array_equal(once.step(RIGHT)[4]["state"], more.step(3 * RIGHT)[4]["state"])


def test_wall_reflects_half_of_the_speed() -> None:
    environment = table((0.95, 0.0))
    environment.velocity = np.array([2.0, 0.4])
    x, y, vx, vy = environment.step(np.zeros(2, np.float32))[4]["state"][:4]
    slowed = 1 - puck.DRAG * puck.STEP
    assert (x, vx) == pytest.approx((1.0, -slowed))  # half of 2
    assert (y, vy) == pytest.approx((0.04 * slowed, 0.4 * slowed))  # the other direction goes on


@pytest.mark.parametrize(("distance", "reward"), [(0.0, 1.0), (0.3, 0.5), (0.6, 0.2), (0.9, 0.1)])
def test_reward_falls_with_the_distance_on_arrival(distance: float, reward: float) -> None:
    environment = table((0.6 * distance, -0.8 * distance))
    assert environment.step(np.zeros(2, np.float32))[1] == pytest.approx(reward)


def centre(image: NDArray[np.floating]) -> tuple[float, float]:
    """Centre of mass in the table's coordinates."""
    rows, columns = np.indices(image.shape)
    pixels = [(image * axis).sum() / image.sum() for axis in (columns, rows)]
    x, y = ((pixel + 0.5) * 2 * puck.VIEW / len(image) - puck.VIEW for pixel in pixels)
    return x, -y


@pytest.mark.parametrize(("position", "goal"), [((-0.7, 0.2), (0.4, 0.7)), ((1.0, -1.0), (-0.33, -0.81))])
def test_frames_show_where_puck_and_goal_are(position: tuple[float, float], goal: tuple[float, float]) -> None:
    environment = table(position, goal)
    frame = environment.step(np.zeros(2, np.float32))[0]["image"].astype(float)
    assert environment.render().shape == (128, 128, 3)
    assert (frame.max(axis=-1) == 255).mean() > 0.8  # white where neither is
    # red is what the puck lacks most; of the blue that both lack, the puck's part is known from it
    lacking = 255.0 - frame
    red, blue = (lacking[..., channel] for channel in (0, 2))
    orange = np.clip(blue - red * 0.32 / 0.87, 0, None)
    assert centre(red * (red > 0.02 * 255)) == pytest.approx(position, abs=0.01)
    assert centre(orange * (orange > 8)) == pytest.approx(goal, abs=0.02)


def test_puck_covers_the_goal_and_discs_have_the_right_areas() -> None:
    alone = 255.0 - puck.drawn(np.array([0.1, 0.1]), np.array([9.0, 9.0]), size=64).astype(float)
    pixels = alone[..., 0].sum() / (255 * 0.87)
    assert pixels * (2 * puck.VIEW / 64) ** 2 == pytest.approx(np.pi * 0.35**2, rel=0.01)
    both = puck.drawn(np.zeros(2), np.zeros(2), size=33)
    np.testing.assert_array_equal(both[16, 16], [33, 87, 173])


def test_given_goal_is_fixed() -> None:
    environment = puck.make(image_size=None, goal=(0.5, -0.25))
    goals = [environment.reset(seed=seed)[1]["state"][4:] for seed in (0, 1)]
    np.testing.assert_array_equal(goals, [[0.5, -0.25]] * 2)


@pytest.mark.parametrize("goal", [(0.5,), (0.2, -1.1), (0.1, 0.2, 0.3)])
def test_goal_off_the_table_error_names_the_key(goal: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match=r"dataset\.environment\.goal"):
        puck.make(image_size=None, goal=goal)


def test_goals_and_starts_depend_on_the_seed() -> None:
    states = [puck.make(image_size=None).reset(seed=seed)[1]["state"] for seed in (0, 1, 0)]
    assert not np.isclose(states[0], states[1]).any(where=np.array([True, True, False, False, True, True]))
    np.testing.assert_array_equal(states[0], states[2])


def test_scripted_policy_does_not_overshoot_a_goal_nearby() -> None:
    environment = table((0.3, -0.1), goal=(0.1, 0.0))
    state = environment.step(np.zeros(2, np.float32))[4]["state"]
    for _ in range(40):
        state = environment.step(puck.glide(state))[4]["state"]
        assert state[0] > 0.1 - 1e-3
        assert state[1] < 1e-3
    assert state[:4] == pytest.approx([0.1, 0.0, 0.0, 0.0], abs=0.01)


def test_scripted_policy_stops_at_the_goal_and_beats_random_thrust() -> None:
    scripted = [play(puck.scripted, seed) for seed in range(5)]
    random = [play(policies.random, seed).total_reward for seed in range(5)]
    assert min(episode.total_reward for episode in scripted) > 70 > max(random)
    for episode in scripted:
        assert len(episode.rewards) == 100
        assert not episode.terminated
        assert episode.rewards[-1] > 0.99
