"""The reward-only objective: no representation loss."""

from typing import Any

from dreamset.core.capabilities import Representation, RewardModel
from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.objectives.base import Objective


class RewardOnly(Objective):
    """Only the reward, continuation and KL losses shape the state (Dreamer v1, section 4, "Reward prediction")."""

    def __init__(self, model: Representation[Any]) -> None:
        super().__init__()
        self.uses_unacted = not isinstance(model, RewardModel)  # recordings without actions rarely have rewards

    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, model: Representation[Any]) -> dict[str, Loss]:  # noqa: ARG002
        """No loss."""
        return {}
