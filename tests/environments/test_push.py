"""The push puzzle: its rules, deadlocks, generator, scripted policy and exact reversibility."""

from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dreamset.core.errors import UserError
from dreamset.environments import policies, push
from dreamset.environments.actions import one_hot
from dreamset.environments.push import DOWN, LEFT, RIGHT
from dreamset.environments.rollouts import PolicyFactory, RecordedEpisode, record_episode

OFFSETS = ((-1, 0), (0, 1), (1, 0), (0, -1))
TWO = ("#####", "#@ .#", "# $ #", "#$ .#", "#####")

Place = tuple[int, int]
Placed = tuple[Place, frozenset[Place]]


def places(rows: tuple[str, ...], characters: str) -> frozenset[Place]:
    return frozenset((y, x) for y, row in enumerate(rows) for x, one in enumerate(row) if one in characters)


def after(rows: tuple[str, ...], state: Placed, action: int) -> Placed:
    """Sokoban's rules on sets of places: an independent reference."""
    (y, x), boxes = state
    dy, dx = OFFSETS[action]
    ahead, behind = (y + dy, x + dx), (y + 2 * dy, x + 2 * dx)
    walls = places(rows, "#")
    if ahead in walls or boxes == places(rows, ".*+"):
        return state
    if ahead not in boxes:
        return ahead, boxes
    return state if behind in walls | boxes else (ahead, boxes - {ahead} | {behind})


def placed(rules: push.PushRules, state: Any) -> Placed:
    pusher, boxes = rules.cells(state)
    at = [(int(y), int(x)) for y, x in rules.grid.places]
    return at[pusher], frozenset(at[box] for box in boxes)


def walk(layout: tuple[str, ...], actions: list[int]) -> list[tuple[Any, ...]]:
    environment = push.make(image_size=None, layout=layout, random_start=False)
    environment.reset(seed=0)
    return [environment.step(one_hot(action, push.ACTIONS)) for action in actions]


def play(make_policy: PolicyFactory, seed: int, **settings: Any) -> RecordedEpisode:
    environment = push.make(**({"image_size": None} | settings))
    return record_episode(environment, make_policy, generator=np.random.default_rng(seed), seed=seed)


