"""Reward functions of imagined trajectories: predicted reward, pessimism, curiosity, nearness to a goal, their sums."""

from dreamset.behaviors.base import RewardFunction
from dreamset.behaviors.rewards.functions import Disagreement, PenalizedReward, PredictedReward
from dreamset.behaviors.rewards.goal import GoalDistance
from dreamset.behaviors.rewards.sum import Sum

__all__ = ["Disagreement", "GoalDistance", "PenalizedReward", "PredictedReward", "RewardFunction", "Sum"]
