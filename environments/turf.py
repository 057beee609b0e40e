"""Turf: a walk to a goal across grass that every step ruins for good, or around it.

Like ``puck`` it needs no download and no graphics driver. It is small enough to say exactly which actions are
reversible: ``environment.unwrapped.rules.graph``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.environments.actions import adapt_actions, one_hot
from dreamset.environments.grid import PAPER, WALL, Grid, GridWorld, Mark, checked_layout, drawn
from dreamset.environments.reversibility import Numbers, StateGraph
from dreamset.environments.rollouts import Policy
from dreamset.environments.wrappers import Action, Environment, Observation

PATH, GRASS, START, GOAL = ".", '"', "A", "G"
STAY, UP, RIGHT, DOWN, LEFT = range(5)  # actions
ACTIONS = 5
MOST_GRASS = 48  # cells, so that a state is one integer
RUIN = 1000.0  # steps that the scripted policy walks to spare a cell of grass; more than any layout asks for

LAYOUTS = {
    "lawn": (  # straight across are 7 or 8 steps and 3 ruined cells, around are 10 or 11 steps and none
        "........",
        "........",
        'A.."""..',
        'A..""".G',
        'A.."""..',
        "........",
        "........",
        "........",
    ),
    "strip": (  # the only way leads across two cells of grass
        "A.#.",
        '.#"#',
        '.""G',
    ),
}
COLOURS = {
    PATH: np.array([0.93, 0.88, 0.76]),
    START: np.array([0.93, 0.88, 0.76]),
    GRASS: np.array([0.35, 0.68, 0.3]),
    GOAL: np.array([0.98, 0.62, 0.2]),
    WALL: PAPER,
}
RUINED = np.array([0.48, 0.33, 0.2])
WALKER = np.array([0.13, 0.34, 0.68])


def make(*, image_size: int | None, layout: str | Sequence[str] = "lawn", episode_steps: int = 60) -> Environment:
    """The task: a reward of 1 at the goal, which ends the episode; nothing else is rewarded.

    Actions are one-hot rows: stay, up, right, down, left. A step off a cell of grass ruins it. A step against a wall
    or out of the layout is a stay.

    Args:
        image_size: edge of the ``image`` observation in pixels, or None for the ``state`` vector (row and column of the
            walker as one-hot rows, then whether each cell of grass is ruined).
        layout: a name in ``LAYOUTS``, or rows of ``.`` (path), ``"`` (grass), ``#`` (wall), ``G`` (goal) and ``A``
            (start; one is drawn per episode).
        episode_steps: steps until the time limit.

    Raises:
        UserError: if the layout or the size of images is wrong.
    """
    rows = checked_layout(layout, LAYOUTS, PATH + GRASS + WALL + GOAL + START)
    return TimeLimit(adapt_actions(Turf(rows, image_size), "turf"), max_episode_steps=episode_steps)


class Turf(GridWorld):
    """The walk; ``info`` has the true state, the number of ruined cells and whether the goal is reached."""

    def __init__(self, rows: tuple[str, ...], image_size: int | None = None) -> None:
        self.rules = rules_of(rows)
        super().__init__(self.rules, int(self.rules.starts[0]), actions=ACTIONS, image_size=image_size)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draws a start; all grass is fresh."""
        super().reset(seed=seed, options=options)
        self.state = self.rules.starts[self.np_random.integers(len(self.rules.starts))]
        return self.observe()

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Moves the walker; the reward is that of the arrival."""
        self.state = self.rules.step(self.state, action)
        observation, info = self.observe()
        return observation, float(info["success"]), bool(info["success"]), False, info

    def facts(self) -> dict[str, Any]:
        """The number of ruined cells, and whether the goal is reached."""
        return {"ruined": self.rules.ruined(self.state), "success": self.rules.ended(self.state)}


