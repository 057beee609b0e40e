"""The evaluation shared by all methods: environment, seeds and number of episodes."""

from collections.abc import Callable, Mapping
from typing import Any

from dreamset.environments.rollouts import BatchPolicy, run_side_by_side
from dreamset.environments.wrappers import Environment
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.progress import counter

Returns = list[tuple[float, int]]  # (return, length) of each episode


def run_policy(environment: Mapping[str, Any], evaluation: Mapping[str, Any], policy: BatchPolicy) -> Returns:
    """Runs one episode per evaluation seed.

    Args:
        environment: configuration node of the environment's factory.
        evaluation: see ``evaluation_seeds``.
        policy: returns actions in the environment's units.
    """
    make: Callable[[], Environment] = build_part(environment)
    with counter(description="evaluate (steps)") as count:
        episodes = run_side_by_side(make, policy, seeds=evaluation_seeds(evaluation), on_step=count)
    return [(episode.total_reward, len(episode.rewards)) for episode in episodes]


def evaluation_seeds(evaluation: Mapping[str, Any]) -> range:
    """The seeds of the stage ``evaluate``: ``episodes`` seeds, starting at ``seed``."""
    return range(evaluation["seed"], evaluation["seed"] + evaluation["episodes"])
