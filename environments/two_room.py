"""Two rooms with a door between them: a point moves to a goal that it sees as an image.

The agent has no speed, so a single image shows the whole state. Distances are those of the shortest way through the
door.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from dreamset.core.errors import UserError
from dreamset.environments.plane import (
    COLOURS,
    NEAR,
    Appearance,
    Box,
    Colour,
    Disc,
    PlaneWorld,
    Vector,
    aiming,
    checked_goal,
    frame_of_walls,
    limited,
    toward,
)
from dreamset.environments.rollouts import Policy
from dreamset.environments.wrappers import Action, Environment

AGENT = 0.1  # radius
EDGE = 1 - AGENT  # coordinates of the agent's centre are within +-EDGE
WALL = 0.05 + AGENT  # half of the thickness of the wall at x = 0, for the agent's centre
OPENING = 0.3 - AGENT  # half of the door's width, for the agent's centre
FARTHEST_DOOR = EDGE - OPENING
LEAST = 0.4  # least distance of start and goal
MARGIN = 0.05  # distance that the scripted policy keeps from the corners of the door

OTHER_ROOM, ANYWHERE = "other_room", "anywhere"


def make(
    *,
    image_size: int | None,
    goal: str | Sequence[float] | None = OTHER_ROOM,
    door: float | None = 0.5,
    appearance: Appearance | None = None,
    severity: float = 0.0,
    episode_steps: int = 50,
) -> Environment:
    """The task: a reward of 1 at the goal, which ends the episode. Actions are velocities from -1 to 1.

    Args:
        image_size: edge of the ``image`` observation in pixels, or None for the ``state`` vector alone: the place of
            the agent and, if doors are random, the height of the door. With a goal, ``goal.image`` and ``goal.state``
            show both there.
        goal: ``other_room`` (start and goal at random in different rooms), ``anywhere``, two coordinates, or None for
            episodes without goal and reward.
        door: height of the door's centre, or None for another one in every episode.
        appearance: colours (red, green, blue from 0 to 1) of ``agent``, ``wall`` and ``background``, and ``size``, a
            factor on the drawn size of the agent.
        severity: how much every episode changes this look at random, from 0 to 1; the task is the same.
        episode_steps: steps until the time limit.

    Raises:
        UserError: if a setting is wrong.
    """
    checked_goal(goal, (OTHER_ROOM, ANYWHERE), EDGE)
    if not isinstance(goal, str | None) and abs(goal[0]) < WALL:
        raise UserError(
            f"dataset.environment.goal is {list(goal)}, in the wall; allowed: |x| of {WALL} or more; fix it"
        )
    if door is not None and abs(door) > FARTHEST_DOOR:
        raise UserError(
            f"dataset.environment.door is {door}; allowed: -{FARTHEST_DOOR:g} to {FARTHEST_DOOR:g}, or null; fix it"
        )
    world = PlaneWorld(TwoRooms(goal, door), image_size=image_size, appearance=appearance, severity=severity)
    return limited(world, episode_steps)


@dataclass(frozen=True)
class TwoRooms:
    """The rules. A state is the place of the agent's centre and, if doors are random, the height of the door."""

    goal: str | Sequence[float] | None
    door: float | None

    speed: ClassVar[float] = 0.08  # per step, in each direction
    reach: ClassVar[float] = 0.15
    colours: ClassVar[Mapping[str, Colour]] = COLOURS

    @property
    def farthest(self) -> Vector:
        """The largest absolute value of each number of a state."""
        return np.array([EDGE, EDGE] if self.door is not None else [EDGE, EDGE, FARTHEST_DOOR])

    def begin(self, generator: np.random.Generator) -> tuple[Vector, Vector | None]:
        """A start and a goal that is not near it."""
        door = np.array([] if self.door is not None else [generator.uniform(-FARTHEST_DOOR, FARTHEST_DOOR)])
        while True:
            start, other = (np.concatenate([_place(generator), door]) for _ in range(2))
            if self.goal is None:
                return start, None
            if self.goal == OTHER_ROOM:
                other[0] = -np.sign(start[0]) * abs(other[0])
            elif not isinstance(self.goal, str):
                other[:2] = self.goal
            if self.distance(start, other) >= LEAST:
                return start, other

    def step(self, state: Vector, action: Vector) -> Vector:
        """Moves across, then up or down, each until a wall."""
        (x, y), door = state[:2], self._door(state)
        across, up = self.speed * action
        passing = abs(x) < WALL or abs(y - door) <= OPENING
        room = (-EDGE, EDGE) if passing else (WALL, EDGE) if x > 0 else (-EDGE, -WALL)
        x = np.clip(x + across, *room)
        low, high = (door - OPENING, door + OPENING) if abs(x) < WALL else (-EDGE, EDGE)
        return np.array([x, np.clip(y + up, low, high), *state[2:]])

    def distance(self, state: Vector, goal: Vector) -> float:
        """The length of the shortest way."""
        way = shortest_way(state[:2], goal[:2], self._door(state))
        return float(sum(np.linalg.norm(there - here) for here, there in pairwise(way)))

    def shapes(self, state: Vector) -> list[Disc | Box]:
        """Walls and agent; they touch where the agent cannot go on."""
        door, half, open_half = self._door(state), WALL - AGENT, OPENING + AGENT
        below = Box("wall", (-half, -1), (half, door - open_half))
        above = Box("wall", (-half, door + open_half), (half, 1))
        return [*frame_of_walls("wall"), below, above, Disc("agent", state[:2], AGENT)]

    def _door(self, state: Vector) -> float:
        return float(state[2]) if self.door is None else self.door


