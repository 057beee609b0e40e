"""Episodes of a policy in its environment, for evaluation or as training data."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamset.behaviors.controller import Agent
from dreamset.core.capabilities import Controller
from dreamset.core.errors import UserError
from dreamset.core.spec import GOAL_PREFIX, DataSpec
from dreamset.environments.checked import require_fit
from dreamset.environments.rollouts import RecordedEpisode, run_side_by_side
from dreamset.environments.wrappers import Environment, time_limit


def require_budget(environment: Environment, spec: DataSpec) -> None:
    """Checks that goals must be reached within a fixed number of steps, so that success rates can be compared.

    Raises:
        UserError: if the environment has goals, and no wrapper limits its steps.
    """
    if time_limit(environment) is None and any(name.startswith(GOAL_PREFIX) for name in spec.observations):
        raise UserError(
            f"{environment} sets goals without a budget of steps; wrap it with gymnasium.wrappers.TimeLimit in "
            "dataset.environment"
        )


@dataclass(slots=True)
class Decisions:
    """The time that a controller takes to decide, without the environments."""

    side_by_side: int = 0  # episodes for which it decides at once
    seconds: list[float] = field(default_factory=list)  # of each step for all of them

    def figures(self) -> dict[str, float]:
        """The cost of one decision, from the median step; empty before the first one.

        Several episodes are decided in one batch, so a decision for one episode alone takes longer.
        """
        if not self.seconds:
            return {}
        each = median(self.seconds) / self.side_by_side
        return {
            "cost/decision_milliseconds": round(1000 * each, 3),
            "cost/decisions_per_second": round(1 / each, 1),
            "cost/decision_episodes": self.side_by_side,
        }


def play(
    controller: Controller[Any],
    make: Callable[[], Environment],
    *,
    seeds: Sequence[int],
    generator: torch.Generator,
    on_step: Callable[[], None] = lambda: None,
    decisions: Decisions | None = None,
) -> list[RecordedEpisode]:
    """One episode per seed, all in parallel.

    Args:
        controller: selects the actions, on the device of ``generator``.
        make: makes one environment per seed. It may have more observations than the controller reads.
        seeds: of the environments.
        generator: for the controller's random draws.
        on_step: called after each step of all environments.
        decisions: gets the time of every decision.

    Raises:
        UserError: before the first episode if the environment does not fit the controller's data, or if it sets goals
            without a time limit.
    """
    device = generator.device
    agent = Agent(controller, generator=generator)
    timed = decisions or Decisions()
    timed.side_by_side, timed.seconds = len(seeds), []

    def act(observations: dict[str, NDArray[Any]], first: NDArray[np.bool_]) -> NDArray[np.float32]:
        tensors = {
            name: torch.as_tensor(value if value.dtype == np.uint8 else value.astype(np.float32), device=device)
            for name, value in observations.items()
            if name in controller.spec.observations
        }
        began = time.perf_counter()
        action: NDArray[np.float32] = agent.act(tensors, torch.as_tensor(first, device=device)).cpu().numpy()
        timed.seconds.append(time.perf_counter() - began)
        return action

    def make_fitting() -> Environment:
        environment = make()
        require_fit(environment, controller.spec)
        require_budget(environment, controller.spec)
        return environment

    return run_side_by_side(make_fitting, act, seeds=seeds, on_step=on_step)
