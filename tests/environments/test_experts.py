"""Scripted experts: their laws by themselves, and in the simulators that they were found in.

What needs a simulator is skipped without it: pip install "dreamset[dmc]" or "dreamset[ogbench]".
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

from dreamset.environments import dm_control, dm_control_experts, gym, ogbench, policies
from dreamset.environments.dm_control_experts import Law, gallop, reach, swing_up
from dreamset.environments.recorder import record_numbered
from dreamset.environments.rollouts import PolicyFactory
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.stages import collect
from dreamset.pipeline.stages import table as stages

os.environ.setdefault("MUJOCO_GL", "egl")  # before anything below imports mujoco

LAWS = {swing_up: (5, 1), reach: (4, 2), gallop: (17, 6)}  # entries of the state, of the action


def pole(angle: float, *, position: float = 0.0, velocity: float = 0.0, turning: float = 0.0) -> np.ndarray:
    return np.array([position, np.cos(angle), np.sin(angle), velocity, turning])


def cheetah(angle: float, speed: float) -> np.ndarray:
    """All at rest but the back thigh, of which the gait sees only the angle of this point around its centre."""
    state = np.zeros(17)
    state[2], state[11] = angle, speed
    return state


@pytest.mark.parametrize("law", LAWS)
def test_experts_give_bounded_float32_actions_for_any_state(law: Law) -> None:
    entries, count = LAWS[law]
    drawn = [law(state) for state in np.random.default_rng(0).normal(0, 5, (300, entries))]
    assert {(action.shape, action.dtype.name) for action in drawn} == {((count,), "float32")}
    assert np.abs(drawn).max() == 1


def test_experts_apply_no_force_at_the_goal() -> None:
    np.testing.assert_array_equal(swing_up(pole(0.0)), [0])
    np.testing.assert_array_equal(reach(np.zeros(4)), [0, 0])


@pytest.mark.parametrize("side", [-1, 1])
def test_near_the_top_the_cart_moves_under_the_pole(side: int) -> None:
    """A force to the right turns the pole to the left, so it must point to the side of the lean."""
    assert side * swing_up(pole(side * 0.05))[0] > 0.2
    assert side * swing_up(pole(0.0, turning=side * 0.3))[0] > 0.2
    # To bring the cart back, the pole is first tipped towards the middle: away from it with the cart.
    assert side * swing_up(pole(0.0, position=side * 0.3))[0] > 0.2
    assert side * swing_up(pole(0.0, velocity=side * 0.3))[0] > 0.2


@pytest.mark.parametrize("turning", [-2.0, 2.0])
def test_energy_shaping_adds_missing_and_removes_excess_energy(turning: float) -> None:
    def work(state: np.ndarray) -> float:
        """The power that the cart's acceleration gives the pole, up to a positive factor."""
        return float(-swing_up(state)[0] * state[1] * state[4])

    for angle in (np.pi, 2.6, -2.6):
        assert work(pole(angle, turning=turning)) > 0
        assert work(pole(angle, turning=5 * turning)) < 0


@pytest.mark.parametrize("side", [-1, 1])
def test_cart_returns_to_the_centre_below_a_hanging_pole(side: int) -> None:
    assert side * swing_up(pole(np.pi, position=side * 1.0))[0] < -0.5
    assert side * swing_up(pole(np.pi, velocity=side * 1.0))[0] < -0.5


def test_swing_up_is_symmetric() -> None:
    generator = np.random.default_rng(0)
    for angle, position, velocity, turning in generator.uniform(-1, 1, (200, 4)) * [np.pi, 1.5, 2, 6]:
        here = swing_up(pole(angle, position=position, velocity=velocity, turning=turning))
        there = swing_up(pole(-angle, position=-position, velocity=-velocity, turning=-turning))
        np.testing.assert_array_equal(here, -there)


def test_point_mass_is_pushed_to_the_target_and_braked() -> None:
    np.testing.assert_allclose(reach(np.array([0.01, -0.02, 0, 0])), [-0.2, 0.4], rtol=1e-6)
    np.testing.assert_allclose(reach(np.array([0, 0, 0.1, -0.1])), [-0.3, 0.3], rtol=1e-6)
    np.testing.assert_array_equal(reach(np.array([0.2, -0.2, 0, 0])), [-1, 1])
    assert reach(np.array([0.01, 0, -0.2, 0]))[0] > 0  # on its way, but too fast


