"""Plays a policy or a baseline to 50 goals, each within the time limit of its episode."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch

from benchmarks.acting.playing import environment_of, timed_episodes, trained
from benchmarks.offline_suite.episodes import Returns, evaluation_seeds
from dreamset.environments.rollouts import RecordedEpisode, record_episode
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.registry.registration import code_version
from dreamset.pipeline.stages import evaluate
from dreamset.pipeline.stages.settings import Evaluate


def run(work: dict[str, Any]) -> tuple[dict[str, Any], Returns]:
    """Figures and (return, length) of every episode of a policy; the return is 1 for success, else 0."""
    settings = Evaluate.of(**work["evaluate"])
    evaluator = evaluate.load_evaluator(settings, environment_of(settings), torch.device("cpu"))
    episodes, figures = timed_episodes(evaluator.behavior.controller(evaluator.model), settings)
    costs, codes = trained(settings)
    figures |= costs | {"code": ", ".join(dict.fromkeys([*codes, code_version()]))}
    return figures | reached(episodes), returns_of(episodes)


def baseline(work: dict[str, Any]) -> tuple[dict[str, Any], Returns]:
    """The same for a policy that learns nothing."""
    policy, generator = build_part(work["policy"]), np.random.default_rng(work["seed"])
    with closing(build_part(work["environment"])()) as environment:
        episodes = [
            record_episode(environment, policy, generator=generator, seed=seed)
            for seed in evaluation_seeds(work["evaluation"])
        ]
    return reached(episodes), returns_of(episodes)


def reached(episodes: Sequence[RecordedEpisode]) -> dict[str, float]:
    """The rate of success, and the share of the distance to the goal that was left at the end, on average."""
    distances = [episode.infos["distance"] for episode in episodes]
    return {
        "success": float(np.mean([episode.infos["is_success"][-1] for episode in episodes])),
        "distance_left": float(np.mean([way[-1] / way[0] for way in distances])),
    }


def returns_of(episodes: Sequence[RecordedEpisode]) -> Returns:
    """(return, length) of every episode."""
    return [(episode.total_reward, len(episode.rewards)) for episode in episodes]
