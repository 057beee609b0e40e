"""Reward functions of imagined trajectories: the seam where penalties and bonuses enter."""

from dreamset.behaviors.base import RewardFunction
from dreamset.behaviors.rewards.functions import PenalizedReward, PredictedReward

__all__ = ["PenalizedReward", "PredictedReward", "RewardFunction"]
