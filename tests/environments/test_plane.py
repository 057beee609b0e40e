"""What the worlds in a plane share: goals, frames and looks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.environments import plane, policies, pusher, two_room
from dreamset.environments.plane import Box, Disc, Look, PlaneWorld
from dreamset.environments.rollouts import record_episode
from dreamset.environments.wrappers import Environment

Make = Callable[..., Environment]
WORLDS = pytest.mark.parametrize("make", [two_room.make, pusher.make], ids=["two_room", "pusher"])
SCRIPTED = pytest.mark.parametrize(
    ("make", "expert"),
    [(two_room.make, two_room.scripted), (pusher.make, pusher.scripted)],
    ids=["two_room", "pusher"],
)
WHITE, RED, BLUE = np.ones(3), np.array([1.0, 0, 0]), np.array([0, 0, 1.0])


def world_of(environment: Environment) -> PlaneWorld:
    world = environment.unwrapped
    assert isinstance(world, PlaneWorld)
    return world


@WORLDS
@pytest.mark.parametrize(
    "settings", [{"image_size": None}, {"image_size": 32}, {"image_size": 32, "goal": None}], ids=str
)
def test_worlds_pass_the_gymnasium_checks(make: Make, settings: dict[str, Any]) -> None:
    check_env(make(**settings).unwrapped, skip_render_check=True)


@SCRIPTED
def test_reaching_the_goal_gives_the_only_reward_and_ends_the_episode(make: Make, expert: Any) -> None:
    episode = record_episode(make(image_size=None), expert, generator=np.random.default_rng(0), seed=0)
    assert episode.terminated
    assert episode.rewards.tolist() == [0.0] * (len(episode.rewards) - 1) + [1.0]
    assert episode.infos["is_success"].tolist() == [False] * len(episode.rewards) + [True]
    reach = world_of(make(image_size=None)).rules.reach
    assert episode.infos["distance"][-1] < reach <= episode.infos["distance"][:-1].min()


@WORLDS
def test_goal_observations_show_the_goal_and_stay_the_same_within_an_episode(make: Make) -> None:
    environment = make(image_size=48)
    first, _ = environment.reset(seed=3)
    world = world_of(environment)
    assert world.goal is not None
    np.testing.assert_allclose(first["goal.state"], world.goal, atol=1e-6)
    second = environment.step(np.ones(2, np.float32))[0]
    for name in ("goal.state", "goal.image"):
        np.testing.assert_array_equal(first[name], second[name])
    world.state = world.goal  # there, the agent sees what the goal showed
    world.step(np.zeros(2, np.float32))
    np.testing.assert_allclose(world._observation()["image"].astype(int), first["goal.image"].astype(int), atol=1)
    assert world._info()["is_success"]


@WORLDS
def test_observations_of_the_goal_are_copies(make: Make) -> None:
    environment = make(image_size=32)
    first, _ = environment.reset(seed=0)
    kept = first["goal.image"].copy()
    first["goal.image"][:] = 0
    np.testing.assert_array_equal(environment.step(np.zeros(2, np.float32))[0]["goal.image"], kept)


@WORLDS
def test_without_goal_nothing_is_rewarded_and_only_the_time_limit_ends_the_episode(make: Make) -> None:
    environment = make(image_size=32, goal=None, episode_steps=4)
    episode = record_episode(environment, policies.random, generator=np.random.default_rng(0), seed=0)
    assert set(episode.observations) == {"state", "image"}
    assert set(episode.infos) == {"state"}
    assert (episode.rewards.tolist(), episode.terminated) == ([0.0] * 4, False)


@WORLDS
def test_goals_and_starts_depend_on_the_seed_and_not_on_the_severity(make: Make) -> None:
    rows = [make(image_size=None, severity=severity).reset(seed=seed)[0] for seed, severity in ((0, 0), (0, 1), (1, 0))]
    for name in ("state", "goal.state"):
        np.testing.assert_array_equal(rows[0][name], rows[1][name])
        assert not np.allclose(rows[0][name], rows[2][name])


@WORLDS
def test_fixed_goal_is_where_it_is_set(make: Make) -> None:
    for seed in range(3):
        observed = make(image_size=None, goal=[0.5, -0.3]).reset(seed=seed)[0]
        np.testing.assert_allclose(observed["goal.state"][-2:], [0.5, -0.3], atol=1e-6)


@WORLDS
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"goal": "nowhere"}, r"goal is 'nowhere'; allowed: .*anywhere, two coordinates"),
        ({"goal": [0.1]}, r"goal is \[0\.1\]; allowed"),
        ({"goal": [0.3, 0.95]}, r"goal is \[0\.3, 0\.95\]; allowed: .* from -0\.\d+ to 0\.\d+, or null"),
        ({"image_size": 8}, r"image_size is 8; allowed: 16 or more"),
        ({"severity": 1.5}, r"severity is 1\.5; allowed: 0 to 1"),
        ({"appearance": {"sky": [0, 0, 0]}}, r"appearance has 'sky'; allowed: agent, .*background, size"),
        ({"appearance": {"agent": [0, 0, 300]}}, r"appearance\.agent is \[0, 0, 300\]; allowed: red, green and blue"),
        ({"appearance": {"size": 0}}, r"appearance\.size is 0; allowed"),
    ],
)
def test_wrong_settings_are_named_with_what_is_allowed(make: Make, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"^dataset\.environment\.{message}"):
        make(**({"image_size": 32} | settings))


@SCRIPTED
def test_policies_that_know_the_goal_refuse_an_episode_without(make: Make, expert: Any) -> None:
    environment = make(image_size=None, goal=None)
    environment.reset(seed=0)
    with pytest.raises(UserError, match=r"needs a goal, but dataset\.environment\.goal is null"):
        expert(environment, np.random.default_rng(0))


def area(frame: NDArray[np.uint8], colour: NDArray[np.floating]) -> float:
    """The covered area in the world's units, of a shape of this colour on white."""
    channel = int(np.argmin(colour))
    lacking = (255.0 - frame[..., channel]) / (255 * (1 - colour[channel]))
    return float(lacking.sum() * (2 * plane.VIEW / len(frame)) ** 2)


