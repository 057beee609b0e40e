"""The reward of being near a goal."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dreamset.behaviors.base import RewardFunction
from dreamset.core.capabilities import FeatureParts, GoalReaching
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory


class GoalDistance(RewardFunction):
    """-(1 / F) sum_f (s_f - g_f)^2, where s are a row's features and g those of a goal.

    It needs no reward of the world model. The goals are those of the episodes, which the features end with
    (``behaviors.goals``), unless a program sets one by ``set_goal``. That one is saved with the reward's other memory.

    Args:
        weights: of the parts of the features, such as {stochastic: 1.0} for an RSSM. The distance is then the weighted
            sum of the mean squares of the parts, and parts that it leaves out do not count. DINO-WM weights patches
            and proprioception in this way. None: the mean square over all features.

    Raises:
        UserError: if a weight is negative, or all are zero.
    """

    goal: Tensor | None

    def __init__(self, *, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        if weights is not None and (min(weights.values(), default=0) < 0 or not any(weights.values())):
            raise UserError(f"reward.weights is {dict(weights)}; allowed: 0 or more, one of them positive; change it")
        self.weights = None if weights is None else dict(weights)
        self.register_buffer("goal", None)

    @property
    def needs(self) -> tuple[type, ...]:  # type: ignore[override]
        """A goal in the features, unless one is set, and names of parts if they have weights."""
        goals = (GoalReaching,) if self.goal is None else ()
        return (*goals, *(() if self.weights is None else (FeatureParts,)))

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

    def forward(self, trajectory: ImaginedTrajectory[Any], model: Any) -> Mapping[str, Tensor]:
        """The term ``goal``. With [N, F] set goals, an equal number of neighbouring trajectories belongs to each.

        Raises:
            UserError: if there is no goal, the goals do not fit the trajectories, or a weight names no part.
        """
        features = trajectory.features  # [H + 1, M, F]
        if self.goal is None:
            if not isinstance(model, GoalReaching):
                raise UserError(
                    "GoalDistance has no goal; call set_goal with the features of a state before it is used, or choose "
                    "goals=future"
                )
            state, goal = model.halves(features)
            return {"goal": -self._distance(state - goal, model)}
        goals = self.goal.to(features).reshape(-1, self.goal.shape[-1])  # [N, F]
        if features.shape[1] % goals.shape[0] or features.shape[2] != goals.shape[1]:
            raise UserError(
                f"the goals of GoalDistance have the shape {list(goals.shape)}; allowed: [F] or [N, F] for N episodes "
                f"of {features.shape[2]} features; set one goal, or one for each episode"
            )
        of_goal = features.unflatten(1, (goals.shape[0], -1))  # [H + 1, N, M / N, F]
        return {"goal": -self._distance(of_goal - goals[:, None], model).flatten(1)}

    def _distance(self, difference: Tensor, model: Any) -> Tensor:
        """[...] from [..., F]."""
        square = difference.square()
        if self.weights is None:
            return square.mean(-1)
        parts = dict(model.feature_parts)
        unknown = sorted(self.weights.keys() - parts.keys())
        if unknown:
            raise UserError(
                f"reward.weights names {', '.join(unknown)}; allowed: the parts of the features, {', '.join(parts)}; "
                "correct the name"
            )
        of_part = dict(zip(parts, square.split(list(parts.values()), dim=-1), strict=True))
        distances = [weight * of_part[name].mean(-1) for name, weight in self.weights.items()]
        return torch.stack(distances).sum(0)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *settings: Any) -> None:
        saved = state_dict.get(f"{prefix}goal")
        self.goal = None if saved is None else torch.empty_like(saved)  # of any shape
        super()._load_from_state_dict(state_dict, prefix, *settings)
