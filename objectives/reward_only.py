"""Reward-only: no representation term at all."""

from typing import Any

from dreamset.core.capabilities import Representation
from dreamset.core.records import Loss, Rollout, SequenceBatch
from dreamset.objectives.base import Objective


class RewardOnly(Objective):
    """The state is shaped by reward, continuation and KL alone (Dreamer v1, section 4, "Reward prediction")."""

    def __init__(self, model: Representation[Any]) -> None:  # noqa: ARG002 - every objective is built with the model
        super().__init__()

    def forward(self, rollout: Rollout[Any], batch: SequenceBatch, model: Representation[Any]) -> dict[str, Loss]:  # noqa: ARG002
        """No loss."""
        return {}
