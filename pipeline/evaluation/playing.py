"""Episodes of a policy in its environment, for evaluation or as training data."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamset.behaviors.controller import Agent
from dreamset.core.capabilities import Controller
from dreamset.core.errors import UserError
from dreamset.core.spec import DataSpec
from dreamset.environments.rollouts import RecordedEpisode, run_side_by_side
from dreamset.environments.wrappers import Environment


def play(
    controller: Controller[Any],
    make: Callable[[], Environment],
    *,
    seeds: Sequence[int],
    generator: torch.Generator,
    on_step: Callable[[], None] = lambda: None,
) -> list[RecordedEpisode]:
    """One episode per seed, all in parallel.

    Args:
        controller: selects the actions, on the device of ``generator``.
        make: makes one environment per seed. It may have more observations than the controller reads.
        seeds: of the environments.
        generator: for the controller's random draws.
        on_step: called after each step of all environments.

    Raises:
        UserError: if the environment lacks an observation, or has it in another shape.
    """
    device = generator.device
    agent = Agent(controller, generator=generator)

    def act(observations: dict[str, NDArray[Any]], first: NDArray[np.bool_]) -> NDArray[np.float32]:
        tensors = {
            name: torch.as_tensor(value if value.dtype == np.uint8 else value.astype(np.float32), device=device)
            for name, value in observations.items()
            if name in controller.spec.observations
        }
        return agent.act(tensors, torch.as_tensor(first, device=device)).cpu().numpy()

    def fitting() -> Environment:
        environment = make()
        require_observations(controller.spec, environment, "the world model")
        return environment

    return run_side_by_side(fitting, act, seeds=seeds, on_step=on_step)


def require_observations(spec: DataSpec, environment: Environment, model: str) -> None:
    """Raises a ``UserError`` unless the environment has the observations of ``spec``; ``model`` begins the message."""
    offered = {name: tuple(space.shape) for name, space in environment.observation_space.spaces.items()}  # type: ignore[attr-defined]
    needed = {name: array.shape for name, array in spec.observations.items()}
    if any(offered.get(name) != shape for name, shape in needed.items()):
        raise UserError(f"{model} was trained on {needed}, but the environment has {offered}; fix its settings")
