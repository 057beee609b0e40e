"""Scores of a policy: its real returns, and the returns that its world model imagines."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dreamset.behaviors.base import Learner
from dreamset.core.capabilities import Dynamics, Representation, RewardModel
from dreamset.core.records import SequenceBatch
from dreamset.core.states import map_state
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.models.imagination import imagine
from dreamset.pipeline.config.settings import Evaluation
from dreamset.pipeline.evaluation.statistics import bootstrap, interquartile_mean, mean


@torch.no_grad()
def imagined_returns(
    model: Representation[Any],
    behavior: Learner,
    episodes: list[RecordedEpisode],
    *,
    context: int,
    device: torch.device,
) -> NDArray[np.float64]:
    """The return that the model predicts after the first ``context`` rows of each real episode: [episodes].

    The model observes those rows and imagines the rest, up to the length of the shortest episode. A large gap to the
    real return shows that the policy exploits errors of the model. The values are NaN if the model predicts no
    rewards, or the policy needs more than features.
    """
    policy = behavior.imagination_policy()
    horizon = min(len(episode.rewards) for episode in episodes) - (context - 1)
    if horizon < 1 or policy is None or not (isinstance(model, Dynamics) and isinstance(model, RewardModel)):
        return np.full(len(episodes), np.nan)
    generator = torch.Generator(device).manual_seed(0)
    rollout = model.observe(_first_rows(model, episodes, context, device), generator)
    start = map_state(lambda value: value[:, -1], rollout.states)
    trajectory = imagine(model, start, policy, horizon=horizon, generator=generator)
    return model.reward(trajectory)[1:].sum(0).double().cpu().numpy()


def _first_rows(
    model: Representation[Any], episodes: list[RecordedEpisode], rows: int, device: torch.device
) -> SequenceBatch:
    def stack(arrays: list[NDArray[Any]]) -> torch.Tensor:
        return torch.as_tensor(np.stack(arrays), device=device)

    first = torch.zeros(len(episodes), rows, dtype=torch.bool, device=device)
    first[:, 0] = True
    nothing = torch.zeros_like(first)
    zero = np.zeros((1, model.spec.action.size), np.float32)
    return SequenceBatch(
        observations={name: stack([e.observations[name][:rows] for e in episodes]) for name in model.spec.observations},
        action=stack([np.concatenate([zero, e.actions[: rows - 1]]) for e in episodes]),
        reward=nothing.float(),
        is_first=first,
        is_last=nothing,
        is_terminal=nothing,
        privileged={},
        row=nothing.long(),
    )


def episode_table(episodes: list[RecordedEpisode], imagined: NDArray[np.float64], *, context: int) -> pd.DataFrame:
    """One row per episode."""
    return pd.DataFrame(
        {
            "seed": [episode.seed for episode in episodes],
            "return": [episode.total_reward for episode in episodes],
            "length": [len(episode.rewards) for episode in episodes],
            "return_after_context": [float(episode.rewards[context - 1 :].sum()) for episode in episodes],
            "imagined_return_after_context": imagined,
        }
    )


def summarize(settings: Evaluation, table: pd.DataFrame, lineage: Mapping[str, Any]) -> dict[str, float]:
    """The figures of an evaluation.

    Mean and interquartile mean of the return have bootstrap intervals. The normalised score needs two
    different reference scores, the imagined return a model that predicts rewards.
    """
    returns = table["return"].to_numpy(np.float64)
    metrics: dict[str, float] = {}
    for name, statistic in (("mean", mean), ("iqm", interquartile_mean)):
        estimate = bootstrap([returns], statistic, confidence=settings.confidence, resamples=settings.resamples)
        metrics |= {
            f"evaluation/return_{name}": estimate.value,
            f"evaluation/return_{name}_low": estimate.low,
            f"evaluation/return_{name}_high": estimate.high,
        }
    low, high = lineage["reference"]["low"], lineage["reference"]["high"]
    if low is not None and high is not None and low != high:
        metrics["evaluation/normalized_iqm"] = 100 * (metrics["evaluation/return_iqm"] - low) / (high - low)
    if table["imagined_return_after_context"].notna().all():
        metrics["evaluation/imagined_return"] = float(table["imagined_return_after_context"].mean())
        metrics["evaluation/real_return"] = float(table["return_after_context"].mean())
    metrics["evaluation/dataset_return"] = float(lineage["dataset_return"]["mean"])
    return metrics
