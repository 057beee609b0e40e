"""Reward functions of imagined trajectories: the seam where penalties and bonuses enter."""

from typing import Protocol

from torch import Tensor

from dreamset.core.records import ImaginedTrajectory
from dreamset.models.world_model import WorldModel


class RewardFunction(Protocol):
    """What a learner maximises on an imagined trajectory."""

    def __call__(self, trajectory: ImaginedTrajectory) -> Tensor:
        """Reward on arrival at every row, [H + 1, N]."""


class PredictedReward:
    """The world model's own expectation of the task's reward."""

    def __init__(self, model: WorldModel) -> None:
        self.model = model

    def __call__(self, trajectory: ImaginedTrajectory) -> Tensor:
        """E[r | s] at every row, [H + 1, N]."""
        return self.model.reward(trajectory.features)
