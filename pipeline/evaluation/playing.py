"""Episodes of a learned policy in its environment, to measure it or to learn from them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamset.behaviors.action_distributions import Actor
from dreamset.behaviors.controller import LatentPolicy
from dreamset.behaviors.exploration import Exploration, mode
from dreamset.environments.rollouts import RecordedEpisode, run_side_by_side
from dreamset.environments.wrappers import Environment
from dreamset.models.recurrent.world_model import WorldModel


def play(
    model: WorldModel,
    actor: Actor,
    make: Callable[[], Environment],
    *,
    seeds: Sequence[int],
    generator: torch.Generator,
    exploration: Exploration = mode,
    on_step: Callable[[], None] = lambda: None,
) -> list[RecordedEpisode]:
    """One episode per seed, all side by side.

    Args:
        model: infers the states, on the device of ``generator``.
        actor: acts in them.
        make: one environment per seed; may show more than the model looks at.
        seeds: of the environments.
        generator: draws the latent states and what ``exploration`` draws.
        exploration: how actions are chosen from the actor's distribution.
        on_step: called after every step of all.
    """
    device = generator.device
    policy = LatentPolicy(model, actor, generator=generator, exploration=exploration)

    def act(observations: dict[str, NDArray[Any]], first: NDArray[np.bool_]) -> NDArray[np.float32]:
        tensors = {
            name: torch.as_tensor(value if value.dtype == np.uint8 else value.astype(np.float32), device=device)
            for name, value in observations.items()
            if name in model.spec.observations
        }
        return policy.act(tensors, torch.as_tensor(first, device=device)).cpu().numpy()

    return run_side_by_side(make, act, seeds=seeds, on_step=on_step)


def play_evaluation(
    settings: Mapping[str, Any],
    model: WorldModel,
    actor: Actor,
    make: Callable[[], Environment],
    *,
    episodes: int,
    device: torch.device,
    on_step: Callable[[], None] = lambda: None,
) -> list[RecordedEpisode]:
    """The first ``episodes`` of an evaluation, without exploration; ``settings`` is ``evaluation``."""
    seeds = range(settings["seed"], settings["seed"] + episodes)
    generator = torch.Generator(device).manual_seed(settings["seed"])
    return play(model, actor, make, seeds=seeds, generator=generator, on_step=on_step)
