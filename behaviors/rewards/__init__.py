"""Reward functions of imagined trajectories: the task, pessimism, curiosity, goals, irreversibility, and their sums."""

from dreamset.behaviors.base import RewardFunction
from dreamset.behaviors.rewards.functions import Disagreement, PenalizedReward, PredictedReward
from dreamset.behaviors.rewards.goal import GoalDistance
from dreamset.behaviors.rewards.irreversibility import Irreversibility
from dreamset.behaviors.rewards.sum import Sum

__all__ = [
    "Disagreement",
    "GoalDistance",
    "Irreversibility",
    "PenalizedReward",
    "PredictedReward",
    "RewardFunction",
    "Sum",
]
