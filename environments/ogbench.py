"""OGBench's mazes and manipulation tasks, with its oracles."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from dreamset.environments.gym import Adaptation, adapt, base
from dreamset.environments.mujoco import QuickFrames
from dreamset.environments.rollouts import Policy
from dreamset.environments.suites import require
from dreamset.environments.wrappers import Action, Environment, Observation


def make(
    id: str,  # noqa: A002 - Gymnasium's own word
    *,
    settings: Mapping[str, Any] | None = None,
    **adaptation: Unpack[Adaptation],
) -> Environment:
    """A task such as ``pointmaze-medium-singletask-v0``.

    Tasks named ``singletask`` have one goal, with reward 0 there and -1 elsewhere. All other tasks sample a goal that
    is not observed: their dynamics can be learned, but not their reward. The info ``success`` is available.

    Args:
        id: the registered id, not OGBench's name of a dataset (``pointmaze-medium-navigate-v0``).
        settings: further arguments of the environment, such as ``{width: 64, height: 64}`` for small frames, or
            ``{mode: data_collection}`` for ``move_cube``.
        **adaptation: see ``gym.Adaptation``.

    Raises:
        UserError: if a package is missing or the task does not exist.
    """
    require("ogbench", extra="ogbench")
    env = base(id, settings, own_limit=adaptation.get("episode_steps") is None)
    observes_images = env.observation_space.dtype == np.uint8  # these stay as in OGBench's datasets
    return adapt(env if observes_images else Frames(env), id, **adaptation)


class Frames(QuickFrames):
    """``QuickFrames`` for OGBench's renderers; a maze of 64 x 64 pixels renders thirty times faster on a CPU."""

    def model(self) -> Any:
        """The MuJoCo model of the environment."""
        inner: Any = self.unwrapped
        return inner._model if hasattr(inner, "_model") else inner.model

    def scene(self) -> Any:
        """The scene of the renderer."""
        return self._renderer().scene

    def close(self) -> None:
        """Also closes the renderer, which OGBench would close too late, at the end of the process."""
        renderer = self._renderer()
        if renderer is not None:
            renderer.close()
        self.env.close()

    def _renderer(self) -> Any:
        return getattr(self.unwrapped, "_renderer", None) or getattr(self.unwrapped, "custom_renderer", None)


def follow_path(environment: Environment, generator: np.random.Generator, *, noise: float = 0.2) -> Policy:
    """For a ``pointmaze``: moves along the shortest path to the goal, with normal noise on the action."""
    maze: Any = environment.unwrapped

    def act(_: Observation, __: Mapping[str, Any]) -> Action:
        place = maze.get_xy()
        way = np.asarray(maze.get_oracle_subgoal(place, maze.cur_goal_xy)[0]) - place
        action = way / (np.linalg.norm(way) + 1e-6) + generator.normal(0, noise, 2)
        return _clipped(action)

    return act


def move_cube(environment: Environment, generator: np.random.Generator, *, noise: float = 0.0) -> Policy:
    """For a ``cube`` task with ``settings: {mode: data_collection}``: moves cubes to new targets."""
    oracles = require("ogbench.manipspace.oracles.markov.cube_markov", extra="ogbench")
    table: Any = environment.unwrapped
    oracle = oracles.CubeMarkovOracle(env=environment)
    started = False

    def act(_: Observation, __: Mapping[str, Any]) -> Action:
        nonlocal started
        if started and oracle.done:
            table.set_new_target(return_info=False)
        if not started or oracle.done:
            with _global_randomness(generator):
                oracle.reset(None, table.compute_ob_info())
            started = True
        action = oracle.select_action(None, table.compute_ob_info()) + generator.normal(0, noise, 5)
        return _clipped(action)

    return act


def _clipped(action: NDArray[np.float64]) -> Action:
    clipped: Action = np.clip(action, -1, 1).astype(np.float32)
    return clipped


@contextmanager
def _global_randomness(generator: np.random.Generator) -> Iterator[None]:
    """Seeds NumPy's global generator, which the oracle uses, from ``generator``; restores it afterwards."""
    before = np.random.get_state(legacy=False)  # noqa: NPY002 - it is theirs
    np.random.seed(int(generator.integers(2**32)))  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
