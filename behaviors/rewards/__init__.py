"""Reward functions of imagined trajectories: the predicted reward, pessimism, nearness to a goal, and sums of them."""

from dreamset.behaviors.base import RewardFunction
from dreamset.behaviors.rewards.functions import PenalizedReward, PredictedReward
from dreamset.behaviors.rewards.goal import GoalDistance
from dreamset.behaviors.rewards.sum import Sum

__all__ = ["GoalDistance", "PenalizedReward", "PredictedReward", "RewardFunction", "Sum"]
