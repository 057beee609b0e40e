"""Baselines without learning: the recorded episodes, uniform random actions, and actions of zero."""

from contextlib import closing
from typing import Any

import numpy as np

from benchmarks.offline_suite.episodes import Returns, evaluation_seeds
from dreamset.datasets import Store
from dreamset.environments import policies
from dreamset.environments.rollouts import PolicyFactory, record_episode
from dreamset.pipeline.config.instantiate import build_part


def run(work: dict[str, Any]) -> tuple[dict[str, Any], Returns]:
    """Runs one of ``BASELINES``; without training there are no metrics."""
    return {}, BASELINES[work["baseline"]](work)


def recorded(work: dict[str, Any]) -> Returns:
    """Returns of the training episodes."""
    store = Store.open(work["store"])
    return [(float(store.returns[episode]), int(store.lengths[episode]) - 1) for episode in store.split("train")]


def random(work: dict[str, Any]) -> Returns:
    """Returns of independent uniform actions."""
    return _played(work, policies.random)


def still(work: dict[str, Any]) -> Returns:
    """Returns of actions of zero."""
    return _played(work, policies.still)


def _played(work: dict[str, Any], policy: PolicyFactory) -> Returns:
    generator = np.random.default_rng(work["seed"])
    with closing(build_part(work["environment"])()) as environment:
        episodes = [
            record_episode(environment, policy, generator=generator, seed=seed)
            for seed in evaluation_seeds(work["evaluation"])
        ]
    return [(episode.total_reward, len(episode.rewards)) for episode in episodes]


BASELINES = {"recorded": recorded, "random": random, "still": still}