def test_gait_depends_on_the_phase_of_the_thigh_only() -> None:
    phases = np.linspace(-np.pi, np.pi, 24, endpoint=False)
    centre, frequency = dm_control_experts.THIGH_CENTRE, dm_control_experts.THIGH_FREQUENCY
    small, large = (
        np.stack([gallop(cheetah(centre + r * np.cos(p), frequency * r * np.sin(p))) for p in phases])
        for r in (0.1, 0.6)
    )
    np.testing.assert_allclose(small, large, atol=1e-5)
    lengths = np.linalg.norm(small - np.roll(small, 1, axis=0), axis=1)
    assert lengths.max() < 1.0  # no jumps, also where the angle's branches meet
    assert np.ptp(small, axis=0).min() > 0.5  # every joint takes part
    drive = small[:, 0] * np.sin(phases)  # torque times speed
    assert drive.mean() > 0.2  # the thigh is pushed the way it swings, so the cycle keeps itself going


class Task(NamedTuple):
    """The environment of an expert and a return above random actions."""

    package: str
    make: Callable[..., Any]
    expert: PolicyFactory
    least: float  # that the expert earns
    most: float  # that random actions earn


SWING_UP = partial(dm_control.make, "cartpole", "swingup")
MAZE = partial(ogbench.make, "pointmaze-medium-singletask-v0", settings={"terminate_at_goal": False})
TASKS = {
    "swing-up": Task("shimmy", partial(SWING_UP, action_repeat=4), dm_control_experts.cartpole_swingup, 800, 250),
    "coarse swing-up": Task(
        "shimmy", partial(SWING_UP, action_repeat=8), dm_control_experts.cartpole_swingup, 800, 250
    ),
    "point mass": Task(
        "shimmy",
        partial(dm_control.make, "point_mass", "easy", action_repeat=4),
        dm_control_experts.point_mass,
        750,
        250,
    ),
    "cheetah": Task(
        "shimmy", partial(dm_control.make, "cheetah", "run", action_repeat=4), dm_control_experts.cheetah_run, 150, 30
    ),
    "maze": Task("ogbench", partial(MAZE, action_repeat=4, episode_steps=125), ogbench.follow_path, -250, -400),
    "pole": Task("gymnasium", partial(gym.make, "CartPole-v1", episode_steps=200), policies.balance, 200, 100),
}


def returns(task: Task, policy: PolicyFactory, *, episodes: int) -> list[float]:
    pytest.importorskip(task.package, reason=f"{task.package} is not installed")
    environment = task.make()
    played = [record_numbered(environment, policy, seed=0, number=number).total_reward for number in range(episodes)]
    environment.close()
    return played


@pytest.mark.parametrize("name", TASKS)
def test_experts_earn_far_more_than_random_actions(name: str) -> None:
    task = TASKS[name]
    assert min(returns(task, task.expert, episodes=2)) >= task.least
    assert max(returns(task, policies.random, episodes=1)) <= task.most


@pytest.mark.parametrize("name", ["swing-up", "cheetah"])
def test_experts_recover_after_random_actions(name: str) -> None:
    task = TASKS[name]
    policy = partial(policies.interrupted, policy=task.expert, randomness=0.1)
    assert np.mean(returns(task, policy, episodes=2)) > 0.6 * task.least


def test_thin_objects_are_visible_in_frames_rendered_large_and_shrunk() -> None:
    pytest.importorskip("shimmy", reason='shimmy is not installed: pip install "dreamset[dmc]"')
    make = partial(dm_control.make, "cartpole", "swingup", image_size=32, episode_steps=1)
    below = [  # the hanging pole in the first frame
        record_numbered(make(drawn_size=size), policies.random, seed=0, number=1).observations["image"][0, 18:24]
        for size in (None, 128)
    ]
    orange = [int((rows[..., 0].astype(int) - rows[..., 2] > 10).sum()) for rows in below]
    assert orange[0] == 0  # it falls between the pixels: what the setting is for
    assert orange[1] >= 6


def test_plain_frames_have_no_shadow() -> None:
    pytest.importorskip("shimmy", reason='shimmy is not installed: pip install "dreamset[dmc]"')
    plain, full = (
        dm_control.make("walker", "walk", image_size=64, plain=plain).reset(seed=0)[0]["image"].astype(int)
        for plain in (True, False)
    )
    darker = (plain - full).mean(axis=-1) > 15  # [64, 64]
    assert darker[48:54].sum() > 15  # behind its feet
    assert darker[54:].sum() == 0  # not in front of them


@pytest.mark.parametrize("name", ["dmc_point_mass", "dmc_cheetah_run", "dmc_cartpole_pixels"])
def test_recorded_datasets_compose_and_record(name: str) -> None:
    pytest.importorskip("shimmy", reason='shimmy is not installed: pip install "dreamset[dmc]"')
    overrides = ["preset=tiny", f"dataset={name}", "collection.episodes=2", "collection.reference_episodes=1"]
    config = stages.collect(compose([*overrides, "dataset.environment.episode_steps=3"]))
    collect.run(config)
    from dreamset.datasets import MinariSource

    source = MinariSource(config["source_path"])
    assert source.episode_count == 2
    assert all(len(source.read(number).rewards) == 3 for number in range(2))
