"""The reward of being near a goal."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dreamset.behaviors.base import RewardFunction
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory


class GoalDistance(RewardFunction):
    """-(1 / F) sum_f (s_f - g_f)^2, where s are a row's features and g those of a goal.

    It needs no reward of the world model. The goal is set by ``set_goal``, and saved with the reward's other memory.
    """

    goal: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("goal", None)

    def set_goal(self, features: Tensor) -> None:
        """Sets the goal.

        Args:
            features: [F] of one goal, or [N, F] of one for each of N episodes.

        Raises:
            ValueError: if they have another rank.
        """
        if features.dim() not in (1, 2):
            raise ValueError(f"the features of a goal have the shape [F] or [N, F], got {list(features.shape)}")
        self.goal = features.detach().clone()

    def forward(self, trajectory: ImaginedTrajectory[Any], model: object) -> Mapping[str, Tensor]:  # noqa: ARG002
        """The term ``goal``. With [N, F] goals, an equal number of neighbouring trajectories belongs to each.

        Raises:
            UserError: if no goal is set, or the goals do not fit the trajectories.
        """
        features = trajectory.features  # [H + 1, M, F]
        if self.goal is None:
            raise UserError("GoalDistance has no goal; call set_goal with the features of a state before it is used")
        goals = self.goal.to(features).reshape(-1, self.goal.shape[-1])  # [N, F]
        if features.shape[1] % goals.shape[0] or features.shape[2] != goals.shape[1]:
            raise UserError(
                f"the goals of GoalDistance have the shape {list(goals.shape)}; allowed: [F] or [N, F] for N episodes "
                f"of {features.shape[2]} features; set one goal, or one for each episode"
            )
        of_goal = features.unflatten(1, (goals.shape[0], -1))  # [H + 1, N, M / N, F]
        return {"goal": -(of_goal - goals[:, None]).square().mean(-1).flatten(1)}

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *settings: Any) -> None:
        saved = state_dict.get(f"{prefix}goal")
        self.goal = None if saved is None else torch.empty_like(saved)  # of any shape
        super()._load_from_state_dict(state_dict, prefix, *settings)
