"""A push puzzle by the rules of Sokoban: boxes are pushed onto targets, never pulled, and can get stuck for good.

Like ``puck`` it needs no download and no graphics driver. It is small enough to say exactly which actions are
reversible and which puzzles can still be solved: ``environment.unwrapped.rules``.
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

# The characters of Sokoban's collections of puzzles.
FLOOR, TARGET, BOX, BOX_ON_TARGET, PUSHER, PUSHER_ON_TARGET = " ", ".", "$", "*", "@", "+"
ALLOWED = FLOOR + WALL + TARGET + BOX + BOX_ON_TARGET + PUSHER + PUSHER_ON_TARGET
UP, RIGHT, DOWN, LEFT = range(4)  # actions
ACTIONS = 4
MOST_BOXES = 2  # all states are in one table

LAYOUTS = {
    "room": (
        "########",
        "#      #",
        "# #    #",
        "#   .  #",
        "#  $   #",
        "#    # #",
        "#@     #",
        "########",
    ),
    "wall": (  # the box is at the wall for good, and so is its target
        "########",
        "#  $ . #",
        "#      #",
        "#  ##  #",
        "#@     #",
        "########",
    ),
    "two_boxes": (
        "########",
        "#      #",
        "# . #  #",
        "#  $   #",
        "#   $  #",
        "#  # . #",
        "#@     #",
        "########",
    ),
}
GROUND = np.array([0.93, 0.9, 0.84])
GOAL = np.array([0.98, 0.62, 0.2])
CRATE = np.array([0.55, 0.36, 0.2])
HOME = np.array([0.35, 0.68, 0.3])  # a box on a target
WALKER = np.array([0.13, 0.34, 0.68])


def make(
    *,
    image_size: int | None,
    layout: int | str | Sequence[str] = "room",
    random_start: bool = True,
    episode_steps: int = 60,
) -> Environment:
    """The task: a reward of 1 for a box that is pushed onto a target, -1 for one off it; the end when all are on one.

    Actions are one-hot rows: up, right, down, left. Nothing happens at a wall, or at a box that cannot move.

    Args:
        image_size: edge of the ``image`` observation in pixels, or None for the ``state`` vector (row and column of the
            pusher as one-hot rows, then whether a box is on each cell).
        layout: a name in ``LAYOUTS``, the seed of a random puzzle (see ``generated``), or rows of characters as in
            Sokoban's collections: space (floor), ``#`` (wall), ``.`` (target), ``$`` (box), ``*`` (box on a target),
            ``@`` (pusher), ``+`` (pusher on a target).
        random_start: whether episodes start in any state that can be solved and is not, instead of that of the layout.
        episode_steps: steps until the time limit.

    Raises:
        UserError: if the layout or the size of images is wrong, or if the puzzle cannot be solved.
    """
    rows = generated(layout) if isinstance(layout, int) else checked_layout(layout, LAYOUTS, ALLOWED)
    environment = Push(rows, image_size, random_start=random_start)
    return TimeLimit(adapt_actions(environment, "push puzzle"), max_episode_steps=episode_steps)


class Push(GridWorld):
    """The puzzle; ``info`` has the true state, whether it is solved and whether it cannot be solved any more."""

    def __init__(self, rows: tuple[str, ...], image_size: int | None = None, *, random_start: bool = True) -> None:
        self.rules = rules = rules_of(rows)
        self.starts = rules.solvable_starts if random_start else np.array([rules.start])
        if not rules.solvable(self.starts).all() or not self.starts.size:
            raise UserError("dataset.environment.layout cannot be solved; move a box, a target or a wall")
        super().__init__(rules, rules.start, actions=ACTIONS, image_size=image_size)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draws a start."""
        super().reset(seed=seed, options=options)
        self.state = self.starts[self.np_random.integers(len(self.starts))]
        return self.observe()

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Moves the pusher and the box ahead; the reward is the number of boxes that this brings onto targets."""
        before = self.rules.at_home[self.state]
        self.state = self.rules.table[self.state, action]
        observation, info = self.observe()
        reward = float(self.rules.at_home[self.state] - before)
        return observation, reward, bool(info["success"]), False, info

    def facts(self) -> dict[str, Any]:
        """Whether the puzzle is solved, and whether it cannot be solved any more."""
        return {"success": self.rules.ended(self.state), "deadlocked": not self.rules.solvable(self.state)}


@dataclass(frozen=True, eq=False)
class PushRules:
    """The deterministic world. A state is one integer, base C: the pusher's cell, then those of the boxes, ascending.

    Tables have an entry for each of the C^(1 + boxes) integers, also for those that are no state.
    """

    grid: Grid
    targets: NDArray[np.bool_]  # [C]
    boxes: int
    start: int

    @property
    def vector_size(self) -> int:
        """Numbers of a state vector."""
        return sum(self.grid.edges) + self.grid.cells

    @cached_property
    def table(self) -> Numbers:
        """The state after every action in every state, [C^(1 + boxes), 4]."""
        pusher, boxes = self.cells(np.arange(self.grid.cells ** (1 + self.boxes))[:, None])
        ahead = self.grid.neighbours[pusher, np.arange(ACTIONS)]
        behind = self.grid.neighbours[ahead, np.arange(ACTIONS)]
        pushed = boxes == ahead[..., None]
        onto = (behind == self.grid.cells) | (boxes == behind[..., None]).any(-1)
        stuck = (ahead == self.grid.cells) | (pushed.any(-1) & onto) | self.targets[boxes].all(-1)
        moved = np.where(pushed & ~stuck[..., None], behind[..., None], boxes)
        return self.number(np.where(stuck, pusher, ahead), moved)

    @cached_property
    def at_home(self) -> Numbers:
        """The number of boxes on targets, [C^(1 + boxes)]."""
        return np.asarray(self.targets[self.cells(np.arange(len(self.table)))[1]].sum(-1))

    @cached_property
    def steps_to_solution(self) -> NDArray[np.float64]:
        """The least number of actions that solve each state, [C^(1 + boxes)]; infinite if it is deadlocked."""
        steps = np.full(len(self.table), np.inf)
        steps[self.graph.states] = self.graph.steps_to(self.ended(self.graph.states))
        return steps

    @cached_property
    def graph(self) -> StateGraph:
        """All states: every placement of pusher and boxes on cells of their own."""
        numbers = np.arange(len(self.table))
        pusher, boxes = self.cells(numbers)
        apart = (boxes != pusher[:, None]).all(-1) & (np.diff(boxes, axis=-1) > 0).all(-1)
        return StateGraph.explore(self.arrivals, numbers[apart])

    @cached_property
    def solvable_starts(self) -> Numbers:
        """All states that can be solved and are not."""
        states = self.graph.states
        return np.asarray(states[self.solvable(states) & ~self.ended(states)])

    def arrivals(self, states: Numbers) -> Numbers:
        """The states after every action, [N, 4]."""
        return self.table[states]

    def ended(self, states: Any) -> Any:
        """Whether every box is on a target."""
        return self.at_home[states] == self.boxes

    def solvable(self, states: Any) -> Any:
        """Whether some sequence of actions solves the puzzle; otherwise it is deadlocked."""
        return np.isfinite(self.steps_to_solution[states])

    def cells(self, states: Any) -> tuple[Any, Any]:
        """The pusher's cell [...] and those of the boxes [..., boxes]."""
        powers = self.grid.cells ** np.arange(1, 1 + self.boxes)
        return states % self.grid.cells, np.asarray(states)[..., None] // powers % self.grid.cells

    def number(self, pusher: Any, boxes: NDArray[Any]) -> Numbers:
        """The state [...] with the pusher and the boxes [..., boxes] on these cells."""
        powers = self.grid.cells ** np.arange(1, 1 + self.boxes)
        return np.asarray(pusher + np.sort(boxes, axis=-1) @ powers)

    def vectors(self, states: Any) -> NDArray[np.float32]:
        """[..., D]: row and column of the pusher as one-hot rows, then whether a box is on each cell."""
        pusher, boxes = self.cells(states)
        occupied = (boxes[..., None] == np.arange(self.grid.cells)).any(-2)
        return np.concatenate([self.grid.place_vectors[pusher], occupied], axis=-1, dtype=np.float32)

    def numbers(self, vectors: NDArray[Any]) -> Numbers:
        """States [...] of vectors [..., D]: the inverse of ``vectors``."""
        boxes = np.argsort(-vectors[..., sum(self.grid.edges) :], axis=-1, kind="stable")[..., : self.boxes]
        return self.number(self.grid.cell_of(vectors), boxes)

    def drawn(self, state: np.int64, *, size: int) -> NDArray[np.uint8]:
        """The frame of one state, [size, size, 3]."""
        pusher, boxes = self.cells(state)
        places = self.grid.places
        marks = [Mark(places[cell], GOAL, 0.22, np.maximum) for cell in np.flatnonzero(self.targets)]
        marks += [Mark(places[cell], HOME if self.targets[cell] else CRATE, 0.4, np.maximum) for cell in boxes]
        return drawn(self._ground, [*marks, Mark(places[pusher], WALKER, 0.34, np.hypot)], size=size)

    @cached_property
    def _ground(self) -> NDArray[np.float64]:
        return np.array([[PAPER if character == WALL else GROUND for character in row] for row in self.grid.rows])


