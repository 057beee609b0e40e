"""The contrastive objective: an observation must identify its own state among the states of the batch."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dreamset.core.capabilities import Representation
from dreamset.core.errors import UserError
from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.models.layers import mlp
from dreamset.objectives.base import Objective


class Contrastive(Objective):
    """J_S = ln q(s_t | o_t) - ln sum_{o'} q(s_t | o') (Dreamer v1, equation 12; noise contrastive estimation).

    q(s | o) is a diagonal Gaussian over the features; a dense network on the embedding gives its mean and std. The o'
    are all observations of the batch, over both axes, including o_t. The loss -J_S is at least zero. It is ln(B T)
    if observations carry no information about states.
    """

    uses_unacted = True

    def __init__(self, model: Representation[Any], *, weight: float, hidden: int, layers: int, min_std: float) -> None:
        super().__init__()
        if model.embedding_size == 0:
            raise UserError(
                f"the contrastive objective compares states with the embeddings of observations, but "
                f"{type(model).__name__} has none; choose another objective"
            )
        self.weight = weight
        self.min_std = min_std
        self.state_model = mlp(model.embedding_size, 2 * model.feature_size, hidden=hidden, layers=layers)

    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, model: Representation[Any]) -> dict[str, Loss]:  # noqa: ARG002
        """-J_S [B, T]."""
        mean, raw = self.state_model(rollout.embedding).flatten(0, 1).chunk(2, dim=-1)  # [BT, F] each
        std = F.softplus(raw) + self.min_std
        log_prob = pairwise_log_prob(rollout.features.flatten(0, 1), mean, std)
        return {"contrastive": Loss(info_nce(log_prob).reshape(batch.reward.shape), self.weight)}


def pairwise_log_prob(states: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """ln N(states[i]; mean[j], std[j]) for all pairs, up to one constant: [M, M].

    The expanded square needs three matrix products for all pairs instead of an [M, M, F] tensor. Both sides are first
    centred at the mean state. The result is the same, but far from zero the terms of the expanded square are large and
    nearly cancel: in float32, a common offset of 20 with a std of 0.12 costs whole nats.
    """
    centre = states.detach().mean(0)
    states, mean = states - centre, mean - centre
    precision = std.pow(-2)
    cross = states.square() @ precision.t() - 2 * states @ (mean * precision).t()  # [M, M]
    own = (mean.square() * precision).sum(-1) + 2 * std.log().sum(-1)  # [M]
    return -0.5 * (cross + own)


def info_nce(log_prob: Tensor) -> Tensor:
    """-(log_prob[i, i] - logsumexp_j log_prob[i, j]): [M]; column j is the observation o'."""
    return torch.logsumexp(log_prob, dim=1) - log_prob.diagonal()
