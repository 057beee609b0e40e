"""The swing-up task and its scripted policies."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dreamset.environments import pendulum
from dreamset.environments.rollouts import RecordedEpisode, record_episode


def play(make_policy: Callable, seed: int, **settings: float | None) -> RecordedEpisode:
    environment = pendulum.make(**({"image_size": None} | settings))
    try:
        return record_episode(environment, make_policy, generator=np.random.default_rng(seed), seed=seed)
    finally:
        environment.close()


def test_pixel_episodes_are_a_hundred_frames_that_end_by_the_time_limit() -> None:
    episode = play(pendulum.random, 0, image_size=32)
    frames = episode.observations["image"]
    assert frames.shape == (101, 32, 32, 3)
    assert frames.dtype == np.uint8
    assert set(episode.observations) == {"image"}
    assert not episode.terminated
    assert len(episode.rewards) == len(episode.actions) == 100
    assert ((episode.rewards >= -1.2) & (episode.rewards <= 1)).all()
    moved = np.abs(np.diff(frames.astype(int), axis=0)).sum(axis=(1, 2, 3))
    assert (moved > 0).mean() > 0.9  # every step shows


def test_frame_and_state_of_a_row_match() -> None:
    episode = play(pendulum.random, 3, image_size=32)
    dark = 255.0 - episode.observations["image"].astype(float).min(axis=-1)  # the pole on white
    columns, rows = np.meshgrid(np.arange(32) - 15.5, np.arange(32) - 15.5)
    weight = np.where(columns**2 + rows**2 > 36, dark, 0)  # far from the axle and its arrow
    x, y = ((weight * axis).sum(axis=(1, 2)) for axis in (columns, rows))
    seen = np.arctan2(-x, -y)  # from upright, counter-clockwise
    true = np.arctan2(*episode.infos["state"][:, 1::-1].T)
    error = np.abs(np.angle(np.exp(1j * (seen - true))))
    assert np.median(error) < 0.1


def test_environment_keeps_its_spaces() -> None:
    environment = pendulum.make(image_size=None)
    assert isinstance(environment.observation_space, spaces.Dict)
    observation, info = environment.reset(seed=0)
    assert environment.observation_space.contains(observation)
    np.testing.assert_array_equal(observation["state"], info["state"])
    assert (environment.action_space.low, environment.action_space.high) == (-2.0, 2.0)
    environment.close()


def test_reward_is_near_one_upright_and_near_minus_a_quarter_hanging() -> None:
    environment = pendulum.make(image_size=None, action_repeat=1)
    for angle, expected in ((0.0, 1.0), (np.pi, (8 - np.pi**2) / 8)):
        environment.reset(seed=0)
        environment.unwrapped.state = np.array([angle, 0.0])
        _, reward, *_ = environment.step(np.zeros(1, np.float32))
        assert reward == pytest.approx(expected, abs=1e-6)
    environment.close()


def test_scripted_policy_beats_random_torques() -> None:
    scripted = [play(pendulum.scripted, seed).total_reward for seed in range(3)]
    random = [play(pendulum.random, seed).total_reward for seed in range(3)]
    assert min(scripted) > max(random)
    assert np.mean(scripted) > 60  # of 100: most of the time upright


@pytest.mark.parametrize(("mass", "length"), [(1.0, 1.0), (1.3, 1.2), (2.0, 0.5)])
@pytest.mark.parametrize(("angle", "torque"), [(np.pi, 2.0), (np.pi / 2, 0.0), (0.3, -1.0)])
def test_pole_dynamics_follow_mass_and_length(mass: float, length: float, angle: float, torque: float) -> None:
    environment = pendulum.make(image_size=None, action_repeat=1, mass=mass, length=length)
    environment.reset(seed=0)
    environment.unwrapped.state = np.array([angle, 0.0])
    _, _, _, _, info = environment.step(np.array([torque], np.float32))
    inertia = mass * length**2 / 3  # of a rod around its end
    expected = (mass * 10 * length / 2 * np.sin(angle) + torque) / inertia * 0.05
    assert info["state"][2] == pytest.approx(expected, abs=1e-5)
    environment.close()


def test_default_pendulum_equals_that_of_gymnasium() -> None:
    ours, plain = pendulum.make(image_size=None).unwrapped, gymnasium.make("Pendulum-v1").unwrapped
    assert (ours.m, ours.l) == (plain.m, plain.l)


def test_scripted_policy_reaches_the_energy_of_the_top() -> None:
    """Zero at rest on top; more speed at the same height is too much, less is too little."""
    angle = 2.0
    for length in (1.0, 1.2, 2.0):
        inertia, height = length**2 / 3, length / 2 * (1 - np.cos(angle))  # per unit of mass
        enough = np.sqrt(2 * 10 * height / inertia)
        faster, slower = (np.array([np.cos(angle), np.sin(angle), enough * f]) for f in (1.001, 0.999))
        assert pendulum.swing_up(faster, length=length) == -2
        assert pendulum.swing_up(slower, length=length) == 2


def test_heavier_and_longer_pole_is_still_swung_up() -> None:
    heavy: dict[str, Any] = {"mass": 1.3, "length": 1.2}
    scripted = [play(pendulum.scripted, seed, **heavy).total_reward for seed in range(3)]
    random = [play(pendulum.random, seed, **heavy).total_reward for seed in range(3)]
    assert min(scripted) > max(random)
    assert np.mean(scripted) > 60


@pytest.mark.parametrize("make_policy", [pendulum.scripted, pendulum.mixture])
def test_policies_use_the_length_of_the_pole(make_policy: Callable) -> None:
    """Just fast enough for a pole of length 1 is too fast for one of length 2."""
    state = np.array([np.cos(2.0), np.sin(2.0), np.sqrt(30 * (1 - np.cos(2.0))) * 0.99])
    undisturbed = SimpleNamespace(random=lambda: 0.0, integers=lambda *_: 1)
    torques = [
        make_policy(pendulum.make(image_size=None, length=length), undisturbed)({}, {"state": state})
        for length in (1.0, 2.0)
    ]
    assert torques == [2, -2]


def test_episode_steps_count_agent_steps_and_not_environment_steps() -> None:
    for repeat in (1, 2, 3):
        assert len(play(pendulum.random, 0, action_repeat=repeat, episode_steps=7).rewards) == 7


def test_mixture_ranges_from_random_to_scripted() -> None:
    """With randomness 1 it never follows the script, with 0 always."""
    upright = {"state": np.array([1.0, 0.0, 0.0])}  # and at rest: the script asks for no torque
    never = pendulum.NoisySwingUp(np.random.default_rng(0), randomness=0.0)
    always = pendulum.NoisySwingUp(np.random.default_rng(0), randomness=1.0)
    assert all(never({}, upright) == 0 for _ in range(50))
    torques = np.array([always({}, upright)[0] for _ in range(600)])
    assert (torques != 0).all()
    assert -2 <= torques.min() < -1.5
    assert 1.5 < torques.max() <= 2
    held = np.diff(np.flatnonzero(np.diff(torques) != 0))  # each torque is held for one to six steps
    assert held.min() == 1
    assert held.max() == 6


def test_torques_stay_within_the_bounds_of_the_environment() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        angle, speed = random.uniform(-np.pi, np.pi), random.uniform(-8, 8)
        torque = pendulum.swing_up(np.array([np.cos(angle), np.sin(angle), speed]))
        assert torque.dtype == np.float32
        assert abs(torque[0]) <= 2


def test_hanging_pole_begins_at_rest_below_and_random_torques_leave_it_there() -> None:
    episodes = [play(pendulum.random, seed, hanging=True) for seed in range(3)]
    for episode in episodes:
        cosine, sine, speed = episode.observations["state"][0]
        assert cosine < np.cos(np.pi - 0.101)
        assert abs(sine) < 0.1
        assert abs(speed) < 0.101
        np.testing.assert_array_equal(episode.observations["state"][0], episode.infos["state"][0])
        assert episode.observations["state"][:, 0].max() < 0.5  # the cosine is 1 at the top
    assert len({episode.observations["state"][0].tobytes() for episode in episodes}) == 3
    expert = play(pendulum.scripted, 0, hanging=True)
    assert expert.observations["state"][-1, 0] > 0.99