@cache
def rules_of(rows: tuple[str, ...]) -> PushRules:
    """The rules of a layout.

    Raises:
        UserError: if it has not one pusher, or not as many boxes as targets, or too many.
    """
    grid = Grid.read(rows)
    characters = grid.characters
    boxes, targets, pushers = (
        np.isin(characters, kinds)
        for kinds in ([BOX, BOX_ON_TARGET], [TARGET, BOX_ON_TARGET, PUSHER_ON_TARGET], [PUSHER, PUSHER_ON_TARGET])
    )
    if pushers.sum() != 1 or not boxes.sum() == targets.sum() or not 1 <= boxes.sum() <= MOST_BOXES:
        raise UserError(
            f"dataset.environment.layout has {pushers.sum()} pushers (@), {boxes.sum()} boxes ($) and {targets.sum()} "
            f"targets (.); allowed: 1 pusher, and 1 to {MOST_BOXES} boxes with as many targets; fix it"
        )
    without_start = PushRules(grid, targets, int(boxes.sum()), 0)
    start = without_start.number(np.flatnonzero(pushers)[0], np.flatnonzero(boxes))
    return PushRules(grid, targets, int(boxes.sum()), int(start))


def generated(seed: int, *, size: int = 6, boxes: int = 1, walls: int = 3) -> tuple[str, ...]:
    """A random puzzle that can be solved, but not in a few steps.

    Args:
        seed: of the draws.
        size: edge of the room inside its outer walls.
        boxes: their number.
        walls: cells of wall in the room; fewer if no such room can be solved.
    """
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(size * size)
        inside = np.full(size * size, FLOOR)
        inside[order[:walls]] = WALL
        inside[order[walls : walls + boxes]] = TARGET
        inside[order[walls + boxes : walls + 2 * boxes]] = BOX  # any: the start is drawn below
        inside[order[walls + 2 * boxes]] = PUSHER
        rules = rules_of(_walled(inside.reshape(size, size)))
        steps = rules.steps_to_solution[rules.solvable_starts]
        far = rules.solvable_starts[steps >= np.median(steps)] if steps.size else steps
        if far.size:
            return _with_start(rules, far[generator.integers(far.size)])
        walls = max(walls - 1, 0)


def _walled(inside: NDArray[np.str_]) -> tuple[str, ...]:
    return tuple("".join(row) for row in np.pad(inside, 1, constant_values=WALL))


def _with_start(rules: PushRules, state: np.int64) -> tuple[str, ...]:
    """The layout with another start."""
    pusher, boxes = rules.cells(state)
    rows = [list(row) for row in rules.grid.rows]
    for cell, (y, x) in enumerate(rules.grid.places):
        empty, box, own = (TARGET, BOX_ON_TARGET, PUSHER_ON_TARGET) if rules.targets[cell] else (FLOOR, BOX, PUSHER)
        rows[y][x] = own if cell == pusher else box if cell in boxes else empty
    return tuple("".join(row) for row in rows)


def scripted(environment: Environment, generator: np.random.Generator) -> Policy:
    """The fewest steps to the solution; any action once the puzzle is deadlocked."""
    rules: PushRules = environment.unwrapped.rules  # type: ignore[attr-defined]

    def act(_: Observation, info: Mapping[str, Any]) -> Action:
        steps = rules.steps_to_solution[rules.table[rules.numbers(info["state"])]]
        return one_hot(int(generator.choice(np.flatnonzero(steps == steps.min()))), ACTIONS)

    return act
