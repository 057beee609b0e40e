"""Worlds in a plane: goals that are observed, frames drawn by NumPy, and looks that vary from episode to episode."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.core.spec import GOAL_PREFIX
from dreamset.environments.rollouts import Policy
from dreamset.environments.wrappers import Action, Environment, Observation

VIEW = 1.1  # frames show -VIEW to VIEW in both directions; worlds reach from -1 to 1
VIDEO_SIZE = 128  # pixels of frames that are not observations
SMALLEST = 16  # pixels of a frame's edge
BACKGROUND = "background"
SIZE = "size"
GROWTH = 0.4  # largest change of sizes at severity 1
APART = 0.4  # least distance between any two drawn colours, so that everything stays visible
NEAR = 1e-6
THROUGH = 3.0  # a random walk to a block leads on to three times its way

Vector = NDArray[np.floating[Any]]
Colour = NDArray[np.float64]  # red, green and blue from 0 to 1
Appearance = Mapping[str, Sequence[float] | float]  # colours by name, and the size

COLOURS: Mapping[str, Colour] = {  # of what every world has
    "agent": np.array([0.13, 0.34, 0.68]),
    "wall": np.array([0.25, 0.25, 0.28]),
    BACKGROUND: np.array([0.96, 0.94, 0.9]),
}


@dataclass(frozen=True, slots=True)
class Disc:
    """A disc that moves; looks change its size."""

    name: str  # of its colour
    centre: Vector
    radius: float

    def covered(self, x: Vector, y: Vector, pixel: float, size: float) -> Vector:
        """The share of each pixel that it covers, [H, W]; about right at the edge."""
        distance = np.hypot(x - self.centre[0], y[:, None] - self.centre[1])
        covered: Vector = np.clip((size * self.radius - distance) / pixel + 0.5, 0, 1)
        return covered


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with its lower left and its upper right corner."""

    name: str
    low: Sequence[float]
    high: Sequence[float]

    def covered(self, x: Vector, y: Vector, pixel: float, size: float) -> Vector:  # noqa: ARG002 - walls keep their size
        """The share of each pixel that it covers, [H, W]."""
        across, up = (
            np.clip(np.minimum(places + pixel / 2, high) - np.maximum(places - pixel / 2, low), 0, None) / pixel
            for places, low, high in zip((x, y), self.low, self.high, strict=True)
        )
        covered: Vector = up[:, None] * across
        return covered


@dataclass(frozen=True, slots=True)
class Look:
    """How a world appears. It changes nothing that happens there."""

    colours: Mapping[str, Colour]
    size: float = 1.0  # factor on the radius of discs

    def changed(self, appearance: Appearance) -> "Look":
        """This look with other colours or another size.

        Raises:
            UserError: if a name is unknown or a value is wrong.
        """
        colours, size = dict(self.colours), self.size
        for name, value in appearance.items():
            if name == SIZE:
                size = _checked_size(value)
            elif name in colours:
                colours[name] = _checked_colour(name, value)
            else:
                raise UserError(
                    f"dataset.environment.appearance has {name!r}; allowed: {', '.join([*colours, SIZE])}; fix it"
                )
        return Look(colours, size)

    def varied(self, severity: float, generator: np.random.Generator) -> "Look":
        """A look between this one (severity 0) and a random one (severity 1)."""
        others = _palette(len(self.colours), generator)
        growth = GROWTH * generator.uniform(-1, 1)
        colours = {
            name: (1 - severity) * colour + severity * other
            for (name, colour), other in zip(self.colours.items(), others, strict=True)
        }
        return Look(colours, self.size * (1 + severity * growth))


