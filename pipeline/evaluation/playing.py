"""Episodes of a learned policy in its environment, to measure it or to learn from them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamset.behaviors.controller import Agent
from dreamset.core.capabilities import Controller
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
    """One episode per seed, all side by side.

    Args:
        controller: acts, on the device of ``generator``.
        make: one environment per seed; may show more than the controller looks at.
        seeds: of the environments.
        generator: draws whatever the controller draws.
        on_step: called after every step of all.
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

    return run_side_by_side(make, act, seeds=seeds, on_step=on_step)


def play_evaluation(
    settings: Mapping[str, Any],
    controller: Controller[Any],
    make: Callable[[], Environment],
    *,
    episodes: int,
    device: torch.device,
    on_step: Callable[[], None] = lambda: None,
) -> list[RecordedEpisode]:
    """The first ``episodes`` of an evaluation, without exploration; ``settings`` is ``evaluation``."""
    seeds = range(settings["seed"], settings["seed"] + episodes)
    generator = torch.Generator(device).manual_seed(settings["seed"])
    return play(controller, make, seeds=seeds, generator=generator, on_step=on_step)
