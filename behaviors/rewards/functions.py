"""Reward functions of imagined trajectories: the seam where penalties and bonuses enter."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from dreamset.behaviors.base import RewardFunction
from dreamset.behaviors.rewards.penalty_weights import PenaltyWeight
from dreamset.behaviors.rewards.spreads import Spread
from dreamset.core.capabilities import RewardModel, S, Uncertain
from dreamset.core.records import ImaginedTrajectory


class PredictedReward(RewardFunction):
    """The world model's own expectation of the task's reward, E[r | s]."""

    needs = (RewardModel,)

    def forward(self, trajectory: ImaginedTrajectory[S], model: RewardModel[S]) -> Mapping[str, Tensor]:
        """``reward`` alone."""
        return {"reward": model.reward(trajectory)}


class Pessimizable(RewardModel[S], Uncertain[S], Protocol[S]):
    """A world model that knows both what it expects and how certain it is."""


class PenalizedReward(RewardFunction):
    """E[r | s] - lambda u(s): pessimism about states of which the ensemble is uncertain.

    A policy that only looks at predicted rewards goes where the model is wrong in its favour, and nothing recorded
    contradicts it (MOPO, Yu et al. 2020; with latent states LOMPO and Offline DreamerV2).
    """

    needs = (RewardModel, Uncertain)

    def __init__(self, *, spread: Spread, weight: PenaltyWeight) -> None:
        super().__init__()
        self.spread = spread
        self.weight = weight

    def forward(self, trajectory: ImaginedTrajectory[S], model: Pessimizable[S]) -> Mapping[str, Tensor]:
        """``reward`` and ``penalty``, which is at most zero.

        Raises:
            UserError: if the world model has no ensemble.
        """
        uncertainty = self.spread(model.members(trajectory))  # [H + 1, N]
        return {"reward": model.reward(trajectory), "penalty": -self.weight(uncertainty) * uncertainty}
