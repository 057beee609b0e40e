"""Two rooms: walls, the door, exact distances and the scripted policy."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.environments import plane, policies, two_room
from dreamset.environments.rollouts import PolicyFactory, RecordedEpisode, record_episode
from dreamset.environments.two_room import EDGE, OPENING, WALL, TwoRooms, shortest_way

DOOR = 0.5
ROOMS = TwoRooms("other_room", DOOR)


def place(x: float, y: float) -> NDArray[np.floating]:
    return np.array([x, y], np.float64)


def play(make_policy: PolicyFactory, seed: int, door: float | None = DOOR) -> RecordedEpisode:
    environment = two_room.make(image_size=None, door=door)
    return record_episode(environment, make_policy, generator=np.random.default_rng(seed), seed=seed)


def test_actions_are_velocities_and_are_clipped() -> None:
    environment = two_room.make(image_size=None)
    environment.reset(seed=0)
    world = environment.unwrapped
    for action, way in (((0.5, -1.0), (0.5, -1.0)), ((3.0, 0.1), (1.0, 0.1))):
        world.state = place(-0.5, 0.0)  # type: ignore[attr-defined]
        info = environment.step(np.array(action, np.float32))[4]
        np.testing.assert_allclose(info["state"], np.array([-0.5, 0]) + ROOMS.speed * np.array(way), atol=1e-6)


@pytest.mark.parametrize(
    ("start", "action", "end"),
    [
        ((-WALL - 0.02, 0.0), (1, 0.5), (-WALL, 0.04)),  # the wall stops it; it slides along
        ((WALL + 0.02, 0.0), (-1, 0), (WALL, 0.0)),
        ((-EDGE + 0.01, EDGE - 0.01), (-1, 1), (-EDGE, EDGE)),
        ((-WALL - 0.02, DOOR), (1, 0), (-WALL + 0.06, DOOR)),  # through the door
        ((0.0, DOOR + OPENING - 0.01), (0, 1), (0.0, DOOR + OPENING)),  # the door's edge
        ((0.0, DOOR - OPENING + 0.01), (1, -1), (0.08, DOOR - OPENING)),
        ((-WALL, DOOR + OPENING + 0.01), (1, 0), (-WALL, DOOR + OPENING + 0.01)),  # just above it
    ],
)
def test_walls_stop_the_agent_and_the_door_lets_it_through(
    start: tuple[float, float], action: tuple[float, float], end: tuple[float, float]
) -> None:
    np.testing.assert_allclose(ROOMS.step(place(*start), np.array(action, np.float64)), end, atol=1e-9)


def test_agent_is_never_in_a_wall_and_changes_rooms_only_through_the_door() -> None:
    rules, generator = TwoRooms(None, None), np.random.default_rng(0)
    crossed = 0
    for _ in range(40):
        state, _ = rules.begin(generator)
        for _ in range(100):
            after = rules.step(state, np.sign(generator.normal(0.0, 1, 2)))
            x, y, door = after
            assert max(abs(x), abs(y)) <= EDGE
            assert abs(x) >= WALL or abs(y - door) <= OPENING + 1e-12
            assert np.abs(after - state).max() <= rules.speed + 1e-12
            crossed += bool(abs(x) < WALL)
            state = after
    assert crossed > 20


def by_search(start: NDArray[np.floating], goal: NDArray[np.floating], door: float) -> float:
    """The shortest way across both faces of the wall, over a fine grid of heights within the door."""
    heights = np.linspace(door - OPENING, door + OPENING, 401)
    if start[0] > goal[0]:
        start, goal = goal, start
    left, right = (np.stack([np.full(401, face), heights], axis=-1) for face in (-WALL, WALL))
    first = np.linalg.norm(left - start, axis=-1)
    between = np.linalg.norm(left[:, None] - right, axis=-1)
    last = np.linalg.norm(right - goal, axis=-1)
    return float((first[:, None] + between + last).min())


def test_distance_is_that_of_the_shortest_way_through_the_door() -> None:
    rules, generator = TwoRooms("other_room", None), np.random.default_rng(0)
    straight = 0
    for _ in range(200):
        start, goal = rules.begin(generator)
        assert goal is not None
        expected = by_search(start[:2], goal[:2], start[2])
        assert rules.distance(start, goal) == pytest.approx(expected, abs=2e-3)
        assert rules.distance(goal, start) == pytest.approx(rules.distance(start, goal))
        straight += bool(np.linalg.norm(start[:2] - goal[:2]) > expected - 1e-3)
    assert 0 < straight < 100  # most ways have a corner


def test_distance_within_a_room_is_that_of_the_straight_line() -> None:
    for start, goal in ((place(-0.9, -0.9), place(-WALL, 0.9)), (place(WALL, 0.1), place(0.9, 0.8))):
        assert ROOMS.distance(start, goal) == pytest.approx(np.linalg.norm(start - goal))


def test_a_place_at_the_wall_is_far_from_the_other_side_of_the_wall() -> None:
    here, there = place(-WALL, -0.5), place(WALL, -0.5)
    up = DOOR - OPENING + 0.5
    assert ROOMS.distance(here, there) == pytest.approx(2 * up + 2 * WALL)


def test_shortest_way_bends_only_at_corners_of_the_door() -> None:
    way = shortest_way(place(-0.6, -0.8), place(0.7, -0.6), DOOR)
    np.testing.assert_allclose(way[1:-1], [[-WALL, DOOR - OPENING], [WALL, DOOR - OPENING]])
    back = shortest_way(place(0.7, -0.6), place(-0.6, -0.8), DOOR)
    np.testing.assert_allclose(back, way[::-1])


def test_start_and_goal_are_in_different_rooms_by_default() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        start, goal = ROOMS.begin(generator)
        assert goal is not None
        assert start[0] * goal[0] < 0
        assert min(abs(start[0]), abs(goal[0])) >= WALL


def test_random_door_is_part_of_the_state_and_of_the_goal() -> None:
    environment = two_room.make(image_size=32, door=None)
    rows = [environment.reset(seed=seed)[0] for seed in range(5)]
    assert len({float(row["state"][2]) for row in rows}) == 5
    for row in rows:
        assert row["state"][2] == row["goal.state"][2]
        bright = np.flatnonzero(row["image"][:, 16].mean(axis=-1) > 200)  # in the column of the wall
        height = plane.VIEW - (bright.mean() + 0.5) * 2 * plane.VIEW / 32
        assert height == pytest.approx(float(row["state"][2]), abs=0.04)


@pytest.mark.parametrize("door", [DOOR, None])
def test_scripted_policy_reaches_every_goal_in_almost_the_fewest_steps(door: float | None) -> None:
    for seed in range(40):
        episode = play(two_room.scripted, seed, door)
        assert episode.total_reward == 1
        start, goal = (episode.observations[name][0].astype(np.float64) for name in ("state", "goal.state"))
        way = shortest_way(start[:2], goal[:2], DOOR if door is not None else start[2])
        fewest = sum(np.abs(there - here).max() for here, there in pairwise(way)) / ROOMS.speed
        assert len(episode.rewards) <= fewest + 2


def test_straight_line_is_stopped_by_the_wall_and_random_actions_seldom_arrive() -> None:
    straight = np.mean([play(plane.straight, seed).total_reward for seed in range(30)])
    random = np.mean([play(policies.random, seed).total_reward for seed in range(30)])
    assert random < 0.1 < straight < 0.8


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"door": 0.8}, r"door is 0\.8; allowed: -0\.7 to 0\.7, or null"), ({"goal": [0.1, 0.5]}, "in the wall")],
)
def test_goals_and_doors_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        two_room.make(image_size=None, **settings)  # type: ignore[arg-type]
