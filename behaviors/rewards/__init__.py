"""Reward functions of imagined trajectories: the seam where penalties and bonuses enter."""

from dreamset.behaviors.rewards.functions import PenalizedReward, PredictedReward, RewardFunction

__all__ = ["PenalizedReward", "PredictedReward", "RewardFunction"]