@dataclass(frozen=True, eq=False)
class TurfRules:
    """The deterministic world. A state is one integer: the walker's cell + C * (a bit for each ruined cell of grass).

    All methods take one state or an array of any shape.
    """

    grid: Grid
    moves: Numbers  # [C, 5], where each action leads; the goal is never left
    bits: Numbers  # [C], 2^g for the g-th cell of grass, 0 elsewhere
    goal: int
    starts: Numbers

    @property
    def grass(self) -> Numbers:
        """The cells of grass, in the order of their bits."""
        return np.flatnonzero(self.bits)

    @property
    def vector_size(self) -> int:
        """Numbers of a state vector."""
        return sum(self.grid.edges) + len(self.grass)

    def step(self, states: Any, actions: Any) -> Any:
        """The states after the actions."""
        ruined, cell = states // self.grid.cells, states % self.grid.cells
        after = self.moves[cell, actions]
        return after + self.grid.cells * (ruined | (after != cell) * self.bits[cell])

    def arrivals(self, states: Numbers) -> Numbers:
        """The states after every action, [N, 5]."""
        arrivals: Numbers = self.step(states[:, None], np.arange(ACTIONS))
        return arrivals

    def ended(self, states: Any) -> Any:
        """Whether the walker is at the goal."""
        return states % self.grid.cells == self.goal

    def ruined(self, states: Any) -> Any:
        """The number of ruined cells."""
        return np.bitwise_count(states // self.grid.cells)

    def vectors(self, states: Any) -> NDArray[np.float32]:
        """[..., D]: row and column of the walker as one-hot rows, then whether each cell of grass is ruined."""
        states = np.asarray(states)
        cells, ruined = states % self.grid.cells, states // self.grid.cells
        return np.concatenate(
            [self.grid.place_vectors[cells], ruined[..., None] >> self._order & 1], axis=-1, dtype=np.float32
        )

    def numbers(self, vectors: NDArray[Any]) -> Numbers:
        """States [...] of vectors [..., D]: the inverse of ``vectors``."""
        ruined = np.rint(vectors[..., sum(self.grid.edges) :]).astype(np.int64) @ (1 << self._order)
        return np.asarray(self.grid.cell_of(vectors) + self.grid.cells * ruined)

    def drawn(self, state: np.int64, *, size: int) -> NDArray[np.uint8]:
        """The frame of one state, [size, size, 3]."""
        ruined, cell = divmod(state, self.grid.cells)
        ground = self._ground.copy()
        for y, x in self.grid.places[(self.bits & ruined) > 0]:
            ground[y, x] = RUINED
        return drawn(ground, [Mark(self.grid.places[cell], WALKER, 0.32, np.hypot)], size=size)

    @cached_property
    def graph(self) -> StateGraph:
        """All states that can be reached."""
        return StateGraph.explore(self.arrivals, self.starts)

    @cached_property
    def _order(self) -> Numbers:
        return np.arange(len(self.grass))

    @cached_property
    def _ground(self) -> NDArray[np.float64]:
        return np.array([[COLOURS[character] for character in row] for row in self.grid.rows])


@cache
def rules_of(rows: tuple[str, ...]) -> TurfRules:
    """The rules of a layout.

    Raises:
        UserError: if it has not one goal, no start or too much grass.
    """
    grid = Grid.read(rows)
    characters, cells = grid.characters, np.arange(grid.cells)
    goals, starts, grass = (np.flatnonzero(characters == kind) for kind in (GOAL, START, GRASS))
    if len(goals) != 1 or not len(starts) or len(grass) > MOST_GRASS:
        raise UserError(
            f"dataset.environment.layout has {len(goals)} goals (G), {len(starts)} starts (A) and {len(grass)} cells "
            f'of grass ("); allowed: 1 goal, 1 start or more, at most {MOST_GRASS} cells of grass; fix it'
        )
    ahead = grid.neighbours[:-1]
    moves = np.column_stack([cells, np.where(ahead == grid.cells, cells[:, None], ahead)])
    moves[goals] = goals
    bits = np.zeros(grid.cells, np.int64)
    bits[grass] = 1 << np.arange(len(grass))
    return TurfRules(grid, moves, bits, int(goals[0]), starts)


def scripted(environment: Environment, generator: np.random.Generator) -> Policy:
    """Ruins as little grass as possible on the way to the goal, and takes the shortest of these ways."""
    rules: TurfRules = environment.unwrapped.rules  # type: ignore[attr-defined]

    def act(_: Observation, info: Mapping[str, Any]) -> Action:
        ruined, cell = divmod(int(rules.numbers(info["state"])), rules.grid.cells)
        costs = action_costs(rules, ruined)[cell]
        return one_hot(int(generator.choice(np.flatnonzero(costs == costs.min()))), ACTIONS)

    return act


def action_costs(rules: TurfRules, ruined: int) -> NDArray[np.float64]:
    """Steps to the goal by each action, [C, 5], with ``RUIN`` more for each cell of grass that is ruined on the way."""
    leaves = rules.moves != np.arange(rules.grid.cells)[:, None]
    fresh = (rules.bits & ~ruined) > 0
    price = 1 + RUIN * (leaves & fresh[:, None])
    value = np.where(np.arange(rules.grid.cells) == rules.goal, 0.0, np.inf)
    while True:
        costs: NDArray[np.float64] = price + value[rules.moves]
        better = np.minimum(value, costs.min(axis=1))
        if (better == value).all():
            return costs
        value = better
