"""Episodes of a policy in its environment, for evaluation or as training data."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamset.behaviors.controller import Agent
from dreamset.core.capabilities import Controller
from dreamset.environments.checked import require_fit
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
        UserError: before the first episode if the environment does not fit the controller's data.
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

    def make_fitting() -> Environment:
        environment = make()
        require_fit(environment, controller.spec)
        return environment

    return run_side_by_side(make_fitting, act, seeds=seeds, on_step=on_step)