def test_shapes_cover_their_areas_and_later_ones_cover_earlier_ones() -> None:
    look = Look({"background": WHITE, "red": RED, "blue": BLUE})
    box, disc = Box("red", (-0.61, 0.2), (0.13, 0.53)), Disc("red", np.array([0.1, -0.3]), 0.35)
    assert area(plane.drawn([box], look, size=64), RED) == pytest.approx(0.74 * 0.33, rel=0.005)
    assert area(plane.drawn([disc], look, size=64), RED) == pytest.approx(np.pi * 0.35**2, rel=0.01)
    assert area(plane.drawn([disc], Look(look.colours, 0.5), size=64), RED) == pytest.approx(np.pi * 0.175**2, rel=0.02)
    both = plane.drawn([Disc("red", np.zeros(2), 0.3), Disc("blue", np.zeros(2), 0.2)], look, size=33)
    np.testing.assert_array_equal(both[16, 16], [0, 0, 255])


def test_frames_show_shapes_where_they_are() -> None:
    look = Look({"background": WHITE, "red": RED})
    frame = plane.drawn([Disc("red", np.array([0.5, -0.25]), 0.2)], look, size=88)
    rows, columns = np.nonzero(frame[..., 1] < 128)
    x, y = ((pixels.mean() + 0.5) * 2 * plane.VIEW / 88 - plane.VIEW for pixels in (columns, rows))
    assert (x, -y) == pytest.approx((0.5, -0.25), abs=0.01)


@WORLDS
def test_severity_zero_is_exactly_the_plain_look(make: Make) -> None:
    plain, again = (make(image_size=32, **settings).reset(seed=5)[0]["image"] for settings in ({}, {"severity": 0.0}))
    np.testing.assert_array_equal(plain, again)
    world = world_of(make(image_size=32))
    world.reset(seed=5)
    assert world.look.size == 1
    for name, colour in world.rules.colours.items():
        np.testing.assert_array_equal(world.look.colours[name], colour)


@WORLDS
def test_looks_differ_more_with_severity_and_between_episodes(make: Make) -> None:
    plain = make(image_size=32).reset(seed=5)[0]["image"].astype(float)
    changes = [
        np.abs(make(image_size=32, severity=severity).reset(seed=5)[0]["image"] - plain).mean()
        for severity in (0.25, 0.5, 1.0)
    ]
    assert 2 < changes[0] < changes[1] < changes[2]
    environment = make(image_size=32, severity=1.0)
    looks = []
    for seed in (5, 6):
        environment.reset(seed=seed)
        looks.append(world_of(environment).look.colours["background"])
    assert np.abs(looks[0] - looks[1]).max() > 0.05


def test_random_looks_keep_everything_visible() -> None:
    plain = Look({name: np.full(3, 0.5) for name in "abcd"})
    for seed in range(50):
        look = plain.varied(1.0, np.random.default_rng(seed))
        colours = np.stack(list(look.colours.values()))
        apart = np.linalg.norm(colours[:, None] - colours, axis=-1)[~np.eye(4, dtype=bool)]
        assert apart.min() >= plane.APART - 1e-9
        assert 1 - plane.GROWTH <= look.size <= 1 + plane.GROWTH


@WORLDS
def test_appearance_sets_the_plain_look(make: Make) -> None:
    environment = make(image_size=32, appearance={"background": [0, 1, 0], "agent": [1, 0, 1], "size": 1.5})
    frame = environment.reset(seed=0)[0]["image"].reshape(-1, 3).tolist()
    assert frame.count([0, 255, 0]) > 400
    assert frame.count([255, 0, 255]) >= 5
    assert world_of(environment).look.size == 1.5


@WORLDS
def test_straight_policy_moves_the_agent_to_its_place_at_the_goal(make: Make) -> None:
    environment = make(image_size=None)
    environment.reset(seed=2)
    world = world_of(environment)
    for way, expected in (((0.03, -0.02), np.array([0.03, -0.02]) / world.rules.speed), ((0.6, -0.3), (1, -0.5))):
        world.goal = world.state.copy()
        world.goal[:2] += way
        action = plane.straight(environment, np.random.default_rng(0))({}, {"state": world.state})
        np.testing.assert_allclose(action, expected, rtol=1e-5)  # the second at full speed
