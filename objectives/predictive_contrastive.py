"""A predictive contrastive objective: a state must identify its own observation and, with the action, the next one."""

from typing import Any

import torch

from dreamset.core.capabilities import Representation
from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.models.layers import mlp
from dreamset.objectives.base import Objective, require_embedding
from dreamset.objectives.cosine_contrastive import symmetric_info_nce


class PredictiveContrastive(Objective):
    """The loss of ``CosineContrastive`` for the pairs (s_t, o_t), and for the pairs ((s_{t-1}, a_{t-1}), o_t).

    A single observation does not show a velocity, so the first loss does not reward a state that knows it. The second
    does, because the next observation depends on it: contrastive predictive coding (van den Oord et al. 2018) one step
    ahead, given the action. Both losses share the network on the embedding. A row without a predecessor, because a
    window or an episode begins there, has no second loss and is no negative of it.

    Args:
        model: the world model; it must embed its observations.
        weight: factor on each of the two losses.
        temperature: divides the cosines.
        size: length of the vectors that are compared.
        hidden, layers: of the dense networks on the embedding and on features and action.
    """

    def __init__(
        self, model: Representation[Any], *, weight: float, temperature: float, size: int, hidden: int, layers: int
    ) -> None:
        super().__init__()
        require_embedding(model, self)
        self.weight = weight
        self.temperature = temperature
        self.state_head = mlp(model.feature_size, size, hidden=hidden, layers=0)
        self.next_head = mlp(model.feature_size + model.spec.action.size, size, hidden=hidden, layers=layers)
        self.observation_head = mlp(model.embedding_size, size, hidden=hidden, layers=layers)

    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, model: Representation[Any]) -> dict[str, Loss]:
        """Both losses [B, T]."""
        observations = self.observation_head(rollout.embedding)  # [B, T, size]
        states = self.state_head(rollout.features)  # [B, T, size]
        own = symmetric_info_nce(states.flatten(0, 1), observations.flatten(0, 1), self.temperature)
        action = model.spec.action.normalize(batch.action[:, 1:])
        following = self.next_head(torch.cat([rollout.features[:, :-1], action], dim=-1))  # [B, T - 1, size]
        paired = ~batch.is_first[:, 1:]
        ahead = torch.zeros_like(batch.reward)
        ahead[:, 1:][paired] = symmetric_info_nce(following[paired], observations[:, 1:][paired], self.temperature)
        return {
            "predictive_contrastive.own": Loss(own.reshape(batch.reward.shape), self.weight),
            "predictive_contrastive.next": Loss(ahead, self.weight),
        }