@pytest.mark.parametrize("image_size", [None, 32])
def test_puzzle_passes_the_gymnasium_checks(image_size: int | None) -> None:
    check_env(push.make(image_size=image_size).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("layout", [push.LAYOUTS["wall"], TWO])
def test_every_step_follows_the_rules_of_sokoban(layout: tuple[str, ...]) -> None:
    rules = push.rules_of(layout)
    for state in rules.graph.states:
        for action in range(push.ACTIONS):
            assert placed(rules, rules.table[state, action]) == after(layout, placed(rules, state), action)


def test_states_are_all_placements_of_pusher_and_boxes() -> None:
    cells = 9
    assert push.rules_of(TWO).grid.cells == cells
    assert len(push.rules_of(TWO).graph.states) == cells * (cells - 1) * (cells - 2) / 2  # boxes are alike


def test_reward_is_one_on_a_target_and_minus_one_off_it() -> None:
    layout = ("#######", "# @$. #", "#  .$ #", "#     #", "#######")
    rewards = [reward for _, reward, *_ in walk(layout, [RIGHT, RIGHT, LEFT])]
    assert rewards == [1, -1, 0]


def test_episode_ends_when_all_boxes_are_on_targets() -> None:
    layout = ("######", "#@$. #", "# $. #", "######")
    steps = walk(layout, [RIGHT, LEFT, DOWN, RIGHT])
    assert [(reward, terminated, bool(info["success"])) for _, reward, terminated, _, info in steps] == [
        (1, False, False),
        (0, False, False),
        (0, False, False),
        (1, True, True),
    ]


@pytest.mark.parametrize(
    ("layout", "solvable"),
    [
        (("######", "#$   #", "#@ . #", "#    #", "######"), False),  # in a corner
        (("######", "#* @ #", "#  $ #", "#  . #", "######"), True),  # in a corner, but that is its target
        (("######", "# $  #", "#@ . #", "#    #", "######"), False),  # at a wall without a target
        (("######", "# $. #", "#@   #", "#    #", "######"), True),  # at a wall with its target
        (("######", "# $$.#", "#@  .#", "#    #", "######"), False),  # two boxes that hold each other at the wall
        (("######", "#  @ #", "# $  #", "# .  #", "######"), True),
    ],
)
def test_known_deadlocks_cannot_be_solved(layout: tuple[str, ...], solvable: bool) -> None:
    rules = push.rules_of(layout)
    assert rules.solvable(rules.start) == solvable


def test_solvable_states_and_their_steps_are_those_of_a_plain_search() -> None:
    rules = push.rules_of(TWO)
    states = [placed(rules, state) for state in rules.graph.states]
    solved = places(TWO, ".")
    steps = {state: 0 for state in states if state[1] == solved}
    for round_ in range(1, 100):
        reached = {state for state in states if any(after(TWO, state, action) in steps for action in range(4))}
        steps |= dict.fromkeys(reached - steps.keys(), round_)
    expected = [steps.get(state, np.inf) for state in states]
    assert np.inf in expected
    assert rules.steps_to_solution[rules.graph.states].tolist() == expected


def test_push_into_a_corner_is_irreversible_and_a_push_along_the_room_is_not() -> None:
    rules = push.rules_of(("######", "#    #", "#@$  #", "#  . #", "#    #", "######"))
    start = np.array([rules.start])
    assert rules.graph.reversible(start, np.array([RIGHT]))
    assert rules.graph.steps_to_return(start, np.array([RIGHT])) == 9  # round the box, a push, and round it again
    at_the_wall = rules.table[start, RIGHT]
    assert not rules.graph.reversible(at_the_wall, np.array([RIGHT]))
    assert rules.graph.steps_to_return(at_the_wall, np.array([RIGHT])) == np.inf


def test_states_vectors_and_frames_tell_the_same() -> None:
    rules = push.rules_of(TWO)
    states = rules.graph.states
    np.testing.assert_array_equal(rules.numbers(rules.vectors(states)), states)
    assert len({rules.drawn(state, size=24).tobytes() for state in states}) == len(states)


def test_frame_shows_pusher_boxes_targets_and_walls_at_their_cells() -> None:
    layout = ("#####", "#@$.#", "# *.#", "#  $#", "#####")
    with pytest.raises(UserError, match="3 boxes"):
        push.rules_of(layout)
    layout = ("#####", "#@$.#", "# * #", "#   #", "#####")
    rules = push.rules_of(layout)
    frame = rules.drawn(np.int64(rules.start), size=80) / 255
    shown = {"@": push.WALKER, "$": push.CRATE, "*": push.HOME, ".": push.GOAL, "#": push.PAPER, " ": push.GROUND}
    for y, row in enumerate(layout):
        for x, character in enumerate(row):
            np.testing.assert_allclose(frame[8 + 16 * y, 8 + 16 * x], shown[character], atol=0.01)


def test_random_starts_can_be_solved_and_depend_on_the_seed() -> None:
    environment = push.make(image_size=None)
    infos = [environment.reset(seed=seed)[1] for seed in (0, 0, 1, 2, 3)]
    assert not any(info["deadlocked"] or info["success"] for info in infos)
    np.testing.assert_array_equal(infos[0]["state"], infos[1]["state"])
    assert len({info["state"].tobytes() for info in infos}) == 4


@pytest.mark.parametrize("boxes", [1, 2])
def test_generated_puzzles_can_be_solved_and_depend_on_the_seed(boxes: int) -> None:
    layouts = [push.generated(seed, size=4, boxes=boxes) for seed in (0, 1, 2, 0)]
    assert layouts[0] == layouts[3]
    assert len(set(layouts)) == 3
    for layout in layouts:
        rules = push.rules_of(layout)
        steps = rules.steps_to_solution
        assert np.median(steps[rules.solvable_starts]) <= steps[rules.start] < np.inf


def test_seed_as_layout_is_the_generated_puzzle() -> None:
    made = push.make(image_size=None, layout=3, random_start=False)
    assert made.unwrapped.rules is push.rules_of(push.generated(3))  # type: ignore[attr-defined]


def test_scripted_policy_takes_the_fewest_steps() -> None:
    for seed in range(5):
        episode = play(push.scripted, seed)
        rules = push.rules_of(push.LAYOUTS["room"])
        assert len(episode.rewards) == rules.steps_to_solution[rules.numbers(episode.infos["state"][0])]
        assert episode.infos["success"][-1]
        assert episode.total_reward == 1


def test_random_actions_deadlock_puzzles_and_deadlocks_are_for_good() -> None:
    episodes = [play(policies.random, seed) for seed in range(20)]
    stuck = [episode.infos["deadlocked"] for episode in episodes]
    assert 0 < np.mean([one[-1] for one in stuck]) < 1
    assert all((np.diff(one.astype(int)) >= 0).all() for one in stuck)
    assert not any(episode.infos["success"][-1] and one[-1] for episode, one in zip(episodes, stuck, strict=True))


def test_scripted_policy_acts_in_a_deadlock_too() -> None:
    environment = push.make(image_size=None)
    rules: push.PushRules = environment.unwrapped.rules  # type: ignore[attr-defined]
    stuck = rules.graph.states[~rules.solvable(rules.graph.states)][0]
    policy = push.scripted(environment, np.random.default_rng(0))
    actions = {int(policy({}, {"state": rules.vectors(stuck)}).argmax()) for _ in range(50)}
    assert actions == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("hall", "is 'hall'; allowed: room, wall, two_boxes"),
        (("@$.x",), "has 'x' in row 0"),
        (("@$ ",), r"has 1 pushers \(@\), 1 boxes \(\$\) and 0 targets"),
        (("$. ",), "has 0 pushers"),
        (("$.@",), "cannot be solved"),
    ],
)
def test_wrong_layouts_are_refused_in_one_line(layout: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"dataset\.environment\.layout {message}"):
        push.make(image_size=None, layout=layout, random_start=False)
