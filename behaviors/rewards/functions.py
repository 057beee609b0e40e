"""Reward functions of imagined trajectories: the predicted reward, with or without a penalty."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from dreamset.behaviors.base import Experience, RewardFunction
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

    def recorded(self, experience: Experience[Any], model: object) -> dict[str, Tensor]:  # noqa: ARG002
        """The recorded reward, for which no model is needed."""
        return {"reward": experience.recorded_outcomes.reward}

    @property
    def recorded_needs(self) -> tuple[type, ...]:
        """None."""
        return ()


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
        uncertainty = self._uncertainty(trajectory, model)
        return {"reward": model.reward(trajectory), "penalty": -self.weight(uncertainty) * uncertainty}

    def calibrate(self, recorded: Iterable[Experience[S]], model: Pessimizable[S]) -> None:
        """Gives the weight the uncertainty of recorded transitions, if it depends on it."""
        self.weight.calibrate(self._of_transitions(experience, model) for experience in recorded)

    @torch.no_grad()
    def _of_transitions(self, experience: Experience[S], model: Pessimizable[S]) -> Tensor:
        """The uncertainty of all transitions between rows of the same episode, [M]."""
        uncertainty = self._uncertainty(experience.trajectory, model).t()  # [B, T]
        return uncertainty[:, 1:][~experience.is_first[:, 1:]]

    def _uncertainty(self, trajectory: ImaginedTrajectory[S], model: Pessimizable[S]) -> Tensor:
        return self.spread(model.members(trajectory))  # [H + 1, N]