def _place(generator: np.random.Generator) -> Vector:
    """A random place in one of the rooms."""
    side = generator.choice([-1.0, 1.0])
    return np.array([side * generator.uniform(WALL, EDGE), generator.uniform(-EDGE, EDGE)])


def shortest_way(start: Vector, goal: Vector, door: float, *, opening: float = OPENING) -> list[Vector]:
    """The points of the shortest way: start, corners of the door, goal.

    Args:
        start: a place, [2].
        goal: another place, [2].
        door: height of the door's centre.
        opening: half of the width that the way may use.
    """
    if start[0] > goal[0]:
        return shortest_way(goal, start, door, opening=opening)[::-1]
    left, right = ([np.array([x, y]) for y in (door - opening, door + opening)] for x in (-WALL, WALL))
    ways = [[start, goal]]
    ways += [[start, corner, goal] for corner in (*left, *right)]
    ways += [[start, first, second, goal] for first in left for second in right]
    clear = [way for way in ways if all(_is_clear(*leg, door, opening) for leg in pairwise(way))]
    return min(clear, key=lambda way: sum(np.linalg.norm(there - here) for here, there in pairwise(way)))


def _is_clear(one: Vector, other: Vector, door: float, opening: float) -> bool:
    """Whether the straight line between two places enters and leaves the wall within the door."""
    left, right = (one, other) if one[0] <= other[0] else (other, one)
    crossed = [-WALL] * bool(left[0] <= -WALL < right[0]) + [WALL] * bool(left[0] < WALL <= right[0])
    shares = ((face - left[0]) / (right[0] - left[0]) for face in crossed)
    heights = (left[1] + share * (right[1] - left[1]) for share in shares)
    return all(abs(height - door) <= opening + NEAR for height in heights)


def scripted(environment: Environment, generator: np.random.Generator) -> Policy:  # noqa: ARG001
    """Takes the shortest way at full speed, a little away from the corners of the door."""
    rules: TwoRooms = environment.unwrapped.rules  # type: ignore[attr-defined]

    def law(state: Vector, goal: Vector) -> Action:
        way = shortest_way(state[:2], goal[:2], rules._door(state), opening=OPENING - MARGIN)
        ahead = [point - state[:2] for point in way[1:]]
        return toward(next((leg for leg in ahead if np.abs(leg).max() > NEAR), ahead[-1]), rules.speed)

    return aiming(environment, law, name="two_room.scripted")
