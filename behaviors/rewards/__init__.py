"""Reward functions of imagined trajectories: the predicted reward, pessimism, goals, irreversibility, sums of them."""

from dreamset.behaviors.base import RewardFunction
from dreamset.behaviors.rewards.functions import PenalizedReward, PredictedReward
from dreamset.behaviors.rewards.goal import GoalDistance
from dreamset.behaviors.rewards.irreversibility import Irreversibility
from dreamset.behaviors.rewards.sum import Sum

__all__ = ["GoalDistance", "Irreversibility", "PenalizedReward", "PredictedReward", "RewardFunction", "Sum"]
