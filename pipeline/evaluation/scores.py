"""Scores of a policy: its real returns, and the returns that its world model imagines."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamset.behaviors.base import Acting
from dreamset.core.capabilities import Dynamics, GoalReaching, Representation, RewardModel, acting_spec
from dreamset.core.records import SequenceBatch
from dreamset.core.states import map_state
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.pipeline.config.settings import Evaluation
from dreamset.pipeline.evaluation.statistics import bootstrap, interquartile_mean, mean

SUCCESS = "is_success"  # key of an environment's info: whether the goal is reached


@torch.no_grad()
def imagined_returns(
    model: Representation[Any],
    behavior: Acting,
    episodes: list[RecordedEpisode],
    *,
    context: int,
    device: torch.device,
    on_step: Callable[[], None] = lambda: None,
) -> NDArray[np.float64]:
    """The undiscounted return that the model predicts after the first ``context`` rows of each episode: [episodes].

    The model observes these rows and then imagines the policy up to the episode's time limit. It estimates the same
    number as the episode's real return after these rows: a reward r_h counts with the predicted probability that the
    episode reaches row h. A model that predicts no ends imagines that every episode lasts until its limit. A large gap
    to the real return shows that the policy exploits errors of the model. NaN stands for an episode that ended within
    the context, and for all episodes if the model predicts no rewards, the policy needs more than features, or it acts
    towards goals, of which the predicted reward knows nothing.
    """
    result = np.full(len(episodes), np.nan)
    going_on = [number for number, episode in enumerate(episodes) if len(episode.rewards) >= context]
    if not going_on or isinstance(model, GoalReaching):
        return result
    if not (isinstance(model, Dynamics) and isinstance(model, RewardModel)):
        return result
    steps = torch.as_tensor(time_limits(episodes)[going_on] - (context - 1), device=device)
    generator = torch.Generator(device).manual_seed(0)
    rollout = model.observe(_first_rows(model, [episodes[n] for n in going_on], context, device), generator)
    start = map_state(lambda value: value[:, -1], rollout.states)
    trajectory = behavior.imagine(model, start, horizon=int(steps.max()), generator=generator, on_step=on_step)
    if trajectory is None:
        return result
    result[going_on] = expected_return(model.reward(trajectory), model.continuation(trajectory), steps).cpu().numpy()
    return result


def expected_return(reward: Tensor, continuation: Tensor, steps: Tensor) -> Tensor:
    """sum_h r_h prod_{0 < k < h} c_k over the first ``steps`` rows after the start: [N] in float64.

    Args:
        reward: [H + 1, N] on arrival; that of row 0 was received before.
        continuation: [H + 1, N]; row 0 is known to go on.
        steps: [N], at most H.
    """
    received = reward[1:].double()
    # a head trained towards gamma < 1 may exceed it slightly, but no probability exceeds one
    continues = continuation[1:-1].double().clamp(0, 1)
    arrives = torch.cat([torch.ones_like(received[:1]), continues.cumprod(0)])
    within = torch.arange(len(received), device=reward.device)[:, None] < steps
    return (received * arrives * within).sum(0)


def time_limits(episodes: Sequence[RecordedEpisode]) -> NDArray[np.int64]:
    """The steps after which each episode would have been cut off: [episodes].

    An episode that was cut off shows its limit. For a true end, it is the environment's limit or, if no wrapper knows
    it, the length of the longest episode.
    """
    lengths = np.array([len(episode.rewards) for episode in episodes])
    known = [lengths.max() if episode.limit is None else episode.limit for episode in episodes]
    return np.where([episode.terminated for episode in episodes], np.maximum(lengths, known), lengths)


def _first_rows(
    model: Representation[Any], episodes: list[RecordedEpisode], rows: int, device: torch.device
) -> SequenceBatch:
    def stack(arrays: list[NDArray[Any]]) -> torch.Tensor:
        return torch.as_tensor(np.stack(arrays), device=device)

    first = torch.zeros(len(episodes), rows, dtype=torch.bool, device=device)
    first[:, 0] = True
    nothing = torch.zeros_like(first)
    zero, names = np.zeros((1, model.spec.action.size), np.float32), acting_spec(model).observations
    return SequenceBatch(
        observations={name: stack([e.observations[name][:rows] for e in episodes]) for name in names},
        action=stack([np.concatenate([zero, e.actions[: rows - 1]]) for e in episodes]),
        reward=nothing.float(),
        is_first=first,
        is_last=nothing,
        is_terminal=nothing,
        privileged={},
        row=nothing.long(),
    )


def episode_table(episodes: list[RecordedEpisode], imagined: NDArray[np.float64], *, context: int) -> pd.DataFrame:
    """One row per episode; ``success`` says whether a step reached the goal, if the environment tells it.

    An episode that begins at its goal has reached nothing, and has no reward for it either.
    """
    told = bool(episodes) and all(SUCCESS in episode.infos for episode in episodes)
    reached = {"success": [bool(episode.infos[SUCCESS][1:].any()) for episode in episodes]} if told else {}
    return pd.DataFrame(
        {
            "seed": [episode.seed for episode in episodes],
            "return": [episode.total_reward for episode in episodes],
            "length": [len(episode.rewards) for episode in episodes],
            "return_after_context": [float(episode.rewards[context - 1 :].sum()) for episode in episodes],
            "imagined_return_after_context": imagined,
            **reached,
        }
    )


def summarize(settings: Evaluation, table: pd.DataFrame, lineage: Mapping[str, Any]) -> dict[str, float]:
    """The figures of an evaluation.

    Mean and interquartile mean of the return, and the success rate, have bootstrap intervals. The normalised score is
    that of the mean return, as in D4RL, because both references are mean returns; it needs two different ones. The
    imagined return needs a model that predicts rewards; the real return beside it is that of the same episodes after
    the same rows.
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
    if "success" in table:
        reached = table["success"].to_numpy(np.float64)
        rate = bootstrap([reached], mean, confidence=settings.confidence, resamples=settings.resamples)
        metrics |= {
            "evaluation/success_rate": rate.value,
            "evaluation/success_rate_low": rate.low,
            "evaluation/success_rate_high": rate.high,
        }
    low, high = lineage["reference"]["low"], lineage["reference"]["high"]
    if low is not None and high is not None and low != high:
        metrics["evaluation/normalized_mean"] = 100 * (metrics["evaluation/return_mean"] - low) / (high - low)
    compared = table[table["imagined_return_after_context"].notna()]  # the same episodes for both means
    if len(compared):
        metrics["evaluation/imagined_return"] = float(compared["imagined_return_after_context"].mean())
        metrics["evaluation/real_return"] = float(compared["return_after_context"].mean())
    metrics["evaluation/dataset_return"] = float(lineage["dataset_return"]["mean"])
    return metrics
