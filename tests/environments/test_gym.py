"""Observations, infos, rewards and limits of adapted environments."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dreamset.core.errors import UserError
from dreamset.environments import gym
from dreamset.environments.actions import one_hot
from dreamset.environments.gym import adapt

STILL = np.zeros(2, np.float32)


def nested(count: int) -> dict[str, Any]:
    return {
        "arm": {"joint/angle": np.array([[count], [1.0]]), "touch": np.array([1, 0], np.int8)},
        "phase": count % 3 + 1,
        "modes": np.array([count % 4, 2]),
        "front": np.full((3, 4, 6), count % 256, np.uint8),
        "depth": np.full((40, 32), count % 256, np.uint8),
        "mission": f"reach {count}",
    }


NESTED = spaces.Dict(
    {
        "arm": spaces.Dict({"joint/angle": spaces.Box(-9e9, 9e9, (2, 1), np.float64), "touch": spaces.MultiBinary(2)}),
        "phase": spaces.Discrete(3, start=1),
        "modes": spaces.MultiDiscrete([4, 3]),
        "front": spaces.Box(0, 255, (3, 4, 6), np.uint8),
        "depth": spaces.Box(0, 255, (40, 32), np.uint8),
        "mission": spaces.Text(20),
    }
)
NUMBERS = ["arm.joint.angle", "arm.touch", "phase", "modes"]


def test_unnamed_vector_is_the_flat_float32_state(native: Callable[..., Any]) -> None:
    environment = adapt(native(), "Task-v0")
    assert environment.observation_space == spaces.Dict({"state": spaces.Box(-np.inf, np.inf, (2,), np.float32)})
    for observation, info in (environment.reset(seed=0), environment.step(STILL)[::4]):
        assert set(observation) == set(info) == {"state"}
        assert environment.observation_space.contains(observation)
        np.testing.assert_array_equal(observation["state"], info["state"])
    assert observation["state"].tolist() == [1, -1]


def test_entries_of_a_dict_keep_their_names_and_become_columns(native: Callable[..., Any]) -> None:
    environment = adapt(native(nested, NESTED), "Task-v0", observations=[*NUMBERS, "front", "depth"])
    environment.reset(seed=0)
    observation, _, _, _, info = environment.step(STILL)
    assert environment.observation_space.contains(observation)
    assert {name: observation[name].tolist() for name in NUMBERS} == {
        "arm.joint.angle": [1, 1],
        "arm.touch": [1, 0],
        "phase": [0, 1, 0],  # the second of 1, 2, 3
        "modes": [1, 2],
    }
    assert observation["front"].shape == (4, 6, 3)  # channels last
    assert observation["depth"].shape == (40, 32, 1)
    assert all((observation[name] == 1).all() for name in ("front", "depth"))
    assert info["state"].tolist() == [1, 1, 1, 0, 1, 2, 0, 1, 0]  # all vectors, in the order of the space


def test_true_state_concatenates_all_vectors(native: Callable[..., Any]) -> None:
    environment = adapt(native(nested, NESTED), "Task-v0", observations=["phase"])
    observation, info = environment.reset(seed=0)
    assert set(observation) == {"phase"}
    assert info["state"].shape == (9,)


def test_unsupported_entry_error_lists_available_entries(native: Callable[..., Any]) -> None:
    for settings in ({}, {"observations": ["mission"]}):
        with pytest.raises(UserError, match=r"Task-v0: observation 'mission' is a Text") as caught:
            adapt(native(nested, NESTED), "Task-v0", **settings)
        assert str(sorted([*NUMBERS, "front", "depth"])) in str(caught.value)
    with pytest.raises(UserError, match=r"no observation 'missoin'; available: \['arm.joint.angle'"):
        adapt(native(nested, NESTED), "Task-v0", observations=["missoin"])


def test_images_are_shrunk_to_image_size(native: Callable[..., Any]) -> None:
    environment = adapt(native(nested, NESTED), "Task-v0", image_size=2, observations=["front", "depth"])
    observation, _ = environment.reset(seed=3)
    assert environment.observation_space.contains(observation)
    assert (observation["front"].shape, observation["depth"].shape) == ((2, 2, 3), (2, 2, 1))


@pytest.mark.parametrize("shape", [(3, 4, 6), (4, 6, 3), (40, 32)])
def test_every_pixel_keeps_its_position(native: Callable[..., Any], shape: tuple[int, ...]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    environment = adapt(native(lambda _: frame, spaces.Box(0, 255, shape, np.uint8)), "Task-v0")
    image = environment.reset(seed=0)[0]["image"]
    expected = np.moveaxis(frame, 0, -1) if shape[0] == 3 else frame
    np.testing.assert_array_equal(image, expected.reshape(image.shape))
    assert image.shape == environment.observation_space["image"].shape


def test_unnamed_image_has_no_true_state(native: Callable[..., Any]) -> None:
    def show(count: int) -> np.ndarray:
        return np.full((4, 6, 3), count % 256, np.uint8)

    environment = adapt(native(show, spaces.Box(0, 255, (4, 6, 3), np.uint8)), "Task-v0")
    observation, info = environment.reset(seed=0)
    assert (set(observation), observation["image"].shape, info) == ({"image"}, (4, 6, 3), {})


def test_rendered_image_is_that_of_the_same_step(native: Callable[..., Any]) -> None:
    environment = adapt(native(), "Task-v0", image_size=4)
    observation, _ = environment.reset(seed=0)
    for step in range(3):
        assert set(observation) == {"image"}
        assert environment.observation_space.contains(observation)
        assert (observation["image"] == step).all()
        observation, _, _, _, info = environment.step(STILL)
        assert info["state"].tolist() == [step + 1, -step - 1]


def test_frames_and_vectors_may_be_observed_together(native: Callable[..., Any]) -> None:
    environment = adapt(native(), "Task-v0", image_size=4, observations=["state", "image"])
    observation, _ = environment.reset(seed=0)
    assert environment.observation_space.contains(observation)
    assert set(observation) == {"image", "state"}


def test_repeated_rewards_are_summed_until_the_end(native: Callable[..., Any]) -> None:
    environment = adapt(native(), "Task-v0", action_repeat=3)
    environment.reset(seed=0)  # seven steps with rewards 1.5, 2.5, ...
    steps = [environment.step(STILL) for _ in range(3)]
    assert [step[1] for step in steps] == [1.5 + 2.5 + 3.5, 4.5 + 5.5 + 6.5, 7.5]
    assert [step[2] for step in steps] == [False, False, True]


def test_time_limit_counts_agent_steps_and_truncates(native: Callable[..., Any]) -> None:
    environment = adapt(native(), "Task-v0", action_repeat=2, episode_steps=2)
    environment.reset(seed=0)
    assert [environment.step(STILL)[2:4] for _ in range(2)] == [(False, False), (False, True)]


@pytest.mark.parametrize(("limit", "steps"), [(None, 200), (210, 210), (10, 10)])
def test_episode_steps_replaces_the_limit_of_the_environment(limit: int | None, steps: int) -> None:
    environment = gym.make("Pendulum-v1", episode_steps=limit)
    environment.reset(seed=0)
    count = 1
    while not environment.step(np.zeros(1, np.float32))[3]:
        count += 1
    assert count == steps


@pytest.mark.parametrize("setting", ["image_size", "action_repeat", "episode_steps"])
def test_number_below_one_is_refused(native: Callable[..., Any], setting: str) -> None:
    with pytest.raises(UserError, match=f"Task-v0: {setting} is 0; allowed: 1 or more"):
        adapt(native(), "Task-v0", **{setting: 0})


def test_only_selected_infos_are_kept(native: Callable[..., Any]) -> None:
    inner = native(info=lambda count: {"speed": np.float64(count), "text": "fast", "other": 1})
    environment = adapt(inner, "Task-v0", infos=["speed"])
    assert set(environment.reset(seed=0)[1]) == {"state"}
    info = environment.step(STILL)[4]
    assert set(info) == {"state", "speed"}
    assert info["speed"] == 1


@pytest.mark.parametrize(("name", "expected"), [("sped", r"no info \['sped'\]; available:"), ("text", "'text' is str")])
def test_missing_or_non_numeric_info_is_named(native: Callable[..., Any], name: str, expected: str) -> None:
    environment = adapt(native(info=lambda _: {"speed": 1.0, "text": "fast"}), "Task-v0", infos=[name])
    environment.reset(seed=0)
    with pytest.raises(UserError, match=expected):
        environment.step(STILL)


@pytest.mark.parametrize(
    ("id_", "settings", "expected"),
    [
        ("CartPoel-v1", {}, "CartPoel"),
        ("no_such_module:Task-v0", {}, "no_such_module"),
        ("CartPole-v1", {"sutton_bartow_reward": True}, "sutton_bartow_reward"),
    ],
)
def test_environment_that_cannot_be_made_is_one_line(id_: str, settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=f"cannot make '{id_}'") as caught:
        gym.make(id_, settings=settings)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cartpole_takes_one_hot_rows_and_renders_frames() -> None:
    environment = gym.make("CartPole-v1", image_size=32, observations=["image", "state"])
    first, _ = environment.reset(seed=0)
    for _ in range(5):
        last, reward, _, _, info = environment.step(one_hot(1, 2))
    assert last["image"].shape == (32, 32, 3)
    assert not np.array_equal(first["image"], last["image"])
    assert last["state"][0] > first["state"][0]  # choice 1 pushes to the right
    assert reward == 1.0
    np.testing.assert_array_equal(last["state"], info["state"])
    environment.close()


class Careless(gymnasium.Env[Any, Any]):
    """Uses global random state, as some suites do."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return self._draw(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:  # noqa: ARG002
        return self._draw(), 0.0, False, False, {}

    def _draw(self) -> np.ndarray:
        return np.array([np.random.normal(), self.action_space.sample()[0]])  # noqa: NPY002


def test_episode_depends_on_its_seed_even_with_a_global_generator() -> None:
    def episode(environment: gymnasium.Env[Any, Any], seed: int) -> list[list[float]]:
        rows = [environment.reset(seed=seed)[0]["state"].tolist()]
        for _ in range(3):
            np.random.normal(size=3)  # noqa: NPY002 - what others draw in between
            rows.append(environment.step(np.zeros(1, np.float32))[0]["state"].tolist())
        return rows

    one, other = adapt(Careless(), "a"), adapt(Careless(), "b")
    first = episode(one, 5)
    episode(one, 6)
    assert episode(one, 5) == first == episode(other, 5)
    assert episode(one, 6) != first
    assert len({tuple(row) for row in first}) == 4  # it goes on drawing


def test_environment_does_not_change_the_global_generator() -> None:
    environment = adapt(Careless(), "a")
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.normal(size=2).tolist()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    environment.reset(seed=0)
    environment.step(np.zeros(1, np.float32))
    assert np.random.normal(size=2).tolist() == expected  # noqa: NPY002
