"""Exact reversibility against brute force on random graphs, and on worlds whose answer is known."""

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.environments.reversibility import Numbers, StateGraph, strongly_connected

LEFT, RIGHT = 0, 1


def corridor(states: Numbers) -> Numbers:
    """Six cells; between 2 and 3 is a door that opens to the right only, and both ends are walls."""
    left = np.where(np.isin(states, [0, 3]), states, states - 1)
    return np.column_stack([left, np.minimum(states + 1, 5)])


def distances(arrivals: Numbers) -> np.ndarray:
    """Steps from each node to each other one, [N, N], by Floyd and Warshall."""
    count = len(arrivals)
    steps = np.full((count, count), np.inf)
    steps[np.arange(count)[:, None], arrivals] = 1
    np.fill_diagonal(steps, 0)
    for middle in range(count):
        steps = np.minimum(steps, steps[:, middle, None] + steps[middle])
    return steps


def test_only_the_step_through_a_one_way_door_is_irreversible() -> None:
    graph = StateGraph.explore(corridor, np.array([1]))
    states, actions = np.repeat(np.arange(6), 2), np.tile([LEFT, RIGHT], 6)
    expected = (states != 2) | (actions != RIGHT)
    np.testing.assert_array_equal(graph.reversible(states, actions), expected)
    steps = graph.steps_to_return(states, actions)
    unmoved = np.isin(2 * states + actions, [0, 6, 11])  # at the ends and at the door from behind
    np.testing.assert_array_equal(steps, np.where(~expected, np.inf, np.where(unmoved, 0, 1)))


def test_states_behind_the_door_are_all_that_is_reached_from_there() -> None:
    assert StateGraph.explore(corridor, np.array([4])).states.tolist() == [3, 4, 5]


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_agree_with_brute_force(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = int(generator.integers(2, 30))
    edges = generator.integers(count, size=(count, 2))
    graph = StateGraph.explore(lambda states: edges[states], np.arange(count))
    steps = distances(edges)
    states, actions = (axis.ravel() for axis in np.indices((count, 2)))
    back = steps[edges[states, actions], states]
    np.testing.assert_array_equal(graph.steps_to_return(states, actions), back)
    np.testing.assert_array_equal(graph.reversible(states, actions), np.isfinite(back))
    same = np.isfinite(steps) & np.isfinite(steps.T)
    components = strongly_connected(edges)
    np.testing.assert_array_equal(components[:, None] == components, same)
    targets = generator.random(count) < 0.2
    nearest = steps[:, targets].min(axis=1, initial=np.inf)
    np.testing.assert_array_equal(graph.steps_to(targets), nearest)


def test_a_path_longer_than_the_limit_of_recursion_has_its_components() -> None:
    count = 5000
    there = np.minimum(np.arange(count) + 1, count - 1)[:, None]
    assert len(np.unique(strongly_connected(there))) == count
    around = ((np.arange(count) + 1) % count)[:, None]
    assert len(np.unique(strongly_connected(around))) == 1


def test_world_with_too_many_states_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"more than 100 states; .* take a smaller layout"):
        StateGraph.explore(lambda states: states[:, None] + 1, np.array([0]), largest=100)


def test_state_outside_of_the_graph_is_an_error() -> None:
    graph = StateGraph.explore(corridor, np.array([4]))
    with pytest.raises(ValueError, match="cannot be reached"):
        graph.reversible(np.array([0]), np.array([RIGHT]))
