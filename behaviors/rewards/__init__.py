"""Reward functions of imagined trajectories: the predicted reward, and pessimism by an ensemble's disagreement."""

from dreamset.behaviors.base import RewardFunction
from dreamset.behaviors.rewards.functions import PenalizedReward, PredictedReward

__all__ = ["PenalizedReward", "PredictedReward", "RewardFunction"]
