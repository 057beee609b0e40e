"""Recording episodes with a saved policy."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from dreamset.behaviors.base import WayOfActing
from dreamset.behaviors.controller import Agent
from dreamset.core.capabilities import Controller
from dreamset.core.errors import UserError
from dreamset.core.spec import DataSpec
from dreamset.environments.checked import require_fit
from dreamset.environments.rollouts import Policy
from dreamset.environments.wrappers import Action, Environment, Observation
from dreamset.pipeline.artifacts.acting import load_policy

CPU = torch.device("cpu")  # one episode at a time is too little work for a GPU


def saved_policy(
    environment: Environment,
    generator: np.random.Generator,
    *,
    world_model: str,
    behavior: str,
    acting: WayOfActing | None = None,
) -> Policy:
    """Acts as the stage ``evaluate`` does. It uses one thread, so that results do not depend on the number of workers.

    In a configuration::

        policy:
          _target_: dreamset.pipeline.artifacts.saved_policy.saved_policy
          _partial_: true
          world_model: runs/world_model/reconstruction-0/model
          behavior: runs/behavior/reconstruction-0/model
          acting: ${acting}

    Args:
        environment: must have the observations on which the world model was trained.
        generator: draws the seed for the samples of the latent states.
        world_model: folder of the saved world model.
        behavior: folder of the policy that was learned in this world model.
        acting: how it acts, such as a ``Planning``; None: the policy acts itself.

    Raises:
        UserError: if a folder holds no such model, or the environment does not fit the model.
    """
    controller = _load(world_model, behavior, acting)
    _check_fits(controller.spec, environment, world_model)
    draws = torch.Generator(CPU).manual_seed(int(generator.integers(2**63)))
    agent, first = Agent(controller, generator=draws), True

    def act(observation: Observation, info: Mapping[str, Any]) -> Action:  # noqa: ARG001 - part of the interface
        nonlocal first
        with _one_thread():
            rows = {name: _row(observation[name]) for name in controller.spec.observations}
            action: Action = agent.act(rows, torch.tensor([first]))[0].numpy()
        first = False
        return action

    return act


@lru_cache(maxsize=4)
def _load(world_model: str, behavior: str, acting: WayOfActing | None) -> Controller[Any]:
    """Loads the models once per process instead of once per episode."""
    return load_policy(behavior, world_model, acting=acting).controller


def _check_fits(spec: DataSpec, environment: Environment, folder: str) -> None:
    try:
        require_fit(environment, spec)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None


def _row(value: Any) -> torch.Tensor:
    return torch.as_tensor(value if value.dtype == np.uint8 else value.astype(np.float32))[None]


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
