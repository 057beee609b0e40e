"""Turf: its rules, frames, scripted policy and exact reversibility."""

from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dreamset.core.errors import UserError
from dreamset.environments import policies, turf
from dreamset.environments.actions import one_hot
from dreamset.environments.rollouts import PolicyFactory, RecordedEpisode, record_episode
from dreamset.environments.turf import DOWN, LEFT, RIGHT, STAY, UP

SMALL = ('A"..', '."#G', '.."A')  # four cells of grass, a wall and two starts
CROSS = ('A"G',)


def walk(layout: tuple[str, ...], actions: list[int], **settings: Any) -> list[tuple[Any, ...]]:
    environment = turf.make(image_size=None, layout=layout, **settings)
    environment.reset(seed=0)
    return [environment.step(one_hot(action, turf.ACTIONS)) for action in actions]


def play(make_policy: PolicyFactory, seed: int, **settings: Any) -> RecordedEpisode:
    environment = turf.make(**({"image_size": None} | settings))
    return record_episode(environment, make_policy, generator=np.random.default_rng(seed), seed=seed)


@pytest.mark.parametrize("image_size", [None, 32])
def test_turf_passes_the_gymnasium_checks(image_size: int | None) -> None:
    check_env(turf.make(image_size=image_size).unwrapped, skip_render_check=True)


def test_leaving_grass_ruins_it_and_staying_on_it_does_not() -> None:
    layout = ('A"."G',)
    ruined = [info["ruined"] for *_, info in walk(layout, [RIGHT, STAY, UP, LEFT, RIGHT, RIGHT, RIGHT, RIGHT])]
    assert ruined == [0, 0, 0, 1, 1, 1, 1, 2]  # stays, and steps out of the layout, change nothing


def test_goal_gives_the_only_reward_and_ends_the_episode() -> None:
    steps = walk(CROSS, [LEFT, RIGHT, RIGHT])
    assert [(reward, terminated, truncated) for _, reward, terminated, truncated, _ in steps] == [
        (0, False, False),
        (0, False, False),
        (1, True, False),
    ]
    assert [info["success"] for *_, info in steps] == [False, False, True]


def test_walls_stop_a_step() -> None:
    (before, *_), (after, *_) = walk(("A#G",), [STAY, RIGHT])
    np.testing.assert_array_equal(before["state"], after["state"])


def test_episode_without_success_ends_by_the_time_limit() -> None:
    assert [(ended, limit) for *_, ended, limit, _ in walk(CROSS, [STAY] * 3, episode_steps=3)][-1] == (False, True)


def test_state_vector_has_place_and_ruined_cells() -> None:
    *_, (observation, *_) = walk(CROSS, [RIGHT, LEFT])
    np.testing.assert_array_equal(observation["state"], [1, 1, 0, 0, 1])  # row 0 of 1, column 0 of 3, ruined


def test_states_vectors_and_frames_tell_the_same() -> None:
    rules = turf.rules_of(SMALL)
    states = rules.graph.states
    np.testing.assert_array_equal(rules.numbers(rules.vectors(states)), states)
    frames = {rules.drawn(state, size=32).tobytes() for state in states}
    assert len(frames) == len(states)


def test_frame_shows_walker_goal_and_ruined_grass_at_their_cells() -> None:
    rules = turf.rules_of(SMALL)
    state = rules.step(rules.step(np.int64(0), RIGHT), RIGHT)  # across the cell of grass in the first row
    frame = rules.drawn(state, size=64) / 255
    middles = {place: frame[8 + 16 * place[0], 8 + 16 * place[1]] for place in np.ndindex(4, 4)}
    shown = {(0, 2): turf.WALKER, (0, 1): turf.RUINED, (1, 1): turf.COLOURS['"'], (1, 3): turf.COLOURS["G"]}
    for place, colour in (shown | {(0, 0): turf.COLOURS["."], (1, 2): turf.PAPER, (3, 0): turf.PAPER}).items():
        np.testing.assert_allclose(middles[place], colour, atol=0.01)


