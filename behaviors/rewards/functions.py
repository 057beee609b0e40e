"""Reward functions of imagined trajectories: the predicted reward, pessimism and curiosity."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from dreamset.behaviors.base import Experience, RewardFunction
from dreamset.behaviors.rewards.penalty_weights import SpreadWeight
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


class SpreadReward(RewardFunction):
    """A reward function with a term in proportion to u(s), the spread of an ensemble's members.

    Args:
        spread: u, a measure of the members' disagreement.
        weight: lambda, the factor of the term.
    """

    needs: tuple[type, ...] = (Uncertain,)

    def __init__(self, *, spread: Spread, weight: SpreadWeight) -> None:
        super().__init__()
        self.spread = spread
        self.weight = weight

    def calibrate(self, recorded: Iterable[Experience[S]], model: Uncertain[S]) -> None:
        """Gives the weight the spread of recorded transitions, if it depends on it."""
        self.weight.calibrate(self._of_transitions(experience, model) for experience in recorded)

    @torch.no_grad()
    def _of_transitions(self, experience: Experience[S], model: Uncertain[S]) -> Tensor:
        """The spread of all transitions between rows of the same episode, [M]."""
        spread = self.spread(model.members(experience.trajectory)).t()  # [B, T]
        return spread[:, 1:][~experience.is_first[:, 1:]]

    def weighted_spread(self, trajectory: ImaginedTrajectory[S], model: Uncertain[S]) -> Tensor:
        """lambda u in every row, [H + 1, N]; at least zero.

        Raises:
            UserError: if the world model has no ensemble.
        """
        spread = self.spread(model.members(trajectory))
        weight: Tensor = self.weight(spread)
        return weight * spread


class PenalizedReward(SpreadReward):
    """E[r | s] - lambda u(s): pessimism in states where the ensemble is uncertain.

    Without a penalty, an offline policy exploits the model's errors, because no new data correct them (MOPO, Yu et
    al. 2020; with latent states LOMPO and Offline DreamerV2).
    """

    needs = (RewardModel, Uncertain)

    def forward(self, trajectory: ImaginedTrajectory[S], model: Pessimizable[S]) -> Mapping[str, Tensor]:
        """The terms ``reward`` and ``penalty``; the penalty is at most zero."""
        return {"reward": model.reward(trajectory), "penalty": -self.weighted_spread(trajectory, model)}


class Disagreement(SpreadReward):
    """lambda u(s): curiosity, a bonus where the ensemble is uncertain (Plan2Explore, Sekar et al. 2020, equation 5).

    It needs no reward of the task. With a sum it is added to one.
    """

    def forward(self, trajectory: ImaginedTrajectory[S], model: Uncertain[S]) -> Mapping[str, Tensor]:
        """The term ``disagreement``, at least zero, on arrival at the row whose prediction is uncertain."""
        return {"disagreement": self.weighted_spread(trajectory, model)}
