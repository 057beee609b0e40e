"""Reward functions of imagined trajectories: the predicted reward, with or without a penalty."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from dreamset.behaviors.base import RewardFunction
from dreamset.behaviors.rewards.penalty_weights import PenaltyWeight
from dreamset.behaviors.rewards.spreads import Spread
from dreamset.core.capabilities import RewardModel, S, Uncertain
from dreamset.core.records import ImaginedTrajectory


class PredictedReward(RewardFunction):
    """The task's expected reward according to the world model, E[r | s]."""

    needs = (RewardModel,)

    def forward(self, trajectory: ImaginedTrajectory[S], model: RewardModel[S]) -> Mapping[str, Tensor]:
        """The term ``reward``."""
        return {"reward": model.reward(trajectory)}


class Pessimizable(RewardModel[S], Uncertain[S], Protocol[S]):
    """A world model that predicts rewards and has an ensemble."""


class PenalizedReward(RewardFunction):
    """E[r | s] - lambda u(s): pessimism in states where the ensemble is uncertain.

    Without a penalty, an offline policy exploits the model's errors, because no new data correct them (MOPO, Yu et
    al. 2020; with latent states LOMPO and Offline DreamerV2).
    """

    needs = (RewardModel, Uncertain)

    def __init__(self, *, spread: Spread, weight: PenaltyWeight) -> None:
        super().__init__()
        self.spread = spread
        self.weight = weight

    def forward(self, trajectory: ImaginedTrajectory[S], model: Pessimizable[S]) -> Mapping[str, Tensor]:
        """The terms ``reward`` and ``penalty``; the penalty is at most zero.

        Raises:
            UserError: if the world model has no ensemble.
        """
        uncertainty = self.spread(model.members(trajectory))  # [H + 1, N]
        return {"reward": model.reward(trajectory), "penalty": -self.weight(uncertainty) * uncertainty}
