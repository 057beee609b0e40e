"""The pusher: contacts, walls, goals and policies."""

from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from dreamset.environments import plane, policies, pusher
from dreamset.environments.pusher import AGENT_EDGE, BLOCK_EDGE, PLACES, TOUCH, Pushing, push
from dreamset.environments.rollouts import PolicyFactory, RecordedEpisode, record_episode

RULES = Pushing("anywhere")
RIGHT, UP = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def state_of(agent: tuple[float, float], block: tuple[float, float]) -> NDArray[np.floating]:
    return np.array([*agent, *block], np.float64)


def play(make_policy: PolicyFactory, seed: int) -> RecordedEpisode:
    environment = pusher.make(image_size=None)
    return record_episode(environment, make_policy, generator=np.random.default_rng(seed), seed=seed)


def test_free_agent_moves_with_its_velocity_and_leaves_the_block_alone() -> None:
    after = RULES.step(state_of((0.0, 0.0), (0.7, 0.7)), np.array([0.5, -1.0]))
    np.testing.assert_allclose(after, [0.05, -0.1, 0.7, 0.7], atol=1e-12)


def test_central_push_moves_the_block_as_far_as_the_agent_goes_on() -> None:
    after = RULES.step(state_of((0.0, 0.2), (TOUCH + 0.04, 0.2)), RIGHT)
    np.testing.assert_allclose(after, [0.1, 0.2, 0.1 + TOUCH, 0.2], atol=1e-9)


def test_push_beside_the_middle_turns_the_block_aside() -> None:
    after = RULES.step(state_of((0.0, 0.0), (0.29, 0.08)), RIGHT)
    assert after[2] > 0.3
    assert after[3] > 0.1
    assert after[1] == 0


def test_walls_hold_the_block_and_the_block_holds_the_agent() -> None:
    state = state_of((BLOCK_EDGE - TOUCH, 0.0), (BLOCK_EDGE, 0.0))
    np.testing.assert_allclose(RULES.step(state, RIGHT), state, atol=1e-9)


def test_agent_pushes_a_block_off_the_wall_by_squeezing_in() -> None:
    state = state_of((AGENT_EDGE, -0.5), (BLOCK_EDGE, 0.0))
    for _ in range(6):
        state = RULES.step(state, UP)
    assert state[2] < BLOCK_EDGE - 0.02


@pytest.mark.parametrize("seed", range(4))
def test_nothing_overlaps_leaves_the_square_or_is_passed_through(seed: int) -> None:
    generator = np.random.default_rng(seed)
    state, _ = RULES.begin(generator)
    met = 0
    for row in range(400):
        if row % 20 == 0:
            way = generator.uniform(-1, 1, 2)
        if row % 3 == 0:  # towards the block, so that they meet often
            way = np.sign(state[2:] - state[:2] + generator.normal(0, 0.2, 2))
        after = RULES.step(state, way)
        assert np.linalg.norm(after[2:] - after[:2]) >= TOUCH - 1e-6
        assert (np.abs(after) <= RULES.farthest + 1e-12).all()
        assert np.abs(after[:2] - state[:2]).max() <= 1.5 * RULES.speed  # a held block turns it aside
        assert np.linalg.norm(after[2:] - state[2:]) <= 2 * RULES.speed  # never thrown
        met += bool(np.abs(after[2:] - state[2:]).max() > 0)
        state = after
    assert met > 40


def test_distance_is_that_of_the_block_alone() -> None:
    here, goal = state_of((0.9, 0.9), (0.0, 0.3)), state_of((-0.5, 0.0), (0.4, 0.0))
    assert RULES.distance(here, goal) == pytest.approx(0.5)


def test_goal_shows_the_block_there_and_the_agent_behind_it() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        start, goal = RULES.begin(generator)
        assert goal is not None
        assert np.abs(goal[2:]).max() <= PLACES
        assert np.abs(goal[:2]).max() <= AGENT_EDGE
        way, behind = goal[2:] - start[2:], goal[2:] - goal[:2]
        np.testing.assert_allclose(behind, TOUCH * way / np.linalg.norm(way), atol=1e-9)
        assert np.linalg.norm(way) >= pusher.LEAST


def test_agent_and_block_are_drawn_where_they_are() -> None:
    environment = pusher.make(image_size=64, appearance={"agent": [1, 0, 0], "block": [0, 1, 0]})
    observation, info = environment.reset(seed=1)
    frame = observation["image"].astype(int)
    for channel, centre in ((0, info["state"][:2]), (1, info["state"][2:])):
        rows, columns = np.nonzero((frame[..., channel] > 200) & (frame[..., 2] < 40))
        x, y = ((pixels.mean() + 0.5) * 2 * plane.VIEW / 64 - plane.VIEW for pixels in (columns, rows))
        np.testing.assert_allclose([x, -y], centre, atol=0.03)


def test_scripted_policy_reaches_nearly_every_goal_within_the_budget() -> None:
    episodes = [play(pusher.scripted, seed) for seed in range(60)]
    assert np.mean([episode.total_reward for episode in episodes]) > 0.95
    assert np.mean([len(episode.rewards) for episode in episodes]) < 25


def test_scripted_policy_frees_most_blocks_from_the_walls() -> None:
    generator, freed = np.random.default_rng(0), 0
    for _ in range(40):
        block = generator.uniform(-0.6, 0.6, 2)
        block[generator.integers(2)] = generator.choice([-BLOCK_EDGE, BLOCK_EDGE])
        goal = np.tile(generator.uniform(-PLACES, PLACES, 2), 2)
        state = np.concatenate([-0.5 * block, block])
        for _ in range(100):
            state = RULES.step(state, push(state, goal).astype(np.float64))
            if RULES.distance(state, goal) < RULES.reach:
                freed += 1
                break
    assert freed >= 32


def moved(policy: PolicyFactory) -> list[float]:
    """How far the block has come in each of twenty episodes."""
    states = [play(policy, seed).infos["state"] for seed in range(20)]
    return [float(np.linalg.norm(rows[-1, 2:] - rows[0, 2:])) for rows in states]


def test_wandering_meets_the_block_and_reaches_few_goals() -> None:
    assert np.mean(np.array(moved(pusher.wander)) > 0.05) > 0.9
    assert np.mean(np.array(moved(policies.random)) > 0.05) < 0.5
    assert np.mean([play(pusher.wander, seed).total_reward for seed in range(20)]) < 0.3
    apart = moved(partial(pusher.wander, meetings=0.0))
    assert np.mean(apart) < np.mean(moved(pusher.wander))


def test_straight_line_does_not_solve_the_task() -> None:
    assert np.mean([play(plane.straight, seed).total_reward for seed in range(20)]) < 0.2
