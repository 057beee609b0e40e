"""PushT: a disc pushes a T-shaped block to a pose that is seen as an image, in gym-pusht."""

from collections.abc import Mapping
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from dreamset.core.spec import GOAL_PREFIX
from dreamset.environments.gym import adapt, base
from dreamset.environments.plane import THROUGH, Vector, walks
from dreamset.environments.rollouts import Policy
from dreamset.environments.suites import require
from dreamset.environments.wrappers import Action, Environment, Observation

ID = "gym_pusht/PushT-v0"
VIDEO_SIZE = 128  # for frames that are not observations
EDGE = 512.0  # the world reaches from 0 to EDGE
AT_GOAL = (140.0, 372.0)  # place of the agent in the image of the goal, beside the block; it does not count
STRIDE = 40.0  # longest move of the random policy in one step, in each direction


def make(*, image_size: int | None = 96, episode_steps: int = 300) -> Environment:
    """The task: a reward of 1 when the block covers 95 % of its goal, which ends the episode.

    Actions are places from 0 to 512 that the agent makes for. ``info["distance"]`` is the share of the goal that the
    block does not cover.

    Args:
        image_size: edge of the ``image`` observation in pixels, or None for the ``state`` vector alone: the places of
            agent and block, and the block's angle. ``goal.image`` and ``goal.state`` show both at the goal.
        episode_steps: steps until the time limit.

    Raises:
        UserError: if the package is missing or a number is too small.
    """
    require("gym_pusht", extra="pusht")
    size = image_size or VIDEO_SIZE
    env = Frames(base(ID, {"observation_width": size, "observation_height": size}, own_limit=False))
    observations = ["state"] if image_size is None else ["state", "image"]
    adapted = adapt(env, ID, image_size=image_size, observations=observations, infos=["is_success", "coverage"])
    return TimeLimit(BlockAtGoal(adapted), max_episode_steps=episode_steps)


class Frames(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Renders what a model observes. The package's own frames also show the last action, as a red cross."""

    def render(self) -> Any:
        """A frame of the size of observations."""
        return self.unwrapped._render()  # type: ignore[attr-defined]


class BlockAtGoal(gymnasium.Wrapper[Any, Action, Any, Action]):
    """Observes the goal, and rewards success only."""

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        named = dict(env.observation_space.spaces)
        self.observation_space = spaces.Dict(named | {GOAL_PREFIX + name: space for name, space in named.items()})
        self._at_goal: Observation = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The first observation."""
        observation, info = self.env.reset(seed=seed, options=options)
        if not self._at_goal:
            self._at_goal = self._seen_at_goal(observation)
            observation, info = self.env.reset(seed=seed, options=options)  # the block was moved
        return self._with_goal(observation), self._informed(info)

    def step(self, action: Action) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step; the reward is that of the arrival."""
        observation, _, terminated, truncated, info = self.env.step(action)
        informed = self._informed(info)
        return self._with_goal(observation), float(informed["is_success"]), terminated, truncated, informed

    def _seen_at_goal(self, names: Mapping[str, Any]) -> Observation:
        """What would be observed with the block at its goal."""
        world: Any = self.unwrapped
        world.block.angle = world.goal_pose[2]  # before the place: a rotation also moves the block
        world.block.position = world.goal_pose[:2].tolist()
        world.agent.position = AT_GOAL
        for body in (world.block, world.agent):
            world.space.reindex_shapes_for_body(body)  # frames show the shapes, which otherwise move at the next step
        seen = {"state": np.asarray(world.get_obs(), np.float32)}
        if "image" in names:
            seen["image"] = np.asarray(world._render(), np.uint8)
        return {GOAL_PREFIX + name: value for name, value in seen.items()}

    def _with_goal(self, observation: Observation) -> Observation:
        return {**observation, **{name: value.copy() for name, value in self._at_goal.items()}}

    def _informed(self, info: Mapping[str, Any]) -> dict[str, Any]:
        coverage = info["coverage"] if "coverage" in info else self.unwrapped._get_coverage()  # type: ignore[attr-defined]
        return {
            "state": info["state"],
            "distance": 1.0 - float(coverage),
            "is_success": bool(info.get("is_success", False)),
        }


def wander(
    environment: Environment,  # noqa: ARG001
    generator: np.random.Generator,
    *,
    meetings: float = 0.5,
    longest_hold: int = 12,
) -> Policy:
    """Random walks that meet the block.

    Args:
        environment: PushT after its reset.
        generator: of the episode.
        meetings: share of the walks that lead to the block and on through it; the others lead to random places.
        longest_hold: longest time in steps of a walk; the minimum is 1.
    """

    def drawn(agent: Vector, block: Vector) -> Vector:
        place = generator.uniform(0, EDGE, 2)
        return agent + THROUGH * (block - agent) if generator.random() < meetings else place

    def move(agent: Vector, target: Vector) -> Action:
        action: NDArray[np.float32] = np.clip(agent + np.clip(target - agent, -STRIDE, STRIDE), 0, EDGE)
        return action.astype(np.float32)

    return walks(drawn, move, generator, longest_hold=longest_hold)
