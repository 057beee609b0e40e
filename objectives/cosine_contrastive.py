"""A bounded contrastive objective: the directions of a state and of its own observation must agree."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dreamset.core.capabilities import Representation
from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.models.layers import mlp
from dreamset.objectives.base import Objective, require_embedding


class CosineContrastive(Objective):
    """J = 1/2 (ln p(o_t | s_t) + ln p(s_t | o_t)) with p(o | s) = exp(c(s, o) / tau) / sum_{o'} exp(c(s, o') / tau).

    p(s | o) is the same with a sum over states. Both sums are over all rows of the batch. c is the cosine of a linear
    projection of the features and a dense network on the embedding, so a pair's score is at most 1 / tau. InfoNCE
    (van den Oord et al. 2018) with the score and both directions of NT-Xent (SimCLR, Chen et al. 2020).

    Args:
        model: the world model; it must embed its observations.
        weight: factor on the loss.
        temperature: tau; a lower one separates observations that look alike.
        size: length of the vectors that are compared.
        hidden, layers: of the dense network on the embedding.
    """

    uses_unacted = True

    def __init__(
        self, model: Representation[Any], *, weight: float, temperature: float, size: int, hidden: int, layers: int
    ) -> None:
        super().__init__()
        require_embedding(model, self)
        self.weight = weight
        self.temperature = temperature
        self.state_head = mlp(model.feature_size, size, hidden=hidden, layers=0)
        self.observation_head = mlp(model.embedding_size, size, hidden=hidden, layers=layers)

    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, model: Representation[Any]) -> dict[str, Loss]:  # noqa: ARG002
        """-J [B, T]."""
        states = self.state_head(rollout.features).flatten(0, 1)  # [BT, size]
        observations = self.observation_head(rollout.embedding).flatten(0, 1)  # [BT, size]
        value = symmetric_info_nce(states, observations, self.temperature)
        return {"cosine_contrastive": Loss(value.reshape(batch.reward.shape), self.weight)}


def symmetric_info_nce(left: Tensor, right: Tensor, temperature: float) -> Tensor:
    """The mean cross-entropy of finding ``right[i]`` by ``left[i]`` and the reverse: [M] from [M, K] each."""
    scores = F.normalize(left, dim=-1) @ F.normalize(right, dim=-1).t() / temperature  # [M, M]
    both = torch.logsumexp(scores, dim=0) + torch.logsumexp(scores, dim=1)
    return 0.5 * both - scores.diagonal()
