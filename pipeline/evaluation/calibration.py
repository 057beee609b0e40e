"""Whether a finished world model knows how uncertain it is, on held-out episodes.

Two questions. Does the spread of sampled futures cover the rewards that followed? And do episodes end as often as the
model predicts? What a model cannot answer has a reason in place of figures.
"""

from typing import Any

import torch
from torch import Tensor

from dreamset.core.capabilities import Dynamics, RewardModel
from dreamset.core.records import SequenceBatch
from dreamset.core.states import map_state
from dreamset.datasets.sampler import whole_episodes
from dreamset.models.imagination import predict
from dreamset.models.probes import open_loop_starts
from dreamset.pipeline.evaluation.validation import Validator

SAMPLES = 19  # futures from each start: the bounds of the intervals below are then samples, and no interpolation
LEVELS = tuple(level / 10 for level in range(1, 10))  # nominal shares of the central intervals
BINS = 10  # of equal width, of the predicted probability of an end

NO_DYNAMICS = "the model predicts no next states"
NO_REWARDS = "the model predicts no rewards"
NO_SPREAD = "the model is deterministic: it samples no futures, so its predictions have no spread"
NO_ENDS = "the model predicts no ends: it expects every episode to last until its time limit"
NOT_FINITE = "the predictions are not finite"

Record = dict[str, Any]  # plain values, for json


@torch.no_grad()
def calibration(model: Any, validator: Validator) -> Record:
    """The record that ``calibration.json`` holds: ``reward`` and ``ends``, see ``reward_coverage`` and ``ends``."""
    return {"reward": reward_coverage(model, validator), "ends": ends(model, validator)}


def reward_coverage(model: Any, validator: Validator) -> Record:
    """How many true rewards lie in the central intervals of sampled futures, by horizon.

    From each open-loop start the model samples ``SAMPLES`` futures under the recorded actions. Equal shares of nominal
    and seen mean that the spread tells the error. The spread is that of the expected rewards of sampled states.

    Returns:
        ``{"levels": [...], "rows": N, "covered": {"15": [share per level], ...}}``, or ``{"reason": text}``.
    """
    if not isinstance(model, Dynamics):
        return {"reason": NO_DYNAMICS}
    if not isinstance(model, RewardModel):
        return {"reason": NO_REWARDS}
    if model.noise_distribution == "none":
        return {"reason": NO_SPREAD}
    batch, horizons = validator.held_out, validator.horizons
    generator = torch.Generator(validator.device).manual_seed(0)
    rollout = model.observe(batch, generator)
    rows = open_loop_starts(
        batch.reward.shape[1], context=validator.context, horizon=horizons[-1], starts=validator.starts
    )
    covered = []
    for start in rows:
        state = map_state(lambda value, start=start: value[:, start].repeat_interleave(SAMPLES, 0), rollout.states)
        action = model.spec.action.normalize(batch.action[:, start + 1 : start + 1 + horizons[-1]])
        future = predict(model, state, action.repeat_interleave(SAMPLES, 0), generator)
        sampled = model.reward(future)[horizons].unflatten(1, (-1, SAMPLES))  # [horizons, B, SAMPLES]
        if not sampled.isfinite().all():
            return {"reason": NOT_FINITE}
        truth = batch.reward[:, [start + horizon for horizon in horizons]].t()
        covered.append(inside(sampled, truth))
    shares = torch.stack(covered).double().mean((0, 2))  # [horizons, levels]
    return {
        "levels": list(LEVELS),
        "rows": len(rows) * batch.reward.shape[0],
        "covered": {str(horizon): share.tolist() for horizon, share in zip(horizons, shares, strict=True)},
    }


def inside(sampled: Tensor, truth: Tensor) -> Tensor:
    """Whether the truth lies in each central interval of its samples: bool [..., levels].

    The interval from the k-th lowest to the k-th highest of M samples holds a further draw from their distribution with
    the probability (M + 1 - 2k) / (M + 1): exactly ``LEVELS`` for M = 19.

    Args:
        sampled: [..., SAMPLES].
        truth: [...].
    """
    ordered = sampled.sort(dim=-1).values
    count = len(LEVELS)
    low, high = ordered[..., :count].flip(-1), ordered[..., -count:]  # from the narrowest to the widest interval
    return (low <= truth[..., None]) & (truth[..., None] <= high)


def ends(model: Any, validator: Validator) -> Record:
    """How well the probability that the next row is a true end fits: Brier score and reliability by bins.

    The probability is that of one step ahead, from every row after the context of complete held-out episodes.

    Returns:
        ``{"rows": N, "ends": N, "brier": B, "brier_of_rate": B, "bins": [{"predicted", "seen", "rows"}, ...]}``, or
        ``{"reason": text}``. ``brier_of_rate`` is the score of always predicting the share of rows that are ends.
    """
    if not isinstance(model, Dynamics):
        return {"reason": NO_DYNAMICS}
    if not model.predicts_ends:
        return {"reason": NO_ENDS}
    generator = torch.Generator(validator.device).manual_seed(0)
    context = validator.context
    episodes = whole_episodes(validator.store, split="validation", shortest=context + 1, limit=validator.episodes)
    pairs = [_next_ends(model, batch.to(validator.device), context, generator) for batch in episodes]
    predicted, seen = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return reliability(predicted, seen) if predicted.isfinite().all() else {"reason": NOT_FINITE}


def _next_ends(
    model: Dynamics[Any], batch: SequenceBatch, context: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The predicted probability that each row after the context is a true end, and whether it is: [rows] each."""
    rollout = model.observe(batch, generator)
    state = map_state(lambda value: value[0, context - 1 : -1], rollout.states)
    action = model.spec.action.normalize(batch.action[0, context:, None])
    continues = model.continuation(predict(model, state, action, generator))[1]
    return 1 - continues.double().clamp(0, 1), batch.is_terminal[0, context:]


def reliability(predicted: Tensor, seen: Tensor) -> Record:
    """Brier scores and the means of each bin that has rows, from [N] probabilities and [N] bool."""
    target = seen.to(predicted.dtype)
    rate = target.mean()
    number = (predicted * BINS).long().clamp_max(BINS - 1)
    bins = [
        {"predicted": float(predicted[rows].mean()), "seen": float(target[rows].mean()), "rows": int(rows.sum())}
        for rows in (number == bin_ for bin_ in range(BINS))
        if rows.any()
    ]
    return {
        "rows": len(predicted),
        "ends": int(seen.sum()),
        "brier": float((predicted - target).square().mean()),
        "brier_of_rate": float(rate * (1 - rate)),
        "bins": bins,
    }
