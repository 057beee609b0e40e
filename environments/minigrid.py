"""MiniGrid and BabyAI: seven discrete moves in a partially observed world of tiles."""

from collections.abc import Mapping
from typing import Any, Unpack

import gymnasium
import numpy as np
from gymnasium import spaces

from dreamset.environments.actions import one_hot
from dreamset.environments.gym import Adaptation, adapt, base
from dreamset.environments.rollouts import Policy
from dreamset.environments.suites import require
from dreamset.environments.wrappers import Action, Environment, Observation


def make(
    id: str,  # noqa: A002 - Gymnasium's own word
    *,
    agent_view: bool = True,
    settings: Mapping[str, Any] | None = None,
    **adaptation: Unpack[Adaptation],
) -> Environment:
    """A task such as ``MiniGrid-Empty-8x8-v0`` or ``BabyAI-GoToRedBall-v0``.

    With ``image_size`` the observation is the rendered ``image``. Otherwise it is ``state``: kind, colour and condition
    of each tile in view as one-hot rows, and the direction. The mission is a text, which no model reads: choose tasks
    with a single mission, or learn only the dynamics.

    Args:
        id: the registered id.
        agent_view: whether the image shows the agent's view, turned in its direction, or the whole world.
        settings: further arguments of the environment.
        **adaptation: see ``gym.Adaptation``.

    Raises:
        UserError: if a package is missing or the task does not exist.
    """
    require("minigrid", extra="minigrid")
    options = {"agent_pov": agent_view, **(settings or {})}
    env = base(id, options, own_limit=adaptation.get("episode_steps") is None)
    return adapt(TilesInView(env), id, **adaptation)


def bot(environment: Environment, generator: np.random.Generator, *, randomness: float = 0.0) -> Policy:
    """BabyAI's expert; in a share of the steps it moves at random and replans."""
    world: Any = environment.unwrapped
    expert = require("minigrid.utils.baby_ai_bot", extra="minigrid").BabyAIBot(world)
    wander = (world.actions.left, world.actions.right, world.actions.forward)  # moves that cannot fail the mission
    taken: Any = None

    def act(_: Observation, __: Mapping[str, Any]) -> Action:
        nonlocal taken
        taken, erring = expert.replan(taken), generator.random() < randomness
        if erring:
            taken = wander[generator.integers(len(wander))]
        return one_hot(int(taken), len(world.actions))

    return act


class TilesInView(gymnasium.ObservationWrapper[Any, Any, Any]):
    """The agent's view as one vector: one-hot kind, colour and condition of every tile, then the direction."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        constants = require("minigrid.core.constants", extra="minigrid")
        tables = (constants.OBJECT_TO_IDX, constants.COLOR_TO_IDX, constants.STATE_TO_IDX)
        self._codes = [np.eye(len(table), dtype=np.float32) for table in tables]
        edge = env.unwrapped.agent_view_size  # type: ignore[attr-defined]
        size = edge * edge * sum(map(len, self._codes)) + 4
        self.observation_space = spaces.Box(0.0, 1.0, (size,), np.float32)

    def observation(self, observation: Any) -> Any:
        """[tiles * codes + 4]."""
        tiles = observation["image"].reshape(-1, 3)
        rows = [code[tiles[:, part]] for part, code in enumerate(self._codes)]
        return np.concatenate([np.hstack(rows).ravel(), one_hot(int(observation["direction"]), 4)])
