"""A disc pushes another disc, the block, to a place that it sees as an image.

Contacts have neither friction nor speed: the block moves exactly as far as the agent would overlap it, along the line
between both centres. So a push beside the middle turns the block aside, and a single image shows the whole state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dreamset.environments.plane import (
    COLOURS,
    NEAR,
    THROUGH,
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
    walks,
)
from dreamset.environments.rollouts import Policy
from dreamset.environments.wrappers import Action, Environment

AGENT, BLOCK = 0.1, 0.2  # radii
TOUCH = AGENT + BLOCK  # distance of the centres at contact
AGENT_EDGE, BLOCK_EDGE = 1 - AGENT, 1 - BLOCK  # coordinates of the centres are within these bounds
PLACES = 0.55  # blocks start, and goals are, within +-PLACES, so that every side can be reached
LEAST = 0.4  # least distance of a block and its goal at the start
MOVES = 6  # parts of a step, each far shorter than a radius, so that nothing is passed through
SLIDES = 4  # times that a block is pushed and held by walls in each part, so that it slides along them

ALIGNED = 0.1  # the scripted policy pushes while the block is ahead and at most so far aside
STEER = 6.0  # its correction, per offset
CLEAR = TOUCH + 0.06  # its distance from the block while it goes around
TURN = 0.5  # and the angle of a step of this way
DIRECTIONS = np.linspace(0, 2 * np.pi, 120, endpoint=False)  # that it considers at a wall
STEADY = 0.1  # weight of the agent's place in this choice
SHARES = np.linspace(0.1, 1, 10)  # of a turn, where it looks for walls

ANYWHERE = "anywhere"


def make(
    *,
    image_size: int | None,
    goal: str | Sequence[float] | None = ANYWHERE,
    appearance: Appearance | None = None,
    severity: float = 0.0,
    episode_steps: int = 60,
) -> Environment:
    """The task: a reward of 1 for a block at its goal, which ends the episode. Actions are velocities from -1 to 1.

    Args:
        image_size: edge of the ``image`` observation in pixels, or None for the ``state`` vector alone: the places of
            agent and block. With a goal, ``goal.image`` and ``goal.state`` show both there. The agent is behind the
            block then, but its place does not count.
        goal: ``anywhere`` (a random place of the block), two coordinates, or None for episodes without goal and reward.
        appearance: colours (red, green, blue from 0 to 1) of ``agent``, ``block``, ``wall`` and ``background``, and
            ``size``, a factor on the drawn size of agent and block.
        severity: how much every episode changes this look at random, from 0 to 1; the task is the same.
        episode_steps: steps until the time limit.

    Raises:
        UserError: if a setting is wrong.
    """
    checked_goal(goal, (ANYWHERE,), PLACES)
    world = PlaneWorld(Pushing(goal), image_size=image_size, appearance=appearance, severity=severity)
    return limited(world, episode_steps)


@dataclass(frozen=True)
class Pushing:
    """The rules. A state is the places of both centres: agent, block."""

    goal: str | Sequence[float] | None

    speed: ClassVar[float] = 0.1  # per step, in each direction
    reach: ClassVar[float] = 0.15
    farthest: ClassVar[Vector] = np.repeat([AGENT_EDGE, BLOCK_EDGE], 2)
    colours: ClassVar[Mapping[str, Colour]] = {
        "agent": COLOURS["agent"],
        "block": np.array([0.98, 0.62, 0.2]),
        **COLOURS,
    }

    def begin(self, generator: np.random.Generator) -> tuple[Vector, Vector | None]:
        """Agent and block apart, and a goal that is not near the block."""
        while True:
            agent = generator.uniform(-AGENT_EDGE, AGENT_EDGE, 2)
            block, place = generator.uniform(-PLACES, PLACES, (2, 2))
            if self.goal is not None and not isinstance(self.goal, str):
                place = np.asarray(self.goal, np.float64)
            way = float(np.linalg.norm(place - block))
            if np.linalg.norm(agent - block) > TOUCH and way >= LEAST:
                start = np.concatenate([agent, block])
                behind = place - TOUCH * (place - block) / way
                return start, None if self.goal is None else np.concatenate([behind, place])

    def step(self, state: Vector, action: Vector) -> Vector:
        """Moves the agent, and the block if the agent meets it."""
        agent, block = state[:2], state[2:]
        for _ in range(MOVES):
            agent, block = _moved(agent, block, self.speed / MOVES * action)
        return np.concatenate([agent, block])

    def distance(self, state: Vector, goal: Vector) -> float:
        """How far the block is from its goal; the agent's place does not count."""
        return float(np.linalg.norm(state[2:] - goal[2:]))

    def shapes(self, state: Vector) -> list[Disc | Box]:
        """Walls, block and agent."""
        return [*frame_of_walls("wall"), Disc("block", state[2:], BLOCK), Disc("agent", state[:2], AGENT)]


