"""The exact reversibility of actions, from the whole graph of a small deterministic world.

An action is reversible in a state if that state can be reached again after it. Breadth-first search lists all states,
and strongly connected components say which of them lead back to each other.
"""

from collections import deque
from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError

Numbers = NDArray[np.int64]
LARGEST = 2_000_000  # states of a graph; more would need more than a gigabyte while they are searched


class StateGraph:
    """All states that can be reached, numbered by the world itself, and where every action leads."""

    def __init__(self, states: Numbers, arrivals: Numbers) -> None:
        """Takes a graph that is complete.

        Args:
            states: [N], the world's own numbers, ascending.
            arrivals: [N, A], the place in ``states`` to which each action leads.
        """
        self.states = states
        self.arrivals = arrivals

    @classmethod
    def explore(
        cls, arrivals: Callable[[Numbers], Numbers], starts: Numbers, *, largest: int = LARGEST
    ) -> "StateGraph":
        """The states that can be reached from ``starts``.

        Args:
            arrivals: [N] states -> [N, A] states after each action. An ended state leads to itself.
            starts: states in which an episode may start.
            largest: number of states above which the search stops.

        Raises:
            UserError: if there are more states.
        """
        known = frontier = np.unique(starts)
        while frontier.size:
            frontier = np.setdiff1d(arrivals(frontier), known)
            known = np.union1d(known, frontier)
            if known.size > largest:
                raise UserError(
                    f"the world has more than {largest} states; the exact reversibility needs fewer: take a smaller "
                    "layout, with fewer cells of grass or fewer boxes"
                )
        return cls(known, np.searchsorted(known, arrivals(known)))

    def index(self, states: Numbers) -> Numbers:
        """The places of states.

        Raises:
            ValueError: if a state cannot be reached.
        """
        places = np.minimum(np.searchsorted(self.states, states), len(self.states) - 1)
        if (self.states[places] != states).any():
            raise ValueError("a state cannot be reached from the starts of this graph")
        return places

    def reversible(self, states: Numbers, actions: Numbers) -> NDArray[np.bool_]:
        """Whether state n can be reached again after action n, [N]; true where the action changes nothing."""
        before = self.index(states)
        matches: NDArray[np.bool_] = self.components[before] == self.components[self.arrivals[before, actions]]
        return matches

    def steps_to_return(self, states: Numbers, actions: Numbers) -> NDArray[np.float64]:
        """The least number of further actions after action n that lead back to state n, [N]; infinite if none do."""
        before = self.index(states)
        pairs = zip(before.tolist(), self.arrivals[before, actions].tolist(), strict=True)
        return np.array([self._steps(after, to) for to, after in pairs], np.float64)

    def steps_to(self, targets: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The least number of actions from every state to one of ``targets`` [N], [N]; infinite if none is reached."""
        steps = np.where(targets, 0.0, np.inf)
        while True:
            fewer = np.minimum(steps, 1 + steps[self.arrivals].min(axis=1))
            if (fewer == steps).all():
                return steps
            steps = fewer

    @cached_property
    def components(self) -> Numbers:
        """The strongly connected component of every state, [N]: states that lead back to each other share a number."""
        return strongly_connected(self.arrivals)

    def _steps(self, start: int, end: int) -> float:
        """Breadth-first search within one component, which no way back can leave."""
        component = self.components[end]
        distance, waiting = {start: 0}, deque([start])
        while waiting and self.components[start] == component:
            state = waiting.popleft()
            if state == end:
                return distance[state]
            for after in self.arrivals[state].tolist():
                if after not in distance and self.components[after] == component:
                    distance[after] = distance[state] + 1
                    waiting.append(after)
        return np.inf


def strongly_connected(arrivals: Numbers) -> Numbers:
    """The component of every node of a graph, [N], by Tarjan's algorithm without recursion.

    Args:
        arrivals: [N, A], the nodes to which each node leads.
    """
    edges = arrivals.tolist()
    order, low, component = [-1] * len(edges), [0] * len(edges), [-1] * len(edges)
    visited = components = 0
    open_nodes: list[int] = []  # visited, but not yet in a component
    for root in range(len(edges)):
        path = [] if order[root] >= 0 else [(root, iter(edges[root]))]
        while path:
            node, rest = path[-1]
            if order[node] < 0:
                order[node] = low[node] = visited
                visited += 1
                open_nodes.append(node)
            for after in rest:
                if order[after] < 0:
                    path.append((after, iter(edges[after])))
                    break
                if component[after] < 0:  # for a finished child this is its final value
                    low[node] = min(low[node], low[after])
            else:
                path.pop()
                if path:
                    parent = path[-1][0]
                    low[parent] = min(low[parent], low[node])
                if low[node] == order[node]:
                    while component[node] < 0:
                        component[open_nodes.pop()] = components
                    components += 1
    return np.array(component, np.int64)
