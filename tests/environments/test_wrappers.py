"""Wrappers around a counting environment."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from dreamset.environments.wrappers import (
    ActionRepeat,
    CentralFrame,
    NamedState,
    RescaleReward,
    central_frame,
    time_limit,
)


class Steps(gymnasium.Env[np.ndarray, np.ndarray]):
    """Observation and reward are the number of the step; terminates at ``end``."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, end: int = 7) -> None:
        self.end = end
        self.actions: list[float] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed, options=options)
        self.actions = []
        return np.zeros(1, np.float32), {"noise": 1}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.actions.append(float(action[0]))
        step = len(self.actions)
        return np.full(1, step, np.float32), float(step), step == self.end, False, {"noise": 1}

    def render(self) -> np.ndarray:
        return np.full((8, 8, 3), len(self.actions), np.uint8)


def test_action_repeat_repeats_the_action_and_averages_rewards() -> None:
    base = Steps(end=7)
    environment = ActionRepeat(base, 3)
    environment.reset()
    observation, reward, terminated, truncated, _ = environment.step(np.array([0.5], np.float32))
    assert (float(observation[0]), reward, terminated, truncated) == (3.0, 2.0, False, False)
    assert base.actions == [0.5] * 3


def test_action_repeat_stops_where_the_episode_ends() -> None:
    base = Steps(end=4)
    environment = ActionRepeat(base, 3)
    environment.reset()
    environment.step(np.zeros(1, np.float32))
    observation, reward, terminated, _, _ = environment.step(np.zeros(1, np.float32))
    assert (float(observation[0]), reward, terminated) == (4.0, 4.0, True)  # the mean of the one reward that there was


@pytest.mark.parametrize("repeat", [0, -1])
def test_action_repeat_of_less_than_one_is_refused(repeat: int) -> None:
    with pytest.raises(ValueError, match=str(repeat)):
        ActionRepeat(Steps(), repeat)


def test_rescaled_rewards_map_low_to_zero_and_high_to_one() -> None:
    environment = RescaleReward(Steps(), low=-8.0, high=2.0)
    assert [environment.reward(value) for value in (-8.0, 2.0, -3.0, 12.0)] == [0.0, 1.0, 0.5, 2.0]
    environment.reset()
    assert environment.step(np.zeros(1, np.float32))[1] == pytest.approx(0.9)


def test_empty_reward_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.0 and 1\.0"):
        RescaleReward(Steps(), low=1.0, high=1.0)


def test_state_is_named_and_is_the_only_info() -> None:
    environment = NamedState(Steps())
    observation, info = environment.reset()
    assert {**observation} == {"state": np.zeros(1)}
    assert info == {"state": np.zeros(1)}
    observation, _, _, _, info = environment.step(np.zeros(1, np.float32))
    assert observation["state"].tolist() == info["state"].tolist() == [1.0]
    assert set(info) == {"state"}
    assert environment.observation_space["state"].contains(observation["state"])


def test_frame_environment_shows_the_image_of_the_same_step_and_hides_the_state() -> None:
    environment = CentralFrame(Steps(), size=4)
    observation, info = environment.reset()
    assert set(observation) == {"image"}
    assert not observation["image"].any()
    for step in (1, 2):
        observation, _, _, _, info = environment.step(np.zeros(1, np.float32))
        assert (observation["image"] == step).all()
        assert info["state"].tolist() == [step]
    assert environment.observation_space.contains(observation)


def test_central_frame_is_the_mean_of_central_blocks() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    got = central_frame(frame, 4)  # the middle is rows and columns 4 to 12, in blocks of 2 x 2
    for row in range(4):
        for column in range(4):
            block = frame[4 + 2 * row : 6 + 2 * row, 4 + 2 * column : 6 + 2 * column].astype(float)
            expected = np.floor(block.mean(axis=(0, 1)) + 0.5)
            np.testing.assert_array_equal(got[row, column], expected)


def test_central_frame_does_not_overflow_on_white() -> None:
    assert (central_frame(np.full((256, 256, 3), 255, np.uint8), 4) == 255).all()  # blocks of 32 x 32


@pytest.mark.parametrize(("shape", "size"), [((16, 8, 3), 4), ((20, 20, 3), 4), ((4, 4, 3), 4)])
def test_indivisible_frame_error_names_a_valid_size(shape: tuple[int, ...], size: int) -> None:
    with pytest.raises(ValueError, match="render 32 x 32") as caught:
        central_frame(np.zeros(shape, np.uint8), size)
    assert str(shape) in str(caught.value)


def test_time_limit_counts_agent_steps_below_and_above_an_action_repeat() -> None:
    assert time_limit(Steps()) is None
    assert time_limit(TimeLimit(Steps(), 7)) == 7
    repeated = ActionRepeat(TimeLimit(Steps(end=100), 7), 3)
    assert time_limit(repeated) == 3
    assert time_limit(TimeLimit(repeated, 2)) == 2
    repeated.reset()
    truncated = [repeated.step(np.zeros(1, np.float32))[3] for _ in range(3)]
    assert truncated == [False, False, True]
