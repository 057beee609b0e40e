"""A predictive contrastive objective: a state must identify its own observation and, with the action, the next one."""

from typing import Any

import torch
from torch import Tensor

from dreamset.core.capabilities import Representation
from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.models.layers import mlp
from dreamset.objectives.cosine_contrastive import CosineContrastive, symmetric_info_nce


class PredictiveContrastive(CosineContrastive):
    """The loss of ``CosineContrastive`` for (s_t, o_t), and the same loss for ((s_{t-1}, a_{t-1}), o_t).

    A single observation does not show a velocity, so the first loss does not reward a state that knows it. The second
    does, because the next observation depends on it (contrastive predictive coding, van den Oord et al. 2018, one step
    ahead; the action makes it a model of the dynamics). Both losses share the network on the embedding and the weight.
    A row without a predecessor, because a window or an episode begins there, has no second loss.
    """

    def __init__(
        self, model: Representation[Any], *, weight: float, temperature: float, size: int, hidden: int, layers: int
    ) -> None:
        super().__init__(model, weight=weight, temperature=temperature, size=size, hidden=hidden, layers=layers)
        self.next_head = mlp(model.feature_size + model.spec.action.size, size, hidden=hidden, layers=layers)

    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, model: Representation[Any]) -> dict[str, Loss]:
        """Both losses [B, T]."""
        return {
            "predictive_contrastive.own": Loss(self.own(rollout), self.weight),
            "predictive_contrastive.next": Loss(self.following(rollout, batch, model), self.weight),
        }

    def following(self, rollout: Rollout[Any], batch: SequenceBatch, model: Representation[Any]) -> Tensor:
        """The loss of each row's observation given the row before it and the action between them: [B, T]."""
        action = model.spec.action.normalize(batch.action[:, 1:])
        pairs = torch.cat([rollout.features[:, :-1], action], dim=-1)  # [B, T - 1, F + A]
        has_predecessor = ~batch.is_first[:, 1:]
        predictions = self.next_head(pairs[has_predecessor])  # [M, size]
        observations = self.observation_head(rollout.embedding[:, 1:][has_predecessor])  # [M, size]
        value = torch.zeros_like(batch.reward)
        value[:, 1:][has_predecessor] = symmetric_info_nce(predictions, observations, self.temperature)
        return value