def _moved(agent: Vector, block: Vector, way: Vector) -> tuple[Vector, Vector]:
    """Agent and block after a short move. The agent slides along a block that walls hold, or else stays."""
    there, pushed = np.clip(agent + way, -AGENT_EDGE, AGENT_EDGE), block
    for _ in range(SLIDES):
        pushed = np.clip(_apart(pushed, there), -BLOCK_EDGE, BLOCK_EDGE)
    there = np.clip(_apart(there, pushed), -AGENT_EDGE, AGENT_EDGE)
    if np.linalg.norm(there - pushed) < TOUCH - NEAR:
        return agent, block
    return there, pushed


def _apart(moving: Vector, fixed: Vector) -> Vector:
    """The place of a centre after it has left the overlap with the other one, along the line between both."""
    way = moving - fixed
    distance = float(np.linalg.norm(way))
    return moving if distance >= TOUCH else fixed + TOUCH / distance * way


def scripted(environment: Environment, generator: np.random.Generator) -> Policy:  # noqa: ARG001
    """Goes around the block to its far side and pushes it to the goal; goes back whenever the push turns aside."""
    return aiming(environment, push, name="pusher.scripted")


def push(state: Vector, goal: Vector) -> Action:
    """The scripted policy's action.

    Args:
        state: places of agent and block, [4].
        goal: the same at the goal; the agent's place is not used.
    """
    agent, block = state[:2], state[2:]
    ahead = _possible(goal[2:] - block, agent, block)
    left = np.array([-ahead[1], ahead[0]])
    aside = float((agent - block) @ left)
    if (agent - block) @ ahead < 0 and abs(aside) < ALIGNED:
        way = ahead - STEER * aside * left
        return toward(way * Pushing.speed / np.abs(way).max(), Pushing.speed)
    return toward(_around(agent, block, -ahead) - agent, Pushing.speed)


def _possible(way: Vector, agent: Vector, block: Vector) -> Vector:
    """The direction of ``way``, unless a wall is behind the block: then the best direction that the agent can push in.

    The agent is smaller than the block. So it fits between wall and block far enough to push the block off the wall.
    Of directions that serve the goal alike, it takes the one whose start is nearer, so that it does not waver.
    """
    ahead = way / max(float(np.linalg.norm(way)), NEAR)
    ways = np.stack([ahead, *_ring(np.zeros(2), DIRECTIONS, 1.0)])
    open_behind = np.abs(block - TOUCH * ways).max(axis=-1) <= AGENT_EDGE + NEAR
    if open_behind[0]:
        return ahead
    nearness = (ways @ (block - agent)) / np.linalg.norm(block - agent)
    best: Vector = ways[np.where(open_behind, ways @ ahead + STEADY * nearness, -np.inf).argmax()]
    return best


def _around(agent: Vector, block: Vector, side: Vector) -> Vector:
    """The next place on the shorter way around the block to its ``side`` that no wall closes."""
    here, there = (np.arctan2(way[1], way[0]) for way in (agent - block, side))
    turn = (there - here + np.pi) % (2 * np.pi) - np.pi
    turns = (turn, turn - np.copysign(2 * np.pi, turn))
    free = [one for one in turns if np.abs(_ring(block, here + one * SHARES, TOUCH)).max() < AGENT_EDGE + NEAR]
    turn = (free or turns)[0]
    return _ring(block, here + np.clip(turn, -TURN, TURN), CLEAR)


def _ring(centre: Vector, angle: Vector, radius: float) -> Vector:
    """Places around a centre, [..., 2]."""
    return centre + radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def wander(
    environment: Environment, generator: np.random.Generator, *, meetings: float = 0.5, longest_hold: int = 12
) -> Policy:
    """Random walks that meet the block, which independent random actions seldom do.

    Args:
        environment: the pusher after its reset.
        generator: of the episode.
        meetings: share of the walks that lead to the block and on through it; the others lead to random places.
        longest_hold: longest time in steps of a walk; the minimum is 1.
    """

    def drawn(agent: Vector, block: Vector) -> Vector:
        place = generator.uniform(-AGENT_EDGE, AGENT_EDGE, 2)
        met = block + generator.uniform(-TOUCH, TOUCH, 2)
        return agent + THROUGH * (met - agent) if generator.random() < meetings else place

    def move(agent: Vector, target: Vector) -> Action:
        return toward(target - agent, environment.unwrapped.rules.speed)  # type: ignore[attr-defined]

    return walks(drawn, move, generator, longest_hold=longest_hold)