def _palette(count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Random colours that differ, [count, 3]."""
    while True:
        colours = generator.random((count, 3))
        if all(np.linalg.norm(one - other) >= APART for one, other in combinations(colours, 2)):
            return colours


def _checked_size(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 < value <= 2:
        raise UserError(f"dataset.environment.appearance.size is {value}; allowed: a factor above 0, at most 2; fix it")
    return float(value)


def _checked_colour(name: str, value: Any) -> Colour:
    colour = np.asarray(value, np.float64)
    if colour.shape != (3,) or not ((colour >= 0) & (colour <= 1)).all():
        raise UserError(
            f"dataset.environment.appearance.{name} is {value}; allowed: red, green and blue from 0 to 1; fix it"
        )
    return colour


def drawn(shapes: Sequence[Disc | Box], look: Look, *, size: int) -> NDArray[np.uint8]:
    """Antialiased shapes on the background, [size, size, 3]; later shapes cover earlier ones."""
    pixel = 2 * VIEW / size
    across = (np.arange(size) + 0.5) * pixel - VIEW
    image = np.broadcast_to(look.colours[BACKGROUND], (size, size, 3)).copy()
    for shape in shapes:
        covered = shape.covered(across, -across, pixel, look.size)[..., None]  # x to the right, y upwards
        image += covered * (look.colours[shape.name] - image)
    return np.rint(255 * image).astype(np.uint8)


def frame_of_walls(name: str) -> list[Box]:
    """The walls around a world from -1 to 1, to the edge of the frame."""
    return [
        Box(name, (-VIEW, -VIEW), (-1, VIEW)),
        Box(name, (1, -VIEW), (VIEW, VIEW)),
        Box(name, (-1, -VIEW), (1, -1)),
        Box(name, (-1, 1), (1, VIEW)),
    ]


class Rules(Protocol):
    """A deterministic world whose states are vectors. The first two numbers are the place of the agent."""

    @property
    def farthest(self) -> Vector:
        """The largest absolute value of each number of a state."""

    @property
    def colours(self) -> Mapping[str, Colour]:
        """The plain colours by name, one of them ``background``."""

    @property
    def speed(self) -> float:
        """Length of a full action, in each direction."""

    @property
    def reach(self) -> float:
        """The goal is reached at a smaller distance."""

    @property
    def goal(self) -> str | Sequence[float] | None:
        """How goals are drawn; None: episodes have none."""

    def begin(self, generator: np.random.Generator) -> tuple[Vector, Vector | None]:
        """The state at the start of an episode, and the state at its goal."""

    def step(self, state: Vector, action: Vector) -> Vector:
        """The state after an action, two numbers from -1 to 1."""

    def distance(self, state: Vector, goal: Vector) -> float:
        """How far a state is from the goal."""

    def shapes(self, state: Vector) -> Sequence[Disc | Box]:
        """What is seen of a state."""


class PlaneWorld(gymnasium.Env[Observation, Action]):
    """Observes the ``state`` vector and, if it has a size, the ``image``.

    With a goal it also observes what both would be there, ``goal.state`` and ``goal.image``. The reward is 1 on
    reaching the goal, which ends the episode, and 0 before. ``info`` has the true ``state`` and, with a goal, the
    ``distance`` to it and ``is_success``. Equal seeds give equal starts and goals at every severity.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012 - Gymnasium's own form
    render_mode = "rgb_array"

    def __init__(
        self, rules: Rules, *, image_size: int | None, appearance: Appearance | None = None, severity: float = 0.0
    ) -> None:
        if image_size is not None and image_size < SMALLEST:
            raise UserError(
                f"dataset.environment.image_size is {image_size}; allowed: {SMALLEST} or more, or null for the state "
                "vector alone; fix it"
            )
        if not 0 <= severity <= 1:
            raise UserError(f"dataset.environment.severity is {severity}; allowed: 0 to 1; fix it")
        self.rules = rules
        self.image_size = image_size
        self.severity = severity
        self.plain = Look(rules.colours).changed(appearance or {})
        self.look = self.plain
        farthest = rules.farthest.astype(np.float32)
        self.state: Vector = np.zeros(len(farthest))
        self.goal: Vector | None = None
        self._at_goal: Observation = {}
        named: dict[str, spaces.Space[Any]] = {"state": spaces.Box(-farthest, farthest, dtype=np.float32)}
        if image_size is not None:
            named["image"] = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        goals = {GOAL_PREFIX + name: space for name, space in named.items()} if rules.goal is not None else {}
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space: spaces.Space[Any] = spaces.Dict(named | goals)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draws a start, a goal and a look."""
        super().reset(seed=seed, options=options)
        self.state, self.goal = self.rules.begin(self.np_random)
        self.look = self.plain.varied(self.severity, np.random.default_rng(self.np_random.integers(2**32)))
        if self.goal is not None:
            self._at_goal = {GOAL_PREFIX + name: seen for name, seen in self._seen(self.goal).items()}
        return self._observation(), self._info()

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Moves the agent; the reward is that of the arrival."""
        self.state = self.rules.step(self.state, np.clip(np.asarray(action, np.float64), -1, 1))
        info = self._info()
        reached = bool(info.get("is_success", False))
        return self._observation(), float(reached), reached, False, info

    def render(self) -> NDArray[np.uint8]:
        """The world from above, [128, 128, 3]."""
        return drawn(self.rules.shapes(self.state), self.look, size=VIDEO_SIZE)

    def _observation(self) -> Observation:
        return {**self._seen(self.state), **{name: seen.copy() for name, seen in self._at_goal.items()}}

    def _seen(self, state: Vector) -> Observation:
        seen: Observation = {"state": state.astype(np.float32)}
        if self.image_size is not None:
            seen["image"] = drawn(self.rules.shapes(state), self.look, size=self.image_size)
        return seen

    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = {"state": self.state.astype(np.float32)}
        if self.goal is not None:
            distance = self.rules.distance(self.state, self.goal)
            info |= {"distance": distance, "is_success": distance < self.rules.reach}
        return info


def limited(world: PlaneWorld, episode_steps: int) -> Environment:
    """The world with a time limit, which is the budget for its goal."""
    return TimeLimit(world, max_episode_steps=episode_steps)


def toward(way: Vector, speed: float) -> Action:
    """The action that covers ``way`` as fast as possible without overshooting."""
    action: Action = (way / max(speed, float(np.abs(way).max()))).astype(np.float32)
    return action


def aiming(environment: Environment, law: Callable[[Vector, Vector], Action], *, name: str) -> Policy:
    """A policy that knows the true state and the goal.

    Args:
        environment: a ``PlaneWorld`` after its reset, perhaps wrapped.
        law: (state, state at the goal) -> action.
        name: of the policy, for the message.

    Raises:
        UserError: if the episode has no goal.
    """
    goal: Vector | None = environment.unwrapped.goal  # type: ignore[attr-defined]
    if goal is None:
        raise UserError(f"{name} needs a goal, but dataset.environment.goal is null; set it, or choose another policy")
    return lambda _, info: law(info["state"].astype(np.float64), goal)


def straight(environment: Environment, generator: np.random.Generator) -> Policy:  # noqa: ARG001
    """Moves the agent straight to its place at the goal, whatever is in the way: a baseline."""
    speed = float(environment.unwrapped.rules.speed)  # type: ignore[attr-defined]
    return aiming(environment, lambda state, goal: toward(goal[:2] - state[:2], speed), name="straight")


def walks(
    draw: Callable[[Vector, Vector], Vector],
    move: Callable[[Vector, Vector], Action],
    generator: np.random.Generator,
    *,
    longest_hold: int,
) -> Policy:
    """Random walks in a world whose true state begins with the places of the agent and of a block.

    Args:
        draw: (agent, block) -> where a walk leads to.
        move: (agent, where its walk leads to) -> action.
        generator: of the episode.
        longest_hold: longest time in steps of a walk; the minimum is 1.
    """
    left = 0
    target: Vector = np.zeros(2)

    def act(_: Observation, info: Mapping[str, Any]) -> Action:
        nonlocal left, target
        agent, block = np.asarray(info["state"][:4], np.float64).reshape(2, 2)
        if left == 0:
            left = int(generator.integers(1, longest_hold + 1))
            target = draw(agent, block)
        left -= 1
        return move(agent, target)

    return act


def checked_goal(goal: str | Sequence[float] | None, known: Sequence[str], farthest: float) -> None:
    """Checks the setting ``goal``.

    Raises:
        UserError: if it is neither a known name, nor two coordinates within ``farthest``, nor None.
    """
    if goal is None or (isinstance(goal, str) and goal in known):
        return
    if isinstance(goal, str) or len(goal) != 2 or max(map(abs, goal)) > farthest:
        given = repr(goal) if isinstance(goal, str) else list(goal)
        raise UserError(
            f"dataset.environment.goal is {given}; allowed: {', '.join(known)}, two coordinates from -{farthest:g} to "
            f"{farthest:g}, or null for no goal; fix it"
        )