@pytest.mark.parametrize("layout", [SMALL, turf.LAYOUTS["strip"], CROSS])
def test_actions_are_irreversible_exactly_at_fresh_grass_and_at_the_goal(layout: tuple[str, ...]) -> None:
    """A step onto fresh grass cannot be undone either, because every way off ruins the grass."""
    rules = turf.rules_of(layout)
    states = rules.graph.states[~rules.ended(rules.graph.states)]
    for action in range(turf.ACTIONS):
        after = rules.step(states, action)
        fresh = [(rules.bits[one % rules.grid.cells] & ~(one // rules.grid.cells)) > 0 for one in (states, after)]
        expected = (after == states) | ~(fresh[0] | fresh[1] | rules.ended(after))
        np.testing.assert_array_equal(rules.graph.reversible(states, np.full(len(states), action)), expected)


def test_scripted_policy_spares_the_grass_and_random_actions_ruin_it() -> None:
    scripted = [play(turf.scripted, seed) for seed in range(5)]
    random = [play(policies.random, seed) for seed in range(5)]
    assert all(episode.total_reward == 1 and episode.infos["ruined"][-1] == 0 for episode in scripted)
    around = {2: 10, 3: 11, 4: 10}  # steps from the starts of these rows
    assert [len(one.rewards) for one in scripted] == [around[one.infos["state"][0, :8].argmax()] for one in scripted]
    assert np.mean([episode.infos["ruined"][-1] for episode in random]) > 1


@pytest.mark.parametrize(("layout", "ruined", "steps"), [(turf.LAYOUTS["strip"], 2, 5), (CROSS, 1, 2)])
def test_scripted_policy_ruins_what_it_must_and_takes_the_shortest_way(
    layout: tuple[str, ...], ruined: int, steps: int
) -> None:
    episode = play(turf.scripted, 0, layout=layout)
    assert (episode.infos["ruined"][-1], len(episode.rewards)) == (ruined, steps)


def test_scripted_policy_walks_across_grass_that_is_ruined_already() -> None:
    rules = turf.rules_of(('A""G', "...."))
    costs = [turf.action_costs(rules, ruined)[0] for ruined in (0b00, 0b11)]
    assert [cost.argmin() for cost in costs] == [DOWN, RIGHT]
    assert [cost.min() for cost in costs] == [5, 3]


def test_share_of_scripted_actions_is_a_dial_from_random_to_scripted() -> None:
    def success(randomness: float) -> float:
        make = {"policy": turf.scripted, "randomness": randomness, "longest_hold": 1}
        episodes = [play(lambda env, rng: policies.interrupted(env, rng, **make), seed) for seed in range(20)]
        return float(np.mean([episode.total_reward for episode in episodes]))

    assert success(1.0) < 0.5 < success(0.5)
    assert success(0.0) == 1


def test_starts_depend_on_the_seed() -> None:
    environment = turf.make(image_size=None)
    states = [environment.reset(seed=seed)[1]["state"] for seed in (0, 0, *range(1, 20))]
    np.testing.assert_array_equal(states[0], states[1])
    assert len({state.tobytes() for state in states}) == 3


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("meadow", "is 'meadow'; allowed: lawn, strip"),
        (("A.G", ".."), r"has rows of \[2, 3\] characters; allowed: one length"),
        ((), "has rows of"),
        (("A?G",), r"has '\?' in row 0; allowed:"),
        (("A..",), r"has 0 goals \(G\), 1 starts"),
        (("..G",), ".*1 start or more"),
        (("A" + 49 * '"' + "G",), ".*at most 48 cells of grass"),
    ],
)
def test_wrong_layouts_are_refused_in_one_line(layout: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"dataset\.environment\.layout {message}"):
        turf.make(image_size=None, layout=layout)


def test_images_too_small_for_the_layout_are_refused() -> None:
    with pytest.raises(UserError, match=r"dataset\.environment\.image_size is 16; allowed: 32 or more for 8 rows"):
        turf.make(image_size=16)
